//! Receiving on io_uring: a multishot receive that stays armed, and for bulk a readiness poll with
//! plain receives into large buffers.

use super::{BUFFER_GROUP, Uring, is_idle};
use crate::rt::chunk::{self, Chunk};
use crate::rt::slab::Key;
use crate::rt::stream::Idle;
use crate::rt::sys;
use crate::rt::table::{Multishot, StreamSlot, park};
use crate::rt::tag::Kind;
use io_uring::{cqueue, opcode, squeue, types};
use std::io;
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

/// Unconsumed buffers of one stream at which its multishot receive is stopped: the rest of the
/// bytes stays in the kernel and holds the sender back.
const QUEUE_LIMIT: u32 = 4;

/// Buffers' worth of bytes after which a multishot receive ends by itself. Without that the kernel
/// takes up to 32 buffers of a fast sender before it can be told to stop, and a reader that has
/// stopped keeps them.
pub(super) const RECEIVED_AT_A_TIME: usize = 2;

/// Where an entry tells how many bytes a multishot receive may take in all: `optlen`, in units of
/// four bytes (`io_uring.h`; Linux 6.17).
const OPTLEN_AT: usize = 11;

fn limit_in_all(entry: &mut squeue::Entry, bytes: u32) {
    const { assert!(size_of::<squeue::Entry>() == 64) };
    // SAFETY: the entry is the kernel's structure of 64 bytes, aligned for more than a `u32`, and
    // the field lies inside of it.
    unsafe { (&raw mut *entry).cast::<u32>().add(OPTLEN_AT).write(bytes) };
}

/// The end or an error, if that is what comes next. What has been received before is taken out of
/// the queue before a driver is asked.
fn end_of(slot: &StreamSlot) -> Option<io::Result<Chunk>> {
    debug_assert!(slot.queue.is_empty(), "received bytes come first");
    if slot.error != 0 {
        return Some(Err(sys::error(slot.error)));
    }
    slot.ended.then(|| Ok(Chunk::default()))
}

impl Uring {
    pub fn poll_receive(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<Chunk>> {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return Poll::Ready(Err(sys::error(libc::EBADF)));
        };
        if let Some(received) = end_of(slot) {
            return Poll::Ready(received);
        }
        park(&mut slot.reader, context, &mut self.table.displaced);
        self.arm_receive(key);
        Poll::Pending
    }

    pub fn poll_ready(&mut self, key: Key, context: &Context<'_>) -> Poll<()> {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return Poll::Ready(());
        };
        if !slot.queue.is_empty() || slot.error != 0 || slot.ended {
            return Poll::Ready(());
        }
        park(&mut slot.reader, context, &mut self.table.displaced);
        self.arm_receive(key);
        Poll::Pending
    }

    pub fn peek_state(&mut self, key: Key) -> Idle {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return Idle::Closed;
        };
        if !slot.queue.is_empty() {
            return Idle::Bytes;
        }
        if slot.error != 0 || slot.ended {
            return Idle::Closed;
        }
        if slot.multishot == Multishot::Armed {
            // Bytes and the end report themselves.
            return Idle::Quiet;
        }
        let peeked = sys::peek(slot.fd.as_raw_fd());
        if let Err(errno) = peeked {
            // The kernel tells an error once: the next receive would take it for the end.
            slot.error = errno;
        }
        Idle::of_peek(peeked)
    }

    /// Starts a multishot receive unless one is in the kernel already.
    fn arm_receive(&mut self, key: Key) {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return;
        };
        if !is_idle(slot.multishot) || slot.starved || slot.closing {
            return;
        }
        slot.multishot = Multishot::Armed;
        let fd = types::Fd(slot.fd.as_raw_fd());
        let mut entry = opcode::RecvMulti::new(fd, BUFFER_GROUP).build();
        if let Some(bytes) = self.received_at_a_time_bytes {
            limit_in_all(&mut entry, bytes);
        }
        // SAFETY: the kernel takes buffers from the ring, which outlives the operation; the
        // descriptor is closed after the last completion.
        unsafe { self.start(entry, Kind::Receive, key) };
    }

    pub(super) fn received(&mut self, key: Option<Key>, result: i32, flags: u32, last: bool) {
        let taken = cqueue::buffer_select(flags);
        let mut pool = self.pool.borrow_mut();
        let header = taken.map(|number| pool.taken_by_kernel(number));
        let copy = result > 0 && pool.should_copy(result as usize);
        let limit = if pool.is_scarce() { 1 } else { QUEUE_LIMIT };
        drop(pool);
        let slot = key.and_then(|key| self.table.streams.get_mut(key));
        let Some((key, slot)) = key.zip(slot) else {
            debug_assert!(false, "a slot was freed before its last completion");
            if let Some(header) = header {
                // SAFETY: the kernel has handed the buffer over, and nobody else refers to it.
                unsafe { chunk::release(header) };
            }
            return;
        };
        slot.is_heard |= result > 0;
        match header {
            Some(header) if result > 0 && !slot.closing => {
                if copy {
                    // SAFETY: the kernel has filled that many bytes of the buffer and handed over
                    // its only reference.
                    let bytes = unsafe { Chunk::over(header, result as usize) };
                    slot.queue.push_copy(&bytes);
                } else {
                    // SAFETY: as above, and the buffer is in no queue.
                    unsafe { slot.queue.push(header, result as u32) };
                }
            }
            // SAFETY: the kernel has handed the buffer over, and nobody else refers to it.
            Some(header) => unsafe { chunk::release(header) },
            None => {}
        }
        match -result {
            0 => slot.ended = true,
            // Cancelled on our own wish; or to be tried again, which the next poll does.
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            // The kernel does not know the limit yet: without it from now on.
            libc::EINVAL if self.received_at_a_time_bytes.is_some() => {
                self.received_at_a_time_bytes = None;
            }
            libc::ENOBUFS => {
                self.table.note_starved(key);
                self.pool.borrow_mut().note_exhausted();
            }
            errno if errno > 0 => slot.error = errno,
            _ => {}
        }
        let Some(slot) = self.table.streams.get_mut(key) else {
            return;
        };
        let starved = slot.starved;
        if last {
            slot.multishot = Multishot::Idle;
            if slot.closing {
                self.free_if_done(key);
                return;
            }
        } else if slot.multishot == Multishot::Armed && slot.queue.len() > limit {
            slot.multishot = Multishot::Cancelling;
            self.cancel(Kind::Receive, key);
        }
        if !starved || result > 0 {
            self.table.wake_reader(key);
        }
    }

    /// Arms the receives that found no buffer, as many as there are buffers again. More are made
    /// only when those that came back in this turn do not suffice: a burst that takes all of them
    /// starves many receives at once.
    pub(super) fn feed_starved(&mut self) {
        let starved = self.table.starved_count();
        if starved > self.pool.borrow().available() {
            self.pool.borrow_mut().grow();
        }
        let mut free = self.pool.borrow().available();
        while free > 0
            && let Some(key) = self.table.next_starved()
        {
            free -= 1;
            if self
                .table
                .streams
                .get(key)
                .is_some_and(|slot| slot.reader.is_some())
            {
                self.arm_receive(key);
            }
        }
    }

    pub fn poll_receive_bulk(
        &mut self,
        key: Key,
        context: &Context<'_>,
    ) -> Poll<io::Result<Chunk>> {
        let long_sends = self.table.long_sends();
        let Some(slot) = self.table.streams.get_mut(key) else {
            return Poll::Ready(Err(sys::error(libc::EBADF)));
        };
        if let Some(received) = end_of(slot) {
            return Poll::Ready(received);
        }
        if is_idle(slot.multishot) && slot.readable {
            let mut pool = self.pool.borrow_mut();
            let large = pool.lease_bulk(long_sends);
            // A multishot receive would fill several buffers ahead of its reader.
            let leased = large.or_else(|| pool.lease_small_bulk());
            drop(pool);
            let Some((header, length)) = leased else {
                return self.poll_receive(key, context);
            };
            // SAFETY: the buffer was just leased, so nobody else uses its `length` bytes.
            match unsafe { Chunk::receive(header, length, slot.fd.as_raw_fd()) } {
                Ok(chunk) => {
                    slot.ended = chunk.is_empty();
                    // A short one has emptied the socket: wait for readiness next time.
                    slot.readable = chunk.len() == length;
                    return Poll::Ready(Ok(chunk));
                }
                Err(libc::EAGAIN) => slot.readable = false,
                Err(errno) => {
                    slot.error = errno;
                    return Poll::Ready(Err(sys::error(errno)));
                }
            }
        }
        park(&mut slot.reader, context, &mut self.table.displaced);
        match slot.multishot {
            Multishot::Armed => {
                // What it has received is queued before its end, so nothing is lost or reordered.
                slot.multishot = Multishot::Cancelling;
                slot.readable = true;
                self.cancel(Kind::Receive, key);
            }
            Multishot::Idle if !slot.poll_armed => {
                slot.poll_armed = true;
                let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
                let entry = opcode::PollAdd::new(types::Fd(slot.fd.as_raw_fd()), events).build();
                // SAFETY: the entry points to nothing; the descriptor is closed after the
                // completion.
                unsafe { self.start(entry, Kind::Readiness, key) };
            }
            _ => {}
        }
        Poll::Pending
    }

    pub(super) fn became_ready(&mut self, key: Key, result: i32) {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return;
        };
        slot.poll_armed = false;
        slot.readable = result >= 0;
        if slot.closing {
            self.free_if_done(key);
        } else {
            self.table.wake_reader(key);
        }
    }
}
