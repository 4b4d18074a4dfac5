//! Wire formats as state machines over bytes. No sockets, no clocks, no configuration.
//!
//! - [`http1`]: HTTP/1.0 and HTTP/1.1 heads and bodies (RFC 9110, RFC 9112).
//! - [`http2`]: what passes on a connection of HTTP/2 (RFC 9113), watched for abuse.
//! - [`sniff`]: which protocol a client speaks, and where a TLS client wants to go.
//! - [`proxy_protocol`]: the addresses that a proxy in front tells.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod http1;
pub mod http2;
pub mod proxy_protocol;
pub mod sniff;
