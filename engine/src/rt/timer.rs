//! Timers: a binary heap of ticks of one millisecond, whose entries know their place, so that
//! removing one is cheap too. A [`Deadline`] comes to its timer only when it has to be woken earlier
//! than it would be anyway: one that is moved to later times with each request, or lifted, is woken
//! once at the time it had first, and asks again.

use super::Wait;
use super::core;
use super::slab::{Key, Slab};
use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, RawWakerVTable, Waker};
use std::time::{Duration, Instant};

const NOWHERE: u32 = u32::MAX;

struct Entry {
    /// The index in the heap, `NOWHERE` when the entry is not armed.
    position: u32,
    waker: Option<Waker>,
}

struct Armed {
    at_ms: u64,
    key: Key,
}

pub(super) struct Timers {
    base: Instant,
    /// The loop's present time, whole milliseconds since the base.
    now_ms: u64,
    entries: Slab<Entry>,
    heap: Vec<Armed>,
}

impl Timers {
    pub fn new(base: Instant) -> Self {
        Timers {
            base,
            now_ms: 0,
            entries: Slab::new(),
            heap: Vec::new(),
        }
    }

    fn create(&mut self) -> Key {
        self.entries.insert(Entry {
            position: NOWHERE,
            waker: None,
        })
    }

    fn destroy(&mut self, key: Key) -> Option<Waker> {
        self.disarm(key);
        self.entries.remove(key)?.waker
    }

    fn disarm(&mut self, key: Key) {
        let Some(entry) = self.entries.get_mut(key) else {
            return;
        };
        let position = std::mem::replace(&mut entry.position, NOWHERE) as usize;
        if position == NOWHERE as usize {
            return;
        }
        self.heap.swap_remove(position);
        if position < self.heap.len() {
            self.settle(position);
        }
    }

    /// Wakes `waker`, and nobody else any more, at `time`. Hands out the waker that is replaced, which
    /// must be dropped outside of all borrows.
    fn arm(&mut self, key: Key, time: Instant, waker: &Waker) -> Option<Waker> {
        let at_ms = self.tick_of(time);
        let entry = self.entries.get_mut(key)?;
        let replaced = match &entry.waker {
            Some(known) if known.will_wake(waker) => None,
            _ => entry.waker.replace(waker.clone()),
        };
        let position = entry.position as usize;
        match self.heap.get_mut(position) {
            Some(armed) => {
                armed.at_ms = at_ms;
                self.settle(position);
            }
            None => {
                self.heap.push(Armed { at_ms, key });
                self.settle(self.heap.len() - 1);
            }
        }
        replaced
    }

    /// Moves the entry at `position` up or down to where it belongs.
    fn settle(&mut self, mut position: usize) {
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].at_ms <= self.heap[position].at_ms {
                break;
            }
            self.heap.swap(parent, position);
            self.note_position(position);
            position = parent;
        }
        loop {
            let left = 2 * position + 1;
            let Some(mut child) = self.heap.get(left).map(|_| left) else {
                break;
            };
            if self
                .heap
                .get(left + 1)
                .is_some_and(|right| right.at_ms < self.heap[left].at_ms)
            {
                child = left + 1;
            }
            if self.heap[position].at_ms <= self.heap[child].at_ms {
                break;
            }
            self.heap.swap(position, child);
            self.note_position(position);
            position = child;
        }
        self.note_position(position);
    }

    fn note_position(&mut self, position: usize) {
        let key = self.heap[position].key;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.position = position as u32;
        }
    }

    /// Milliseconds since the base, rounded up: a timer never fires early.
    fn tick_of(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.base);
        let part_ms = since.subsec_nanos().div_ceil(1_000_000);
        let whole_ms = since.as_secs().saturating_mul(1000);
        whole_ms.saturating_add(u64::from(part_ms))
    }

    /// How long the loop may sleep.
    pub fn wait(&self) -> Wait {
        match self.heap.first() {
            None => Wait::UntilEvent,
            Some(first) if first.at_ms <= self.now_ms => Wait::No,
            Some(&Armed { at_ms, .. }) => Wait::AtMost {
                at_ms,
                limit_ms: at_ms - self.now_ms,
            },
        }
    }

    /// Time has moved on to `now`.
    pub fn advance(&mut self, now: Instant) {
        self.now_ms = now.saturating_duration_since(self.base).as_millis() as u64;
    }

    /// Collects the wakers of all timers that are due.
    pub fn fire(&mut self, due: &mut Vec<Waker>) {
        let now_ms = self.now_ms;
        while let Some(&Armed { at_ms, key }) = self.heap.first()
            && at_ms <= now_ms
        {
            let entry = self.entries.get_mut(key);
            due.extend(entry.and_then(|entry| entry.waker.take()));
            self.disarm(key);
        }
    }
}

/// Tells wakers apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct WakerId(*const (), *const RawWakerVTable);

impl WakerId {
    fn of(waker: &Waker) -> Self {
        WakerId(waker.data(), waker.vtable())
    }
}

/// A time after which something is given up; it can be moved as often as a connection makes
/// progress, which costs nothing while it moves to later times.
pub struct Deadline {
    time: Cell<Option<Instant>>,
    /// When its timer wakes whom, unless that is over.
    armed: Cell<Option<(Instant, WakerId)>>,
    key: Key,
    local: PhantomData<*const ()>,
}

impl Deadline {
    /// A deadline that never expires until it is [set](Deadline::set).
    ///
    /// # Panics
    /// Outside of [`run`](super::run).
    pub fn new() -> Self {
        let key = core::with(|core| core.timers.borrow_mut().create());
        Deadline {
            time: Cell::new(None),
            armed: Cell::new(None),
            key,
            local: PhantomData,
        }
    }

    /// Moves the deadline; `None` lifts it. Who waits for it has to poll it again, or may not be woken
    /// in time.
    #[inline]
    pub fn set(&self, time: Option<Instant>) {
        self.time.set(time);
    }

    /// Ready when the time has passed. The last task that polled while one was set is woken then, and
    /// perhaps before.
    #[inline]
    pub fn poll_expired(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(time) = self.time.get() else {
            return Poll::Pending;
        };
        let now = super::now();
        if time <= now {
            return Poll::Ready(());
        }
        let waker = WakerId::of(context.waker());
        let is_armed = |(at, known)| now < at && at <= time && known == waker;
        if !self.armed.get().is_some_and(is_armed) {
            self.armed.set(Some((time, waker)));
            let arm = |core: &core::Core| {
                let mut timers = core.timers.borrow_mut();
                timers.arm(self.key, time, context.waker())
            };
            let _replaced = core::try_with(arm);
        }
        Poll::Pending
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Deadline::new()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let _waker = core::try_with(|core| core.timers.borrow_mut().destroy(self.key));
    }
}

/// Ends at a given time; see [`sleep_until`].
pub struct Sleep(Deadline);

/// Sleeps until `time`, rounded up to the loop's milliseconds.
pub fn sleep_until(time: Instant) -> Sleep {
    let deadline = Deadline::new();
    deadline.set(Some(time));
    Sleep(deadline)
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_expired(context)
    }
}
