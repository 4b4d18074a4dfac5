//! What no diagnostic may quote: the lines of secrets and of private keys.
//!
//! Judged by the text alone, since a document with a broken key in it often does not parse.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::source::{FileId, SourceFile, Span, lines};

/// Stands in place of what is not quoted.
pub(super) const REDACTED: &str = "[redacted]";

/// Text of so many characters of base64 at a stretch may be a key.
const LEAST_KEY_LENGTH: usize = 40;

/// Members of a JSON Web Key that sign. RFC 7518 sections 6.2.2, 6.3.2 and 6.4.
const PRIVATE_MEMBERS: &[&str] = &["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Knows which lines of the files are shown.
pub(super) struct Secrecy<'f> {
    files: &'f [SourceFile],
    lines: HashMap<FileId, Vec<Line<'f>>>,
}

#[derive(Clone, Copy)]
struct Line<'f> {
    text: &'f str,
    is_hidden: bool,
}

impl<'f> Secrecy<'f> {
    pub fn new(files: &'f [SourceFile]) -> Self {
        Self {
            files,
            lines: HashMap::new(),
        }
    }

    /// The line that a span begins in, if it may be shown.
    pub fn line(&mut self, file: FileId, span: Span) -> Option<&'f str> {
        let line = self.find(file, span);
        line.map_or(Some(""), |line| (!line.is_hidden).then_some(line.text))
    }

    /// A sentence about this place without the values that it quotes from there, if they are
    /// not shown.
    pub fn sentence<'t>(&mut self, place: Option<(FileId, Span)>, text: &'t str) -> Cow<'t, str> {
        let Some((file, span)) = place else {
            return Cow::Borrowed(text);
        };
        if !self.find(file, span).is_some_and(|line| line.is_hidden) {
            return Cow::Borrowed(text);
        }
        let all = self.lines.get(&file).map_or(&[][..], Vec::as_slice);
        let is_value = |quoted: &str| {
            let is_key = |line: &Line<'_>| values_of(line.text, quoted).next().is_some();
            let quoted = quoted.trim();
            is_no_name(quoted)
                || !quoted.is_empty()
                    && all.iter().any(|line| line.text.contains(quoted))
                    && !all.iter().any(is_key)
        };
        let mut told = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find(['`', '"']) {
            let (before, quoted) = rest.split_at(start);
            let mark = &quoted[..1];
            let Some(end) = quoted[1..].find(mark) else {
                break;
            };
            let (inner, after) = (&quoted[1..=end], &quoted[end + 2..]);
            told.push_str(before);
            let inner = if is_value(inner) { REDACTED } else { inner };
            told.extend([mark, inner, mark]);
            rest = after;
        }
        told.push_str(rest);
        Cow::Owned(without_keys(&told))
    }

    /// The path of a field, unless a part of a key was taken for a name in it.
    pub fn field<'t>(&mut self, place: Option<(FileId, Span)>, path: &'t str) -> Cow<'t, str> {
        let line = place.and_then(|(file, span)| self.find(file, span));
        match line.is_some_and(|line| line.is_hidden) && is_no_name(path) {
            true => Cow::Borrowed(REDACTED),
            false => Cow::Borrowed(path),
        }
    }

    fn find(&mut self, file: FileId, span: Span) -> Option<Line<'f>> {
        let files = self.files;
        let lines = self.lines.entry(file).or_insert_with(|| {
            let source = files.get(file.0 as usize);
            source.map_or_else(Vec::new, |source| read(&source.text))
        });
        let at = (span.start.line as usize).saturating_sub(1);
        lines.get(at).copied()
    }
}

fn read(text: &str) -> Vec<Line<'_>> {
    let all: Vec<&str> = lines(text).collect();
    let mut read = Vec::with_capacity(all.len());
    for document in all.chunk_by(|_, next| !ends_document(next)) {
        let is_secret = is_secret(document);
        let has_token_keys = document
            .iter()
            .any(|line| line.contains("RequestAuthentication"));
        let mut is_in_key = false;
        for text in document.iter().copied() {
            is_in_key |= text.contains("-----BEGIN") && text.contains("PRIVATE KEY");
            let is_key = is_in_key || keys(text, LEAST_KEY_LENGTH).next().is_some();
            let signs = || has_token_keys && has_private_member(text);
            read.push(Line {
                text,
                is_hidden: is_secret || is_key || signs(),
            });
            is_in_key &= !text.contains("-----END");
        }
    }
    read
}

/// Whether the line ends the document before it. The lines around PEM begin with `---` too.
fn ends_document(line: &str) -> bool {
    let rest = line
        .strip_prefix("---")
        .or_else(|| line.strip_prefix("..."));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
}

fn is_secret(document: &[&str]) -> bool {
    let names_it = |text: &str| text.to_ascii_lowercase().contains("secret");
    document.iter().enumerate().any(|(at, line)| {
        let next = document.get(at + 1).copied().unwrap_or_default();
        let is_kind = |value: &str| match value.is_empty() {
            true => names_it(next),
            false => names_it(value.split(',').next().unwrap_or_default()),
        };
        let has = |key| values_of(line, key).next().is_some();
        values_of(line, "kind").any(is_kind)
            || has("tls.key")
            || has("stringData")
            || line.contains("kubernetes.io/tls")
    })
}

/// What follows `key:` in a line, wherever that stands and however it is quoted.
fn values_of<'l>(line: &'l str, key: &'l str) -> impl Iterator<Item = &'l str> {
    let places = line.match_indices(key).filter(|_| !key.is_empty());
    places.filter_map(move |(at, _)| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if line[..at].ends_with(is_inner) {
            return None;
        }
        let after = line[at + key.len()..].trim_start_matches([' ', '\t', '"', '\'', '\\']);
        let value = after.strip_prefix(':')?;
        Some(value.trim_matches([' ', '\t', '"', '\'', '\\']))
    })
}

fn has_private_member(line: &str) -> bool {
    let mut members = PRIVATE_MEMBERS.iter();
    members.any(|member| values_of(line, member).next().is_some())
}

/// The parts of a text that look like base64 of a key: long, and of all kinds of characters.
fn keys(text: &str, least_length: usize) -> impl Iterator<Item = &str> {
    let is_other =
        |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_'));
    text.split(is_other).filter(move |part| {
        let has = |is: fn(&u8) -> bool| part.bytes().any(|byte| is(&byte));
        part.len() >= least_length
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
    })
}

/// Whether a text that the parser took for a name is rather a part of a key: the last line of one
/// may be short.
fn is_no_name(text: &str) -> bool {
    const LEAST_PART_LENGTH: usize = 12;
    text.len() >= 2 * LEAST_KEY_LENGTH
        || text.contains("----")
        || text.contains(['=', '+'])
        || keys(text, LEAST_PART_LENGTH).next().is_some()
}

/// A text without the parts that look like the base64 of a key, as one that was pasted in the place of
/// a name.
pub fn without_keys(text: &str) -> String {
    let mut found: Vec<&str> = keys(text, LEAST_KEY_LENGTH).collect();
    found.sort_by_key(|key| std::cmp::Reverse(key.len()));
    let replace = |text: String, key: &str| text.replace(key, REDACTED);
    found.into_iter().fold(text.to_string(), replace)
}
