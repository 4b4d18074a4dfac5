//! Receiving, sending, connecting and accepting on epoll.

use super::{Deferred, Epoll, STREAM_EVENTS};
use crate::rt::chunk::Chunk;
use crate::rt::pool::Buffer;
use crate::rt::slab::Key;
use crate::rt::stream::Idle;
use crate::rt::sys::{self, RawAddress};
use crate::rt::table::{ListenerSlot, SendStart, park};
use crate::rt::tag::{Kind, Tag};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::task::{Context, Poll};

impl Epoll {
    pub fn add_stream(&mut self, fd: OwnedFd) -> io::Result<Key> {
        let raw = fd.as_raw_fd();
        let key = self.table.add_stream(fd);
        if let Err(error) = self.watch(raw, STREAM_EVENTS, Tag::new(Kind::Receive, key)) {
            self.table.streams.remove(key);
            return Err(error);
        }
        Ok(key)
    }

    pub fn poll_receive(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<Chunk>> {
        self.receive(key, context, false)
    }

    pub fn poll_receive_bulk(
        &mut self,
        key: Key,
        context: &Context<'_>,
    ) -> Poll<io::Result<Chunk>> {
        self.receive(key, context, true)
    }

    fn receive(&mut self, key: Key, context: &Context<'_>, bulk: bool) -> Poll<io::Result<Chunk>> {
        let long_sends = self.table.long_sends();
        let Some(slot) = self.table.streams.get_mut(key) else {
            return Poll::Ready(Err(sys::error(libc::EBADF)));
        };
        if slot.error != 0 {
            return Poll::Ready(Err(sys::error(slot.error)));
        }
        if slot.ended {
            return Poll::Ready(Ok(Chunk::default()));
        }
        if !slot.readable {
            park(&mut slot.reader, context, &mut self.table.displaced);
            return Poll::Pending;
        }
        if !self.calls.take() {
            park(&mut slot.reader, context, &mut self.table.displaced);
            self.deferred.push(Deferred::Stream(key));
            return Poll::Pending;
        }
        let (leased, length) = {
            let mut pool = self.pool.borrow_mut();
            let large = bulk.then(|| pool.lease_bulk(long_sends)).flatten();
            match large {
                Some((header, length)) => (Some(header), length),
                None => (pool.lease(), pool.buffer_bytes()),
            }
        };
        let Some(header) = leased else {
            park(&mut slot.reader, context, &mut self.table.displaced);
            self.table.note_starved(key);
            return Poll::Pending;
        };
        // SAFETY: the buffer was just leased, so nobody else uses its `length` bytes.
        match unsafe { Chunk::receive(header, length, slot.fd.as_raw_fd()) } {
            Ok(chunk) if chunk.is_empty() => {
                slot.ended = true;
                Poll::Ready(Ok(chunk))
            }
            Ok(chunk) => {
                // A short one has emptied the socket, and what comes later is reported. An end
                // that was reported already is not reported again.
                slot.readable = chunk.len() == length || slot.hangup;
                let copy = self.pool.borrow().should_copy(chunk.len());
                Poll::Ready(Ok(if copy { Chunk::copy_of(&chunk) } else { chunk }))
            }
            Err(libc::EAGAIN) => {
                slot.readable = false;
                park(&mut slot.reader, context, &mut self.table.displaced);
                Poll::Pending
            }
            Err(errno) => {
                slot.error = errno;
                Poll::Ready(Err(sys::error(errno)))
            }
        }
    }

    pub fn poll_ready(&mut self, key: Key, context: &Context<'_>) -> Poll<()> {
        if self.peek_state(key) != Idle::Quiet {
            return Poll::Ready(());
        }
        let Some(slot) = self.table.streams.get_mut(key) else {
            return Poll::Ready(());
        };
        slot.readable = false;
        park(&mut slot.reader, context, &mut self.table.displaced);
        Poll::Pending
    }

    pub fn peek_state(&mut self, key: Key) -> Idle {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return Idle::Closed;
        };
        if slot.error != 0 || slot.ended {
            return Idle::Closed;
        }
        // Without a report since the last look nothing has come.
        if !slot.readable {
            return Idle::Quiet;
        }
        let peeked = sys::peek(slot.fd.as_raw_fd());
        if let Err(errno) = peeked {
            // The kernel tells an error once: the next receive would take it for the end.
            slot.error = errno;
        }
        Idle::of_peek(peeked)
    }

    pub fn send(&mut self, stream: Key, head: Buffer, body: Chunk) -> SendStart {
        let start = self.table.queue_send(stream, head, body);
        let SendStart::Start(key) = start else {
            return start;
        };
        if !self.calls.take() {
            self.deferred.push(Deferred::Stream(stream));
            return SendStart::Queued(key);
        }
        self.drive_sends(stream);
        match self.table.take_outcome(key) {
            Some(outcome) => SendStart::Done(outcome),
            None => SendStart::Queued(key),
        }
    }

    /// Sends as much as the socket takes.
    pub(super) fn drive_sends(&mut self, stream: Key) {
        while let Some(key) = self.table.current_send(stream) {
            let Some(slot) = self.table.streams.get_mut(stream) else {
                return;
            };
            let Some(op) = self.table.sends.get_mut(key) else {
                return;
            };
            if !slot.writable {
                return;
            }
            let (head, body) = op.remaining();
            let errno = match sys::send(slot.fd.as_raw_fd(), head, body) {
                Ok(0) => libc::EPIPE,
                Ok(count) => {
                    if !op.note_sent(count) {
                        continue;
                    }
                    0
                }
                Err(libc::EAGAIN) => {
                    slot.writable = false;
                    return;
                }
                Err(errno) => errno,
            };
            self.table.finish_send(key, errno);
        }
    }

    pub fn drop_send(&mut self, key: Key) {
        if self.table.orphan_send(key) {
            let stream = self.table.sends.get(key).map(|op| op.stream);
            self.table.finish_send(key, libc::ECANCELED);
            if let Some(stream) = stream {
                self.drive_sends(stream);
            }
        }
    }

    pub fn drop_stream(&mut self, key: Key) {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return;
        };
        slot.closing = true;
        self.table.displaced.extend(slot.reader.take());
        while let Some(send) = self.table.current_send(key) {
            self.table.finish_send(send, libc::ECANCELED);
        }
        // Closing takes the descriptor out of the interest list.
        self.table.streams.remove(key);
    }

    pub fn connect(&mut self, fd: OwnedFd, address: RawAddress) -> Key {
        let raw = fd.as_raw_fd();
        let errno = sys::connect(raw, &address);
        let key = self.table.add_connect(fd, address);
        let outcome = match errno {
            libc::EINPROGRESS | libc::EINTR => {
                let events = libc::EPOLLOUT | libc::EPOLLET;
                let watched = self.watch(raw, events, Tag::new(Kind::Connect, key));
                watched
                    .err()
                    .map(|error| error.raw_os_error().unwrap_or(libc::EIO))
            }
            errno => Some(errno),
        };
        if let Some(op) = self.table.connects.get_mut(key) {
            op.outcome = outcome;
        }
        key
    }

    pub(super) fn connected(&mut self, key: Key) {
        let Some(op) = self.table.connects.get_mut(key) else {
            return;
        };
        if let Some(fd) = &op.fd
            && op.outcome.is_none()
        {
            op.outcome = Some(sys::take_socket_error(fd.as_raw_fd()));
            self.table.woken.extend(op.waker.take());
        }
    }

    pub fn drop_connect(&mut self, key: Key) {
        self.table.free_connect(key);
    }

    pub fn add_listener(&mut self, fd: OwnedFd) -> io::Result<Key> {
        let raw = fd.as_raw_fd();
        let key = self.table.listeners.insert(ListenerSlot::new(fd));
        let events = libc::EPOLLIN | libc::EPOLLET;
        if let Err(error) = self.watch(raw, events, Tag::new(Kind::Accept, key)) {
            self.table.listeners.remove(key);
            return Err(error);
        }
        Ok(key)
    }

    pub fn poll_accept(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let Some(slot) = self.table.listeners.get_mut(key) else {
            return Poll::Ready(Err(sys::error(libc::EBADF)));
        };
        if slot.readable && !self.calls.take() {
            park(&mut slot.waker, context, &mut self.table.displaced);
            self.deferred.push(Deferred::Listener(key));
            return Poll::Pending;
        }
        while slot.readable {
            match sys::accept(slot.fd.as_raw_fd()) {
                Ok(fd) => return Poll::Ready(Ok(fd)),
                Err(libc::EAGAIN) => slot.readable = false,
                Err(errno) if sys::concerns_one_connection(errno) => {}
                Err(errno) => return Poll::Ready(Err(sys::error(errno))),
            }
        }
        park(&mut slot.waker, context, &mut self.table.displaced);
        Poll::Pending
    }

    /// Nothing is accepted ahead here.
    pub fn poll_accept_stopped(&mut self, _key: Key, _context: &Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    pub fn drop_listener(&mut self, key: Key) {
        if let Some(slot) = self.table.listeners.remove(key) {
            self.table.displaced.extend(slot.waker);
            // Another process may share the socket, which keeps it registered beyond closing.
            self.forget(slot.fd.as_raw_fd());
        }
    }
}
