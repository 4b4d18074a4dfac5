//! HTTP/1.0 and HTTP/1.1 (RFC 9112) for a proxy: heads are parsed in place, bodies are passed
//! through with their framing checked, heads are written into a buffer the caller recycles.
//!
//! Nothing here allocates once the caller's [`RequestHead`], [`ResponseHead`], [`BodyScanner`] and
//! output buffers have grown to their working size.
//!
//! Framing is strict: whatever two parsers could read differently is an error, in requests and in
//! responses alike. After any error the connection is of no further use.

mod authority;
mod body;
mod charset;
mod chunk_extension;
mod date;
mod error;
mod fields;
mod head_end;
mod kind;
mod limits;
mod local_reply;
mod request;
mod response;
mod span;
mod status;
mod target;
mod trailers;
mod write;

pub use authority::{split_authority, valid_authority};
pub use body::{BodyFraming, BodyScanner, Scan};
pub use charset::{is_field_value, is_token};
pub use date::{HTTP_DATE_LEN, civil_date, write_http_date};
pub use error::{BodyError, HeadError, HeadErrorKind};
pub use fields::Upgrade;
pub use kind::HeaderKind;
pub use limits::{BodyLimits, HeadLimits};
pub use local_reply::LocalReply;
pub use request::{RequestHead, parse_request};
pub use response::{ResponseHead, parse_response};
pub use span::{HeaderSpan, Headers, Span};
pub use status::{is_known_status, reason_phrase};
pub use target::TargetForm;
pub use trailers::may_be_trailer;
pub use write::{
    CONTINUE, LAST_CHUNK, begin_trailers, end_head, write_chunk_header, write_content_length,
    write_header, write_last_chunk, write_number, write_request_line, write_status_line,
    write_status_line_as,
};

/// The two versions of HTTP/1 that are carried (RFC 9112 section 2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0: no chunked coding, no persistence unless asked for.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}

/// What a parse call found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The head does not end in these bytes. Call again with the same bytes and more after them.
    Incomplete,
    /// The head is whole; its `head_len` says where the body starts.
    Complete,
}
