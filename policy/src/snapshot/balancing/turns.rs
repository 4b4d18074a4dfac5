//! Taking turns by weights that may change from turn to turn.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::snapshot::Random;

/// Earliest deadline first: who has had a turn is due again after the inverse of its weight.
/// Taking a turn allocates nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns {
    queue: BinaryHeap<Reverse<Turn>>,
    /// Turns that were ever set.
    set: u64,
    /// When the last turn was due.
    now: f64,
}

#[derive(Debug, Clone)]
struct Turn {
    due: f64,
    /// Of those due at once, the one that was set first comes first.
    number: u64,
    member: u32,
}

impl Turns {
    /// Turns of `members`, from a random place in the order.
    pub fn new(
        members: impl Iterator<Item = u32>,
        weight: impl Fn(u32) -> f64,
        random: &mut Random,
    ) -> Self {
        let mut turns = Self::default();
        for member in members {
            let phase = random.below(1 << 32) as f64 / (1_u64 << 32) as f64;
            turns.set(member, phase / weight(member));
        }
        turns
    }

    /// Whose turn it is. `weight`, above 0, says how soon it will be again.
    pub fn next(&mut self, weight: impl Fn(u32) -> f64) -> Option<u32> {
        let Reverse(turn) = self.queue.pop()?;
        self.now = turn.due;
        self.set(turn.member, 1.0 / weight(turn.member));
        Some(turn.member)
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    fn set(&mut self, member: u32, after: f64) {
        self.set += 1;
        self.queue.push(Reverse(Turn {
            due: self.now + after,
            number: self.set,
            member,
        }));
    }
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_due = self.due.total_cmp(&other.due);
        by_due.then(self.number.cmp(&other.number))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Turn {}
