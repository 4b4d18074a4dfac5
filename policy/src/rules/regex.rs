//! Regular expressions, which are RE2's.

use crate::re2;
use crate::schema::{Node, Report};

/// Longest expression, in bytes. Istio: `validateStringRegexp`.
const MAX_REGEX_BYTES: usize = 1024;

pub(super) fn check_regex(regex: &Node<'_>, report: &mut Report<'_>) {
    let text = regex.text();
    let problem = if text.is_empty() {
        "it is empty".to_string()
    } else if text.len() > MAX_REGEX_BYTES {
        format!("it is longer than {MAX_REGEX_BYTES} bytes")
    } else {
        match problem_of(text) {
            Some(problem) => problem,
            None => return,
        }
    };
    let message = format!("this is no regular expression: {problem}");
    let help = "write RE2's syntax, such as `/api/v[0-9]+/.*`; it has to match the whole value";
    report.error("invalid-regex", regex, message, help);
}

fn problem_of(text: &str) -> Option<String> {
    let translated = match re2::translate(text) {
        Ok(translated) => translated,
        Err(error) => return Some(error.to_string()),
    };
    let parsed = regex_syntax::ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(&translated);
    parsed.err().map(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        error => error.to_string(),
    })
}
