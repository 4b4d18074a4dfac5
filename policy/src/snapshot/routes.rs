//! Route tables: which virtual host and which route a request belongs to.

use std::sync::Arc;

use super::ClusterId;
use super::headers::HeaderEdits;
use super::hosts::{HostIndex, without_port};
use super::matching::{Mismatch, RouteMatch};
use super::path_index::PathIndex;
use super::path_probe::{Probe, Verdict};
use super::request::RequestFacts;
use super::retry::RetryPolicy;
use super::rewrite::{PathRewrite, Redirect};
use super::route_policy::{CorsPolicy, Fault, Mirror};
use crate::source::Origin;

/// Istio's name of the route that refuses hosts that the mesh does not know.
pub const BLOCK_ALL: &str = "block_all";

/// All virtual hosts behind one listener.
#[derive(Debug, Clone)]
pub struct RouteTable {
    /// Istio's name: `http.8080` behind a gateway listener, `9080` in a sidecar.
    pub name: String,
    virtual_hosts: Vec<VirtualHost>,
    hosts: HostIndex,
    /// VirtualServices that have no route here at all, for those who ask why.
    pub excluded: Vec<ExcludedRule>,
}

/// A VirtualService whose every match cannot hold here.
#[derive(Debug, Clone)]
pub struct ExcludedRule {
    /// Fully qualified.
    pub hosts: Vec<String>,
    pub routes: Vec<ExcludedRoute>,
}

/// A route that there would be, if its match could hold at this port, gateway and workload.
#[derive(Debug, Clone)]
pub struct ExcludedRoute {
    /// As [`Route::name`].
    pub name: String,
    pub origin: Origin,
    /// Such as `match.port is 443, and this is port 80`.
    pub because: String,
    /// How many routes of its virtual host would be asked before it.
    pub position: usize,
}

/// The routes of a set of domains. What a decision reads comes first and fills one cache line.
#[derive(Debug, Clone)]
#[repr(C, align(64))]
pub struct VirtualHost {
    probes: Box<[Probe]>,
    routes: Vec<Route>,
    index: Option<Box<PathIndex>>,
    /// Every request is answered with status 301 to `https` (a gateway server's `httpsRedirect`).
    pub https_redirect: bool,
    /// Istio's name, host and port: `example.com:80`.
    pub name: String,
    /// Exact hosts, `*suffix`, `prefix*` or `*`.
    pub domains: Vec<String>,
    /// By position; no decision reads them.
    pub excluded: Vec<ExcludedRoute>,
}

/// What is answered where an upstream takes longer than it may, if not 504.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimeoutStatus {
    #[default]
    GatewayTimeout,
    /// 204. Envoy: `x-envoy-upstream-rq-timeout-alt-response`.
    NoContent,
}

impl TimeoutStatus {
    /// The status code.
    pub fn code(self) -> u16 {
        match self {
            Self::GatewayTimeout => 504,
            Self::NoContent => 204,
        }
    }
}

/// The rule that a route was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleOrigin {
    /// With a delegate: of the delegate.
    pub own: Origin,
    /// The rule that delegates to it.
    pub above: Option<Origin>,
    /// Fields that it leaves open, so that they are as the rule above has them.
    pub inherited: Vec<&'static str>,
}

impl RuleOrigin {
    /// The rule that says what `field` is.
    pub fn of(&self, field: &str) -> &Origin {
        match &self.above {
            Some(above) if self.inherited.contains(&field) => above,
            _ => &self.own,
        }
    }

    /// Where `field` is written.
    pub fn field(&self, field: &str) -> Origin {
        let rule = self.of(field);
        Origin {
            document: rule.document,
            field: rule.field.field(field),
        }
    }
}

/// What happens to the requests that match.
#[derive(Debug, Clone)]
pub struct Route {
    /// `route.match` as in Istio's access log, `default` where there is no VirtualService, or
    /// empty when neither has a name.
    pub name: String,
    /// The match or rule that it was written as; `None` for routes that the mesh adds by itself.
    pub origin: Option<Origin>,
    /// The rule whose fields it carries out; `None` as for `origin`.
    pub rule: Option<Arc<RuleOrigin>>,
    pub matches: RouteMatch,
    pub action: RouteAction,
    /// Over all tries; `None` is no timeout. Istio: `http[].timeout`.
    pub timeout_ms: Option<u64>,
    /// Where the timeout was written; `None` is the default.
    pub timeout_origin: Option<Origin>,
    /// What a time limit is answered, that of a try or that of all of them.
    pub timeout_status: TimeoutStatus,
    /// `None` is no retry at all.
    pub retry: Option<Arc<RetryPolicy>>,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// What the upstream sees instead of the path; the client's path then goes along as
    /// `x-envoy-original-path`.
    pub path_rewrite: Option<PathRewrite>,
    /// What the upstream sees as Host, unless the destination says otherwise.
    pub host_rewrite: Option<String>,
    pub fault: Option<Fault>,
    pub mirrors: Vec<Mirror>,
    pub cors: Option<CorsPolicy>,
    /// `host:port/path*`, the operation name of spans and of `x-envoy-decorator-operation`.
    pub operation: String,
    /// Under which name its requests are counted by themselves, `vhost.HOST.route.PREFIX`. Istio:
    /// `match[].statPrefix`.
    pub stats_name: Option<Arc<str>>,
    /// Index of the split state of this route, or [`NO_SPLIT`] with fewer than two destinations.
    pub split_slot: u32,
    /// The same across reloads as long as the route table, the virtual host, the route's name and
    /// its place among routes of that name stay the same.
    pub identity: u64,
}

/// [`Route::split_slot`] of a route that has nothing to split.
pub const NO_SPLIT: u32 = u32::MAX;

/// Where a request goes.
#[derive(Debug, Clone)]
pub enum RouteAction {
    /// To one of these, by weight. Never empty.
    Forward(Vec<Destination>),
    /// Answered here.
    DirectResponse { status: u16, body: Vec<u8> },
    /// Answered with a `location`.
    Redirect(Redirect),
}

/// A cluster and its share.
#[derive(Debug, Clone)]
pub struct Destination {
    /// `None` when there is no such cluster: 503, flag NC.
    pub cluster: Option<ClusterId>,
    pub cluster_name: String,
    /// The share is the weight divided by the sum of the weights.
    pub weight: u32,
    /// Applied before those of the route.
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    /// Takes precedence over the route's.
    pub host_rewrite: Option<String>,
    /// Of its own, by headers that it sets; `None` is the route's.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Of its own, if it is not the default; else it is the route's.
    pub timeout_status: TimeoutStatus,
    pub origin: Option<Origin>,
}

impl Route {
    /// What is tried again of the requests to one of its destinations.
    pub fn retry_of<'s>(&'s self, destination: &'s Destination) -> Option<&'s RetryPolicy> {
        destination.retry.as_deref().or(self.retry.as_deref())
    }

    /// What the time limits of requests to one of its destinations are answered.
    pub fn timeout_status_of(&self, destination: &Destination) -> TimeoutStatus {
        match destination.timeout_status {
            TimeoutStatus::GatewayTimeout => self.timeout_status,
            own => own,
        }
    }

    /// What an upstream of one of its destinations sees as Host, if not what the client wrote.
    pub fn host_rewrite_of<'s>(&'s self, destination: &'s Destination) -> Option<&'s str> {
        let of_destination = destination.host_rewrite.as_deref();
        of_destination.or(self.host_rewrite.as_deref())
    }
}

/// What a route table says about a request.
#[derive(Debug, Clone, Copy)]
pub enum Decision<'s> {
    Route {
        virtual_host: &'s VirtualHost,
        route: &'s Route,
    },
    /// 404, flag NR.
    NoVirtualHost,
    /// 404, flag NR.
    NoRoute(&'s VirtualHost),
    /// 301 to the same host, path and query with `https`.
    HttpsRedirect(&'s VirtualHost),
}

/// Watches a decision being taken. The data path uses [`NoTrace`], which costs nothing.
pub trait Trace {
    /// Whether every route is to be asked in turn, so that each refusal is told.
    const WATCHING: bool;
    /// The virtual host was chosen by this host.
    fn chose_virtual_host(&mut self, _host: &str, _virtual_host: &VirtualHost) {}
    /// A route was passed over.
    fn passed_over(&mut self, _route: &Route, _mismatch: Mismatch<'_>) {}
}

/// The trace that sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    const WATCHING: bool = false;
}

impl RouteTable {
    /// A table of virtual hosts. A domain that occurs twice stays with the first of them.
    pub fn new(name: String, virtual_hosts: Vec<VirtualHost>) -> Self {
        let mut hosts = HostIndex::default();
        for (at, virtual_host) in virtual_hosts.iter().enumerate() {
            for domain in &virtual_host.domains {
                hosts.insert(domain, at as u32);
            }
        }
        Self {
            name,
            virtual_hosts,
            hosts,
            excluded: Vec::new(),
        }
    }

    pub fn virtual_hosts(&self) -> &[VirtualHost] {
        &self.virtual_hosts
    }

    /// The virtual host that requests for a host without port go to.
    pub fn virtual_host_of(&self, host: &str) -> Option<&VirtualHost> {
        let found = self.hosts.find(host)?;
        self.virtual_hosts.get(found as usize)
    }

    /// Decides. Allocates nothing and takes no lock.
    #[inline]
    pub fn route(&self, request: &RequestFacts<'_>) -> Decision<'_> {
        self.route_traced(request, &mut NoTrace)
    }

    /// Decides, and tells `trace` how.
    #[inline]
    pub fn route_traced<T: Trace>(
        &self,
        request: &RequestFacts<'_>,
        trace: &mut T,
    ) -> Decision<'_> {
        let host = without_port(request.authority);
        let Some(found) = self.hosts.find(host) else {
            return Decision::NoVirtualHost;
        };
        let virtual_host = &self.virtual_hosts[found as usize];
        trace.chose_virtual_host(host, virtual_host);
        if virtual_host.https_redirect && request.scheme != "https" {
            return Decision::HttpsRedirect(virtual_host);
        }
        match virtual_host.find(request, trace) {
            Some(route) => Decision::Route {
                virtual_host,
                route,
            },
            None => Decision::NoRoute(virtual_host),
        }
    }
}

impl VirtualHost {
    pub fn new(name: String, domains: Vec<String>, routes: Vec<Route>) -> Self {
        let index = PathIndex::new(routes.iter().map(|route| &route.matches.path));
        let index = index.map(Box::new);
        let probes = match &index {
            Some(_) => Box::default(),
            None => routes
                .iter()
                .map(|route| Probe::new(&route.matches))
                .collect(),
        };
        Self {
            probes,
            routes,
            index,
            https_redirect: false,
            name,
            domains,
            excluded: Vec::new(),
        }
    }

    /// In the order in which they are asked.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    fn find<T: Trace>(&self, request: &RequestFacts<'_>, trace: &mut T) -> Option<&Route> {
        if T::WATCHING {
            return self
                .routes
                .iter()
                .find(|route| match route.matches.mismatch(request) {
                    None => true,
                    Some(mismatch) => {
                        trace.passed_over(route, mismatch);
                        false
                    }
                });
        }
        let holds = |at: usize| self.routes[at].matches.mismatch(request).is_none();
        let found = match &self.index {
            Some(index) => index
                .first(request.path, |at| holds(at as usize))
                .map(|at| at as usize),
            None => self.probes.iter().enumerate().position(|(at, probe)| {
                match probe.judge(request.path) {
                    Verdict::No => false,
                    Verdict::Yes => true,
                    Verdict::Ask => holds(at),
                }
            }),
        };
        found.map(|at| &self.routes[at])
    }
}

impl Route {
    /// The destinations, or none where the request is answered here.
    pub fn destinations(&self) -> &[Destination] {
        match &self.action {
            RouteAction::Forward(destinations) => destinations,
            _ => &[],
        }
    }

    /// Whether requests are rewritten before they are sent on.
    pub fn rewrites(&self) -> bool {
        self.path_rewrite.is_some() || self.host_rewrite.is_some()
    }

    /// Appends the path that the upstream sees for `path` (without query), and says whether it is
    /// another one. Without a rewrite nothing is appended.
    pub fn rewrite_path(&self, path: &str, out: &mut Vec<u8>) -> bool {
        match &self.path_rewrite {
            Some(rewrite) => {
                rewrite.apply(path, self.matches.path.matched_len(path), out);
                true
            }
            None => false,
        }
    }
}
