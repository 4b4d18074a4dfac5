//! Connected streams.

use super::chunk::Chunk;
use super::core;
use super::driver::Driver;
use super::pool::Buffer;
use super::slab::Key;
use super::sys::{self, EndpointAddr, RawAddress};
use super::table::SendStart;
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What an idle connection looks like from here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// Nothing has come.
    Quiet,
    /// Bytes wait to be received.
    Bytes,
    /// The peer has ended or broken it.
    Closed,
}

impl Idle {
    pub(super) fn of_peek(peeked: Result<Option<usize>, i32>) -> Self {
        match peeked {
            Ok(None) => Idle::Quiet,
            Ok(Some(0)) | Err(_) => Idle::Closed,
            Ok(Some(_)) => Idle::Bytes,
        }
    }
}

/// A connected TCP or Unix stream of this worker.
///
/// One task receives at a time: the last one that polled is woken. Dropping it ends what is under
/// way, also sends whose futures still live, and closes the descriptor once the kernel has let go
/// of it. Bytes that nobody has taken by then make TCP send a reset, as `close(2)` does.
pub struct Stream {
    key: Key,
    local: PhantomData<*const ()>,
}

impl Stream {
    /// Takes over a connected socket, and switches Nagle's algorithm off.
    ///
    /// # Errors
    /// When the driver cannot watch it.
    ///
    /// # Panics
    /// Outside of [`run`](super::run).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Stream> {
        sys::set_nodelay(fd.as_raw_fd());
        let key = core::with(|core| core.driver.borrow_mut().add_stream(fd))?;
        Ok(Stream {
            key,
            local: PhantomData,
        })
    }

    /// Connects; there is no time limit but the kernel's. Dropping the future gives the attempt up
    /// and closes the socket.
    ///
    /// # Errors
    /// Those of `socket(2)` and `connect(2)`, and `InvalidInput` for an unusable Unix path. `EMFILE`
    /// also where the descriptors are left that are
    /// [spare](super::RuntimeOptions::first_spare_descriptor).
    pub async fn connect(address: &EndpointAddr) -> io::Result<Stream> {
        let raw = RawAddress::of(address)?;
        let fd = sys::stream_socket(&raw)?;
        if fd.as_raw_fd() >= core::with(|core| core.first_spare_descriptor) {
            return Err(sys::error(libc::EMFILE));
        }
        if let EndpointAddr::SocketFrom(_, source) = address {
            sys::bind_source(fd.as_raw_fd(), *source)?;
        }
        let attempt = Attempt(core::with(|core| core.driver.borrow_mut().connect(fd, raw)));
        let connected = poll_fn(|context| {
            core::with(|core| {
                core.driver
                    .borrow_mut()
                    .table()
                    .poll_connect(attempt.0, context)
            })
        });
        Stream::from_fd(connected.await?)
    }

    /// Receives what has come, in order; an empty chunk says that the peer has ended its side, as
    /// does every later call. What comes while nobody polls is kept, so a pending receive may be
    /// dropped without loss.
    ///
    /// # Errors
    /// Those of `recv(2)`; they stay.
    #[inline]
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.queued_or(|driver| driver.poll_receive(self.key, context))
    }

    /// As [`poll_receive`](Stream::poll_receive), for long bodies: with large buffers, of which
    /// the stream holds none while it waits. Both may be mixed; the first call after a change
    /// costs a cancellation.
    ///
    /// # Errors
    /// Those of `recv(2)`; they stay.
    pub fn poll_receive_bulk(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.queued_or(|driver| driver.poll_receive_bulk(self.key, context))
    }

    /// What has been received ahead, or what `poll` says. The usual result is made here, of what is in
    /// registers: one that another function has written would be copied once more.
    #[inline]
    fn queued_or(
        &self,
        poll: impl FnOnce(&mut Driver) -> Poll<io::Result<Chunk>>,
    ) -> Poll<io::Result<Chunk>> {
        core::with(|core| {
            let mut driver = core.driver.borrow_mut();
            let queued = driver.table().take_received(self.key);
            match queued.is_empty() {
                true => poll(&mut driver),
                false => Poll::Ready(Ok(queued)),
            }
        })
    }

    /// Ready when a receive would not wait: bytes, the end or an error have come. Holds no buffer
    /// while it waits.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        core::with(|core| core.driver.borrow_mut().poll_ready(self.key, context))
    }

    /// [`poll_receive`](Stream::poll_receive) as a future.
    ///
    /// # Errors
    /// Those of `recv(2)`; they stay.
    pub async fn receive(&self) -> io::Result<Chunk> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// [`poll_receive_bulk`](Stream::poll_receive_bulk) as a future.
    ///
    /// # Errors
    /// Those of `recv(2)`; they stay.
    pub async fn receive_bulk(&self) -> io::Result<Chunk> {
        poll_fn(|context| self.poll_receive_bulk(context)).await
    }

    /// [`poll_ready`](Stream::poll_ready) as a future.
    pub async fn ready(&self) {
        poll_fn(|context| self.poll_ready(context)).await
    }

    /// Whether a connection that should be silent still is. Without a system call on io_uring when
    /// someone has polled for bytes before, since then they report themselves.
    pub fn peek_state(&self) -> Idle {
        core::with(|core| core.driver.borrow_mut().peek_state(self.key))
    }

    /// Sends `head` and then `body`, all of both, in one operation. It begins here and not with
    /// the first poll; the future ends when the kernel has taken everything. Sends on one stream
    /// keep their order.
    ///
    /// A send that is never polled wakes nobody when it ends: to save a wake, poll it together
    /// with the receive that the answer comes through. Dropping the future before its end cancels
    /// the send, after which part of it may have gone out: further sends then fail with `EPIPE`.
    ///
    /// # Errors
    /// `WriteZero` when part of it had gone out before it failed; of any other, nothing has.
    #[inline]
    pub fn send(&self, head: Buffer, body: Chunk) -> Send {
        let start = core::with(|core| core.driver.borrow_mut().send(self.key, head, body));
        let state = match start {
            SendStart::Done(result) => SendProgress::Done(Some(result)),
            SendStart::Start(key) | SendStart::Queued(key) => SendProgress::UnderWay(key),
        };
        Send {
            state,
            local: PhantomData,
        }
    }

    /// As [`send`](Stream::send), for when nobody waits for the end:
    /// [`poll_flushed`](Stream::poll_flushed)
    /// tells when the kernel has taken all. Wakes no task by itself.
    pub fn send_detached(&self, head: Buffer, body: Chunk) {
        core::with(|core| {
            let mut driver = core.driver.borrow_mut();
            match driver.send(self.key, head, body) {
                SendStart::Done(Ok(())) => {}
                SendStart::Done(Err(_)) => driver.table().break_writes(self.key),
                SendStart::Start(key) | SendStart::Queued(key) => driver.table().detach_send(key),
            }
        });
    }

    /// Ready when the kernel has taken all that was sent so far.
    ///
    /// # Errors
    /// `EPIPE` when a detached send has failed.
    #[inline]
    pub fn poll_flushed(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        core::with(|core| {
            let mut driver = core.driver.borrow_mut();
            driver.table().poll_flushed(self.key, context)
        })
    }

    /// Ends our side; the peer receives the end after all bytes. Await sends before.
    ///
    /// # Errors
    /// Those of `shutdown(2)`, such as `NotConnected` when the peer has reset the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        sys::shutdown(self.raw_fd()?, libc::SHUT_WR)
    }

    /// Makes the close, when it comes, a reset instead of an orderly end.
    pub fn reset_on_close(&self) {
        if let Ok(fd) = self.raw_fd() {
            sys::set_reset_on_close(fd);
        }
    }

    /// Makes the kernel ask a silent peer whether it is still there: first after `idle_s` seconds,
    /// then every `interval_s`, and give the connection up after `probes` without an answer. What
    /// is `None` is left to the kernel.
    ///
    /// # Errors
    /// For Unix sockets, and for values that the kernel does not take.
    pub fn set_keepalive(
        &self,
        probes: Option<u32>,
        idle_s: Option<u32>,
        interval_s: Option<u32>,
    ) -> io::Result<()> {
        sys::set_keepalive(self.raw_fd()?, probes, idle_s, interval_s)
    }

    /// How many bytes the peer's kernel has confirmed since the connection was made; `None` for
    /// what is no TCP.
    pub fn confirmed_bytes(&self) -> Option<u64> {
        sys::confirmed_bytes(self.raw_fd().ok()?)
    }

    /// Whether the connection is over for both sides, as after a reset. Told also while what came before
    /// has not been received.
    pub fn is_over(&self) -> bool {
        self.raw_fd().is_ok_and(sys::is_over)
    }

    /// Whether the peer has ended its side, or the connection is over. Told also while what came before
    /// has not been received.
    pub fn is_left(&self) -> bool {
        self.raw_fd().is_ok_and(sys::is_left)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// For Unix sockets, and when the connection is broken.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        sys::peer_address(self.raw_fd()?)
    }

    /// Our own address.
    ///
    /// # Errors
    /// For Unix sockets.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        sys::local_address(self.raw_fd()?)
    }

    /// Where the client had addressed a connection that a firewall rule has redirected here.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        sys::original_destination(self.raw_fd().ok()?)
    }

    /// The descriptor, for socket options only.
    ///
    /// # Errors
    /// When the runtime that the stream is of has ended.
    pub fn raw_fd(&self) -> io::Result<RawFd> {
        let fd = core::try_with(|core| core.driver.borrow_mut().table().stream_fd(self.key));
        fd.flatten().ok_or_else(|| sys::error(libc::EBADF))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        core::try_with(|core| core.driver.borrow_mut().drop_stream(self.key));
    }
}

struct Attempt(Key);

impl Drop for Attempt {
    fn drop(&mut self) {
        core::try_with(|core| core.driver.borrow_mut().drop_connect(self.0));
    }
}

enum SendProgress {
    Done(Option<io::Result<()>>),
    UnderWay(Key),
}

/// A send under way; see [`Stream::send`]. It owns what it sends.
#[must_use = "dropping it cancels the send"]
pub struct Send {
    state: SendProgress,
    local: PhantomData<*const ()>,
}

impl Future for Send {
    type Output = io::Result<()>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            // Polled again after its end: it stays sent.
            SendProgress::Done(result) => Poll::Ready(result.take().unwrap_or(Ok(()))),
            SendProgress::UnderWay(key) => {
                let key = *key;
                let polled =
                    core::with(|core| core.driver.borrow_mut().table().poll_send(key, context));
                if polled.is_ready() {
                    self.state = SendProgress::Done(None);
                }
                polled
            }
        }
    }
}

impl Drop for Send {
    fn drop(&mut self) {
        if let SendProgress::UnderWay(key) = self.state {
            core::try_with(|core| core.driver.borrow_mut().drop_send(key));
        }
    }
}
