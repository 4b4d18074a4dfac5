//! Conditions in words.

use crate::snapshot::{
    HeaderMatch, HeaderName, Mismatch, PathMatch, QueryMatch, RequestFacts, RouteMatch,
    StringMatch, ValueMatch,
};

/// Why a condition does not hold for a request.
pub fn of_mismatch(mismatch: Mismatch<'_>, request: &RequestFacts<'_>) -> String {
    match mismatch {
        Mismatch::Path(path) => format!("path `{}` {}", request.path, not_path(path)),
        Mismatch::Header(header) => header_mismatch(header, request),
        Mismatch::Query(query) => query_mismatch(query, request.query),
    }
}

fn not_path(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(text) => format!("is not `{text}`"),
        PathMatch::Prefix(text) => format!("does not begin with `{text}`"),
        PathMatch::ExactIgnoreCase(text) => format!("is not `{text}` in any case"),
        PathMatch::PrefixIgnoreCase(text) => format!("does not begin with `{text}` in any case"),
        PathMatch::Regex(regex) => format!("does not match `{}` as a whole", regex.text()),
    }
}

fn not_text(text: &StringMatch) -> String {
    match text {
        StringMatch::Exact(text) => format!("is not `{text}`"),
        StringMatch::Prefix(text) => format!("does not begin with `{text}`"),
        StringMatch::Regex(regex) => format!("does not match `{}` as a whole", regex.text()),
    }
}

fn is_text(text: &StringMatch) -> String {
    match text {
        StringMatch::Exact(text) => format!("is `{text}`"),
        StringMatch::Prefix(text) => format!("begins with `{text}`"),
        StringMatch::Regex(regex) => format!("matches `{}`", regex.text()),
    }
}

/// A text condition.
pub fn of_text(text: &StringMatch) -> String {
    match text {
        StringMatch::Exact(text) => text.clone(),
        StringMatch::Prefix(text) => format!("{text}..."),
        StringMatch::Regex(regex) => format!("~ {}", regex.text()),
    }
}

/// All conditions of a route: `path begins with /api, header x is y`.
pub fn of_conditions(matches: &RouteMatch) -> String {
    let mut parts = Vec::new();
    match &matches.path {
        PathMatch::Prefix(text) if text == "/" => {}
        PathMatch::Prefix(text) => parts.push(format!("path `{text}...`")),
        PathMatch::Exact(text) => parts.push(format!("path `{text}`")),
        PathMatch::PrefixIgnoreCase(text) => parts.push(format!("path `{text}...` in any case")),
        PathMatch::ExactIgnoreCase(text) => parts.push(format!("path `{text}` in any case")),
        PathMatch::Regex(regex) => parts.push(format!("path ~ `{}`", regex.text())),
    }
    let value = |value: &ValueMatch| match value {
        ValueMatch::Present => String::new(),
        ValueMatch::Text(text) => format!(" `{}`", of_text(text)),
    };
    for header in &matches.headers {
        let not = if header.inverted { "not " } else { "" };
        let what = match header.name {
            HeaderName::Field(_) => "header ",
            _ => "",
        };
        let name = header.name.as_str().trim_start_matches(':');
        parts.push(format!("{not}{what}{name}{}", value(&header.value)));
    }
    for query in &matches.query {
        parts.push(format!("query {}{}", query.name, value(&query.value)));
    }
    match parts.is_empty() {
        true => "every request".to_string(),
        false => parts.join(", "),
    }
}

fn header_mismatch(header: &HeaderMatch, request: &RequestFacts<'_>) -> String {
    let name = header.name.as_str();
    let value = match &header.name {
        HeaderName::Method => Some(request.method.to_string()),
        HeaderName::Scheme => Some(request.scheme.to_string()),
        HeaderName::Authority => Some(request.authority.to_string()),
        HeaderName::Path => Some(match request.query {
            None => request.path.to_string(),
            Some(query) => format!("{}?{query}", request.path),
        }),
        HeaderName::Field(name) => values_of(name, request),
        // A token is not at hand.
        HeaderName::Claim { .. } => None,
    };
    match (&header.value, value, header.inverted) {
        (ValueMatch::Present, None, _) => format!("header `{name}` is absent"),
        (ValueMatch::Present, Some(_), _) => {
            format!("header `{name}` is there and must not be")
        }
        (ValueMatch::Text(text), None, false) => {
            format!("header `{name}` is absent: it {}", not_text(text))
        }
        (ValueMatch::Text(text), None, true) => {
            format!(
                "header `{name}` is absent, which counts as empty, and must not be: it {}",
                is_text(text)
            )
        }
        (ValueMatch::Text(text), Some(value), false) => {
            format!("header `{name}` with `{value}` {}", not_text(text))
        }
        (ValueMatch::Text(text), Some(value), true) => {
            format!(
                "header `{name}` with `{value}` {} and must not",
                is_text(text)
            )
        }
    }
}

fn values_of(name: &str, request: &RequestFacts<'_>) -> Option<String> {
    let mut values: Vec<String> = Vec::new();
    request.headers.visit(name, &mut |value| {
        values.push(String::from_utf8_lossy(value).into_owned());
    });
    (!values.is_empty()).then(|| values.join("` and `"))
}

fn query_mismatch(condition: &QueryMatch, query: Option<&str>) -> String {
    let name = &condition.name;
    let mut pairs = query
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(key, _)| key == name).map(|(_, value)| value);
    match (&condition.value, found) {
        (ValueMatch::Text(text), Some(value)) => {
            format!("query parameter `{name}` with `{value}` {}", not_text(text))
        }
        _ => format!("query parameter `{name}` is absent"),
    }
}
