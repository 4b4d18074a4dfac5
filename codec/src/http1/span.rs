//! Ranges into the parsed buffer, and the header list that borrows it.

use super::HeaderKind;

/// A byte range of the buffer that was parsed. It stays right when the buffer moves, as long as
/// the bytes stay the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Span {
    /// The bytes of this range in `buf`; empty when `buf` is too short to be the parsed buffer.
    #[inline]
    pub fn of<'b>(&self, buf: &'b [u8]) -> &'b [u8] {
        buf.get(self.start as usize..self.end()).unwrap_or_default()
    }

    /// Offset of the byte after the range.
    #[inline]
    pub fn end(&self) -> usize {
        self.start as usize + self.len as usize
    }

    /// Where `part`, a subslice of `whole`, lies in it.
    #[inline]
    pub(crate) fn locate(whole: &[u8], part: &[u8]) -> Span {
        let start = part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr());
        debug_assert!(start + part.len() <= whole.len());
        Span {
            start: start as u32,
            len: part.len() as u32,
        }
    }

    /// `len` bytes from `start` on.
    #[inline]
    pub(crate) fn at(start: usize, len: usize) -> Span {
        Span {
            start: start as u32,
            len: len as u32,
        }
    }
}

/// One header line, classified while it was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSpan {
    /// The field name as it was sent, a token.
    pub name: Span,
    /// The field value without the white space around it; may be empty.
    pub value: Span,
    /// What a proxy has to know about this name.
    pub kind: HeaderKind,
}

/// The headers of a parsed head together with the buffer they lie in.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    buf: &'a [u8],
    spans: &'a [HeaderSpan],
}

impl<'a> Headers<'a> {
    /// Joins `spans` with `buf`, the bytes they were parsed from.
    pub fn new(buf: &'a [u8], spans: &'a [HeaderSpan]) -> Self {
        Headers { buf, spans }
    }

    /// Calls `each` with every value of the header `name`, in order of appearance. Names compare
    /// without regard to ASCII case (RFC 9110 section 5.1). A header that `Connection` names is
    /// not there for anybody but the sender's neighbour (section 7.6.1).
    pub fn visit(&self, name: &str, each: &mut dyn FnMut(&[u8])) {
        for span in self.named(name) {
            each(span.value.of(self.buf));
        }
    }

    /// The first value of the header `name`, as [`visit`](Headers::visit) finds it.
    pub fn first(&self, name: &str) -> Option<&'a [u8]> {
        let mut named = self.named(name);
        named.next().map(|span| span.value.of(self.buf))
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &'a HeaderSpan> {
        let buf = self.buf;
        self.spans.iter().filter(move |span| {
            span.name.len as usize == name.len()
                && span.kind != HeaderKind::NamedByConnection
                && span.name.of(buf).eq_ignore_ascii_case(name.as_bytes())
        })
    }

    /// Name, value and kind of each header, in order of appearance.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8], HeaderKind)> + use<'a> {
        let buf = self.buf;
        self.spans
            .iter()
            .map(move |span| (span.name.of(buf), span.value.of(buf), span.kind))
    }

    /// Number of header lines.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no header at all.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}
