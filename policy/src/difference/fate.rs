//! What becomes of the requests of a route, in words that can be compared.

use std::collections::BTreeMap;

use super::Side;
use crate::explain::cluster_view::cluster_settings;
use crate::explain::effects;
use crate::explain::places::Places;
use crate::inquiry::{Decided, Refusal};
use crate::snapshot::{Cluster, Discovery, PathMatch, Redirect, RedirectPath, Route, RouteAction};

/// Where requests go and how they are treated on the way.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Fate {
    /// Clusters and their shares, in parts of a million.
    pub to: BTreeMap<String, u32>,
    /// What the proxy answers by itself; empty when it forwards.
    pub answer: String,
    /// Rewrites of path and host.
    pub rewrites: Vec<(String, String)>,
    /// What the route does besides.
    pub treatment: Vec<(String, String)>,
    pub clusters: BTreeMap<String, Behind>,
}

/// What stands behind a cluster.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Behind {
    pub endpoints: Vec<String>,
    pub settings: Vec<(String, String)>,
}

/// A cluster that both configurations have.
pub(super) struct ChangedCluster<'f> {
    pub name: &'f str,
    /// Else only its endpoints are others.
    pub has_other_settings: bool,
}

/// Settings that send a request elsewhere.
const REWRITES: [&str; 2] = ["path upstream", "host upstream"];

impl Fate {
    pub(super) fn of_decided(decided: &Decided<'_>, side: Side<'_>) -> Self {
        match decided.route {
            Some(route) => Self::of_route(route, side),
            None => Self {
                answer: decided
                    .refusal
                    .as_ref()
                    .map_or("", Refusal::answer)
                    .to_string(),
                ..Self::default()
            },
        }
    }

    pub(super) fn of_route(route: &Route, side: Side<'_>) -> Self {
        let places = Places::default();
        let mut fate = Self::default();
        let settings = effects::settings(route, None, &places).into_iter();
        let (rewrites, treatment) = settings
            .map(|setting| (setting.name, setting.value))
            .partition(|(name, _)| REWRITES.contains(&name.as_str()));
        fate.rewrites = rewrites;
        fate.treatment = treatment;
        match &route.action {
            RouteAction::Forward(destinations) => {
                let total: u64 = destinations.iter().map(|to| u64::from(to.weight)).sum();
                for to in destinations {
                    let share = u64::from(to.weight) * 1_000_000 / total.max(1);
                    *fate.to.entry(to.cluster_name.clone()).or_default() += share as u32;
                    let cluster = to.cluster.map(|id| side.snapshot.cluster(id).as_ref());
                    let behind = cluster.map(|cluster| Behind::of(cluster, &places));
                    let behind = behind.unwrap_or_else(Behind::nothing);
                    fate.clusters.insert(to.cluster_name.clone(), behind);
                    let mut edits = Vec::new();
                    for (of, changes) in [
                        (effects::HeadersOf::Request, &to.request_headers),
                        (effects::HeadersOf::Response, &to.response_headers),
                    ] {
                        effects::edits(of, changes, &[], &places, &mut edits);
                    }
                    if let Some(policy) = &to.retry {
                        edits.extend(effects::retries(policy, &places));
                    }
                    let edits = edits.into_iter();
                    fate.treatment
                        .extend(edits.map(|edit| {
                            (format!("{} {}", to.cluster_name, edit.name), edit.value)
                        }));
                    if let Some(host) = &to.host_rewrite {
                        fate.rewrites
                            .push(("host upstream".to_string(), host.clone()));
                    }
                }
            }
            RouteAction::DirectResponse { status, body } => {
                let body = String::from_utf8_lossy(body);
                fate.answer = match body.is_empty() {
                    true => status.to_string(),
                    false => format!("{status} with `{}`", shortened(&body, 40)),
                };
            }
            RouteAction::Redirect(redirect) => fate.answer = redirect_in_words(route, redirect),
        }
        fate
    }

    /// Whether requests reach the same place.
    pub(super) fn goes_where(&self, other: &Self) -> bool {
        self.to == other.to
            && self.answer == other.answer
            && self.rewrites == other.rewrites
            && self
                .shared(other)
                .all(|(_, a, b)| a.endpoints == b.endpoints)
    }

    /// Clusters that both have.
    fn shared<'f>(
        &'f self,
        other: &'f Self,
    ) -> impl Iterator<Item = (&'f str, &'f Behind, &'f Behind)> {
        let clusters = self.clusters.iter();
        clusters
            .filter_map(|(name, behind)| Some((name.as_str(), behind, other.clusters.get(name)?)))
    }

    /// Which part of the requests goes elsewhere, from 0 to 1.
    pub(super) fn moved(&self, other: &Self) -> f64 {
        if self.answer != other.answer || self.rewrites != other.rewrites || self.to.is_empty() {
            return 1.0;
        }
        let lost = self.to.iter().map(|(cluster, share)| {
            let stays = || {
                let (before, after) = (self.clusters.get(cluster)?, other.clusters.get(cluster)?);
                let mut endpoints = before.endpoints.iter();
                endpoints
                    .any(|one| after.endpoints.contains(one))
                    .then_some(())
            };
            let now = other.to.get(cluster).filter(|_| stays().is_some());
            share.saturating_sub(now.copied().unwrap_or(0))
        });
        f64::from(lost.sum::<u32>()) / 1_000_000.0
    }

    /// Where requests go, in one line.
    pub(super) fn in_words(&self) -> String {
        let mut out = match self.answer.as_str() {
            "" => self.shares_in_words(),
            answer => format!("answered here: {answer}"),
        };
        for (name, value) in &self.rewrites {
            out += &format!(", {name} {value}");
        }
        out
    }

    fn shares_in_words(&self) -> String {
        if self.to.len() == 1 {
            return self.to.keys().next().cloned().unwrap_or_default();
        }
        let each = self.to.iter();
        let each = each.map(|(cluster, share)| {
            let percent = f64::from(*share) / 10_000.0;
            format!("{}% {cluster}", (percent * 100.0).round() / 100.0)
        });
        each.collect::<Vec<_>>().join(", ")
    }

    /// What differs, name by name: of `self`, of `other`.
    pub(super) fn differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let mut list = Vec::new();
        let mut add = |name: &str, old: String, new: String| {
            if old != new {
                list.push((name.to_string(), old, new));
            }
        };
        let to = |fate: &Self| match fate.answer.as_str() {
            "" => fate.shares_in_words(),
            answer => format!("answered here: {answer}"),
        };
        add("to", to(self), to(other));
        for (name, old, new) in by_name(&self.rewrites, &other.rewrites) {
            add(&name, old, new);
        }
        for (name, old, new) in by_name(&self.treatment, &other.treatment) {
            add(&name, old, new);
        }
        list
    }

    /// Clusters that both have, and that are not the same.
    pub(super) fn changed_clusters<'f>(&'f self, other: &'f Self) -> Vec<ChangedCluster<'f>> {
        let changed = self.shared(other).filter(|(_, old, new)| old != new);
        let each = changed.map(|(name, old, new)| ChangedCluster {
            name,
            has_other_settings: old.settings != new.settings,
        });
        each.collect()
    }

    /// What differs in clusters that both have.
    pub(super) fn cluster_differences(&self, other: &Self) -> Vec<(String, String, String)> {
        let mut list = Vec::new();
        let is_only = self.clusters.len() == 1 && other.clusters.len() == 1;
        for (cluster, before, after) in self.shared(other) {
            let named = |name: &str| match is_only {
                true => name.to_string(),
                false => format!("{name} of {cluster}"),
            };
            if before.endpoints != after.endpoints {
                let (gone, come) = endpoint_changes(&before.endpoints, &after.endpoints);
                list.push((named("endpoints"), gone, come));
            }
            let settings = by_name(&before.settings, &after.settings).into_iter();
            list.extend(settings.map(|(name, old, new)| (named(&name), old, new)));
        }
        list
    }
}

impl Behind {
    fn of(cluster: &Cluster, places: &Places) -> Self {
        let settings = cluster_settings(cluster, places).into_iter();
        Self {
            endpoints: endpoints(cluster),
            settings: settings.map(|one| (one.name, one.value)).collect(),
        }
    }

    fn nothing() -> Self {
        Self {
            endpoints: vec!["none: there is no such cluster, 503 NC".to_string()],
            settings: Vec::new(),
        }
    }
}

/// Where a cluster's requests may end, each once.
pub(super) fn endpoints(cluster: &Cluster) -> Vec<String> {
    let mut all: Vec<String> = match &cluster.discovery {
        Discovery::StrictDns(targets) | Discovery::LogicalDns(targets) => {
            let names = targets.iter();
            names.map(|to| format!("{}:{}", to.name, to.port)).collect()
        }
        Discovery::OriginalDestination => vec!["the original destination".to_string()],
        Discovery::Static => {
            let endpoints = cluster.endpoints.iter();
            endpoints.map(|one| one.address.to_string()).collect()
        }
    };
    all.sort();
    all
}

/// The endpoints that only one of the two has; long lists are cut.
pub(super) fn endpoint_changes(old: &[String], new: &[String]) -> (String, String) {
    const MOST: usize = 5;
    let only = |of: &[String], not: &[String]| {
        let mut only: Vec<String> = of
            .iter()
            .filter(|one| !not.contains(one))
            .cloned()
            .collect();
        let more = only.len().saturating_sub(MOST);
        only.truncate(MOST);
        if more > 0 {
            only.push(format!("{more} more"));
        }
        only.join(", ")
    };
    (only(old, new), only(new, old))
}

/// Settings by name; a name that comes several times is one setting of all its values.
pub(super) fn by_name(
    old: &[(String, String)],
    new: &[(String, String)],
) -> Vec<(String, String, String)> {
    let collect = |list: &[(String, String)]| {
        let mut values: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in list {
            let known = values.entry(name.clone()).or_default();
            if !known.is_empty() {
                known.push_str("; ");
            }
            known.push_str(value);
        }
        values
    };
    let (old_values, new_values) = (collect(old), collect(new));
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in old.iter().chain(new) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let value = |values: &BTreeMap<String, String>, name: &String| {
        values
            .get(name)
            .cloned()
            .unwrap_or_else(|| "nothing".to_string())
    };
    let each = names.into_iter();
    each.map(|name| {
        (
            name.clone(),
            value(&old_values, name),
            value(&new_values, name),
        )
    })
    .filter(|(_, old, new)| old != new)
    .collect()
}

fn redirect_in_words(route: &Route, redirect: &Redirect) -> String {
    let mut out = format!("{} to ", redirect.status);
    if let Some(scheme) = &redirect.scheme {
        out += &format!("{scheme}://");
    }
    out += redirect.authority.as_deref().unwrap_or("the same host");
    if let Some(port) = redirect.port {
        out += &format!(":{port}");
    }
    match (&redirect.path, &route.matches.path) {
        (RedirectPath::Same, _) => {}
        (RedirectPath::Whole(path), _) => out += &format!(" {path}"),
        (RedirectPath::Prefix(new), PathMatch::Prefix(old) | PathMatch::PrefixIgnoreCase(old)) => {
            out += &format!(" {new} in place of {old}")
        }
        (RedirectPath::Prefix(new), _) => out += &format!(" {new}"),
    }
    out
}

pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}
