//! Noticing that the configuration changed.
//!
//! inotify tells at once; a slow look at the directory catches what it cannot see: a directory
//! that was replaced, a link further up in the path that was turned, a network file system.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
/// A file that somebody has written to and still holds open is waited for that long: half of it may
/// read like the whole.
const MAX_WRITING: Duration = Duration::from_secs(10);

/// Watches configuration paths.
pub struct Watcher {
    roots: Vec<PathBuf>,
    limits: ReadLimits,
    inotify: Option<RecommendedWatcher>,
    /// The directory that is being watched under each root's name.
    watched: HashMap<PathBuf, (u64, u64)>,
    touched: Arc<Touched>,
    last_look: Option<Fingerprint>,
    /// When the first event came of those that have not led to a change yet.
    unsettled_since: Option<Instant>,
    longest_writing: Duration,
}

struct Touched {
    roots: Vec<PathBuf>,
    notify: Notify,
    /// Whether the last event leaves a complete file behind.
    complete: AtomicBool,
    /// Files that were written to and not closed since.
    in_writing: Mutex<HashSet<PathBuf>>,
    /// Whether a root was removed or moved. What stands there next may have its inode number.
    lost_a_root: AtomicBool,
}

/// Why [`Watcher::changed`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something happened to the files, first at this time.
    Event(Instant),
    /// Nothing was told; it is time for a look.
    Poll,
}

impl Watcher {
    /// Starts watching. Without inotify (its limits can be used up) it says so and polls.
    pub fn new(roots: Vec<PathBuf>, limits: ReadLimits) -> Self {
        // Events name files by absolute paths, whatever was asked for.
        let absolute = |root: PathBuf| std::path::absolute(&root).unwrap_or(root);
        let roots: Vec<PathBuf> = roots.into_iter().map(absolute).collect();
        let touched = Arc::new(Touched::of(&roots));
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
            unsettled_since: None,
            longest_writing: MAX_WRITING,
        };
        watcher.watch_roots();
        watcher
    }

    /// Waits for an event or for the next look; after an event, until nobody writes and the files have
    /// been quiet for `settle`, or a part of it when what was seen last is a complete file. Dropping the
    /// future loses nothing.
    pub async fn changed(&mut self, settle: Duration) -> Change {
        let first = match self.unsettled_since {
            Some(first) => first,
            None => {
                let event = tokio::time::timeout(POLL_INTERVAL, self.touched.notify.notified());
                if event.await.is_err() {
                    return Change::Poll;
                }
                *self.unsettled_since.insert(Instant::now())
            }
        };
        loop {
            let complete = self.touched.complete.load(Ordering::Relaxed);
            let latest = match self.touched.is_in_writing() {
                true => first + self.longest_writing,
                false => first + settle * MAX_SETTLE_TIMES,
            };
            let until = match (self.touched.is_in_writing(), complete) {
                (true, _) => latest,
                (false, true) => latest.min(Instant::now() + settle / COMPLETE_SETTLE_DIVISOR),
                (false, false) => latest.min(Instant::now() + settle),
            };
            let event = tokio::time::timeout_at(until, self.touched.notify.notified()).await;
            if event.is_err() || Instant::now() >= latest {
                // Who has not closed a file by now is not waited for again.
                self.touched.forget_files_in_writing();
                self.unsettled_since = None;
                // Before the files are read, so that nothing goes unseen in between.
                self.watch_roots();
                return Change::Event(first);
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
        if self.touched.lost_a_root.swap(false, Ordering::Relaxed) {
            for (root, _) in self.watched.drain() {
                let _ = inotify.unwatch(&root);
            }
        }
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
            let mut watched = inotify.watch(root, RecursiveMode::Recursive);
            if std::fs::symlink_metadata(root).is_ok_and(|meta| meta.is_symlink()) {
                watched = watched.and(inotify.watch(folder_of(root), RecursiveMode::NonRecursive));
            }
            match watched {
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

/// Where the name of a root stands, which tells of a link that is turned to another directory.
fn folder_of(root: &Path) -> &Path {
    root.parent().unwrap_or(root)
}

impl Touched {
    fn of(roots: &[PathBuf]) -> Self {
        Self {
            roots: roots.to_vec(),
            notify: Notify::new(),
            complete: AtomicBool::new(false),
            in_writing: Mutex::default(),
            lost_a_root: AtomicBool::new(false),
        }
    }

    /// Whether the path is a root or in one. Of the folder around a root nothing else counts.
    fn concerns(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| path.starts_with(root))
    }

    fn take(&self, event: notify::Result<notify::Event>) {
        let (kind, paths) = match event {
            Ok(event) => (event.kind, event.paths),
            // An overflow of the queue and other errors: something may have been missed.
            Err(_) => (EventKind::Other, Vec::new()),
        };
        if !paths.is_empty() && !paths.iter().any(|path| self.concerns(path)) {
            return;
        }
        let complete = match kind {
            // Reading the files opens them too, which is no change.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
            EventKind::Access(_) => return,
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => true,
            _ => false,
        };
        let moves = complete && !matches!(kind, EventKind::Access(_));
        if moves && self.roots.iter().any(|root| paths.contains(root)) {
            self.lost_a_root.store(true, Ordering::Relaxed);
        }
        let written = matches!(kind, EventKind::Modify(ModifyKind::Data(_)));
        let mut in_writing = self.in_writing();
        for path in paths {
            if complete {
                in_writing.remove(&path);
            } else if written && config_dir::is_config_name(&path) {
                in_writing.insert(path);
            }
        }
        drop(in_writing);
        self.complete.store(complete, Ordering::Relaxed);
        self.notify.notify_one();
    }

    fn in_writing(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.in_writing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_in_writing(&self) -> bool {
        !self.in_writing().is_empty()
    }

    fn forget_files_in_writing(&self) {
        self.in_writing().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::symlink;

    const SETTLE: Duration = Duration::from_millis(20);

    async fn next_event(watcher: &mut Watcher) {
        let found = async { while watcher.changed(SETTLE).await == Change::Poll {} };
        tokio::time::timeout(Duration::from_secs(10), found)
            .await
            .expect("an event");
    }

    async fn is_quiet(watcher: &mut Watcher) -> bool {
        let quiet = tokio::time::timeout(Duration::from_millis(100), watcher.changed(SETTLE));
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

    /// Changes below a root that was named as in the README waited for the slow look.
    #[tokio::test]
    async fn a_root_that_is_named_by_a_relative_path_is_watched_too() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let here = std::env::current_dir().expect("a directory");
        let up = here.components().skip(1).map(|_| "..");
        let up: PathBuf = up.collect();
        let below_all = root.path().strip_prefix("/").expect("an absolute path");
        for relative in [up.join(below_all), Path::new(".").join(&up).join(below_all)] {
            assert!(relative.is_relative());
            let mut watcher = Watcher::new(vec![relative], ReadLimits::default());
            fs::write(root.path().join("a.yaml"), "a").expect("written");
            next_event(&mut watcher).await;
        }
    }

    #[tokio::test]
    async fn a_file_that_is_open_for_writing_is_waited_for_and_not_for_ever() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let roots = vec![root.path().to_path_buf()];
        let mut watcher = Watcher::new(roots, ReadLimits::default());
        let mut file = fs::File::create(root.path().join("a.yaml")).expect("created");
        file.write_all(b"half").expect("written");
        // Longer than files that only keep changing are waited for.
        let longer = SETTLE * MAX_SETTLE_TIMES * 2;
        let change = tokio::time::timeout(longer, watcher.changed(SETTLE)).await;
        assert_eq!(change.ok(), None);
        drop(file);
        next_event(&mut watcher).await;
        watcher.longest_writing = SETTLE;
        let open = fs::File::create(root.path().join("b.yaml"));
        let mut never_closed = open.expect("created");
        never_closed.write_all(b"half").expect("written");
        next_event(&mut watcher).await;
    }

    #[tokio::test]
    async fn a_link_that_is_turned_to_another_directory_is_seen() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| parent.path().join(name);
        for release in ["one", "two"] {
            fs::create_dir(at(release)).expect("created");
            fs::write(at(release).join("a.yaml"), release).expect("written");
        }
        symlink("one", at("current")).expect("linked");
        let mut watcher = Watcher::new(vec![at("current")], ReadLimits::default());
        assert!(watcher.look().await);
        fs::write(at("beside.yaml"), "x").expect("written");
        symlink("two", at("next")).expect("linked");
        assert!(is_quiet(&mut watcher).await);
        fs::rename(at("next"), at("current")).expect("turned");
        next_event(&mut watcher).await;
        // What is in the new one is watched from the next look on.
        assert!(watcher.look().await);
        fs::write(at("two/a.yaml"), "three").expect("written");
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

    /// The new folder often gets the inode number of the old one, and nobody looked before it was
    /// written to: it was followed every two seconds only, for ever.
    #[tokio::test]
    async fn a_directory_that_is_removed_and_made_anew_at_once_is_watched() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let root = parent.path().join("config");
        fs::create_dir(&root).expect("created");
        let mut watcher = Watcher::new(vec![root.clone()], ReadLimits::default());
        for _ in 0..3 {
            fs::remove_dir_all(&root).expect("removed");
            fs::create_dir(&root).expect("created");
            next_event(&mut watcher).await;
            while !is_quiet(&mut watcher).await {}
            fs::write(root.join("a.yaml"), "a").expect("written");
            next_event(&mut watcher).await;
        }
    }

    /// As most editors and `sed -i` save: each such change but the first waited for the slow look.
    #[tokio::test]
    async fn a_file_that_is_followed_by_its_name_may_be_replaced() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let (file, beside) = (parent.path().join("a.yaml"), parent.path().join("new"));
        fs::write(&file, "a").expect("written");
        let mut watcher = Watcher::new(vec![file.clone()], ReadLimits::default());
        for _ in 0..3 {
            fs::write(&beside, "b").expect("written");
            fs::rename(&beside, &file).expect("moved into place");
            next_event(&mut watcher).await;
            while !is_quiet(&mut watcher).await {}
        }
    }
}
