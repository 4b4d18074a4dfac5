//! TLS over a socket: rustls over bytes in memory.

use crate::rt::{Buffer, Chunk, Idle, Send, Stream};
use rustls::pki_types::CertificateDer;
use std::cell::{Cell, RefCell};
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::ops::DerefMut;
use std::task::{Context, Poll, Waker};

/// An encrypted connection.
pub struct TlsStream {
    socket: Stream,
    session: RefCell<rustls::Connection>,
    /// Decrypted and not taken yet.
    plain: RefCell<Chunk>,
    /// The peer has said that nothing more comes.
    is_closed: Cell<bool>,
    failure: Cell<Option<io::ErrorKind>>,
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
        session: impl Into<rustls::Connection>,
        unread: Chunk,
    ) -> Result<Self, HandshakeError> {
        let mut session = session.into();
        // What is sent leaves at once, in records of its own.
        session.set_buffer_limit(None);
        let stream = Self {
            socket,
            session: RefCell::new(session),
            plain: RefCell::default(),
            is_closed: Cell::new(false),
            failure: Cell::new(None),
        };
        let mut received = unread;
        loop {
            let taken = stream.take_records(&received);
            stream
                .send_records()
                .await
                .map_err(HandshakeError::Socket)?;
            taken.map_err(HandshakeError::Tls)?;
            if !stream.session.borrow().is_handshaking() {
                return Ok(stream);
            }
            received = stream
                .socket
                .receive()
                .await
                .map_err(HandshakeError::Socket)?;
            if received.is_empty() {
                let cut = io::ErrorKind::UnexpectedEof;
                return Err(HandshakeError::Socket(cut.into()));
            }
        }
    }

    /// The protocol that ALPN has chosen.
    pub fn application_protocol(&self) -> Option<Vec<u8>> {
        self.session.borrow().alpn_protocol().map(<[u8]>::to_vec)
    }

    /// The peer's verified certificates, its own first.
    pub fn peer_certificates(&self) -> Option<Vec<CertificateDer<'static>>> {
        let session = self.session.borrow();
        let certificates = session.peer_certificates()?;
        Some(
            certificates
                .iter()
                .cloned()
                .map(CertificateDer::into_owned)
                .collect(),
        )
    }

    /// The next decrypted bytes; an empty chunk when the peer has ended its side.
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
        loop {
            if !self.plain.borrow().is_empty() {
                return Poll::Ready(Ok(self.plain.take()));
            }
            if let Some(kind) = self.failure.get() {
                return Poll::Ready(Err(kind.into()));
            }
            if self.is_closed.get() {
                return Poll::Ready(Ok(Chunk::default()));
            }
            let received = match poll(&self.socket, context) {
                Poll::Ready(Ok(received)) => received,
                Poll::Ready(Err(error)) => {
                    self.failure.set(Some(error.kind()));
                    continue;
                }
                Poll::Pending => return Poll::Pending,
            };
            if received.is_empty() {
                // Without its goodbye the end may be somebody else's doing (RFC 8446 section 6.1).
                self.failure.set(Some(io::ErrorKind::UnexpectedEof));
                continue;
            }
            if self.take_records(&received).is_err() {
                self.failure.set(Some(io::ErrorKind::InvalidData));
            }
            // Answers to the peer's requests for new keys, and alerts.
            if self.session.borrow().wants_write() {
                let records = self.records();
                self.socket.send_detached(records, Chunk::default());
            }
        }
    }

    /// As of a socket: more bytes than a part of a record may be needed all the same.
    pub fn poll_ready(&self, context: &mut Context<'_>) -> Poll<()> {
        let is_known =
            !self.plain.borrow().is_empty() || self.is_closed.get() || self.failure.get().is_some();
        match is_known {
            true => Poll::Ready(()),
            false => self.socket.poll_ready(context),
        }
    }

    /// What the peer has done; its session tickets and the like are nothing.
    pub fn peek_state(&self) -> Idle {
        if self.plain.borrow().is_empty() && self.socket.peek_state() != Idle::Quiet {
            let context = &mut Context::from_waker(Waker::noop());
            match self.poll_receive(context) {
                Poll::Ready(Ok(plain)) if !plain.is_empty() => *self.plain.borrow_mut() = plain,
                Poll::Ready(_) => return Idle::Closed,
                Poll::Pending => {}
            }
        }
        if !self.plain.borrow().is_empty() {
            return Idle::Bytes;
        }
        match self.is_closed.get() || self.failure.get().is_some() {
            true => Idle::Closed,
            false => Idle::Quiet,
        }
    }

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
    pub async fn flushed(&self) -> io::Result<()> {
        self.socket.flushed().await
    }

    /// Tells the peer that nothing more comes.
    pub fn say_goodbye(&self) {
        self.session.borrow_mut().send_close_notify();
        let records = self.records();
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

    pub fn confirmed_bytes(&self) -> Option<u64> {
        self.socket.confirmed_bytes()
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn encrypt(&self, head: &[u8], body: &[u8]) -> Buffer {
        {
            let mut session = self.session.borrow_mut();
            let mut writer = session.writer();
            // There is no limit on what it takes.
            let _ = writer.write_all(head);
            let _ = writer.write_all(body);
        }
        self.records()
    }

    /// The records that wait to be sent.
    fn records(&self) -> Buffer {
        let mut out = Buffer::lease();
        let mut session = self.session.borrow_mut();
        while session.wants_write() {
            // Writing to a vector cannot fail.
            let _ = session.write_tls(out.deref_mut());
        }
        out
    }

    async fn send_records(&self) -> io::Result<()> {
        let records = self.records();
        match records.is_empty() {
            true => Ok(()),
            false => self.socket.send(records, Chunk::default()).await,
        }
    }

    /// Decrypts whole records; the rest of one stays with the session.
    fn take_records(&self, mut received: &[u8]) -> Result<(), rustls::Error> {
        let mut session = self.session.borrow_mut();
        let mut decrypted = Vec::new();
        while !received.is_empty() {
            // Reading from a slice fails only for want of room, and there is room after each
            // `process_new_packets`.
            let read = session.read_tls(&mut received);
            let state = session.process_new_packets()?;
            let mut reader = session.reader();
            while state.plaintext_bytes_to_read() > 0 {
                let Ok(bytes) = reader.fill_buf() else { break };
                let len = bytes.len();
                if len == 0 {
                    break;
                }
                decrypted.extend_from_slice(bytes);
                reader.consume(len);
            }
            if state.peer_has_closed() {
                self.is_closed.set(true);
            }
            if !matches!(read, Ok(1..)) {
                break;
            }
        }
        if !decrypted.is_empty() {
            let mut plain = self.plain.borrow_mut();
            *plain = match plain.is_empty() {
                true => Chunk::from_vec(decrypted),
                false => Chunk::from_vec([&**plain, &decrypted].concat()),
            };
        }
        Ok(())
    }
}
