//! Wire formats as state machines over bytes. No sockets, no clocks, no configuration.
//!
//! - [`http1`]: HTTP/1.0 and HTTP/1.1 heads and bodies (RFC 9110, RFC 9112).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod http1;
