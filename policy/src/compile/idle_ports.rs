//! Matches that ask for a port that nothing of their VirtualService listens on.

use std::collections::{BTreeSet, HashMap};

use super::Compiler;
use super::gateway_tables::resolved_hosts;
use super::names::{MESH, is_wildcard, overlap, resolve_gateway};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::virtual_service::VirtualService;
use crate::source::FieldPath;

/// A match as far as it is about ports.
struct Asked<'r> {
    port: u32,
    gateways: &'r [String],
    place: FieldPath,
}

/// Warns of each `match[].port` that is none of the ports of the gateways and services that its
/// VirtualService is for. Where one of these is not known, nothing is said.
pub fn report(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    let gateways = resources.gateways.iter().map(|object| {
        let name = format!("{}/{}", object.metadata.namespace, object.metadata.name);
        let ports = object.spec.servers.iter().map(|server| server.port.number);
        (name, ports.collect::<BTreeSet<u32>>())
    });
    let gateways: HashMap<String, BTreeSet<u32>> = gateways.collect();
    for object in &resources.virtual_services {
        for asked in asked_ports(&object.spec) {
            let bound = match asked.gateways.is_empty() {
                true => &object.spec.gateways,
                false => asked.gateways,
            };
            let Some(ports) = ports_of(bound, object, &gateways, compiler) else {
                continue;
            };
            if ports.contains(&asked.port) {
                continue;
            }
            let known: Vec<String> = ports.iter().map(u32::to_string).collect();
            let known = known.join(", ");
            let message = format!(
                "this never holds: nothing that the VirtualService is for listens on port {}, only \
                 on {known}",
                asked.port
            );
            let help = format!("write one of {known}, or remove the match");
            let place = Place::Field(object.metadata.origin(asked.place.field("port")));
            let warning = Diagnostic::warning("never-matches", place, message);
            compiler.findings.add(warning.with_help(help));
        }
    }
}

fn asked_ports(spec: &VirtualService) -> Vec<Asked<'_>> {
    let place = |list: &str, rule: usize, at: usize| {
        let rule = FieldPath::root().field("spec").field(list).index(rule);
        rule.field("match").index(at)
    };
    let mut asked = Vec::new();
    for (rule, written) in spec.http.iter().enumerate() {
        for (at, one) in written.r#match.iter().enumerate() {
            asked.push((one.port, &one.gateways, ("http", rule, at)));
        }
    }
    let tls = spec.tls.iter().map(|rule| &rule.r#match).enumerate();
    let tcp = spec.tcp.iter().map(|rule| &rule.r#match).enumerate();
    let tls = tls.map(|rule| ("tls", rule));
    for (list, (rule, matches)) in tls.chain(tcp.map(|rule| ("tcp", rule))) {
        for (at, one) in matches.iter().enumerate() {
            asked.push((one.port, &one.gateways, (list, rule, at)));
        }
    }
    asked.retain(|(port, ..)| *port != 0);
    let each = asked
        .into_iter()
        .map(|(port, gateways, (list, rule, at))| Asked {
            port,
            gateways,
            place: place(list, rule, at),
        });
    each.collect()
}

/// The ports of what a VirtualService is bound to; `None` when not all of that is known.
fn ports_of(
    bound: &[String],
    object: &Object<VirtualService>,
    gateways: &HashMap<String, BTreeSet<u32>>,
    compiler: &Compiler<'_>,
) -> Option<BTreeSet<u32>> {
    let mut ports = BTreeSet::new();
    if bound.is_empty() {
        return ports_of_services(object, compiler);
    }
    for reference in bound {
        match resolve_gateway(reference, &object.metadata.namespace) {
            name if name == MESH => ports.extend(ports_of_services(object, compiler)?),
            name => ports.extend(gateways.get(&name)?),
        }
    }
    Some(ports)
}

fn ports_of_services(
    object: &Object<VirtualService>,
    compiler: &Compiler<'_>,
) -> Option<BTreeSet<u32>> {
    let hosts = resolved_hosts(object, compiler.settings);
    let mut ports = BTreeSet::new();
    for host in hosts.iter().map(|host| host.to_ascii_lowercase()) {
        let mut hidden = compiler.hidden_hosts.iter();
        if hidden.any(|hidden| overlap(hidden, &host)) {
            return None;
        }
        let before = ports.len();
        let registry = &compiler.registry;
        let mut add = |service: &super::registry::Service| {
            ports.extend(service.ports.iter().map(|port| port.number));
        };
        match is_wildcard(&host) {
            false => registry.all(&host).for_each(&mut add),
            true => {
                let services = registry.services.iter();
                services
                    .filter(|service| overlap(&service.host, &host))
                    .for_each(&mut add);
                // It also takes hosts that no service has.
                ports.insert(80);
            }
        }
        if ports.len() == before && registry.all(&host).next().is_none() {
            return None;
        }
    }
    (!ports.is_empty()).then_some(ports)
}
