//! The reload loop: files and DNS answers in, snapshots out.
//!
//! It alone publishes. Whatever goes wrong, the snapshot in use stays.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringroad_policy::diagnostic::{Diagnostic, Place, Severity};
use ringroad_policy::settings::DnsSettings;
use ringroad_policy::snapshot::{DnsTable, Snapshot};
use ringroad_policy::source::SourceFile;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::config_dir::{self, ReadLimits, Reading};
use super::data_path::DataPath;
use super::dns::{Answer, DnsCounters, Resolver};
use super::footprint;
use super::logging;
use super::status::{ConfigStatus, RunningConfig};
use super::token_keys::{Fetched, TokenKeys};
use super::watch::{Change, Watcher};
use crate::uptime;

/// How long a snapshot with names that were never resolved waits for their first answers.
const DNS_WARM_UP: Duration = Duration::from_secs(1);
/// How long to wait for the workers to take up a snapshot before it is called slow.
const APPLY_DEADLINE: Duration = Duration::from_secs(30);
const APPLY_CHECK_INTERVAL: Duration = Duration::from_micros(500);

/// What a load came to.
pub struct Outcome {
    /// `None` when anything is an error.
    pub snapshot: Option<Snapshot>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Text to snapshot.
pub trait Loader: Send + Sync + 'static {
    fn load(&self, reading: &Reading, resolved: &DnsTable) -> Outcome;
    /// Diagnostics as text for people.
    fn render(&self, files: &[SourceFile], diagnostics: &[Diagnostic]) -> String;
}

/// Names and the addresses known for them.
pub struct Names {
    resolver: Resolver,
    answers: mpsc::UnboundedReceiver<Answer>,
    table: DnsTable,
    followed: HashSet<String>,
    answered: HashSet<String>,
}

impl Names {
    pub fn new(counters: Arc<DnsCounters>) -> Self {
        let (resolver, answers) = Resolver::new(counters);
        Self {
            resolver,
            answers,
            table: DnsTable::default(),
            followed: HashSet::new(),
            answered: HashSet::new(),
        }
    }

    pub fn table(&self) -> &DnsTable {
        &self.table
    }

    /// Resolves the names of these snapshots from now on, as `settings` say, and no others.
    pub fn follow(&mut self, snapshots: &[&Snapshot], settings: &DnsSettings) {
        let names = snapshots.iter().flat_map(|snapshot| &snapshot.dns_names);
        let names: HashSet<&str> = names.map(|name| name.name.as_str()).collect();
        self.resolver.follow(&names, settings);
        self.answered.retain(|name| names.contains(name.as_str()));
        self.table.retain(|name| names.contains(name));
        self.followed = names.into_iter().map(str::to_string).collect();
    }

    /// Waits a little for the first answers of names that are new, so that their clusters do not
    /// start without endpoints. Whether any address is another one.
    pub async fn hear_all(&mut self) -> bool {
        let deadline = Instant::now() + DNS_WARM_UP;
        let mut changed = false;
        while self.answered.len() < self.followed.len() {
            match tokio::time::timeout_at(deadline, self.answers.recv()).await {
                Ok(Some(answer)) => changed |= self.take(answer),
                Ok(None) | Err(_) => break,
            }
        }
        changed
    }

    fn take(&mut self, answer: Answer) -> bool {
        // An answer that was under way when its name went.
        if !self.followed.contains(&answer.name) {
            return false;
        }
        let changed = answer
            .addresses
            .is_some_and(|addresses| self.table.set(&answer.name, addresses));
        self.answered.insert(answer.name);
        changed
    }
}

/// The loop and what it remembers.
pub struct Reloader<L, D> {
    roots: Vec<PathBuf>,
    limits: ReadLimits,
    loader: Arc<L>,
    data_path: Arc<D>,
    status: Arc<ConfigStatus>,
    watcher: Watcher,
    names: Names,
    keys: TokenKeys,
    unknown_keys: Arc<Notify>,
    drain_began: Arc<Notify>,
    /// What was read last, taken or refused.
    last_reading: Option<Arc<Reading>>,
    /// Warnings that were printed and still hold.
    told: HashSet<(Place, String)>,
    /// A good snapshot that could not be put into use, because an address was taken.
    unpublished: Option<(Arc<Vec<SourceFile>>, Arc<Snapshot>)>,
    root_is_missing: bool,
}

/// What a [`Reloader`] starts from.
pub struct ReloaderParts<L, D> {
    pub roots: Vec<PathBuf>,
    pub limits: ReadLimits,
    pub loader: Arc<L>,
    pub data_path: Arc<D>,
    pub status: Arc<ConfigStatus>,
    pub watcher: Watcher,
    pub names: Names,
    pub keys: TokenKeys,
    /// Told of tokens with a key that nobody knows.
    pub unknown_keys: Arc<Notify>,
    /// Told when the workers begin to drain.
    pub drain_began: Arc<Notify>,
    /// The first load, which is in use.
    pub reading: Arc<Reading>,
    /// The first load's warnings, which were printed.
    pub told: Vec<Diagnostic>,
}

impl<L: Loader, D: DataPath> Reloader<L, D> {
    pub fn new(parts: ReloaderParts<L, D>) -> Self {
        Self {
            roots: parts.roots,
            limits: parts.limits,
            loader: parts.loader,
            data_path: parts.data_path,
            status: parts.status,
            watcher: parts.watcher,
            names: parts.names,
            keys: parts.keys,
            unknown_keys: parts.unknown_keys,
            drain_began: parts.drain_began,
            last_reading: Some(parts.reading),
            told: parts.told.into_iter().map(what).collect(),
            unpublished: None,
            root_is_missing: false,
        }
    }

    /// Follows files and names until the workers drain: those that have ended take no snapshot up,
    /// and a listener that opened now would have nobody to serve it.
    pub async fn run(self) {
        let drain_began = Arc::clone(&self.drain_began);
        tokio::select! {
            // First, so that nothing is published any more, whatever else is due.
            biased;
            () = drain_began.notified() => {
                tracing::info!("draining: the files are followed no longer");
            }
            () = self.follow() => {}
        }
    }

    async fn follow(mut self) {
        footprint::let_go_of_own_text();
        loop {
            let settle_ms = self.status.running().snapshot.settings.reload_settle_ms;
            tokio::select! {
                change = self.watcher.changed(Duration::from_millis(settle_ms)) => match change {
                    Change::Event(at) => {
                        self.reload(at).await;
                        footprint::let_go_of_own_text();
                    }
                    Change::Poll => {
                        if self.watcher.look().await {
                            self.reload(Instant::now()).await;
                            footprint::let_go_of_own_text();
                        }
                        self.publish_late().await;
                    }
                },
                Some(answer) = self.names.answers.recv() => self.take_answers(answer).await,
                Some(fetched) = self.keys.next() => self.take_keys(fetched).await,
                () = self.unknown_keys.notified() => self.keys.renew(),
            }
        }
    }

    async fn reload(&mut self, event_at: Instant) {
        let (roots, limits) = (self.roots.clone(), self.limits);
        let read = tokio::task::spawn_blocking(move || config_dir::read(&roots, &limits));
        let reading = match read.await {
            Ok(Ok(reading)) => Arc::new(reading),
            Ok(Err(error)) => {
                if !self.root_is_missing {
                    self.root_is_missing = true;
                    self.last_reading = None;
                    tracing::error!("{error}; {}", self.what_stays());
                    self.status.note_rejected(error.to_string());
                }
                return;
            }
            Err(panic) => return self.load_panicked(&panic),
        };
        self.root_is_missing = false;
        if self.last_reading.as_ref() == Some(&reading) {
            return;
        }
        self.last_reading = Some(Arc::clone(&reading));
        if self.unpublished.take().is_some() {
            self.follow_names(None);
        }
        let is_empty = reading.files.is_empty() && reading.problems.is_empty();
        if is_empty && self.status.running().is_ready() {
            let found = config_dir::emptied(&self.roots);
            return self.refuse(&reading, vec![found]).await;
        }
        if reading.problems.is_empty() && reading.files == *self.status.running().files {
            self.status.note_good();
            tracing::info!("the files are again those of the running configuration");
            return;
        }
        let (loader, table) = (Arc::clone(&self.loader), self.names.table().clone());
        let to_load = Arc::clone(&reading);
        let load = tokio::task::spawn_blocking(move || loader.load(&to_load, &table));
        let outcome = match load.await {
            Ok(outcome) => outcome,
            Err(panic) => return self.load_panicked(&panic),
        };
        match outcome.snapshot {
            None => self.refuse(&reading, outcome.diagnostics).await,
            Some(snapshot) => {
                self.accept(&reading, snapshot, event_at).await;
                self.print_new(&reading, outcome.diagnostics).await;
            }
        }
    }

    /// A defect of ours must not take the proxy down with it.
    fn load_panicked(&mut self, panic: &tokio::task::JoinError) {
        let message = "loading the configuration failed unexpectedly; what was running stays";
        tracing::error!("{message}: {panic}");
        self.status.note_rejected(message.to_string());
    }

    fn what_stays(&self) -> &'static str {
        match self.status.running().is_ready() {
            true => "the configuration that was running stays",
            false => "no configuration is running yet",
        }
    }

    async fn refuse(&mut self, reading: &Arc<Reading>, diagnostics: Vec<Diagnostic>) {
        let errors = diagnostics
            .iter()
            .filter(|found| found.severity == Severity::Error)
            .count();
        let text = self.render(reading, diagnostics).await;
        logging::print(text.clone());
        tracing::error!("refused, errors: {errors}; {}", self.what_stays());
        self.status.note_rejected(text);
    }

    async fn accept(&mut self, reading: &Arc<Reading>, snapshot: Snapshot, event_at: Instant) {
        self.follow_names(Some(&snapshot));
        let changed = self.names.hear_all().await;
        let snapshot = if changed {
            snapshot.with_resolved(self.names.table())
        } else {
            snapshot
        };
        self.follow_keys(&snapshot).await;
        let snapshot = snapshot.with_keys(self.keys.table());
        self.warn_of_restart(&snapshot);
        let files = Arc::new(reading.files.clone());
        let snapshot = self.successor(snapshot);
        match self.publish(files.clone(), snapshot.clone()) {
            Ok(generation) => {
                self.status.note_accepted();
                self.follow_names(None);
                self.watch_applied(generation, event_at).await;
            }
            Err(why) => {
                tracing::error!("{why}; {}", self.what_stays());
                self.status.note_rejected(why);
                self.unpublished = Some((files, snapshot));
                if changed {
                    self.publish_addresses().await;
                }
            }
        }
    }

    /// Puts `snapshot` into use.
    fn publish(
        &self,
        files: Arc<Vec<SourceFile>>,
        snapshot: Arc<Snapshot>,
    ) -> Result<Generation, String> {
        let generation = self.data_path.publish(snapshot.clone())?;
        let accepted_at = SystemTime::now();
        self.status.set_running(RunningConfig {
            files,
            snapshot,
            generation,
            accepted_at,
        });
        Ok(Generation(generation))
    }

    /// Waits until every worker uses `generation`, and notes how long that took since `event_at`.
    async fn watch_applied(&self, Generation(generation): Generation, event_at: Instant) {
        if !self.wait_until_applied(generation).await {
            let workers = self.data_path.workers();
            tracing::warn!("not every worker uses generation {generation} yet: {workers:?}");
            return;
        }
        let took = event_at.elapsed();
        self.status.note_applied(took);
        let ms = took.as_secs_f64() * 1_000.0;
        tracing::info!("generation {generation} is in use by every worker after {ms:.1} ms");
    }

    async fn wait_until_applied(&self, generation: u64) -> bool {
        let deadline = Instant::now() + APPLY_DEADLINE;
        while self
            .data_path
            .workers()
            .iter()
            .any(|worker| worker.generation < generation)
        {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(APPLY_CHECK_INTERVAL).await;
        }
        true
    }

    /// A snapshot that knows which of its endpoints are new.
    fn successor(&self, mut snapshot: Snapshot) -> Arc<Snapshot> {
        let now_ms = uptime::ms_at(std::time::Instant::now());
        snapshot.note_arrivals(Some(&self.status.running().snapshot), now_ms);
        Arc::new(snapshot)
    }

    /// Tries again to put a snapshot into use whose address was taken.
    async fn publish_late(&mut self) {
        let Some((files, snapshot)) = self.unpublished.take() else {
            return;
        };
        let snapshot = self.successor(
            snapshot
                .with_resolved(self.names.table())
                .with_keys(self.keys.table()),
        );
        match self.publish(files.clone(), snapshot.clone()) {
            Ok(generation) => {
                self.status.note_accepted();
                self.follow_names(None);
                self.watch_applied(generation, Instant::now()).await;
            }
            Err(_) => self.unpublished = Some((files, snapshot)),
        }
    }

    async fn take_answers(&mut self, first: Answer) {
        let mut changed = self.names.take(first);
        while let Ok(answer) = self.names.answers.try_recv() {
            changed |= self.names.take(answer);
        }
        if changed {
            self.publish_addresses().await;
        }
    }

    /// Resolves the names of the running configuration, and of the next as long as that may yet be
    /// refused.
    fn follow_names(&mut self, next: Option<&Snapshot>) {
        let running = &self.status.running().snapshot;
        match next {
            Some(next) => self.names.follow(&[running, next], &next.settings.dns),
            None => self.names.follow(&[running], &running.settings.dns),
        }
    }

    /// Puts the addresses that are known into use, if that changes anything.
    async fn publish_addresses(&self) {
        let running = self.status.running();
        let snapshot = running.snapshot.with_resolved(self.names.table());
        let mut clusters = snapshot.clusters.iter().zip(&running.snapshot.clusters);
        if clusters.all(|(new, old)| Arc::ptr_eq(new, old)) {
            return;
        }
        let snapshot = self.successor(snapshot);
        let files = Arc::clone(&running.files);
        match self.publish(files, snapshot) {
            Ok(generation) => self.watch_applied(generation, Instant::now()).await,
            Err(why) => tracing::error!("new addresses cannot be put into use: {why}"),
        }
    }

    /// Fetches the keys that the running configuration and the next ask for.
    async fn follow_keys(&mut self, next: &Snapshot) {
        let running = self.status.running();
        self.keys.follow([&*running.snapshot, next].into_iter());
        let changed = self.keys.hear_all().await;
        // The next one may yet be refused.
        let in_use = running.snapshot.key_sources();
        if changed.iter().any(|source| in_use.contains(source)) {
            self.publish_keys().await;
        }
    }

    async fn take_keys(&mut self, fetched: Fetched) {
        if self.keys.take(fetched) {
            self.publish_keys().await;
        }
    }

    async fn publish_keys(&self) {
        let running = self.status.running();
        let snapshot = Arc::new(running.snapshot.with_keys(self.keys.table()));
        let files = Arc::clone(&running.files);
        match self.publish(files, snapshot) {
            Ok(generation) => self.watch_applied(generation, Instant::now()).await,
            Err(why) => tracing::error!("new keys cannot be put into use: {why}"),
        }
    }

    /// Says which settings are read at the start only.
    fn warn_of_restart(&self, next: &Snapshot) {
        let running = &self.status.running().snapshot.settings;
        if running.workers != next.settings.workers {
            tracing::warn!("a change of `workers` takes effect at the next start");
        }
        if running.admin_address != next.settings.admin_address {
            tracing::warn!("a change of `adminAddress` takes effect at the next start");
        }
    }

    /// Prints what was not said about the configuration before.
    async fn print_new(&mut self, reading: &Arc<Reading>, diagnostics: Vec<Diagnostic>) {
        let new: Vec<Diagnostic> = diagnostics
            .iter()
            .filter(|found| !self.told.contains(&what((*found).clone())))
            .cloned()
            .collect();
        self.told = diagnostics.into_iter().map(what).collect();
        if !new.is_empty() {
            logging::print(self.render(reading, new).await);
        }
    }

    /// Rendering looks up lines in the text, which may take a while.
    async fn render(&self, reading: &Arc<Reading>, diagnostics: Vec<Diagnostic>) -> String {
        let (loader, reading) = (Arc::clone(&self.loader), Arc::clone(reading));
        let render = move || loader.render(&reading.files, &diagnostics);
        tokio::task::spawn_blocking(render)
            .await
            .unwrap_or_default()
    }
}

/// The number of a published snapshot.
#[derive(Debug, Clone, Copy)]
struct Generation(u64);

/// What a diagnostic says, to tell it from others.
fn what(diagnostic: Diagnostic) -> (Place, String) {
    (diagnostic.place, diagnostic.message)
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
