//! The line of a request in the access log.

use super::super::connection::Connection;
use super::super::format::protocol;
use super::super::seen_head::SeenHead;
use super::Record;
use crate::control::access_log;
use crate::rt;
use crate::stats::ResponseFlags;
use crate::worker::Rules;
use ringroad_codec::http1::{RequestHead, Version};
use ringroad_policy::settings::AccessLogFormat;
use ringroad_policy::snapshot::{EndpointAddress, path::Normalization};
use std::borrow::Cow;
use std::time::UNIX_EPOCH;

impl<'a> Record<'a> {
    /// Path and query as they are logged; empty when there was no request.
    pub fn path(&self) -> Cow<'a, str> {
        self.request.map_or(Cow::Borrowed(""), |seen| {
            logged_path(seen.head, seen.bytes, self.paths())
        })
    }

    fn paths(&self) -> Normalization {
        self.rules.map(Rules::paths).unwrap_or_default()
    }

    /// The detail, and within its braces why there was no connection.
    fn details(&self) -> Cow<'_, str> {
        match (&self.transport_failure, self.details.strip_suffix('}')) {
            (Some(reason), Some(open)) => Cow::Owned(format!("{open}|{reason}}}")),
            _ => Cow::Borrowed(&*self.details),
        }
    }

    #[cold]
    pub(super) fn log(&self, connection: &Connection, format: AccessLogFormat) {
        let wall = self.worker.wall_clock_at(self.started);
        let flags = if self.flags == ResponseFlags::NONE {
            None
        } else {
            Some(self.flags.to_string())
        };
        let upstream = self.endpoint.as_ref().map(|endpoint| &endpoint.address);
        let facts = connection.facts.get();
        let mut record = access_log::Record {
            start_unix_ms: wall
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_millis() as u64,
            protocol: Some(match self.request {
                _ if connection.stream.is_http2() => "HTTP/2",
                Some(seen) => protocol(seen.head.version),
                None => protocol(Version::Http11),
            }),
            response_code: self.status,
            response_flags: flags.as_deref().unwrap_or_default(),
            response_code_details: Some(&self.details()),
            upstream_transport_failure_reason: self.transport_failure.as_deref(),
            bytes_received: self.bytes_received(),
            bytes_sent: self.sent.payload.get(),
            duration_ms: rt::now()
                .saturating_duration_since(self.started)
                .as_millis() as u64,
            upstream_service_time_ms: self.upstream_service_time_ms,
            upstream_host: upstream.map(|address| match address {
                EndpointAddress::Socket(address) => access_log::Address::Socket(*address),
                EndpointAddress::Unix(path) => access_log::Address::Unix(path),
            }),
            upstream_cluster: self.cluster.as_ref().map(|view| view.cluster.name.as_str()),
            upstream_local_address: self.upstream_local_address,
            downstream_local_address: connection.local_addr(),
            downstream_remote_address: Some(connection.peer),
            requested_server_name: facts.and_then(|facts| facts.server_name.as_deref()),
            route_name: (!self.route_name.is_empty()).then_some(self.route_name),
            ..access_log::Record::default()
        };
        let path = self.path();
        let mut forwarded_for = Vec::new();
        if let Some(seen) = self.request {
            let SeenHead {
                head,
                bytes,
                request_id,
                ..
            } = *seen;
            // Envoy logs the head as it stands after its own edits, not as it came.
            seen.write_forwarded_for(&mut forwarded_for);
            let headers = head.headers(bytes);
            let authority = self.authority.map(str::as_bytes);
            record.method = Some(seen.method());
            record.path = Some(path.as_bytes());
            record.x_forwarded_for = (!forwarded_for.is_empty()).then_some(&forwarded_for);
            record.user_agent = headers.first("user-agent");
            record.request_id = request_id.get().or_else(|| headers.first("x-request-id"));
            record.authority = authority.or_else(|| head.host.map(|host| host.of(bytes)));
        }
        self.worker.log(|out| match format {
            AccessLogFormat::Text => access_log::format_text(&record, out),
            AccessLogFormat::Json => access_log::format_json(&record, out),
        });
    }
}

/// Path and query as Envoy logs them: before a rewrite, but in normal form.
fn logged_path<'b>(head: &RequestHead, bytes: &'b [u8], paths: Normalization) -> Cow<'b, str> {
    let (prefix, rest) = head.path_and_query(bytes);
    let came = String::from_utf8_lossy(rest);
    let came = match prefix {
        "" => came,
        prefix => Cow::Owned(format!("{prefix}{came}")),
    };
    let path_len = came.find('?').unwrap_or(came.len());
    match paths.apply(&came[..path_len]) {
        Ok(Cow::Owned(normal)) => Cow::Owned(normal + &came[path_len..]),
        _ => came,
    }
}
