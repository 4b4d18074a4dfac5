//! Values of an AuthorizationPolicy that no request ever has, and lists that exclude each other.

use super::authorization_values::has_inner_star;
use crate::schema::{Node, Report};
use crate::snapshot::path::Normalization;

/// Fields of a source or an operation with their negations.
const PAIRS: [(&str, &str); 11] = [
    ("paths", "notPaths"),
    ("methods", "notMethods"),
    ("hosts", "notHosts"),
    ("ports", "notPorts"),
    ("principals", "notPrincipals"),
    ("requestPrincipals", "notRequestPrincipals"),
    ("namespaces", "notNamespaces"),
    ("serviceAccounts", "notServiceAccounts"),
    ("trustDomains", "notTrustDomains"),
    ("ipBlocks", "notIpBlocks"),
    ("remoteIpBlocks", "notRemoteIpBlocks"),
];

/// Looks at one source or operation.
pub(super) fn check(part: &Node<'_>, report: &mut Report<'_>) {
    for (field, negated) in PAIRS {
        let (values, excluded) = (part.get(field), part.get(negated));
        let covered = |value: &Node<'_>| {
            excluded
                .items()
                .any(|other| covers(other.text(), value.text()))
        };
        if !values.is_empty() && values.items().all(|value| covered(&value)) {
            let message = format!("`{negated}` excludes all that `{field}` asks for");
            let help = "remove one of the two: as it stands nothing matches";
            report.warning("never-matches", &values, message, help);
        }
        let fault: fn(&str) -> Option<(String, &'static str)> = match field {
            "paths" => fault_of_path,
            "methods" => fault_of_method,
            "hosts" => fault_of_host,
            "principals" => fault_of_principal,
            _ => continue,
        };
        for list in [&values, &excluded] {
            for value in list.items() {
                // Paths have templates, and are looked at with them.
                if field != "paths" && has_inner_star(value.text()) {
                    let message = format!(
                        "the `*` inside of `{}` stands for itself, and no client sends one",
                        value.text()
                    );
                    let help = "write `*` at the beginning or at the end, not at both";
                    report.warning("partial-wildcard", &value, message, help);
                } else if let Some((message, help)) = fault(value.text()) {
                    report.warning("never-matches", &value, message, help);
                }
            }
        }
    }
}

/// Whether what matches `value` matches `pattern`, as far as `*` at an end goes.
fn covers(pattern: &str, value: &str) -> bool {
    if pattern == value || pattern == "*" {
        return true;
    }
    match (pattern.strip_suffix('*'), pattern.strip_prefix('*')) {
        (Some(start), _) => value.starts_with(start),
        (_, Some(end)) => value.ends_with(end),
        (None, None) => false,
    }
}

type Fault = Option<(String, &'static str)>;

fn fault_of_path(text: &str) -> Fault {
    let is_suffix = text.starts_with('*');
    let plain = text.trim_matches('*');
    if !is_suffix && !text.starts_with(['/', '{']) {
        let message = format!("no path is `{text}`: paths begin with `/`");
        return Some((message, "write the path from its `/`"));
    }
    if plain.contains(['?', '#']) {
        let message = format!("no path is `{text}`: the query is not part of it");
        return Some((message, "write the path alone, without what follows `?`"));
    }
    if is_suffix || text.contains('{') || plain.is_empty() {
        return None;
    }
    let help =
        "write the path as it is compared, without escapes of plain letters and without `..`";
    match Normalization::Base.apply(plain) {
        Ok(normal) if normal == plain => None,
        Ok(normal) => Some((
            format!("no path is `{text}`: it is compared in normal form, as `{normal}`"),
            help,
        )),
        Err(_) => Some((format!("no request has the path `{text}`"), help)),
    }
}

fn fault_of_method(text: &str) -> Fault {
    let is_lower = text.bytes().any(|byte| byte.is_ascii_lowercase());
    is_lower.then(|| {
        let message = format!("methods are compared with their case, and none is `{text}`");
        (message, "write it in capitals, such as `GET`")
    })
}

fn fault_of_host(text: &str) -> Fault {
    text.contains('/').then(|| {
        let message = format!("no host is `{text}`");
        (message, "write the host alone, such as `shop.example.com`")
    })
}

fn fault_of_principal(text: &str) -> Fault {
    const HELP: &str = "write `DOMAIN/ns/NAMESPACE/sa/ACCOUNT`; `*` may begin or end it";
    if text.starts_with("spiffe://") {
        let message = format!("no principal is `{text}`: they are compared without `spiffe://`");
        return Some((message, HELP));
    }
    let parts: Vec<&str> = text.split('/').collect();
    let has_form = matches!(parts.as_slice(), [_, "ns", _, "sa", _]);
    (!text.contains('*') && !has_form && !text.is_empty()).then(|| {
        let message = format!("no principal of a workload is `{text}`");
        (message, HELP)
    })
}
