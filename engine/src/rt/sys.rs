//! The system calls that both drivers use, with the errors as numbers where the hot path looks at
//! them.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Where a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointAddr {
    /// TCP over IPv4 or IPv6.
    Socket(SocketAddr),
    /// The same, from this address of ours.
    SocketFrom(SocketAddr, IpAddr),
    /// A Unix stream socket; a path that starts with `@` names an abstract one.
    Unix(PathBuf),
}

impl From<SocketAddr> for EndpointAddr {
    fn from(address: SocketAddr) -> Self {
        EndpointAddr::Socket(address)
    }
}

/// An address as the kernel takes it.
pub(super) struct RawAddress {
    pub storage: libc::sockaddr_storage,
    pub length: libc::socklen_t,
}

pub(super) fn last_errno() -> i32 {
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

/// In place of the errno of a send that failed when part of it had gone out.
pub(super) const PARTLY_SENT: i32 = -1;

pub(super) fn error(errno: i32) -> io::Error {
    match errno {
        PARTLY_SENT => io::ErrorKind::WriteZero.into(),
        _ => io::Error::from_raw_os_error(errno),
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

impl RawAddress {
    fn zeroed() -> Self {
        // SAFETY: all bytes zero is a valid sockaddr_storage (AF_UNSPEC).
        let storage = unsafe { MaybeUninit::<libc::sockaddr_storage>::zeroed().assume_init() };
        RawAddress { storage, length: 0 }
    }

    fn holding<T>(value: T) -> Self {
        const { assert!(size_of::<T>() <= size_of::<libc::sockaddr_storage>()) };
        let mut raw = RawAddress::zeroed();
        // SAFETY: the storage is large enough, as asserted, and aligned for every address family.
        unsafe { (&raw mut raw.storage).cast::<T>().write(value) };
        raw.length = size_of::<T>() as libc::socklen_t;
        raw
    }

    /// # Errors
    /// `InvalidInput` when a Unix path is empty or does not fit.
    pub fn of(address: &EndpointAddr) -> io::Result<Self> {
        match address {
            EndpointAddr::Socket(SocketAddr::V4(v4))
            | EndpointAddr::SocketFrom(SocketAddr::V4(v4), _) => {
                Ok(Self::holding(libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                }))
            }
            EndpointAddr::Socket(SocketAddr::V6(v6))
            | EndpointAddr::SocketFrom(SocketAddr::V6(v6), _) => {
                Ok(Self::holding(libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                }))
            }
            EndpointAddr::Unix(path) => {
                let bytes = path.as_os_str().as_bytes();
                let mut unix = libc::sockaddr_un {
                    sun_family: libc::AF_UNIX as libc::sa_family_t,
                    sun_path: [0; 108],
                };
                // One byte is left for the terminator.
                if bytes.is_empty() || bytes.len() >= unix.sun_path.len() || bytes.contains(&0) {
                    return Err(io::ErrorKind::InvalidInput.into());
                }
                for (to, from) in unix.sun_path.iter_mut().zip(bytes) {
                    *to = *from as libc::c_char;
                }
                let family_bytes = std::mem::offset_of!(libc::sockaddr_un, sun_path);
                let mut length = family_bytes + bytes.len() + 1;
                if bytes[0] == b'@' {
                    unix.sun_path[0] = 0;
                    length -= 1;
                }
                let mut raw = Self::holding(unix);
                raw.length = length as libc::socklen_t;
                Ok(raw)
            }
        }
    }

    pub fn family(&self) -> libc::c_int {
        libc::c_int::from(self.storage.ss_family)
    }

    fn to_socket(&self) -> io::Result<SocketAddr> {
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says which structure the storage holds.
                let v4 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
                Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says which structure the storage holds.
                let v6 = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
                let port = u16::from_be(v6.sin6_port);
                // An IPv4 client of a socket for both families.
                if let Some(v4) = ip.to_ipv4_mapped() {
                    return Ok(SocketAddrV4::new(v4, port).into());
                }
                Ok(SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into())
            }
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// A stream socket of the address's family.
pub(super) fn stream_socket(address: &RawAddress) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: a plain system call without pointers.
    let fd = check(unsafe { libc::socket(address.family(), kind, 0) })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sets the address that a socket connects from; its port is chosen when it connects.
pub(super) fn bind_source(fd: RawFd, source: IpAddr) -> io::Result<()> {
    let on: libc::c_int = 1;
    // Without it a port is taken from all connections at once; that is all that can go wrong.
    let _ = set_option(fd, libc::SOL_IP, libc::IP_BIND_ADDRESS_NO_PORT, &on);
    let raw = RawAddress::of(&EndpointAddr::Socket(SocketAddr::new(source, 0)))?;
    let place = (&raw const raw.storage).cast();
    // SAFETY: the storage is readable for the length, and both live to the end of the call.
    check(unsafe { libc::bind(fd, place, raw.length) })?;
    Ok(())
}

type NameCall =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

fn name(fd: RawFd, call: NameCall) -> io::Result<SocketAddr> {
    let mut raw = RawAddress::zeroed();
    raw.length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: storage and length are valid for writing, and the length says how much there is.
    check(unsafe { call(fd, (&raw mut raw.storage).cast(), &raw mut raw.length) })?;
    raw.to_socket()
}

pub(super) fn peer_address(fd: RawFd) -> io::Result<SocketAddr> {
    name(fd, libc::getpeername)
}

pub(super) fn local_address(fd: RawFd) -> io::Result<SocketAddr> {
    name(fd, libc::getsockname)
}

/// Where a connection went before the firewall redirected it here; `None` for others.
pub(super) fn original_destination(fd: RawFd) -> Option<SocketAddr> {
    /// `SO_ORIGINAL_DST` and `IP6T_SO_ORIGINAL_DST`.
    const ORIGINAL_DESTINATION: libc::c_int = 80;
    let level = match local_address(fd).ok()? {
        SocketAddr::V4(_) => libc::SOL_IP,
        SocketAddr::V6(_) => libc::SOL_IPV6,
    };
    let mut raw = RawAddress::zeroed();
    raw.length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: storage and length are valid for writing, and the length says how much there is.
    let found = unsafe {
        libc::getsockopt(
            fd,
            level,
            ORIGINAL_DESTINATION,
            (&raw mut raw.storage).cast(),
            &raw mut raw.length,
        )
    };
    check(found).ok()?;
    raw.to_socket().ok()
}

pub(super) fn set_option<T>(fd: RawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is readable for its own length.
    check(unsafe { libc::setsockopt(fd, level, option, (&raw const *value).cast(), length) })?;
    Ok(())
}

/// Switches Nagle's algorithm off; without effect on sockets that are not TCP.
pub(super) fn set_nodelay(fd: RawFd) {
    let on: libc::c_int = 1;
    // Unix sockets refuse the option, which is all that can go wrong.
    let _ = set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, &on);
}

/// Switches keep-alive probes on; see [`Stream::set_keepalive`](super::Stream::set_keepalive).
pub(super) fn set_keepalive(
    fd: RawFd,
    probes: Option<u32>,
    idle_s: Option<u32>,
    interval_s: Option<u32>,
) -> io::Result<()> {
    let on: libc::c_int = 1;
    set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &on)?;
    for (option, value) in [
        (libc::TCP_KEEPCNT, probes),
        (libc::TCP_KEEPIDLE, idle_s),
        (libc::TCP_KEEPINTVL, interval_s),
    ] {
        if let Some(value) = value {
            let value = libc::c_int::try_from(value).unwrap_or(libc::c_int::MAX);
            set_option(fd, libc::IPPROTO_TCP, option, &value)?;
        }
    }
    Ok(())
}

/// Linux: `tcp_info` up to `tcpi_bytes_acked`, in words of eight bytes: eight single bytes, 24 words
/// of four, two rates.
type TcpInfo = [u64; 16];

/// What the kernel tells of a TCP connection; `None` for what is none.
fn tcp_info(fd: RawFd) -> Option<TcpInfo> {
    let mut info = TcpInfo::default();
    let mut length = size_of_val(&info) as libc::socklen_t;
    let place = info.as_mut_ptr().cast();
    // SAFETY: as many bytes are writable as the length says.
    let found = unsafe {
        libc::getsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            place,
            &raw mut length,
        )
    };
    check(found).ok()?;
    (length as usize == size_of_val(&info)).then_some(info)
}

/// How many bytes of a TCP connection the peer has confirmed.
pub(super) fn confirmed_bytes(fd: RawFd) -> Option<u64> {
    tcp_info(fd)?.last().copied()
}

/// `TCP_CLOSE` of `net/tcp_states.h`.
const CLOSED: u8 = 7;
/// `TCP_CLOSE_WAIT` of `net/tcp_states.h`: the peer has ended its side.
const CLOSE_WAIT: u8 = 8;

/// `tcpi_state`, the first byte.
fn tcp_state(fd: RawFd) -> Option<u8> {
    tcp_info(fd).map(|[first, ..]| first.to_ne_bytes()[0])
}

/// Whether a TCP connection is over for both sides, as after a reset, whatever was received before.
pub(super) fn is_over(fd: RawFd) -> bool {
    tcp_state(fd) == Some(CLOSED)
}

/// Whether the peer of a TCP connection sends nothing more, whatever was received before.
pub(super) fn is_left(fd: RawFd) -> bool {
    matches!(tcp_state(fd), Some(CLOSED | CLOSE_WAIT))
}

/// Makes closing send a reset.
pub(super) fn set_reset_on_close(fd: RawFd) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // It fails for sockets that know no reset; these are just closed.
    let _ = set_option(fd, libc::SOL_SOCKET, libc::SO_LINGER, &linger);
}

/// The error that a connection attempt or an asynchronous failure left behind; 0 when none.
pub(super) fn take_socket_error(fd: RawFd) -> i32 {
    let mut value: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    let place = (&raw mut value).cast();
    // SAFETY: value and length are valid for writing.
    let result =
        unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, place, &raw mut length) };
    if result < 0 { last_errno() } else { value }
}

/// Receives without waiting; `Err` is the errno.
///
/// # Safety
/// `length` bytes from `place` are writable and nobody else uses them.
pub(super) unsafe fn receive(
    fd: RawFd,
    place: *mut u8,
    length: usize,
    flags: libc::c_int,
) -> Result<usize, i32> {
    loop {
        // SAFETY: the caller's promise.
        let count = unsafe { libc::recv(fd, place.cast(), length, flags | libc::MSG_DONTWAIT) };
        if count >= 0 {
            return Ok(count as usize);
        }
        match last_errno() {
            libc::EINTR => {}
            errno => return Err(errno),
        }
    }
}

/// Sends without waiting what fits; `Err` is the errno.
pub(super) fn send(fd: RawFd, head: &[u8], body: &[u8]) -> Result<usize, i32> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    loop {
        let count = if head.is_empty() || body.is_empty() {
            let bytes = if body.is_empty() { head } else { body };
            // SAFETY: the slice is readable.
            unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), flags) }
        } else {
            let mut parts = [part(head), part(body)];
            let message = message(&mut parts);
            // SAFETY: the message points to two readable slices that live until the call is over.
            unsafe { libc::sendmsg(fd, &raw const message, flags) }
        };
        if count >= 0 {
            return Ok(count as usize);
        }
        match last_errno() {
            libc::EINTR => {}
            errno => return Err(errno),
        }
    }
}

pub(super) fn part(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

pub(super) fn message(parts: &mut [libc::iovec; 2]) -> libc::msghdr {
    // SAFETY: all bytes zero is a valid msghdr: no name, no parts, no control data.
    let mut message = unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len() as _;
    message
}

/// Whether bytes, the end or an error wait: `Ok(None)` when nothing does.
pub(super) fn peek(fd: RawFd) -> Result<Option<usize>, i32> {
    let mut byte = 0u8;
    // SAFETY: one byte is writable.
    match unsafe { receive(fd, &raw mut byte, 1, libc::MSG_PEEK) } {
        Ok(count) => Ok(Some(count)),
        Err(libc::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Begins to connect; the errno, 0 when it is done already.
pub(super) fn connect(fd: RawFd, address: &RawAddress) -> i32 {
    let place = (&raw const address.storage).cast();
    // SAFETY: the storage is readable for the length that goes with it.
    let result = unsafe { libc::connect(fd, place, address.length) };
    if result < 0 { last_errno() } else { 0 }
}

/// Takes a connection from the backlog without waiting; `Err` is the errno.
pub(super) fn accept(fd: RawFd) -> Result<OwnedFd, i32> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let nothing = std::ptr::null_mut();
    loop {
        // SAFETY: no address is asked for, so that both pointers may be null.
        let accepted = unsafe { libc::accept4(fd, nothing, std::ptr::null_mut(), flags) };
        if accepted >= 0 {
            // SAFETY: just made, and nobody else has it.
            return Ok(unsafe { OwnedFd::from_raw_fd(accepted) });
        }
        match last_errno() {
            libc::EINTR => {}
            errno => return Err(errno),
        }
    }
}

/// Errors of `accept(2)` that belong to one connection that is gone already, not to the listener.
pub(super) fn concerns_one_connection(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNABORTED
            | libc::EPROTO
            | libc::ENETDOWN
            | libc::ENOPROTOOPT
            | libc::EHOSTDOWN
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::ENONET
            | libc::EOPNOTSUPP
    )
}

pub(super) fn shutdown(fd: RawFd, how: libc::c_int) -> io::Result<()> {
    // SAFETY: a plain system call without pointers.
    check(unsafe { libc::shutdown(fd, how) })?;
    Ok(())
}

pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let fd = fd.as_raw_fd();
    // SAFETY: a plain system call without pointers.
    let flags = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}
