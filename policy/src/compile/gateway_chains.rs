//! Filter chains of a gateway's servers: requests, terminated TLS, TLS passed through, bytes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Compiler;
use super::gateway_tables::{build_table, hosts_for, resolved_hosts, services_of_gateway};
use super::gateways::{BoundServer, MergedServers};
use super::layer4::Layer4Rule;
use super::names::{is_subset, overlap, resolve_gateway, server_names};
use super::registry::Service;
use super::server_tls::{ISTIO_ALPN, downstream_tls};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::protocol::Protocol;
use crate::resource::virtual_service::{Layer4Match, VirtualService};
use crate::snapshot::{ChainHandler, ChainMatch, FilterChain, TcpRoute};
use crate::source::{FieldPath, Origin};

/// The chains of servers that share a port. `names` are the server names that earlier ones ask
/// for, each with its bind address.
pub fn build_chains<'r>(
    group: &MergedServers<'r>,
    names: &mut HashMap<String, &'r str>,
    compiler: &mut Compiler<'r>,
) -> Vec<FilterChain> {
    let Some(first) = group.servers.first() else {
        return Vec::new();
    };
    if first.protocol.is_http() {
        let table = build_table(first.table.clone(), &group.servers, compiler);
        return vec![FilterChain {
            name: first.table.clone(),
            matches: ChainMatch::default(),
            tls: None,
            handler: ChainHandler::Http(Arc::new(table)),
            origin: Some(first.origin.clone()),
        }];
    }
    let mut chains = Vec::new();
    for bound in &group.servers {
        let tls = bound.server.tls.as_ref();
        if bound.terminates_https() {
            let one = std::slice::from_ref(bound);
            let table = build_table(bound.table.clone(), one, compiler);
            chains.push(terminating(bound, ChainHandler::Http(Arc::new(table))));
        } else if tls.is_some_and(|tls| tls.mode.as_deref() == Some("AUTO_PASSTHROUGH")) {
            chains.extend(auto_passthrough(bound, compiler));
        } else if tls.is_some_and(|tls| tls.passes_through()) {
            chains.extend(passthrough(bound, names, compiler));
        } else if let Some(route) = route_of_bytes(bound, compiler) {
            chains.push(terminating(bound, ChainHandler::Tcp(Arc::new(route))));
        }
    }
    chains
}

/// A chain that ends TLS where the server says so.
fn terminating(bound: &BoundServer<'_>, handler: ChainHandler) -> FilterChain {
    let place = Origin {
        document: bound.origin.document,
        field: bound.origin.field.field("tls"),
    };
    let tls = bound.server.tls.as_ref();
    let is_https = bound.protocol == Protocol::Https;
    FilterChain {
        name: match &handler {
            ChainHandler::Http(table) => table.name.clone(),
            ChainHandler::Tcp(route) => route.name.clone(),
        },
        matches: ChainMatch {
            server_names: match tls {
                Some(_) => server_names(bound.server.hosts.iter().map(String::as_str)),
                None => Vec::new(),
            },
            ..ChainMatch::default()
        },
        tls: tls.map(|tls| Arc::new(downstream_tls(tls, is_https, place))),
        handler,
        origin: Some(bound.origin.clone()),
    }
}

/// The VirtualServices of a server, as far as some host of theirs is the server's.
fn services_of_server<'r>(
    bound: &BoundServer<'_>,
    compiler: &Compiler<'r>,
) -> Vec<&'r Object<VirtualService>> {
    let of_gateway = services_of_gateway(compiler, &bound.gateway).into_iter();
    let shares_a_host = |object: &&'r Object<VirtualService>| {
        let own = hosts_for(bound, &object.metadata.namespace);
        let hosts = resolved_hosts(object, compiler.settings);
        own.iter()
            .any(|own| hosts.iter().any(|host| overlap(own, host)))
    };
    let objects = of_gateway.map(|(_, object)| object);
    objects.filter(shares_a_host).collect()
}

/// Whether a match may hold at this server. Of all its conditions a gateway asks only these.
fn applies(
    condition: &Layer4Match,
    bound: &BoundServer<'_>,
    object: &Object<VirtualService>,
) -> bool {
    let namespace = &object.metadata.namespace;
    let mut gateways = condition.gateways.iter();
    (condition.port == 0 || condition.port == bound.server.port.number)
        && (condition.gateways.is_empty()
            || gateways.any(|name| resolve_gateway(name, namespace) == bound.gateway))
}

/// Where the bytes of a server go: by the first `tcp` rule that applies.
fn route_of_bytes(bound: &BoundServer<'_>, compiler: &mut Compiler<'_>) -> Option<TcpRoute> {
    let mut applying = Vec::new();
    let mut route = None;
    for object in services_of_server(bound, compiler) {
        for (index, rule) in object.spec.tcp.iter().enumerate() {
            let mut matches = rule.r#match.iter();
            let holds = rule.r#match.is_empty()
                || matches.any(|condition| applies(condition, bound, object));
            if rule.route.is_empty() || !holds {
                continue;
            }
            let place = FieldPath::root().field("spec").field("tcp").index(index);
            applying.push(object.metadata.origin(place.clone()));
            if applying.len() > 1 {
                continue;
            }
            let rule = Layer4Rule {
                metadata: &object.metadata,
                place,
                route: &rule.route,
            };
            route = compiler.layer4(bound.server.port.number).route(&rule);
        }
    }
    compiler.byte_rules.note(&applying);
    route
}

/// A chain for each match of a `tls` rule that applies to a server which passes TLS through.
fn passthrough<'r>(
    bound: &BoundServer<'r>,
    names: &mut HashMap<String, &'r str>,
    compiler: &mut Compiler<'r>,
) -> Vec<FilterChain> {
    let bind = bound.server.bind.as_str();
    let mut chains = Vec::new();
    for object in services_of_server(bound, compiler) {
        for (index, rule) in object.spec.tls.iter().enumerate() {
            if rule.route.is_empty() {
                continue;
            }
            let place = FieldPath::root().field("spec").field("tls").index(index);
            for (at, condition) in rule.r#match.iter().enumerate() {
                if !applies(condition, bound, object) {
                    continue;
                }
                let origin = object.metadata.origin(place.field("match").index(at));
                let asked = &condition.sni_hosts;
                if let Some(name) = asked.iter().find(|name| names.get(*name) == Some(&bind)) {
                    let message = format!(
                        "the server name `{name}` is taken by an older match of this port: this one is left out"
                    );
                    let warning =
                        Diagnostic::warning("duplicate-sni-host", Place::Field(origin), message);
                    let help = "name each server name in one match only";
                    compiler.findings.add(warning.with_help(help));
                    continue;
                }
                names.extend(asked.iter().map(|name| (name.clone(), bind)));
                let layer4 = Layer4Rule {
                    metadata: &object.metadata,
                    place: place.clone(),
                    route: &rule.route,
                };
                let scope = compiler.layer4(bound.server.port.number);
                let Some(route) = scope.route(&layer4) else {
                    continue;
                };
                chains.push(FilterChain {
                    name: route.name.clone(),
                    matches: ChainMatch {
                        server_names: server_names(asked.iter().map(String::as_str)),
                        ..ChainMatch::default()
                    },
                    tls: None,
                    handler: ChainHandler::Tcp(Arc::new(route)),
                    origin: Some(origin),
                });
            }
        }
    }
    chains
}

/// A chain for each cluster of the mesh that a client may name by SNI. Its TLS is from workload to
/// workload, so nothing is added to it.
fn auto_passthrough(bound: &BoundServer<'_>, compiler: &mut Compiler<'_>) -> Vec<FilterChain> {
    let hosts = server_names(bound.server.hosts.iter().map(String::as_str));
    let is_served = |service: &&Service| {
        let mut hosts_of_it = hosts.iter();
        !service.is_external
            && service.alias_of.is_none()
            && (hosts.is_empty() || hosts_of_it.any(|host| is_subset(&service.host, host)))
    };
    let services = compiler.registry.services.iter().filter(is_served);
    let served: HashSet<&str> = services.map(|service| service.host.as_str()).collect();
    let twins = compiler.clusters.add_sni_twins(&served);
    let scope = compiler.layer4(bound.server.port.number);
    twins
        .into_iter()
        .map(|name| FilterChain {
            name: name.clone(),
            matches: ChainMatch {
                server_names: vec![name.clone()],
                application_protocols: ISTIO_ALPN.iter().map(ToString::to_string).collect(),
                ..ChainMatch::default()
            },
            tls: None,
            handler: ChainHandler::Tcp(Arc::new(scope.route_to(name, None))),
            origin: Some(bound.origin.clone()),
        })
        .collect()
}
