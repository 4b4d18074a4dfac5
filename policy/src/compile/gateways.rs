//! Listeners of a gateway: servers merged by address and port, hosts merged over VirtualServices.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Compiler;
use super::names::{intersection, is_exported, resolve_gateway, resolve_short_name};
use super::protocol::Protocol;
use super::registry::Registry;
use super::routes::{RouteScope, build_routes};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::gateway::Server;
use crate::resource::virtual_service::VirtualService;
use crate::settings::ProxySettings;
use crate::snapshot::{Direction, Listener, ListenerKind, Route, RouteTable};
use crate::source::{FieldPath, Origin};

/// A server, and how its gateway is called.
struct BoundServer<'r> {
    server: &'r Server,
    gateway: String,
    namespace: &'r str,
    origin: Origin,
}

/// Servers that share a listener.
struct Port<'r> {
    number: u16,
    bind: &'r str,
    is_http: bool,
    servers: Vec<BoundServer<'r>>,
}

/// All listeners of the gateways that bind here.
pub fn build_listeners(compiler: &mut Compiler<'_>) -> Vec<Arc<Listener>> {
    let ports = merge_servers(compiler);
    let mut listeners = Vec::new();
    for port in ports.iter().filter(|port| port.is_http) {
        let bind = if port.bind.is_empty() {
            "0.0.0.0"
        } else {
            port.bind
        };
        let ip = bind.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let table = build_table(port, compiler);
        listeners.push(Arc::new(Listener {
            name: format!("{bind}_{}", port.number),
            address: SocketAddr::new(ip, port.number),
            direction: Direction::Gateway,
            kind: ListenerKind::Http(Arc::new(table)),
            gateways: gateway_names(&port.servers),
            origin: port.servers.first().map(|server| server.origin.clone()),
        }));
    }
    listeners.sort_by_key(|listener| (listener.address.port(), listener.address.ip()));
    listeners
}

fn gateway_names(servers: &[BoundServer<'_>]) -> Vec<String> {
    let mut names: Vec<String> = servers
        .iter()
        .map(|server| server.gateway.clone())
        .collect();
    names.dedup();
    names
}

/// Servers in the order of their gateways, grouped by port and bind address. The first server of
/// a port decides what it speaks; plain servers that speak otherwise are left out.
fn merge_servers<'r>(compiler: &mut Compiler<'r>) -> Vec<Port<'r>> {
    let mut ports: Vec<Port<'r>> = Vec::new();
    let resources = compiler.resources;
    for object in &resources.gateways {
        let Object { metadata, spec } = object;
        if !compiler.settings.selected_by(&spec.selector) {
            continue;
        }
        for (index, server) in spec.servers.iter().enumerate() {
            let place = FieldPath::root()
                .field("spec")
                .field("servers")
                .index(index);
            let origin = metadata.origin(place.field("port"));
            let protocol = Protocol::parse(&server.port.protocol);
            let is_tls = server.tls.as_ref().is_some_and(|tls| !tls.https_redirect);
            let is_http = protocol.is_http() && !is_tls;
            let listened_on = match metadata.annotations.get(OF_SERVICE) {
                Some(service) => service_target(server.port.number, service, &compiler.registry),
                None => target_port(server.port.number, &compiler.registry, compiler.settings),
            };
            let number = match u16::try_from(listened_on) {
                Ok(number) if number > 0 => number,
                _ => continue,
            };
            let bound = BoundServer {
                server,
                gateway: format!("{}/{}", metadata.namespace, metadata.name),
                namespace: &metadata.namespace,
                origin: origin.clone(),
            };
            let same = ports.iter_mut().find(|port| {
                port.number == number && port.bind == server.bind && (port.is_http || !is_tls)
            });
            match same {
                Some(port) if port.is_http && is_http => port.servers.push(bound),
                Some(port) if !port.is_http && !is_http => {}
                Some(port) if is_http || !is_tls => {
                    let first = port
                        .servers
                        .first()
                        .map_or("", |first| first.gateway.as_str());
                    let message = format!(
                        "port {number} speaks something else already, by gateway `{first}`: this server is left out"
                    );
                    let place = Place::Field(origin);
                    let warning = Diagnostic::warning("port-conflict", place, message);
                    compiler
                        .findings
                        .add(warning.with_help("give it another port"));
                }
                _ => {
                    let bind = server.bind.as_str();
                    ports.push(Port {
                        number,
                        bind,
                        is_http,
                        servers: vec![bound],
                    });
                }
            }
        }
    }
    ports
}

/// Names the one service whose ports a gateway stands for.
const OF_SERVICE: &str = "internal.istio.io/gateway-service";

/// The target behind a port of the services named, or 0 when none has such a port.
fn service_target(number: u32, names: &str, registry: &Registry) -> u32 {
    let hosts = names.split(',').map(str::trim);
    let mut targets = hosts.filter_map(|host| registry.all(host).next()?.target_of(number));
    targets.next().unwrap_or(0)
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

/// A virtual host while VirtualServices are being added to it.
struct Draft {
    name: String,
    /// Which lists of routes it gets, in order.
    sources: Vec<usize>,
    https_redirect: bool,
}

fn build_table(port: &Port<'_>, compiler: &mut Compiler<'_>) -> RouteTable {
    let suffix = if port.bind.is_empty() {
        String::new()
    } else {
        format!(".{}", port.bind)
    };
    let table_name = format!("http.{}{suffix}", port.number);
    let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
    // The routes of a VirtualService for a gateway, built once for all its hosts.
    let mut lists: Vec<Vec<Route>> = Vec::new();
    let mut built: HashMap<(&str, usize), usize> = HashMap::new();
    for bound in &port.servers {
        let listen_port = bound.server.port.number;
        let redirects = bound
            .server
            .tls
            .as_ref()
            .is_some_and(|tls| tls.https_redirect);
        for (at, object) in services_of_gateway(compiler, &bound.gateway) {
            let server_hosts = hosts_for(bound, &object.metadata.namespace);
            let hosts = resolved_hosts(object, compiler.settings);
            let shared = intersection(&server_hosts, &hosts);
            if shared.is_empty() {
                continue;
            }
            let source = *built.entry((&bound.gateway, at)).or_insert_with(|| {
                let scope = RouteScope {
                    settings: compiler.settings,
                    registry: &compiler.registry,
                    clusters: &compiler.clusters,
                    gateway: &bound.gateway,
                    listen_port,
                    rule_namespace: &object.metadata.namespace,
                };
                let rules = &compiler.http_rules[at];
                let findings = &mut compiler.findings;
                lists.push(build_routes(&object.metadata, rules, &scope, findings));
                lists.len() - 1
            });
            if lists[source].is_empty() {
                continue;
            }
            for host in shared {
                let host = host.to_ascii_lowercase();
                let draft = drafts.entry(host.clone()).or_insert_with(|| Draft {
                    name: format!("{host}:{listen_port}"),
                    sources: Vec::new(),
                    https_redirect: false,
                });
                draft.https_redirect |= redirects;
                draft.sources.push(source);
            }
        }
        if redirects {
            for host in &bound.server.hosts {
                let host = host.split_once('/').map_or(host.as_str(), |(_, host)| host);
                let host = host.to_ascii_lowercase();
                let name = format!("{host}:{listen_port}");
                let draft = drafts.entry(host).or_insert_with(|| Draft {
                    name,
                    sources: Vec::new(),
                    https_redirect: true,
                });
                draft.https_redirect = true;
            }
        }
    }
    let virtual_hosts = if drafts.is_empty() {
        let number = port
            .servers
            .first()
            .map_or(0, |bound| bound.server.port.number);
        let name = format!("blackhole:{number}");
        let any = vec!["*".to_string()];
        vec![
            compiler
                .splits
                .finish(&table_name, name, any, Vec::new(), &mut compiler.findings),
        ]
    } else {
        let collapsed = collapse(drafts);
        let mut uses = vec![0_usize; lists.len()];
        for source in collapsed.iter().flat_map(|(draft, _)| &draft.sources) {
            uses[*source] += 1;
        }
        let mut virtual_hosts = Vec::with_capacity(collapsed.len());
        for (draft, domains) in collapsed {
            let mut routes = Vec::new();
            for source in draft.sources {
                uses[source] -= 1;
                if uses[source] == 0 {
                    routes.append(&mut lists[source]);
                } else {
                    routes.extend(lists[source].iter().cloned());
                }
            }
            // Stable: catch-alls go last and all else keeps its order.
            routes.sort_by_key(|route| route.matches.is_catch_all());
            let Compiler {
                splits, findings, ..
            } = compiler;
            let mut host = splits.finish(&table_name, draft.name, domains, routes, findings);
            host.https_redirect = draft.https_redirect;
            virtual_hosts.push(host);
        }
        virtual_hosts
    };
    RouteTable::new(table_name, virtual_hosts)
}

/// Hosts with the very same routes become one virtual host, named by the first that is exact and
/// longest.
fn collapse(drafts: BTreeMap<String, Draft>) -> Vec<(Draft, Vec<String>)> {
    let mut hosts: Vec<(String, Draft)> = drafts.into_iter().collect();
    hosts.sort_by(|a, b| super::names::by_specificity(&a.0, &b.0));
    let mut places: HashMap<(Vec<usize>, bool), usize> = HashMap::new();
    let mut collapsed: Vec<(Draft, Vec<String>)> = Vec::new();
    for (host, draft) in hosts {
        let key = (draft.sources.clone(), draft.https_redirect);
        match places.get(&key) {
            Some(at) => collapsed[*at].1.push(host),
            None => {
                places.insert(key, collapsed.len());
                collapsed.push((draft, vec![host]));
            }
        }
    }
    collapsed.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    collapsed
}

/// VirtualServices that name the gateway, in the order in which Istio takes them: those of the
/// workload's namespace that nobody else sees, those exported to it, and then those for all.
fn services_of_gateway<'r>(
    compiler: &Compiler<'r>,
    gateway: &str,
) -> Vec<(usize, &'r Object<VirtualService>)> {
    let namespace = compiler.settings.namespace.as_str();
    compiler.virtual_services(|object| {
        object
            .spec
            .gateways
            .iter()
            .any(|name| resolve_gateway(name, &object.metadata.namespace) == gateway)
            && is_exported(
                &object.spec.export_to,
                &object.metadata.namespace,
                namespace,
            )
    })
}

/// The hosts of a VirtualService, fully qualified.
pub fn resolved_hosts(object: &Object<VirtualService>, settings: &ProxySettings) -> Vec<String> {
    let namespace = &object.metadata.namespace;
    let hosts = object.spec.hosts.iter();
    hosts
        .map(|host| resolve_short_name(host, namespace, &settings.domain_suffix))
        .collect()
}

/// The hosts of a server that VirtualServices of a namespace may bind to.
fn hosts_for(bound: &BoundServer<'_>, namespace: &str) -> Vec<String> {
    let hosts = bound
        .server
        .hosts
        .iter()
        .filter_map(|host| match host.split_once('/') {
            None | Some(("*", _)) => Some(host.split_once('/').map_or(host.as_str(), |(_, h)| h)),
            Some((".", host)) => (bound.namespace == namespace).then_some(host),
            Some((owner, host)) => (owner == namespace).then_some(host),
        });
    hosts.map(str::to_string).collect()
}
