//! A connection to an upstream that speaks HTTP/2, shared by many requests.

use super::incoming::{Bodies, SMALL_FRAME_BUDGET_BYTES};
use super::pipe::{Pipe, PipeShared};
use super::stream::Http2Stream;
use crate::proxy::connection::deadline_after;
use crate::proxy::deadline::until;
use crate::rt::{self, Chunk, Deadline};
use crate::transport::Transport;
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use ringroad_policy::settings::Limits;
use ringroad_policy::snapshot::Http2Keepalive;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

/// The largest window (RFC 9113 section 6.9.1).
const MAX_WINDOW_BYTES: u64 = (1 << 31) - 1;

/// How long the last bytes may take to leave.
const GOODBYE_MS: u64 = 5_000;

/// A connection on which streams can be begun. It ends when this and all its streams are dropped.
pub struct Http2Connection {
    /// `None` when it takes no more streams.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    scheme: &'static str,
    local: Option<SocketAddr>,
    bodies: Rc<Bodies>,
    /// The most streams at a time that the peer takes.
    most_streams: Cell<usize>,
    has_settings: Cell<bool>,
    /// No more streams are wanted on it.
    is_retired: Cell<bool>,
}

/// The times that hold for a connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionTimes {
    /// How long the peer may take to say what it can do.
    pub settings_within_ms: u64,
    pub keepalive: Option<Http2Keepalive>,
}

/// What moves the frames of one connection.
pub struct Http2Driver {
    http2: Connection<Pipe, Bytes>,
    pipe: Rc<PipeShared>,
    connection: Weak<Http2Connection>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// We have retired it, or let it go.
    Closed,
    /// The peer has said goodbye or closed.
    ClosedByPeer,
    /// The peer has broken the protocol.
    ProtocolError,
    /// The connection broke.
    Broken,
    /// A PING got no answer.
    KeepaliveTimeout,
}

impl Http2Connection {
    /// Begins HTTP/2 on a transport that was opened just now.
    ///
    /// # Errors
    /// The transport is broken.
    pub async fn begin(
        transport: Transport,
        limits: &Limits,
    ) -> io::Result<(Rc<Self>, Http2Driver)> {
        let scheme = match &transport {
            Transport::Tls(_) => "https",
            Transport::Plain(_) | Transport::Http2(_) => "http",
        };
        let local = transport.local_addr().ok();
        let stream_window_bytes = clamp(limits.http2_stream_window_bytes);
        // Each stream has its whole window, so that readers who stop do not stop each other.
        let all_windows_bytes =
            u64::from(stream_window_bytes) * limits.max_upstream_concurrent_streams.max(1);
        let (pipe, shared) = Pipe::with(transport, Chunk::default(), None);
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(stream_window_bytes)
            .initial_connection_window_size(clamp(all_windows_bytes))
            .max_header_list_size(clamp(limits.max_head_bytes))
            .data_frame_budget(SMALL_FRAME_BUDGET_BYTES)
            .max_send_buffer_size(stream_window_bytes as usize);
        let handshake = builder.handshake::<_, Bytes>(pipe).await;
        let (sender, http2) = handshake.map_err(|error| match error.get_io() {
            Some(error) => io::Error::from(error.kind()),
            None => io::ErrorKind::InvalidData.into(),
        })?;
        let connection = Rc::new(Self {
            sender: RefCell::new(Some(sender)),
            scheme,
            local,
            bodies: shared.bodies.clone(),
            most_streams: Cell::new(usize::MAX),
            has_settings: Cell::new(false),
            is_retired: Cell::new(false),
        });
        let driver = Http2Driver {
            http2,
            pipe: shared,
            connection: Rc::downgrade(&connection),
        };
        Ok((connection, driver))
    }

    /// Whether streams can be begun on it.
    pub fn is_open(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// Takes no more streams, and closes when those that there are have ended.
    pub fn retire(&self) {
        self.is_retired.set(true);
        self.sender.take();
    }

    /// The most streams at a time that the peer takes.
    pub fn most_streams(&self) -> usize {
        self.most_streams.get()
    }

    /// Whether the peer has said what it can do.
    pub fn has_settings(&self) -> bool {
        self.has_settings.get()
    }

    /// A stream, on which nothing is sent yet; `in_use` is dropped with it. `None`: the connection
    /// takes no more.
    pub fn new_stream(&self, in_use: Box<dyn std::any::Any>) -> Option<Http2Stream> {
        let sender = self.sender.borrow().clone()?;
        Some(Http2Stream::of_client(
            sender,
            self.scheme,
            self.bodies.clone(),
            self.local,
            in_use,
        ))
    }

    /// Notes what the peer has said.
    fn note(&self, http2: &Connection<Pipe, Bytes>, pipe: &PipeShared) {
        self.most_streams.set(http2.max_concurrent_send_streams());
        let context = &mut Context::from_waker(Waker::noop());
        let is_over = match &mut *self.sender.borrow_mut() {
            Some(sender) => matches!(sender.poll_ready(context), Poll::Ready(Err(_))),
            None => false,
        };
        if is_over {
            self.sender.take();
        }
        self.has_settings.set(pipe.has_first_frame());
    }
}

impl Http2Driver {
    /// Moves frames until the connection is over; calls `settings_came` when the peer has said
    /// what it can do.
    pub async fn run(mut self, times: ConnectionTimes, settings_came: impl Fn()) -> ConnectionEnd {
        let ping = |keepalive| Some(Pings::new(keepalive, self.http2.ping_pong()?));
        let mut pings = times.keepalive.and_then(ping);
        let silence = Deadline::new();
        silence.set(deadline_after(rt::now(), times.settings_within_ms));
        let mut is_silent = true;
        let end = poll_fn(|cx| {
            let mut polled = Pin::new(&mut self.http2).poll(cx);
            while polled.is_pending() && self.pipe.bodies.join() {
                polled = Pin::new(&mut self.http2).poll(cx);
            }
            let connection = self.connection.upgrade();
            if let Some(connection) = &connection {
                connection.note(&self.http2, &self.pipe);
            }
            let closed = match connection.is_none_or(|connection| connection.is_retired.get()) {
                true => ConnectionEnd::Closed,
                false => ConnectionEnd::ClosedByPeer,
            };
            match polled {
                Poll::Ready(Ok(())) => return Poll::Ready(closed),
                Poll::Ready(Err(error)) if error.is_io() => {
                    return Poll::Ready(ConnectionEnd::Broken);
                }
                Poll::Ready(Err(error)) if error.is_remote() => {
                    return Poll::Ready(closed);
                }
                Poll::Ready(Err(_)) => return Poll::Ready(ConnectionEnd::ProtocolError),
                Poll::Pending => {}
            }
            if is_silent && self.pipe.has_first_frame() {
                is_silent = false;
                silence.set(None);
                settings_came();
            }
            if silence.poll_expired(cx).is_ready() {
                return Poll::Ready(ConnectionEnd::Broken);
            }
            if let Some(pings) = &mut pings
                && pings.poll(cx).is_ready()
            {
                return Poll::Ready(ConnectionEnd::KeepaliveTimeout);
            }
            match self.pipe.poll_send(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(ConnectionEnd::Broken),
                _ => Poll::Pending,
            }
        })
        .await;
        if let Some(connection) = self.connection.upgrade() {
            connection.retire();
        }
        if !matches!(end, ConnectionEnd::KeepaliveTimeout) {
            self.say_goodbye().await;
        }
        end
    }

    /// What is written already still goes out; whether it arrives or not, the connection is over.
    async fn say_goodbye(self) {
        // Its streams learn of the end now.
        drop(self.http2);
        let deadline = Deadline::new();
        deadline.set(deadline_after(rt::now(), GOODBYE_MS));
        let pipe = self.pipe;
        let _ = until(&deadline, poll_fn(|cx| pipe.poll_send(cx))).await;
        pipe.transport.say_goodbye();
        let _ = until(&deadline, pin!(pipe.transport.flushed())).await;
    }
}

/// PINGs at intervals (RFC 9113 section 6.7).
struct Pings {
    times: Http2Keepalive,
    ping_pong: PingPong,
    deadline: Deadline,
    is_waiting: bool,
}

impl Pings {
    fn new(times: Http2Keepalive, ping_pong: PingPong) -> Self {
        let deadline = Deadline::new();
        deadline.set(deadline_after(rt::now(), times.interval_ms));
        Self {
            times,
            ping_pong,
            deadline,
            is_waiting: false,
        }
    }

    /// Ready when the peer has not answered in time.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_waiting {
                match self.ping_pong.poll_pong(context) {
                    Poll::Ready(Ok(_)) => {
                        self.is_waiting = false;
                        let next = deadline_after(rt::now(), self.times.interval_ms);
                        self.deadline.set(next);
                    }
                    // The connection itself will tell.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => return self.deadline.poll_expired(context),
                }
            }
            if self.deadline.poll_expired(context).is_pending() {
                return Poll::Pending;
            }
            if self.ping_pong.send_ping(Ping::opaque()).is_err() {
                return Poll::Pending;
            }
            self.is_waiting = true;
            let patience_ms = self.times.timeout_ms;
            self.deadline.set(deadline_after(rt::now(), patience_ms));
        }
    }
}

/// As a window of HTTP/2 may be.
fn clamp(bytes: u64) -> u32 {
    bytes.min(MAX_WINDOW_BYTES) as u32
}
