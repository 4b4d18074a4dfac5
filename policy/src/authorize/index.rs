//! Which rules may match at all.
//!
//! For each attribute that enough rules ask for, a table gives the set of rules that a value of it
//! leaves possible, those that do not ask among them. The sets of all attributes are intersected,
//! and only what is left is asked in full. A set is a few machine words, so a thousand rules cost
//! a few look-ups.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use super::address::AddressBlock;
use super::facts::AccessFacts;
use super::keys::{Attribute, Key, keys_of, numbers_of, texts_of};
use super::nest::{Nest, Prefix, Suffix};
use super::rules::Rule;

const WORDS: usize = 16;
/// Rules that share their tables; more rules have several.
const BLOCK_RULES: usize = WORDS * 64;
/// With fewer rules that ask for an attribute, its table does not pay.
const MIN_RULES: usize = 4;
/// Most tables of a block: each costs a look-up with every request.
const MAX_TABLES: usize = 8;

/// A set of rules of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits([u64; WORDS]);

impl Bits {
    const NONE: Self = Self([0; WORDS]);

    fn first(count: usize) -> Self {
        let mut bits = Self::NONE;
        (0..count).for_each(|at| bits.insert(at));
        bits
    }

    fn insert(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    fn keep(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(word, bits)| {
            let mut left = *bits;
            std::iter::from_fn(move || {
                let at = left
                    .checked_sub(1)
                    .map(|_| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(word * 64 + at)
            })
        })
    }
}

type Exact = HashMap<Box<[u8]>, Bits, BuildHasherDefault<DefaultHasher>>;

/// What the values of one attribute leave possible.
#[derive(Debug, Clone)]
struct Table {
    attribute: Attribute,
    /// Rules that do not ask for it, or not in a way that can be looked up.
    open: Bits,
    /// All that a value leaves possible, `open` and patterns included.
    exact: Exact,
    prefixes: Nest<Prefix, Bits>,
    suffixes: Nest<Suffix, Bits>,
    addresses: Nest<AddressBlock, Bits>,
}

/// The tables over a list of rules.
#[derive(Debug, Clone)]
pub(super) struct Index {
    blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
struct Block {
    all: Bits,
    tables: Vec<Table>,
}

impl Index {
    pub fn new(rules: &[Rule]) -> Self {
        Self {
            blocks: rules.chunks(BLOCK_RULES).map(Block::new).collect(),
        }
    }

    /// The first of `count` rules that `is_match` confirms; those that cannot match are not asked.
    pub fn first(
        &self,
        count: usize,
        facts: &AccessFacts<'_>,
        is_match: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        debug_assert!(count <= self.blocks.len() * BLOCK_RULES);
        self.blocks.iter().enumerate().find_map(|(number, block)| {
            let start = number * BLOCK_RULES;
            block
                .possible(facts)
                .iter()
                .map(|at| start + at)
                .find(|at| is_match(*at))
        })
    }
}

impl Block {
    fn new(rules: &[Rule]) -> Self {
        let mut attributes: Vec<(Attribute, usize)> = Vec::new();
        for rule in rules {
            for attribute in Attribute::asked_by(rule) {
                match attributes.iter_mut().find(|(known, _)| *known == attribute) {
                    Some((_, count)) => *count += 1,
                    None => attributes.push((attribute, 1)),
                }
            }
        }
        attributes.retain(|(_, count)| *count >= MIN_RULES);
        attributes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        attributes.truncate(MAX_TABLES);
        let tables = attributes.into_iter();
        Self {
            all: Bits::first(rules.len()),
            tables: tables
                .map(|(attribute, _)| Table::new(attribute, rules))
                .collect(),
        }
    }

    fn possible(&self, facts: &AccessFacts<'_>) -> Bits {
        let mut possible = self.all;
        for table in &self.tables {
            if let Some(left) = table.possible(facts) {
                possible.keep(&left);
            }
        }
        possible
    }
}

impl Table {
    fn new(attribute: Attribute, rules: &[Rule]) -> Self {
        let mut open = Bits::NONE;
        let mut by_key: HashMap<Key, Bits> = HashMap::new();
        for (at, rule) in rules.iter().enumerate() {
            match keys_of(rule, &attribute) {
                Some(keys) => {
                    for key in keys {
                        by_key.entry(key).or_insert(Bits::NONE).insert(at);
                    }
                }
                None => open.insert(at),
            }
        }
        let (mut exact, mut prefixes, mut suffixes, mut addresses) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (key, bits) in by_key {
            match key {
                Key::Exact(text) => exact.push((text, bits)),
                Key::Prefix(text) => prefixes.push((Prefix(text), bits)),
                Key::Suffix(text) => suffixes.push((Suffix(text), bits)),
                Key::Addresses(block) => addresses.push((block, bits)),
            }
        }
        let mut table = Self {
            attribute,
            open,
            exact: Exact::default(),
            prefixes: Nest::new(prefixes, Bits::add),
            suffixes: Nest::new(suffixes, Bits::add),
            addresses: Nest::new(addresses, Bits::add),
        };
        for (text, mut bits) in exact {
            bits.add(&table.open);
            table.add_patterns(&text, &mut bits);
            table.exact.insert(text, bits);
        }
        table
    }

    fn add_patterns(&self, text: &[u8], bits: &mut Bits) {
        if let Some(more) = self.prefixes.find(text) {
            bits.add(more);
        }
        if let Some(more) = self.suffixes.find(text) {
            bits.add(more);
        }
    }

    /// `None` where the value cannot be looked up, so that nothing is ruled out.
    fn possible(&self, facts: &AccessFacts<'_>) -> Option<Bits> {
        let mut left = self.open;
        if self.attribute.is_address() {
            if let Some(more) =
                numbers_of(facts, &self.attribute).and_then(|number| self.addresses.find(&number))
            {
                left.add(more);
            }
            return Some(left);
        }
        let is_known = texts_of(
            facts,
            &self.attribute,
            &mut |text| match self.exact.get(text) {
                Some(all) => left.add(all),
                None => self.add_patterns(text, &mut left),
            },
        );
        is_known.then_some(left)
    }
}
