//! The log on standard error, and its level, which the admin interface can change.
//!
//! Lines go through a queue: a pipe that nobody reads must not stop the control thread.

use std::io::{self, Write as _};
use std::sync::OnceLock;
use std::time::Duration;

use tracing::{Event, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::line_sink::LineSink;

/// Reads and changes the level of the log.
#[derive(Debug, Clone)]
pub struct LogLevel(reload::Handle<LevelFilter, Registry>);

impl LogLevel {
    /// The level, as Envoy's admin interface names it.
    pub fn name(&self) -> &'static str {
        self.0.clone_current().map_or("off", level_name)
    }

    /// Sets the level for all that is logged from now on.
    pub fn set(&self, level: LevelFilter) {
        // It fails only when the subscriber is gone, and then there is no log either.
        let _ = self.0.reload(level);
    }
}

/// How long the end of the process waits for its last lines to be written.
const FLUSH_DEADLINE: Duration = Duration::from_secs(1);

static LINES: OnceLock<LineSink> = OnceLock::new();

/// Starts the log of the process. A second start in one process leaves the first in place.
///
/// # Errors
/// When the thread that writes cannot be started.
pub fn start(level: LevelFilter) -> io::Result<LogLevel> {
    if LINES.get().is_none() {
        let _ = LINES.set(LineSink::to(io::stderr())?);
    }
    let (filter, handle) = reload::Layer::new(level);
    let lines = fmt::layer()
        .with_writer(QueuedLine::default)
        .with_target(false)
        .with_ansi(false);
    // It fails only when a log runs already.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(QuietProtocols)
        .with(lines)
        .try_init();
    Ok(LogLevel(handle))
}

/// Prints `text` on standard error in order with the log.
pub fn print(text: String) {
    match LINES.get() {
        Some(lines) => {
            lines.try_push(&mut text.into_bytes());
        }
        None => {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
    }
}

/// Waits a little for what was logged to be written.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(FLUSH_DEADLINE);
    }
}

/// Leaves out what the library of HTTP/2 says of single frames as warnings, except at the level
/// `debug`: a peer could fill the log with them.
struct QuietProtocols;

impl<S: Subscriber> Layer<S> for QuietProtocols {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let is_of_peer = event.metadata().target().starts_with("h2::");
        !is_of_peer || LevelFilter::current() >= LevelFilter::DEBUG
    }
}

/// Collects one event and hands it over when the event is complete.
#[derive(Default)]
struct QueuedLine(Vec<u8>);

impl io::Write for QueuedLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for QueuedLine {
    fn drop(&mut self) {
        if let Some(lines) = LINES.get() {
            lines.try_push(&mut self.0);
        }
    }
}

/// A level by the names that Envoy's `/logging` takes.
pub fn parse_level(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "trace" => LevelFilter::TRACE,
        "debug" => LevelFilter::DEBUG,
        "info" => LevelFilter::INFO,
        "warning" | "warn" => LevelFilter::WARN,
        "error" | "critical" => LevelFilter::ERROR,
        "off" => LevelFilter::OFF,
        _ => return None,
    })
}

fn level_name(level: LevelFilter) -> &'static str {
    match level {
        LevelFilter::TRACE => "trace",
        LevelFilter::DEBUG => "debug",
        LevelFilter::INFO => "info",
        LevelFilter::WARN => "warning",
        LevelFilter::ERROR => "error",
        _ => "off",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for name in ["trace", "debug", "info", "warning", "error", "off"] {
            assert_eq!(level_name(parse_level(name).expect("known")), name);
        }
        assert_eq!(parse_level("loud"), None);
    }
}
