//! Names: DNS labels, domains with and without wildcards, labels of Kubernetes.

use crate::schema::{Node, Report};

/// Longest DNS label. RFC 1035 section 2.3.4.
const MAX_LABEL: usize = 63;
/// Longest domain name. RFC 1035 section 2.3.4.
const MAX_DOMAIN: usize = 255;
/// Longest DNS name before the `/` of a label key. Kubernetes: labels and selectors.
const MAX_KEY_PREFIX: usize = 253;

/// A label as RFC 1123 has it: letters, digits and inner `-`, at most 63 of them.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && has_label_form(text)
}

fn has_label_form(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter()
        .all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// A domain name without wildcards. One dot at the end is allowed.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that starts with the name.
pub(super) fn check_fqdn(domain: &str) -> Result<(), String> {
    check_length(domain)?;
    check_labels(domain)
}

/// A domain name whose first label may be `*`, or start with `*` or `*-`.
///
/// # Errors
///
/// What is wrong, as the rest of a sentence that starts with the name.
pub(super) fn check_wildcard_domain(domain: &str) -> Result<(), String> {
    check_length(domain)?;
    let (first, rest) = match domain.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (domain, None),
    };
    let plain = first
        .strip_prefix("*-")
        .or(first.strip_prefix('*'))
        .unwrap_or(first);
    let is_wildcard = first == "*" || has_label_form(plain);
    if first.len() > MAX_LABEL || !is_wildcard {
        return Err(bad_label(first));
    }
    rest.map_or(Ok(()), check_labels)
}

fn check_length(domain: &str) -> Result<(), String> {
    match domain.len() {
        0 => Err("is empty".to_string()),
        1..=MAX_DOMAIN => Ok(()),
        _ => Err(format!("is longer than {MAX_DOMAIN} characters")),
    }
}

fn check_labels(domain: &str) -> Result<(), String> {
    let labels: Vec<&str> = domain.split('.').collect();
    let last = labels.len() - 1;
    if !labels[last].is_empty() && labels[last].bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("ends in the number `{}`", labels[last]));
    }
    for (at, label) in labels.iter().enumerate() {
        if at == last && label.is_empty() {
            return Ok(());
        }
        if !is_dns_label(label) {
            return Err(bad_label(label));
        }
    }
    Ok(())
}

fn bad_label(label: &str) -> String {
    if label.is_empty() {
        "has an empty label".to_string()
    } else {
        format!("has the label `{label}`, which is none")
    }
}

/// Whether `host` is `*` or starts with it.
pub(super) fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether a wildcard stands for something other than whole labels, as in `*foo.com`.
pub(super) fn is_partial_wildcard(host: &str) -> bool {
    host.contains('*') && host.len() != 1 && !host.starts_with("*.")
}

/// Whether there is a name that both hosts cover.
pub(super) fn hosts_overlap(one: &str, other: &str) -> bool {
    match (one.strip_prefix('*'), other.strip_prefix('*')) {
        (Some(one), Some(other)) => one.ends_with(other) || other.ends_with(one),
        (Some(suffix), None) => other.ends_with(suffix),
        (None, Some(suffix)) => one.ends_with(suffix),
        (None, None) => one == other,
    }
}

/// Whether every name that `narrow` covers is covered by `wide`.
pub(super) fn host_covers(wide: &str, narrow: &str) -> bool {
    match (wide.strip_prefix('*'), narrow.strip_prefix('*')) {
        (Some(wide), Some(narrow)) => narrow.ends_with(wide),
        (Some(suffix), None) => narrow.ends_with(suffix),
        (None, Some(_)) => false,
        (None, None) => wide == narrow,
    }
}

/// Letters, digits, `-`, `_` and `.`, with a letter or digit at both ends.
fn is_qualified_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    ends.iter()
        .all(|end| end.is_some_and(u8::is_ascii_alphanumeric))
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = match key.rsplit_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let prefix_is_name = prefix.is_none_or(|prefix| {
        prefix.len() <= MAX_KEY_PREFIX && prefix.split('.').all(has_label_form)
    });
    prefix_is_name && name.len() <= MAX_LABEL && is_qualified_name(name)
}

/// Labels of Kubernetes: `prefix.of.dns/name: value`.
pub(super) fn check_labels_of(labels: &Node<'_>, report: &mut Report<'_>) {
    for (key, value) in labels.entries() {
        if !is_label_key(key) {
            let message = format!("`{key}` is no name of a label");
            let help = "write letters, digits, `-`, `_` and `.`, such as `app.kubernetes.io/name`";
            report.key_error("invalid-label", &value, message, help);
        }
        let text = value.text();
        if !text.is_empty() && !is_qualified_name(text) {
            let message = format!("`{text}` is no value of a label");
            let help =
                "write letters, digits, `-`, `_` and `.`, with a letter or digit at the ends";
            report.error("invalid-label", &value, message, help);
        }
    }
}

/// A host that may start with a wildcard.
pub(super) fn check_host(host: &Node<'_>, report: &mut Report<'_>) -> bool {
    match check_wildcard_domain(host.text()) {
        Ok(()) => true,
        Err(problem) => {
            report_host(host, &problem, report);
            false
        }
    }
}

/// Reports a host with what the functions of this module say about it.
pub(super) fn report_host(host: &Node<'_>, problem: &str, report: &mut Report<'_>) {
    let help = "write a DNS name, such as `reviews` or `*.example.com`";
    report_host_with(host, problem, help, report);
}

/// The same where a wildcard is not taken, or nothing else is.
pub(super) fn report_host_with(
    host: &Node<'_>,
    problem: &str,
    help: &str,
    report: &mut Report<'_>,
) {
    let message = format!("the host `{}` {problem}", host.text());
    report.error("invalid-host", host, message, help);
}

/// A name that has to be one DNS label.
pub(super) fn check_dns_label(name: &Node<'_>, what: &str, report: &mut Report<'_>) {
    let text = name.text();
    if !is_dns_label(text) {
        let message = format!("`{text}` is no {what}");
        let help = "write letters, digits and inner `-`, at most 63 of them";
        report.error("invalid-name", name, message, help);
    }
}
