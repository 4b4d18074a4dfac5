//! What the runtime promises, shown on both drivers.

mod streams;
mod timers;

use super::*;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::mpsc;

/// No test takes longer than this; one that does has lost a wake.
const PATIENCE: Duration = Duration::from_secs(60);

fn drivers() -> Vec<DriverChoice> {
    match probe(DriverChoice::IoUring) {
        Ok(_) => vec![DriverChoice::IoUring],
        Err(error) => {
            eprintln!("on epoll only: {error}");
            vec![DriverChoice::Epoll]
        }
    }
}

/// Runs a test on a thread of its own, with each driver in turn.
fn on_both<F: Future<Output = ()> + 'static>(
    test: impl Fn() -> F + Clone + std::marker::Send + 'static,
) {
    on_both_with(RuntimeOptions::default(), test);
}

fn on_both_with<F: Future<Output = ()> + 'static>(
    options: RuntimeOptions,
    test: impl Fn() -> F + Clone + std::marker::Send + 'static,
) {
    for driver in drivers() {
        let options = RuntimeOptions {
            driver,
            ..options.clone()
        };
        let test = test.clone();
        let (done, finished) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let outcome = run(&options, test);
            let _ = done.send(());
            outcome
        });
        match finished.recv_timeout(PATIENCE) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("stuck on {driver:?}"),
            _ => thread
                .join()
                .expect("no panic outside of tasks")
                .expect("a good end"),
        }
    }
}

fn bind() -> (Listener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Listener::from_std(listener).unwrap(), address)
}

/// A stream of the runtime and the plain socket at its other end.
fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let plain = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    (Stream::from_fd(OwnedFd::from(accepted)).unwrap(), plain)
}

fn buffer(bytes: &[u8]) -> Buffer {
    let mut buffer = Buffer::lease();
    buffer.extend_from_slice(bytes);
    buffer
}

async fn sleep_ms(time_ms: u64) {
    sleep_until(Instant::now() + Duration::from_millis(time_ms)).await;
}

/// Waits, turn by turn, until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        sleep_ms(1).await;
    }
}
