//! Byte order marks before documents, which remain when files are joined. They are no part of the
//! text and take no column.

use std::borrow::Cow;

use super::syntax::position_of;
use crate::source::{BYTE_ORDER_MARK, Position};

/// The text without the marks that stand at the beginning of a document: before its `---`, or
/// where its first line of content, directive or comment begins (YAML 1.2.2, section 9.1.1, and
/// what `kubectl` takes).
pub(super) fn without_marks(text: &str) -> Cow<'_, str> {
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    if !text.contains(BYTE_ORDER_MARK) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len());
    let mut is_beginning = true;
    for line in text.split_inclusive(['\n', '\r']) {
        let content = line.trim_start_matches(BYTE_ORDER_MARK);
        let begun = after_marker(content, "---");
        kept.push_str(if is_beginning || begun.is_some() {
            content
        } else {
            line
        });
        let ended = after_marker(content, "...");
        let rest = begun.or(ended).unwrap_or(content).trim();
        let is_empty = rest.is_empty() || rest.starts_with('#');
        let is_directive = rest.starts_with('%');
        is_beginning = match begun.is_some() || ended.is_some() {
            true => is_empty,
            false => is_beginning && (is_empty || is_directive),
        };
    }
    Cow::Owned(kept)
}

/// The first mark at the beginning of a line, in a text that has none before its documents.
pub(super) fn stray_mark(text: &str) -> Option<Position> {
    let mut marks = text.match_indices(BYTE_ORDER_MARK);
    let (at, _) = marks.find(|(at, _)| text[..*at].ends_with(['\n', '\r']))?;
    Some(position_of(text, at))
}

/// What follows the marker in a line that begins with it.
fn after_marker<'t>(line: &'t str, marker: &str) -> Option<&'t str> {
    let rest = line.strip_prefix(marker)?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r'])).then_some(rest)
}
