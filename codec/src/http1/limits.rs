//! Limits on what a peer may make us hold or walk through. Each has a default.

/// Header lines of a usual head. Places for more of them would take pages of the stack, which each
/// head would touch.
pub(super) const USUAL_HEADERS: usize = 64;

/// Limits on a request or response head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head: blank lines before it, first line, headers and the empty line.
    /// Default 61,440 (60 KiB, as Envoy). Exceeding it is 431.
    pub max_head_bytes: usize,
    /// Header lines. Default 100, as Envoy; values above [`HeadLimits::HEADERS_CEILING`] act as
    /// the ceiling. Exceeding it is 431.
    pub max_headers: usize,
    /// Options listed by all `Connection` headers together. Default 10, as Envoy. Exceeding it
    /// is 400.
    pub max_connection_options: usize,
}

impl HeadLimits {
    /// The most header lines any configuration can allow.
    pub const HEADERS_CEILING: usize = 512;
    /// Empty lines tolerated before a request line (RFC 9112 section 2.2).
    pub const MAX_LEADING_BLANK_LINES: usize = 2;
}

impl Default for HeadLimits {
    fn default() -> Self {
        HeadLimits {
            max_head_bytes: 60 * 1024,
            max_headers: 100,
            max_connection_options: 10,
        }
    }
}

/// Limits on the framing inside a chunked body. Payload bytes are not limited here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Bytes of one chunk's extensions, from behind the size to the end of the line; and those by
    /// which all extensions of a body together are longer than the data of their chunks, so that
    /// nobody makes much of little with them. Default 4,096.
    pub max_chunk_extension_bytes: usize,
    /// Bytes of the trailer section, its empty line included. Default 61,440 (60 KiB, as a head).
    pub max_trailer_bytes: usize,
    /// Trailer lines. Default 100; values above [`HeadLimits::HEADERS_CEILING`] act as it.
    pub max_trailers: usize,
}

impl BodyLimits {
    /// Hex digits of a chunk size, leading zeros included.
    pub const MAX_CHUNK_SIZE_DIGITS: u32 = 16;
    /// The largest chunk, and the largest `Content-Length`: what a signed 64-bit reader can hold.
    pub const MAX_LENGTH: u64 = i64::MAX as u64;
}

impl Default for BodyLimits {
    fn default() -> Self {
        BodyLimits {
            max_chunk_extension_bytes: 4 * 1024,
            max_trailer_bytes: 60 * 1024,
            max_trailers: 100,
        }
    }
}
