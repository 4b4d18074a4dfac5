//! Route tables of a gateway: hosts merged over VirtualServices.

use std::collections::{BTreeMap, HashMap};

use super::Compiler;
use super::gateway_bindings::is_for_mesh;
use super::gateways::BoundServer;
use super::names::{intersection, is_exported, resolve_gateway, resolve_short_name};
use super::route_list::RouteList;
use super::routes::{RouteScope, build_routes};
use crate::resource::Object;
use crate::resource::virtual_service::VirtualService;
use crate::settings::ProxySettings;
use crate::snapshot::{ExcludedRoute, ExcludedRule, RouteTable, VirtualHost};
use crate::source::FieldPath;

/// A virtual host while VirtualServices are being added to it.
struct Draft {
    name: String,
    /// Which lists of routes it gets, in order.
    sources: Vec<usize>,
    https_redirect: bool,
}

/// The table of servers that requests may come to on one chain. Istio's name of it is given.
pub fn build_table(
    table_name: String,
    servers: &[BoundServer<'_>],
    compiler: &mut Compiler<'_>,
) -> RouteTable {
    let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
    // The routes of a VirtualService for a gateway, built once for all its hosts.
    let mut lists: Vec<RouteList> = Vec::new();
    let mut built: HashMap<(&str, usize), usize> = HashMap::new();
    let mut excluded = Vec::new();
    for bound in servers {
        let listen_port = bound.server.port.number;
        let redirects = bound
            .server
            .tls
            .as_ref()
            .is_some_and(|tls| tls.https_redirect);
        excluded.extend(hidden_rules(bound, compiler));
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
                    is_tls: bound.terminates_https(),
                    rule_namespace: &object.metadata.namespace,
                };
                let rules = &compiler.http_rules[at];
                let findings = &mut compiler.findings;
                lists.push(build_routes(&object.metadata, rules, &scope, findings));
                lists.len() - 1
            });
            if lists[source].routes.is_empty() {
                excluded.push(ExcludedRule {
                    hosts: shared
                        .iter()
                        .map(|host| host.to_ascii_lowercase())
                        .collect(),
                    routes: lists[source].excluded.clone(),
                });
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
    let virtual_hosts = match drafts.is_empty() {
        true => {
            let number = servers.first().map_or(0, |bound| bound.server.port.number);
            let name = format!("blackhole:{number}");
            let any = vec!["*".to_string()];
            let (splits, findings) = (&mut compiler.splits, &mut compiler.findings);
            vec![splits.finish(&table_name, name, any, RouteList::default(), findings)]
        }
        false => virtual_hosts(&table_name, drafts, lists, compiler),
    };
    let mut table = RouteTable::new(table_name, virtual_hosts);
    table.excluded = excluded;
    table
}

/// The virtual hosts that the drafts come to, with their routes taken out of `lists`.
fn virtual_hosts(
    table_name: &str,
    drafts: BTreeMap<String, Draft>,
    mut lists: Vec<RouteList>,
    compiler: &mut Compiler<'_>,
) -> Vec<VirtualHost> {
    let collapsed = collapse(drafts);
    let mut uses = vec![0_usize; lists.len()];
    for source in collapsed.iter().flat_map(|(draft, _)| &draft.sources) {
        uses[*source] += 1;
    }
    let mut virtual_hosts = Vec::with_capacity(collapsed.len());
    for (draft, domains) in collapsed {
        let mut routes = RouteList::default();
        for source in draft.sources {
            uses[source] -= 1;
            routes.append(match uses[source] {
                0 => std::mem::take(&mut lists[source]),
                _ => lists[source].clone(),
            });
        }
        routes.put_catch_alls_last();
        let (splits, findings) = (&mut compiler.splits, &mut compiler.findings);
        let mut host = splits.finish(table_name, draft.name, domains, routes, findings);
        host.https_redirect = draft.https_redirect;
        virtual_hosts.push(host);
    }
    virtual_hosts
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
pub fn services_of_gateway<'r>(
    compiler: &Compiler<'r>,
    gateway: &str,
) -> Vec<(usize, &'r Object<VirtualService>)> {
    compiler.virtual_services(|object| names(object, gateway) && is_visible(object, compiler))
}

fn names(object: &Object<VirtualService>, gateway: &str) -> bool {
    let mut gateways = object.spec.gateways.iter();
    gateways.any(|name| resolve_gateway(name, &object.metadata.namespace) == gateway)
}

fn is_visible(object: &Object<VirtualService>, compiler: &Compiler<'_>) -> bool {
    let namespace = &compiler.settings.namespace;
    is_exported(
        &object.spec.export_to,
        &object.metadata.namespace,
        namespace,
    )
}

/// Those that name the gateway of a server and are kept from it, and those that name none, for
/// those who ask why.
fn hidden_rules(bound: &BoundServer<'_>, compiler: &Compiler<'_>) -> Vec<ExcludedRule> {
    let hidden = compiler.virtual_services(|object| {
        is_for_mesh(object) || names(object, &bound.gateway) && !is_visible(object, compiler)
    });
    let rules = hidden.into_iter().map(|(_, object)| {
        let because = match is_for_mesh(object) {
            true => "it names no gateway, so it is for sidecars".to_string(),
            false => format!(
                "its exportTo keeps it from namespace {}",
                compiler.settings.namespace
            ),
        };
        let hosts = resolved_hosts(object, compiler.settings);
        let routes = object.spec.http.iter().enumerate();
        let routes = routes.map(|(index, rule)| ExcludedRoute {
            name: rule.name.clone(),
            origin: object
                .metadata
                .origin(FieldPath::root().field("spec").field("http").index(index)),
            because: because.clone(),
            position: 0,
        });
        ExcludedRule {
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            routes: routes.collect(),
        }
    });
    rules.collect()
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
pub fn hosts_for(bound: &BoundServer<'_>, namespace: &str) -> Vec<String> {
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
