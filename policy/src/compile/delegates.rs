//! `http[].delegate`: the rules of a VirtualService with those that it takes from others.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::findings::Findings;
use super::names::{is_exported, resolve_gateway, resolve_short_name};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::virtual_service::{Destination, HttpMatch, HttpRoute, VirtualService};
use crate::resource::{Metadata, Object, Resources, TextMatch};
use crate::settings::ProxySettings;
use crate::snapshot::RuleOrigin;
use crate::source::{FieldPath, Origin};

/// A rule of `http`, as it counts for the VirtualService that it was merged into.
#[derive(Debug)]
pub struct Rule<'r> {
    pub route: Cow<'r, HttpRoute>,
    /// Of the VirtualService that it is written in.
    pub metadata: &'r Metadata,
    /// In that document.
    pub place: FieldPath,
    /// The rule that delegates to it.
    above: Option<Origin>,
    /// Fields that it leaves open to that one.
    inherited: Vec<&'static str>,
    /// Where each match is written, if not in the rule itself.
    match_origins: Option<Vec<Origin>>,
}

impl Rule<'_> {
    pub fn origin(&self) -> Origin {
        self.metadata.origin(self.place.clone())
    }

    /// Where each of its fields is written.
    pub fn origins(&self) -> RuleOrigin {
        RuleOrigin {
            own: self.origin(),
            above: self.above.clone(),
            inherited: self.inherited.clone(),
        }
    }

    pub fn match_origin(&self, index: usize) -> Origin {
        let merged = self.match_origins.as_ref();
        let own = || self.metadata.origin(self.place.field("match").index(index));
        merged
            .and_then(|all| all.get(index).cloned())
            .unwrap_or_else(own)
    }
}

/// The rules of each VirtualService. Those without hosts have none of their own: they are only
/// there to be delegated to.
pub fn rules<'r>(
    resources: &'r Resources,
    settings: &ProxySettings,
    findings: &mut Findings,
) -> Vec<Vec<Rule<'r>>> {
    let delegates: HashMap<(&str, &str), &Object<VirtualService>> = resources
        .virtual_services
        .iter()
        .filter(|object| object.spec.hosts.is_empty())
        .map(|object| {
            let Metadata {
                namespace, name, ..
            } = &object.metadata;
            ((namespace.as_str(), name.as_str()), object)
        })
        .collect();
    let roots = resources.virtual_services.iter();
    let of_root = |root: &'r Object<VirtualService>| {
        let mut rules = Vec::new();
        if root.spec.hosts.is_empty() {
            return rules;
        }
        for (at, route) in root.spec.http.iter().enumerate() {
            let place = place_of(at);
            let Some(reference) = &route.delegate else {
                rules.push(Rule {
                    route: Cow::Borrowed(route),
                    metadata: &root.metadata,
                    place,
                    above: None,
                    inherited: Vec::new(),
                    match_origins: None,
                });
                continue;
            };
            let namespace = match reference.namespace.as_str() {
                "" => root.metadata.namespace.as_str(),
                namespace => namespace,
            };
            let found = delegates.get(&(namespace, reference.name.as_str()));
            let visible = |delegate: &&&Object<VirtualService>| {
                let owner = &delegate.metadata.namespace;
                is_exported(&delegate.spec.export_to, owner, &root.metadata.namespace)
            };
            match found.filter(visible) {
                Some(delegate) => {
                    let merged = merge(root, route, &place, delegate, settings, findings);
                    rules.extend(merged);
                }
                None => {
                    let name = format!("{namespace}/{}", reference.name);
                    let origin = root.metadata.origin(place.field("delegate"));
                    findings.add(missing(&name, origin, found.is_some()));
                }
            }
        }
        rules
    };
    roots.map(of_root).collect()
}

fn place_of(at: usize) -> FieldPath {
    FieldPath::root().field("spec").field("http").index(at)
}

fn missing(name: &str, origin: Origin, exists: bool) -> Diagnostic {
    let place = Place::Field(origin);
    if exists {
        let message = format!(
            "the delegate `{name}` is not exported to this namespace: the rule is left out"
        );
        return Diagnostic::warning("delegate-not-exported", place, message)
            .with_help("add this namespace, or `*`, to its `exportTo`");
    }
    let message = format!(
        "there is no VirtualService `{name}` without hosts to delegate to: the rule is left out"
    );
    Diagnostic::warning("unknown-delegate", place, message)
        .with_help("add it, without `hosts` and `gateways`, or correct the name")
}

/// The rules of a delegate, narrowed to what the delegating rule matches.
fn merge<'r>(
    root: &'r Object<VirtualService>,
    above: &HttpRoute,
    above_place: &FieldPath,
    delegate: &'r Object<VirtualService>,
    settings: &ProxySettings,
    findings: &mut Findings,
) -> Vec<Rule<'r>> {
    let above = resolved(above, &root.metadata, settings);
    let mut rules = Vec::new();
    for (at, written) in delegate.spec.http.iter().enumerate() {
        let place = place_of(at);
        let mut route = resolved(written, &delegate.metadata, settings);
        let origins = |count: usize, metadata: &Metadata, place: &FieldPath| -> Vec<Origin> {
            (0..count)
                .map(|index| metadata.origin(place.field("match").index(index)))
                .collect()
        };
        let match_origins = if above.r#match.is_empty() {
            origins(route.r#match.len(), &delegate.metadata, &place)
        } else if route.r#match.is_empty() {
            route.r#match.clone_from(&above.r#match);
            origins(above.r#match.len(), &root.metadata, above_place)
        } else if let Some((merged, from)) = merge_matches(&above.r#match, &route.r#match) {
            route.r#match = merged;
            let each = from.into_iter();
            each.map(|index| delegate.metadata.origin(place.field("match").index(index)))
                .collect()
        } else {
            let message = format!(
                "a match here is not within one of the rule that delegates to it, in `{}/{}`: this rule is left out",
                root.metadata.namespace, root.metadata.name
            );
            let origin = Place::Field(delegate.metadata.origin(place));
            let help = "narrow it by `exact` or `prefix`; to Istio nothing is within a `regex`, nor a `regex` within anything";
            findings.add(Diagnostic::warning("delegate-conflict", origin, message).with_help(help));
            continue;
        };
        route.name = joined(&above.name, &route.name);
        let inherited = inherit(&mut route, &above);
        rules.push(Rule {
            route: Cow::Owned(route),
            metadata: &delegate.metadata,
            place,
            above: Some(root.metadata.origin(above_place.clone())),
            inherited,
            match_origins: Some(match_origins),
        });
    }
    rules
}

fn joined(above: &str, own: &str) -> String {
    match (above, own) {
        ("", name) | (name, "") => name.to_string(),
        (above, own) => format!("{above}-{own}"),
    }
}

/// What a delegate leaves open is as the delegating rule has it: the fields that this fills in.
fn inherit(route: &mut HttpRoute, above: &HttpRoute) -> Vec<&'static str> {
    fn or<T: Clone>(own: &mut Option<T>, above: &Option<T>) -> bool {
        let is_filled = own.is_none() && above.is_some();
        if is_filled {
            own.clone_from(above);
        }
        is_filled
    }
    let mirrors = route.mirrors.is_empty() && !above.mirrors.is_empty();
    if mirrors {
        route.mirrors.clone_from(&above.mirrors);
    }
    let fields = [
        ("rewrite", or(&mut route.rewrite, &above.rewrite)),
        (
            "directResponse",
            or(&mut route.direct_response, &above.direct_response),
        ),
        ("timeout", or(&mut route.timeout, &above.timeout)),
        ("retries", or(&mut route.retries, &above.retries)),
        ("fault", or(&mut route.fault, &above.fault)),
        ("mirror", or(&mut route.mirror, &above.mirror)),
        (
            "mirrorPercent",
            or(&mut route.mirror_percent, &above.mirror_percent),
        ),
        (
            "mirrorPercentage",
            or(&mut route.mirror_percentage, &above.mirror_percentage),
        ),
        ("corsPolicy", or(&mut route.cors_policy, &above.cors_policy)),
        ("headers", or(&mut route.headers, &above.headers)),
        ("mirrors", mirrors),
    ];
    let filled = fields.into_iter().filter(|(_, is_filled)| *is_filled);
    filled.map(|(field, _)| field).collect()
}

/// A copy in which names are complete, so that they mean the same in another namespace.
fn resolved(route: &HttpRoute, metadata: &Metadata, settings: &ProxySettings) -> HttpRoute {
    let mut route = route.clone();
    let namespace = &metadata.namespace;
    let complete = |destination: &mut Destination| {
        destination.host =
            resolve_short_name(&destination.host, namespace, &settings.domain_suffix);
    };
    for one in &mut route.route {
        complete(&mut one.destination);
    }
    route.mirror.iter_mut().for_each(complete);
    let mirrors = route.mirrors.iter_mut();
    mirrors
        .filter_map(|mirror| mirror.destination.as_mut())
        .for_each(complete);
    for condition in &mut route.r#match {
        for gateway in &mut condition.gateways {
            *gateway = resolve_gateway(gateway, namespace);
        }
    }
    route.delegate = None;
    route
}

/// Each match of the delegate within each of the delegating rule that it fits into, and its index.
/// `None` when one fits nowhere.
fn merge_matches(above: &[HttpMatch], own: &[HttpMatch]) -> Option<(Vec<HttpMatch>, Vec<usize>)> {
    let (mut merged, mut from) = (Vec::new(), Vec::new());
    for (index, own) in own.iter().enumerate() {
        let before = merged.len();
        for above in above.iter().filter(|above| !conflict(above, own)) {
            merged.push(merge_match(above, own));
            from.push(index);
        }
        if merged.len() == before {
            return None;
        }
    }
    Some((merged, from))
}

fn merge_match(above: &HttpMatch, own: &HttpMatch) -> HttpMatch {
    fn with<V: Clone>(
        above: &BTreeMap<String, V>,
        own: &BTreeMap<String, V>,
    ) -> BTreeMap<String, V> {
        let mut all = above.clone();
        all.extend(own.clone());
        all
    }
    fn or(own: &str, above: &str) -> String {
        if own.is_empty() { above } else { own }.to_string()
    }
    HttpMatch {
        name: joined(&above.name, &own.name),
        uri: own.uri.clone().or_else(|| above.uri.clone()),
        scheme: own.scheme.clone().or_else(|| above.scheme.clone()),
        method: own.method.clone().or_else(|| above.method.clone()),
        authority: own.authority.clone().or_else(|| above.authority.clone()),
        headers: with(&above.headers, &own.headers),
        without_headers: with(&above.without_headers, &own.without_headers),
        query_params: with(&above.query_params, &own.query_params),
        port: if own.port == 0 { above.port } else { own.port },
        source_labels: with(&above.source_labels, &own.source_labels),
        source_namespace: or(&own.source_namespace, &above.source_namespace),
        gateways: if own.gateways.is_empty() {
            above.gateways.clone()
        } else {
            own.gateways.clone()
        },
        ignore_uri_case: own.ignore_uri_case,
        stat_prefix: or(&own.stat_prefix, &above.stat_prefix),
    }
}

/// Whether a match of a delegate is not within one of the delegating rule.
fn conflict(above: &HttpMatch, own: &HttpMatch) -> bool {
    let texts = [
        (&above.uri, &own.uri),
        (&above.scheme, &own.scheme),
        (&above.method, &own.method),
        (&above.authority, &own.authority),
    ];
    let maps = [
        (&above.headers, &own.headers),
        (&above.without_headers, &own.without_headers),
        (&above.query_params, &own.query_params),
    ];
    let in_texts = texts
        .into_iter()
        .any(|(above, own)| text_conflict(above.as_ref(), own.as_ref()));
    let in_maps = maps.into_iter().any(|(above, own)| {
        own.iter().any(|(name, own)| {
            let above = above.get(name).and_then(Option::as_ref);
            text_conflict(above, own.as_ref())
        })
    });
    let in_labels = own.source_labels.iter().any(|(name, own)| {
        let above = above.source_labels.get(name);
        above.is_some_and(|above| above != own)
    });
    let in_gateways = !above.gateways.is_empty()
        && !own.gateways.is_empty()
        && (above.gateways.len() < own.gateways.len()
            || own.gateways.iter().any(|own| !above.gateways.contains(own)));
    in_texts
        || in_maps
        || in_labels
        || in_gateways
        || above.ignore_uri_case != own.ignore_uri_case
        || (above.port > 0 && own.port > 0 && above.port != own.port)
        || (!above.source_namespace.is_empty() && above.source_namespace != own.source_namespace)
}

/// Whether a condition is not within another. A regular expression is within none, and nothing is
/// within it.
fn text_conflict(above: Option<&TextMatch>, own: Option<&TextMatch>) -> bool {
    let (Some(above), Some(own)) = (above, own) else {
        return false;
    };
    fn set(text: &Option<String>) -> Option<&str> {
        text.as_deref().filter(|text| !text.is_empty())
    }
    let is_any = |text: &TextMatch| {
        set(&text.exact)
            .or(set(&text.prefix))
            .or(set(&text.regex))
            .is_some()
    };
    if set(&above.regex).is_some() && is_any(own) || set(&own.regex).is_some() && is_any(above) {
        return true;
    }
    if let Some(exact) = set(&above.exact) {
        return set(&own.prefix).is_some() || set(&own.exact) != Some(exact);
    }
    match (set(&above.prefix), set(&own.prefix).or(set(&own.exact))) {
        (Some(prefix), Some(own)) => !own.starts_with(prefix),
        _ => true,
    }
}
