//! A transport as the `h2` crate reads and writes it.

use super::guard::Guard;
use super::incoming::{Bodies, GIVEN_AT_A_TIME_BYTES};
use crate::proxy::connection::deadline_after;
use crate::rt::{self, Buffer, Chunk};
use crate::transport::Transport;
use ringroad_codec::http2::{FrameWalk, Misconduct};
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Frames are collected up to this before they are sent without waiting for the end of a turn.
const MOST_COLLECTED_BYTES: usize = 64 * 1024;

/// The two ends of a pipe: one for `h2`, one for the task that drives the connection.
pub struct Pipe {
    shared: Rc<PipeShared>,
}

/// What is known about a pipe outside of `h2`.
pub struct PipeShared {
    pub transport: Transport,
    /// Frames that `h2` has written since the last send. It flushes after each few frames; they
    /// leave when the connection's task has nothing more to do, so that the answers of many
    /// streams share a send.
    out: RefCell<Buffer>,
    unread: RefCell<Chunk>,
    received: Cell<Received>,
    /// Whether a send may still be under way.
    is_sending: Cell<bool>,
    guard: Option<Guard>,
    /// The bodies of its streams.
    pub bodies: Rc<Bodies>,
    sending_since: Cell<Option<Instant>>,
}

/// What `h2` has been given: the length of the first frame, and how much in all.
#[derive(Debug, Clone, Copy, Default)]
struct Received {
    first_frame_len: u64,
    bytes: u64,
}

/// The header of a frame, which begins with the length of the rest in three bytes (RFC 9113
/// section 4.1).
const FRAME_HEADER_BYTES: u64 = 9;

impl Received {
    fn note(&mut self, bytes: &[u8]) {
        for (at, byte) in (self.bytes..3).zip(bytes) {
            self.first_frame_len |= u64::from(*byte) << (8 * (2 - at));
        }
        self.bytes += bytes.len() as u64;
    }
}

impl Pipe {
    /// `unread` is what was received already; `guard` sees all that passes.
    pub fn guarded(transport: Transport, unread: Chunk, guard: Guard) -> (Self, Rc<PipeShared>) {
        let unread = match guard.received(&unread) {
            true => unread,
            false => Chunk::default(),
        };
        Self::with(transport, unread, Some(guard))
    }

    /// The same without a guard where there is none.
    pub fn with(
        transport: Transport,
        unread: Chunk,
        guard: Option<Guard>,
    ) -> (Self, Rc<PipeShared>) {
        let walk = match guard {
            Some(_) => FrameWalk::of_client(),
            None => FrameWalk::of_server(),
        };
        let shared = Rc::new(PipeShared {
            bodies: Bodies::new(walk),
            sending_since: Cell::new(None),
            transport,
            out: RefCell::new(Buffer::lease()),
            unread: RefCell::new(unread),
            received: Cell::default(),
            is_sending: Cell::new(false),
            guard,
        });
        let pipe = Self {
            shared: shared.clone(),
        };
        (pipe, shared)
    }
}

impl PipeShared {
    /// What the client has done too much of.
    pub fn misconduct(&self) -> Option<Misconduct> {
        self.guard.as_ref().and_then(Guard::misconduct)
    }

    /// When what is being sent has to have been taken.
    pub fn send_deadline(&self, patience_ms: u64) -> Option<Instant> {
        deadline_after(self.sending_since.get()?, patience_ms)
    }

    /// When the head that is coming, or the end of the preface, has to be there.
    pub fn head_deadline(&self, patience_ms: u64) -> Option<Instant> {
        self.guard.as_ref()?.head_deadline(patience_ms)
    }

    /// Whether `h2` has been given the whole first frame: of a server, its SETTINGS (RFC 9113
    /// section 3.4).
    pub fn has_first_frame(&self) -> bool {
        let Received {
            first_frame_len,
            bytes,
        } = self.received.get();
        bytes >= FRAME_HEADER_BYTES + first_frame_len
    }

    /// Sends what was collected; the task is woken when more may be sent.
    pub fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_sending.get() {
            match self.transport.poll_flushed(context) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Poll::Pending,
            }
            self.is_sending.set(false);
            self.sending_since.set(None);
        }
        if !self.out.borrow().is_empty() {
            let out = std::mem::replace(&mut *self.out.borrow_mut(), Buffer::lease());
            if let Some(guard) = &self.guard {
                guard.writes();
            }
            self.transport.send_detached(out, Chunk::default());
            self.is_sending.set(true);
            self.sending_since.set(Some(rt::now()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The connection's task joins small frames first, and then comes back.
        if self.shared.bodies.are_due() {
            return Poll::Pending;
        }
        let mut unread = self.shared.unread.borrow_mut();
        if unread.is_empty() {
            // From a client that has gone too far nothing more is taken.
            let is_over = |guard: &Guard| guard.misconduct().is_some();
            if self.shared.guard.as_ref().is_some_and(is_over) {
                return Poll::Pending;
            }
            let received = match self.shared.transport.poll_receive(context) {
                Poll::Ready(received) => received?,
                Poll::Pending => return Poll::Pending,
            };
            if let Some(guard) = &self.shared.guard
                && !guard.received(&received)
            {
                return Poll::Pending;
            }
            *unread = received;
        }
        let len = unread
            .len()
            .min(into.remaining())
            .min(GIVEN_AT_A_TIME_BYTES);
        into.put_slice(&unread[..len]);
        self.shared.bodies.note(&unread[..len]);
        let mut received = self.shared.received.get();
        received.note(&unread[..len]);
        self.shared.received.set(received);
        unread.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.shared.out.borrow().len() >= MOST_COLLECTED_BYTES {
            match self.shared.poll_send(context) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => return Poll::Pending,
            }
        }
        self.shared.out.borrow_mut().extend_from_slice(bytes);
        if let Some(guard) = &self.shared.guard {
            guard.sent(bytes);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The task of the connection sends, at the end of its turn.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.shared.poll_send(context) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => return Poll::Pending,
        }
        match self.shared.transport.poll_flushed(context) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(self.shared.transport.shutdown_write())
    }
}
