//! What changed between two configurations, listener by listener and cluster by cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::Side;
use super::fate::{Fate, by_name, endpoint_changes, endpoints};
use super::left_out::LeftOut;
use super::same_route::{Services, in_order, matched};
use super::unrouted::{Other, filter_chains, other_documents};
use crate::explain::Written;
use crate::explain::cluster_view::cluster_settings;
use crate::explain::places::{Places, locate};
use crate::explain::wording::of_conditions;
use crate::snapshot::{
    Cluster, ExcludedRoute, ExcludedRule, Listener, Route, RouteTable, VirtualHost,
};
use crate::source::Origin;

/// All changes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct StructureDifference {
    pub changes: Vec<Change>,
}

/// What happened to something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
    /// A route that is asked earlier or later than before.
    Moved,
}

impl ChangeKind {
    /// Of something that was there, is there, or both.
    fn of(was: bool, is: bool) -> Self {
        match (was, is) {
            (false, _) => Self::Added,
            (true, false) => Self::Removed,
            (true, true) => Self::Changed,
        }
    }
}

/// One change.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub kind: ChangeKind,
    /// `listener 0.0.0.0_8080`, `virtual host shop.example.com:8080`, and the route.
    pub path: Vec<String>,
    pub details: Vec<Detail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Written>,
    /// The same change of the same route elsewhere: a VirtualService may be in several virtual
    /// hosts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also_in: Vec<String>,
    #[serde(skip)]
    origins: [Option<Origin>; 2],
}

/// A value before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    pub name: String,
    pub old: String,
    pub new: String,
}

impl Detail {
    pub(super) fn of(differences: Vec<(String, String, String)>) -> Vec<Self> {
        let each = differences.into_iter();
        each.map(|(name, old, new)| Self { name, old, new })
            .collect()
    }
}

/// Compares two configurations.
pub fn structure(old: Side<'_>, new: Side<'_>) -> StructureDifference {
    let mut walk = Walk {
        old,
        new,
        services: [Services::of(old), Services::of(new)],
        changes: Vec::new(),
        known: HashMap::new(),
    };
    if old.snapshot.settings != new.snapshot.settings {
        walk.add(
            ChangeKind::Changed,
            &["ProxySettings"],
            Vec::new(),
            [None, None],
        );
    }
    walk.listeners();
    walk.clusters();
    walk.other_documents();
    let mut changes = walk.changes;
    let origins = |at: usize| {
        changes
            .iter()
            .filter_map(move |one| one.origins[at].clone())
    };
    let old_places = locate(old.files, origins(0));
    let new_places = locate(new.files, origins(1));
    for change in &mut changes {
        let [before, after] = &change.origins;
        change.old = before
            .as_ref()
            .and_then(|origin| old_places.get(origin).cloned());
        change.new = after
            .as_ref()
            .and_then(|origin| new_places.get(origin).cloned());
    }
    StructureDifference { changes }
}

struct Walk<'s> {
    old: Side<'s>,
    new: Side<'s>,
    services: [Services; 2],
    changes: Vec<Change>,
    /// Where a change of a route was told already.
    known: HashMap<(ChangeKind, String, [Option<Origin>; 2]), usize>,
}

/// Both lists by name: what only the first has, what both have, what only the second has. In the
/// order of the names.
fn paired<'t, T>(
    old: impl Iterator<Item = (String, &'t T)>,
    new: impl Iterator<Item = (String, &'t T)>,
) -> BTreeMap<String, (Option<&'t T>, Option<&'t T>)> {
    let mut pairs: BTreeMap<String, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for (name, one) in old {
        pairs.entry(name).or_default().0.get_or_insert(one);
    }
    for (name, one) in new {
        pairs.entry(name).or_default().1.get_or_insert(one);
    }
    pairs
}

impl<'s> Walk<'s> {
    fn add(
        &mut self,
        kind: ChangeKind,
        path: &[&str],
        details: Vec<Detail>,
        origins: [Option<Origin>; 2],
    ) {
        self.changes.push(Change {
            kind,
            path: path.iter().map(|part| (*part).to_string()).collect(),
            details,
            old: None,
            new: None,
            also_in: Vec::new(),
            origins,
        });
    }

    fn listeners(&mut self) {
        let (old, new) = (self.old, self.new);
        let named = |side: Side<'s>| {
            let listeners = side.snapshot.listeners.iter();
            listeners.map(|listener| (listener.name.clone(), listener.as_ref()))
        };
        for (name, pair) in paired::<Listener>(named(old), named(new)) {
            let title = format!("listener {name}");
            match pair {
                (Some(old), Some(new)) => {
                    if old.address != new.address {
                        let detail = Detail {
                            name: "address".to_string(),
                            old: old.address.to_string(),
                            new: new.address.to_string(),
                        };
                        let origins = [old.origin.clone(), new.origin.clone()];
                        self.add(ChangeKind::Changed, &[&title], vec![detail], origins);
                    }
                    self.chains(&title, old, new);
                    self.tables(&title, old, new);
                }
                (Some(old), None) => {
                    let origins = [old.origin.clone(), None];
                    self.add(ChangeKind::Removed, &[&title], Vec::new(), origins);
                }
                (None, Some(new)) => {
                    let origins = [None, new.origin.clone()];
                    self.add(ChangeKind::Added, &[&title], Vec::new(), origins);
                }
                (None, None) => {}
            }
        }
    }

    fn chains(&mut self, listener: &str, old: &Listener, new: &Listener) {
        let (old, new) = (filter_chains(old), filter_chains(new));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (before, after) = (old.get(name), new.get(name));
            let told = |side: Option<&(String, Option<Origin>)>| {
                side.map(|(told, _)| told.clone()).unwrap_or_default()
            };
            let origin = |side: Option<&(String, Option<Origin>)>| side?.1.clone();
            if told(before) != told(after) {
                let detail = Detail {
                    name: "does".to_string(),
                    old: told(before),
                    new: told(after),
                };
                let origins = [origin(before), origin(after)];
                let kind = ChangeKind::of(before.is_some(), after.is_some());
                self.add(kind, &[listener, name], vec![detail], origins);
            }
        }
    }

    /// Policies and the like, as documents: who may do what shows in no route.
    fn other_documents(&mut self) {
        let (old, new) = (other_documents(self.old), other_documents(self.new));
        let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        for name in names {
            let (before, after) = (old.get(name), new.get(name));
            let value = |side: Option<&Other>| side.map(|one| one.value.clone());
            if value(before) != value(after) {
                let origins = [before, after].map(|one| one.map(|one| one.origin.clone()));
                let kind = ChangeKind::of(before.is_some(), after.is_some());
                self.add(kind, &[name], Vec::new(), origins);
            }
        }
    }

    fn tables(&mut self, listener: &str, old: &'s Listener, new: &'s Listener) {
        let named = |listener: &'s Listener| {
            let tables = listener.route_tables().into_iter();
            tables.map(|table| (table.name.clone(), table.as_ref()))
        };
        for (_, pair) in paired::<RouteTable>(named(old), named(new)) {
            let tables = [pair.0, pair.1];
            let hosts = |table: Option<&'s RouteTable>| {
                let hosts = table.map_or(&[][..], RouteTable::virtual_hosts).iter();
                hosts.map(|host| (host.name.clone(), host))
            };
            for (name, pair) in paired::<VirtualHost>(hosts(pair.0), hosts(pair.1)) {
                let title = format!("virtual host {name}");
                let origin = |host: &VirtualHost| {
                    let mut routes = host.routes().iter();
                    routes.find_map(|route| route.origin.clone())
                };
                let rules = tables.map(|table| table.map_or(&[][..], |table| &table.excluded));
                match pair {
                    (Some(old), Some(new)) => {
                        self.routes([listener, &title], (old, rules[0]), (new, rules[1]));
                    }
                    (Some(old), None) => {
                        let (details, other) = self.host_left_out(old, rules[1], 1);
                        let origins = [origin(old), other];
                        self.add(ChangeKind::Removed, &[listener, &title], details, origins);
                    }
                    (None, Some(new)) => {
                        let (details, other) = self.host_left_out(new, rules[0], 0);
                        let origins = [other, origin(new)];
                        self.add(ChangeKind::Added, &[listener, &title], details, origins);
                    }
                    (None, None) => {}
                }
            }
        }
    }

    /// Routes of a virtual host of one side that the other side leaves out: why, and where the first
    /// is written there.
    fn host_left_out(
        &self,
        host: &VirtualHost,
        rules: &'s [ExcludedRule],
        by: usize,
    ) -> (Vec<Detail>, Option<Origin>) {
        let left_out = LeftOut {
            virtual_host: None,
            rules,
            services: &self.services[by],
        };
        let own = &self.services[1 - by];
        let routes = host.routes().iter();
        let found: Vec<&ExcludedRoute> = routes
            .filter_map(|route| left_out.find(route, own, &host.domains))
            .collect();
        let details = found.iter().map(|one| detail_left_out(&one.because, by));
        let origin = found.first().map(|one| one.origin.clone());
        (Detail::of(details.collect()), origin)
    }

    /// Each side is a virtual host and the rules that its table leaves out.
    fn routes(
        &mut self,
        path: [&str; 2],
        (old, old_rules): (&'s VirtualHost, &'s [ExcludedRule]),
        (new, new_rules): (&'s VirtualHost, &'s [ExcludedRule]),
    ) {
        let mut details = Vec::new();
        let (gone, come) = endpoint_changes(&old.domains, &new.domains);
        if gone != come {
            details.push(("domains".to_string(), gone, come));
        }
        let redirect = |host: &VirtualHost| match host.https_redirect {
            true => "all to https".to_string(),
            false => "none".to_string(),
        };
        if old.https_redirect != new.https_redirect {
            details.push(("redirect".to_string(), redirect(old), redirect(new)));
        }
        if !details.is_empty() {
            self.add(
                ChangeKind::Changed,
                &path,
                Detail::of(details),
                [None, None],
            );
        }
        let [old_services, new_services] = &self.services;
        let matched = matched((old.routes(), old_services), (new.routes(), new_services));
        let in_order = in_order(&matched);
        let mut is_matched = vec![false; new.routes().len()];
        for (route, (at, partner)) in old.routes().iter().zip(matched.iter().enumerate()) {
            let title = title_of(route, &self.services[0]);
            let Some(partner) = *partner else {
                let left_out = self.left_out(route, (new, new_rules), 1);
                let origin = left_out.map(|one| one.origin.clone());
                let origins = [route.origin.clone(), origin];
                let to = Fate::of_route(route, self.old).in_words();
                let mut details = vec![("to".to_string(), to, String::new())];
                details.extend(left_out.map(|one| detail_left_out(&one.because, 1)));
                self.add_route(ChangeKind::Removed, path, title, details, origins);
                continue;
            };
            is_matched[partner] = true;
            let other = &new.routes()[partner];
            let origins = [route.origin.clone(), other.origin.clone()];
            let (before, after) = (
                Fate::of_route(route, self.old),
                Fate::of_route(other, self.new),
            );
            let mut differences = before.differences(&after);
            let conditions = [of_conditions(&route.matches), of_conditions(&other.matches)];
            if conditions[0] != conditions[1] {
                let [old, new] = conditions;
                differences.insert(0, ("for".to_string(), old, new));
            }
            differences.extend(of_names(route, other));
            if !differences.is_empty() {
                let origins = origins.clone();
                self.add_route(
                    ChangeKind::Changed,
                    path,
                    title.clone(),
                    differences,
                    origins,
                );
            }
            if !in_order[at] {
                let place = |at: usize| format!("place {}", at + 1);
                let detail = ("order".to_string(), place(at), place(partner));
                self.add_route(ChangeKind::Moved, path, title, vec![detail], origins);
            }
        }
        for (route, is_matched) in new.routes().iter().zip(is_matched) {
            if !is_matched {
                let left_out = self.left_out(route, (old, old_rules), 0);
                let origin = left_out.map(|one| one.origin.clone());
                let origins = [origin, route.origin.clone()];
                let to = Fate::of_route(route, self.new).in_words();
                let mut details = vec![("to".to_string(), String::new(), to)];
                details.extend(left_out.map(|one| detail_left_out(&one.because, 0)));
                let title = title_of(route, &self.services[1]);
                self.add_route(ChangeKind::Added, path, title, details, origins);
            }
        }
    }

    /// What side `by` has in place of a route of the other one, if it leaves that out.
    fn left_out(
        &self,
        route: &Route,
        (host, rules): (&'s VirtualHost, &'s [ExcludedRule]),
        by: usize,
    ) -> Option<&'s ExcludedRoute> {
        let left_out = LeftOut {
            virtual_host: Some(host),
            rules,
            services: &self.services[by],
        };
        left_out.find(route, &self.services[1 - by], &host.domains)
    }

    /// Adds a change of a route, unless the very same was told of another virtual host.
    fn add_route(
        &mut self,
        kind: ChangeKind,
        path: [&str; 2],
        title: String,
        differences: Vec<(String, String, String)>,
        origins: [Option<Origin>; 2],
    ) {
        let key = (kind, format!("{title} {differences:?}"), origins.clone());
        let is_written = origins.iter().any(Option::is_some);
        if let Some(at) = self.known.get(&key).filter(|_| is_written) {
            self.changes[*at].also_in.push(path.join(", "));
            return;
        }
        self.known.insert(key, self.changes.len());
        let [listener, host] = path;
        self.add(
            kind,
            &[listener, host, &title],
            Detail::of(differences),
            origins,
        );
    }

    fn clusters(&mut self) {
        let (old, new) = (self.old, self.new);
        let named = |side: Side<'s>| {
            let clusters = side.snapshot.clusters.iter();
            clusters.map(|cluster| (cluster.name.clone(), cluster.as_ref()))
        };
        for (name, pair) in paired::<Cluster>(named(old), named(new)) {
            let title = format!("cluster {name}");
            match pair {
                (Some(old), Some(new)) => {
                    let details = cluster_differences(old, new);
                    if !details.is_empty() {
                        let origins = [old.origin.clone(), new.origin.clone()];
                        self.add(ChangeKind::Changed, &[&title], Detail::of(details), origins);
                    }
                }
                (Some(old), None) => {
                    let origins = [old.origin.clone(), None];
                    self.add(ChangeKind::Removed, &[&title], Vec::new(), origins);
                }
                (None, Some(new)) => {
                    let origins = [None, new.origin.clone()];
                    self.add(ChangeKind::Added, &[&title], Vec::new(), origins);
                }
                (None, None) => {}
            }
        }
    }
}

fn cluster_differences(old: &Cluster, new: &Cluster) -> Vec<(String, String, String)> {
    let mut details = Vec::new();
    let (gone, come) = endpoint_changes(&endpoints(old), &endpoints(new));
    let same_endpoints = gone == come;
    if !same_endpoints {
        details.push(("endpoints".to_string(), gone, come));
    }
    let weights = |cluster: &Cluster| {
        let each = cluster.endpoints.iter();
        let each = each.map(|one| (one.address.to_string(), one.weight.to_string()));
        each.collect::<Vec<_>>()
    };
    let (before, after) = (weights(old), weights(new));
    if same_endpoints && before != after {
        let named = by_name(&before, &after).into_iter();
        details.extend(named.map(|(address, a, b)| (format!("weight of {address}"), a, b)));
    }
    let settings = |cluster: &Cluster| {
        let settings = cluster_settings(cluster, &Places::default()).into_iter();
        let settings = settings.map(|one| (one.name, one.value));
        settings.collect::<Vec<_>>()
    };
    details.extend(by_name(&settings(old), &settings(new)));
    details
}

/// Why the old or the new side leaves a route out.
fn detail_left_out(because: &str, by: usize) -> (String, String, String) {
    let (name, because) = ("left out".to_string(), because.to_string());
    match by {
        0 => (name, because, String::new()),
        _ => (name, String::new(), because),
    }
}

fn title_of(route: &Route, services: &Services) -> String {
    let conditions = of_conditions(&route.matches);
    let name = match route.name.as_str() {
        "" => "route".to_string(),
        name => format!("route `{name}`"),
    };
    match services.name_of(route) {
        "" => format!("{name} for {conditions}"),
        service => format!("{name} of {service} for {conditions}"),
    }
}

/// Under which other names a route is logged and counted.
fn of_names(old: &Route, new: &Route) -> Vec<(String, String, String)> {
    let told = |name: &str| match name {
        "" => "none".to_string(),
        name => format!("`{name}`"),
    };
    // `vhost.HOST.route.PREFIX`
    let stats_name = |route: &Route| {
        let name = route.stats_name.as_deref().unwrap_or_default();
        told(
            name.rsplit_once(".route.")
                .map_or(name, |(_, prefix)| prefix),
        )
    };
    let names = [
        ("name", told(&old.name), told(&new.name)),
        ("statPrefix", stats_name(old), stats_name(new)),
    ];
    let others = names.into_iter().filter(|(_, old, new)| old != new);
    others
        .map(|(what, old, new)| (what.to_string(), old, new))
        .collect()
}
