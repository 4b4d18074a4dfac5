//! Names and values of headers.

use std::collections::BTreeMap;

use super::regex::check_regex;
use crate::schema::{Node, Report};
use crate::settings::is_header_name;
use crate::snapshot::{HeaderValue, is_framing_header};

/// `@request.auth.claims.name` and `@request.auth.claims[name]`, which route by the claims of a
/// token instead of a header.
pub(super) fn is_jwt_claim(name: &str) -> bool {
    const CLAIMS: &str = "@request.auth.claims";
    let Some((start, claim)) = name.split_at_checked(CLAIMS.len()) else {
        return false;
    };
    let has_claim = claim.len() > 2 && claim.starts_with('[') && claim.ends_with(']')
        || claim.len() > 1 && claim.starts_with('.');
    start.eq_ignore_ascii_case(CLAIMS) && has_claim
}

/// The key of a header match.
pub(super) fn check_matched_name(name: &str, node: &Node<'_>, report: &mut Report<'_>) {
    const PSEUDO: [&str; 5] = [":method", ":scheme", ":authority", ":path", ":status"];
    if !is_header_name(name) && !PSEUDO.contains(&name) && !is_jwt_claim(name) {
        report_name(name, node, true, report);
    }
}

fn report_name(name: &str, node: &Node<'_>, is_key: bool, report: &mut Report<'_>) {
    let message = format!("`{name}` is no name of a header");
    let help = "write letters, digits and `-`, such as `x-canary`";
    if is_key {
        report.key_error("invalid-header", node, message, help);
    } else {
        report.error("invalid-header", node, message, help);
    }
}

/// A name in a list of CORS headers; `*` is all of them.
pub(super) fn check_cors_name(name: &Node<'_>, report: &mut Report<'_>) {
    if name.text() != "*" {
        check_name(name, report);
    }
}

/// The name of any header.
pub(super) fn check_name(name: &Node<'_>, report: &mut Report<'_>) {
    if !is_header_name(name.text()) {
        report_name(name.text(), name, false, report);
    }
}

/// Letters, digits, `-` and perhaps `_`.
pub(super) fn check_plain_name(name: &Node<'_>, underscore: bool, report: &mut Report<'_>) {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || underscore && byte == b'_';
    if name.text().is_empty() || !name.text().bytes().all(is_plain) {
        report_name(name.text(), name, false, report);
    }
}

pub(super) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

/// `headers:` of a route or of a destination.
pub(super) fn check_operations(headers: &Node<'_>, report: &mut Report<'_>) {
    let request = headers.get("request");
    let response = headers.get("response");
    for (side, is_response) in [(&request, false), (&response, true)] {
        check_overwritten(side, is_response, report);
        for operation in ["add", "set"] {
            for (name, value) in side.get(operation).entries() {
                let may_be_set = !is_response && is_authority(name);
                if let Err(problem) = may_change(name, may_be_set) {
                    report.key_error("invalid-header", &value, problem, NAME_HELP);
                } else if let Some((message, help)) = never_changed(name, is_response) {
                    report.key_warning("framing-header", &value, message, help);
                }
                if value.is_set() && value.text().is_empty() {
                    let message = format!(
                        "an empty value is not written: a header `{name}` that is there stays as it is"
                    );
                    let help = "write a value, or name the header in `remove:`";
                    report.warning("no-effect", &value, message, help);
                }
                if is_authority(name) {
                    check_sendable(&value, report);
                }
                check_value(name, &value, report);
            }
        }
        for name in side.get("remove").items() {
            if let Err(problem) = may_change(name.text(), false) {
                report.error("invalid-header", &name, problem, NAME_HELP);
            } else if let Some((message, help)) = never_changed(name.text(), is_response) {
                report.warning("framing-header", &name, message, help);
            }
        }
    }
}

/// Names are the same in any case of letters: of two of them the last in order counts. What `set`
/// writes is gone already when it comes to that.
fn check_overwritten(side: &Node<'_>, is_response: bool, report: &mut Report<'_>) {
    let set = side.get("set");
    let mut written: BTreeMap<String, Node<'_>> = BTreeMap::new();
    // Operators may come to nothing, and then nothing is written.
    let plain = set.entries().filter(|(name, value)| {
        let text = value.text();
        !text.is_empty() && !text.contains('%') && never_changed(name, is_response).is_none()
    });
    let mut entries: Vec<(&str, Node<'_>)> = plain.collect();
    entries.sort_by_key(|(name, _)| name.to_string());
    for (name, value) in entries {
        if let Some(earlier) = written.insert(name.to_ascii_lowercase(), value) {
            let message = format!("`{name}` is the same header, and is set after this one");
            report.key_warning("no-effect", &earlier, message, "keep one of the two");
        }
    }
    for name in side.get("remove").items() {
        if written.contains_key(&name.text().to_ascii_lowercase()) {
            let message = format!(
                "`set` writes `{}` anew in any case: nothing is left to remove",
                name.text()
            );
            report.warning("no-effect", &name, message, "remove one of the two");
        }
    }
}

/// Why no operation touches this header, and what to do.
fn never_changed(name: &str, is_response: bool) -> Option<(String, &'static str)> {
    if is_framing_header(name) {
        let help = "remove it: the proxy says by itself where a message ends and whether the \
                    connection goes on";
        let message = format!("`{name}` belongs to the connection, so this has no effect");
        Some((message, help))
    } else if is_response && name.eq_ignore_ascii_case("server") {
        let help = "remove it, or write a header of another name";
        let message = format!("the proxy names itself in `{name}`, so this has no effect");
        Some((message, help))
    } else {
        None
    }
}

/// What becomes a part of a request line or of `Host` must not end it early.
pub(super) fn check_sendable(value: &Node<'_>, report: &mut Report<'_>) {
    let ends_early = |c: char| c.is_ascii_control() || c == ' ';
    report_unsendable(value, ends_early, "a space or a control character", report);
}

/// The same for the value of a header such as `Location`.
pub(super) fn check_one_line(value: &Node<'_>, report: &mut Report<'_>) {
    let ends_early = |c: char| c.is_ascii_control();
    report_unsendable(value, ends_early, "a control character", report);
}

fn report_unsendable(
    value: &Node<'_>,
    ends_early: impl Fn(char) -> bool,
    what: &str,
    report: &mut Report<'_>,
) {
    let text = value.text();
    if text.contains(ends_early) {
        let message = format!("`{}` has {what}", text.escape_debug());
        let help = "remove it, or write it escaped, such as `%20`";
        report.error("unsendable-text", value, message, help);
    }
}

const NAME_HELP: &str = "write the name of an ordinary header; `:authority` or `host` can be set \
                         in a request, and a path is changed by `rewrite`";

fn may_change(name: &str, may_be_authority: bool) -> Result<(), String> {
    if name.is_empty() {
        Err("the name of a header is empty".to_string())
    } else if may_be_authority {
        Ok(())
    } else if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        Err(format!("`{name}` cannot be changed here"))
    } else if !is_header_name(name) {
        Err(format!("`{}` is no name of a header", name.escape_debug()))
    } else {
        Ok(())
    }
}

const FORMAT_HELP: &str = "write `%%` for a percent sign, and `%NAME%`, `%NAME(argument)%` or `%NAME(argument):LENGTH%` \
     for a variable";

fn check_value(name: &str, value: &Node<'_>, report: &mut Report<'_>) {
    let text = value.text();
    let is_control = |c: char| c.is_ascii_control() && c != '\t';
    let (problem, help) = if text.contains(['\r', '\n']) {
        let help = "write one line: a break would begin another header. Text below `|` or `>` ends \
                    in a break, below `|-` or `>-` it does not";
        ("has a line break", help)
    } else if text.contains(is_control) {
        (
            "has a control character",
            "remove it: a header holds one line of visible text",
        )
    } else if let Some(problem) = format_problem(text) {
        let help = match problem {
            NO_NAME => {
                "write a name there, such as `%REQ(x-user)%`; a variable that needs none has no \
                 parentheses"
            }
            _ => FORMAT_HELP,
        };
        (problem, help)
    } else {
        return check_operators(name, value, report);
    };
    let message = format!("the value `{}` {problem}", text.escape_debug());
    report.error("invalid-header", value, message, help);
}

/// What Envoy would take, or find out only when it starts, and what has no effect here.
fn check_operators(name: &str, value: &Node<'_>, report: &mut Report<'_>) {
    match HeaderValue::parse(value.text()) {
        Ok(parsed) => {
            if let Some(operator) = parsed.unrendered() {
                let message = format!(
                    "header `{name}` asks for `%{operator}%`, which has no value here yet: that \
                     part is empty, and a header of nothing else is left out"
                );
                let help = "write another operator, or leave the header out";
                report.warning("value-not-carried", value, message, help);
            }
        }
        Err(error) => {
            let message = format!("the value of header `{name}` has {error}: not written");
            report.warning("header-format", value, message, FORMAT_HELP);
        }
    }
}

const NO_NAME: &str = "has a variable without a name between its parentheses";

/// What is wrong with the `%NAME(arguments):LENGTH%` variables of a value. Envoy: custom request
/// and response headers.
fn format_problem(text: &str) -> Option<&'static str> {
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some("ends in a lone `%`");
        }
        let Some(end) = rest.find(['%', '(']) else {
            return Some("has a `%` that starts no variable");
        };
        let opens = rest[end..].starts_with('(');
        rest = &rest[end + 1..];
        if opens {
            if is_closed_at_once(rest) {
                return Some(NO_NAME);
            }
            let after = match skip_arguments(rest) {
                Some(after) => after,
                None => return Some("has a variable whose arguments are never closed"),
            };
            let Some(after) = skip_length(after) else {
                return Some("has a variable whose length is no number");
            };
            match after.trim_start_matches(' ').strip_prefix('%') {
                Some(after) => rest = after,
                None => return Some("has a variable without `%` after its arguments"),
            }
        }
    }
    None
}

/// Whether these are no arguments. A `)` that begins an argument is part of it.
fn is_closed_at_once(arguments: &str) -> bool {
    let after = arguments.trim_start_matches(' ').strip_prefix(')');
    after.is_some_and(|after| after.trim_start_matches(' ').starts_with(['%', ':']))
}

/// What follows the `:LENGTH` behind arguments, if there is one: the value is cut to so many bytes.
fn skip_length(text: &str) -> Option<&str> {
    let Some(length) = text.strip_prefix(':') else {
        return Some(text);
    };
    let end = length.find(|c: char| !c.is_ascii_digit());
    let (digits, after) = length.split_at(end.unwrap_or(length.len()));
    digits.parse::<usize>().is_ok().then_some(after)
}

/// What follows the `)` that closes arguments: one text, or a list of quoted texts in brackets.
fn skip_arguments(text: &str) -> Option<&str> {
    let trimmed = text.trim_start_matches(' ');
    let Some(mut list) = trimmed.strip_prefix('[') else {
        let mut is_escaped = false;
        let end = trimmed.char_indices().find(|(at, c)| {
            // The first character is never the end: `%NAME()%` has no argument to close.
            let is_end = *c == ')' && !is_escaped && *at > 0;
            is_escaped = *c == '\\' && !is_escaped;
            is_end
        })?;
        return Some(&trimmed[end.0 + 1..]);
    };
    loop {
        list = list.trim_start_matches(' ').strip_prefix('"')?;
        let mut is_escaped = false;
        let end = list.find(|c: char| {
            let is_end = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            is_end
        })?;
        list = list[end + 1..].trim_start_matches(' ');
        match list.strip_prefix(',') {
            Some(after) => list = after,
            None => {
                let after = list.strip_prefix(']')?;
                return after.trim_start_matches(' ').strip_prefix(')');
            }
        }
    }
}

/// A match of exact, prefix or regex. An empty prefix matches everything, which Envoy refuses
/// except for paths.
pub(super) fn check_string_match(
    condition: &Node<'_>,
    empty_prefix_is_fine: bool,
    report: &mut Report<'_>,
) {
    let prefix = condition.get("prefix");
    if prefix.is_set() && prefix.text().is_empty() && !empty_prefix_is_fine {
        let message = format!("the prefix of `{}` is empty", condition.name());
        let help = "write a prefix, or remove the condition to match everything";
        report.error("empty-value", &prefix, message, help);
    }
    let regex = condition.get("regex");
    if regex.is_set() {
        check_regex(&regex, report);
    }
}

#[cfg(test)]
mod tests {
    use super::{NO_NAME, format_problem};

    #[test]
    fn variables_of_values_are_closed() {
        for fine in [
            "",
            "plain",
            "100%%",
            "%HOSTNAME%",
            "a %REQ(X-A)% b",
            "%START_TIME(%s.%3f)%",
            "%REQ(user-agent):4%",
            "%PATH(WQ:ORIG):2%%PROTOCOL:4%",
            r#"%DYNAMIC_METADATA(["a", "b"]):3%"#,
            r#"%DYNAMIC_METADATA(["a", "b"])%"#,
        ] {
            assert_eq!(format_problem(fine), None, "{fine}");
        }
        for broken in [
            "abc%123",
            "%START_TIME%%",
            "%",
            "%REQ(a%",
            "%REQ(a)x%",
            "%REQ(a):%",
            "%REQ(a):n%",
            "%REQ(a):+4%",
            "%REQ(a):99999999999999999999%",
            "%REQ(a):4",
            "%REQ(a):4x%",
        ] {
            assert!(format_problem(broken).is_some(), "{broken}");
        }
        for nameless in ["%REQ()%", "%REQ( )%", "%REQ():4%", "%REQ()% (b)"] {
            assert_eq!(format_problem(nameless), Some(NO_NAME), "{nameless}");
        }
    }
}
