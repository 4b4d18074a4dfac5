//! Waiting with a deadline, and with something going on beside.

use crate::rt::Deadline;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

/// The deadline passed before the future was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Elapsed;

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

/// Waits for `main` while `side` goes on beside it; `side` may be taken up again afterwards. Should
/// `side` end first, its outcome is the error and `main` is given up.
pub async fn alongside<T, S: Future>(
    side: Pin<&mut S>,
    main: impl Future<Output = T>,
) -> Result<T, S::Output> {
    let mut side = side;
    let mut main = pin!(main);
    poll_fn(|cx| {
        if let Poll::Ready(value) = main.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        side.as_mut().poll(cx).map(Err)
    })
    .await
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
