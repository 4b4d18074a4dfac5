//! Values of Envoy's `%OPERATOR%`s in configured headers. Some are other ones in a request than in
//! its response: a request is told of before it is rewritten and before an endpoint is chosen.

use super::request_head::write_ip;
use super::request_id::RequestId;
use super::seen_head::SeenHead;
use super::start_time::write_start_time;
use crate::rt;
use crate::stats::ResponseFlags;
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_codec::http1::{Headers, Version};
use ringroad_policy::snapshot::{ConnectionFacts, FormatContext, Operator};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Instant, UNIX_EPOCH};

/// What the operators are rendered from.
pub struct RequestFormat<'a> {
    /// The head that came; `None` when none was understood.
    pub seen: Option<&'a SeenHead<'a>>,
    pub target: Target<'a>,
    pub client: Client<'a>,
    pub upstream: Option<SocketAddr>,
    pub cluster: &'a str,
    pub route: &'a str,
    pub started: Instant,
    /// How often it was tried.
    pub attempts: u32,
    /// Once there is one.
    pub response: Option<Response<'a>>,
    /// Which knows the time.
    pub worker: &'a Worker,
}

/// Where a request goes, before and after a rewrite.
#[derive(Clone, Copy, Default)]
pub struct Target<'a> {
    /// Without the query.
    pub path: &'a [u8],
    pub query: Option<&'a str>,
    pub authority: &'a str,
    /// What a rewrite replaced.
    pub original_path: Option<&'a [u8]>,
    pub original_authority: Option<&'a str>,
}

/// The connection that a request came on.
pub struct Client<'a> {
    pub peer: SocketAddr,
    pub stream: &'a Transport,
    /// Of its worker's connections.
    pub number: u32,
    pub facts: Option<&'a ConnectionFacts>,
}

/// What is known when the answer goes out.
pub struct Response<'a> {
    /// None of an answer of ours.
    pub headers: Option<Headers<'a>>,
    pub code: u16,
    pub flags: ResponseFlags,
    pub details: &'a str,
    /// Bytes of the request's body until then.
    pub received: u64,
}

impl FormatContext for RequestFormat<'_> {
    fn render(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let found = self.write(operator, out);
        if let Some(max_len) = operator.max_len {
            out.truncate(start.saturating_add(max_len));
        }
        found
    }

    fn response_has(&self, name: &str) -> bool {
        let response = self.response.as_ref();
        let headers = response.and_then(|response| response.headers.as_ref());
        headers.is_some_and(|headers| headers.first(name).is_some())
    }
}

impl<'a> RequestFormat<'a> {
    /// The same once there is a response to this try.
    pub fn answered(self, response: Response<'a>, attempts: u32) -> Self {
        Self {
            response: Some(response),
            attempts,
            ..self
        }
    }

    fn write(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        let argument = operator.argument.as_deref();
        let response = self.response.as_ref();
        let local = || self.client.stream.local_addr().ok();
        let upstream = || self.upstream.filter(|_| response.is_some());
        match operator.name.as_str() {
            "REQ" | "REQUEST_HEADER" => self.any_header(argument, out, |name, out| {
                self.write_request_header(name, out)
            }),
            "RESP" | "RESPONSE_HEADER" => self.any_header(argument, out, |name, out| {
                let headers = response.and_then(|response| response.headers.as_ref());
                bytes(out, headers.and_then(|headers| headers.first(name)))
            }),
            "PATH" => self.write_path(argument, out),
            "QUERY_PARAM" => self.write_parameter(argument, out),
            "QUERY_PARAMS" => text(out, self.target.query.unwrap_or_default()),
            "PROTOCOL" => text(out, self.protocol()),
            "REQUESTED_SERVER_NAME" => {
                let name = self
                    .client
                    .facts
                    .and_then(|facts| facts.server_name.as_deref());
                text(out, name.unwrap_or_default())
            }
            "CONNECTION_ID" => {
                let workers = self.worker.fleet.desks.len() as u64;
                let number = u64::from(self.client.number);
                display(out, number * workers + self.worker.id as u64)
            }
            "STREAM_ID" => self.write_request_header("x-request-id", out),
            "UNIQUE_ID" => {
                let mut id = RequestId::default();
                self.worker.write_request_id(&mut id);
                bytes(out, id.get())
            }
            "HOSTNAME" => text(out, &self.worker.fleet.hostname),
            "ENVIRONMENT" => match std::env::var(argument.unwrap_or_default()) {
                Ok(value) => text(out, &value),
                Err(_) => text(out, "-"),
            },
            "BYTES_RECEIVED" => display(out, response.map_or(0, |response| response.received)),
            // The body comes behind the head.
            "BYTES_SENT" => display(out, 0),
            "DURATION" => {
                let so_far = rt::now().saturating_duration_since(self.started);
                display(out, so_far.as_millis())
            }
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => display(out, self.attempts),
            "RESPONSE_CODE" => display(out, response.map_or(0, |response| response.code)),
            "RESPONSE_FLAGS" => {
                self.flags().write(out);
                true
            }
            "RESPONSE_FLAGS_LONG" => {
                self.flags().write_long(out);
                true
            }
            "RESPONSE_CODE_DETAILS" => text(out, response.map_or("", |response| response.details)),
            "ROUTE_NAME" => text(out, self.route),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => text(out, self.cluster),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                display(out, self.client.peer)
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                write_masked(self.client.peer.ip(), argument, out)
            }
            "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => {
                display(out, self.client.peer.port())
            }
            "DOWNSTREAM_LOCAL_ADDRESS" => local().is_some_and(|local| display(out, local)),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
                local().is_some_and(|local| write_masked(local.ip(), argument, out))
            }
            "DOWNSTREAM_LOCAL_PORT" => local().is_some_and(|local| display(out, local.port())),
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => {
                upstream().is_some_and(|upstream| display(out, upstream))
            }
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
                upstream().is_some_and(|upstream| write_masked(upstream.ip(), argument, out))
            }
            "UPSTREAM_REMOTE_PORT" => {
                upstream().is_some_and(|upstream| display(out, upstream.port()))
            }
            "START_TIME" => self.write_time(self.started, argument, out),
            "EMIT_TIME" => self.write_time(rt::now(), argument, out),
            _ => false,
        }
    }

    fn write_time(&self, at: Instant, format: Option<&str>, out: &mut Vec<u8>) -> bool {
        let since_epoch = self.worker.wall_clock_at(at).duration_since(UNIX_EPOCH);
        let Ok(since_epoch) = since_epoch else {
            return false;
        };
        write_start_time(format, since_epoch, out);
        true
    }

    fn flags(&self) -> ResponseFlags {
        let response = self.response.as_ref();
        response.map_or(ResponseFlags::NONE, |response| response.flags)
    }

    fn protocol(&self) -> &'static str {
        match self.seen {
            _ if self.client.stream.is_http2() => "HTTP/2",
            Some(seen) => protocol(seen.head.version),
            None => "",
        }
    }

    /// `name?alternative`.
    fn any_header(
        &self,
        names: Option<&str>,
        out: &mut Vec<u8>,
        write: impl Fn(&str, &mut Vec<u8>) -> bool,
    ) -> bool {
        let mut names = names.into_iter().flat_map(|names| names.split('?'));
        names.any(|name| write(&name.to_ascii_lowercase(), out))
    }

    /// A header as the upstream gets it but for the route's edits; before a rewrite in a request.
    fn write_request_header(&self, name: &str, out: &mut Vec<u8>) -> bool {
        let Some(seen) = self.seen else {
            return false;
        };
        let (target, is_edge) = (&self.target, seen.is_edge());
        let is_rewritten = self.response.is_some();
        match name {
            ":method" => bytes(out, Some(seen.method())),
            ":scheme" => text(out, seen.scheme),
            ":path" => self.write_target(self.present_path(), true, out),
            ":authority" | "host" => {
                let original = target.original_authority.filter(|_| !is_rewritten);
                text(out, original.unwrap_or(target.authority))
            }
            "x-envoy-original-path" if is_edge || target.original_path.is_some() => {
                let original = target.original_path.filter(|_| is_rewritten);
                original.is_some_and(|path| self.write_target(path, true, out))
            }
            _ => seen.write_first(name, out),
        }
    }

    /// `:path` at the moment, without its query.
    fn present_path(&self) -> &'a [u8] {
        let original = self.target.original_path;
        original
            .filter(|_| self.response.is_none())
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
            "ORIG" => original.filter(|_| self.response.is_some()),
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

/// An address, or the first bits of it, `10.1.0.0/16`.
fn write_masked(ip: IpAddr, bits: Option<&str>, out: &mut Vec<u8>) -> bool {
    let Some(bits) = bits else {
        write_ip(ip, out);
        return true;
    };
    match (ip, bits.parse::<u32>()) {
        (IpAddr::V4(ip), Ok(bits @ 0..=32)) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            display(
                out,
                format_args!("{}/{bits}", Ipv4Addr::from(u32::from(ip) & mask)),
            )
        }
        (IpAddr::V6(ip), Ok(bits @ 0..=128)) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            display(
                out,
                format_args!("{}/{bits}", Ipv6Addr::from(u128::from(ip) & mask)),
            )
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

/// The protocol's name as access logs and metrics have it.
pub fn protocol(version: Version) -> &'static str {
    match version {
        Version::Http10 => "HTTP/1.0",
        Version::Http11 => "HTTP/1.1",
    }
}

fn text(out: &mut Vec<u8>, value: &str) -> bool {
    out.extend_from_slice(value.as_bytes());
    !value.is_empty()
}

fn bytes(out: &mut Vec<u8>, value: Option<&[u8]>) -> bool {
    value.map(|value| out.extend_from_slice(value)).is_some()
}

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) -> bool {
    write!(out, "{value}").is_ok()
}
