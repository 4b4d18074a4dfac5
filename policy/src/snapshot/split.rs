//! Weighted destinations: exact shares in a shuffled order.

use super::Snapshot;
use super::random::Random;
use super::routes::{Destination, NO_SPLIT, Route};

/// Requests that are dealt at a time. Small, so that any stretch of requests is near its shares;
/// large enough for the order within to be unpredictable.
const HAND: u64 = 10;

/// One worker's place in the splits of all routes.
#[derive(Debug, Default)]
pub struct SplitState {
    splits: Vec<Split>,
}

#[derive(Debug, Default)]
struct Split {
    /// By how much of a request, in units of one over the sum of weights, each destination is
    /// behind its share.
    credits: Vec<i64>,
    weights: Vec<u32>,
    /// Destinations of the hand being dealt.
    hand: Vec<u32>,
    dealt: usize,
}

impl SplitState {
    /// Room for every split of the snapshot.
    pub fn new(snapshot: &Snapshot) -> Self {
        let mut splits = Vec::new();
        splits.resize_with(snapshot.split_identities.len(), Split::default);
        Self { splits }
    }

    /// Carries the places in splits whose route is in both snapshots over to the new one.
    pub fn adopt(self, from: &Snapshot, to: &Snapshot) -> Self {
        let mut adopted = Self::new(to);
        let old = from.split_identities.iter().copied().zip(self.splits);
        let mut old: std::collections::HashMap<u64, Split> = old.collect();
        for (split, identity) in adopted.splits.iter_mut().zip(&to.split_identities) {
            if let Some(known) = old.remove(identity) {
                *split = known;
            }
        }
        adopted
    }
}

impl Route {
    /// The destination of the next request.
    ///
    /// Destinations are dealt in hands of ten or fewer requests (a multiple of the reduced sum of
    /// the weights where that is so small), shuffled within the hand. What each hand holds follows
    /// from the shares and from what was dealt before, so that after every hand each destination
    /// is within one request of its share, whatever the weights.
    pub fn pick_destination(&self, state: &mut SplitState, random: &mut Random) -> usize {
        let destinations = self.destinations();
        if destinations.len() < 2 || self.split_slot == NO_SPLIT {
            return 0;
        }
        let slot = self.split_slot as usize;
        if slot >= state.splits.len() {
            state.splits.resize_with(slot + 1, Split::default);
        }
        state.splits[slot].next(destinations, random)
    }
}

impl Split {
    fn next(&mut self, destinations: &[Destination], random: &mut Random) -> usize {
        let weights = destinations.iter().map(|destination| destination.weight);
        if self.dealt == self.hand.len() || !self.weights.iter().copied().eq(weights) {
            self.deal(destinations, random);
        }
        let picked = self.hand.get(self.dealt).copied().unwrap_or(0) as usize;
        self.dealt += 1;
        picked.min(destinations.len() - 1)
    }

    fn deal(&mut self, destinations: &[Destination], random: &mut Random) {
        let weights = destinations.iter().map(|destination| destination.weight);
        if !self.weights.iter().copied().eq(weights.clone()) {
            self.weights.clear();
            self.weights.extend(weights);
            self.credits.clear();
            self.credits.resize(destinations.len(), 0);
            self.start_anywhere(random);
        }
        let total: i64 = self.weights.iter().map(|weight| i64::from(*weight)).sum();
        let divisor = self
            .weights
            .iter()
            .fold(total.unsigned_abs(), |a, b| gcd(a, u64::from(*b)));
        let reduced = total.unsigned_abs() / divisor.max(1);
        let len = if (1..=HAND).contains(&reduced) {
            HAND / reduced * reduced
        } else {
            HAND
        };
        self.hand.clear();
        self.dealt = 0;
        for _ in 0..len {
            for (credit, weight) in self.credits.iter_mut().zip(&self.weights) {
                *credit += i64::from(*weight);
            }
            let next = self.most_urgent(total);
            self.credits[next] -= total;
            self.hand.push(next as u32);
        }
        random.shuffle(&mut self.hand);
    }

    /// Lets two destinations start at any point of their cycle, so that workers do not send the
    /// rare one its request all at the same time. With more destinations the bound of one request
    /// would not survive that.
    fn start_anywhere(&mut self, random: &mut Random) {
        if let ([a, b], [x, y]) = (self.weights.as_slice(), self.credits.as_mut_slice()) {
            let total = i64::from(*a) + i64::from(*b);
            let phase = random.below(total.unsigned_abs() as usize) as i64 - total / 2;
            (*x, *y) = (phase, -phase);
        }
    }

    /// Tijdeman's solution of the chairman assignment problem: among those that are behind by at
    /// least `1 / (2n - 2)` request, the one that would first be behind by a whole one (less that
    /// same part). It keeps all within `1 - 1 / (2n - 2)` of their shares.
    fn most_urgent(&self, total: i64) -> usize {
        let parts = 2 * self.weights.len() as i128 - 2;
        let total = i128::from(total);
        let mut best: Option<(usize, i128, u32)> = None;
        for (at, (&credit, &weight)) in self.credits.iter().zip(&self.weights).enumerate() {
            if weight == 0 || i128::from(credit) * parts < total {
                continue;
            }
            let slack = total * (parts - 1) - i128::from(credit) * parts;
            let earlier = best.is_none_or(|(_, other_slack, other_weight)| {
                slack * i128::from(other_weight) < other_slack * i128::from(weight)
            });
            if earlier {
                best = Some((at, slack, weight));
            }
        }
        // Some destination is always eligible; the largest credit stands in if none were.
        best.map(|(at, _, _)| at).unwrap_or_else(|| {
            (0..self.credits.len())
                .max_by_key(|at| self.credits[*at])
                .unwrap_or(0)
        })
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
