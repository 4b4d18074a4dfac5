//! Streams whose client takes nothing of what is there for it.

use crate::proxy::connection::deadline_after;
use crate::rt::{self, Deadline};
use crate::stats::Http2Stats;
use crate::worker::Worker;
use std::sync::Arc;
use std::task::{Context, Poll};

/// How long one stream may wait for its client's window.
pub struct StallWatch {
    patience_ms: u64,
    stats: Arc<Http2Stats>,
    /// While it waits: until when, and how many bytes had been taken when it began.
    waiting: Option<Box<(Deadline, u64)>>,
    is_over: bool,
}

impl StallWatch {
    /// `patience_ms` of 0 is without limit.
    pub fn new(patience_ms: u64, worker: &Worker) -> Self {
        Self {
            patience_ms,
            stats: worker.http2_stats.clone(),
            waiting: None,
            is_over: false,
        }
    }

    /// Nothing waits.
    pub fn calm(&mut self) {
        self.waiting = None;
    }

    /// Bytes wait, `taken` of the stream's have been taken. Ready when that has lasted too long.
    pub fn poll(&mut self, taken: u64, context: &mut Context<'_>) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        if self.patience_ms == 0 {
            return Poll::Pending;
        }
        let fresh = || Box::new((Deadline::new(), u64::MAX));
        let (deadline, before) = &mut **self.waiting.get_or_insert_with(fresh);
        if *before != taken {
            *before = taken;
            deadline.set(deadline_after(rt::now(), self.patience_ms));
        }
        let expired = deadline.poll_expired(context);
        if expired.is_ready() {
            self.is_over = true;
            self.stats.tx_flush_timeout.add(1);
        }
        expired
    }
}
