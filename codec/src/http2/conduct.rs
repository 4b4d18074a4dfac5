//! What a client does on a connection of HTTP/2, and when it is too much (RFC 9113 section 10.5).
//!
//! Each thing that is counted costs its sender less than it costs us: frames without content, small
//! windows, streams that are begun and given up. Honest clients stay far below the limits.

use super::walk::{FrameHead, FrameKind, FrameWalk};

/// Time in which the allowance for control frames comes back in full.
const ALLOWANCE_MS: u64 = 10_000;
/// PRIORITY and WINDOW_UPDATE frames that are free at the start of a connection.
const FREE_WINDOW_UPDATES: u64 = 5;
/// Streams that are remembered at a time; of more than these it is not known how old they are.
const MOST_REMEMBERED_STREAMS: usize = 1024;

/// How much of what a client may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConductLimits {
    /// PING, SETTINGS, GOAWAY and unknown frames, and resets of streams that are over, within ten
    /// seconds, beyond as many as there are frames with content.
    pub max_control_frames: u64,
    /// Frames of HEADERS, CONTINUATION and DATA in a row that have no content and end nothing.
    pub max_empty_frames: u64,
    /// PRIORITY frames for each stream opened, and one more.
    pub max_priority_frames_per_stream: u64,
    /// WINDOW_UPDATE frames for each DATA frame sent; twice as many are let pass.
    pub max_window_updates_per_data_frame: u64,
    /// CONTINUATION frames of one field block.
    pub max_continuation_frames: u64,
    /// Streams that end badly: reset by the client before they are `premature_ms` old and before
    /// their answer has ended, or reset by us for what it sent. It counts when they are at least
    /// half of all.
    pub max_bad_streams: u64,
    /// In milliseconds.
    pub premature_ms: u64,
}

/// What a client does too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misconduct {
    /// See [`ConductLimits::max_control_frames`].
    ControlFrames,
    /// See [`ConductLimits::max_empty_frames`].
    EmptyFrames,
    /// See [`ConductLimits::max_priority_frames_per_stream`].
    PriorityFrames,
    /// See [`ConductLimits::max_window_updates_per_data_frame`].
    WindowUpdates,
    /// See [`ConductLimits::max_continuation_frames`].
    ContinuationFrames,
    /// See [`ConductLimits::max_bad_streams`].
    BadStreams,
}

/// What has passed on a connection, until it is asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct ResetCounts {
    /// RST_STREAM frames received.
    pub received: u64,
    /// RST_STREAM frames sent.
    pub sent: u64,
    /// GOAWAY frames sent.
    pub go_away_sent: u64,
}

/// A client's connection, watched from the server's side.
#[derive(Debug)]
pub struct Conduct {
    limits: ConductLimits,
    inbound: FrameWalk,
    outbound: FrameWalk,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Tally {
    /// The allowance for control frames that is used up.
    control_frames: u64,
    /// When the allowance was last reckoned.
    reckoned_ms: u64,
    empty_frames: u64,
    priority_frames: u64,
    window_updates: u64,
    continuation_frames: u64,
    data_frames_sent: u64,
    streams_opened: u64,
    last_stream: u32,
    /// Open streams, and since when.
    open: Vec<(u32, u64)>,
    streams_ended: u64,
    bad_streams: u64,
    /// Since when a field block has been coming.
    block_since_ms: Option<u64>,
    block_goes_on: bool,
    has_settings: bool,
    resets: ResetCounts,
}

impl Conduct {
    /// A connection whose first octet, that of the preface, is still to come.
    pub fn new(limits: ConductLimits) -> Self {
        Self {
            limits,
            inbound: FrameWalk::of_client(),
            outbound: FrameWalk::of_server(),
            tally: Tally::default(),
        }
    }

    /// The client has sent `bytes`; `now_ms` is on any clock that does not go back.
    ///
    /// # Errors
    /// It has gone too far; nothing of these bytes should be acted on.
    pub fn received(&mut self, bytes: &[u8], now_ms: u64) -> Result<(), Misconduct> {
        let (limits, tally) = (&self.limits, &mut self.tally);
        self.inbound
            .walk(bytes, |frame| tally.receive(limits, frame, now_ms))?;
        let is_within_block = tally.block_goes_on
            || self.inbound.is_within(FrameKind::Headers)
            || self.inbound.is_within(FrameKind::Continuation);
        match is_within_block {
            true => tally.block_since_ms = tally.block_since_ms.or(Some(now_ms)),
            false => tally.block_since_ms = None,
        }
        Ok(())
    }

    /// We have sent `bytes`.
    pub fn sent(&mut self, bytes: &[u8]) {
        let tally = &mut self.tally;
        let walked: Result<(), std::convert::Infallible> = self.outbound.walk(bytes, |frame| {
            tally.send(frame);
            Ok(())
        });
        let Ok(()) = walked;
    }

    /// Since when a request head has been coming in part; also since when SETTINGS, the end of the
    /// client's preface, have been missing, which is since 0.
    pub fn waiting_since_ms(&self) -> Option<u64> {
        match self.tally.has_settings {
            true => self.tally.block_since_ms,
            false => Some(0),
        }
    }

    /// Takes what has been counted since the last call.
    pub fn take_resets(&mut self) -> ResetCounts {
        std::mem::take(&mut self.tally.resets)
    }
}

impl Tally {
    fn receive(
        &mut self,
        limits: &ConductLimits,
        frame: FrameHead,
        now_ms: u64,
    ) -> Result<(), Misconduct> {
        match frame.kind {
            FrameKind::Data | FrameKind::Headers | FrameKind::Continuation => {
                self.receive_content(limits, frame, now_ms)
            }
            FrameKind::Priority => {
                self.priority_frames += 1;
                let most = limits
                    .max_priority_frames_per_stream
                    .saturating_mul(self.streams_opened + 1);
                within(self.priority_frames, most, Misconduct::PriorityFrames)
            }
            FrameKind::WindowUpdate => {
                self.window_updates += 1;
                let by_data = limits
                    .max_window_updates_per_data_frame
                    .saturating_mul(self.data_frames_sent);
                let most = by_data
                    .saturating_add(self.streams_opened)
                    .saturating_mul(2)
                    .saturating_add(FREE_WINDOW_UPDATES);
                within(self.window_updates, most, Misconduct::WindowUpdates)
            }
            FrameKind::RstStream => {
                self.resets.received += 1;
                match self.close(frame.stream) {
                    Some(since_ms) => {
                        if now_ms.saturating_sub(since_ms) < limits.premature_ms {
                            self.bad_streams += 1;
                        }
                        self.check_streams(limits)
                    }
                    None => self.receive_control(limits, now_ms),
                }
            }
            FrameKind::Settings => {
                self.has_settings = true;
                self.receive_control(limits, now_ms)
            }
            FrameKind::Ping | FrameKind::GoAway | FrameKind::PushPromise | FrameKind::Unknown => {
                self.receive_control(limits, now_ms)
            }
        }
    }

    fn receive_content(
        &mut self,
        limits: &ConductLimits,
        frame: FrameHead,
        now_ms: u64,
    ) -> Result<(), Misconduct> {
        let is_block = frame.kind != FrameKind::Data;
        if frame.kind == FrameKind::Headers {
            self.continuation_frames = 0;
            if frame.stream > self.last_stream {
                self.last_stream = frame.stream;
                self.streams_opened += 1;
                if self.open.len() < MOST_REMEMBERED_STREAMS {
                    self.open.push((frame.stream, now_ms));
                }
                self.check_streams(limits)?;
            }
        }
        if is_block {
            self.block_goes_on = !frame.ends_headers;
        }
        if frame.kind == FrameKind::Continuation {
            self.continuation_frames += 1;
            let most = limits.max_continuation_frames;
            within(
                self.continuation_frames,
                most,
                Misconduct::ContinuationFrames,
            )?;
        }
        if frame.content_bytes > 0 || frame.ends_stream {
            self.control_frames = self.control_frames.saturating_sub(1);
            self.empty_frames = 0;
            return Ok(());
        }
        self.empty_frames += 1;
        within(
            self.empty_frames,
            limits.max_empty_frames,
            Misconduct::EmptyFrames,
        )
    }

    fn receive_control(&mut self, limits: &ConductLimits, now_ms: u64) -> Result<(), Misconduct> {
        let most = limits.max_control_frames;
        let passed_ms = now_ms.saturating_sub(self.reckoned_ms);
        let returned = most.saturating_mul(passed_ms) / ALLOWANCE_MS;
        if returned > 0 {
            self.control_frames = self.control_frames.saturating_sub(returned);
            self.reckoned_ms = now_ms;
        }
        self.control_frames += 1;
        within(self.control_frames, most, Misconduct::ControlFrames)
    }

    fn send(&mut self, frame: FrameHead) {
        match frame.kind {
            FrameKind::Data => self.data_frames_sent += 1,
            FrameKind::RstStream => {
                self.resets.sent += 1;
                self.close(frame.stream);
                if is_for_the_peers_fault(frame.error_code) {
                    self.bad_streams += 1;
                }
            }
            FrameKind::GoAway => self.resets.go_away_sent += 1,
            _ => {}
        }
        if matches!(frame.kind, FrameKind::Data | FrameKind::Headers) {
            self.control_frames = self.control_frames.saturating_sub(1);
            if frame.ends_stream {
                self.close(frame.stream);
            }
        }
    }

    /// The stream is over; since when it was open.
    fn close(&mut self, stream: u32) -> Option<u64> {
        let at = self.open.iter().position(|(open, _)| *open == stream)?;
        self.streams_ended += 1;
        Some(self.open.swap_remove(at).1)
    }

    /// Before so many have ended that half of them could be the limit, as many as the limit alone
    /// are enough: whatever came next, they would be half.
    fn check_streams(&self, limits: &ConductLimits) -> Result<(), Misconduct> {
        let is_half = self.bad_streams.saturating_mul(2) >= self.streams_ended;
        match self.bad_streams >= limits.max_bad_streams && is_half {
            true => Err(Misconduct::BadStreams),
            false => Ok(()),
        }
    }
}

/// Whether we reset a stream with this error code because of what its client sent (RFC 9113
/// section 7): not for failures behind us, and not when an answer was complete without the body.
fn is_for_the_peers_fault(error_code: u32) -> bool {
    const NO_ERROR: u32 = 0x0;
    const INTERNAL_ERROR: u32 = 0x2;
    const CANCEL: u32 = 0x8;
    !matches!(error_code, NO_ERROR | INTERNAL_ERROR | CANCEL)
}

fn within(count: u64, most: u64, misconduct: Misconduct) -> Result<(), Misconduct> {
    match count > most {
        true => Err(misconduct),
        false => Ok(()),
    }
}
