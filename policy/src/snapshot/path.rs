//! The form of a path that routes and authorization see.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;

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

/// What is done to the paths of requests before anything looks at them. Istio: mesh
/// `pathNormalization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// Nothing: each path is taken as it came.
    None,
    /// A backslash is a slash, escapes of unreserved characters are resolved, what a path must not
    /// hold is escaped, and dot segments are removed (RFC 3986 sections 5.2.4 and 6.2.2), also with
    /// parameters as in `..;x`. Doubled and escaped slashes stay.
    #[default]
    #[serde(alias = "DEFAULT")]
    Base,
    /// As [`Base`](Self::Base), and slashes that follow each other become one.
    MergeSlashes,
    /// As [`MergeSlashes`](Self::MergeSlashes), after escapes of slashes and backslashes have been
    /// resolved.
    DecodeAndMergeSlashes,
}

impl Normalization {
    /// Brings a path without its query into its normal form. A normal path stays what it is.
    ///
    /// `*` (as in `OPTIONS *`) stays as it is. A path that is normal already is borrowed.
    ///
    /// # Errors
    ///
    /// See [`PathError`]; the answer is status 400.
    pub fn apply(self, path: &str) -> Result<Cow<'_, str>, PathError> {
        if path == "*" {
            return Ok(Cow::Borrowed(path));
        }
        let bytes = path.as_bytes();
        match bytes.first() {
            Some(b'/') => {}
            Some(b'\\') if self != Self::None => {}
            _ => return Err(PathError::NotAbsolute),
        }
        let merges = matches!(self, Self::MergeSlashes | Self::DecodeAndMergeSlashes);
        let mut plain = true;
        let mut previous = 0;
        for &byte in bytes {
            match byte {
                b'#' => return Err(PathError::Fragment),
                0 => return Err(PathError::Nul),
                b'%' | b'\\' => plain = false,
                b'.' if previous == b'/' => plain = false,
                b'/' if previous == b'/' && merges => plain = false,
                _ if must_be_escaped(byte) => plain = false,
                _ => {}
            }
            previous = byte;
        }
        if plain || self == Self::None {
            return Ok(Cow::Borrowed(path));
        }
        let unescaped = resolve_escapes(bytes, self == Self::DecodeAndMergeSlashes)?;
        let mut normal = remove_dot_segments(&unescaped);
        if merges {
            merge_slashes(&mut normal);
        }
        Ok(Cow::Owned(normal))
    }
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
fn resolve_escapes(bytes: &[u8], slashes: bool) -> Result<String, PathError> {
    let mut out = String::with_capacity(bytes.len());
    // Where the last percent sign stands that begins no escape.
    let mut stray = None;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        at += 1;
        match byte {
            b'%' => match escaped(&bytes[at..]) {
                Some(0) => return Err(PathError::Nul),
                Some(value) if is_unreserved(value) => {
                    out.push(value as char);
                    at += 2;
                }
                Some(b'/' | b'\\') if slashes => {
                    out.push('/');
                    at += 2;
                }
                // With its digits, so that they are not taken for those of a stray sign.
                Some(_) => {
                    for byte in &bytes[at - 1..at + 2] {
                        out.push(*byte as char);
                    }
                    at += 2;
                }
                None => {
                    stray = Some(out.len());
                    out.push('%');
                }
            },
            b'\\' => out.push('/'),
            byte if must_be_escaped(byte) => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(DIGITS[usize::from(byte >> 4)] as char);
                out.push(DIGITS[usize::from(byte & 15)] as char);
            }
            byte => out.push(byte as char),
        }
        // What was resolved must not become part of another escape, which the next reader would
        // resolve in turn: `%%36%31` is not `%61`.
        if let Some(sign) = stray
            && escaped(&out.as_bytes()[sign + 1..]).is_some()
        {
            out.insert_str(sign + 1, "25");
            stray = None;
        }
    }
    Ok(out)
}

/// The byte that two digits after a percent sign stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let &[high, low, ..] = digits else {
        return None;
    };
    Some(hex_digit(high)? << 4 | hex_digit(low)?)
}

/// Characters that mean the same escaped or not (RFC 3986 section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Leaves one of slashes that follow each other.
fn merge_slashes(path: &mut String) {
    let mut previous = ' ';
    path.retain(|letter| {
        let doubled = letter == '/' && previous == '/';
        previous = letter;
        !doubled
    });
}

/// RFC 3986 section 5.2.4, for a path that begins with `/`. Parameters behind `;` (section 3.3) make
/// no other segment of dots: servers that cut them off would read `..;x` as `..`.
fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut segments = path[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let name = segment.split(';').next().unwrap_or(segment);
        match name {
            "." | ".." => {
                if name == ".." {
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
