//! Clusters: what requests are forwarded to.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::balancing::{HashPolicy, Level, LocalityPolicy, WarmUp};
use super::tls::UpstreamTls;
use crate::health::{EjectionCause, RetryBudget};
pub use crate::resource::destination_rule::ProxyVersion;
use crate::source::Origin;

/// Istio's name of the cluster where nothing answers.
pub const BLACK_HOLE: &str = "BlackHoleCluster";

/// Index of a cluster in its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u32);

/// The endpoints of a service's port and subset, and how they are used.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// Istio's name: `outbound|9080|v1|reviews.default.svc.cluster.local`. With the address of an
    /// endpoint it is the identity of what outlives a reload.
    pub name: String,
    pub endpoints: Vec<Endpoint>,
    pub balancer: Balancer,
    /// What balancers that hash go by; `None` lets them draw.
    pub hash_policy: Option<HashPolicy>,
    pub locality: LocalityPolicy,
    /// Only with balancers that take turns.
    pub warm_up: Option<WarmUp>,
    /// The endpoints by priority and place.
    pub(crate) levels: Vec<Level>,
    /// When endpoints came, in milliseconds of the caller's clock; empty when nobody has said.
    pub(crate) arrived_ms: Vec<u64>,
    /// Below this share of available endpoints of a priority all of them count as available,
    /// unless other priorities have room; 0 is never.
    pub panic_threshold_percent: u8,
    /// Istio: `connectionPool.tcp.connectTimeout`, 10 s.
    pub connect_timeout_ms: u64,
    /// After how long without a request a connection is closed; `None` is never. Istio:
    /// `connectionPool.http.idleTimeout`, else `tcp.idleTimeout`, else 1 h.
    pub upstream_idle_timeout_ms: Option<u64>,
    pub connection_pool: ConnectionPool,
    pub upstream_protocol: UpstreamProtocol,
    /// In place of [`ConnectionPool::max_retries`]. Istio: `trafficPolicy.retryBudget`.
    pub retry_budget: Option<RetryBudget>,
    pub outlier_detection: Option<OutlierDetection>,
    /// Where its endpoints, which are proxies, are asked to connect TCP on to, as
    /// `HOST:PORT`. Istio: `trafficPolicy.tunnel`.
    pub tunnel_target: Option<Arc<str>>,
    /// Whether connections begin by naming the client, in which version of the PROXY protocol.
    /// Istio: `trafficPolicy.proxyProtocol`.
    pub proxy_protocol: Option<ProxyVersion>,
    /// `None` is plain text; see [`Cluster::tls_for`].
    pub tls: Option<Arc<UpstreamTls>>,
    pub discovery: Discovery,
    /// A redirected connection goes on to where the client had addressed it; the endpoints are for
    /// connections of which that is not known. Istio: resolution NONE, PASSTHROUGH.
    pub follows_destination: bool,
    /// Whether it is the workload at hand. It is reached from 127.0.0.6 or ::6, by which the rules
    /// that redirect know the proxy's own connections, as Istio's do.
    pub is_workload: bool,
    pub service: ServiceLabels,
    /// Empty for the whole service.
    pub subset: String,
    /// The port of the service.
    pub port: u16,
    /// The document of the service; `None` for those that the mesh adds by itself.
    pub origin: Option<Origin>,
    pub policy_origins: PolicyOrigins,
}

/// Where the parts of a cluster's policy were written; `None` is a default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PolicyOrigins {
    pub subset: Option<Origin>,
    pub load_balancer: Option<Origin>,
    pub connection_pool: Option<Origin>,
    pub upstream_protocol: Option<Origin>,
    pub retry_budget: Option<Origin>,
    pub proxy_protocol: Option<Origin>,
    pub outlier_detection: Option<Origin>,
    pub tunnel: Option<Origin>,
    pub tls: Option<Origin>,
}

/// Names of a service, for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceLabels {
    /// Fully qualified.
    pub host: String,
    pub name: String,
    pub namespace: String,
}

/// How an endpoint is chosen. Istio: `trafficPolicy.loadBalancer`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balancer {
    /// In turns, by weight.
    RoundRobin,
    /// Of two random endpoints, the one with fewer requests; in turns by weight and requests
    /// where the weights differ.
    #[default]
    LeastRequest,
    /// Drawn; weights make no difference.
    Random,
    /// By hash, on a ring of at least this many points.
    RingHash { minimum_size: u64 },
    /// By hash, in a Maglev table of this size, a prime.
    Maglev { table_size: u64 },
    /// To where the client had addressed the connection.
    Passthrough,
}

impl Balancer {
    /// Istio's word for it, or Envoy's.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RingHash { .. } => "RING_HASH",
            Self::Maglev { .. } => "MAGLEV",
            Self::RoundRobin => "ROUND_ROBIN",
            Self::LeastRequest => "LEAST_REQUEST",
            Self::Random => "RANDOM",
            Self::Passthrough => "PASSTHROUGH",
        }
    }
}

/// The version of HTTP that requests are sent in. Istio: the protocol of the service's port,
/// `connectionPool.http.h2UpgradePolicy` and `useClientProtocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    #[default]
    Http1,
    /// Without asking first where nothing is encrypted, by ALPN over TLS.
    Http2,
    /// What the client speaks.
    AsDownstream,
}

impl UpstreamProtocol {
    /// Envoy's words for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::AsDownstream => "as the client",
        }
    }

    /// Whether the request of such a client goes upstream in HTTP/2.
    #[inline]
    pub fn is_http2(self, client_speaks_http2: bool) -> bool {
        match self {
            Self::Http1 => false,
            Self::Http2 => true,
            Self::AsDownstream => client_speaks_http2,
        }
    }
}

/// Where the endpoints come from.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Discovery {
    /// From the configuration alone.
    #[default]
    Static,
    /// Each address of each name is an endpoint.
    StrictDns(Vec<DnsTarget>),
    /// The first address of the name is the one endpoint.
    LogicalDns(Vec<DnsTarget>),
    /// Where the client had addressed the connection; there are no endpoints.
    OriginalDestination,
}

/// A name whose addresses become endpoints.
#[derive(Debug, Clone, PartialEq)]
pub struct DnsTarget {
    pub name: String,
    pub port: u16,
    /// The endpoint, but for its address.
    pub template: Endpoint,
}

/// One place that answers requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    pub address: EndpointAddress,
    /// At least 1.
    pub weight: u32,
    pub labels: BTreeMap<String, String>,
    /// `region/zone/subzone`, as far as it is known.
    pub locality: String,
    pub workload: WorkloadLabels,
    pub service_account: String,
}

/// Endpoints without those whose address stands in the list before them: while EndpointSlices are
/// changed, an endpoint may be in two of them.
pub(super) fn first_of_each_address(list: impl IntoIterator<Item = Endpoint>) -> Vec<Endpoint> {
    let mut known = HashSet::new();
    let is_new = |endpoint: &Endpoint| known.insert(endpoint.address.clone());
    list.into_iter().filter(is_new).collect()
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    Socket(SocketAddr),
    /// A path of a Unix domain socket; a leading `@` is the abstract namespace.
    Unix(String),
}

impl EndpointAddress {
    /// Of a socket address.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix://{path}"),
        }
    }
}

/// Names of the workload behind an endpoint, for metrics. Empty is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadLabels {
    pub name: String,
    pub namespace: String,
    pub app: String,
    pub version: String,
    pub canonical_name: String,
    pub canonical_revision: String,
    pub cluster: String,
}

/// Limits of a cluster, for the whole process. Istio: `trafficPolicy.connectionPool`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionPool {
    pub max_connections: u32,
    pub max_pending_requests: u32,
    pub max_requests: u32,
    pub max_retries: u32,
    /// 0 is without limit; 1 is no keep-alive.
    pub max_requests_per_connection: u32,
    /// `None` is no limit.
    pub max_connection_duration_ms: Option<u64>,
    pub keepalive: Option<TcpKeepalive>,
    /// Of one HTTP/2 connection.
    pub max_concurrent_streams: u32,
    pub http2_keepalive: Option<Http2Keepalive>,
}

/// PINGs on HTTP/2 connections. Istio: `connectionPool.http.http2KeepAlive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Keepalive {
    pub interval_ms: u64,
    /// Without an answer for so long the connection counts as broken.
    pub timeout_ms: u64,
}

/// `None` leaves the value to the operating system.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TcpKeepalive {
    pub probes: Option<u32>,
    pub time_s: Option<u32>,
    pub interval_s: Option<u32>,
}

/// Istio's value for "no limit".
pub const UNLIMITED: u32 = u32::MAX;

impl Default for ConnectionPool {
    fn default() -> Self {
        Self {
            max_connections: UNLIMITED,
            max_pending_requests: UNLIMITED,
            max_requests: UNLIMITED,
            max_retries: UNLIMITED,
            max_requests_per_connection: 0,
            max_connection_duration_ms: None,
            keepalive: None,
            max_concurrent_streams: UNLIMITED,
            http2_keepalive: None,
        }
    }
}

/// When endpoints are ejected. Istio: `trafficPolicy.outlierDetection`, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierDetection {
    /// `None` is off.
    pub consecutive_5xx: Option<u32>,
    pub consecutive_gateway_errors: Option<u32>,
    /// A threshold of gateway errors that shows in figures and ejects nothing. Envoy's default of
    /// 5, where none is written.
    pub watched_gateway_errors: Option<u32>,
    /// Only in split mode.
    pub consecutive_local_origin_failures: Option<u32>,
    pub split_local_origin_errors: bool,
    /// The statuses that are failures, in place of 5xx; empty is 5xx. Istio:
    /// `outlierDetectionHttpErrorCodes`.
    pub error_codes: Vec<u16>,
    pub interval_ms: u64,
    pub base_ejection_time_ms: u64,
    pub max_ejection_percent: u32,
}

impl OutlierDetection {
    /// Whether reaching the threshold of `cause` ejects. Envoy: the `enforcing_*` fields, which
    /// Istio sets to 0 or 100.
    pub fn enforces(&self, cause: EjectionCause) -> bool {
        match cause {
            EjectionCause::Consecutive5xx => self.consecutive_5xx.is_some(),
            EjectionCause::ConsecutiveGatewayFailure => self.consecutive_gateway_errors.is_some(),
            EjectionCause::ConsecutiveLocalOriginFailure => {
                self.consecutive_local_origin_failures.is_some()
            }
        }
    }

    /// How many endpoints of so many may be out at once: 0 of fewer than ten with the default of
    /// 10 %.
    pub fn max_ejected(&self, endpoints: usize) -> usize {
        endpoints * self.max_ejection_percent.min(100) as usize / 100
    }
}

impl Cluster {
    /// A cluster with defaults for everything but its name.
    pub fn new(name: String) -> Self {
        Self {
            name,
            endpoints: Vec::new(),
            balancer: Balancer::default(),
            hash_policy: None,
            locality: LocalityPolicy::default(),
            warm_up: None,
            levels: Vec::new(),
            arrived_ms: Vec::new(),
            panic_threshold_percent: 0,
            connect_timeout_ms: 10_000,
            upstream_idle_timeout_ms: Some(3_600_000),
            connection_pool: ConnectionPool::default(),
            upstream_protocol: UpstreamProtocol::default(),
            retry_budget: None,
            outlier_detection: None,
            tunnel_target: None,
            proxy_protocol: None,
            tls: None,
            discovery: Discovery::Static,
            follows_destination: false,
            is_workload: false,
            service: ServiceLabels::default(),
            subset: String::new(),
            port: 0,
            origin: None,
            policy_origins: PolicyOrigins::default(),
        }
    }
}

impl Endpoint {
    /// An endpoint of weight 1 without labels.
    pub fn at(address: EndpointAddress) -> Self {
        Self {
            address,
            weight: 1,
            labels: BTreeMap::new(),
            locality: String::new(),
            workload: WorkloadLabels::default(),
            service_account: String::new(),
        }
    }
}
