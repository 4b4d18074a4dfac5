//! Connections to a sidecar's own workload: a chain for each port and way of coming, by what
//! services and the Sidecar say of the port and PeerAuthentication of its clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Compiler;
use super::clusters::{
    INBOUND_PASSTHROUGH, apply_pool, inbound_name, protocol_of, retry_budget_of,
};
use super::destination_rules::Sourced;
use super::peer_authentication::MtlsMode;
use super::registry::Registry;
use super::route_policies::inbound_retry;
use super::routes::default_route;
use super::server_tls::{ISTIO_ALPN, downstream_tls, mesh_tls};
use super::sidecar_outbound::HTTP_PROTOCOLS;
use crate::resource::Object;
use crate::resource::destination_rule::{ConnectionPool, RetryBudget};
use crate::resource::gateway::ServerTls;
use crate::resource::protocol::Protocol;
use crate::resource::sidecar::{Ingress, Sidecar};
use crate::settings::{InterceptionMode, ProxySettings};
use crate::snapshot::{
    BLACK_HOLE, ChainHandler, ChainMatch, Cluster, Direction, Discovery, DownstreamTls, Endpoint,
    EndpointAddress, FilterChain, FilterChains, Inspection, Listener, ListenerKind, RouteTable,
    ServiceLabels, TransportProtocol,
};
use crate::source::{FieldPath, Origin};

/// A port of the workload.
#[derive(Clone)]
pub struct InboundPort<'r> {
    /// Of the workload.
    number: u16,
    /// Of the service, where it is one's.
    service_port: u16,
    protocol: Protocol,
    service: ServiceLabels,
    origin: Origin,
    /// What a Sidecar says of it.
    ingress: Option<&'r Ingress>,
}

/// The ports that services have at the workload. Of two services for a port the first counts.
pub fn ports_of_services<'r>(
    registry: &Registry,
    settings: &ProxySettings,
) -> BTreeMap<u16, InboundPort<'r>> {
    let mut ports = BTreeMap::new();
    for service in &registry.services {
        for port in &service.ports {
            let Some(number) = service.target_at(port, &settings.workload) else {
                continue;
            };
            if port.protocol == Protocol::Udp {
                continue;
            }
            ports.entry(number).or_insert_with(|| InboundPort {
                number,
                service_port: u16::try_from(port.number).unwrap_or(number),
                protocol: port.protocol,
                service: service.labels_for_metrics(),
                origin: service.origin.clone(),
                ingress: None,
            });
        }
    }
    ports
}

/// The ports of a Sidecar's `ingress`, which take the place of those of services.
fn ports_of_ingress<'r>(
    object: &'r Object<Sidecar>,
    settings: &ProxySettings,
) -> BTreeMap<u16, InboundPort<'r>> {
    let mut ports = BTreeMap::new();
    for (index, ingress) in object.spec.ingress.iter().enumerate() {
        let Ok(number) = u16::try_from(ingress.port.number) else {
            continue;
        };
        let place = FieldPath::root()
            .field("spec")
            .field("ingress")
            .index(index);
        let name = &object.metadata.name;
        ports.entry(number).or_insert_with(|| InboundPort {
            number,
            service_port: number,
            protocol: Protocol::parse(&ingress.port.protocol),
            service: ServiceLabels {
                host: format!("{name}.{}", settings.namespace),
                name: name.clone(),
                namespace: settings.namespace.clone(),
            },
            origin: object.metadata.origin(place),
            ingress: Some(ingress),
        });
    }
    ports
}

/// The listener that inbound connections are redirected to, and those that a Sidecar has bound.
pub fn listeners<'r>(
    sidecar: Option<&'r Object<Sidecar>>,
    services: BTreeMap<u16, InboundPort<'r>>,
    compiler: &mut Compiler<'r>,
) -> (Arc<Listener>, Vec<Arc<Listener>>) {
    let settings = compiler.settings;
    let with_ingress = sidecar.filter(|object| !object.spec.ingress.is_empty());
    let ports = match with_ingress {
        Some(object) => ports_of_ingress(object, settings),
        None => services.clone(),
    };
    let mut redirected = Vec::new();
    let mut bound = Vec::new();
    for port in ports.values() {
        let limits = limits_of(sidecar, port, services.get(&port.number), compiler);
        add_cluster(port, limits, compiler);
        let chains = chains_of_port(port, compiler);
        let is_bound = port.ingress.is_some_and(|ingress| binds(ingress, settings));
        if is_bound {
            bound.extend(
                port.ingress
                    .map(|ingress| custom_listener(ingress, port, chains)),
            );
        } else {
            redirected.extend(chains);
        }
    }
    let mut chains = vec![black_hole(compiler)];
    chains.extend(passthrough_chains(&ports, compiler));
    chains.extend(redirected);
    let door = Arc::new(Listener {
        name: "virtualInbound".to_string(),
        address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.interception.inbound_port)),
        direction: Direction::Inbound,
        kind: ListenerKind::Chains(Arc::new(inspected(chains))),
        gateways: Vec::new(),
        origin: None,
    });
    (door, bound)
}

/// Whether a socket listens for it, rather than the port of redirected connections.
fn binds(ingress: &Ingress, settings: &ProxySettings) -> bool {
    match ingress.capture_mode.as_deref() {
        None | Some("DEFAULT") => settings.interception.mode == InterceptionMode::None,
        Some(mode) => mode == "NONE",
    }
}

fn custom_listener(
    ingress: &Ingress,
    port: &InboundPort<'_>,
    chains: Vec<FilterChain>,
) -> Arc<Listener> {
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ip = ingress.bind.parse().unwrap_or(unspecified);
    Arc::new(Listener {
        name: format!("{ip}_{}", port.number),
        address: SocketAddr::new(ip, port.number),
        direction: Direction::Inbound,
        kind: ListenerKind::Chains(Arc::new(inspected(chains))),
        gateways: Vec::new(),
        origin: Some(port.origin.clone()),
    })
}

/// What limits the requests to the workload.
#[derive(Default)]
struct Limits<'r> {
    pool: Option<Sourced<'r, ConnectionPool>>,
    retry_budget: Option<Sourced<'r, RetryBudget>>,
}

/// The limits of the DestinationRule for the service of a port, which hold on both sides of a
/// connection; a pool that a Sidecar writes comes before its. Rules with a selector are for requests
/// that leave.
fn limits_of<'r>(
    sidecar: Option<&'r Object<Sidecar>>,
    port: &InboundPort<'r>,
    service: Option<&InboundPort<'_>>,
    compiler: &Compiler<'r>,
) -> Limits<'r> {
    let policy = service.and_then(|port| {
        let ServiceLabels {
            host, namespace, ..
        } = &port.service;
        let service = compiler.registry.find(host, namespace)?;
        let rule = compiler.policies.find(service)?;
        let policy = rule.policy(u32::from(port.service_port), None);
        (!rule.selects).then_some(policy)
    });
    let policy = policy.unwrap_or_default();
    let own = port.ingress.and_then(|ingress| {
        let origin = &port.origin;
        Some(Sourced {
            value: ingress.connection_pool.as_ref()?,
            origin: Origin {
                document: origin.document,
                field: origin.field.field("connectionPool"),
            },
        })
    });
    let general = sidecar.and_then(|object| {
        let place = FieldPath::root()
            .field("spec")
            .field("inboundConnectionPool");
        Some(Sourced {
            value: object.spec.inbound_connection_pool.as_ref()?,
            origin: object.metadata.origin(place),
        })
    });
    Limits {
        pool: own.or(general).or(policy.connection_pool),
        retry_budget: policy.retry_budget,
    }
}

/// The workload behind a port: where it was addressed, or where a Sidecar says.
fn add_cluster(port: &InboundPort<'_>, limits: Limits<'_>, compiler: &mut Compiler<'_>) {
    let mut cluster = Cluster {
        service: port.service.clone(),
        port: port.service_port,
        origin: Some(port.origin.clone()),
        discovery: Discovery::OriginalDestination,
        follows_destination: true,
        is_workload: true,
        connect_timeout_ms: compiler.settings.connect_timeout_ms,
        upstream_protocol: protocol_of(port.protocol, compiler.settings),
        ..Cluster::new(inbound_name(port.number))
    };
    let written = port.ingress.map_or("", |ingress| &ingress.default_endpoint);
    let address = match written.strip_prefix("unix://") {
        Some(path) => Some(EndpointAddress::Unix(path.to_string())),
        None => written.parse().ok().map(EndpointAddress::Socket),
    };
    // The unspecified address stands for that of the workload.
    if let Some(address) = address.filter(|one| one.ip().is_none_or(|ip| !ip.is_unspecified())) {
        cluster.discovery = Discovery::Static;
        cluster.follows_destination = false;
        cluster.is_workload = false;
        cluster.set_endpoints(vec![Endpoint::at(address)]);
    }
    if let Some(pool) = limits.pool {
        apply_pool(pool.value, &mut cluster);
        cluster.policy_origins.connection_pool = Some(pool.origin);
    }
    if let Some(budget) = limits.retry_budget {
        cluster.retry_budget = Some(retry_budget_of(budget.value));
        cluster.policy_origins.retry_budget = Some(budget.origin);
    }
    compiler.clusters.add(cluster);
}

/// What a connection may come as.
struct Way {
    transport: TransportProtocol,
    protocols: &'static [&'static str],
    is_http: bool,
    /// Whether TLS of the mesh ends here.
    is_mesh: bool,
}

const MESH_HTTP: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MESH_TCP: [&str; 2] = ["istio-peer-exchange", "istio"];

/// The ways that a port takes, by its mode and by whether it carries requests, bytes, or either.
fn ways(mode: MtlsMode, protocol: Protocol) -> Vec<Way> {
    let way = |transport, protocols, is_http, is_mesh| Way {
        transport,
        protocols,
        is_http,
        is_mesh,
    };
    let (raw, tls) = (TransportProtocol::Raw, TransportProtocol::Tls);
    let any: &[&str] = &[];
    let (http, tcp) = (protocol.is_http(), protocol.is_tcp());
    match mode {
        MtlsMode::Strict if http => vec![way(tls, any, true, true)],
        MtlsMode::Strict if tcp => vec![way(tls, any, false, true)],
        MtlsMode::Strict => vec![way(tls, &MESH_HTTP, true, true), way(tls, any, false, true)],
        MtlsMode::Permissive if http => {
            vec![
                way(tls, &ISTIO_ALPN, true, true),
                way(raw, any, true, false),
            ]
        }
        MtlsMode::Permissive if tcp => vec![
            way(tls, &ISTIO_ALPN, false, true),
            way(tls, any, false, false),
            way(raw, any, false, false),
        ],
        MtlsMode::Permissive => vec![
            way(tls, &MESH_HTTP, true, true),
            way(raw, &HTTP_PROTOCOLS, true, false),
            way(tls, &MESH_TCP, false, true),
            way(raw, any, false, false),
            way(tls, any, false, false),
        ],
        MtlsMode::Disable if http => vec![way(raw, any, true, false)],
        MtlsMode::Disable if tcp => vec![way(raw, any, false, false)],
        MtlsMode::Disable => vec![
            way(raw, &HTTP_PROTOCOLS, true, false),
            way(raw, any, false, false),
        ],
    }
}

/// What the chains of one port, or of all others, have in common.
struct Target<'a> {
    /// `None` is any port.
    port: Option<u16>,
    service_port: u16,
    protocol: Protocol,
    cluster: String,
    operation: String,
    /// Names of the chains for requests and for bytes.
    names: [String; 2],
    origin: Option<&'a Origin>,
}

fn chains_of_port(port: &InboundPort<'_>, compiler: &mut Compiler<'_>) -> Vec<FilterChain> {
    let bind = port.ingress.map_or("", |ingress| &ingress.bind);
    let bind = if bind.is_empty() { "0.0.0.0" } else { bind };
    let name = format!("{bind}_{}", port.number);
    let target = Target {
        port: Some(port.number),
        service_port: port.service_port,
        protocol: port.protocol,
        cluster: inbound_name(port.number),
        operation: format!("{}:{}/*", port.service.host, port.service_port),
        names: [name.clone(), name],
        origin: Some(&port.origin),
    };
    let (mode, origin) = compiler.peers.of_port(port.number);
    let own_tls = port.ingress.and_then(|ingress| ingress.tls.as_ref());
    match own_tls {
        // TLS of its own is only where none of the mesh is asked for.
        Some(tls) if mode == MtlsMode::Disable => vec![own_tls_chain(&target, tls, compiler)],
        _ => mesh_chains(&target, mode, origin, compiler),
    }
}

/// Requests or bytes out of TLS that a Sidecar describes.
fn own_tls_chain(target: &Target<'_>, tls: &ServerTls, compiler: &mut Compiler<'_>) -> FilterChain {
    let is_http = target.protocol.is_http() || target.protocol == Protocol::Https;
    let place = target.origin.map(|origin| Origin {
        document: origin.document,
        field: origin.field.field("tls"),
    });
    let described = place.map(|place| downstream_tls(tls, is_http, place));
    let way = Way {
        transport: TransportProtocol::Tls,
        protocols: &[],
        is_http,
        is_mesh: false,
    };
    chain(target, &way, described, compiler)
}

fn mesh_chains(
    target: &Target<'_>,
    mode: MtlsMode,
    origin: Option<Origin>,
    compiler: &mut Compiler<'_>,
) -> Vec<FilterChain> {
    let ways = ways(mode, target.protocol);
    let each = ways.iter().map(|way| {
        let tls = way.is_mesh.then(|| mesh_tls(way.is_http, origin.clone()));
        chain(target, way, tls, compiler)
    });
    each.collect()
}

fn chain(
    target: &Target<'_>,
    way: &Way,
    tls: Option<DownstreamTls>,
    compiler: &mut Compiler<'_>,
) -> FilterChain {
    let [http_name, tcp_name] = &target.names;
    let (name, handler) = if way.is_http {
        let table = table(target, compiler);
        (http_name, ChainHandler::Http(Arc::new(table)))
    } else {
        let layer4 = compiler.layer4(u32::from(target.service_port));
        let route = layer4.route_to(target.cluster.clone(), None);
        (tcp_name, ChainHandler::Tcp(Arc::new(route)))
    };
    FilterChain {
        name: name.clone(),
        matches: ChainMatch {
            destination_port: target.port,
            transport: Some(way.transport),
            application_protocols: way.protocols.iter().map(ToString::to_string).collect(),
            ..ChainMatch::default()
        },
        tls: tls.map(Arc::new),
        handler,
        origin: target.origin.cloned(),
    }
}

/// Requests to the workload, whatever their Host. Istio limits them by no time of its own, and
/// sends those again that the workload's side broke off before it saw them.
fn table(target: &Target<'_>, compiler: &mut Compiler<'_>) -> RouteTable {
    let mut route = default_route(
        &target.cluster,
        &compiler.clusters,
        target.operation.clone(),
    );
    let is_grpc = matches!(target.protocol, Protocol::Grpc | Protocol::GrpcWeb);
    route.retry = (!is_grpc).then(inbound_retry);
    let host = format!("inbound|http|{}", target.service_port);
    let any = vec!["*".to_string()];
    let Compiler {
        splits, findings, ..
    } = compiler;
    let host = splits.finish(&target.cluster, host, any, route.into(), findings);
    RouteTable::new(target.cluster.clone(), vec![host])
}

/// Ports that nobody speaks of, and those that only PeerAuthentication does.
fn passthrough_chains(
    ports: &BTreeMap<u16, InboundPort<'_>>,
    compiler: &mut Compiler<'_>,
) -> Vec<FilterChain> {
    let others: Vec<u16> = compiler.peers.ports().collect();
    let others = others.into_iter().filter(|port| !ports.contains_key(port));
    let mut chains = Vec::new();
    for port in std::iter::once(None).chain(others.map(Some)) {
        let target = Target {
            port,
            service_port: 0,
            protocol: Protocol::Sniffed,
            cluster: INBOUND_PASSTHROUGH.to_string(),
            operation: ":0/*".to_string(),
            names: [
                "virtualInbound-catchall-http".to_string(),
                "virtualInbound".to_string(),
            ],
            origin: None,
        };
        let (mode, origin) = compiler.peers.of_port(port.unwrap_or(0));
        chains.extend(mesh_chains(&target, mode, origin, compiler));
    }
    chains
}

/// What was addressed to the listener itself goes nowhere, so that none goes in a circle.
fn black_hole(compiler: &Compiler<'_>) -> FilterChain {
    let route = compiler.layer4(0).route_to(BLACK_HOLE.to_string(), None);
    FilterChain {
        name: "virtualInbound-blackhole".to_string(),
        matches: ChainMatch {
            destination_port: Some(compiler.settings.interception.inbound_port),
            ..ChainMatch::default()
        },
        tls: None,
        handler: ChainHandler::Tcp(Arc::new(route)),
        origin: None,
    }
}

/// Looks only where some chain asks: a port whose client may wait for the server to speak first
/// is not read from before it does.
fn inspected(chains: Vec<FilterChain>) -> FilterChains {
    let asks_tls = |chain: &FilterChain| chain.matches.transport == Some(TransportProtocol::Tls);
    let asks_http = |chain: &FilterChain| {
        let mut protocols = chain.matches.application_protocols.iter();
        protocols.any(|name| HTTP_PROTOCOLS.contains(&name.as_str()))
    };
    FilterChains {
        tls_inspection: inspection(&chains, asks_tls),
        http_inspection: inspection(&chains, asks_http),
        chains,
        default: None,
    }
}

fn inspection(chains: &[FilterChain], asks: impl Fn(&FilterChain) -> bool) -> Inspection {
    let mut by_port: BTreeMap<u16, bool> = BTreeMap::new();
    let mut elsewhere = false;
    for chain in chains {
        match chain.matches.destination_port {
            Some(port) => *by_port.entry(port).or_default() |= asks(chain),
            None => elsewhere |= asks(chain),
        }
    }
    let ports = |wanted: bool| {
        let ports = by_port.iter().filter(|(_, asked)| **asked == wanted);
        ports.map(|(port, _)| *port).collect::<Vec<u16>>()
    };
    match elsewhere {
        true => Inspection::AllBut(ports(false)),
        false => Inspection::Only(ports(true)),
    }
}
