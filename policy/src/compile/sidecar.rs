//! Listeners of a sidecar: on loopback where nothing is redirected, those that a Sidecar has
//! bound, and the two doors of redirected connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Compiler;
use super::sidecar_inbound::{self, InboundPort};
use super::sidecar_outbound::{self, Tables};
use super::sidecar_scope::{EgressScope, Scope};
use crate::diagnostic::{Diagnostic, Place};
use crate::settings::InterceptionMode;
use crate::snapshot::{Direction, Doors, EndpointAddress, Listener, ListenerKind};
use crate::source::Origin;

/// What is bound, and the doors, which are bound too where connections are redirected.
pub fn build_listeners<'r>(
    scope: &Scope<'r>,
    own_ports: BTreeMap<u16, InboundPort<'r>>,
    compiler: &mut Compiler<'r>,
) -> (Vec<Arc<Listener>>, Doors) {
    let mut tables = Tables::default();
    let mut listeners = Vec::new();
    for port in bound_ports(scope, compiler) {
        let Some(table) = tables.of_port(port.number, scope, compiler) else {
            continue;
        };
        listeners.push(Arc::new(Listener {
            name: port.name,
            address: SocketAddr::new(port.address, port.number),
            direction: Direction::Outbound,
            kind: ListenerKind::Http(table),
            gateways: Vec::new(),
            origin: Some(port.origin),
        }));
    }
    let virtual_listeners = sidecar_outbound::listeners(scope, &mut tables, compiler);
    let outbound = sidecar_outbound::door(virtual_listeners, scope, compiler);
    let (inbound, bound) = sidecar_inbound::listeners(scope.sidecar, own_ports, compiler);
    leave_to_ingress(&mut listeners, &bound, compiler);
    listeners.extend(bound);
    if compiler.settings.interception.mode == InterceptionMode::Redirect {
        listeners.push(Arc::clone(&outbound));
        listeners.push(Arc::clone(&inbound));
    }
    listeners.sort_by_key(|listener| (listener.address.port(), listener.address.ip()));
    (listeners, Doors { outbound, inbound })
}

/// Takes away the ways out that would share an address with a way in: the kernel would deal the
/// connections out among both.
fn leave_to_ingress(
    outbound: &mut Vec<Arc<Listener>>,
    ingress: &[Arc<Listener>],
    compiler: &mut Compiler<'_>,
) {
    outbound.retain(|listener| {
        let there = |other: &&Arc<Listener>| other.address == listener.address;
        let Some(taken_by) = ingress.iter().find(there) else {
            return true;
        };
        let message = format!(
            "nothing listens at {} for the services of this port: `ingress` of a Sidecar is there",
            listener.address
        );
        let help = "give the `ingress` another `port.number` or `bind`, or let connections be \
                    redirected: `interception: {mode: REDIRECT}`";
        let place = |origin: &Option<Origin>| origin.clone().map_or(Place::Nowhere, Place::Field);
        let found = Diagnostic::warning("ingress-at-listener", place(&listener.origin), message);
        let found = found.with_help(help);
        compiler.findings.add(match &taken_by.origin {
            Some(origin) => found.with_related(origin.clone(), "the ingress"),
            None => found,
        });
        false
    });
}

/// Whether connections come to a way out by redirection, if they do at all.
pub fn is_redirected(egress: &EgressScope<'_>) -> bool {
    let Some(listener) = egress.listener else {
        return true;
    };
    listener.capture_mode.as_deref() != Some("NONE") && !listener.bind.starts_with("unix://")
}

/// A port at which requests are taken.
struct BoundPort {
    number: u16,
    address: IpAddr,
    /// Istio's name, which does not say that it is on loopback.
    name: String,
    origin: Origin,
}

/// Ports with a socket of their own. Where nothing is redirected that is each HTTP port that some
/// service has, on loopback; else those that a Sidecar wants so.
fn bound_ports(scope: &Scope<'_>, compiler: &mut Compiler<'_>) -> Vec<BoundPort> {
    let occupied = endpoints_on_this_machine(compiler);
    let redirects = compiler.settings.interception.mode == InterceptionMode::Redirect;
    let mut ports = Vec::new();
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    for egress in &scope.egress {
        let mut offered: BTreeMap<u16, Origin> = BTreeMap::new();
        for at in &egress.services {
            let service = &compiler.registry.services[*at];
            for port in &service.ports {
                let number = egress.port().unwrap_or(port.number);
                let protocol = egress.protocol().unwrap_or(port.protocol);
                if let (Ok(number), true) = (u16::try_from(number), protocol.is_http_or_sniffed()) {
                    let origin = || service.origin.clone();
                    offered.entry(number).or_insert_with(origin);
                }
            }
        }
        let bind = egress
            .listener
            .map_or("", |listener| listener.bind.as_str());
        if (redirects && is_redirected(egress)) || bind.starts_with("unix://") {
            taken.extend(offered.keys());
            continue;
        }
        let written: Option<IpAddr> = bind.parse().ok();
        let address = written.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        for (number, origin) in offered {
            let listener = SocketAddr::new(address, number);
            if let Some(service) = occupied.get(&listener) {
                compiler.findings.add(occupied_address(listener, service));
                continue;
            }
            if taken.insert(number) {
                ports.push(BoundPort {
                    number,
                    address,
                    name: match written {
                        Some(address) => format!("{address}_{number}"),
                        None => format!("0.0.0.0_{number}"),
                    },
                    origin,
                });
            }
        }
    }
    ports
}

/// Endpoints on loopback: whoever serves there has the address already.
fn endpoints_on_this_machine(compiler: &Compiler<'_>) -> BTreeMap<SocketAddr, (String, Origin)> {
    let mut occupied = BTreeMap::new();
    for cluster in &compiler.clusters.list {
        let Some(origin) = &cluster.origin else {
            continue;
        };
        let addresses = cluster
            .endpoints
            .iter()
            .filter_map(|one| match one.address {
                EndpointAddress::Socket(address) if address.ip().is_loopback() => Some(address),
                _ => None,
            });
        for address in addresses {
            let service = || (cluster.service.host.clone(), origin.clone());
            occupied.entry(address).or_insert_with(service);
        }
    }
    occupied
}

fn occupied_address(listener: SocketAddr, service: &(String, Origin)) -> Diagnostic {
    let (host, origin) = service;
    let message = format!(
        "nothing listens at {listener} for its port: an endpoint of `{host}` is there, and requests \
         would go in circles"
    );
    let help = "give the service another `ports[].number` and keep the endpoint's port by \
                `targetPort`, or let connections be redirected: `interception: {mode: REDIRECT}`";
    let place = Place::Field(origin.clone());
    Diagnostic::warning("endpoint-at-listener", place, message).with_help(help)
}
