//! What a verified token says.

use serde_json::{Map, Value};

/// The payload of a verified token, as authorization and routing see it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims {
    fields: Map<String, Value>,
    principal: Option<String>,
}

/// Claims that are lists written as one text, whatever a rule says.
const ALWAYS_SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

impl Claims {
    /// Takes a payload. Texts of the claims in `space_delimited`, and of `scope` and `permission`,
    /// become lists (Istio: `spaceDelimitedClaims`).
    pub fn new(mut fields: Map<String, Value>, space_delimited: &[String]) -> Self {
        let named = space_delimited.iter().map(String::as_str);
        for name in named.chain(ALWAYS_SPACE_DELIMITED) {
            if let Some(value) = fields.get_mut(name)
                && let Value::String(text) = value
            {
                let items = text.split(' ').filter(|item| !item.is_empty());
                *value = Value::Array(items.map(|item| Value::String(item.to_string())).collect());
            }
        }
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let principal = match (text("iss"), text("sub")) {
            (Some(issuer), Some(subject)) => Some(format!("{issuer}/{subject}")),
            _ => None,
        };
        Self { fields, principal }
    }

    /// `issuer/subject`, where the token has both. Istio: `request.auth.principal`.
    pub fn principal(&self) -> Option<&str> {
        self.principal.as_deref()
    }

    /// A claim that is one text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name).and_then(Value::as_str)
    }

    /// Calls `each` with the text of a claim, or with those texts that its list holds; `path` leads
    /// through nested claims. Numbers and the like are no texts.
    pub fn visit(&self, path: &[String], each: &mut dyn FnMut(&str)) {
        let Some((first, others)) = path.split_first() else {
            return;
        };
        let mut found = self.fields.get(first);
        for name in others {
            found = found.and_then(|value| value.get(name.as_str()));
        }
        match found {
            Some(Value::String(text)) => each(text),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).for_each(each),
            _ => {}
        }
    }

    /// A claim as the value of a header; lists and mappings are none.
    /// Dots lead into nested claims, unless the whole is the name of one.
    pub fn as_header(&self, name: &str) -> Option<String> {
        let nested = || {
            let mut names = name.split('.');
            let first = self.fields.get(names.next()?)?;
            names.try_fold(first, |found, name| found.get(name))
        };
        let found = self.fields.get(name).or_else(nested)?;
        let is_visible = |text: &String| {
            let mut bytes = text.bytes();
            !text.is_empty() && bytes.all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
        };
        match found {
            Value::String(text) => Some(text.clone()).filter(is_visible),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    /// All claims.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }
}
