//! One measurement: a load against one proxy, what it cost, and whether it counts.

use std::io;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde::Serialize;

use crate::load::{self, Handshakes, LoadPlan, Phase};
use crate::peers::{LOAD_CORE, PROXY_CORE, Peer, Running};
use crate::process::{self, CpuUse, ThreadTimes};
use crate::rows::{Front, Offer, Row, STREAMS};
use crate::sys;
use crate::wire::Security;

/// More than this part of the time stolen by the hypervisor, on either core, disturbs a run.
const MAX_STOLEN: f64 = 0.01;
/// The same for time that other processes ran, on either core.
const MAX_OTHERS: f64 = 0.02;
/// The same for time that the proxy was ready to run and had to wait.
const MAX_WAITED: f64 = 0.04;
/// A run at a fixed rate that reaches less than this part of it did not carry the load.
const MIN_RATE_REACHED: f64 = 0.98;

/// More than this part of the handshakes of the other kind makes a run one of something else.
const MAX_WRONG_HANDSHAKES: f64 = 0.01;

/// What one run showed.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub peer: Peer,
    /// Processor time of the proxy for a request, in microseconds.
    pub cpu_us: f64,
    /// The part of it in user space, between 0 and 1; only long runs tell.
    pub user_share: Option<f64>,
    pub requests_per_second: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub responses: u64,
    /// Connections the proxy ended between two requests.
    pub reconnects: u64,
    /// Why the run does not count: a wrong answer or a rate not reached.
    pub fault: Option<String>,
    /// What disturbed the run from outside.
    pub disturbance: Option<String>,
}

impl Sample {
    pub fn user_us(&self) -> Option<f64> {
        Some(self.cpu_us * self.user_share?)
    }
}

/// Times of a run.
#[derive(Clone, Copy, Debug)]
pub struct Durations {
    pub warm_up: Duration,
    pub measured: Duration,
    /// For the rows that tell user space from the kernel.
    pub split: Duration,
}

#[derive(Default)]
struct Reading {
    cpu: CpuUse,
    others: ThreadTimes,
    stolen: [u64; 2],
}

fn read(proxy: &Running, own: &[u32]) -> io::Result<Reading> {
    Ok(Reading {
        others: process::other_threads(own)?,
        stolen: [
            process::stolen_ticks(LOAD_CORE)?,
            process::stolen_ticks(PROXY_CORE)?,
        ],
        cpu: proxy
            .pids()
            .map(process::cpu_use)
            .sum::<io::Result<CpuUse>>()?,
    })
}

/// Measures one proxy once. `own` are the processes that belong to the bench; all else is outside.
pub fn measure(
    peer: Peer,
    running: &Running,
    row: &Row,
    durations: &Durations,
    own: &[u32],
    stop: &AtomicBool,
) -> io::Result<Sample> {
    let plan = LoadPlan {
        rate: row.rate(),
        at_once: row.requests_at_once(),
        connection_per_request: row.has_connection_per_request(),
        streams: (row.front() == Front::Http2).then_some(STREAMS),
        security: match row.front() {
            Front::Tls => Security::tls(row.offer == Offer::TlsResumed)?,
            Front::Plain | Front::Http2 => Security::Plain,
        },
        warm_up: durations.warm_up,
        measured: if row.offer == Offer::Split {
            durations.split
        } else {
            durations.measured
        },
        ..LoadPlan::to(running.address, row.payload, row.connections)
    };
    let (mut before, mut after) = (Reading::default(), Reading::default());
    let outcome = load::run(&plan, stop, |phase| {
        let reading = read(running, own)?;
        match phase {
            Phase::MeasureBegins => before = reading,
            Phase::MeasureEnds => after = reading,
        }
        Ok(())
    })?;
    let cpu = after.cpu - before.cpu;
    let seconds = outcome.elapsed.as_secs_f64();
    let per_second = outcome.responses as f64 / seconds.max(f64::MIN_POSITIVE);
    let stolen = [0, 1].map(|core| after.stolen[core].saturating_sub(before.stolen[core]));
    let disturbance = disturbance(&Outside {
        seconds,
        stolen_seconds: stolen[0].max(stolen[1]) as f64 / sys::clock_ticks_per_second() as f64,
        others_seconds: process::ran_between(&before.others, &after.others) as f64 / 1e9,
        waited_seconds: match row.offer {
            // They share a core and wait for each other.
            Offer::TwoHops => 0.0,
            _ => cpu.waited_ns as f64 / 1e9,
        },
    });
    let mut faults: Vec<String> = outcome
        .faults
        .iter()
        .map(|(name, count)| format!("{count} × {name}"))
        .collect();
    if outcome.responses == 0 {
        faults.push("no answer".to_string());
    }
    let Handshakes { full, resumed } = outcome.handshakes;
    let wrong_kind = match row.offer {
        Offer::TlsFull => resumed,
        Offer::TlsResumed => full,
        _ => 0,
    };
    if wrong_kind as f64 > outcome.responses as f64 * MAX_WRONG_HANDSHAKES {
        faults.push(format!("{full} full handshakes, {resumed} resumed ones"));
    }
    // Who falls behind a schedule while others use the cores is not to blame.
    if row
        .rate()
        .is_some_and(|rate| per_second < rate * MIN_RATE_REACHED)
        && disturbance.is_none()
    {
        faults.push(format!("only {per_second:.0} requests a second"));
    }
    Ok(Sample {
        peer,
        cpu_us: cpu.run_ns as f64 / 1e3 / outcome.responses.max(1) as f64,
        user_share: (row.offer == Offer::Split)
            .then(|| cpu.user_share())
            .flatten(),
        requests_per_second: per_second,
        p50_us: outcome.latency.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: outcome.latency.value_at_quantile(0.99) as f64 / 1e3,
        responses: outcome.responses,
        reconnects: outcome.reconnects,
        fault: (!faults.is_empty()).then(|| faults.join(", ")),
        disturbance,
    })
}

struct Outside {
    seconds: f64,
    stolen_seconds: f64,
    others_seconds: f64,
    waited_seconds: f64,
}

/// Names what disturbed a run, if anything did beyond its bound.
fn disturbance(outside: &Outside) -> Option<String> {
    let causes = [
        ("stolen", outside.stolen_seconds, MAX_STOLEN),
        ("used by others", outside.others_seconds, MAX_OTHERS),
        ("waited for the core", outside.waited_seconds, MAX_WAITED),
    ];
    let named: Vec<String> = causes
        .iter()
        .map(|(name, seconds, limit)| (name, seconds / outside.seconds, limit))
        .filter(|(_, part, limit)| part > limit)
        .map(|(name, part, _)| format!("{:.0} % {name}", part * 100.0))
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Outside = Outside {
        seconds: 2.0,
        stolen_seconds: 0.0,
        others_seconds: 0.01,
        waited_seconds: 0.01,
    };

    #[test]
    fn a_quiet_run_counts_and_each_disturbance_is_named() {
        assert_eq!(disturbance(&QUIET), None);
        let stolen = Outside {
            stolen_seconds: 0.1,
            ..QUIET
        };
        assert_eq!(disturbance(&stolen).as_deref(), Some("5 % stolen"));
        let two = Outside {
            others_seconds: 1.0,
            waited_seconds: 0.4,
            ..QUIET
        };
        assert_eq!(
            disturbance(&two).as_deref(),
            Some("50 % used by others, 20 % waited for the core")
        );
    }
}
