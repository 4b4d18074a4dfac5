//! Where the tokens of a request stand.

use std::borrow::Cow;

use super::rule::{JwtRule, TokenLocation};
use crate::snapshot::RequestFacts;

/// A preflight of CORS, which browsers send without credentials.
pub(crate) fn is_preflight(request: &RequestFacts<'_>) -> bool {
    let has = |name: &str| {
        let mut found = false;
        request
            .headers
            .visit(name, &mut |value| found |= !value.is_empty());
        found
    };
    request.method == "OPTIONS" && has("origin") && has("access-control-request-method")
}

/// All tokens in the places of a rule: headers, then parameters, then cookies.
pub(super) fn tokens<'r>(
    rule: &'r JwtRule,
    request: &RequestFacts<'_>,
) -> Vec<(&'r TokenLocation, String)> {
    let mut found = Vec::new();
    for location in &rule.locations {
        match location {
            TokenLocation::Header { name, prefix } => request.headers.visit(name, &mut |value| {
                let value = String::from_utf8_lossy(value);
                if let Some(token) = behind(&value, prefix) {
                    found.push((location, token.to_string()));
                }
            }),
            TokenLocation::Parameter(name) => {
                let mut parameters = parameters(request.query.unwrap_or_default());
                let first = parameters.find(|(known, _)| *known == name.as_str());
                if let Some((_, value)) = first {
                    found.push((location, value.into_owned()));
                }
            }
            TokenLocation::Cookie(name) => {
                if let Some(value) = cookie(request, name) {
                    found.push((location, value));
                }
            }
        }
    }
    found
}

/// What stands behind the prefix, from the first character on that a token may have.
fn behind<'v>(value: &'v str, prefix: &str) -> Option<&'v str> {
    if prefix.is_empty() {
        return Some(value);
    }
    let after = value.find(prefix)? + prefix.len();
    let is_token = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // Where nothing follows, Envoy takes the whole value, which is no token.
    Some(match value[after..].find(is_token) {
        Some(at) => &value[after + at..],
        None => value,
    })
}

fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (unescaped(name), unescaped(value))
        })
}

fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| {
        let byte = bytes.get(at).copied()?;
        char::from(byte).to_digit(16).map(|digit| digit as u8)
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// A query without the parameters of these names; the others stay as they were sent.
pub fn without_parameters(query: &str, names: &[&str]) -> String {
    let kept = query.split('&').filter(|part| {
        let name = part.split_once('=').map_or(*part, |(name, _)| name);
        !names.contains(&&*unescaped(name))
    });
    kept.collect::<Vec<_>>().join("&")
}

/// The first cookie of a name (RFC 6265 section 5.4).
fn cookie(request: &RequestFacts<'_>, name: &str) -> Option<String> {
    let mut found = None;
    request.headers.visit("cookie", &mut |value| {
        if found.is_some() {
            return;
        }
        let value = String::from_utf8_lossy(value);
        let pairs = value
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='));
        let mut same = pairs.filter(|(known, _)| *known == name);
        found = same.next().map(|(_, value)| {
            let inner = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'));
            inner.unwrap_or(value).to_string()
        });
    });
    found
}
