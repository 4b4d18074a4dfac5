//! Listening sockets.

use super::core;
use super::slab::Key;
use super::sys;
use std::future::poll_fn;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd};

/// A listening TCP socket of this worker.
pub struct Listener {
    key: Key,
    local: PhantomData<*const ()>,
}

impl Listener {
    /// Takes over a listening socket. Connections from it have Nagle's algorithm off.
    ///
    /// # Errors
    /// When it cannot be made nonblocking, or the driver cannot watch it.
    ///
    /// # Panics
    /// Outside of [`run`](super::run).
    pub fn from_std(listener: TcpListener) -> io::Result<Listener> {
        let fd = OwnedFd::from(listener);
        sys::set_nonblocking(&fd)?;
        sys::set_nodelay(fd.as_raw_fd());
        let key = core::with(|core| core.driver.borrow_mut().add_listener(fd))?;
        Ok(Listener {
            key,
            local: PhantomData,
        })
    }

    /// The next connection and who made it. Dropping the future loses none: a connection that was
    /// accepted meanwhile is returned by the next call, or closed with the listener.
    ///
    /// # Errors
    /// Those of `accept(2)` that concern the listener, such as `EMFILE`. It stays usable: wait a
    /// little and call again.
    pub async fn accept(&self) -> io::Result<(OwnedFd, SocketAddr)> {
        loop {
            let accepted = poll_fn(|context| {
                core::with(|core| core.driver.borrow_mut().poll_accept(self.key, context))
            });
            let fd = accepted.await?;
            // A connection that was reset since has no peer any more.
            if let Ok(peer) = sys::peer_address(fd.as_raw_fd()) {
                return Ok((fd, peer));
            }
        }
    }

    /// Stops listening and closes the socket. Returns the connections that were accepted or
    /// waited in the kernel's backlog: their clients believe to be connected.
    pub async fn stop(self) -> Vec<(OwnedFd, SocketAddr)> {
        poll_fn(|context| {
            core::with(|core| {
                core.driver
                    .borrow_mut()
                    .poll_accept_stopped(self.key, context)
            })
        })
        .await;
        let rest = core::with(|core| {
            let mut driver = core.driver.borrow_mut();
            let Some(slot) = driver.table().listeners.get_mut(self.key) else {
                return Vec::new();
            };
            let mut rest = Vec::from(std::mem::take(&mut slot.accepted));
            loop {
                match sys::accept(slot.fd.as_raw_fd()) {
                    Ok(fd) => rest.push(fd),
                    Err(errno) if sys::concerns_one_connection(errno) => {}
                    Err(_) => break,
                }
            }
            rest
        });
        let named = |fd: OwnedFd| {
            sys::peer_address(fd.as_raw_fd())
                .ok()
                .map(|peer| (fd, peer))
        };
        rest.into_iter().filter_map(named).collect()
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// When the runtime that the listener is of has ended.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = core::try_with(|core| {
            let mut driver = core.driver.borrow_mut();
            let slot = driver.table().listeners.get(self.key)?;
            Some(sys::local_address(slot.fd.as_raw_fd()))
        });
        address
            .flatten()
            .unwrap_or_else(|| Err(sys::error(libc::EBADF)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        core::try_with(|core| core.driver.borrow_mut().drop_listener(self.key));
    }
}
