//! Connections to one endpoint: one pool for each endpoint and worker.

use super::shared_pool::SharedPool;
use super::upstream::ConnectError;
use super::upstream_connection::{Age, OpenConnection, UpstreamConnection, max_duration};
use super::upstream_tls::{Carries, secure};
use crate::health::{ConnectionSlot, EndpointShare};
use crate::rt::{self, Buffer, Chunk, EndpointAddr, Idle, Stream};
use crate::stats::{ClusterStats, Counter, SeriesList};
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_policy::snapshot::{Cluster, EndpointAddress, TcpKeepalive};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// An endpoint as one worker knows it. It outlives a snapshot that still has its address.
pub struct Endpoint {
    pub address: EndpointAddress,
    /// The same, in the runtime's words.
    connect_to: EndpointAddr,
    pub cluster_stats: Arc<ClusterStats>,
    /// What this worker shares with the others about it.
    pub share: Rc<EndpointShare>,
    /// Requests of this worker that have chosen it, also those that wait for a connection.
    active_requests: Cell<u32>,
    /// The last response had a long body, so the next one is received in large pieces from the
    /// start: what the kernel has queued by then would otherwise come in many small buffers.
    pub expects_bulk: Cell<bool>,
    pub series: RefCell<SeriesList>,
    /// Idle connections, the one used last at the end. None while a request waits.
    #[expect(clippy::vec_box, reason = "the boxes themselves are handed on")]
    idle: RefCell<Vec<Box<OpenConnection>>>,
    /// Requests that wait for a connection because the limit is reached, oldest first.
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
    /// Connections of HTTP/2; made when a request first wants one.
    pub(super) shared: OnceCell<Box<SharedPool>>,
}

/// What a connection that waits for requests is closed for.
pub(super) enum IdleEnd<'s> {
    /// The upstream has ended it, or sent what nobody asked for.
    Peer(Idle),
    /// A limit of ours, which has a counter of its own.
    Limit(&'s Counter),
    Ejection,
}

/// Room for a connection; offered to whoever waits when it is dropped.
pub(super) struct Lease {
    slot: Option<ConnectionSlot>,
    endpoint: Rc<Endpoint>,
}

/// A request that waits.
#[derive(Default)]
pub(super) struct Waiter {
    turn: RefCell<Option<Turn>>,
    waker: RefCell<Option<Waker>>,
}

/// What a waiting request is given.
pub(super) enum Turn {
    /// A connection that another request has finished with.
    Connection(UpstreamConnection),
    /// Room to open one.
    Room(Lease),
    /// A connection that was being opened failed, and with it all that wait.
    Failed(ConnectError),
}

/// The wait of one request; gives up its place when dropped.
struct Waiting<'e> {
    endpoint: &'e Rc<Endpoint>,
    waiter: Rc<Waiter>,
}

/// A request that has chosen an endpoint, counted until this is dropped.
pub struct ActiveRequest(Rc<Endpoint>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active_requests.set(self.0.active_requests.get() - 1);
    }
}

impl Endpoint {
    /// `source` is the address of ours to connect from.
    pub fn new(
        address: &EndpointAddress,
        source: Option<IpAddr>,
        cluster_stats: Arc<ClusterStats>,
        share: Rc<EndpointShare>,
    ) -> Self {
        Self {
            connect_to: match (address, source) {
                (EndpointAddress::Socket(to), None) => EndpointAddr::Socket(*to),
                (EndpointAddress::Socket(to), Some(from)) => EndpointAddr::SocketFrom(*to, from),
                (EndpointAddress::Unix(path), _) => EndpointAddr::Unix(path.into()),
            },
            address: address.clone(),
            cluster_stats,
            share,
            active_requests: Cell::new(0),
            expects_bulk: Cell::new(false),
            series: RefCell::default(),
            idle: RefCell::default(),
            waiting: RefCell::default(),
            shared: OnceCell::new(),
        }
    }

    /// The address, unless it is a Unix socket.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self.address {
            EndpointAddress::Socket(address) => Some(address),
            EndpointAddress::Unix(_) => None,
        }
    }

    /// Counts a request for the balancer.
    pub fn count_request(self: &Rc<Self>) -> ActiveRequest {
        self.active_requests.set(self.active_requests.get() + 1);
        ActiveRequest(self.clone())
    }

    /// What the balancer goes by: the requests of this worker, and those that others have in flight.
    pub fn active_requests(&self) -> u32 {
        self.active_requests.get() + self.share.active_elsewhere()
    }

    /// A pooled connection that is alive as far as this side can tell without asking the peer.
    pub(super) fn take_idle(self: &Rc<Self>, cluster: &Cluster) -> Option<UpstreamConnection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(mut connection) = idle.pop() {
            if let Some(end) = self.end_of(&connection, cluster, rt::now()) {
                connection.note(&end);
                continue;
            }
            return Some(UpstreamConnection::of_pool(connection, self.clone()));
        }
        None
    }

    /// Takes a connection back that waits for the next request.
    pub(super) fn keep(&self, connection: Box<OpenConnection>) {
        self.idle.borrow_mut().push(connection);
    }

    pub(super) fn somebody_waits(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// The request that has waited longest for a connection, which waits no more.
    pub(super) fn next_waiter(&self) -> Option<Rc<Waiter>> {
        self.waiting.borrow_mut().pop_front()
    }

    /// Whether nobody but `self`'s owner has it, and no connection waits in it.
    pub(super) fn is_unused(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) == 1 && self.idle.borrow().is_empty()
    }

    /// Closes pooled connections that are dead, stale or too old.
    pub(super) fn sweep(&self, cluster: &Cluster, now: Instant) {
        self.idle.borrow_mut().retain_mut(|connection| {
            let end = self.end_of(connection, cluster, now);
            if let Some(end) = &end {
                connection.note(end);
            }
            end.is_none()
        });
        if let Some(shared) = self.shared.get() {
            shared.sweep(self, cluster, now);
        }
    }

    /// What a pooled connection is to be closed for, if anything.
    fn end_of(
        &self,
        connection: &OpenConnection,
        cluster: &Cluster,
        now: Instant,
    ) -> Option<IdleEnd<'_>> {
        let stats = &self.cluster_stats;
        let state = connection.stream.peek_state();
        if state != Idle::Quiet {
            return Some(IdleEnd::Peer(state));
        }
        let patience = cluster.upstream_idle_timeout_ms.map(Duration::from_millis);
        if patience.is_some_and(|limit| connection.idle_since + limit < now) {
            return Some(IdleEnd::Limit(&stats.upstream_cx_idle_timeout));
        }
        if connection.age.is_over(max_duration(cluster), now) {
            return Some(IdleEnd::Limit(&stats.upstream_cx_max_duration_reached));
        }
        let was_ejected = connection.age.ejections != self.share.health.ejections();
        was_ejected.then_some(IdleEnd::Ejection)
    }

    /// Room for a connection, unless the limit is reached and this pool has one.
    pub(super) fn lease(self: &Rc<Self>) -> Option<Lease> {
        let lease = |slot| Lease {
            slot: Some(slot),
            endpoint: self.clone(),
        };
        if let Some(slot) = self.share.open_connection() {
            return Some(lease(slot));
        }
        // A fresh connection is wanted in the place of one that is idle.
        let replaced = self.idle.borrow_mut().pop()?;
        drop(replaced);
        self.share.open_connection().map(lease)
    }

    /// Opens a connection in `lease`. When it fails, so do all requests that wait, as in Envoy: an
    /// endpoint that refuses would let them wait for ever.
    pub(super) async fn open(
        self: &Rc<Self>,
        mut lease: Lease,
        cluster: &Cluster,
        worker: &Worker,
        carries: Carries,
        header: Option<Vec<u8>>,
    ) -> Result<UpstreamConnection, ConnectError> {
        let ejections = self.share.health.ejections();
        match self.dial(cluster, worker, carries, header).await {
            Ok(stream) => {
                let age = Age {
                    opened_at: rt::now(),
                    requests: 0,
                    ejections,
                };
                let slot = lease.into_slot();
                Ok(UpstreamConnection::new(stream, self.clone(), age, slot))
            }
            Err(error) => {
                let waiting = self.waiting.take();
                lease.note_failure(&error);
                drop(lease);
                for waiter in waiting {
                    self.cluster_stats.upstream_rq_pending_failure_eject.add(1);
                    waiter.give(Turn::Failed(error.again()));
                }
                Err(error)
            }
        }
    }

    /// Connects, sends `header`, then does the handshake of TLS where the cluster wants it, within
    /// the connect timeout; failures are counted.
    pub(super) async fn dial(
        &self,
        cluster: &Cluster,
        worker: &Worker,
        carries: Carries,
        header: Option<Vec<u8>>,
    ) -> Result<Transport, ConnectError> {
        let deadline = rt::Deadline::new();
        let timeout = Duration::from_millis(cluster.connect_timeout_ms);
        deadline.set(Some(rt::now() + timeout));
        let stats = &self.cluster_stats;
        let connecting = async {
            let socket = Stream::connect(&self.connect_to).await;
            let socket = socket.map_err(ConnectError::of_socket)?;
            if let Some(header) = header {
                let sent = socket
                    .send(Buffer::default(), Chunk::from_vec(header))
                    .await;
                sent.map_err(ConnectError::Failed)?;
            }
            match cluster.tls_at(&self.address) {
                None => Ok(Transport::Plain(socket)),
                // Boxed: the plain way keeps no room for a handshake.
                Some(tls) => Box::pin(secure(worker, cluster, self, tls, socket, carries)).await,
            }
        };
        let error = match super::deadline::until(&deadline, connecting).await {
            Ok(Err(ConnectError::Overflow)) => {
                stats.upstream_cx_overflow.add(1);
                return Err(ConnectError::Overflow);
            }
            Ok(Ok(stream)) => {
                if let Some(keepalive) = &cluster.connection_pool.keepalive {
                    keep_alive(&stream, keepalive);
                }
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                stats.upstream_cx_connect_timeout.add(1);
                ConnectError::TimedOut
            }
        };
        stats.upstream_cx_connect_fail.add(1);
        self.share.figures.cx_connect_fail.add(1);
        Err(error)
    }

    /// Waits until a connection comes free, or room for one.
    pub(super) async fn wait_turn(self: &Rc<Self>) -> Turn {
        let waiter = Rc::<Waiter>::default();
        self.waiting.borrow_mut().push_back(waiter.clone());
        let waiting = Waiting {
            endpoint: self,
            waiter,
        };
        poll_fn(|cx| match waiting.waiter.turn.borrow_mut().take() {
            Some(turn) => Poll::Ready(turn),
            None => {
                *waiting.waiter.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// A connection has gone: whoever waits longest may open one.
    pub(super) fn offer_room(self: &Rc<Self>) {
        if self.waiting.borrow().is_empty() {
            return self.call_next();
        }
        let Some(slot) = self.share.open_connection() else {
            return;
        };
        let lease = Lease {
            slot: Some(slot),
            endpoint: self.clone(),
        };
        // Nobody else takes from the queue in between: this worker has one thread.
        let next = self.waiting.borrow_mut().pop_front();
        if let Some(waiter) = next {
            waiter.give(Turn::Room(lease));
        }
    }
}

impl Waiter {
    pub(super) fn give(&self, turn: Turn) {
        *self.turn.borrow_mut() = Some(turn);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut queue = self.endpoint.waiting.borrow_mut();
        queue.retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        drop(queue);
        // Given, and not taken: the request has gone meanwhile.
        match self.waiter.turn.take() {
            Some(Turn::Connection(connection)) => connection.release(),
            Some(Turn::Room(lease)) => drop(lease),
            Some(Turn::Failed(_)) | None => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            drop(slot);
            self.endpoint.offer_room();
        }
    }
}

impl Lease {
    /// Notes why no connection came about in it: by the peer, unless it took too long.
    pub(super) fn note_failure(&mut self, error: &ConnectError) {
        let is_of_peer = matches!(error, ConnectError::Failed(_));
        if let (true, Some(slot)) = (is_of_peer, &mut self.slot) {
            slot.note_end_by_peer();
        }
    }

    /// The room alone; who takes it offers it when the connection is over.
    pub(super) fn into_slot(mut self) -> Option<ConnectionSlot> {
        self.slot.take()
    }
}

fn keep_alive(stream: &Transport, keepalive: &TcpKeepalive) {
    let TcpKeepalive {
        probes,
        time_s,
        interval_s,
    } = *keepalive;
    // A Unix socket knows no probes; nothing else can go wrong with an open socket.
    let _ = stream.set_keepalive(probes, time_s, interval_s);
}
