//! One cluster: its limits, and which of its endpoints are out.

use super::endpoint::EndpointHealth;
use super::limit::Limit;
use super::quota::Quota;
use super::registry::Alarm;
use crate::stats::{ClusterStats, OutlierStats};
use ringroad_policy::health::{Detector, EjectionCause, RequestWindow, RetryBudget, Verdict};
use ringroad_policy::snapshot::{Cluster, EndpointAddress, OutlierDetection};
use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What all workers share about one cluster.
#[derive(Debug)]
pub struct ClusterHealth {
    pub name: String,
    pub(super) connections: Limit,
    pub(super) pending: Limit,
    pub(super) requests: Quota,
    pub(super) retries: Limit,
    has_retry_budget: AtomicBool,
    ejected: AtomicUsize,
    /// Another number whenever some endpoint has gone out or come back.
    availability: AtomicU64,
    /// When a sweep has something to do; the greatest number is never.
    due_ms: AtomicU64,
    state: Mutex<State>,
    alarm: Arc<Alarm>,
}

#[derive(Debug)]
struct State {
    /// Of the newest snapshot that a worker has brought.
    generation: u64,
    rules: Option<OutlierDetection>,
    retry_budget: Option<RetryBudget>,
    window: RequestWindow,
    next_tick_ms: u64,
    detector: Detector,
    /// In the order of the detector.
    members: Vec<Arc<EndpointHealth>>,
    /// How often these had gone out or come back when it was last published; `None` after they
    /// have been replaced.
    changes: Option<u64>,
    /// Also those that a worker still has and the newest snapshot does not.
    known: HashMap<EndpointAddress, Weak<EndpointHealth>>,
    /// Sweeps fall on whole intervals after this.
    sweeps_from_ms: u64,
    next_sweep_ms: u64,
    figures: OutlierStats,
    overflow_told: bool,
    workers: Vec<Arc<ClusterStats>>,
}

const NEVER: u64 = u64::MAX;

impl ClusterHealth {
    pub(super) fn new(
        cluster: &Cluster,
        generation: u64,
        workers: usize,
        alarm: Arc<Alarm>,
        now_ms: u64,
    ) -> Self {
        let pool = &cluster.connection_pool;
        let health = Self {
            name: cluster.name.clone(),
            connections: Limit::new(pool.max_connections),
            pending: Limit::new(pool.max_pending_requests),
            requests: Quota::new(pool.max_requests, workers),
            retries: Limit::new(pool.max_retries),
            has_retry_budget: AtomicBool::new(false),
            ejected: AtomicUsize::new(0),
            availability: AtomicU64::new(0),
            due_ms: AtomicU64::new(NEVER),
            state: Mutex::new(State {
                generation: 0,
                rules: None,
                retry_budget: None,
                window: RequestWindow::new(0),
                next_tick_ms: NEVER,
                detector: Detector::default(),
                members: Vec::new(),
                changes: None,
                known: HashMap::new(),
                sweeps_from_ms: now_ms,
                next_sweep_ms: NEVER,
                figures: OutlierStats::default(),
                overflow_told: false,
                workers: Vec::new(),
            }),
            alarm,
        };
        health.adopt(cluster, generation, now_ms);
        health
    }

    /// Takes limits, rules and endpoints from a newer snapshot. Endpoints that stay keep their
    /// ejections; the first worker to bring a snapshot does it for all.
    pub fn adopt(&self, cluster: &Cluster, generation: u64, now_ms: u64) {
        let mut state = self.lock();
        if generation <= state.generation {
            return;
        }
        state.generation = generation;
        let pool = &cluster.connection_pool;
        self.connections.set(pool.max_connections);
        self.pending.set(pool.max_pending_requests);
        self.requests.set(pool.max_requests);
        self.retries.set(pool.max_retries);
        state.set_retry_budget(cluster.retry_budget.clone(), now_ms);
        self.has_retry_budget
            .store(cluster.retry_budget.is_some(), Relaxed);
        state.set_members(cluster);
        self.set_rules(&mut state, cluster.outlier_detection.clone(), now_ms);
        self.publish(&mut state, now_ms);
    }

    fn set_rules(&self, state: &mut State, rules: Option<OutlierDetection>, now_ms: u64) {
        state.overflow_told = false;
        let interval = |rules: &Option<OutlierDetection>| rules.as_ref().map(|it| it.interval_ms);
        if interval(&rules) != interval(&state.rules) {
            state.sweeps_from_ms = now_ms;
            state.next_sweep_ms = NEVER;
        }
        state.rules = rules;
        if state.rules.is_none() && state.detector.ejected() > 0 {
            let members = &state.members;
            state.detector.return_all(now_ms, |at, _| {
                members[at].set_returned();
                let address = &members[at].address;
                tracing::info!(
                    "took {address} of {} back: its outlierDetection is gone",
                    self.name
                );
            });
        }
    }

    /// The endpoint behind an address, as all workers know it.
    pub fn endpoint(&self, address: &EndpointAddress) -> Arc<EndpointHealth> {
        self.lock().endpoint(address)
    }

    /// The endpoints of the newest snapshot that are known here.
    pub fn find_endpoint(&self, address: &EndpointAddress) -> Option<Arc<EndpointHealth>> {
        self.lock().known.get(address).and_then(Weak::upgrade)
    }

    /// Whether any endpoint is out.
    #[inline]
    pub fn has_ejected(&self) -> bool {
        self.ejected.load(Relaxed) > 0
    }

    /// How many endpoints are out.
    pub fn ejected(&self) -> usize {
        self.ejected.load(Relaxed)
    }

    /// Another number whenever some endpoint has gone out or come back.
    #[inline]
    pub fn availability_version(&self) -> u64 {
        self.availability.load(Acquire)
    }

    /// The figures of another worker, to be added up for the retry budget.
    pub(super) fn add_worker(&self, stats: Arc<ClusterStats>) {
        let mut state = self.lock();
        if !state.workers.iter().any(|known| Arc::ptr_eq(known, &stats)) {
            state.workers.push(stats);
        }
    }

    /// Takes a place among the retries that may be under way at once.
    pub(super) fn try_acquire_retry(&self) -> bool {
        if !self.has_retry_budget.load(Relaxed) {
            return self.retries.try_acquire();
        }
        let most = self.lock().most_retries();
        self.retries
            .try_acquire_below(most.unwrap_or(u64::from(self.retries.limit())))
    }

    /// How many retries may be under way now.
    pub fn most_retries(&self) -> u64 {
        let by_budget = self.lock().most_retries();
        by_budget.unwrap_or(u64::from(self.retries.limit()))
    }

    /// Whether a retry budget stands in the place of `maxRetries`.
    pub fn has_retry_budget(&self) -> bool {
        self.has_retry_budget.load(Relaxed)
    }

    /// `endpoint` has reached the threshold of `cause`.
    #[cold]
    pub(super) fn judge(&self, endpoint: &EndpointHealth, cause: EjectionCause, now_ms: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(rules) = &state.rules else {
            return;
        };
        let mut members = state.members.iter();
        let Some(index) = members.position(|member| std::ptr::eq(&**member, endpoint)) else {
            // It left with a reload.
            return;
        };
        let failures = endpoint.counts();
        let verdict = state.detector.judge(index, cause, rules, now_ms);
        if verdict == Verdict::AlreadyOut {
            return;
        }
        count_verdict(&state.figures, cause, verdict);
        endpoint.clear(cause);
        let (name, address, total) = (&self.name, &endpoint.address, state.members.len());
        match verdict {
            Verdict::Ejected { for_ms } => {
                endpoint.set_ejected();
                let out = state.detector.ejected();
                let count = endpoint.ejections();
                let times = for_ms.div_ceil(rules.base_ejection_time_ms.max(1));
                let cause = words(cause, failures);
                tracing::warn!(
                    "ejected {address} of {name}: {cause}; out for {for_ms} ms ({times} x \
                     baseEjectionTime), ejection {count} in all; {out} of {total} endpoints are out"
                );
                self.publish(state, now_ms);
            }
            Verdict::Overflow if !state.overflow_told && rules.enforces(cause) => {
                state.overflow_told = true;
                let (percent, most) = (rules.max_ejection_percent, rules.max_ejected(total));
                let cause = words(cause, failures);
                tracing::warn!(
                    "{address} of {name} stays in: {cause}, but maxEjectionPercent {percent} of \
                     {total} endpoints lets {most} be out (told once)"
                );
            }
            _ => {}
        }
    }

    /// When [`sweep`](Self::sweep) has something to do.
    pub(super) fn due_ms(&self) -> u64 {
        self.due_ms.load(Relaxed)
    }

    /// Does what is due: takes endpoints back, moves the window of the retry budget on.
    pub(super) fn sweep(&self, now_ms: u64) {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(rules) = &state.rules
            && now_ms >= state.next_sweep_ms
        {
            state.next_sweep_ms = NEVER;
            let members = &state.members;
            let mut back = Vec::new();
            state.detector.sweep(rules, now_ms, |at, ejection| {
                members[at].set_returned();
                back.push((at, ejection.ejected_at_ms().unwrap_or(now_ms)));
            });
            for (at, ejected_at_ms) in back {
                let (address, name) = (&members[at].address, &self.name);
                let after_ms = now_ms - ejected_at_ms;
                let (out, total) = (state.detector.ejected(), members.len());
                tracing::info!(
                    "took {address} of {name} back after {after_ms} ms; {out} of {total} \
                     endpoints are out"
                );
            }
        }
        if let Some(tick_ms) = state.retry_budget.as_ref().and_then(RetryBudget::tick_ms)
            && now_ms >= state.next_tick_ms
        {
            let total = state.requests_total();
            state.window.tick(total);
            state.next_tick_ms = now_ms + tick_ms;
        }
        self.publish(state, now_ms);
    }

    /// Calls `visit` with each figure of outlier detection, if there is any.
    pub(super) fn visit_outlier_figures(&self, visit: &mut crate::stats::VisitStat<'_>) {
        let state = self.lock();
        if state.rules.is_some() {
            state.figures.visit(visit);
        }
    }

    /// Requests in flight, and requests waiting for a connection, of all workers.
    pub(super) fn active_and_pending(&self) -> (u64, u64) {
        self.lock().active_and_pending()
    }

    /// Shows the state's sums to those who do not take the lock.
    fn publish(&self, state: &mut State, now_ms: u64) {
        let ejected = state.detector.ejected();
        self.ejected.store(ejected, Relaxed);
        let changes = state.members.iter().map(|member| member.changes()).sum();
        if state.changes.replace(changes) != Some(changes) {
            // Whoever sees the new number sees what has changed.
            self.availability.fetch_add(1, Release);
        }
        state.figures.ejections_active.set(ejected as u64);
        let due_ms = state.next_due_ms(now_ms);
        let before = self.due_ms.swap(due_ms, Relaxed);
        if due_ms < before {
            self.alarm.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn endpoint(&mut self, address: &EndpointAddress) -> Arc<EndpointHealth> {
        if let Some(known) = self.known.get(address).and_then(Weak::upgrade) {
            return known;
        }
        let new = Arc::new(EndpointHealth::new(address.clone()));
        self.known.insert(address.clone(), Arc::downgrade(&new));
        new
    }

    fn set_members(&mut self, cluster: &Cluster) {
        let before: HashMap<EndpointAddress, usize> = self
            .members
            .iter()
            .enumerate()
            .rev()
            .map(|(at, member)| (member.address.clone(), at))
            .collect();
        let order = cluster
            .endpoints
            .iter()
            .map(|endpoint| before.get(&endpoint.address).copied());
        let detector = self.detector.adopted(order);
        let members: Vec<_> = cluster
            .endpoints
            .iter()
            .map(|endpoint| self.endpoint(&endpoint.address))
            .collect();
        for gone in &self.members {
            let stays = members.iter().any(|member| Arc::ptr_eq(member, gone));
            if !stays && gone.is_ejected() {
                // Should it come again, it comes as new.
                gone.set_returned();
            }
        }
        self.detector = detector;
        self.members = members;
        self.changes = None;
        self.known.retain(|_, known| known.strong_count() > 0);
    }

    fn set_retry_budget(&mut self, budget: Option<RetryBudget>, now_ms: u64) {
        if self.retry_budget == budget {
            return;
        }
        self.window = RequestWindow::new(self.requests_total());
        let tick_ms = budget.as_ref().and_then(RetryBudget::tick_ms);
        self.next_tick_ms = tick_ms.map_or(NEVER, |ms| now_ms + ms);
        self.retry_budget = budget;
    }

    fn requests_total(&self) -> u64 {
        let totals = self.workers.iter();
        totals.map(|worker| worker.upstream_rq_total.get()).sum()
    }

    fn active_and_pending(&self) -> (u64, u64) {
        let mut sums = (0, 0);
        for worker in &self.workers {
            sums.0 += worker.upstream_rq_active.get();
            sums.1 += worker.upstream_rq_pending_active.get();
        }
        sums
    }

    fn most_retries(&self) -> Option<u64> {
        let budget = self.retry_budget.as_ref()?;
        let requests = if budget.interval_ms > 0 {
            self.window.requests(self.requests_total())
        } else {
            let (active, pending) = self.active_and_pending();
            active + pending
        };
        Some(budget.max_retries(requests))
    }

    /// When there is something to do. A sweep that none was planned for falls on the next whole
    /// interval.
    fn next_due_ms(&mut self, now_ms: u64) -> u64 {
        let sweep_ms = match &self.rules {
            Some(rules) if self.detector.needs_sweeps() => {
                let interval_ms = rules.interval_ms.max(1);
                if self.next_sweep_ms == NEVER {
                    let passed = now_ms.saturating_sub(self.sweeps_from_ms) / interval_ms;
                    self.next_sweep_ms = self.sweeps_from_ms + (passed + 1) * interval_ms;
                }
                self.next_sweep_ms
            }
            _ => {
                self.next_sweep_ms = NEVER;
                NEVER
            }
        };
        sweep_ms.min(self.next_tick_ms)
    }
}

/// What an endpoint is ejected for, for people.
fn words(cause: EjectionCause, failures: ringroad_policy::health::FailureCounts) -> String {
    let name = cause.as_str();
    match cause {
        EjectionCause::Consecutive5xx => {
            format!("{} errors in a row ({name})", failures.consecutive_5xx())
        }
        EjectionCause::ConsecutiveGatewayFailure => {
            let errors = failures.consecutive_gateway_failures();
            format!("{errors} gateway errors in a row ({name})")
        }
        EjectionCause::ConsecutiveLocalOriginFailure => {
            let failures = failures.consecutive_local_origin_failures();
            format!("{failures} failures without a response in a row ({name})")
        }
    }
}

fn count_verdict(figures: &OutlierStats, cause: EjectionCause, verdict: Verdict) {
    let (detected, enforced) = match cause {
        EjectionCause::Consecutive5xx => {
            figures.ejections_consecutive_5xx.add(1);
            (
                &figures.ejections_detected_consecutive_5xx,
                &figures.ejections_enforced_consecutive_5xx,
            )
        }
        EjectionCause::ConsecutiveGatewayFailure => (
            &figures.ejections_detected_consecutive_gateway_failure,
            &figures.ejections_enforced_consecutive_gateway_failure,
        ),
        EjectionCause::ConsecutiveLocalOriginFailure => (
            &figures.ejections_detected_consecutive_local_origin_failure,
            &figures.ejections_enforced_consecutive_local_origin_failure,
        ),
    };
    detected.add(1);
    match verdict {
        Verdict::Ejected { .. } => {
            enforced.add(1);
            figures.ejections_enforced_total.add(1);
            if cause == EjectionCause::Consecutive5xx {
                figures.ejections_total.add(1);
            }
        }
        Verdict::Overflow => figures.ejections_overflow.add(1),
        Verdict::NotEnforced | Verdict::AlreadyOut => {}
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
