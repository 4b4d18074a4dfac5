//! Values without what has to stand around them: a text in the place of a mapping, one value in
//! the place of a list. Mostly the value is right, so help shows it where it belongs.

use serde_yaml::Value;

use super::node::Node;
use super::report::Report;
use super::scalar::duration_ns;
use super::table::{Field, Repeat, Shape, TABLE, Type};
use crate::yaml::kind_of;

/// Longer texts are not shown, nor are those of several lines.
const LONGEST_SHOWN: usize = 80;

/// Something else stands where a mapping of the fields of a type is expected.
pub fn no_mapping(field: &Field, found: &'static Type, node: &Node<'_>, report: &mut Report<'_>) {
    let Some((inner, value)) = in_mapping(field, found, node.value()) else {
        let help = match node.value() {
            Value::Sequence(_) => "write a mapping: its fields without `- `".to_string(),
            _ => format!("write a mapping; its fields are {}", names(found)),
        };
        return refuse(node, "a mapping", help, report);
    };
    let value = match field.repeat {
        // An item of a list has no name.
        Repeat::List => value,
        Repeat::One | Repeat::Map => value.within(&format!("{}: ", shown(node.name())), ""),
    };
    let way = format!("under `{}`", inner.name);
    let others = alternatives(found, inner);
    show(node, "a mapping", value, (&way, &others), report);
}

/// Something else stands where a list is expected.
pub fn no_list(field: &Field, node: &Node<'_>, report: &mut Report<'_>) {
    let value = match field.shape {
        Shape::Object(id) => {
            in_mapping(field, TABLE.type_of(id), node.value()).map(|(_, value)| value)
        }
        _ => fitting(&field.shape, node.value()),
    };
    let Some(value) = value else {
        let help = match node.value() {
            Value::Mapping(_) => "write a list: each item after `- `",
            _ => "write a list",
        };
        return refuse(node, "a list", help.to_string(), report);
    };
    let value = value.within(&format!("{}: [", shown(node.name())), "]");
    show(node, "a list", value, ("in a list", ""), report);
}

/// Something else stands where names with values are expected. It is not shown: it may be what a
/// Secret holds.
pub fn no_names(node: &Node<'_>, report: &mut Report<'_>) {
    let help = format!(
        "write each value after its name: `{}: {{NAME: VALUE}}`",
        shown(node.name())
    );
    refuse(node, "a mapping of names to values", help, report);
}

/// A value as it has to be written; `None` for what stands in the file, which is shown when it
/// is looked up.
struct Example {
    before: String,
    value: Option<String>,
    after: String,
}

impl Example {
    fn of(value: String) -> Self {
        Self {
            before: String::new(),
            value: Some(value),
            after: String::new(),
        }
    }

    fn in_quotes() -> Self {
        Self {
            before: "\"".to_string(),
            value: None,
            after: "\"".to_string(),
        }
    }

    fn within(self, before: &str, after: &str) -> Self {
        Self {
            before: format!("{before}{}", self.before),
            value: self.value,
            after: format!("{}{after}", self.after),
        }
    }
}

/// The value in a mapping of this type, under the field that it is meant for.
fn in_mapping(
    field: &Field,
    found: &'static Type,
    value: &Value,
) -> Option<(&'static Field, Example)> {
    let at = match field.rules.meant {
        Some(name) => found.position(name)?,
        None => (found.fields.len() == 1).then_some(0)?,
    };
    let inner = &found.fields[at];
    if inner.repeat != Repeat::One {
        return None;
    }
    let value = fitting(&inner.shape, value)?;
    Some((inner, value.within(&format!("{{{}: ", inner.name), "}")))
}

/// The value in the form that a field of this shape takes, if it is one of its values.
fn fitting(shape: &Shape, value: &Value) -> Option<Example> {
    let shown = match (shape, value) {
        (Shape::Text, Value::Number(_) | Value::Bool(_)) => return Some(Example::in_quotes()),
        (Shape::Text, Value::String(text)) => {
            let is_short = text.len() <= LONGEST_SHOWN && !text.contains(char::is_control);
            is_short.then(|| self::shown(text))?
        }
        (Shape::Words(words), Value::String(text)) => {
            let is_word = words.iter().any(|word| word.text == text);
            is_word.then(|| text.clone())?
        }
        (Shape::Duration, Value::String(text)) => duration_ns(text).map(|_| text.clone())?,
        (Shape::Int32 | Shape::Uint32 | Shape::Uint64, value) => whole(value)?,
        (Shape::Number, Value::Number(number)) => number.to_string(),
        (Shape::Number, Value::String(text)) => {
            let number = text.strip_suffix('%').unwrap_or(text);
            let number: f64 = number.trim().parse().ok()?;
            number.is_finite().then(|| number.to_string())?
        }
        (Shape::Bool, Value::Bool(value)) => value.to_string(),
        _ => return None,
    };
    Some(Example::of(shown))
}

fn whole(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        Value::String(text) => {
            let number: i64 = text.parse().ok()?;
            (number.to_string() == *text).then(|| text.clone())
        }
        _ => None,
    }
}

/// A text as it can stand in brackets: in quotes unless it is plain and stays a text without them.
fn shown(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.');
    let is_plain = text.starts_with(is_word)
        && text
            .chars()
            .all(|c| is_word(c) || matches!(c, '_' | '-' | ':'))
        && !text.ends_with(':')
        && matches!(serde_yaml::from_str(text), Ok(Value::String(_)));
    if is_plain {
        text.to_string()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

/// The texts that can stand in the place of this one, such as `regex` for `prefix`.
fn alternatives(found: &Type, meant: &Field) -> String {
    let set = found.one_of.iter().find_map(|set| {
        let fields: Vec<&Field> = set.iter().map(|at| &found.fields[*at]).collect();
        let are_texts = fields
            .iter()
            .all(|field| matches!(field.shape, Shape::Text));
        let has_meant = fields.iter().any(|field| field.name == meant.name);
        (are_texts && has_meant).then_some(fields)
    });
    let others = set
        .into_iter()
        .flatten()
        .filter(|field| field.name != meant.name);
    let others: Vec<String> = others.map(|field| format!("`{}`", field.name)).collect();
    if others.is_empty() {
        return String::new();
    }
    format!(", or {} in place of `{}`", others.join(" or "), meant.name)
}

fn names(found: &Type) -> String {
    let names: Vec<_> = found.fields.iter().map(|field| field.name).collect();
    names.join(", ")
}

/// `way` says in words where the value belongs, `others` what else could be written.
fn show(
    node: &Node<'_>,
    expected: &str,
    example: Example,
    (way, others): (&str, &str),
    report: &mut Report<'_>,
) {
    let Example {
        before,
        value,
        after,
    } = example;
    match value {
        Some(value) => {
            let help = format!("write `{before}{value}{after}`{others}");
            refuse(node, expected, help, report);
        }
        None => {
            let help = format!("write it in quotes, {way}");
            let around = (format!("`{before}"), format!("{after}`{others}"));
            report.unquoted(node, message(node, expected), help, around);
        }
    }
}

fn refuse(node: &Node<'_>, expected: &str, help: String, report: &mut Report<'_>) {
    report.error("wrong-type", node, message(node, expected), help);
}

fn message(node: &Node<'_>, expected: &str) -> String {
    let (name, kind) = (node.name(), kind_of(node.value()));
    format!("`{name}` is {kind}, expected {expected}")
}
