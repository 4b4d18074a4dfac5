//! `egress[].hosts` of Sidecars that import nothing.

use std::collections::HashMap;

use super::Compiler;
use super::names::{is_subset, is_wildcard, overlap, resolve_short_name};
use crate::diagnostic::{Diagnostic, Place};
use crate::source::FieldPath;

/// Warns of hosts that no service and no VirtualService of their namespace has, whoever sees them.
/// All hosts of a namespace are never warned of: there may be some one day.
pub fn report(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    if resources.sidecars.is_empty() {
        return;
    }
    let declared = Declared::of(compiler);
    let root = &compiler.settings.root_namespace;
    for object in &resources.sidecars {
        let own = &object.metadata.namespace;
        for (at, egress) in object.spec.egress.iter().enumerate() {
            for (index, entry) in egress.hosts.iter().enumerate() {
                let Some((namespace, host)) = entry.split_once('/') else {
                    continue;
                };
                if host == "*" || namespace.starts_with('~') {
                    continue;
                }
                let namespace = match namespace {
                    "*" => None,
                    // It is for the workloads of each namespace.
                    "." if own == root => None,
                    "." => Some(own.as_str()),
                    namespace => Some(namespace),
                };
                let host = host.to_ascii_lowercase();
                if declared.has(&host, namespace) {
                    continue;
                }
                let egress = FieldPath::root().field("spec").field("egress").index(at);
                let place = egress.field("hosts").index(index);
                let message = match namespace {
                    Some(namespace) => format!(
                        "namespace `{namespace}` declares no host `{host}`: this imports nothing"
                    ),
                    None => format!("nobody declares a host `{host}`: this imports nothing"),
                };
                let elsewhere = declared.namespaces_of(&host);
                let help = match elsewhere.first() {
                    Some(namespace) => format!("write `{namespace}/{host}`"),
                    None => "write the full name, `NAMESPACE/HOST`, of a ServiceEntry or Service, \
                             or remove it"
                        .to_string(),
                };
                let place = Place::Field(object.metadata.origin(place));
                let warning = Diagnostic::warning("no-effect", place, message).with_help(help);
                compiler.findings.add(warning);
            }
        }
    }
}

/// Hosts with the namespaces that declare them.
struct Declared {
    by_host: HashMap<String, Vec<String>>,
    /// Of these a part is enough.
    of_rules: Vec<(String, String)>,
}

impl Declared {
    fn of(compiler: &Compiler<'_>) -> Self {
        let resources = compiler.resources;
        let suffix = &compiler.settings.domain_suffix;
        let mut by_host: HashMap<String, Vec<String>> = HashMap::new();
        let mut add = |host: &str, namespace: &String| {
            let namespaces = by_host.entry(host.to_ascii_lowercase()).or_default();
            namespaces.push(namespace.clone());
        };
        for object in &resources.services {
            let metadata = &object.metadata;
            let host = resolve_short_name(&metadata.name, &metadata.namespace, suffix);
            add(&host, &metadata.namespace);
        }
        for object in &resources.service_entries {
            for host in &object.spec.hosts {
                add(host, &object.metadata.namespace);
            }
        }
        let rules = resources.virtual_services.iter().flat_map(|object| {
            let namespace = &object.metadata.namespace;
            let hosts = object.spec.hosts.iter();
            hosts.map(move |host| {
                let host = resolve_short_name(host, namespace, suffix);
                (host.to_ascii_lowercase(), namespace.clone())
            })
        });
        Self {
            of_rules: rules.collect(),
            by_host,
        }
    }

    /// Whether a host is imported by `host`, in a namespace or in any.
    fn has(&self, host: &str, namespace: Option<&str>) -> bool {
        let is_meant = |known: &String| namespace.is_none_or(|namespace| known == namespace);
        let of_services = match is_wildcard(host) {
            false => self
                .by_host
                .get(host)
                .is_some_and(|n| n.iter().any(is_meant)),
            true => self.by_host.iter().any(|(known, namespaces)| {
                is_subset(known, host) && namespaces.iter().any(is_meant)
            }),
        };
        let matches = |known: &str| {
            known == host || (is_wildcard(known) || is_wildcard(host)) && overlap(known, host)
        };
        let mut of_rules = self.of_rules.iter();
        of_services || of_rules.any(|(known, owner)| matches(known) && is_meant(owner))
    }

    fn namespaces_of(&self, host: &str) -> &[String] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }
}
