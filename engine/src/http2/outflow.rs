//! The sending side of a stream, fed with HTTP/1.1 bytes.

use super::failure::StreamFailure;
use super::heads::trailer_map;
use bytes::Bytes;
use h2::{Reason, SendStream};
use ringroad_codec::http1::{BodyFraming, BodyLimits, BodyScanner};
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// The body of one message, to be sent.
pub struct Outflow {
    stream: SendStream<Bytes>,
    scanner: BodyScanner,
    queue: VecDeque<Bytes>,
    /// All of the body is in the queue.
    is_whole: bool,
    /// Its end was sent.
    is_finished: bool,
    taken_bytes: u64,
}

impl Outflow {
    /// A body framed by `framing`; one without bytes has to be ended by the head already.
    pub fn new(stream: SendStream<Bytes>, framing: BodyFraming, limits: &BodyLimits) -> Self {
        let is_empty = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
        Self {
            stream,
            scanner: BodyScanner::new(framing, limits),
            queue: VecDeque::new(),
            is_whole: is_empty,
            is_finished: is_empty,
            taken_bytes: 0,
        }
    }

    /// Takes bytes, framing included, and sends what the peer's window allows.
    ///
    /// # Errors
    /// The framing is broken, or the stream is over.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), StreamFailure> {
        let queue = &mut self.queue;
        let scan = self
            .scanner
            .decode(bytes, |payload| {
                queue.push_back(Bytes::copy_from_slice(payload));
            })
            .map_err(|_| StreamFailure::Protocol)?;
        self.is_whole = scan.complete;
        self.send_within_window()
    }

    /// Ready when all that was pushed has been handed over.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamFailure>> {
        loop {
            self.send_within_window()?;
            let Some(front) = self.queue.front() else {
                return Poll::Ready(Ok(()));
            };
            self.stream.reserve_capacity(front.len());
            match self.stream.poll_capacity(context) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(StreamFailure::of(&error)));
                }
                Poll::Ready(None) => return Poll::Ready(Err(StreamFailure::Reset)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Ends a message that no framing ends.
    ///
    /// # Errors
    /// The stream is over.
    pub fn finish(&mut self) -> Result<(), StreamFailure> {
        self.is_whole = true;
        self.send_within_window()
    }

    /// Ready when the stream was reset.
    pub fn poll_reset(&mut self, context: &mut Context<'_>) -> Poll<Result<Reason, h2::Error>> {
        self.stream.poll_reset(context)
    }

    /// How many bytes the peer's window has let pass.
    pub fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Whether the whole message was sent.
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    pub fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    fn send_within_window(&mut self) -> Result<(), StreamFailure> {
        while let Some(front) = self.queue.front_mut() {
            self.stream.reserve_capacity(front.len());
            let len = self.stream.capacity().min(front.len());
            if len == 0 {
                return Ok(());
            }
            let data = front.split_to(len);
            self.taken_bytes += len as u64;
            if front.is_empty() {
                self.queue.pop_front();
            }
            let is_last =
                self.is_whole && self.queue.is_empty() && self.scanner.trailers().is_empty();
            self.send(data, is_last)?;
        }
        if self.is_whole && !self.is_finished {
            let trailers = self.scanner.trailers();
            if trailers.is_empty() {
                return self.send(Bytes::new(), true);
            }
            let trailers = trailer_map(&trailers);
            self.is_finished = true;
            return self
                .stream
                .send_trailers(trailers)
                .map_err(|error| StreamFailure::of(&error));
        }
        Ok(())
    }

    fn send(&mut self, data: Bytes, is_last: bool) -> Result<(), StreamFailure> {
        self.is_finished = is_last;
        self.stream
            .send_data(data, is_last)
            .map_err(|error| StreamFailure::of(&error))
    }
}
