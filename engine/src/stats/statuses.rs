//! Responses by status. Which statuses there are shows only as they come, so each gets its count
//! when it is first met.

use super::counter::Counter;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// Called once for each count: its name and value.
pub type VisitStatus<'a> = dyn FnMut(&str, u64) + 'a;

/// One worker's counts of responses by status. An upstream gives few different ones, and the first
/// that it gives is found first.
#[derive(Debug, Default)]
pub struct StatusCounts(OnceLock<Box<Block>>);

/// As many as fill a cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Block {
    /// 0 is a place that is still free.
    statuses: [AtomicU16; 4],
    counts: [Counter; 4],
    next: OnceLock<Box<Block>>,
}

/// The names of a set of counts, without a prefix of the set.
pub struct StatusNames {
    /// Before each name.
    pub prefix: &'static str,
    /// Whether classes are told before any status of theirs was met.
    pub tells_all_classes: bool,
}

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl StatusCounts {
    /// Counts a response; 0 is none. Only the owning worker may call this. Allocates when a
    /// status is the first of its block.
    #[inline]
    pub fn add(&self, status: u16) {
        if status == 0 {
            return;
        }
        let mut block = self.0.get_or_init(Box::default);
        loop {
            for (known, count) in block.statuses.iter().zip(&block.counts) {
                let found = known.load(Relaxed);
                if found == 0 {
                    known.store(status, Relaxed);
                }
                if found == status || found == 0 {
                    return count.add(1);
                }
            }
            block = block.next.get_or_init(Box::default);
        }
    }

    /// Calls `visit` for each status that was met, for the classes and for all of them together.
    pub fn visit(&self, names: &StatusNames, visit: &mut VisitStatus<'_>) {
        let mut by_class = [0_u64; CLASSES.len()];
        let mut all = 0_u64;
        let mut tell = |name: &str, n: u64| {
            let name = format!("{}upstream_rq_{name}", names.prefix);
            visit(&name, n);
        };
        let mut next = self.0.get();
        while let Some(block) = next {
            for (status, count) in block.statuses.iter().zip(&block.counts) {
                let (status, n) = (status.load(Relaxed), count.get());
                if status == 0 {
                    continue;
                }
                all += n;
                if let Some(class) = by_class.get_mut(usize::from(status / 100).wrapping_sub(1)) {
                    *class += n;
                }
                tell(&status.to_string(), n);
            }
            next = block.next.get();
        }
        for (class, n) in CLASSES.into_iter().zip(by_class) {
            if n > 0 || names.tells_all_classes {
                tell(class, n);
            }
        }
        if all > 0 || names.tells_all_classes {
            let name = format!("{}upstream_rq_completed", names.prefix);
            visit(&name, all);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn told(counts: &StatusCounts, tells_all_classes: bool) -> BTreeMap<String, u64> {
        let mut told = BTreeMap::new();
        let names = StatusNames {
            prefix: "",
            tells_all_classes,
        };
        counts.visit(&names, &mut |name, n| {
            assert_eq!(told.insert(name.to_string(), n), None, "{name} twice");
        });
        told
    }

    #[test]
    fn statuses_beyond_one_block_are_counted_too() {
        let counts = StatusCounts::default();
        let statuses = [200, 503, 200, 404, 302, 101, 502, 200, 0];
        statuses.into_iter().for_each(|status| counts.add(status));
        let told = told(&counts, false);
        for (name, n) in [
            ("upstream_rq_200", 3),
            ("upstream_rq_503", 1),
            ("upstream_rq_502", 1),
            ("upstream_rq_5xx", 2),
            ("upstream_rq_1xx", 1),
            ("upstream_rq_completed", 8),
        ] {
            assert_eq!(told.get(name), Some(&n), "{name}");
        }
        assert_eq!(std::mem::size_of::<Block>(), 64);
    }

    #[test]
    fn nothing_is_told_of_what_never_came_unless_it_always_is() {
        let counts = StatusCounts::default();
        assert!(told(&counts, false).is_empty());
        assert_eq!(told(&counts, true).get("upstream_rq_5xx"), Some(&0));
    }
}
