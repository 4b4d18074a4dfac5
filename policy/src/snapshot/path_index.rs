//! First match among many routes of one host without asking each.

use super::matching::PathMatch;

/// Below this many routes, asking one after the other is faster.
const WORTH_INDEXING: usize = 9;

const NONE: u32 = u32::MAX;

/// Which routes a path can reach, by the exact and prefix paths that they ask for.
///
/// All distinct texts lie sorted, each with a link to the longest other text that is its prefix.
/// Then the predecessor of a path in that order, and whatever its links lead to, hold every text
/// that is a prefix of the path: one binary search finds all. Each text lists the routes that ask
/// for it in their order; routes with other conditions on the path are listed apart. The first
/// match is the lowest number among the first matches of these lists, so the order of the routes
/// decides exactly as if they were asked in turn.
#[derive(Debug, Clone)]
pub(crate) struct PathIndex {
    texts: Vec<Entry>,
    others: Vec<u32>,
}

#[derive(Debug, Clone)]
struct Entry {
    text: String,
    parent: u32,
    exact: Vec<u32>,
    prefix: Vec<u32>,
}

impl PathIndex {
    /// An index over routes in order, or `None` where it would not pay.
    pub(crate) fn new<'m>(paths: impl ExactSizeIterator<Item = &'m PathMatch>) -> Option<Self> {
        if paths.len() < WORTH_INDEXING {
            return None;
        }
        let mut others = Vec::new();
        let mut keyed: Vec<(&str, bool, u32)> = Vec::with_capacity(paths.len());
        for (ordinal, path) in paths.enumerate() {
            let ordinal = ordinal as u32;
            match path {
                PathMatch::Exact(text) => keyed.push((text, true, ordinal)),
                PathMatch::Prefix(text) => keyed.push((text, false, ordinal)),
                _ => others.push(ordinal),
            }
        }
        keyed.sort_unstable();
        let mut texts: Vec<Entry> = Vec::new();
        for (text, exact, ordinal) in keyed {
            if texts.last().is_none_or(|entry| entry.text != text) {
                let parent = longest_prefix(&texts, text);
                let text = text.to_string();
                texts.push(Entry {
                    text,
                    parent,
                    exact: Vec::new(),
                    prefix: Vec::new(),
                });
            }
            if let Some(entry) = texts.last_mut() {
                if exact {
                    &mut entry.exact
                } else {
                    &mut entry.prefix
                }
                .push(ordinal);
            }
        }
        Some(Self { texts, others })
    }

    /// The first route whose path conditions hold for `path` and for which `holds` is true.
    #[inline]
    pub(crate) fn first(&self, path: &str, mut holds: impl FnMut(u32) -> bool) -> Option<u32> {
        let mut best = NONE;
        let after = self
            .texts
            .partition_point(|entry| entry.text.as_str() <= path);
        let mut at = if after == 0 { NONE } else { after as u32 - 1 };
        while let Some(entry) = self.texts.get(at as usize) {
            if path.starts_with(&entry.text) {
                if entry.text.len() == path.len() {
                    first_in(&entry.exact, &mut best, &mut holds);
                }
                first_in(&entry.prefix, &mut best, &mut holds);
            }
            at = entry.parent;
        }
        first_in(&self.others, &mut best, &mut holds);
        (best != NONE).then_some(best)
    }
}

/// Lowers `best` to the first route of the list that holds, if it is lower.
#[inline]
fn first_in(list: &[u32], best: &mut u32, holds: &mut impl FnMut(u32) -> bool) {
    for &ordinal in list {
        if ordinal >= *best {
            return;
        }
        if holds(ordinal) {
            *best = ordinal;
            return;
        }
    }
}

/// The longest of the sorted texts so far that is a prefix of a text that sorts after them.
fn longest_prefix(texts: &[Entry], text: &str) -> u32 {
    let mut at = if texts.is_empty() {
        NONE
    } else {
        texts.len() as u32 - 1
    };
    while let Some(entry) = texts.get(at as usize) {
        if text.starts_with(&entry.text) {
            return at;
        }
        at = entry.parent;
    }
    NONE
}
