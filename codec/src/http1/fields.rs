//! What the header lines of a head say about framing, persistence and routing.

use super::head_end::Side;
use super::{BodyLimits, HeadErrorKind, HeadLimits, HeaderKind, HeaderSpan, Span};

/// The protocol change that a request asks for, or that a response grants (RFC 9110 section 7.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upgrade {
    /// None, or `Upgrade` without `Connection: upgrade`, or in HTTP/1.0.
    #[default]
    None,
    /// `h2c` alone (RFC 7540 section 3.2).
    H2c,
    /// `websocket` alone (RFC 6455).
    WebSocket,
    /// Anything else, also several at choice: Envoy takes none of them.
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TransferCoding {
    #[default]
    Absent,
    Chunked,
    Unsupported,
    Repeated,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expectation {
    #[default]
    None,
    Continue,
    Unsupported,
}

/// Collected in one pass over the header lines.
#[derive(Debug, Default)]
pub(super) struct FieldFacts {
    pub(super) content_length: Option<u64>,
    pub(super) transfer_coding: TransferCoding,
    pub(super) host: Option<Span>,
    pub(super) expectation: Expectation,
    pub(super) te_trailers: bool,
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    upgrade_option: bool,
    upgrade: Upgrade,
}

impl FieldFacts {
    /// Whether the connection persists after this message (RFC 9112 section 9.3).
    pub(super) fn persists(&self, version: super::Version) -> bool {
        match version {
            super::Version::Http11 => !self.close,
            super::Version::Http10 => self.keep_alive && !self.close,
        }
    }

    pub(super) fn upgrade(&self, version: super::Version) -> Upgrade {
        if !self.upgrade_option || version == super::Version::Http10 {
            Upgrade::None
        } else {
            self.upgrade
        }
    }

    /// The faults of `Transfer-Encoding` and `Content-Length` that no message may have.
    pub(super) fn check_framing(&self, version: super::Version) -> Result<(), HeadErrorKind> {
        match self.transfer_coding {
            TransferCoding::Absent => Ok(()),
            _ if version == super::Version::Http10 => {
                Err(HeadErrorKind::TransferEncodingNotAllowed)
            }
            _ if self.content_length.is_some() => {
                Err(HeadErrorKind::ContentLengthWithTransferEncoding)
            }
            TransferCoding::Chunked => Ok(()),
            TransferCoding::Repeated => Err(HeadErrorKind::DuplicateTransferEncoding),
            TransferCoding::Unsupported => Err(HeadErrorKind::UnsupportedTransferEncoding),
        }
    }

    /// That a message without a body does not announce one. `Content-Length: 0` is harmless.
    pub(super) fn check_no_body(&self) -> Result<(), HeadErrorKind> {
        if self.transfer_coding != TransferCoding::Absent {
            Err(HeadErrorKind::TransferEncodingNotAllowed)
        } else if self.content_length.is_some_and(|length| length > 0) {
            Err(HeadErrorKind::ContentLengthNotAllowed)
        } else {
            Ok(())
        }
    }
}

/// Fills `out` from the tokenised lines and gathers their facts.
pub(super) fn collect(
    buf: &[u8],
    lines: &[httparse::Header<'_>],
    limits: &HeadLimits,
    side: Side,
    out: &mut Vec<HeaderSpan>,
) -> Result<FieldFacts, HeadErrorKind> {
    let mut facts = FieldFacts::default();
    let mut has_connection = false;
    out.clear();
    for line in lines {
        let kind = HeaderKind::of_name(line.name.as_bytes());
        let span = HeaderSpan {
            name: Span::locate(buf, line.name.as_bytes()),
            value: Span::locate(buf, line.value),
            kind,
        };
        out.push(span);
        match kind {
            HeaderKind::Host if side == Side::Request => {
                let earlier = facts.host.replace(span.value);
                if earlier.is_some() {
                    return Err(HeadErrorKind::DuplicateHost);
                }
            }
            HeaderKind::ContentLength => {
                let length = parse_content_length(line.value)?;
                if facts.content_length.replace(length).is_some() {
                    return Err(HeadErrorKind::DuplicateContentLength);
                }
            }
            HeaderKind::TransferEncoding => {
                facts.transfer_coding = match facts.transfer_coding {
                    TransferCoding::Absent if line.value.eq_ignore_ascii_case(b"chunked") => {
                        TransferCoding::Chunked
                    }
                    TransferCoding::Absent => TransferCoding::Unsupported,
                    _ => TransferCoding::Repeated,
                };
            }
            HeaderKind::Connection => has_connection = true,
            HeaderKind::Te => {
                facts.te_trailers |= list(line.value).any(|t| t.eq_ignore_ascii_case(b"trailers"));
            }
            HeaderKind::Upgrade => {
                let is_only = facts.upgrade == Upgrade::None;
                facts.upgrade = match line.value.trim_ascii() {
                    only if is_only && only.eq_ignore_ascii_case(b"websocket") => {
                        Upgrade::WebSocket
                    }
                    only if is_only && only.eq_ignore_ascii_case(b"h2c") => Upgrade::H2c,
                    _ => Upgrade::Other,
                };
            }
            HeaderKind::Expect if side == Side::Request => {
                for expectation in list(line.value) {
                    let is_known = expectation.eq_ignore_ascii_case(b"100-continue");
                    facts.expectation = match facts.expectation {
                        Expectation::Unsupported => Expectation::Unsupported,
                        _ if is_known => Expectation::Continue,
                        _ => Expectation::Unsupported,
                    };
                }
            }
            _ => {}
        }
    }
    if has_connection {
        read_connection(buf, limits, side, out, &mut facts)?;
    }
    Ok(facts)
}

/// Reads all `Connection` headers and marks the headers they name.
fn read_connection(
    buf: &[u8],
    limits: &HeadLimits,
    side: Side,
    spans: &mut [HeaderSpan],
    facts: &mut FieldFacts,
) -> Result<(), HeadErrorKind> {
    let mut options = 0;
    for index in 0..spans.len() {
        if spans[index].kind != HeaderKind::Connection {
            continue;
        }
        for option in list(spans[index].value.of(buf)) {
            options += 1;
            if options > limits.max_connection_options || !super::is_token(option) {
                return Err(HeadErrorKind::ConnectionHeaderRejected);
            }
            if option.eq_ignore_ascii_case(b"keep-alive") {
                facts.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"close") {
                facts.close = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                facts.upgrade_option = true;
            } else {
                mark_named(buf, side, spans, option)?;
            }
        }
    }
    Ok(())
}

/// Marks the headers called `option` as hop-by-hop. A sender may not strip what the next reader
/// needs to frame, route, trust or attribute the message: naming such a header is refused, as
/// Envoy refuses it for `X-Forwarded-*`.
fn mark_named(
    buf: &[u8],
    side: Side,
    spans: &mut [HeaderSpan],
    option: &[u8],
) -> Result<(), HeadErrorKind> {
    let kind = HeaderKind::of_name(option);
    if kind.is_hop_by_hop() {
        return Ok(());
    }
    let protected = match side {
        Side::Response => kind == HeaderKind::ContentLength,
        Side::Request => {
            const END_TO_END: [&str; 8] = [
                "authorization",
                "cookie",
                "content-encoding",
                "content-range",
                "content-type",
                "forwarded",
                "range",
                "via",
            ];
            matches!(
                kind,
                HeaderKind::Host
                    | HeaderKind::ContentLength
                    | HeaderKind::Expect
                    | HeaderKind::XForwardedFor
                    | HeaderKind::XForwardedProto
                    | HeaderKind::XForwardedHost
                    | HeaderKind::XForwardedClientCert
                    | HeaderKind::XRequestId
                    | HeaderKind::XEnvoy
            ) || END_TO_END
                .iter()
                .any(|name| option.eq_ignore_ascii_case(name.as_bytes()))
        }
    };
    if protected {
        return Err(HeadErrorKind::ConnectionHeaderRejected);
    }
    for span in spans {
        if !span.kind.is_hop_by_hop() && span.name.of(buf).eq_ignore_ascii_case(option) {
            span.kind = HeaderKind::NamedByConnection;
        }
    }
    Ok(())
}

/// The non-empty elements of a comma-separated list (RFC 9110 section 5.6.1).
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|b| *b == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

fn parse_content_length(value: &[u8]) -> Result<u64, HeadErrorKind> {
    if value.is_empty() {
        return Err(HeadErrorKind::InvalidContentLength);
    }
    let mut length = 0u64;
    for digit in value {
        if !digit.is_ascii_digit() {
            return Err(HeadErrorKind::InvalidContentLength);
        }
        length = length
            .checked_mul(10)
            .and_then(|n| n.checked_add(u64::from(digit - b'0')))
            .filter(|n| *n <= BodyLimits::MAX_LENGTH)
            .ok_or(HeadErrorKind::InvalidContentLength)?;
    }
    Ok(length)
}
