//! Watching a client of HTTP/2: what it does too much of ends its connection.

use crate::proxy::connection::deadline_after;
use crate::rt;
use crate::stats::Http2Stats;
use ringroad_codec::http2::{Conduct, ConductLimits, Misconduct};
use ringroad_policy::settings::Limits;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

/// What passes on one connection, and whether it is still bearable.
pub struct Guard {
    conduct: RefCell<Conduct>,
    misconduct: Cell<Option<Misconduct>>,
    begun: Instant,
    stats: Arc<Http2Stats>,
}

impl Guard {
    pub fn new(limits: &Limits, stats: Arc<Http2Stats>) -> Self {
        let limits = ConductLimits {
            max_control_frames: limits.max_control_frames,
            max_empty_frames: limits.max_empty_frames,
            max_priority_frames_per_stream: limits.max_priority_frames_per_stream,
            max_window_updates_per_data_frame: limits.max_window_updates_per_data_frame,
            max_continuation_frames: limits.max_continuation_frames,
            max_bad_streams: limits.max_bad_streams,
            premature_ms: limits.premature_reset_age_ms,
        };
        Self {
            conduct: RefCell::new(Conduct::new(limits)),
            misconduct: Cell::new(None),
            begun: rt::now(),
            stats,
        }
    }

    /// The client has sent `bytes`. False: they are not to be acted on.
    pub fn received(&self, bytes: &[u8]) -> bool {
        let age = rt::now().saturating_duration_since(self.begun);
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let mut conduct = self.conduct.borrow_mut();
        let outcome = conduct.received(bytes, age_ms);
        self.stats.rx_reset.add(conduct.take_resets().received);
        if let Err(misconduct) = outcome {
            self.misconduct.set(Some(misconduct));
            self.count(misconduct);
        }
        outcome.is_ok()
    }

    /// We have sent `bytes`.
    pub fn sent(&self, bytes: &[u8]) {
        let mut conduct = self.conduct.borrow_mut();
        conduct.sent(bytes);
        let counts = conduct.take_resets();
        self.stats.tx_reset.add(counts.sent);
        if counts.go_away_sent > 0 {
            self.stats.goaway_sent.add(counts.go_away_sent);
            self.count_go_away(bytes);
        }
    }

    /// What was collected of `sent` leaves in one write.
    pub fn writes(&self) {
        self.stats.tx_writes.add(1);
    }

    pub fn misconduct(&self) -> Option<Misconduct> {
        self.misconduct.get()
    }

    /// When the head that is coming, or the end of the preface, has to be there.
    pub fn head_deadline(&self, patience_ms: u64) -> Option<Instant> {
        let since_ms = self.conduct.borrow().waiting_since_ms()?;
        deadline_after(self.begun, patience_ms.checked_add(since_ms)?).filter(|_| patience_ms > 0)
    }

    fn count(&self, misconduct: Misconduct) {
        let counter = match misconduct {
            Misconduct::ControlFrames => &self.stats.inbound_control_frames_flood,
            Misconduct::EmptyFrames => &self.stats.inbound_empty_frames_flood,
            Misconduct::PriorityFrames => &self.stats.inbound_priority_frames_flood,
            Misconduct::WindowUpdates => &self.stats.inbound_window_update_frames_flood,
            Misconduct::ContinuationFrames => &self.stats.too_many_header_frames,
            Misconduct::BadStreams => &self.stats.too_many_bad_streams,
        };
        counter.add(1);
    }

    /// `h2` ends some connections by itself. Why, it says in the debug data of its GOAWAY alone,
    /// which is one piece of `bytes`.
    fn count_go_away(&self, bytes: &[u8]) {
        let causes: [(&[u8], _); 5] = [
            (b"header_list_way_too_large", &self.stats.header_overflow),
            (
                b"too_many_continuations",
                &self.stats.too_many_header_frames,
            ),
            (b"too_many_resets", &self.stats.too_many_bad_streams),
            (
                b"too_many_internal_resets",
                &self.stats.too_many_bad_streams,
            ),
            (b"too_many_data_frames", &self.stats.too_many_data_frames),
        ];
        for (cause, counter) in causes {
            if bytes.windows(cause.len()).any(|piece| piece == cause) {
                counter.add(1);
            }
        }
    }
}
