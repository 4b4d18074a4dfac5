//! One connection to an endpoint, from its opening to its end.

use super::pool::{Endpoint, IdleEnd, Turn};
use crate::health::{ConnectionSlot, InFlight};
use crate::rt::{self, Idle};
use crate::transport::Transport;
use ringroad_policy::snapshot::Cluster;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// What ends a connection for its age.
#[derive(Clone, Copy)]
pub(super) struct Age {
    pub opened_at: Instant,
    pub requests: u32,
    /// The endpoint's ejections when it was opened.
    pub ejections: u32,
}

/// A connection to an endpoint, while a request has it. Dropping it closes it. Two words, since it is
/// handed on with each request.
pub struct UpstreamConnection {
    pub endpoint: Rc<Endpoint>,
    /// `None` when it is over, or back in the pool.
    open: Option<Box<OpenConnection>>,
}

/// The connection itself.
pub struct OpenConnection {
    pub stream: Transport,
    /// It has carried a request before, so the upstream may have closed it meanwhile.
    pub reused: bool,
    pub(super) age: Age,
    /// It takes no further request.
    is_last: bool,
    max_duration: Option<Duration>,
    /// The request on it, while there is one.
    pub(super) in_flight: Option<InFlight>,
    /// Since when it waits in the pool.
    pub(super) idle_since: Instant,
    /// Its room; a stream of a shared connection, which has the room, has none. Dropped after the
    /// stream: who waits for room connects only when there is some.
    slot: Option<ConnectionSlot>,
}

impl Deref for UpstreamConnection {
    type Target = OpenConnection;

    fn deref(&self) -> &OpenConnection {
        self.open.as_deref().expect("only what ends it takes it")
    }
}

impl DerefMut for UpstreamConnection {
    fn deref_mut(&mut self) -> &mut OpenConnection {
        self.open
            .as_deref_mut()
            .expect("only what ends it takes it")
    }
}

impl Drop for UpstreamConnection {
    fn drop(&mut self) {
        let had_room = self.open.take().is_some_and(|open| open.slot.is_some());
        if had_room {
            self.endpoint.offer_room();
        }
    }
}

impl Age {
    pub(super) fn is_over(self, max_duration: Option<Duration>, now: Instant) -> bool {
        max_duration.is_some_and(|limit| now.duration_since(self.opened_at) >= limit)
    }
}

impl OpenConnection {
    /// Notes what it is closed for, before it is.
    pub(super) fn note(&mut self, end: &IdleEnd<'_>) {
        match end {
            IdleEnd::Peer(Idle::Closed) => self.note_end_by_peer(),
            IdleEnd::Limit(counter) => counter.add(1),
            IdleEnd::Peer(_) | IdleEnd::Ejection => {}
        }
    }

    fn note_end_by_peer(&mut self) {
        if let Some(slot) = &mut self.slot {
            slot.note_end_by_peer();
        }
    }
}

impl UpstreamConnection {
    /// One that has waited in the pool.
    pub(super) fn of_pool(open: Box<OpenConnection>, endpoint: Rc<Endpoint>) -> Self {
        Self {
            endpoint,
            open: Some(open),
        }
    }

    /// One that was just opened, or a stream of a shared one.
    pub(super) fn new(
        stream: Transport,
        endpoint: Rc<Endpoint>,
        age: Age,
        slot: Option<ConnectionSlot>,
    ) -> Self {
        Self {
            endpoint,
            open: Some(Box::new(OpenConnection {
                stream,
                reused: age.requests > 0,
                age,
                is_last: false,
                max_duration: None,
                in_flight: None,
                idle_since: rt::now(),
                slot,
            })),
        }
    }

    /// A request begins on it.
    pub(super) fn begin(&mut self, request: InFlight, cluster: &Cluster) {
        let stats = &self.endpoint.cluster_stats;
        let Some(open) = &mut self.open else { return };
        open.in_flight = Some(request);
        open.reused = open.age.requests > 0;
        open.age.requests += 1;
        open.max_duration = max_duration(cluster);
        let most = cluster.connection_pool.max_requests_per_connection;
        let is_spent = most > 0 && open.age.requests >= most;
        if is_spent {
            stats.upstream_cx_max_requests.add(1);
        }
        // One that has named a client carries nothing of others.
        open.is_last = is_spent || cluster.proxy_protocol.is_some();
    }

    /// Back to the pool, or to a request that waits: the exchange on it is over, and both sides
    /// mean to go on.
    pub fn release(mut self) {
        self.in_flight = None;
        if self.slot.is_none() {
            // A stream, whose connection is in the pool all the while.
            return;
        }
        let endpoint = &self.endpoint;
        if self.is_last || self.age.ejections != endpoint.share.health.ejections() {
            return;
        }
        if self.age.is_over(self.max_duration, rt::now()) {
            let stats = &endpoint.cluster_stats;
            stats.upstream_cx_max_duration_reached.add(1);
            return;
        }
        if endpoint.somebody_waits() && self.stream.peek_state() != Idle::Quiet {
            return self.close();
        }
        match endpoint.next_waiter() {
            Some(waiter) => waiter.give(Turn::Connection(self)),
            None => {
                if let Some(mut open) = self.open.take() {
                    open.idle_since = rt::now();
                    self.endpoint.keep(open);
                }
            }
        }
    }

    /// Releases the connection if it `goes_on`, and closes it otherwise.
    pub fn leave(self, goes_on: bool) {
        match goes_on {
            true => self.release(),
            false => self.close(),
        }
    }

    /// Closes the connection, because the exchange on it went wrong or it was not to be kept.
    pub fn close(mut self) {
        if self.slot.is_some() && self.stream.peek_state() == Idle::Closed {
            self.note_end_by_peer();
        }
    }
}

pub(super) fn max_duration(cluster: &Cluster) -> Option<Duration> {
    let limit = cluster.connection_pool.max_connection_duration_ms;
    limit.map(Duration::from_millis)
}
