//! Connections of HTTP/2 to one endpoint, each shared by many requests: one pool for each endpoint
//! and worker.

use super::pool::{Endpoint, IdleEnd, Lease};
use super::upstream::ConnectError;
use super::upstream_connection::{Age, UpstreamConnection, max_duration};
use super::upstream_tls::Carries;
use crate::health::ConnectionSlot;
use crate::http2::{ConnectionEnd, ConnectionTimes, Http2Connection, Http2Driver};
use crate::rt;
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_policy::snapshot::Cluster;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How many streams a connection gets before its peer has said how many it takes: one does not
/// wait for that, the others do not fill it by guess.
const STREAMS_BEFORE_SETTINGS: usize = 1;

/// What a request asks of a shared connection.
#[derive(Clone, Copy)]
pub(super) struct StreamWish {
    /// Limits of a connection: those of the configuration, not of the peer.
    most_streams: usize,
    /// It must be known whether the peer takes upgrades.
    needs_settings: bool,
}

/// The connections, and who waits for one.
#[derive(Default)]
pub(super) struct SharedPool {
    connections: RefCell<Vec<Rc<SharedConnection>>>,
    /// Connections that are being opened.
    opening: Cell<usize>,
    waiting: RefCell<VecDeque<Rc<StreamWaiter>>>,
}

struct SharedConnection {
    http2: Rc<Http2Connection>,
    opened_at: Instant,
    ejections: u32,
    /// Requests so far.
    requests: Cell<u32>,
    /// Requests at the moment.
    streams: Cell<u32>,
    idle_since: Cell<Instant>,
}

/// A request on a shared connection, as long as its stream lives.
struct StreamPlace {
    connection: Rc<SharedConnection>,
    endpoint: Rc<Endpoint>,
}

/// A request that waits.
#[derive(Default)]
struct StreamWaiter {
    turn: RefCell<Option<StreamTurn>>,
    waker: RefCell<Option<Waker>>,
}

enum StreamTurn {
    /// There may be room now.
    Look,
    /// A connection that was being opened failed, and with it all that wait.
    Failed(ConnectError),
}

/// The wait of one request; gives up its place when dropped.
struct WaitingForStream<'e> {
    endpoint: &'e Rc<Endpoint>,
    waiter: Rc<StreamWaiter>,
}

impl StreamWish {
    pub fn new(worker: &Worker, cluster: &Cluster, is_upgrade: bool) -> Self {
        let ours = worker.limits().settings.max_upstream_concurrent_streams;
        let written = cluster.connection_pool.max_concurrent_streams;
        Self {
            most_streams: ours.min(u64::from(written)).max(1) as usize,
            needs_settings: is_upgrade,
        }
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.idle_since.set(rt::now());
        self.endpoint.call_next();
    }
}

impl SharedConnection {
    /// What it is to be retired for, if anything.
    fn end_of<'s>(
        &self,
        endpoint: &'s Endpoint,
        cluster: &Cluster,
        now: Instant,
    ) -> Option<IdleEnd<'s>> {
        let stats = &endpoint.cluster_stats;
        let patience = cluster.upstream_idle_timeout_ms.map(Duration::from_millis);
        let idle = now.saturating_duration_since(self.idle_since.get());
        if self.streams.get() == 0 && patience.is_some_and(|limit| idle > limit) {
            return Some(IdleEnd::Limit(&stats.upstream_cx_idle_timeout));
        }
        let age = now.saturating_duration_since(self.opened_at);
        if max_duration(cluster).is_some_and(|limit| age >= limit) {
            return Some(IdleEnd::Limit(&stats.upstream_cx_max_duration_reached));
        }
        let was_ejected = self.ejections != endpoint.share.health.ejections();
        was_ejected.then_some(IdleEnd::Ejection)
    }

    fn has_room(&self, wish: StreamWish) -> bool {
        let most = match self.http2.has_settings() {
            true => wish.most_streams.min(self.http2.most_streams()),
            false if wish.needs_settings => 0,
            false => STREAMS_BEFORE_SETTINGS,
        };
        (self.streams.get() as usize) < most
    }
}

impl SharedPool {
    /// Retires connections that are over or too old.
    pub fn sweep(&self, endpoint: &Endpoint, cluster: &Cluster, now: Instant) {
        self.connections.borrow_mut().retain(|connection| {
            let end = connection.end_of(endpoint, cluster, now);
            if let Some(IdleEnd::Limit(counter)) = end {
                counter.add(1);
            }
            if end.is_some() {
                connection.http2.retire();
            }
            connection.http2.is_open()
        });
    }

    /// Whether those of which nothing is known yet cannot hold all that wait.
    fn needs_another(&self, wish: StreamWish) -> bool {
        let waiting = self.waiting.borrow().len();
        let connections = self.connections.borrow();
        let silent = connections.iter().filter(|one| !one.http2.has_settings());
        let coming = self.opening.get() + silent.count();
        coming.saturating_mul(wish.most_streams) <= waiting
    }
}

impl Endpoint {
    fn shared_pool(&self) -> &SharedPool {
        self.shared.get_or_init(Box::default)
    }

    /// A stream of a connection that is open, if one has room.
    pub(super) fn take_stream(
        self: &Rc<Self>,
        cluster: &Cluster,
        wish: StreamWish,
    ) -> Option<UpstreamConnection> {
        let pool = self.shared.get()?;
        pool.sweep(self, cluster, rt::now());
        let connections = pool.connections.borrow();
        let found = connections.iter().find(|one| one.has_room(wish))?;
        let connection = found.clone();
        drop(connections);
        connection.streams.set(connection.streams.get() + 1);
        let place = StreamPlace {
            connection: connection.clone(),
            endpoint: self.clone(),
        };
        let stream = connection.http2.new_stream(Box::new(place))?;
        let requests = connection.requests.get();
        connection.requests.set(requests.saturating_add(1));
        let most = cluster.connection_pool.max_requests_per_connection;
        if most > 0 && requests + 1 >= most {
            connection.http2.retire();
        }
        let age = Age {
            opened_at: connection.opened_at,
            requests,
            ejections: connection.ejections,
        };
        let transport = Transport::Http2(Box::new(stream));
        Some(UpstreamConnection::new(transport, self.clone(), age, None))
    }

    /// A stream: of a connection that is open, or of one that is opened for it, or, where no more
    /// may be opened, of the first that has room.
    pub(super) async fn wait_for_stream(
        self: &Rc<Self>,
        worker: &Rc<Worker>,
        cluster: &Arc<Cluster>,
        wish: StreamWish,
    ) -> Result<UpstreamConnection, ConnectError> {
        let pool = self.shared_pool();
        loop {
            if let Some(stream) = self.take_stream(cluster, wish) {
                return Ok(stream);
            }
            if pool.needs_another(wish)
                && let Some(lease) = self.lease()
            {
                self.open_shared(lease, worker, cluster);
            }
            self.wait_turn_for_stream().await?;
        }
    }

    async fn wait_turn_for_stream(self: &Rc<Self>) -> Result<(), ConnectError> {
        let waiter = Rc::<StreamWaiter>::default();
        let queue = &self.shared_pool().waiting;
        queue.borrow_mut().push_back(waiter.clone());
        let waiting = WaitingForStream {
            endpoint: self,
            waiter,
        };
        poll_fn(|cx| match waiting.waiter.turn.borrow_mut().take() {
            Some(StreamTurn::Look) => Poll::Ready(Ok(())),
            Some(StreamTurn::Failed(error)) => Poll::Ready(Err(error)),
            None => {
                *waiting.waiter.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Lets whoever waits longest for a stream look once more.
    pub(super) fn call_next(&self) {
        let Some(pool) = self.shared.get() else {
            return;
        };
        let next = pool.waiting.borrow_mut().pop_front();
        if let Some(waiter) = next {
            waiter.give(StreamTurn::Look);
        }
    }

    /// Lets all that wait look once more, in their order.
    fn call_all(&self) {
        for waiter in self.shared_pool().waiting.take() {
            waiter.give(StreamTurn::Look);
        }
    }

    /// Opens a connection in `lease`, by a task of its own: no single request has to stay for it.
    fn open_shared(self: &Rc<Self>, mut lease: Lease, worker: &Rc<Worker>, cluster: &Arc<Cluster>) {
        let pool = self.shared_pool();
        pool.opening.set(pool.opening.get() + 1);
        let (endpoint, worker, cluster) = (self.clone(), worker.clone(), cluster.clone());
        rt::spawn(async move {
            let opened = endpoint.begin_shared(&worker, &cluster).await;
            let pool = endpoint.shared_pool();
            pool.opening.set(pool.opening.get() - 1);
            let driver = match opened {
                Ok((connection, driver)) => {
                    pool.connections.borrow_mut().push(connection);
                    driver
                }
                Err(error) => {
                    let waiting = pool.waiting.take();
                    lease.note_failure(&error);
                    drop(lease);
                    for waiter in waiting {
                        endpoint
                            .cluster_stats
                            .upstream_rq_pending_failure_eject
                            .add(1);
                        waiter.give(StreamTurn::Failed(error.again()));
                    }
                    return;
                }
            };
            endpoint.call_next();
            let times = ConnectionTimes {
                settings_within_ms: cluster.connect_timeout_ms,
                keepalive: cluster.connection_pool.http2_keepalive,
            };
            let mut slot = lease.into_slot();
            // From here on the connection lives as long as its pool, or its streams.
            let pool = Rc::downgrade(&endpoint);
            let stats = endpoint.cluster_stats.clone();
            drop((endpoint, worker, cluster));
            let settings_came = || {
                if let Some(endpoint) = pool.upgrade() {
                    endpoint.call_all();
                }
            };
            match driver.run(times, settings_came).await {
                ConnectionEnd::Closed => {}
                ConnectionEnd::ClosedByPeer | ConnectionEnd::Broken => {
                    slot.iter_mut().for_each(ConnectionSlot::note_end_by_peer);
                }
                ConnectionEnd::ProtocolError => stats.upstream_cx_protocol_error.add(1),
                ConnectionEnd::KeepaliveTimeout => stats.http2_keepalive_timeout.add(1),
            }
            end_shared(&pool, slot);
        });
    }

    async fn begin_shared(
        self: &Rc<Self>,
        worker: &Worker,
        cluster: &Cluster,
    ) -> Result<(Rc<SharedConnection>, Http2Driver), ConnectError> {
        let ejections = self.share.health.ejections();
        let transport = self.dial(cluster, worker, Carries::Http2, None).await?;
        let limits = worker.limits();
        let begun = Http2Connection::begin(transport, &limits.settings).await;
        let (http2, driver) = begun.map_err(ConnectError::Failed)?;
        self.cluster_stats.upstream_cx_http2_total.add(1);
        let connection = SharedConnection {
            http2,
            opened_at: rt::now(),
            ejections,
            requests: Cell::new(0),
            streams: Cell::new(0),
            idle_since: Cell::new(rt::now()),
        };
        Ok((Rc::new(connection), driver))
    }
}

/// A connection is over: somebody else may open one.
fn end_shared(endpoint: &Weak<Endpoint>, slot: Option<ConnectionSlot>) {
    drop(slot);
    if let Some(endpoint) = endpoint.upgrade() {
        endpoint
            .shared_pool()
            .connections
            .borrow_mut()
            .retain(|one| one.http2.is_open());
        endpoint.offer_room();
    }
}

impl StreamWaiter {
    fn give(&self, turn: StreamTurn) {
        *self.turn.borrow_mut() = Some(turn);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Drop for WaitingForStream<'_> {
    fn drop(&mut self) {
        let pool = self.endpoint.shared_pool();
        pool.waiting
            .borrow_mut()
            .retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        // Called, and gone meanwhile: the next one may look.
        if let Some(StreamTurn::Look) = self.waiter.turn.take() {
            self.endpoint.call_next();
        }
    }
}
