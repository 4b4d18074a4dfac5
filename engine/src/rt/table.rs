//! What both drivers keep of streams, sends, connection attempts and listeners.

use super::chunk::{Chunk, ChunkQueue};
use super::pool::Buffer;
use super::slab::{Key, Slab};
use super::sys::{self, RawAddress};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::task::{Context, Poll, Waker};

/// Accepted connections that wait in a listener; more stay in the kernel's backlog.
pub(super) const MAX_ACCEPTED_AHEAD: usize = 64;
/// A send whose head is longer counts as a bulk buffer for as long as it waits: what was encrypted
/// or made here is in no other pool.
const LONG_HEAD_BYTES: usize = 64 * 1024;

/// What the kernel still does for a stream's receive side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Multishot {
    Idle,
    Armed,
    Cancelling,
}

pub(super) struct StreamSlot {
    pub fd: OwnedFd,
    /// An errno that ended the receive side; 0 when none.
    pub error: i32,
    /// Received and not yet taken.
    pub queue: ChunkQueue,
    pub reader: Option<Waker>,
    first_send: Option<Key>,
    last_send: Option<Key>,
    pub multishot: Multishot,
    /// A readiness poll is in the kernel.
    pub poll_armed: bool,
    /// A plain receive call may find something.
    pub readable: bool,
    /// A plain send call may find room.
    pub writable: bool,
    /// The peer has ended or broken the connection: receive until that shows.
    pub hangup: bool,
    pub ended: bool,
    /// Waits for a buffer to come back.
    pub starved: bool,
    /// The owner is gone; the slot stays until the kernel has let go.
    pub closing: bool,
    /// A send stopped in the middle, so that nothing sensible can follow.
    write_broken: bool,
    /// Bytes have come since the last send that was made at once, as from a peer that reads what it is
    /// sent: the socket has room.
    pub is_heard: bool,
}

// What an idle connection costs besides its task.
const _: () = assert!(size_of::<StreamSlot>() <= 160);

#[derive(Clone, Copy, PartialEq, Eq)]
enum SendState {
    Queued,
    Started,
    Done(i32),
}

/// Outgoing bytes until the kernel has taken them. Boxed, since the kernel is given the addresses
/// of its parts. What its completion needs stands first, in two cache lines.
#[repr(C, align(64))]
pub(super) struct SendOp {
    pub stream: Key,
    next: Option<Key>,
    state: SendState,
    orphaned: bool,
    /// Nobody asks how it ends; a failure shows with the stream's next send.
    detached: bool,
    head: Buffer,
    body: Chunk,
    sent: usize,
    /// Of both parts together.
    length: usize,
    waker: Option<Waker>,
    pub parts: [libc::iovec; 2],
    pub message: libc::msghdr,
}

impl SendOp {
    /// The two parts that are not sent yet.
    pub fn remaining(&self) -> (&[u8], &[u8]) {
        match self.head.get(self.sent..) {
            Some(head) => (head, &self.body),
            None => (&[], &self.body[self.sent - self.head.len()..]),
        }
    }

    pub fn note_sent(&mut self, count: usize) -> bool {
        self.sent += count;
        self.sent >= self.length
    }
}

pub(super) struct ConnectOp {
    /// Taken out by the owner when the attempt is over.
    pub fd: Option<OwnedFd>,
    pub address: RawAddress,
    /// An errno, 0 for success, once it is over.
    pub outcome: Option<i32>,
    pub waker: Option<Waker>,
    pub orphaned: bool,
}

pub(super) struct ListenerSlot {
    pub fd: OwnedFd,
    pub accepted: VecDeque<OwnedFd>,
    /// An errno that the next accept returns; 0 when none.
    pub error: i32,
    pub waker: Option<Waker>,
    pub multishot: Multishot,
    pub readable: bool,
    pub closing: bool,
}

impl ListenerSlot {
    pub fn new(fd: OwnedFd) -> Self {
        ListenerSlot {
            fd,
            accepted: VecDeque::new(),
            error: 0,
            waker: None,
            multishot: Multishot::Idle,
            readable: true,
            closing: false,
        }
    }

    /// What can be returned without asking the kernel.
    pub fn take(&mut self) -> Option<io::Result<OwnedFd>> {
        if let Some(fd) = self.accepted.pop_front() {
            return Some(Ok(fd));
        }
        match std::mem::take(&mut self.error) {
            0 => None,
            errno => Some(Err(sys::error(errno))),
        }
    }
}

/// How a send began.
pub(super) enum SendStart {
    Done(io::Result<()>),
    /// The driver begins it now.
    Start(Key),
    /// It waits for the one before it, or for the next turn.
    Queued(Key),
}

pub(super) struct Table {
    pub streams: Slab<StreamSlot>,
    pub sends: Slab<Box<SendOp>>,
    // The boxes themselves are recycled, since what they hold must not move.
    #[allow(clippy::vec_box)]
    spare_sends: Vec<Box<SendOp>>,
    long_sends: usize,
    pub connects: Slab<Box<ConnectOp>>,
    pub listeners: Slab<ListenerSlot>,
    /// Streams that found no receive buffer, in the order in which they get one.
    starved: VecDeque<Key>,
    /// To be woken when no borrow is left, since a foreign waker may run anything.
    pub woken: Vec<Waker>,
    /// To be dropped when no borrow is left, for the same reason.
    pub displaced: Vec<Waker>,
}

/// Notes who waits, keeping the waker that is replaced for later.
pub(super) fn park(place: &mut Option<Waker>, context: &Context<'_>, displaced: &mut Vec<Waker>) {
    match place {
        Some(waker) if waker.will_wake(context.waker()) => {}
        _ => displaced.extend(place.replace(context.waker().clone())),
    }
}

impl Table {
    pub fn new() -> Self {
        Table {
            streams: Slab::new(),
            sends: Slab::new(),
            spare_sends: Vec::new(),
            long_sends: 0,
            connects: Slab::new(),
            listeners: Slab::new(),
            starved: VecDeque::new(),
            woken: Vec::with_capacity(256),
            displaced: Vec::new(),
        }
    }

    pub fn add_stream(&mut self, fd: OwnedFd) -> Key {
        self.streams.insert(StreamSlot {
            fd,
            error: 0,
            queue: ChunkQueue::default(),
            reader: None,
            first_send: None,
            last_send: None,
            multishot: Multishot::Idle,
            poll_armed: false,
            readable: false,
            writable: true,
            hangup: false,
            ended: false,
            starved: false,
            closing: false,
            write_broken: false,
            is_heard: true,
        })
    }

    pub fn stream_fd(&self, key: Key) -> Option<RawFd> {
        self.streams.get(key).map(|slot| slot.fd.as_raw_fd())
    }

    /// What a stream has received ahead of its reader; empty when there is nothing of it.
    #[inline]
    pub fn take_received(&mut self, key: Key) -> Chunk {
        let slot = self.streams.get_mut(key);
        slot.and_then(|slot| slot.queue.pop()).unwrap_or_default()
    }

    pub fn wake_reader(&mut self, key: Key) {
        if let Some(slot) = self.streams.get_mut(key) {
            self.woken.extend(slot.reader.take());
        }
    }

    /// Queues a stream for a buffer that comes back.
    pub fn note_starved(&mut self, key: Key) {
        if let Some(slot) = self.streams.get_mut(key)
            && !slot.starved
        {
            slot.starved = true;
            self.starved.push_back(key);
        }
    }

    /// Streams whose receive found no buffer.
    pub fn starved(&self) -> Vec<Key> {
        self.starved.iter().copied().collect()
    }

    /// How many there are.
    pub fn starved_count(&self) -> usize {
        self.starved.len()
    }

    /// The stream whose turn it is to get a buffer.
    pub fn next_starved(&mut self) -> Option<Key> {
        loop {
            let key = self.starved.pop_front()?;
            if let Some(slot) = self.streams.get_mut(key) {
                slot.starved = false;
                return Some(key);
            }
        }
    }

    /// Puts a send behind those that the stream has already.
    pub fn queue_send(&mut self, stream: Key, head: Buffer, body: Chunk) -> SendStart {
        let Some(slot) = self.streams.get_mut(stream) else {
            return SendStart::Done(Err(sys::error(libc::EBADF)));
        };
        if slot.write_broken {
            return SendStart::Done(Err(sys::error(libc::EPIPE)));
        }
        if head.is_empty() && body.is_empty() {
            return SendStart::Done(Ok(()));
        }
        let mut op = self.spare_sends.pop().unwrap_or_else(blank_send);
        self.long_sends += usize::from(head.len() > LONG_HEAD_BYTES);
        op.stream = stream;
        op.length = head.len() + body.len();
        op.head = head;
        op.body = body;
        let key = self.sends.insert(op);
        match slot.last_send.replace(key) {
            Some(last) => {
                if let Some(last) = self.sends.get_mut(last) {
                    last.next = Some(key);
                }
                SendStart::Queued(key)
            }
            None => {
                slot.first_send = Some(key);
                self.note_started(key);
                SendStart::Start(key)
            }
        }
    }

    /// Sends under way that keep as much memory as a bulk buffer.
    pub fn long_sends(&self) -> usize {
        self.long_sends
    }

    fn note_started(&mut self, key: Key) {
        if let Some(op) = self.sends.get_mut(key) {
            op.state = SendState::Started;
        }
    }

    /// The send that the kernel works on, or that waits for room in the socket.
    pub fn current_send(&self, stream: Key) -> Option<Key> {
        self.streams.get(stream)?.first_send
    }

    /// Whether something waits for the end of a send that the kernel works on: a task, the next send,
    /// or the closing of the stream.
    pub fn is_awaited(&self, key: Key) -> bool {
        self.sends.get(key).is_none_or(|op| {
            op.waker.is_some()
                || op.next.is_some()
                || self.streams.get(op.stream).is_none_or(|slot| slot.closing)
        })
    }

    /// Ends the stream's current send with an errno (0: all sent); the next one to start, if any.
    pub fn finish_send(&mut self, key: Key, errno: i32) -> Option<Key> {
        let op = self.sends.get_mut(key)?;
        let is_partial = errno != 0 && op.sent > 0;
        op.state = SendState::Done(if is_partial { sys::PARTLY_SENT } else { errno });
        self.woken.extend(op.waker.take());
        let breaks = is_partial || (errno != 0 && op.detached);
        let (stream, next) = (op.stream, op.next.take());
        if op.orphaned || op.detached {
            self.free_send(key);
        } else {
            self.long_sends -= op.let_go();
        }
        let slot = self.streams.get_mut(stream)?;
        slot.write_broken |= breaks;
        slot.first_send = next;
        if next.is_none() {
            slot.last_send = None;
        }
        let next = next?;
        if slot.closing || slot.write_broken {
            let errno = if slot.closing {
                libc::ECANCELED
            } else {
                libc::EPIPE
            };
            return self.finish_send(next, errno);
        }
        self.note_started(next);
        Some(next)
    }

    /// How a send ended that its owner has not polled yet.
    pub fn take_outcome(&mut self, key: Key) -> Option<io::Result<()>> {
        let SendState::Done(errno) = self.sends.get(key)?.state else {
            return None;
        };
        self.free_send(key);
        Some(match errno {
            0 => Ok(()),
            _ => Err(sys::error(errno)),
        })
    }

    pub fn poll_send(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<()>> {
        if let Some(outcome) = self.take_outcome(key) {
            return Poll::Ready(outcome);
        }
        let Some(op) = self.sends.get_mut(key) else {
            return Poll::Ready(Err(sys::error(libc::ECANCELED)));
        };
        park(&mut op.waker, context, &mut self.displaced);
        Poll::Pending
    }

    /// The owner of a send is gone. `true` when the kernel still works on it.
    pub fn orphan_send(&mut self, key: Key) -> bool {
        let Some(op) = self.sends.get_mut(key) else {
            return false;
        };
        self.displaced.extend(op.waker.take());
        match op.state {
            SendState::Done(_) => {
                self.free_send(key);
                false
            }
            SendState::Started => {
                op.orphaned = true;
                true
            }
            SendState::Queued => {
                let (stream, next) = (op.stream, op.next);
                self.unlink_queued(stream, key, next);
                self.free_send(key);
                false
            }
        }
    }

    /// The owner does not wait for the end of a send.
    pub fn detach_send(&mut self, key: Key) {
        let Some(op) = self.sends.get_mut(key) else {
            return;
        };
        op.detached = true;
        if let SendState::Done(errno) = op.state {
            let stream = op.stream;
            self.free_send(key);
            if errno != 0 {
                self.break_writes(stream);
            }
        }
    }

    /// Nothing more can be sent.
    pub fn break_writes(&mut self, stream: Key) {
        if let Some(slot) = self.streams.get_mut(stream) {
            slot.write_broken = true;
        }
    }

    /// Ready when the kernel has taken all that was sent so far.
    pub fn poll_flushed(&mut self, stream: Key, context: &Context<'_>) -> Poll<io::Result<()>> {
        let Some(slot) = self.streams.get_mut(stream) else {
            return Poll::Ready(Err(sys::error(libc::EBADF)));
        };
        if let Some(op) = slot.last_send.and_then(|last| self.sends.get_mut(last)) {
            park(&mut op.waker, context, &mut self.displaced);
            return Poll::Pending;
        }
        Poll::Ready(if slot.write_broken {
            Err(sys::error(libc::EPIPE))
        } else {
            Ok(())
        })
    }

    pub fn is_orphaned(&self, key: Key) -> bool {
        self.sends.get(key).is_none_or(|op| op.orphaned)
    }

    fn unlink_queued(&mut self, stream: Key, key: Key, next: Option<Key>) {
        let Some(slot) = self.streams.get_mut(stream) else {
            return;
        };
        // A queued send has a predecessor: the first one is always started.
        let mut at = slot.first_send;
        while let Some(op) = at.and_then(|at| self.sends.get_mut(at)) {
            if op.next == Some(key) {
                op.next = next;
                if next.is_none() {
                    slot.last_send = at;
                }
                return;
            }
            at = op.next;
        }
    }

    fn free_send(&mut self, key: Key) {
        if let Some(mut op) = self.sends.remove(key) {
            self.displaced.extend(op.waker.take());
            self.long_sends -= op.let_go();
            op.reset();
            self.spare_sends.push(op);
        }
    }

    pub fn add_connect(&mut self, fd: OwnedFd, address: RawAddress) -> Key {
        let op = ConnectOp {
            fd: Some(fd),
            address,
            outcome: None,
            waker: None,
            orphaned: false,
        };
        self.connects.insert(Box::new(op))
    }

    pub fn poll_connect(&mut self, key: Key, context: &Context<'_>) -> Poll<io::Result<OwnedFd>> {
        let Some(op) = self.connects.get_mut(key) else {
            return Poll::Ready(Err(sys::error(libc::ECANCELED)));
        };
        match (op.outcome, op.fd.take()) {
            (Some(0), Some(fd)) => Poll::Ready(Ok(fd)),
            (Some(errno), _) => Poll::Ready(Err(sys::error(errno))),
            (None, fd) => {
                op.fd = fd;
                park(&mut op.waker, context, &mut self.displaced);
                Poll::Pending
            }
        }
    }

    pub fn free_connect(&mut self, key: Key) {
        if let Some(op) = self.connects.remove(key) {
            self.displaced.extend(op.waker);
        }
    }
}

impl SendOp {
    /// Gives back what it sends; 1 if it was [long](LONG_HEAD_BYTES).
    fn let_go(&mut self) -> usize {
        let was_long = self.head.len() > LONG_HEAD_BYTES;
        self.head = Buffer::default();
        self.body = Chunk::default();
        usize::from(was_long)
    }

    fn reset(&mut self) {
        self.next = None;
        self.state = SendState::Queued;
        self.orphaned = false;
        self.detached = false;
        self.sent = 0;
    }
}

fn blank_send() -> Box<SendOp> {
    let nothing = libc::iovec {
        iov_base: std::ptr::null_mut(),
        iov_len: 0,
    };
    let mut parts = [nothing; 2];
    let message = sys::message(&mut parts);
    Box::new(SendOp {
        stream: Key {
            index: u32::MAX,
            generation: 0,
        },
        next: None,
        state: SendState::Queued,
        orphaned: false,
        detached: false,
        head: Buffer::default(),
        body: Chunk::default(),
        sent: 0,
        length: 0,
        waker: None,
        parts,
        message,
    })
}
