//! Whether a request is tried again, and what is counted for it. Names are Envoy's.

use super::connection::Connection;
use super::deadline::{Interrupted, alongside};
use super::grpc;
use super::record::Record;
use super::timeouts::Timeouts;
use super::upstream::ClusterView;
use crate::health::RetryPermit;
use crate::rt::{self, Idle};
use crate::stats::ResponseFlags;
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_codec::http1::{Headers, ResponseHead};
use ringroad_policy::snapshot::{
    PickRequest, RetryConditions, RetryPolicy, TryFailure, TryResponse,
};
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// The tries of one request.
pub struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    cluster: &'a ClusterView,
    /// Tries begun.
    tries: u32,
    /// Endpoints that were tried, for policies that go by them.
    tried: &'a mut Vec<usize>,
    /// Held from the decision to try again until the next decision.
    permit: Option<RetryPermit>,
    /// Whether the request was sent anew because a reused connection was dead, or never may be.
    is_replayed: bool,
}

/// How a wait between two tries ended.
pub enum Pause {
    Over,
    ClientGone,
    /// The time limit of the request has passed.
    TimedOut,
}

impl<'a> Retries<'a> {
    /// `tried` is working memory.
    pub fn new(
        policy: Option<&'a RetryPolicy>,
        cluster: &'a ClusterView,
        tried: &'a mut Vec<usize>,
    ) -> Self {
        tried.clear();
        Self {
            policy,
            cluster,
            tries: 0,
            tried,
            permit: None,
            is_replayed: false,
        }
    }

    /// Whether the request may be sent anew within its try, on a fresh connection in place of a
    /// dead one. True once for a request: what dies after that is for the policy to judge.
    pub fn take_replay(&mut self) -> bool {
        let is_first = !self.is_replayed;
        self.is_replayed = true;
        if is_first {
            self.cluster.stats.upstream_rq_replayed.add(1);
        }
        is_first
    }

    /// An interim response says that the upstream has begun with the request: it is not sent again,
    /// whatever becomes of it.
    #[cold]
    pub fn end(&mut self) {
        self.policy = None;
        self.is_replayed = true;
    }

    /// What the next try wants of its endpoint; `hash` is the request's.
    pub fn next_pick(&self, hash: Option<u64>) -> PickRequest<'_> {
        PickRequest {
            tried: self.tried,
            avoids_tried: self.policy.is_some_and(|policy| policy.exclude_tried),
            prefers_other_priorities: self
                .policy
                .is_some_and(|policy| policy.retry_remote_localities),
            hash,
            now_ms: 0,
        }
    }

    /// The number of the present try, from 1.
    pub fn number(&self) -> u32 {
        self.tries
    }

    /// A try on the endpoint at `index` begins.
    pub fn begin(&mut self, index: usize) {
        self.tries += 1;
        let goes_by_tries =
            |policy: &RetryPolicy| policy.exclude_tried || policy.retry_remote_localities;
        if self.policy.is_some_and(goes_by_tries) {
            self.tried.push(index);
        }
    }

    /// Decides about a response whose head has come.
    pub fn repeats_response(
        &mut self,
        head: &ResponseHead,
        bytes: &[u8],
        can_repeat: bool,
        record: &mut Record<'_>,
    ) -> bool {
        let Some(policy) = self.policy else {
            return false;
        };
        let response = try_response(policy, head.status, &head.headers(bytes));
        self.decide_response(policy, &response, can_repeat, record)
    }

    /// Decides about a status that stands for a response.
    pub fn repeats_status(
        &mut self,
        status: u16,
        can_repeat: bool,
        record: &mut Record<'_>,
    ) -> bool {
        let Some(policy) = self.policy else {
            return false;
        };
        let response = TryResponse {
            status,
            ..TryResponse::default()
        };
        self.decide_response(policy, &response, can_repeat, record)
    }

    fn decide_response(
        &mut self,
        policy: &RetryPolicy,
        response: &TryResponse,
        can_repeat: bool,
        record: &mut Record<'_>,
    ) -> bool {
        let wanted = policy.repeats_response(response);
        let repeats = self.decide(policy, wanted, can_repeat, record);
        if repeats {
            self.cluster.stats.retried_responses.add(response.status);
        }
        repeats
    }

    /// Decides about a try that got no response.
    pub fn repeats_failure(
        &mut self,
        failure: TryFailure,
        can_repeat: bool,
        record: &mut Record<'_>,
    ) -> bool {
        let Some(policy) = self.policy else {
            return false;
        };
        let wanted = policy.repeats_failure(failure);
        self.decide(policy, wanted, can_repeat, record)
    }

    fn decide(
        &mut self,
        policy: &RetryPolicy,
        wanted: bool,
        can_repeat: bool,
        record: &mut Record<'_>,
    ) -> bool {
        let stats = &self.cluster.stats;
        self.permit = None;
        if !wanted {
            if self.tries > 1 {
                stats.upstream_rq_retry_success.add(1);
            }
            return false;
        }
        if !can_repeat {
            return false;
        }
        if self.tries > policy.attempts {
            stats.upstream_rq_retry_limit_exceeded.add(1);
            record.flag(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
            return false;
        }
        self.permit = self.cluster.admit_retry();
        if self.permit.is_none() {
            record.flag(ResponseFlags::UPSTREAM_OVERFLOW);
            return false;
        }
        stats.upstream_rq_retry.add(1);
        stats.upstream_rq_retry_backoff_exponential.add(1);
        true
    }

    /// Waits before the next try.
    pub async fn pause(
        &self,
        worker: &Worker,
        connection: &Connection,
        timeouts: &Timeouts,
    ) -> Pause {
        timeouts.try_ended(&connection.deadline);
        let backoff_us = self.policy.map_or(0, |policy| {
            policy.backoff_us(self.tries, &mut worker.random.borrow_mut())
        });
        let until_then = pin!(rt::sleep_until(
            rt::now() + Duration::from_micros(backoff_us)
        ));
        let gone = pin!(client_gone(&connection.stream));
        match alongside(&connection.deadline, gone, until_then).await {
            Ok(()) => Pause::Over,
            Err(Interrupted::Side(())) => Pause::ClientGone,
            Err(Interrupted::Elapsed) => Pause::TimedOut,
        }
    }
}

/// What a response says about being tried again.
fn try_response(policy: &RetryPolicy, status: u16, headers: &Headers<'_>) -> TryResponse {
    let grpc_status = grpc::status(headers);
    // An answer that nobody would repeat in any case need not be asked. That of a limit to a call of
    // gRPC has status 200.
    let is_failure = status >= 400 || grpc_status.is_some_and(|status| status != 0);
    let asks = is_failure || policy.conditions.has(RetryConditions::RATE_LIMITED);
    let mut names = policy.header_names.iter();
    TryResponse {
        status,
        grpc_status,
        is_rate_limited: asks && headers.first("x-envoy-ratelimited").is_some(),
        has_retriable_header: names.any(|name| headers.first(name).is_some()),
    }
}

/// How often it is looked at whether a client has left, where its socket tells of other things.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Ends when the client has closed its side, or broken it.
pub async fn client_gone(stream: &Transport) {
    poll_fn(|cx| stream.poll_ready(cx)).await;
    loop {
        // A pipelined request waits its turn, and hides from a socket's readiness what follows it.
        let mut look = pin!(rt::sleep_until(rt::now() + LOOK_INTERVAL));
        let is_closed = poll_fn(|cx| {
            if stream.poll_ready(cx).is_ready() && stream.peek_state() == Idle::Closed {
                return Poll::Ready(true);
            }
            look.as_mut().poll(cx).map(|()| false)
        });
        if is_closed.await || stream.is_left() {
            return;
        }
    }
}
