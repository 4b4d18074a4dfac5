//! The form of a path that routes and authorization see.

use std::borrow::Cow;
use std::fmt;

/// Why a path is refused with status 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/`.
    NotAbsolute,
    /// It carries a fragment, which a client must not send (RFC 9110 section 7.1).
    Fragment,
    /// It carries a zero byte, as such or escaped.
    Nul,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAbsolute => "the path does not begin with `/`",
            Self::Fragment => "the path carries a fragment",
            Self::Nul => "the path carries a zero byte",
        })
    }
}

impl std::error::Error for PathError {}

/// Brings a path without its query into the form of Istio's `BASE` normalization: a backslash is a
/// slash, escapes of unreserved characters are resolved, what a path must not hold is escaped, and
/// dot segments are removed (RFC 3986 sections 5.2.4 and 6.2.2). Doubled and escaped slashes stay.
///
/// `*` (as in `OPTIONS *`) stays as it is. A path that is normal already is borrowed.
///
/// # Errors
///
/// See [`PathError`]; the answer is status 400.
pub fn normalize(path: &str) -> Result<Cow<'_, str>, PathError> {
    if path == "*" {
        return Ok(Cow::Borrowed(path));
    }
    let bytes = path.as_bytes();
    if !matches!(bytes.first(), Some(b'/' | b'\\')) {
        return Err(PathError::NotAbsolute);
    }
    let mut plain = true;
    let mut previous = 0;
    for &byte in bytes {
        match byte {
            b'#' => return Err(PathError::Fragment),
            0 => return Err(PathError::Nul),
            b'%' | b'\\' => plain = false,
            b'.' if previous == b'/' => plain = false,
            _ if must_be_escaped(byte) => plain = false,
            _ => {}
        }
        previous = byte;
    }
    if plain {
        return Ok(Cow::Borrowed(path));
    }
    let unescaped = resolve_escapes(bytes)?;
    Ok(Cow::Owned(remove_dot_segments(&unescaped)))
}

/// Characters that may not stand in a path as they are (RFC 3986 section 3.3).
fn must_be_escaped(byte: u8) -> bool {
    byte <= b' '
        || byte >= 0x7f
        || matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Resolves what may be resolved and escapes what must be; the result is ASCII.
fn resolve_escapes(bytes: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        if byte == b'%' {
            let high = bytes.get(at).copied().and_then(hex_digit);
            let low = bytes.get(at + 1).copied().and_then(hex_digit);
            if let (Some(high), Some(low)) = (high, low) {
                let value = high << 4 | low;
                if value == 0 {
                    return Err(PathError::Nul);
                }
                if value.is_ascii_alphanumeric() || matches!(value, b'-' | b'.' | b'_' | b'~') {
                    out.push(value as char);
                    at += 2;
                    continue;
                }
            }
            out.push('%');
        } else if byte == b'\\' {
            out.push('/');
        } else if must_be_escaped(byte) {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            out.push('%');
            out.push(DIGITS[usize::from(byte >> 4)] as char);
            out.push(DIGITS[usize::from(byte & 15)] as char);
        } else {
            out.push(byte as char);
        }
    }
    Ok(out)
}

/// RFC 3986 section 5.2.4, for a path that begins with `/`.
fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.truncate(out.rfind('/').unwrap_or(0));
                }
                if last {
                    out.push('/');
                }
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    out
}
