//! What one worker owns. Nothing here is shared with another thread but through [`FleetState`].

use super::listeners::ListenerSlot;
use super::rules::Rules;
use super::shared::FleetState;
use super::view::SnapshotView;
use crate::control::access_log::AccessLogSink;
use crate::proxy::connection::Connection;
use crate::proxy::exchange::Scratch;
use crate::proxy::request_id::{RequestId, write_uuid};
use crate::proxy::tunnel_record::TcpFigures;
use crate::rt;
use crate::stats::{Http2Stats, Registry, RouteStats, WorkerId, WorkerStats};
use ringroad_codec::http1::{BodyLimits, HeadLimits, write_http_date};
use ringroad_policy::authenticate::TokenCache;
use ringroad_policy::settings::Limits;
use ringroad_policy::snapshot::{Listener, Random};
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a connection without a request stays open while the worker drains, or when its listener
/// is gone: a request that is already on its way still finds it.
const DRAIN_IDLE_GRACE: Duration = Duration::from_millis(500);
/// How long lines of the access log are collected before they are handed over.
const ACCESS_LOG_FLUSH: Duration = Duration::from_millis(20);

/// A worker's context: one for each thread, reached through an `Rc`.
pub struct Worker {
    pub id: WorkerId,
    pub fleet: Arc<FleetState>,
    pub registry: Arc<Registry>,
    pub stats: Arc<WorkerStats>,
    pub http2_stats: Arc<Http2Stats>,
    pub random: RefCell<Random>,
    pub access_log: Option<AccessLogSink>,
    /// Tokens whose signature this worker has verified.
    pub tokens: RefCell<TokenCache>,
    /// Of routes that are counted by themselves, by their name.
    route_stats: RefCell<HashMap<Arc<str>, Arc<RouteStats>>>,
    /// Figures of connections that are no HTTP.
    pub tcp_figures: RefCell<TcpFigures>,
    view: RefCell<Rc<SnapshotView>>,
    limits: RefCell<Rc<WorkerLimits>>,
    slots: RefCell<Vec<Rc<ListenerSlot>>>,
    #[expect(
        clippy::vec_box,
        reason = "boxes go to requests and come back without being moved"
    )]
    scratch: RefCell<Vec<Box<Scratch>>>,
    spawn_connection: OnceCell<Box<dyn Fn(Box<Connection>)>>,
    /// Wakers of the connections' tasks, so that a drain reaches those that are parked.
    parked: RefCell<Parked>,
    connections_begun: Cell<u32>,
    drain_started: Cell<Option<Instant>>,
    is_ending: Cell<bool>,
    /// Accept loops that have not ended.
    pub open_listeners: Cell<usize>,
    date: RefCell<CachedDate>,
    /// The wall clock at the instant the worker started, to turn loop time into dates.
    clock_origin: (Instant, SystemTime),
    accept_error_reported: Cell<Option<Instant>>,
    log_lines: RefCell<Vec<u8>>,
    log_task: Cell<Option<Waker>>,
}

/// The snapshot's limits in the form the codec takes them.
pub struct WorkerLimits {
    pub settings: Limits,
    pub head: HeadLimits,
    pub body: BodyLimits,
}

#[derive(Default)]
struct Parked {
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

#[derive(Default)]
struct CachedDate {
    /// When the next second begins.
    until: Option<Instant>,
    text: Vec<u8>,
}

impl WorkerLimits {
    fn new(settings: &Limits) -> Rc<Self> {
        Rc::new(Self {
            head: HeadLimits {
                max_head_bytes: settings.max_head_bytes as usize,
                max_headers: settings.max_headers as usize,
                ..HeadLimits::default()
            },
            body: BodyLimits {
                max_chunk_extension_bytes: settings.max_chunk_extension_bytes as usize,
                max_trailer_bytes: settings.max_trailer_bytes as usize,
                max_trailers: settings.max_headers as usize,
            },
            settings: settings.clone(),
        })
    }
}

impl Worker {
    pub fn new(
        id: WorkerId,
        fleet: Arc<FleetState>,
        seed: u64,
        access_log: Option<AccessLogSink>,
    ) -> Rc<Self> {
        let generation = fleet.generation.load(Ordering::Acquire);
        let snapshot = fleet.snapshot.load_full();
        let registry = fleet.registry.clone();
        let stats = registry.worker(id);
        stats.generation.set(generation);
        Rc::new(Self {
            id,
            stats,
            http2_stats: registry.http2(id),
            registry,
            random: RefCell::new(Random::new(seed)),
            access_log,
            tokens: RefCell::new(TokenCache::new(0)),
            route_stats: RefCell::default(),
            tcp_figures: RefCell::default(),
            limits: RefCell::new(WorkerLimits::new(&snapshot.settings.limits)),
            view: RefCell::new(Rc::new(SnapshotView::new(generation, snapshot, None))),
            slots: RefCell::default(),
            scratch: RefCell::default(),
            spawn_connection: OnceCell::new(),
            parked: RefCell::default(),
            connections_begun: Cell::new(0),
            drain_started: Cell::new(None),
            is_ending: Cell::new(false),
            open_listeners: Cell::new(0),
            date: RefCell::default(),
            clock_origin: (rt::now(), SystemTime::now()),
            accept_error_reported: Cell::new(None),
            log_lines: RefCell::default(),
            log_task: Cell::new(None),
            fleet,
        })
    }

    /// The figures of the routes that are counted under `name`.
    pub fn route_stats(&self, name: &Arc<str>) -> Arc<RouteStats> {
        let mut known = self.route_stats.borrow_mut();
        let stats = known.get(name).cloned();
        stats.unwrap_or_else(|| {
            let stats = self.registry.route(name, self.id);
            known.insert(name.clone(), stats.clone());
            stats
        })
    }

    /// The snapshot in use; adopts a newer one first. Costs one atomic load when nothing changed.
    #[inline]
    pub fn view(&self) -> Rc<SnapshotView> {
        let view = self.view.borrow().clone();
        if view.generation == self.fleet.generation.load(Ordering::Acquire) {
            return view;
        }
        self.adopt()
    }

    /// Takes the published snapshot into use.
    #[cold]
    pub fn adopt(&self) -> Rc<SnapshotView> {
        // The generation is read first: should another snapshot come in between, this view holds
        // the newer snapshot under the older number and is replaced once more.
        let generation = self.fleet.generation.load(Ordering::Acquire);
        let before = self.view.borrow().clone();
        if before.generation == generation {
            return before;
        }
        let snapshot = self.fleet.snapshot.load_full();
        *self.limits.borrow_mut() = WorkerLimits::new(&snapshot.settings.limits);
        let view = Rc::new(SnapshotView::new(generation, snapshot, Some(&before)));
        *self.view.borrow_mut() = view.clone();
        let mut any_removed = false;
        for slot in self.slots.borrow().iter() {
            let Some(last) = slot.index.get() else {
                continue;
            };
            match listener_index(&view.snapshot.listeners, &slot.name) {
                Some(index) => slot.index.set(Some(index)),
                None => {
                    slot.remove(Some(Rules::new(before.clone(), last)));
                    any_removed = true;
                }
            }
        }
        if any_removed {
            self.wake_parked();
        }
        self.stats.generation.set(generation);
        self.fleet.desks[self.id]
            .applied_generation
            .store(generation, Ordering::Release);
        view
    }

    /// The rules for the next request of a connection that came through `slot`.
    #[inline]
    pub fn rules(&self, slot: &ListenerSlot) -> Option<Rules> {
        let view = self.view();
        match slot.index.get() {
            Some(index) => Some(Rules::new(view, index)),
            None => slot.last_rules(),
        }
    }

    /// Writes a fresh `x-request-id`.
    pub fn write_request_id(&self, out: &mut RequestId) {
        write_uuid(&mut self.random.borrow_mut(), out);
    }

    #[inline]
    pub fn limits(&self) -> Rc<WorkerLimits> {
        self.limits.borrow().clone()
    }

    /// The slot of the listener `name`, made when it is new. Of one that the snapshot in use does not
    /// have nobody is told when it comes back, so each asker gets a removed one for itself.
    pub fn slot(&self, name: &str) -> Rc<ListenerSlot> {
        let known = self
            .slots
            .borrow()
            .iter()
            .find(|slot| slot.name == name)
            .cloned();
        known.unwrap_or_else(|| {
            let slot = ListenerSlot::new(name.to_string(), self.registry.listener(name, self.id));
            match listener_index(&self.view.borrow().snapshot.listeners, name) {
                Some(index) => {
                    slot.index.set(Some(index));
                    self.slots.borrow_mut().push(slot.clone());
                }
                None => slot.remove(None),
            }
            slot
        })
    }

    /// Takes the slot of a listener that was removed out of use, and ends its accepting.
    /// Connections that have it keep it.
    pub fn forget_slot(&self, name: &str) {
        let mut slots = self.slots.borrow_mut();
        let Some(at) = slots.iter().position(|slot| slot.name == name) else {
            return;
        };
        let slot = slots.swap_remove(at);
        drop(slots);
        // One of this name may be in the snapshot again, taken up together with the removal.
        if let Some(index) = slot.index.get() {
            slot.remove(Some(Rules::new(self.view.borrow().clone(), index)));
            self.wake_parked();
        }
        slot.stop();
    }

    pub fn slots(&self) -> Vec<Rc<ListenerSlot>> {
        self.slots.borrow().clone()
    }

    pub fn set_connection_spawner(&self, spawn: impl Fn(Box<Connection>) + 'static) {
        let _ = self.spawn_connection.set(Box::new(spawn));
    }

    pub fn spawn_connection(&self, connection: Box<Connection>) {
        if let Some(spawn) = self.spawn_connection.get() {
            spawn(connection);
        }
    }

    pub fn connection_closed(&self) {
        self.stats.connections.sub(1);
        self.fleet.desks[self.id]
            .connections
            .fetch_sub(1, Ordering::Relaxed);
    }

    /// A request's working memory, from the pool.
    pub fn take_scratch(&self) -> Box<Scratch> {
        self.scratch.borrow_mut().pop().unwrap_or_default()
    }

    pub fn return_scratch(&self, scratch: Box<Scratch>) {
        self.scratch.borrow_mut().push(scratch);
    }

    /// For a connection that begins.
    pub fn next_connection_number(&self) -> u32 {
        let number = self.connections_begun.get();
        self.connections_begun.set(number.wrapping_add(1));
        number
    }

    /// A place in the list of connections, by which [`Worker::start_drain`] finds their tasks.
    pub fn new_parking(&self) -> u32 {
        let mut parked = self.parked.borrow_mut();
        parked.free.pop().unwrap_or_else(|| {
            parked.wakers.push(None);
            parked.wakers.len() as u32 - 1
        })
    }

    /// The connection's task waits for bytes.
    pub fn note_parked(&self, parking: u32, waker: &Waker) {
        self.parked.borrow_mut().wakers[parking as usize].get_or_insert_with(|| waker.clone());
    }

    pub fn leave_parking(&self, parking: u32) {
        let mut parked = self.parked.borrow_mut();
        parked.wakers[parking as usize] = None;
        parked.free.push(parking);
    }

    pub fn start_drain(&self) {
        if self.drain_started.get().is_none() {
            self.drain_started.set(Some(rt::now()));
            self.wake_parked();
        }
    }

    fn wake_parked(&self) {
        let parked = self.parked.borrow();
        parked.wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }

    #[inline]
    pub fn is_draining(&self) -> bool {
        self.drain_started.get().is_some()
    }

    /// What is under way is cut off: each tells so in its record when it is polled.
    pub fn end(&self) {
        self.is_ending.set(true);
    }

    #[inline]
    pub fn is_ending(&self) -> bool {
        self.is_ending.get()
    }

    /// Whether no listener accepts and no connection is open.
    pub fn is_idle(&self) -> bool {
        self.open_listeners.get() == 0 && self.stats.connections.get() == 0
    }

    /// Whether connections that came through `slot` end with their present request.
    #[inline]
    pub fn is_leaving(&self, slot: &ListenerSlot) -> bool {
        self.is_draining() || slot.removed_at().is_some()
    }

    /// When connections of `slot` without a request are closed; none while they may stay.
    pub fn idle_close_at(&self, slot: &ListenerSlot) -> Option<Instant> {
        let since = [self.drain_started.get(), slot.removed_at()];
        let first = since.into_iter().flatten().min();
        first.map(|start| start + DRAIN_IDLE_GRACE)
    }

    /// Appends the `Date` value (RFC 9110 section 6.6.1) of the loop's present time.
    pub fn write_date(&self, out: &mut Vec<u8>) {
        let mut date = self.date.borrow_mut();
        let now = rt::now();
        if date.until.is_none_or(|until| until <= now) {
            let since_epoch = self.wall_clock().duration_since(UNIX_EPOCH);
            let since_epoch = since_epoch.unwrap_or_default();
            date.until = Some(
                now + (Duration::from_secs(1)
                    - Duration::from_nanos(u64::from(since_epoch.subsec_nanos()))),
            );
            date.text.clear();
            write_http_date(&mut date.text, since_epoch.as_secs());
        }
        out.extend_from_slice(&date.text);
    }

    /// The loop's present time as wall-clock time.
    pub fn wall_clock(&self) -> SystemTime {
        let (instant, time) = self.clock_origin;
        time + rt::now().saturating_duration_since(instant)
    }

    /// An earlier instant of the loop as wall-clock time.
    pub fn wall_clock_at(&self, instant: Instant) -> SystemTime {
        self.wall_clock() - rt::now().saturating_duration_since(instant)
    }

    /// Adds a line to the access log.
    pub fn log(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = self.log_lines.borrow_mut();
        let was_empty = lines.is_empty();
        write(&mut lines);
        if was_empty && let Some(task) = self.log_task.take() {
            task.wake();
        }
    }

    /// Hands the access log over, soon after there is something to hand over.
    pub async fn flush_log_forever(self: Rc<Self>) {
        let Some(sink) = self.access_log.clone() else {
            return;
        };
        loop {
            poll_fn(|cx| {
                if self.log_lines.borrow().is_empty() {
                    self.log_task.set(Some(cx.waker().clone()));
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            rt::sleep_until(rt::now() + ACCESS_LOG_FLUSH).await;
            self.flush_log(&sink);
        }
    }

    fn flush_log(&self, sink: &AccessLogSink) {
        let mut lines = self.log_lines.borrow_mut();
        let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !sink.try_push(&mut lines) {
            lines.clear();
            self.stats.access_log_dropped.add(count);
        }
    }

    /// Hands over what the access log holds, before the worker ends.
    pub fn finish_log(&self) {
        if let Some(sink) = &self.access_log {
            self.flush_log(sink);
        }
    }

    /// Logs an accept error, at most once a second.
    pub fn report_accept_error(&self, listener: &str, error: &std::io::Error) {
        let now = rt::now();
        let recent = |at: Instant| now.duration_since(at) < Duration::from_secs(1);
        if !self.accept_error_reported.get().is_some_and(recent) {
            self.accept_error_reported.set(Some(now));
            tracing::warn!(listener, %error, "accept failed; raise the descriptor limit if it is EMFILE");
        }
    }

    /// Closes dead and stale pooled connections, once a second.
    pub async fn sweep_forever(self: Rc<Self>) {
        loop {
            rt::sleep_until(rt::now() + Duration::from_secs(1)).await;
            let view = self.view();
            view.used_clusters()
                .for_each(|cluster| cluster.sweep(rt::now()));
            rt::trim();
            self.publish_figures();
        }
    }

    /// Copies what the runtime and the allocator count into this worker's figures.
    pub fn publish_figures(&self) {
        let counters = rt::counters();
        self.stats
            .receive_buffers
            .set(counters.receive_buffers_allocated as u64);
        self.stats
            .receive_buffers_exhausted
            .set(counters.receive_buffers_exhausted);
        self.stats.task_panics.set(counters.task_panics);
        self.stats
            .allocations
            .set(crate::alloc::thread_allocations());
        // The last of them: who sees it move sees the others fresh.
        self.stats.loop_turns.set(counters.loop_turns);
    }
}

fn listener_index(listeners: &[Arc<Listener>], name: &str) -> Option<usize> {
    listeners.iter().position(|listener| listener.name == name)
}
