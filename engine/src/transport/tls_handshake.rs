//! Handshakes of TLS, as far as they are bytes in memory.

use super::tls_records::{Keys, Records, record_len};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::CertificateDer;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{CommonState, Error};

/// A connection that has not been secured yet. Its configuration has to allow that keys are handed
/// out (`enable_secret_extraction`).
pub enum Unsecured {
    Server(UnbufferedServerConnection),
    Client(UnbufferedClientConnection),
}

impl From<UnbufferedServerConnection> for Unsecured {
    fn from(session: UnbufferedServerConnection) -> Self {
        Self::Server(session)
    }
}

impl From<UnbufferedClientConnection> for Unsecured {
    fn from(session: UnbufferedClientConnection) -> Self {
        Self::Client(session)
    }
}

/// What the peers came to terms about.
pub struct Terms {
    /// The protocol that ALPN has chosen.
    pub protocol: Option<Vec<u8>>,
    /// The peer's verified certificates, its own first.
    pub certificates: Option<Vec<CertificateDer<'static>>>,
}

/// A handshake under way.
pub struct Handshake {
    session: Unsecured,
    /// Received, and not done with.
    incoming: Vec<u8>,
    /// How much of it rustls has been shown.
    shown: usize,
    /// How much of that is whole records.
    whole: usize,
}

enum Step {
    /// There may be more to do.
    Again,
    /// It goes on with more bytes, or is done.
    Rests,
}

impl Handshake {
    pub fn new(session: Unsecured) -> Self {
        Self {
            session,
            incoming: Vec::new(),
            shown: 0,
            whole: 0,
        }
    }

    /// Goes on with what was received; what is to be sent is appended to `out`, also when it fails.
    /// Tells whether the handshake is done.
    ///
    /// # Errors
    /// The peers do not come to terms.
    pub fn advance(&mut self, received: &[u8], out: &mut Vec<u8>) -> Result<bool, Error> {
        self.incoming.extend_from_slice(received);
        loop {
            match self.step(out) {
                Ok(Step::Again) => {}
                Ok(Step::Rests) if !self.common().is_handshaking() => return Ok(true),
                Ok(Step::Rests) if self.shown == self.incoming.len() => return Ok(false),
                Ok(Step::Rests) => self.show_more(),
                Err(error) => {
                    // An alert, and what was to be sent before it.
                    while self.common().wants_write() && self.step(out).is_ok() {}
                    return Err(error);
                }
            }
        }
    }

    fn step(&mut self, out: &mut Vec<u8>) -> Result<Step, Error> {
        let shown = &mut self.incoming[..self.shown];
        let (done_with, step) = match &mut self.session {
            Unsecured::Server(session) => follow(session.process_tls_records(shown), out),
            Unsecured::Client(session) => follow(session.process_tls_records(shown), out),
        };
        self.incoming.drain(..done_with);
        self.shown -= done_with;
        self.whole = self.whole.saturating_sub(done_with);
        step
    }

    /// Shows rustls the next record, and no more: what follows the last one of the handshake is
    /// not for it.
    fn show_more(&mut self) {
        let end = match record_len(&self.incoming[self.whole..]) {
            Ok(Some(len)) => self.whole + len,
            // Of what is no record it has to be told.
            Ok(None) | Err(_) => usize::MAX,
        };
        if end <= self.incoming.len() {
            self.whole = end;
        }
        self.shown = end.min(self.incoming.len());
    }

    fn common(&self) -> &CommonState {
        match &self.session {
            Unsecured::Server(session) => session,
            Unsecured::Client(session) => session,
        }
    }

    /// The secured connection, and what was received of it already.
    ///
    /// # Errors
    /// The handshake is not done.
    pub fn finish(self) -> Result<(Records, Terms, Vec<u8>), Error> {
        let common = self.common();
        let certificates = common.peer_certificates().map(|certificates| {
            let certificates = certificates.iter().cloned();
            certificates.map(CertificateDer::into_owned).collect()
        });
        let terms = Terms {
            protocol: common.alpn_protocol().map(<[u8]>::to_vec),
            certificates,
        };
        let (secrets, keys) = match self.session {
            Unsecured::Server(session) => {
                let (secrets, keys) = session.dangerous_into_kernel_connection()?;
                (secrets, Keys::Server(keys))
            }
            Unsecured::Client(session) => {
                let (secrets, keys) = session.dangerous_into_kernel_connection()?;
                (secrets, Keys::Client(keys))
            }
        };
        Ok((Records::new(secrets, keys)?, terms, self.incoming))
    }
}

/// Does what rustls asks for; tells how many received bytes it is done with.
fn follow<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let step = status.state.and_then(|state| match state {
        ConnectionState::EncodeTlsData(mut message) => {
            let start = out.len();
            if let Err(EncodeError::InsufficientSize(size)) = message.encode(&mut []) {
                out.resize(start + size.required_size, 0);
                let encoded = message.encode(&mut out[start..]);
                encoded.map_err(|error| Error::General(error.to_string()))?;
            }
            Ok(Step::Again)
        }
        ConnectionState::TransmitTlsData(sent) => {
            // The caller sends all of `out`.
            sent.done();
            Ok(Step::Again)
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Step::Rests),
        // No early data is offered or taken, and no record of data is shown.
        _ => Err(Error::HandshakeNotComplete),
    });
    (status.discard, step)
}
