//! What carries the bytes of HTTP/1.1: a socket, or something that looks like one.

mod tls_handshake;
mod tls_records;
mod tls_sealing;
mod tls_stream;

pub use tls_stream::{HandshakeError, TlsStream};

use crate::http2::{Http2Stream, StreamFailure};
use crate::rt::{Buffer, Chunk, Idle, Send, Stream};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A connection as the data path sees it. The methods mean what those of [`Stream`] mean.
pub enum Transport {
    /// The socket itself.
    Plain(Stream),
    /// TLS over a socket.
    Tls(Box<TlsStream>),
    /// One stream of an HTTP/2 connection.
    Http2(Box<Http2Stream>),
}

impl Transport {
    #[inline]
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        match self {
            Self::Plain(stream) => stream.poll_receive(context),
            Self::Tls(stream) => stream.poll_receive(context),
            Self::Http2(stream) => stream.poll_receive(context),
        }
    }

    pub fn poll_receive_bulk(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        match self {
            Self::Plain(stream) => stream.poll_receive_bulk(context),
            Self::Tls(stream) => stream.poll_receive_bulk(context),
            Self::Http2(stream) => stream.poll_receive(context),
        }
    }

    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_ready(context),
            Self::Tls(stream) => stream.poll_ready(context),
            Self::Http2(stream) => stream.poll_ready(context),
        }
    }

    /// [`poll_receive`](Transport::poll_receive) as a future.
    ///
    /// # Errors
    /// The connection is broken.
    pub async fn receive(&self) -> io::Result<Chunk> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    /// Whether the peer speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Whether it is a stream of HTTP/2 by which a client calls gRPC.
    pub fn is_call(&self) -> bool {
        matches!(self, Self::Http2(stream) if stream.is_call())
    }

    /// Why a stream of HTTP/2 that we began has no answer, or none that is whole.
    pub fn stream_failure(&self) -> Option<StreamFailure> {
        match self {
            Self::Http2(stream) => stream.failure(),
            Self::Plain(_) | Self::Tls(_) => None,
        }
    }

    /// Whether it is a stream of HTTP/2 that its client has reset, while the connection goes on.
    pub fn was_reset_by_client(&self) -> bool {
        matches!(self, Self::Http2(stream) if stream.was_reset_by_client())
    }

    pub fn peek_state(&self) -> Idle {
        match self {
            Self::Plain(stream) => stream.peek_state(),
            Self::Tls(stream) => stream.peek_state(),
            Self::Http2(stream) => stream.peek_state(),
        }
    }

    /// Sends both, one behind the other.
    ///
    /// # Errors
    /// `WriteZero` when part of it had gone out before it failed; of any other, nothing has.
    #[inline]
    pub fn send(&self, head: Buffer, body: Chunk) -> TransportSend<'_> {
        match self {
            Self::Plain(stream) => TransportSend::Socket(stream.send(head, body)),
            Self::Tls(stream) => TransportSend::Socket(stream.send(&head, &body)),
            Self::Http2(stream) => TransportSend::Http2 {
                failure: stream.push(&head, &body).err(),
                stream,
            },
        }
    }

    pub fn send_detached(&self, head: Buffer, body: Chunk) {
        match self {
            Self::Plain(stream) => stream.send_detached(head, body),
            Self::Tls(stream) => stream.send_detached(&head, &body),
            // A failure shows in what is sent or received next.
            Self::Http2(stream) => drop(stream.push(&head, &body)),
        }
    }

    /// Ready when all that was sent so far has been taken.
    ///
    /// # Errors
    /// It could not be sent.
    #[inline]
    pub fn poll_flushed(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(stream) => stream.poll_flushed(context),
            Self::Tls(stream) => stream.poll_flushed(context),
            Self::Http2(stream) => stream.poll_flush(context),
        }
    }

    /// [`poll_flushed`](Transport::poll_flushed) as a future.
    ///
    /// # Errors
    /// It could not be sent.
    pub fn flushed(&self) -> impl Future<Output = io::Result<()>> {
        poll_fn(|context| self.poll_flushed(context))
    }

    /// Whether it is one of many on a connection, so that what it keeps counts many times.
    pub fn shares_a_connection(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// Ends our side.
    ///
    /// # Errors
    /// The connection is broken, or a message ends in another way.
    pub fn shutdown_write(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown_write(),
            Self::Tls(stream) => {
                stream.say_goodbye();
                Ok(())
            }
            Self::Http2(stream) => stream.finish(),
        }
    }

    /// Says, where the protocol has a word for it, that this was all.
    pub fn say_goodbye(&self) {
        if let Self::Tls(stream) = self {
            stream.say_goodbye();
        }
    }

    pub fn reset_on_close(&self) {
        match self {
            Self::Plain(stream) => stream.reset_on_close(),
            Self::Tls(stream) => stream.reset_on_close(),
            Self::Http2(stream) => stream.reset_on_close(),
        }
    }

    /// Switches the kernel's probes on; see [`Stream::set_keepalive`].
    ///
    /// # Errors
    /// For what is no socket of TCP, and for values that the kernel does not take.
    pub fn set_keepalive(
        &self,
        probes: Option<u32>,
        idle_s: Option<u32>,
        interval_s: Option<u32>,
    ) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.set_keepalive(probes, idle_s, interval_s),
            Self::Tls(stream) => stream.set_keepalive(probes, idle_s, interval_s),
            Self::Http2(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// How many bytes the peer's kernel has confirmed; `None` where nobody tells.
    pub fn confirmed_bytes(&self) -> Option<u64> {
        match self {
            Self::Plain(stream) => stream.confirmed_bytes(),
            Self::Tls(stream) => stream.confirmed_bytes(),
            Self::Http2(_) => None,
        }
    }

    /// Whether a connection of its own is over for both sides, as after a reset, while bytes from
    /// before may wait. A stream of HTTP/2 does not tell.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_over(),
            Self::Tls(stream) => stream.is_over(),
            Self::Http2(_) => false,
        }
    }

    /// Whether the peer of a connection of its own has ended its side, while bytes from before may wait.
    /// A stream of HTTP/2 does not tell.
    pub fn is_left(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_left(),
            Self::Tls(stream) => stream.is_left(),
            Self::Http2(_) => false,
        }
    }

    /// Our own address.
    ///
    /// # Errors
    /// For Unix sockets.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Plain(stream) => stream.local_addr(),
            Self::Tls(stream) => stream.local_addr(),
            Self::Http2(stream) => stream.local_addr(),
        }
    }
}

/// A send under way; see [`Transport::send`].
#[must_use = "dropping it cancels the send"]
pub enum TransportSend<'a> {
    Socket(Send),
    Http2 {
        stream: &'a Http2Stream,
        failure: Option<io::Error>,
    },
}

impl Future for TransportSend<'_> {
    type Output = io::Result<()>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Socket(send) => Pin::new(send).poll(context),
            Self::Http2 { stream, failure } => match failure.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => stream.poll_flush(context),
            },
        }
    }
}
