//! Response heads (RFC 9112 section 4).

use std::mem::MaybeUninit;

use super::fields::{self, TransferCoding};
use super::head_end::{EndSearch, Side, diagnose, line_ends_are_crlf};
use super::limits::USUAL_HEADERS;
use super::request::{name_starts, version_fault};
use super::{
    BodyFraming, HeadError, HeadErrorKind, HeadLimits, HeaderSpan, Headers, Progress, Span,
    Upgrade, Version, is_field_value,
};

/// A parsed response head. All ranges refer to the buffer it was parsed from. Recycle it: its
/// header list keeps its capacity.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The version.
    pub version: Version,
    /// The status code, 100 to 999.
    pub status: u16,
    /// The reason phrase, possibly empty.
    pub reason: Span,
    /// The header lines, in order.
    pub headers: Vec<HeaderSpan>,
    /// Bytes of the head, the empty line after it included: the body starts here.
    pub head_len: usize,
    /// How the body is delimited (RFC 9112 section 6.3). `None` after a 1xx, 204, 304, any answer
    /// to HEAD, a 2xx answer to CONNECT; after 101 and that 2xx the tunnel follows.
    pub framing: BodyFraming,
    /// The `Content-Length`, also where there is no body to it (HEAD, 304).
    pub content_length: Option<u64>,
    /// Whether the connection can be used again once the body has ended. Always false with
    /// `UntilClose`.
    pub keep_alive: bool,
    /// The protocol that a 101 switches to; `None` with any other status.
    pub upgrade: Upgrade,
    search: EndSearch,
}

impl ResponseHead {
    /// Forgets everything but the capacity. Needed only when a head that was `Incomplete` is
    /// given up and the value is used for another message.
    pub fn reset(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = ResponseHead {
            headers,
            ..ResponseHead::default()
        };
    }

    /// The headers, for lookups by name.
    pub fn headers<'a>(&'a self, buf: &'a [u8]) -> Headers<'a> {
        Headers::new(buf, &self.headers)
    }

    /// Whether this is a 1xx other than 101: the final response follows it on the connection
    /// (RFC 9110 section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }
}

/// Parses the response head at the start of `buf`. The request it answers decides whether a body
/// follows: `request_method_is_head`, `request_is_connect`.
///
/// Calls go on after `Incomplete` as those of [`parse_request`](super::parse_request) do. No blank
/// line is tolerated before the status line.
///
/// # Errors
/// See [`HeadErrorKind`]; [`HeadError::status`] is always 502.
pub fn parse_response(
    buf: &[u8],
    limits: &HeadLimits,
    request_method_is_head: bool,
    request_is_connect: bool,
    head: &mut ResponseHead,
) -> Result<Progress, HeadError> {
    let result = parse(
        buf,
        limits,
        request_method_is_head,
        request_is_connect,
        head,
    );
    if result != Ok(Progress::Incomplete) {
        head.search = EndSearch::default();
    }
    result.map_err(|kind| HeadError {
        kind,
        in_response: true,
    })
}

fn parse(
    buf: &[u8],
    limits: &HeadLimits,
    to_head: bool,
    to_connect: bool,
    head: &mut ResponseHead,
) -> Result<Progress, HeadErrorKind> {
    // As in requests: the good case at once, every other by the search.
    if head.search.is_fresh() && buf.first() == Some(&b'H') {
        let mut slots = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
        let slots = &mut slots[..limits.max_headers.min(USUAL_HEADERS)];
        let mut tokens = httparse::Response::new(&mut []);
        if let Ok(httparse::Status::Complete(len)) = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut tokens, buf, slots)
            && len <= limits.max_head_bytes
            && line_ends_are_crlf(buf, name_starts(buf, tokens.headers), len)
        {
            let asked = (to_head, to_connect);
            return finish(buf, len, tokens.headers, limits, asked, head);
        }
    }
    search(buf, limits, to_head, to_connect, head)
}

/// What is not whole, not usual or not right.
#[cold]
#[inline(never)]
fn search(
    buf: &[u8],
    limits: &HeadLimits,
    to_head: bool,
    to_connect: bool,
    head: &mut ResponseHead,
) -> Result<Progress, HeadErrorKind> {
    let found = head.search.advance(buf, limits, Side::Response, |line| {
        status_line(line).map(drop)
    })?;
    let Some(len) = found else {
        return Ok(Progress::Incomplete);
    };
    let mut slots = [const { MaybeUninit::uninit() }; HeadLimits::HEADERS_CEILING];
    let slots = &mut slots[..limits.max_headers.min(HeadLimits::HEADERS_CEILING)];
    let config = httparse::ParserConfig::default();
    let mut tokens = httparse::Response::new(&mut []);
    match config.parse_response_with_uninit_headers(&mut tokens, &buf[..len], slots) {
        Ok(httparse::Status::Complete(used)) if used == len => finish(
            buf,
            len,
            tokens.headers,
            limits,
            (to_head, to_connect),
            head,
        ),
        Err(httparse::Error::TooManyHeaders) => Err(HeadErrorKind::TooManyHeaders),
        _ => {
            let first_line_end = memchr::memchr(b'\n', &buf[..len]).map_or(len, |n| n + 1);
            Err(diagnose(&buf[first_line_end..len]))
        }
    }
}

struct StatusLine<'a> {
    version: Version,
    status: u16,
    reason: &'a [u8],
}

fn status_line(line: &[u8]) -> Result<StatusLine<'_>, HeadErrorKind> {
    let Some((version, rest)) = line.split_first_chunk::<8>() else {
        return Err(HeadErrorKind::InvalidStatusLine);
    };
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        other => return Err(version_fault(other)),
    };
    let (digits, reason) = match rest {
        [b' ', a, b, c] => ([a, b, c], &rest[4..]),
        [b' ', a, b, c, b' ', reason @ ..] => ([a, b, c], reason),
        _ => return Err(HeadErrorKind::InvalidStatusLine),
    };
    if !digits.iter().all(|d| d.is_ascii_digit()) || !is_field_value(reason) {
        return Err(HeadErrorKind::InvalidStatusLine);
    }
    let status = digits
        .iter()
        .fold(0u16, |n, d| n * 10 + u16::from(**d - b'0'));
    if status < 100 {
        return Err(HeadErrorKind::InvalidStatusLine);
    }
    Ok(StatusLine {
        version,
        status,
        reason,
    })
}

/// The rules that hold for a tokenised head whose lines all end in CRLF.
fn finish(
    buf: &[u8],
    len: usize,
    lines: &[httparse::Header<'_>],
    limits: &HeadLimits,
    (to_head, to_connect): (bool, bool),
    head: &mut ResponseHead,
) -> Result<Progress, HeadErrorKind> {
    let line_end = match name_starts(buf, lines).next() {
        Some(first_name) => first_name - 2,
        None => len - 4,
    };
    let StatusLine {
        version,
        status,
        reason,
    } = status_line(&buf[..line_end])?;
    head.version = version;
    head.status = status;
    head.reason = Span::locate(buf, reason);
    head.head_len = len;

    let facts = fields::collect(buf, lines, limits, Side::Response, &mut head.headers)?;
    facts.check_framing(version)?;
    let tunnel = to_connect && (200..300).contains(&status);
    if status < 200 || status == 204 || tunnel {
        facts.check_no_body()?;
    }
    head.content_length = facts.content_length;
    head.framing = if to_head || status < 200 || status == 204 || status == 304 || tunnel {
        BodyFraming::None
    } else {
        match (facts.transfer_coding, facts.content_length) {
            (TransferCoding::Chunked, _) => BodyFraming::Chunked,
            (_, Some(0)) => BodyFraming::None,
            (_, Some(length)) => BodyFraming::Length(length),
            _ => BodyFraming::UntilClose,
        }
    };
    head.keep_alive = head.framing != BodyFraming::UntilClose && facts.persists(version);
    head.upgrade = if status == 101 {
        facts.upgrade(version)
    } else {
        Upgrade::None
    };
    Ok(Progress::Complete)
}
