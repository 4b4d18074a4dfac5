//! What a sidecar sees: services and VirtualServices, by `exportTo` and by the Sidecar document
//! that is for it.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Compiler;
use super::clusters::PASSTHROUGH;
use super::delegates::Rule;
use super::gateway_tables::resolved_hosts;
use super::names::{
    MESH, by_specificity, cluster_name, is_exported, is_subset, is_wildcard, overlap,
    resolve_gateway, resolve_short_name, selects,
};
use super::registry::{Registry, Service};
use crate::resource::protocol::Protocol;
use crate::resource::sidecar::{Egress, Sidecar};
use crate::resource::virtual_service::{Destination, VirtualService};
use crate::resource::{Metadata, Object};
use crate::settings::{OutboundTrafficPolicy, ProxySettings};

/// A VirtualService of the mesh with its hosts, fully qualified and lower-case.
#[derive(Clone)]
pub struct MeshRule<'r> {
    /// Among all VirtualServices.
    pub index: usize,
    pub object: &'r Object<VirtualService>,
    pub hosts: Vec<String>,
}

/// One way out of a sidecar: an entry of `egress`, or all that is exported to it.
pub struct EgressScope<'r> {
    pub listener: Option<&'r Egress>,
    /// Among those of the registry, each host once.
    pub services: Vec<usize>,
    pub rules: Vec<MeshRule<'r>>,
    /// Which of the rules is the most specific for a service.
    pub most_specific: HashMap<String, usize>,
}

/// All that a sidecar sees.
pub struct Scope<'r> {
    pub sidecar: Option<&'r Object<Sidecar>>,
    /// The one without port is the last.
    pub egress: Vec<EgressScope<'r>>,
    pub policy: OutboundTrafficPolicy,
    /// Where requests for unknown hosts go, if not to where they were addressed.
    pub egress_proxy: Option<&'r Destination>,
    /// Hosts that are there, but not imported.
    pub hidden: HashSet<String>,
}

impl EgressScope<'_> {
    /// The port that it was written for; `None` is every other.
    pub fn port(&self) -> Option<u32> {
        let port = self.listener?.port.as_ref()?;
        (port.number > 0).then_some(port.number)
    }

    pub fn protocol(&self) -> Option<Protocol> {
        let port = self.listener?.port.as_ref()?;
        Some(Protocol::parse(&port.protocol))
    }
}

/// The Sidecar for the workload: of its namespace, with a selector before without; else the one
/// of the root namespace without.
pub fn sidecar_of<'r>(
    sidecars: &'r [Object<Sidecar>],
    settings: &ProxySettings,
) -> Option<&'r Object<Sidecar>> {
    let of = |namespace: &str| {
        let namespace = namespace.to_string();
        sidecars
            .iter()
            .filter(move |object| object.metadata.namespace == namespace)
    };
    let selector = |object: &&'r Object<Sidecar>| object.spec.workload_selector.clone();
    let selecting = of(&settings.namespace).find(|object| {
        selector(object).is_some_and(|selector| settings.selected_by(&selector.labels))
    });
    let general = |namespace: &str| of(namespace).find(|object| selector(object).is_none());
    selecting
        .or_else(|| general(&settings.namespace))
        .or_else(|| general(&settings.root_namespace))
}

impl<'r> Scope<'r> {
    /// Finds out what is seen and leaves the rest out of the registry.
    pub fn new(compiler: &Compiler<'r>, registry: &mut Registry) -> Self {
        let settings = compiler.settings;
        let sidecar = sidecar_of(&compiler.resources.sidecars, settings);
        let rules = mesh_rules(compiler);
        let written = sidecar.map_or(&[][..], |object| &object.spec.egress);
        let mut egress: Vec<EgressScope<'r>> = Vec::new();
        for listener in written {
            let imports = Imports::new(&listener.hosts, &settings.namespace);
            egress.push(egress_scope(
                Some(listener),
                &imports,
                &rules,
                registry,
                settings,
            ));
        }
        if written.is_empty() {
            let imports = Imports::new(&["*/*".to_string()], &settings.namespace);
            egress.push(egress_scope(None, &imports, &rules, registry, settings));
        }
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        for scope in &egress {
            seen.extend(&scope.services);
        }
        let hosts: HashSet<String> = host_names(registry, &seen);
        // What rules lead to is there for them, though not for others.
        for scope in &egress {
            for rule in &scope.rules {
                for host in destinations(rule, &compiler.http_rules[rule.index], settings) {
                    if !hosts.contains(&host)
                        && let Some(at) = registry.best(&host, &settings.namespace)
                        && scope
                            .port()
                            .is_none_or(|port| registry.services[at].port(port).is_some())
                    {
                        seen.insert(at);
                    }
                }
            }
        }
        let kept_hosts = host_names(registry, &seen);
        let all = registry.services.iter().map(|service| &service.host);
        let hidden = all
            .filter(|host| !kept_hosts.contains(*host))
            .cloned()
            .collect();
        let moved = registry.keep(&seen);
        for scope in &mut egress {
            scope.services = scope.services.iter().map(|at| moved[at]).collect();
        }
        let written = sidecar.and_then(|object| object.spec.outbound_traffic_policy.as_ref());
        Self {
            sidecar,
            egress,
            policy: match written {
                Some(written) => written.mode.unwrap_or(OutboundTrafficPolicy::RegistryOnly),
                None => settings.outbound_traffic_policy,
            },
            egress_proxy: written.and_then(|written| written.egress_proxy.as_ref()),
            hidden,
        }
    }

    /// Where connections go that no service is known for, if that is allowed.
    pub fn passthrough_cluster(&self, settings: &ProxySettings) -> String {
        let (Some(proxy), Some(sidecar)) = (self.egress_proxy, self.sidecar) else {
            return PASSTHROUGH.to_string();
        };
        let namespace = &sidecar.metadata.namespace;
        let host = resolve_short_name(&proxy.host, namespace, &settings.domain_suffix);
        let port = proxy.port.as_ref().map_or(0, |port| port.number);
        cluster_name(port, &proxy.subset, &host.to_ascii_lowercase())
    }

    /// The way out for a port.
    pub fn for_port(&self, port: u32) -> Option<&EgressScope<'r>> {
        let mut egress = self.egress.iter();
        egress.find(|scope| scope.port().is_none_or(|own| own == port))
    }
}

fn host_names(registry: &Registry, services: &BTreeSet<usize>) -> HashSet<String> {
    let hosts = services
        .iter()
        .map(|at| registry.services[*at].host.clone());
    hosts.collect()
}

/// VirtualServices that are for sidecars and exported to this one.
fn mesh_rules<'r>(compiler: &Compiler<'r>) -> Vec<MeshRule<'r>> {
    let settings = compiler.settings;
    let selected = compiler.virtual_services(|object| {
        let namespace = &object.metadata.namespace;
        let gateways = &object.spec.gateways;
        let in_mesh = gateways.is_empty()
            || gateways
                .iter()
                .any(|name| resolve_gateway(name, namespace) == MESH);
        in_mesh && is_exported(&object.spec.export_to, namespace, &settings.namespace)
    });
    let rules = selected.into_iter().map(|(index, object)| {
        let hosts = resolved_hosts(object, settings);
        let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        MeshRule {
            index,
            object,
            hosts,
        }
    });
    rules.collect()
}

/// `egress[].hosts`, by namespace.
struct Imports {
    by_namespace: HashMap<String, Hosts>,
}

#[derive(Default)]
struct Hosts {
    imported: Vec<String>,
    excluded: Vec<String>,
}

const ANY: &str = "*";

impl Imports {
    /// `namespace/host`, where `.` is the namespace of the workload, `*` is any, and one with `~`
    /// before it leaves out.
    fn new(written: &[String], own: &str) -> Self {
        let mut by_namespace: HashMap<String, Hosts> = HashMap::new();
        for entry in written {
            let Some((namespace, host)) = entry.split_once('/') else {
                continue;
            };
            let excludes = namespace.starts_with('~');
            let namespace = match namespace.trim_start_matches('~') {
                "" => ANY,
                "." => own,
                namespace => namespace,
            };
            let hosts = by_namespace.entry(namespace.to_string()).or_default();
            let host = host.to_ascii_lowercase();
            if excludes {
                hosts.excluded.push(host);
            } else {
                hosts.imported.push(host);
            }
        }
        Self { by_namespace }
    }

    /// Those of a namespace, and those of any.
    fn of(&self, namespace: &str) -> impl Iterator<Item = &Hosts> {
        [namespace, ANY]
            .into_iter()
            .filter_map(|name| self.by_namespace.get(name))
    }

    fn excludes(&self, namespace: &str, host: &str) -> bool {
        self.of(namespace)
            .any(|hosts| hosts.excluded.iter().any(|out| is_subset(host, out)))
    }

    fn has_service(&self, service: &Service) -> bool {
        let Service {
            host, namespace, ..
        } = service;
        let imported = |hosts: &Hosts| hosts.imported.iter().any(|one| is_subset(host, one));
        !self.excludes(namespace, host) && self.of(namespace).any(imported)
    }

    /// One host of a rule is enough, and a wildcard on either side may cover the other.
    fn has_rule(&self, rule: &MeshRule<'_>) -> bool {
        let namespace = &rule.object.metadata.namespace;
        let imported = |host: &String| {
            let matches = |one: &String| {
                one == host || (is_wildcard(one) || is_wildcard(host)) && overlap(one, host)
            };
            !self.excludes(namespace, host)
                && self
                    .of(namespace)
                    .any(|hosts| hosts.imported.iter().any(matches))
        };
        rule.hosts.iter().any(imported)
    }
}

fn egress_scope<'r>(
    listener: Option<&'r Egress>,
    imports: &Imports,
    rules: &[MeshRule<'r>],
    registry: &Registry,
    settings: &ProxySettings,
) -> EgressScope<'r> {
    let mut scope = EgressScope {
        listener,
        services: Vec::new(),
        rules: rules
            .iter()
            .filter(|rule| imports.has_rule(rule))
            .cloned()
            .collect(),
        most_specific: HashMap::new(),
    };
    let port = scope
        .port()
        .filter(|_| scope.protocol() != Some(Protocol::HttpProxy));
    // Of services of one host, one namespace is taken.
    let mut chosen: HashMap<&str, usize> = HashMap::new();
    let mut hosts: Vec<&str> = Vec::new();
    for (at, service) in registry.services.iter().enumerate() {
        let has_port = port.is_none_or(|port| service.port(port).is_some());
        if !has_port || !imports.has_service(service) {
            continue;
        }
        match chosen.get(service.host.as_str()) {
            None => hosts.push(&service.host),
            Some(known) if !precedes(service, &registry.services[*known], settings) => continue,
            Some(_) => {}
        }
        chosen.insert(&service.host, at);
    }
    scope.services = hosts.iter().map(|host| chosen[host]).collect();
    for host in hosts {
        let all = scope.rules.iter().enumerate();
        let covering = all.flat_map(|(at, rule)| {
            let hosts = rule.hosts.iter().filter(|own| is_subset(host, own));
            hosts.map(move |own| (own, at))
        });
        let best = covering.min_by(|a, b| by_specificity(a.0, b.0).then(a.1.cmp(&b.1)));
        if let Some((_, at)) = best {
            scope.most_specific.insert(host.to_string(), at);
        }
    }
    scope
}

/// Of two services of one host: the workload's own namespace first, then Kubernetes'.
fn precedes(service: &Service, known: &Service, settings: &ProxySettings) -> bool {
    let rank = |service: &Service| {
        (
            service.namespace != settings.namespace,
            !service.is_kubernetes,
        )
    };
    rank(service) < rank(known)
}

/// The hosts that a rule may lead requests of this workload to.
fn destinations(
    rule: &MeshRule<'_>,
    http: &[Rule<'_>],
    settings: &ProxySettings,
) -> HashSet<String> {
    let mut hosts = HashSet::new();
    let mut note = |destination: &Destination, metadata: &Metadata| {
        let namespace = &metadata.namespace;
        let host = resolve_short_name(&destination.host, namespace, &settings.domain_suffix);
        hosts.insert(host.to_ascii_lowercase());
    };
    let own = |namespace: &str| namespace.is_empty() || namespace == settings.namespace;
    for rule in http {
        let route = &rule.route;
        let mut matches = route.r#match.iter();
        if !route.r#match.is_empty() && !matches.any(|one| own(&one.source_namespace)) {
            continue;
        }
        let mirrors = route.mirrors.iter();
        let mirrors = mirrors.filter_map(|mirror| mirror.destination.as_ref());
        let routes = route.route.iter().map(|one| &one.destination);
        for destination in routes.chain(&route.mirror).chain(mirrors) {
            note(destination, rule.metadata);
        }
    }
    let metadata = &rule.object.metadata;
    let tls = rule
        .object
        .spec
        .tls
        .iter()
        .map(|rule| (&rule.r#match, &rule.route));
    let tcp = rule
        .object
        .spec
        .tcp
        .iter()
        .map(|rule| (&rule.r#match, &rule.route));
    for (matches, route) in tls.chain(tcp) {
        if matches.is_empty() || matches.iter().any(|one| own(&one.source_namespace)) {
            route
                .iter()
                .for_each(|one| note(&one.destination, metadata));
        }
    }
    hosts
}

/// Whether the static conditions of a `tls` or `tcp` match hold for this workload at a port.
pub fn layer4_applies(
    condition: &crate::resource::virtual_service::Layer4Match,
    namespace: &str,
    port: u32,
    settings: &ProxySettings,
) -> bool {
    let mut gateways = condition.gateways.iter();
    (condition.gateways.is_empty() || gateways.any(|name| resolve_gateway(name, namespace) == MESH))
        && selects(&condition.source_labels, &settings.workload.labels)
        && (condition.port == 0 || condition.port == port)
        && (condition.source_namespace.is_empty()
            || condition.source_namespace == settings.namespace)
}
