//! Tells which protocol a client speaks from its first bytes, without consuming them.

mod client_hello;

pub use client_hello::ClientHello;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// Too little to say. Call again with the same bytes and more; a client that must be spoken to
    /// first sends nothing, so the caller needs a deadline.
    Incomplete,
    /// A whole TLS ClientHello (RFC 8446 section 4.1.2).
    Tls(ClientHello),
    /// The HTTP/2 connection preface (RFC 9113 section 3.4).
    Http2,
    /// A request line of HTTP/1.0 or HTTP/1.1.
    Http1,
    /// Anything else, a malformed ClientHello included.
    Unknown,
}

/// Bytes of a ClientHello message, over all its records. Default of Envoy's TLS inspector.
pub const MAX_CLIENT_HELLO_BYTES: usize = 16 * 1024;
/// Bytes of a request line that are waited for before the protocol counts as unknown.
pub const MAX_REQUEST_LINE_BYTES: usize = 8 * 1024;

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Looks at all bytes received so far. The answer on given bytes does not depend on how they were
/// split: once it is not `Incomplete`, more bytes do not change it. Each call starts at the first
/// byte, so the caller bounds how often it asks and how much it holds.
pub fn sniff(buf: &[u8]) -> Sniff {
    match buf.first() {
        None => Sniff::Incomplete,
        Some(0x16) => client_hello::sniff(buf),
        Some(_) if buf.starts_with(HTTP2_PREFACE) => Sniff::Http2,
        Some(_) if HTTP2_PREFACE.starts_with(buf) => Sniff::Incomplete,
        Some(_) => sniff_http1(buf),
    }
}

/// Only a whole request line is HTTP/1: many text protocols begin with a word and a space.
fn sniff_http1(buf: &[u8]) -> Sniff {
    let window = &buf[..buf.len().min(MAX_REQUEST_LINE_BYTES)];
    let end = window
        .iter()
        .position(|b| !matches!(b, b' '..=b'~'))
        .unwrap_or(window.len());
    let line = &window[..end];
    let mut words = line.split(|b| *b == b' ');
    let method = words.next().unwrap_or_default();
    let method_can_be = !method.is_empty() && method.iter().all(|b| is_method_byte(*b));
    if !method_can_be || line.iter().filter(|b| **b == b' ').count() > 2 {
        return Sniff::Unknown;
    }
    match &window[end..] {
        [] | [b'\r'] if buf.len() < MAX_REQUEST_LINE_BYTES => Sniff::Incomplete,
        [b'\r', b'\n', ..] => {
            let target = words.next().unwrap_or_default();
            match words.next() {
                Some(b"HTTP/1.1" | b"HTTP/1.0") if !target.is_empty() => Sniff::Http1,
                _ => Sniff::Unknown,
            }
        }
        _ => Sniff::Unknown,
    }
}

fn is_method_byte(byte: u8) -> bool {
    crate::http1::is_token(&[byte])
}
