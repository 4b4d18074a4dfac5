//! Several ServiceEntries of one namespace for one host, or one for that of a Kubernetes Service.
//! Istio: `appendSidecarServices`.

use std::collections::BTreeSet;

use super::registry::{EntryPort, Port, Resolution, Service, Source, SourcePorts};
use crate::resource::service_entry::ServiceEntry;
use crate::source::Origin;

/// An entry whose ports or settings do not count.
#[derive(Debug, Clone)]
pub struct Unmerged {
    pub host: String,
    /// Its ports that no older entry has.
    pub ports: Vec<u32>,
    /// In what it differs from the one that counts; `None` where that is a Kubernetes Service.
    pub field: Option<&'static str>,
    pub origin: Origin,
    pub winner: Origin,
}

/// Adds the ports of a later entry to an older one, unless they differ in what holds for the whole
/// service. Of a port that both have the older one tells the protocol. Endpoints count either way,
/// each for the ports of its own entry.
pub fn merge(older: &mut Service, later: Service) -> Option<Unmerged> {
    let is_new = |port: &&Port| older.port(port.number).is_none();
    let new: Vec<Port> = later.ports.iter().filter(is_new).cloned().collect();
    let of_kubernetes = older.is_kubernetes && !later.is_kubernetes;
    // Two documents of one Kubernetes Service are told elsewhere.
    let difference = difference(older, &later).filter(|_| !later.is_kubernetes);
    let mut sources = later.sources;
    if later.resolution == Resolution::DnsRoundRobin {
        // It has one endpoint for a port. Istio: `mergeServicesInstancesByNamespaceHost`.
        for source in &mut sources {
            if let SourcePorts::OfEntry(ports) = &mut source.ports {
                ports.retain(|port| older.port(port.number).is_none());
            }
        }
    }
    older.sources.extend(sources);
    if difference.is_none() && !of_kubernetes {
        older.ports.extend(new);
        return None;
    }
    (of_kubernetes || !new.is_empty()).then(|| Unmerged {
        host: later.host,
        ports: new.iter().map(|port| port.number).collect(),
        field: difference.filter(|_| !of_kubernetes),
        origin: later.origin,
        winner: older.origin.clone(),
    })
}

/// An endpoint serves the ports of the entry that it is written for or selected by, and no others
/// of the host.
pub fn at_ports_of(entry: &ServiceEntry, source: Source) -> Source {
    let SourcePorts::Named(written) = &source.ports else {
        return source;
    };
    let ports = entry.ports.iter().map(|port| {
        let own = written.get(&port.name).copied();
        let target = (port.target_port > 0).then_some(port.target_port);
        EntryPort {
            name: port.name.clone(),
            number: port.number,
            target: own.or(target).unwrap_or(port.number),
        }
    });
    Source {
        ports: SourcePorts::OfEntry(ports.collect()),
        ..source
    }
}

/// The field that keeps two entries apart. Istio: `canMergeServices`.
fn difference(one: &Service, other: &Service) -> Option<&'static str> {
    if one.resolution != other.resolution {
        Some("resolution")
    } else if one.labels != other.labels {
        Some("metadata.labels")
    } else if one.selector != other.selector {
        Some("workloadSelector")
    } else if exports(one) != exports(other) {
        Some("exportTo")
    } else {
        None
    }
}

fn exports(service: &Service) -> BTreeSet<&str> {
    match service.export_to.as_slice() {
        [] => BTreeSet::from(["*"]),
        written => written.iter().map(String::as_str).collect(),
    }
}
