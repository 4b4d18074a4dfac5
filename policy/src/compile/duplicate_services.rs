//! Hosts that are declared more than once: one cluster has room for the endpoints of one only.

use std::collections::HashMap;

use super::findings::Findings;
use super::names::is_exported;
use super::registry::{Registry, Service};
use super::service_merge::Unmerged;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Resources;
use crate::resource::protocol::Protocol;
use crate::settings::ProxySettings;
use crate::source::{FieldPath, Origin};

/// Warns of services whose host and port another one has already. Entries of one namespace add
/// up, so these are of different namespaces, or an entry for the host of a Kubernetes Service.
pub fn report(registry: &Registry, findings: &mut Findings) {
    for unmerged in &registry.unmerged {
        findings.add(ports_do_not_count(unmerged));
    }
    for service in &registry.services {
        let shares_port = |other: &&Service| {
            let mut ports = service.ports.iter();
            ports.any(|port| other.port(port.number).is_some())
        };
        let Some(winner) = registry.all(&service.host).find(shares_port) else {
            continue;
        };
        if winner.origin == service.origin {
            continue;
        }
        let what = match winner.is_kubernetes {
            true => "a Kubernetes Service",
            false => "an older ServiceEntry",
        };
        let message = format!(
            "the host `{}` is declared by {what} of namespace `{}`, too: its endpoints count, \
             these do not",
            service.host, winner.namespace
        );
        let warning = Diagnostic::warning(
            "duplicate-service",
            Place::Field(service.origin.clone()),
            message,
        )
        .with_help("keep one, or limit one of them by `exportTo`")
        .with_related(winner.origin.clone(), "the one that counts");
        findings.add(warning);
    }
}

fn ports_do_not_count(unmerged: &Unmerged) -> Diagnostic {
    let Unmerged {
        host, ports, field, ..
    } = unmerged;
    let place = Place::Field(unmerged.origin.clone());
    let warn = |message: String, help: String| {
        Diagnostic::warning("duplicate-service", place, message)
            .with_help(help)
            .with_related(unmerged.winner.clone(), "the one that counts")
    };
    let Some(field) = field else {
        let message = format!(
            "`{host}` is a Kubernetes Service of this namespace: its ports and settings count, with \
             the endpoints of both for ports of the same name"
        );
        let help = "write a WorkloadEntry with the labels of its selector for each endpoint";
        return warn(message, help.to_string());
    };
    let numbers: Vec<String> = ports.iter().map(ToString::to_string).collect();
    let message = format!(
        "an older ServiceEntry of this namespace declares `{host}` with another `{field}`: Istio \
         does not merge them, and port {} of it does not exist",
        numbers.join(", ")
    );
    let help = format!("write the ports into one ServiceEntry, or the same `{field}` in both");
    warn(message, help)
}

/// Warns of a port that two entries of one namespace declare with different protocols.
pub fn report_protocols(resources: &Resources, settings: &ProxySettings, findings: &mut Findings) {
    let mut known: HashMap<(&str, String, u32), (Protocol, &str, Origin)> = HashMap::new();
    for entry in &resources.service_entries {
        let namespace = entry.metadata.namespace.as_str();
        if !is_exported(&entry.spec.export_to, namespace, &settings.namespace) {
            continue;
        }
        let ports = FieldPath::root().field("spec").field("ports");
        for (at, port) in entry.spec.ports.iter().enumerate() {
            for host in &entry.spec.hosts {
                let origin = entry.metadata.origin(ports.index(at));
                let protocol = Protocol::parse(&port.protocol);
                let written = port.protocol.as_str();
                let key = (namespace, host.to_ascii_lowercase(), port.number);
                let first = known.entry(key);
                let first = first.or_insert_with(|| (protocol, written, origin.clone()));
                if first.0 == protocol {
                    continue;
                }
                let message = format!(
                    "port {} of `{host}` is {} by an older ServiceEntry, which counts, and {} here",
                    port.number,
                    name_of(first.1),
                    name_of(written)
                );
                let place = Place::Field(origin);
                let warning = Diagnostic::warning("duplicate-service", place, message)
                    .with_help("write one protocol in both, or another port number")
                    .with_related(first.2.clone(), "the one that counts");
                findings.add(warning);
            }
        }
    }
}

fn name_of(protocol: &str) -> String {
    match protocol {
        "" => "found out by sniffing".to_string(),
        written => written.to_ascii_uppercase(),
    }
}
