//! Host names as Istio compares, completes and orders them.

use std::cmp::Ordering;
use std::net::IpAddr;

/// A host without a dot is a service of `namespace`; anything else stays as it is.
pub fn resolve_short_name(host: &str, namespace: &str, domain_suffix: &str) -> String {
    if host.is_empty() || host.contains('.') || host == "*" || host.parse::<IpAddr>().is_ok() {
        return host.to_string();
    }
    if domain_suffix.is_empty() {
        return format!("{host}.{namespace}");
    }
    format!("{host}.{namespace}.svc.{domain_suffix}")
}

/// `namespace/name` of a gateway reference; `mesh` is kept.
pub fn resolve_gateway(reference: &str, namespace: &str) -> String {
    if reference == MESH {
        return MESH.to_string();
    }
    if let Some(name) = reference.strip_prefix("./") {
        return format!("{namespace}/{name}");
    }
    if reference.contains('/') {
        return reference.to_string();
    }
    // The form of old: a host name, whose second label is the namespace.
    let mut labels = reference.split('.');
    match (labels.next(), labels.next()) {
        (Some(name), Some(namespace)) => format!("{namespace}/{name}"),
        _ => format!("{namespace}/{reference}"),
    }
}

/// The reserved name for all sidecars.
pub const MESH: &str = "mesh";

/// Istio's name of a cluster.
pub fn cluster_name(port: u32, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// Istio's name of a cluster as a server name: `outbound_.80_.v1_.reviews.example.com`.
pub fn sni_name(port: u32, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}

pub fn is_wildcard(host: &str) -> bool {
    host.starts_with('*')
}

/// Whether all that `inner` stands for is covered by `outer`. A wildcard is a plain suffix:
/// `*foo` covers `barfoo`.
pub fn is_subset(inner: &str, outer: &str) -> bool {
    match (inner.strip_prefix('*'), outer.strip_prefix('*')) {
        (Some(inner), Some(outer)) => inner.len() >= outer.len() && inner.ends_with(outer),
        (Some(_), None) => false,
        (None, Some(outer)) => inner.ends_with(outer),
        (None, None) => inner == outer,
    }
}

/// Whether any host is covered by both.
pub fn overlap(a: &str, b: &str) -> bool {
    is_subset(a, b) || is_subset(b, a)
}

/// What is covered by both lists, each once, in the order of the first list.
pub fn intersection(first: &[String], second: &[String]) -> Vec<String> {
    let mut covered: Vec<String> = Vec::new();
    for a in first {
        for b in second {
            let narrower = match (is_subset(a, b), is_subset(b, a)) {
                (true, _) => a,
                (false, true) => b,
                (false, false) => continue,
            };
            if !covered.contains(narrower) {
                covered.push(narrower.clone());
            }
        }
    }
    covered
}

/// The most specific first: exact names, then longer ones, then the alphabet.
pub fn by_specificity(a: &str, b: &str) -> Ordering {
    is_wildcard(a)
        .cmp(&is_wildcard(b))
        .then(b.len().cmp(&a.len()))
        .then_with(|| a.cmp(b))
}

/// Whether something with this `exportTo`, written in `owner`, is visible in `namespace`.
pub fn is_exported(export_to: &[String], owner: &str, namespace: &str) -> bool {
    export_to.is_empty()
        || export_to.iter().any(|target| match target.as_str() {
            "*" => true,
            "." => owner == namespace,
            "~" => false,
            other => other == namespace,
        })
}

/// Whether `labels` has every label of `selector`.
pub fn selects(
    selector: &std::collections::BTreeMap<String, String>,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}

/// Hosts as server names to match: without namespaces, sorted, and none at all where one is `*`.
pub fn server_names<'h>(hosts: impl Iterator<Item = &'h str>) -> Vec<String> {
    let bare = hosts.map(|host| host.split_once('/').map_or(host, |(_, host)| host));
    let mut names: Vec<String> = bare.map(str::to_ascii_lowercase).collect();
    if names.iter().any(|name| name == "*") {
        return Vec::new();
    }
    names.sort_unstable();
    names.dedup();
    names
}
