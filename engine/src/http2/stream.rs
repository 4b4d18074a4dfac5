//! A stream of HTTP/2 that looks like a connection of HTTP/1.1.

use super::heads::{request_of, response_of, response_text};
use super::inflow::{Framing, Inflow, kind_of};
use super::outflow::Outflow;
use crate::rt::{Chunk, Idle};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use ringroad_codec::http1::{
    BodyFraming, BodyLimits, HeadLimits, Progress, RequestHead, ResponseHead, parse_request,
    parse_response,
};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
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
    peer: Option<SocketAddr>,
}

enum Side {
    /// We are the server: a request comes, a response goes.
    Server(ServerSide),
    /// We are the client.
    Client(ClientSide),
}

struct ServerSide {
    inflow: Inflow,
    respond: SendResponse<Bytes>,
    head: Vec<u8>,
    to_head_request: bool,
    is_upgrade: bool,
    outflow: Option<Outflow>,
}

struct ClientSide {
    connection: SendRequest<Bytes>,
    scheme: &'static str,
    head: Vec<u8>,
    to_head_request: bool,
    is_upgrade: bool,
    response: Option<ResponseFuture>,
    outflow: Option<Outflow>,
    inflow: Option<Inflow>,
    failure: Option<io::ErrorKind>,
}

/// The addresses of the connection that a stream is of.
#[derive(Clone, Copy, Default)]
pub struct StreamAddresses {
    pub local: Option<SocketAddr>,
    pub peer: Option<SocketAddr>,
}

impl Http2Stream {
    /// A request that a client has sent; `in_use` is dropped with the stream.
    pub fn of_server(
        inflow: Inflow,
        respond: SendResponse<Bytes>,
        to_head_request: bool,
        is_upgrade: bool,
        addresses: StreamAddresses,
        in_use: Box<dyn std::any::Any>,
    ) -> Self {
        let side = Side::Server(ServerSide {
            inflow,
            respond,
            head: Vec::new(),
            to_head_request,
            is_upgrade,
            outflow: None,
        });
        Self::new(side, addresses, in_use)
    }

    /// A request that we are going to send on `connection`.
    pub fn of_client(
        connection: SendRequest<Bytes>,
        scheme: &'static str,
        addresses: StreamAddresses,
        in_use: Box<dyn std::any::Any>,
    ) -> Self {
        let side = Side::Client(ClientSide {
            connection,
            scheme,
            head: Vec::new(),
            to_head_request: false,
            is_upgrade: false,
            response: None,
            outflow: None,
            inflow: None,
            failure: None,
        });
        Self::new(side, addresses, in_use)
    }

    fn new(side: Side, addresses: StreamAddresses, in_use: Box<dyn std::any::Any>) -> Self {
        Self {
            side: RefCell::new(side),
            _in_use: in_use,
            is_closed: Cell::new(false),
            resets_on_drop: Cell::new(false),
            local: addresses.local,
            peer: addresses.peer,
        }
    }

    /// The next bytes of the message that comes.
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        let mut side = self.side.borrow_mut();
        // Nobody else may be waiting for room to send in.
        let _ = side.poll_flush(context);
        let received = match side.poll_message(context) {
            Poll::Ready(Ok(inflow)) => inflow.poll_receive(context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        if matches!(received, Poll::Ready(Err(_))) {
            self.is_closed.set(true);
        }
        received
    }

    /// Ready when bytes are there, or the peer has given the stream up.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut side = self.side.borrow_mut();
        let _ = side.poll_flush(context);
        if side.is_reset(context) {
            self.is_closed.set(true);
            return Poll::Ready(());
        }
        let filled = match side.poll_message(context) {
            Poll::Ready(Ok(inflow)) => inflow.poll_fill(context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        };
        match filled {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) => {
                self.is_closed.set(true);
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
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
        self.side.borrow_mut().poll_flush(context)
    }

    /// Ends our side of an upgraded stream; other messages end by their framing.
    ///
    /// # Errors
    /// The stream is over.
    pub fn finish(&self) -> io::Result<()> {
        match self.side.borrow_mut().outflow() {
            Some(outflow) => outflow.finish(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// The drop resets the stream, also one whose message was sent.
    pub fn reset_on_close(&self) {
        self.resets_on_drop.set(true);
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.local.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer.ok_or_else(|| io::ErrorKind::Unsupported.into())
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
            Side::Client(client) => {
                if let Some(outflow) = &mut client.outflow
                    && (!outflow.is_finished() || client.inflow.is_none())
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

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
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

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.outflow() {
            Some(outflow) => outflow.poll_flush(context),
            None => Poll::Ready(Ok(())),
        }
    }

    fn is_reset(&mut self, context: &mut Context<'_>) -> bool {
        match self {
            Self::Server(server) => match &mut server.outflow {
                Some(outflow) => !outflow.is_finished() && outflow.is_reset(context),
                None => server.respond.poll_reset(context).is_ready(),
            },
            Self::Client(client) => client.failure.is_some(),
        }
    }

    /// The message that comes, once its head is there.
    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut Inflow>> {
        match self {
            Self::Server(server) => Poll::Ready(Ok(&mut server.inflow)),
            Self::Client(client) => client.poll_message(context),
        }
    }
}

impl ServerSide {
    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while self.outflow.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let mut parsed = ResponseHead::default();
            let progress = parse_response(
                &self.head,
                &our_heads(),
                self.to_head_request,
                false,
                &mut parsed,
            );
            match progress {
                Ok(Progress::Complete) => {}
                Ok(Progress::Incomplete) => return Ok(()),
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
            bytes = &bytes[parsed.head_len - before..];
            let response = response_of(&parsed, &self.head)?;
            self.head.clear();
            if parsed.is_interim() && !self.is_upgrade {
                let sent = self.respond.send_informational(response);
                sent.map_err(|error| kind_of(&error))?;
                if bytes.is_empty() {
                    return Ok(());
                }
                continue;
            }
            let framing = match (self.is_upgrade, parsed.status) {
                (true, 101) => BodyFraming::UntilClose,
                _ => parsed.framing,
            };
            let is_empty = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
            let sent = self.respond.send_response(response, is_empty);
            let stream = sent.map_err(|error| kind_of(&error))?;
            self.outflow = Some(Outflow::new(stream, framing, &BodyLimits::default()));
        }
        match &mut self.outflow {
            Some(outflow) if !bytes.is_empty() => outflow.push(bytes),
            _ => Ok(()),
        }
    }
}

impl ClientSide {
    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.outflow.is_none() {
            let before = self.head.len();
            self.head.extend_from_slice(bytes);
            let mut parsed = RequestHead::default();
            match parse_request(&self.head, &our_heads(), &mut parsed) {
                Ok(Progress::Complete) => {}
                Ok(Progress::Incomplete) => return Ok(()),
                Err(_) => return Err(io::ErrorKind::InvalidData.into()),
            }
            bytes = &bytes[parsed.head_len - before..];
            let request = request_of(&parsed, &self.head, self.scheme)?;
            self.to_head_request = parsed.method.of(&self.head) == b"HEAD";
            self.is_upgrade = parsed.upgrade == ringroad_codec::http1::Upgrade::WebSocket;
            let framing = match self.is_upgrade {
                true => BodyFraming::UntilClose,
                false => parsed.framing,
            };
            let is_empty = matches!(framing, BodyFraming::None | BodyFraming::Length(0));
            let sent = self.connection.send_request(request, is_empty);
            let (response, stream) = sent.map_err(|error| kind_of(&error))?;
            self.head = Vec::new();
            self.response = Some(response);
            self.outflow = Some(Outflow::new(stream, framing, &BodyLimits::default()));
        }
        match &mut self.outflow {
            Some(outflow) if !bytes.is_empty() => outflow.push(bytes),
            _ => Ok(()),
        }
    }

    fn poll_message(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut Inflow>> {
        if let Some(kind) = self.failure {
            return Poll::Ready(Err(kind.into()));
        }
        if self
            .inflow
            .as_ref()
            .is_none_or(|interim| !interim.has_bytes())
            && let Some(response) = &mut self.response
        {
            if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
                match interim {
                    Ok(interim) => {
                        let (text, _) = response_text(&interim, true, false);
                        self.inflow = Some(Inflow::new(&text, None, Framing::None));
                    }
                    Err(error) => return self.fail(&error),
                }
            } else {
                match Pin::new(response).poll(context) {
                    Poll::Ready(Ok(response)) => {
                        self.response = None;
                        self.inflow = Some(self.begin(response));
                    }
                    Poll::Ready(Err(error)) => return self.fail(&error),
                    Poll::Pending => {}
                }
            }
        }
        match &mut self.inflow {
            Some(inflow) => Poll::Ready(Ok(inflow)),
            None => Poll::Pending,
        }
    }

    fn begin(&self, response: http::Response<RecvStream>) -> Inflow {
        let is_end = response.body().is_end_stream();
        if self.is_upgrade && response.status() == http::StatusCode::OK {
            let mut accepted = http::Response::new(());
            *accepted.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
            *accepted.headers_mut() = response.headers().clone();
            let (mut text, _) = response_text(&accepted, false, false);
            let end = text.len() - 2;
            text.splice(
                end..end,
                b"connection: upgrade\r\nupgrade: websocket\r\n"
                    .iter()
                    .copied(),
            );
            return Inflow::new(&text, Some(response.into_body()), Framing::Length);
        }
        let (text, framing) = response_text(&response, is_end, self.to_head_request);
        Inflow::new(&text, Some(response.into_body()), framing)
    }

    fn fail<T>(&mut self, error: &h2::Error) -> Poll<io::Result<T>> {
        let kind = kind_of(error);
        self.failure = Some(kind);
        Poll::Ready(Err(kind.into()))
    }
}

/// Heads that the engine wrote itself.
fn our_heads() -> HeadLimits {
    HeadLimits {
        max_head_bytes: MOST_HEAD_BYTES,
        max_headers: usize::MAX,
        ..HeadLimits::default()
    }
}
