//! Listeners of a gateway: servers merged by address and port.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Compiler;
use super::gateway_chains::build_chains;
use super::registry::Registry;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::gateway::Server;
use crate::resource::protocol::Protocol;
use crate::resource::{Metadata, Object};
use crate::settings::ProxySettings;
use crate::snapshot::{
    ChainHandler, ChainMatch, Direction, FilterChain, FilterChains, Inspection, Listener,
    ListenerKind,
};
use crate::source::{FieldPath, Origin};

/// A server, and how its gateway is called.
#[derive(Clone)]
pub struct BoundServer<'r> {
    pub server: &'r Server,
    pub protocol: Protocol,
    /// `namespace/name`.
    pub gateway: String,
    pub namespace: &'r str,
    /// Istio's name of the route table; empty where bytes are not requests.
    pub table: String,
    /// Of the server.
    pub origin: Origin,
}

impl BoundServer<'_> {
    /// Whether it is plain: HTTP, redirecting to HTTPS or not, or bytes.
    fn is_plain(&self) -> bool {
        self.server.tls.is_none() || self.protocol.is_http()
    }

    /// Whether requests are read: in plain text or out of TLS that ends here.
    pub fn is_http_server(&self) -> bool {
        self.protocol.is_http() || self.terminates_https()
    }

    pub fn terminates_https(&self) -> bool {
        let tls = self.server.tls.as_ref();
        self.protocol == Protocol::Https && tls.is_some_and(|tls| !tls.passes_through())
    }
}

/// What servers have in common that are served together.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerPort<'r> {
    pub number: u16,
    protocol: &'r str,
    pub bind: &'r str,
}

/// Servers of one port, in the order in which they were taken.
pub struct MergedServers<'r> {
    pub port: ServerPort<'r>,
    pub servers: Vec<BoundServer<'r>>,
}

/// A listener while servers are being added to it.
#[derive(Default)]
struct Draft<'r> {
    chains: Vec<FilterChain>,
    servers: Vec<BoundServer<'r>>,
}

/// All listeners of the gateways that bind here.
pub fn build_listeners(compiler: &mut Compiler<'_>) -> Vec<Arc<Listener>> {
    let merged = Merger::merge(compiler);
    let mut drafts: BTreeMap<(u16, &str), Draft<'_>> = BTreeMap::new();
    // Names that a port's chains ask for, and for which bind address.
    let mut server_names: HashMap<u16, HashMap<String, &str>> = HashMap::new();
    for group in &merged {
        let names = server_names.entry(group.port.number).or_default();
        let built = build_chains(group, names, compiler);
        let bind = match group.port.bind {
            "" => "0.0.0.0",
            bind => bind,
        };
        let draft = drafts.entry((group.port.number, bind)).or_default();
        draft.chains.extend(built);
        draft.servers.extend(group.servers.iter().cloned());
    }
    let mut listeners: Vec<Arc<Listener>> = Vec::new();
    for ((number, bind), Draft { chains, servers }) in drafts {
        if chains.is_empty() {
            report_idle(&servers, compiler);
            continue;
        }
        report_ambiguous(&chains, compiler);
        let ip = bind.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut gateways: Vec<String> = servers.iter().map(|one| one.gateway.clone()).collect();
        gateways.dedup();
        listeners.push(Arc::new(Listener {
            name: format!("{bind}_{number}"),
            address: SocketAddr::new(ip, number),
            direction: Direction::Gateway,
            kind: kind_of(chains),
            gateways,
            origin: servers.first().map(|server| Origin {
                document: server.origin.document,
                field: server.origin.field.field("port"),
            }),
        }));
    }
    listeners.sort_by_key(|listener| (listener.address.port(), listener.address.ip()));
    listeners
}

/// A single chain of plain HTTP needs no choice.
fn kind_of(mut chains: Vec<FilterChain>) -> ListenerKind {
    if let [
        FilterChain {
            matches,
            tls: None,
            handler: ChainHandler::Http(table),
            ..
        },
    ] = chains.as_slice()
        && *matches == ChainMatch::default()
    {
        return ListenerKind::Http(Arc::clone(table));
    }
    let is_inspected = |chain: &FilterChain| {
        !chain.matches.server_names.is_empty()
            || chain.tls.as_ref().is_some_and(|tls| !tls.alpn.is_empty())
    };
    let tls_inspection = if chains.iter().any(is_inspected) {
        Inspection::Everywhere
    } else {
        Inspection::Nowhere
    };
    chains.shrink_to_fit();
    ListenerKind::Chains(Arc::new(FilterChains {
        chains,
        default: None,
        tls_inspection,
        http_inspection: Inspection::Nowhere,
    }))
}

/// Warns of servers whose port nobody listens on, since no route leads anywhere.
fn report_idle(servers: &[BoundServer<'_>], compiler: &mut Compiler<'_>) {
    for server in servers {
        let port = server.server.port.number;
        let message =
            format!("nothing listens on port {port}: no VirtualService has a route for it");
        let place = Place::Field(server.origin.clone());
        let help = "bind a VirtualService with a `tcp` or `tls` route to this gateway";
        let warning = Diagnostic::warning("idle-server", place, message);
        compiler.findings.add(warning.with_help(help));
    }
}

/// Warns of chains that ask for the very same, of which Envoy could not choose one.
fn report_ambiguous(chains: &[FilterChain], compiler: &mut Compiler<'_>) {
    let mut known = HashSet::new();
    for chain in chains {
        let (false, Some(origin)) = (known.insert(&chain.matches), chain.origin.clone()) else {
            continue;
        };
        let message = "another server of this port serves the same connections: they are closed";
        let help = "give the servers different hosts, or different ports";
        let warning = Diagnostic::warning("ambiguous-server", Place::Field(origin), message);
        compiler.findings.add(warning.with_help(help));
    }
}

/// Takes servers one by one, and leaves out those that others stand in the way of.
#[derive(Default)]
struct Merger<'r> {
    merged: Vec<MergedServers<'r>>,
    taken: HashSet<u16>,
    /// The plain port that others are compared to.
    plain: HashMap<u16, ServerPort<'r>>,
    tables: HashSet<String>,
    /// Hosts of servers with `tls`, by port, with the address that they are bound to.
    tls_hosts: HashMap<u16, HashMap<String, &'r str>>,
}

impl<'r> Merger<'r> {
    /// Servers in the order of their gateways, grouped by port and bind address. The first server
    /// of a port decides what it speaks.
    fn merge(compiler: &mut Compiler<'r>) -> Vec<MergedServers<'r>> {
        let mut merger = Self::default();
        let resources = compiler.resources;
        for object in &resources.gateways {
            let Object { metadata, spec } = object;
            if !compiler.settings.selected_by(&spec.selector) {
                continue;
            }
            for (index, server) in spec.servers.iter().enumerate() {
                let servers = FieldPath::root().field("spec").field("servers");
                let origin = metadata.origin(servers.index(index));
                let listened_on = match metadata.annotations.get(OF_SERVICE) {
                    Some(names) => {
                        let number = server.port.number;
                        service_targets(number, names, &metadata.namespace, &compiler.registry)
                    }
                    None => {
                        let number = server.port.number;
                        vec![target_port(number, &compiler.registry, compiler.settings)]
                    }
                };
                for number in listened_on {
                    let Some(number) = u16::try_from(number).ok().filter(|number| *number > 0)
                    else {
                        continue;
                    };
                    let protocol = Protocol::parse(&server.port.protocol);
                    let mut bound = BoundServer {
                        server,
                        protocol,
                        gateway: format!("{}/{}", metadata.namespace, metadata.name),
                        namespace: &metadata.namespace,
                        table: String::new(),
                        origin: origin.clone(),
                    };
                    bound.table = table_name(&bound, number, metadata);
                    if let Err(warning) = merger.take(bound, number) {
                        compiler.findings.add(*warning);
                    }
                }
            }
        }
        merger.merged
    }

    fn take(&mut self, bound: BoundServer<'r>, number: u16) -> Result<(), Box<Diagnostic>> {
        let server = bound.server;
        let port = ServerPort {
            number,
            protocol: &server.port.protocol,
            bind: &server.bind,
        };
        if server.tls.is_some() {
            self.claim_hosts(&bound, number)?;
        }
        if self.taken.insert(number) {
            self.start(port, bound);
            return Ok(());
        }
        let Some(current) = self.plain.get(&number).cloned() else {
            if !bound.is_plain()
                && bound.is_http_server()
                && !self.tables.insert(bound.table.clone())
            {
                return Err(left_out(
                    &bound,
                    "tls-server-conflict",
                    "this gateway has an HTTPS server with this port and name already".to_string(),
                ));
            }
            self.add(port, bound);
            return Ok(());
        };
        if current.bind != port.bind {
            self.add(port, bound);
            return Ok(());
        }
        let existing = Protocol::parse(current.protocol);
        let mergeable =
            existing.is_http() && (bound.protocol.is_http() || bound.protocol == existing);
        if !mergeable || bound.table.is_empty() {
            let mut groups = self.merged.iter();
            let first = groups.find(|group| group.port == current);
            let first = first.and_then(|group| group.servers.first());
            let first = first.map_or("", |first| first.gateway.as_str());
            let message =
                format!("port {number} speaks something else already, by gateway `{first}`");
            return Err(left_out(&bound, "port-conflict", message));
        }
        self.add(current, bound);
        Ok(())
    }

    /// Notes the hosts of a server with `tls`, unless one of them is another's already.
    fn claim_hosts(&mut self, bound: &BoundServer<'r>, number: u16) -> Result<(), Box<Diagnostic>> {
        let bind = bound.server.bind.as_str();
        let hosts: Vec<String> = qualified_hosts(bound).collect();
        let known = self.tls_hosts.entry(number).or_default();
        if let Some(host) = hosts.iter().find(|host| known.get(*host) == Some(&bind)) {
            let host = host.rsplit('/').next().unwrap_or(host);
            let message = format!("another server of port {number} has the host `{host}` already");
            return Err(left_out(bound, "tls-server-conflict", message));
        }
        known.extend(hosts.into_iter().map(|host| (host, bind)));
        Ok(())
    }

    fn start(&mut self, port: ServerPort<'r>, bound: BoundServer<'r>) {
        if bound.is_plain() {
            self.plain.insert(port.number, port.clone());
        }
        if bound.is_http_server() {
            self.tables.insert(bound.table.clone());
        }
        let servers = vec![bound];
        self.merged.push(MergedServers { port, servers });
    }

    fn add(&mut self, port: ServerPort<'r>, bound: BoundServer<'r>) {
        match self.merged.iter_mut().find(|group| group.port == port) {
            Some(group) => group.servers.push(bound),
            None => self.start(port, bound),
        }
    }
}

fn left_out(bound: &BoundServer<'_>, code: &'static str, message: String) -> Box<Diagnostic> {
    let place = Place::Field(Origin {
        document: bound.origin.document,
        field: bound.origin.field.field("port"),
    });
    let message = format!("{message}: this server is left out");
    Box::new(Diagnostic::warning(code, place, message).with_help("give it another port"))
}

/// The hosts of a server, each with the namespace that it is limited to, if any.
fn qualified_hosts(bound: &BoundServer<'_>) -> impl Iterator<Item = String> {
    let hosts = bound.server.hosts.iter();
    hosts.map(|host| match host.split_once('/') {
        Some((".", host)) => format!("{}/{host}", bound.namespace),
        Some(("*", host)) => host.to_string(),
        _ => host.clone(),
    })
}

/// Istio's name of the route table that a server's requests go by.
fn table_name(bound: &BoundServer<'_>, number: u16, metadata: &Metadata) -> String {
    let server = bound.server;
    let bind = match server.bind.as_str() {
        "" => String::new(),
        bind => format!(".{bind}"),
    };
    if bound.protocol.is_http() {
        format!("http.{number}{bind}")
    } else if bound.terminates_https() {
        let Metadata {
            namespace, name, ..
        } = metadata;
        let port = &server.port;
        format!(
            "https.{}.{}.{name}.{namespace}{bind}",
            port.number, port.name
        )
    } else {
        String::new()
    }
}

/// Names the services whose ports a gateway stands for.
const OF_SERVICE: &str = "internal.istio.io/gateway-service";

/// The targets behind a port of those of the services named that are in the gateway's namespace.
fn service_targets(number: u32, names: &str, namespace: &str, registry: &Registry) -> Vec<u32> {
    let hosts = names.split(',').map(str::trim);
    let in_namespace = |host| registry.all(host).find(|one| one.namespace == namespace);
    let mut targets: Vec<u32> = hosts
        .filter_map(|host| in_namespace(host)?.target_of(number))
        .collect();
    targets.sort_unstable();
    targets.dedup();
    targets
}

/// A port that a service of the gateway's own workload translates: listened on is its target.
fn target_port(number: u32, registry: &Registry, settings: &ProxySettings) -> u32 {
    const DISABLED: &str = "experimental.istio.io/disable-gateway-port-translation";
    if settings.workload.addresses.is_empty() {
        return number;
    }
    for service in &registry.services {
        if service.labels.contains_key(DISABLED) || !service.runs_at(&settings.workload.addresses) {
            continue;
        }
        if let Some(target) = service.target_of(number) {
            return target;
        }
    }
    number
}
