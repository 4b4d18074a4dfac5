//! One try of a request on one endpoint.

use super::answer::Answer;
use super::body::Body;
use super::connection::Connection;
use super::deadline::{Interrupted, alongside};
use super::edits::EditLevels;
use super::fault::{Injected, inject};
use super::mirror::Mirrors;
use super::record::Record;
use super::replay::Replay;
use super::retries::{Retries, client_gone};
use super::seen_head::SeenHead;
use super::target::Plan;
use super::timeouts::Timeouts;
use super::tunnel::carry_upgraded;
use super::upstream::{Carrier, ConnectError, Endpoint, UpstreamConnection};
use super::upstream_exchange::{Sent, Upgraded, exchange_on};
use crate::stats::ClusterStats;
use crate::worker::{Rules, Worker, WorkerLimits};
use ringroad_codec::http1::{BodyError, BodyFraming, ResponseHead, Upgrade};
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::{FaultSide, TryFailure};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

/// A request that has been routed: what all its tries share.
pub struct RoutedRequest<'a> {
    pub worker: &'a Rc<Worker>,
    pub limits: &'a WorkerLimits,
    pub rules: &'a Rules,
    pub seen: &'a SeenHead<'a>,
    pub is_grpc: bool,
    pub started: Instant,
    pub plan: &'a Plan<'a>,
    pub response_edits: EditLevels<'a>,
    pub timeouts: Timeouts,
}

/// The request's body on its way upstream.
pub struct RequestBody<'a> {
    pub body: Body<'a>,
    pub replay: &'a mut Replay,
    /// Whether the client was told to send it.
    pub is_asked_for: bool,
    /// Copies that wait for its end.
    pub mirrors: Option<Box<Mirrors>>,
}

impl RequestBody<'_> {
    /// Whether the request can be sent once more, from its first byte.
    pub fn can_repeat(&self) -> bool {
        self.replay.is_whole()
    }
}

/// How the client's side can end a request before its answer is whole.
pub enum ClientFailure {
    Gone,
    /// It has not gone on with its body for too long.
    Stalled,
    /// It has taken nothing of its answer for too long.
    TakesNothing,
    Framing(BodyError),
}

/// What became of a try.
pub enum Outcome {
    /// The answer went downstream, whole.
    Answered,
    /// The request is to be tried again, after a pause.
    Repeat,
    /// Nothing has gone downstream yet: the proxy answers.
    Unanswered(Box<Answer>),
    /// The client ended or broke its side.
    Client(ClientFailure),
    /// The answer broke off after its head had gone downstream, which is recorded; `ended_by_close`
    /// says that a mere close would make it look whole.
    BrokenOff { ended_by_close: bool },
}

/// Sends the request to `endpoint` and passes the response on, unless it is to be tried again.
pub async fn attempt(
    request: &RoutedRequest<'_>,
    endpoint: &Rc<Endpoint>,
    connection: &mut Connection,
    body: &mut RequestBody<'_>,
    retries: &mut Retries<'_>,
    record: &mut Record<'_>,
    response_head: &mut ResponseHead,
) -> Outcome {
    let cluster = &request.plan.cluster;
    let stats: &ClusterStats = &cluster.stats;
    request.timeouts.try_begins(&connection.deadline);

    let upstream_fault = request.plan.route.fault.as_ref();
    if let Some(fault) = upstream_fault.filter(|fault| fault.side == FaultSide::Upstream) {
        match inject(fault, request.worker, connection, record).await {
            Injected::Nothing => {}
            Injected::ClientGone => return Outcome::Client(ClientFailure::Gone),
            Injected::TimedOut => return request.timed_out(retries, body, record),
            Injected::Abort(answer) => {
                return match retries.repeats_status(answer.status, body.can_repeat(), record) {
                    true => Outcome::Repeat,
                    false => Outcome::Unanswered(Box::new(answer)),
                };
            }
        }
    }

    // A reused connection may turn out dead: then the request goes out again on a fresh one, once
    // for all its tries, if that cannot double it.
    let mut may_reuse = true;
    let is_upgrade = request.seen.head.upgrade == Upgrade::WebSocket;
    let carrier = cluster.carrier(connection.stream.is_http2(), is_upgrade);
    loop {
        let connected = request.connected(may_reuse, endpoint, carrier, connection);
        let upstream = match connected.await {
            Ok(Ok(upstream)) => upstream,
            // Another try would meet the same limit.
            Ok(Err(ConnectError::Overflow)) => {
                return Outcome::Unanswered(Box::new(Answer::overflow()));
            }
            Ok(Err(error)) => {
                let answer = Answer::connect_failed(error);
                return request.failed(TryFailure::NoConnection, answer, retries, body, record);
            }
            Err(Interrupted::Side(())) => return Outcome::Client(ClientFailure::Gone),
            Err(Interrupted::Elapsed) => return request.timed_out(retries, body, record),
        };
        stats.upstream_rq_total.add(1);
        record.sent_on(&upstream.stream);
        let sent = exchange_on(
            request,
            &upstream,
            connection,
            body,
            retries,
            record,
            response_head,
        )
        .await;
        match sent {
            Sent::Answered { upstream_goes_on } => {
                upstream.leave(upstream_goes_on);
                return Outcome::Answered;
            }
            Sent::Upgraded(upgraded) => {
                let Upgraded { head, first } = *upgraded;
                // Boxed: requests without an upgrade keep no room for it.
                Box::pin(carry_upgraded(
                    request, connection, &upstream, head, first, record,
                ))
                .await;
                record.keep_alive = false;
                upstream.close();
                return Outcome::Answered;
            }
            Sent::Repeat { upstream_goes_on } => {
                upstream.leave(upstream_goes_on);
                return Outcome::Repeat;
            }
            Sent::NoResponse { nothing_sent } => {
                let was_reused = upstream.reused;
                upstream.close();
                let method = request.seen.method();
                let has_no_body = request.seen.head.framing == BodyFraming::None;
                let is_safe = matches!(method, b"GET" | b"HEAD") && has_no_body;
                let may_repeat = (is_safe || nothing_sent) && body.can_repeat();
                let settings = &request.rules.view.snapshot.settings;
                let may_replay = may_repeat && settings.replay_on_dead_connection;
                if was_reused && may_replay && retries.take_replay() {
                    may_reuse = false;
                    continue;
                }
                cluster.report(endpoint, TryOutcome::Reset);
                let failure = TryFailure::Reset {
                    request_began: !nothing_sent,
                };
                let answer = Answer::upstream_closed();
                return request.failed(failure, answer, retries, body, record);
            }
            Sent::LeftBehind => {
                upstream.close();
                let settings = &request.rules.view.snapshot.settings;
                let may_replay = body.can_repeat() && settings.replay_on_dead_connection;
                if may_replay && retries.take_replay() {
                    may_reuse = false;
                    continue;
                }
                cluster.report(endpoint, TryOutcome::Reset);
                let answer = Answer::upstream_refused();
                return request.failed(TryFailure::Refused, answer, retries, body, record);
            }
            Sent::Failed(failure, answer) => {
                note_reset(&upstream);
                upstream.close();
                return request.failed(failure, *answer, retries, body, record);
            }
            Sent::Over(outcome) => {
                note_reset(&upstream);
                upstream.close();
                return outcome;
            }
        }
    }
}

/// A stream of HTTP/2 that its upstream has not ended is reset. What is HTTP/1.1 knows no resets: the
/// connection is closed.
fn note_reset(upstream: &UpstreamConnection) {
    let stream = &upstream.stream;
    if stream.is_http2() && stream.stream_failure().is_none() {
        upstream.endpoint.cluster_stats.upstream_rq_tx_reset.add(1);
    }
}

impl RoutedRequest<'_> {
    /// A connection to `endpoint`: one that waits in the pool, where it may be such a one, else a fresh
    /// one. Opening it ends when the time or the client does.
    async fn connected(
        &self,
        may_reuse: bool,
        endpoint: &Rc<Endpoint>,
        carrier: Carrier,
        client: &Connection,
    ) -> Result<Result<UpstreamConnection, ConnectError>, Interrupted<()>> {
        let cluster = &self.plan.cluster;
        if may_reuse && let Some(pooled) = cluster.checkout(self.worker, endpoint, carrier) {
            return Ok(pooled);
        }
        let gone = pin!(client_gone(&client.stream));
        let fresh = cluster.connect_for(self.worker, endpoint, carrier, Some(client));
        alongside(&client.deadline, gone, pin!(fresh)).await
    }

    /// A try without a response: another one, or the answer.
    fn failed(
        &self,
        failure: TryFailure,
        answer: Answer,
        retries: &mut Retries<'_>,
        body: &RequestBody<'_>,
        record: &mut Record<'_>,
    ) -> Outcome {
        match retries.repeats_failure(failure, body.can_repeat(), record) {
            true => Outcome::Repeat,
            false => Outcome::Unanswered(Box::new(answer)),
        }
    }

    /// The deadline of the try or of the whole request has passed.
    fn timed_out(
        &self,
        retries: &mut Retries<'_>,
        body: &RequestBody<'_>,
        record: &mut Record<'_>,
    ) -> Outcome {
        let status = self.plan.timeout_status();
        if self.timeouts.request_is_over() {
            return Outcome::Unanswered(Box::new(Answer::upstream_timeout(status)));
        }
        let stats = &self.plan.cluster.stats;
        stats.upstream_rq_per_try_timeout.add(1);
        let answer = Answer::per_try_timeout(status);
        self.failed(TryFailure::TimedOut, answer, retries, body, record)
    }
}
