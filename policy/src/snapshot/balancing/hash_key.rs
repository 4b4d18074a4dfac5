//! What of a request is hashed, so that equal requests meet the same endpoint.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::hash_table::hash_of;
use crate::snapshot::HeaderLookup;
use twox_hash::XxHash64;

/// Istio: `loadBalancer.consistentHash`.
#[derive(Debug, Clone, PartialEq)]
pub enum HashPolicy {
    /// The values of a header; the name is in lower case.
    Header(String),
    Cookie(HashCookie),
    /// The address of the client, without its port.
    SourceIp,
    /// The first value of a query parameter, as written.
    QueryParameter(String),
}

/// A cookie that is hashed.
#[derive(Debug, Clone, PartialEq)]
pub struct HashCookie {
    pub name: String,
    /// `None` leaves requests without it to chance. Else it is made for them: 0 for a session,
    /// more for that many seconds.
    pub ttl_s: Option<u64>,
    /// Empty is none.
    pub path: String,
    /// Names and values; an empty value leaves the name alone.
    pub attributes: Vec<(String, String)>,
}

/// The key of one request, the same for all its tries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HashKey {
    /// `None` when the request has nothing to hash: its endpoint is drawn.
    pub hash: Option<u64>,
    /// A cookie was made, with this as its value: it goes to the client with the response.
    pub made_cookie: Option<u64>,
}

impl HashPolicy {
    /// The key of a request. `peer` and `local` are the ends of the client's connection, `local`
    /// only asked for when a cookie is made. Envoy: `HashPolicyImpl::generateHash`.
    pub fn key(
        &self,
        headers: &dyn HeaderLookup,
        query: Option<&str>,
        peer: Option<SocketAddr>,
        local: impl FnOnce() -> Option<SocketAddr>,
    ) -> HashKey {
        let hash = match self {
            Self::Header(name) => hash_of_header(headers, name),
            Self::SourceIp => return self.key_of_connection(peer),
            Self::QueryParameter(name) => value_of_parameter(query.unwrap_or_default(), name)
                .map(|value| hash_of(value.as_bytes())),
            Self::Cookie(cookie) => match hash_of_cookie(headers, &cookie.name) {
                None if cookie.ttl_s.is_some() => {
                    return HashKey::of_new_cookie(peer, local());
                }
                hash => hash,
            },
        };
        HashKey {
            hash,
            made_cookie: None,
        }
    }

    /// The key of a connection whose bytes are not read: only its peer can be hashed.
    pub fn key_of_connection(&self, peer: Option<SocketAddr>) -> HashKey {
        let hash = match (self, peer) {
            (Self::SourceIp, Some(peer)) => {
                let mut text = Text::default();
                // An address always fits.
                let _ = write!(text, "{}", peer.ip().to_canonical());
                Some(hash_of(text.as_bytes()))
            }
            _ => None,
        };
        HashKey {
            hash,
            made_cookie: None,
        }
    }
}

impl HashKey {
    /// A cookie that is the same for all requests of a connection until the client sends it.
    fn of_new_cookie(peer: Option<SocketAddr>, local: Option<SocketAddr>) -> Self {
        let mut text = Text::default();
        for address in [peer, local].into_iter().flatten() {
            // Two addresses always fit.
            let _ = write!(text, "{address}");
        }
        let value = hash_of(text.as_bytes());
        let mut written = Text::default();
        let _ = write!(written, "{value:016x}");
        Self {
            hash: Some(hash_of(written.as_bytes())),
            made_cookie: Some(value),
        }
    }
}

impl HashCookie {
    /// Appends the value of the `set-cookie` header for a cookie that was made.
    pub fn write(&self, value: u64, out: &mut Vec<u8>) {
        let Self {
            name,
            ttl_s,
            path,
            attributes,
        } = self;
        let mut add = |parts: &[&str]| {
            parts
                .iter()
                .for_each(|part| out.extend_from_slice(part.as_bytes()));
        };
        add(&[name, "=\"", &format!("{value:016x}"), "\""]);
        if let Some(ttl_s) = ttl_s.filter(|ttl_s| *ttl_s > 0) {
            add(&["; Max-Age=", &ttl_s.to_string()]);
        }
        if !path.is_empty() {
            add(&["; Path=", path]);
        }
        for (name, value) in attributes {
            match value.is_empty() {
                true => add(&["; ", name]),
                false => add(&["; ", name, "=", value]),
            }
        }
        add(&["; HttpOnly"]);
    }
}

/// Several values are hashed in the order of their bytes, so that the order in which they come
/// makes no difference, each with the hash of those before it as the seed. Envoy:
/// `HashUtil::xxHash64` of a list.
fn hash_of_header(headers: &dyn HeaderLookup, name: &str) -> Option<u64> {
    let mut count = 0;
    let mut only = 0;
    headers.visit(name, &mut |value| {
        count += 1;
        only = hash_of(value);
    });
    if count < 2 {
        return (count == 1).then_some(only);
    }
    let mut values: Vec<Vec<u8>> = Vec::with_capacity(count);
    headers.visit(name, &mut |value| values.push(value.to_vec()));
    values.sort();
    let chain = |seed, value: &Vec<u8>| XxHash64::oneshot(seed, value);
    Some(values.iter().fold(0, chain))
}

/// The hash of the first cookie of that name, unless it is empty.
fn hash_of_cookie(headers: &dyn HeaderLookup, name: &str) -> Option<u64> {
    let mut found = None;
    headers.visit("cookie", &mut |line| {
        for pair in line.split(|byte| *byte == b';') {
            let pair = pair.trim_ascii_start();
            let Some(end) = pair.iter().position(|byte| *byte == b'=') else {
                continue;
            };
            if found.is_none() && pair[..end] == *name.as_bytes() {
                let value = &pair[end + 1..];
                let quoted = value
                    .strip_prefix(b"\"")
                    .and_then(|v| v.strip_suffix(b"\""));
                let value = quoted.unwrap_or(value);
                found = Some((!value.is_empty()).then(|| hash_of(value)));
            }
        }
    });
    found.flatten()
}

fn value_of_parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let mut pairs = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = pairs.find(|(key, _)| !key.is_empty() && *key == name);
    found.map(|(_, value)| value)
}

/// The longest: two IPv6 addresses with scopes and ports.
const LONGEST_TEXT: usize = 160;

/// Text without allocation.
struct Text {
    bytes: [u8; LONGEST_TEXT],
    len: usize,
}

impl Default for Text {
    fn default() -> Self {
        Self {
            bytes: [0; LONGEST_TEXT],
            len: 0,
        }
    }
}

impl Text {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        let Some(room) = self.bytes.get_mut(self.len..end) else {
            return Err(std::fmt::Error);
        };
        room.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}
