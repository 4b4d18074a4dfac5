//! Values that are no mapping and no list: their type, their words and their range.

use serde_yaml::Value;

use super::node::Node;
use super::report::Report;
use super::suggest::nearest;
use super::table::{Field, Rules, Shape, Word};
use crate::yaml::{kind_of, read_elsewhere};

/// What a scalar was found to be.
pub enum Scalar {
    /// Right, or wrong and reported.
    Checked,
    /// A word of a set that traffic does not follow yet.
    NotCarried(&'static str),
}

/// Checks one value that is not null.
pub fn check(field: &'static Field, node: &Node<'_>, report: &mut Report<'_>) -> Scalar {
    let rules = &field.rules;
    let is_text = matches!(field.shape, Shape::Text | Shape::Base64 | Shape::PortOrName);
    if is_text && !report.document().unquoted.is_empty() {
        check_quotes(node, report);
    }
    match &field.shape {
        Shape::Any | Shape::Object(_) => {}
        Shape::Text => text(rules, node, report),
        Shape::Bool => {
            if !node.value().is_bool() {
                wrong_type(node, "true or false", report);
            }
        }
        Shape::Int32 => integer(
            rules,
            i64::from(i32::MIN),
            i64::from(i32::MAX),
            node,
            report,
        ),
        Shape::Uint32 => integer(rules, 0, i64::from(u32::MAX), node, report),
        Shape::Uint64 => integer(rules, 0, i64::MAX, node, report),
        Shape::Number => number(rules, node, report),
        Shape::Duration => duration(rules, node, report),
        Shape::Base64 => base64(node, report),
        Shape::PortOrName => {
            if !node.value().is_number() && !node.value().is_string() {
                wrong_type(node, "a port number or the name of a port", report);
            }
        }
        Shape::Words(words) => return word(words, node, report),
        Shape::Protocol(words) => return protocol(words, rules, node, report),
    }
    Scalar::Checked
}

/// Warns of a text that a cluster takes for something else: it refuses the document then.
pub fn check_quotes(node: &Node<'_>, report: &mut Report<'_>) {
    if let Some(other) = read_elsewhere(node.text())
        && report.document().unquoted.contains(&node.path())
    {
        let name = node.name();
        let message = format!("`{name}` is {other} to a cluster, where text is expected");
        report.unquoted_text(node, message);
    }
}

/// A value of the wrong type.
pub fn wrong_type(node: &Node<'_>, expected: &str, report: &mut Report<'_>) {
    let message = format!(
        "`{}` is {}, expected {expected}",
        node.name(),
        kind_of(node.value())
    );
    let help = match (node.value(), expected) {
        (Value::Number(_) | Value::Bool(_), "text") => {
            let help = "write it in quotes".to_string();
            return report.unquoted(node, message, help, ("\"".to_string(), "\"".to_string()));
        }
        (Value::String(value), "a whole number") => match value.parse::<i64>() {
            Ok(number) if number.to_string() == *value => {
                format!("write it without quotes: {number}")
            }
            Ok(number) => without_leading_zeros(value, number),
            Err(_) => format!("write {expected}"),
        },
        (Value::String(value), "true or false") if value.parse::<bool>().is_ok() => {
            format!("write it without quotes: {value}")
        }
        _ => format!("write {expected}"),
    };
    report.error("wrong-type", node, message, help);
}

/// A cluster reads a number that begins with 0 as octal (YAML 1.1), so nobody can tell which is
/// meant.
fn without_leading_zeros(written: &str, number: i64) -> String {
    match i64::from_str_radix(written, 8) {
        Ok(octal) if octal != number => format!(
            "write it without a leading zero: {number}, or {octal}, which is what a cluster reads \
             (octal)"
        ),
        _ => format!("write it without leading zeros: {number}"),
    }
}

fn text(rules: &Rules, node: &Node<'_>, report: &mut Report<'_>) {
    let Value::String(text) = node.value() else {
        return wrong_type(node, "text", report);
    };
    let name = node.name();
    if text.len() < rules.min_length {
        let message = format!("`{name}` is empty");
        report.error(
            "empty-value",
            node,
            message,
            "write a value, or leave the field out",
        );
    } else if let Some(longest) = rules.max_length
        && text.chars().count() > longest
    {
        let message = format!("`{name}` is longer than {longest} characters");
        report.error("value-too-long", node, message, "write a shorter one");
    }
}

fn integer(rules: &Rules, lowest: i64, highest: i64, node: &Node<'_>, report: &mut Report<'_>) {
    let Value::Number(number) = node.value() else {
        return wrong_type(node, "a whole number", report);
    };
    if number.is_f64() {
        return wrong_type(node, "a whole number", report);
    }
    let lowest = rules.min.map_or(lowest, |min| lowest.max(min as i64));
    let highest = rules.max.map_or(highest, |max| highest.min(max as i64));
    if !number
        .as_i64()
        .is_some_and(|value| (lowest..=highest).contains(&value))
    {
        let message = format!("`{}` is {number}, out of range", node.name());
        let help = match highest {
            i64::MAX if number.is_i64() => format!("write a number from {lowest} on"),
            i64::MAX => format!("write a number from {lowest} to {highest}, which is 2^63-1"),
            highest => format!("write a number from {lowest} to {highest}"),
        };
        report.error("out-of-range", node, message, help);
    }
}

/// A whole number of a mapping whose names the table does not hold.
pub fn check_integer(node: &Node<'_>, lowest: i64, highest: i64, report: &mut Report<'_>) {
    integer(&Rules::default(), lowest, highest, node, report);
}

/// A duration of such a mapping.
pub fn check_duration(node: &Node<'_>, least_ms: u64, report: &mut Report<'_>) {
    let rules = Rules {
        min: (least_ms > 0).then_some(least_ms as f64),
        ..Rules::default()
    };
    duration(&rules, node, report);
}

fn number(rules: &Rules, node: &Node<'_>, report: &mut Report<'_>) {
    let Some(value) = node.value().as_f64() else {
        return wrong_type(node, "a number", report);
    };
    let too_low = rules.min.is_some_and(|min| value < min);
    if too_low || rules.max.is_some_and(|max| value > max) || !value.is_finite() {
        let message = format!("`{}` is {value}, out of range", node.name());
        let help = match (rules.min, rules.max) {
            (Some(min), Some(max)) => format!("write a number from {min} to {max}"),
            (Some(min), None) => format!("write a number from {min} on"),
            _ => "write a finite number".to_string(),
        };
        report.error("out-of-range", node, message, help);
    }
}

fn duration(rules: &Rules, node: &Node<'_>, report: &mut Report<'_>) {
    let Value::String(text) = node.value() else {
        return wrong_type(node, "a duration such as `10s`", report);
    };
    let name = node.name();
    let Some(length_ns) = duration_ns(text) else {
        let message = format!("`{name}: {text}` is no duration");
        let help = "write numbers with the units h, m, s or ms, such as `1h30m`, `0.5s`, `100ms`";
        return report.error("bad-duration", node, message, help);
    };
    const MS: i64 = 1_000_000;
    if let Some(min_ms) = rules.min
        && length_ns < min_ms as i64 * MS
    {
        let message = format!("`{name}: {text}` is too short");
        let help = format!("write at least {min_ms}ms, or leave the field out");
        report.error("duration-out-of-range", node, message, help);
    } else if length_ns < 0 {
        let message = format!("`{name}: {text}` is negative");
        report.error(
            "duration-out-of-range",
            node,
            message,
            "write it without `-`",
        );
    } else if length_ns % MS != 0 {
        let message = format!("`{name}: {text}` is finer than a millisecond");
        report.error(
            "duration-too-fine",
            node,
            message,
            "write whole milliseconds",
        );
    }
}

/// A duration in Go's notation, in nanoseconds.
pub fn duration_ns(text: &str) -> Option<i64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if unsigned == "0" {
        return Some(0);
    }
    let mut rest = unsigned;
    let mut total: i64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit_len = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_len);
        let unit_ns: i64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: i64 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        total = total.checked_add(whole.checked_mul(unit_ns)?)?;
        if !fraction.is_empty() {
            if !fraction.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            let part: f64 = format!("0.{fraction}").parse().ok()?;
            total = total.checked_add((part * unit_ns as f64).round() as i64)?;
        }
        rest = after;
    }
    Some(if negative { -total } else { total })
}

fn base64(node: &Node<'_>, report: &mut Report<'_>) {
    let Value::String(text) = node.value() else {
        return wrong_type(node, "text in base64", report);
    };
    let digits = text.trim_end_matches('=');
    let right = digits
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_' | b'\n'));
    if !right || text.len() - digits.len() > 2 {
        let message = format!("`{}` is not base64", node.name());
        report.error(
            "bad-base64",
            node,
            message,
            "write the bytes encoded in base64",
        );
    }
}

fn word(words: &'static [Word], node: &Node<'_>, report: &mut Report<'_>) -> Scalar {
    let Value::String(text) = node.value() else {
        wrong_type(node, &alternatives(words), report);
        return Scalar::Checked;
    };
    match words.iter().find(|word| word.text == text) {
        Some(word) if !word.carried => Scalar::NotCarried(word.text),
        Some(_) => Scalar::Checked,
        None => {
            unknown_word(words, text, node, report);
            Scalar::Checked
        }
    }
}

fn protocol(
    words: &'static [Word],
    rules: &Rules,
    node: &Node<'_>,
    report: &mut Report<'_>,
) -> Scalar {
    text(rules, node, report);
    let written = node.text();
    match words
        .iter()
        .find(|word| word.text.eq_ignore_ascii_case(written))
    {
        Some(word) if !word.carried => Scalar::NotCarried(word.text),
        None if !written.is_empty() => {
            unknown_word(words, written, node, report);
            Scalar::Checked
        }
        _ => Scalar::Checked,
    }
}

fn unknown_word(words: &[Word], text: &str, node: &Node<'_>, report: &mut Report<'_>) {
    let message = format!("`{}` cannot be `{text}`", node.name());
    let help = match nearest(text, words.iter().map(|word| word.text)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write {}", alternatives(words)),
    };
    report.error("unknown-value", node, message, help);
}

fn alternatives(words: &[Word]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.text).collect();
    format!("one of {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::duration_ns;

    #[test]
    fn reads_durations_as_go_does() {
        let ns = |text| duration_ns(text);
        assert_eq!(ns("1h30m"), Some(5_400_000_000_000));
        assert_eq!(ns("0.5s"), Some(500_000_000));
        assert_eq!(ns(".5s"), Some(500_000_000));
        assert_eq!(ns("1.s"), Some(1_000_000_000));
        assert_eq!(ns("0.1s"), Some(100_000_000));
        assert_eq!(ns("100ms"), Some(100_000_000));
        assert_eq!(ns("-1s"), Some(-1_000_000_000));
        assert_eq!(ns("0"), Some(0));
        for wrong in [
            "",
            "1",
            "s",
            ".s",
            "1d",
            "1s2",
            "1 s",
            "1..5s",
            "-",
            "99999999999h",
        ] {
            assert_eq!(ns(wrong), None, "{wrong}");
        }
    }
}
