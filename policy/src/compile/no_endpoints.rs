//! Services that routes lead to and nobody stands behind.

use std::collections::BTreeSet;

use super::Compiler;
use super::endpoint_slices::{is_of_service, service_of};
use super::reached::Reached;
use super::registry::Service;
use crate::diagnostic::{Diagnostic, Place};
use crate::snapshot::{Cluster, ClusterId, Discovery};
use crate::source::{FieldPath, Origin};

/// Warns of each. That the slices of a Kubernetes Service have no endpoint is left to whoever writes
/// them; that it has no slice at all, or that its ports have other names there, is a slip.
pub fn report(reached: &Reached, compiler: &mut Compiler<'_>) {
    let mut told = slices_of_nothing(compiler);
    told.extend(slices_of_names(compiler));
    for (at, cluster) in compiler.clusters.list.iter().enumerate() {
        let is_reached = reached.has(ClusterId(at as u32));
        let is_empty = cluster.discovery == Discovery::Static && cluster.endpoints.is_empty();
        // Of subsets another finding tells.
        if !is_reached || !is_empty || !cluster.subset.is_empty() {
            continue;
        }
        let mut services = compiler.registry.all(&cluster.service.host);
        let Some(service) =
            services.find(|service| Some(&service.origin) == cluster.origin.as_ref())
        else {
            continue;
        };
        if service.is_kubernetes {
            let is_told =
                |warning: &Diagnostic| told.iter().any(|one| one.message == warning.message);
            let warning = no_slices(service, compiler)
                .or_else(|| ports_of_other_names(service, cluster, compiler))
                .filter(|warning| !is_told(warning));
            told.extend(warning);
            continue;
        }
        let entries = &compiler.resources.service_entries;
        let of_service =
            |one: &&crate::resource::Object<_>| one.metadata.document == service.origin.document;
        let Some(entry) = entries.iter().find(of_service) else {
            continue;
        };
        let spec = FieldPath::root().field("spec");
        let (place, reason, help) = match service.chooses_endpoints() {
            true if !service.sources.is_empty() => (
                spec.field("workloadSelector"),
                "the WorkloadEntries with these labels have no IP address",
                "write an IP address as their `address`, or `resolution: DNS` here",
            ),
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

/// A Service whose endpoints nobody writes down: there is no cluster to ask for them. That of the
/// workload itself may do without.
fn no_slices(service: &Service, compiler: &Compiler<'_>) -> Option<Diagnostic> {
    let mut slices = compiler.resources.endpoint_slices.iter();
    let workload = &compiler.settings.workload;
    let is_own = |port| service.target_at(port, workload).is_some();
    if slices.any(|slice| is_of_service(slice, &service.name, &service.namespace))
        || service.ports.iter().any(is_own)
    {
        return None;
    }
    let message = format!(
        "the Service `{}` has no EndpointSlice, and routes lead to it: requests get 503 UH",
        service.name
    );
    let help = format!(
        "add an EndpointSlice with the label `kubernetes.io/service-name: {}` in its namespace",
        service.name
    );
    let place = Place::Key(service.origin.clone());
    Some(Diagnostic::warning("no-endpoints", place, message).with_help(help))
}

/// A port of a Service that no slice with endpoints has by its name.
fn ports_of_other_names(
    service: &Service,
    cluster: &Cluster,
    compiler: &Compiler<'_>,
) -> Option<Diagnostic> {
    // `outbound|PORT|SUBSET|HOST`
    let number = cluster.name.split('|').nth(1)?.parse().ok()?;
    let port = service.port(number)?;
    let slices = compiler.resources.endpoint_slices.iter();
    let mut own = slices
        .filter(|slice| is_of_service(slice, &service.name, &service.namespace))
        .filter(|slice| !slice.spec.endpoints.is_empty())
        .peekable();
    own.peek()?;
    let mut names = BTreeSet::new();
    for at in own.flat_map(|slice| &slice.spec.ports) {
        let name = at.name.as_deref().unwrap_or_default();
        match at.port {
            Some(_) if name == port.name => return None,
            Some(_) => names.insert(format!("`{name}`")),
            None => continue,
        };
    }
    let names: Vec<String> = names.into_iter().collect();
    let known = match names.as_slice() {
        [] => "has no port with a number".to_string(),
        names => format!("has {}", names.join(", ")),
    };
    let message = format!(
        "no EndpointSlice of `{}` has its port `{}` ({known}), and routes lead there: requests get \
         503 UH",
        service.name, port.name
    );
    let place = Place::Key(Origin {
        document: service.origin.document,
        field: FieldPath::root().field("spec").field("ports"),
    });
    let help = "give the port the same name in the Service and in its EndpointSlices";
    Some(Diagnostic::warning("no-endpoints", place, message).with_help(help))
}

/// Slices whose Service is not there.
fn slices_of_nothing(compiler: &Compiler<'_>) -> Vec<Diagnostic> {
    let services = &compiler.resources.services;
    let mut told = Vec::new();
    for slice in &compiler.resources.endpoint_slices {
        let Some(name) = service_of(slice) else {
            continue;
        };
        let namespace = &slice.metadata.namespace;
        let named = || services.iter().filter(|one| one.metadata.name == *name);
        if named().any(|one| one.metadata.namespace == *namespace) {
            continue;
        }
        let message =
            format!("no Service `{name}` is in namespace `{namespace}`: nobody uses this");
        let help = match named().next() {
            Some(other) => format!(
                "write `namespace: {}`, where the Service is",
                other.metadata.namespace
            ),
            None => "correct the name, or add the Service".to_string(),
        };
        let labels = FieldPath::root().field("metadata").field("labels");
        let place = Place::Key(slice.metadata.origin(labels));
        told.push(Diagnostic::warning("unknown-host", place, message).with_help(help));
    }
    told
}

/// Slices of names, which Istio does not use either.
fn slices_of_names(compiler: &Compiler<'_>) -> impl Iterator<Item = Diagnostic> {
    let slices = compiler.resources.endpoint_slices.iter();
    let of_names = slices.filter(|slice| slice.spec.address_type == "FQDN");
    of_names.map(|slice| {
        let field = FieldPath::root().field("addressType");
        let place = Place::Field(slice.metadata.origin(field));
        let message = "endpoints of `addressType: FQDN` are not used, in Istio neither";
        let help = "write IP addresses, or a ServiceEntry with `resolution: DNS`";
        Diagnostic::warning("no-effect", place, message.to_string()).with_help(help)
    })
}
