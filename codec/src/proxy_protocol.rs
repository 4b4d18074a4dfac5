//! The PROXY protocol, versions 1 and 2, as its specification by HAProxy defines it: the header
//! by which a proxy in front tells the addresses of the connection it accepted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::http1::write_number;

/// Bytes of a version 1 line, CRLF included.
pub const MAX_V1_BYTES: usize = 107;
/// Bytes after the 16 fixed ones of a version 2 header that are accepted: addresses and
/// extensions. The format allows 65,535; extensions in use stay far below this.
pub const MAX_V2_PAYLOAD_BYTES: usize = 4 * 1024;

const V1_PREFIX: &[u8] = b"PROXY ";
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A parsed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Client and server address of the original connection. `None` when the sender speaks for
    /// itself (LOCAL) or does not know (UNKNOWN, an unspecified family, Unix sockets): the
    /// connection's own addresses hold.
    pub addresses: Option<ProxyAddresses>,
    /// Bytes of the header: the client's own bytes start here.
    pub len: usize,
}

/// The two ends of the original connection, of one address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyAddresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeaderError {
    /// The bytes begin neither as version 1 nor as version 2.
    NoHeader,
    /// A version 1 line that breaks its grammar or exceeds [`MAX_V1_BYTES`].
    InvalidLine,
    /// A version 2 header with an unknown version, command, family or transport, or too short for
    /// its addresses.
    InvalidBinary,
    /// Longer than [`MAX_V2_PAYLOAD_BYTES`].
    TooLarge,
}

impl fmt::Display for ProxyHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyHeaderError::NoHeader => "no PROXY protocol header",
            ProxyHeaderError::InvalidLine => "malformed PROXY protocol line",
            ProxyHeaderError::InvalidBinary => "malformed PROXY protocol v2 header",
            ProxyHeaderError::TooLarge => "PROXY protocol v2 header too large",
        })
    }
}

impl std::error::Error for ProxyHeaderError {}

/// Parses the header at the start of `buf`; `None` when more bytes are needed.
///
/// # Errors
/// [`ProxyHeaderError`]. The verdict on given bytes does not depend on how they were split.
pub fn parse_proxy_header(buf: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    if buf.starts_with(V1_PREFIX) {
        parse_v1(buf)
    } else if buf.starts_with(V2_SIGNATURE) {
        parse_v2(buf)
    } else if V1_PREFIX.starts_with(buf) || V2_SIGNATURE.starts_with(buf) {
        Ok(None)
    } else {
        Err(ProxyHeaderError::NoHeader)
    }
}

fn parse_v1(buf: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let window = &buf[..buf.len().min(MAX_V1_BYTES)];
    let Some(end) = memchr::memchr(b'\n', window) else {
        let full = buf.len() >= MAX_V1_BYTES;
        return if full {
            Err(ProxyHeaderError::InvalidLine)
        } else {
            Ok(None)
        };
    };
    let addresses = window[..end]
        .strip_suffix(b"\r")
        .and_then(|line| std::str::from_utf8(&line[V1_PREFIX.len()..]).ok())
        .and_then(v1_addresses)
        .ok_or(ProxyHeaderError::InvalidLine)?;
    Ok(Some(ProxyHeader {
        addresses,
        len: end + 1,
    }))
}

/// The part after `PROXY `; the outer `None` is a fault.
fn v1_addresses(text: &str) -> Option<Option<ProxyAddresses>> {
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(None);
    }
    let words: Vec<&str> = text.split(' ').collect();
    let [family, source, destination, source_port, destination_port] = words[..] else {
        return None;
    };
    let ip = |text: &str| match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    Some(Some(ProxyAddresses {
        source: SocketAddr::new(ip(source)?, v1_port(source_port)?),
        destination: SocketAddr::new(ip(destination)?, v1_port(destination_port)?),
    }))
}

/// Digits without sign or leading zero.
fn v1_port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn parse_v2(buf: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let fixed = &buf[V2_SIGNATURE.len()..];
    let local = match fixed.first() {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(ProxyHeaderError::InvalidBinary),
    };
    let address_len = match fixed.get(1) {
        None => return Ok(None),
        // Family in the high half, transport in the low: unspecified, or a stream.
        Some(0x00) => 0,
        Some(0x11) => 12,
        Some(0x21) => 36,
        Some(0x31) => 216,
        Some(_) if local => 0,
        Some(_) => return Err(ProxyHeaderError::InvalidBinary),
    };
    let [_, family, high, low, payload @ ..] = fixed else {
        return Ok(None);
    };
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len > MAX_V2_PAYLOAD_BYTES {
        return Err(ProxyHeaderError::TooLarge);
    }
    if !local && len < address_len {
        return Err(ProxyHeaderError::InvalidBinary);
    }
    if payload.len() < len {
        return Ok(None);
    }
    let addresses = match (local, family) {
        (false, 0x11) => v2_addresses::<4>(payload),
        (false, 0x21) => v2_addresses::<16>(payload),
        _ => None,
    };
    Ok(Some(ProxyHeader {
        addresses,
        len: V2_SIGNATURE.len() + 4 + len,
    }))
}

/// Two addresses of `N` bytes, then two ports.
fn v2_addresses<const N: usize>(payload: &[u8]) -> Option<ProxyAddresses>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = payload.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    Some(ProxyAddresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(
            IpAddr::from(*destination),
            u16::from_be_bytes(*destination_port),
        ),
    })
}

/// Appends a version 1 line. `None`, and two addresses of different families, give `UNKNOWN`.
pub fn write_proxy_v1(out: &mut Vec<u8>, addresses: Option<&ProxyAddresses>) {
    let same_family = addresses.filter(|a| a.source.is_ipv4() == a.destination.is_ipv4());
    let Some(ProxyAddresses {
        source,
        destination,
    }) = same_family
    else {
        out.extend_from_slice(b"PROXY UNKNOWN\r\n");
        return;
    };
    out.extend_from_slice(if source.is_ipv4() {
        b"PROXY TCP4 "
    } else {
        b"PROXY TCP6 "
    });
    out.extend_from_slice(format!("{} {} ", source.ip(), destination.ip()).as_bytes());
    write_number(out, u64::from(source.port()));
    out.push(b' ');
    write_number(out, u64::from(destination.port()));
    out.extend_from_slice(b"\r\n");
}

/// Appends a version 2 header for a stream. `None`, and two addresses of different families, give
/// a LOCAL one.
pub fn write_proxy_v2(out: &mut Vec<u8>, addresses: Option<&ProxyAddresses>) {
    out.extend_from_slice(V2_SIGNATURE);
    let (ports, ips) = match addresses.map(|a| (a, a.source.ip(), a.destination.ip())) {
        Some((a, IpAddr::V4(source), IpAddr::V4(destination))) => {
            out.extend_from_slice(&[0x21, 0x11, 0, 12]);
            (a, [source.octets(), destination.octets()].concat())
        }
        Some((a, IpAddr::V6(source), IpAddr::V6(destination))) => {
            out.extend_from_slice(&[0x21, 0x21, 0, 36]);
            (a, [source.octets(), destination.octets()].concat())
        }
        _ => return out.extend_from_slice(&[0x20, 0x00, 0, 0]),
    };
    out.extend_from_slice(&ips);
    out.extend_from_slice(&ports.source.port().to_be_bytes());
    out.extend_from_slice(&ports.destination.port().to_be_bytes());
}
