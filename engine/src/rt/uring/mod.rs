//! The io_uring driver: multishot receives from a ring of provided buffers, multishot accepts, and
//! one system call a turn that submits everything and reaps everything.

mod operations;
mod receive;
mod setup;

use super::Wait;
use super::pool::Pool;
use super::prefetch::prefetch;
use super::slab::Key;
use super::sys;
use super::table::{Multishot, Table};
use super::tag::{Kind, NO_KEY, Tag};
use setup::Made;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

const BUFFER_GROUP: u16 = 0;
/// How long the end of a runtime waits for the kernel to let go of cancelled operations.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);
const REAP_BATCH: usize = 64;

pub(super) struct Uring {
    ring: IoUring,
    pub(super) table: Table,
    pool: Rc<RefCell<Pool>>,
    /// Entries that the kernel would not take at once.
    backlog: VecDeque<squeue::Entry>,
    mailbox: RawFd,
    mailbox_value: Box<u64>,
    mailbox_armed: bool,
    mailbox_rang: bool,
    /// When the kernel's timer wakes the loop, in its milliseconds; `None` while it is not armed.
    timer_at_ms: Option<u64>,
    timer_value: Box<Timespec>,
    /// Operations whose last completion is yet to come.
    in_flight: usize,
    enters: u64,
    is_deferred: bool,
    enter_flags: u32,
    /// Sends since the last enter that complete within the next one.
    started_at_once: Vec<Key>,
    /// How much a multishot receive takes before it ends; `None` where it cannot be told.
    received_at_a_time_bytes: Option<u32>,
}

impl Uring {
    /// A driver that reads the eventfd `mailbox`, and how it uses io_uring.
    ///
    /// # Errors
    /// A reason for people why it cannot be made.
    pub fn make(pool: Rc<RefCell<Pool>>, mailbox: RawFd) -> Result<(Self, String), String> {
        let Made {
            ring,
            description,
            is_deferred,
            enter_flags,
        } = setup::make_ring()?;
        let registered = {
            let mut pool = pool.borrow_mut();
            let buffers = pool.make_ring().map_err(|error| error.to_string())?;
            // SAFETY: the ring's memory is mapped until the pool is dropped, which is after the
            // io_uring is closed, or never when operations are still under way.
            unsafe {
                ring.submitter().register_buf_ring_with_flags(
                    buffers.address(),
                    buffers.entries(),
                    BUFFER_GROUP,
                    0,
                )
            }
        };
        if let Err(error) = registered {
            pool.borrow_mut().give_up_ring();
            let what = "io_uring lacks rings of provided buffers (Linux 5.19)";
            return Err(format!("{what}: {error}; probably an old kernel"));
        }
        if !pool.borrow_mut().grow() {
            return Err("no memory for receive buffers".to_owned());
        }
        let mut driver = Self::over(ring, pool, mailbox);
        driver.is_deferred = is_deferred;
        driver.enter_flags = enter_flags;
        Ok((driver, description))
    }

    fn over(ring: IoUring, pool: Rc<RefCell<Pool>>, mailbox: RawFd) -> Self {
        let at_a_time = pool.borrow().buffer_bytes() * receive::RECEIVED_AT_A_TIME;
        Uring {
            received_at_a_time_bytes: u32::try_from(at_a_time).ok(),
            ring,
            table: Table::new(),
            pool,
            backlog: VecDeque::new(),
            mailbox,
            mailbox_value: Box::new(0),
            mailbox_armed: false,
            mailbox_rang: false,
            timer_at_ms: None,
            timer_value: Box::new(Timespec::new()),
            in_flight: 0,
            enters: 0,
            is_deferred: false,
            enter_flags: EnterFlags::GETEVENTS.bits(),
            started_at_once: Vec::new(),
        }
    }

    pub fn enters(&self) -> u64 {
        self.enters
    }

    /// Whether other threads have woken tasks since the last call.
    pub fn take_mailbox_rang(&mut self) -> bool {
        std::mem::take(&mut self.mailbox_rang)
    }

    /// Gives the memory of receive buffers back that have not been needed lately.
    pub fn trim(&mut self) {
        // Buffers can be taken from the kernel's ring only while it does not look at it: it does
        // when it is entered, and what it has taken then is known when all completions are seen.
        let knows_all = self.ring.completion().is_empty() && !self.ring.submission().cq_overflow();
        if self.is_deferred && knows_all {
            self.pool.borrow_mut().trim();
        }
        self.notice_ends();
    }

    /// A receive without a buffer does not tell the end of its connection either: look.
    fn notice_ends(&mut self) {
        for key in self.table.starved() {
            let Some(slot) = self.table.streams.get_mut(key) else {
                continue;
            };
            match sys::peek(slot.fd.as_raw_fd()) {
                Ok(Some(0)) => slot.ended = true,
                Err(errno) => slot.error = errno,
                Ok(_) => continue,
            }
            self.table.wake_reader(key);
        }
    }

    /// Queues an entry for the next enter.
    ///
    /// # Safety
    /// What the entry points to stays valid until its last completion.
    unsafe fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: passed on from the caller.
        let pushed =
            self.backlog.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok();
        if pushed {
            return;
        }
        self.backlog.push_back(entry);
        // The queue is full: the kernel takes its entries now. What it refuses waits for the turn.
        let queued = self.ring.submission().len() as u32;
        self.enters += 1;
        // SAFETY: no argument is given.
        let _ = unsafe { self.ring.submitter().enter::<u64>(queued, 0, 0, None) };
        self.move_backlog();
    }

    fn move_backlog(&mut self) {
        let mut submission = self.ring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: who pushed the entry keeps its pointers valid.
            if unsafe { submission.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    /// Queues an operation that will complete.
    ///
    /// # Safety
    /// What the entry points to stays valid until its last completion.
    unsafe fn start(&mut self, entry: squeue::Entry, kind: Kind, key: Key) {
        self.in_flight += 1;
        // SAFETY: passed on from the caller.
        unsafe { self.push(entry.user_data(Tag::new(kind, key).0)) };
    }

    fn cancel(&mut self, kind: Kind, key: Key) {
        let target = CancelBuilder::user_data(Tag::new(kind, key).0);
        let entry = opcode::AsyncCancel2::new(target)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(Tag::new(Kind::Cancel, NO_KEY).0);
        // SAFETY: the entry points to nothing.
        unsafe { self.push(entry) };
    }

    fn arm_mailbox(&mut self) {
        if self.mailbox_armed {
            return;
        }
        self.mailbox_armed = true;
        let place = (&raw mut *self.mailbox_value).cast();
        let entry = opcode::Read::new(types::Fd(self.mailbox), place, 8).build();
        // SAFETY: the value is boxed and lives as long as the driver, which is leaked when the
        // read cannot be ended; the eventfd lives longer.
        unsafe { self.start(entry, Kind::Mailbox, NO_KEY) };
    }

    /// Makes the kernel wake the loop at `at_ms` or before, which is `limit_ms` away. One timer goes on
    /// over many turns: a limit on each wait would start and stop one every time. It may wake the
    /// loop for nothing, when the timer it was armed for has moved on.
    fn arm_timer(&mut self, at_ms: u64, limit_ms: u64) {
        let armed_at_ms = self.timer_at_ms;
        if armed_at_ms.is_some_and(|armed| armed <= at_ms) {
            return;
        }
        self.timer_at_ms = Some(at_ms);
        *self.timer_value = Duration::from_millis(limit_ms).into();
        let place = &raw const *self.timer_value;
        if armed_at_ms.is_none() {
            let entry = opcode::Timeout::new(place).build();
            // SAFETY: the value is boxed, and the kernel reads it while it takes the entry.
            unsafe { self.start(entry, Kind::Timer, NO_KEY) };
        } else {
            let tag = Tag::new(Kind::Timer, NO_KEY).0;
            let entry = opcode::TimeoutUpdate::new(tag, place)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(Tag::new(Kind::Cancel, NO_KEY).0);
            // SAFETY: as above. A timer that has fired meanwhile cannot be moved, and its
            // completion wakes the loop.
            unsafe { self.push(entry) };
        }
    }

    /// Submits, waits if told to, and works on all completions.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.arm_mailbox();
        if let Wait::AtMost { at_ms, limit_ms } = wait {
            self.arm_timer(at_ms, limit_ms);
        }
        self.feed_starved();
        self.move_backlog();
        let queued = self.ring.submission().len() as u32;
        let wait = if self.backlog.is_empty() {
            wait
        } else {
            Wait::No
        };
        self.enters += 1;
        let entered = match wait {
            Wait::No => self.enter(queued, 0, None),
            Wait::UntilEvent | Wait::AtMost { .. } => {
                self.enter(queued, 1 + self.unawaited_completions(), None)
            }
        };
        self.started_at_once.clear();
        if let Err(error) = entered
            && !is_passing(&error)
        {
            return Err(error);
        }
        self.reap();
        Ok(())
    }

    /// Completions that the next enter brings by itself and that nobody waits for: to return for
    /// these alone would only mean to enter again.
    fn unawaited_completions(&self) -> u32 {
        let started = &self.started_at_once;
        match started.iter().any(|key| self.table.is_awaited(*key)) {
            true => 0,
            false => started.len() as u32,
        }
    }

    fn enter(&self, queued: u32, wanted: u32, limit: Option<Duration>) -> io::Result<usize> {
        let submitter = self.ring.submitter();
        match limit {
            None => {
                // SAFETY: no argument is given.
                unsafe { submitter.enter::<u64>(queued, wanted, self.enter_flags, None) }
            }
            Some(limit) => {
                let limit = Timespec::new()
                    .sec(limit.as_secs())
                    .nsec(limit.subsec_nanos());
                let arguments = SubmitArgs::new().timespec(&limit);
                let flags = self.enter_flags | EnterFlags::EXT_ARG.bits();
                // SAFETY: the argument has the type that EXT_ARG announces and lives over the call.
                unsafe { submitter.enter(queued, wanted, flags, Some(&arguments)) }
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let mut batch =
                [const { std::mem::MaybeUninit::<cqueue::Entry>::uninit() }; REAP_BATCH];
            let filled = self.ring.completion().fill(&mut batch);
            self.expect(filled);
            filled.iter().for_each(|entry| self.complete(entry));
            if filled.len() < REAP_BATCH {
                break;
            }
        }
    }

    /// Has the processor fetch what completions are about, before the first of them is worked on.
    fn expect(&self, completions: &[cqueue::Entry]) {
        for completion in completions {
            let tag = Tag(completion.user_data());
            match tag.kind() {
                Kind::Receive => self.table.streams.prefetch(tag.index()),
                Kind::Send => {
                    if let Some(op) = self.table.sends.tenant(tag.index()) {
                        prefetch(&**op);
                    }
                }
                _ => {}
            }
        }
    }

    fn complete(&mut self, entry: &cqueue::Entry) {
        let tag = Tag(entry.user_data());
        let (result, flags) = (entry.result(), entry.flags());
        let last = !cqueue::more(flags);
        let kind = tag.kind();
        self.in_flight -= usize::from(last && kind != Kind::Cancel);
        match kind {
            Kind::Receive => {
                self.received(tag.find(&self.table.streams), result, flags, last);
            }
            Kind::Send => {
                if let Some(key) = tag.find(&self.table.sends) {
                    self.sent(key, result);
                }
            }
            Kind::Accept => self.accepted(tag.find(&self.table.listeners), result, last),
            Kind::Readiness => {
                if let Some(key) = tag.find(&self.table.streams) {
                    self.became_ready(key, result);
                }
            }
            Kind::Connect => {
                if let Some(key) = tag.find(&self.table.connects) {
                    self.connected(key, result);
                }
            }
            Kind::Mailbox => {
                self.mailbox_armed = false;
                self.mailbox_rang = true;
            }
            Kind::Timer => self.timer_at_ms = None,
            Kind::Cancel => {}
        }
    }

    /// Ends everything: cancels, and waits until the kernel touches no memory of ours any more.
    /// `false` when it did not let go in time.
    pub fn shut_down(&mut self) -> bool {
        for key in self.table.streams.keys() {
            self.drop_stream(key);
        }
        for key in self.table.sends.keys() {
            self.drop_send(key);
        }
        for key in self.table.connects.keys() {
            self.drop_connect(key);
        }
        for key in self.table.listeners.keys() {
            self.drop_listener(key);
        }
        let deadline = Instant::now() + SHUTDOWN_LIMIT;
        if self.mailbox_armed {
            self.cancel(Kind::Mailbox, NO_KEY);
        }
        if self.timer_at_ms.is_some() {
            self.cancel(Kind::Timer, NO_KEY);
        }
        while self.in_flight > 0 {
            self.move_backlog();
            let queued = self.ring.submission().len() as u32;
            let entered = self.enter(queued, 1, Some(Duration::from_millis(50)));
            self.reap();
            let is_refused = entered.is_err_and(|error| !is_passing(&error));
            if is_refused || Instant::now() >= deadline {
                return false;
            }
        }
        true
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            // The kernel may still write where these point to.
            std::mem::forget(std::mem::replace(&mut self.table, Table::new()));
            std::mem::forget(std::mem::take(&mut self.mailbox_value));
        }
    }
}

/// Whether entering the kernel failed for now only: interrupted, past the time limit, or completions
/// overflow or memory is short, where reaping helps.
fn is_passing(error: &io::Error) -> bool {
    let passing = [libc::EINTR, libc::ETIME, libc::EBUSY, libc::EAGAIN];
    let errno = error.raw_os_error();
    errno.is_some_and(|errno| passing.contains(&errno))
}

fn is_idle(state: Multishot) -> bool {
    state == Multishot::Idle
}
