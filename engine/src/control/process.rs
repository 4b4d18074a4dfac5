//! The life of a proxy process: start, serve, drain, end.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime};

use ringroad_policy::diagnostic::Diagnostic;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::{Listener, Snapshot};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::filter::LevelFilter;

use super::admin::{self, AdminState};
use super::config_dir::{self, ReadLimits, Reading};
use super::line_sink::LineSink;
use super::load::PolicyLoader;
use super::logging::{self, LogLevel};
use super::reload::{Loader as _, Names, Reloader, ReloaderParts};
use super::status::{ConfigStatus, RunningConfig};
use super::token_keys::TokenKeys;
use super::watch::Watcher;
use super::{cores, descriptors, ejections, fleet};
use crate::rt::{DriverChoice, DriverKind};
use crate::stats::Registry;
use crate::uptime;
use crate::worker::{Fleet, FleetOptions};

/// Threads that read, parse and print, at most; they end when they are idle.
const MAX_BLOCKING_THREADS: usize = 4;
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How often a drain looks whether it is done.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// How long workers may take to end when they are told to end at once.
const STOP_DEADLINE: Duration = Duration::from_secs(2);
/// How long the last lines of the access log may take.
const ACCESS_LOG_FLUSH_DEADLINE: Duration = Duration::from_secs(1);

/// What to run.
pub struct ProcessOptions {
    /// Directories or files of configuration.
    pub roots: Vec<PathBuf>,
    pub overrides: Overrides,
    pub driver: DriverChoice,
    pub log_level: LevelFilter,
}

/// What runs.
pub struct Started {
    pub admin: SocketAddr,
    pub listeners: Vec<Arc<Listener>>,
}

/// Runs until a signal or the admin interface ends it. `started` is called once, when requests
/// are taken.
pub fn run(options: &ProcessOptions, started: impl FnOnce(&Started)) -> ExitCode {
    let code = match run_on_this_thread(options, started) {
        Ok(code) => code,
        Err(why) => {
            logging::print(format!("error: {why}\n"));
            ExitCode::FAILURE
        }
    };
    logging::flush();
    code
}

fn run_on_this_thread(
    options: &ProcessOptions,
    started: impl FnOnce(&Started),
) -> Result<ExitCode, String> {
    let failed = |what: &str, error: std::io::Error| format!("cannot start {what}: {error}");
    let log_level = logging::start(options.log_level).map_err(|error| failed("the log", error))?;
    match descriptors::raise_limit() {
        Ok(limit) => {
            if let Some(warning) = descriptors::warning(limit) {
                tracing::warn!("{warning}");
            }
        }
        Err(error) => tracing::warn!("the limit of open files is unknown: {error}"),
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE)
        .thread_name("control-blocking")
        .build()
        .map_err(|error| failed("the control thread", error))?;
    let code = runtime.block_on(async {
        let mut process = Process::start(options, log_level).await?;
        started(&process.started());
        Ok(process.serve().await)
    });
    // Not waiting for a blocking thread that is stuck on a file system.
    runtime.shutdown_background();
    code
}

/// How often certificates are read.
const CERTIFICATE_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A proxy that runs.
struct Process {
    fleet: Arc<Fleet>,
    status: Arc<ConfigStatus>,
    access_log: LineSink,
    admin: SocketAddr,
    quit: mpsc::UnboundedReceiver<()>,
    signals: Signals,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Elsewhere it means to load the configuration again.
    hangup: Signal,
    /// Elsewhere it means to open the logs again.
    user1: Signal,
    /// Elsewhere it means to take another configuration or program up.
    user2: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// The number of the next signal that asks to end.
    async fn next(&mut self) -> SignalKind {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return SignalKind::terminate(),
                _ = self.interrupt.recv() => return SignalKind::interrupt(),
                // A terminal that closes takes with it what runs in it.
                _ = self.hangup.recv() => match std::io::stdin().is_terminal() {
                    true => return SignalKind::hangup(),
                    false => tracing::info!("SIGHUP: files are followed as they change"),
                },
                _ = self.user2.recv() => tracing::info!("SIGUSR2: files are followed as they change"),
                _ = self.user1.recv() => tracing::info!("SIGUSR1: no log has to be opened again"),
            }
        }
    }
}

/// The first load, accepted.
struct FirstLoad {
    reading: Arc<Reading>,
    snapshot: Snapshot,
    warnings: Vec<Diagnostic>,
}

fn first_load(
    roots: &[PathBuf],
    limits: &ReadLimits,
    loader: &PolicyLoader,
    names: &Names,
) -> Result<FirstLoad, String> {
    let reading = config_dir::read(roots, limits)
        .map_err(|error| format!("{error}; create it, or give another with --config"))?;
    let outcome = loader.load(&reading, names.table());
    logging::print(loader.render(&reading.files, &outcome.diagnostics));
    let Some(snapshot) = outcome.snapshot else {
        return Err(
            "the configuration is refused, so nothing was started: mend what is listed \
                    above; `ringroad check` tells when it is right"
                .to_string(),
        );
    };
    Ok(FirstLoad {
        reading: Arc::new(reading),
        snapshot,
        warnings: outcome.diagnostics,
    })
}

impl Process {
    async fn start(options: &ProcessOptions, log_level: LogLevel) -> Result<Self, String> {
        let started = Instant::now();
        let signals =
            Signals::new().map_err(|error| format!("signals cannot be handled: {error}"))?;
        let limits = ReadLimits::default();
        let loader = Arc::new(PolicyLoader {
            overrides: options.overrides.clone(),
        });
        let dns = Arc::default();
        let mut names = Names::new(Arc::clone(&dns));
        // Watching begins before reading, so that no change falls between the two.
        let watcher = Watcher::new(options.roots.clone(), limits);
        let first = first_load(&options.roots, &limits, &loader, &names)?;
        names.follow(&[&first.snapshot], &first.snapshot.settings.dns);
        let mut snapshot = if names.hear_all().await {
            first.snapshot.with_resolved(names.table())
        } else {
            first.snapshot
        };
        let mut keys = TokenKeys::new();
        keys.follow(std::iter::once(&snapshot));
        keys.hear_all().await;
        snapshot = snapshot.with_keys(keys.table());
        snapshot.note_arrivals(None, uptime::ms_at(Instant::now()));
        let snapshot = Arc::new(snapshot);

        let admin_socket = admin::bind(snapshot.settings.admin_address)?;
        let admin_address = admin_socket
            .local_addr()
            .map_err(|error| format!("the admin socket cannot be used: {error}"))?;
        if let Some(listener) = snapshot.listener_at(admin_address) {
            return Err(format!(
                "the admin interface and listener {} both want {admin_address}: choose another \
                 address for one, as with --admin ADDR:PORT",
                listener.name
            ));
        }
        let worker_cores = worker_cores(snapshot.settings.workers)?;
        let registry = Arc::new(Registry::default());
        let tell = |error: &std::io::Error| {
            tracing::error!("the access log cannot be written: {error}; its lines are dropped");
        };
        let access_log = LineSink::to_stdout(tell)
            .map_err(|error| format!("cannot start the writer of the access log: {error}"))?;
        let open_files = descriptors::raise_limit().ok();
        let own_files = descriptors::own(worker_cores.len(), snapshot.listeners.len());
        let most_clients = open_files
            .map(|limit| descriptors::most_clients(limit, own_files))
            .transpose()?;
        let fleet = Fleet::start(FleetOptions {
            cores: worker_cores.clone(),
            driver: options.driver,
            first_spare_descriptor: open_files.map_or(i32::MAX, descriptors::first_spare),
            most_clients: most_clients.unwrap_or(usize::MAX),
            snapshot: Arc::clone(&snapshot),
            config_roots: options.roots.clone(),
            registry: Arc::clone(&registry),
            access_log: Some(access_log.clone()),
            seed: snapshot.settings.seed.unwrap_or_else(random_seed),
        })
        .map_err(|error| fleet::explain_start(&error))?;
        let fleet = Arc::new(fleet);
        let status = Arc::new(ConfigStatus::new(RunningConfig {
            files: Arc::new(first.reading.files.clone()),
            snapshot: Arc::clone(&snapshot),
            generation: fleet.generation(),
            accepted_at: SystemTime::now(),
        }));
        let (quit_sender, quit) = mpsc::unbounded_channel();
        let admin_state = AdminState {
            status: Arc::clone(&status),
            data_path: fleet.clone(),
            registry,
            health: Arc::clone(fleet.health()),
            dns,
            access_log: access_log.clone(),
            log_level,
            driver: fleet.driver().clone(),
            cores: worker_cores,
            config_paths: options
                .roots
                .iter()
                .map(|root| root.display().to_string())
                .collect(),
            started,
            failed_on_request: AtomicBool::new(false),
            quit: quit_sender,
        };
        let most_admin = descriptors::most_admin_connections(open_files.unwrap_or(u64::MAX));
        tokio::spawn(async move {
            let serving = admin::serve(admin_socket, Arc::new(admin_state), most_admin);
            if let Err(error) = serving.await {
                tracing::error!("the admin interface ended: {error}");
            }
        });
        tokio::spawn(renew_certificates(Arc::clone(&fleet)));
        tokio::spawn(ejections::sweep_forever(Arc::clone(fleet.health())));
        let reloader = Reloader::new(ReloaderParts {
            roots: options.roots.clone(),
            limits,
            loader,
            data_path: Arc::clone(&fleet),
            status: Arc::clone(&status),
            watcher,
            names,
            keys,
            unknown_keys: fleet.unknown_keys(),
            drain_began: fleet.drain_began(),
            reading: first.reading,
            told: first.warnings,
        });
        tokio::spawn(reloader.run());
        let process = Self {
            fleet,
            status,
            access_log,
            admin: admin_address,
            quit,
            signals,
        };
        process.tell();
        Ok(process)
    }

    /// Says what runs, and where.
    fn tell(&self) {
        let driver = self.fleet.driver();
        let name = match driver.kind {
            DriverKind::IoUring => "io_uring",
            DriverKind::Epoll => "epoll",
        };
        let workers = counted(self.fleet.figures().len(), "worker");
        tracing::info!("{workers} on {name}: {}", driver.reason);
        tracing::info!("admin interface on http://{}", self.admin);
        let running = self.status.running();
        let wanted = running.snapshot.settings.limits.max_downstream_connections;
        let clients = usize::try_from(wanted).unwrap_or(usize::MAX);
        let clients = clients.min(self.fleet.most_clients());
        tracing::info!("up to {clients} connections of clients at a time");
        for listener in &running.snapshot.listeners {
            tracing::info!("listening on {} ({})", listener.address, listener.name);
        }
        if !running.is_ready() {
            tracing::warn!("no configuration yet: not ready until a file comes");
        }
    }

    fn started(&self) -> Started {
        Started {
            admin: self.admin,
            listeners: self.status.running().snapshot.listeners.clone(),
        }
    }

    /// Serves until told to end, or until a worker fails, then drains.
    async fn serve(&mut self) -> ExitCode {
        let drained = tokio::select! {
            _ = self.signals.next() => ExitCode::SUCCESS,
            _ = self.quit.recv() => ExitCode::SUCCESS,
            () = self.fleet.worker_failed() => {
                tracing::error!("ending, because a worker has failed; a new start may mend it");
                ExitCode::FAILURE
            }
        };
        let deadline_ms = self.status.running().snapshot.settings.drain_deadline_ms;
        let deadline = Duration::from_millis(deadline_ms);
        tracing::info!(
            "draining {} for up to {deadline:?}; a second signal ends at once",
            counted(self.fleet.connections(), "connection")
        );
        self.fleet.drain();
        let code = tokio::select! {
            in_time = wait_until_stopped(&self.fleet, deadline) => {
                if !in_time {
                    let cut = counted(self.fleet.connections(), "connection");
                    tracing::warn!("the drain deadline has passed, cutting off {cut}");
                }
                drained
            }
            signal = self.signals.next() => {
                let cut = counted(self.fleet.connections(), "connection");
                tracing::warn!("ending at once, cutting off {cut}");
                // The exit code that a shell gives to a process that a signal ended.
                ExitCode::from(128 + u8::try_from(signal.as_raw_value()).unwrap_or(0))
            }
        };
        self.fleet.stop();
        if wait_until_stopped(&self.fleet, STOP_DEADLINE).await {
            self.fleet.join();
        }
        self.access_log.flush(ACCESS_LOG_FLUSH_DEADLINE);
        tracing::info!("ended");
        code
    }
}

/// Sees renewed certificates for ever. Files are read rather than watched: they are few and short,
/// and lie anywhere.
async fn renew_certificates(fleet: Arc<Fleet>) {
    loop {
        tokio::time::sleep(CERTIFICATE_CHECK_INTERVAL).await;
        let fleet = Arc::clone(&fleet);
        let renewed = tokio::task::spawn_blocking(move || fleet.renew_certificates());
        if let Err(panic) = renewed.await {
            tracing::error!("reading certificates failed unexpectedly: {panic}");
        }
    }
}

/// `1 worker`, `2 workers`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

async fn wait_until_stopped(fleet: &Fleet, limit: Duration) -> bool {
    let all_stopped = async {
        while !fleet.is_stopped() {
            tokio::time::sleep(DRAIN_CHECK_INTERVAL).await;
        }
    };
    tokio::time::timeout(limit, all_stopped).await.is_ok()
}

fn worker_cores(requested: Option<u32>) -> Result<Vec<usize>, String> {
    let allowed = cores::allowed_cores()
        .map_err(|error| format!("the cores of this process are unknown: {error}"))?;
    let requested = requested.map_or(0, |workers| workers as usize);
    Ok(cores::worker_cores(
        &allowed,
        cores::cgroup_quota_cores(),
        requested,
    ))
}

/// Different in each process: what is random for a client must not repeat after a restart.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
