//! What DestinationRules say that no request or connection of this proxy ever meets.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Compiler;
use super::names::{is_exported, is_wildcard, resolve_short_name};
use super::reached::Reached;
use super::registry::Service;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::resource::destination_rule::{DestinationRule, LoadBalancer};
use crate::resource::virtual_service::{Destination, VirtualService};
use crate::snapshot::{Cluster, ClusterId, Discovery, Locality};
use crate::source::{FieldPath, Origin};

/// Warns of subsets that no route names, of tunnels where all that comes is requests, of failover
/// to regions without endpoints, and of rules that their `exportTo` or their namespace keeps from
/// this proxy.
pub fn report(reached: &Reached, compiler: &mut Compiler<'_>) {
    let mut told = Vec::new();
    unnamed_subsets(compiler, &mut told);
    tunnels_of_requests(reached, compiler, &mut told);
    empty_regions(compiler, &mut told);
    kept_from_here(reached, compiler, &mut told);
    for warning in told {
        compiler.findings.add(warning);
    }
}

fn host_of(rule: &Object<DestinationRule>, compiler: &Compiler<'_>) -> String {
    let suffix = &compiler.settings.domain_suffix;
    let host = resolve_short_name(&rule.spec.host, &rule.metadata.namespace, suffix);
    host.to_ascii_lowercase()
}

fn in_spec(field: &str) -> FieldPath {
    FieldPath::root().field("spec").field(field)
}

/// Subsets of a host that routes lead to, where they name other subsets of it, or where this one
/// has a policy of its own. Without any route the subsets may be for those that are still to come.
fn unnamed_subsets(compiler: &Compiler<'_>, told: &mut Vec<Diagnostic>) {
    let resources = compiler.resources;
    let mut rules = resources.destination_rules.iter();
    if rules.all(|rule| rule.spec.subsets.is_empty()) {
        return;
    }
    let servers = resources.gateways.iter().flat_map(|one| &one.spec.servers);
    let modes = servers.filter_map(|server| server.tls.as_ref()?.mode.as_deref());
    // There the client names the subset.
    if modes.into_iter().any(|mode| mode == "AUTO_PASSTHROUGH") {
        return;
    }
    let mut named: HashMap<String, HashSet<&str>> = HashMap::new();
    for object in &resources.virtual_services {
        for destination in destinations(&object.spec) {
            let namespace = &object.metadata.namespace;
            let suffix = &compiler.settings.domain_suffix;
            let host = resolve_short_name(&destination.host, namespace, suffix);
            let subsets = named.entry(host.to_ascii_lowercase()).or_default();
            if !destination.subset.is_empty() {
                subsets.insert(&destination.subset);
            }
        }
    }
    for rule in &resources.destination_rules {
        let Some(named) = named.get(&host_of(rule, compiler)) else {
            continue;
        };
        let subsets = &rule.spec.subsets;
        let is_named = |name: &str| named.contains(name);
        let is_routed_by_subset = subsets.iter().any(|one| is_named(&one.name));
        for (at, subset) in subsets.iter().enumerate() {
            let is_expected = is_routed_by_subset || subset.traffic_policy.is_some();
            if is_named(&subset.name) || !is_expected {
                continue;
            }
            let message = format!(
                "no route names the subset `{}`: nothing is sent to it by that name",
                subset.name
            );
            let help = format!(
                "write `subset: {}` in a `destination` of a VirtualService, or remove it",
                subset.name
            );
            let place = rule.metadata.origin(in_spec("subsets").index(at));
            told.push(
                Diagnostic::warning("no-effect", Place::Field(place), message).with_help(help),
            );
        }
    }
}

/// Everything that a VirtualService sends to, mirrors included.
fn destinations(spec: &VirtualService) -> impl Iterator<Item = &Destination> {
    let of_http = spec.http.iter().flat_map(|rule| {
        let routes = rule.route.iter().map(|route| &route.destination);
        let mirrors = rule
            .mirrors
            .iter()
            .filter_map(|one| one.destination.as_ref());
        routes.chain(&rule.mirror).chain(mirrors)
    });
    let of_tls = spec.tls.iter().flat_map(|rule| &rule.route);
    let of_tcp = spec.tcp.iter().flat_map(|rule| &rule.route);
    of_http.chain(of_tls.chain(of_tcp).map(|route| &route.destination))
}

/// Istio: `applyTunnelingConfig`, for filters of TCP alone.
fn tunnels_of_requests(reached: &Reached, compiler: &Compiler<'_>, told: &mut Vec<Diagnostic>) {
    let mut by_origin: HashMap<&Origin, (bool, &Cluster)> = HashMap::new();
    let mut order = Vec::new();
    for (at, cluster) in compiler.clusters.list.iter().enumerate() {
        let id = ClusterId(at as u32);
        if !reached.has(id) {
            continue;
        }
        let Some(origin) = &cluster.policy_origins.tunnel else {
            continue;
        };
        let known = by_origin.entry(origin).or_insert_with(|| {
            order.push(origin);
            (false, cluster)
        });
        known.0 |= reached.by_bytes.contains(&id);
    }
    for origin in order {
        let (has_bytes, cluster) = by_origin[origin];
        if has_bytes {
            continue;
        }
        let message = format!(
            "tunnels are for connections of TCP, and `{}` only gets requests here: they go there \
             without one",
            cluster.service.host
        );
        let help = "remove it, or route to the host by `tcp` or `tls`";
        let place = Place::Key(origin.clone());
        told.push(Diagnostic::warning("no-effect", place, message).with_help(help));
    }
}

/// Failover goes on to endpoints that are there; regions that are not named come last anyway.
fn empty_regions(compiler: &Compiler<'_>, told: &mut Vec<Diagnostic>) {
    let mut asked = Vec::new();
    for rule in &compiler.resources.destination_rules {
        for (place, balancer) in balancers(&rule.spec) {
            let setting = balancer.locality_lb_setting.as_ref();
            let setting = setting.filter(|one| one.enabled != Some(false));
            if let Some(setting) = setting.filter(|one| !one.failover.is_empty()) {
                let origin = rule.metadata.origin(place);
                asked.push((origin, &rule.spec.host, &setting.failover));
            }
        }
    }
    if asked.is_empty() {
        return;
    }
    // `None` where not all of its endpoints say where they are.
    let mut regions: HashMap<&Origin, Option<BTreeSet<String>>> = HashMap::new();
    for (origin, ..) in &asked {
        regions.insert(origin, Some(BTreeSet::new()));
    }
    for cluster in &compiler.clusters.list {
        let origin = cluster.policy_origins.load_balancer.as_ref();
        let Some(known) = origin.and_then(|origin| regions.get_mut(origin)) else {
            continue;
        };
        *known = known
            .take()
            .zip(regions_of(cluster))
            .map(|(known, more)| &known | &more);
    }
    for (origin, host, failover) in &asked {
        let known = regions.get(origin).and_then(Option::as_ref);
        let Some(known) = known.filter(|known| !known.is_empty()) else {
            continue;
        };
        for (at, rule) in failover.iter().enumerate() {
            if known.contains(&rule.to) {
                continue;
            }
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let message = format!(
                "no endpoint of `{host}` is in the region `{}`: nothing fails over to it",
                rule.to
            );
            let help = format!("write a region that has endpoints: {}", names.join(", "));
            let field = origin.field.field("localityLbSetting").field("failover");
            let place = Place::Field(Origin {
                document: origin.document,
                field: field.index(at).field("to"),
            });
            told.push(Diagnostic::warning("no-effect", place, message).with_help(help));
        }
    }
}

/// The regions of all endpoints, where there are some and all of them say.
fn regions_of(cluster: &Cluster) -> Option<BTreeSet<String>> {
    if cluster.discovery != Discovery::Static || cluster.endpoints.is_empty() {
        return None;
    }
    let endpoints = cluster.endpoints.iter();
    let regions = endpoints.map(|endpoint| Locality::parse(&endpoint.locality).region);
    regions
        .map(|region| (!region.is_empty()).then_some(region))
        .collect()
}

/// Every `loadBalancer` of a rule, with its place.
fn balancers(spec: &DestinationRule) -> Vec<(FieldPath, &LoadBalancer)> {
    let mut found = Vec::new();
    let subsets = spec.subsets.iter().enumerate().map(|(at, subset)| {
        (
            in_spec("subsets").index(at).field("trafficPolicy"),
            &subset.traffic_policy,
        )
    });
    for (place, policy) in
        std::iter::once((in_spec("trafficPolicy"), &spec.traffic_policy)).chain(subsets)
    {
        let Some(policy) = policy else { continue };
        let own = policy.load_balancer.iter();
        found.extend(own.map(|one| (place.field("loadBalancer"), one)));
        for (at, port) in policy.port_level_settings.iter().enumerate() {
            let place = place
                .field("portLevelSettings")
                .index(at)
                .field("loadBalancer");
            found.extend(port.load_balancer.iter().map(|one| (place.clone(), one)));
        }
    }
    found
}

/// Rules for what this proxy sends to and no other rule governs, which are not looked at: they are
/// not exported to its namespace, or stand in one where nobody looks. Istio: `destinationRule`,
/// which asks the namespace of the client, that of the service and the root namespace.
fn kept_from_here(reached: &Reached, compiler: &Compiler<'_>, told: &mut Vec<Diagnostic>) {
    let settings = compiler.settings;
    let own = settings.namespace.as_str();
    let rules = compiler.resources.destination_rules.iter();
    let mut foreign = rules
        .filter(|rule| rule.metadata.namespace != own && rule.spec.workload_selector.is_none())
        .peekable();
    if foreign.peek().is_none() {
        return;
    }
    let clusters = compiler.clusters.list.iter().enumerate();
    let clusters = clusters.filter(|(at, _)| reached.has(ClusterId(*at as u32)));
    let hosts: HashSet<&str> = clusters.map(|(_, one)| one.service.host.as_str()).collect();
    for rule in foreign {
        let namespace = rule.metadata.namespace.as_str();
        let host = host_of(rule, compiler);
        if !hosts.contains(host.as_str()) || is_wildcard(&host) {
            continue;
        }
        let services: Vec<_> = compiler.registry.all(&host).collect();
        let is_asked = namespace == settings.root_namespace
            || services.iter().any(|one| one.namespace == namespace);
        if is_asked && is_exported(&rule.spec.export_to, namespace, own) {
            continue;
        }
        let is_governed = |service: &&Service| compiler.policies.find(service).is_some();
        if services.is_empty() || services.iter().any(is_governed) {
            continue;
        }
        let (field, message, help) = match is_asked {
            true => (
                "exportTo",
                format!(
                    "`exportTo` keeps this rule from namespace `{own}`, which this proxy is in and \
                     sends to `{host}` from: it governs nothing here"
                ),
                format!("add `{own}` or `*` to it"),
            ),
            false => (
                "host",
                format!(
                    "rules are looked up in the namespace of the client, `{own}`, and in that of \
                     the service, `{}`: this one in `{namespace}` governs nothing of what is sent \
                     to `{host}` here",
                    services[0].namespace
                ),
                match services[0].namespace == own {
                    true => format!("write `namespace: {own}` in its metadata"),
                    false => format!(
                        "write `namespace: {}` in its metadata, for all clients, or `namespace: \
                         {own}`, for those of it",
                        services[0].namespace
                    ),
                },
            ),
        };
        let place = Place::Field(rule.metadata.origin(in_spec(field)));
        told.push(Diagnostic::warning("no-effect", place, message).with_help(help));
    }
}
