//! What the workers and the control thread share.

use crate::health::HealthRegistry;
use crate::rt::Notifier;
use crate::stats::Registry;
use crate::tls::TlsContexts;
use arc_swap::ArcSwap;
use ringroad_policy::snapshot::Snapshot;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// A value with cache lines of its own, away from what every request reads.
#[derive(Default)]
#[repr(align(128))]
pub struct OwnLine<T>(T);

impl<T> std::ops::Deref for OwnLine<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// State of the process as a whole. Workers read it; only the control thread writes, but for what
/// is counted over all workers.
pub struct FleetState {
    /// Grows with each published snapshot. A request compares it with its worker's own.
    pub generation: AtomicU64,
    pub snapshot: ArcSwap<Snapshot>,
    pub draining: AtomicBool,
    /// Downstream connections that leave descriptors to upstreams, whatever
    /// `maxDownstreamConnections` says.
    pub most_clients: usize,
    /// Held while one of the last connections below the limit is admitted.
    pub admission: Mutex<()>,
    /// Told when a worker ends that was not told to.
    pub worker_failed: Notify,
    /// Told once when a drain begins.
    pub drain_began: Arc<Notify>,
    /// Requests that an injected delay holds at the moment.
    pub delayed_requests: OwnLine<AtomicU64>,
    /// Copies of requests that wait for their responses.
    pub mirrors_in_flight: OwnLine<AtomicU64>,
    /// Told of tokens with a key that nobody knows, by whoever refuses one.
    pub unknown_keys: Arc<Notify>,
    pub registry: Arc<Registry>,
    /// Contexts for handshakes; another set comes with each snapshot and each renewed certificate.
    pub tls: ArcSwap<TlsContexts>,
    /// What the workers share about clusters.
    pub health: Arc<HealthRegistry>,
    /// Of this machine, as it was at the start.
    pub hostname: String,
    pub desks: Vec<WorkerDesk>,
}

/// One worker as the others see it. Aligned, so that two workers never write one cache line.
#[repr(align(128))]
pub struct WorkerDesk {
    /// Downstream connections; written by this worker at accept and close, read by others at
    /// accept.
    pub connections: AtomicUsize,
    /// The snapshot in use; written by this worker when it takes one up.
    pub applied_generation: AtomicU64,
    pub stopped: AtomicBool,
    inbox: Mutex<Vec<Command>>,
    notifier: Notifier,
}

/// What a worker can be told.
pub enum Command {
    /// A newer snapshot is there.
    Adopt,
    /// Accept on this socket from now on.
    Listen { name: String, socket: TcpListener },
    /// Take what the backlog holds and stop.
    Unlisten { name: String },
    /// Serve a connection that another worker accepted.
    Serve {
        listener: String,
        socket: OwnedFd,
        peer: SocketAddr,
    },
    /// Stop accepting, let requests finish.
    Drain,
    /// End at once.
    Stop,
}

impl WorkerDesk {
    pub fn new(notifier: Notifier) -> Self {
        Self {
            connections: AtomicUsize::new(0),
            applied_generation: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            inbox: Mutex::default(),
            notifier,
        }
    }

    /// Puts `command` into the worker's inbox and wakes it.
    pub fn send(&self, command: Command) {
        self.inbox
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push(command);
        self.notifier.notify();
    }

    /// What has come in, oldest first.
    pub fn take_commands(&self) -> Vec<Command> {
        std::mem::take(
            &mut *self
                .inbox
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner()),
        )
    }
}

/// Notes that a worker has ended, whichever way its thread is left.
pub struct WorkerEnd {
    pub state: Arc<FleetState>,
    pub worker: usize,
    pub has_failed: bool,
}

impl Drop for WorkerEnd {
    fn drop(&mut self) {
        self.state.desks[self.worker]
            .stopped
            .store(true, Ordering::Release);
        if self.has_failed {
            self.state.worker_failed.notify_one();
        }
    }
}

impl FleetState {
    /// Downstream connections of all workers.
    pub fn connections(&self) -> usize {
        self.desks
            .iter()
            .map(|desk| desk.connections.load(Ordering::Relaxed))
            .sum()
    }

    /// Counts one more connection of `worker`, unless `limit` are open.
    ///
    /// Decided before anything is handed over: what is on its way to a refusal must not take the
    /// place of a connection that was there before.
    pub fn admit(&self, worker: usize, limit: usize) -> bool {
        // Below that, all workers together cannot reach the limit at once.
        let is_near = self.connections().saturating_add(self.desks.len()) >= limit;
        let _turn = is_near.then(|| {
            self.admission
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
        });
        let has_room = self.connections() < limit;
        if has_room {
            self.desks[worker]
                .connections
                .fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// The worker with the fewest connections, if worker `own` is ahead of it by more than one.
    ///
    /// Reuse-port alone leaves a worker idle when connections are few and long.
    pub fn worker_behind(&self, own: usize) -> Option<usize> {
        let load = |at: usize| self.desks[at].connections.load(Ordering::Relaxed);
        let least = (0..self.desks.len())
            .filter(|at| *at != own)
            .min_by_key(|at| load(*at))?;
        (load(own) > load(least)).then_some(least)
    }
}
