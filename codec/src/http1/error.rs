//! What can be wrong with a head or a body, and what to answer.

use std::fmt;

/// What is wrong with a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadErrorKind {
    /// A line that ends in LF alone (RFC 9112 section 2.2).
    BareLineFeed,
    /// A CR that is not followed by LF (RFC 9112 section 2.2).
    BareCarriageReturn,
    /// More empty lines before the request line than are tolerated.
    LeadingBlankLines,
    /// Not `method SP target SP version` (RFC 9112 section 3).
    InvalidRequestLine,
    /// The method is not a token.
    InvalidMethod,
    /// The request target has no valid form, or a byte that may not stand there
    /// (RFC 9112 section 3.2).
    InvalidTarget,
    /// User information in a target (RFC 9110 section 4.2.4).
    UserInfoInTarget,
    /// An absolute target that is neither `http` nor `https`.
    UnsupportedScheme,
    /// The version does not read `HTTP/digit.digit` (RFC 9112 section 2.3).
    InvalidVersion,
    /// A well-formed version other than 1.0 and 1.1.
    UnsupportedVersion,
    /// The first line of the HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2Preface,
    /// Not `version SP 3DIGIT [SP reason]`, or a status below 100 (RFC 9112 section 4).
    InvalidStatusLine,
    /// Longer than [`max_head_bytes`](super::HeadLimits::max_head_bytes).
    HeadTooLarge,
    /// More lines than [`max_headers`](super::HeadLimits::max_headers).
    TooManyHeaders,
    /// A field name that is not a token, or a line without a colon (RFC 9112 section 5).
    InvalidHeaderName,
    /// White space between field name and colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A header line that starts with white space (RFC 9112 section 5.2).
    ObsoleteLineFolding,
    /// A control character in a field value (RFC 9110 section 5.5).
    InvalidHeaderValue,
    /// An HTTP/1.1 request without `Host` (RFC 9112 section 3.2).
    MissingHost,
    /// More than one `Host` (RFC 9112 section 3.2).
    DuplicateHost,
    /// `Host` is not `host [":" port]`, or is empty where the target needs an authority.
    InvalidHost,
    /// `Content-Length` is not digits alone, or above
    /// [`MAX_LENGTH`](super::BodyLimits::MAX_LENGTH) (RFC 9110 section 8.6).
    InvalidContentLength,
    /// More than one `Content-Length`, be they equal or not.
    DuplicateContentLength,
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 section 6.3).
    ContentLengthWithTransferEncoding,
    /// `Transfer-Encoding` is other than exactly `chunked` (RFC 9112 section 6.1).
    UnsupportedTransferEncoding,
    /// More than one `Transfer-Encoding`.
    DuplicateTransferEncoding,
    /// `Transfer-Encoding` in HTTP/1.0, in a CONNECT, or in a response that has no body.
    TransferEncodingNotAllowed,
    /// A `Content-Length` above 0 in a CONNECT or in a response that has no body.
    ContentLengthNotAllowed,
    /// `Connection` is no list of tokens, lists too many, or names a header whose removal would
    /// change how the message is framed, routed or trusted.
    ConnectionHeaderRejected,
    /// `Expect` has an element other than `100-continue` (RFC 9110 section 10.1.1).
    UnsupportedExpectation,
}

impl HeadErrorKind {
    /// The status that answers a request with this fault.
    pub fn request_status(self) -> u16 {
        use HeadErrorKind::*;
        match self {
            UnsupportedVersion | Http2Preface => 505,
            HeadTooLarge | TooManyHeaders => 431,
            UnsupportedTransferEncoding => 501,
            UnsupportedExpectation => 417,
            _ => 400,
        }
    }

    /// The response code details: Envoy's word where it has one, else one in its style.
    pub fn details(self) -> &'static str {
        use HeadErrorKind::*;
        match self {
            BareLineFeed | BareCarriageReturn | LeadingBlankLines | InvalidRequestLine
            | InvalidMethod | InvalidVersion | InvalidStatusLine | InvalidHeaderName
            | SpaceBeforeColon | ObsoleteLineFolding => "http1.codec_error",
            InvalidTarget | UserInfoInTarget => "http1.invalid_url",
            UnsupportedScheme => "http1.invalid_scheme",
            UnsupportedVersion => "http1.unsupported_version",
            Http2Preface => "http1.http2_preface",
            HeadTooLarge => "http1.headers_too_large",
            TooManyHeaders => "http1.too_many_headers",
            InvalidHeaderValue => "http1.invalid_characters",
            MissingHost => "missing_host_header",
            DuplicateHost => "http1.duplicate_host",
            InvalidHost => "http1.invalid_host",
            InvalidContentLength | DuplicateContentLength => "http1.invalid_content_length",
            ContentLengthWithTransferEncoding => "http1.content_length_and_chunked_not_allowed",
            UnsupportedTransferEncoding | DuplicateTransferEncoding => {
                "http1.invalid_transfer_encoding"
            }
            TransferEncodingNotAllowed => "http1.transfer_encoding_not_allowed",
            ContentLengthNotAllowed => "http1.content_length_not_allowed",
            ConnectionHeaderRejected => "http1.connection_header_rejected",
            UnsupportedExpectation => "http1.unsupported_expectation",
        }
    }

    /// One line for a person.
    pub fn explanation(self) -> &'static str {
        use HeadErrorKind::*;
        match self {
            BareLineFeed => "a line ends in LF without CR",
            BareCarriageReturn => "CR without LF",
            LeadingBlankLines => "too many empty lines before the request line",
            InvalidRequestLine => "malformed request line",
            InvalidMethod => "the method is not a token",
            InvalidTarget => "invalid request target",
            UserInfoInTarget => "user information in the request target",
            UnsupportedScheme => "the scheme is neither http nor https",
            InvalidVersion => "malformed HTTP version",
            UnsupportedVersion => "unsupported HTTP version",
            Http2Preface => "HTTP/2 preface on an HTTP/1 connection",
            InvalidStatusLine => "malformed status line",
            HeadTooLarge => "the head is too large",
            TooManyHeaders => "too many headers",
            InvalidHeaderName => "invalid header name",
            SpaceBeforeColon => "white space before the colon of a header",
            ObsoleteLineFolding => "a folded header line",
            InvalidHeaderValue => "control character in a header value",
            MissingHost => "no Host header",
            DuplicateHost => "more than one Host header",
            InvalidHost => "invalid Host header",
            InvalidContentLength => "invalid Content-Length",
            DuplicateContentLength => "more than one Content-Length",
            ContentLengthWithTransferEncoding => "both Content-Length and Transfer-Encoding",
            UnsupportedTransferEncoding => "a transfer coding other than chunked",
            DuplicateTransferEncoding => "more than one Transfer-Encoding",
            TransferEncodingNotAllowed => "Transfer-Encoding is not allowed here",
            ContentLengthNotAllowed => "Content-Length is not allowed here",
            ConnectionHeaderRejected => "invalid Connection header",
            UnsupportedExpectation => "an expectation other than 100-continue",
        }
    }
}

/// A head that is refused. The connection it came on must be closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// What is wrong.
    pub kind: HeadErrorKind,
    /// Whether it was the head of an upstream's response.
    pub in_response: bool,
}

impl HeadError {
    /// The status that the downstream gets: 4xx or 5xx for its own fault, 502 for an upstream's.
    pub fn status(&self) -> u16 {
        if self.in_response {
            502
        } else {
            self.kind.request_status()
        }
    }

    /// The response code details; see [`HeadErrorKind::details`].
    pub fn details(&self) -> &'static str {
        self.kind.details()
    }
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.explanation())
    }
}

impl std::error::Error for HeadError {}

/// What is wrong with a body's framing. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyError {
    /// A chunk size that is empty, signed, spaced, not hexadecimal, longer than
    /// [`MAX_CHUNK_SIZE_DIGITS`](super::BodyLimits::MAX_CHUNK_SIZE_DIGITS) or above
    /// [`MAX_LENGTH`](super::BodyLimits::MAX_LENGTH) (RFC 9112 section 7.1).
    InvalidChunkSize,
    /// A chunk extension that is not of the form of RFC 9112 section 7.1.1, such as one with a
    /// quoted string that does not end.
    InvalidChunkExtension,
    /// More than [`max_chunk_extension_bytes`](super::BodyLimits::max_chunk_extension_bytes) allows.
    ChunkExtensionTooLarge,
    /// CRLF was due (after a chunk's line or its data) and something else came.
    MissingLineEnd,
    /// A trailer line that would be no valid header line (RFC 9112 section 7.1.2).
    InvalidTrailer,
    /// A trailer that frames, routes, authenticates or otherwise must stand in the head
    /// (RFC 9110 section 6.5.1).
    ForbiddenTrailer,
    /// More than [`max_trailer_bytes`](super::BodyLimits::max_trailer_bytes).
    TrailersTooLarge,
    /// More than [`max_trailers`](super::BodyLimits::max_trailers).
    TooManyTrailers,
    /// The connection ended before the body did (RFC 9112 section 8).
    Truncated,
}

impl BodyError {
    /// The status for a downstream whose request body this was, if no response has begun.
    pub fn status(self) -> u16 {
        match self {
            BodyError::TrailersTooLarge | BodyError::TooManyTrailers => 431,
            _ => 400,
        }
    }

    /// Whether the framing is right, but larger than a limit allows.
    pub fn is_limit(self) -> bool {
        matches!(
            self,
            BodyError::ChunkExtensionTooLarge
                | BodyError::TrailersTooLarge
                | BodyError::TooManyTrailers
        )
    }

    /// The response code details: Envoy's word where it has one, else one in its style.
    pub fn details(self) -> &'static str {
        match self {
            BodyError::TrailersTooLarge => "http1.trailers_too_large",
            BodyError::TooManyTrailers => "http1.too_many_trailers",
            BodyError::ForbiddenTrailer => "http1.forbidden_trailer",
            BodyError::ChunkExtensionTooLarge => "http1.chunk_extension_too_large",
            BodyError::Truncated => "http1.body_truncated",
            BodyError::InvalidChunkSize
            | BodyError::InvalidChunkExtension
            | BodyError::MissingLineEnd
            | BodyError::InvalidTrailer => "http1.codec_error",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BodyError::InvalidChunkSize => "invalid chunk size",
            BodyError::InvalidChunkExtension => "invalid chunk extension",
            BodyError::ChunkExtensionTooLarge => "chunk extensions too large",
            BodyError::MissingLineEnd => "a chunk does not end in CRLF",
            BodyError::InvalidTrailer => "invalid trailer line",
            BodyError::ForbiddenTrailer => "a field that may not be a trailer",
            BodyError::TrailersTooLarge => "the trailers are too large",
            BodyError::TooManyTrailers => "too many trailers",
            BodyError::Truncated => "the connection ended inside the body",
        })
    }
}

impl std::error::Error for BodyError {}
