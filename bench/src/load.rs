//! The load generator: one thread, one epoll set, as little work a request as possible.
//!
//! Saturated runs keep every connection busy. Runs at a fixed rate follow a schedule that does not
//! wait for answers, and latency counts from the scheduled moment, so that a stall shows in full
//! (no coordinated omission). Every answer is checked; one that is not as expected is a fault.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load_http2;
use crate::payload::Payload;
use crate::peers::HOST;
use crate::response::{Fault, Progress, ResponseReader};
use crate::schedule::Schedule;
use crate::sys::{self, ENDED, Epoll, NO_EVENT, READABLE, WRITABLE};
use crate::upstream::ID_HEADER;
use crate::wire::{Security, Wire};

/// What is to be asked for, how often, and for how long.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    pub target: SocketAddr,
    /// The Host header.
    pub host: String,
    pub payload: Payload,
    pub connections: usize,
    /// Requests a second; `None` keeps every connection busy.
    pub rate: Option<f64>,
    /// How many requests of a fixed rate are due at the same moment; 1 spreads them evenly.
    pub at_once: usize,
    /// A new connection for each request, ended by the answer.
    pub connection_per_request: bool,
    /// Streams of HTTP/2 on each connection; `None` is HTTP/1.1.
    pub streams: Option<usize>,
    pub security: Security,
    /// Each request carries its own number.
    pub numbered: bool,
    /// The number of the first.
    pub first_number: u64,
    /// Time before anything is counted.
    pub warm_up: Duration,
    /// Time in which answers are counted.
    pub measured: Duration,
    /// Ends the measured time early when it is raised.
    pub finish: Option<Arc<AtomicBool>>,
}

impl LoadPlan {
    /// Keep-alive requests on so many connections, as fast as they go, for two seconds.
    pub fn to(target: SocketAddr, payload: Payload, connections: usize) -> Self {
        Self {
            target,
            host: HOST.to_string(),
            payload,
            connections,
            rate: None,
            at_once: 1,
            connection_per_request: false,
            streams: None,
            security: Security::Plain,
            numbered: false,
            first_number: 0,
            warm_up: Duration::from_millis(300),
            measured: Duration::from_secs(2),
            finish: None,
        }
    }
}

/// Where a run stands when the observer is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    MeasureBegins,
    MeasureEnds,
}

/// What came of a run.
pub struct LoadOutcome {
    /// Answers that arrived whole within the measured time.
    pub responses: u64,
    /// All requests sent, from the first of the warm-up on.
    pub sent: u64,
    /// The measured time as it was.
    pub elapsed: Duration,
    /// Latencies in nanoseconds of the requests due within the measured time.
    pub latency: Histogram<u64>,
    /// Faults by name, of the whole run.
    pub faults: BTreeMap<String, u64>,
    /// Connections that the proxy ended between requests, which is its right.
    pub reconnects: u64,
    /// Requests of the schedule that could not even be sent: the rate was not reached.
    pub unsent: u64,
    /// Answers within the measured time on connections of TLS, by whether their session was taken
    /// up again.
    pub handshakes: Handshakes,
}

/// How connections of TLS began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    pub full: u64,
    pub resumed: u64,
}

impl LoadOutcome {
    /// Nothing yet.
    pub fn new() -> io::Result<Self> {
        let latency = Histogram::new_with_bounds(1, MAX_LATENCY_NS, 3).map_err(io::Error::other)?;
        Ok(Self {
            responses: 0,
            sent: 0,
            elapsed: Duration::ZERO,
            latency,
            faults: BTreeMap::new(),
            reconnects: 0,
            unsent: 0,
            handshakes: Handshakes::default(),
        })
    }
}

/// Time left after the measured time for answers under way.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// A run with more faults than this is ended early: there is nothing to learn from it.
const MAX_FAULTS: u64 = 10_000;
/// How soon a raised flag is seen when nothing else happens.
const FLAG_INTERVAL: Duration = Duration::from_millis(100);
/// Longer latencies are recorded as this.
const MAX_LATENCY_NS: u64 = 60_000_000_000;
const RECEIVE_BYTES: usize = 256 * 1024;

/// Runs the plan. `observe` is called as the measured time begins and ends; `stop` ends the run
/// early with an error of kind `Interrupted`.
pub fn run(
    plan: &LoadPlan,
    stop: &AtomicBool,
    observe: impl FnMut(Phase) -> io::Result<()>,
) -> io::Result<LoadOutcome> {
    sys::sharpen_timers();
    if plan.streams.is_some() {
        return load_http2::run(plan, stop, observe);
    }
    Load::new(plan)?.run(stop, observe)
}

/// Opens connections that have each carried one request and then stay idle.
pub fn open_idle(plan: &LoadPlan, count: usize, stop: &AtomicBool) -> io::Result<Vec<Wire>> {
    let request = request_head(plan, None);
    let expected = plan.payload.body();
    let mut scratch = vec![0_u8; RECEIVE_BYTES];
    let mut opened = Vec::with_capacity(count);
    for _ in 0..count {
        if stop.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        let socket = TcpStream::connect(plan.target)?;
        socket.set_read_timeout(Some(DRAIN_LIMIT))?;
        let mut stream = plan.security.over(socket)?;
        stream.write_all(&request)?;
        let mut reader = ResponseReader::default();
        loop {
            let received = stream.read(&mut scratch)?;
            let fault = |fault: Fault| io::Error::other(fault.label());
            if received == 0 {
                return Err(fault(Fault::Broken));
            }
            match reader
                .feed(&scratch[..received], &expected)
                .map_err(fault)?
            {
                Progress::Whole { close: false } => break,
                Progress::Whole { close: true } => return Err(fault(Fault::Broken)),
                Progress::Partial => {}
            }
        }
        opened.push(stream);
    }
    Ok(opened)
}

fn request_head(plan: &LoadPlan, number: Option<u64>) -> Vec<u8> {
    let mut head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\n",
        plan.payload.path(),
        plan.host
    );
    if plan.connection_per_request {
        head.push_str("Connection: close\r\n");
    }
    if let Some(number) = number {
        head.push_str(&format!("{ID_HEADER}: {number}\r\n"));
    }
    head.push_str("\r\n");
    head.into_bytes()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    /// The connection is being opened; the request follows.
    Connecting,
    /// The request was sent.
    Waiting,
    /// The answer is whole; the proxy has to end the connection.
    Closing,
}

struct Slot {
    stream: Option<Wire>,
    reader: ResponseReader,
    state: State,
    /// When the request was due.
    due: Instant,
}

struct Load<'p> {
    plan: &'p LoadPlan,
    epoll: Epoll,
    request: Vec<u8>,
    expected: Vec<u8>,
    slots: Vec<Slot>,
    idle: VecDeque<usize>,
    /// Due moments of requests that wait for a connection.
    backlog: VecDeque<Instant>,
    schedule: Option<Schedule>,
    measured_from: Instant,
    measured_until: Instant,
    counting: bool,
    sending: bool,
    outcome: LoadOutcome,
}

impl<'p> Load<'p> {
    fn new(plan: &'p LoadPlan) -> io::Result<Self> {
        let now = Instant::now();
        let slot = || Slot {
            stream: None,
            reader: ResponseReader::default(),
            state: State::Idle,
            due: now,
        };
        Ok(Self {
            plan,
            epoll: Epoll::new()?,
            request: request_head(plan, None),
            expected: plan.payload.body(),
            slots: (0..plan.connections).map(|_| slot()).collect(),
            idle: (0..plan.connections).collect(),
            backlog: VecDeque::new(),
            schedule: plan.rate.map(|rate| Schedule::new(now, rate, plan.at_once)),
            measured_from: now + plan.warm_up,
            measured_until: now + plan.warm_up + plan.measured,
            counting: false,
            sending: true,
            outcome: LoadOutcome::new()?,
        })
    }

    fn run(
        mut self,
        stop: &AtomicBool,
        mut observe: impl FnMut(Phase) -> io::Result<()>,
    ) -> io::Result<LoadOutcome> {
        let mut events = vec![NO_EVENT; self.plan.connections.clamp(16, 1024)];
        let mut scratch = vec![0_u8; RECEIVE_BYTES];
        let mut drained_by = self.measured_until + DRAIN_LIMIT;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(ErrorKind::Interrupted.into());
            }
            if self.outcome.faults.values().sum::<u64>() > MAX_FAULTS {
                break;
            }
            let now = Instant::now();
            if !self.counting && self.sending && now >= self.measured_from {
                observe(Phase::MeasureBegins)?;
                self.counting = true;
                self.measured_from = Instant::now();
                self.measured_until = self.measured_from + self.plan.measured;
                continue;
            }
            let finish = self.plan.finish.as_ref();
            if self.counting && finish.is_some_and(|finish| finish.load(Ordering::Relaxed)) {
                self.measured_until = self.measured_until.min(now);
            }
            if self.counting && now >= self.measured_until {
                observe(Phase::MeasureEnds)?;
                self.end_measure(now);
                drained_by = now + DRAIN_LIMIT;
            }
            let busy = self.idle.len() < self.slots.len();
            if !self.sending && (!busy || now >= drained_by) {
                break;
            }
            let until = if self.sending {
                self.send_due(now)
            } else {
                drained_by
            };
            let timeout = until.saturating_duration_since(now).min(FLAG_INTERVAL);
            let count = self.epoll.wait(&mut events, Some(timeout))?;
            for event in &events[..count] {
                let ended = event.events & ENDED != 0;
                while self.progress(event.u64 as usize, ended, &mut scratch) {}
            }
        }
        for _ in 0..self.slots.len() - self.idle.len() {
            self.fault(Fault::Hung);
        }
        Ok(self.outcome)
    }

    fn end_measure(&mut self, now: Instant) {
        self.counting = false;
        self.sending = false;
        self.outcome.elapsed = now - self.measured_from;
        self.outcome.unsent = self.backlog.len() as u64;
        for due in std::mem::take(&mut self.backlog) {
            self.record(due, now);
        }
    }

    /// Sends what is due; returns when to look again.
    fn send_due(&mut self, now: Instant) -> Instant {
        let phase_end = if self.counting {
            self.measured_until
        } else {
            self.measured_from
        };
        let Some(schedule) = &mut self.schedule else {
            // A connection that fails at once comes back to the queue: each is tried once a turn.
            for _ in 0..self.idle.len() {
                if let Some(index) = self.idle.pop_front() {
                    self.start(index, now);
                }
            }
            return phase_end;
        };
        let next_due = schedule.take_due(now, &mut self.backlog);
        while !self.backlog.is_empty()
            && let Some(index) = self.idle.pop_front()
        {
            if let Some(due) = self.backlog.pop_front() {
                self.start(index, due);
            }
        }
        phase_end.min(next_due)
    }

    /// Gives a free connection its next request.
    fn start(&mut self, index: usize, due: Instant) {
        self.slots[index].due = due;
        if self.slots[index].stream.is_none() && !self.connect(index) {
            return;
        }
        self.send(index);
    }

    fn connect(&mut self, index: usize) -> bool {
        let opened = sys::connect_nonblocking(self.plan.target).and_then(|stream| {
            stream.set_nodelay(true)?;
            self.epoll.add(&stream, READABLE, index as u64)?;
            self.plan.security.over(stream)
        });
        let slot = &mut self.slots[index];
        slot.reader = ResponseReader::default();
        match opened {
            Ok(stream) => {
                slot.stream = Some(stream);
                true
            }
            Err(_) => {
                self.fail(index, Fault::Connect);
                false
            }
        }
    }

    fn send(&mut self, index: usize) {
        if self.plan.numbered {
            self.request =
                request_head(self.plan, Some(self.plan.first_number + self.outcome.sent));
        }
        let slot = &mut self.slots[index];
        let Some(stream) = &mut slot.stream else {
            return;
        };
        let was_connecting = slot.state == State::Connecting;
        match stream.write(&self.request) {
            Ok(written) if written == self.request.len() => {
                self.outcome.sent += 1;
                slot.state = State::Waiting;
                if was_connecting && self.epoll.modify(stream, READABLE, index as u64).is_err() {
                    self.fail(index, Fault::Connect);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock && !was_connecting => {
                slot.state = State::Connecting;
                if self.epoll.modify(stream, WRITABLE, index as u64).is_err() {
                    self.fail(index, Fault::Connect);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) if was_connecting => self.fail(index, Fault::Connect),
            // A head always fits into an empty send buffer, so a short write is a fault too.
            _ => self.fail(index, Fault::Broken),
        }
    }

    /// Reads once, or sends; whether there may be more to read.
    fn progress(&mut self, index: usize, ended: bool, scratch: &mut [u8]) -> bool {
        if self.slots[index].state == State::Connecting {
            self.send(index);
            return false;
        }
        let slot = &mut self.slots[index];
        let Some(stream) = &mut slot.stream else {
            return false;
        };
        let received = match stream.read(scratch) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => {
                self.fail(index, Fault::Broken);
                return false;
            }
        };
        let more = received > 0 && (ended || stream.may_have_more(received, scratch.len()));
        match (slot.state, received) {
            (State::Closing, 0) => {
                slot.stream = None;
                self.rest(index);
            }
            (State::Idle, 0) => {
                slot.stream = None;
                self.outcome.reconnects += 1;
            }
            (State::Waiting, 1..) => match slot.reader.feed(&scratch[..received], &self.expected) {
                Ok(Progress::Partial) => {}
                Ok(Progress::Whole { close }) => self.finish(index, close),
                Err(fault) => self.fail(index, fault),
            },
            (_, 0) => self.fail(index, Fault::Broken),
            _ => self.fail(index, Fault::Surplus),
        }
        more
    }

    fn finish(&mut self, index: usize, close: bool) {
        let now = Instant::now();
        self.outcome.responses += u64::from(self.counting);
        if self.counting
            && let Some(stream) = &self.slots[index].stream
        {
            match stream.is_resumed() {
                Some(true) => self.outcome.handshakes.resumed += 1,
                Some(false) => self.outcome.handshakes.full += 1,
                None => {}
            }
        }
        self.record(self.slots[index].due, now);
        if self.plan.connection_per_request {
            self.slots[index].state = State::Closing;
            return;
        }
        if close {
            self.slots[index].stream = None;
            self.outcome.reconnects += 1;
        }
        self.slots[index].state = State::Idle;
        if !self.sending {
            self.idle.push_back(index);
        } else if self.plan.rate.is_none() {
            self.start(index, now);
        } else if let Some(due) = self.backlog.pop_front() {
            self.start(index, due);
        } else {
            self.idle.push_back(index);
        }
    }

    fn record(&mut self, due: Instant, now: Instant) {
        if due >= self.measured_from && due < self.measured_until {
            let nanoseconds = (now - due).as_nanos().min(u128::from(u64::MAX)) as u64;
            self.outcome.latency.saturating_record(nanoseconds.max(1));
        }
    }

    fn rest(&mut self, index: usize) {
        self.slots[index].state = State::Idle;
        self.idle.push_back(index);
    }

    fn fail(&mut self, index: usize, fault: Fault) {
        self.fault(fault);
        self.slots[index].stream = None;
        // An idle connection is in the queue already.
        if !self.idle.contains(&index) {
            self.rest(index);
        }
    }

    fn fault(&mut self, fault: Fault) {
        *self.outcome.faults.entry(fault.label()).or_default() += 1;
    }
}
