//! The built binary, a configuration folder, upstreams and a client, all on loopback.

// Each test file uses a part of it.
#![allow(dead_code, unused_imports)]

pub mod access;
mod client;
mod documents;
pub mod frames;
pub mod http2;
pub mod mesh;
pub mod name_server;
pub mod namespaces;
pub mod pki;
pub mod pool;
mod process;
pub mod raw;
pub mod tcp;
mod upstream;

pub use client::{Answer, Client, get, post, try_send};
pub use documents::{answering, example, gateway, https_gateway, settings, splitting};
pub use process::{LogLines, Proxy, ringroad, with_open_files};
pub use upstream::Upstream;

use std::fmt::Debug;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long any condition may take; generous, since machines are loaded.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The drivers to test with.
pub const DRIVERS: [&str; 2] = ["auto", "epoll"];

/// The same test with each of them, side by side: for tests that wait for time to pass.
pub fn on_each_driver(test: impl Fn(&'static str) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for driver in DRIVERS {
            scope.spawn(move || test(driver));
        }
    });
}

/// Waits for a condition.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `value` is as wanted. What is counted of a request is counted behind its last byte,
/// so it may be a moment late for whoever has seen that byte.
#[track_caller]
pub fn until_equal<T: PartialEq + Debug>(what: &str, wanted: T, mut value: impl FnMut() -> T) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = value();
        if found == wanted {
            return;
        }
        let is_late = Instant::now() >= deadline;
        assert!(!is_late, "{what} stays {found:?}, and not {wanted:?}");
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

/// A folder with these files.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // An empty file is taken for one that is being written.
    for (name, text) in files.iter().filter(|(_, text)| !text.is_empty()) {
        fs::write(folder.path().join(name), text).expect("written");
    }
    folder
}
