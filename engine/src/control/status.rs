//! What the control thread knows about the configuration, for the admin interface and metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use ringroad_policy::snapshot::Snapshot;
use ringroad_policy::source::SourceFile;

/// The configuration in use.
#[derive(Debug)]
pub struct RunningConfig {
    pub files: Arc<Vec<SourceFile>>,
    pub snapshot: Arc<Snapshot>,
    /// Counts published snapshots, from 1.
    pub generation: u64,
    pub accepted_at: SystemTime,
}

impl RunningConfig {
    /// Whether there is anything to serve: an empty directory is not ready.
    pub fn is_ready(&self) -> bool {
        !self.files.is_empty()
    }
}

/// The configuration in use and how its last changes went.
#[derive(Debug)]
pub struct ConfigStatus {
    running: ArcSwap<RunningConfig>,
    accepted: AtomicU64,
    rejected: AtomicU64,
    last_load_good: AtomicBool,
    last_reload_us: AtomicU64,
    last_rejection: Mutex<Option<String>>,
}

impl ConfigStatus {
    /// The state after the first load was accepted.
    pub fn new(running: RunningConfig) -> Self {
        Self {
            running: ArcSwap::from_pointee(running),
            accepted: AtomicU64::new(1),
            rejected: AtomicU64::new(0),
            last_load_good: AtomicBool::new(true),
            last_reload_us: AtomicU64::new(0),
            last_rejection: Mutex::new(None),
        }
    }

    pub fn running(&self) -> Arc<RunningConfig> {
        self.running.load_full()
    }

    /// Loads that were accepted, the first included.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Loads that were refused.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Whether what lies in the directory is what runs.
    pub fn last_load_good(&self) -> bool {
        self.last_load_good.load(Ordering::Relaxed)
    }

    /// From the first event of the last accepted change until every worker used it.
    pub fn last_reload(&self) -> Duration {
        Duration::from_micros(self.last_reload_us.load(Ordering::Relaxed))
    }

    /// What was said about the files in the directory, if they are not what runs.
    pub fn last_rejection(&self) -> Option<String> {
        self.lock_rejection().clone()
    }

    pub(super) fn set_running(&self, running: RunningConfig) {
        self.running.store(Arc::new(running));
    }

    pub(super) fn note_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.note_good();
    }

    /// The directory holds again what runs.
    pub(super) fn note_good(&self) {
        self.last_load_good.store(true, Ordering::Relaxed);
        *self.lock_rejection() = None;
    }

    pub(super) fn note_rejected(&self, why: String) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        self.last_load_good.store(false, Ordering::Relaxed);
        *self.lock_rejection() = Some(why);
    }

    pub(super) fn note_applied(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.last_reload_us.store(us, Ordering::Relaxed);
    }

    fn lock_rejection(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.last_rejection
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
