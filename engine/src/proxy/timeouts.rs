//! The time limits of a request and of each of its tries.

use super::connection::deadline_after;
use super::deadline::{Interrupted, poll_alongside};
use super::send_stall::SendStall;
use crate::rt::{self, Deadline};
use crate::transport::Transport;
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Poll, ready};
use std::time::Instant;

/// How long a request may take. The clocks start when the client has sent all of it.
pub struct Timeouts {
    /// Over all tries and the waiting between them; 0 is no limit.
    pub request_ms: u64,
    /// Until the response head of one try; 0 is no limit.
    pub per_try_ms: u64,
    /// How long the client may pause within its body; 0 is no limit.
    pub body_idle_ms: u64,
    complete_at: Cell<Option<Instant>>,
    try_began_at: Cell<Option<Instant>>,
    /// How long the client may take nothing of its answer.
    send_stall: SendStall,
}

impl Timeouts {
    /// Each is 0 for no limit.
    pub fn new(request_ms: u64, per_try_ms: u64, body_idle_ms: u64, send_stall_ms: u64) -> Self {
        Self {
            request_ms,
            per_try_ms,
            body_idle_ms,
            complete_at: Cell::new(None),
            try_began_at: Cell::new(None),
            send_stall: SendStall::new(send_stall_ms),
        }
    }

    /// What the upstream of the `attempt`th try is told that it has: milliseconds, if there is a
    /// limit. A try never has longer than what earlier ones have left of the whole.
    pub fn expected_ms(&self, attempt: u32) -> Option<u64> {
        let elapsed_ms = match attempt {
            0 | 1 => 0,
            _ => rt::now()
                .saturating_duration_since(self.complete_at())
                .as_millis() as u64,
        };
        let left_ms = self.request_ms.saturating_sub(elapsed_ms);
        match (self.request_ms, self.per_try_ms) {
            (0, 0) => None,
            (0, per_try) => Some(per_try),
            (_, 0) => Some(left_ms),
            (_, per_try) => Some(per_try.min(left_ms)),
        }
    }

    /// The client has sent all.
    pub fn request_complete(&self, deadline: &Deadline) {
        self.complete_at.set(Some(rt::now()));
        self.arm(deadline);
    }

    /// The client pauses within its body. Once a response has begun it may do so for as long as it
    /// likes: the two may be talking in turns.
    pub fn body_pauses(&self, deadline: &Deadline) {
        if self.is_awaiting_body() && self.try_began_at.get().is_some() {
            deadline.set(deadline_after(rt::now(), self.body_idle_ms));
        }
    }

    /// It goes on.
    pub fn body_goes_on(&self, deadline: &Deadline) {
        if self.is_awaiting_body() {
            self.arm(deadline);
        }
    }

    /// Whether the client has not sent all yet: no other clock runs until then.
    pub fn is_awaiting_body(&self) -> bool {
        self.complete_at.get().is_none()
    }

    /// When the request was complete, or now.
    pub fn complete_at(&self) -> Instant {
        self.complete_at.get().unwrap_or_else(rt::now)
    }

    pub fn try_begins(&self, deadline: &Deadline) {
        self.try_began_at.set(Some(rt::now()));
        self.arm(deadline);
    }

    /// Its response has begun, or the try has failed: only the limit of the whole request is left.
    pub fn try_ended(&self, deadline: &Deadline) {
        self.try_began_at.set(None);
        self.arm(deadline);
    }

    /// The client has to take what was sent before more is.
    pub fn client_takes(&self, deadline: &Deadline) {
        self.send_stall.begins();
        self.arm(deadline);
    }

    /// It has.
    pub fn client_has_taken(&self, deadline: &Deadline) {
        self.send_stall.ends();
        self.arm(deadline);
    }

    /// Waits until `main` has handed the answer to `client`, with `side` beside it. It has elapsed
    /// when the request has, or when the client takes nothing for too long.
    pub fn delivered<T, S: Future>(
        &self,
        client: &Transport,
        deadline: &Deadline,
        mut side: Pin<&mut S>,
        mut main: Pin<&mut impl Future<Output = T>>,
    ) -> impl Future<Output = Result<T, Interrupted<S::Output>>> {
        poll_fn(move |cx| {
            loop {
                let ended = ready!(poll_alongside(deadline, side.as_mut(), main.as_mut(), cx));
                let has_elapsed = matches!(ended, Err(Interrupted::Elapsed));
                if !has_elapsed || self.request_is_over() || self.send_stall.is_over(client) {
                    return Poll::Ready(ended);
                }
                self.arm(deadline);
            }
        })
    }

    /// Whether the whole request has taken too long.
    pub fn request_is_over(&self) -> bool {
        self.request_ends_at().is_some_and(|at| at <= rt::now())
    }

    fn request_ends_at(&self) -> Option<Instant> {
        deadline_after(self.complete_at.get()?, self.request_ms)
    }

    fn arm(&self, deadline: &Deadline) {
        let stall_ends_at = self.send_stall.ends_at();
        if self.request_ms == 0 && self.per_try_ms == 0 {
            deadline.set(stall_ends_at);
            return;
        }
        let complete_at = self.complete_at.get();
        let try_ends_at = complete_at
            .zip(self.try_began_at.get())
            .and_then(|(complete, began)| deadline_after(complete.max(began), self.per_try_ms));
        let ends = [self.request_ends_at(), try_ends_at, stall_ends_at];
        deadline.set(ends.into_iter().flatten().min());
    }
}

/// The limit of a gRPC request: the caller's, but never above the route's.
pub fn shorter_limit_ms(route_ms: u64, caller_ms: u64) -> u64 {
    match (route_ms, caller_ms) {
        (0, caller) => caller,
        (route, 0) => route,
        (route, caller) => route.min(caller),
    }
}
