//! Values of Envoy's `%OPERATOR%`s that a request itself has, whoever carries it. Some are other
//! ones in a request than in its response: a request is told of before it is rewritten and before
//! an endpoint is chosen.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::headers::Operator;
use super::listener::Direction;
use super::request::HeaderLookup;

/// What the operators are rendered from.
pub struct RequestValues<'a> {
    /// `None` when none was understood.
    pub head: Option<RequestLine<'a>>,
    pub target: Target<'a>,
    pub peer: SocketAddr,
    /// Which end of the client's connection is here.
    pub local: &'a dyn Fn() -> Option<SocketAddr>,
    /// Empty where the client names none.
    pub server_name: &'a str,
    pub cluster: &'a str,
    pub route: &'a str,
    /// Whether there is an answer already, whose headers are being written.
    pub is_answered: bool,
}

/// What came, apart from where it goes.
#[derive(Clone, Copy)]
pub struct RequestLine<'a> {
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    pub direction: Direction,
    /// As everybody behind the door sees them.
    pub headers: &'a dyn HeaderLookup,
}

/// Where a request goes, before and after a rewrite.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target<'a> {
    /// Without the query.
    pub path: &'a [u8],
    pub query: Option<&'a str>,
    pub authority: &'a str,
    /// What a rewrite replaced.
    pub original_path: Option<&'a [u8]>,
    pub original_authority: Option<&'a str>,
}

impl<'a> RequestValues<'a> {
    /// Appends what `operator` stands for, and says whether there is such a value; `None` for an
    /// operator that asks for more than the request.
    pub fn write(&self, operator: &Operator, out: &mut Vec<u8>) -> Option<bool> {
        let argument = operator.argument.as_deref();
        let found = match operator.name.as_str() {
            "REQ" | "REQUEST_HEADER" => {
                let names = argument.into_iter().flat_map(|names| names.split('?'));
                any_name(names, |name| self.write_header(name, out))
            }
            "PATH" => self.write_path(argument, out),
            "QUERY_PARAM" => self.write_parameter(argument, out),
            "QUERY_PARAMS" => text(out, self.target.query.unwrap_or_default()),
            "REQUESTED_SERVER_NAME" => text(out, self.server_name),
            "STREAM_ID" => self.write_header("x-request-id", out),
            "ROUTE_NAME" => text(out, self.route),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => text(out, self.cluster),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                display(out, self.peer)
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                write_masked(self.peer.ip(), argument, out)
            }
            "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => {
                display(out, self.peer.port())
            }
            "DOWNSTREAM_LOCAL_ADDRESS" => (self.local)().is_some_and(|local| display(out, local)),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
                (self.local)().is_some_and(|local| write_masked(local.ip(), argument, out))
            }
            "DOWNSTREAM_LOCAL_PORT" => {
                (self.local)().is_some_and(|local| display(out, local.port()))
            }
            name if !self.is_answered => text(out, before_an_answer(name)?),
            _ => return None,
        };
        Some(found)
    }

    /// A header as the upstream gets it but for the route's edits; before a rewrite in a request.
    fn write_header(&self, name: &str, out: &mut Vec<u8>) -> bool {
        let Some(head) = &self.head else {
            return false;
        };
        let target = &self.target;
        let is_edge = head.direction == Direction::Gateway;
        match name {
            ":method" => {
                out.extend_from_slice(head.method);
                true
            }
            ":scheme" => text(out, head.scheme),
            ":path" => self.write_target(self.present_path(), true, out),
            ":authority" | "host" => {
                let original = target.original_authority.filter(|_| !self.is_answered);
                text(out, original.unwrap_or(target.authority))
            }
            "x-envoy-original-path" if is_edge || target.original_path.is_some() => {
                let original = target.original_path.filter(|_| self.is_answered);
                original.is_some_and(|path| self.write_target(path, true, out))
            }
            _ => {
                let mut is_found = false;
                head.headers.visit(name, &mut |value| {
                    if !is_found {
                        out.extend_from_slice(value);
                    }
                    is_found = true;
                });
                is_found
            }
        }
    }

    /// `:path` at the moment, without its query.
    fn present_path(&self) -> &'a [u8] {
        let original = self.target.original_path;
        original
            .filter(|_| !self.is_answered)
            .unwrap_or(self.target.path)
    }

    fn write_target(&self, path: &[u8], with_query: bool, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(path);
        if let (true, Some(query)) = (with_query, self.target.query) {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
        !path.is_empty()
    }

    /// `PATH(WQ or NQ:ORIG, PATH or ORIG_OR_PATH)`.
    fn write_path(&self, argument: Option<&str>, out: &mut Vec<u8>) -> bool {
        let argument = argument.unwrap_or_default();
        let (form, source) = argument.split_once(':').unwrap_or((argument, ""));
        let original = self.target.original_path;
        let path = match source {
            "PATH" => Some(self.present_path()),
            "ORIG" => original.filter(|_| self.is_answered),
            _ => Some(original.unwrap_or(self.target.path)),
        };
        path.is_some_and(|path| self.write_target(path, form != "NQ", out))
    }

    /// The first value of a query parameter, decoded.
    fn write_parameter(&self, name: Option<&str>, out: &mut Vec<u8>) -> bool {
        let (Some(name), Some(query)) = (name, self.target.query) else {
            return false;
        };
        let mut pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(key, _)| decoded(key).eq(name.bytes()));
        let start = out.len();
        out.extend(found.into_iter().flat_map(|(_, value)| decoded(value)));
        out.len() > start
    }
}

/// What operators that tell of an answer stand for while there is none; empty for no value.
fn before_an_answer(name: &str) -> Option<&'static str> {
    Some(match name {
        "RESP"
        | "RESPONSE_HEADER"
        | "RESPONSE_CODE_DETAILS"
        | "UPSTREAM_HOST"
        | "UPSTREAM_REMOTE_ADDRESS"
        | "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
        | "UPSTREAM_REMOTE_PORT" => "",
        "BYTES_RECEIVED" | "BYTES_SENT" | "RESPONSE_CODE" => "0",
        "RESPONSE_FLAGS" | "RESPONSE_FLAGS_LONG" => "-",
        "UPSTREAM_REQUEST_ATTEMPT_COUNT" => "1",
        _ => return None,
    })
}

/// `name?alternative`: the first that has a value.
fn any_name<'n>(
    mut names: impl Iterator<Item = &'n str>,
    mut write: impl FnMut(&str) -> bool,
) -> bool {
    names.any(|name| write(&name.to_ascii_lowercase()))
}

/// Appends an address, or the first bits of it, `10.1.0.0/16`; `false` for a number of bits that no
/// such address has.
pub fn write_masked(ip: IpAddr, bits: Option<&str>, out: &mut Vec<u8>) -> bool {
    let Some(bits) = bits else {
        return display(out, ip);
    };
    match (ip, bits.parse::<u32>()) {
        (IpAddr::V4(ip), Ok(bits @ 0..=32)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            let network = Ipv4Addr::from(u32::from(ip) & mask);
            display(out, format_args!("{network}/{bits}"))
        }
        (IpAddr::V6(ip), Ok(bits @ 0..=128)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            let network = Ipv6Addr::from(u128::from(ip) & mask);
            display(out, format_args!("{network}/{bits}"))
        }
        _ => false,
    }
}

/// The bytes of a text whose escapes (RFC 3986 section 2.1) are undone; what is none stays.
fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *bytes.get(at)?;
        at += 1;
        let digit = |at: usize| bytes.get(at).and_then(|d| char::from(*d).to_digit(16));
        match (byte, digit(at), digit(at + 1)) {
            (b'%', Some(high), Some(low)) => {
                at += 2;
                Some((high * 16 + low) as u8)
            }
            _ => Some(byte),
        }
    })
}

fn text(out: &mut Vec<u8>, value: &str) -> bool {
    out.extend_from_slice(value.as_bytes());
    !value.is_empty()
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) -> bool {
    // Writing to a Vec cannot fail.
    write!(out, "{value}").is_ok()
}
