//! A client that speaks HTTP/2.

use super::guard::Guard;
use super::heads::{lacks_its_body, request_text};
use super::incoming::{Bodies, SMALL_FRAME_BUDGET_BYTES};
use super::inflow::{Framing, Inflow};
use super::pipe::{Pipe, PipeShared};
use super::stall::StallWatch;
use super::stream::{Asked, Http2Stream};
use super::websocket;
use crate::proxy::accept::ChosenChain;
use crate::proxy::connection::{Connection, CountedConnection, deadline_after};
use crate::proxy::deadline::until;
use crate::proxy::grpc::is_grpc_type;
use crate::rt::{self, Chunk, Deadline};
use crate::transport::Transport;
use crate::worker::{ListenerSlot, Worker};
use bytes::Bytes;
use h2::server::{Builder, Connection as Http2Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, header};
use ringroad_policy::snapshot::ConnectionFacts;
use std::cell::{Cell, OnceCell};
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

/// How the connection preface begins (RFC 9113 section 3.4), as far as Envoy looks at it too. No request
/// of HTTP/1.1 begins so.
pub const PREFACE_START: &[u8] = b"PRI * HTTP/2";

/// Most bytes of one stream that are ready to be sent: a frame, and more the next turn.
const MOST_BUFFERED_BYTES: usize = 16 * 1024;

/// How long a client may take to close after it was told to go away.
const GOODBYE_MS: u64 = 5_000;

/// A client's connection.
struct Client {
    worker: Rc<Worker>,
    listener: Rc<ListenerSlot>,
    peer: SocketAddr,
    number: u32,
    local: Option<SocketAddr>,
    counted: Option<CountedConnection>,
    /// What is known of the connection, for all its streams.
    facts: OnceCell<Rc<ConnectionFacts>>,
    chain: Option<Rc<ChosenChain>>,
    deadline: Deadline,
    streams: Rc<Streams>,
}

/// How a turn of a connection's task ended.
enum Turn<T> {
    Done(T),
    /// What is to be sent cannot be sent.
    CannotSend,
    /// The client does too much of something.
    TooMuch,
}

/// What the streams of a connection share.
#[derive(Default)]
pub(super) struct Streams {
    active: Cell<u32>,
    is_over: Cell<bool>,
}

impl Streams {
    /// Whether the connection has ended with an error, and all its streams with it.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }
}

/// One stream in use.
pub struct ActiveStream(Rc<Streams>);

impl ActiveStream {
    pub(super) fn connection(&self) -> Rc<Streams> {
        self.0.clone()
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}

/// Serves a connection whose first bytes are the preface, to its end.
pub async fn serve_http2(connection: Connection) {
    let Connection {
        stream,
        worker,
        listener,
        peer,
        number,
        unread,
        deadline,
        counted,
        facts,
        chain,
        ..
    } = connection;
    let local = stream.local_addr().ok();
    let client = Client {
        worker,
        listener,
        peer,
        number,
        local,
        counted,
        facts,
        chain,
        deadline,
        streams: Rc::default(),
    };
    let limits = client.worker.limits();
    let guard = Guard::new(&limits.settings, client.worker.http2_stats.clone());
    let (pipe, shared) = Pipe::guarded(stream, unread, guard);
    client.listener.stats.downstream_cx_http2_total.add(1);
    client.serve(pipe, &shared).await;
    let last = poll_fn(|cx| shared.poll_send(cx));
    client.deadline.set(deadline_after(rt::now(), GOODBYE_MS));
    // Whether it arrived or not, the connection is over.
    let _ = until(&client.deadline, last).await;
    let _ = until(&client.deadline, shared.transport.flushed()).await;
    client.read_away(&shared).await;
}

impl Client {
    async fn serve(&self, pipe: Pipe, shared: &PipeShared) {
        let limits = self.worker.limits().settings.clone();
        let mut builder = Builder::new();
        builder
            .max_concurrent_streams(clamp(limits.max_concurrent_streams))
            .initial_window_size(clamp(limits.http2_stream_window_bytes))
            .initial_connection_window_size(clamp(limits.http2_connection_window_bytes))
            .max_header_list_size(clamp(limits.max_head_bytes))
            .max_send_buffer_size(
                MOST_BUFFERED_BYTES.min(limits.http2_stream_window_bytes as usize),
            )
            .max_pending_accept_reset_streams(clamp(limits.max_reset_streams) as usize)
            .max_local_error_reset_streams(Some(clamp(limits.max_reset_streams) as usize))
            .data_frame_budget(SMALL_FRAME_BUDGET_BYTES)
            .enable_connect_protocol();
        let mut handshake = pin!(builder.handshake::<_, Bytes>(pipe));
        let begun = poll_fn(|cx| self.with_send(cx, shared, |cx| handshake.as_mut().poll(cx)));
        let patience_ms = limits.request_head_timeout_ms;
        self.deadline.set(deadline_after(rt::now(), patience_ms));
        let mut http2 = match until(&self.deadline, begun).await {
            Ok(Turn::Done(Ok(http2))) => http2,
            Ok(_) => return self.listener.stats.downstream_cx_protocol_error.add(1),
            Err(_) => return self.listener.stats.downstream_rq_header_timeout.add(1),
        };
        let stall_ms = limits.send_stall_timeout_ms;
        let mut idle_since = rt::now();
        let mut is_leaving = false;
        loop {
            let next = poll_fn(|cx| {
                if let Some(counted) = &self.counted {
                    self.worker.note_parked(counted.parking, cx.waker());
                }
                if self.worker.is_leaving(&self.listener) && !is_leaving {
                    is_leaving = true;
                    idle_since = rt::now();
                    http2.graceful_shutdown();
                }
                let turn = self.with_send(cx, shared, |cx| http2.poll_accept(cx));
                let idle_end = match self.streams.active.get() {
                    0 if is_leaving => deadline_after(idle_since, GOODBYE_MS),
                    0 => deadline_after(idle_since, limits.downstream_idle_timeout_ms),
                    _ => {
                        idle_since = rt::now();
                        None
                    }
                };
                let head_end = shared.head_deadline(patience_ms);
                let send_end = shared.send_deadline(stall_ms);
                let deadline = idle_end.into_iter().chain(head_end).chain(send_end).min();
                self.deadline.set(deadline);
                turn
            });
            match until(&self.deadline, next).await {
                Ok(Turn::Done(Some(Ok((request, respond))))) => {
                    self.begin_stream(&shared.bodies, request, respond);
                }
                Ok(Turn::Done(Some(Err(error)))) => {
                    if error.is_go_away() || error.is_reset() {
                        self.listener.stats.downstream_cx_protocol_error.add(1);
                    }
                    self.say_goodbye(&mut http2, shared).await;
                    return;
                }
                Ok(Turn::Done(None) | Turn::CannotSend) => return,
                Ok(Turn::TooMuch) => {
                    self.listener.stats.downstream_cx_protocol_error.add(1);
                    http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    self.say_goodbye(&mut http2, shared).await;
                    return;
                }
                Err(_) if is_past(shared.send_deadline(stall_ms)) => {
                    return self.worker.http2_stats.tx_flush_timeout.add(1);
                }
                Err(_) if is_past(shared.head_deadline(patience_ms)) => {
                    self.listener.stats.downstream_rq_header_timeout.add(1);
                    http2.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    self.say_goodbye(&mut http2, shared).await;
                    return;
                }
                Err(_) if is_leaving => return,
                Err(_) => {
                    self.listener.stats.downstream_cx_idle_timeout.add(1);
                    is_leaving = true;
                    idle_since = rt::now();
                    http2.graceful_shutdown();
                }
            }
        }
    }

    /// After an error of the connection: its GOAWAY still goes out.
    async fn say_goodbye(&self, http2: &mut Http2Connection<Pipe, Bytes>, shared: &PipeShared) {
        self.streams.is_over.set(true);
        self.deadline.set(deadline_after(rt::now(), GOODBYE_MS));
        let closed = poll_fn(|cx| match http2.poll_closed(cx) {
            Poll::Ready(_) => Poll::Ready(()),
            Poll::Pending => match shared.poll_send(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                _ => Poll::Pending,
            },
        });
        // It is over either way.
        let _ = until(&self.deadline, closed).await;
    }

    /// Polls `h2`; when it has nothing more to do for now, what it has written is sent.
    fn with_send<T>(
        &self,
        context: &mut Context<'_>,
        shared: &PipeShared,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Turn<T>> {
        let mut polled = poll(context);
        while polled.is_pending() && shared.bodies.join() {
            polled = poll(context);
        }
        match polled {
            Poll::Ready(outcome) => Poll::Ready(Turn::Done(outcome)),
            Poll::Pending => match shared.poll_send(context) {
                Poll::Ready(Err(_)) => Poll::Ready(Turn::CannotSend),
                _ if shared.misconduct().is_some() => Poll::Ready(Turn::TooMuch),
                _ => Poll::Pending,
            },
        }
    }

    /// Reads a little of what the client is still sending, so that the kernel does not answer it
    /// with a reset, which would destroy our last words on their way.
    async fn read_away(&self, shared: &PipeShared) {
        // Nothing is open any more for an end to be noticed by.
        let _ = shared.transport.shutdown_write();
        let mut left = self.worker.limits().settings.max_discarded_body_bytes;
        while let Ok(Ok(more)) = until(&self.deadline, shared.transport.receive()).await {
            left = left.saturating_sub(more.len() as u64);
            if left == 0 {
                self.listener.stats.downstream_cx_discard_overflow.add(1);
            }
            if more.is_empty() || left == 0 {
                return;
            }
        }
    }

    fn begin_stream(
        &self,
        bodies: &Bodies,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        self.listener.stats.downstream_rq_http2_total.add(1);
        if body.is_end_stream() && lacks_its_body(request.headers()) {
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        }
        let make_key = || websocket::new_key(&mut self.worker.random.borrow_mut());
        let text = request_text(&request, body.is_end_stream(), make_key);
        let Some((text, framing)) = text else {
            return respond.send_reset(Reason::PROTOCOL_ERROR);
        };
        let active = &self.streams.active;
        active.set(active.get() + 1);
        let body = (framing != Framing::None).then(|| bodies.of(body));
        let stream = Http2Stream::of_server(
            Inflow::new(&text, body, framing),
            respond,
            &Asked {
                is_head: request.method() == Method::HEAD,
                is_upgrade: request.method() == Method::CONNECT,
                is_call: is_call(request.headers()),
            },
            StallWatch::new(
                self.worker.limits().settings.send_stall_timeout_ms,
                &self.worker,
            ),
            self.local,
            ActiveStream(self.streams.clone()),
        );
        self.worker.spawn_connection(Box::new(Connection {
            stream: Transport::Http2(Box::new(stream)),
            worker: self.worker.clone(),
            listener: self.listener.clone(),
            peer: self.peer,
            unread: Chunk::default(),
            deadline: Deadline::new(),
            accepted_at: rt::now(),
            requests: 0,
            empty_lines: 0,
            number: self.number,
            facts: self.facts.clone(),
            counted: None,
            chain: self.chain.clone(),
        }));
    }
}

/// Whether the client awaits a status of gRPC, whatever else is wrong with its request.
fn is_call(fields: &HeaderMap) -> bool {
    let kind = fields.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| is_grpc_type(kind.as_bytes()))
}

fn is_past(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= rt::now())
}

fn clamp(limit: u64) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}
