//! Where a sidecar's outbound connections go: a listener for each address and port of the
//! services, none of them bound, behind the one that connections are redirected to.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Compiler;
use super::layer4::Layer4Scope;
use super::registry::{Port, Registry};
use super::sidecar_bytes::{Offer, chains_of_bytes, offers};
use super::sidecar_scope::{EgressScope, Scope};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::protocol::Protocol;
use crate::settings::{InterceptionMode, OutboundTrafficPolicy};
use crate::snapshot::{
    BLACK_HOLE, ChainHandler, ChainMatch, Direction, FilterChain, FilterChains, Inspection,
    Interception, Listener, ListenerKind, RouteTable, TcpRoute, TransportProtocol,
};
use crate::source::Origin;

/// What plain requests are recognised as.
pub const HTTP_PROTOCOLS: [&str; 2] = ["http/1.1", "h2c"];

const UNSPECIFIED: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Tables by name, each built once.
#[derive(Default)]
pub struct Tables {
    by_name: HashMap<String, Arc<RouteTable>>,
}

impl Tables {
    /// The table of a port.
    pub fn of_port(
        &mut self,
        port: u16,
        scope: &Scope<'_>,
        compiler: &mut Compiler<'_>,
    ) -> Option<Arc<RouteTable>> {
        let name = port.to_string();
        if let Some(known) = self.by_name.get(&name) {
            return Some(Arc::clone(known));
        }
        let egress = scope.for_port(u32::from(port))?;
        // A proxy for requests of any port takes them as those of port 80.
        let routed = match egress.protocol() {
            Some(Protocol::HttpProxy) => 80,
            _ => u32::from(port),
        };
        let table =
            super::sidecar_tables::build_table(name.clone(), routed, egress, scope, compiler);
        let table = Arc::new(table);
        self.by_name.insert(name, Arc::clone(&table));
        Some(table)
    }

    /// The table of one service, which every request goes by whatever its Host: the address has
    /// said already which service is meant.
    fn of_service(
        &mut self,
        host: &str,
        port: u16,
        scope: &Scope<'_>,
        compiler: &mut Compiler<'_>,
    ) -> Option<Arc<RouteTable>> {
        let all = self.of_port(port, scope, compiler)?;
        let found = all.virtual_host_of(host).cloned();
        let hosts = found.map(|mut found| {
            found.domains = vec!["*".to_string()];
            found
        });
        let table = RouteTable::new(format!("{host}:{port}"), hosts.into_iter().collect());
        Some(Arc::new(table))
    }
}

/// A listener while services are being added to it.
struct Entry {
    protocol: Protocol,
    chains: Vec<Draft>,
    /// Written for some services only: others do not join.
    is_locked: bool,
    origin: Origin,
}

/// A chain before its route table is built.
#[derive(Clone)]
struct Draft {
    matches: ChainMatch,
    handler: DraftHandler,
    origin: Option<Origin>,
}

#[derive(Clone)]
enum DraftHandler {
    /// By the table of the port, or of one service.
    Http(Option<String>),
    Tcp(Arc<TcpRoute>),
}

type Key = (u16, IpAddr);

/// All listeners behind the one that is redirected to, in the order of their ports.
pub fn listeners(
    scope: &Scope<'_>,
    tables: &mut Tables,
    compiler: &mut Compiler<'_>,
) -> Vec<Arc<Listener>> {
    let registry = std::mem::take(&mut compiler.registry);
    let mut builder = Builder {
        compiler,
        registry: &registry,
        entries: HashMap::new(),
        lost: Vec::new(),
    };
    for egress in &scope.egress {
        if !super::sidecar::is_redirected(egress) {
            continue;
        }
        if egress.port().is_none() {
            builder
                .entries
                .values_mut()
                .for_each(|entry| entry.is_locked = true);
        }
        builder.add_egress(egress);
    }
    let mut entries: Vec<(Key, Entry)> = builder.entries.into_iter().collect();
    entries.sort_by_key(|(key, _)| *key);
    let lost = builder.lost;
    compiler.registry = registry;
    // Without redirection a sidecar takes requests alone.
    if compiler.settings.interception.mode == InterceptionMode::Redirect {
        lost.into_iter().for_each(|one| compiler.findings.add(one));
    }
    let fallback = catch_all(scope, compiler);
    let mut listeners = Vec::with_capacity(entries.len());
    for ((number, bind), entry) in entries {
        let origin = entry.origin.clone();
        let chains = finish(number, entry, &fallback, scope, tables, compiler);
        listeners.push(Arc::new(Listener {
            name: format!("{bind}_{number}"),
            address: SocketAddr::new(bind, number),
            direction: Direction::Outbound,
            kind: ListenerKind::Chains(Arc::new(chains)),
            gateways: Vec::new(),
            origin: Some(origin),
        }));
    }
    listeners
}

/// The listener that outbound connections are redirected to. Those that were addressed to itself
/// go nowhere, so that none goes in a circle.
pub fn door(
    listeners: Vec<Arc<Listener>>,
    scope: &Scope<'_>,
    compiler: &Compiler<'_>,
) -> Arc<Listener> {
    let port = compiler.settings.interception.outbound_port;
    let layer4 = compiler.layer4(0);
    let black_hole = FilterChain {
        name: "virtualOutbound-blackhole".to_string(),
        matches: ChainMatch {
            destination_port: Some(port),
            ..ChainMatch::default()
        },
        tls: None,
        handler: ChainHandler::Tcp(Arc::new(layer4.route_to(BLACK_HOLE.to_string(), None))),
        origin: None,
    };
    let mut rest = catch_all(scope, compiler);
    rest.name = "virtualOutbound-catchall-tcp".to_string();
    let fallback = FilterChains {
        chains: vec![black_hole, rest],
        ..FilterChains::default()
    };
    Arc::new(Listener {
        name: "virtualOutbound".to_string(),
        address: SocketAddr::new(UNSPECIFIED, port),
        direction: Direction::Outbound,
        kind: ListenerKind::Intercepted(Arc::new(Interception::new(listeners, fallback))),
        gateways: Vec::new(),
        origin: None,
    })
}

/// Connections to where no service is: on to there, or nowhere.
fn catch_all(scope: &Scope<'_>, compiler: &Compiler<'_>) -> FilterChain {
    let cluster = match scope.policy {
        OutboundTrafficPolicy::AllowAny => scope.passthrough_cluster(compiler.settings),
        OutboundTrafficPolicy::RegistryOnly => BLACK_HOLE.to_string(),
    };
    FilterChain {
        name: "PassthroughFilterChain".to_string(),
        matches: ChainMatch::default(),
        tls: None,
        handler: ChainHandler::Tcp(Arc::new(compiler.layer4(0).route_to(cluster, None))),
        origin: None,
    }
}

/// Tables are built, and the chain that asks nothing becomes the default.
fn finish(
    number: u16,
    entry: Entry,
    fallback: &FilterChain,
    scope: &Scope<'_>,
    tables: &mut Tables,
    compiler: &mut Compiler<'_>,
) -> FilterChains {
    let mut finished = FilterChains::default();
    for draft in entry.chains {
        let handler = match draft.handler {
            DraftHandler::Tcp(route) => Some(ChainHandler::Tcp(route)),
            DraftHandler::Http(host) => match host {
                Some(host) => tables.of_service(&host, number, scope, compiler),
                None => tables.of_port(number, scope, compiler),
            }
            .map(ChainHandler::Http),
        };
        let Some(handler) = handler else { continue };
        let name = match &handler {
            ChainHandler::Http(table) => table.name.clone(),
            ChainHandler::Tcp(route) => route.name.clone(),
        };
        if !draft.matches.server_names.is_empty() {
            finished.tls_inspection = Inspection::Everywhere;
        }
        if !draft.matches.application_protocols.is_empty() {
            finished.http_inspection = Inspection::Everywhere;
        }
        let chain = FilterChain {
            name,
            matches: draft.matches,
            tls: None,
            handler,
            origin: draft.origin,
        };
        if chain.matches == ChainMatch::default() {
            finished.default = Some(chain);
        } else {
            finished.chains.push(chain);
        }
    }
    finished.default.get_or_insert_with(|| fallback.clone());
    finished
}

struct Builder<'a, 'r> {
    compiler: &'a Compiler<'r>,
    registry: &'a Registry,
    entries: HashMap<Key, Entry>,
    /// About services whose connections go to another one.
    lost: Vec<Diagnostic>,
}

impl Builder<'_, '_> {
    fn add_egress(&mut self, egress: &EgressScope<'_>) {
        let bind = egress
            .listener
            .and_then(|listener| listener.bind.parse::<IpAddr>().ok());
        for at in &egress.services {
            let service = &self.registry.services[*at];
            if service.alias_of.is_some() {
                continue;
            }
            for port in &service.ports {
                let port = match (egress.port(), egress.protocol()) {
                    (Some(own), Some(protocol)) => Port {
                        number: own,
                        protocol,
                        ..port.clone()
                    },
                    _ => port.clone(),
                };
                let Ok(number) = u16::try_from(port.number) else {
                    continue;
                };
                for offer in offers(
                    service,
                    &port,
                    number,
                    bind,
                    &self.compiler.settings.workload.addresses,
                ) {
                    self.add(&offer, egress);
                }
                if egress.port().is_some() {
                    break;
                }
            }
        }
    }

    /// Adds what a service offers at an address, unless what is there already stands against it.
    fn add(&mut self, offer: &Offer<'_>, egress: &EgressScope<'_>) {
        let protocol = offer.port.protocol;
        let key = (offer.number, offer.bind);
        let known = self.entries.get(&key);
        if known.is_some_and(|known| known.is_locked) {
            return;
        }
        let existing = known.map(|known| known.protocol);
        let sniffed = Protocol::Sniffed;
        let (chains, becomes, replaces) = if protocol.is_http() {
            if existing.is_some_and(|existing| !existing.is_tcp()) {
                return;
            }
            let is_shared = offer.bind == UNSPECIFIED && protocol != Protocol::HttpProxy;
            let becomes = if is_shared || existing.is_some() {
                sniffed
            } else {
                protocol
            };
            (vec![http_draft(None, is_shared)], becomes, false)
        } else if protocol.is_tcp() {
            let becomes = match existing {
                None => protocol,
                Some(existing) if existing.is_tcp() => existing,
                Some(_) => sniffed,
            };
            (self.tcp_drafts(offer, egress), becomes, false)
        } else if protocol == sniffed {
            let mut chains = self.tcp_drafts(offer, egress);
            if existing != Some(sniffed) {
                let own = (offer.bind != UNSPECIFIED).then(|| offer.service.host.clone());
                chains.push(http_draft(own, true));
            }
            (chains, sniffed, existing.is_some_and(Protocol::is_http))
        } else {
            return;
        };
        let first_speaks = |protocol| matches!(protocol, Protocol::Mongo | Protocol::Mysql);
        if let Some(existing) = existing
            && existing != protocol
            && (first_speaks(existing) || first_speaks(protocol))
        {
            // Where the server speaks first, nothing can be sniffed, so nothing can be shared.
            return;
        }
        if replaces {
            self.entries.remove(&key);
        }
        let entry = self.entries.entry(key).or_insert_with(|| Entry {
            protocol: becomes,
            chains: Vec::new(),
            is_locked: false,
            origin: offer.service.origin.clone(),
        });
        entry.protocol = becomes;
        for chain in chains {
            // Of two chains for the same connections the first keeps them.
            let mut known = entry.chains.iter();
            match known.find(|known| known.matches == chain.matches) {
                None => entry.chains.push(chain),
                Some(first) => self.lost.extend(loses(offer, first, &chain)),
            }
        }
    }

    fn tcp_drafts(&self, offer: &Offer<'_>, egress: &EgressScope<'_>) -> Vec<Draft> {
        let layer4 = Layer4Scope {
            registry: self.registry,
            ..self.compiler.layer4(offer.port.number)
        };
        let chains = chains_of_bytes(offer, egress, layer4);
        let drafts = chains.into_iter().map(|chain| Draft {
            matches: chain.matches,
            handler: DraftHandler::Tcp(Arc::new(chain.route)),
            origin: chain.origin,
        });
        drafts.collect()
    }
}

/// A warning about bytes for a service that go to the one that `first` leads to.
fn loses(offer: &Offer<'_>, first: &Draft, lost: &Draft) -> Option<Diagnostic> {
    let (DraftHandler::Tcp(route), DraftHandler::Tcp(_)) = (&first.handler, &lost.handler) else {
        return None;
    };
    let winner = first.origin.clone()?;
    let service = offer.service;
    if lost.origin.as_ref() == Some(&winner) || winner.document == service.origin.document {
        return None;
    }
    let message = format!(
        "connections to port {} of `{}` go to `{}`: no address tells the two services apart",
        offer.number, service.host, route.name
    );
    let place = Place::Field(service.origin.clone());
    let warning = Diagnostic::warning("tcp-without-address", place, message)
        .with_help("write `addresses:` of its own in each, or another port number")
        .with_related(winner, "what takes them");
    Some(warning)
}

/// Requests by the table of the port, or of one service; recognised by their first bytes where
/// other bytes may come too.
fn http_draft(host: Option<String>, is_recognised: bool) -> Draft {
    let mut matches = ChainMatch::default();
    if is_recognised {
        matches.transport = Some(TransportProtocol::Raw);
        matches.application_protocols = HTTP_PROTOCOLS.map(str::to_string).to_vec();
    }
    Draft {
        matches,
        handler: DraftHandler::Http(host),
        origin: None,
    }
}
