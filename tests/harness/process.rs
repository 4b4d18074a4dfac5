//! The built binary: its commands, and a proxy that runs.

use super::{Answer, get, until, until_equal};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Runs a command of the binary to its end.
pub fn ringroad<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringroad"))
        .args(args)
        .output()
        .expect("runs")
}

/// The binary where no more than `limit` files may be open; arguments may follow.
pub fn with_open_files(limit: u32) -> Command {
    let mut command = Command::new("sh");
    let script = format!("ulimit -n {limit} && exec \"$@\"");
    command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_ringroad")]);
    command
}

/// `ringroad run` on a folder.
pub struct Proxy {
    child: Child,
    pub admin: SocketAddr,
    pub config: PathBuf,
    log: Arc<Mutex<String>>,
    /// Keeps the folder.
    _folder: tempfile::TempDir,
}

impl Proxy {
    /// Starts it and waits until its admin interface answers.
    pub fn start(folder: tempfile::TempDir, more_args: &[&str]) -> Self {
        Self::start_with_stdout(folder, more_args, Stdio::null())
    }

    pub fn start_with_stdout(folder: tempfile::TempDir, more_args: &[&str], out: Stdio) -> Self {
        let workers = ["--workers", "2"]
            .into_iter()
            .chain(more_args.iter().copied());
        let binary = Command::new(env!("CARGO_BIN_EXE_ringroad"));
        Self::start_as_said(binary, folder, &workers.collect::<Vec<_>>(), out)
    }

    /// Starts it by a command that was prepared.
    pub fn start_command(command: Command, folder: tempfile::TempDir, args: &[&str]) -> Self {
        Self::start_as_said(command, folder, args, Stdio::null())
    }

    /// Starts it where no more than `limit` files may be open.
    pub fn start_with_open_files(limit: u32, folder: tempfile::TempDir, args: &[&str]) -> Self {
        Self::start_as_said(with_open_files(limit), folder, args, Stdio::null())
    }

    /// Starts it with `--workers` among `args`.
    pub fn start_with_workers(folder: tempfile::TempDir, args: &[&str]) -> Self {
        let binary = Command::new(env!("CARGO_BIN_EXE_ringroad"));
        Self::start_as_said(binary, folder, args, Stdio::null())
    }

    /// Starts it with `--workers` among `args` and its standard output piped.
    pub fn start_piped(folder: tempfile::TempDir, args: &[&str]) -> Self {
        let binary = Command::new(env!("CARGO_BIN_EXE_ringroad"));
        Self::start_as_said(binary, folder, args, Stdio::piped())
    }

    fn start_as_said(
        mut binary: Command,
        folder: tempfile::TempDir,
        more_args: &[&str],
        out: Stdio,
    ) -> Self {
        let mut child = binary
            .args(["run", "--admin", "127.0.0.1:0", "--config"])
            .arg(folder.path())
            .args(more_args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let stderr = child.stderr.take().expect("is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = lines.lock().expect("not poisoned");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut admin = None;
        until("the admin interface", || {
            let log = log.lock().expect("not poisoned");
            assert!(
                child.try_wait().expect("can be asked").is_none(),
                "it ended: {log}"
            );
            // Servers that are down may be named before.
            let told = log.split_once("admin interface on http://");
            let address = told.and_then(|(_, rest)| rest.split_whitespace().next());
            admin = address.and_then(|address| address.parse().ok());
            admin.is_some()
        });
        let config = folder.path().to_path_buf();
        let admin = admin.expect("was waited for");
        Self {
            child,
            admin,
            config,
            log,
            _folder: folder,
        }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far. The last lines may still be under way, even of what it has shown
    /// otherwise: see `until_logged`.
    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
    }

    #[track_caller]
    pub fn until_logged(&self, part: &str) {
        until(&format!("{part:?} in the log"), || {
            self.log().contains(part)
        });
    }

    pub fn stdout(&mut self) -> std::process::ChildStdout {
        self.child.stdout.take().expect("is piped")
    }

    /// Writes a file of the configuration as an editor does: a new file moved into place.
    pub fn put(&self, name: &str, text: &str) {
        let beside = self.config.join(format!(".{name}.new"));
        fs::write(&beside, text).expect("written");
        fs::rename(&beside, self.config.join(name)).expect("moved");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.config.join(name)).expect("removed");
    }

    /// A page of the admin interface.
    pub fn admin(&self, target: &str) -> Answer {
        get(self.admin, "localhost", target)
    }

    /// A page that is JSON.
    pub fn admin_json(&self, target: &str) -> serde_json::Value {
        serde_json::from_str(&self.admin(target).body).expect("JSON")
    }

    /// Whether the metrics have a series of this name with all of these labels.
    pub fn has_series(&self, name: &str, labels: &[&str]) -> bool {
        let metrics = self.admin("/stats/prometheus").body;
        let mut of_name = metrics
            .lines()
            .filter(|line| line.split('{').next() == Some(name));
        of_name.any(|line| labels.iter().all(|label| line.contains(label)))
    }

    /// A figure of `/stats`; 0 when nothing has counted it yet.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.admin("/stats").body;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.parse().expect("a number"))
    }

    /// Waits until that figure is as wanted.
    #[track_caller]
    pub fn until_stat(&self, name: &str, wanted: u64) {
        until_equal(name, wanted, || self.stat(name));
    }

    /// Waits until the metrics contain this text.
    #[track_caller]
    pub fn until_metrics(&self, part: &str) {
        until(&format!("{part} in the metrics"), || {
            self.admin("/stats/prometheus").body.contains(part)
        });
    }

    /// Memory of the process that is in use, but for its text, which comes and goes.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/statm", self.child.id());
        let statm = fs::read_to_string(path).expect("is there");
        let mut pages = statm
            .split(' ')
            .map(|field| field.trim().parse::<u64>().expect("a number"));
        let resident = pages.nth(1).expect("a field");
        let of_files = pages.next().expect("a field");
        (resident - of_files) * 4096
    }

    /// The same once nothing moves it for `calm`: that bytes have come to a standstill is told by
    /// nothing else.
    pub fn resident_bytes_at_rest(&self, calm: Duration) -> u64 {
        let mut last = 0;
        let mut since = Instant::now();
        until("memory at rest", || {
            let now = self.resident_bytes();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() >= calm
        });
        last
    }

    /// Changes how many files it may have open: those that it has, and so many more.
    pub fn allow_open_files_beyond_present(&self, more: usize) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        let present = fs::read_dir(format!("/proc/{pid}/fd")).expect("is there");
        let limit = libc::rlimit {
            rlim_cur: (present.count() + more) as u64,
            rlim_max: 1_024,
        };
        let (resource, no_answer) = (libc::RLIMIT_NOFILE, std::ptr::null_mut());
        // SAFETY: the child has not been waited for, so its id is still its own; `limit` is readable.
        let done = unsafe { libc::prlimit(pid, resource, &raw const limit, no_answer) };
        assert_eq!(done, 0);
    }

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: the child has not been waited for, so its id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Stops all threads, until SIGCONT, and waits until they stand still.
    pub fn stop(&self) {
        self.signal(libc::SIGSTOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        // The state follows the name, which stands in parentheses.
        let stands = |stat: String| {
            let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
            state.is_some_and(|state| state.starts_with('T'))
        };
        until("all threads to stop", || {
            let mut tasks = fs::read_dir(&tasks).expect("is there");
            tasks.all(|task| {
                let stat = task.map(|task| fs::read_to_string(task.path().join("stat")));
                // A thread may end in between.
                stat.is_ok_and(|stat| stat.map_or(true, stands))
            })
        });
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the end of the process", || {
            status = self.child.try_wait().expect("can be asked");
            status.is_some()
        });
        status.expect("was waited for")
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("can be asked").is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the proxy\n{}", self.log());
        }
    }
}

/// The lines that a proxy has written to its standard output.
pub struct LogLines(Arc<Mutex<Vec<String>>>);

impl LogLines {
    /// Reads them from now on; the output has to be piped.
    pub fn of(proxy: &mut Proxy) -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&lines);
        let stdout = proxy.stdout();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                kept.lock().expect("not poisoned").push(line);
            }
        });
        Self(lines)
    }

    /// Waits until there are `count` lines.
    pub fn wait_for(&self, count: usize) {
        until(&format!("{count} lines"), || {
            self.0.lock().expect("not poisoned").len() >= count
        });
    }

    /// How many lines contain `part`.
    pub fn count_with(&self, part: &str) -> usize {
        let lines = self.0.lock().expect("not poisoned");
        lines.iter().filter(|line| line.contains(part)).count()
    }

    /// Waits for the first line that contains `part`.
    pub fn line_with(&self, part: &str) -> String {
        let mut found = None;
        until(&format!("a line with {part}"), || {
            let lines = self.0.lock().expect("not poisoned");
            found = lines.iter().find(|line| line.contains(part)).cloned();
            found.is_some()
        });
        found.expect("was waited for")
    }
}
