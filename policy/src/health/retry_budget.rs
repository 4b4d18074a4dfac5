//! How many retries may be under way at once. Istio: `trafficPolicy.retryBudget`.

/// A share of the requests, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryBudget {
    /// Istio: `percent`, 20.
    pub percent: f64,
    /// Retries that are always allowed. Istio: `minRetryConcurrency`, 3.
    pub min_concurrency: u32,
    /// The requests of so long a time are what the share is of; 0 is the requests that are active
    /// or wait for a connection. Istio: `budgetInterval`.
    pub interval_ms: u64,
}

impl RetryBudget {
    /// How many retries may be under way while there are so many requests.
    pub fn max_retries(&self, requests: u64) -> u64 {
        // Rounded down, as Envoy does.
        let share = (self.percent / 100.0 * requests as f64) as u64;
        share.max(u64::from(self.min_concurrency))
    }

    /// How often a [`RequestWindow`] is to be moved on; `None` without an interval.
    pub fn tick_ms(&self) -> Option<u64> {
        (self.interval_ms > 0).then(|| (self.interval_ms / RequestWindow::TICKS as u64).max(1))
    }
}

/// The requests of the last interval, by a count that only grows, looked at ten times an interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestWindow {
    /// The count at the last ticks, in a ring; `next` is the oldest.
    totals: [u64; Self::TICKS],
    next: usize,
}

impl RequestWindow {
    const TICKS: usize = 10;

    /// A window that begins when the count is `total`.
    pub fn new(total: u64) -> Self {
        Self {
            totals: [total; Self::TICKS],
            next: 0,
        }
    }

    /// A tenth of the interval has passed; `total` is the count now.
    pub fn tick(&mut self, total: u64) {
        self.totals[self.next] = total;
        self.next = (self.next + 1) % Self::TICKS;
    }

    /// The requests of the last interval when the count is `total`.
    pub fn requests(&self, total: u64) -> u64 {
        total.saturating_sub(self.totals[self.next])
    }
}
