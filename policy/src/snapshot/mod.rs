//! What workers read: the compiled configuration, immutable, and the decisions taken from it.
//!
//! Routing, splitting and balancing allocate nothing in the steady state and take no lock. State
//! that changes with each request belongs to the worker and is handed in.

mod access;
mod balancing;
mod cluster;
mod connection;
mod dns;
mod filter_chain;
mod header_levels;
mod headers;
mod hosts;
mod listener;
mod matching;
pub mod path;
mod path_index;
mod path_probe;
mod random;
mod request;
mod request_values;
mod retry;
mod rewrite;
mod route_policy;
mod routes;
mod secrets;
mod seen_headers;
mod split;
mod tls;
mod upstream_headers;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::settings::ProxySettings;

pub use access::{Access, KeyTable};
pub use balancing::{
    AllAvailable, BalancerState, DEFAULT_MIN_CLUSTER_SIZE, DEFAULT_RING_SIZE, DEFAULT_TABLE_SIZE,
    EndpointView, Group, HashCookie, HashKey, HashPolicy, LARGEST_RING_SIZE, Locality,
    LocalityOrder, LocalityPolicy, LocalityPriorities, OVERPROVISIONING_PERCENT, PickRequest,
    WarmUp, ZoneAware, label_of, locality_of,
};
pub use cluster::{
    BLACK_HOLE, Balancer, Cluster, ClusterId, ConnectionPool, Discovery, DnsTarget, Endpoint,
    EndpointAddress, Http2Keepalive, OutlierDetection, PolicyOrigins, ProxyVersion, ServiceLabels,
    TcpKeepalive, UNLIMITED, UpstreamProtocol, WorkloadLabels,
};
pub use connection::{ConnectionFacts, PeerIdentity};
pub use dns::{DnsName, DnsTable};
pub use filter_chain::{
    ChainHandler, ChainMatch, ChainMismatch, FilterChain, FilterChains, Inspection, IpPrefix,
    TcpDestination, TcpRoute, TransportProtocol,
};
pub use header_levels::HeaderLevels;
pub use headers::{
    FormatContext, FormatError, HeaderEdits, HeaderValue, HeaderWrite, Operator, Segment,
    WriteMode, is_framing_header, tokens_may_set,
};
pub use hosts::{HostIndex, without_port};
pub use listener::{Direction, Doors, Interception, Listener, ListenerKind};
pub use matching::{
    FullRegex, HeaderMatch, HeaderName, Mismatch, PathMatch, QueryMatch, RouteMatch, StringMatch,
    ValueMatch,
};
pub use random::Random;
pub use request::{HeaderLookup, RequestFacts};
pub use request_values::{RequestLine, RequestValues, Target, write_masked};
pub use retry::{RetryConditions, RetryPolicy, TryFailure, TryResponse};
pub use rewrite::{PathRewrite, Redirect, RedirectPath, RegexRewrite};
pub use route_policy::{
    AbortAnswer, CorsPolicy, Fault, FaultAbort, FaultDelay, FaultSide, Mirror, PartsPerMillion,
};
pub use routes::{
    BLOCK_ALL, Decision, Destination, ExcludedRoute, ExcludedRule, NO_SPLIT, NoTrace, Route,
    RouteAction, RouteTable, RuleOrigin, TimeoutStatus, Trace, VirtualHost,
};
pub use secrets::Secrets;
pub use seen_headers::{ForwardedCert, SeenHeaders, is_taken_from_callers, names_trailers};
pub use split::SplitState;
pub use tls::{
    CredentialSource, DownstreamTls, DownstreamTlsMode, TLS_MODE_ISTIO, TLS_MODE_LABEL, TlsVersion,
    TrustSource, UpstreamSni, UpstreamTls, UpstreamTlsMode,
};
pub use upstream_headers::UpstreamHeaders;

/// One compiled configuration.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub settings: Arc<ProxySettings>,
    /// In the order of their ports.
    pub listeners: Vec<Arc<Listener>>,
    /// What a sidecar does with connections that are redirected to it, whether or not they are.
    pub doors: Option<Doors>,
    /// The index is the [`ClusterId`].
    pub clusters: Vec<Arc<Cluster>>,
    /// What clusters need resolved.
    pub dns_names: Vec<DnsName>,
    /// [`Route::identity`] by [`Route::split_slot`].
    pub(crate) split_identities: Vec<u64>,
    /// Who may do what here; `None` where no policy says anything.
    pub access: Option<Arc<Access>>,
    /// Certificates and keys of `Secret` documents.
    pub secrets: Arc<Secrets>,
}

impl Snapshot {
    /// Puts the parts together. `split_identities` holds the identity of each route whose
    /// `split_slot` is that index; `table` gives the endpoints of DNS clusters.
    pub fn new(
        settings: Arc<ProxySettings>,
        listeners: Vec<Arc<Listener>>,
        clusters: Vec<Arc<Cluster>>,
        split_identities: Vec<u64>,
        table: &DnsTable,
    ) -> Self {
        let dns_names = dns::names(&clusters);
        Self {
            settings,
            listeners,
            doors: None,
            clusters,
            dns_names,
            split_identities,
            access: None,
            secrets: Arc::default(),
        }
        .with_resolved(table)
    }

    /// The same with policies on access.
    #[must_use]
    pub fn with_access(mut self, access: Access) -> Self {
        self.access = (!access.is_empty()).then(|| Arc::new(access));
        self
    }

    /// The policies for what comes in from this direction: a workload's own requests to others are
    /// judged where they arrive.
    #[inline]
    pub fn access_for(&self, direction: Direction) -> Option<&Arc<Access>> {
        match direction {
            Direction::Outbound => None,
            Direction::Gateway | Direction::Inbound => self.access.as_ref(),
        }
    }

    /// Whether a listener is one of the doors of a sidecar: connections of both address families
    /// are redirected to it.
    pub fn is_door(&self, listener: &Arc<Listener>) -> bool {
        let is = |door: &Arc<Listener>| Arc::ptr_eq(door, listener);
        let doors = self.doors.as_ref();
        doors.is_some_and(|doors| is(&doors.outbound) || is(&doors.inbound))
    }

    /// The listener that cannot be bound beside another socket that listens on `address`.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Arc<Listener>> {
        let overlaps = |listener: &SocketAddr| {
            let anywhere = listener.ip().is_unspecified() || address.ip().is_unspecified();
            listener.port() == address.port() && (anywhere || listener.ip() == address.ip())
        };
        let mut listeners = self.listeners.iter();
        listeners.find(|listener| overlaps(&listener.address))
    }

    /// The cluster behind an id of this snapshot.
    ///
    /// # Panics
    ///
    /// When the id comes from another snapshot and is out of range here.
    #[inline]
    pub fn cluster(&self, id: ClusterId) -> &Arc<Cluster> {
        &self.clusters[id.0 as usize]
    }

    /// The cluster of a name, by linear search: for tools, not for requests.
    pub fn cluster_named(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.iter().find(|cluster| cluster.name == name)
    }
}
