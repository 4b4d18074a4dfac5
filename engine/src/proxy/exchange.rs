//! One request, from its first byte to the answer's last.

use super::answer::Answer;
use super::body::{Body, BodyFailure, Download, SourceFailure, upload};
use super::connection::{Connection, deadline_after};
use super::deadline::{alongside, poll_once, until};
use super::format::RequestFormat;
use super::head_bytes::{ResponseHeadFailure, receive_request_head, receive_response_head};
use super::local_reply::{answer_request, linger, refuse};
use super::record::Record;
use super::request_head::UpstreamHead;
use super::request_id::{RequestId, request_id_needed};
use super::response_head::{Delivery, DownstreamHead, write_interim};
use super::target::plan;
use crate::rt::{self, Buffer, Chunk, Deadline, Idle, Stream};
use crate::stats::ResponseFlags;
use crate::worker::Worker;
use ringroad_codec::http1::{BodyError, BodyFraming, CONTINUE, RequestHead, ResponseHead, Version};
use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

/// What a request needs while it is served. Pooled by the worker.
#[derive(Default)]
pub struct Scratch {
    request: RequestHead,
    response: ResponseHead,
    target: String,
    rewritten: Vec<u8>,
    request_id: RequestId,
}

/// What becomes of the downstream connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It is ready for the next request.
    Next,
    /// It is closed.
    Close,
    /// It is closed with a reset: the client must not take what it has for the whole answer.
    Reset,
    /// It is closed, but the client may still be sending: its bytes are read away for a moment, so
    /// that a reset does not destroy the answer on its way.
    Linger,
}

/// How the client's side can end a request before its answer is whole.
enum ClientFailure {
    Gone,
    Framing(BodyError),
}

/// What became of a request that was sent upstream.
enum Outcome {
    /// The answer went downstream, whole.
    Answered { upstream_goes_on: bool },
    /// Nothing has gone downstream yet: the proxy answers.
    Unanswered(Answer),
    /// The upstream connection ended before any byte of a response.
    NoResponse { nothing_sent: bool },
    /// The client ended or broke its side.
    Client(ClientFailure),
    /// The answer broke off after its head had gone downstream.
    BrokenOff(ResponseFlags, &'static str),
}

/// Serves requests until the connection is idle, and returns it; `None` when it is over.
pub async fn serve_requests(mut connection: Box<Connection>) -> Option<Box<Connection>> {
    let worker = connection.worker.clone();
    let mut scratch = worker.take_scratch();
    let after = loop {
        let after = exchange(&mut connection, &worker, &mut scratch).await;
        if after != After::Next || connection.unread.is_empty() {
            break after;
        }
    };
    worker.return_scratch(scratch);
    match after {
        After::Next => return Some(connection),
        After::Reset => connection.stream.reset_on_close(),
        After::Close if connection.has_unread() => linger(&mut connection).await,
        After::Close => connection.finish_sending().await,
        After::Linger => linger(&mut connection).await,
    }
    None
}

/// Serves one request.
async fn exchange(
    connection: &mut Connection,
    worker: &Rc<Worker>,
    scratch: &mut Scratch,
) -> After {
    let Scratch {
        request: head,
        response: response_head,
        target,
        rewritten,
        request_id,
    } = scratch;
    let limits = worker.limits();

    // The request head.
    let head_bytes = match receive_request_head(connection, &limits, head).await {
        Ok(bytes) => bytes,
        Err(failure) => return refuse(connection, worker, failure).await,
    };
    connection.requests += 1;
    connection.deadline.set(None);

    // The rules: one snapshot for the whole request.
    let Some(rules) = worker.rules(&connection.listener) else {
        return After::Close;
    };
    let direction = rules.listener().direction;
    *request_id = RequestId::default();
    if request_id_needed(head, direction) {
        worker.write_request_id(request_id);
    }
    let (head, request_id) = (&*head, &*request_id);
    let mut record = Record::begin(connection, worker, &rules, head, &head_bytes, request_id);
    let mut body = Body::new(head.framing, &limits.body);
    let planned = plan(worker, &rules, head, &head_bytes, target, rewritten);
    let (plan, first_piece) = match (planned, body.take(&mut connection.unread)) {
        (Ok(plan), Ok(piece)) => (plan, piece),
        (_, Err(error)) => {
            connection.listener.stats.downstream_rq_body_error.add(1);
            let answer = Answer::broken_body(&error);
            return answer_request(connection, head, false, &answer, None, record).await;
        }
        (Err(refusal), Ok(_)) => {
            record.route_name = refusal.route.map_or("", |route| &route.name);
            let edits = refusal.route.map(|route| &route.response_headers);
            let answer = &refusal.answer;
            return answer_request(connection, head, body.complete, answer, edits, record).await;
        }
    };
    record.set_plan(&plan);

    // An endpoint.
    let Some(endpoint) = plan.cluster.pick(worker, &[]) else {
        plan.cluster.stats.upstream_cx_none_healthy.add(1);
        let answer = Answer::no_healthy_upstream();
        return answer_request(connection, head, body.complete, &answer, None, record).await;
    };
    record.endpoint = Some(endpoint.clone());
    let _active = endpoint.count_request();
    let timeout_ms = plan.route.timeout_ms.filter(|ms| *ms > 0);
    if body.complete {
        connection
            .deadline
            .set(timeout_ms.and_then(|ms| deadline_after(rt::now(), ms)));
    }

    // The way upstream. A reused connection may turn out dead: then the request goes out again on
    // a fresh one, once, if that cannot double it.
    let method = head.method.of(&head_bytes);
    let to_head_request = method == b"HEAD";
    let is_safe_to_repeat = (to_head_request || method == b"GET") && body.complete;
    let mut first_piece = Some(first_piece);
    let mut may_reuse = true;
    loop {
        let pooled = if may_reuse { endpoint.checkout() } else { None };
        let upstream = match pooled {
            Some(upstream) => Ok(upstream),
            None => {
                let patience = Duration::from_millis(plan.cluster.cluster.connect_timeout_ms);
                match until(&connection.deadline, endpoint.connect(patience)).await {
                    Ok(connected) => connected.map_err(Answer::connect_failed),
                    Err(_) => Err(Answer::upstream_timeout()),
                }
            }
        };
        let upstream = match upstream {
            Ok(upstream) => upstream,
            Err(answer) => {
                return answer_request(connection, head, body.complete, &answer, None, record)
                    .await;
            }
        };
        plan.cluster.stats.upstream_rq_total.add(1);
        let sent_at = rt::now();

        let outcome = 'response: {
            // The request: head and the first bytes of the body in one send. The rest of the body
            // follows while the response is awaited. The send is watched only if need be: what
            // matters is what comes back.
            let format = RequestFormat {
                request: head.headers(&head_bytes),
                response: None,
                method,
                path: &plan.path,
                authority: plan.authority.as_bytes(),
                version: head.version,
                peer: connection.peer,
                downstream: &connection.stream,
                upstream: endpoint.socket_address(),
                cluster: &plan.cluster.cluster.name,
                route: &plan.route.name,
                response_code: None,
                now: worker.wall_clock(),
            };
            let mut out = Buffer::lease();
            UpstreamHead {
                head,
                bytes: &head_bytes,
                path: &plan.path,
                query: plan.query,
                authority: plan.authority,
                original_path: plan.original_path.map(str::as_bytes),
                direction,
                peer: connection.peer.ip(),
                attempt: 1,
                timeout_ms,
                request_id,
                edits: &plan.request_edits(),
                format: &format,
            }
            .write(&mut out);
            let piece = first_piece.take().unwrap_or_default();
            let must_continue = head.expect_continue && !body.complete && piece.is_empty();
            plan.cluster
                .stats
                .upstream_cx_tx_bytes_total
                .add((out.len() + piece.len()) as u64);
            let mut sending = upstream.stream.send(out, piece);
            let uploaded = Cell::new(body.complete);
            let client_side = ClientSide {
                stream: &connection.stream,
                unread: &mut connection.unread,
                body: &mut body,
                upstream: &upstream.stream,
                must_continue,
                uploaded: &uploaded,
                deadline: &connection.deadline,
                timeout_ms,
            };
            let mut client_side = pin!(client_side.serve());

            // The response head; interim responses go straight on.
            let mut unread = Chunk::default();
            let mut interim_responses = 0;
            let response_bytes = loop {
                let response = receive_response_head(
                    &upstream.stream,
                    &mut unread,
                    endpoint.expects_bulk.get(),
                    &limits.head,
                    to_head_request,
                    response_head,
                );
                let response = alongside(client_side.as_mut(), response);
                let response_bytes = match until(&connection.deadline, response).await {
                    Ok(Ok(Ok(bytes))) => bytes,
                    Ok(Ok(Err(ResponseHeadFailure::Malformed))) => {
                        plan.cluster.stats.upstream_cx_protocol_error.add(1);
                        break 'response Outcome::Unanswered(Answer::upstream_protocol_error());
                    }
                    Ok(Ok(Err(failure))) => {
                        plan.cluster
                            .stats
                            .upstream_cx_destroy_remote_with_active_rq
                            .add(1);
                        if failure.after_bytes() {
                            break 'response Outcome::Unanswered(Answer::upstream_closed());
                        }
                        let nothing_sent = matches!(poll_once(&mut sending).await, Some(Err(_)));
                        break 'response Outcome::NoResponse { nothing_sent };
                    }
                    Ok(Err(failure)) => break 'response Outcome::Client(failure),
                    Err(_) => break 'response Outcome::Unanswered(Answer::upstream_timeout()),
                };
                if !response_head.is_interim() {
                    break response_bytes;
                }
                plan.cluster.stats.upstream_rq_1xx.add(1);
                interim_responses += 1;
                if interim_responses > limits.settings.max_interim_responses {
                    plan.cluster.stats.upstream_cx_protocol_error.add(1);
                    break 'response Outcome::Unanswered(Answer::upstream_protocol_error());
                }
                if response_head.status != 100 && head.version == Version::Http11 {
                    connection.listener.stats.downstream_rq_1xx.add(1);
                    let mut out = Buffer::lease();
                    write_interim(response_head, &response_bytes, &mut out);
                    // An interim response that cannot be sent shows with the final one.
                    let _ = connection.stream.send(out, Chunk::default()).await;
                }
            };
            if response_head.status == 101 {
                // No upgrade was passed on, so none can have been agreed to.
                break 'response Outcome::Unanswered(Answer::upstream_protocol_error());
            }

            // The response: its head and the first bytes of its body in one send.
            record.response_started(response_head.status, sent_at);
            let mut response_body = Body::new(response_head.framing, &limits.body);
            endpoint.expects_bulk.set(response_body.is_bulk());
            let delivery = Delivery::choose(response_head.framing, head.version);
            let first = match response_body.take_first(&mut unread, delivery) {
                Ok(first) => first,
                Err(_) => {
                    plan.cluster.stats.upstream_cx_protocol_error.add(1);
                    break 'response Outcome::Unanswered(Answer::upstream_protocol_error());
                }
            };
            let ends_by_close =
                response_head.framing == BodyFraming::UntilClose && delivery != Delivery::Chunked;
            record.keep_alive = head.keep_alive
                && uploaded.get()
                && delivery != Delivery::Dechunked
                && !ends_by_close
                && !worker.is_draining()
                && !rules.is_removed();
            let format = RequestFormat {
                response: Some(response_head.headers(&response_bytes)),
                response_code: Some(response_head.status),
                ..format
            };
            let mut out = Buffer::lease();
            DownstreamHead {
                head: response_head,
                bytes: &response_bytes,
                delivery,
                client_version: head.version,
                keep_alive: record.keep_alive,
                direction,
                upstream_service_time_ms: record.upstream_service_time_ms(),
                edits: &plan.response_edits(),
                format: &format,
            }
            .write(worker, &mut out);
            record.set_response_head_bytes(out.len());
            let download = Download {
                body: &mut response_body,
                source: &upstream.stream,
                unread: &mut unread,
                sink: &connection.stream,
                delivery,
                sent_bytes: &record.bytes_sent,
            };
            let download = alongside(client_side.as_mut(), download.run(out, first));
            match until(&connection.deadline, download).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(BodyFailure::Sink))) => {
                    break 'response Outcome::Client(ClientFailure::Gone);
                }
                Ok(Ok(Err(BodyFailure::Source(failure)))) => {
                    let (flags, details) = match failure {
                        SourceFailure::Framing(_) => {
                            plan.cluster.stats.upstream_cx_protocol_error.add(1);
                            (
                                ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
                                "upstream_body_error",
                            )
                        }
                        SourceFailure::Closed | SourceFailure::Broken => {
                            plan.cluster
                                .stats
                                .upstream_cx_destroy_remote_with_active_rq
                                .add(1);
                            let flags = ResponseFlags::UPSTREAM_CONNECTION_TERMINATION;
                            (
                                flags,
                                "upstream_reset_after_response_started{connection_termination}",
                            )
                        }
                    };
                    break 'response Outcome::BrokenOff(flags, details);
                }
                Ok(Err(failure)) => break 'response Outcome::Client(failure),
                Err(_) => {
                    let flags = ResponseFlags::UPSTREAM_REQUEST_TIMEOUT;
                    break 'response Outcome::BrokenOff(flags, "response_timeout");
                }
            }
            if !unread.is_empty() {
                plan.cluster.stats.upstream_cx_protocol_error.add(1);
            }
            let request_is_out =
                uploaded.get() && matches!(poll_once(&mut sending).await, Some(Ok(())));
            Outcome::Answered {
                upstream_goes_on: response_head.keep_alive && request_is_out && unread.is_empty(),
            }
        };

        match outcome {
            Outcome::Answered { upstream_goes_on } => {
                if upstream_goes_on {
                    upstream.release()
                } else {
                    upstream.close()
                }
                let keep_alive = record.keep_alive;
                record.finish(connection);
                return match (keep_alive, body.complete) {
                    (true, true) => After::Next,
                    (false, true) => After::Close,
                    (_, false) => After::Linger,
                };
            }
            Outcome::NoResponse { nothing_sent } => {
                let was_reused = upstream.reused;
                upstream.close();
                let may_repeat = is_safe_to_repeat || (nothing_sent && body.bytes == 0);
                if was_reused
                    && may_reuse
                    && may_repeat
                    && rules.view.snapshot.settings.replay_on_dead_connection
                {
                    plan.cluster.stats.upstream_rq_replayed.add(1);
                    may_reuse = false;
                    continue;
                }
                let answer = Answer::upstream_closed();
                return answer_request(connection, head, body.complete, &answer, None, record)
                    .await;
            }
            Outcome::Unanswered(answer) => {
                upstream.close();
                return answer_request(connection, head, body.complete, &answer, None, record)
                    .await;
            }
            Outcome::Client(ClientFailure::Framing(error)) if !record.has_response() => {
                upstream.close();
                plan.cluster.stats.upstream_rq_tx_reset.add(1);
                connection.listener.stats.downstream_rq_body_error.add(1);
                let answer = Answer::broken_body(&error);
                return answer_request(connection, head, false, &answer, None, record).await;
            }
            Outcome::Client(_) => {
                upstream.close();
                plan.cluster.stats.upstream_rq_tx_reset.add(1);
                connection
                    .listener
                    .stats
                    .downstream_cx_destroy_remote_active_rq
                    .add(1);
                let flags = ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION;
                record.fail(flags, "downstream_remote_disconnect");
                record.finish(connection);
                return After::Reset;
            }
            Outcome::BrokenOff(flags, details) => {
                upstream.close();
                record.fail(flags, details);
                record.finish(connection);
                // A length or chunks tell the client that something is missing; a body that the
                // close ends would look whole.
                return match response_head.framing {
                    BodyFraming::UntilClose => After::Reset,
                    _ if head.version == Version::Http10 => After::Reset,
                    _ => After::Close,
                };
            }
        }
    }
}

/// The client's side of a request that is on its way: the rest of its body goes upstream, then the
/// client is watched, so that one that leaves does not keep an upstream busy.
struct ClientSide<'a> {
    stream: &'a Stream,
    unread: &'a mut Chunk,
    body: &'a mut Body,
    upstream: &'a Stream,
    must_continue: bool,
    uploaded: &'a Cell<bool>,
    deadline: &'a Deadline,
    timeout_ms: Option<u64>,
}

impl ClientSide<'_> {
    /// Ends only when the client does so.
    async fn serve(self) -> ClientFailure {
        if !self.body.complete {
            if self.must_continue {
                let mut out = Buffer::lease();
                out.extend_from_slice(CONTINUE);
                if self.stream.send(out, Chunk::default()).await.is_err() {
                    return ClientFailure::Gone;
                }
            }
            match upload(self.body, self.stream, self.unread, self.upstream).await {
                Ok(()) => {
                    self.uploaded.set(true);
                    let until = self.timeout_ms.and_then(|ms| deadline_after(rt::now(), ms));
                    self.deadline.set(until);
                }
                Err(BodyFailure::Source(SourceFailure::Framing(error))) => {
                    return ClientFailure::Framing(error);
                }
                Err(BodyFailure::Source(_)) => return ClientFailure::Gone,
                // The upstream takes no more: its answer, or its end, is on the way.
                Err(BodyFailure::Sink) => {}
            }
        }
        poll_fn(|cx| match self.stream.poll_ready(cx) {
            Poll::Ready(()) if self.stream.peek_state() == Idle::Closed => Poll::Ready(()),
            // A pipelined request waits its turn, and so does the news that follows it.
            _ => Poll::Pending,
        })
        .await;
        ClientFailure::Gone
    }
}
