//! Sending a check and receiving its answer, over HTTP/1.1 or a stream of HTTP/2.

use super::super::connection::deadline_after;
use super::super::deadline::until;
use super::super::grpc;
use super::super::receive_head::receive_response_head;
use super::super::upstream::{Carrier, ClusterView, UpstreamConnection};
use crate::rt::{self, Buffer, Chunk, Deadline};
use crate::transport::Transport;
use crate::worker::{Worker, WorkerLimits};
use ringroad_codec::http1::{BodyScanner, ResponseHead};
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::PickRequest;
use std::rc::Rc;

/// A check that is to be sent.
pub struct Sending<'a> {
    pub worker: &'a Rc<Worker>,
    pub cluster: &'a ClusterView,
    pub limits: &'a WorkerLimits,
    /// For the whole check; 0 is without limit.
    pub timeout_ms: u64,
    /// Head and body.
    pub written: &'a [u8],
    pub to_head_request: bool,
    pub carrier: Carrier,
}

/// What the service answers.
pub struct CheckAnswer {
    pub head: ResponseHead,
    pub bytes: Chunk,
    pub body: Vec<u8>,
    /// Of its trailers.
    pub grpc_status: Option<u16>,
    goes_on: bool,
}

/// Why there is no answer.
enum NoAnswer {
    /// The connection ended before any byte of one.
    Closed,
    Broken,
}

/// Sends the check to an endpoint; once more on a fresh connection if a reused one was dead.
pub async fn send(sending: Sending<'_>) -> Option<CheckAnswer> {
    let Sending {
        worker,
        cluster,
        limits,
        timeout_ms,
        written,
        to_head_request,
        carrier,
    } = sending;
    let deadline = &Deadline::new();
    deadline.set(deadline_after(rt::now(), timeout_ms));
    let stats = &cluster.stats;
    let mut may_reuse = true;
    loop {
        let Some((_, endpoint)) = cluster.pick(worker, &PickRequest::default(), || None) else {
            stats.upstream_cx_none_healthy.add(1);
            return None;
        };
        let _active = endpoint.count_request();
        let upstream = match may_reuse
            .then(|| cluster.checkout(worker, &endpoint, carrier))
            .flatten()
        {
            Some(pooled) => pooled,
            None => until(
                deadline,
                cluster.connect_for(worker, &endpoint, carrier, None),
            )
            .await
            .ok()?,
        };
        let upstream = upstream.ok()?;
        stats.upstream_rq_total.add(1);
        stats.upstream_cx_tx_bytes_total.add(written.len() as u64);
        let asked = exchange(&upstream, limits, written, to_head_request);
        match until(deadline, asked).await {
            Ok(Ok(answer)) => {
                let outcome = TryOutcome::Response {
                    status: answer.head.status,
                    grpc_status: answer.grpc_status,
                };
                stats.responses.add(answer.head.status);
                cluster.report(&endpoint, outcome);
                upstream.leave(answer.goes_on);
                return Some(answer);
            }
            // A check changes nothing, so it may be asked again.
            Ok(Err(NoAnswer::Closed)) if upstream.reused && may_reuse => {
                stats.upstream_rq_replayed.add(1);
                may_reuse = false;
            }
            Ok(Err(NoAnswer::Closed | NoAnswer::Broken)) => {
                cluster.report(&endpoint, TryOutcome::Reset);
                upstream.close();
                return None;
            }
            Err(_) => {
                stats.upstream_rq_timeout.add(1);
                cluster.report(&endpoint, TryOutcome::Timeout { status: 504 });
                upstream.close();
                return None;
            }
        }
    }
}

async fn exchange(
    upstream: &UpstreamConnection,
    limits: &WorkerLimits,
    written: &[u8],
    to_head_request: bool,
) -> Result<CheckAnswer, NoAnswer> {
    let stream: &Transport = &upstream.stream;
    let mut out = Buffer::lease();
    out.extend_from_slice(written);
    let sent = stream.send(out, Chunk::default()).await;
    let mut unread = Chunk::default();
    let mut head = ResponseHead::default();
    let mut interim_responses = 0;
    let bytes = loop {
        let received = receive_response_head(
            stream,
            &mut unread,
            false,
            &limits.head,
            to_head_request,
            &mut head,
        );
        received
            .await
            .map_err(|failure| match failure.after_bytes() {
                true => NoAnswer::Broken,
                false => NoAnswer::Closed,
            })?;
        let bytes = unread.split_to(head.head_len);
        if !head.is_interim() {
            break bytes;
        }
        interim_responses += 1;
        if interim_responses > limits.settings.max_interim_responses {
            return Err(NoAnswer::Broken);
        }
    };
    let mut scanner = BodyScanner::of_response(head.framing, &limits.body);
    let most = limits.settings.max_check_answer_bytes as usize;
    let mut body = Vec::new();
    let is_whole = loop {
        let scan = scanner.decode(&unread, |run| body.extend_from_slice(run));
        let scan = scan.map_err(|_| NoAnswer::Broken)?;
        unread.advance(scan.consumed);
        if scan.complete {
            break true;
        }
        if body.len() > most {
            break false;
        }
        unread = stream.receive().await.map_err(|_| NoAnswer::Broken)?;
        if unread.is_empty() {
            match scanner.end_of_input() {
                Ok(_) => break true,
                Err(_) => return Err(NoAnswer::Broken),
            }
        }
    };
    let is_too_long = !is_whole || body.len() > most;
    if is_too_long && head.status != 200 {
        return Err(NoAnswer::Broken);
    }
    let goes_on = sent.is_ok() && head.keep_alive && is_whole && unread.is_empty();
    let grpc_status = grpc::status(&scanner.trailers());
    Ok(CheckAnswer {
        head,
        bytes,
        body,
        grpc_status,
        goes_on,
    })
}
