//! One try of a request on one endpoint.

use super::accept::ChosenChain;
use super::answer::Answer;
use super::body::{Body, BodyFailure, ByteCount, Download, SourceFailure};
use super::client_side::ClientSide;
use super::connection::Connection;
use super::deadline::{Interrupted, alongside, poll_once};
use super::edits::EditLevels;
use super::fault::{Injected, inject};
use super::format::{Client, Response};
use super::grpc;
use super::head_bytes::{ResponseHeadFailure, receive_response_head};
use super::mirror::Mirrors;
use super::record::Record;
use super::replay::Replay;
use super::request_id::RequestId;
use super::response_head::{Delivery, DownstreamHead, write_interim};
use super::retries::{Retries, client_gone};
use super::stream_end::{malformed_response, stream_broke_off, stream_failed};
use super::target::Plan;
use super::timeouts::Timeouts;
use super::tunnel::carry_upgraded;
use super::upstream::{ClusterView, ConnectError, Endpoint, UpstreamConnection};
use crate::http2::websocket::is_accepted;
use crate::rt::{Buffer, Chunk};
use crate::stats::{ClusterStats, ResponseFlags};
use crate::worker::{Rules, Worker, WorkerLimits};
use ringroad_codec::http1::{BodyError, BodyFraming, RequestHead, ResponseHead, Upgrade, Version};
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::{FaultSide, TryFailure};
use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

/// A request that has been routed: what all its tries share.
pub struct RoutedRequest<'a> {
    pub worker: &'a Rc<Worker>,
    pub limits: &'a WorkerLimits,
    pub rules: &'a Rules,
    /// How it was chosen what the connection carries, if that had to be.
    pub chain: Option<&'a ChosenChain>,
    pub head: &'a RequestHead,
    /// The bytes that `head` was parsed from.
    pub bytes: &'a [u8],
    pub request_id: &'a RequestId,
    pub is_grpc: bool,
    /// What the client speaks: `http` or `https`.
    pub scheme: &'static str,
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
    pub mirrors: Mirrors,
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
    Unanswered(Answer),
    /// The client ended or broke its side.
    Client(ClientFailure),
    /// The answer broke off after its head had gone downstream; `ended_by_close` says that a mere
    /// close would make it look whole.
    BrokenOff {
        flags: ResponseFlags,
        details: &'static str,
        ended_by_close: bool,
    },
}

/// What became of the request on one connection.
pub(super) enum Sent {
    Answered {
        upstream_goes_on: bool,
    },
    /// Both sides have agreed to another protocol: the head that tells the client, and what the
    /// upstream has sent behind it.
    Upgraded {
        head: Buffer,
        first: Chunk,
    },
    Repeat {
        upstream_goes_on: bool,
    },
    /// No response: what that means for a retry, and the answer if there is none.
    Failed(TryFailure, Answer),
    /// The upstream connection ended before any byte of a response.
    NoResponse {
        nothing_sent: bool,
    },
    /// It has taken its leave without beginning with the request.
    LeftBehind,
    /// That was it, whatever the retry policy; neither is the connection good for more.
    Over(Outcome),
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
                    false => Outcome::Unanswered(answer),
                };
            }
        }
    }

    // A reused connection may turn out dead: then the request goes out again on a fresh one, once
    // for all its tries, if that cannot double it.
    let mut may_reuse = true;
    let is_upgrade = request.head.upgrade == Upgrade::WebSocket;
    let carrier = cluster.carrier(connection.stream.is_http2(), is_upgrade);
    loop {
        let pooled = may_reuse
            .then(|| cluster.checkout(request.worker, endpoint, carrier))
            .flatten();
        let connected = match pooled {
            Some(pooled) => pooled,
            None => {
                let gone = pin!(client_gone(&connection.stream));
                let connected =
                    cluster.connect_for(request.worker, endpoint, carrier, Some(&*connection));
                match alongside(&connection.deadline, gone, pin!(connected)).await {
                    Ok(connected) => connected,
                    Err(Interrupted::Side(())) => return Outcome::Client(ClientFailure::Gone),
                    Err(Interrupted::Elapsed) => return request.timed_out(retries, body, record),
                }
            }
        };
        let upstream = match connected {
            Ok(upstream) => upstream,
            // Another try would meet the same limit.
            Err(ConnectError::Overflow) => return Outcome::Unanswered(Answer::overflow()),
            Err(error) => {
                let answer = Answer::connect_failed(error);
                return request.failed(TryFailure::NoConnection, answer, retries, body, record);
            }
        };
        stats.upstream_rq_total.add(1);
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
            Sent::Upgraded { head, first } => {
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
                let method = request.head.method.of(request.bytes);
                let is_safe = matches!(method, b"GET" | b"HEAD") && body.body.complete;
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
                upstream.close();
                return request.failed(failure, answer, retries, body, record);
            }
            Sent::Over(outcome) => {
                upstream.close();
                if let Outcome::Client(_) = outcome {
                    stats.upstream_rq_tx_reset.add(1);
                }
                return outcome;
            }
        }
    }
}

/// Sends the request on one connection, and its response downstream.
async fn exchange_on(
    request: &RoutedRequest<'_>,
    upstream: &UpstreamConnection,
    connection: &mut Connection,
    body: &mut RequestBody<'_>,
    retries: &mut Retries<'_>,
    record: &mut Record<'_>,
    response_head: &mut ResponseHead,
) -> Sent {
    let cluster: &ClusterView = &request.plan.cluster;
    let stats: &ClusterStats = &cluster.stats;
    let head = request.head;
    let endpoint = &upstream.endpoint;
    let to_head_request = head.method.of(request.bytes) == b"HEAD";

    // The request: head and the first bytes of the body in one send. The rest of the body follows
    // while the response is awaited. The send is watched only if need be: what matters is what
    // comes back.
    let client = Client {
        peer: connection.peer,
        stream: &connection.stream,
        number: connection.number,
        facts: connection.facts.get().map(|facts| &**facts),
    };
    let format = request.format(client, endpoint.socket_address());
    let mut out = Buffer::lease();
    request.write_head(&format, retries.number(), &mut out);
    let piece = body.replay.first();
    let must_continue =
        head.expect_continue && !body.body.complete && piece.is_empty() && !body.is_asked_for;
    let sent_bytes = (out.len() + piece.len()) as u64;
    stats.upstream_cx_tx_bytes_total.add(sent_bytes);
    let mut sending = upstream.stream.send(out, piece);
    let uploaded = Cell::new(body.body.complete && body.replay.len() <= 1);
    let can_repeat = Cell::new(body.can_repeat());
    let client_side = ClientSide {
        stream: &connection.stream,
        unread: &mut connection.unread,
        body,
        upstream: &upstream.stream,
        must_continue,
        uploaded: &uploaded,
        can_repeat: &can_repeat,
        deadline: &connection.deadline,
        request,
    };
    let mut client_side = pin!(client_side.serve());

    // The response head; interim responses go straight on.
    let mut unread = Chunk::default();
    let mut interim_responses = 0;
    let response_bytes = loop {
        let received = {
            let head = pin!(receive_response_head(
                &upstream.stream,
                &mut unread,
                endpoint.expects_bulk.get() && !connection.stream.shares_a_connection(),
                &request.limits.head,
                to_head_request,
                response_head,
            ));
            alongside(&connection.deadline, client_side.as_mut(), head).await
        };
        let response_bytes = match received {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(ResponseHeadFailure::Malformed)) => {
                return malformed_response(cluster, endpoint);
            }
            Ok(Err(failure)) => {
                if let Some(failure) = upstream.stream.stream_failure() {
                    return stream_failed(cluster, endpoint, failure);
                }
                stats.upstream_cx_destroy_remote_with_active_rq.add(1);
                if failure.after_bytes() {
                    return malformed_response(cluster, endpoint);
                }
                let nothing_sent = matches!(poll_once(&mut sending).await, Some(Err(_)));
                return Sent::NoResponse { nothing_sent };
            }
            Err(Interrupted::Side(failure)) => return Sent::Over(Outcome::Client(failure)),
            Err(Interrupted::Elapsed) if request.timeouts.is_awaiting_body() => {
                return Sent::Over(Outcome::Client(ClientFailure::Stalled));
            }
            Err(Interrupted::Elapsed) => {
                cluster.report(endpoint, TryOutcome::Timeout);
                if request.timeouts.request_is_over() {
                    return Sent::Over(Outcome::Unanswered(Answer::upstream_timeout()));
                }
                stats.upstream_rq_per_try_timeout.add(1);
                return Sent::Failed(TryFailure::TimedOut, Answer::per_try_timeout());
            }
        };
        if !response_head.is_interim() {
            break response_bytes;
        }
        stats.responses.add(response_head.status);
        interim_responses += 1;
        if interim_responses > request.limits.settings.max_interim_responses {
            return malformed_response(cluster, endpoint);
        }
        if response_head.status != 100 && head.version == Version::Http11 {
            connection.listener.stats.downstream_rq_1xx.add(1);
            let mut out = Buffer::lease();
            write_interim(response_head, &response_bytes, &mut out);
            // An interim response that cannot be sent shows with the final one.
            connection.stream.send_detached(out, Chunk::default());
        }
    };
    let is_upgraded = response_head.status == 101;
    let is_agreed = head.upgrade == Upgrade::WebSocket && response_head.upgrade == head.upgrade;
    let is_proven = || {
        // Other clients look for themselves.
        let asked = head.headers(request.bytes);
        !connection.stream.is_http2()
            || is_accepted(&asked, &response_head.headers(&response_bytes))
    };
    let is_agreed = is_agreed && (!is_upgraded || is_proven());
    if is_upgraded && !is_agreed {
        // Nobody has asked for this.
        return malformed_response(cluster, endpoint);
    }
    cluster.report(endpoint, request.outcome_of(response_head, &response_bytes));
    request.timeouts.try_ended(&connection.deadline);
    let received = ByteCount::default();
    let mut response_body = Body::new(response_head.framing, &request.limits.body, &received);
    if request.is_grpc {
        response_body.count_messages();
    }
    if retries.repeats_response(response_head, &response_bytes, can_repeat.get(), record) {
        let is_whole = response_body.take(&mut unread).is_ok() && response_body.complete;
        let request_is_out =
            uploaded.get() && matches!(poll_once(&mut sending).await, Some(Ok(())));
        let upstream_goes_on =
            response_head.keep_alive && is_whole && request_is_out && unread.is_empty();
        return Sent::Repeat { upstream_goes_on };
    }

    // The response: its head and the first bytes of its body in one send.
    record.response_started(response_head.status, request.timeouts.complete_at());
    endpoint.expects_bulk.set(response_body.is_bulk());
    let delivery = Delivery::choose(response_head.framing, head.version);
    let Ok(first) = response_body.take_first(&mut unread, delivery) else {
        return malformed_response(cluster, endpoint);
    };
    let ends_by_close =
        response_head.framing == BodyFraming::UntilClose && delivery != Delivery::Chunked;
    record.keep_alive = head.keep_alive
        && uploaded.get()
        && delivery != Delivery::Dechunked
        && !ends_by_close
        && !request.worker.is_draining()
        && !request.rules.is_removed();
    let headers = response_head.headers(&response_bytes);
    let (flags, details) = record.told();
    let response = Response {
        headers: Some(headers),
        code: response_head.status,
        flags,
        details,
        received: record.bytes_received(),
    };
    let format = format.answered(response, retries.number());
    let mut out = Buffer::lease();
    DownstreamHead {
        head: response_head,
        bytes: &response_bytes,
        delivery,
        client_version: head.version,
        keep_alive: record.keep_alive,
        direction: record.direction,
        upstream_service_time_ms: record.upstream_service_time_ms(),
        edits: &request.response_edits,
        made_cookie: request.plan.made_cookie(),
        format: &format,
    }
    .write(request.worker, &mut out);
    record.set_response_head_bytes(out.len());
    if is_upgraded {
        return Sent::Upgraded {
            head: out,
            first: unread,
        };
    }
    let delivered = {
        let download = Download {
            body: &mut response_body,
            source: &upstream.stream,
            unread: &mut unread,
            sink: &connection.stream,
            delivery,
            sent: &record.sent,
            timeouts: &request.timeouts,
            deadline: &connection.deadline,
        };
        let download = pin!(download.run(out, first));
        let (client, deadline) = (&connection.stream, &connection.deadline);
        let timeouts = &request.timeouts;
        timeouts
            .delivered(client, deadline, client_side, download)
            .await
    };
    let (flags, details) = match delivered {
        Ok(Ok(())) => {
            if request.is_grpc {
                record.grpc_answered(&headers, &response_body);
            }
            if !unread.is_empty() {
                stats.upstream_cx_protocol_error.add(1);
            }
            let request_is_out =
                uploaded.get() && matches!(poll_once(&mut sending).await, Some(Ok(())));
            return Sent::Answered {
                upstream_goes_on: response_head.keep_alive && request_is_out && unread.is_empty(),
            };
        }
        Ok(Err(BodyFailure::Sink)) => {
            return Sent::Over(Outcome::Client(ClientFailure::Gone));
        }
        Ok(Err(BodyFailure::Source(failure))) => {
            cluster.report(endpoint, TryOutcome::Reset);
            match failure {
                SourceFailure::Framing(_) => stats.upstream_cx_protocol_error.add(1),
                _ => stats.upstream_cx_destroy_remote_with_active_rq.add(1),
            }
            match upstream.stream.stream_failure() {
                Some(failure) => stream_broke_off(stats, failure),
                None => failure.of_an_upstream(),
            }
        }
        Err(Interrupted::Side(failure)) => return Sent::Over(Outcome::Client(failure)),
        Err(Interrupted::Elapsed) if request.timeouts.request_is_over() => {
            let flags = ResponseFlags::UPSTREAM_REQUEST_TIMEOUT;
            (flags, "response_timeout")
        }
        Err(Interrupted::Elapsed) => {
            return Sent::Over(Outcome::Client(ClientFailure::TakesNothing));
        }
    };
    Sent::Over(Outcome::BrokenOff {
        flags,
        details,
        ended_by_close: response_head.framing == BodyFraming::UntilClose
            || head.version == Version::Http10,
    })
}

impl<'a> RoutedRequest<'a> {
    /// What outlier detection is told of a response.
    fn outcome_of(&self, head: &ResponseHead, bytes: &[u8]) -> TryOutcome {
        let is_judged = self.plan.cluster.cluster.outlier_detection.is_some();
        TryOutcome::Response {
            status: head.status,
            grpc_status: match self.is_grpc && is_judged {
                true => grpc::status(&head.headers(bytes)),
                false => None,
            },
        }
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
            false => Outcome::Unanswered(answer),
        }
    }

    /// The deadline of the try or of the whole request has passed.
    fn timed_out(
        &self,
        retries: &mut Retries<'_>,
        body: &RequestBody<'_>,
        record: &mut Record<'_>,
    ) -> Outcome {
        if self.timeouts.request_is_over() {
            return Outcome::Unanswered(Answer::upstream_timeout());
        }
        let stats = &self.plan.cluster.stats;
        stats.upstream_rq_per_try_timeout.add(1);
        let answer = Answer::per_try_timeout();
        self.failed(TryFailure::TimedOut, answer, retries, body, record)
    }
}
