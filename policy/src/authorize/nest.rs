//! Prefixes, suffixes and address blocks: families of sets of which two are either disjoint or one
//! holds the other. Whoever a value belongs to is found by one binary search.

use std::cmp::Ordering;

use super::address::AddressBlock;

/// A set of values that has a first member in some order, and all of whose members follow it
/// without a gap.
pub(super) trait Range {
    type Value: ?Sized;

    /// How the first member compares with `value`.
    fn compare(&self, value: &Self::Value) -> Ordering;

    fn contains(&self, value: &Self::Value) -> bool;

    /// By first member; of two with the same, the larger set first.
    fn order(&self, other: &Self) -> Ordering;

    fn holds(&self, other: &Self) -> bool;
}

/// Texts that begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix(pub Box<[u8]>);

impl Range for Prefix {
    type Value = [u8];

    fn compare(&self, value: &[u8]) -> Ordering {
        (*self.0).cmp(value)
    }

    fn contains(&self, value: &[u8]) -> bool {
        value.starts_with(&self.0)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }

    fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

/// Texts that end alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suffix(pub Box<[u8]>);

impl Range for Suffix {
    type Value = [u8];

    fn compare(&self, value: &[u8]) -> Ordering {
        self.0.iter().rev().cmp(value.iter().rev())
    }

    fn contains(&self, value: &[u8]) -> bool {
        value.ends_with(&self.0)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.compare(&other.0)
    }

    fn holds(&self, other: &Self) -> bool {
        other.0.ends_with(&self.0)
    }
}

impl Range for AddressBlock {
    type Value = u128;

    fn compare(&self, value: &u128) -> Ordering {
        self.first().cmp(value)
    }

    fn contains(&self, value: &u128) -> bool {
        self.covers(*value)
    }

    fn order(&self, other: &Self) -> Ordering {
        self.first()
            .cmp(&other.first())
            .then(self.prefix_bits().cmp(&other.prefix_bits()))
    }

    fn holds(&self, other: &Self) -> bool {
        self.prefix_bits() <= other.prefix_bits() && self.covers(other.first())
    }
}

/// Ranges, and something for each.
#[derive(Debug, Clone)]
pub(super) struct Nest<R, T> {
    entries: Vec<Entry<R, T>>,
}

#[derive(Debug, Clone)]
struct Entry<R, T> {
    range: R,
    /// The smallest range around this one.
    parent: Option<u32>,
    value: T,
}

impl<R: Range, T: Clone> Nest<R, T> {
    /// `merge` adds what belongs to a range around it to what belongs to a range. Ranges must
    /// differ.
    pub fn new(list: Vec<(R, T)>, merge: impl Fn(&mut T, &T)) -> Self {
        let mut list = list;
        list.sort_by(|a, b| a.0.order(&b.0));
        let mut entries: Vec<Entry<R, T>> = Vec::with_capacity(list.len());
        for (range, mut value) in list {
            let mut parent = entries.len().checked_sub(1);
            while let Some(at) = parent
                && !entries[at].range.holds(&range)
            {
                parent = entries[at].parent.map(|at| at as usize);
            }
            if let Some(at) = parent {
                merge(&mut value, &entries[at].value);
            }
            entries.push(Entry {
                range,
                parent: parent.map(|at| at as u32),
                value,
            });
        }
        Self { entries }
    }

    /// What belongs to all ranges that `value` is in.
    pub fn find(&self, value: &R::Value) -> Option<&T> {
        let after = self
            .entries
            .partition_point(|entry| entry.range.compare(value) != Ordering::Greater);
        // A range that holds the value begins before it, and so does everything in between: the
        // last that begins before it lies within the range, or is it.
        let mut at = after.checked_sub(1);
        while let Some(index) = at {
            let entry = &self.entries[index];
            if entry.range.contains(value) {
                return Some(&entry.value);
            }
            at = entry.parent.map(|at| at as usize);
        }
        None
    }
}
