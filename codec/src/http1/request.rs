//! Request heads (RFC 9112 section 3).

use std::mem::MaybeUninit;

use super::authority::valid_authority;
use super::fields::{self, Expectation, TransferCoding};
use super::head_end::{EndSearch, Side, diagnose, line_ends_are_crlf};
use super::limits::USUAL_HEADERS;
use super::target::{self, TargetForm};
use super::{
    BodyFraming, HeadError, HeadErrorKind, HeadLimits, HeaderSpan, Headers, Progress, Span,
    Upgrade, Version, is_token,
};

/// A parsed request head. All ranges refer to the buffer it was parsed from. Recycle it: its
/// header list keeps its capacity.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method, a token; unknown methods pass.
    pub method: Span,
    /// The request target as sent.
    pub target: Span,
    /// The form of the target, with its parts.
    pub target_form: TargetForm,
    /// The version.
    pub version: Version,
    /// The header lines, in order.
    pub headers: Vec<HeaderSpan>,
    /// Bytes of the head, blank lines before it and the empty line after it included: the body
    /// starts here.
    pub head_len: usize,
    /// How the body is delimited (RFC 9112 section 6.3); never `UntilClose`. After a CONNECT it
    /// is `None`: what follows is the tunnel.
    pub framing: BodyFraming,
    /// Whether the client means to go on with the connection (RFC 9112 section 9.3), and may: what it
    /// sends behind a request for a WebSocket may be meant for that, also when it is not granted.
    pub keep_alive: bool,
    /// Whether the client waits for 100 before it sends its body; false in HTTP/1.0 and when
    /// there is no body (RFC 9110 section 10.1.1).
    pub expect_continue: bool,
    /// The protocol change asked for.
    pub upgrade: Upgrade,
    /// Whether `TE: trailers` was sent (RFC 9110 section 10.1.4).
    pub te_trailers: bool,
    /// The authority the request is for: that of an absolute or authority-form target, else the
    /// value of `Host`, valid as `host [":" port]`. It may be empty with an asterisk target, and
    /// is `None` for an HTTP/1.0 request without `Host`.
    pub host: Option<Span>,
    search: EndSearch,
}

impl RequestHead {
    /// How many empty lines stood before the request line.
    #[inline]
    pub fn blank_lines(&self) -> usize {
        self.method.start as usize / 2
    }

    /// Forgets everything but the capacity. Needed only when a head that was `Incomplete` is
    /// given up and the value is used for another message.
    pub fn reset(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = RequestHead {
            headers,
            ..RequestHead::default()
        };
    }

    /// The headers, for lookups by name.
    pub fn headers<'a>(&'a self, buf: &'a [u8]) -> Headers<'a> {
        Headers::new(buf, &self.headers)
    }

    /// Path and query as the origin form has them. One piece has no range in the buffer: an
    /// absolute target without a path gets `/` in front (`http://a?x` is `/?x`). So the result is
    /// a constant prefix and the rest. Empty for CONNECT.
    ///
    /// That is so for OPTIONS as well: `*`, which RFC 9112 section 3.2.4 asks for, has no route.
    pub fn path_and_query<'b>(&self, buf: &'b [u8]) -> (&'static str, &'b [u8]) {
        match self.target_form {
            TargetForm::Origin | TargetForm::Asterisk => ("", self.target.of(buf)),
            TargetForm::Authority => ("", &[]),
            TargetForm::Absolute { path, .. } => {
                let path = path.of(buf);
                match path.first() {
                    Some(b'/') => ("", path),
                    _ => ("/", path),
                }
            }
        }
    }
}

/// Parses the request head at the start of `buf`.
///
/// `buf` holds all bytes received since the end of the previous message. After `Incomplete`, call
/// again with the same bytes and more: the search goes on where it stopped. After `Complete` or an
/// error `head` may be used for the next message at once; its fields are meaningful only after
/// `Complete`.
///
/// # Errors
/// See [`HeadErrorKind`]. The verdict on given bytes does not depend on how they were split.
pub fn parse_request(
    buf: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Progress, HeadError> {
    let result = parse(buf, limits, head);
    if result != Ok(Progress::Incomplete) {
        head.search = EndSearch::default();
    }
    result.map_err(|kind| HeadError {
        kind,
        in_response: false,
    })
}

fn parse(
    buf: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Progress, HeadErrorKind> {
    // The common case: the whole head is here and nothing is wrong with it. Everything else takes
    // the search below, which alone decides what is wrong.
    if head.search.is_fresh() && buf.first().is_some_and(|b| !matches!(b, b'\r' | b'\n')) {
        let mut slots = [const { MaybeUninit::uninit() }; USUAL_HEADERS];
        let slots = &mut slots[..limits.max_headers.min(USUAL_HEADERS)];
        let mut tokens = httparse::Request::new(&mut []);
        if let Ok(httparse::Status::Complete(len)) = tokens.parse_with_uninit_headers(buf, slots)
            && len <= limits.max_head_bytes
            && line_ends_are_crlf(buf, name_starts(buf, tokens.headers), len)
        {
            return finish(buf, len, &tokens, limits, head);
        }
    }
    search(buf, limits, head)
}

/// What is not whole, not usual or not right.
#[cold]
#[inline(never)]
fn search(
    buf: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Progress, HeadErrorKind> {
    let found = head.search.advance(buf, limits, Side::Request, |line| {
        request_line(line)
            .and_then(|l| target::classify(l.method, l.target, 0))
            .map(drop)
    })?;
    let Some(len) = found else {
        return Ok(Progress::Incomplete);
    };
    let start = head.search.start;
    let mut slots = [const { MaybeUninit::uninit() }; HeadLimits::HEADERS_CEILING];
    let slots = &mut slots[..limits.max_headers.min(HeadLimits::HEADERS_CEILING)];
    let mut tokens = httparse::Request::new(&mut []);
    match tokens.parse_with_uninit_headers(&buf[start..len], slots) {
        Ok(httparse::Status::Complete(used)) if start + used == len => {
            finish(buf, len, &tokens, limits, head)
        }
        Err(httparse::Error::TooManyHeaders) => Err(HeadErrorKind::TooManyHeaders),
        _ => {
            let first_line_end =
                memchr::memchr(b'\n', &buf[start..len]).map_or(len, |n| n + start + 1);
            Err(diagnose(&buf[first_line_end..len]))
        }
    }
}

pub(super) fn name_starts(
    buf: &[u8],
    lines: &[httparse::Header<'_>],
) -> impl Iterator<Item = usize> {
    lines
        .iter()
        .map(|line| Span::locate(buf, line.name.as_bytes()).start as usize)
}

struct RequestLine<'a> {
    method: &'a [u8],
    target: &'a [u8],
    version: Version,
}

fn request_line(line: &[u8]) -> Result<RequestLine<'_>, HeadErrorKind> {
    let method_len = memchr::memchr(b' ', line).ok_or(HeadErrorKind::InvalidRequestLine)?;
    let (method, rest) = (&line[..method_len], &line[method_len + 1..]);
    if !is_token(method) {
        return Err(HeadErrorKind::InvalidMethod);
    }
    let target_len = memchr::memchr(b' ', rest).ok_or(HeadErrorKind::InvalidRequestLine)?;
    let (target, version) = (&rest[..target_len], &rest[target_len + 1..]);
    if target.is_empty() {
        return Err(HeadErrorKind::InvalidRequestLine);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        b"HTTP/2.0" if method == b"PRI" && target == b"*" => {
            return Err(HeadErrorKind::Http2Preface);
        }
        _ => return Err(version_fault(version)),
    };
    Ok(RequestLine {
        method,
        target,
        version,
    })
}

/// Whether a version is none, or none of ours.
pub(super) fn version_fault(version: &[u8]) -> HeadErrorKind {
    match version {
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            HeadErrorKind::UnsupportedVersion
        }
        _ => HeadErrorKind::InvalidVersion,
    }
}

/// The request line of a tokenised head. httparse takes no line that [`request_line`] refuses.
fn line_of<'b>(tokens: &httparse::Request<'_, 'b>) -> Option<RequestLine<'b>> {
    Some(RequestLine {
        method: tokens.method?.as_bytes(),
        target: tokens.path?.as_bytes(),
        version: match tokens.version? {
            0 => Version::Http10,
            _ => Version::Http11,
        },
    })
}

/// The rules that hold for a tokenised head whose lines all end in CRLF.
fn finish(
    buf: &[u8],
    len: usize,
    tokens: &httparse::Request<'_, '_>,
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Progress, HeadErrorKind> {
    let RequestLine {
        method,
        target,
        version,
    } = line_of(tokens).ok_or(HeadErrorKind::InvalidRequestLine)?;
    head.method = Span::locate(buf, method);
    head.target = Span::locate(buf, target);
    head.target_form = target::classify(method, target, head.target.start as usize)?;
    head.version = version;
    head.head_len = len;

    let facts = fields::collect(
        buf,
        tokens.headers,
        limits,
        Side::Request,
        &mut head.headers,
    )?;
    head.host = host(buf, head, facts.host)?;
    facts.check_framing(version)?;
    if head.target_form == TargetForm::Authority {
        facts.check_no_body()?;
    }
    head.framing = match (facts.transfer_coding, facts.content_length) {
        (TransferCoding::Chunked, _) => BodyFraming::Chunked,
        (_, Some(length)) if length > 0 => BodyFraming::Length(length),
        _ => BodyFraming::None,
    };
    head.expect_continue = match facts.expectation {
        Expectation::Unsupported => return Err(HeadErrorKind::UnsupportedExpectation),
        Expectation::Continue => version == Version::Http11 && head.framing != BodyFraming::None,
        Expectation::None => false,
    };
    head.upgrade = facts.upgrade(version);
    head.keep_alive = facts.persists(version) && head.upgrade != Upgrade::WebSocket;
    head.te_trailers = facts.te_trailers;
    Ok(Progress::Complete)
}

/// The effective authority (RFC 9112 sections 3.2 and 3.3). `Host` must be valid even where the
/// target overrides it.
fn host(buf: &[u8], head: &RequestHead, host: Option<Span>) -> Result<Option<Span>, HeadErrorKind> {
    let Some(host) = host else {
        return match (head.version, head.target_form) {
            (Version::Http11, _) => Err(HeadErrorKind::MissingHost),
            (Version::Http10, TargetForm::Absolute { authority, .. }) => Ok(Some(authority)),
            (Version::Http10, TargetForm::Authority) => Ok(Some(head.target)),
            (Version::Http10, _) => Ok(None),
        };
    };
    if host.len > 0 && !valid_authority(host.of(buf)) {
        return Err(HeadErrorKind::InvalidHost);
    }
    match head.target_form {
        TargetForm::Absolute { authority, .. } => Ok(Some(authority)),
        TargetForm::Authority => Ok(Some(head.target)),
        TargetForm::Origin if host.len == 0 => Err(HeadErrorKind::InvalidHost),
        TargetForm::Origin | TargetForm::Asterisk => Ok(Some(host)),
    }
}
