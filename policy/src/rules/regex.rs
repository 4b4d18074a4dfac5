//! Regular expressions, which are RE2's.

use crate::re2;
use crate::schema::{Node, Report};
use crate::snapshot::FullRegex;

/// Longest expression, in bytes. Istio: `validateStringRegexp`.
const MAX_REGEX_BYTES: usize = 1024;

/// Groups within groups. RE2 has no such limit, and the parser's own is 250.
const MAX_NESTING: u32 = 240;

/// What to write instead of an expression that is none.
pub(crate) const REGEX_HELP: &str =
    "write RE2's syntax, such as `/api/v[0-9]+/.*`; it has to match the whole value";

/// What to write instead of an expression that grows too large.
const SIZE_HELP: &str = "repeat less, or without a count: `[a-z]+`, not `[a-z]{1,1000}`";

/// Whether it is one that can be used.
pub(super) fn check_regex(regex: &Node<'_>, report: &mut Report<'_>) -> bool {
    let text = regex.text();
    let is_none = |problem: &str| format!("this is no regular expression: {problem}");
    let (message, help) = if text.is_empty() {
        (is_none("it is empty"), REGEX_HELP)
    } else if text.len() > MAX_REGEX_BYTES {
        let message = format!("this expression is longer than {MAX_REGEX_BYTES} bytes");
        (message, "write a shorter one, or several matches")
    } else if let Some(problem) = problem_of(text) {
        (is_none(&problem), REGEX_HELP)
    } else if let (true, Err(problem)) = (may_grow(text), FullRegex::new(text)) {
        (
            format!("this expression cannot be used: {problem}"),
            SIZE_HELP,
        )
    } else {
        return true;
    };
    report.error("invalid-regex", regex, message, help);
    false
}

fn problem_of(text: &str) -> Option<String> {
    let translated = match re2::translate(text) {
        Ok(translated) => translated,
        Err(error) => return Some(error.to_string()),
    };
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .nest_limit(MAX_NESTING)
        .build()
        .parse(&translated);
    parsed.err().map(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        error => error.to_string(),
    })
}

/// Whether the program of an expression of permitted length may be too large: counted repetitions
/// write out what they repeat, and classes of Unicode have many ranges.
fn may_grow(text: &str) -> bool {
    text.contains('{') || text.contains("\\p") || text.contains("\\P") || !text.is_ascii()
}
