//! Finds the end of a head that arrives in pieces, looking at each byte once.

use super::charset::{is_field_value, is_token, is_token_byte};
use super::{HeadErrorKind, HeadLimits};

/// Which first line is expected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Response,
}

/// How far the search came. Kept in the head between calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct EndSearch {
    searched: usize,
    line_start: usize,
    blank_lines: usize,
    first_line_seen: bool,
    /// Offset of the first line, after the blank lines before it.
    pub(super) start: usize,
}

impl EndSearch {
    pub(super) fn is_fresh(&self) -> bool {
        self.searched == 0
    }

    /// Goes on through `buf`, which holds all bytes since the message's first, and returns the
    /// offset after the head's empty line. Its verdict depends on the bytes alone, not on how they
    /// were split between calls: the first line is checked as soon as it is whole, and every line
    /// end on the way must be CRLF.
    pub(super) fn advance(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        side: Side,
        check_first_line: impl Fn(&[u8]) -> Result<(), HeadErrorKind>,
    ) -> Result<Option<usize>, HeadErrorKind> {
        if buf.len() < self.searched {
            *self = EndSearch::default();
        }
        let window = &buf[..buf.len().min(limits.max_head_bytes)];
        loop {
            if !self.first_line_seen {
                check_first_byte(&window[self.line_start..], side)?;
            }
            let Some(found) = memchr::memchr(b'\n', &window[self.searched..]) else {
                self.searched = window.len();
                if buf.len() >= limits.max_head_bytes {
                    return Err(HeadErrorKind::HeadTooLarge);
                }
                return Ok(None);
            };
            let line_feed = self.searched + found;
            let Some(line) = window[self.line_start..line_feed].strip_suffix(b"\r") else {
                return Err(HeadErrorKind::BareLineFeed);
            };
            self.searched = line_feed + 1;
            self.line_start = line_feed + 1;
            if !line.is_empty() {
                if !self.first_line_seen {
                    check_first_line(line)?;
                    self.first_line_seen = true;
                }
            } else if self.first_line_seen {
                return Ok(Some(line_feed + 1));
            } else {
                self.blank_lines += 1;
                self.start = line_feed + 1;
                if self.blank_lines > HeadLimits::MAX_LEADING_BLANK_LINES {
                    return Err(HeadErrorKind::LeadingBlankLines);
                }
            }
        }
    }
}

/// Refuses at once what cannot become a first line, so that a TLS client, say, gets its answer
/// without waiting for a line end that never comes.
fn check_first_byte(line: &[u8], side: Side) -> Result<(), HeadErrorKind> {
    match (line, side) {
        ([], _) => Ok(()),
        ([b'H', ..], Side::Response) => Ok(()),
        (_, Side::Response) => Err(HeadErrorKind::InvalidStatusLine),
        ([b'\r'] | [b'\r', b'\n', ..], Side::Request) => Ok(()),
        ([b'\r', ..], Side::Request) => Err(HeadErrorKind::BareCarriageReturn),
        ([b'\n', ..], Side::Request) => Err(HeadErrorKind::BareLineFeed),
        ([first, ..], Side::Request) if is_token_byte(*first) => Ok(()),
        (_, Side::Request) => Err(HeadErrorKind::InvalidMethod),
    }
}

/// Names what the tokeniser refused in the header lines of a whole head (first line excluded,
/// empty line included).
pub(super) fn diagnose(lines: &[u8]) -> HeadErrorKind {
    let mut rest = lines;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = &rest[..end.saturating_sub(1)];
        rest = &rest[end + 1..];
        if line.is_empty() {
            break;
        }
        if let Some(kind) = fault_of_line(line) {
            return kind;
        }
    }
    HeadErrorKind::InvalidHeaderName
}

/// What is wrong with one header or trailer line, its CRLF taken off; it must not be empty.
pub(super) fn fault_of_line(line: &[u8]) -> Option<HeadErrorKind> {
    if matches!(line[0], b' ' | b'\t') {
        return Some(HeadErrorKind::ObsoleteLineFolding);
    }
    if line.contains(&b'\r') {
        return Some(HeadErrorKind::BareCarriageReturn);
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Some(HeadErrorKind::InvalidHeaderName);
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    match name.split_last() {
        Some((b' ' | b'\t', bare)) if is_token(bare.trim_ascii_end()) => {
            Some(HeadErrorKind::SpaceBeforeColon)
        }
        _ if !is_token(name) => Some(HeadErrorKind::InvalidHeaderName),
        _ if !is_field_value(value) => Some(HeadErrorKind::InvalidHeaderValue),
        _ => None,
    }
}

/// Whether every line of a tokenised head ends in CRLF; the tokeniser takes a bare LF too.
/// `name_starts` are the offsets of the field names, `head_len` the offset after the empty line.
pub(super) fn line_ends_are_crlf(
    buf: &[u8],
    mut name_starts: impl Iterator<Item = usize>,
    head_len: usize,
) -> bool {
    buf[..head_len].ends_with(b"\r\n\r\n")
        && name_starts.all(|start| buf[..start].ends_with(b"\r\n"))
}
