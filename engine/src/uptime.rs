//! The clock that policies are handed: milliseconds since the process began to use it.

use std::sync::OnceLock;
use std::time::Instant;

static START: OnceLock<Instant> = OnceLock::new();

/// What the clock showed at `at`.
pub fn ms_at(at: Instant) -> u64 {
    let start = *START.get_or_init(Instant::now);
    at.saturating_duration_since(start).as_millis() as u64
}
