//! The built binary, a configuration folder, upstreams and a client, all on loopback.

// Each test file uses a part of it.
#![allow(dead_code)]

pub mod access;
pub mod frames;
pub mod http2;
pub mod mesh;
pub mod name_server;
pub mod namespaces;
pub mod pki;
pub mod pool;
pub mod raw;
pub mod tcp;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long any condition may take; generous, since machines are loaded.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// An address that was free a moment ago, and that nobody gets who asks the kernel for any port: an
/// admin interface or a connection could otherwise take it before the listener does.
pub fn free_address() -> SocketAddr {
    const FIRST: u32 = 16_000;
    const COUNT: u32 = 16_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Tests in other processes begin elsewhere.
    let first = std::process::id().wrapping_mul(97);
    loop {
        let next = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let address = SocketAddr::from(([127, 0, 0, 1], (FIRST + next % COUNT) as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

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

/// A folder with these files.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // An empty file is taken for one that is being written.
    for (name, text) in files.iter().filter(|(_, text)| !text.is_empty()) {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}

/// A gateway at `address` for every host.
pub fn gateway(address: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gate}}\nspec:\n  \
         servers:\n  - port: {{number: {}, name: http, protocol: HTTP}}\n    bind: {}\n    \
         hosts: [\"*\"]\n",
        address.port(),
        address.ip()
    )
}

/// A virtual service of that gateway that answers by itself.
pub fn answering(body: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: answer}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  - directResponse:\n      \
         status: 200\n      body: {{string: \"{body}\"}}\n"
    )
}

/// A virtual service of that gateway that splits between upstreams by weight.
pub fn splitting(to: &[(SocketAddr, u32)]) -> String {
    let mut routes = String::new();
    let mut entries = String::new();
    for (at, (address, weight)) in to.iter().enumerate() {
        routes += &format!(
            "    - destination: {{host: up{at}.test, port: {{number: 80}}}}\n      \
             weight: {weight}\n"
        );
        entries += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: up{at}}}\nspec:\n  hosts: [up{at}.test]\n  resolution: STATIC\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n  \
             - address: {}\n    ports: {{http: {}}}\n",
            address.ip(),
            address.port()
        );
    }
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: split}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  - route:\n{routes}{entries}"
    )
}

/// A document of our own kind with this `spec`.
pub fn settings(spec: &str) -> String {
    format!(
        "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: test}}\n\
         spec: {spec}\n"
    )
}

/// The text of an example in `configs/`, where each of `changes` replaces what stands there once.
pub fn example(path: &str, changes: &[(&str, String)]) -> String {
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/");
    let text = fs::read_to_string(format!("{configs}{path}")).expect("is there");
    changes.iter().fold(text, |text, (written, wanted)| {
        assert_eq!(text.matches(written).count(), 1, "{written}");
        text.replace(written, wanted)
    })
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
            let mut words = log
                .split_whitespace()
                .filter_map(|word| word.strip_prefix("http://"));
            admin = words.next().and_then(|address| address.parse().ok());
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

    pub fn log(&self) -> String {
        self.log.lock().expect("not poisoned").clone()
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

    /// A figure of `/stats`; 0 when nothing has counted it yet.
    pub fn stat(&self, name: &str) -> u64 {
        let stats = self.admin("/stats").body;
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.map_or(0, |value| value.parse().expect("a number"))
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

    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: the child has not been waited for, so its id is still its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
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

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// `GET target` on a connection of its own.
pub fn get(address: SocketAddr, host: &str, target: &str) -> Answer {
    try_send(address, "GET", host, target).expect("an answer")
}

pub fn post(address: SocketAddr, target: &str) -> Answer {
    try_send(address, "POST", "localhost", target).expect("an answer")
}

pub fn try_send(
    address: SocketAddr,
    method: &str,
    host: &str,
    target: &str,
) -> std::io::Result<Answer> {
    Client::connect(address)?.send(method, host, target)
}

/// A connection that is kept.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::new(stream)))
    }

    /// A connection that somebody else has opened.
    pub fn over(stream: TcpStream) -> Self {
        let set = stream.set_read_timeout(Some(PATIENCE));
        set.expect("can be set");
        Self(BufReader::new(stream))
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("sent");
    }

    /// Sends a request without waiting for its answer.
    pub fn start(&mut self, method: &str, host: &str, target: &str) -> std::io::Result<()> {
        let length = if method == "POST" {
            "content-length: 0\r\n"
        } else {
            ""
        };
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n{length}\r\n");
        self.0.get_mut().write_all(head.as_bytes())
    }

    pub fn send(&mut self, method: &str, host: &str, target: &str) -> std::io::Result<Answer> {
        self.start(method, host, target)?;
        self.answer()
    }

    /// Reads the next answer.
    pub fn answer(&mut self) -> std::io::Result<Answer> {
        let broken = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        let line = self.line()?;
        let status = line
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken(&format!("no status line: {line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_string()));
        }
        let answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let mut body = Vec::new();
        if let Some(length) = answer.header("content-length") {
            body.resize(length.parse().map_err(|_| broken("content-length"))?, 0);
            self.0.read_exact(&mut body)?;
        } else if answer.header("transfer-encoding").is_some() {
            loop {
                let size = usize::from_str_radix(self.line()?.trim(), 16);
                let size = size.map_err(|_| broken("chunk size"))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.0.read_exact(&mut body[start..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        } else {
            self.0.read_to_end(&mut body)?;
        }
        let body = String::from_utf8(body).map_err(|_| broken("no UTF-8"))?;
        Ok(Answer { body, ..answer })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_string())
    }
}

/// An upstream that answers every request with its name, unless its gate is closed.
pub struct Upstream {
    pub address: SocketAddr,
    shared: Arc<UpstreamShared>,
}

struct UpstreamShared {
    name: String,
    requests: AtomicUsize,
    gate_is_open: Mutex<bool>,
    opened: Condvar,
}

impl Upstream {
    pub fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(UpstreamShared {
            name: name.to_string(),
            requests: AtomicUsize::new(0),
            gate_is_open: Mutex::new(true),
            opened: Condvar::new(),
        });
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&serving);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// Requests whose heads have arrived.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// From now on answers wait until the gate is open again.
    pub fn close_gate(&self) {
        *self.shared.gate_is_open.lock().expect("not poisoned") = false;
    }

    pub fn open_gate(&self) {
        *self.shared.gate_is_open.lock().expect("not poisoned") = true;
        self.shared.opened.notify_all();
    }
}

impl UpstreamShared {
    fn serve(&self, stream: TcpStream) {
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        loop {
            let mut head_lines = 0;
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if line == "\r\n" => break,
                    Ok(_) => head_lines += 1,
                }
            }
            assert!(head_lines > 0);
            self.requests.fetch_add(1, Ordering::SeqCst);
            let mut open = self.gate_is_open.lock().expect("not poisoned");
            while !*open {
                open = self.opened.wait(open).expect("not poisoned");
            }
            drop(open);
            let (name, length) = (&self.name, self.name.len());
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
            if reader.get_mut().write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// The drivers to test with.
pub const DRIVERS: [&str; 2] = ["auto", "epoll"];
