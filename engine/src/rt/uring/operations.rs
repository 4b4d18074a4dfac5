//! Sending, connecting, accepting and closing on io_uring.

use super::{Uring, is_idle};
use crate::rt::chunk::Chunk;
use crate::rt::pool::Buffer;
use crate::rt::slab::Key;
use crate::rt::sys::{self, RawAddress};
use crate::rt::table::{ListenerSlot, MAX_ACCEPTED_AHEAD, Multishot, SendStart, park};
use crate::rt::tag::Kind;
use io_uring::{opcode, types};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::task::{Context, Poll};

/// Most bytes that are sent as far as there is room, in the expectation that there is: the kernel
/// then completes the send while it takes the entry. That is done once after each receive, so that
/// only peers which do not read what they have asked for meet a full socket; the rest is then sent
/// with the next turn.
const SENT_AT_ONCE_BYTES: usize = 4096;

impl Uring {
    pub fn add_stream(&mut self, fd: OwnedFd) -> io::Result<Key> {
        Ok(self.table.add_stream(fd))
    }

    pub fn send(&mut self, stream: Key, head: Buffer, body: Chunk) -> SendStart {
        let start = self.table.queue_send(stream, head, body);
        if let SendStart::Start(key) = start {
            self.start_send(key);
        }
        start
    }

    fn start_send(&mut self, key: Key) {
        let Some(op) = self.table.sends.get_mut(key) else {
            return;
        };
        let Some(slot) = self.table.streams.get_mut(op.stream) else {
            return;
        };
        let fd = types::Fd(slot.fd.as_raw_fd());
        let mut flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        let (head, body) = op.remaining();
        if slot.is_heard && head.len() + body.len() <= SENT_AT_ONCE_BYTES {
            slot.is_heard = false;
            flags |= libc::MSG_DONTWAIT;
            self.started_at_once.push(key);
        }
        let entry = if head.is_empty() || body.is_empty() {
            let bytes = if body.is_empty() { head } else { body };
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            opcode::Send::new(fd, bytes.as_ptr(), length)
                .flags(flags)
                .build()
        } else {
            op.parts = [sys::part(head), sys::part(body)];
            op.message = sys::message(&mut op.parts);
            opcode::SendMsg::new(fd, &raw const op.message)
                .flags(flags as u32)
                .build()
        };
        // SAFETY: the operation is boxed and keeps its buffers until its completion; the
        // descriptor is closed after that.
        unsafe { self.start(entry, Kind::Send, key) };
    }

    pub(super) fn sent(&mut self, key: Key, result: i32) {
        let Some(op) = self.table.sends.get_mut(key) else {
            return;
        };
        let stream = op.stream;
        let again = match result {
            1.. => !op.note_sent(result as usize),
            0 => false,
            _ => matches!(-result, libc::EINTR | libc::EAGAIN),
        };
        let closing = self
            .table
            .streams
            .get(stream)
            .is_none_or(|slot| slot.closing);
        if again && !closing && !self.table.is_orphaned(key) {
            self.start_send(key);
            return;
        }
        let errno = match result {
            1.. if again => libc::ECANCELED,
            1.. => 0,
            0 => libc::EPIPE,
            _ => -result,
        };
        if let Some(next) = self.table.finish_send(key, errno) {
            self.start_send(next);
        }
        if closing {
            self.free_if_done(stream);
        }
    }

    pub fn drop_send(&mut self, key: Key) {
        if self.table.orphan_send(key) {
            self.cancel(Kind::Send, key);
        }
    }

    pub fn drop_stream(&mut self, key: Key) {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return;
        };
        if slot.closing {
            return;
        }
        slot.closing = true;
        self.table.displaced.extend(slot.reader.take());
        while slot.queue.pop().is_some() {}
        let cancel_receive = slot.multishot == Multishot::Armed;
        let cancel_poll = slot.poll_armed;
        if cancel_receive {
            slot.multishot = Multishot::Cancelling;
            self.cancel(Kind::Receive, key);
        }
        if cancel_poll {
            self.cancel(Kind::Readiness, key);
        }
        if let Some(send) = self.table.current_send(key) {
            self.cancel(Kind::Send, send);
        }
        self.free_if_done(key);
    }

    /// Closes the descriptor of a stream that its owner has left, once no operation can touch it.
    pub(super) fn free_if_done(&mut self, key: Key) {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return;
        };
        let done = slot.closing && is_idle(slot.multishot) && !slot.poll_armed;
        if done && self.table.current_send(key).is_none() {
            self.table.streams.remove(key);
        }
    }

    pub fn connect(&mut self, fd: OwnedFd, address: RawAddress) -> Key {
        let raw = types::Fd(fd.as_raw_fd());
        let key = self.table.add_connect(fd, address);
        if let Some(op) = self.table.connects.get(key) {
            let place = (&raw const op.address.storage).cast();
            let entry = opcode::Connect::new(raw, place, op.address.length).build();
            // SAFETY: the operation is boxed and lives until its completion, with the address and
            // the descriptor.
            unsafe { self.start(entry, Kind::Connect, key) };
        }
        key
    }

    pub(super) fn connected(&mut self, key: Key, result: i32) {
        let Some(op) = self.table.connects.get_mut(key) else {
            return;
        };
        op.outcome = Some(-result.min(0));
        self.table.woken.extend(op.waker.take());
        if op.orphaned {
            self.table.free_connect(key);
        }
    }

    pub fn drop_connect(&mut self, key: Key) {
        let Some(op) = self.table.connects.get_mut(key) else {
            return;
        };
        if op.outcome.is_some() {
            self.table.free_connect(key);
        } else if !op.orphaned {
            op.orphaned = true;
            self.table.displaced.extend(op.waker.take());
            self.cancel(Kind::Connect, key);
        }
    }

    pub fn add_listener(&mut self, fd: OwnedFd) -> io::Result<Key> {
        Ok(self.table.listeners.insert(ListenerSlot::new(fd)))
    }

    pub fn poll_accept(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let Some(slot) = self.table.listeners.get_mut(key) else {
            return Poll::Ready(Err(sys::error(libc::EBADF)));
        };
        if let Some(taken) = slot.take() {
            return Poll::Ready(taken);
        }
        park(&mut slot.waker, context, &mut self.table.displaced);
        if is_idle(slot.multishot) {
            slot.multishot = Multishot::Armed;
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let fd = types::Fd(slot.fd.as_raw_fd());
            let entry = opcode::AcceptMulti::new(fd).flags(flags).build();
            // SAFETY: the entry points to nothing; the descriptor is closed after the last
            // completion.
            unsafe { self.start(entry, Kind::Accept, key) };
        }
        Poll::Pending
    }

    pub(super) fn accepted(&mut self, key: Option<Key>, result: i32, last: bool) {
        // SAFETY: the kernel has just made the descriptor for us, and nobody else has it.
        let fd = (result >= 0).then(|| unsafe { OwnedFd::from_raw_fd(result) });
        let Some(key) = key else { return };
        let Some(slot) = self.table.listeners.get_mut(key) else {
            return;
        };
        match fd {
            Some(fd) if !slot.closing => slot.accepted.push_back(fd),
            Some(_) => {}
            None => {
                let errno = -result;
                let passing = [libc::ECANCELED, libc::EINTR, libc::EAGAIN];
                if !passing.contains(&errno) && !sys::concerns_one_connection(errno) {
                    slot.error = errno;
                }
            }
        }
        if last {
            slot.multishot = Multishot::Idle;
        } else if slot.multishot == Multishot::Armed && slot.accepted.len() >= MAX_ACCEPTED_AHEAD {
            slot.multishot = Multishot::Cancelling;
            self.cancel(Kind::Accept, key);
        }
        let Some(slot) = self.table.listeners.get_mut(key) else {
            return;
        };
        self.table.woken.extend(slot.waker.take());
        if slot.closing && last {
            self.table.listeners.remove(key);
        }
    }

    /// Ready when the kernel accepts nothing more on its own.
    pub fn poll_accept_stopped(&mut self, key: Key, context: &Context<'_>) -> Poll<()> {
        let Some(slot) = self.table.listeners.get_mut(key) else {
            return Poll::Ready(());
        };
        match slot.multishot {
            Multishot::Idle => return Poll::Ready(()),
            Multishot::Armed => {
                slot.multishot = Multishot::Cancelling;
                park(&mut slot.waker, context, &mut self.table.displaced);
                self.cancel(Kind::Accept, key);
            }
            Multishot::Cancelling => {
                park(&mut slot.waker, context, &mut self.table.displaced);
            }
        }
        Poll::Pending
    }

    pub fn drop_listener(&mut self, key: Key) {
        let Some(slot) = self.table.listeners.get_mut(key) else {
            return;
        };
        slot.closing = true;
        slot.accepted.clear();
        self.table.displaced.extend(slot.waker.take());
        match slot.multishot {
            Multishot::Idle => {
                self.table.listeners.remove(key);
            }
            Multishot::Armed => {
                slot.multishot = Multishot::Cancelling;
                self.cancel(Kind::Accept, key);
            }
            Multishot::Cancelling => {}
        }
    }
}
