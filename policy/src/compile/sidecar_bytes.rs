//! Bytes that leave a sidecar: where services are reached, and the chains that lead to them.

use std::net::{IpAddr, Ipv4Addr};

use super::layer4::{Layer4Rule, Layer4Scope};
use super::names::{cluster_name, overlap, server_names};
use super::registry::{Port, Resolution, Service};
use super::sidecar_scope::{EgressScope, layer4_applies};
use crate::resource::Object;
use crate::resource::virtual_service::{Layer4Match, VirtualService};
use crate::snapshot::{ChainMatch, IpPrefix, TcpRoute};
use crate::source::{FieldPath, Origin};

const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A service's port and the address that stands for it.
pub struct Offer<'a> {
    pub service: &'a Service,
    /// As the listener has it.
    pub port: Port,
    pub number: u16,
    pub bind: IpAddr,
    pub prefixes: Vec<IpPrefix>,
    /// The prefixes are those of single endpoints, which need no name to be told apart.
    pub of_endpoints: bool,
}

/// Connections that go to a route as they are.
pub struct ByteChain {
    pub matches: ChainMatch,
    pub route: TcpRoute,
    pub origin: Option<Origin>,
}

/// Chains by the rules for the host of the service, else to the service itself.
pub fn chains_of_bytes(
    offer: &Offer<'_>,
    egress: &EgressScope<'_>,
    layer4: Layer4Scope<'_>,
) -> Vec<ByteChain> {
    if offer.port.protocol.is_tls() {
        tls_chains(offer, egress, layer4)
    } else {
        plain_chains(offer, egress, layer4)
    }
}

fn tls_chains(
    offer: &Offer<'_>,
    egress: &EgressScope<'_>,
    layer4: Layer4Scope<'_>,
) -> Vec<ByteChain> {
    let mut chains: Vec<ByteChain> = Vec::new();
    let mut handled: Vec<(&[String], &[String])> = Vec::new();
    let mut prefixes = offer.prefixes.clone();
    for object in rules_for(offer.service, egress) {
        for (index, rule) in object.spec.tls.iter().enumerate() {
            if rule.route.is_empty() {
                continue;
            }
            let place = FieldPath::root().field("spec").field("tls").index(index);
            for (at, condition) in rule.r#match.iter().enumerate() {
                let asked = (&condition.sni_hosts[..], &condition.destination_subnets[..]);
                if !applies(condition, &object.metadata.namespace, offer, layer4) {
                    continue;
                }
                if !condition.destination_subnets.is_empty() {
                    prefixes = subnets(&condition.destination_subnets);
                }
                if handled.contains(&asked) {
                    continue;
                }
                handled.push(asked);
                let layer4_rule = Layer4Rule {
                    metadata: &object.metadata,
                    place: place.clone(),
                    route: &rule.route,
                };
                let Some(route) = layer4.route(&layer4_rule) else {
                    continue;
                };
                chains.push(ByteChain {
                    matches: ChainMatch {
                        destination_prefixes: prefixes.clone(),
                        server_names: server_names(condition.sni_hosts.iter().map(String::as_str)),
                        ..ChainMatch::default()
                    },
                    route,
                    origin: Some(object.metadata.origin(place.field("match").index(at))),
                });
            }
        }
    }
    if !chains.is_empty() {
        return chains;
    }
    // Where the address does not tell the service, its name has to.
    let shares_address = !offer.prefixes.is_empty() || offer.bind == UNSPECIFIED;
    let names = if shares_address && !offer.of_endpoints {
        let hosts = std::iter::once(&offer.service.host).chain(&offer.service.aliases);
        server_names(hosts.map(String::as_str))
    } else {
        Vec::new()
    };
    vec![to_service(offer, layer4, prefixes, names)]
}

fn plain_chains(
    offer: &Offer<'_>,
    egress: &EgressScope<'_>,
    layer4: Layer4Scope<'_>,
) -> Vec<ByteChain> {
    let mut chains = Vec::new();
    for object in rules_for(offer.service, egress) {
        for (index, rule) in object.spec.tcp.iter().enumerate() {
            let place = FieldPath::root().field("spec").field("tcp").index(index);
            let mut matching = rule
                .r#match
                .iter()
                .filter(|one| applies(one, &object.metadata.namespace, offer, layer4));
            let matching: Vec<&Layer4Match> = matching.by_ref().collect();
            if rule.route.is_empty() || (!rule.r#match.is_empty() && matching.is_empty()) {
                continue;
            }
            let layer4_rule = Layer4Rule {
                metadata: &object.metadata,
                place: place.clone(),
                route: &rule.route,
            };
            let Some(route) = layer4.route(&layer4_rule) else {
                continue;
            };
            // One without subnets is for all, and nothing comes after it.
            let is_last = matching
                .iter()
                .any(|one| one.destination_subnets.is_empty())
                || rule.r#match.is_empty();
            let mut prefixes = offer.prefixes.clone();
            if !is_last {
                let all = matching.iter().flat_map(|one| &one.destination_subnets);
                prefixes = subnets(&all.cloned().collect::<Vec<_>>());
            }
            let covers_service = prefixes == offer.prefixes;
            chains.push(ByteChain {
                matches: ChainMatch {
                    destination_prefixes: prefixes,
                    ..ChainMatch::default()
                },
                route,
                origin: Some(object.metadata.origin(place)),
            });
            if is_last || covers_service {
                return chains;
            }
        }
    }
    chains.push(to_service(
        offer,
        layer4,
        offer.prefixes.clone(),
        Vec::new(),
    ));
    chains
}

fn applies(
    condition: &Layer4Match,
    namespace: &str,
    offer: &Offer<'_>,
    layer4: Layer4Scope<'_>,
) -> bool {
    layer4_applies(condition, namespace, offer.port.number, layer4.settings)
}

fn to_service(
    offer: &Offer<'_>,
    layer4: Layer4Scope<'_>,
    destination_prefixes: Vec<IpPrefix>,
    server_names: Vec<String>,
) -> ByteChain {
    let Offer { service, port, .. } = offer;
    // A listener with a port of its own leads to the only port of a service.
    let number = match service.ports.as_slice() {
        [only] => only.number,
        _ => port.number,
    };
    let cluster = cluster_name(number, "", &service.host);
    let route = layer4.route_to(cluster, Some(service));
    ByteChain {
        matches: ChainMatch {
            destination_prefixes,
            server_names,
            ..ChainMatch::default()
        },
        route,
        origin: Some(service.origin.clone()),
    }
}

/// VirtualServices that have a host of the service.
fn rules_for<'e, 'r>(
    service: &'e Service,
    egress: &'e EgressScope<'r>,
) -> impl Iterator<Item = &'r Object<VirtualService>> + 'e {
    let rules = egress.rules.iter();
    rules
        .filter(|rule| rule.hosts.iter().any(|host| overlap(host, &service.host)))
        .map(|rule| rule.object)
}

fn subnets(written: &[String]) -> Vec<IpPrefix> {
    let mut prefixes: Vec<IpPrefix> = written
        .iter()
        .filter_map(|text| IpPrefix::parse(text))
        .collect();
    prefixes.sort_by_key(ToString::to_string);
    prefixes.dedup();
    prefixes
}

/// The addresses at which a port of a service is reached.
pub fn offers<'a>(
    service: &'a Service,
    port: &Port,
    number: u16,
    bind: Option<IpAddr>,
    own: &[IpAddr],
) -> Vec<Offer<'a>> {
    let offer = |bind: IpAddr, prefixes: Vec<IpPrefix>, of_endpoints: bool| Offer {
        service,
        port: port.clone(),
        number,
        bind,
        prefixes,
        of_endpoints,
    };
    if let Some(bind) = bind {
        return vec![offer(bind, Vec::new(), false)];
    }
    if port.protocol.is_http() {
        return vec![offer(UNSPECIFIED, Vec::new(), false)];
    }
    let mut addresses: Vec<(IpAddr, Vec<IpPrefix>)> = Vec::new();
    for written in &service.addresses {
        let Some(prefix) = IpPrefix::parse(written) else {
            continue;
        };
        match prefix.single() {
            Some(address) => addresses.push((address, Vec::new())),
            None => addresses.push((UNSPECIFIED, vec![prefix])),
        }
    }
    if !addresses.is_empty() {
        return addresses
            .into_iter()
            .map(|(bind, prefixes)| offer(bind, prefixes, false))
            .collect();
    }
    if service.resolution != Resolution::Passthrough {
        return vec![offer(UNSPECIFIED, Vec::new(), false)];
    }
    // Without an address of its own a service is reached by those of its endpoints.
    let endpoints = service.endpoints(port, &Default::default()).fixed;
    let mut addresses: Vec<IpAddr> = endpoints
        .iter()
        .filter_map(|one| one.address.ip())
        .collect();
    if addresses.is_empty() && !service.chooses_endpoints() {
        return vec![offer(UNSPECIFIED, Vec::new(), false)];
    }
    addresses.retain(|address| !own.contains(address));
    let each = addresses.into_iter().map(|address| {
        let prefix = IpPrefix::parse(&address.to_string());
        if port.protocol.is_tcp() {
            offer(UNSPECIFIED, prefix.into_iter().collect(), true)
        } else {
            offer(address, Vec::new(), false)
        }
    });
    each.collect()
}
