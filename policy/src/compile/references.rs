//! References to nothing, whether or not a listener of this process would follow them.

use super::Compiler;
use super::names::{MESH, cluster_name, resolve_gateway, resolve_short_name};
use super::registry::Service;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Metadata;
use crate::resource::virtual_service::Destination;
use crate::source::FieldPath;

/// Warns of gateways, hosts, ports and subsets that VirtualServices name and nobody declares.
pub fn report(compiler: &mut Compiler<'_>) {
    report_gateways(compiler);
    let resources = compiler.resources;
    for object in &resources.virtual_services {
        for (index, rule) in object.spec.http.iter().enumerate() {
            let place = || FieldPath::root().field("spec").field("http").index(index);
            for (at, route) in rule.route.iter().enumerate() {
                let place = || place().field("route").index(at).field("destination");
                report_destination(compiler, &object.metadata, &route.destination, place);
            }
            if let Some(mirror) = &rule.mirror {
                report_destination(compiler, &object.metadata, mirror, || {
                    place().field("mirror")
                });
            }
            for (at, mirror) in rule.mirrors.iter().enumerate() {
                if let Some(destination) = &mirror.destination {
                    let place = || place().field("mirrors").index(at).field("destination");
                    report_destination(compiler, &object.metadata, destination, place);
                }
            }
        }
    }
}

fn report_gateways(compiler: &mut Compiler<'_>) {
    let gateways = compiler.resources.gateways.iter();
    let known: std::collections::HashSet<String> = gateways
        .map(|object| format!("{}/{}", object.metadata.namespace, object.metadata.name))
        .collect();
    for object in &compiler.resources.virtual_services {
        for (index, reference) in object.spec.gateways.iter().enumerate() {
            let resolved = resolve_gateway(reference, &object.metadata.namespace);
            if resolved == MESH || known.contains(&resolved) {
                continue;
            }
            let place = FieldPath::root()
                .field("spec")
                .field("gateways")
                .index(index);
            let message = format!("there is no gateway `{resolved}`: this binds nothing");
            let help = "name a Gateway as `namespace/name`, or `mesh`";
            let place = Place::Field(object.metadata.origin(place));
            let warning = Diagnostic::warning("unknown-gateway", place, message);
            compiler.findings.add(warning.with_help(help));
        }
    }
}

fn report_destination(
    compiler: &mut Compiler<'_>,
    metadata: &Metadata,
    destination: &Destination,
    place: impl Fn() -> FieldPath,
) {
    let suffix = &compiler.settings.domain_suffix;
    let host = resolve_short_name(&destination.host, &metadata.namespace, suffix);
    let host = host.to_ascii_lowercase();
    let port = destination
        .port
        .as_ref()
        .map(|port| port.number)
        .filter(|port| *port > 0);
    let subset = &destination.subset;
    let (code, place, message, help) = match compiler.registry.find(&host, &metadata.namespace) {
        None => (
            "unknown-host",
            place().field("host"),
            format!("nobody declares the host `{host}`: requests get 503 NC"),
            "add a ServiceEntry or Service with this host, or correct the name".to_string(),
        ),
        // What an alias leads to has ports and subsets of its own.
        Some(service) if service.alias_of.is_some() => return,
        Some(service) => {
            let has_subset = |port: u32| {
                compiler
                    .clusters
                    .id(&cluster_name(port, subset, &service.host))
                    .is_some()
            };
            match port {
                Some(port) if service.port(port).is_none() => (
                    "unknown-port",
                    place(),
                    format!("`{host}` has no port {port}: requests get 503 NC"),
                    choice_of_ports(service),
                ),
                _ if subset.is_empty() || service.ports.iter().any(|p| has_subset(p.number)) => {
                    return;
                }
                _ => (
                    "unknown-subset",
                    place().field("subset"),
                    format!(
                        "no DestinationRule for `{host}` has the subset `{subset}`: requests get 503 NC"
                    ),
                    "add the subset to the DestinationRule of this host".to_string(),
                ),
            }
        }
    };
    let place = Place::Field(metadata.origin(place));
    compiler
        .findings
        .add(Diagnostic::warning(code, place, message).with_help(help));
}

/// What to write for a port of a service.
pub fn choice_of_ports(service: &Service) -> String {
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|port| port.number.to_string())
        .collect();
    format!("set `port.number` to one of {}", ports.join(", "))
}
