//! Tasks and their wakers. A waker is one word (runtime, slot, generation): cloning and dropping
//! it is free, and waking a task that is gone does nothing.

use super::core;
use super::prefetch::prefetch;
use super::remote;
use super::slab::{Key, Slab};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, RawWaker, RawWakerVTable, Waker};

thread_local! {
    static POLLS: Cell<u64> = const { Cell::new(0) };
}

/// Which poll of a task runs on this thread, by their number.
pub(super) fn poll_number() -> u64 {
    POLLS.get()
}

#[cfg(not(target_pointer_width = "64"))]
compile_error!("the waker word needs 64-bit pointers");

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// Taken out while it is polled, so that the task can spawn and wake.
    future: Option<TaskFuture>,
    scheduled: bool,
}

/// What a waker's data word says: 12 bits of runtime, 20 of generation, 32 of slot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskWord(u64);

const GENERATION_MASK: u32 = 0xF_FFFF;
pub(super) const MAX_RUNTIMES: usize = 1 << 12;

impl TaskWord {
    fn new(runtime: u16, key: Key) -> Self {
        let generation = u64::from(key.generation & GENERATION_MASK);
        TaskWord(u64::from(runtime) << 52 | generation << 32 | u64::from(key.index))
    }

    pub fn runtime(self) -> u16 {
        (self.0 >> 52) as u16
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32 & GENERATION_MASK
    }

    fn index(self) -> u32 {
        self.0 as u32
    }

    fn waker(self) -> Waker {
        let data = std::ptr::without_provenance::<()>(self.0 as usize);
        // SAFETY: the table's functions treat the data as a plain number and never follow it;
        // clone and drop have nothing to count, and wake may be called from any thread because
        // it goes through the registry of live runtimes.
        unsafe { Waker::from_raw(RawWaker::new(data, &VTABLE)) }
    }
}

static VTABLE: RawWakerVTable = RawWakerVTable::new(
    |data| RawWaker::new(data, &VTABLE),
    wake_word,
    wake_word,
    |_| {},
);

fn wake_word(data: *const ()) {
    let word = TaskWord(data.addr() as u64);
    let local = core::try_with(|core| {
        let ours = core.id() == word.runtime();
        if ours {
            core.executor.wake(word);
        }
        ours
    });
    if local != Some(true) {
        remote::wake(word);
    }
}

pub(super) struct Executor {
    runtime: u16,
    tasks: RefCell<Slab<Task>>,
    ready: RefCell<VecDeque<Key>>,
    panics: Cell<u64>,
}

impl Executor {
    pub fn new(runtime: u16) -> Self {
        Executor {
            runtime,
            tasks: RefCell::new(Slab::new()),
            ready: RefCell::new(VecDeque::with_capacity(256)),
            panics: Cell::new(0),
        }
    }

    pub fn spawn(&self, future: TaskFuture) {
        let key = self.tasks.borrow_mut().insert(Task {
            future: Some(future),
            scheduled: true,
        });
        self.ready.borrow_mut().push_back(key);
    }

    pub fn wake(&self, word: TaskWord) {
        let mut tasks = self.tasks.borrow_mut();
        let Some(key) = tasks.find(word.index(), word.generation(), GENERATION_MASK) else {
            return;
        };
        if let Some(task) = tasks.get_mut(key)
            && !task.scheduled
        {
            task.scheduled = true;
            if let Some(future) = &task.future {
                prefetch(&**future);
            }
            self.ready.borrow_mut().push_back(key);
        }
    }

    pub fn wake_all(&self) {
        let mut tasks = self.tasks.borrow_mut();
        for key in tasks.keys() {
            if let Some(task) = tasks.get_mut(key)
                && !task.scheduled
            {
                task.scheduled = true;
                self.ready.borrow_mut().push_back(key);
            }
        }
    }

    pub fn has_ready(&self) -> bool {
        !self.ready.borrow().is_empty()
    }

    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    /// Polls the tasks that are ready now; what they wake waits for the next turn, so that
    /// sockets and timers always get theirs.
    pub fn run_ready(&self) {
        let count = self.ready.borrow().len();
        for _ in 0..count {
            let Some(key) = self.ready.borrow_mut().pop_front() else {
                return;
            };
            self.poll(key);
        }
    }

    fn poll(&self, key: Key) {
        let taken = self.tasks.borrow_mut().get_mut(key).and_then(|task| {
            task.scheduled = false;
            task.future.take()
        });
        let Some(mut future) = taken else { return };
        POLLS.set(POLLS.get() + 1);
        let waker = ManuallyDrop::new(TaskWord::new(self.runtime, key).waker());
        let mut context = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context)));
        if let Ok(std::task::Poll::Pending) = polled {
            if let Some(task) = self.tasks.borrow_mut().get_mut(key) {
                task.future = Some(future);
            }
            return;
        }
        if polled.is_err() {
            self.panics.set(self.panics.get() + 1);
        }
        self.drop_caught(future);
        self.tasks.borrow_mut().remove(key);
    }

    fn drop_caught(&self, future: TaskFuture) {
        if catch_unwind(AssertUnwindSafe(|| drop(future))).is_err() {
            self.panics.set(self.panics.get() + 1);
        }
    }

    /// Drops every task, also those that dropping spawns.
    pub fn clear(&self) {
        loop {
            let keys = self.tasks.borrow().keys();
            if keys.is_empty() {
                break;
            }
            for key in keys {
                let task = self.tasks.borrow_mut().remove(key);
                if let Some(future) = task.and_then(|task| task.future) {
                    self.drop_caught(future);
                }
            }
        }
        self.ready.borrow_mut().clear();
    }
}
