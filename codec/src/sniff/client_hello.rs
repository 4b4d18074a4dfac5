//! The TLS ClientHello, as far as routing needs it.

use std::borrow::Cow;

use super::{MAX_CLIENT_HELLO_BYTES, Sniff};

/// What a ClientHello says about where the client wants to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host name of the server_name extension in lower case (RFC 6066 section 3).
    pub server_name: Option<String>,
    /// The protocols offered, in the client's order (RFC 7301 section 3.1).
    pub alpn: Vec<Vec<u8>>,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
const MAX_RECORD_BYTES: usize = 1 << 14;

pub(super) fn sniff(buf: &[u8]) -> Sniff {
    match message(buf) {
        Ok(Some(message)) => match parse(&message) {
            Some(hello) => Sniff::Tls(hello),
            None => Sniff::Unknown,
        },
        Ok(None) => Sniff::Incomplete,
        Err(NotTls) => Sniff::Unknown,
    }
}

struct NotTls;

/// The body of the first handshake message, joined over the records that carry it (RFC 8446
/// section 5.1). `None` when it is not all there.
fn message(buf: &[u8]) -> Result<Option<Cow<'_, [u8]>>, NotTls> {
    let mut joined: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    let mut rest = buf;
    loop {
        // Each byte of the record header is judged as soon as it is there.
        match rest {
            [kind, ..] if *kind != HANDSHAKE => return Err(NotTls),
            [_, major, ..] if *major != 3 => return Err(NotTls),
            [_, _, minor, ..] if *minor > 4 => return Err(NotTls),
            _ => {}
        }
        let [_, _, _, high, low, after @ ..] = rest else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if len == 0 || len > MAX_RECORD_BYTES {
            return Err(NotTls);
        }
        let fragment = &after[..len.min(after.len())];
        if joined.is_empty() {
            joined = Cow::Borrowed(fragment);
        } else {
            joined.to_mut().extend_from_slice(fragment);
        }
        if joined.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(NotTls);
        }
        if let [_, a, b, c, ..] = *joined {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            if len > MAX_CLIENT_HELLO_BYTES {
                return Err(NotTls);
            }
            if joined.len() >= 4 + len {
                return Ok(Some(match joined {
                    Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[4..4 + len]),
                    Cow::Owned(bytes) => Cow::Owned(bytes[4..4 + len].to_vec()),
                }));
            }
        }
        if after.len() < len {
            return Ok(None);
        }
        rest = &after[len..];
    }
}

/// `None` when the message breaks its grammar.
fn parse(message: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(message);
    let mut hello = ClientHello::default();
    reader.take(2 + 32)?;
    let session_id = reader.vector8()?;
    let cipher_suites = reader.vector16()?;
    let compressions = reader.vector8()?;
    if session_id.0.len() > 32
        || cipher_suites.0.is_empty()
        || cipher_suites.0.len() % 2 != 0
        || compressions.0.is_empty()
    {
        return None;
    }
    if reader.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = reader.vector16()?;
    if !reader.0.is_empty() {
        return None;
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let mut data = extensions.vector16()?;
        match kind {
            SERVER_NAME if named => return None,
            SERVER_NAME => {
                named = true;
                hello.server_name = server_name(&mut data)?;
            }
            ALPN if offered => return None,
            ALPN => {
                offered = true;
                hello.alpn = protocols(&mut data)?;
            }
            _ => {}
        }
    }
    Some(hello)
}

/// The host name of a server_name extension; `Some(None)` when it lists none.
fn server_name(data: &mut Reader<'_>) -> Option<Option<String>> {
    let mut list = data.vector16()?;
    if !data.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut host = None;
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vector16()?.0;
        if kind != 0 {
            continue;
        }
        let valid = !name.is_empty()
            && name
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b));
        if !valid || host.is_some() {
            return None;
        }
        host = Some(String::from_utf8_lossy(name).to_ascii_lowercase());
    }
    Some(host)
}

fn protocols(data: &mut Reader<'_>) -> Option<Vec<Vec<u8>>> {
    let mut list = data.vector16()?;
    if !data.0.is_empty() || list.0.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.0.is_empty() {
        let name = list.vector8()?.0;
        if name.is_empty() {
            return None;
        }
        protocols.push(name.to_vec());
    }
    Some(protocols)
}

/// Takes from the front of a slice and never beyond its end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<Reader<'a>> {
        let len = self.take(1)?[0];
        self.take(usize::from(len)).map(Reader)
    }

    fn vector16(&mut self) -> Option<Reader<'a>> {
        let len = self.number16()?;
        self.take(usize::from(len)).map(Reader)
    }
}
