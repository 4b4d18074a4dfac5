//! `http[]` of a VirtualService, as routes for one port of one gateway or of the mesh.

use std::sync::Arc;

use super::clusters::Clusters;
use super::delegates::Rule;
use super::findings::Findings;
use super::header_operations::edits;
use super::http_match::{conditions, exclusion};
use super::names::{MESH, cluster_name, resolve_short_name};
use super::registry::{Registry, Service};
use super::retry_headers::RetryWishes;
use super::route_list::RouteList;
use super::route_policies::{
    FAULT_SIDE, cors, default_retry, default_retry_in_place, fault, fault_side, mirrors, retry,
};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Metadata;
use crate::resource::virtual_service::{
    Destination, DirectResponse, HttpMatch, HttpRedirect, HttpRoute,
};
use crate::rules::regex::REGEX_HELP;
use crate::settings::{ProxySettings, duration};
use crate::snapshot::{
    self, ClusterId, ExcludedRoute, Fault, FaultSide, HeaderEdits, Mirror, NO_SPLIT, PathMatch,
    PathRewrite, Redirect, RedirectPath, RegexRewrite, Route, RouteAction, RouteMatch, RuleOrigin,
    TimeoutStatus,
};
use crate::source::{FieldPath, Origin};

/// What routes are compiled for.
#[derive(Clone, Copy)]
pub struct RouteScope<'a> {
    pub settings: &'a ProxySettings,
    pub registry: &'a Registry,
    pub clusters: &'a Clusters,
    /// `namespace/name`, or `mesh`.
    pub gateway: &'a str,
    /// The port as it was written at the gateway, or of the services of a sidecar's listener.
    pub listen_port: u32,
    /// Whether requests come by TLS.
    pub is_tls: bool,
    /// Where the VirtualService is.
    pub rule_namespace: &'a str,
}

/// Routes in order; generation stops behind the first one that matches everything. `root` is the
/// VirtualService whose rules these are, some of them by delegation.
pub fn build_routes(
    root: &Metadata,
    rules: &[Rule<'_>],
    scope: &RouteScope<'_>,
    findings: &mut Findings,
) -> RouteList {
    findings.note_routed(root.document);
    let mut list = RouteList::default();
    for (at, rule) in rules.iter().enumerate() {
        let mut builder = RouteBuilder {
            root,
            metadata: rule.metadata,
            rule: &rule.route,
            scope,
            findings,
            place: rule.place.clone(),
            origins: Arc::new(rule.origins()),
        };
        let matches = &rule.route.r#match;
        let mut stop = matches.is_empty();
        let mut stops_everywhere = stop;
        if stop {
            list.routes.extend(builder.build(rule.origin(), None));
        }
        for (index, condition) in matches.iter().enumerate() {
            if let Some(because) = exclusion(condition, scope) {
                list.excluded.push(ExcludedRoute {
                    name: builder.name(Some(condition)),
                    origin: rule.match_origin(index),
                    because,
                    position: list.routes.len(),
                });
                continue;
            }
            let Some(route) = builder.build(rule.match_origin(index), Some(condition)) else {
                continue;
            };
            stop = route.matches.is_catch_all();
            list.routes.push(route);
            if stop {
                stops_everywhere = is_unfiltered(condition);
                break;
            }
        }
        if stop {
            if stops_everywhere {
                report_left_out(&rules[at + 1..], rule, findings);
            }
            break;
        }
    }
    list
}

/// Whether a match holds for every port, gateway and workload alike.
pub fn is_unfiltered(condition: &HttpMatch) -> bool {
    condition.port == 0
        && condition.gateways.is_empty()
        && condition.source_labels.is_empty()
        && condition.source_namespace.is_empty()
}

/// Warns of the rules behind one that takes everything: they never become routes.
fn report_left_out(behind: &[Rule<'_>], last: &Rule<'_>, findings: &mut Findings) {
    for rule in behind {
        let by = if rule.metadata.document == last.metadata.document {
            format!("`{}`", last.place)
        } else {
            let Metadata {
                namespace, name, ..
            } = last.metadata;
            format!("`{}` of `{namespace}/{name}`", last.place)
        };
        let message = format!("this rule is never reached: {by} takes all requests");
        let place = Place::Field(rule.origin());
        let help = "put it before the rule that matches everything, or remove it";
        let warning = Diagnostic::warning("unreachable-route", place, message)
            .with_help(help)
            .with_related(last.origin(), "this rule takes them");
        findings.add(warning);
    }
}

struct RouteBuilder<'a, 'f> {
    /// Of the VirtualService that the route is for.
    root: &'a Metadata,
    /// Of the one that the rule is written in.
    metadata: &'a Metadata,
    rule: &'a HttpRoute,
    scope: &'a RouteScope<'a>,
    findings: &'f mut Findings,
    /// Of the rule.
    place: FieldPath,
    origins: Arc<RuleOrigin>,
}

impl RouteBuilder<'_, '_> {
    fn origin(&self, place: FieldPath) -> Origin {
        self.metadata.origin(place)
    }

    /// An expression that cannot be used, though the rules have let it pass.
    fn refuse_regex(&mut self, place: FieldPath, message: String) {
        let place = Place::Field(self.origin(place));
        let refused = Diagnostic::error("invalid-regex", place, message);
        self.findings.add(refused.with_help(REGEX_HELP));
    }

    /// What the route of a match, or of a rule without one, is called in logs.
    fn name(&self, condition: Option<&HttpMatch>) -> String {
        let name = &self.rule.name;
        match condition.map(|written| written.name.as_str()) {
            None | Some("") => name.clone(),
            Some(of_match) => format!("{name}.{of_match}"),
        }
    }

    /// The route of a match, or of a rule without one, that is written at `origin`.
    fn build(&mut self, origin: Origin, condition: Option<&HttpMatch>) -> Option<Route> {
        let rule = self.rule;
        let mut matches = RouteMatch::any();
        if let Some(written) = condition {
            matches = match conditions(written) {
                Ok(matches) => matches,
                Err(message) => {
                    self.refuse_regex(origin.field, message);
                    return None;
                }
            };
        }
        let headers = edits(rule.headers.as_ref());
        let timeout = rule
            .timeout
            .as_deref()
            .and_then(|text| duration::parse_ms(text).ok());
        let mut route = Route {
            name: self.name(condition),
            origin: Some(origin),
            rule: Some(Arc::clone(&self.origins)),
            matches,
            action: RouteAction::Forward(Vec::new()),
            timeout_ms: timeout.filter(|ms| *ms > 0),
            timeout_origin: timeout.map(|_| self.origins.field("timeout")),
            timeout_status: TimeoutStatus::default(),
            retry: None,
            request_headers: headers.request,
            response_headers: headers.response,
            path_rewrite: None,
            host_rewrite: headers.authority,
            fault: self.fault(),
            mirrors: Vec::new(),
            cors: None,
            operation: String::new(),
            stats_name: condition
                .map(|written| written.stat_prefix.as_str())
                .filter(|prefix| !prefix.is_empty())
                .map(Arc::from),
            split_slot: NO_SPLIT,
            identity: 0,
        };
        if let Some(written) = &rule.cors_policy {
            match cors(written) {
                Ok(policy) => route.cors = Some(policy),
                Err(message) => {
                    self.refuse_regex(self.place.field("corsPolicy"), message);
                    return None;
                }
            }
        }
        if let Some(redirect) = &rule.redirect {
            route.action = self.redirect(redirect);
        } else if let Some(response) = &rule.direct_response {
            route.action = direct_response(response);
        } else {
            self.forward(&mut route)?;
        }
        route.operation = self.operation(&route);
        Some(route)
    }

    /// Fills in what forwarding needs; `None` when the rule has no destination.
    fn forward(&mut self, route: &mut Route) -> Option<()> {
        let rule = self.rule;
        self.rewrite(route);
        for (destination, share) in mirrors(rule) {
            let place = self.place.field(if rule.mirror.is_some() {
                "mirror"
            } else {
                "mirrors"
            });
            let (cluster_name, cluster) = self.cluster(destination, &place, None);
            route.mirrors.push(Mirror {
                cluster,
                cluster_name,
                share,
            });
        }
        let alone = rule.route.len() == 1;
        let mut destinations = Vec::new();
        for (index, written) in rule.route.iter().enumerate() {
            let place = self.place.field("route").index(index);
            if !alone && written.weight <= 0 {
                let place = Place::Field(self.origin(place));
                let message = "this destination has weight 0 beside others and gets no request";
                let help = "give it a weight, or remove it";
                let warning = Diagnostic::warning("zero-weight", place, message);
                self.findings.add(warning.with_help(help));
                continue;
            }
            let (cluster_name, cluster) =
                self.cluster(&written.destination, &place, Some("destination"));
            let origin = self.origin(place);
            let headers = edits(written.headers.as_ref());
            let mut destination = snapshot::Destination {
                cluster,
                cluster_name,
                weight: u32::try_from(written.weight).unwrap_or(u32::MAX).max(1),
                request_headers: headers.request,
                response_headers: headers.response,
                host_rewrite: headers.authority,
                retry: None,
                timeout_status: TimeoutStatus::default(),
                origin: Some(origin),
            };
            if alone {
                // The only destination belongs to the route: its edits come last and win, but its
                // Host gives way to the route's.
                let request = std::mem::take(&mut destination.request_headers);
                let response = std::mem::take(&mut destination.response_headers);
                route.request_headers.append(&request);
                route.response_headers.append(&response);
                let host = destination.host_rewrite.take();
                route.host_rewrite = route.host_rewrite.take().or(host);
            }
            destinations.push(destination);
        }
        if destinations.is_empty() {
            return None;
        }
        let stays = alone && self.scope.clusters.hashes(destinations[0].cluster);
        route.retry = match &rule.retries {
            Some(written) => {
                let origin = self.origins.field("retries");
                retry(written, stays, origin).map(Arc::new)
            }
            None if stays => Some(default_retry_in_place()),
            None => Some(default_retry()),
        };
        self.steer_retries(route, &mut destinations);
        route.action = RouteAction::Forward(destinations);
        Some(())
    }

    /// What headers of the route and of its destinations say about retries.
    fn steer_retries(&self, route: &mut Route, destinations: &mut [snapshot::Destination]) {
        let policy = route.retry.take();
        for destination in destinations {
            let mut wishes = RetryWishes::default();
            wishes.take_from(&mut destination.request_headers);
            if wishes.is_empty() {
                continue;
            }
            wishes.take_from(&mut route.request_headers.clone());
            let origin = || match &destination.origin {
                Some(origin) => origin.clone(),
                None => self.origin(self.place.clone()),
            };
            destination.retry = wishes.steer(policy.clone(), origin);
            destination.timeout_status = wishes.timeout_status();
        }
        let mut wishes = RetryWishes::default();
        wishes.take_from(&mut route.request_headers);
        let origin = || self.origins.field("headers");
        route.retry = wishes.steer(policy, origin);
        route.timeout_status = wishes.timeout_status();
    }

    fn fault(&mut self) -> Option<Fault> {
        let written = self.rule.fault.as_ref()?;
        let side = match self.metadata.annotations.get(FAULT_SIDE) {
            None => FaultSide::default(),
            Some(side) => fault_side(side).unwrap_or_else(|| {
                let message =
                    format!("`{FAULT_SIDE}: {side}` is no side: faults happen downstream");
                let place = FieldPath::root()
                    .field("metadata")
                    .field("annotations")
                    .field(FAULT_SIDE);
                let place = Place::Field(self.origin(place));
                let warning = Diagnostic::warning("fault-side", place, message);
                self.findings
                    .add(warning.with_help("write `downstream` or `upstream`"));
                FaultSide::default()
            }),
        };
        fault(written, side)
    }

    fn rewrite(&mut self, route: &mut Route) {
        let Some(written) = &self.rule.rewrite else {
            return;
        };
        if let Some(regex) = &written.uri_regex_rewrite {
            match RegexRewrite::new(&regex.r#match, &regex.rewrite) {
                Ok(rewrite) => route.path_rewrite = Some(PathRewrite::Regex(rewrite)),
                Err(message) => {
                    let place = self.place.field("rewrite").field("uriRegexRewrite");
                    self.refuse_regex(place, message);
                }
            }
        } else if !written.uri.is_empty() {
            route.path_rewrite = Some(PathRewrite::Matched(written.uri.clone()));
        }
        if !written.authority.is_empty() {
            route.host_rewrite = Some(written.authority.clone());
        }
    }

    fn redirect(&mut self, written: &HttpRedirect) -> RouteAction {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        let mut port = match (&written.derive_port, written.port) {
            (Some(derive), _) if derive == "FROM_REQUEST_PORT" => Some(self.scope.listen_port),
            (_, port) => port,
        };
        let scheme = match written.scheme.as_str() {
            "" if self.scope.is_tls => "https",
            "" => "http",
            scheme => scheme,
        };
        if matches!((scheme, port), ("http", Some(80)) | ("https", Some(443))) {
            port = None;
        }
        let status = match written.redirect_code {
            0 => 301,
            code @ (301 | 302 | 303 | 307 | 308) => code as u16,
            code => {
                let place = self.origin(self.place.field("redirect").field("redirectCode"));
                let message = format!("no redirect has the code {code}: requests get 404");
                self.findings.add(
                    Diagnostic::warning("redirect-code", Place::Field(place), message)
                        .with_help("write 301, 302, 303, 307 or 308"),
                );
                return RouteAction::DirectResponse {
                    status: 404,
                    body: Vec::new(),
                };
            }
        };
        RouteAction::Redirect(Redirect {
            status,
            scheme: text(&written.scheme),
            authority: text(&written.authority),
            port: port
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port > 0),
            path: match (text(&written.prefix_rewrite), text(&written.uri)) {
                (Some(prefix), _) => RedirectPath::Prefix(prefix),
                (None, Some(uri)) => RedirectPath::Whole(uri),
                (None, None) => RedirectPath::Same,
            },
        })
    }

    /// The name of the cluster of a destination, and its id if there is one. The destination
    /// stands at `place`, or in its field `within`.
    fn cluster(
        &mut self,
        destination: &Destination,
        place: &FieldPath,
        within: Option<&str>,
    ) -> (String, Option<ClusterId>) {
        let scope = self.scope;
        let suffix = &scope.settings.domain_suffix;
        let host = resolve_short_name(&destination.host, &self.metadata.namespace, suffix);
        let host = host.to_ascii_lowercase();
        let service = scope.service(&host);
        let explicit = destination
            .port
            .as_ref()
            .map(|port| port.number)
            .filter(|port| *port > 0);
        let port = explicit.unwrap_or_else(|| match service {
            Some(service) if scope.gateway != MESH && service.ports.len() == 1 => {
                service.ports[0].number
            }
            _ => scope.listen_port,
        });
        let target = service
            .and_then(|service| service.alias_of.as_deref())
            .unwrap_or(&host);
        let name = cluster_name(port, &destination.subset, target);
        let id = scope.clusters.id(&name);
        if id.is_none() && explicit.is_none() {
            let place = within.map_or_else(|| place.clone(), |field| place.field(field));
            self.report_missing_port(&host, port, place);
        }
        (name, id)
    }

    /// Warns that the port of the listener, which counts where none is written, is none of the
    /// service. What is missing whatever the listener, `references` finds.
    fn report_missing_port(&mut self, host: &str, port: u32, place: FieldPath) {
        let registry = self.scope.registry;
        let named = registry.find(host, &self.metadata.namespace);
        let service = named.and_then(|named| registry.behind(named));
        let Some(service) = service.filter(|service| service.port(port).is_none()) else {
            return;
        };
        let message = format!(
            "`{host}` has no port {port}; without `port` that of the listener counts: requests get 503 NC"
        );
        let help = super::references::choice_of_ports(service);
        let place = Place::Field(self.origin(place));
        self.findings
            .add(Diagnostic::warning("unknown-port", place, message).with_help(help));
    }

    fn operation(&self, route: &Route) -> String {
        let path = match &route.matches.path {
            PathMatch::Prefix(text) | PathMatch::PrefixIgnoreCase(text) => format!("{text}*"),
            PathMatch::Exact(text) | PathMatch::ExactIgnoreCase(text) => text.clone(),
            PathMatch::Regex(regex) => regex.text().to_string(),
        };
        let mut single = match route.destinations() {
            [one] if self.rule.route.len() == 1 => one.cluster_name.split('|').skip(1),
            _ => "".split('|').skip(1),
        };
        match (single.next(), single.next(), single.next()) {
            (Some(port), _, Some(host)) => format!("{host}:{port}{path}"),
            _ => format!("{}:{}{path}", self.root.name, self.scope.listen_port),
        }
    }
}

impl RouteScope<'_> {
    /// The service that a destination names, as far as this port can see it: a sidecar looks only
    /// among the services that have the port of the listener.
    fn service(&self, host: &str) -> Option<&Service> {
        if self.gateway == MESH {
            return self
                .registry
                .all(host)
                .find(|s| s.port(self.listen_port).is_some());
        }
        self.registry.find(host, self.rule_namespace)
    }
}

/// The route of a service that no VirtualService speaks of.
pub fn default_route(cluster_name: &str, clusters: &Clusters, operation: String) -> Route {
    let cluster = clusters.id(cluster_name);
    Route {
        name: "default".to_string(),
        origin: None,
        rule: None,
        matches: RouteMatch::any(),
        action: RouteAction::Forward(vec![snapshot::Destination {
            cluster,
            cluster_name: cluster_name.to_string(),
            weight: 1,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            host_rewrite: None,
            retry: None,
            timeout_status: TimeoutStatus::default(),
            origin: None,
        }]),
        timeout_ms: None,
        timeout_origin: None,
        timeout_status: TimeoutStatus::default(),
        retry: Some(match clusters.hashes(cluster) {
            true => default_retry_in_place(),
            false => default_retry(),
        }),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        path_rewrite: None,
        host_rewrite: None,
        fault: None,
        mirrors: Vec::new(),
        cors: None,
        operation,
        stats_name: None,
        split_slot: NO_SPLIT,
        identity: 0,
    }
}

fn direct_response(written: &DirectResponse) -> RouteAction {
    let written_body = written.body.as_ref();
    let body = written_body.map(|body| match (&body.string, &body.bytes) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(base64)) => super::base64::decode(base64).unwrap_or_default(),
        (None, None) => Vec::new(),
    });
    RouteAction::DirectResponse {
        status: u16::try_from(written.status).unwrap_or(500),
        body: body.unwrap_or_default(),
    }
}
