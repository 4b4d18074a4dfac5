//! The floor: a relay on a bare io_uring ring that does only what cannot be left out.
//!
//! It finds the end of each head and the length of each answer, and passes the received buffers on
//! as they are. It has no policy, no limits, no timeouts, and knows neither request bodies nor
//! pipelining nor chunked answers: a connection that needs them is ended.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};

use io_uring::{IoUring, cqueue, opcode, squeue, types::Fd};

use crate::provided::ProvidedBuffers;
use crate::upstream::header;

const RING_ENTRIES: u32 = 4096;
const COMPLETION_ENTRIES: u32 = 16_384;
/// Memory of all receive buffers together.
const BUFFERS_BYTES: usize = 16 * 1024 * 1024;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;

/// Relays until the process is ended. `buffer_bytes` is the size of one receive buffer.
pub fn serve(address: SocketAddr, upstream: SocketAddr, buffer_bytes: usize) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let ring = IoUring::builder()
        .setup_single_issuer()
        .setup_coop_taskrun()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_cqsize(COMPLETION_ENTRIES)
        .build(RING_ENTRIES)?;
    let count = (BUFFERS_BYTES / buffer_bytes.max(1024))
        .next_power_of_two()
        .clamp(64, 1024) as u16;
    let mut relay = Relay {
        buffers: ProvidedBuffers::register(&ring, count, buffer_bytes)?,
        ring,
        upstream,
        connections: Vec::new(),
        unused: Vec::new(),
        pool: Vec::new(),
        starved: Vec::new(),
    };
    relay.submit(
        opcode::AcceptMulti::new(Fd(listener.as_raw_fd()))
            .build()
            .user_data(ACCEPT),
    )?;
    let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(COMPLETION_ENTRIES as usize);
    loop {
        match relay.ring.submit_and_wait(1) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        completions.extend(relay.ring.completion());
        for completion in completions.drain(..) {
            let index = (completion.user_data() >> 8) as usize;
            match completion.user_data() & 0xff {
                ACCEPT => relay.accepted(&completion, &listener)?,
                RECEIVE => relay.received(index, &completion)?,
                _ => relay.sent(index, completion.result())?,
            }
        }
        for index in std::mem::take(&mut relay.starved) {
            relay.receive(index)?;
        }
    }
}

enum Piece {
    /// Part of a provided buffer: its id, where it starts, how long it is.
    Provided(u16, u32, u32),
    /// Bytes that had to be put together, from an offset.
    Own(Vec<u8>, u32),
}

struct Connection {
    stream: TcpStream,
    is_upstream: bool,
    /// The other side while a request is on its way.
    partner: Option<usize>,
    outgoing: VecDeque<Piece>,
    sending: bool,
    receiving: bool,
    /// A head whose end has not arrived.
    partial: Vec<u8>,
    /// Bytes of the answer's body still to come; `None` while its head is awaited.
    remaining: Option<usize>,
    /// The downstream connection ends with this answer.
    close: bool,
    /// Nothing more is wanted from it; it goes when the kernel has let go of it.
    ended: bool,
}

struct Relay {
    // Declared first, so dropped first: the buffers must outlive it.
    ring: IoUring,
    buffers: ProvidedBuffers,
    upstream: SocketAddr,
    connections: Vec<Option<Connection>>,
    unused: Vec<usize>,
    /// Upstream connections without a request.
    pool: Vec<usize>,
    /// Connections whose receive ended because no buffer was free.
    starved: Vec<usize>,
}

impl Relay {
    fn submit(&mut self, entry: squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: every entry names a socket of `connections` (or the listener), which stays
            // open until its operations have completed, and bytes of a provided buffer or of the
            // front piece of `outgoing`, which both stay in place until the send has completed.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn add(&mut self, stream: TcpStream, is_upstream: bool) -> io::Result<usize> {
        stream.set_nodelay(true)?;
        let connection = Connection {
            stream,
            is_upstream,
            partner: None,
            outgoing: VecDeque::new(),
            sending: false,
            receiving: false,
            partial: Vec::new(),
            remaining: None,
            close: false,
            ended: false,
        };
        let index = self.unused.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[index] = Some(connection);
        self.receive(index)?;
        Ok(index)
    }

    fn accepted(&mut self, completion: &cqueue::Entry, listener: &TcpListener) -> io::Result<()> {
        if !cqueue::more(completion.flags()) {
            let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).build();
            self.submit(accept.user_data(ACCEPT))?;
        }
        if completion.result() >= 0 {
            // SAFETY: the kernel has just opened this descriptor for us, and we alone know it.
            let stream = unsafe { TcpStream::from_raw_fd(completion.result()) };
            self.add(stream, false)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = self.connections[index].as_mut() else {
            return Ok(());
        };
        if connection.ended {
            return Ok(());
        }
        connection.receiving = true;
        let fd = Fd(connection.stream.as_raw_fd());
        let entry = opcode::RecvMulti::new(fd, ProvidedBuffers::GROUP).build();
        self.submit(entry.user_data((index as u64) << 8 | RECEIVE))
    }

    fn received(&mut self, index: usize, completion: &cqueue::Entry) -> io::Result<()> {
        let buffer = cqueue::buffer_select(completion.flags());
        let Some(connection) = self.connections[index].as_mut() else {
            return Ok(());
        };
        connection.receiving = cqueue::more(completion.flags());
        let rearm = !connection.receiving;
        let wanted = !connection.ended;
        let is_upstream = connection.is_upstream;
        match (completion.result(), buffer) {
            (length @ 1.., Some(buffer)) if wanted => {
                if rearm {
                    self.receive(index)?;
                }
                let length = length as usize;
                let forwarded = if is_upstream {
                    self.answer(index, buffer, length)?
                } else {
                    self.request(index, buffer, length)?
                };
                if !forwarded {
                    self.buffers.give_back(buffer);
                }
                return Ok(());
            }
            (result, _) if result == -libc::ENOBUFS && wanted => {
                self.starved.push(index);
                return Ok(());
            }
            (_, Some(buffer)) => self.buffers.give_back(buffer),
            _ => {}
        }
        self.end(index);
        Ok(())
    }

    /// Takes request bytes; true when the buffer itself was passed on.
    fn request(&mut self, index: usize, buffer: u16, length: usize) -> io::Result<bool> {
        let Some(connection) = self.connections[index].as_mut() else {
            return Ok(false);
        };
        let bytes = &self.buffers.bytes(buffer)[..length];
        let whole = connection.partial.is_empty();
        if !whole {
            connection.partial.extend_from_slice(bytes);
        }
        let head = if whole {
            bytes
        } else {
            &connection.partial[..]
        };
        let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
            if whole {
                connection.partial.extend_from_slice(bytes);
            }
            return Ok(false);
        };
        if end + 4 != head.len() || connection.partner.is_some() {
            self.end(index);
            return Ok(false);
        }
        let close = header(&head[..end + 2], b"connection");
        connection.close = close.is_some_and(|value| value.eq_ignore_ascii_case(b"close"));
        let piece = match close {
            Some(value) => Piece::Own(without_line_of(head, value), 0),
            None if whole => Piece::Provided(buffer, 0, length as u32),
            None => Piece::Own(head.to_vec(), 0),
        };
        connection.partial.clear();
        let forwarded = matches!(piece, Piece::Provided(..));
        let upstream = match self.pool.pop() {
            Some(upstream) => upstream,
            None => self.add(TcpStream::connect(self.upstream)?, true)?,
        };
        if let Some(connection) = self.connections[index].as_mut() {
            connection.partner = Some(upstream);
        }
        if let Some(connection) = self.connections[upstream].as_mut() {
            connection.partner = Some(index);
        }
        self.send(upstream, piece)?;
        Ok(forwarded)
    }

    /// Takes bytes of an answer; true when the buffer itself was passed on.
    fn answer(&mut self, index: usize, buffer: u16, length: usize) -> io::Result<bool> {
        let Some(connection) = self.connections[index].as_mut() else {
            return Ok(false);
        };
        let bytes = &self.buffers.bytes(buffer)[..length];
        let Some(partner) = connection.partner else {
            self.end(index);
            return Ok(false);
        };
        let whole = connection.partial.is_empty();
        let mut piece = Piece::Provided(buffer, 0, length as u32);
        let body = if let Some(remaining) = connection.remaining {
            remaining.checked_sub(length)
        } else {
            if !whole {
                connection.partial.extend_from_slice(bytes);
            }
            let head = if whole {
                bytes
            } else {
                &connection.partial[..]
            };
            let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
                if whole {
                    connection.partial.extend_from_slice(bytes);
                }
                return Ok(false);
            };
            let content_length = header(&head[..end + 2], b"content-length")
                .and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
            let body = content_length.and_then(|length| (length + end + 4).checked_sub(head.len()));
            if !whole {
                piece = Piece::Own(std::mem::take(&mut connection.partial), 0);
            }
            body
        };
        let Some(remaining) = body else {
            self.end(index);
            return Ok(false);
        };
        connection.remaining = (remaining > 0).then_some(remaining);
        if remaining == 0 {
            connection.partner = None;
            self.pool.push(index);
            if let Some(downstream) = self.connections[partner].as_mut() {
                downstream.partner = None;
            }
        }
        let forwarded = matches!(piece, Piece::Provided(..));
        self.send(partner, piece)?;
        Ok(forwarded)
    }

    fn send(&mut self, index: usize, piece: Piece) -> io::Result<()> {
        let Some(connection) = self.connections[index].as_mut() else {
            return Ok(());
        };
        connection.outgoing.push_back(piece);
        if connection.sending {
            Ok(())
        } else {
            self.send_front(index)
        }
    }

    fn send_front(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = self.connections[index].as_mut() else {
            return Ok(());
        };
        let bytes = match connection.outgoing.front() {
            Some(Piece::Provided(buffer, start, length)) => {
                &self.buffers.bytes(*buffer)[*start as usize..(*start + *length) as usize]
            }
            Some(Piece::Own(bytes, start)) => &bytes[*start as usize..],
            None => return Ok(()),
        };
        connection.sending = true;
        let fd = Fd(connection.stream.as_raw_fd());
        let entry = opcode::Send::new(fd, bytes.as_ptr(), bytes.len() as u32)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build()
            .user_data((index as u64) << 8 | SEND);
        self.submit(entry)
    }

    fn sent(&mut self, index: usize, result: i32) -> io::Result<()> {
        let Some(connection) = self.connections[index].as_mut() else {
            return Ok(());
        };
        connection.sending = false;
        if result < 0 || connection.ended {
            self.end(index);
            return Ok(());
        }
        let sent = result as u32;
        match connection.outgoing.front_mut() {
            Some(Piece::Provided(_, start, length)) if sent < *length => {
                *start += sent;
                *length -= sent;
            }
            Some(Piece::Own(bytes, start)) if ((*start + sent) as usize) < bytes.len() => {
                *start += sent;
            }
            _ => {
                if let Some(Piece::Provided(buffer, ..)) = connection.outgoing.pop_front() {
                    self.buffers.give_back(buffer);
                }
            }
        }
        if connection.outgoing.is_empty() {
            if connection.close && connection.partner.is_none() {
                self.end(index);
            }
            return Ok(());
        }
        self.send_front(index)
    }

    /// Ends a connection and what depends on it; frees it once no operation names it.
    fn end(&mut self, index: usize) {
        let Some(connection) = self.connections[index].as_mut() else {
            return;
        };
        let first = !std::mem::replace(&mut connection.ended, true);
        let partner = connection.partner.take();
        if first {
            // A failure means that the other side has ended it already.
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        if !connection.sending && !connection.receiving {
            for piece in std::mem::take(&mut connection.outgoing) {
                if let Piece::Provided(buffer, ..) = piece {
                    self.buffers.give_back(buffer);
                }
            }
            self.connections[index] = None;
            self.unused.push(index);
        }
        if first {
            self.pool.retain(|pooled| *pooled != index);
            self.starved.retain(|starved| *starved != index);
        }
        if let Some(partner) = partner {
            self.end(partner);
        }
    }
}

/// `head` without the line that holds `value`, which is a part of it.
fn without_line_of(head: &[u8], value: &[u8]) -> Vec<u8> {
    let at = value.as_ptr() as usize - head.as_ptr() as usize;
    let start = memchr::memrchr(b'\n', &head[..at]).map_or(0, |end| end + 1);
    let end = memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |end| at + end + 1);
    [&head[..start], &head[end..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_line_is_taken_out_and_nothing_else() {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nx: y\r\n\r\n";
        let value = header(&head[..head.len() - 2], b"connection").expect("present");
        assert_eq!(
            without_line_of(head, value),
            b"GET / HTTP/1.1\r\nHost: a\r\nx: y\r\n\r\n"
        );
    }
}
