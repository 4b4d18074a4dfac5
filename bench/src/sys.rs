//! The few system calls that the standard library does not offer, each behind a safe function.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// Runs the calling thread, and all it starts from now on, on one core only.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: `core` is below CPU_SETSIZE, so the write stays within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: the set outlives the call and its size is handed over beside it.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) }).map(|_| ())
}

/// Lets the process open as many descriptors as its hard limit allows; returns that number.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid rlimit to write to.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) })?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a valid rlimit to read from.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) })?;
    Ok(limit.rlim_cur)
}

/// Makes timeouts of the calling thread exact to a microsecond instead of the usual fifty.
pub fn sharpen_timers() {
    // SAFETY: PR_SET_TIMERSLACK takes one integer and touches no memory of ours.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000 as libc::c_ulong, 0, 0, 0) };
}

/// Prepares a child: it runs on `core` only, if one is named, and ends when the bench ends for
/// whatever reason.
pub fn bind_child(command: &mut Command, core: Option<usize>) {
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure makes three system calls that allocate nothing.
    unsafe {
        command.pre_exec(move || {
            core.map_or(Ok(()), pin_to_core)?;
            check(libc::prctl(
                libc::PR_SET_PDEATHSIG,
                libc::SIGTERM as libc::c_ulong,
                0,
                0,
                0,
            ))?;
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(())
        });
    }
}

/// Sends a signal to a child that has not been waited for yet, so that its id is still its own.
pub fn signal_process(pid: u32, signal: i32) {
    // SAFETY: kill touches no memory; the caller owns the process.
    unsafe { libc::kill(pid as libc::pid_t, signal) };
}

/// Ticks a second of the times in `/proc`.
pub fn clock_ticks_per_second() -> u64 {
    // SAFETY: sysconf touches no memory of ours.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}

/// Whether the bench runs as root (nginx then has to be told to stay root).
pub fn is_root() -> bool {
    // SAFETY: geteuid has no arguments and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Starts a connection without waiting for it; writability tells that it stands.
pub fn connect_nonblocking(address: SocketAddr) -> io::Result<TcpStream> {
    let SocketAddr::V4(address) = address else {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    };
    let flags = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket touches no memory of ours.
    let fd = check(unsafe { libc::socket(libc::AF_INET, flags, 0) })?;
    // SAFETY: the descriptor was just opened and nobody else holds it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let raw = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from_ne_bytes(address.ip().octets()),
        },
        sin_zero: [0; 8],
    };
    // SAFETY: `raw` is a sockaddr_in and its size is handed over beside it.
    let result = check(unsafe {
        libc::connect(
            fd,
            (&raw const raw).cast::<libc::sockaddr>(),
            size_of::<libc::sockaddr_in>() as libc::socklen_t,
        )
    });
    match result {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(socket)),
    }
}

/// One ready descriptor: the token it was registered with, and the epoll flags.
pub use libc::epoll_event as Event;

/// An edge-triggered epoll set: it tells each change once, in the order in which they came. A
/// level-triggered one puts what it has just told before what came meanwhile, so that clients of one
/// set overtake each other, and the longest latencies would tell about that.
pub struct Epoll(OwnedFd);

/// There is something to read, or an end.
pub const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
pub const WRITABLE: u32 = libc::EPOLLOUT as u32;
/// The other side has ended, which is told once, behind all that it has sent before.
pub const ENDED: u32 = (libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR) as u32;

impl Epoll {
    pub fn new() -> io::Result<Self> {
        // SAFETY: epoll_create1 touches no memory of ours.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just opened and nobody else holds it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches a descriptor until it is closed. Who is told has to read until less comes than would
    /// have fitted, and until the end when that was told as well.
    pub fn add(&self, fd: &impl AsRawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), interest, token)
    }

    /// Changes what is watched for. What there is of it already is told anew.
    pub fn modify(&self, fd: &impl AsRawFd, interest: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd.as_raw_fd(), interest, token)
    }

    fn control(&self, operation: i32, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
        let events = events | libc::EPOLLET as u32;
        let mut event = Event { events, u64: token };
        // SAFETY: `event` outlives the call.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), operation, fd, &mut event) }).map(|_| ())
    }

    /// Waits for events, at most as long as `timeout` (to the nanosecond; `None` waits for ever),
    /// and returns how many entries of `events` were filled. A signal counts as no event.
    pub fn wait(&self, events: &mut [Event], timeout: Option<Duration>) -> io::Result<usize> {
        let limit = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs().min(i32::MAX as u64) as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as libc::c_long,
        });
        let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `events` is valid for its length, `limit` is null or points to a timespec that
        // outlives the call, and a null signal mask is allowed. The raw call is used because the
        // wrapper is missing from older C libraries.
        let count = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len().min(i32::MAX as usize) as i32,
                limit,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        match check(count as i32) {
            Ok(count) => Ok(count as usize),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(error) => Err(error),
        }
    }
}

/// An empty event to fill a buffer with.
pub const NO_EVENT: Event = Event { events: 0, u64: 0 };

fn check(result: i32) -> io::Result<i32> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
