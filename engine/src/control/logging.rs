//! The log on standard error, and its level, which the admin interface can change.

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt, reload};

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

/// Starts the log of the process. A second start in one process leaves the first in place.
pub fn start(level: LevelFilter) -> LogLevel {
    let (filter, handle) = reload::Layer::new(level);
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(false);
    // It fails only when a log runs already.
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init();
    LogLevel(handle)
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
