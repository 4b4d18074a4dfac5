//! The runtime of one thread: what it is made of, its loop, and how the rest reaches it.

use super::driver::Driver;
use super::executor::Executor;
use super::pool::{Outgoing, Pool};
use super::remote::Registration;
use super::timer::Timers;
use super::{Counters, RuntimeOptions, Wait};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Instant;

thread_local! {
    static CURRENT: Cell<Option<NonNull<Core>>> = const { Cell::new(None) };
}

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

pub(super) struct Core {
    registration: Registration,
    /// Told apart from all other runtimes of the process, also those that have ended.
    serial: u64,
    pub executor: Executor,
    pub timers: RefCell<Timers>,
    pub driver: RefCell<Driver>,
    pub pool: Rc<RefCell<Pool>>,
    pub outgoing: RefCell<Outgoing>,
    clock: Cell<Instant>,
    turns: Cell<u64>,
    pub first_spare_descriptor: RawFd,
}

/// Runs `with` on this thread's runtime; `None` when there is none.
#[inline]
pub(super) fn try_with<R>(with: impl FnOnce(&Core) -> R) -> Option<R> {
    let current = CURRENT.get()?;
    // SAFETY: `CURRENT` is set while `run` is on this thread's stack below us, which owns the
    // core and hands out shared references only.
    Some(with(unsafe { current.as_ref() }))
}

/// Runs `with` on this thread's runtime.
///
/// # Panics
/// When there is none.
// Always inlined: what the closure captures would go through memory.
#[inline(always)]
pub(super) fn with<R>(with: impl FnOnce(&Core) -> R) -> R {
    let current = CURRENT.get();
    let current = current.expect("this needs a runtime on this thread: rt::run");
    // SAFETY: as in `try_with`, whose result would be copied out of its `Option`.
    with(unsafe { current.as_ref() })
}

/// Makes a core the thread's current one as long as it lives.
struct Entered;

impl Entered {
    fn enter(core: &Core) -> Self {
        CURRENT.set(Some(NonNull::from(core)));
        Entered
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(None);
    }
}

impl Core {
    fn new(options: &RuntimeOptions) -> io::Result<Self> {
        let registration = Registration::new()?;
        let serial = NEXT_SERIAL.fetch_add(1, Ordering::Relaxed);
        let pool = Rc::new(RefCell::new(Pool::new(options, serial)));
        let mailbox = registration.mailbox.eventfd();
        let (driver, _) = Driver::choose(options.driver, pool.clone(), mailbox)?;
        let now = Instant::now();
        Ok(Core {
            executor: Executor::new(registration.id),
            timers: RefCell::new(Timers::new(now)),
            driver: RefCell::new(driver),
            pool,
            outgoing: RefCell::default(),
            clock: Cell::new(now),
            turns: Cell::new(0),
            first_spare_descriptor: options.first_spare_descriptor,
            registration,
            serial,
        })
    }

    pub fn id(&self) -> u16 {
        self.registration.id
    }

    pub fn serial(&self) -> u64 {
        self.serial
    }

    #[inline]
    pub fn now(&self) -> Instant {
        self.clock.get()
    }

    pub fn buffers_are_short(&self) -> bool {
        self.pool.borrow().is_half_used()
    }

    pub fn bulk_buffers_are_short(&self) -> bool {
        let long_sends = self.driver.borrow_mut().table().long_sends();
        self.pool.borrow().is_half_of_bulk_used(long_sends)
    }

    pub fn trim(&self) {
        self.driver.borrow_mut().trim();
    }

    pub fn counters(&self) -> Counters {
        let pool = self.pool.borrow();
        let mut driver = self.driver.borrow_mut();
        Counters {
            loop_turns: self.turns.get(),
            kernel_enters: driver.enters(),
            receive_buffers_in_use: pool.in_use(),
            receive_buffers_allocated: pool.allocated(),
            receive_buffers_exhausted: pool.exhausted(),
            bulk_buffers_in_use: pool.bulk_in_use(),
            open_streams: driver.table().streams.len(),
            task_panics: self.executor.panics(),
        }
    }

    fn run_tasks(&self) {
        self.turns.set(self.turns.get() + 1);
        self.executor.run_ready();
    }

    fn turn(&self, woken: &mut Vec<Waker>) -> io::Result<()> {
        self.timers.borrow_mut().fire(woken);
        self.wake_all(woken);
        let wait = if self.executor.has_ready() {
            Wait::No
        } else {
            self.timers.borrow().wait()
        };
        self.drive(wait, woken)
    }

    /// Lets the driver work once, and wakes whom it names.
    fn drive(&self, wait: Wait, woken: &mut Vec<Waker>) -> io::Result<()> {
        let mut driver = self.driver.borrow_mut();
        driver.turn(wait)?;
        std::mem::swap(woken, &mut driver.table().woken);
        let displaced = std::mem::take(&mut driver.table().displaced);
        let rang = driver.take_mailbox_rang();
        drop(driver);
        drop(displaced);
        let now = Instant::now();
        self.clock.set(now);
        self.timers.borrow_mut().advance(now);
        self.wake_all(woken);
        if rang {
            let mut words = Vec::new();
            self.registration.mailbox.take(&mut words);
            words.into_iter().for_each(|word| self.executor.wake(word));
        }
        Ok(())
    }

    fn wake_all(&self, woken: &mut Vec<Waker>) {
        if !woken.is_empty() {
            woken.drain(..).for_each(Waker::wake);
        }
    }

    /// Drops all tasks and ends all operations.
    fn end(&self) {
        self.executor.clear();
        let let_go = self.driver.borrow_mut().shut_down();
        if !let_go {
            self.pool.borrow_mut().leak();
        }
        let (woken, displaced) = {
            let mut driver = self.driver.borrow_mut();
            let table = driver.table();
            (
                std::mem::take(&mut table.woken),
                std::mem::take(&mut table.displaced),
            )
        };
        drop((woken, displaced));
        // What a foreign waker may have spawned when it was dropped.
        self.executor.clear();
    }
}

/// Ends a runtime whichever way its loop is left.
struct Ending<'c>(&'c Core);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Tells the loop that the main task has ended, also when it panicked.
struct Finished(Rc<Cell<Option<bool>>>);

impl Drop for Finished {
    fn drop(&mut self) {
        if self.0.get().is_none() {
            self.0.set(Some(false));
        }
    }
}

pub(super) fn run<F>(options: &RuntimeOptions, main: impl FnOnce() -> F) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    if CURRENT.get().is_some() {
        return Err(io::Error::other("this thread has a runtime already"));
    }
    let core = Core::new(options)?;
    let _entered = Entered::enter(&core);
    let _ending = Ending(&core);
    let outcome = Rc::new(Cell::new(None));
    let finished = Finished(outcome.clone());
    let future = main();
    core.executor.spawn(Box::pin(async move {
        future.await;
        finished.0.set(Some(true));
    }));
    let mut woken = Vec::with_capacity(256);
    loop {
        core.run_tasks();
        match outcome.get() {
            None => core.turn(&mut woken)?,
            Some(true) => return Ok(()),
            Some(false) => return Err(io::Error::other("the main task panicked")),
        }
    }
}
