//! A stream of HTTP/2 that looks like a connection of HTTP/1.1.

use super::client_side::ClientSide;
use super::downstream::ActiveStream;
use super::failure::StreamFailure;
use super::incoming::Bodies;
use super::inflow::Inflow;
use super::outflow::Outflow;
use super::server_side::ServerSide;
use super::stall::StallWatch;
use crate::rt::{Chunk, Idle};
use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use h2::server::SendResponse;
use ringroad_codec::http1::{BodyLimits, HeadLimits};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

/// The longest head that is written to a stream: our own limits have bounded it already.
const MOST_HEAD_BYTES: usize = 16 * 1024 * 1024;

/// One stream: bytes of HTTP/1.1 in and out, frames behind.
pub struct Http2Stream {
    side: RefCell<Side>,
    /// Counts the stream as long as it lives.
    _in_use: Box<dyn std::any::Any>,
    is_closed: Cell<bool>,
    resets_on_drop: Cell<bool>,
    local: Option<SocketAddr>,
    is_call: bool,
}

/// What kind of request a client has sent.
pub struct Asked {
    pub is_head: bool,
    pub is_upgrade: bool,
    /// A call of gRPC.
    pub is_call: bool,
}

enum Side {
    /// We are the server: a request comes, a response goes.
    Server(ServerSide),
    /// We are the client.
    Client(ClientSide),
}

impl Http2Stream {
    /// A request that a client has sent, over a connection with this address of ours; `in_use` is
    /// dropped with the stream.
    pub fn of_server(
        inflow: Inflow,
        respond: SendResponse<Bytes>,
        asked: &Asked,
        stall: StallWatch,
        local: Option<SocketAddr>,
        in_use: ActiveStream,
    ) -> Self {
        let side = Side::Server(ServerSide {
            stall,
            connection: in_use.connection(),
            inflow,
            respond,
            head: Vec::new(),
            to_head_request: asked.is_head,
            is_upgrade: asked.is_upgrade,
            outflow: None,
        });
        let mut stream = Self::new(side, local, Box::new(in_use));
        stream.is_call = asked.is_call;
        stream
    }

    /// Whether a client calls gRPC by it.
    pub fn is_call(&self) -> bool {
        self.is_call
    }

    /// A request that we are going to send on `connection`.
    pub fn of_client(
        connection: SendRequest<Bytes>,
        scheme: &'static str,
        bodies: Rc<Bodies>,
        local: Option<SocketAddr>,
        in_use: Box<dyn std::any::Any>,
    ) -> Self {
        let side = Side::Client(ClientSide::new(connection, scheme, bodies));
        Self::new(side, local, in_use)
    }

    fn new(side: Side, local: Option<SocketAddr>, in_use: Box<dyn std::any::Any>) -> Self {
        Self {
            side: RefCell::new(side),
            _in_use: in_use,
            is_closed: Cell::new(false),
            resets_on_drop: Cell::new(false),
            local,
            is_call: false,
        }
    }

    /// The next bytes of the message that comes.
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let mut side = self.side.borrow_mut();
        // Nobody else may be waiting for room to send in.
        let _ = side.poll_flush(context);
        let received = match side.poll_message(context) {
            Poll::Ready(Ok(inflow)) => inflow.poll_receive(context),
            Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
            Poll::Pending => Poll::Pending,
        };
        received.map_err(|failure| {
            self.is_closed.set(true);
            failure.into()
        })
    }

    /// Ready when bytes are there, or the peer has given the stream up.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut side = self.side.borrow_mut();
        let is_stalled = matches!(side.poll_flush(context), Poll::Ready(Err(_)));
        if is_stalled || side.is_reset(context) {
            self.is_closed.set(true);
            return Poll::Ready(());
        }
        let filled = match side.poll_message(context) {
            Poll::Ready(Ok(inflow)) => inflow.poll_fill(context),
            Poll::Ready(Err(failure)) => Poll::Ready(Err(failure)),
            Poll::Pending => Poll::Pending,
        };
        filled.map(|filled| {
            if filled.is_err() {
                self.is_closed.set(true);
            }
        })
    }

    pub fn peek_state(&self) -> Idle {
        if self.is_closed.get() {
            return Idle::Closed;
        }
        match self.side.borrow().has_bytes() {
            true => Idle::Bytes,
            false => Idle::Quiet,
        }
    }

    /// Takes bytes to send: a head first, then the body with its framing.
    ///
    /// # Errors
    /// The stream is over, or the bytes are no HTTP/1.1.
    pub fn push(&self, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut side = self.side.borrow_mut();
        for bytes in [head, body] {
            if !bytes.is_empty() {
                side.push(bytes).inspect_err(|_| self.is_closed.set(true))?;
            }
        }
        Ok(())
    }

    /// Ready when all that was pushed is on its way.
    pub fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.side.borrow_mut().poll_flush(context);
        flushed.map_err(io::Error::from)
    }

    /// Ends our side of an upgraded stream; other messages end by their framing.
    ///
    /// # Errors
    /// The stream is over.
    pub fn finish(&self) -> io::Result<()> {
        match self.side.borrow_mut().outflow() {
            Some(outflow) => Ok(outflow.finish()?),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Why a request of ours has no answer, or none that is whole.
    pub fn failure(&self) -> Option<StreamFailure> {
        match &*self.side.borrow() {
            Side::Server(_) => None,
            Side::Client(client) => client.failure(),
        }
    }

    /// Whether a client has reset its request, and not lost it with the connection.
    pub fn was_reset_by_client(&self) -> bool {
        match &mut *self.side.borrow_mut() {
            Side::Server(server) => server.was_reset(),
            Side::Client(_) => false,
        }
    }

    /// The drop resets the stream, also one whose message was sent.
    pub fn reset_on_close(&self) {
        self.resets_on_drop.set(true);
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        let mut side = self.side.borrow_mut();
        let is_broken = self.resets_on_drop.get();
        match &mut *side {
            Side::Server(server) => match &mut server.outflow {
                Some(outflow) if !outflow.is_finished() || is_broken => {
                    outflow.reset(Reason::INTERNAL_ERROR);
                }
                Some(_) => {}
                None => server.respond.send_reset(Reason::INTERNAL_ERROR),
            },
            // What is not read to its end is given up by the drop of `h2`'s own handles.
            Side::Client(client) => {
                if client.is_under_way()
                    && let Some(outflow) = &mut client.outflow
                {
                    outflow.reset(Reason::CANCEL);
                }
            }
        }
    }
}

impl Side {
    fn has_bytes(&self) -> bool {
        match self {
            Self::Server(server) => server.inflow.has_bytes(),
            Self::Client(client) => client.inflow.as_ref().is_some_and(Inflow::has_bytes),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), StreamFailure> {
        match self {
            Self::Server(server) => server.push(bytes),
            Self::Client(client) => client.push(bytes),
        }
    }

    fn outflow(&mut self) -> Option<&mut Outflow> {
        match self {
            Self::Server(server) => server.outflow.as_mut(),
            Self::Client(client) => client.outflow.as_mut(),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamFailure>> {
        match self {
            Self::Server(server) => server.poll_flush(context),
            Self::Client(client) => match &mut client.outflow {
                Some(outflow) => outflow.poll_flush(context),
                None => Poll::Ready(Ok(())),
            },
        }
    }

    fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        match self {
            Self::Server(server) => match &mut server.outflow {
                Some(outflow) => !outflow.is_finished() && outflow.poll_reset(context).is_ready(),
                None => server.respond.poll_reset(context).is_ready(),
            },
            Self::Client(client) => client.failure().is_some(),
        }
    }

    /// The message that comes, once its head is there.
    fn poll_message(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<&mut Inflow, StreamFailure>> {
        match self {
            Self::Server(server) => Poll::Ready(Ok(&mut server.inflow)),
            Self::Client(client) => client.poll_message(context),
        }
    }
}

/// Heads that the engine wrote itself.
pub(super) fn our_heads() -> HeadLimits {
    HeadLimits {
        max_head_bytes: MOST_HEAD_BYTES,
        max_headers: usize::MAX,
        ..HeadLimits::default()
    }
}

/// Bodies that the engine passes on: whoever received them has held them against the limits.
pub(super) fn our_bodies() -> BodyLimits {
    BodyLimits {
        max_chunk_extension_bytes: usize::MAX,
        max_trailer_bytes: usize::MAX,
        max_trailers: usize::MAX,
    }
}
