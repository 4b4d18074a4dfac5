//! TLS over a socket.

use super::tls_handshake::{Handshake, Terms, Unsecured};
use super::tls_records::{Broken, HEADER_BYTES, Opened, Records, record_len};
use crate::rt::{Buffer, Chunk, Idle, Send, Stream};
use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::task::{Context, Poll, Waker};

/// An encrypted connection.
pub struct TlsStream {
    socket: Stream,
    session: RefCell<Session>,
}

struct Session {
    records: Records,
    /// Decrypted and not taken yet.
    plain: Chunk,
    /// What was received after that, and not looked at yet.
    received: Chunk,
    /// The beginning of a record. Only while the rest is on its way.
    partial: Vec<u8>,
    end: Option<End>,
}

/// How receiving has ended.
#[derive(Clone, Copy)]
enum End {
    /// The peer has said that nothing more comes.
    Closed,
    Failed(io::ErrorKind),
}

/// Why there is no encrypted connection.
#[derive(Debug)]
pub enum HandshakeError {
    /// The connection ended or broke.
    Socket(io::Error),
    /// The peers did not come to terms; an alert has told the peer.
    Tls(rustls::Error),
}

impl TlsStream {
    /// Does the handshake; `unread` is what was received already.
    ///
    /// # Errors
    /// See [`HandshakeError`].
    pub async fn handshake(
        socket: Stream,
        session: impl Into<Unsecured>,
        unread: Chunk,
    ) -> Result<(Self, Terms), HandshakeError> {
        let mut handshake = Box::new(Handshake::new(session.into()));
        let mut received = unread;
        loop {
            let mut out = Buffer::lease();
            let is_done = handshake.advance(&received, &mut out);
            drop(received);
            if !out.is_empty() {
                let sent = socket.send(out, Chunk::default()).await;
                sent.map_err(HandshakeError::Socket)?;
            }
            if is_done.map_err(HandshakeError::Tls)? {
                break;
            }
            received = socket.receive().await.map_err(HandshakeError::Socket)?;
            if received.is_empty() {
                let cut = io::ErrorKind::UnexpectedEof;
                return Err(HandshakeError::Socket(cut.into()));
            }
        }
        let (records, terms, rest) = handshake.finish().map_err(HandshakeError::Tls)?;
        let stream = Self {
            socket,
            session: RefCell::new(Session::new(records, rest)),
        };
        Ok((stream, terms))
    }

    /// The next decrypted bytes; an empty chunk when the peer has ended its side.
    #[inline]
    pub fn poll_receive(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.receive_with(context, |socket, context| socket.poll_receive(context))
    }

    /// The same, in large pieces.
    pub fn poll_receive_bulk(&self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.receive_with(context, |socket, context| socket.poll_receive_bulk(context))
    }

    fn receive_with(
        &self,
        context: &mut Context<'_>,
        poll: impl Fn(&Stream, &mut Context<'_>) -> Poll<io::Result<Chunk>>,
    ) -> Poll<io::Result<Chunk>> {
        let mut session = self.session.borrow_mut();
        loop {
            if !session.plain.is_empty() {
                return Poll::Ready(Ok(std::mem::take(&mut session.plain)));
            }
            match session.end {
                Some(End::Closed) => return Poll::Ready(Ok(Chunk::default())),
                Some(End::Failed(kind)) => return Poll::Ready(Err(kind.into())),
                None => {}
            }
            if session.received.is_empty() {
                session.received = match poll(&self.socket, context) {
                    Poll::Ready(Ok(received)) if !received.is_empty() => received,
                    // Without its goodbye the end may be somebody else's doing (RFC 8446
                    // section 6.1).
                    Poll::Ready(Ok(_)) => {
                        session.end = Some(End::Failed(io::ErrorKind::UnexpectedEof));
                        continue;
                    }
                    Poll::Ready(Err(error)) => {
                        session.end = Some(End::Failed(error.kind()));
                        continue;
                    }
                    Poll::Pending => return Poll::Pending,
                };
            }
            if session.decrypt() == Decrypted::MustAnswer {
                let mut out = Buffer::lease();
                session.records.take_answer(&mut out);
                if !out.is_empty() {
                    self.socket.send_detached(out, Chunk::default());
                }
            }
        }
    }

    /// As of a socket: more bytes than a part of a record may be needed all the same.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.session.borrow().has_news() {
            true => Poll::Ready(()),
            false => self.socket.poll_ready(context),
        }
    }

    /// What the peer has done; its session tickets and the like are nothing.
    pub fn peek_state(&self) -> Idle {
        if self.session.borrow().has_news() || self.socket.peek_state() != Idle::Quiet {
            let context = &mut Context::from_waker(Waker::noop());
            match self.poll_receive(context) {
                Poll::Ready(Ok(plain)) if !plain.is_empty() => {
                    self.session.borrow_mut().plain = plain;
                    return Idle::Bytes;
                }
                Poll::Ready(_) => return Idle::Closed,
                Poll::Pending => {}
            }
        }
        Idle::Quiet
    }

    #[inline]
    pub fn send(&self, head: &[u8], body: &[u8]) -> Send {
        self.socket.send(self.encrypt(head, body), Chunk::default())
    }

    pub fn send_detached(&self, head: &[u8], body: &[u8]) {
        let records = self.encrypt(head, body);
        self.socket.send_detached(records, Chunk::default());
    }

    /// Waits until the kernel has taken all.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn poll_flushed(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_flushed(context)
    }

    /// Tells the peer that nothing more comes.
    pub fn say_goodbye(&self) {
        let mut records = Buffer::lease();
        self.session.borrow_mut().records.say_goodbye(&mut records);
        if !records.is_empty() {
            self.socket.send_detached(records, Chunk::default());
        }
    }

    pub fn set_keepalive(
        &self,
        probes: Option<u32>,
        idle_s: Option<u32>,
        interval_s: Option<u32>,
    ) -> io::Result<()> {
        self.socket.set_keepalive(probes, idle_s, interval_s)
    }

    pub fn reset_on_close(&self) {
        self.socket.reset_on_close();
    }

    pub fn is_over(&self) -> bool {
        self.socket.is_over()
    }

    pub fn is_left(&self) -> bool {
        self.socket.is_left()
    }

    pub fn confirmed_bytes(&self) -> Option<u64> {
        self.socket.confirmed_bytes()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn encrypt(&self, head: &[u8], body: &[u8]) -> Buffer {
        let mut out = Buffer::lease();
        let mut session = self.session.borrow_mut();
        if session.records.seal(head, body, &mut out).is_err() {
            session.end = Some(End::Failed(io::ErrorKind::BrokenPipe));
        }
        out
    }
}

#[derive(PartialEq, Eq)]
enum Decrypted {
    Done,
    /// The records have something to be sent.
    MustAnswer,
}

impl Session {
    fn new(records: Records, received: Vec<u8>) -> Self {
        Self {
            records,
            plain: Chunk::default(),
            received: Chunk::from_vec(received),
            partial: Vec::new(),
            end: None,
        }
    }

    fn has_news(&self) -> bool {
        !self.plain.is_empty() || !self.received.is_empty() || self.end.is_some()
    }

    /// Decrypts what was received, as far as it is whole records. Of the rest of a record that
    /// began earlier it takes that record alone.
    fn decrypt(&mut self) -> Decrypted {
        if !self.partial.is_empty() {
            return self.complete();
        }
        let mut received = std::mem::take(&mut self.received);
        let bytes = match received.exclusive() {
            Some(bytes) => bytes,
            None => {
                received = Chunk::copy_of(&received);
                received.exclusive().unwrap_or_default()
            }
        };
        let mut decrypted = Decrypted::Done;
        let mut data: Range<usize> = 0..0;
        let mut at = 0;
        let outcome = loop {
            let end = match record_len(&bytes[at..]) {
                Ok(Some(len)) if len <= bytes.len() - at => at + len,
                Ok(len) => break self.keep(&bytes[at..], len),
                Err(broken) => break Err(broken),
            };
            match self.records.open(&mut bytes[at..end]) {
                Ok(Opened::Data(place)) => {
                    let place = at + place.start..at + place.end;
                    if data.is_empty() {
                        data = place;
                    } else {
                        let len = place.len();
                        bytes.copy_within(place, data.end);
                        data.end += len;
                    }
                }
                Ok(Opened::Nothing) => {}
                Ok(Opened::Answer) => decrypted = Decrypted::MustAnswer,
                Ok(Opened::End) => {
                    self.end = Some(End::Closed);
                    break Ok(());
                }
                Err(broken) => break Err(broken),
            }
            at = end;
        };
        if !data.is_empty() {
            received.truncate(data.end);
            received.advance(data.start);
            self.plain = received;
        }
        match outcome {
            Ok(()) => decrypted,
            Err(broken) => self.fail(broken),
        }
    }

    /// Goes on with the record that began earlier.
    fn complete(&mut self) -> Decrypted {
        loop {
            let wanted = match record_len(&self.partial) {
                Ok(len) => len.unwrap_or(HEADER_BYTES),
                Err(broken) => return self.fail(broken),
            };
            let missing = wanted - self.partial.len();
            if missing == 0 {
                break;
            }
            if self.received.is_empty() {
                return Decrypted::Done;
            }
            let more = self.received.split_to(missing.min(self.received.len()));
            self.partial.reserve_exact(missing);
            self.partial.extend_from_slice(&more);
        }
        let mut record = std::mem::take(&mut self.partial);
        match self.records.open(&mut record) {
            Ok(Opened::Data(place)) => {
                self.plain = Chunk::from_vec(record);
                self.plain.truncate(place.end);
                self.plain.advance(place.start);
            }
            Ok(Opened::Nothing) => {}
            Ok(Opened::Answer) => return Decrypted::MustAnswer,
            Ok(Opened::End) => {
                self.received = Chunk::default();
                self.end = Some(End::Closed);
            }
            Err(broken) => return self.fail(broken),
        }
        Decrypted::Done
    }

    /// Keeps the beginning of a record until the rest is there.
    fn keep(&mut self, beginning: &[u8], record_len: Option<usize>) -> Result<(), Broken> {
        if !beginning.is_empty() {
            let room = record_len.unwrap_or(HEADER_BYTES);
            self.partial = Vec::with_capacity(room);
            self.partial.extend_from_slice(beginning);
        }
        Ok(())
    }

    fn fail(&mut self, broken: Broken) -> Decrypted {
        self.received = Chunk::default();
        self.end = Some(End::Failed(io::ErrorKind::InvalidData));
        match broken {
            Broken::Here(why) => {
                self.records.complain(why);
                Decrypted::MustAnswer
            }
            Broken::There => Decrypted::Done,
        }
    }
}

#[cfg(test)]
mod tests;
