//! The lines of the access log, in Istio's default text format and as JSON with the same keys.
//!
//! Workers call these on their own buffers: nothing here allocates but the growth of `out`.

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
    write_number(record.response_code.into(), out);
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
        write_number(number, out);
    }
    out.push(b' ');
    match record.upstream_service_time_ms {
        Some(ms) => write_number(ms, out),
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
    json("path", record.path, out);
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
            write_number(ms, out);
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
    write_number(value, out);
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

fn write_number(value: u64, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// `2026-11-21T04:05:06.789Z`.
/// Appends `2026-01-31T12:00:00.000Z`.
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

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that
/// the leap day is the last of its year and months have a regular length.
pub fn civil_date(days_since_1970: u64) -> (u64, u64, u64) {
    const DAYS_IN_400_YEARS: u64 = 146_097;
    const DAYS_FROM_YEAR_0_TO_1970: u64 = 719_468;
    let days = days_since_1970 + DAYS_FROM_YEAR_0_TO_1970;
    let (era, day_of_era) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let leap_days = day_of_era / 1_460 + day_of_era / 146_096;
    let year_of_era = (day_of_era + day_of_era / 36_524 - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
#[path = "access_log_tests.rs"]
mod tests;
