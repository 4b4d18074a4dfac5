//! The epoll driver: every descriptor is registered once, edge-triggered, and system calls are
//! made at the consumer's pace, each until it says that it would block.

mod operations;

use super::Wait;
use super::executor;
use super::pool::Pool;
use super::slab::Key;
use super::sys;
use super::table::Table;
use super::tag::{Kind, NO_KEY, Tag};
use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

const EVENTS_A_TURN: usize = 256;
/// What a task receives, sends or accepts at once each time it is polled; more waits for the next turn.
/// Who always finds more to do would keep all others waiting.
const CALLS_A_POLL: u32 = 16;
const STREAM_EVENTS: libc::c_int =
    libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET;
const BROKEN: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

pub(super) struct Epoll {
    epoll: OwnedFd,
    pub(super) table: Table,
    pool: Rc<RefCell<Pool>>,
    mailbox: RawFd,
    mailbox_rang: bool,
    events: Box<[libc::epoll_event]>,
    enters: u64,
    calls: Calls,
    /// What goes on in the next turn.
    deferred: Vec<Deferred>,
}

/// The poll of a task that made the last system call, and how many it has made.
#[derive(Default)]
struct Calls {
    poll_number: u64,
    made: u32,
}

impl Calls {
    /// Whether the task that is being polled may make another; else its stream or listener is to be
    /// deferred.
    fn take(&mut self) -> bool {
        let poll_number = executor::poll_number();
        if self.poll_number != poll_number {
            *self = Calls {
                poll_number,
                made: 0,
            };
        }
        self.made += 1;
        self.made <= CALLS_A_POLL
    }
}

/// What found no system call left.
enum Deferred {
    Stream(Key),
    Listener(Key),
}

impl Epoll {
    /// # Errors
    /// When no epoll instance can be made.
    pub fn new(pool: Rc<RefCell<Pool>>, mailbox: RawFd) -> io::Result<Self> {
        // SAFETY: a plain system call without pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let epoll = Epoll {
            // SAFETY: just made, and nobody else has it.
            epoll: unsafe { OwnedFd::from_raw_fd(fd) },
            table: Table::new(),
            pool,
            mailbox,
            mailbox_rang: false,
            events: vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_A_TURN].into(),
            enters: 0,
            calls: Calls::default(),
            deferred: Vec::new(),
        };
        epoll.watch(mailbox, libc::EPOLLIN, Tag::new(Kind::Mailbox, NO_KEY))?;
        Ok(epoll)
    }

    /// Gives the memory of receive buffers back that have not been needed lately.
    pub fn trim(&mut self) {
        self.pool.borrow_mut().trim();
    }

    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// Whether other threads have woken tasks since the last call.
    pub fn take_mailbox_rang(&mut self) -> bool {
        std::mem::take(&mut self.mailbox_rang)
    }

    /// Registers a descriptor, or moves its registration to another tag. What it is ready for now
    /// is reported in the next turn.
    fn watch(&self, fd: RawFd, events: libc::c_int, tag: Tag) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: events as u32,
            u64: tag.0,
        };
        for operation in [libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD] {
            // SAFETY: the event is readable over the call.
            let result =
                unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
            if result == 0 {
                return Ok(());
            }
            if sys::last_errno() != libc::EEXIST {
                break;
            }
        }
        Err(io::Error::last_os_error())
    }

    fn forget(&self, fd: RawFd) {
        let epoll = self.epoll.as_raw_fd();
        // SAFETY: removing takes no event. It fails when the descriptor was never registered.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Waits if told to, and works on all events.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.feed_starved();
        let timeout_ms = match wait {
            _ if !self.table.woken.is_empty() || !self.deferred.is_empty() => 0,
            Wait::No => 0,
            Wait::UntilEvent => -1,
            Wait::AtMost { limit_ms, .. } => {
                libc::c_int::try_from(limit_ms).unwrap_or(libc::c_int::MAX)
            }
        };
        self.enters += 1;
        let room = self.events.len() as libc::c_int;
        let place = self.events.as_mut_ptr();
        // SAFETY: `place` has room for that many events.
        let count = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), place, room, timeout_ms) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(error)
            };
        }
        for index in 0..count as usize {
            let libc::epoll_event { events, u64: data } = self.events[index];
            self.happened(Tag(data), events);
        }
        self.go_on_with_deferred();
        Ok(())
    }

    fn go_on_with_deferred(&mut self) {
        let mut deferred = std::mem::take(&mut self.deferred);
        for one in deferred.drain(..) {
            match one {
                Deferred::Stream(key) => {
                    self.table.wake_reader(key);
                    self.drive_sends(key);
                }
                Deferred::Listener(key) => {
                    if let Some(slot) = self.table.listeners.get_mut(key) {
                        self.table.woken.extend(slot.waker.take());
                    }
                }
            }
        }
        self.deferred = deferred;
    }

    fn happened(&mut self, tag: Tag, events: u32) {
        match tag.kind() {
            Kind::Receive => {
                if let Some(key) = tag.find(&self.table.streams) {
                    self.stream_changed(key, events);
                }
            }
            Kind::Accept => {
                if let Some(key) = tag.find(&self.table.listeners)
                    && let Some(slot) = self.table.listeners.get_mut(key)
                {
                    slot.readable = true;
                    self.table.woken.extend(slot.waker.take());
                }
            }
            Kind::Connect => {
                if let Some(key) = tag.find(&self.table.connects) {
                    self.connected(key);
                }
            }
            Kind::Mailbox => {
                let mut value = 0u64;
                // SAFETY: eight bytes are writable; the event says that the read does not block.
                unsafe { libc::read(self.mailbox, (&raw mut value).cast(), 8) };
                self.mailbox_rang = true;
            }
            Kind::Readiness | Kind::Send | Kind::Timer | Kind::Cancel => {}
        }
    }

    fn stream_changed(&mut self, key: Key, events: u32) {
        let Some(slot) = self.table.streams.get_mut(key) else {
            return;
        };
        let ended = BROKEN | libc::EPOLLRDHUP as u32;
        slot.hangup |= events & ended != 0;
        if events & (libc::EPOLLIN as u32 | ended) != 0 {
            slot.readable = true;
            self.table.wake_reader(key);
        }
        if events & (libc::EPOLLOUT as u32 | BROKEN) != 0
            && let Some(slot) = self.table.streams.get_mut(key)
        {
            slot.writable = true;
            self.drive_sends(key);
        }
    }

    /// Wakes the streams that found no buffer, as many as there are buffers again.
    fn feed_starved(&mut self) {
        let mut free = self.pool.borrow().available();
        while free > 0
            && let Some(key) = self.table.next_starved()
        {
            free -= 1;
            self.table.wake_reader(key);
        }
    }

    /// Ends everything. The kernel holds no memory of ours, so there is nothing to wait for.
    pub fn shut_down(&mut self) -> bool {
        for key in self.table.streams.keys() {
            self.drop_stream(key);
        }
        for key in self.table.connects.keys() {
            self.table.free_connect(key);
        }
        for key in self.table.listeners.keys() {
            self.drop_listener(key);
        }
        true
    }
}
