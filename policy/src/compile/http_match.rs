//! `http[].match[]`: which routes exist for a port at all, and what they ask at run time.

use std::collections::BTreeMap;

use super::names::{MESH, resolve_gateway, selects};
use super::routes::RouteScope;
use crate::resource::TextMatch;
use crate::resource::virtual_service::HttpMatch;
use crate::snapshot::{
    FullRegex, HeaderMatch, HeaderName, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};

/// Why a match cannot hold at this port, gateway and workload, so that it is never a route;
/// `None` for one that can.
pub fn exclusion(condition: &HttpMatch, scope: &RouteScope<'_>) -> Option<String> {
    let (port, listen_port) = (condition.port, scope.listen_port);
    if port != 0 && port != listen_port {
        return Some(format!(
            "match.port is {port}, and this is port {listen_port}"
        ));
    }
    if !condition.gateways.is_empty() {
        let gateways = condition.gateways.iter();
        let resolved: Vec<String> = gateways
            .map(|gateway| resolve_gateway(gateway, scope.rule_namespace))
            .collect();
        return (!resolved.iter().any(|gateway| gateway == scope.gateway)).then(|| {
            format!(
                "match.gateways is [{}], and this listener belongs to {}",
                resolved.join(", "),
                match scope.gateway {
                    MESH => "the mesh",
                    gateway => gateway,
                }
            )
        });
    }
    let (wanted, own) = (&condition.source_labels, &scope.settings.workload.labels);
    if !selects(wanted, own) {
        return Some(format!(
            "match.sourceLabels is {}, and this proxy has {}",
            in_braces(wanted),
            in_braces(own)
        ));
    }
    let (wanted, own) = (&condition.source_namespace, &scope.settings.namespace);
    (!wanted.is_empty() && wanted != own)
        .then(|| format!("match.sourceNamespace is {wanted}, and this proxy is in {own}"))
}

fn in_braces(labels: &BTreeMap<String, String>) -> String {
    let each = labels
        .iter()
        .map(|(name, value)| format!("{name}: {value}"));
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

/// The run-time conditions of a match.
///
/// # Errors
///
/// What is wrong with a regular expression.
pub fn conditions(written: &HttpMatch) -> Result<RouteMatch, String> {
    let mut matches = RouteMatch::any();
    if let Some(uri) = &written.uri
        && let Some(path) = path_match(uri, written.ignore_uri_case)?
    {
        matches.path = path;
    }
    let mut fields = Vec::new();
    fields.extend(field_matches(&written.headers, false)?);
    fields.extend(field_matches(&written.without_headers, true)?);
    fields.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    matches.headers = fields;
    let pseudo = [
        (HeaderName::Method, &written.method),
        (HeaderName::Authority, &written.authority),
        (HeaderName::Scheme, &written.scheme),
    ];
    for (name, text) in pseudo {
        if let Some(text) = text {
            let value = value_match(Some(text))?;
            matches.headers.push(HeaderMatch {
                name,
                value,
                inverted: false,
            });
        }
    }
    for (name, text) in &written.query_params {
        let value = value_match(text.as_ref())?;
        matches.query.push(QueryMatch {
            name: name.clone(),
            value,
        });
    }
    Ok(matches)
}

fn field_matches(
    written: &BTreeMap<String, Option<TextMatch>>,
    inverted: bool,
) -> Result<Vec<HeaderMatch>, String> {
    let each = written.iter().map(|(name, text)| {
        let name = match name.to_ascii_lowercase().as_str() {
            ":method" => HeaderName::Method,
            ":authority" | "host" => HeaderName::Authority,
            ":path" => HeaderName::Path,
            ":scheme" => HeaderName::Scheme,
            field => match claim_path(name) {
                Some(path) => HeaderName::Claim {
                    written: name.clone(),
                    path,
                },
                None => HeaderName::Field(field.to_string()),
            },
        };
        Ok(HeaderMatch {
            name,
            value: value_match(text.as_ref())?,
            inverted,
        })
    });
    each.collect()
}

/// The claim that `@request.auth.claims.a.b` or `@request.auth.claims[a][b]` names. Istio:
/// `ToRoutingClaim`.
pub fn claim_path(name: &str) -> Option<Vec<String>> {
    const CLAIMS: &str = "@request.auth.claims";
    let start = name.get(..CLAIMS.len())?;
    let rest = &name[CLAIMS.len()..];
    if !start.eq_ignore_ascii_case(CLAIMS) {
        return None;
    }
    let parts = |text: &str, separator: &str| text.split(separator).map(String::from).collect();
    if let Some(names) = rest.strip_prefix('.').filter(|names| !names.is_empty()) {
        return Some(parts(names, "."));
    }
    let inside = rest.strip_prefix('[')?.strip_suffix(']')?;
    (!inside.is_empty()).then(|| parts(inside, "]["))
}

fn path_match(text: &TextMatch, ignore_case: bool) -> Result<Option<PathMatch>, String> {
    Ok(Some(match (&text.exact, &text.prefix, &text.regex) {
        (Some(exact), _, _) if ignore_case => PathMatch::ExactIgnoreCase(exact.clone()),
        (Some(exact), _, _) => PathMatch::Exact(exact.clone()),
        (_, Some(prefix), _) if ignore_case => PathMatch::PrefixIgnoreCase(prefix.clone()),
        (_, Some(prefix), _) => PathMatch::Prefix(prefix.clone()),
        (_, _, Some(regex)) => PathMatch::Regex(FullRegex::new(regex)?),
        (None, None, None) => return Ok(None),
    }))
}

/// Nothing at all and the regular expression `*` both ask for presence.
fn value_match(text: Option<&TextMatch>) -> Result<ValueMatch, String> {
    Ok(match text.map(string_match).transpose()?.flatten() {
        Some(text) => ValueMatch::Text(text),
        None => ValueMatch::Present,
    })
}

/// A text condition, or `None` where only presence is asked for.
pub fn string_match(text: &TextMatch) -> Result<Option<StringMatch>, String> {
    Ok(match (&text.exact, &text.prefix, &text.regex) {
        (Some(exact), _, _) => Some(StringMatch::Exact(exact.clone())),
        (_, Some(prefix), _) => Some(StringMatch::Prefix(prefix.clone())),
        (_, _, Some(regex)) if regex == "*" => None,
        (_, _, Some(regex)) => Some(StringMatch::Regex(FullRegex::new(regex)?)),
        (None, None, None) => None,
    })
}
