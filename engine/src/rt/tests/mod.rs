//! What the runtime promises, shown on both drivers.

mod listeners;
mod pressure;
mod streams;
mod tasks;

use super::*;
use std::cell::{Cell, RefCell};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::{Mutex, mpsc};

/// No test takes longer than this; one that does has lost a wake.
const PATIENCE: Duration = Duration::from_secs(60);

fn drivers() -> Vec<DriverChoice> {
    match probe(DriverChoice::IoUring) {
        Ok(_) => vec![DriverChoice::IoUring, DriverChoice::Epoll],
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
            own_descriptor_table();
            let before = descriptors();
            let outcome = run(&options, test);
            // The kernel closes a ring's files a little later.
            let patience = Instant::now() + PATIENCE / 2;
            while descriptors() > before && Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(1));
            }
            let leaked = descriptors() - before;
            let _ = done.send(());
            outcome.map(|()| leaked)
        });
        let leaked = match finished.recv_timeout(PATIENCE) {
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("stuck on {driver:?}"),
            _ => thread
                .join()
                .expect("no panic outside of tasks")
                .expect("a good end"),
        };
        assert_eq!(leaked, 0, "descriptors leak on {driver:?}");
    }
}

/// Gives this thread, and those it starts, descriptors of their own, so that they can be counted
/// and used up while other tests run.
fn own_descriptor_table() {
    const CLOSE_RANGE_UNSHARE: libc::c_uint = 2;
    let (first, last) = (3 as libc::c_uint, libc::c_uint::MAX);
    // SAFETY: what is closed is closed in this thread's new table only, and it has no descriptor
    // in use yet.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, CLOSE_RANGE_UNSHARE) };
    assert_eq!(done, 0, "close_range: {}", io::Error::last_os_error());
}

/// Open descriptors of this thread's table.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/thread-self/fd").unwrap().count()
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
    sleep_until(now() + Duration::from_millis(time_ms)).await;
}

/// Waits, turn by turn, until something holds.
async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        sleep_ms(1).await;
    }
}

/// Ends after one turn of the loop.
async fn next_turn() {
    let mut passed = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut passed, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// Polls a future once, and drops it.
async fn poll_and_drop<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| {
        std::task::Poll::Ready(match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

/// Bytes that tell where in the stream they belong.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}
