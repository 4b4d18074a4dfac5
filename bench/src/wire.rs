//! What carries the bytes of the load: a socket, or TLS over one.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup,
    SignatureScheme,
};

use crate::peers::HOST;

/// The tickets of a run, as many as come: the store of rustls keeps eight, fewer than there are
/// connections at a time.
#[derive(Debug, Default)]
struct Tickets(Mutex<VecDeque<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        if let Ok(mut tickets) = self.0.lock() {
            tickets.push_back(ticket);
        }
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().ok()?.pop_front()
    }
}

/// What clients speak below HTTP.
#[derive(Clone, Debug, Default)]
pub enum Security {
    #[default]
    Plain,
    /// TLS 1.3.
    Tls(Arc<ClientConfig>),
}

impl Security {
    /// TLS whose sessions are taken up again, or not.
    pub fn tls(resumes: bool) -> io::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified))
            .with_no_client_auth();
        config.resumption = match resumes {
            true => Resumption::store(Arc::new(Tickets::default())),
            false => Resumption::disabled(),
        };
        Ok(Self::Tls(Arc::new(config)))
    }

    /// What is spoken over `socket`, which may be blocking or not.
    pub fn over(&self, socket: TcpStream) -> io::Result<Wire> {
        match self {
            Self::Plain => Ok(Wire::Plain(socket)),
            Self::Tls(config) => {
                let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
                let session = ClientConnection::new(Arc::clone(config), name);
                Ok(Wire::Tls(Box::new(TlsWire {
                    socket,
                    session: session.map_err(io::Error::other)?,
                    is_queued: false,
                })))
            }
        }
    }
}

/// A client's connection.
pub enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsWire>),
}

/// TLS over a socket. Its handshake goes on with what is read and written.
pub struct TlsWire {
    socket: TcpStream,
    session: ClientConnection,
    /// What is being written is with the session, and not yet with the kernel.
    is_queued: bool,
}

impl Wire {
    /// Whether its session was taken up again; `None` without TLS.
    pub fn is_resumed(&self) -> Option<bool> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => Some(tls.session.handshake_kind() == Some(HandshakeKind::Resumed)),
        }
    }

    /// Whether a read of `received` bytes into a buffer of `capacity` may have left some.
    pub fn may_have_more(&self, received: usize, capacity: usize) -> bool {
        match self {
            Self::Plain(_) => received == capacity,
            // Records are read one after the other.
            Self::Tls(_) => true,
        }
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Plain(socket) => socket.as_raw_fd(),
            Self::Tls(tls) => tls.socket.as_raw_fd(),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }
}

impl Write for Wire {
    /// All of `bytes`, or `WouldBlock`: then the same bytes have to be given again.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsWire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Some close without their goodbye.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            self.session.read_tls(&mut self.socket)?;
            let processed = self.session.process_new_packets();
            self.send()?;
            processed.map_err(io::Error::other)?;
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_queued {
            self.session.writer().write_all(bytes)?;
            self.is_queued = true;
        }
        self.send()?;
        self.is_queued = false;
        Ok(bytes.len())
    }

    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }
}

/// The proxies' certificates are made by the bench, and checking them would cost the load alone.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::RSA_PSS_SHA256,
        ]
    }
}
