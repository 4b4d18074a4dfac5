//! A cluster as one worker uses it: choosing an endpoint, getting a connection to it, telling how
//! the try went.

pub use super::pool::Endpoint;
pub use super::upstream_connection::UpstreamConnection;

use super::connection::Connection;
use super::pool::{Lease, Turn};
use super::proxy_header;
use super::shared_pool::StreamWish;
use super::upstream_tls::Carries;
use crate::health::{ClusterShare, RetryPermit};
use crate::rt;
use crate::stats::{ClusterStats, SeriesList};
use crate::uptime;
use crate::worker::Worker;
use ringroad_policy::health::TryOutcome;
use ringroad_policy::snapshot::{
    BalancerState, Cluster, EndpointAddress, EndpointView, PickRequest, UpstreamProtocol,
};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// A cluster as one worker sees it in one snapshot.
pub struct ClusterView {
    pub cluster: Arc<Cluster>,
    pub stats: Arc<ClusterStats>,
    /// What this worker shares with the others about it.
    pub share: Rc<ClusterShare>,
    /// In the order of `cluster.endpoints`.
    pub endpoints: Vec<Rc<Endpoint>>,
    /// Where clients had addressed their connections.
    destinations: RefCell<HashMap<SocketAddr, Rc<Endpoint>>>,
    balancer: RefCell<BalancerState>,
    /// Requests that no endpoint has answered.
    pub series: RefCell<SeriesList>,
}

/// The place of an endpoint that the cluster does not list.
const NOT_LISTED: usize = usize::MAX;

/// What the workload is reached from. Istio: `InboundPassthroughBindIpv4` and `…Ipv6`.
const WORKLOAD_SOURCE_V4: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 6);
const WORKLOAD_SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// What carries a request upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// A connection of its own, of HTTP/1.1.
    Connection,
    /// A stream of a connection of HTTP/2.
    Stream,
    /// A stream that becomes a WebSocket.
    UpgradedStream,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    Failed(std::io::Error),
    TimedOut,
    /// No TLS came about, for this reason.
    Tls(String),
    /// A limit of the cluster is reached, or that of open files.
    Overflow,
}

impl ConnectError {
    /// For a socket that was not connected. It is nothing to the endpoint when we have no descriptor
    /// for it.
    pub(super) fn of_socket(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => Self::Overflow,
            _ => Self::Failed(error),
        }
    }

    /// The same error for another request.
    pub(super) fn again(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(match error.raw_os_error() {
                Some(number) => std::io::Error::from_raw_os_error(number),
                None => error.kind().into(),
            }),
            Self::TimedOut => Self::TimedOut,
            Self::Tls(why) => Self::Tls(why.clone()),
            Self::Overflow => Self::Overflow,
        }
    }
}

impl ClusterView {
    /// Builds the view for a new snapshot; endpoints that were there before are taken over.
    pub fn new(cluster: Arc<Cluster>, share: Rc<ClusterShare>, before: Option<&Self>) -> Self {
        let stats = share.stats.clone();
        // Connections of another security are not for this snapshot.
        let before = before.filter(|view| {
            view.cluster.tls == cluster.tls && view.cluster.proxy_protocol == cluster.proxy_protocol
        });
        let destinations = before.map(|view| view.destinations.borrow().clone());
        let endpoints = cluster
            .endpoints
            .iter()
            .map(|endpoint| {
                let known = before.and_then(|view| {
                    view.endpoints
                        .iter()
                        .find(|known| known.address == endpoint.address)
                });
                known.cloned().unwrap_or_else(|| {
                    let address = &endpoint.address;
                    let endpoint_share = share.endpoint(address);
                    Rc::new(Endpoint::new(address, None, stats.clone(), endpoint_share))
                })
            })
            .collect();
        Self {
            cluster,
            stats,
            share,
            endpoints,
            destinations: RefCell::new(destinations.unwrap_or_default()),
            balancer: RefCell::default(),
            series: RefCell::default(),
        }
    }

    /// The endpoint for the next try, if there is one, and its place among the endpoints. The
    /// clock of the request is set here. `original` says where the client had addressed the
    /// connection; it is asked only where that decides.
    pub fn pick(
        &self,
        worker: &Worker,
        request: &PickRequest<'_>,
        original: impl FnOnce() -> Option<SocketAddr>,
    ) -> Option<(usize, Rc<Endpoint>)> {
        if self.cluster.follows_destination
            && let Some(address) = original()
        {
            return Some((NOT_LISTED, self.at(address)));
        }
        let mut balancer = self.balancer.borrow_mut();
        let mut random = worker.random.borrow_mut();
        let request = match self.cluster.warm_up {
            None => *request,
            Some(_) => PickRequest {
                now_ms: uptime::ms_at(rt::now()),
                ..*request
            },
        };
        let at = self
            .cluster
            .pick_endpoint(&mut balancer, self, &mut random, &request)?;
        if balancer.picked_in_panic() {
            self.stats.lb_healthy_panic.add(1);
        }
        Some((at, self.endpoints.get(at)?.clone()))
    }

    /// The endpoint at an address that a client chose.
    fn at(&self, address: SocketAddr) -> Rc<Endpoint> {
        let mut destinations = self.destinations.borrow_mut();
        let known = destinations.entry(address).or_insert_with(|| {
            let source = self.cluster.is_workload.then(|| match address.is_ipv4() {
                true => WORKLOAD_SOURCE_V4.into(),
                false => WORKLOAD_SOURCE_V6.into(),
            });
            let address = EndpointAddress::Socket(address);
            let share = self.share.endpoint(&address);
            let stats = self.stats.clone();
            Rc::new(Endpoint::new(&address, source, stats, share))
        });
        known.clone()
    }

    /// Whether connections begin by naming the client. Those of HTTP/2 are shared, and name none.
    fn names_clients(&self) -> bool {
        self.cluster.proxy_protocol.is_some()
            && self.cluster.upstream_protocol == UpstreamProtocol::AsDownstream
    }

    /// What carries the request of such a client.
    #[inline]
    pub fn carrier(&self, client_speaks_http2: bool, is_upgrade: bool) -> Carrier {
        let protocol = self.cluster.upstream_protocol;
        match (protocol.is_http2(client_speaks_http2), is_upgrade) {
            (false, _) => Carrier::Connection,
            // A connection that names a client is for that client alone.
            (true, _) if self.names_clients() => Carrier::Connection,
            (true, false) => Carrier::Stream,
            (true, true) => Carrier::UpgradedStream,
        }
    }

    /// A connection for a request, or a stream of one, if the pool has it at once.
    ///
    /// # Errors
    /// [`ConnectError::Overflow`] when `http2MaxRequests` is reached.
    pub fn checkout(
        &self,
        worker: &Worker,
        endpoint: &Rc<Endpoint>,
        carrier: Carrier,
    ) -> Option<Result<UpstreamConnection, ConnectError>> {
        let connection = match carrier {
            Carrier::Connection => endpoint.take_idle(&self.cluster)?,
            shared => endpoint.take_stream(&self.cluster, self.wish(worker, shared))?,
        };
        Some(self.begin(endpoint, connection))
    }

    /// A new connection for a request, or a stream; see [`connect`](Self::connect).
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_for(
        &self,
        worker: &Rc<Worker>,
        endpoint: &Rc<Endpoint>,
        carrier: Carrier,
        client: Option<&Connection>,
    ) -> Result<UpstreamConnection, ConnectError> {
        match carrier {
            Carrier::Connection => self.connect(worker, endpoint, client).await,
            // Boxed: requests of HTTP/1.1 keep no room for it.
            shared => Box::pin(self.connect_stream(worker, endpoint, shared)).await,
        }
    }

    async fn connect_stream(
        &self,
        worker: &Rc<Worker>,
        endpoint: &Rc<Endpoint>,
        carrier: Carrier,
    ) -> Result<UpstreamConnection, ConnectError> {
        let Some(pending) = self.share.wait_for_connection() else {
            return Err(ConnectError::Overflow);
        };
        let wish = self.wish(worker, carrier);
        let stream = endpoint.wait_for_stream(worker, &self.cluster, wish).await;
        drop(pending);
        self.connected(endpoint, stream)
    }

    fn wish(&self, worker: &Worker, carrier: Carrier) -> StreamWish {
        StreamWish::new(worker, &self.cluster, carrier == Carrier::UpgradedStream)
    }

    /// A new connection for a request; or one that comes free, if `maxConnections` is reached. The
    /// wait for one has no limit of its own.
    ///
    /// # Errors
    /// When connecting fails or takes longer than the connect timeout; and
    /// [`ConnectError::Overflow`] when too many requests wait or are active.
    pub async fn connect(
        &self,
        worker: &Worker,
        endpoint: &Rc<Endpoint>,
        client: Option<&Connection>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let Some(pending) = self.share.wait_for_connection() else {
            return Err(ConnectError::Overflow);
        };
        let room = match endpoint.lease() {
            Some(lease) => Turn::Room(lease),
            None => endpoint.wait_turn().await,
        };
        let connected = match room {
            Turn::Connection(connection) => Ok(connection),
            Turn::Room(lease) => {
                self.open(worker, endpoint, lease, Carries::Http1, client)
                    .await
            }
            Turn::Failed(error) => Err(error),
        };
        drop(pending);
        self.connected(endpoint, connected)
    }

    fn connected(
        &self,
        endpoint: &Rc<Endpoint>,
        connected: Result<UpstreamConnection, ConnectError>,
    ) -> Result<UpstreamConnection, ConnectError> {
        match connected {
            Ok(connection) => self.begin(endpoint, connection),
            Err(ConnectError::Overflow) => Err(ConnectError::Overflow),
            Err(error) => {
                self.report(endpoint, TryOutcome::ConnectFailed);
                Err(error)
            }
        }
    }

    /// A new connection whose bytes are carried as they are. Nobody waits for room.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`ConnectError::Overflow`] when `maxConnections` is reached.
    pub async fn connect_at_once(
        &self,
        worker: &Worker,
        endpoint: &Rc<Endpoint>,
        client: &Connection,
    ) -> Result<UpstreamConnection, ConnectError> {
        let Some(lease) = endpoint.lease() else {
            return Err(ConnectError::Overflow);
        };
        let opened = self
            .open(worker, endpoint, lease, Carries::Bytes, Some(client))
            .await;
        self.connected(endpoint, opened)
    }

    /// A connection in `lease`, which names `client` where the cluster wants that.
    async fn open(
        &self,
        worker: &Worker,
        endpoint: &Rc<Endpoint>,
        lease: Lease,
        carries: Carries,
        client: Option<&Connection>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let version = self.cluster.proxy_protocol;
        let header = version.map(|version| proxy_header::written(version, client));
        endpoint
            .open(lease, &self.cluster, worker, carries, header)
            .await
    }

    fn begin(
        &self,
        endpoint: &Rc<Endpoint>,
        mut connection: UpstreamConnection,
    ) -> Result<UpstreamConnection, ConnectError> {
        let Some(request) = endpoint.share.admit_request() else {
            connection.release();
            return Err(ConnectError::Overflow);
        };
        connection.begin(request, &self.cluster);
        self.note(endpoint, TryOutcome::Connected);
        Ok(connection)
    }

    /// Tells how a try went, once for each: the endpoint's figures and outlier detection go by it.
    /// What happens before there is a connection has been told already.
    #[inline]
    pub fn report(&self, endpoint: &Endpoint, outcome: TryOutcome) {
        let figures = &endpoint.share.figures;
        match outcome {
            TryOutcome::Connected => {}
            TryOutcome::Response { status, .. } if status < 500 => figures.rq_success.add(1),
            TryOutcome::Timeout { .. } => {
                figures.rq_timeout.add(1);
                figures.rq_error.add(1);
            }
            _ => figures.rq_error.add(1),
        }
        self.note(endpoint, outcome);
    }

    #[inline]
    fn note(&self, endpoint: &Endpoint, outcome: TryOutcome) {
        if let Some(rules) = &self.cluster.outlier_detection {
            endpoint.share.note(outcome, rules);
        }
    }

    /// A place among the retries, to be held until the retry is over; `None` when `maxRetries` or
    /// the retry budget allows no more (flag UO).
    pub fn admit_retry(&self) -> Option<RetryPermit> {
        self.share.admit_retry()
    }

    /// Closes pooled connections that are dead, have been idle for too long or are too old.
    pub fn sweep(&self, now: Instant) {
        for endpoint in &self.endpoints {
            endpoint.sweep(&self.cluster, now);
        }
        // There may be very many, each met once.
        self.destinations.borrow_mut().retain(|_, endpoint| {
            endpoint.sweep(&self.cluster, now);
            !endpoint.is_unused()
        });
    }
}

impl EndpointView for ClusterView {
    #[inline]
    fn is_available(&self, index: usize) -> bool {
        !self.share.cluster.has_ejected() || !self.endpoints[index].share.health.is_ejected()
    }

    #[inline]
    fn availability_version(&self) -> u64 {
        self.share.cluster.availability_version()
    }

    fn active_requests(&self, index: usize) -> u32 {
        self.endpoints[index].active_requests()
    }
}
