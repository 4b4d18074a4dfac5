//! Values in one line, as YAML may write them.

use serde_yaml::Value;

/// Longest rendering, in characters.
const MAX_CHARS: usize = 400;

/// A value in flow form, `{uri: /new, redirectCode: 302}`.
pub(super) fn flow(value: &Value) -> String {
    let mut out = String::new();
    write_flow(value, &mut out);
    shortened(out)
}

/// The destinations of `route`, `cart.example.com:80 subset v1 weight 90`; what they have besides
/// in flow form.
pub(super) fn destinations(value: &Value) -> String {
    let Some(items) = value.as_sequence() else {
        return flow(value);
    };
    let each: Vec<String> = items.iter().map(destination).collect();
    shortened(each.join(", "))
}

fn destination(item: &Value) -> String {
    let Some(fields) = item.as_mapping() else {
        return flow(item);
    };
    let to = item.get("destination").unwrap_or(&Value::Null);
    let mut out = to
        .get("host")
        .and_then(Value::as_str)
        .unwrap_or("?")
        .to_string();
    if let Some(number) = to.get("port").and_then(|port| port.get("number")) {
        out += &format!(":{}", flow(number));
    }
    if let Some(subset) = to.get("subset").and_then(Value::as_str) {
        out += &format!(" subset {subset}");
    }
    for (name, value) in fields {
        match name.as_str() {
            Some("destination") | None => {}
            Some(name) => out += &format!(" {name} {}", flow(value)),
        }
    }
    out
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

fn write_flow(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&number.to_string()),
        Value::String(text) => write_text(text, out),
        Value::Sequence(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_flow(item, out);
            }
            out.push(']');
        }
        Value::Mapping(fields) => {
            out.push('{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_flow(name, out);
                out.push_str(": ");
                write_flow(value, out);
            }
            out.push('}');
        }
        Value::Tagged(tagged) => write_flow(&tagged.value, out),
    }
}

/// Plain where YAML reads it back as the same text.
fn write_text(text: &str, out: &mut String) {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(is_plain)
        && !["true", "false", "null", "yes", "no", "on", "off"].contains(&text);
    if is_word {
        out.push_str(text);
    } else {
        // JSON is YAML.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
    }
}
