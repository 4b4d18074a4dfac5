//! Connections to endpoints: one pool for each endpoint and worker.

use crate::rt::{self, EndpointAddr, Idle};
use crate::stats::{ClusterStats, SeriesList};
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_policy::snapshot::{BalancerState, Cluster, EndpointAddress, EndpointView};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A cluster as one worker sees it in one snapshot.
pub struct ClusterView {
    pub cluster: Arc<Cluster>,
    pub stats: Arc<ClusterStats>,
    /// In the order of `cluster.endpoints`.
    pub endpoints: Vec<Rc<Endpoint>>,
    balancer: RefCell<BalancerState>,
    /// Requests that no endpoint has answered.
    pub series: RefCell<SeriesList>,
}

/// An endpoint as one worker knows it. It outlives a snapshot that still has its address.
pub struct Endpoint {
    pub address: EndpointAddress,
    /// The same, in the runtime's words.
    connect_to: EndpointAddr,
    pub cluster_stats: Arc<ClusterStats>,
    active_requests: Cell<u32>,
    /// The last response had a long body, so the next one is received in large pieces from the
    /// start: what the kernel has queued by then would otherwise come in many small buffers.
    pub expects_bulk: Cell<bool>,
    pub series: RefCell<SeriesList>,
    /// Idle connections, the one used last at the end.
    idle: RefCell<Vec<IdleConnection>>,
}

struct IdleConnection {
    stream: Transport,
    since: Instant,
}

/// A connection to an endpoint, with a request on it.
pub struct UpstreamConnection {
    pub stream: Transport,
    pub endpoint: Rc<Endpoint>,
    /// It has carried a request before, so the upstream may have closed it meanwhile.
    pub reused: bool,
}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    Failed(std::io::Error),
    TimedOut,
}

impl ClusterView {
    /// Builds the view for a new snapshot; endpoints that were there before are taken over.
    pub fn new(cluster: Arc<Cluster>, stats: Arc<ClusterStats>, before: Option<&Self>) -> Self {
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
                    Rc::new(Endpoint {
                        connect_to: runtime_address(&endpoint.address),
                        address: endpoint.address.clone(),
                        cluster_stats: stats.clone(),
                        active_requests: Cell::new(0),
                        expects_bulk: Cell::new(false),
                        series: RefCell::default(),
                        idle: RefCell::default(),
                    })
                })
            })
            .collect();
        Self {
            cluster,
            stats,
            endpoints,
            balancer: RefCell::default(),
            series: RefCell::default(),
        }
    }

    /// The endpoint for the next try, if there is one, and its place among the endpoints. Those
    /// that were `tried` are left out as long as there are others.
    pub fn pick(&self, worker: &Worker, tried: &[usize]) -> Option<(usize, &Rc<Endpoint>)> {
        let mut balancer = self.balancer.borrow_mut();
        let mut random = worker.random.borrow_mut();
        let at = self
            .cluster
            .pick_endpoint(&mut balancer, self, &mut random, tried)?;
        Some((at, self.endpoints.get(at)?))
    }

    /// Closes pooled connections that are dead or have been idle for too long.
    pub fn sweep(&self, now: Instant) {
        let patience = self
            .cluster
            .upstream_idle_timeout_ms
            .map(Duration::from_millis);
        for endpoint in &self.endpoints {
            endpoint.sweep(now, patience);
        }
    }
}

impl EndpointView for ClusterView {
    fn is_available(&self, _index: usize) -> bool {
        true
    }

    fn active_requests(&self, index: usize) -> u32 {
        self.endpoints[index].active_requests.get()
    }
}

/// A request in flight, counted until this is dropped.
pub struct ActiveRequest(Rc<Endpoint>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active_requests.set(self.0.active_requests.get() - 1);
        self.0.cluster_stats.upstream_rq_active.sub(1);
    }
}

impl Endpoint {
    /// Counts a request in flight.
    pub fn count_request(self: &Rc<Self>) -> ActiveRequest {
        self.active_requests.set(self.active_requests.get() + 1);
        self.cluster_stats.upstream_rq_active.add(1);
        ActiveRequest(self.clone())
    }

    /// A pooled connection that is alive as far as this side can tell without asking the peer.
    pub fn checkout(self: &Rc<Self>) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(connection) = idle.pop() {
            if connection.stream.peek_state() == Idle::Quiet {
                let endpoint = self.clone();
                return Some(UpstreamConnection {
                    stream: connection.stream,
                    endpoint,
                    reused: true,
                });
            }
            self.closed(&self.cluster_stats.upstream_cx_destroy_remote);
        }
        None
    }

    /// Opens a connection.
    pub async fn connect(
        self: &Rc<Self>,
        timeout: Duration,
    ) -> Result<UpstreamConnection, ConnectError> {
        let deadline = rt::Deadline::new();
        deadline.set(Some(rt::now() + timeout));
        let stats = &self.cluster_stats;
        stats.upstream_cx_total.add(1);
        match super::deadline::until(&deadline, Transport::connect(&self.connect_to)).await {
            Ok(Ok(stream)) => {
                stats.upstream_cx_active.add(1);
                Ok(UpstreamConnection {
                    stream,
                    endpoint: self.clone(),
                    reused: false,
                })
            }
            Ok(Err(error)) => {
                stats.upstream_cx_connect_fail.add(1);
                Err(ConnectError::Failed(error))
            }
            Err(_) => {
                stats.upstream_cx_connect_fail.add(1);
                stats.upstream_cx_connect_timeout.add(1);
                Err(ConnectError::TimedOut)
            }
        }
    }

    /// The address, unless it is a Unix socket.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.address {
            EndpointAddress::Socket(address) => Some(address),
            EndpointAddress::Unix(_) => None,
        }
    }

    fn closed(&self, cause: &crate::stats::Counter) {
        cause.add(1);
        self.cluster_stats.upstream_cx_active.sub(1);
    }

    fn sweep(&self, now: Instant, patience: Option<Duration>) {
        self.idle.borrow_mut().retain(|connection| {
            if connection.stream.peek_state() != Idle::Quiet {
                self.closed(&self.cluster_stats.upstream_cx_destroy_remote);
                return false;
            }
            let stale = patience.is_some_and(|limit| now.duration_since(connection.since) > limit);
            if stale {
                self.closed(&self.cluster_stats.upstream_cx_idle_timeout);
            }
            !stale
        });
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.cluster_stats
            .upstream_cx_active
            .sub(self.idle.borrow().len() as u64);
    }
}

impl UpstreamConnection {
    /// Back to the pool: the exchange on it is over, and both sides mean to go on.
    pub fn release(self) {
        let idle = IdleConnection {
            stream: self.stream,
            since: rt::now(),
        };
        self.endpoint.idle.borrow_mut().push(idle);
    }

    /// Releases the connection if it `goes_on`, and closes it otherwise.
    pub fn leave(self, goes_on: bool) {
        match goes_on {
            true => self.release(),
            false => self.close(),
        }
    }

    /// Closes the connection, because the exchange on it went wrong or it was not to be kept.
    pub fn close(self) {
        self.endpoint.cluster_stats.upstream_cx_active.sub(1);
    }
}

fn runtime_address(address: &EndpointAddress) -> EndpointAddr {
    match address {
        EndpointAddress::Socket(address) => EndpointAddr::Socket(*address),
        EndpointAddress::Unix(path) => EndpointAddr::Unix(path.into()),
    }
}
