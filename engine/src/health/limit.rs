//! A limit on something that begins and ends rarely: connections, waiting requests, retries.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A count of the whole process and its limit. Each change is one atomic operation.
#[derive(Debug)]
pub struct Limit {
    limit: AtomicU32,
    used: AtomicU32,
}

impl Limit {
    pub fn new(limit: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            used: AtomicU32::new(0),
        }
    }

    /// Sets the limit; what is used stays used.
    pub fn set(&self, limit: u32) {
        self.limit.store(limit, Relaxed);
    }

    /// Takes one if that stays within the limit.
    pub fn try_acquire(&self) -> bool {
        self.try_acquire_below(u64::from(self.limit.load(Relaxed)))
    }

    /// Takes one if fewer than `most` are used, whatever the limit says.
    pub fn try_acquire_below(&self, most: u64) -> bool {
        let one_more = |used: u32| (u64::from(used) < most).then_some(used.saturating_add(1));
        self.used.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// Takes one, above the limit if need be.
    pub fn acquire_anyway(&self) {
        self.used.fetch_add(1, Relaxed);
    }

    pub fn release(&self) {
        self.used.fetch_sub(1, Relaxed);
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub fn used(&self) -> u32 {
        self.used.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_but_for_what_is_taken_anyway() {
        let limit = Limit::new(1);
        assert!(limit.try_acquire());
        assert!(!limit.try_acquire());
        limit.acquire_anyway();
        assert_eq!(limit.used(), 2);
        limit.release();
        assert!(!limit.try_acquire(), "one is still used");
        limit.set(2);
        assert!(limit.try_acquire());
    }
}
