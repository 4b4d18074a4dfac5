//! Hosts that are declared more than once: one cluster has room for the endpoints of one only.

use super::findings::Findings;
use super::registry::{Registry, Service};
use crate::diagnostic::{Diagnostic, Place};

/// Warns of services whose host and port another one has already. Entries of one namespace add
/// up, so these are of different namespaces, or an entry for the host of a Kubernetes Service.
pub fn report(registry: &Registry, findings: &mut Findings) {
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
