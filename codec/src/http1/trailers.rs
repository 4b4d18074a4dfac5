//! The trailer section of a chunked body (RFC 9112 section 7.1.2).

use super::head_end::fault_of_line;
use super::{BodyError, BodyLimits, HeadLimits, HeaderKind, HeaderSpan, Headers, Span};

/// Trailer lines as far as they have come. They are held, since a name may arrive in pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Trailers {
    bytes: Vec<u8>,
    line_start: usize,
    spans: Vec<HeaderSpan>,
    /// Fields left out.
    dropped: usize,
    /// How much of the present input belongs to the section.
    input_bytes: usize,
    /// Whether the section began in an earlier input.
    began_earlier: bool,
}

impl Trailers {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.line_start = 0;
        self.spans.clear();
        self.dropped = 0;
        self.input_bytes = 0;
        self.began_earlier = false;
    }

    /// Another input begins within the section.
    pub(super) fn next_input(&mut self) {
        self.began_earlier |= self.input_bytes > 0;
        self.input_bytes = 0;
    }

    /// How much of the present input must not be passed on as it came, where fields may be left out.
    /// An ended section passes as a whole if nothing of it was held back before and nothing has been
    /// left out.
    pub(super) fn held_back(&self, ended: bool) -> usize {
        match !ended || self.is_rewritten() {
            true => self.input_bytes,
            false => 0,
        }
    }

    /// Whether an ended section is to be written anew, where fields may be left out.
    pub(super) fn is_rewritten(&self) -> bool {
        self.began_earlier || self.dropped > 0
    }

    pub(super) fn headers(&self) -> Headers<'_> {
        Headers::new(&self.bytes, &self.spans)
    }

    /// Takes input up to the next line end. Returns how much, and whether the section ended. Forbidden
    /// fields are an error, or with `drops_forbidden` left out.
    pub(super) fn take(
        &mut self,
        input: &[u8],
        limits: &BodyLimits,
        drops_forbidden: bool,
    ) -> Result<(usize, bool), BodyError> {
        let line_feed = memchr::memchr(b'\n', input);
        let taken = line_feed.map_or(input.len(), |at| at + 1);
        if self.bytes.len() + taken > limits.max_trailer_bytes {
            return Err(BodyError::TrailersTooLarge);
        }
        self.input_bytes += taken;
        self.bytes.extend_from_slice(&input[..taken]);
        if line_feed.is_none() {
            return Ok((taken, false));
        }
        let Some(line) = self.bytes[self.line_start..].strip_suffix(b"\r\n") else {
            return Err(BodyError::InvalidTrailer);
        };
        if line.is_empty() {
            return Ok((taken, true));
        }
        let fields = self.spans.len() + self.dropped;
        if fields >= limits.max_trailers.min(HeadLimits::HEADERS_CEILING) {
            return Err(BodyError::TooManyTrailers);
        }
        let span = trailer(line, self.line_start)?;
        match may_be_trailer(span.name.of(&self.bytes)) {
            true => self.spans.push(span),
            false if drops_forbidden => self.dropped += 1,
            false => return Err(BodyError::ForbiddenTrailer),
        }
        self.line_start = self.bytes.len();
        Ok((taken, false))
    }
}

fn trailer(line: &[u8], offset: usize) -> Result<HeaderSpan, BodyError> {
    if fault_of_line(line).is_some() {
        return Err(BodyError::InvalidTrailer);
    }
    let name_len = memchr::memchr(b':', line).ok_or(BodyError::InvalidTrailer)?;
    let name = &line[..name_len];
    let after = &line[name_len + 1..];
    let value = after.trim_ascii_start();
    let value_start = offset + line.len() - value.len();
    Ok(HeaderSpan {
        name: Span::at(offset, name_len),
        value: Span::at(value_start, value.trim_ascii_end().len()),
        kind: HeaderKind::of_name(name),
    })
}

/// Whether a field of this name may stand in a trailer section.
pub fn may_be_trailer(name: &[u8]) -> bool {
    !is_forbidden(name)
}

/// Fields that must stand in the head, since they frame, route, authenticate, modify the request
/// or say how to read the content (RFC 9110 section 6.5.1), and those by which proxies tell each
/// other whom to trust.
fn is_forbidden(name: &[u8]) -> bool {
    const FORBIDDEN: [&str; 23] = [
        "age",
        "authorization",
        "cache-control",
        "content-encoding",
        "content-location",
        "content-range",
        "content-type",
        "cookie",
        "forwarded",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "location",
        "max-forwards",
        "pragma",
        "proxy-authenticate",
        "proxy-authorization",
        "range",
        "set-cookie",
        "via",
        "www-authenticate",
    ];
    match HeaderKind::of_name(name) {
        HeaderKind::Other => FORBIDDEN
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes())),
        HeaderKind::Server | HeaderKind::Date => false,
        _ => true,
    }
}
