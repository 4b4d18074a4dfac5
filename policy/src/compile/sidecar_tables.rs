//! Route tables of a sidecar: the services and rules of one port, by Host.

use std::collections::{HashMap, HashSet};

use super::Compiler;
use super::findings::NAMESAKE_HELP;
use super::names::{MESH, cluster_name, is_wildcard, overlap};
use super::registry::{Registry, Resolution, Service};
use super::route_list::RouteList;
use super::routes::{RouteScope, build_routes, default_route};
use super::sidecar_scope::{EgressScope, Scope};
use crate::diagnostic::{Diagnostic, Place};
use crate::settings::{OutboundTrafficPolicy, ProxySettings};
use crate::snapshot::{BLOCK_ALL, ExcludedRule, RouteAction, RouteTable, VirtualHost};
use crate::source::{FieldPath, Origin};

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
    /// Rules without a route for this port.
    excluded: Vec<ExcludedRule>,
}

/// The table of a port, for requests that leave by `egress`. Istio's name of it is given.
pub fn build_table(
    table: String,
    port: u32,
    egress: &EgressScope<'_>,
    scope: &Scope<'_>,
    compiler: &mut Compiler<'_>,
) -> RouteTable {
    let mut builder = TableBuilder {
        table,
        port,
        names: HashSet::new(),
        domains: HashMap::new(),
        full_names: HashSet::new(),
        virtual_hosts: Vec::new(),
        excluded: Vec::new(),
        compiler,
    };
    builder.build(egress);
    let TableBuilder {
        table,
        mut virtual_hosts,
        excluded,
        compiler,
        ..
    } = builder;
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    virtual_hosts.push(catch_all(&table, scope, compiler));
    let mut table = RouteTable::new(table, virtual_hosts);
    table.excluded = excluded;
    table
}

/// Routes and the hosts that they are for: some of services, some of the rule alone.
struct Group {
    routes: RouteList,
    rule_hosts: Vec<(String, Origin)>,
    services: Vec<usize>,
}

impl TableBuilder<'_, '_> {
    fn build(&mut self, egress: &EgressScope<'_>) {
        let registry = std::mem::take(&mut self.compiler.registry);
        let services = egress.services.iter().map(|at| &registry.services[*at]);
        let services: Vec<&Service> = services
            .filter(|service| service.port(self.port).is_some())
            .collect();
        let by_host: HashMap<&str, usize> = services
            .iter()
            .enumerate()
            .map(|(at, service)| (service.host.as_str(), at))
            .collect();
        let mut groups = Vec::new();
        for (at, rule) in egress.rules.iter().enumerate() {
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
                groups.extend(self.group(at, egress, &services, &by_host, &registry));
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
            let is_circle = service.alias_of.is_some() && service.leads_to.is_none();
            if is_circle || registry.find_concrete(service).is_some() {
                continue;
            }
            if !ruled.contains(&at) && speaks_http {
                let target = service.leads_to.as_deref().unwrap_or(&service.host);
                let cluster = cluster_name(self.port, "", target);
                let operation = format!("{}:{}/*", service.host, self.port);
                let route = default_route(&cluster, &self.compiler.clusters, operation);
                let (routes, rule_hosts) = (route.into(), Vec::new());
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
                let origin = group
                    .routes
                    .routes
                    .first()
                    .and_then(|route| route.origin.clone());
                self.add(&service.host, domains, &group.routes, origin.as_ref());
            }
        }
        self.compiler.registry = registry;
    }

    fn group(
        &mut self,
        at: usize,
        egress: &EgressScope<'_>,
        services: &[&Service],
        by_host: &HashMap<&str, usize>,
        registry: &Registry,
    ) -> Option<Group> {
        let rule = &egress.rules[at];
        let scope = RouteScope {
            settings: self.compiler.settings,
            registry,
            clusters: &self.compiler.clusters,
            gateway: MESH,
            listen_port: self.port,
            is_tls: false,
            rule_namespace: &rule.object.metadata.namespace,
        };
        let rules_of_it = &self.compiler.http_rules[rule.index];
        let findings = &mut self.compiler.findings;
        let routes = build_routes(&rule.object.metadata, rules_of_it, &scope, findings);
        if routes.routes.is_empty() {
            self.compiler.bound_rules.insert(rule.index);
            if !routes.excluded.is_empty() {
                self.excluded.push(ExcludedRule {
                    hosts: rule.hosts.clone(),
                    routes: routes.excluded,
                });
            }
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
                    if egress.most_specific.get(&service.host) == Some(&at) {
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
        if !group.services.is_empty() || !group.rule_hosts.is_empty() {
            self.compiler.bound_rules.insert(rule.index);
        }
        Some(group)
    }

    /// Adds a virtual host with those of the domains that are free; `true` marks a domain that
    /// abbreviates the host.
    fn add(
        &mut self,
        host: &str,
        domains: Vec<(String, bool)>,
        routes: &RouteList,
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
            .push(splits.finish(&self.table, name, free, routes.clone(), findings));
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
        let findings = &self.compiler.findings;
        let document = winner.as_ref().map(|winner| winner.document);
        let is_namesake =
            document.is_some_and(|document| findings.are_namesakes(document, origin.document));
        let by = match document.and_then(|document| findings.name_of(document)) {
            Some(name) if is_namesake => format!("another document of the name `{name}`"),
            Some(name) => format!("the older VirtualService `{name}`"),
            None => "an older VirtualService".to_string(),
        };
        let message =
            format!("the host `{domain}` is taken by {by}; in a sidecar they are not merged");
        let help = match is_namesake {
            true => NAMESAKE_HELP,
            false => "write both into one VirtualService",
        };
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
fn catch_all(table: &str, scope: &Scope<'_>, compiler: &mut Compiler<'_>) -> VirtualHost {
    let cluster = scope.passthrough_cluster(compiler.settings);
    let mut route = default_route(&cluster, &compiler.clusters, String::new());
    let name = match scope.policy {
        OutboundTrafficPolicy::AllowAny => "allow_any",
        OutboundTrafficPolicy::RegistryOnly => {
            route.action = RouteAction::DirectResponse {
                status: 502,
                body: Vec::new(),
            };
            BLOCK_ALL
        }
    };
    route.name = name.to_string();
    route.retry = None;
    let domains = vec!["*".to_string()];
    let Compiler {
        splits, findings, ..
    } = compiler;
    splits.finish(table, name.to_string(), domains, route.into(), findings)
}
