//! `%START_TIME(…)%` in configured headers: the specifiers of strftime that are in use, and Envoy's
//! for parts of a second. All times are UTC.

use crate::control::access_log::write_time;
use ringroad_codec::http1::civil_date;
use std::time::Duration;

/// Appends a time as `format` has it; without a format as `2026-01-31T12:00:00.000Z`. What is no
/// known specifier stays as it is.
pub fn write_start_time(format: Option<&str>, since_epoch: Duration, out: &mut Vec<u8>) {
    let Some(format) = format.filter(|format| !format.is_empty()) else {
        return write_time(since_epoch.as_millis() as u64, out);
    };
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.extend_from_slice(before.as_bytes());
        rest = match write_specifier(after, since_epoch, out) {
            Some(len) => &after[len..],
            None => {
                out.push(b'%');
                after
            }
        };
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Appends what the specifier at the start of `text` stands for, and gives its length.
fn write_specifier(text: &str, since_epoch: Duration, out: &mut Vec<u8>) -> Option<usize> {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let second_of_day = seconds % 86_400;
    let (hour, minute, second) = (
        second_of_day / 3_600,
        second_of_day / 60 % 60,
        second_of_day % 60,
    );
    let mut letters = text.chars();
    let written = match letters.next()? {
        'Y' => format!("{year:04}"),
        'y' => format!("{:02}", year % 100),
        'm' => format!("{month:02}"),
        'd' => format!("{day:02}"),
        'e' => format!("{day:2}"),
        'H' => format!("{hour:02}"),
        'M' => format!("{minute:02}"),
        'S' => format!("{second:02}"),
        'F' => format!("{year:04}-{month:02}-{day:02}"),
        'T' => format!("{hour:02}:{minute:02}:{second:02}"),
        'z' => "+0000".to_string(),
        'Z' => "UTC".to_string(),
        's' => seconds.to_string(),
        '%' => "%".to_string(),
        'f' => format!("{:09}", since_epoch.subsec_nanos()),
        digits @ '1'..='9' if letters.next() == Some('f') => {
            let len = digits.to_digit(10)? as usize;
            let nanos = format!("{:09}", since_epoch.subsec_nanos());
            out.extend_from_slice(&nanos.as_bytes()[..len]);
            return Some(2);
        }
        _ => return None,
    };
    out.extend_from_slice(written.as_bytes());
    Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_envoy_writes_them() {
        let at = Duration::from_millis(1_795_262_015_333);
        for (format, expected) in [
            (None, "2026-11-21T11:53:35.333Z"),
            (Some(""), "2026-11-21T11:53:35.333Z"),
            (Some("%Y"), "2026"),
            (Some("%s.%3f"), "1795262015.333"),
            (
                Some("%Y/%m/%dT%H:%M:%S%z %3f"),
                "2026/11/21T11:53:35+0000 333",
            ),
            (Some("%FT%T"), "2026-11-21T11:53:35"),
            (Some("%e %f"), "21 333000000"),
            (Some("at %q and %"), "at %q and %"),
        ] {
            let mut out = Vec::new();
            write_start_time(format, at, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{format:?}");
        }
    }
}
