//! The check as a request of HTTP: the request's own method, path and some of its headers. 200
//! allows it, a failure of the service is an error, and anything else is the answer.

use super::super::connection::deadline_after;
use super::super::deadline::until;
use super::super::head_bytes::{HeadBytes, receive_response_head};
use super::super::request_head::{write_forwarded_for, write_number_line};
use super::super::request_id::RequestId;
use super::super::target::{scheme, with_facts};
use super::super::upstream::{ClusterView, UpstreamConnection};
use super::{Grant, Refusal, Verdict, is_listed, may_change, write};
use crate::rt::{self, Buffer, Chunk, Deadline};
use crate::transport::Transport;
use crate::worker::{Rules, Worker, WorkerLimits};
use ringroad_codec::http1::{
    BodyScanner, HeaderKind, RequestHead, ResponseHead, end_head, write_header,
};
use ringroad_policy::authorize::CheckProvider;
use ringroad_policy::health::TryOutcome;
use ringroad_policy::settings::HttpProvider;
use ringroad_policy::snapshot::{ConnectionFacts, Direction, HeaderEdits, PickRequest, WriteMode};
use std::net::IpAddr;
use std::rc::Rc;

/// Header of an answer 200 by which a service names headers that the request loses. Envoy's.
const REMOVED: &str = "x-envoy-auth-headers-to-remove";

/// What the service is shown.
pub struct CheckRequest<'a> {
    pub head: &'a RequestHead,
    pub bytes: &'a [u8],
    pub facts: &'a ConnectionFacts,
    pub peer: IpAddr,
    pub direction: Direction,
    pub request_id: &'a RequestId,
    pub body: Vec<u8>,
}

/// What the service answers.
struct CheckAnswer {
    head: ResponseHead,
    bytes: HeadBytes,
    body: Vec<u8>,
    goes_on: bool,
}

/// Why there is no answer.
enum NoAnswer {
    /// The connection ended before any byte of one.
    Closed,
    Broken,
}

/// Asks, within the provider's timeout.
pub async fn ask(
    worker: &Rc<Worker>,
    rules: &Rules,
    limits: &WorkerLimits,
    provider: &CheckProvider,
    request: CheckRequest<'_>,
) -> Verdict {
    let Some(cluster) = provider.cluster else {
        return Verdict::Failed;
    };
    let cluster = rules.view.cluster(worker, cluster).clone();
    let settings = &provider.http;
    let Some(written) = request.write(settings) else {
        return Verdict::Failed;
    };
    let deadline = Deadline::new();
    deadline.set(deadline_after(rt::now(), settings.timeout_ms));
    let to_head_request = request.head.method.of(request.bytes) == b"HEAD";
    match send(
        worker,
        &cluster,
        limits,
        &deadline,
        &written,
        to_head_request,
    )
    .await
    {
        Some(answer) => answer.verdict(settings),
        None => Verdict::Failed,
    }
}

/// Sends the check to an endpoint; once more on a fresh connection if a reused one was dead.
async fn send(
    worker: &Rc<Worker>,
    cluster: &ClusterView,
    limits: &WorkerLimits,
    deadline: &Deadline,
    written: &[u8],
    to_head_request: bool,
) -> Option<CheckAnswer> {
    let stats = &cluster.stats;
    let mut may_reuse = true;
    loop {
        let Some((_, endpoint)) = cluster.pick(worker, &PickRequest::default(), || None) else {
            stats.upstream_cx_none_healthy.add(1);
            return None;
        };
        let _active = endpoint.count_request();
        let carrier = cluster.carrier(false, false);
        let upstream = match may_reuse
            .then(|| cluster.checkout(worker, &endpoint, carrier))
            .flatten()
        {
            Some(pooled) => pooled,
            None => until(deadline, cluster.connect_for(worker, &endpoint, carrier))
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
                    grpc_status: None,
                };
                stats.count_response(answer.head.status);
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
                cluster.report(&endpoint, TryOutcome::Timeout);
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
        let bytes = received
            .await
            .map_err(|failure| match failure.after_bytes() {
                true => NoAnswer::Broken,
                false => NoAnswer::Closed,
            })?;
        if !head.is_interim() {
            break bytes;
        }
        interim_responses += 1;
        if interim_responses > limits.settings.max_interim_responses {
            return Err(NoAnswer::Broken);
        }
    };
    let mut scanner = BodyScanner::new(head.framing, &limits.body);
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
    Ok(CheckAnswer {
        head,
        bytes,
        body,
        goes_on,
    })
}

impl CheckRequest<'_> {
    /// Head and body of the check; `None` for a target that no route could be chosen for.
    fn write(&self, settings: &HttpProvider) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(1024 + self.body.len());
        with_facts(self.head, self.bytes, self.facts, None, |request| {
            out.extend_from_slice(request.method.as_bytes());
            out.push(b' ');
            out.extend_from_slice(settings.path_prefix.as_bytes());
            out.extend_from_slice(request.path.as_bytes());
            if let Some(query) = request.query {
                out.push(b'?');
                out.extend_from_slice(query.as_bytes());
            }
            out.extend_from_slice(b" HTTP/1.1\r\n");
            write_header(&mut out, b"host", request.authority.as_bytes());
        })?;
        write_number_line(&mut out, "content-length: ", self.body.len() as u64);
        self.write_headers(settings, &mut out);
        for (name, value) in &settings.additional_headers_in_check {
            write_header(&mut out, name.as_bytes(), value.as_bytes());
        }
        end_head(&mut out);
        out.extend_from_slice(&self.body);
        Some(out)
    }

    /// The headers that the service is shown, as an upstream would see them.
    fn write_headers(&self, settings: &HttpProvider, out: &mut Vec<u8>) {
        let is_edge = self.direction == Direction::Gateway;
        let is_shown = |name: &[u8]| {
            let is_added = |known: &String| name.eq_ignore_ascii_case(known.as_bytes());
            let listed = HttpProvider::is_listed(&settings.request_headers_in_check, name)
                || name.eq_ignore_ascii_case(b"authorization");
            listed && !settings.additional_headers_in_check.keys().any(is_added)
        };
        for header in &self.head.headers {
            let kept = match header.kind {
                HeaderKind::Host | HeaderKind::Expect | HeaderKind::ContentLength => false,
                HeaderKind::XForwardedFor
                | HeaderKind::XForwardedProto
                | HeaderKind::XForwardedClientCert
                | HeaderKind::XEnvoy => !is_edge,
                HeaderKind::XRequestId => self.request_id.get().is_none(),
                kind => !kind.is_hop_by_hop(),
            };
            let name = header.name.of(self.bytes);
            if kept && is_shown(name) {
                write_header(out, name, header.value.of(self.bytes));
            }
        }
        if is_edge && is_shown(b"x-forwarded-for") {
            out.extend_from_slice(b"x-forwarded-for: ");
            write_forwarded_for(self.head, self.bytes, Some(self.peer), out);
            out.extend_from_slice(b"\r\n");
        }
        if is_edge && is_shown(b"x-forwarded-proto") {
            let scheme = scheme(self.facts);
            write_header(out, b"x-forwarded-proto", scheme.as_bytes());
        }
        if let Some(id) = self.request_id.get()
            && is_shown(b"x-request-id")
        {
            write_header(out, b"x-request-id", id);
        }
    }
}

impl CheckAnswer {
    fn verdict(self, settings: &HttpProvider) -> Verdict {
        match self.head.status {
            200 => Verdict::Allowed(self.grant(settings)),
            500.. => Verdict::Failed,
            status => Verdict::Denied(Refusal {
                status,
                response_edits: self.denial_edits(settings),
                body: self.body,
            }),
        }
    }

    /// Headers with their lower-case names.
    fn headers(&self) -> impl Iterator<Item = (String, &[u8])> {
        let own = self.head.headers.iter();
        let own = own.filter(|header| !header.kind.is_hop_by_hop());
        own.map(|header| {
            let name = String::from_utf8_lossy(header.name.of(&self.bytes));
            (name.to_ascii_lowercase(), header.value.of(&self.bytes))
        })
        .filter(|(name, _)| may_change(name))
    }

    fn grant(&self, settings: &HttpProvider) -> Grant {
        let mut grant = Grant::default();
        for (name, value) in self.headers() {
            if name == REMOVED {
                let names = String::from_utf8_lossy(value);
                let names = names
                    .split(',')
                    .map(|name| name.trim().to_ascii_lowercase());
                grant.remove.extend(names.filter(|name| may_change(name)));
                continue;
            }
            if is_listed(&settings.headers_to_downstream_on_allow, &name) {
                let line = write(&name, value, WriteMode::Add);
                grant.response_edits.write.push(line);
            }
            if is_listed(&settings.headers_to_upstream_on_allow, &name) {
                // Of several lines the last counts, as in Envoy.
                grant.set.retain(|(known, _)| *known != name);
                grant.set.push((name, value.to_vec()));
            }
        }
        grant
    }

    /// The headers that go with a refusal: all of them where the provider lists none.
    fn denial_edits(&self, settings: &HttpProvider) -> HeaderEdits {
        const ALWAYS: [&str; 2] = ["www-authenticate", "location"];
        let listed = &settings.headers_to_downstream_on_deny;
        let mut edits = HeaderEdits::default();
        for (name, value) in self.headers() {
            let is_shown =
                listed.is_empty() || is_listed(listed, &name) || ALWAYS.contains(&name.as_str());
            if is_shown && !matches!(name.as_str(), "server" | "date") {
                // Lines of one name stand beside each other; they replace ours.
                let is_ours = name == "content-type";
                let mode = if is_ours {
                    WriteMode::Set
                } else {
                    WriteMode::Add
                };
                edits.write.push(write(&name, value, mode));
            }
        }
        edits
    }
}
