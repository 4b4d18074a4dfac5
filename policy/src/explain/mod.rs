//! The decision for one request, retold: what was chosen, what was passed over and why, and where
//! each value was written. The decision itself is taken by the matcher of the data path.

mod access_view;
mod balancing_view;
mod bytes;
pub(crate) mod cluster_view;
mod connection;
pub(crate) mod effects;
mod filters;
mod hash_view;
pub(crate) mod places;
mod text;
pub(crate) mod wording;

use std::iter::Peekable;
use std::vec::IntoIter;

use serde::Serialize;

use crate::compile::names::is_subset;
use crate::snapshot::{
    Cluster, ConnectionFacts, Decision, ExcludedRoute, ExcludedRule, ForwardedCert, Mismatch,
    RequestFacts, Route, RouteAction, RouteTable, SeenHeaders, Snapshot, Trace, VirtualHost,
    without_port,
};
use crate::source::SourceFile;

pub use access_view::AccessView;
pub use cluster_view::{DestinationView, EndpointView};
pub use connection::{Connection, Security, WireProtocol};
pub use effects::Setting;
pub use places::Written;

use connection::{Failure, Reached, failure, reach};
use hash_view::Carried;
use places::Places;

/// The request to explain.
#[derive(Debug, Clone, Default)]
pub struct Request {
    pub method: String,
    /// Host with or without port, as a client would send it.
    pub authority: String,
    /// With its query.
    pub target: String,
    pub headers: Vec<(String, String)>,
    /// The port that the client connects to, if it is known.
    pub port: Option<u16>,
    pub connection: Connection,
    /// The time by which tokens are judged, in seconds since 1970; without one neither tokens nor
    /// policies are asked about.
    pub now_unix_s: Option<u64>,
}

/// What cannot be read as a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlError(pub String);

impl std::fmt::Display for UrlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is no URL such as `http://host:8080/path`", self.0)
    }
}

impl std::error::Error for UrlError {}

impl Request {
    /// A request for a URL; the scheme may be left out. That of `https` is for a connection of TLS.
    ///
    /// # Errors
    ///
    /// A text without host, or with a port that is none.
    pub fn for_url(url: &str) -> Result<Self, UrlError> {
        let error = || UrlError(url.to_string());
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let host = without_port(authority);
        let is_ipv6 = host.starts_with('[') && host.ends_with(']');
        if host.is_empty() || host.contains(':') && !is_ipv6 {
            return Err(error());
        }
        let port = match authority[host.len()..].strip_prefix(':') {
            Some(port) => Some(port.parse().map_err(|_| error())?),
            None => None,
        };
        let target = if target.starts_with('/') {
            target.to_string()
        } else {
            format!("/{target}")
        };
        Ok(Self {
            method: "GET".to_string(),
            authority: authority.to_string(),
            target,
            headers: Vec::new(),
            now_unix_s: None,
            port,
            connection: Connection {
                security: match scheme {
                    "https" => Security::Tls,
                    _ => Security::Plain,
                },
                ..Connection::default()
            },
        })
    }
}

/// A decision and its reasons. Names are Istio's.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub request: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_address: Option<String>,
    /// Why it is that listener, or why nobody reaches it as things are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener_note: Option<String>,
    /// The filter chain, where a listener has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter_chain: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_host: Option<String>,
    /// The domains that lead to the virtual host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// What tokens and policies say.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub access: Vec<AccessView>,
    /// Routes before the one taken, and why each did not match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<PassedOver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route_written: Option<Written>,
    /// The only cluster, or that of the largest share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<DestinationView>,
    /// Timeout, retries, rewrites, header edits and the like.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<Setting>,
    /// What the proxy answers by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<LocalAnswer>,
    /// Why there is no route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The kind of error, as Istio's simulation of a proxy calls it: `ErrNoRoute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<&'static str>,
}

/// An answer that does not come from an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LocalAnswer {
    pub status: u16,
    /// Envoy's response flag, `-` for none.
    pub flag: String,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

/// A route that did not match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    pub route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// The first condition that failed.
    pub because: String,
    /// Whether that was the path, which says little where there are many routes.
    #[serde(skip)]
    pub by_path: bool,
}

/// Explains a request. `files` are the ones that the snapshot was loaded from; `gateway`
/// (`namespace/name`) narrows the choice of listeners.
pub fn explain(
    snapshot: &Snapshot,
    files: &[SourceFile],
    request: &Request,
    gateway: Option<&str>,
) -> Explanation {
    let places = Places::default();
    tell(snapshot, &places, request, gateway);
    tell(snapshot, &places.looked_up(files), request, gateway)
}

fn tell(
    snapshot: &Snapshot,
    places: &Places,
    request: &Request,
    gateway: Option<&str>,
) -> Explanation {
    let mut explanation = Explanation {
        request: format!("{} {}{}", request.method, request.authority, request.target),
        ..Explanation::default()
    };
    let (table, facts_of_connection) = match reach(snapshot, request, gateway, &mut explanation) {
        Ok((Reached::Http(table), facts)) => (table, facts),
        Ok((Reached::Tcp(route), facts)) => {
            explanation.request = bytes::told(request, &facts);
            explanation.tell_bytes(snapshot, route, &facts, places);
            if request.now_unix_s.is_some() {
                explanation.tell_access_of_bytes(snapshot, &facts, places);
            }
            return explanation;
        }
        Err(failure) => {
            explanation.fail(failure);
            return explanation;
        }
    };
    let (target, query) = match request.target.split_once('?') {
        Some((target, query)) => (target, Some(query)),
        None => (request.target.as_str(), None),
    };
    let normal = match snapshot.settings.path_normalization.apply(target) {
        Ok(normal) => normal,
        Err(error) => {
            explanation.answer_locally(400, "-", error.to_string());
            explanation.fail(failure("ErrBadPath", error.to_string()));
            return explanation;
        }
    };
    let element = client_element(&facts_of_connection);
    let seen = |came| SeenHeaders {
        came,
        direction: facts_of_connection.direction,
        scheme: scheme_of(&facts_of_connection),
        peer: facts_of_connection.peer.map(|peer| peer.ip()),
        client_cert: ForwardedCert::new(
            snapshot
                .settings
                .proxy_headers
                .forwarded_client_cert(facts_of_connection.direction),
            element.as_deref(),
        ),
        request_id: None,
        is_upgrade: true,
    };
    let came = seen(&request.headers);
    let facts = RequestFacts {
        method: &request.method,
        scheme: scheme_of(&facts_of_connection),
        authority: &request.authority,
        path: &normal,
        query,
        headers: &came,
        connection: &facts_of_connection,
        claims: None,
    };
    let headers = &request.headers;
    let came =
        explanation.tell_authentication(snapshot, &facts, headers, request.now_unix_s, places);
    let told = seen(&came.headers);
    let facts = RequestFacts {
        headers: &told,
        query: came.query.as_deref(),
        claims: came.token.as_ref().map(|token| &token.claims),
        ..facts
    };
    if request.now_unix_s.is_some() && explanation.answer.is_none() {
        explanation.tell_authorization(snapshot, &facts, places);
    }
    // Whoever is refused is refused whatever the route; it is told all the same.
    let refusal = explanation.answer.take();
    let mut trace = Retelling {
        explanation,
        facts,
        places,
        excluded: Vec::new().into_iter().peekable(),
        asked: 0,
    };
    let decision = table.route_traced(&facts, &mut trace);
    trace.tell_excluded();
    let mut explanation = trace.explanation;
    let host = without_port(&request.authority).to_ascii_lowercase();
    explanation.tell_excluded_rules(&host, table, places);
    match decision {
        Decision::Route { route, .. } => {
            let protocol = match request.connection.protocol {
                WireProtocol::Http2 => "HTTP/2",
                WireProtocol::Http | WireProtocol::Tcp => "HTTP/1.1",
            };
            explanation.tell_route(snapshot, route, &facts, protocol, places);
        }
        Decision::NoVirtualHost => {
            explanation.answer_locally(404, "NR", "no virtual host has this host");
            let reason = "no virtual host has this host: 404 NR";
            explanation.fail(failure("ErrNoVirtualHost", reason));
        }
        Decision::NoRoute(_) => {
            explanation.answer_locally(404, "NR", "no route of the virtual host matches");
            let reason = "no route of the virtual host matches: 404 NR";
            explanation.fail(failure("ErrNoRoute", reason));
        }
        Decision::HttpsRedirect(_) => {
            explanation.answer_locally(301, "-", "the server redirects to https");
            let reason = "the server redirects to https: 301";
            explanation.fail(failure("ErrTLSRedirect", reason));
        }
    }
    explanation.answer = refusal.or(explanation.answer);
    explanation
}

fn scheme_of(connection: &ConnectionFacts) -> &'static str {
    match connection.is_tls {
        true => "https",
        false => "http",
    }
}

/// What `x-forwarded-client-cert` says of a client, as far as that is known without its
/// certificate.
fn client_element(connection: &ConnectionFacts) -> Option<String> {
    let identity = connection.identity.as_ref()?;
    Some(format!("URI=spiffe://{}", identity.principal))
}

/// Follows the matcher.
struct Retelling<'a> {
    explanation: Explanation,
    facts: RequestFacts<'a>,
    places: &'a Places,
    /// Of the virtual host: those that are still to be told.
    excluded: Peekable<IntoIter<ExcludedRoute>>,
    /// How many routes were asked.
    asked: usize,
}

impl Retelling<'_> {
    /// Tells which routes would have been asked by now, if they were here.
    fn tell_excluded(&mut self) {
        let asked = self.asked;
        while let Some(route) = self.excluded.next_if(|route| route.position <= asked) {
            let told = PassedOver::excluded(&route, self.places);
            self.explanation.passed_over.push(told);
        }
    }
}

impl Trace for Retelling<'_> {
    const WATCHING: bool = true;

    fn chose_virtual_host(&mut self, _host: &str, virtual_host: &VirtualHost) {
        self.explanation.virtual_host = Some(virtual_host.name.clone());
        self.explanation.domains.clone_from(&virtual_host.domains);
        self.excluded = virtual_host.excluded.clone().into_iter().peekable();
    }

    fn passed_over(&mut self, route: &Route, mismatch: Mismatch<'_>) {
        self.tell_excluded();
        self.asked += 1;
        self.explanation.passed_over.push(PassedOver {
            route: route.name.clone(),
            written: self.places.of_optional(&route.origin),
            because: wording::of_mismatch(mismatch, &self.facts),
            by_path: matches!(mismatch, Mismatch::Path(_)),
        });
    }
}

impl PassedOver {
    fn excluded(route: &ExcludedRoute, places: &Places) -> Self {
        Self {
            route: route.name.clone(),
            written: places.of(&route.origin),
            because: route.because.clone(),
            by_path: false,
        }
    }
}

impl Explanation {
    /// Tells of VirtualServices for the host that have no route here at all.
    fn tell_excluded_rules(&mut self, host: &str, table: &RouteTable, places: &Places) {
        let is_asked = |rule: &&ExcludedRule| {
            rule.hosts.iter().any(|known| {
                is_subset(host, known) || self.domains.iter().any(|domain| domain == known)
            })
        };
        let rules = table.excluded.iter().filter(is_asked);
        let routes = rules.flat_map(|rule| &rule.routes);
        let told: Vec<_> = routes
            .map(|route| PassedOver::excluded(route, places))
            .collect();
        self.passed_over.splice(0..0, told);
    }

    fn fail(&mut self, failure: Failure) {
        self.error = Some(failure.reason);
        self.error_kind = Some(failure.kind);
    }

    fn answer_locally(&mut self, status: u16, flag: &str, reason: impl Into<String>) {
        let (flag, reason) = (flag.to_string(), reason.into());
        self.answer = Some(LocalAnswer {
            status,
            flag,
            reason,
            written: None,
        });
    }

    /// An answer that the rule of a route gives in this field of its.
    fn answer_as_written(
        &mut self,
        status: u16,
        reason: impl Into<String>,
        route: &Route,
        field: &str,
        places: &Places,
    ) {
        self.answer_locally(status, "-", reason);
        if let Some(answer) = &mut self.answer {
            answer.written = places.of_optional(&effects::field_of_rule(route, field));
        }
    }

    fn tell_route(
        &mut self,
        snapshot: &Snapshot,
        route: &Route,
        facts: &RequestFacts<'_>,
        protocol: &'static str,
        places: &Places,
    ) {
        self.route = Some(route.name.clone());
        self.route_written = places.of_optional(&route.origin);
        self.settings = effects::settings(route, Some(facts), places);
        match &route.action {
            RouteAction::Forward(destinations) => {
                let total: u64 = destinations.iter().map(|d| u64::from(d.weight)).sum();
                for destination in destinations {
                    let cluster: Option<&Cluster> =
                        destination.cluster.map(|id| snapshot.cluster(id).as_ref());
                    let share = f64::from(destination.weight) * 100.0 / total.max(1) as f64;
                    let carried = Carried::Request {
                        route,
                        facts,
                        protocol,
                    };
                    let mut view =
                        cluster_view::destination(destination, share, cluster, carried, places);
                    bytes::show_address(&mut view, cluster, facts.connection);
                    self.destinations.push(view);
                }
                let largest = destinations.iter().rev().max_by_key(|d| d.weight);
                self.cluster = largest.map(|destination| destination.cluster_name.clone());
                if let [only] = self.destinations.as_slice() {
                    self.answer = only.answer.clone();
                }
                if !self.tell_abort(route, places) {
                    self.tell_preflight(route, facts, places);
                }
            }
            RouteAction::DirectResponse { status, body } => {
                let reason = format!("the route answers by itself, with {} bytes", body.len());
                self.answer_as_written(*status, reason, route, "directResponse", places);
            }
            RouteAction::Redirect(redirect) => {
                let matched = route.matches.path.matched_len(facts.path);
                let mut location = Vec::new();
                redirect.location(facts, matched, &mut location);
                let location = String::from_utf8_lossy(&location);
                let reason = format!("location: {location}");
                self.answer_as_written(redirect.status, reason, route, "redirect", places);
            }
        }
    }

    /// As one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// For people.
    pub fn to_text(&self) -> String {
        text::render(self)
    }
}
