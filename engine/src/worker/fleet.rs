//! Starting the workers, giving them snapshots and listeners, stopping them.

use super::context::Worker;
use super::listeners::{accept_connections, serve};
use super::shared::{Command, FleetState, OwnLine, WorkerDesk, WorkerEnd};
use super::sockets::{Families, Port, listen as listen_on};
use crate::control::access_log::AccessLogSink;
use crate::health::HealthRegistry;
use crate::proxy::connection::connection_spawner;
use crate::rt::{self, DriverChoice, DriverReport, Listener, Notified, RuntimeOptions};
use crate::stats::Registry;
use crate::tls::{TlsContexts, TlsKeeper};
use arc_swap::ArcSwap;
use ringroad_policy::snapshot::{Random, Snapshot};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long a start waits for an address that is taken.
const TAKEN_PATIENCE: Duration = Duration::from_secs(1);
const TAKEN_CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// How to start the workers.
pub struct FleetOptions {
    /// One worker for each entry, pinned to that core.
    pub cores: Vec<usize>,
    pub driver: DriverChoice,
    /// See [`RuntimeOptions::first_spare_descriptor`].
    pub first_spare_descriptor: RawFd,
    /// See [`FleetState::most_clients`].
    pub most_clients: usize,
    pub snapshot: Arc<Snapshot>,
    /// The configuration folders, which may hold certificates.
    pub config_roots: Vec<PathBuf>,
    pub registry: Arc<Registry>,
    pub access_log: Option<AccessLogSink>,
    /// Seeds the workers' random generators, so that a run can be repeated.
    pub seed: u64,
}

/// The workers, as the control thread sees them.
pub struct Fleet {
    state: Arc<FleetState>,
    driver: DriverReport,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Listeners that are bound, by name.
    bound: Mutex<BTreeMap<String, SocketAddr>>,
    tls: Mutex<TlsKeeper>,
}

/// Why the workers could not start.
#[derive(Debug)]
pub enum StartError {
    Driver(io::Error),
    Listen(ListenError),
    Thread(io::Error),
}

/// A listener that could not be bound.
#[derive(Debug)]
pub struct ListenError {
    pub listener: String,
    pub address: SocketAddr,
    pub cause: io::Error,
}

/// One worker's figures for the admin interface.
#[derive(Debug, Clone)]
pub struct WorkerFigures {
    pub worker: usize,
    pub connections: usize,
    pub generation: u64,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            listener,
            address,
            cause,
        } = self;
        write!(
            f,
            "cannot listen on {address} (listener {listener}): {cause}"
        )
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(cause) => write!(f, "cannot start the I/O driver: {cause}"),
            Self::Listen(error) => error.fmt(f),
            Self::Thread(cause) => write!(f, "cannot start a worker thread: {cause}"),
        }
    }
}

impl std::error::Error for ListenError {}
impl std::error::Error for StartError {}

impl Fleet {
    /// Binds the snapshot's listeners and starts a worker on each core.
    pub fn start(options: FleetOptions) -> Result<Self, StartError> {
        let driver = rt::probe(options.driver).map_err(StartError::Driver)?;
        let mut notified = Vec::new();
        let mut desks = Vec::new();
        for _ in &options.cores {
            let (notifier, wait) = rt::notification();
            desks.push(WorkerDesk::new(notifier));
            notified.push(wait);
        }
        let state = Arc::new(FleetState {
            generation: AtomicU64::new(1),
            snapshot: ArcSwap::new(options.snapshot.clone()),
            draining: AtomicBool::new(false),
            most_clients: options.most_clients,
            admission: Mutex::default(),
            worker_failed: Notify::new(),
            drain_began: Arc::default(),
            delayed_requests: OwnLine::default(),
            mirrors_in_flight: OwnLine::default(),
            unknown_keys: Arc::default(),
            registry: options.registry.clone(),
            tls: ArcSwap::default(),
            health: Arc::new(HealthRegistry::new(options.cores.len())),
            hostname: hostname(),
            desks,
        });
        let fleet = Self {
            state,
            driver,
            threads: Mutex::default(),
            bound: Mutex::default(),
            tls: Mutex::new(TlsKeeper::new(options.config_roots.clone())),
        };
        fleet.refresh_tls(&options.snapshot);
        fleet
            .bind_at_start(&options.snapshot)
            .map_err(StartError::Listen)?;
        let (ready, started) = mpsc::channel();
        for (id, (core, notified)) in options.cores.iter().zip(notified).enumerate() {
            let thread = fleet.spawn_worker(id, *core, notified, &options, ready.clone());
            lock(&fleet.threads).push(thread.map_err(StartError::Thread)?);
        }
        // A worker that cannot run would leave its share of the connections unserved.
        let mut each_once = started.iter().take(options.cores.len());
        if let Some(cause) = each_once.find_map(io::Result::err) {
            fleet.stop();
            return Err(StartError::Driver(cause));
        }
        Ok(fleet)
    }

    fn spawn_worker(
        &self,
        id: usize,
        core: usize,
        notified: Notified,
        options: &FleetOptions,
        ready: mpsc::Sender<io::Result<()>>,
    ) -> io::Result<JoinHandle<()>> {
        let state = self.state.clone();
        let limits = &options.snapshot.settings.limits;
        let runtime = RuntimeOptions {
            driver: options.driver,
            receive_buffer_bytes: limits.receive_buffer_bytes as usize,
            max_receive_buffers: limits.max_receive_buffers as usize,
            first_spare_descriptor: options.first_spare_descriptor,
            ..RuntimeOptions::default()
        };
        // Drawn, not counted up: neighbouring seeds give the same sequence, a few places later.
        let mut seeds = Random::new(options.seed);
        let seed = (0..=id).map(|_| seeds.next_u64()).last().unwrap_or(0);
        let access_log = options.access_log.clone();
        std::thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(move || {
                pin_to_core(core);
                let mut end = WorkerEnd {
                    state: state.clone(),
                    worker: id,
                    has_failed: true,
                };
                let runs = ready.clone();
                let served = rt::run(&runtime, move || {
                    // Nobody listens any more when the start was given up.
                    let _ = runs.send(Ok(()));
                    drop(runs);
                    worker_main(id, state, notified, seed, access_log)
                });
                match served {
                    Ok(()) => end.has_failed = false,
                    Err(error) => {
                        tracing::error!(worker = id, %error, "the worker's I/O driver failed");
                        let _ = ready.send(Err(error));
                    }
                }
            })
    }

    /// Takes `snapshot` into use: binds what is new, swaps, wakes the workers, closes what is gone.
    ///
    /// # Errors
    /// A listener that cannot be bound. Then the snapshot in use stays.
    pub fn publish(&self, snapshot: Arc<Snapshot>) -> Result<u64, ListenError> {
        // New sockets wait in their backlog until the workers have the snapshot; the command to
        // accept stands behind the swap in each inbox.
        let sockets = self.open_sockets(&snapshot)?;
        self.refresh_tls(&snapshot);
        self.state.snapshot.store(snapshot.clone());
        let generation = self.state.generation.fetch_add(1, Ordering::AcqRel) + 1;
        for desk in &self.state.desks {
            desk.send(Command::Adopt);
        }
        self.listen(sockets);
        self.unbind(&snapshot);
        self.state.health.prune(&snapshot);
        Ok(generation)
    }

    /// Reads the certificates of the snapshot in use anew.
    pub fn renew_certificates(&self) {
        self.refresh_tls(&self.state.snapshot.load_full());
    }

    /// Reads certificates anew. Handshakes that begin from now on use what has changed.
    pub fn refresh_tls(&self, snapshot: &Snapshot) {
        if let Some(contexts) = lock(&self.tls).refresh(snapshot) {
            self.state.tls.store(contexts);
        }
    }

    /// The certificates in use.
    pub fn tls_contexts(&self) -> Arc<TlsContexts> {
        self.state.tls.load_full()
    }

    /// As [`bind`](Self::bind), with patience for addresses that are still taken: of a process that
    /// was killed the kernel closes what its rings hold a little after its end.
    fn bind_at_start(&self, snapshot: &Snapshot) -> Result<(), ListenError> {
        let until = Instant::now() + TAKEN_PATIENCE;
        loop {
            match self.bind(snapshot) {
                Err(error)
                    if error.cause.kind() == io::ErrorKind::AddrInUse && Instant::now() < until =>
                {
                    thread::sleep(TAKEN_CHECK_INTERVAL);
                }
                outcome => return outcome,
            }
        }
    }

    /// Binds what `snapshot` has and hands the sockets to the workers.
    fn bind(&self, snapshot: &Snapshot) -> Result<(), ListenError> {
        let sockets = self.open_sockets(snapshot)?;
        self.listen(sockets);
        Ok(())
    }

    /// Opens one socket a worker for each listener that is not bound yet.
    fn open_sockets(
        &self,
        snapshot: &Snapshot,
    ) -> Result<Vec<(String, SocketAddr, Vec<TcpListener>)>, ListenError> {
        let bound = lock(&self.bound);
        let mut ours: Vec<SocketAddr> = bound.values().copied().collect();
        let mut sockets = Vec::new();
        for listener in &snapshot.listeners {
            if bound.contains_key(&listener.name) {
                continue;
            }
            let address = listener.address;
            let families = match snapshot.is_door(listener) {
                true => Families::Both,
                false => Families::Own,
            };
            let count = self.state.desks.len();
            // `0.0.0.0:80` beside `127.0.0.1:80`, also while one takes the place of the other.
            let overlaps = |other: &SocketAddr| {
                let any = other.ip().is_unspecified() || address.ip().is_unspecified();
                other.port() == address.port() && (any || other.ip() == address.ip())
            };
            let port = match ours.iter().any(overlaps) {
                true => Port::IsOurs,
                false => Port::IsFree,
            };
            let group = listen_on(address, families, port, count).map_err(|cause| ListenError {
                listener: listener.name.clone(),
                address,
                cause,
            })?;
            ours.push(address);
            sockets.push((listener.name.clone(), address, group));
        }
        Ok(sockets)
    }

    fn listen(&self, sockets: Vec<(String, SocketAddr, Vec<TcpListener>)>) {
        for (name, address, group) in sockets {
            for (desk, socket) in self.state.desks.iter().zip(group) {
                desk.send(Command::Listen {
                    name: name.clone(),
                    socket,
                });
            }
            lock(&self.bound).insert(name, address);
        }
    }

    /// Closes the listeners that `snapshot` does not have.
    fn unbind(&self, snapshot: &Snapshot) {
        let mut bound = lock(&self.bound);
        bound.retain(|name, _| {
            let stays = snapshot
                .listeners
                .iter()
                .any(|listener| listener.name == *name);
            if !stays {
                for desk in &self.state.desks {
                    desk.send(Command::Unlisten { name: name.clone() });
                }
            }
            stays
        });
    }

    /// The generation of the last published snapshot.
    pub fn generation(&self) -> u64 {
        self.state.generation.load(Ordering::Acquire)
    }

    /// What the workers share about clusters.
    pub fn health(&self) -> &Arc<HealthRegistry> {
        &self.state.health
    }

    /// Told of tokens with a key that nobody knows.
    pub fn unknown_keys(&self) -> Arc<Notify> {
        Arc::clone(&self.state.unknown_keys)
    }

    pub fn driver(&self) -> &DriverReport {
        &self.driver
    }

    pub fn figures(&self) -> Vec<WorkerFigures> {
        let figures = |(worker, desk): (usize, &WorkerDesk)| WorkerFigures {
            worker,
            connections: desk.connections.load(Ordering::Relaxed),
            generation: desk.applied_generation.load(Ordering::Acquire),
        };
        self.state.desks.iter().enumerate().map(figures).collect()
    }

    /// Stops accepting and lets requests finish. [`Fleet::is_stopped`] tells when all have.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Release);
        self.state.drain_began.notify_one();
        self.tell_all(|| Command::Drain);
    }

    /// Waits until a worker has ended by an error.
    pub async fn worker_failed(&self) {
        self.state.worker_failed.notified().await;
    }

    /// Told when a drain begins; for one that waits.
    pub fn drain_began(&self) -> Arc<Notify> {
        Arc::clone(&self.state.drain_began)
    }

    pub fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Acquire)
    }

    /// Ends the workers at once, whatever they are doing.
    pub fn stop(&self) {
        self.tell_all(|| Command::Stop);
    }

    /// Downstream connections that are open.
    pub fn connections(&self) -> usize {
        self.state.connections()
    }

    /// See [`FleetState::most_clients`].
    pub fn most_clients(&self) -> usize {
        self.state.most_clients
    }

    pub fn is_stopped(&self) -> bool {
        self.state
            .desks
            .iter()
            .all(|desk| desk.stopped.load(Ordering::Acquire))
    }

    /// Waits for the threads to end, after [`Fleet::is_stopped`].
    pub fn join(&self) {
        for thread in lock(&self.threads).drain(..) {
            let _ = thread.join();
        }
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        self.state
            .desks
            .iter()
            .for_each(|desk| desk.send(command()));
    }
}

/// What `gethostname` says; empty where nothing tells.
fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.unwrap_or_default().trim_end().to_string()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A worker from start to end: carries out commands until it is told to stop or has drained.
async fn worker_main(
    id: usize,
    state: Arc<FleetState>,
    notified: Notified,
    seed: u64,
    access_log: Option<AccessLogSink>,
) {
    let worker = Worker::new(id, state.clone(), seed, access_log);
    worker.set_connection_spawner(connection_spawner());
    rt::spawn(worker.clone().sweep_forever());
    rt::spawn(worker.clone().flush_log_forever());
    let desk = &state.desks[id];
    desk.applied_generation
        .store(worker.view().generation, Ordering::Release);
    loop {
        for command in desk.take_commands() {
            match command {
                Command::Adopt => drop(worker.view()),
                Command::Listen { name, socket } => listen(&worker, &name, socket),
                Command::Unlisten { name } => worker.forget_slot(&name),
                Command::Serve {
                    listener,
                    socket,
                    peer,
                } => {
                    serve(&worker, &worker.slot(&listener), socket, peer);
                }
                Command::Drain => {
                    worker.slots().iter().for_each(|slot| slot.stop());
                    worker.start_drain();
                }
                Command::Stop => {
                    worker.end();
                    rt::wake_all().await;
                    worker.finish_log();
                    return;
                }
            }
        }
        if worker.is_draining() && worker.is_idle() {
            worker.finish_log();
            return;
        }
        if worker.is_draining() {
            // Connections end without telling; look again soon.
            let soon = rt::now() + std::time::Duration::from_millis(10);
            let pause = rt::Deadline::new();
            pause.set(Some(soon));
            let _ = crate::proxy::deadline::until(&pause, notified.wait()).await;
        } else {
            notified.wait().await;
        }
    }
}

fn listen(worker: &Rc<Worker>, name: &str, socket: TcpListener) {
    let slot = worker.slot(name);
    if slot.removed_at().is_some() {
        // The next reload has removed it already.
        return;
    }
    match Listener::from_std(socket) {
        Ok(listener) => {
            worker.open_listeners.set(worker.open_listeners.get() + 1);
            rt::spawn(accept_connections(worker.clone(), slot, listener));
        }
        Err(error) => tracing::error!(listener = name, %error, "cannot accept"),
    }
}

/// Keeps this thread on one core. A worker that may not be pinned works all the same.
fn pin_to_core(core: usize) {
    let mut set = nix::sched::CpuSet::new();
    let pinned = set
        .set(core)
        .and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::warn!(core, %error, "cannot pin a worker to its core");
    }
}
