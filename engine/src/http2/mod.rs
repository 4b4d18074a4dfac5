//! HTTP/2 on both sides, on the `h2` crate (RFC 9113).
//!
//! A stream is made to look like a connection of HTTP/1.1 ([`Http2Stream`]): its head becomes text
//! ([`heads`]), its body gets the framing of HTTP/1.1 ([`inflow`], [`outflow`]). So the data path
//! has one form of a request, whatever the peers speak, and nothing of routing, authorization,
//! retries or logging knows of HTTP/2. [`pipe`] lies under `h2` and joins the answers of many
//! streams in one send.

mod client_side;
mod downstream;
mod failure;
mod guard;
mod heads;
mod incoming;
mod inflow;
mod outflow;
mod pipe;
mod server_side;
mod stall;
mod stream;
mod upstream;
pub mod websocket;

pub use downstream::{PREFACE_START, serve_http2};
pub use failure::StreamFailure;
pub use stream::Http2Stream;
pub use upstream::{ConnectionEnd, ConnectionTimes, Http2Connection, Http2Driver};
