//! The upstream of every run: a single-threaded epoll server that answers as cheaply as it can.
//!
//! It knows the paths of [`Payload`], keeps connections alive, answers pipelined requests in
//! order, and counts what it served: `GET /served` tells the number of requests and how many
//! carried a request id (`x-bench-id`) that was seen before.

use std::collections::{HashSet, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use memchr::memmem;

use crate::payload::Payload;
use crate::sys::{ENDED, Epoll, NO_EVENT, READABLE, WRITABLE};

/// The header that carries a request's own number when requests are counted one by one.
pub const ID_HEADER: &str = "x-bench-id";

const LISTENER: u64 = u64::MAX;
const RECEIVE_BYTES: usize = 64 * 1024;
/// A request head longer than this is not one of ours: the connection is closed.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Serves until the process is ended.
pub fn serve(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let mut server = Server {
        epoll: Epoll::new()?,
        connections: Vec::new(),
        free: Vec::new(),
        answers: Payload::ALL.map(answer),
        served: Served::default(),
    };
    server.epoll.add(&listener, READABLE, LISTENER)?;
    let mut events = vec![NO_EVENT; 512];
    let mut scratch = vec![0_u8; RECEIVE_BYTES];
    loop {
        let count = server.epoll.wait(&mut events, None)?;
        for event in &events[..count] {
            match event.u64 {
                LISTENER => server.accept(&listener)?,
                token => server.progress(token as usize, event.events, &mut scratch),
            }
        }
    }
}

/// Head and body of one answer in one piece.
fn answer(payload: Payload) -> Vec<u8> {
    with_head("text/plain", &payload.body())
}

fn with_head(content_type: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

#[derive(Default)]
struct Served {
    requests: u64,
    doubled: u64,
    ids: HashSet<u64>,
}

impl Served {
    fn count(&mut self, head: &[u8]) {
        self.requests += 1;
        let id = header(head, ID_HEADER.as_bytes())
            .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
        if id.is_some_and(|id| !self.ids.insert(id)) {
            self.doubled += 1;
        }
    }

    fn report(&self) -> Vec<u8> {
        let body = serde_json::json!({
            "requests": self.requests, "ids": self.ids.len(), "doubled": self.doubled,
        });
        with_head("application/json", body.to_string().as_bytes())
    }
}

/// What a connection still has to send.
enum Outgoing {
    /// One of the fixed answers, from an offset.
    Fixed(usize, usize),
    /// An answer of its own, from an offset.
    Own(Vec<u8>, usize),
}

struct Connection {
    stream: TcpStream,
    /// The start of a head whose end has not arrived.
    partial: Vec<u8>,
    outgoing: VecDeque<Outgoing>,
    /// Close once all is sent.
    closing: bool,
    waits_for_room: bool,
}

struct Server {
    epoll: Epoll,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    answers: [Vec<u8>; 3],
    served: Served,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.epoll.add(&stream, READABLE, index as u64)?;
            self.connections[index] = Some(Connection {
                stream,
                partial: Vec::new(),
                outgoing: VecDeque::new(),
                closing: false,
                waits_for_room: false,
            });
        }
    }

    /// Serves one ready connection; it is put back unless it ended.
    fn progress(&mut self, index: usize, events: u32, scratch: &mut [u8]) {
        let Some(mut connection) = self.connections[index].take() else {
            return;
        };
        let kept = (|| {
            if events & !WRITABLE != 0 && !connection.waits_for_room {
                let ended = events & ENDED != 0;
                while self.receive(&mut connection, ended, scratch)? {
                    self.flush(&mut connection)?;
                }
            }
            self.flush(&mut connection)?;
            let done = connection.closing && connection.outgoing.is_empty();
            if done {
                return Err(ErrorKind::ConnectionAborted.into());
            }
            let waits = !connection.outgoing.is_empty();
            if waits != connection.waits_for_room {
                connection.waits_for_room = waits;
                let interest = if waits { WRITABLE } else { READABLE };
                self.epoll
                    .modify(&connection.stream, interest, index as u64)?;
            }
            io::Result::Ok(())
        })();
        match kept {
            Ok(()) => self.connections[index] = Some(connection),
            Err(_) => self.free.push(index),
        }
    }

    /// Reads once and queues answers; whether there may be more to read.
    fn receive(
        &mut self,
        connection: &mut Connection,
        ended: bool,
        scratch: &mut [u8],
    ) -> io::Result<bool> {
        let received = match connection.stream.read(scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        if connection.partial.is_empty() {
            let rest = self.answer_all(connection, &scratch[..received])?;
            connection
                .partial
                .extend_from_slice(&scratch[rest..received]);
        } else {
            let mut input = std::mem::take(&mut connection.partial);
            input.extend_from_slice(&scratch[..received]);
            let rest = self.answer_all(connection, &input)?;
            input.drain(..rest);
            connection.partial = input;
        }
        if connection.partial.len() > MAX_HEAD_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok(ended || received == scratch.len())
    }

    /// Queues an answer for each whole head in `input`; returns where the first unfinished starts.
    fn answer_all(&mut self, connection: &mut Connection, input: &[u8]) -> io::Result<usize> {
        let mut start = 0;
        while let Some(length) = memmem::find(&input[start..], b"\r\n\r\n") {
            let head = &input[start..start + length + 2];
            start += length + 4;
            let outgoing = match path(head) {
                Some(b"/128") => Outgoing::Fixed(0, 0),
                Some(b"/16k") => Outgoing::Fixed(1, 0),
                Some(b"/1m") => Outgoing::Fixed(2, 0),
                Some(b"/served") => Outgoing::Own(self.served.report(), 0),
                _ => return Err(ErrorKind::InvalidData.into()),
            };
            if matches!(outgoing, Outgoing::Fixed(..)) {
                self.served.count(head);
            }
            connection.outgoing.push_back(outgoing);
            connection.closing |= header(head, b"connection")
                .is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        }
        Ok(start)
    }

    fn flush(&mut self, connection: &mut Connection) -> io::Result<()> {
        while let Some(outgoing) = connection.outgoing.front_mut() {
            let (bytes, sent) = match outgoing {
                Outgoing::Fixed(answer, sent) => (&self.answers[*answer][..], sent),
                Outgoing::Own(bytes, sent) => (&bytes[..], sent),
            };
            match connection.stream.write(&bytes[*sent..]) {
                Ok(written) => *sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if *sent == bytes.len() {
                connection.outgoing.pop_front();
            }
        }
        Ok(())
    }
}

/// The path of a request line `METHOD PATH VERSION`.
fn path(head: &[u8]) -> Option<&[u8]> {
    let start = memchr::memchr(b' ', head)? + 1;
    let length = memchr::memchr(b' ', &head[start..])?;
    Some(&head[start..start + length])
}

/// The value of the first header of that name; `head` ends with the last line's `\r\n`.
pub fn header<'h>(head: &'h [u8], name: &[u8]) -> Option<&'h [u8]> {
    let mut rest = head;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        if line.len() > name.len()
            && line[name.len()] == b':'
            && line[..name.len()].eq_ignore_ascii_case(name)
        {
            return Some(line[name.len() + 1..].trim_ascii());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_found_whatever_its_case_and_place() {
        let head = b"GET /128 HTTP/1.1\r\nHost: a\r\nX-Bench-Id:  7 \r\n";
        assert_eq!(header(head, b"x-bench-id"), Some(&b"7"[..]));
        assert_eq!(header(head, b"host"), Some(&b"a"[..]));
        assert_eq!(header(head, b"hos"), None);
        assert_eq!(path(head), Some(&b"/128"[..]));
    }

    #[test]
    fn an_id_seen_twice_is_counted_as_doubled() {
        let mut served = Served::default();
        for id in ["1", "2", "1"] {
            served.count(format!("GET /128 HTTP/1.1\r\nx-bench-id: {id}\r\n").as_bytes());
        }
        served.count(b"GET /128 HTTP/1.1\r\n");
        assert_eq!(
            (served.requests, served.doubled, served.ids.len()),
            (4, 1, 2)
        );
    }
}
