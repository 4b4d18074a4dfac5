//! Values of an AuthorizationPolicy: service accounts, trust domains, paths, attributes.

use super::values::{check_ip_or_cidr, check_no_empty_text};
use crate::schema::{Node, Report};

/// Most accounts in one list, and longest account. Istio: `CheckServiceAccount`.
const MAX_ACCOUNTS: usize = 16;
const MAX_ACCOUNT_BYTES: usize = 320;

pub(super) fn check_service_accounts(list: &Node<'_>, report: &mut Report<'_>) {
    if list.len() > MAX_ACCOUNTS {
        let message = format!("there are {} service accounts", list.len());
        let help = format!("write at most {MAX_ACCOUNTS} in one list");
        report.error("out-of-range", list, message, help);
    }
    for account in list.items() {
        let text = account.text();
        let parts: Vec<&str> = text.split('/').collect();
        let has_form = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty());
        if !has_form || text.contains('*') || text.len() > MAX_ACCOUNT_BYTES {
            let message = format!("`{text}` is no service account");
            let help = "write `account` or `namespace/account`, without wildcards";
            report.error("invalid-name", &account, message, help);
        }
    }
}

pub(super) fn check_trust_domains(list: &Node<'_>, report: &mut Report<'_>) {
    for domain in list.items() {
        let text = domain.text();
        if text.contains('/') || !has_plain_wildcard(text) {
            let message = format!("`{text}` is no trust domain");
            let help = "write a domain such as `cluster.local`; `*` may start or end it";
            report.error("invalid-name", &domain, message, help);
        }
    }
}

/// Not empty, with one `*` at most, at the start or the end.
fn has_plain_wildcard(text: &str) -> bool {
    let inner = text.strip_prefix('*').or(text.strip_suffix('*'));
    !text.is_empty() && !inner.unwrap_or(text).contains('*')
}

pub(super) fn check_ports(ports: &Node<'_>, report: &mut Report<'_>) {
    for port in ports.items() {
        let digits = port.text().bytes().all(|byte| byte.is_ascii_digit());
        if !digits || port.text().parse::<u16>().is_err() {
            let message = format!("`{}` is no port", port.text());
            report.error(
                "invalid-port",
                &port,
                message,
                "write a port in quotes, such as \"80\"",
            );
        }
    }
}

/// Paths with `{*}` for one segment and `{**}` for the rest.
pub(super) fn check_path_templates(paths: &Node<'_>, report: &mut Report<'_>) {
    for path in paths.items() {
        if let Some(problem) = template_problem(path.text()) {
            let message = format!("the path `{}` {problem}", path.text());
            let help = "write `{*}` for one segment and `{**}` for all that are left";
            report.error("invalid-path", &path, message, help);
        } else if has_inner_star(path.text()) {
            let message = format!(
                "the `*` inside of `{}` stands for itself, and no client sends one",
                path.text()
            );
            let help = "write `{*}` for one segment, as in `/a/{*}/b`";
            report.warning("partial-wildcard", &path, message, help);
        }
    }
}

/// A `*` that is neither a template nor at an end.
pub(super) fn has_inner_star(path: &str) -> bool {
    let plain = path.replace("{**}", "").replace("{*}", "");
    let inner = plain.strip_suffix('*').or(plain.strip_prefix('*'));
    inner.unwrap_or(&plain).contains('*')
}

fn template_problem(path: &str) -> Option<&'static str> {
    let is_template = path.contains("{*}") || path.contains("{**}");
    let mut had_rest = false;
    for segment in path.trim_matches('/').split('/') {
        match segment {
            "{*}" | "{**}" if had_rest => return Some("goes on after `{**}`"),
            "{*}" => {}
            "{**}" => had_rest = true,
            _ if segment.contains(['{', '}']) => return Some("has braces inside a segment"),
            _ if is_template && !is_path_literal(segment) => {
                return Some("has a segment that is no plain text");
            }
            _ => {}
        }
    }
    None
}

/// RFC 3986 section 3.3: `pchar`, without `*`.
fn is_path_literal(segment: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte);
    !segment.is_empty() && segment.bytes().all(is_plain)
}

/// Attributes that stand alone.
const ATTRIBUTES: [&str; 13] = [
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.serviceAccount",
    "source.principal",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "destination.namespace",
];
/// Attributes with a name in brackets.
const MAPS: [&str; 3] = [
    "request.headers",
    "request.auth.claims",
    "experimental.envoy.filters.",
];

/// The key of a condition.
pub(super) fn check_attribute(key: &Node<'_>, report: &mut Report<'_>) -> bool {
    let name = key.text();
    let help = "write an attribute such as `source.ip`, `request.headers[x-version]` or \
                `request.auth.claims[group]`";
    let message = if MAPS.iter().any(|map| name.starts_with(map)) {
        let inside = name.find('[').filter(|at| *at > 0 && at + 2 < name.len());
        if inside.is_some() && name.ends_with(']') {
            return true;
        }
        format!("`{name}` has no name in brackets")
    } else if name == "destination.namespace" {
        format!("`{name}` is replaced by the namespace of the policy")
    } else if name.starts_with("destination.labels") {
        format!("`{name}` is replaced by the selector of the policy")
    } else if ATTRIBUTES.contains(&name) {
        return true;
    } else {
        format!("`{name}` is no attribute")
    };
    report.error("unknown-value", key, message, help);
    false
}

pub(super) fn check_attribute_values(key: &str, values: &Node<'_>, report: &mut Report<'_>) {
    match key {
        "source.ip" | "remote.ip" | "destination.ip" => {
            values
                .items()
                .for_each(|value| check_ip_or_cidr(&value, report));
        }
        "destination.port" => check_ports(values, report),
        "source.serviceAccount" => check_service_accounts(values, report),
        "source.trustDomain" => {
            for value in values.items() {
                if !has_plain_wildcard(value.text()) {
                    let message = format!("`{}` is no trust domain", value.text());
                    let help = "write a domain; `*` may start or end it";
                    report.error("invalid-name", &value, message, help);
                }
            }
        }
        _ => check_no_empty_text(values, report),
    }
}
