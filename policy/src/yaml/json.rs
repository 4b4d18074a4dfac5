//! JSON that the YAML libraries do not take, though it is YAML: tabs at the beginning of a line, and
//! characters beyond U+FFFF as two escapes.

use std::borrow::Cow;

use serde::de::IgnoredAny;

/// The text in a form that is read as what it says. Every character keeps its place, but for those
/// behind two escapes that have become one on their line.
pub(super) fn as_yaml(text: Cow<'_, str>) -> Cow<'_, str> {
    let has_pairs = contains_surrogate(&text);
    let is_concerned = has_pairs || text.contains('\t');
    if !is_concerned || !text.trim_start().starts_with(['{', '[']) {
        return text;
    }
    let is_json = serde_json::from_str::<IgnoredAny>(&text).is_ok();
    // Where JSON is wrong, its tabs are not what is.
    if !is_json && !is_indented_with_tabs_alone(&text) {
        return text;
    }
    // JSON has tabs between its words alone: within a text they are escaped.
    let text = text.replace('\t', " ");
    Cow::Owned(match has_pairs && is_json {
        true => join_pairs(&text),
        false => text,
    })
}

/// Whether tabs stand at the beginning of lines only, in one document that begins with a bracket.
fn is_indented_with_tabs_alone(text: &str) -> bool {
    let mut lines = text.lines();
    lines.all(|line| !line.starts_with("---") && !line.trim_start().contains('\t'))
}

fn contains_surrogate(text: &str) -> bool {
    text.contains("\\ud") || text.contains("\\uD")
}

/// Writes each pair of escapes that stands for one character as the one escape that YAML has for it.
fn join_pairs(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        joined.push_str(before);
        let high = unit(escape).filter(|unit| (0xd800..0xdc00).contains(unit));
        let pair = high.and_then(|high| Some([high, unit(escape.get(6..)?)?]));
        let character = pair.and_then(|pair| char::decode_utf16(pair).next()?.ok());
        let taken = match character {
            Some(character) => {
                joined.push_str(&format!("\\U{:08X}", u32::from(character)));
                12
            }
            // What is escaped is one byte in JSON; a backslash that is, begins no escape.
            None => {
                joined.push_str(&escape[..2]);
                2
            }
        };
        rest = &escape[taken..];
    }
    joined + rest
}

/// The unit of UTF-16 that an escape at the beginning of the text stands for.
fn unit(text: &str) -> Option<u16> {
    u16::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}
