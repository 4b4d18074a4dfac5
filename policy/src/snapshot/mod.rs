//! What workers read: the compiled configuration, immutable, and the decisions taken from it.
//!
//! Routing, splitting and balancing allocate nothing in the steady state and take no lock. State
//! that changes with each request belongs to the worker and is handed in.

mod balancer;
mod cluster;
mod dns;
mod headers;
mod hosts;
mod matching;
pub mod path;
mod path_index;
mod path_probe;
mod random;
mod request;
mod retry;
mod rewrite;
mod route_policy;
mod routes;
mod split;

use std::net::SocketAddr;
use std::sync::Arc;

use crate::settings::ProxySettings;
use crate::source::Origin;

pub use balancer::{AllAvailable, BalancerState, EndpointView};
pub use cluster::{
    Balancer, Cluster, ClusterId, ConnectionPool, Discovery, DnsTarget, Endpoint, EndpointAddress,
    OutlierDetection, PolicyOrigins, ServiceLabels, TcpKeepalive, UNLIMITED, WorkloadLabels,
};
pub use dns::{DnsName, DnsTable};
pub use headers::{
    FormatContext, FormatError, HeaderEdits, HeaderValue, HeaderWrite, Operator, Segment, WriteMode,
};
pub use hosts::{HostIndex, without_port};
pub use matching::{
    FullRegex, HeaderMatch, HeaderName, Mismatch, PathMatch, QueryMatch, RouteMatch, StringMatch,
    ValueMatch,
};
pub use random::Random;
pub use request::{HeaderLookup, RequestFacts};
pub use retry::{RetryConditions, RetryPolicy, TryFailure, TryResponse};
pub use rewrite::{PathRewrite, Redirect, RedirectPath, RegexRewrite};
pub use route_policy::{
    AbortAnswer, CorsPolicy, Fault, FaultAbort, FaultDelay, FaultSide, Mirror, PartsPerMillion,
};
pub use routes::{
    Decision, Destination, NO_SPLIT, NoTrace, Route, RouteAction, RouteTable, Trace, VirtualHost,
};
pub use split::SplitState;

/// One compiled configuration.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub settings: Arc<ProxySettings>,
    /// In the order of their ports.
    pub listeners: Vec<Arc<Listener>>,
    /// The index is the [`ClusterId`].
    pub clusters: Vec<Arc<Cluster>>,
    /// What clusters need resolved.
    pub dns_names: Vec<DnsName>,
    /// [`Route::identity`] by [`Route::split_slot`].
    pub(crate) split_identities: Vec<u64>,
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
            clusters,
            dns_names,
            split_identities,
        }
        .with_resolved(table)
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

/// A socket to listen on and what its connections get.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Istio's name: `0.0.0.0_8080`.
    pub name: String,
    pub address: SocketAddr,
    pub direction: Direction,
    pub kind: ListenerKind,
    /// `namespace/name` of the gateways whose servers are merged here; empty in a sidecar.
    pub gateways: Vec<String>,
    /// Where the port was written; `None` for listeners that the mesh adds by itself.
    pub origin: Option<Origin>,
}

impl Listener {
    /// The route table, if requests are routed here.
    pub fn route_table(&self) -> Option<&Arc<RouteTable>> {
        match &self.kind {
            ListenerKind::Http(table) => Some(table),
        }
    }
}

/// Which side of a workload a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From outside the mesh.
    Gateway,
    /// From the workload at hand to services.
    Outbound,
    /// From others to the workload at hand.
    Inbound,
}

/// What a connection carries.
#[derive(Debug, Clone)]
pub enum ListenerKind {
    Http(Arc<RouteTable>),
}
