//! Two hundred reloads under load: nothing may fail, be doubled, or be late.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::load::{LoadOutcome, LoadPlan};
use crate::payload::Payload;
use crate::peers;
use crate::probe::{self, Served};
use crate::reload::{Subject, under_load};
use crate::routes_config::gateway;

const CONNECTIONS: usize = 64;

/// How the storm blows.
pub struct Plan {
    pub ringroad: PathBuf,
    pub directory: PathBuf,
    pub workers: usize,
    pub reloads: usize,
    /// Requests a second.
    pub rate: f64,
    /// A request that took longer is late.
    pub late: Duration,
}

/// What a period under load came to.
#[derive(Debug, PartialEq)]
struct Tally {
    sent: u64,
    failed: u64,
    doubled: u64,
    /// Requests that no upstream has seen.
    unseen: u64,
    late: u64,
    longest_ms: f64,
}

impl Tally {
    fn new(outcome: &LoadOutcome, served: Served, late: Duration) -> Self {
        let latency = &outcome.latency;
        let late_ns = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        // Each request has a number of its own, so different numbers are different requests.
        let doubled = served
            .requests
            .saturating_sub(outcome.sent)
            .max(served.doubled);
        Self {
            sent: outcome.sent,
            failed: outcome.faults.values().sum(),
            doubled,
            unseen: outcome.sent.saturating_sub(served.ids),
            late: latency.count_between(late_ns, u64::MAX),
            longest_ms: latency.max() as f64 / 1e6,
        }
    }

    fn is_clean(&self) -> bool {
        self.failed + self.doubled + self.unseen + self.late == 0
    }

    fn text(&self) -> String {
        format!(
            "{} sent, {} failed, {} doubled, {} unseen upstream, {} late, longest {:.1} ms",
            self.sent, self.failed, self.doubled, self.unseen, self.late, self.longest_ms
        )
    }
}

/// Runs the storm; before it the same load without a reload, which tells what is the machine's
/// own. An error when any request failed, was doubled or was late.
pub fn run(plan: &Plan, stop: &AtomicBool) -> io::Result<()> {
    fs::create_dir_all(&plan.directory)?;
    let directory = plan.directory.canonicalize()?;
    let upstreams = [
        peers::start_upstream(None, &directory, "upstream-a")?,
        peers::start_upstream(None, &directory, "upstream-b")?,
    ];
    let endpoints = [upstreams[0].address, upstreams[1].address];
    let service = peers::free_address()?;
    let text = |address, step| configuration(address, service, endpoints, step);
    let (subject, address) = Subject::start(
        &plan.ringroad,
        &directory,
        plan.workers,
        peers::HOST,
        |at| text(at, 0),
    )?;
    let load = LoadPlan {
        rate: Some(plan.rate),
        numbered: true,
        ..LoadPlan::to(address, Payload::Small, CONNECTIONS)
    };
    let mut first_number = 0;
    let mut served_before = served(endpoints)?;
    let mut period = |reloads: usize, length: Option<Duration>| {
        let numbered = LoadPlan {
            first_number,
            ..load.clone()
        };
        let begun = Instant::now();
        let (took, outcome) = under_load(numbered, stop, || {
            for step in 1..=reloads as u64 {
                check(stop)?;
                let before = probe::applied_generation(subject.admin)?;
                let replaced = subject.replace(&text(address, step))?;
                subject.wait_applied(before, replaced)?;
            }
            let took = begun.elapsed();
            while length.is_some_and(|length| begun.elapsed() < length) {
                check(stop)?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(took)
        })?;
        first_number += outcome.sent;
        let now = served(endpoints)?;
        let in_period = Served {
            requests: now.requests - served_before.requests,
            ids: now.ids - served_before.ids,
            doubled: now.doubled - served_before.doubled,
        };
        served_before = now;
        io::Result::Ok((took, Tally::new(&outcome, in_period, plan.late), outcome))
    };
    let (_, calm, _) = period(0, Some(Duration::from_secs(5)))?;
    println!("without reloads: {}", calm.text());
    let (took, tally, outcome) = period(plan.reloads, None)?;
    println!(
        "{} reloads in {:.1} s: {}",
        plan.reloads,
        took.as_secs_f64(),
        tally.text()
    );
    for (fault, count) in &outcome.faults {
        println!("fault: {count} × {fault}");
    }
    if tally.is_clean() {
        Ok(())
    } else {
        Err(io::Error::other("requests suffered by reloads"))
    }
}

fn check(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) {
        Err(io::ErrorKind::Interrupted.into())
    } else {
        Ok(())
    }
}

fn served(upstreams: [SocketAddr; 2]) -> io::Result<Served> {
    let mut sum = Served::default();
    for upstream in upstreams {
        let served = probe::served(upstream)?;
        sum.requests += served.requests;
        sum.ids += served.ids;
        sum.doubled += served.doubled;
    }
    Ok(sum)
}

/// A configuration in which each step changes the weights, the balancer, the pools and whether a
/// further virtual service and its cluster exist.
fn configuration(
    address: SocketAddr,
    service: SocketAddr,
    endpoints: [SocketAddr; 2],
    step: u64,
) -> String {
    let (listen, service) = (address.port(), service.port());
    let host = peers::HOST;
    let weight = 10 + step * 17 % 80;
    let mut yaml = gateway(listen);
    let _ = write!(
        yaml,
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: bench }}
spec:
  hosts: [{host}]
  gateways: [bench]
  http:
    - route:
        - destination: {{ host: service0.bench.internal, port: {{ number: {service} }} }}
          weight: {weight}
        - destination: {{ host: service1.bench.internal, port: {{ number: {service} }} }}
          weight: {}
",
        100 - weight
    );
    for (index, endpoint) in endpoints.iter().enumerate() {
        let balancer = ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM"][(step as usize + index) % 3];
        let pending = 1024 + step;
        let _ = write!(
            yaml,
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: service{index} }}
spec:
  hosts: [service{index}.bench.internal]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports: [{{ number: {service}, name: http, protocol: HTTP }}]
  endpoints:
    - address: 127.0.0.1
      ports: {{ http: {} }}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: service{index} }}
spec:
  host: service{index}.bench.internal
  trafficPolicy:
    loadBalancer: {{ simple: {balancer} }}
    connectionPool: {{ http: {{ http1MaxPendingRequests: {pending} }} }}
",
            endpoint.port()
        );
    }
    if step % 2 == 1 {
        let _ = write!(
            yaml,
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: passing }}
spec:
  hosts: [passing{step}.bench.local]
  gateways: [bench]
  http:
    - route:
        - destination: {{ host: service0.bench.internal, port: {{ number: {service} }} }}
"
        );
    }
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    fn outcome(sent: u64, latencies_ms: &[u64]) -> LoadOutcome {
        let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds");
        latencies_ms
            .iter()
            .for_each(|ms| latency.saturating_record(ms * 1_000_000));
        LoadOutcome {
            responses: sent,
            sent,
            elapsed: Duration::from_secs(1),
            latency,
            ..LoadOutcome::new().expect("an outcome")
        }
    }

    #[test]
    fn every_wrong_is_counted() {
        let late = Duration::from_millis(100);
        let served = |requests, ids, doubled| Served {
            requests,
            ids,
            doubled,
        };
        let tally = |served, ms: &[u64]| Tally::new(&outcome(3, ms), served, late);
        assert!(tally(served(3, 3, 0), &[1, 2, 3]).is_clean());
        assert_eq!(tally(served(4, 3, 1), &[1]).doubled, 1);
        // The same request at both upstreams is doubled too, though neither saw it twice.
        assert_eq!(tally(served(4, 4, 0), &[1]).doubled, 1);
        assert_eq!(tally(served(2, 2, 0), &[1]).unseen, 1);
        assert_eq!(tally(served(3, 3, 0), &[1, 150, 2]).late, 1);
    }
}
