//! One proxy: two workers that share what they know about the endpoints, as in the engine.

use super::scenario::{Reply, Scenario};
use super::{Report, UPSTREAMS};
use ringroad_policy::health::{
    Detector, FailureCounts, RequestWindow, RetryBudget, TryOutcome, Verdict,
};
use ringroad_policy::snapshot::{
    BalancerState, EndpointView, PickRequest, Random, TryFailure, TryResponse,
};

const WORKERS: usize = 2;

pub struct Proxy {
    workers: [Worker; WORKERS],
    counts: [FailureCounts; UPSTREAMS],
    detector: Detector,
    /// What the detector has said, kept apart from it.
    is_out: [bool; UPSTREAMS],
    /// How often one of these has changed.
    changes: u64,
    pub ejections: u64,
    active: u64,
    retries: u64,
    tries_total: u64,
    window: RequestWindow,
    random: Random,
}

#[derive(Default)]
struct Worker {
    balancer: BalancerState,
    active: [u32; UPSTREAMS],
}

/// A request and its tries.
pub struct Request {
    pub proxy: usize,
    worker: usize,
    tries: u32,
    upstream: usize,
    tried: Vec<usize>,
    /// It counts as a retry under way.
    has_permit: bool,
}

/// The endpoints as a worker sees them.
struct View<'a> {
    is_out: &'a [bool; UPSTREAMS],
    active: &'a [u32; UPSTREAMS],
    changes: u64,
}

impl EndpointView for View<'_> {
    fn is_available(&self, index: usize) -> bool {
        !self.is_out[index]
    }

    fn active_requests(&self, index: usize) -> u32 {
        self.active[index]
    }

    fn availability_version(&self) -> u64 {
        self.changes
    }
}

impl Proxy {
    pub fn new(seed: u64) -> Self {
        Self {
            workers: Default::default(),
            counts: Default::default(),
            detector: Detector::new(UPSTREAMS),
            is_out: [false; UPSTREAMS],
            changes: 0,
            ejections: 0,
            active: 0,
            retries: 0,
            tries_total: 0,
            window: RequestWindow::new(0),
            random: Random::new(seed),
        }
    }

    /// A request has come.
    pub fn accept(&mut self, proxy: usize) -> Request {
        Request {
            proxy,
            worker: self.random.below(WORKERS),
            tries: 0,
            upstream: 0,
            tried: Vec::new(),
            has_permit: false,
        }
    }

    /// The endpoint of the next try.
    pub fn pick(
        &mut self,
        request: &mut Request,
        scenario: &Scenario,
    ) -> Result<Option<usize>, String> {
        let worker = &mut self.workers[request.worker];
        let view = View {
            is_out: &self.is_out,
            active: &worker.active,
            changes: self.changes,
        };
        let wanted = PickRequest {
            tried: &request.tried,
            avoids_tried: scenario.retry.exclude_tried,
            ..PickRequest::default()
        };
        let cluster = &scenario.cluster;
        let picked = cluster.pick_endpoint(&mut worker.balancer, &view, &mut self.random, &wanted);
        let out = self.is_out.iter().filter(|out| **out).count();
        let is_panic =
            (UPSTREAMS - out) * 100 < UPSTREAMS * usize::from(cluster.panic_threshold_percent);
        let Some(upstream) = picked else {
            return match out == UPSTREAMS && !is_panic {
                true => Ok(None),
                false => Err(format!("no endpoint was found with {out} out")),
            };
        };
        if self.is_out[upstream] && !is_panic {
            return Err(format!("an ejected endpoint was chosen with {out} out"));
        }
        let untried = (0..UPSTREAMS)
            .filter(|at| (!self.is_out[*at] || is_panic) && !request.tried.contains(at))
            .count();
        if request.tried.contains(&upstream) && untried > 0 {
            return Err("an endpoint was tried twice while there were others".to_string());
        }
        request.upstream = upstream;
        request.tries += 1;
        if scenario.retry.exclude_tried {
            request.tried.push(upstream);
        }
        worker.active[upstream] += 1;
        self.active += 1;
        self.tries_total += 1;
        Ok(Some(upstream))
    }

    /// A try has ended: outlier detection hears of it.
    pub fn note(
        &mut self,
        request: &Request,
        reply: Reply,
        scenario: &Scenario,
        now_ms: u64,
        report: &mut Report,
    ) {
        let upstream = request.upstream;
        self.workers[request.worker].active[upstream] -= 1;
        self.active -= 1;
        let outcome = match reply {
            Reply::Status(status) => TryOutcome::Response {
                status,
                grpc_status: None,
            },
            Reply::Refused => TryOutcome::ConnectFailed,
            Reply::Reset => TryOutcome::Reset,
            Reply::Silence | Reply::TimedOut => TryOutcome::Timeout { status: 504 },
        };
        let connected = (reply != Reply::Refused).then_some(TryOutcome::Connected);
        let rules = &scenario.outlier;
        for outcome in connected.into_iter().chain([outcome]) {
            let (counts, triggered) = self.counts[upstream].after(outcome, rules);
            self.counts[upstream] = counts;
            for cause in triggered.iter() {
                let verdict = self.detector.judge(upstream, cause, rules, now_ms);
                if verdict == Verdict::AlreadyOut {
                    continue;
                }
                self.counts[upstream] = self.counts[upstream].cleared_of(cause);
                match verdict {
                    Verdict::Ejected { .. } => {
                        self.is_out[upstream] = true;
                        self.changes += 1;
                        self.ejections += 1;
                        report.ejections += 1;
                    }
                    Verdict::Overflow => report.ejections_over_share += 1,
                    Verdict::NotEnforced | Verdict::AlreadyOut => {}
                }
            }
        }
    }

    /// How long to wait before the next try, if there is one.
    pub fn try_again_after_us(
        &mut self,
        request: &mut Request,
        reply: Reply,
        scenario: &Scenario,
        report: &mut Report,
    ) -> Result<Option<u64>, String> {
        self.give_permit_back(request);
        let policy = &scenario.retry;
        let is_wanted = match reply {
            Reply::Status(status) => policy.repeats_response(&TryResponse {
                status,
                ..TryResponse::default()
            }),
            Reply::Refused => policy.repeats_failure(TryFailure::NoConnection),
            Reply::Reset => policy.repeats_failure(TryFailure::Reset {
                request_began: true,
            }),
            Reply::Silence | Reply::TimedOut => policy.repeats_failure(TryFailure::TimedOut),
        };
        if !is_wanted || request.tries > policy.attempts {
            return Ok(None);
        }
        let budget = &scenario.budget;
        if self.retries >= budget.max_retries(self.requests_of(budget)) {
            report.retries_over_budget += 1;
            return Ok(None);
        }
        self.retries += 1;
        request.has_permit = true;
        self.check_budget(budget)?;
        if request.tries > policy.attempts {
            return Err(format!("{} tries of one request", request.tries + 1));
        }
        Ok(Some(policy.backoff_us(request.tries, &mut self.random)))
    }

    /// What the budget is a share of.
    fn requests_of(&self, budget: &RetryBudget) -> u64 {
        match budget.interval_ms {
            0 => self.active,
            _ => self.window.requests(self.tries_total),
        }
    }

    /// The retries under way are within the budget, in integers and with all that is known.
    fn check_budget(&self, budget: &RetryBudget) -> Result<(), String> {
        let requests = self.requests_of(budget);
        let share = requests * budget.percent as u64 / 100;
        let most = share.max(u64::from(budget.min_concurrency));
        if self.retries > most {
            let retries = self.retries;
            return Err(format!(
                "{retries} retries for {requests} requests, {budget:?}"
            ));
        }
        if budget.interval_ms > 0 && requests > self.tries_total {
            return Err("the window holds more requests than there were".to_string());
        }
        Ok(())
    }

    /// A request has its answer.
    pub fn finish(&mut self, request: &mut Request) {
        self.give_permit_back(request);
    }

    fn give_permit_back(&mut self, request: &mut Request) {
        if std::mem::take(&mut request.has_permit) {
            self.retries -= 1;
        }
    }

    pub fn sweep(&mut self, scenario: &Scenario, now_ms: u64) {
        let (is_out, counts, changes) = (&mut self.is_out, &mut self.counts, &mut self.changes);
        self.detector.sweep(&scenario.outlier, now_ms, |at, _| {
            is_out[at] = false;
            *changes += 1;
            counts[at] = FailureCounts::default();
        });
    }

    pub fn budget_tick(&mut self) {
        self.window.tick(self.tries_total);
    }

    pub fn count_ejected(&self) -> usize {
        self.is_out.iter().filter(|out| **out).count()
    }

    /// Nothing is under way and everybody is in.
    pub fn check_idle(&self) -> Result<(), String> {
        let active: u32 = self.workers.iter().flat_map(|worker| worker.active).sum();
        if active > 0 || self.active > 0 || self.retries > 0 {
            return Err(format!(
                "{active} tries and {} retries are left",
                self.retries
            ));
        }
        match self.count_ejected() {
            0 => Ok(()),
            out => Err(format!("{out} endpoints are still out")),
        }
    }
}
