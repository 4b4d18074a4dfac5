//! What all workers know about one endpoint.

use crate::stats::{EndpointStats, StatKind, WorkerId};
use ringroad_policy::health::{EjectionCause, FailureCounts, Triggered, TryOutcome};
use ringroad_policy::snapshot::{EndpointAddress, OutlierDetection};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// One endpoint of one cluster. The words that requests look at fill one cache line, which is
/// written only when something fails, when something succeeds after a failure, and when a
/// worker first meets the endpoint.
#[derive(Debug)]
pub struct EndpointHealth {
    words: Words,
    pub address: EndpointAddress,
    /// Each worker's figures; locked when a worker first meets the endpoint, and by readers.
    figures: Mutex<Vec<(WorkerId, Arc<EndpointStats>)>>,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Words {
    /// [`FailureCounts`].
    counts: AtomicU64,
    /// One more with each ejection and with each return: odd is ejected.
    ejections: AtomicU32,
    /// Workers that have met the endpoint.
    workers: AtomicU32,
}

impl EndpointHealth {
    pub fn new(address: EndpointAddress) -> Self {
        Self {
            words: Words::default(),
            address,
            figures: Mutex::default(),
        }
    }

    #[inline]
    pub fn is_ejected(&self) -> bool {
        self.words.ejections.load(Ordering::Relaxed) & 1 == 1
    }

    /// How often it has gone out or come back.
    pub(super) fn changes(&self) -> u64 {
        u64::from(self.words.ejections.load(Ordering::Relaxed))
    }

    /// Ejections so far. Connections older than the last of them are not used again.
    #[inline]
    pub fn ejections(&self) -> u32 {
        self.words.ejections.load(Ordering::Relaxed).div_ceil(2)
    }

    /// What it has failed in a row.
    pub fn counts(&self) -> FailureCounts {
        FailureCounts::from_bits(self.words.counts.load(Ordering::Relaxed))
    }

    /// Notes how a try ended; gives the thresholds that this has reached. A success on an endpoint
    /// without failures writes nothing.
    #[inline]
    pub fn note(&self, outcome: TryOutcome, rules: &OutlierDetection) -> Triggered {
        let counts = &self.words.counts;
        let mut before = counts.load(Ordering::Relaxed);
        loop {
            let (after, triggered) = FailureCounts::from_bits(before).after(outcome, rules);
            if after.bits() == before {
                return triggered;
            }
            let swap = counts.compare_exchange_weak(
                before,
                after.bits(),
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swap {
                Ok(_) => return triggered,
                Err(now) => before = now,
            }
        }
    }

    /// This worker's figures.
    pub fn figures_of(&self, worker: WorkerId) -> Arc<EndpointStats> {
        let mut figures = self.lock_figures();
        if let Some((_, known)) = figures.iter().find(|(id, _)| *id == worker) {
            return known.clone();
        }
        let new = Arc::<EndpointStats>::default();
        figures.push((worker, new.clone()));
        self.words.workers.fetch_add(1, Ordering::Relaxed);
        new
    }

    /// How many workers have met it.
    #[inline]
    pub(super) fn workers(&self) -> usize {
        self.words.workers.load(Ordering::Relaxed) as usize
    }

    /// The figures of all workers but this one.
    pub(super) fn figures_of_others(&self, worker: WorkerId) -> Vec<Arc<EndpointStats>> {
        let figures = self.lock_figures();
        let others = figures.iter().filter(|(id, _)| *id != worker);
        others.map(|(_, figures)| figures.clone()).collect()
    }

    /// Each figure and its name, the workers' added up.
    pub fn figures(&self) -> Vec<(&'static str, StatKind, u64)> {
        let mut totals = Vec::new();
        EndpointStats::default().visit(&mut |name, kind, _, _| totals.push((name, kind, 0_u64)));
        for (_, figures) in self.lock_figures().iter() {
            let mut places = totals.iter_mut();
            figures.visit(&mut |_, _, _, n| {
                if let Some((_, _, total)) = places.next() {
                    *total = total.wrapping_add(n);
                }
            });
        }
        totals
    }

    /// Clears the count that led to `cause`.
    pub(super) fn clear(&self, cause: EjectionCause) {
        let cleared = |bits| Some(FailureCounts::from_bits(bits).cleared_of(cause).bits());
        let counts = &self.words.counts;
        let _ = counts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, cleared);
    }

    /// Ejected now. Callers hold the cluster's lock.
    pub(super) fn set_ejected(&self) {
        if !self.is_ejected() {
            self.words.ejections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Back now, without a failure. Callers hold the cluster's lock.
    pub(super) fn set_returned(&self) {
        self.words.counts.store(0, Ordering::Relaxed);
        if self.is_ejected() {
            self.words.ejections.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn lock_figures(&self) -> std::sync::MutexGuard<'_, Vec<(WorkerId, Arc<EndpointStats>)>> {
        self.figures
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
