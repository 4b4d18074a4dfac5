//! A downstream connection between requests.
//!
//! An idle connection keeps this small struct and a parked task. What a request needs (its future,
//! its parsed heads) is taken from pools when bytes arrive and goes back when the connection is
//! idle again.

use super::accept::{Begun, ChosenChain, begin, needs_chain};
use super::deadline::{poll_once, until};
use super::exchange::serve_requests;
use super::format::Client;
use super::send_stall::SendStall;
use crate::http2::serve_http2;
use crate::rt::{self, Buffer, Chunk, Deadline, Idle};
use crate::transport::Transport;
use crate::worker::{ListenerSlot, Worker};
use ringroad_policy::snapshot::{ConnectionFacts, Direction};
use std::cell::{OnceCell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// A downstream connection.
pub struct Connection {
    pub stream: Transport,
    pub worker: Rc<Worker>,
    pub listener: Rc<ListenerSlot>,
    pub peer: SocketAddr,
    /// Bytes received and not yet taken: pipelined requests, or the start of a body.
    pub unread: Chunk,
    /// One deadline for whatever the connection waits for at the moment.
    pub deadline: Deadline,
    pub accepted_at: Instant,
    pub requests: u32,
    /// Empty lines since the last request that came by themselves.
    pub empty_lines: u8,
    /// Of this worker's connections, from 0; all streams of one have that of it.
    pub number: u32,
    /// What policies may ask about it; made when one does.
    pub facts: OnceCell<Rc<ConnectionFacts>>,
    /// `None` for a stream of a connection that is counted already: it ends with one request.
    pub counted: Option<CountedConnection>,
    /// How it was chosen what the connection carries; `None` for a plain HTTP listener.
    pub chain: Option<Rc<ChosenChain>>,
}

/// A connection in the counts of its worker and listener, until this is dropped.
pub struct CountedConnection {
    pub worker: Rc<Worker>,
    pub listener: Rc<ListenerSlot>,
    /// Where the worker finds the connection's task when it drains.
    pub parking: u32,
}

impl Connection {
    /// What is told of it in headers.
    pub fn told(&self) -> Client<'_> {
        Client {
            peer: self.peer,
            stream: &self.stream,
            number: self.number,
            facts: self.facts.get().map(|facts| &**facts),
        }
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.listener.stats.downstream_cx_active.sub(1);
        self.worker.leave_parking(self.parking);
        self.worker.connection_closed();
    }
}

/// Futures of one kind, kept for the next request so that none is allocated in the steady state.
pub struct FuturePool<F, M> {
    make: M,
    free: RefCell<Vec<Pin<Box<Option<F>>>>>,
}

impl<F, M> FuturePool<F, M>
where
    F: Future<Output = Option<Box<Connection>>>,
    M: Fn(Box<Connection>) -> F,
{
    fn new(make: M) -> Self {
        Self {
            make,
            free: RefCell::new(Vec::new()),
        }
    }

    /// Runs the pooled future for `connection` to its end.
    async fn run(&self, connection: Box<Connection>) -> Option<Box<Connection>> {
        let recycled = self.free.borrow_mut().pop();
        let mut slot = recycled.unwrap_or_else(|| Box::pin(None));
        slot.set(Some((self.make)(connection)));
        let connection = match slot.as_mut().as_pin_mut() {
            Some(future) => future.await,
            None => None,
        };
        slot.set(None);
        self.free.borrow_mut().push(slot);
        connection
    }
}

/// How this worker starts to serve an accepted connection.
pub fn connection_spawner() -> impl Fn(Box<Connection>) {
    let pool = Rc::new(FuturePool::new(serve_requests));
    move |connection| {
        let pool = pool.clone();
        rt::spawn(async move {
            let mut parked = Some(connection);
            while let Some(mut connection) = parked.take() {
                let is_new = connection.requests == 0 && connection.counted.is_some();
                let waits = !(is_new && needs_chain(&connection));
                if waits && !wait_for_bytes(&connection).await {
                    break;
                }
                if is_new {
                    // What is rare is boxed, so that idle connections keep no room for it.
                    connection = match Box::pin(begin(connection)).await {
                        Begun::Http1(connection) => connection,
                        Begun::Http2(connection) => {
                            return Box::pin(serve_http2(*connection)).await;
                        }
                        Begun::Over => return,
                    };
                }
                parked = pool.run(connection).await;
                if let Some(stream) = parked.take_if(|connection| connection.counted.is_none()) {
                    Box::pin(stream.finish_sending()).await;
                }
            }
        });
    }
}

/// Parks an idle connection until it has bytes. False: it is over. The future is small, since the
/// task of each idle connection holds one.
pub fn wait_for_bytes(connection: &Connection) -> impl Future<Output = bool> {
    let (since, patience_ms) = {
        let limits = &connection.worker.limits().settings;
        match connection.requests {
            0 => (connection.accepted_at, limits.request_head_timeout_ms),
            _ => (rt::now(), limits.downstream_idle_timeout_ms),
        }
    };
    connection.deadline.set(deadline_after(since, patience_ms));
    poll_fn(|cx| {
        let worker = &connection.worker;
        if let Some(counted) = &connection.counted {
            worker.note_parked(counted.parking, cx.waker());
        }
        if let Some(close_at) = worker.idle_close_at(&connection.listener) {
            connection.deadline.set(Some(close_at));
        }
        if connection.stream.poll_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        let expired = connection.deadline.poll_expired(cx);
        expired.map(|()| {
            connection.count_expiry();
            false
        })
    })
}

impl Connection {
    /// It was idle for too long, or sent no first request in time.
    fn count_expiry(&self) {
        if self.worker.is_leaving(&self.listener) {
            return;
        }
        let stats = &self.listener.stats;
        match self.requests {
            0 => stats.downstream_rq_header_timeout.add(1),
            _ => stats.downstream_cx_idle_timeout.add(1),
        }
    }

    /// Whether a request that came only now would be served by rules that are long gone.
    pub fn has_outlived_listener(&self) -> bool {
        self.listener.removed_at().is_some()
            && self
                .worker
                .idle_close_at(&self.listener)
                .is_some_and(|close_at| close_at <= rt::now())
    }

    /// What policies may ask about the connection.
    pub fn facts(&self, direction: Direction) -> &Rc<ConnectionFacts> {
        self.facts.get_or_init(|| {
            Rc::new(ConnectionFacts {
                direction,
                peer: Some(self.peer),
                destination: self.stream.local_addr().ok(),
                ..ConnectionFacts::default()
            })
        })
    }

    /// Where the client had addressed the connection, if it was redirected here.
    pub fn original_destination(&self) -> Option<SocketAddr> {
        self.chain.as_ref()?.facts.original_destination()
    }

    /// Where the client had addressed it, as far as somebody knows; else our own address.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        let known = self.facts.get().and_then(|facts| facts.destination);
        known.or_else(|| self.stream.local_addr().ok())
    }

    /// Sends the last bytes of an answer, after what is still being sent, without waiting for the
    /// client to take them: the next answer, or the end of the connection, waits.
    ///
    /// # Errors
    /// What was sent before did not arrive, or the client took nothing of it for too long.
    pub async fn send_last(&mut self, head: Buffer, body: Chunk) -> io::Result<()> {
        match poll_once(&mut pin!(self.stream.flushed())).await {
            Some(sent) => sent?,
            // Boxed: answers that need not wait keep no room for it.
            None => Box::pin(self.taken()).await?,
        }
        self.stream.send_detached(head, body);
        Ok(())
    }

    /// Waits until the client has taken what was sent before.
    async fn taken(&self) -> io::Result<()> {
        let stall = SendStall::new(self.send_stall_ms());
        stall.begins();
        let mut flushed = pin!(self.stream.flushed());
        loop {
            self.deadline.set(stall.ends_at());
            match until(&self.deadline, flushed.as_mut()).await {
                Ok(sent) => return sent,
                Err(_) if stall.is_over(&self.stream) => {
                    self.listener.stats.tx_flush_timeout.add(1);
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(_) => {}
            }
        }
    }

    /// How long its client may take nothing of what waits for it, where it is to be looked at: a
    /// stream of HTTP/2 looks for itself.
    pub fn send_stall_ms(&self) -> u64 {
        match self.stream.is_http2() {
            true => 0,
            false => self.worker.limits().settings.send_stall_timeout_ms,
        }
    }

    /// Whether the client has sent more than was taken.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.stream.peek_state() == Idle::Bytes
    }

    /// Waits, within the idle timeout, until the client has taken all.
    pub async fn finish_sending(&self) {
        let patience_ms = self.worker.limits().settings.downstream_idle_timeout_ms;
        self.deadline.set(deadline_after(rt::now(), patience_ms));
        self.stream.say_goodbye();
        // Whether it arrived or not, the connection is over.
        let _ = until(&self.deadline, self.stream.flushed()).await;
    }
}

/// `since` and `patience_ms` later; none when the limit is 0, which disables it.
pub fn deadline_after(since: Instant, patience_ms: u64) -> Option<Instant> {
    (patience_ms > 0).then(|| since + Duration::from_millis(patience_ms))
}
