//! The check as a call of `envoy.service.auth.v3.Authorization/Check`. The service is shown the
//! whole head.

use super::super::target::with_facts;
use super::super::upstream::Carrier;
use super::exchange::{CheckAnswer, Sending, send};
use super::messages::{
    Address, AttributeContext, BoolValue, CheckRequest, CheckResponse, DeniedHttpResponse,
    HeaderAppendAction, HeaderValue, HeaderValueOption, HttpRequest, OkHttpResponse, Peer,
    SocketAddress, TimedRequest, Timestamp,
};
use super::{Grant, Question, Refusal, Verdict, may_change, write};
use crate::worker::{Rules, Worker, WorkerLimits};
use prost::Message as _;
use ringroad_codec::http1::{HeaderKind, Version, end_head, is_token, write_header};
use ringroad_policy::authorize::CheckProvider;
use ringroad_policy::settings::Provider;
use ringroad_policy::snapshot::{ConnectionFacts, HeaderEdits, WriteMode};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

/// Bytes before a message: whether it is compressed, and its length (gRPC over HTTP/2,
/// "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// Asks, within the provider's timeout.
pub async fn ask(
    worker: &Rc<Worker>,
    rules: &Rules,
    limits: &WorkerLimits,
    provider: &CheckProvider,
    question: Question<'_>,
) -> Verdict {
    let Some(message) = question.message(worker, &provider.settings) else {
        return Verdict::Failed;
    };
    call(worker, rules, limits, provider, message)
        .await
        .map_or(Verdict::Failed, verdict)
}

/// Asks about a connection that is no HTTP: whether it may pass; nothing when nobody can say.
pub async fn may_connect(
    worker: &Rc<Worker>,
    rules: &Rules,
    provider: &CheckProvider,
    facts: &ConnectionFacts,
) -> Option<bool> {
    let message = CheckRequest {
        attributes: Some(ends(facts)),
    };
    let limits = worker.limits();
    let response = call(worker, rules, &limits, provider, message).await?;
    Some(response.status.is_none_or(|status| status.code == 0))
}

async fn call(
    worker: &Rc<Worker>,
    rules: &Rules,
    limits: &WorkerLimits,
    provider: &CheckProvider,
    message: CheckRequest,
) -> Option<CheckResponse> {
    let cluster = rules.view.cluster(worker, provider.cluster?).clone();
    let timeout_ms = provider.settings.timeout_ms;
    let written = write_call(provider, timeout_ms, &message);
    let sending = Sending {
        worker,
        cluster: &cluster,
        limits,
        timeout_ms,
        written: &written,
        to_head_request: false,
        carrier: Carrier::Stream,
    };
    read_answer(&send(sending).await?)
}

/// Head and body of the call.
fn write_call(provider: &CheckProvider, timeout_ms: u64, message: &CheckRequest) -> Vec<u8> {
    let length = message.encoded_len();
    let mut out = Vec::with_capacity(512 + length);
    out.extend_from_slice(b"POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\n");
    // Istio's authority: the name of the cluster without what no authority may have.
    let authority = provider.cluster_name.replace('|', "_.");
    write_header(&mut out, b"host", authority.as_bytes());
    write_header(&mut out, b"content-type", b"application/grpc");
    write_header(&mut out, b"te", b"trailers");
    let total = (PREFIX_BYTES + length).to_string();
    write_header(&mut out, b"content-length", total.as_bytes());
    super::super::grpc::write_timeout(timeout_ms, &mut out);
    end_head(&mut out);
    out.push(0);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    // A Vec grows, so there is always room.
    let _ = message.encode(&mut out);
    out
}

/// The message of an answer whose status is OK.
fn read_answer(answer: &CheckAnswer) -> Option<CheckResponse> {
    let in_head = super::super::grpc::status(&answer.head.headers(&answer.bytes));
    if answer.head.status != 200 || answer.grpc_status.or(in_head) != Some(0) {
        return None;
    }
    let (prefix, message) = answer.body.split_at_checked(PREFIX_BYTES)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || message.len() != usize::try_from(length).ok()? {
        return None;
    }
    CheckResponse::decode(message).ok()
}

fn verdict(response: CheckResponse) -> Verdict {
    let code = response.status.map_or(0, |status| status.code);
    match code {
        0 => match grant(response.ok_response.unwrap_or_default()) {
            Some(grant) => Verdict::Allowed(grant),
            None => Verdict::Unwritable,
        },
        _ => Verdict::Denied(refusal(response.denied_response.unwrap_or_default())),
    }
}

/// `None` when a header of the request is to be what no header can be: what the client has sent
/// must not stand in its place.
fn grant(ok: OkHttpResponse) -> Option<Grant> {
    if !ok.headers.iter().all(is_writable) {
        return None;
    }
    // For headers of requests Envoy knows `append` alone, and the action does not count.
    let mut grant = Grant::default();
    let (appended, set): (Vec<_>, Vec<_>) = ok.headers.iter().partition(|option| appends(option));
    for (name, value) in set.into_iter().filter_map(header) {
        grant.set.retain(|(known, _)| *known != name);
        grant.set.push((name, value));
    }
    for (name, value) in appended.into_iter().filter_map(header) {
        match grant.set.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                known.push(b',');
                known.extend(value);
            }
            None => grant.append.push((name, value)),
        }
    }
    let removed = ok
        .headers_to_remove
        .iter()
        .map(|name| name.to_ascii_lowercase());
    grant.remove.extend(removed.filter(|name| may_change(name)));
    grant.response_edits = edits(&ok.response_headers_to_add);
    let parameters = ok.query_parameters_to_set.into_iter();
    grant.query.set = parameters.map(|it| (it.key, it.value)).collect();
    grant.query.remove = ok.query_parameters_to_remove;
    Some(grant)
}

fn refusal(denied: DeniedHttpResponse) -> Refusal {
    let status = denied
        .status
        .and_then(|status| u16::try_from(status.code).ok());
    Refusal {
        status: status
            .filter(|status| (200..=599).contains(status))
            .unwrap_or(403),
        response_edits: edits_of_refusal(&denied.headers),
        body: denied.body.into_bytes(),
    }
}

fn edits(options: &[HeaderValueOption]) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for option in options {
        if let Some((name, value)) = header(option) {
            edits.write.push(write(&name, &value, mode(option)));
        }
    }
    edits
}

/// All lines of a name stand beside each other, in place of ours.
fn edits_of_refusal(options: &[HeaderValueOption]) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for option in options {
        if let Some((name, value)) = header(option) {
            let is_first = !edits.write.iter().any(|line| line.name == name);
            let mode = match is_first && !appends(option) {
                true => WriteMode::Set,
                false => WriteMode::Add,
            };
            edits.write.push(write(&name, &value, mode));
        }
    }
    edits
}

fn mode(option: &HeaderValueOption) -> WriteMode {
    match (&option.append, option.append_action()) {
        (Some(BoolValue { value: true }), _) => WriteMode::Add,
        (Some(_), _) => WriteMode::Set,
        (None, HeaderAppendAction::AppendIfExistsOrAdd) => WriteMode::Add,
        (None, HeaderAppendAction::AddIfAbsent) => WriteMode::AddIfAbsent,
        (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => WriteMode::Set,
        (None, HeaderAppendAction::OverwriteIfExists) => WriteMode::SetIfPresent,
    }
}

fn appends(option: &HeaderValueOption) -> bool {
    option.append.as_ref().is_some_and(|append| append.value)
}

/// Name and value of a header that a service may write.
fn header(option: &HeaderValueOption) -> Option<(String, Vec<u8>)> {
    let header = option.header.as_ref()?;
    let name = header.key.to_ascii_lowercase();
    (is_writable(option) && may_change(&name)).then(|| (name, value(header).to_vec()))
}

fn value(header: &HeaderValue) -> &[u8] {
    match header.raw_value.is_empty() {
        true => header.value.as_bytes(),
        false => &header.raw_value,
    }
}

/// Whether name and value can be those of a header; of a pseudo-header, nobody is to write it.
fn is_writable(option: &HeaderValueOption) -> bool {
    let Some(header) = &option.header else {
        return true;
    };
    let is_plain = |byte: &u8| *byte >= b' ' && *byte != 0x7f || *byte == b'\t';
    let name = header.key.strip_prefix(':').unwrap_or(&header.key);
    is_token(name.as_bytes()) && value(header).iter().all(is_plain)
}

fn peer(address: Option<SocketAddr>, principal: String) -> Peer {
    Peer {
        address: address.map(|address| Address {
            socket_address: Some(SocketAddress {
                address: address.ip().to_string(),
                port_value: address.port().into(),
            }),
        }),
        principal,
    }
}

/// The two ends of a connection.
fn ends(facts: &ConnectionFacts) -> AttributeContext {
    let identity = facts.identity.as_deref();
    let principal = identity.map(|identity| format!("spiffe://{}", identity.principal));
    AttributeContext {
        source: Some(peer(facts.peer, principal.unwrap_or_default())),
        destination: Some(peer(facts.destination, String::new())),
        request: None,
    }
}

impl Question<'_> {
    /// `None` for a target that no route could be chosen for.
    fn message(&self, worker: &Worker, settings: &Provider) -> Option<CheckRequest> {
        let now = worker
            .wall_clock()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut http = with_facts(&self.seen, self.paths, self.facts, None, |request| {
            let path = match request.query {
                Some(query) => format!("{}?{query}", request.path),
                None => request.path.to_string(),
            };
            HttpRequest {
                method: request.method.to_string(),
                path,
                host: request.authority.to_string(),
                scheme: request.scheme.to_string(),
                ..HttpRequest::default()
            }
        })?;
        http.headers = self.all_headers(&http);
        http.id = http
            .headers
            .get("x-request-id")
            .cloned()
            .unwrap_or_default();
        http.size = i64::try_from(self.body.len()).unwrap_or(i64::MAX);
        http.protocol = match self.seen.head.version {
            Version::Http10 => "HTTP/1.0".to_string(),
            Version::Http11 => "HTTP/1.1".to_string(),
        };
        if let Some(wanted) = settings.body_in_check {
            let is_partial = self.is_body_cut.to_string();
            let name = "x-envoy-auth-partial-body".to_string();
            http.headers.insert(name, is_partial);
            match wanted.packs_as_bytes {
                true => http.raw_body.clone_from(&self.body),
                false => http.body = String::from_utf8_lossy(&self.body).into_owned(),
            }
        }
        let time = Timestamp {
            seconds: i64::try_from(now.as_secs()).unwrap_or_default(),
            nanos: i32::try_from(now.subsec_nanos()).unwrap_or_default(),
        };
        let attributes = AttributeContext {
            request: Some(TimedRequest {
                time: Some(time),
                http: Some(http),
            }),
            ..ends(self.facts)
        };
        Some(CheckRequest {
            attributes: Some(attributes),
        })
    }

    /// All headers as an upstream would see them, with what HTTP/2 has in their place; several
    /// lines of one name are joined.
    fn all_headers(&self, http: &HttpRequest) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        let mut add = |name: &str, value: &[u8]| {
            let value = String::from_utf8_lossy(value);
            let known: &mut String = headers.entry(name.to_ascii_lowercase()).or_default();
            if !known.is_empty() {
                known.push(',');
            }
            known.push_str(&value);
        };
        for (name, value) in [
            (":method", &http.method),
            (":path", &http.path),
            (":authority", &http.host),
            (":scheme", &http.scheme),
        ] {
            add(name, value.as_bytes());
        }
        self.visit_headers(&mut |name, value| add(&String::from_utf8_lossy(name), value));
        let has_length =
            |header: &ringroad_codec::http1::HeaderSpan| header.kind == HeaderKind::ContentLength;
        if let Some(length) = self
            .seen
            .head
            .headers
            .iter()
            .find(|header| has_length(header))
        {
            add("content-length", length.value.of(self.seen.bytes));
        }
        headers
    }
}
