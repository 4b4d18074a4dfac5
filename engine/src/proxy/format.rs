//! Values of Envoy's `%OPERATOR%`s in configured headers.

use super::request_head::write_ip;
use super::start_time::write_start_time;
use crate::stats::ResponseFlags;
use crate::transport::Transport;
use crate::worker::Worker;
use ringroad_codec::http1::{Headers, Version};
use ringroad_policy::snapshot::{FormatContext, Operator};
use std::io::Write;
use std::net::SocketAddr;
use std::time::UNIX_EPOCH;

/// What the operators are rendered from.
pub struct RequestFormat<'a> {
    pub request: Headers<'a>,
    /// Empty while there is no response.
    pub response: Option<Headers<'a>>,
    pub method: &'a [u8],
    /// Without the query.
    pub path: &'a [u8],
    pub query: Option<&'a str>,
    pub authority: &'a [u8],
    pub scheme: &'static str,
    pub version: Version,
    pub peer: SocketAddr,
    pub downstream: &'a Transport,
    pub upstream: Option<SocketAddr>,
    pub cluster: &'a str,
    pub route: &'a str,
    pub response_code: Option<u16>,
    pub flags: ResponseFlags,
    /// Of the response, once there is one.
    pub details: Option<&'a str>,
    /// Which knows the time.
    pub worker: &'a Worker,
}

impl FormatContext for RequestFormat<'_> {
    fn render(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let found = self.write(operator, out);
        if let Some(max_len) = operator.max_len {
            out.truncate(out.len().min(start + max_len));
        }
        found
    }

    fn response_has(&self, name: &str) -> bool {
        let response = self.response.as_ref();
        response.is_some_and(|response| response.first(name).is_some())
    }
}

impl<'a> RequestFormat<'a> {
    /// The same once there is a response; `told` are its flags and its detail.
    pub fn answered(
        self,
        response: Headers<'a>,
        code: u16,
        told: (ResponseFlags, &'a str),
    ) -> Self {
        Self {
            response: Some(response),
            response_code: Some(code),
            flags: told.0,
            details: Some(told.1),
            ..self
        }
    }

    fn write(&self, operator: &Operator, out: &mut Vec<u8>) -> bool {
        match operator.name.as_str() {
            "REQ" => self.header(Some(&self.request), operator, out),
            "RESP" => self.header(self.response.as_ref(), operator, out),
            "PROTOCOL" => text(out, protocol(self.version)),
            "RESPONSE_CODE" => self.response_code.is_some_and(|code| display(out, code)),
            "RESPONSE_FLAGS" => display(out, self.flags),
            "RESPONSE_CODE_DETAILS" => self.details.is_some_and(|details| text(out, details)),
            "ROUTE_NAME" => text(out, self.route),
            "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => text(out, self.cluster),
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                display(out, self.peer)
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => {
                write_ip(self.peer.ip(), out);
                true
            }
            "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => {
                display(out, self.peer.port())
            }
            "DOWNSTREAM_LOCAL_ADDRESS" => self.local().is_some_and(|local| display(out, local)),
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => {
                self.local().is_some_and(|local| display(out, local.ip()))
            }
            "DOWNSTREAM_LOCAL_PORT" => self.local().is_some_and(|local| display(out, local.port())),
            "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => {
                self.upstream.is_some_and(|upstream| display(out, upstream))
            }
            "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => self
                .upstream
                .is_some_and(|upstream| display(out, upstream.ip())),
            "UPSTREAM_REMOTE_PORT" => self
                .upstream
                .is_some_and(|upstream| display(out, upstream.port())),
            "START_TIME" => match self.worker.wall_clock().duration_since(UNIX_EPOCH) {
                Ok(since_epoch) => {
                    write_start_time(operator.argument.as_deref(), since_epoch, out);
                    true
                }
                Err(_) => false,
            },
            _ => false,
        }
    }

    fn local(&self) -> Option<SocketAddr> {
        self.downstream.local_addr().ok()
    }

    /// `REQ(name?alternative)`.
    fn header(&self, headers: Option<&Headers<'_>>, of: &Operator, out: &mut Vec<u8>) -> bool {
        let (Some(headers), Some(argument)) = (headers, &of.argument) else {
            return false;
        };
        argument.split('?').any(|name| {
            let name = name.to_ascii_lowercase();
            let value = match name.as_str() {
                ":method" => Some(self.method),
                ":path" => {
                    out.extend_from_slice(self.path);
                    if let Some(query) = self.query {
                        out.push(b'?');
                        out.extend_from_slice(query.as_bytes());
                    }
                    return true;
                }
                ":authority" | "host" => Some(self.authority),
                ":scheme" => Some(self.scheme.as_bytes()),
                _ => headers.first(&name),
            };
            value.map(|value| out.extend_from_slice(value)).is_some()
        })
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

fn display(out: &mut Vec<u8>, value: impl std::fmt::Display) -> bool {
    write!(out, "{value}").is_ok()
}
