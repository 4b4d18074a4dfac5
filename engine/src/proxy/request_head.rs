//! The head that goes upstream: one copy of the received head with its edits applied.

use super::edits::EditLevels;
use super::grpc;
use super::seen_head::SeenHead;
use ringroad_codec::http1::{
    BodyFraming, HeaderKind, Upgrade, end_head, write_header, write_number,
};
use ringroad_policy::snapshot::{FormatContext, is_taken_from_callers, names_trailers};
use std::io::Write;
use std::net::IpAddr;

/// What the upstream request head is made of.
pub struct UpstreamHead<'a, C> {
    pub seen: &'a SeenHead<'a>,
    /// The normalised and perhaps rewritten path.
    pub path: &'a [u8],
    pub query: Option<&'a str>,
    /// What goes into `Host`.
    pub authority: &'a str,
    /// The path before a rewrite, if there was one.
    pub original_path: Option<&'a str>,
    /// The authority before a rewrite, if there was one.
    pub original_authority: Option<&'a str>,
    pub attempt: u32,
    /// The route's timeout, announced to the upstream.
    pub timeout_ms: Option<u64>,
    /// Then `grpc-timeout` says the same.
    pub is_grpc: bool,
    pub edits: &'a EditLevels<'a>,
    pub format: &'a C,
}

impl<C: FormatContext> UpstreamHead<'_, C> {
    /// Appends the whole head to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        let SeenHead {
            head,
            bytes,
            request_id,
            client_cert,
            ..
        } = *self.seen;
        let is_edge = self.seen.is_edge();
        let has_edits = !self.edits.is_empty();
        let keeps = |name: &[u8]| !has_edits || self.edits.keeps(name, self.format);
        out.extend_from_slice(self.seen.method());
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
        for span in &head.headers {
            let name = span.name.of(bytes);
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
                    takes_trailers |= names_trailers(span.value.of(bytes));
                    false
                }
                HeaderKind::XForwardedFor => !is_edge,
                HeaderKind::XForwardedProto => {
                    has_proto |= !is_edge;
                    !is_edge
                }
                HeaderKind::XRequestId => request_id.get().is_none(),
                HeaderKind::XForwardedClientCert => client_cert.keeps && client_cert.adds.is_none(),
                HeaderKind::XEnvoy => !is_taken_from_callers(name, self.seen.direction),
                kind => !kind.is_hop_by_hop(),
            };
            if kept && keeps(name) {
                write_header(out, name, span.value.of(bytes));
            }
        }
        if head.upgrade == Upgrade::WebSocket {
            out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n");
        }
        if head.framing == BodyFraming::Chunked {
            write_header(out, b"transfer-encoding", b"chunked");
        } else if !has_length && should_tell_length(self.seen.method()) {
            write_header(out, b"content-length", b"0");
        }
        if takes_trailers && keeps(b"te") {
            write_header(out, b"te", b"trailers");
        }
        let mut peer_written_at = None;
        if is_edge && keeps(b"x-forwarded-for") {
            out.extend_from_slice(b"x-forwarded-for: ");
            peer_written_at = Some(self.seen.write_forwarded_for(out));
            out.extend_from_slice(b"\r\n");
        }
        if !has_proto && keeps(b"x-forwarded-proto") {
            write_header(out, b"x-forwarded-proto", self.seen.scheme.as_bytes());
        }
        if keeps(b"x-forwarded-client-cert") {
            self.seen.write_client_cert(out);
        }
        if let Some(id) = request_id.get()
            && keeps(b"x-request-id")
        {
            write_header(out, b"x-request-id", id);
        }
        if is_edge && keeps(b"x-envoy-external-address") {
            out.extend_from_slice(b"x-envoy-external-address: ");
            match peer_written_at {
                Some(text) => out.extend_from_within(text),
                None => write_ip(self.seen.peer, out),
            }
            out.extend_from_slice(b"\r\n");
        }
        if let Some(timeout_ms) = self.timeout_ms
            && keeps(b"x-envoy-expected-rq-timeout-ms")
        {
            write_number_line(out, "x-envoy-expected-rq-timeout-ms: ", timeout_ms);
        }
        if let Some(timeout_ms) = grpc_timeout_ms {
            grpc::write_timeout(timeout_ms, out);
        }
        if keeps(b"x-envoy-attempt-count") {
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
        // What was rewritten is told whatever the operations say, as by Envoy.
        let is_told = |name: &str| match name {
            "x-envoy-original-path" => self.original_path.is_some(),
            "x-envoy-original-host" => self.original_authority.is_some(),
            _ => false,
        };
        self.edits.write_but(is_told, self.format, out);
        end_head(out);
    }
}

/// Whether a request without a body says so: all methods but those for which nobody expects one
/// (RFC 9110 section 8.6).
fn should_tell_length(method: &[u8]) -> bool {
    let bodiless: [&[u8]; 5] = [b"GET", b"HEAD", b"DELETE", b"TRACE", b"CONNECT"];
    !bodiless.contains(&method)
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

#[cfg(test)]
#[path = "request_head_tests.rs"]
mod tests;
