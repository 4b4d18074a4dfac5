//! Calls on files that may never return: on a network file system whose server is gone, or on a
//! file of the kernel that has nothing to give.
//!
//! Such a call cannot be taken back. It is left to its thread, and what it touches is not touched
//! again until it returns.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// So many stalls end a piece of work: the rest is likely to stall as well.
const MAX_STALLS: usize = 3;

/// The pieces of work that were given up, as long as their threads live.
static GIVEN_UP: Mutex<Vec<Weak<Steps>>> = Mutex::new(Vec::new());

/// What a call touches: a path, and the device and inode that are known to stand there. Something
/// else that is put there is not held to be stalled.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Target {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

struct Step {
    target: Target,
    since: Instant,
    given_up: bool,
}

/// How far a piece of work has come.
pub struct Steps {
    patience: Duration,
    step: Mutex<Step>,
}

impl Steps {
    pub fn new(patience: Duration) -> Self {
        let step = Mutex::new(Step {
            target: Target::default(),
            since: Instant::now(),
            given_up: false,
        });
        Self { patience, step }
    }

    /// To be called before each call that may not return, with what is known of `path`. An error if
    /// an earlier one is still there.
    pub fn touch(&self, path: &Path, known: Option<&Metadata>) -> io::Result<()> {
        let target = Target {
            path: path.to_path_buf(),
            identity: known.map(|meta| (meta.dev(), meta.ino())),
        };
        let mut given_up = locked(&GIVEN_UP);
        given_up.retain(|steps| steps.strong_count() > 0);
        let is_there = |steps: Arc<Self>| locked(&steps.step).target == target;
        if given_up.iter().filter_map(Weak::upgrade).any(is_there) {
            return Err(self.stalled());
        }
        drop(given_up);
        let mut step = locked(&self.step);
        if step.given_up {
            return Err(self.stalled());
        }
        step.target = target;
        step.since = Instant::now();
        Ok(())
    }

    fn stalled(&self) -> io::Error {
        let message = format!(
            "there was no answer for {:?}, as from a network file system that is gone",
            self.patience
        );
        io::Error::new(io::ErrorKind::TimedOut, message)
    }

    /// How long the step under way is still waited for. If no longer, the work is given up.
    fn patience_left(self: &Arc<Self>) -> Option<Duration> {
        let mut step = locked(&self.step);
        let left = self.patience.checked_sub(step.since.elapsed());
        if left.is_none() {
            step.given_up = true;
            drop(step);
            locked(&GIVEN_UP).push(Arc::downgrade(self));
        }
        left
    }
}

/// Does `work` on a thread of its own. Where one step of it takes longer than `patience`, it is begun
/// anew, and meets an error at that step. `None` if that is so at three.
pub fn finish<T, W>(patience: Duration, work: W) -> Option<T>
where
    T: Send + 'static,
    W: Fn(&Steps) -> T + Send + Sync + 'static,
{
    let work = Arc::new(work);
    (0..MAX_STALLS).find_map(|_| attempt(patience, &work))
}

fn attempt<T, W>(patience: Duration, work: &Arc<W>) -> Option<T>
where
    T: Send + 'static,
    W: Fn(&Steps) -> T + Send + Sync + 'static,
{
    let steps = Arc::new(Steps::new(patience));
    let (sender, finished) = mpsc::channel();
    let (its_steps, its_work) = (Arc::clone(&steps), Arc::clone(work));
    let worker = thread::Builder::new().name("reading".into());
    let worker = worker.spawn(move || {
        // Nobody waits for what was given up.
        let _ = sender.send(its_work(&its_steps));
    });
    let Ok(worker) = worker else {
        return Some(work(&steps));
    };
    let mut left = patience;
    loop {
        match finished.recv_timeout(left) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) => left = steps.patience_left()?,
            Err(RecvTimeoutError::Disconnected) => match worker.join() {
                Err(panic) => resume_unwind(panic),
                Ok(()) => return None,
            },
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;
    use std::sync::Condvar;

    /// Longer than a busy machine takes for what does not stall.
    const PATIENCE: Duration = Duration::from_millis(500);

    /// Opening a FIFO for reading returns when somebody opens it for writing.
    fn fifo(folder: &tempfile::TempDir, name: &str) -> PathBuf {
        let path = folder.path().join(name);
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
        assert!(made.success());
        path
    }

    fn texts_of(paths: &[PathBuf]) -> Option<Vec<io::Result<String>>> {
        let paths = paths.to_vec();
        finish(PATIENCE, move |steps| {
            let read = |path: &PathBuf| {
                let meta = fs::symlink_metadata(path)?;
                steps.touch(path, Some(&meta))?;
                fs::read_to_string(path)
            };
            paths.iter().map(read).collect()
        })
    }

    #[test]
    fn what_stalls_is_an_error_and_the_rest_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let paths = [fifo(&folder, "a"), folder.path().join("b")];
        fs::write(&paths[1], "b").expect("written");
        let texts = texts_of(&paths).expect("one of two stalls");
        let error = texts[0].as_ref().expect_err("nobody writes");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(texts[1].as_deref().expect("is a file"), "b");
        // Nothing waits for it a second time, and what takes its place is read.
        assert!(texts_of(&paths).expect("is known")[0].is_err());
        fs::write(folder.path().join("new"), "a").expect("written");
        let old = folder.path().join("old");
        fs::rename(&paths[0], &old).expect("moved away");
        fs::rename(folder.path().join("new"), &paths[0]).expect("moved into place");
        let texts = texts_of(&paths).expect("two files");
        assert_eq!(texts[0].as_deref().expect("is another"), "a");
        fs::write(&old, "").expect("ends the stalled call");
    }

    #[test]
    fn what_answers_after_all_is_read_again() {
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let behind_the_gate = || {
            let gate = Arc::clone(&gate);
            let passed = finish(PATIENCE, move |steps| {
                steps.touch(Path::new("behind the gate"), None)?;
                let closed = locked(&gate.0);
                drop(gate.1.wait_while(closed, |is_open| !*is_open));
                io::Result::Ok(())
            });
            passed.expect("stalls once at most")
        };
        assert!(behind_the_gate().is_err());
        assert!(behind_the_gate().is_err());
        *locked(&gate.0) = true;
        gate.1.notify_all();
        // The call that was given up may need a moment to return.
        while behind_the_gate().is_err() {}
    }

    #[test]
    #[should_panic(expected = "a defect")]
    fn a_panic_is_passed_on() {
        finish(Duration::from_secs(60), |_| panic!("a defect"));
    }

    #[test]
    fn three_stalls_end_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let paths = ["a", "b", "c"].map(|name| fifo(&folder, name));
        assert!(texts_of(&paths).is_none());
        for path in paths {
            fs::write(path, "").expect("ends the stalled call");
        }
    }
}
