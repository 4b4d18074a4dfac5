//! Writers that append to a buffer the caller recycles. Nothing allocates once it has grown.
//!
//! Names, values and targets are written as given: they must come from a parsed head or satisfy
//! [`is_token`](super::is_token) and [`is_field_value`](super::is_field_value).

use super::{Version, reason_phrase};

/// The interim response that lets a client send its body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The end of a chunked body without trailers (RFC 9112 section 7.1).
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// `METHOD SP path SP HTTP/1.1 CRLF` (RFC 9112 section 3).
#[inline]
pub fn write_request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) {
    out.reserve(method.len() + target.len() + 12);
    out.extend_from_slice(method);
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 SP status SP reason CRLF` with the registered reason (RFC 9112 section 4).
#[inline]
pub fn write_status_line(out: &mut Vec<u8>, status: u16) {
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        write_status_line_as(
            out,
            Version::Http11,
            status,
            reason_phrase(status).as_bytes(),
        );
    }
}

/// A status line with the version and reason given. A status above 999 is written as 999, one
/// below 100 with leading zeros.
pub fn write_status_line_as(out: &mut Vec<u8>, version: Version, status: u16, reason: &[u8]) {
    out.extend_from_slice(match version {
        Version::Http10 => b"HTTP/1.0 ",
        Version::Http11 => b"HTTP/1.1 ",
    });
    let status = status.min(999);
    let digit = |n: u16| b'0' + (n % 10) as u8;
    out.extend_from_slice(&[digit(status / 100), digit(status / 10), digit(status), b' ']);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// `name: value CRLF`.
#[inline]
pub fn write_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `content-length: n CRLF`.
pub fn write_content_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"content-length: ");
    write_number(out, length);
    out.extend_from_slice(b"\r\n");
}

/// The empty line that ends a head or a trailer section.
#[inline]
pub fn end_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// A number in decimal.
pub fn write_number(out: &mut Vec<u8>, number: u64) {
    write_digits::<10>(out, number);
}

/// The line before `size` bytes of chunk data. After the data comes CRLF. `size` must not be 0:
/// that would end the body.
pub fn write_chunk_header(out: &mut Vec<u8>, size: u64) {
    debug_assert!(size > 0);
    write_digits::<16>(out, size);
    out.extend_from_slice(b"\r\n");
}

/// The end of a chunked body without trailers.
pub fn write_last_chunk(out: &mut Vec<u8>) {
    out.extend_from_slice(LAST_CHUNK);
}

/// The last chunk's line, after which trailers follow by [`write_header`] and [`end_head`].
pub fn begin_trailers(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
}

/// With the base known, dividing by it is a multiplication.
fn write_digits<const BASE: u64>(out: &mut Vec<u8>, mut number: u64) {
    // 20 decimal digits hold any u64.
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
