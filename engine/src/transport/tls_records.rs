//! Records of TLS after the handshake (RFC 8446 section 5, RFC 5246 section 6.2).
//!
//! The handshake and the keys are those of rustls, which hands them out for this purpose
//! ([`rustls::kernel`]). What is left to do is little, and done here it needs no copies: records
//! are opened where they were received, and the head and the body of a message leave in one.

use super::tls_sealing::{Sealer, parts};
use rustls::client::ClientConnectionData;
use rustls::crypto::cipher::{InboundOpaqueMessage, MessageDecrypter};
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    HandshakeType, ProtocolVersion, SupportedCipherSuite,
};
use std::ops::Range;

/// Content type, version and length.
pub const HEADER_BYTES: usize = 5;
/// The most that a record holds (RFC 8446 section 5.1).
pub const MAX_PLAIN_BYTES: usize = 1 << 14;
/// The most that encryption may add (RFC 5246 section 6.2.3). TLS 1.3 allows less, which its
/// ciphers see to.
const MAX_ADDED_BYTES: usize = 2048;
/// What our records add to what they hold: header, nonce, content type and tag, at most.
const SEALED_BYTES: usize = HEADER_BYTES + 8 + 1 + 16;
/// The longest message after the handshake; only tickets are longer than a few bytes.
const MAX_MESSAGE_BYTES: usize = 1 << 16;
const MESSAGE_HEADER_BYTES: usize = 4;
/// Requests for new keys without data in between; what is more is an attack.
const MOST_KEY_UPDATES: u8 = 32;
/// Records without content, one after the other.
const MOST_EMPTY_RECORDS: u8 = 32;
const MOST_WARNINGS: u8 = 4;

const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// What rustls keeps of a connection after its handshake: what new keys are made of, and where
/// tickets go.
pub enum Keys {
    Server(KernelConnection<ServerConnectionData>),
    Client(KernelConnection<ClientConnectionData>),
}

/// What was in a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// Data, at this place of the record.
    Data(Range<usize>),
    /// Something between the peers alone.
    Nothing,
    /// The same, and [`Records::take_answer`] has what is to be sent.
    Answer,
    /// The peer says that nothing more comes.
    End,
}

/// Why nothing more can be received.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// What the peer has sent is not acceptable, for the reason that it is to be told.
    Here(AlertDescription),
    /// The peer has broken off.
    There,
}

/// The keys are used up, and this version of TLS has no way to change them.
#[derive(Debug, PartialEq, Eq)]
pub struct Exhausted;

/// The length of the record that begins here, header included; `None` while its header is not
/// whole.
///
/// # Errors
/// It is longer than a record may be.
pub fn record_len(bytes: &[u8]) -> Result<Option<usize>, Broken> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    match length <= MAX_PLAIN_BYTES + MAX_ADDED_BYTES {
        true => Ok(Some(HEADER_BYTES + length)),
        false => Err(Broken::Here(AlertDescription::RecordOverflow)),
    }
}

/// One side of an encrypted connection.
pub struct Records {
    sealer: Sealer,
    decrypter: Box<dyn MessageDecrypter>,
    /// Sealed and opened with the present keys.
    sealed: u64,
    opened: u64,
    /// The most that may be sealed with a key.
    limit: u64,
    keys: Keys,
    /// The beginning of a message that goes on in another record.
    message: Vec<u8>,
    /// Goes out ahead of what is sealed next.
    answer: Vec<u8>,
    key_updates_left: u8,
    empty_records_left: u8,
    warnings_left: u8,
    has_refused_renegotiation: bool,
    /// The peer has been told that nothing more comes.
    is_over: bool,
}

impl Records {
    /// # Errors
    /// The keys do not fit the suite.
    pub fn new(secrets: ExtractedSecrets, keys: Keys) -> Result<Self, Error> {
        let suite = keys.suite();
        Ok(Self {
            sealer: Sealer::new(suite, secrets.tx.1)?,
            decrypter: decrypter(suite, secrets.rx.1)?,
            sealed: secrets.tx.0,
            opened: secrets.rx.0,
            limit: match suite {
                SupportedCipherSuite::Tls12(suite) => suite.common.confidentiality_limit,
                SupportedCipherSuite::Tls13(suite) => suite.common.confidentiality_limit,
            },
            keys,
            message: Vec::new(),
            answer: Vec::new(),
            key_updates_left: MOST_KEY_UPDATES,
            empty_records_left: MOST_EMPTY_RECORDS,
            warnings_left: MOST_WARNINGS,
            has_refused_renegotiation: false,
            is_over: false,
        })
    }

    /// Opens a whole record in place.
    ///
    /// # Errors
    /// See [`Broken`]; nothing that follows can be opened.
    pub fn open(&mut self, record: &mut [u8]) -> Result<Opened, Broken> {
        let start = record.as_ptr().addr();
        let Some((header, payload)) = record.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(Broken::Here(AlertDescription::DecodeError));
        };
        let kind = ContentType::from(header[0]);
        let version = ProtocolVersion::from(u16::from_be_bytes([header[1], header[2]]));
        let is_expected = match self.keys.is_tls13() {
            true => kind == ContentType::ApplicationData,
            false => kind != ContentType::ChangeCipherSpec,
        };
        if !is_expected {
            return Err(Broken::Here(AlertDescription::UnexpectedMessage));
        }
        let opaque = InboundOpaqueMessage::new(kind, version, payload);
        let plain = self.decrypter.decrypt(opaque, self.opened);
        let plain = plain.map_err(|error| Broken::Here(alert_for(&error)))?;
        self.opened += 1;
        if plain.payload.is_empty() {
            let left = self.empty_records_left.checked_sub(1);
            self.empty_records_left =
                left.ok_or(Broken::Here(AlertDescription::UnexpectedMessage))?;
        } else {
            self.empty_records_left = MOST_EMPTY_RECORDS;
        }
        if !self.message.is_empty() && plain.typ != ContentType::Handshake {
            // RFC 8446 section 5.1: nothing comes between the parts of a message.
            return Err(Broken::Here(AlertDescription::UnexpectedMessage));
        }
        match plain.typ {
            ContentType::ApplicationData if plain.payload.is_empty() => Ok(Opened::Nothing),
            ContentType::ApplicationData => {
                self.key_updates_left = MOST_KEY_UPDATES;
                let at = plain.payload.as_ptr().addr() - start;
                Ok(Opened::Data(at..at + plain.payload.len()))
            }
            ContentType::Handshake => self.take_messages(plain.payload),
            ContentType::Alert => self.take_alert(plain.payload),
            _ => Err(Broken::Here(AlertDescription::UnexpectedMessage)),
        }
    }

    /// Seals `head` and `body` as one, in records as large as may be, and appends them to `out`.
    ///
    /// # Errors
    /// See [`Exhausted`].
    pub fn seal(&mut self, head: &[u8], body: &[u8], out: &mut Vec<u8>) -> Result<(), Exhausted> {
        let (mut head, mut body) = (head, body);
        let records = (head.len() + body.len()).div_ceil(MAX_PLAIN_BYTES);
        out.reserve(head.len() + body.len() + records * SEALED_BYTES);
        while !head.is_empty() || !body.is_empty() {
            // The record of a request for new keys is the last one that a key seals.
            if self.sealed + 1 >= self.limit {
                self.change_sending_key(true, out)?;
            }
            let (first, head_later) = head.split_at(head.len().min(MAX_PLAIN_BYTES));
            let room = MAX_PLAIN_BYTES - first.len();
            let (second, body_later) = body.split_at(body.len().min(room));
            self.put(ContentType::ApplicationData, [first, second], out)?;
            (head, body) = (head_later, body_later);
        }
        Ok(())
    }

    /// Tells the peer that nothing more comes, once.
    pub fn say_goodbye(&mut self, out: &mut Vec<u8>) {
        self.put_alert(WARNING, AlertDescription::CloseNotify, out);
    }

    /// Makes ready to be sent why the connection ends.
    pub fn complain(&mut self, why: AlertDescription) {
        let mut answer = Vec::new();
        self.put_alert(FATAL, why, &mut answer);
        self.answer.append(&mut answer);
    }

    /// Appends what is to be sent without waiting for data.
    pub fn take_answer(&mut self, out: &mut Vec<u8>) {
        out.extend(std::mem::take(&mut self.answer));
    }

    fn put_alert(&mut self, level: u8, what: AlertDescription, out: &mut Vec<u8>) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let alert = [level, what.into()];
        // Where no key is left the connection ends without a word.
        let _ = self.put(ContentType::Alert, [&alert, &[]], out);
    }

    /// Seals one record.
    pub(super) fn put(
        &mut self,
        kind: ContentType,
        parts: [&[u8]; 2],
        out: &mut Vec<u8>,
    ) -> Result<(), Exhausted> {
        if !self.answer.is_empty() {
            self.take_answer(out);
        }
        self.sealer.seal(self.sealed, kind, parts, out)?;
        self.sealed += 1;
        Ok(())
    }

    /// Says that from now on another key seals, and takes it. RFC 8446 section 4.6.3.
    fn change_sending_key(
        &mut self,
        peer_should_too: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Exhausted> {
        let secrets = match self.keys.next(Direction::Sending) {
            Ok(secrets) => secrets,
            Err(_) => {
                self.say_goodbye(out);
                return Err(Exhausted);
            }
        };
        let kind = HandshakeType::KeyUpdate.into();
        let message = [kind, 0, 0, 1, u8::from(peer_should_too)];
        self.put(ContentType::Handshake, [&message, &[]], out)?;
        self.sealer = Sealer::new(self.keys.suite(), secrets).map_err(|_| Exhausted)?;
        self.sealed = 0;
        Ok(())
    }

    fn take_alert(&mut self, alert: &[u8]) -> Result<Opened, Broken> {
        let &[level, what] = alert else {
            return Err(Broken::Here(AlertDescription::DecodeError));
        };
        match (level, AlertDescription::from(what)) {
            (WARNING | FATAL, AlertDescription::CloseNotify) => Ok(Opened::End),
            (WARNING, what) => {
                // TLS 1.3 has no warnings but this one (RFC 8446 section 6).
                if self.keys.is_tls13() && what != AlertDescription::UserCanceled {
                    return Err(Broken::Here(AlertDescription::DecodeError));
                }
                let left = self.warnings_left.checked_sub(1);
                self.warnings_left =
                    left.ok_or(Broken::Here(AlertDescription::UnexpectedMessage))?;
                Ok(Opened::Nothing)
            }
            (FATAL, _) => Err(Broken::There),
            _ => Err(Broken::Here(AlertDescription::IllegalParameter)),
        }
    }

    fn take_messages(&mut self, part: &[u8]) -> Result<Opened, Broken> {
        self.message.extend_from_slice(part);
        let mut result = Opened::Nothing;
        while let Some(&[kind, high, middle, low]) =
            self.message.first_chunk::<MESSAGE_HEADER_BYTES>()
        {
            let end = MESSAGE_HEADER_BYTES + u32::from_be_bytes([0, high, middle, low]) as usize;
            if end > MAX_MESSAGE_BYTES {
                return Err(Broken::Here(AlertDescription::DecodeError));
            }
            if end > self.message.len() {
                break;
            }
            let rest = self.message.split_off(end);
            let whole = std::mem::replace(&mut self.message, rest);
            let body = &whole[MESSAGE_HEADER_BYTES..];
            if self.take_message(HandshakeType::from(kind), body)? == Opened::Answer {
                result = Opened::Answer;
            }
        }
        if self.message.is_empty() {
            self.message = Vec::new();
        }
        Ok(result)
    }

    fn take_message(&mut self, kind: HandshakeType, body: &[u8]) -> Result<Opened, Broken> {
        let is_tls13 = self.keys.is_tls13();
        match (kind, &mut self.keys) {
            (HandshakeType::KeyUpdate, _) if is_tls13 => self.take_key_update(body),
            (HandshakeType::NewSessionTicket, Keys::Client(keys)) if is_tls13 => {
                let taken = keys.handle_new_session_ticket(body);
                taken.map_err(|_| Broken::Here(AlertDescription::DecodeError))?;
                Ok(Opened::Nothing)
            }
            (HandshakeType::HelloRequest, Keys::Client(_))
            | (HandshakeType::ClientHello, Keys::Server(_))
                if !is_tls13 && !self.has_refused_renegotiation =>
            {
                self.has_refused_renegotiation = true;
                let alert = [WARNING, AlertDescription::NoRenegotiation.into()];
                let mut answer = Vec::new();
                let put = self.put(ContentType::Alert, [&alert, &[]], &mut answer);
                self.answer = answer;
                put.map_err(|_| Broken::There)?;
                Ok(Opened::Answer)
            }
            _ => Err(Broken::Here(AlertDescription::UnexpectedMessage)),
        }
    }

    /// The peer changes the key that it seals with (RFC 8446 section 4.6.3).
    fn take_key_update(&mut self, body: &[u8]) -> Result<Opened, Broken> {
        let &[request] = body else {
            return Err(Broken::Here(AlertDescription::DecodeError));
        };
        if request > 1 {
            return Err(Broken::Here(AlertDescription::IllegalParameter));
        }
        let left = self.key_updates_left.checked_sub(1);
        // What follows in the same record was sealed with a key that no longer holds.
        let (Some(left), true) = (left, self.message.is_empty()) else {
            return Err(Broken::Here(AlertDescription::UnexpectedMessage));
        };
        self.key_updates_left = left;
        // One answer is enough for several requests. It waits for data to go with, so that requests
        // of one who does not read pile nothing up.
        if request == 1 && self.answer.is_empty() {
            let mut answer = Vec::new();
            let changed = self.change_sending_key(false, &mut answer);
            self.answer = answer;
            changed.map_err(|_| Broken::Here(AlertDescription::InternalError))?;
        }
        let failed = |_| Broken::Here(AlertDescription::InternalError);
        let secrets = self.keys.next(Direction::Receiving).map_err(failed)?;
        self.decrypter = decrypter(self.keys.suite(), secrets).map_err(failed)?;
        self.opened = 0;
        Ok(Opened::Nothing)
    }

    /// Lets a key seal no more than this, to see what happens then.
    #[cfg(test)]
    pub fn limit_keys(&mut self, records: u64) {
        self.limit = records;
    }
}

enum Direction {
    Sending,
    Receiving,
}

impl Keys {
    fn suite(&self) -> SupportedCipherSuite {
        match self {
            Self::Server(keys) => keys.negotiated_cipher_suite(),
            Self::Client(keys) => keys.negotiated_cipher_suite(),
        }
    }

    fn is_tls13(&self) -> bool {
        matches!(self.suite(), SupportedCipherSuite::Tls13(_))
    }

    fn next(&mut self, direction: Direction) -> Result<ConnectionTrafficSecrets, Error> {
        let (_, secrets) = match (self, direction) {
            (Self::Server(keys), Direction::Sending) => keys.update_tx_secret(),
            (Self::Server(keys), Direction::Receiving) => keys.update_rx_secret(),
            (Self::Client(keys), Direction::Sending) => keys.update_tx_secret(),
            (Self::Client(keys), Direction::Receiving) => keys.update_rx_secret(),
        }?;
        Ok(secrets)
    }
}

fn alert_for(error: &Error) -> AlertDescription {
    match error {
        Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        Error::PeerMisbehaved(_) => AlertDescription::UnexpectedMessage,
        _ => AlertDescription::BadRecordMac,
    }
}

fn decrypter(
    suite: SupportedCipherSuite,
    secrets: ConnectionTrafficSecrets,
) -> Result<Box<dyn MessageDecrypter>, Error> {
    let (_, key, iv) = parts(secrets)?;
    Ok(match suite {
        SupportedCipherSuite::Tls13(suite) => suite.aead_alg.decrypter(key, iv),
        SupportedCipherSuite::Tls12(suite) => {
            // The rest of a nonce comes with each record, where there is one (RFC 5288 section 3).
            let fixed_len = suite.aead_alg.key_block_shape().fixed_iv_len;
            suite.aead_alg.decrypter(key, &iv.as_ref()[..fixed_len])
        }
    })
}
