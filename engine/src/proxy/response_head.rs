//! The head that goes downstream.

use super::edits::EditLevels;
use super::request_head::write_number_line;
use crate::worker::Worker;
use ringroad_codec::http1::{
    BodyFraming, HeaderKind, ResponseHead, Version, end_head, write_header, write_status_line,
};
use ringroad_policy::snapshot::{Direction, FormatContext, HashCookie};

/// How a response body goes downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As received, its framing included.
    AsReceived,
    /// Chunks taken off: the client speaks HTTP/1.0 and the close ends the body.
    Dechunked,
    /// Each piece put into a chunk: the upstream ends its body by closing.
    Chunked,
}

/// What the downstream response head is made of.
pub struct DownstreamHead<'a, C> {
    pub head: &'a ResponseHead,
    pub bytes: &'a [u8],
    pub delivery: Delivery,
    pub client_version: Version,
    /// Whether the downstream connection goes on after this response.
    pub keep_alive: bool,
    pub direction: Direction,
    pub upstream_service_time_ms: u64,
    pub edits: &'a EditLevels<'a>,
    /// A cookie that was made for the client, and its value.
    pub made_cookie: Option<(&'a HashCookie, u64)>,
    pub format: &'a C,
}

impl Delivery {
    /// How a body that came with `framing` goes to a client of `version`.
    pub fn choose(framing: BodyFraming, version: Version) -> Self {
        match (framing, version) {
            (BodyFraming::Chunked, Version::Http10) => Self::Dechunked,
            (BodyFraming::UntilClose, Version::Http11) => Self::Chunked,
            _ => Self::AsReceived,
        }
    }
}

/// The value of `server`: Istio's gateways and inbound sidecars say `istio-envoy`, outbound
/// sidecars `envoy`.
pub fn server_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "envoy",
        Direction::Gateway | Direction::Inbound => "istio-envoy",
    }
}

impl<C: FormatContext> DownstreamHead<'_, C> {
    /// Appends the whole head to `out`.
    pub fn write(&self, worker: &Worker, out: &mut Vec<u8>) {
        let has_edits = !self.edits.is_empty();
        let keeps = |name: &[u8]| !has_edits || self.edits.keeps(name, self.format);
        write_status_line(out, self.head.status);
        let mut has_date = false;
        for span in &self.head.headers {
            let name = span.name.of(self.bytes);
            let kept = match span.kind {
                HeaderKind::Other | HeaderKind::Date => true,
                HeaderKind::Server => false,
                HeaderKind::ContentLength => may_have_length(self.head.status),
                HeaderKind::XEnvoy => !name.eq_ignore_ascii_case(b"x-envoy-upstream-service-time"),
                kind => !kind.is_hop_by_hop(),
            };
            if kept && keeps(name) {
                write_header(out, name, span.value.of(self.bytes));
                has_date |= span.kind == HeaderKind::Date;
            }
        }
        let chunked = self.head.framing == BodyFraming::Chunked
            && self.delivery == Delivery::AsReceived
            || self.delivery == Delivery::Chunked;
        if chunked {
            write_header(out, b"transfer-encoding", b"chunked");
        }
        if !has_date && !self.edits.gives("date", self.format) {
            out.extend_from_slice(b"date: ");
            worker.write_date(out);
            out.extend_from_slice(b"\r\n");
        }
        if keeps(b"x-envoy-upstream-service-time") {
            write_number_line(
                out,
                "x-envoy-upstream-service-time: ",
                self.upstream_service_time_ms,
            );
        }
        write_header(out, b"server", server_name(self.direction).as_bytes());
        self.edits.write(self.format, out);
        if let Some((cookie, value)) = self.made_cookie {
            out.extend_from_slice(b"set-cookie: ");
            cookie.write(value, out);
            out.extend_from_slice(b"\r\n");
        }
        match self.head.status {
            101 => out.extend_from_slice(b"connection: Upgrade\r\nupgrade: websocket\r\n"),
            _ => write_connection(self.keep_alive, self.client_version, out),
        }
        end_head(out);
    }
}

/// Whether a response of this status may carry a `Content-Length` (RFC 9110 section 8.6).
fn may_have_length(status: u16) -> bool {
    status >= 200 && status != 204
}

/// Appends an interim response: status and headers, nothing of ours.
pub fn write_interim(head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    write_status_line(out, head.status);
    for span in &head.headers {
        if span.kind != HeaderKind::ContentLength && !span.kind.is_hop_by_hop() {
            write_header(out, span.name.of(bytes), span.value.of(bytes));
        }
    }
    end_head(out);
}

/// Appends the `connection` line where the version's default does not say it already.
pub fn write_connection(keep_alive: bool, version: Version, out: &mut Vec<u8>) {
    match (keep_alive, version) {
        (false, _) => write_header(out, b"connection", b"close"),
        (true, Version::Http10) => write_header(out, b"connection", b"keep-alive"),
        (true, Version::Http11) => {}
    }
}
