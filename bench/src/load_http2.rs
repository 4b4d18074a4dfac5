//! The load over HTTP/2: few connections with many streams each (RFC 9113), as little work a
//! request as possible.
//!
//! Every stream is kept busy. All requests of a connection are the same field block, which no table
//! remembers; each answer's status, and the end of its body, are compared with what is expected.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load::{LoadOutcome, LoadPlan, Phase};
use crate::response::Fault;
use crate::sys::{ENDED, Epoll, NO_EVENT, READABLE};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Windows of the client: as large as they can be, so that nobody waits for an update.
const WINDOW: u32 = 0x7fff_ffff;
const FIRST_WINDOW: u32 = 65_535;
/// So many bytes are given back to the connection's window at a time.
const GIVEN_BACK: u32 = 1 << 29;
const RECEIVE_BYTES: usize = 256 * 1024;
/// How soon a raised flag is seen when nothing else happens.
const FLAG_INTERVAL: Duration = Duration::from_millis(100);
const MAX_FAULTS: u64 = 1_000;
/// `:status: 200` of the static table (RFC 7541 appendix A).
const STATUS_200: u8 = 0x88;

/// A request under way.
struct Stream {
    id: u32,
    begun: Instant,
    body_bytes: usize,
}

struct Connection {
    socket: TcpStream,
    partial: Vec<u8>,
    out: Vec<u8>,
    next_id: u32,
    streams: Vec<Stream>,
    unreturned: u32,
}

struct Load<'p> {
    plan: &'p LoadPlan,
    block: Vec<u8>,
    expected: Vec<u8>,
    epoll: Epoll,
    connections: Vec<Connection>,
    measured_from: Option<Instant>,
    outcome: LoadOutcome,
}

/// Runs the plan, `plan.streams` of them on each connection; see [`crate::load::run`].
pub fn run(
    plan: &LoadPlan,
    stop: &AtomicBool,
    mut observe: impl FnMut(Phase) -> io::Result<()>,
) -> io::Result<LoadOutcome> {
    let mut load = Load::new(plan)?;
    let warm_until = Instant::now() + plan.warm_up;
    let mut end = warm_until + plan.measured;
    let mut events = vec![NO_EVENT; plan.connections];
    let mut scratch = vec![0; RECEIVE_BYTES];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(ErrorKind::Interrupted.into());
        }
        let now = Instant::now();
        match load.measured_from {
            None if now >= warm_until => {
                observe(Phase::MeasureBegins)?;
                let begin = Instant::now();
                load.measured_from = Some(begin);
                end = begin + plan.measured;
            }
            Some(begin) if now >= end => {
                observe(Phase::MeasureEnds)?;
                load.outcome.elapsed = now - begin;
                return Ok(load.outcome);
            }
            _ => {}
        }
        if load.outcome.faults.values().sum::<u64>() > MAX_FAULTS {
            return Ok(load.outcome);
        }
        let next = load.measured_from.map_or(warm_until, |_| end);
        let timeout = next.saturating_duration_since(now).min(FLAG_INTERVAL);
        let count = load.epoll.wait(&mut events, Some(timeout))?;
        for event in &events[..count] {
            let (index, ended) = (event.u64 as usize, event.events & ENDED != 0);
            loop {
                match load.progress(index, &mut scratch) {
                    Ok(received) if received == scratch.len() || (ended && received > 0) => {}
                    Ok(_) => break,
                    Err(fault) => {
                        *load.outcome.faults.entry(fault.label()).or_default() += 1;
                        load.open(index)?;
                        break;
                    }
                }
            }
        }
    }
}

impl<'p> Load<'p> {
    fn new(plan: &'p LoadPlan) -> io::Result<Self> {
        let mut load = Self {
            plan,
            block: block(plan.payload.path(), &plan.host),
            expected: plan.payload.body(),
            epoll: Epoll::new()?,
            connections: Vec::new(),
            measured_from: None,
            outcome: LoadOutcome::new()?,
        };
        for index in 0..plan.connections {
            load.open(index)?;
        }
        Ok(load)
    }

    /// Opens a connection and fills it with requests.
    fn open(&mut self, index: usize) -> io::Result<()> {
        let mut socket = TcpStream::connect(self.plan.target)?;
        socket.set_nodelay(true)?;
        let mut out = PREFACE.to_vec();
        let initial_window = [&[0, 4][..], &WINDOW.to_be_bytes()].concat();
        push_frame(&mut out, SETTINGS, 0, 0, &initial_window);
        let more = (WINDOW - FIRST_WINDOW).to_be_bytes();
        push_frame(&mut out, WINDOW_UPDATE, 0, 0, &more);
        socket.write_all(&out)?;
        out.clear();
        let mut connection = Connection {
            socket,
            partial: Vec::new(),
            out,
            next_id: 1,
            streams: Vec::new(),
            unreturned: 0,
        };
        let now = Instant::now();
        for _ in 0..self.plan.streams.unwrap_or(1) {
            connection.ask(&self.block, now);
            self.outcome.sent += 1;
        }
        connection.socket.write_all(&connection.out)?;
        connection.out.clear();
        connection.socket.set_nonblocking(true)?;
        self.epoll.add(&connection.socket, READABLE, index as u64)?;
        match self.connections.get_mut(index) {
            Some(old) => *old = connection,
            None => self.connections.push(connection),
        }
        Ok(())
    }

    /// Reads once and works on it; how many bytes there were.
    fn progress(&mut self, index: usize, scratch: &mut [u8]) -> Result<usize, Fault> {
        let connection = &mut self.connections[index];
        let received = match connection.socket.read(scratch) {
            Ok(0) => return Err(Fault::Broken),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(_) => return Err(Fault::Broken),
        };
        let mut kept = std::mem::take(&mut connection.partial);
        let input = match kept.is_empty() {
            true => &scratch[..received],
            false => {
                kept.extend_from_slice(&scratch[..received]);
                &kept[..]
            }
        };
        let mut rest = input;
        let now = Instant::now();
        while let Some((frame, behind)) = split_frame(rest) {
            rest = behind;
            if !self.connections[index].take(&frame, &self.expected)? {
                continue;
            }
            let begun = self.connections[index].finish(&frame, self.expected.len())?;
            if let Some(from) = self.measured_from {
                self.outcome.responses += 1;
                if begun >= from {
                    let nanoseconds = (now - begun).as_nanos() as u64;
                    self.outcome.latency.saturating_record(nanoseconds.max(1));
                }
            }
            self.connections[index].ask(&self.block, now);
            self.outcome.sent += 1;
        }
        let connection = &mut self.connections[index];
        connection.partial = rest.to_vec();
        connection.give_back();
        if connection.out.is_empty() {
            return Ok(received);
        }
        // What is asked for is less than any socket's buffer.
        let written = connection.socket.write(&connection.out);
        let is_whole = matches!(written, Ok(len) if len == connection.out.len());
        connection.out.clear();
        match is_whole {
            true => Ok(received),
            false => Err(Fault::Broken),
        }
    }
}

struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Connection {
    fn ask(&mut self, block: &[u8], now: Instant) {
        let id = self.next_id;
        self.next_id += 2;
        push_frame(&mut self.out, HEADERS, END_STREAM | END_HEADERS, id, block);
        self.streams.push(Stream {
            id,
            begun: now,
            body_bytes: 0,
        });
    }

    /// Takes a frame; whether it ends an answer.
    fn take(&mut self, frame: &Frame<'_>, expected: &[u8]) -> Result<bool, Fault> {
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => push_frame(&mut self.out, SETTINGS, ACK, 0, b""),
            PING if frame.flags & ACK == 0 => {
                push_frame(&mut self.out, PING, ACK, 0, frame.payload);
            }
            RST_STREAM | GOAWAY => return Err(Fault::Broken),
            HEADERS => {
                // A change of the table's size may come first (RFC 7541 section 6.3); it is larger
                // than five bits only with octets that have their top bit, but for the last.
                let mut block = frame.payload;
                while let [first, rest @ ..] = block
                    && first & 0xe0 == 0x20
                {
                    let more = match first & 0x1f {
                        0x1f => 1 + rest.iter().take_while(|octet| **octet >= 0x80).count(),
                        _ => 0,
                    };
                    block = rest.get(more..).unwrap_or_default();
                }
                if frame.flags & END_HEADERS == 0 || block.first() != Some(&STATUS_200) {
                    return Err(Fault::Malformed);
                }
            }
            DATA => {
                self.unreturned += frame.payload.len() as u32;
                let stream = self.streams.iter_mut().find(|it| it.id == frame.stream);
                let stream = stream.ok_or(Fault::Surplus)?;
                let end = stream.body_bytes + frame.payload.len();
                if expected.get(stream.body_bytes..end) != Some(frame.payload) {
                    return Err(Fault::Body);
                }
                stream.body_bytes = end;
            }
            _ => {}
        }
        Ok(matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0)
    }

    /// The answer is whole; since when it was waited for.
    fn finish(&mut self, frame: &Frame<'_>, expected_bytes: usize) -> Result<Instant, Fault> {
        let at = self.streams.iter().position(|it| it.id == frame.stream);
        let stream = self.streams.swap_remove(at.ok_or(Fault::Surplus)?);
        match stream.body_bytes == expected_bytes {
            true => Ok(stream.begun),
            false => Err(Fault::Length),
        }
    }

    fn give_back(&mut self) {
        if self.unreturned >= GIVEN_BACK {
            let by = self.unreturned.to_be_bytes();
            push_frame(&mut self.out, WINDOW_UPDATE, 0, 0, &by);
            self.unreturned = 0;
        }
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn split_frame(input: &[u8]) -> Option<(Frame<'_>, &[u8])> {
    let head = input.get(..9)?;
    let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let payload = input.get(9..9 + len)?;
    let stream = head[5..9]
        .iter()
        .fold(0, |id, octet| id << 8 | u32::from(*octet));
    let frame = Frame {
        kind: head[3],
        flags: head[4],
        stream,
        payload,
    };
    Some((frame, &input[9 + len..]))
}

/// `GET path` of `host` without the help of any table but the static one (RFC 7541 appendix A).
fn block(path: &str, host: &str) -> Vec<u8> {
    // `:method: GET`, `:scheme: http`.
    let mut block = vec![0x82, 0x86];
    // `:path` and `:authority`, neither of which is to be remembered.
    for (name, value) in [(0x04, path), (0x01, host)] {
        block.extend_from_slice(&[name, value.len() as u8]);
        block.extend_from_slice(value.as_bytes());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_off_when_it_is_whole() {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, DATA, END_STREAM, 7, b"body");
        push_frame(&mut bytes, PING, 0, 0, &[0; 8]);
        for len in 0..13 {
            assert!(split_frame(&bytes[..len]).is_none(), "{len}");
        }
        let (frame, rest) = split_frame(&bytes).expect("is whole");
        assert_eq!(
            (frame.kind, frame.stream, frame.payload),
            (DATA, 7, &b"body"[..])
        );
        assert_eq!(rest.len(), 17);
    }
}
