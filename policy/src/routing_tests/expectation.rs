//! Whether a route is what a case expects, field by field.
//!
//! Values are compared as Istio understands them: what is not written is the same as its default,
//! a short name the same as the full one, `5s` the same as `5000ms`.

use serde_yaml::{Mapping, Number, Value};

use crate::compile::names::resolve_short_name;
use crate::schema::duration_ns;

/// What names mean where the route is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Names<'n> {
    /// Of the VirtualService.
    pub namespace: &'n str,
    pub domain_suffix: &'n str,
}

/// Whether two values of the field `name` say the same; null is a field that is not written.
pub(super) fn is_same(name: &str, one: &Value, other: &Value, names: Names<'_>) -> bool {
    canonical(name, one, names) == canonical(name, other, names)
}

fn canonical(name: &str, value: &Value, names: Names<'_>) -> Value {
    let mut value = simplify(name, value, names);
    match name {
        "route" => {
            if let Value::Sequence(items) = &mut value {
                drop_only_weight(items);
                // The order of destinations decides nothing.
                items.sort_by_cached_key(super::wording::flow);
            }
        }
        "redirect" => {
            if let Some(fields) = value.as_mapping_mut()
                && fields.get("redirectCode").and_then(Value::as_f64) == Some(301.0)
            {
                fields.remove("redirectCode");
            }
        }
        "delegate" => {
            if let Some(fields) = value.as_mapping_mut()
                && !fields.contains_key("namespace")
            {
                fields.insert(Value::from("namespace"), Value::from(names.namespace));
            }
        }
        _ => {}
    }
    value
}

/// The weight of a single destination is all, whatever is written.
fn drop_only_weight(destinations: &mut [Value]) {
    if let [Value::Mapping(only)] = destinations {
        only.remove("weight");
    }
}

/// The value of the field `name` without what is left to its default.
fn simplify(name: &str, value: &Value, names: Names<'_>) -> Value {
    match value {
        Value::Mapping(fields) => {
            // Names that users choose, beside which an empty text is a value.
            let is_free = matches!(name, "set" | "add" | "labels");
            let mut kept = Mapping::new();
            for (key, value) in fields {
                let Some(key) = key.as_str() else { continue };
                let key = if is_free {
                    key.to_string()
                } else {
                    camel_case(key)
                };
                let value = simplify(&key, value, names);
                if is_free || !is_default(&key, &value) {
                    kept.insert(Value::String(key), value);
                }
            }
            sorted(kept)
        }
        Value::Sequence(items) => {
            let each = items.iter().map(|item| simplify(name, item, names));
            Value::Sequence(each.collect())
        }
        Value::Number(number) => Value::Number(Number::from(number.as_f64().unwrap_or_default())),
        Value::String(text) => match name {
            "host" => {
                let host = resolve_short_name(text, names.namespace, names.domain_suffix);
                Value::String(host.to_ascii_lowercase())
            }
            "fixedDelay" | "timeout" | "perTryTimeout" | "backoff" | "maxAge" => {
                match duration_ns(text) {
                    Some(ns) => Value::String(format!("{ns}ns")),
                    None => value.clone(),
                }
            }
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

fn sorted(fields: Mapping) -> Value {
    let mut fields: Vec<(Value, Value)> = fields.into_iter().collect();
    fields.sort_by(|(one, _), (other, _)| one.as_str().cmp(&other.as_str()));
    Value::Mapping(fields.into_iter().collect())
}

/// Whether a value is what counts when the field is not written. A share or a number of attempts
/// of 0 is not: without them it is all, or Istio's own number.
fn is_default(name: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => {
            number.as_f64() == Some(0.0) && !matches!(name, "value" | "attempts")
        }
        Value::String(text) => text.is_empty(),
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(fields) => fields.is_empty(),
        Value::Tagged(_) => false,
    }
}

/// `redirect_code` is another way to write `redirectCode`.
fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_next_upper = false;
    for character in name.chars() {
        if character == '_' {
            is_next_upper = true;
        } else if is_next_upper {
            out.extend(character.to_uppercase());
            is_next_upper = false;
        } else {
            out.push(character);
        }
    }
    out
}
