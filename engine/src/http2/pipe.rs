//! A transport as the `h2` crate reads and writes it.

use crate::rt::{Buffer, Chunk};
use crate::transport::Transport;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
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
    /// Whether a send may still be under way.
    is_sending: Cell<bool>,
}

impl Pipe {
    /// `unread` is what was received already.
    pub fn new(transport: Transport, unread: Chunk) -> (Self, Rc<PipeShared>) {
        let shared = Rc::new(PipeShared {
            transport,
            out: RefCell::new(Buffer::lease()),
            unread: RefCell::new(unread),
            is_sending: Cell::new(false),
        });
        let pipe = Self {
            shared: shared.clone(),
        };
        (pipe, shared)
    }
}

impl PipeShared {
    /// Sends what was collected; the task is woken when more may be sent.
    pub fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_sending.get() {
            match pin!(self.transport.flushed()).poll(context) {
                Poll::Ready(result) => result?,
                Poll::Pending => return Poll::Pending,
            }
            self.is_sending.set(false);
        }
        if !self.out.borrow().is_empty() {
            let out = std::mem::replace(&mut *self.out.borrow_mut(), Buffer::lease());
            self.transport.send_detached(out, Chunk::default());
            self.is_sending.set(true);
        }
        Poll::Ready(Ok(()))
    }
}

use std::future::Future;

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut unread = self.shared.unread.borrow_mut();
        if unread.is_empty() {
            match self.shared.transport.poll_receive(context) {
                Poll::Ready(received) => *unread = received?,
                Poll::Pending => return Poll::Pending,
            }
        }
        let len = unread.len().min(into.remaining());
        into.put_slice(&unread[..len]);
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
        match pin!(self.shared.transport.flushed()).poll(context) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Poll::Pending,
        }
        Poll::Ready(self.shared.transport.shutdown_write())
    }
}
