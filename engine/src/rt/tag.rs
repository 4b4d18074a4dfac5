//! The word by which the kernel names what an event belongs to.

use super::slab::{Key, Slab};

/// What an event belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Receive,
    Readiness,
    Send,
    Connect,
    Accept,
    Mailbox,
    Timer,
    Cancel,
}

const KINDS: [Kind; 8] = [
    Kind::Receive,
    Kind::Readiness,
    Kind::Send,
    Kind::Connect,
    Kind::Accept,
    Kind::Mailbox,
    Kind::Timer,
    Kind::Cancel,
];

/// For events that belong to no slot.
pub(super) const NO_KEY: Key = Key {
    index: 0,
    generation: 0,
};

/// 4 bits of kind, 28 of generation, 32 of slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tag(pub u64);

const KIND_SHIFT: u32 = 60;
const GENERATION_MASK: u32 = (1 << 28) - 1;

impl Tag {
    #[inline]
    pub fn new(kind: Kind, key: Key) -> Self {
        let generation = u64::from(key.generation & GENERATION_MASK);
        Tag((kind as u64) << KIND_SHIFT | generation << 32 | u64::from(key.index))
    }

    #[inline]
    pub fn kind(self) -> Kind {
        KINDS
            .get((self.0 >> KIND_SHIFT) as usize)
            .copied()
            .unwrap_or(Kind::Cancel)
    }

    /// The slot that it names.
    #[inline]
    pub fn index(self) -> u32 {
        self.0 as u32
    }

    /// The key in `slab`, unless the slot has another tenant by now.
    #[inline]
    pub fn find<T>(self, slab: &Slab<T>) -> Option<Key> {
        slab.find(self.0 as u32, (self.0 >> 32) as u32, GENERATION_MASK)
    }
}
