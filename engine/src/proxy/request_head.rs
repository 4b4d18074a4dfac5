//! The head that goes upstream: one copy of the received head with its edits applied.

use super::client_cert::ForwardedCert;
use super::edits::EditLevels;
use super::grpc;
use super::request_id::RequestId;
use ringroad_codec::http1::{
    BodyFraming, HeaderKind, HeaderSpan, RequestHead, Upgrade, end_head, write_header, write_number,
};
use ringroad_policy::snapshot::{Direction, FormatContext};
use std::io::Write;
use std::net::IpAddr;

/// What the upstream request head is made of.
pub struct UpstreamHead<'a, C> {
    pub head: &'a RequestHead,
    /// The bytes that `head` was parsed from.
    pub bytes: &'a [u8],
    /// The normalised and perhaps rewritten path.
    pub path: &'a [u8],
    pub query: Option<&'a str>,
    /// What goes into `Host`.
    pub authority: &'a str,
    /// What the client speaks: `http` or `https`.
    pub scheme: &'static str,
    /// The path before a rewrite, if there was one.
    pub original_path: Option<&'a str>,
    /// The authority before a rewrite, if there was one.
    pub original_authority: Option<&'a str>,
    pub direction: Direction,
    pub client_cert: ForwardedCert<'a>,
    pub peer: IpAddr,
    pub attempt: u32,
    /// The route's timeout, announced to the upstream.
    pub timeout_ms: Option<u64>,
    /// Then `grpc-timeout` says the same.
    pub is_grpc: bool,
    /// The id that the proxy gives the request, if it does.
    pub request_id: &'a RequestId,
    pub edits: &'a EditLevels<'a>,
    pub format: &'a C,
}

/// Headers by which a client could steer the router, or say of which workload it is. They are for
/// trusted callers only, and no caller is trusted by default (Envoy's internal address list is
/// empty). Istio's proxies tell each other the workload by theirs, and take everybody else's out.
const STEERING: &[&str] = &[
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-max-retries",
    "x-envoy-original-url",
    "x-envoy-peer-metadata",
    "x-envoy-peer-metadata-id",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-stream-duration-ms",
];

/// Headers that a gateway, in addition, takes from nobody outside.
const EDGE: &[&str] = &[
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-external-address",
    "x-envoy-original-host",
    "x-envoy-original-path",
];

impl<C: FormatContext> UpstreamHead<'_, C> {
    /// Appends the whole head to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let is_edge = self.direction == Direction::Gateway;
        out.extend_from_slice(self.head.method.of(self.bytes));
        out.push(b' ');
        out.extend_from_slice(self.path);
        if let Some(query) = self.query {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
        if !self.authority.is_empty() {
            write_header(out, b"host", self.authority.as_bytes());
        }

        let grpc_timeout_ms = self.timeout_ms.filter(|_| self.is_grpc);
        let mut has_proto = false;
        let mut has_length = false;
        let mut takes_trailers = false;
        for span in &self.head.headers {
            let name = span.name.of(self.bytes);
            let kept = match span.kind {
                HeaderKind::Other if grpc_timeout_ms.is_some() => {
                    !name.eq_ignore_ascii_case(b"grpc-timeout")
                }
                HeaderKind::Other | HeaderKind::Trailer => true,
                HeaderKind::Host | HeaderKind::Expect => false,
                HeaderKind::ContentLength => {
                    has_length = true;
                    true
                }
                HeaderKind::Te => {
                    takes_trailers |= names_trailers(span.value.of(self.bytes));
                    false
                }
                HeaderKind::XForwardedFor => !is_edge,
                HeaderKind::XForwardedProto => {
                    has_proto |= !is_edge;
                    !is_edge
                }
                HeaderKind::XRequestId => self.request_id.get().is_none(),
                HeaderKind::XForwardedClientCert => {
                    self.client_cert.keeps && self.client_cert.adds.is_none()
                }
                HeaderKind::XEnvoy => keeps_envoy_header(name, is_edge),
                kind => !kind.is_hop_by_hop(),
            };
            if kept && self.edits.keeps(name, self.format) {
                write_header(out, name, span.value.of(self.bytes));
            }
        }
        if self.head.upgrade == Upgrade::WebSocket {
            out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
        }
        if self.head.framing == BodyFraming::Chunked {
            write_header(out, b"transfer-encoding", b"chunked");
        } else if !has_length && should_tell_length(self.head.method.of(self.bytes)) {
            write_header(out, b"content-length", b"0");
        }
        if takes_trailers && self.edits.keeps(b"te", self.format) {
            write_header(out, b"te", b"trailers");
        }
        if is_edge && self.edits.keeps(b"x-forwarded-for", self.format) {
            out.extend_from_slice(b"x-forwarded-for: ");
            write_forwarded_for(self.head, self.bytes, Some(self.peer), out);
            out.extend_from_slice(b"\r\n");
        }
        if !has_proto && self.edits.keeps(b"x-forwarded-proto", self.format) {
            write_header(out, b"x-forwarded-proto", self.scheme.as_bytes());
        }
        if self.edits.keeps(b"x-forwarded-client-cert", self.format) {
            self.client_cert.write(self.head, self.bytes, out);
        }
        if let Some(id) = self.request_id.get()
            && self.edits.keeps(b"x-request-id", self.format)
        {
            write_header(out, b"x-request-id", id);
        }
        if is_edge && self.edits.keeps(b"x-envoy-external-address", self.format) {
            out.extend_from_slice(b"x-envoy-external-address: ");
            write_ip(self.peer, out);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(timeout_ms) = self.timeout_ms
            && self
                .edits
                .keeps(b"x-envoy-expected-rq-timeout-ms", self.format)
        {
            write_number_line(out, "x-envoy-expected-rq-timeout-ms: ", timeout_ms);
        }
        if let Some(timeout_ms) = grpc_timeout_ms {
            grpc::write_timeout(timeout_ms, out);
        }
        if self.edits.keeps(b"x-envoy-attempt-count", self.format) {
            write_number_line(out, "x-envoy-attempt-count: ", u64::from(self.attempt));
        }
        if let Some(original) = self.original_path {
            out.extend_from_slice(b"x-envoy-original-path: ");
            out.extend_from_slice(original.as_bytes());
            if let Some(query) = self.query {
                out.push(b'?');
                out.extend_from_slice(query.as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
        if let Some(original) = self.original_authority {
            write_header(out, b"x-envoy-original-host", original.as_bytes());
        }
        self.edits.write(self.format, out);
        end_head(out);
    }
}

/// Appends the addresses that came in `X-Forwarded-For`, and the peer's where it is added.
pub fn write_forwarded_for(
    head: &RequestHead,
    bytes: &[u8],
    peer: Option<IpAddr>,
    out: &mut Vec<u8>,
) {
    let start = out.len();
    let came = |header: &&HeaderSpan| header.kind == HeaderKind::XForwardedFor;
    for header in head.headers.iter().filter(came) {
        if out.len() > start {
            out.push(b',');
        }
        out.extend_from_slice(header.value.of(bytes));
    }
    if let Some(peer) = peer {
        if out.len() > start {
            out.push(b',');
        }
        write_ip(peer, out);
    }
}

/// Whether a request without a body says so: all methods but those for which nobody expects one
/// (RFC 9110 section 8.6).
fn should_tell_length(method: &[u8]) -> bool {
    let bodiless: [&[u8]; 5] = [b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"];
    !bodiless.contains(&method)
}

/// Whether a `TE` value takes trailers, the one thing in it that holds beyond this connection: they
/// are passed on as they come (RFC 9110 section 10.1.4).
fn names_trailers(value: &[u8]) -> bool {
    value
        .split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn keeps_envoy_header(name: &[u8], is_edge: bool) -> bool {
    let listed = |list: &[&str]| list.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes()));
    let ours = name.eq_ignore_ascii_case(b"x-envoy-attempt-count");
    !(ours || listed(STEERING) || is_edge && listed(EDGE))
}

/// Appends a header line with a number; `name` ends with the colon and the space.
pub fn write_number_line(out: &mut Vec<u8>, name: &str, number: u64) {
    out.extend_from_slice(name.as_bytes());
    write_number(out, number);
    out.extend_from_slice(b"\r\n");
}

/// Appends an address without port; IPv6 without brackets, as Envoy does.
pub fn write_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            let mut text = [0; "255.255.255.255.".len()];
            let mut len = 0;
            let mut put = |byte| {
                text[len] = byte;
                len += 1;
            };
            for octet in ip.octets() {
                if octet > 99 {
                    put(b'0' + octet / 100);
                }
                if octet > 9 {
                    put(b'0' + octet / 10 % 10);
                }
                put(b'0' + octet % 10);
                put(b'.');
            }
            out.extend_from_slice(&text[..len - 1]);
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(ip) => drop(write!(out, "{ip}")),
    }
}
