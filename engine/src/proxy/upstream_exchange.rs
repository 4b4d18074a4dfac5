//! A request and its response on one upstream connection.

use super::answer::Answer;
use super::attempt::{ClientFailure, Outcome, RequestBody, RoutedRequest};
use super::body::{Body, BodyFailure, ByteCount, Download, SourceFailure};
use super::client_side::ClientSide;
use super::connection::Connection;
use super::deadline::{Interrupted, alongside, poll_once};
use super::format::{Client, OnDemand, RequestFormat, Response};
use super::grpc;
use super::receive_head::{ResponseHeadFailure, receive_response_head, take_head};
use super::record::Record;
use super::response_head::{Delivery, DownstreamHead, write_interim};
use super::retries::Retries;
use super::stream_end::{malformed_response, stream_broke_off, stream_failed};
use super::upstream::{ClusterView, UpstreamConnection};
use crate::http2::websocket::is_accepted;
use crate::rt::{Buffer, Chunk};
use crate::stats::{ClusterStats, ResponseFlags};
use ringroad_codec::http1::{BodyFraming, ResponseHead, Upgrade, Version};
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::TryFailure;
use std::cell::Cell;
use std::io;
use std::pin::pin;

/// What became of the request on one connection.
pub(super) enum Sent {
    Answered {
        upstream_goes_on: bool,
    },
    /// Both sides have agreed to another protocol.
    Upgraded(Box<Upgraded>),
    Repeat {
        upstream_goes_on: bool,
    },
    /// No response: what that means for a retry, and the answer if there is none.
    Failed(TryFailure, Box<Answer>),
    /// The upstream connection ended before any byte of a final response.
    NoResponse {
        nothing_sent: bool,
    },
    /// It has taken its leave without beginning with the request.
    LeftBehind,
    /// That was it, whatever the retry policy; neither is the connection good for more.
    Over(Outcome),
}

/// What tells the client that its upgrade is agreed.
pub(super) struct Upgraded {
    pub head: Buffer,
    /// What the upstream has sent behind its head.
    pub first: Chunk,
}

/// Sends the request on one connection, and its response downstream.
pub(super) async fn exchange_on(
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
    let head = request.seen.head;
    let endpoint = &upstream.endpoint;
    let to_head_request = request.seen.method() == b"HEAD";

    // The request: head and the first bytes of the body in one send. The rest of the body follows
    // while the response is awaited. The send is watched only if need be: what matters is what
    // comes back. What is needed only here is in a block of its own, so that the future has no room
    // for it: what a request needs in memory should stay in the nearest cache.
    let (mut sending, must_continue) = {
        let format = || request.format(connection.told(), endpoint.socket_address());
        let mut out = Buffer::lease();
        request.write_head(&OnDemand(&format), retries.number(), &mut out);
        let piece = body.replay.first();
        let must_continue =
            head.expect_continue && !body.body.complete && piece.is_empty() && !body.is_asked_for;
        let sent_bytes = (out.len() + piece.len()) as u64;
        stats.upstream_cx_tx_bytes_total.add(sent_bytes);
        (upstream.stream.send(out, piece), must_continue)
    };
    let uploaded = Cell::new(body.body.complete && body.replay.len() <= 1);
    let can_repeat = Cell::new(body.can_repeat());
    let mut client_side = ClientSide {
        stream: &connection.stream,
        unread: &mut connection.unread,
        body,
        upstream: &upstream.stream,
        must_continue,
        uploaded: &uploaded,
        can_repeat: &can_repeat,
        deadline: &connection.deadline,
        listener_stats: &connection.listener.stats,
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
            Ok(Ok(())) => take_head(&mut unread, response_head.head_len),
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
                let nothing_sent = match poll_once(&mut sending).await {
                    Some(Err(error)) => error.kind() != io::ErrorKind::WriteZero,
                    _ => false,
                };
                return Sent::NoResponse { nothing_sent };
            }
            Err(Interrupted::Side(failure)) => return Sent::Over(Outcome::Client(failure)),
            Err(Interrupted::Elapsed) if request.timeouts.is_awaiting_body() => {
                return Sent::Over(Outcome::Client(ClientFailure::Stalled));
            }
            Err(Interrupted::Elapsed) => {
                let status = request.plan.timeout_status();
                cluster.report(
                    endpoint,
                    TryOutcome::Timeout {
                        status: status.code(),
                    },
                );
                if request.timeouts.request_is_over() {
                    let answer = Box::new(Answer::upstream_timeout(status));
                    return Sent::Over(Outcome::Unanswered(answer));
                }
                stats.upstream_rq_per_try_timeout.add(1);
                let answer = Box::new(Answer::per_try_timeout(status));
                return Sent::Failed(TryFailure::TimedOut, answer);
            }
        };
        if !response_head.is_interim() {
            break response_bytes;
        }
        stats.responses.add(response_head.status);
        retries.end();
        interim_responses += 1;
        if interim_responses > request.limits.settings.max_interim_responses {
            return malformed_response(cluster, endpoint);
        }
        if response_head.status != 100 && head.version == Version::Http11 {
            connection.listener.stats.count_interim();
            let mut out = Buffer::lease();
            write_interim(response_head, &response_bytes, &mut out);
            // An interim response that cannot be sent shows with the final one.
            connection.stream.send_detached(out, Chunk::default());
        }
    };
    let is_upgraded = response_head.status == 101;
    if is_upgraded {
        let is_agreed = head.upgrade == Upgrade::WebSocket && response_head.upgrade == head.upgrade;
        let asked = head.headers(request.seen.bytes);
        // Clients of HTTP/1.1 look for themselves whether it is proven.
        let is_proven = !connection.stream.is_http2()
            || is_accepted(&asked, &response_head.headers(&response_bytes));
        if !is_agreed || !is_proven {
            // Nobody has asked for this.
            return malformed_response(cluster, endpoint);
        }
    }
    // The end of the upload may have come together with the answer, which was looked at first.
    if !uploaded.get()
        && let Some(failure) = poll_once(&mut client_side).await
    {
        return Sent::Over(Outcome::Client(failure));
    }
    cluster.report(endpoint, request.outcome_of(response_head, &response_bytes));
    request.timeouts.try_ended(&connection.deadline);
    let received = ByteCount::default();
    let mut response_body =
        Body::of_response(response_head.framing, &request.limits.body, &received);
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
        && !request.worker.is_leaving(&connection.listener);
    let out = {
        let format = || {
            let (flags, details) = record.told();
            let client = Client {
                peer: connection.peer,
                stream: &connection.stream,
                number: connection.number,
                facts: connection.facts.get().map(|facts| &**facts),
            };
            RequestFormat {
                response: Some(Response {
                    headers: Some(response_head.headers(&response_bytes)),
                    code: response_head.status,
                    flags,
                    details,
                    received: record.bytes_received(),
                    attempts: retries.number(),
                }),
                ..request.format(client, endpoint.socket_address())
            }
        };
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
            format: &OnDemand(&format),
        }
        .write(request.worker, &mut out);
        out
    };
    record.set_response_head_bytes(out.len());
    if is_upgraded {
        return Sent::Upgraded(Box::new(Upgraded {
            head: out,
            first: unread,
        }));
    }
    let delivered = {
        let mut download = Download {
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
                let headers = response_head.headers(&response_bytes);
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
                SourceFailure::Closed => {
                    // Less than was announced.
                    stats.upstream_cx_protocol_error.add(1);
                    stats.upstream_cx_destroy_remote_with_active_rq.add(1);
                }
                SourceFailure::Broken => stats.upstream_cx_destroy_remote_with_active_rq.add(1),
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
    record.broken_off(flags, details);
    Sent::Over(Outcome::BrokenOff {
        ended_by_close: response_head.framing == BodyFraming::UntilClose
            || head.version == Version::Http10,
    })
}

impl RoutedRequest<'_> {
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
}
