//! The lines of the access log, in Istio's default text format and as JSON with the same keys.
//!
//! Workers call these on their own buffers: nothing here allocates but the growth of `out`.

use ringroad_codec::http1::{civil_date, write_number};
use std::io::Write as _;
use std::net::SocketAddr;

/// Where workers push their lines.
pub use super::line_sink::LineSink as AccessLogSink;

/// One finished request, as the log tells it. `None` prints as `-` in text and `null` in JSON.
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    /// When the first byte of the request was seen, in milliseconds since 1970-01-01 UTC.
    pub start_unix_ms: u64,
    pub method: Option<&'a [u8]>,
    /// The path with its query, in normal form but before any rewrite.
    pub path: Option<&'a [u8]>,
    /// `HTTP/1.1`.
    pub protocol: Option<&'a str>,
    /// The status sent downstream; 0 when none was.
    pub response_code: u16,
    /// Envoy's short flags, joined by commas; empty when there are none.
    pub response_flags: &'a str,
    pub response_code_details: Option<&'a str>,
    pub connection_termination_details: Option<&'a str>,
    pub upstream_transport_failure_reason: Option<&'a str>,
    /// Body bytes received from downstream, without what frames them.
    pub bytes_received: u64,
    /// Body bytes sent downstream, without what frames them.
    pub bytes_sent: u64,
    pub duration_ms: u64,
    pub upstream_service_time_ms: Option<u64>,
    pub x_forwarded_for: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    pub request_id: Option<&'a [u8]>,
    pub authority: Option<&'a [u8]>,
    pub upstream_host: Option<Address<'a>>,
    pub upstream_cluster: Option<&'a str>,
    pub upstream_local_address: Option<SocketAddr>,
    pub downstream_local_address: Option<SocketAddr>,
    pub downstream_remote_address: Option<SocketAddr>,
    pub requested_server_name: Option<&'a str>,
    pub route_name: Option<&'a str>,
}

/// The address of an endpoint.
#[derive(Debug, Clone, Copy)]
pub enum Address<'a> {
    Socket(SocketAddr),
    /// The path of a Unix socket.
    Unix(&'a str),
}

/// Appends `record` as one line in Istio's default text format.
pub fn format_text(record: &Record<'_>, out: &mut Vec<u8>) {
    out.push(b'[');
    write_time(record.start_unix_ms, out);
    out.extend_from_slice(b"] \"");
    text(record.method, out);
    out.push(b' ');
    text(record.path, out);
    out.push(b' ');
    text(bytes(record.protocol), out);
    out.extend_from_slice(b"\" ");
    write_number(out, record.response_code.into());
    out.push(b' ');
    out.extend_from_slice(flags(record).as_bytes());
    for details in [
        record.response_code_details,
        record.connection_termination_details,
    ] {
        out.push(b' ');
        text(bytes(details), out);
    }
    out.extend_from_slice(b" \"");
    text(bytes(record.upstream_transport_failure_reason), out);
    out.push(b'"');
    for number in [record.bytes_received, record.bytes_sent, record.duration_ms] {
        out.push(b' ');
        write_number(out, number);
    }
    out.push(b' ');
    match record.upstream_service_time_ms {
        Some(ms) => write_number(out, ms),
        None => out.push(b'-'),
    }
    for header in [
        record.x_forwarded_for,
        record.user_agent,
        record.request_id,
        record.authority,
    ] {
        out.extend_from_slice(b" \"");
        text(header, out);
        out.push(b'"');
    }
    out.extend_from_slice(b" \"");
    write_address(record.upstream_host, out);
    out.extend_from_slice(b"\" ");
    text(bytes(record.upstream_cluster), out);
    for address in addresses(record) {
        out.push(b' ');
        write_address(address.map(Address::Socket), out);
    }
    for name in [record.requested_server_name, record.route_name] {
        out.push(b' ');
        text(bytes(name), out);
    }
    out.push(b'\n');
}

/// Appends `record` as one line of JSON, with the keys that Istio's JSON format has.
pub fn format_json(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"start_time\":\"");
    write_time(record.start_unix_ms, out);
    out.push(b'"');
    json("method", record.method, out);
    // A CONNECT has none.
    let path = record.path.filter(|path| !path.is_empty());
    json("path", path, out);
    json("protocol", bytes(record.protocol), out);
    json_number("response_code", record.response_code.into(), out);
    json("response_flags", Some(flags(record).as_bytes()), out);
    json(
        "response_code_details",
        bytes(record.response_code_details),
        out,
    );
    json(
        "connection_termination_details",
        bytes(record.connection_termination_details),
        out,
    );
    json(
        "upstream_transport_failure_reason",
        bytes(record.upstream_transport_failure_reason),
        out,
    );
    json_number("bytes_received", record.bytes_received, out);
    json_number("bytes_sent", record.bytes_sent, out);
    json_number("duration", record.duration_ms, out);
    match record.upstream_service_time_ms {
        // It is a header's value, so a string, as Envoy prints it.
        Some(ms) => {
            json_key("upstream_service_time", out);
            out.push(b'"');
            write_number(out, ms);
            out.push(b'"');
        }
        None => json("upstream_service_time", None, out),
    }
    json("x_forwarded_for", record.x_forwarded_for, out);
    json("user_agent", record.user_agent, out);
    json("request_id", record.request_id, out);
    json("authority", record.authority, out);
    match record.upstream_host {
        Some(Address::Unix(path)) => json("upstream_host", Some(path.as_bytes()), out),
        Some(Address::Socket(address)) => json_address("upstream_host", Some(address), out),
        None => json("upstream_host", None, out),
    }
    json("upstream_cluster", bytes(record.upstream_cluster), out);
    let keys = [
        "upstream_local_address",
        "downstream_local_address",
        "downstream_remote_address",
    ];
    for (key, address) in keys.into_iter().zip(addresses(record)) {
        json_address(key, address, out);
    }
    json(
        "requested_server_name",
        bytes(record.requested_server_name),
        out,
    );
    json("route_name", bytes(record.route_name), out);
    out.extend_from_slice(b"}\n");
}

fn addresses(record: &Record<'_>) -> [Option<SocketAddr>; 3] {
    [
        record.upstream_local_address,
        record.downstream_local_address,
        record.downstream_remote_address,
    ]
}

fn flags<'a>(record: &Record<'a>) -> &'a str {
    if record.response_flags.is_empty() {
        "-"
    } else {
        record.response_flags
    }
}

fn bytes(value: Option<&str>) -> Option<&[u8]> {
    value.map(str::as_bytes)
}

fn text(value: Option<&[u8]>, out: &mut Vec<u8>) {
    match value {
        Some(value) if !value.is_empty() => out.extend_from_slice(value),
        _ => out.push(b'-'),
    }
}

fn write_address(address: Option<Address<'_>>, out: &mut Vec<u8>) {
    match address {
        Some(Address::Socket(address)) => {
            // Writing to a `Vec` cannot fail.
            let _ = write!(out, "{address}");
        }
        Some(Address::Unix(path)) => out.extend_from_slice(path.as_bytes()),
        None => out.push(b'-'),
    }
}

fn json_key(key: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}

fn json(key: &str, value: Option<&[u8]>, out: &mut Vec<u8>) {
    json_key(key, out);
    match value {
        Some(value) => write_json_string(value, out),
        None => out.extend_from_slice(b"null"),
    }
}

fn json_number(key: &str, value: u64, out: &mut Vec<u8>) {
    json_key(key, out);
    write_number(out, value);
}

fn json_address(key: &str, address: Option<SocketAddr>, out: &mut Vec<u8>) {
    match address {
        Some(address) => {
            json_key(key, out);
            out.push(b'"');
            write_address(Some(Address::Socket(address)), out);
            out.push(b'"');
        }
        None => json(key, None, out),
    }
}

/// RFC 8259 section 7. Bytes that are no UTF-8 become U+FFFD.
fn write_json_string(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        for byte in chunk.valid().bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..=0x1f => {
                    let _ = write!(out, "\\u{byte:04x}");
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

/// Appends `2026-01-31T12:00:00.000Z`; the time counts from 1970-01-01 UTC.
pub fn write_time(unix_ms: u64, out: &mut Vec<u8>) {
    let (seconds, ms) = (unix_ms / 1_000, unix_ms % 1_000);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_date(days);
    let mut padded = |value: u64, width: u32, end: u8| {
        for place in (0..width).rev() {
            out.push(b'0' + (value / 10_u64.pow(place) % 10) as u8);
        }
        out.push(end);
    };
    padded(year, 4, b'-');
    padded(month, 2, b'-');
    padded(day, 2, b'T');
    padded(second_of_day / 3_600, 2, b':');
    padded(second_of_day / 60 % 60, 2, b':');
    padded(second_of_day % 60, 2, b'.');
    padded(ms, 3, b'Z');
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
