//! Listeners of a sidecar: one for each port of the services, routed by Host.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::Compiler;
use super::clusters::PASSTHROUGH;
use super::gateway_tables::resolved_hosts;
use super::names::{
    MESH, by_specificity, cluster_name, is_exported, is_subset, is_wildcard, overlap,
    resolve_gateway,
};
use super::registry::{Registry, Resolution, Service};
use super::routes::{RouteScope, build_routes, default_route};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::virtual_service::VirtualService;
use crate::settings::{OutboundTrafficPolicy, ProxySettings};
use crate::snapshot::{
    Direction, Listener, ListenerKind, Route, RouteAction, RouteTable, VirtualHost,
};
use crate::source::{FieldPath, Origin};

/// A listener for each HTTP port that some service has. Until connections are intercepted they
/// listen on loopback, under the names that Istio gives them.
pub fn build_listeners(compiler: &mut Compiler<'_>) -> Vec<Arc<Listener>> {
    let mut ports: BTreeMap<u16, Origin> = BTreeMap::new();
    for service in &compiler.registry.services {
        for port in service
            .ports
            .iter()
            .filter(|port| port.protocol.is_http_or_sniffed())
        {
            if let Ok(number) = u16::try_from(port.number) {
                ports
                    .entry(number)
                    .or_insert_with(|| service.origin.clone());
            }
        }
    }
    let rules = mesh_rules(compiler);
    let listeners = ports.into_iter().map(|(number, origin)| {
        let table = build_table(number, &rules, compiler);
        Arc::new(Listener {
            name: format!("0.0.0.0_{number}"),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, number)),
            direction: Direction::Outbound,
            kind: ListenerKind::Http(Arc::new(table)),
            gateways: Vec::new(),
            origin: Some(origin),
        })
    });
    listeners.collect()
}

/// A VirtualService of the mesh with its hosts, fully qualified and lower-case.
struct MeshRule<'r> {
    /// Among all VirtualServices.
    index: usize,
    object: &'r Object<VirtualService>,
    hosts: Vec<String>,
}

/// What applies to the sidecar at hand, and which rule has the most specific wildcard for each
/// service that none names exactly.
struct MeshRules<'r> {
    rules: Vec<MeshRule<'r>>,
    by_wildcard: HashMap<String, usize>,
}

fn mesh_rules<'r>(compiler: &Compiler<'r>) -> MeshRules<'r> {
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
    let rules: Vec<MeshRule<'r>> = selected
        .into_iter()
        .map(|(index, object)| {
            let hosts = resolved_hosts(object, settings);
            let hosts = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
            MeshRule {
                index,
                object,
                hosts,
            }
        })
        .collect();
    let mut by_wildcard = HashMap::new();
    for service in &compiler.registry.services {
        let wildcards = rules.iter().enumerate().flat_map(|(at, rule)| {
            let hosts = rule.hosts.iter().filter(|host| is_wildcard(host));
            hosts.map(move |host| (host, at))
        });
        let covering = wildcards.filter(|(host, _)| is_subset(&service.host, host));
        let best = covering.min_by(|a, b| by_specificity(a.0, b.0).then(a.1.cmp(&b.1)));
        if let Some((_, at)) = best {
            by_wildcard.insert(service.host.clone(), at);
        }
    }
    MeshRules { rules, by_wildcard }
}

/// The services of one port, each host once.
fn services_of_port(registry: &Registry, port: u32) -> Vec<&Service> {
    let mut seen = BTreeSet::new();
    let mut services = Vec::new();
    for service in &registry.services {
        if seen.insert(service.host.as_str()) {
            services.extend(registry.all(&service.host).find(|s| s.port(port).is_some()));
        }
    }
    services
}

/// Builds the virtual hosts of one port, in Istio's order: by rule, then the services without.
struct TableBuilder<'a, 'r> {
    compiler: &'a mut Compiler<'r>,
    table: String,
    port: u32,
    names: HashSet<String>,
    /// Who has a domain.
    domains: HashMap<String, Option<Origin>>,
    /// Hosts of services, which no abbreviation of another host may take.
    full_names: HashSet<String>,
    virtual_hosts: Vec<VirtualHost>,
}

fn build_table(number: u16, rules: &MeshRules<'_>, compiler: &mut Compiler<'_>) -> RouteTable {
    let port = u32::from(number);
    let mut builder = TableBuilder {
        table: number.to_string(),
        port,
        names: HashSet::new(),
        domains: HashMap::new(),
        full_names: HashSet::new(),
        virtual_hosts: Vec::new(),
        compiler,
    };
    builder.build(rules);
    let TableBuilder {
        table,
        mut virtual_hosts,
        compiler,
        ..
    } = builder;
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    virtual_hosts.push(catch_all(&table, compiler));
    RouteTable::new(table, virtual_hosts)
}

/// Routes and the hosts that they are for: some of services, some of the rule alone.
struct Group {
    routes: Vec<Route>,
    rule_hosts: Vec<(String, Origin)>,
    services: Vec<usize>,
}

impl TableBuilder<'_, '_> {
    fn build(&mut self, rules: &MeshRules<'_>) {
        let registry = std::mem::take(&mut self.compiler.registry);
        let services = services_of_port(&registry, self.port);
        let by_host: HashMap<&str, usize> = services
            .iter()
            .enumerate()
            .map(|(at, service)| (service.host.as_str(), at))
            .collect();
        let mut groups = Vec::new();
        for (at, rule) in rules.rules.iter().enumerate() {
            // On port 80 a rule counts for hosts that no service has; elsewhere it needs one.
            let selected = self.port == 80
                || rule.hosts.iter().any(|host| {
                    by_host.contains_key(host.as_str())
                        || services.iter().any(|service| {
                            (is_wildcard(host) || is_wildcard(&service.host))
                                && overlap(host, &service.host)
                        })
                });
            if selected {
                groups.extend(self.group(at, rule, rules, &services, &by_host, &registry));
            }
        }
        let ruled: HashSet<usize> = groups
            .iter()
            .flat_map(|group| group.services.iter().copied())
            .collect();
        for (at, service) in services.iter().enumerate() {
            let speaks_http = service
                .port(self.port)
                .is_some_and(|port| port.protocol.is_http_or_sniffed());
            if service.alias_of.is_some() && registry.find_concrete(service).is_some() {
                continue;
            }
            if !ruled.contains(&at) && speaks_http {
                let target = service.alias_of.as_deref().unwrap_or(&service.host);
                let cluster = cluster_name(self.port, "", target);
                let operation = format!("{}:{}/*", service.host, self.port);
                let route = default_route(&cluster, &self.compiler.clusters, operation);
                let (routes, rule_hosts) = (vec![route], Vec::new());
                groups.push(Group {
                    routes,
                    rule_hosts,
                    services: vec![at],
                });
            }
        }
        for group in &groups {
            let hosts = group.services.iter().map(|at| services[*at].host.clone());
            self.full_names.extend(hosts);
        }
        for group in groups {
            for (host, origin) in &group.rule_hosts {
                let domains = vec![(host.clone(), false)];
                self.add(host, domains, &group.routes, Some(origin));
            }
            for at in &group.services {
                let service = services[*at];
                let domains = domains_of(service, self.compiler.settings);
                let origin = group.routes.first().and_then(|route| route.origin.clone());
                self.add(&service.host, domains, &group.routes, origin.as_ref());
            }
        }
        self.compiler.registry = registry;
    }

    fn group(
        &mut self,
        at: usize,
        rule: &MeshRule<'_>,
        rules: &MeshRules<'_>,
        services: &[&Service],
        by_host: &HashMap<&str, usize>,
        registry: &Registry,
    ) -> Option<Group> {
        let scope = RouteScope {
            settings: self.compiler.settings,
            registry,
            clusters: &self.compiler.clusters,
            gateway: MESH,
            listen_port: self.port,
            rule_namespace: &rule.object.metadata.namespace,
        };
        let rules_of_it = &self.compiler.http_rules[rule.index];
        let findings = &mut self.compiler.findings;
        let routes = build_routes(&rule.object.metadata, rules_of_it, &scope, findings);
        if routes.is_empty() {
            return None;
        }
        let mut group = Group {
            routes,
            rule_hosts: Vec::new(),
            services: Vec::new(),
        };
        let (wildcards, exact): (Vec<_>, Vec<_>) = rule
            .hosts
            .iter()
            .enumerate()
            .partition(|(_, host)| is_wildcard(host));
        for (index, host) in exact.into_iter().chain(wildcards) {
            let origin = || {
                let place = FieldPath::root().field("spec").field("hosts").index(index);
                rule.object.metadata.origin(place)
            };
            if !is_wildcard(host) {
                match by_host.get(host.as_str()) {
                    Some(service) => group.services.push(*service),
                    None => group.rule_hosts.push((host.clone(), origin())),
                }
                continue;
            }
            let mut covers_any = false;
            for (service_at, service) in services.iter().enumerate() {
                if overlap(&service.host, host) {
                    covers_any = true;
                    if rules.by_wildcard.get(&service.host) == Some(&at) {
                        group.services.push(service_at);
                    }
                }
            }
            if !covers_any {
                group.rule_hosts.push((host.clone(), origin()));
            }
        }
        let speaks_http = |at: &usize| {
            let port = services[*at].port(self.port);
            port.is_some_and(|port| port.protocol.is_http_or_sniffed())
        };
        group.services.retain(speaks_http);
        if group.services.is_empty() && self.port != 80 {
            return None;
        }
        Some(group)
    }

    /// Adds a virtual host with those of the domains that are free; `true` marks a domain that
    /// abbreviates the host.
    fn add(
        &mut self,
        host: &str,
        domains: Vec<(String, bool)>,
        routes: &[Route],
        origin: Option<&Origin>,
    ) {
        let name = format!("{host}:{}", self.port);
        if !self.names.insert(name.clone()) {
            self.report_duplicate(host, origin);
            return;
        }
        let mut free = Vec::new();
        for (domain, abbreviates) in domains {
            let domain = domain.to_ascii_lowercase();
            if abbreviates && self.full_names.contains(&domain) {
                continue;
            }
            if self.domains.contains_key(&domain) {
                self.report_duplicate(&domain, origin);
                continue;
            }
            self.domains.insert(domain.clone(), origin.cloned());
            free.push(domain);
        }
        if free.is_empty() {
            return;
        }
        let Compiler {
            splits, findings, ..
        } = self.compiler;
        self.virtual_hosts
            .push(splits.finish(&self.table, name, free, routes.to_vec(), findings));
    }

    /// Says who keeps a domain. Only what users wrote twice is worth a word.
    fn report_duplicate(&mut self, domain: &str, origin: Option<&Origin>) {
        let Some(origin) = origin else { return };
        let winner = self.domains.get(domain).cloned().flatten();
        if winner
            .as_ref()
            .is_some_and(|winner| winner.document == origin.document)
        {
            return;
        }
        let place = Place::Field(Origin {
            document: origin.document,
            field: FieldPath::root().field("spec").field("hosts"),
        });
        let by = winner
            .as_ref()
            .and_then(|winner| self.compiler.name_of(winner.document))
            .map_or_else(|| "another one".to_string(), |name| format!("`{name}`"));
        let message = format!(
            "the host `{domain}` is taken by the older VirtualService {by}; in a sidecar they are not merged"
        );
        let help = "write both into one VirtualService";
        let mut warning = Diagnostic::warning("duplicate-host", place, message).with_help(help);
        if let Some(winner) = winner {
            let hosts = FieldPath::root().field("spec").field("hosts");
            let document = winner.document;
            let origin = Origin {
                document,
                field: hosts,
            };
            warning = warning.with_related(origin, "the hosts of the one that wins");
        }
        self.compiler.findings.add(warning);
    }
}

/// How a service may be called from the namespace of the workload; `true` marks abbreviations.
fn domains_of(service: &Service, settings: &ProxySettings) -> Vec<(String, bool)> {
    let mut domains = Vec::new();
    let hosts = std::iter::once(&service.host).chain(&service.aliases);
    for host in hosts {
        domains.push((host.clone(), false));
        if host.parse::<std::net::IpAddr>().is_err() {
            domains.push((format!("{host}."), true));
        }
        let suffix = format!(".svc.{}", settings.domain_suffix);
        let kubernetes = host
            .strip_suffix(&suffix)
            .filter(|_| !settings.domain_suffix.is_empty());
        if let Some((name, namespace)) = kubernetes.and_then(|short| short.split_once('.'))
            && !namespace.contains('.')
        {
            if namespace == settings.namespace {
                domains.push((name.to_string(), true));
            }
            domains.push((format!("{name}.{namespace}.svc"), true));
            domains.push((format!("{name}.{namespace}"), true));
        }
    }
    if service.is_kubernetes && service.resolution == Resolution::Passthrough {
        let each = domains.clone();
        domains.extend(
            each.into_iter()
                .map(|(domain, short)| (format!("*.{domain}"), short)),
        );
    }
    for address in &service.addresses {
        match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V6(_)) => domains.push((format!("[{address}]"), false)),
            Ok(std::net::IpAddr::V4(_)) => domains.push((address.clone(), false)),
            Err(_) => {}
        }
    }
    domains
}

/// What becomes of requests for hosts that nobody declared.
fn catch_all(table: &str, compiler: &mut Compiler<'_>) -> VirtualHost {
    let mut route = default_route(PASSTHROUGH, &compiler.clusters, String::new());
    let name = match compiler.settings.outbound_traffic_policy {
        OutboundTrafficPolicy::AllowAny => "allow_any",
        OutboundTrafficPolicy::RegistryOnly => {
            route.action = RouteAction::DirectResponse {
                status: 502,
                body: Vec::new(),
            };
            "block_all"
        }
    };
    route.name = name.to_string();
    route.retry = None;
    let domains = vec!["*".to_string()];
    let Compiler {
        splits, findings, ..
    } = compiler;
    splits.finish(table, name.to_string(), domains, vec![route], findings)
}
