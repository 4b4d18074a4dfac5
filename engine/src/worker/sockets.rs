//! Listening sockets: one for each worker on the same address, so that the kernel spreads accepts.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

/// Connections that may wait for accept on each worker's socket.
const LISTEN_BACKLOG: i32 = 4096;

/// Which clients a socket takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// Those of the family of its address.
    Own,
    /// IPv4 and IPv6, at any address of ours.
    Both,
}

/// Who may have the port of a socket to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Nobody. A first socket without `SO_REUSEPORT` finds out whether somebody else has it: with it, a
    /// second proxy of the same user would silently share the traffic.
    IsFree,
    /// A socket of ours, at an address that this one includes or that includes it.
    IsOurs,
}

/// Opens `count` sockets that listen on `address`, or at any address for clients of both families.
///
/// # Errors
/// The address is taken by another program, not ours, or needs a privilege.
pub fn listen(
    address: SocketAddr,
    families: Families,
    port: Port,
    count: usize,
) -> io::Result<Vec<TcpListener>> {
    if families == Families::Both {
        let both = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port());
        // A machine without IPv6 has no such socket.
        return match listen_on(both, families, port, count) {
            Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
                listen_on(address, Families::Own, port, count)
            }
            listening => listening,
        };
    }
    listen_on(address, families, port, count)
}

fn listen_on(
    address: SocketAddr,
    families: Families,
    port: Port,
    count: usize,
) -> io::Result<Vec<TcpListener>> {
    if port == Port::IsFree {
        let probe = open(address, families)?;
        probe.bind(&address.into())?;
    }
    (0..count)
        .map(|_| {
            let socket = open(address, families)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(LISTEN_BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn open(address: SocketAddr, families: Families) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(families == Families::Own)?;
    }
    Ok(socket)
}
