//! Services of ServiceEntries that routes lead to and nobody stands behind.

use super::Compiler;
use super::reached::Reached;
use super::registry::Resolution;
use crate::diagnostic::{Diagnostic, Place};
use crate::snapshot::ClusterId;
use crate::source::FieldPath;

/// Warns of each. Endpoints of a Kubernetes Service are left to whoever writes its slices.
pub fn report(reached: &Reached, compiler: &mut Compiler<'_>) {
    let mut told = Vec::new();
    for (at, cluster) in compiler.clusters.list.iter().enumerate() {
        let id = ClusterId(at as u32);
        let is_reached = reached.by_requests.contains(&id) || reached.by_bytes.contains(&id);
        // Of subsets another finding tells.
        if !is_reached || !cluster.subset.is_empty() || !cluster.endpoints.is_empty() {
            continue;
        }
        let mut services = compiler.registry.all(&cluster.service.host);
        let service = services.find(|service| Some(&service.origin) == cluster.origin.as_ref());
        let Some(service) = service
            .filter(|service| service.resolution == Resolution::Static && !service.is_kubernetes)
        else {
            continue;
        };
        let entries = &compiler.resources.service_entries;
        let of_service =
            |one: &&crate::resource::Object<_>| one.metadata.document == service.origin.document;
        let Some(entry) = entries.iter().find(of_service) else {
            continue;
        };
        let spec = FieldPath::root().field("spec");
        let (place, reason, help) = match service.chooses_endpoints() {
            true => (
                spec.field("workloadSelector"),
                "no WorkloadEntry of its namespace has these labels",
                "add a WorkloadEntry with these labels, or correct them",
            ),
            false => (
                spec.field("resolution"),
                "it has no endpoint",
                "write `endpoints:`",
            ),
        };
        let message = format!(
            "{reason}, and routes lead to `{}`: requests get 503 UH",
            cluster.service.host
        );
        let place = Place::Key(entry.metadata.origin(place));
        told.push(Diagnostic::warning("no-endpoints", place, message).with_help(help));
    }
    for warning in told {
        compiler.findings.add(warning);
    }
}
