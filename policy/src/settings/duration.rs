//! Durations as Istio writes them: `1h2m3.5s`, `150ms`.

use std::fmt;

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no duration (write `10s`, `1m30s`, `150ms`)",
            self.0
        )
    }
}

impl std::error::Error for DurationError {}

/// A duration in milliseconds, from Go's notation: decimal numbers with the units `h`, `m`, `s`,
/// `ms`, `us` and `ns`. Anything above zero is at least one millisecond.
///
/// # Errors
///
/// Any other text, a negative duration, and one beyond ten thousand years.
pub fn parse_ms(text: &str) -> Result<u64, DurationError> {
    let error = || DurationError(text.to_string());
    if text == "0" {
        return Ok(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(error());
    }
    let mut total_ns = 0_f64;
    while !rest.is_empty() {
        let number_len = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(error)?;
        let number: f64 = rest[..number_len].parse().map_err(|_| error())?;
        rest = &rest[number_len..];
        let unit_len = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit_ns = match &rest[..unit_len] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return Err(error()),
        };
        total_ns += number * unit_ns;
        rest = &rest[unit_len..];
    }
    const LONGEST_NS: f64 = 10_000.0 * 366.0 * 86_400.0 * 1e9;
    if !(0.0..=LONGEST_NS).contains(&total_ns) {
        return Err(error());
    }
    let ms = (total_ns / 1e6) as u64;
    Ok(if ms == 0 && total_ns > 0.0 { 1 } else { ms })
}
