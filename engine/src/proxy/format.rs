//! Values of Envoy's `%OPERATOR%`s in configured headers: those of the request itself, and those
//! that only its proxy knows.

use super::request_id::RequestId;
use super::seen_head::SeenHead;
use super::start_time::write_start_time;
use crate::rt;
use crate::stats::ResponseFlags;
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_codec::http1::{Headers, Version};
use ringroad_policy::snapshot::{
    ConnectionFacts, FormatContext, Operator, RequestLine, RequestValues, Target, write_masked,
};
use std::io::Write;
use std::net::SocketAddr;
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
    /// Once there is one.
    pub response: Option<Response<'a>>,
    /// Which knows the time.
    pub worker: &'a Worker,
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
    /// How often the request was tried.
    pub attempts: u32,
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

/// A format that is made when a value asks for it: most heads have no such value.
pub struct OnDemand<'a, 'f>(pub &'a dyn Fn() -> RequestFormat<'f>);

impl FormatContext for OnDemand<'_, '_> {
    fn render(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        (self.0)().render(operator, out)
    }

    fn response_has(&self, name: &str) -> bool {
        (self.0)().response_has(name)
    }
}

impl RequestFormat<'_> {
    fn write(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        let local = || self.client.stream.local_addr().ok();
        if let Some(found) = self.values(&local).write(operator, out) {
            return found;
        }
        let argument = operator.argument.as_deref();
        match operator.name.as_str() {
            "PROTOCOL" => text(out, self.protocol()),
            "CONNECTION_ID" => {
                let workers = self.worker.fleet.desks.len() as u64;
                let number = u64::from(self.client.number);
                display(out, number * workers + self.worker.id as u64)
            }
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
            "DURATION" => {
                let so_far = rt::now().saturating_duration_since(self.started);
                display(out, so_far.as_millis())
            }
            "START_TIME" => self.write_time(self.started, argument, out),
            "EMIT_TIME" => self.write_time(rt::now(), argument, out),
            name => {
                let response = self.response.as_ref();
                response.is_some_and(|response| self.write_answer(response, name, argument, out))
            }
        }
    }

    /// What only an answer has.
    fn write_answer(
        &self,
        response: &Response<'_>,
        name: &str,
        argument: Option<&str>,
        out: &mut Vec<u8>,
    ) -> bool {
        let upstream = self.upstream;
        match name {
            "RESP" | "RESPONSE_HEADER" => {
                let first = |name: &str| response.headers.as_ref()?.first(name);
                let mut names = argument.into_iter().flat_map(|names| names.split('?'));
                bytes(
                    out,
                    names.find_map(|name| first(&name.to_ascii_lowercase())),
                )
            }
            "BYTES_RECEIVED" => display(out, response.received),
            // The body comes behind the head.
            "BYTES_SENT" => display(out, 0),
            "UPSTREAM_REQUEST_ATTEMPT_COUNT" => display(out, response.attempts),
            "RESPONSE_CODE" => display(out, response.code),
            "RESPONSE_FLAGS" => {
                response.flags.write(out);
                true
            }
            "RESPONSE_FLAGS_LONG" => {
                response.flags.write_long(out);
                true
            }
            "RESPONSE_CODE_DETAILS" => text(out, response.details),
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => {
                upstream.is_some_and(|upstream| display(out, upstream))
            }
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => {
                upstream.is_some_and(|upstream| write_masked(upstream.ip(), argument, out))
            }
            "UPSTREAM_REMOTE_PORT" => {
                upstream.is_some_and(|upstream| display(out, upstream.port()))
            }
            _ => false,
        }
    }

    /// What the request itself has.
    pub fn values<'f>(&'f self, local: &'f dyn Fn() -> Option<SocketAddr>) -> RequestValues<'f> {
        let head = self.seen.map(|seen| RequestLine {
            method: seen.method(),
            scheme: seen.scheme,
            direction: seen.direction,
            headers: seen,
        });
        let facts = self.client.facts;
        RequestValues {
            head,
            target: self.target,
            peer: self.client.peer,
            local,
            server_name: facts
                .and_then(|facts| facts.server_name.as_deref())
                .unwrap_or_default(),
            cluster: self.cluster,
            route: self.route,
            is_answered: self.response.is_some(),
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

    fn protocol(&self) -> &'static str {
        match self.seen {
            _ if self.client.stream.is_http2() => "HTTP/2",
            Some(seen) => protocol(seen.head.version),
            None => "",
        }
    }
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
