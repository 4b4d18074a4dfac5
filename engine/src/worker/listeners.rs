//! Accepting connections.

use super::Worker;
use super::rules::Rules;
use super::shared::Command;
use crate::proxy::connection::{Connection, CountedConnection};
use crate::rt::{self, Chunk, Deadline, Listener, Stream};
use crate::stats::{ListenerStats, SeriesList};
use crate::transport::Transport;
use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Time to wait before the next accept when the process is out of descriptors.
const ACCEPT_BACKOFF_MS: u64 = 50;

/// A listener as one worker knows it, by name. Connections keep theirs across reloads.
pub struct ListenerSlot {
    pub name: String,
    pub stats: Arc<ListenerStats>,
    /// Where the listener stands in the snapshot in use; none once a reload has removed it.
    pub index: Cell<Option<usize>>,
    /// When this worker learnt that a reload has removed the listener. One that comes back gets
    /// another slot.
    removed_at: Cell<Option<Instant>>,
    /// What is left of the listener once a reload has removed it.
    last_rules: RefCell<Option<Rules>>,
    /// Requests that no endpoint has answered.
    pub series: RefCell<SeriesList>,
    stopping: Cell<bool>,
    accept_task: Cell<Option<Waker>>,
}

impl ListenerSlot {
    pub fn new(name: String, stats: Arc<ListenerStats>) -> Rc<Self> {
        Rc::new(Self {
            name,
            stats,
            index: Cell::new(None),
            removed_at: Cell::new(None),
            last_rules: RefCell::default(),
            series: RefCell::default(),
            stopping: Cell::new(false),
            accept_task: Cell::new(None),
        })
    }

    /// The listener is gone. Requests that are on their way are served by `last_rules`.
    pub fn remove(&self, last_rules: Option<Rules>) {
        self.index.set(None);
        self.removed_at.set(Some(rt::now()));
        self.last_rules.replace(last_rules);
    }

    #[inline]
    pub fn removed_at(&self) -> Option<Instant> {
        self.removed_at.get()
    }

    /// The rules of the last snapshot that had this listener.
    pub fn last_rules(&self) -> Option<Rules> {
        self.last_rules.borrow().clone()
    }

    /// Asks the accept loop to take what the backlog holds and end.
    pub fn stop(&self) {
        self.stopping.set(true);
        if let Some(task) = self.accept_task.take() {
            task.wake();
        }
    }
}

/// Accepts on one socket until the slot is stopped.
pub async fn accept_connections(worker: Rc<Worker>, slot: Rc<ListenerSlot>, listener: Listener) {
    loop {
        let accepted = {
            let mut accept = std::pin::pin!(listener.accept());
            poll_fn(|cx| {
                if slot.stopping.get() {
                    return Poll::Ready(None);
                }
                slot.accept_task.set(Some(cx.waker().clone()));
                accept.as_mut().poll(cx).map(Some)
            })
            .await
        };
        match accepted {
            None => break,
            Some(Ok((socket, peer))) => place(&worker, &slot, socket, peer),
            Some(Err(error)) => {
                worker.stats.accept_errors.add(1);
                worker.report_accept_error(&slot.name, &error);
                rt::sleep_until(rt::now() + Duration::from_millis(ACCEPT_BACKOFF_MS)).await;
            }
        }
    }
    for (socket, peer) in listener.stop().await {
        place(&worker, &slot, socket, peer);
    }
    worker.open_listeners.set(worker.open_listeners.get() - 1);
}

/// Serves the connection here, or hands it to a worker that is behind.
fn place(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, socket: OwnedFd, peer: SocketAddr) {
    slot.stats.downstream_cx_total.add(1);
    let behind = worker.fleet.worker_behind(worker.id);
    // The other worker may know nothing of this listener any more.
    let other = behind.filter(|_| slot.removed_at().is_none());
    let wanted = worker.limits().settings.max_downstream_connections as usize;
    let limit = wanted.min(worker.fleet.most_clients);
    if !worker.fleet.admit(other.unwrap_or(worker.id), limit) {
        slot.stats.downstream_cx_overflow.add(1);
        if let Ok(stream) = Stream::from_fd(socket) {
            stream.reset_on_close();
        }
        return;
    }
    match other {
        Some(other) => {
            slot.stats.downstream_cx_handed_over.add(1);
            let listener = slot.name.clone();
            worker.fleet.desks[other].send(Command::Serve {
                listener,
                socket,
                peer,
            });
        }
        None => serve(worker, slot, socket, peer),
    }
}

/// Starts a connection that is already counted in `desks[..].connections`.
pub fn serve(worker: &Rc<Worker>, slot: &Rc<ListenerSlot>, socket: OwnedFd, peer: SocketAddr) {
    slot.stats.downstream_cx_active.add(1);
    worker.stats.connections.add(1);
    let stream = match Stream::from_fd(socket) {
        Ok(stream) => stream,
        Err(error) => {
            worker.report_accept_error(&slot.name, &error);
            slot.stats.downstream_cx_active.sub(1);
            worker.connection_closed();
            return;
        }
    };
    let connection = Connection {
        stream: Transport::Plain(stream),
        worker: worker.clone(),
        listener: slot.clone(),
        peer,
        unread: Chunk::default(),
        deadline: Deadline::new(),
        accepted_at: rt::now(),
        requests: 0,
        empty_lines: 0,
        number: worker.next_connection_number(),
        facts: OnceCell::new(),
        counted: Some(CountedConnection {
            worker: worker.clone(),
            listener: slot.clone(),
            parking: worker.new_parking(),
        }),
        chain: None,
    };
    worker.spawn_connection(Box::new(connection));
}
