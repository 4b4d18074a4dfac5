//! Fifty proxies and twenty upstreams on virtual time: the real decisions, and no socket.
//!
//! A run follows from its seed alone. The upstreams are well, then some of them fail in different
//! ways, then all are well again. What must always hold is checked after each event; what must
//! hold in the end, at the end.

mod proxy;
mod scenario;

use proxy::{Proxy, Request};
use ringroad_policy::snapshot::Random;
use scenario::{Reply, Scenario};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

pub const PROXIES: usize = 50;
pub const UPSTREAMS: usize = 20;

/// What happened in a run, to see that it was no idle one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    pub requests: u64,
    pub failed_requests: u64,
    pub retries: u64,
    pub retries_over_budget: u64,
    pub ejections: u64,
    pub ejections_over_share: u64,
}

impl Report {
    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failed_requests += other.failed_requests;
        self.retries += other.retries;
        self.retries_over_budget += other.retries_over_budget;
        self.ejections += other.ejections;
        self.ejections_over_share += other.ejections_over_share;
    }
}

/// Something that happens at a time.
struct Event {
    at_us: u64,
    /// Breaks ties, so that a run repeats.
    number: u64,
    what: What,
}

enum What {
    /// A client's request comes to a proxy.
    Arrival { proxy: usize },
    /// A try begins, the first or a later one.
    Try(Request),
    /// A try ends.
    Reply(Request, Reply),
    /// The interval of outlier detection.
    Sweep { proxy: usize },
    /// A tenth of the interval of the retry budget.
    BudgetTick { proxy: usize },
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest is the greatest, as the heap wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

struct Fleet {
    now_us: u64,
    events: BinaryHeap<Event>,
    next_number: u64,
    random: Random,
    scenario: Scenario,
    proxies: Vec<Proxy>,
    report: Report,
    /// Tries on each upstream in the last phase.
    late_tries: [u64; UPSTREAMS],
}

/// Runs one seed.
///
/// # Errors
/// What was violated, and when.
pub fn run(seed: u64) -> Result<Report, String> {
    let mut random = Random::new(seed);
    let scenario = Scenario::draw(&mut random);
    let proxies = (0..PROXIES)
        .map(|_| Proxy::new(random.next_u64()))
        .collect();
    let mut fleet = Fleet {
        now_us: 0,
        events: BinaryHeap::new(),
        next_number: 0,
        random,
        scenario,
        proxies,
        report: Report::default(),
        late_tries: [0; UPSTREAMS],
    };
    let end = fleet.run();
    end.map_err(|what| {
        let at_ms = fleet.now_us / 1000;
        format!("seed {seed}, at {at_ms} ms: {what}; {}", fleet.scenario)
    })?;
    Ok(fleet.report)
}

impl Fleet {
    fn run(&mut self) -> Result<(), String> {
        for proxy in 0..PROXIES {
            // Proxies do not start at the same time.
            let offset_us = self.random.below(1_000_000) as u64;
            let gap_us = self.scenario.gap_us(0, &mut self.random);
            self.plan(gap_us, What::Arrival { proxy });
            let interval_us = self.scenario.interval_us();
            self.plan(offset_us % interval_us + 1, What::Sweep { proxy });
            if let Some(tick_ms) = self.scenario.budget.tick_ms() {
                self.plan(tick_ms * 1000, What::BudgetTick { proxy });
            }
        }
        while let Some(event) = self.events.pop() {
            self.now_us = event.at_us;
            self.happens(event.what)?;
        }
        self.check_end()
    }

    fn plan(&mut self, after_us: u64, what: What) {
        self.next_number += 1;
        self.events.push(Event {
            at_us: self.now_us + after_us,
            number: self.next_number,
            what,
        });
    }

    fn is_over(&self) -> bool {
        self.now_us >= self.scenario.ends_at_us
    }

    fn happens(&mut self, what: What) -> Result<(), String> {
        let now_ms = self.now_us / 1000;
        match what {
            What::Arrival { proxy } => {
                if !self.is_over() {
                    let gap_us = self.scenario.gap_us(self.now_us, &mut self.random);
                    self.plan(gap_us, What::Arrival { proxy });
                    self.report.requests += 1;
                    let request = self.proxies[proxy].accept(proxy);
                    self.begin_try(request)?;
                }
                Ok(())
            }
            What::Try(request) => self.begin_try(request),
            What::Reply(request, reply) => self.end_try(request, reply),
            What::Sweep { proxy } => {
                self.proxies[proxy].sweep(&self.scenario, now_ms);
                let out = self.proxies[proxy].count_ejected();
                if out > 0 && self.now_us >= self.scenario.even_from_us {
                    return Err(format!("{out} endpoints do not come back"));
                }
                if !self.is_over() {
                    self.plan(self.scenario.interval_us(), What::Sweep { proxy });
                }
                self.check_share(proxy)
            }
            What::BudgetTick { proxy } => {
                self.proxies[proxy].budget_tick();
                if let Some(tick_ms) = self.scenario.budget.tick_ms()
                    && !self.is_over()
                {
                    self.plan(tick_ms * 1000, What::BudgetTick { proxy });
                }
                Ok(())
            }
        }
    }

    fn begin_try(&mut self, mut request: Request) -> Result<(), String> {
        let proxy = &mut self.proxies[request.proxy];
        let Some(upstream) = proxy.pick(&mut request, &self.scenario)? else {
            // 503, flag UH.
            proxy.finish(&mut request);
            self.report.failed_requests += 1;
            return Ok(());
        };
        if self.now_us >= self.scenario.even_from_us && !self.is_over() {
            self.late_tries[upstream] += 1;
        }
        let reply = self.scenario.reply(upstream, self.now_us, &mut self.random);
        let (after_us, reply) = reply.within(self.scenario.per_try_us());
        self.plan(after_us, What::Reply(request, reply));
        Ok(())
    }

    fn end_try(&mut self, mut request: Request, reply: Reply) -> Result<(), String> {
        let now_ms = self.now_us / 1000;
        let proxy = &mut self.proxies[request.proxy];
        let ejected_before = proxy.ejections;
        proxy.note(&request, reply, &self.scenario, now_ms, &mut self.report);
        if proxy.ejections > ejected_before && self.now_us > self.scenario.quiet_from_us() {
            return Err("an endpoint was ejected although all were well".to_string());
        }
        let pause_us =
            proxy.try_again_after_us(&mut request, reply, &self.scenario, &mut self.report)?;
        match pause_us {
            Some(pause_us) => {
                self.report.retries += 1;
                let id = request.proxy;
                self.plan(pause_us, What::Try(request));
                self.check_share(id)
            }
            None => {
                proxy.finish(&mut request);
                if !reply.is_success() {
                    self.report.failed_requests += 1;
                }
                self.check_share(request.proxy)
            }
        }
    }

    /// No more than `maxEjectionPercent` are out.
    fn check_share(&self, proxy: usize) -> Result<(), String> {
        let out = self.proxies[proxy].count_ejected();
        let percent = self.scenario.outlier.max_ejection_percent as usize;
        if out * 100 > percent * UPSTREAMS {
            return Err(format!("{out} of {UPSTREAMS} are out with {percent} %"));
        }
        Ok(())
    }

    /// All requests have ended, all endpoints are in, and load is even again.
    fn check_end(&self) -> Result<(), String> {
        for (id, proxy) in self.proxies.iter().enumerate() {
            proxy
                .check_idle()
                .map_err(|what| format!("proxy {id}: {what}"))?;
        }
        let total: u64 = self.late_tries.iter().sum();
        let mean = total as f64 / UPSTREAMS as f64;
        // Six standard deviations of independent draws; turns and least-request are evener.
        let tolerance = 6.0 * mean.sqrt();
        for (upstream, tries) in self.late_tries.iter().enumerate() {
            if (*tries as f64 - mean).abs() > tolerance {
                return Err(format!(
                    "upstream {upstream} had {tries} tries where the mean was {mean:.0}"
                ));
            }
        }
        Ok(())
    }
}
