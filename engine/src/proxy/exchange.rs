//! One request, from its first byte to the answer's last.

use super::accept::chain_for;
use super::admission::{Admission, Incoming, admit, whom_to_ask};
use super::answer::Answer;
use super::attempt::{ClientFailure, Outcome, RequestBody, RoutedRequest, attempt};
use super::body::{Body, ByteCount};
use super::check::ask;
use super::connection::Connection;
use super::deadline::unless_ending;
use super::filters::{Edits, Filtered, filter};
use super::format::OnDemand;
use super::grpc::{self, is_grpc};
use super::local_reply::{answer_request, linger, refuse, refuse_body};
use super::mirror::Mirrors;
use super::receive_head::{receive_request_head, take_head};
use super::record::Record;
use super::replay::Replay;
use super::request_id::{RequestId, request_id_needed};
use super::retries::{Pause, Retries};
use super::seen_head::SeenHead;
use super::target::{PlanMemory, plan, query};
use super::timeouts::{Timeouts, shorter_limit_ms};
use crate::rt::Buffer;
use crate::stats::{CallKind, ResponseFlags};
use crate::worker::Worker;
use ringroad_codec::http1::{RequestHead, ResponseHead};
use std::pin::pin;
use std::rc::Rc;

/// What a request needs while it is served. Pooled by the worker.
#[derive(Default)]
pub struct Scratch {
    request: RequestHead,
    response: ResponseHead,
    memory: PlanMemory,
    request_id: RequestId,
    replay: Replay,
    tried: Vec<usize>,
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

/// Serves requests until the connection is idle, and returns it; `None` when it is over.
pub async fn serve_requests(mut connection: Box<Connection>) -> Option<Box<Connection>> {
    let worker = connection.worker.clone();
    let mut scratch = worker.take_scratch();
    let after = loop {
        let after = exchange(&mut connection, &worker, &mut scratch).await;
        scratch.replay.end();
        if after == After::Next && connection.has_outlived_listener() {
            break After::Close;
        }
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
        memory,
        request_id,
        replay,
        tried,
    } = scratch;
    let limits = worker.limits();

    // The request head.
    if let Err(failure) = receive_request_head(connection, &limits, head).await {
        return refuse(connection, worker, failure).await;
    }
    let mut head_bytes = take_head(&mut connection.unread, head.head_len);
    connection.requests = connection.requests.saturating_add(1);
    connection.empty_lines = 0;
    connection.deadline.set(None);

    // The rules: one snapshot for the whole request.
    let Some(rules) = worker.rules(&connection.listener) else {
        return After::Close;
    };
    let chain = chain_for(connection, &rules);
    let table = match &chain {
        Some(chain) => chain.table(),
        None => rules.listener().route_table().map(|table| &**table),
    };
    let direction = rules.listener().direction;

    // Whether it may pass. What a service or a valid token says is in the head from here on.
    *request_id = RequestId::default();
    if request_id_needed(head, direction) {
        worker.write_request_id(request_id);
    }
    let mut admission = Admission::default();
    if let Some(access) = rules.access() {
        let mut incoming = Incoming {
            connection,
            worker,
            rules: &rules,
            limits: &limits,
            chain: chain.as_deref(),
            head,
            bytes: &mut head_bytes,
            request_id,
        };
        if let Some(provider) = whom_to_ask(access, &incoming, &mut admission) {
            // Boxed: requests that nobody is asked about keep no room for it.
            Box::pin(ask(provider, &mut incoming, &mut admission)).await;
        }
        if admission.goes_on() {
            admit(access, &mut incoming, &mut admission);
        }
    }
    let head = &*head;
    let came = (head, &*head_bytes);
    let seen = SeenHead::of(connection, &rules, chain.as_deref(), came, request_id);
    let received = ByteCount::default();
    let mut record = Record::begin(connection, worker, &rules, &seen, &received);

    // The route, and the first bytes of the body.
    let mut body = RequestBody {
        body: Body::of_request(head.framing, &limits.body, &received),
        replay,
        is_asked_for: false,
        mirrors: None,
    };
    body.body.guard_trailers(
        rules
            .access()
            .and_then(|access| access.authentication.as_ref()),
    );
    let is_grpc = is_grpc(&head.headers(&head_bytes));
    if is_grpc {
        record.call = CallKind::Grpc(None);
        body.body.count_messages();
    }
    if let Some(check) = &admission.check {
        record.count_from(check.began);
        if check.client_is_gone {
            return client_left(connection, record);
        }
    }
    let routed_by = admission
        .check
        .as_ref()
        .and_then(|check| check.routed_by.as_ref());
    // Blocks and whole matches from here on, so that the future has no room for what was moved out of:
    // what a request needs in memory should stay in the nearest cache.
    let mut planned = {
        let claims = admission.token.as_ref().map(|token| &token.claims);
        let by = match routed_by {
            Some((head, bytes)) => SeenHead {
                head,
                bytes,
                ..seen
            },
            None => seen,
        };
        plan(connection, claims, &rules, table, &by, memory)
    };
    let no_edits = admission.response_edits();
    if let Some(answer) = &admission.refusal {
        match &planned {
            Ok(plan) => record.set_plan(plan),
            Err(refusal) => record.route_name = refusal.route.map_or("", |route| &route.name),
        }
        // A broken body is not read on, so the connection ends.
        let _ = body.body.take(&mut connection.unread);
        let body_read = body.body.complete;
        return answer_request(connection, head, body_read, answer, no_edits, record).await;
    }
    let first_piece = match body.body.take(&mut connection.unread) {
        Ok(piece) => piece,
        Err(error) => {
            let answer = refuse_body(&connection.listener.stats, &error);
            return answer_request(connection, head, false, &answer, no_edits, record).await;
        }
    };
    // Left where it is: a plan is too long to be moved for each request.
    let plan = match &mut planned {
        Ok(plan) => plan,
        Err(refusal) => {
            record.route_name = refusal.route.map_or("", |route| &route.name);
            let of_route = refusal.response_edits();
            let edits = Edits {
                of_route: of_route.map_or(no_edits, |edits| admission.edits_after(edits)),
                always: no_edits,
            };
            let filtered = match refusal.route.filter(|_| refusal.lost.is_some()) {
                Some(route) => {
                    let request = (head, &*head_bytes);
                    // Boxed: requests that lead somewhere keep no room for it.
                    Box::pin(filter(
                        route,
                        request,
                        edits,
                        worker,
                        connection,
                        &mut record,
                    ))
                    .await
                }
                None => Filtered::Passed(edits.of_route),
            };
            let injected;
            let (answer, edits) = match filtered {
                Filtered::Passed(edits) => (&refusal.answer, edits),
                Filtered::Answered(answer, edits) => {
                    injected = answer;
                    (&injected, edits)
                }
                Filtered::ClientGone => return client_left(connection, record),
            };
            let body_read = body.body.complete;
            return answer_request(connection, head, body_read, answer, edits, record).await;
        }
    };
    if routed_by.is_some() {
        // The route goes by what the client sent, the upstream gets what the service made of it.
        plan.query = query(head, &head_bytes);
    }
    let plan = &*plan;
    record.set_plan(plan);
    let (route, cluster) = (plan.route, &plan.cluster);
    let headers = head.headers(&head_bytes);

    // What a route does before it forwards.
    let edits = Edits {
        of_route: admission.edits_after(plan.response_edits()),
        always: no_edits,
    };
    let response_edits = match route.fault.is_some() || route.cors.is_some() {
        true => {
            let request = (head, &*head_bytes);
            match filter(route, request, edits, worker, connection, &mut record).await {
                Filtered::Passed(edits) => edits,
                Filtered::ClientGone => return client_left(connection, record),
                Filtered::Answered(answer, edits) => {
                    let read = body.body.complete;
                    return answer_request(connection, head, read, &answer, edits, record).await;
                }
            }
        }
        false => edits.of_route,
    };

    // What all tries share.
    let retry = route.retry_of(plan.destination);
    let mut timeout_ms = route.timeout_ms.unwrap_or(0);
    let mut has_callers_deadline = false;
    if is_grpc {
        let callers_ms = grpc::timeout_ms(&headers).unwrap_or(0);
        timeout_ms = shorter_limit_ms(timeout_ms, callers_ms);
        has_callers_deadline = callers_ms > 0 && timeout_ms == callers_ms;
    }
    let per_try_ms = retry.and_then(|retry| retry.per_try_timeout_ms);
    let body_idle_ms = match is_grpc {
        true => 0,
        false => limits.settings.request_body_idle_timeout_ms,
    };
    let request = RoutedRequest {
        worker,
        limits: &limits,
        rules: &rules,
        seen: &seen,
        is_grpc,
        started: record.started(),
        plan,
        response_edits,
        timeouts: Timeouts::new(
            timeout_ms,
            per_try_ms.unwrap_or(0),
            body_idle_ms,
            connection.send_stall_ms(),
        ),
    };
    body.mirrors = Mirrors::draw(worker, &rules, route);
    if let Some(mirrors) = &mut body.mirrors {
        let format = || request.format(connection.told(), None);
        let mut copy = Buffer::lease();
        request.write_head(&OnDemand(&format), 1, &mut copy);
        let to_head_request = head.method.of(&head_bytes) == b"HEAD";
        let speaks_http2 = connection.stream.is_http2();
        mirrors.set_head(copy, to_head_request, speaks_http2, timeout_ms);
    }
    let most_replayed = match retry.is_some() || body.mirrors.is_some() {
        true => limits.settings.max_replay_body_bytes as usize,
        false => 0,
    };
    if !body.replay.begin(first_piece, most_replayed) {
        cluster.stats.retry_or_shadow_abandoned.add(1);
    }
    if body.body.complete {
        request.timeouts.request_complete(&connection.deadline);
        if let Some(mirrors) = body.mirrors.take() {
            mirrors.launch(worker, body.replay);
        }
    }
    let mut retries = Retries::new(retry, cluster, tried);
    record.forwarded();

    // The tries.
    let answer = loop {
        let picked = {
            let wanted = retries.next_pick(plan.hash.hash);
            cluster.pick(worker, &wanted, || connection.original_destination())
        };
        let Some((index, endpoint)) = picked else {
            cluster.stats.upstream_cx_none_healthy.add(1);
            break record.charged(Answer::no_healthy_upstream());
        };
        record.endpoint = Some(endpoint.clone());
        let active = endpoint.count_request();
        retries.begin(index);
        record.attempts = retries.number();
        let outcome = {
            let attempt = pin!(attempt(
                &request,
                &endpoint,
                connection,
                &mut body,
                &mut retries,
                &mut record,
                response_head,
            ));
            unless_ending(worker, attempt).await
        };
        drop(active);
        let Some(outcome) = outcome else {
            return cut_off(connection, record);
        };
        match outcome {
            Outcome::Answered => {
                let keep_alive = record.keep_alive;
                record.finish(connection);
                return match (keep_alive, body.body.complete) {
                    (true, true) => After::Next,
                    (false, true) => After::Close,
                    (_, false) => After::Linger,
                };
            }
            Outcome::Unanswered(answer) => break record.charged(*answer),
            Outcome::Client(ClientFailure::Framing(error)) if !record.has_response() => {
                break refuse_body(&connection.listener.stats, &error);
            }
            Outcome::Client(ClientFailure::Stalled) => {
                connection.listener.stats.downstream_rq_idle_timeout.add(1);
                break Answer::body_stalled();
            }
            Outcome::Client(ClientFailure::TakesNothing) => {
                connection.listener.stats.tx_flush_timeout.add(1);
                record.fail(ResponseFlags::STREAM_IDLE_TIMEOUT, "stream_idle_timeout");
                record.finish(connection);
                return After::Reset;
            }
            Outcome::Client(_) => return client_left(connection, record),
            Outcome::BrokenOff { ended_by_close } => {
                record.finish(connection);
                // A length or chunks tell the client that something is missing; a body that the
                // close ends would look whole, and so would a stream of HTTP/2 that is closed.
                return match ended_by_close || connection.stream.is_http2() {
                    true => After::Reset,
                    false => After::Close,
                };
            }
            Outcome::Repeat => {}
        }
        let pause = {
            let pause = pin!(retries.pause(worker, connection, &request.timeouts));
            unless_ending(worker, pause).await
        };
        match pause {
            None => return cut_off(connection, record),
            Some(Pause::Over) => {}
            Some(Pause::ClientGone) => return client_left(connection, record),
            Some(Pause::TimedOut) => {
                break record.charged(Answer::upstream_timeout(plan.timeout_status()));
            }
        }
    };
    let answer = match retries.number() {
        0 | 1 => answer,
        _ => answer.of_a_retry(),
    };
    let answer = match has_callers_deadline {
        true => answer.of_callers_deadline(),
        false => answer,
    };
    let body_read = body.body.complete;
    let edits = request.response_edits;
    answer_request(connection, head, body_read, &answer, edits, record).await
}

/// The process ends before the request does.
#[cold]
fn cut_off(connection: &Connection, mut record: Record<'_>) -> After {
    let flags = ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION;
    record.fail(flags, "downstream_local_disconnect");
    record.finish(connection);
    After::Reset
}

/// The client closed or broke its connection, or reset its stream, before it had its answer.
fn client_left(connection: &Connection, mut record: Record<'_>) -> After {
    let stats = &connection.listener.stats;
    if connection.stream.was_reset_by_client() {
        stats.downstream_rq_rx_reset.add(1);
        let flags = ResponseFlags::DOWNSTREAM_REMOTE_RESET;
        record.fail(flags, "http2.remote_reset");
    } else {
        stats.downstream_cx_destroy_remote_active_rq.add(1);
        let flags = ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION;
        record.fail(flags, "downstream_remote_disconnect");
    }
    // A reset would destroy earlier answers on their way to a client that has ended its side alone.
    let began = record.has_response();
    record.finish(connection);
    match began || connection.stream.is_http2() {
        true => After::Reset,
        false => After::Close,
    }
}
