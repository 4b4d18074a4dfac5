//! A flag that any thread raises and one task waits for.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};

#[derive(Default)]
struct Shared {
    raised: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

/// Raises the flag; may be cloned and sent to any thread, and outlive the runtime.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

/// Waits for the flag.
pub struct Notified(Arc<Shared>);

/// A connected pair.
pub fn notification() -> (Notifier, Notified) {
    let shared = Arc::<Shared>::default();
    (Notifier(shared.clone()), Notified(shared))
}

impl Notifier {
    /// Raises the flag. Raising it several times before the task waits wakes it once.
    pub fn notify(&self) {
        if self.0.raised.swap(true, Ordering::SeqCst) {
            return;
        }
        let waiter = self
            .0
            .waiter
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(waker) = waiter {
            waker.wake();
        }
    }
}

impl Notified {
    /// Ends when the flag is raised, and lowers it. Cancel-safe: a raised flag stays raised until
    /// a wait has returned.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.0.raised.swap(false, Ordering::SeqCst) {
                return Poll::Ready(());
            }
            let waker = context.waker().clone();
            *self.0.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
            // Raised between the look and the registration: nobody would wake us.
            if self.0.raised.swap(false, Ordering::SeqCst) {
                return Poll::Ready(());
            }
            Poll::Pending
        })
        .await;
    }
}
