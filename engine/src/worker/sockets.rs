//! Listening sockets: one for each worker on the same address, so that the kernel spreads accepts.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};

/// Connections that may wait for accept on each worker's socket.
const LISTEN_BACKLOG: i32 = 4096;

/// Opens `count` sockets that listen on `address`.
///
/// # Errors
/// The address is taken by another program, not ours, or needs a privilege. A first socket without
/// `SO_REUSEPORT` finds out whether somebody else has the port: with it, a second proxy of the
/// same user would silently share the traffic.
pub fn listen(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let probe = open(address)?;
    probe.bind(&address.into())?;
    drop(probe);
    (0..count)
        .map(|_| {
            let socket = open(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            socket.listen(LISTEN_BACKLOG)?;
            Ok(socket.into())
        })
        .collect()
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}
