//! Waiting with a deadline, and with something going on beside.

use crate::rt::Deadline;
use crate::worker::Worker;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

/// The deadline passed before the future was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

/// Why something was not waited for to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted<S> {
    /// The deadline passed.
    Elapsed,
    /// What went on beside it ended, with this.
    Side(S),
}

/// Waits for `future` until `deadline`.
pub async fn until<T>(deadline: &Deadline, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        deadline.poll_expired(cx).map(|()| Err(Elapsed))
    })
    .await
}

/// Waits for `main` until `deadline`, while `side` goes on beside it; `side` may be taken up again
/// afterwards. Both are pinned by the caller, so that futures of this size are not moved.
pub fn alongside<T, S: Future>(
    deadline: &Deadline,
    mut side: Pin<&mut S>,
    mut main: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Result<T, Interrupted<S::Output>>> {
    poll_fn(move |cx| poll_alongside(deadline, side.as_mut(), main.as_mut(), cx))
}

/// As [`alongside`], once.
pub fn poll_alongside<T, S: Future>(
    deadline: &Deadline,
    side: Pin<&mut S>,
    main: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<Result<T, Interrupted<S::Output>>> {
    if let Poll::Ready(value) = main.poll(cx) {
        return Poll::Ready(Ok(value));
    }
    if let Poll::Ready(outcome) = side.poll(cx) {
        return Poll::Ready(Err(Interrupted::Side(outcome)));
    }
    let expired = deadline.poll_expired(cx);
    expired.map(|()| Err(Interrupted::Elapsed))
}

/// Waits for `future`; `None` when the worker ends before it. Pinned by the caller, so that a future
/// of this size is not moved.
pub fn unless_ending<T>(
    worker: &Worker,
    mut future: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Option<T>> {
    poll_fn(move |cx| match worker.is_ending() {
        true => Poll::Ready(None),
        false => future.as_mut().poll(cx).map(Some),
    })
}

/// The outcome of `future` if it is there already.
pub async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut future = Pin::new(future);
    poll_fn(|cx| {
        Poll::Ready(match future.as_mut().poll(cx) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        })
    })
    .await
}
