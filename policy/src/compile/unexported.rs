//! Hosts that are declared, but whose `exportTo` keeps them from the namespace of this proxy.

use std::collections::HashMap;

use super::names::{is_exported, resolve_short_name};
use super::registry::exports_of_service;
use crate::diagnostic::Diagnostic;
use crate::resource::{Metadata, Resources};
use crate::settings::ProxySettings;
use crate::source::{FieldPath, Origin};

/// Who declares such hosts.
#[derive(Debug, Default)]
pub struct Unexported {
    by_host: HashMap<String, Declaration>,
}

/// A document with its list of namespaces.
#[derive(Debug)]
struct Declaration {
    /// `NAMESPACE/NAME`.
    name: String,
    /// The list in words.
    list: &'static str,
    origin: Origin,
}

impl Unexported {
    pub fn new(resources: &Resources, settings: &ProxySettings) -> Self {
        let mut by_host = HashMap::new();
        let mut note = |host: String, metadata: &Metadata, list, place| {
            let Metadata {
                namespace, name, ..
            } = metadata;
            by_host.entry(host).or_insert_with(|| Declaration {
                name: format!("{namespace}/{name}"),
                list,
                origin: metadata.origin(place),
            });
        };
        let is_kept = |list: &[String], metadata: &Metadata| {
            !is_exported(list, &metadata.namespace, &settings.namespace)
        };
        for object in &resources.services {
            let metadata = &object.metadata;
            if is_kept(&exports_of_service(metadata), metadata) {
                let suffix = &settings.domain_suffix;
                let host = resolve_short_name(&metadata.name, &metadata.namespace, suffix);
                let place = FieldPath::root().field("metadata").field("annotations");
                let list = "its annotation `networking.istio.io/exportTo`";
                note(host.to_ascii_lowercase(), metadata, list, place);
            }
        }
        for object in &resources.service_entries {
            if is_kept(&object.spec.export_to, &object.metadata) {
                for host in &object.spec.hosts {
                    let place = FieldPath::root().field("spec").field("exportTo");
                    let host = host.to_ascii_lowercase();
                    note(host, &object.metadata, "its `exportTo`", place);
                }
            }
        }
        Self { by_host }
    }

    /// Why nobody here knows a host, in words.
    pub fn reason(&self, host: &str, settings: &ProxySettings) -> String {
        match self.by_host.get(host) {
            Some(Declaration { name, .. }) => format!(
                "the host `{host}` is declared in {name}, not exported to {}",
                settings.namespace
            ),
            None => format!("nobody declares the host `{host}`"),
        }
    }

    /// The warning with what to write, and where. `otherwise` is for a host that nobody declares.
    pub fn help(
        &self,
        warning: Diagnostic,
        host: &str,
        settings: &ProxySettings,
        otherwise: impl FnOnce() -> String,
    ) -> Diagnostic {
        let Some(Declaration { list, origin, .. }) = self.by_host.get(host) else {
            return warning.with_help(otherwise());
        };
        let help = format!("add `{}` or `*` to {list}", settings.namespace);
        let note = "this keeps it from other namespaces";
        warning.with_help(help).with_related(origin.clone(), note)
    }
}
