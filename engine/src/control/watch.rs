//! Noticing that the configuration changed.
//!
//! inotify tells at once; a slow look at the directory catches what it cannot see: a directory
//! that was replaced, a link in the path that was turned, a network file system.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::config_dir::{self, Fingerprint, ReadLimits};

/// How often the directory is looked at without an event.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Files that keep changing are loaded after this many settle times all the same.
const MAX_SETTLE_TIMES: u32 = 10;
/// A file that was closed or moved into place is complete: it settles in this part of the time.
const COMPLETE_SETTLE_DIVISOR: u32 = 4;

/// Watches configuration paths.
pub struct Watcher {
    roots: Vec<PathBuf>,
    limits: ReadLimits,
    inotify: Option<RecommendedWatcher>,
    /// The directory that is being watched under each root's name.
    watched: HashMap<PathBuf, (u64, u64)>,
    touched: Arc<Touched>,
    last_look: Option<Fingerprint>,
}

#[derive(Default)]
struct Touched {
    notify: Notify,
    /// Whether the last event leaves a complete file behind.
    complete: AtomicBool,
}

/// Why [`Watcher::changed`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something happened to the files, at this time.
    Event(Instant),
    /// Nothing was told; it is time for a look.
    Poll,
}

impl Watcher {
    /// Starts watching. Without inotify (its limits can be used up) it says so and polls.
    pub fn new(roots: Vec<PathBuf>, limits: ReadLimits) -> Self {
        let touched = Arc::new(Touched::default());
        let sender = Arc::clone(&touched);
        let handler = move |event: notify::Result<notify::Event>| sender.take(event);
        let inotify = notify::recommended_watcher(handler)
            .inspect_err(|error| tracing::warn!("changes are seen by polling only: {error}"))
            .ok();
        let mut watcher = Self {
            roots,
            limits,
            inotify,
            watched: HashMap::new(),
            touched,
            last_look: None,
        };
        watcher.watch_roots();
        watcher
    }

    /// Waits for an event or for the next look. Dropping the future loses nothing.
    pub async fn changed(&mut self) -> Change {
        match tokio::time::timeout(POLL_INTERVAL, self.touched.notify.notified()).await {
            Ok(()) => Change::Event(Instant::now()),
            Err(_) => Change::Poll,
        }
    }

    /// After an event: waits until the files have been quiet for `settle`, or a part of it when
    /// what was seen last is a complete file.
    pub async fn settle(&mut self, settle: Duration) {
        let latest = Instant::now() + settle * MAX_SETTLE_TIMES;
        while Instant::now() < latest {
            let complete = self.touched.complete.load(Ordering::Relaxed);
            let quiet = if complete {
                settle / COMPLETE_SETTLE_DIVISOR
            } else {
                settle
            };
            if tokio::time::timeout(quiet, self.touched.notify.notified())
                .await
                .is_err()
            {
                return;
            }
        }
    }

    /// Looks at the directories: whether names, sizes or times changed since the last look, or a
    /// directory took the place of the one that is watched.
    pub async fn look(&mut self) -> bool {
        let (roots, limits) = (self.roots.clone(), self.limits);
        let look = tokio::task::spawn_blocking(move || config_dir::fingerprint(&roots, &limits));
        let seen = look.await.ok().and_then(Result::ok);
        let replaced = self.watch_roots();
        let changed = seen != self.last_look;
        self.last_look = seen;
        changed || replaced
    }

    /// Watches each root that is not watched yet as it is now; whether there was one.
    fn watch_roots(&mut self) -> bool {
        let Some(inotify) = &mut self.inotify else {
            return false;
        };
        let mut any = false;
        for root in &self.roots {
            let identity = std::fs::metadata(root)
                .ok()
                .map(|meta| (meta.dev(), meta.ino()));
            if identity == self.watched.get(root).copied() {
                continue;
            }
            any = true;
            if self.watched.remove(root).is_some() {
                // The kernel has dropped the watch of a removed directory by itself.
                let _ = inotify.unwatch(root);
            }
            let Some(identity) = identity else { continue };
            match inotify.watch(root, RecursiveMode::Recursive) {
                Ok(()) => {
                    self.watched.insert(root.clone(), identity);
                }
                Err(error) => tracing::warn!(
                    "{} is watched by polling only: {error}",
                    Path::display(root)
                ),
            }
        }
        any
    }
}

impl Touched {
    fn take(&self, event: notify::Result<notify::Event>) {
        let complete = match event.map(|event| event.kind) {
            // Reading the files opens them too, which is no change.
            Ok(EventKind::Access(AccessKind::Close(AccessMode::Write))) => true,
            Ok(EventKind::Access(_)) => return,
            Ok(EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_)) => true,
            // An overflow of the queue and other errors: something may have been missed.
            Ok(_) | Err(_) => false,
        };
        self.complete.store(complete, Ordering::Relaxed);
        self.notify.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    async fn next_event(watcher: &mut Watcher) {
        let found = async {
            while watcher.changed().await == Change::Poll {}
            watcher.settle(Duration::from_millis(20)).await;
        };
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .expect("an event");
    }

    async fn is_quiet(watcher: &mut Watcher) -> bool {
        let quiet = tokio::time::timeout(Duration::from_millis(100), watcher.changed());
        quiet.await.is_err()
    }

    #[tokio::test]
    async fn writing_renaming_and_removing_are_seen_and_reading_is_not() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let roots = vec![root.path().to_path_buf()];
        let limits = ReadLimits::default();
        let mut watcher = Watcher::new(roots.clone(), limits);
        fs::write(root.path().join("a.yaml"), "a").expect("written");
        next_event(&mut watcher).await;
        config_dir::read(&roots, &limits).expect("read");
        assert!(is_quiet(&mut watcher).await);
        fs::create_dir(root.path().join("sub")).expect("created");
        next_event(&mut watcher).await;
        fs::write(root.path().join("sub/b.yaml"), "b").expect("written");
        next_event(&mut watcher).await;
        fs::rename(root.path().join("a.yaml"), root.path().join("c.yaml")).expect("renamed");
        next_event(&mut watcher).await;
        fs::remove_file(root.path().join("c.yaml")).expect("removed");
        next_event(&mut watcher).await;
    }

    #[tokio::test]
    async fn a_directory_that_takes_the_place_of_another_is_watched() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let root = parent.path().join("config");
        fs::create_dir(&root).expect("created");
        let mut watcher = Watcher::new(vec![root.clone()], ReadLimits::default());
        assert!(watcher.look().await);
        assert!(!watcher.look().await);
        fs::rename(&root, parent.path().join("old")).expect("renamed");
        fs::create_dir(&root).expect("created");
        assert!(watcher.look().await);
        while !is_quiet(&mut watcher).await {}
        fs::write(root.join("a.yaml"), "a").expect("written");
        next_event(&mut watcher).await;
    }
}
