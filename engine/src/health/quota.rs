//! A limit on something that begins and ends with every request, leased to the workers in blocks.

use crate::stats::WorkerId;
use ringroad_policy::snapshot::UNLIMITED;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering::Relaxed};

/// The most that a worker takes at a time.
const LARGEST_BLOCK: i64 = 64;

/// Tokens of the whole process: as many as the limit, each at a request, in a worker's hand or in
/// the middle. A worker takes from its own hand, which no other touches as a rule; then a block
/// from the middle; then from the hands of others. So the limit is exact, and nobody is refused
/// while somebody holds a token idle.
#[derive(Debug)]
pub struct Quota {
    limit: AtomicU32,
    /// Tokens of an earlier era are not taken back. An era ends when the limit comes or goes.
    era: AtomicU32,
    /// Below zero after the limit was lowered, until enough has come back.
    middle: AtomicI64,
    hands: Box<[Hand]>,
}

/// Aligned, so that two workers never write one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Hand(AtomicI64);

/// What a request holds; to be given back with [`Quota::release`]. `None` when nothing is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    era: Option<u32>,
}

impl Quota {
    pub fn new(limit: u32, workers: usize) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            era: AtomicU32::new(0),
            middle: AtomicI64::new(i64::from(limit)),
            hands: (0..workers.max(1)).map(|_| Hand::default()).collect(),
        }
    }

    pub fn limit(&self) -> u32 {
        self.limit.load(Relaxed)
    }

    pub fn is_limited(&self) -> bool {
        self.limit() != UNLIMITED
    }

    /// Tokens that requests hold; 0 while there is no limit.
    pub fn used(&self) -> u32 {
        if self.limit() == UNLIMITED {
            return 0;
        }
        let in_hands: i64 = self.hands.iter().map(|hand| hand.0.load(Relaxed)).sum();
        let used = i64::from(self.limit()) - self.middle.load(Relaxed) - in_hands;
        u32::try_from(used.max(0)).unwrap_or(u32::MAX)
    }

    /// Changes the limit. What began without a limit is not counted afterwards. Callers take turns.
    pub fn set(&self, limit: u32) {
        let before = self.limit.swap(limit, Relaxed);
        if before == limit {
            return;
        }
        let in_hands: i64 = self.hands.iter().map(|hand| hand.0.swap(0, Relaxed)).sum();
        if before == UNLIMITED || limit == UNLIMITED {
            self.era.fetch_add(1, Relaxed);
            self.middle.store(i64::from(limit), Relaxed);
        } else {
            let change = i64::from(limit) - i64::from(before);
            self.middle.fetch_add(in_hands + change, Relaxed);
        }
    }

    /// A token for a request of `worker`, if the limit allows one.
    #[inline]
    pub fn acquire(&self, worker: WorkerId) -> Option<Token> {
        if self.limit() == UNLIMITED {
            return Some(Token { era: None });
        }
        let token = Token {
            era: Some(self.era.load(Relaxed)),
        };
        let own = &self.hands.get(worker)?.0;
        (take_one(own) || self.lease(own) || self.take_from_others(worker)).then_some(token)
    }

    /// Gives a token back.
    #[inline]
    pub fn release(&self, worker: WorkerId, token: Token) {
        let Some(era) = token.era else {
            return;
        };
        let Some(own) = self.hands.get(worker) else {
            return;
        };
        if era != self.era.load(Relaxed) {
            return;
        }
        if self.middle.load(Relaxed) < 0 {
            self.middle.fetch_add(1, Relaxed);
            return;
        }
        let block = self.block();
        if own.0.fetch_add(1, Relaxed) + 1 > 2 * block {
            let surplus = |in_hand: i64| (in_hand > block).then(|| in_hand - block);
            if own.0.fetch_update(Relaxed, Relaxed, surplus).is_ok() {
                self.middle.fetch_add(block, Relaxed);
            }
        }
    }

    fn block(&self) -> i64 {
        let share = i64::from(self.limit()) / (4 * self.hands.len() as i64);
        share.clamp(1, LARGEST_BLOCK)
    }

    /// Takes one from the middle, and the rest of a block into the hand.
    #[cold]
    fn lease(&self, own: &AtomicI64) -> bool {
        let block = self.block();
        let without = |middle: i64| (middle > 0).then(|| middle - middle.min(block));
        match self.middle.fetch_update(Relaxed, Relaxed, without) {
            Ok(middle) => {
                own.fetch_add(middle.min(block) - 1, Relaxed);
                true
            }
            Err(_) => false,
        }
    }

    #[cold]
    fn take_from_others(&self, worker: WorkerId) -> bool {
        let others = self.hands.iter().enumerate();
        others
            .filter(|(id, _)| *id != worker)
            .any(|(_, hand)| take_one(&hand.0))
    }
}

#[inline]
fn take_one(hand: &AtomicI64) -> bool {
    let one_less = |in_hand: i64| (in_hand > 0).then(|| in_hand - 1);
    hand.fetch_update(Relaxed, Relaxed, one_less).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI32;

    #[test]
    fn every_token_can_be_had_by_any_worker() {
        for limit in [1, 2, 3, 7, 100, 1000] {
            let quota = Quota::new(limit, 4);
            // The first worker has had tokens and keeps some in its hand.
            let early: Vec<Token> = (0..limit)
                .map(|_| quota.acquire(0).expect("free"))
                .collect();
            assert_eq!(quota.acquire(1), None);
            early.into_iter().for_each(|token| quota.release(0, token));
            assert_eq!(quota.used(), 0);
            for n in 0..limit {
                assert!(quota.acquire(1).is_some(), "{n} of {limit}");
            }
            assert_eq!((quota.acquire(1), quota.acquire(2)), (None, None));
            assert_eq!(quota.used(), limit);
        }
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let quota = Quota::new(UNLIMITED, 2);
        let early = quota.acquire(0).expect("free");
        quota.set(1);
        assert!(quota.acquire(0).is_some());
        assert_eq!(quota.acquire(1), None);
        quota.release(0, early);
        assert_eq!(
            quota.acquire(1),
            None,
            "what began uncounted gives nothing back"
        );
    }

    #[test]
    fn a_lowered_limit_is_reached_as_requests_end() {
        let quota = Quota::new(4, 2);
        let tokens: Vec<Token> = (0..4).map(|_| quota.acquire(0).expect("free")).collect();
        quota.set(2);
        for token in tokens {
            assert_eq!(quota.acquire(1), None);
            quota.release(0, token);
            if quota.used() < 2 {
                break;
            }
        }
        assert!(quota.acquire(1).is_some());
        assert_eq!(quota.acquire(0), None);
    }

    #[test]
    fn the_limit_holds_with_workers_side_by_side() {
        const LIMIT: u32 = 5;
        let quota = Quota::new(LIMIT, 4);
        let (held, most) = (AtomicI32::new(0), AtomicI32::new(0));
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (quota, held, most) = (&quota, &held, &most);
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        if let Some(token) = quota.acquire(worker) {
                            let now = held.fetch_add(1, Relaxed) + 1;
                            most.fetch_max(now, Relaxed);
                            held.fetch_sub(1, Relaxed);
                            quota.release(worker, token);
                        }
                    }
                });
            }
        });
        assert!(most.load(Relaxed) <= LIMIT as i32);
        assert_eq!(quota.used(), 0);
        let again = (0..LIMIT).filter(|_| quota.acquire(0).is_some()).count();
        assert_eq!(again, LIMIT as usize, "no token was lost");
    }
}
