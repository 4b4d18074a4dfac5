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
            let excluded = exclusions(&egress.hosts, own);
            for (index, entry) in egress.hosts.iter().enumerate() {
                let Some((namespace, host)) = entry.split_once('/') else {
                    continue;
                };
                if namespace.starts_with('~') {
                    continue;
                }
                let place = |index: usize| {
                    let egress = FieldPath::root().field("spec").field("egress").index(at);
                    object.metadata.origin(egress.field("hosts").index(index))
                };
                let of = if namespace == "." { own } else { namespace };
                let excluding = excluded.iter().find(|one| one.covers(of, host));
                if let Some(excluding) = excluding {
                    let by = place(excluding.index);
                    let warning = excluded_again(entry, excluding, Place::Field(place(index)));
                    compiler
                        .findings
                        .add(warning.with_related(by, "this leaves it out"));
                    continue;
                }
                if host == "*" {
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
                let place = Place::Field(place(index));
                let warning = Diagnostic::warning("no-effect", place, message).with_help(help);
                compiler.findings.add(warning);
            }
        }
    }
}

/// An entry with `~`, which leaves hosts out.
struct Exclusion<'e> {
    written: &'e str,
    index: usize,
    /// `*` is any.
    namespace: &'e str,
    host: String,
}

/// The exclusions among the hosts of a listener. A `~` alone is that of every namespace.
fn exclusions<'e>(hosts: &'e [String], own: &'e str) -> Vec<Exclusion<'e>> {
    let entries = hosts.iter().enumerate();
    let excluding = entries.filter_map(|(index, written)| {
        let (namespace, host) = written.strip_prefix('~')?.split_once('/')?;
        Some(Exclusion {
            written,
            index,
            namespace: match namespace {
                "" => "*",
                "." => own,
                namespace => namespace,
            },
            host: host.to_ascii_lowercase(),
        })
    });
    excluding.collect()
}

impl Exclusion<'_> {
    /// Whether all that an entry would import is left out.
    fn covers(&self, namespace: &str, host: &str) -> bool {
        (self.namespace == "*" || self.namespace == namespace)
            && is_subset(&host.to_ascii_lowercase(), &self.host)
    }
}

fn excluded_again(entry: &str, by: &Exclusion<'_>, place: Place) -> Diagnostic {
    let message = format!(
        "`{}` leaves out all that `{entry}` would import",
        by.written
    );
    let help = match by.written {
        "~/*" => "remove `~/*`: only what is listed is imported anyway. Alone, it imports nothing"
            .to_string(),
        other => format!("remove `{entry}`, or write a narrower host in `{other}`"),
    };
    Diagnostic::warning("no-effect", place, message).with_help(help)
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
