//! What gRPC asks of a proxy (gRPC over HTTP/2; "Responses", "Timeout").

use ringroad_codec::http1::{Headers, write_number};

/// Whether a request with these headers is a gRPC call.
pub fn is_grpc(headers: &Headers<'_>) -> bool {
    headers.first("content-type").is_some_and(is_grpc_type)
}

/// Whether this value of `content-type` is gRPC's.
pub fn is_grpc_type(value: &[u8]) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    value.len() >= TYPE.len()
        && value[..TYPE.len()].eq_ignore_ascii_case(TYPE)
        && matches!(value.get(TYPE.len()), None | Some(b'+' | b';'))
}

/// The value of `grpc-timeout` in milliseconds, rounded up; `None` without a well-formed one.
pub fn timeout_ms(headers: &Headers<'_>) -> Option<u64> {
    let value = headers.first("grpc-timeout")?;
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count = digits
        .iter()
        .fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let ms = match unit {
        b'H' => count * 3_600_000,
        b'M' => count * 60_000,
        b'S' => count * 1000,
        b'm' => count,
        b'u' => count.div_ceil(1000),
        b'n' => count.div_ceil(1_000_000),
        _ => return None,
    };
    Some(ms)
}

/// `UNAUTHENTICATED`, the last of the statuses that gRPC knows.
pub const LAST_STATUS: u16 = 16;

/// The `grpc-status` among these headers, if there is a number.
pub fn status(headers: &Headers<'_>) -> Option<u16> {
    let value = headers.first("grpc-status")?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Counts the messages of a body: each has five bytes before it, a flag and its length
/// (gRPC over HTTP/2, "Length-Prefixed-Message").
#[derive(Debug, Default)]
pub struct MessageCount {
    /// Messages whose prefix has come.
    pub messages: u64,
    /// How much of the next prefix has come, and the length in it so far.
    prefix_bytes: u8,
    length: u32,
    /// What is still to come of the present message.
    left: u64,
}

impl MessageCount {
    /// Takes the next bytes of the body.
    pub fn take(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.left > 0 {
                let taken = rest
                    .len()
                    .min(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= taken as u64;
                rest = &rest[taken..];
                continue;
            }
            // The flag, which comes first, is shifted out by the four bytes behind it.
            self.length = self.length << 8 | u32::from(rest[0]);
            self.prefix_bytes += 1;
            rest = &rest[1..];
            if self.prefix_bytes == 5 {
                self.messages += 1;
                self.left = u64::from(self.length);
                self.prefix_bytes = 0;
            }
        }
    }
}

/// Appends a `grpc-timeout` line.
pub fn write_timeout(timeout_ms: u64, out: &mut Vec<u8>) {
    /// The longest number that may be written.
    const MOST: u64 = 99_999_999;
    let (count, unit) = match timeout_ms {
        ms if ms <= MOST => (ms, b'm'),
        ms if ms / 1000 <= MOST => (ms / 1000, b'S'),
        ms => ((ms / 60_000).min(MOST), b'M'),
    };
    out.extend_from_slice(b"grpc-timeout: ");
    write_number(out, count);
    out.push(unit);
    out.extend_from_slice(b"\r\n");
}

/// Appends the lines of a response that consists of a status alone.
pub fn write_status(status: u16, message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"content-type: application/grpc\r\ngrpc-status: ");
    write_number(out, u64::from(status));
    out.extend_from_slice(b"\r\n");
    if message.is_empty() {
        return;
    }
    out.extend_from_slice(b"grpc-message: ");
    for byte in message {
        match byte {
            b' '..=b'~' if *byte != b'%' => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringroad_codec::http1::{HeadLimits, RequestHead, parse_request};

    fn with_head<T>(lines: &str, ask: impl FnOnce(&Headers<'_>) -> T) -> T {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\n{lines}\r\n\r\n");
        let mut parsed = RequestHead::default();
        parse_request(head.as_bytes(), &HeadLimits::default(), &mut parsed).expect("a head");
        ask(&parsed.headers(head.as_bytes()))
    }

    #[test]
    fn timeouts_are_read_in_every_unit_and_refused_otherwise() {
        let limit = |value: &str| with_head(&format!("grpc-timeout: {value}"), timeout_ms);
        for (value, ms) in [
            ("1H", 3_600_000),
            ("2M", 120_000),
            ("3S", 3000),
            ("250m", 250),
            ("1500u", 2),
            ("1n", 1),
            ("99999999m", 99_999_999),
        ] {
            assert_eq!(limit(value), Some(ms), "{value}");
        }
        for value in ["", "S", "1", "1x", "100000000m", "-1S", "1.5S"] {
            assert_eq!(limit(value), None, "{value}");
        }
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let mut body = Vec::new();
        for length in [0u32, 3, 300, 70_000, 1] {
            body.push(0);
            body.extend_from_slice(&length.to_be_bytes());
            body.extend(std::iter::repeat_n(0xff, length as usize));
        }
        for size in [1, 2, 4, 5, 7, 1000, body.len()] {
            let mut count = MessageCount::default();
            body.chunks(size).for_each(|piece| count.take(piece));
            assert_eq!(count.messages, 5, "in pieces of {size}");
        }
    }

    #[test]
    fn only_the_content_types_of_grpc_are_grpc() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/gRPC; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            assert_eq!(
                with_head(&format!("content-type: {value}"), is_grpc),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn messages_are_percent_encoded() {
        let mut out = Vec::new();
        write_status(14, "50% é".as_bytes(), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "content-type: application/grpc\r\ngrpc-status: 14\r\ngrpc-message: 50%25 %C3%A9\r\n"
        );
    }
}
