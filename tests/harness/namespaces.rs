//! Workloads in network namespaces of their own, joined by a bridge, with connections redirected
//! to their sidecars as `configs/interception/redirect.nft` does it.

use super::{Proxy, folder};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// Namespaces that can reach each other: workload `n` has 10.231.0.n and fd77::n.
pub struct World {
    prefix: String,
    workloads: u8,
}

fn done(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{program} {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

impl World {
    /// So many workloads; `None`, with a message, where the kernel or rights forbid it.
    pub fn new(workloads: u8) -> Option<Self> {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let world = Self {
            prefix: format!("ringroad-{}-{number}", std::process::id()),
            workloads,
        };
        match world.build() {
            Ok(()) => Some(world),
            Err(why) => {
                eprintln!("skipped, since network namespaces or nftables cannot be used: {why}");
                None
            }
        }
    }

    fn build(&self) -> Result<(), String> {
        let hub = self.name(0);
        done("nft", &["--version"])?;
        done("setpriv", &["--version"])?;
        done("ip", &["netns", "add", &hub])?;
        done("ip", &["-n", &hub, "link", "add", "hub", "type", "bridge"])?;
        done("ip", &["-n", &hub, "link", "set", "hub", "up"])?;
        for number in 1..=self.workloads {
            let (name, port) = (self.name(number), format!("port{number}"));
            done("ip", &["netns", "add", &name])?;
            let ends = ["type", "veth", "peer", "name", &port, "netns", &hub];
            let link = ["link", "add", "eth0", "netns", &name];
            done("ip", &[&link[..], &ends[..]].concat())?;
            done(
                "ip",
                &["-n", &hub, "link", "set", &port, "master", "hub", "up"],
            )?;
            let (v4, v6) = (
                format!("10.231.0.{number}/24"),
                format!("fd77::{number}/64"),
            );
            for args in [
                &["link", "set", "lo", "up"][..],
                &["link", "set", "eth0", "up"],
                &["address", "add", &v4, "dev", "eth0"],
                &["-6", "address", "add", &v6, "dev", "eth0", "nodad"],
                &["-6", "address", "add", "::6/128", "dev", "lo", "nodad"],
                &["route", "add", "default", "dev", "eth0"],
                &["-6", "route", "add", "default", "dev", "eth0"],
            ] {
                done("ip", &[&["-n", &name], args].concat())?;
            }
        }
        Ok(())
    }

    fn name(&self, number: u8) -> String {
        format!("{}-{number}", self.prefix)
    }

    /// Does something as workload `number`.
    pub fn at<T: Send>(&self, number: u8, act: impl FnOnce() -> T + Send) -> T {
        let path = Path::new("/run/netns").join(self.name(number));
        let inside = move || {
            let file = File::open(path).expect("the namespace is there");
            setns(file, CloneFlags::CLONE_NEWNET).expect("may be entered");
            act()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }

    /// Starts a sidecar beside workload `number`, and redirects its connections.
    pub fn sidecar(&self, number: u8, files: &[(&str, &str)], args: &[&str]) -> Proxy {
        let name = self.name(number);
        let rules = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../configs/interception/redirect.nft"
        );
        done("ip", &["netns", "exec", &name, "nft", "-f", rules]).expect("rules");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &name]);
        command.args(["setpriv", "--regid", "1337", "--clear-groups"]);
        command.arg(env!("CARGO_BIN_EXE_ringroad"));
        Proxy::start_command(command, folder(files), args)
    }

    /// A figure of the sidecar beside workload `number`.
    pub fn stat(&self, number: u8, sidecar: &Proxy, name: &str) -> u64 {
        self.at(number, || sidecar.stat(name))
    }

    /// Serves HTTP as workload `number`: answers with its name, who asks, and the client
    /// certificate that it is told of.
    pub fn serve_http(&self, number: u8, ip: IpAddr, port: u16, name: &'static str) {
        let listener = self.at(number, || {
            TcpListener::bind((ip, port)).expect("a free port")
        });
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer(stream, name));
            }
        });
    }

    /// Serves a protocol whose server speaks first, and then sends back what it gets.
    pub fn serve_greeting(&self, number: u8, ip: IpAddr, port: u16) {
        let listener = self.at(number, || {
            TcpListener::bind((ip, port)).expect("a free port")
        });
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    let _ = stream.write_all(b"welcome\n");
                    while let Ok(len @ 1..) = stream.read(&mut buffer) {
                        let _ = stream.write_all(&buffer[..len]);
                    }
                });
            }
        });
    }
}

fn answer(stream: TcpStream, name: &str) {
    let peer = stream.peer_addr().expect("connected").ip().to_canonical();
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) if line == "\r\n" => break,
                Ok(_) => head.push(line.trim_end().to_string()),
            }
        }
        let certificate = head
            .iter()
            .find_map(|line| line.strip_prefix("x-forwarded-client-cert: "));
        let body = format!("{name}|{peer}|{}", certificate.unwrap_or("none"));
        let length = body.len();
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for number in 0..=self.workloads {
            // Some may not have been made.
            let _ = done("ip", &["netns", "delete", &self.name(number)]);
        }
    }
}

/// The addresses of workload `number`.
pub fn addresses(number: u8) -> [IpAddr; 2] {
    [
        Ipv4Addr::new(10, 231, 0, number).into(),
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(number)).into(),
    ]
}
