//! How long a change takes from the file to every worker, and to what a client sees.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::load::{self, LoadOutcome, LoadPlan};
use crate::payload::Payload;
use crate::peers::{self, Running};
use crate::probe::{self, VERSION_HEADER};
use crate::routes_config::{Ports, generate};
use crate::statistics::{quantile, spread};

/// A reload that takes longer than this has failed.
const RELOAD_LIMIT: Duration = Duration::from_secs(60);
/// Rest between two looks at the proxy.
const PROBE_INTERVAL: Duration = Duration::from_millis(1);
/// Rest between two reloads, varied so that no periodic work of the proxy is always met or missed.
const PAUSE: Duration = Duration::from_millis(150);
/// So many fresh connections in a row must see the new version until all workers are taken to
/// serve it: with two workers a stale one is missed once in 2³² times.
const FRESH_IN_A_ROW: usize = 32;
const ROUTES_PER_HOST: usize = 10;
const LOAD_CONNECTIONS: usize = 64;
const CONFIG_FILE: &str = "routes.yaml";

/// What to reload and how often.
pub struct Plan {
    pub ringroad: PathBuf,
    pub directory: PathBuf,
    pub workers: usize,
    pub routes: Vec<usize>,
    pub reloads: usize,
}

/// The times of one number of routes, idle or loaded.
#[derive(Serialize)]
pub struct Times {
    pub routes: usize,
    pub under_load: bool,
    /// From the file to the last worker, as the admin interface tells, in milliseconds.
    pub applied_ms: Vec<f64>,
    /// From the file to the first of the answers on fresh connections that were all new.
    pub seen_ms: Vec<f64>,
    /// Faults of the load.
    pub faults: u64,
}

impl Times {
    /// The figure to reach: the slowest of a hundred reloads, in milliseconds.
    fn bar_ms(&self) -> Option<f64> {
        match (self.routes, self.under_load) {
            (1_000, false) => Some(50.0),
            (10_000, false) => Some(500.0),
            (1_000, true) => Some(150.0),
            (10_000, true) => Some(1_500.0),
            _ => None,
        }
    }

    /// One line each for what the workers and what clients see.
    pub fn text(&self) -> String {
        let state = if self.under_load { "full load" } else { "idle" };
        let line = |what: &str, values: &[f64]| {
            let Some(spread) = spread(values.iter().copied()) else {
                return String::new();
            };
            let p99 = quantile(values, 0.99).unwrap_or(spread.max);
            let verdict = self.bar_ms().map_or(String::new(), |bar| {
                format!(
                    " ≤ {bar}: {}",
                    if p99 <= bar { "reached" } else { "missed" }
                )
            });
            format!(
                "{:>6} routes, {state:<9} {what:<14} min {:>7.1}  p50 {:>7.1}  p99 {p99:>7.1} ms{verdict}\n",
                self.routes, spread.min, spread.median
            )
        };
        let mut text =
            line("every worker", &self.applied_ms) + &line("fresh requests", &self.seen_ms);
        if self.faults > 0 {
            text += &format!("        {} requests of the load failed\n", self.faults);
        }
        text
    }
}

/// A Ringroad whose configuration is replaced again and again.
pub struct Subject {
    /// Ends with the subject.
    _proxy: Running,
    pub admin: SocketAddr,
    config: PathBuf,
}

impl Subject {
    /// Starts Ringroad on the text that `configuration` makes of the listening address.
    pub fn start(
        ringroad: &Path,
        directory: &Path,
        workers: usize,
        host: &str,
        configuration: impl Fn(SocketAddr) -> String,
    ) -> io::Result<(Self, SocketAddr)> {
        let (address, admin) = (peers::free_address()?, peers::free_address()?);
        let config = directory.join("config");
        // What an earlier run left must not be read.
        let _ = fs::remove_dir_all(&config);
        fs::create_dir_all(&config)?;
        fs::write(config.join(CONFIG_FILE), configuration(address))?;
        let proxy = peers::start_ringroad(ringroad, &config, workers, address, admin, host)?;
        Ok((
            Self {
                _proxy: proxy,
                admin,
                config,
            },
            address,
        ))
    }

    /// Puts a new text in the place of the old at once; returns the moment before.
    pub fn replace(&self, text: &str) -> io::Result<Instant> {
        // Not a YAML name, so that the half-written file is nobody's business.
        let unfinished = self.config.join("routes.unfinished");
        fs::write(&unfinished, text)?;
        let begun = Instant::now();
        fs::rename(unfinished, self.config.join(CONFIG_FILE))?;
        Ok(begun)
    }

    /// Waits until every worker uses a generation above `before`; returns the time since `begun`.
    pub fn wait_applied(&self, before: u64, begun: Instant) -> io::Result<Duration> {
        while probe::applied_generation(self.admin)? <= before {
            expect_before_limit(begun)?;
            std::thread::sleep(PROBE_INTERVAL);
        }
        Ok(begun.elapsed())
    }
}

fn expect_before_limit(begun: Instant) -> io::Result<()> {
    if begun.elapsed() < RELOAD_LIMIT {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "the new configuration was not taken up",
    ))
}

/// Runs `work` while a load runs; returns what both came to.
pub fn under_load<T: Send>(
    plan: LoadPlan,
    stop: &AtomicBool,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<(T, LoadOutcome)> {
    let finish = Arc::new(AtomicBool::new(false));
    let plan = LoadPlan {
        measured: Duration::from_secs(24 * 3600),
        finish: Some(Arc::clone(&finish)),
        ..plan
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| load::run(&plan, stop, |_| Ok(())));
        // Lets the load come up first.
        std::thread::sleep(plan.warm_up * 2);
        let result = work();
        finish.store(true, Ordering::Relaxed);
        let outcome = load
            .join()
            .map_err(|_| io::Error::other("the load generator panicked"))?;
        Ok((result?, outcome?))
    })
}

/// Measures all combinations and prints each as it comes.
pub fn run(plan: &Plan, stop: &AtomicBool) -> io::Result<Vec<Times>> {
    fs::create_dir_all(&plan.directory)?;
    let directory = plan.directory.canonicalize()?;
    let upstream = peers::start_upstream(None, &directory, "upstream")?;
    let service = peers::free_address()?;
    let mut results = Vec::new();
    for routes in &plan.routes {
        let hosts = (routes / ROUTES_PER_HOST).max(1);
        let text = |address: SocketAddr, version| {
            let ports = Ports {
                listen: address.port(),
                service: service.port(),
                upstream: upstream.address.port(),
            };
            generate(hosts, ROUTES_PER_HOST.min(*routes), ports, version)
        };
        let host = "h0.bench.local";
        let (subject, address) =
            Subject::start(&plan.ringroad, &directory, plan.workers, host, |at| {
                text(at, 0)
            })?;
        let mut version = 0;
        for under_load_too in [false, true] {
            let measure = || {
                let mut times = Times {
                    routes: *routes,
                    under_load: under_load_too,
                    applied_ms: Vec::new(),
                    seen_ms: Vec::new(),
                    faults: 0,
                };
                for _ in 0..plan.reloads {
                    if stop.load(Ordering::Relaxed) {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    version += 1;
                    let (applied, seen) =
                        reload_once(&subject, address, host, &text(address, version), version)?;
                    times.applied_ms.push(applied.as_secs_f64() * 1e3);
                    times.seen_ms.push(seen.as_secs_f64() * 1e3);
                    std::thread::sleep(PAUSE + Duration::from_millis(version * 37 % 100));
                }
                Ok(times)
            };
            let times = if under_load_too {
                let mut load = LoadPlan::to(address, Payload::Small, LOAD_CONNECTIONS);
                load.host = host.to_string();
                let (mut times, outcome) = under_load(load, stop, measure)?;
                times.faults = outcome.faults.values().sum();
                times
            } else {
                let mut measure = measure;
                measure()?
            };
            print!("{}", times.text());
            results.push(times);
        }
    }
    Ok(results)
}

/// One reload: the times until every worker has it, and until every fresh request sees it.
fn reload_once(
    subject: &Subject,
    address: SocketAddr,
    host: &str,
    text: &str,
    version: u64,
) -> io::Result<(Duration, Duration)> {
    let before = probe::applied_generation(subject.admin)?;
    let begun = subject.replace(text)?;
    let mut applied = None;
    let mut seen = None;
    let mut in_a_row = 0;
    while applied.is_none() || in_a_row < FRESH_IN_A_ROW {
        expect_before_limit(begun)?;
        if applied.is_none() && probe::applied_generation(subject.admin)? > before {
            applied = Some(begun.elapsed());
        }
        let answer = probe::fetch(address, host, Payload::Small.path())?;
        if answer.status != 200 {
            return Err(io::Error::other(format!(
                "status {} on a reload",
                answer.status
            )));
        }
        if answer.number(VERSION_HEADER) == Some(version) {
            seen = seen.or_else(|| Some(begun.elapsed()));
            in_a_row += 1;
        } else {
            (seen, in_a_row) = (None, 0);
        }
        if in_a_row == 0 {
            std::thread::sleep(PROBE_INTERVAL);
        }
    }
    Ok((applied.unwrap_or_default(), seen.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_held_against_their_bar() {
        let mut times = Times {
            routes: 1_000,
            under_load: false,
            applied_ms: vec![20.0; 100],
            seen_ms: vec![20.0; 100],
            faults: 0,
        };
        assert_eq!(
            times.text().matches("≤ 50: reached").count(),
            2,
            "{}",
            times.text()
        );
        times.seen_ms[..2].copy_from_slice(&[60.0, 70.0]);
        assert!(
            times.text().contains("p99    60.0 ms ≤ 50: missed"),
            "{}",
            times.text()
        );
        assert!(times.text().lines().all(|line| line.chars().count() <= 100));
    }
}
