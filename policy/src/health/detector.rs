//! Ejecting the endpoints of one cluster, and taking them back.

use super::failures::EjectionCause;
use crate::snapshot::OutlierDetection;

/// An ejection lasts at most this long, or the base time where that is longer. Envoy's
/// `max_ejection_time`, which Istio has no field for.
const MAX_EJECTION_MS: u64 = 300_000;

/// What one endpoint has been through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ejection {
    is_ejected: bool,
    /// Ejections so far.
    count: u32,
    /// How many base times an ejection lasts. One more with each ejection, one less with each
    /// healthy interval.
    backoff: u64,
    ejected_at_ms: Option<u64>,
    returned_at_ms: Option<u64>,
}

/// What became of an endpoint that reached a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is out, for at least this long.
    Ejected { for_ms: u64 },
    /// The threshold is only watched.
    NotEnforced,
    /// `maxEjectionPercent` allows no further ejection.
    Overflow,
    /// It is out already.
    AlreadyOut,
}

/// The ejections of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Detector {
    endpoints: Vec<Ejection>,
    ejected: usize,
}

impl Ejection {
    pub fn is_ejected(&self) -> bool {
        self.is_ejected
    }

    /// Ejections so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When it was last ejected.
    pub fn ejected_at_ms(&self) -> Option<u64> {
        self.ejected_at_ms
    }

    /// When it last came back.
    pub fn returned_at_ms(&self) -> Option<u64> {
        self.returned_at_ms
    }

    /// How long the present ejection lasts, before it is rounded up to a sweep.
    fn lasts_ms(&self, rules: &OutlierDetection) -> u64 {
        let longest = MAX_EJECTION_MS.max(rules.base_ejection_time_ms);
        rules
            .base_ejection_time_ms
            .saturating_mul(self.backoff)
            .min(longest)
    }

    fn eject(&mut self, rules: &OutlierDetection, now_ms: u64) {
        self.is_ejected = true;
        self.count = self.count.saturating_add(1);
        self.ejected_at_ms = Some(now_ms);
        let base = rules.base_ejection_time_ms;
        let longest = MAX_EJECTION_MS.max(base);
        if base.saturating_mul(self.backoff) < longest.saturating_add(base) {
            self.backoff += 1;
        }
    }

    fn is_due(&self, rules: &OutlierDetection, now_ms: u64) -> bool {
        let since = self.ejected_at_ms.unwrap_or(now_ms);
        self.is_ejected && now_ms.saturating_sub(since) >= self.lasts_ms(rules)
    }
}

impl Detector {
    /// A detector of so many endpoints, all of them in.
    pub fn new(endpoints: usize) -> Self {
        Self {
            endpoints: vec![Ejection::default(); endpoints],
            ejected: 0,
        }
    }

    /// The detector of another list of endpoints: for each, its index in this one, or `None` when
    /// it is new.
    pub fn adopted(&self, order: impl Iterator<Item = Option<usize>>) -> Self {
        let kept = |at: Option<usize>| at.and_then(|at| self.endpoints.get(at));
        let endpoints: Vec<Ejection> = order
            .map(|at| kept(at).cloned().unwrap_or_default())
            .collect();
        let ejected = endpoints.iter().filter(|one| one.is_ejected).count();
        Self { endpoints, ejected }
    }

    /// Endpoints that are out.
    pub fn ejected(&self) -> usize {
        self.ejected
    }

    /// One endpoint's history.
    pub fn endpoint(&self, index: usize) -> Option<&Ejection> {
        self.endpoints.get(index)
    }

    /// An endpoint has reached the threshold of `cause`. Unless the verdict is
    /// [`Verdict::AlreadyOut`], its count is to be
    /// [cleared](super::FailureCounts::cleared_of).
    pub fn judge(
        &mut self,
        index: usize,
        cause: EjectionCause,
        rules: &OutlierDetection,
        now_ms: u64,
    ) -> Verdict {
        let total = self.endpoints.len();
        let Some(endpoint) = self.endpoints.get_mut(index) else {
            return Verdict::AlreadyOut;
        };
        if endpoint.is_ejected {
            return Verdict::AlreadyOut;
        }
        // The share counts the endpoint at hand. Envoy compares before it looks whether the
        // threshold is enforced, so an overflow of a watched one counts as well.
        if self.ejected >= rules.max_ejected(total) {
            return Verdict::Overflow;
        }
        if !rules.enforces(cause) {
            return Verdict::NotEnforced;
        }
        endpoint.eject(rules, now_ms);
        self.ejected += 1;
        let for_ms = endpoint.lasts_ms(rules);
        Verdict::Ejected { for_ms }
    }

    /// The work of each interval: takes endpoints back whose time is over, and lets the time of a
    /// next ejection shrink for those that have been in for an interval. Calls `returned` with
    /// each endpoint that is back; all of its counts are to be cleared.
    pub fn sweep(
        &mut self,
        rules: &OutlierDetection,
        now_ms: u64,
        mut returned: impl FnMut(usize, &Ejection),
    ) {
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            if endpoint.is_due(rules, now_ms) {
                endpoint.is_ejected = false;
                endpoint.returned_at_ms = Some(now_ms);
                self.ejected -= 1;
                returned(index, endpoint);
            }
            let healthy_since = endpoint.returned_at_ms.filter(|_| !endpoint.is_ejected);
            if healthy_since.is_some_and(|at| now_ms.saturating_sub(at) >= rules.interval_ms) {
                endpoint.backoff = endpoint.backoff.saturating_sub(1);
            }
        }
    }

    /// Takes every endpoint back, because nothing is detected any more.
    pub fn return_all(&mut self, now_ms: u64, mut returned: impl FnMut(usize, &Ejection)) {
        for (index, endpoint) in self.endpoints.iter_mut().enumerate() {
            if endpoint.is_ejected {
                endpoint.is_ejected = false;
                endpoint.returned_at_ms = Some(now_ms);
                returned(index, endpoint);
            }
        }
        self.ejected = 0;
    }

    /// Whether a sweep would find anything to do now or later.
    pub fn needs_sweeps(&self) -> bool {
        self.endpoints
            .iter()
            .any(|endpoint| endpoint.is_ejected || endpoint.backoff > 0)
    }
}
