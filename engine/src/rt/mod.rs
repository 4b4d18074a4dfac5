//! The runtime seam: tasks, timers, sockets and buffers of one worker thread.
//!
//! Each worker thread calls [`run`] and owns everything that is made inside; nothing of it moves
//! to another thread but wakers and [`Notifier`]s. Two drivers stand behind the same functions:
//! io_uring, and epoll where io_uring is refused. Only this module names them.
//!
//! One turn of the loop runs the tasks that were ready when it began, fires the timers that are
//! due, and then enters the kernel once, to submit all operations and to collect all completions.
//! What a task wakes runs in the next turn, so that no task starves the sockets. On epoll, whose system
//! calls end at once, each poll of a task has a number of them to spend.
//!
//! All futures here may be dropped at any time. A dropped receive or accept loses nothing; a
//! dropped send or connect is given up, and its buffers and descriptor are kept until the kernel
//! has let go of them.

mod chunk;
mod core;
mod driver;
mod epoll;
mod executor;
mod listener;
mod notify;
mod pool;
mod prefetch;
mod remote;
mod slab;
mod stream;
mod sys;
mod table;
mod tag;
mod timer;
mod uring;

#[cfg(test)]
mod tests;

pub use chunk::Chunk;
pub use listener::Listener;
pub use notify::{Notified, Notifier, notification};
pub use pool::Buffer;
pub use stream::{Idle, Send, Stream};
pub use sys::EndpointAddr;
pub use timer::{Deadline, Sleep, sleep_until};

use std::future::Future;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Which driver to use.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DriverChoice {
    /// io_uring, or epoll when it is refused or lacks something.
    #[default]
    Auto,
    /// io_uring, or an error.
    IoUring,
    /// epoll.
    Epoll,
}

/// The driver that is in use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DriverKind {
    IoUring,
    Epoll,
}

/// What a [`probe`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DriverReport {
    pub kind: DriverKind,
    /// For people: how io_uring is used, or why it is not.
    pub reason: String,
}

/// How a worker's runtime is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuntimeOptions {
    pub driver: DriverChoice,
    /// The size of a receive buffer: how much arrives in one piece. 32 KiB.
    pub receive_buffer_bytes: usize,
    /// Receive buffers at the start; memory is taken when one is filled for the first time. 64.
    pub initial_receive_buffers: usize,
    /// The most receive buffers of a worker, up to 32,768; at the limit, streams wait until one
    /// comes back. 4,096, which is 128 MiB.
    pub max_receive_buffers: usize,
    /// The size of a buffer for long bodies. 256 KiB.
    pub bulk_buffer_bytes: usize,
    /// The most bulk buffers of a worker, long sends counted among them; at the limit, receive
    /// buffers are used instead. 32, which is 8 MiB: readers that have stopped keep theirs.
    pub max_bulk_buffers: usize,
    /// Sockets with this descriptor or a higher one are for accepting alone, which nobody can refuse
    /// otherwise: connecting fails with `EMFILE` where it would get one. The kernel gives the lowest
    /// that is free. No limit.
    pub first_spare_descriptor: RawFd,
}

impl Default for RuntimeOptions {
    fn default() -> Self {
        RuntimeOptions {
            driver: DriverChoice::Auto,
            receive_buffer_bytes: 32 * 1024,
            initial_receive_buffers: 64,
            max_receive_buffers: 4096,
            bulk_buffer_bytes: 256 * 1024,
            max_bulk_buffers: 32,
            first_spare_descriptor: RawFd::MAX,
        }
    }
}

/// What a worker's runtime has done so far, and holds now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Turns of the loop.
    pub loop_turns: u64,
    /// System calls that submit, wait or both.
    pub kernel_enters: u64,
    /// Receive buffers that chunks or streams hold now.
    pub receive_buffers_in_use: usize,
    /// Receive buffers made so far.
    pub receive_buffers_allocated: usize,
    /// How often a receive found no buffer.
    pub receive_buffers_exhausted: u64,
    /// Bulk buffers that chunks hold now.
    pub bulk_buffers_in_use: usize,
    /// Streams that are open, or on their way to be closed.
    pub open_streams: usize,
    /// Tasks that ended by a panic.
    pub task_panics: u64,
}

/// How long a driver may wait.
#[derive(Clone, Copy)]
enum Wait {
    No,
    /// Until a timer is due: at this millisecond of the loop, which is so far away at most.
    AtMost {
        at_ms: u64,
        limit_ms: u64,
    },
    UntilEvent,
}

/// Which driver a choice leads to here, and why. Any thread may ask.
///
/// # Errors
/// When io_uring is forced and not to be had.
pub fn probe(choice: DriverChoice) -> io::Result<DriverReport> {
    driver::probe(choice)
}

/// Runs a runtime on this thread until `main` ends; what it has spawned is dropped then.
///
/// # Errors
/// When the driver cannot be made or fails, when this thread has a runtime already, or when `main`
/// panics.
pub fn run<F>(options: &RuntimeOptions, main: impl FnOnce() -> F) -> io::Result<()>
where
    F: Future<Output = ()> + 'static,
{
    core::run(options, main)
}

/// Runs a task on this thread. When it panics, it is dropped and counted, and the others go on.
///
/// # Panics
/// Outside of [`run`].
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    core::with(|core| core.executor.spawn(Box::pin(task)));
}

/// Wakes every task of this thread, whatever it waits for, and comes back when each was polled.
///
/// # Panics
/// Outside of [`run`].
pub async fn wake_all() {
    core::with(|core| core.executor.wake_all());
    // The caller is one of them, and not the last: the others are done a turn later.
    for _ in 0..2 {
        let mut was_polled = false;
        std::future::poll_fn(|context| {
            if was_polled {
                return std::task::Poll::Ready(());
            }
            was_polled = true;
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

/// The time at which the present turn of the loop began.
///
/// # Panics
/// Outside of [`run`].
pub fn now() -> Instant {
    core::with(core::Core::now)
}

/// Whether so many receive buffers are in use that none may be kept without need.
///
/// # Panics
/// Outside of [`run`].
pub fn buffers_are_short() -> bool {
    core::with(core::Core::buffers_are_short)
}

/// Whether so many bulk buffers and long sends are in use that nobody should receive ahead of a
/// reader.
///
/// # Panics
/// Outside of [`run`].
pub fn bulk_buffers_are_short() -> bool {
    core::with(core::Core::bulk_buffers_are_short)
}

/// Gives the memory of receive buffers back to the system that have not been needed since the call
/// before the last; to be called about once a second.
///
/// # Panics
/// Outside of [`run`].
pub fn trim() {
    core::with(core::Core::trim);
}

/// What this worker's runtime has done so far, and holds now.
///
/// # Panics
/// Outside of [`run`].
pub fn counters() -> Counters {
    core::with(core::Core::counters)
}
