//! Slots with stable indices and generations: a handle that outlives its slot is told apart from
//! the slot's next tenant.

use super::prefetch::prefetch;
use std::cell::Cell;

thread_local! {
    // Runs on across runtimes of one thread, so that a handle kept from an earlier runtime never
    // matches a slot of a later one.
    static NEXT_GENERATION: Cell<u32> = const { Cell::new(1) };
}

/// Names one tenancy of one slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key {
    pub index: u32,
    pub generation: u32,
}

const END: u32 = u32::MAX;

enum Content<T> {
    Free { next: u32 },
    Used(T),
}

struct Entry<T> {
    generation: u32,
    content: Content<T>,
}

/// Entries of one block.
const BLOCK: usize = 128;

/// Recycled slots, in blocks that stay where they are: growing copies nothing and leaves no old
/// array behind. The slot freed last is used first, since it is likely still cached.
pub(super) struct Slab<T> {
    blocks: Vec<Vec<Entry<T>>>,
    first_free: u32,
    used: usize,
}

impl<T> Slab<T> {
    pub fn new() -> Self {
        Slab {
            blocks: Vec::new(),
            first_free: END,
            used: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.used
    }

    pub fn insert(&mut self, value: T) -> Key {
        let generation = NEXT_GENERATION.with(|next| next.replace(next.get().wrapping_add(1)));
        self.used += 1;
        let index = self.first_free;
        if index == END {
            let content = Content::Used(value);
            let index = self.push(Entry {
                generation,
                content,
            });
            return Key { index, generation };
        }
        if let Some(entry) = self.entry_mut(index) {
            let before = std::mem::replace(
                entry,
                Entry {
                    generation,
                    content: Content::Used(value),
                },
            );
            if let Content::Free { next } = before.content {
                self.first_free = next;
            }
        }
        Key { index, generation }
    }

    fn push(&mut self, entry: Entry<T>) -> u32 {
        if self.blocks.last().is_none_or(|block| block.len() == BLOCK) {
            self.blocks.push(Vec::with_capacity(BLOCK));
        }
        let full = (self.blocks.len() - 1) * BLOCK;
        let last = self
            .blocks
            .last_mut()
            .expect("a block was just made sure of");
        last.push(entry);
        u32::try_from(full + last.len() - 1).expect("fewer than 2^32 slots")
    }

    #[inline]
    fn entry(&self, index: u32) -> Option<&Entry<T>> {
        let index = index as usize;
        self.blocks.get(index / BLOCK)?.get(index % BLOCK)
    }

    #[inline]
    fn entry_mut(&mut self, index: u32) -> Option<&mut Entry<T>> {
        let index = index as usize;
        self.blocks.get_mut(index / BLOCK)?.get_mut(index % BLOCK)
    }

    /// The value of this very tenancy; `None` when the slot was freed since.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entry_mut(key.index) {
            Some(Entry {
                generation,
                content: Content::Used(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.entry(key.index) {
            Some(Entry {
                generation,
                content: Content::Used(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// Has the processor fetch a slot that is about to be used.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        if let Some(entry) = self.entry(index) {
            prefetch(entry);
        }
    }

    /// What a slot holds, whoever its tenant is.
    #[inline]
    pub fn tenant(&self, index: u32) -> Option<&T> {
        match &self.entry(index)?.content {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// The full key of a slot of which only the low bits of the generation are known.
    #[inline]
    pub fn find(&self, index: u32, generation: u32, mask: u32) -> Option<Key> {
        match self.entry(index) {
            Some(Entry {
                generation: whole,
                content: Content::Used(_),
            }) if *whole & mask == generation & mask => Some(Key {
                index,
                generation: *whole,
            }),
            _ => None,
        }
    }

    pub fn remove(&mut self, key: Key) -> Option<T> {
        let next = self.first_free;
        let entry = self.entry_mut(key.index)?;
        if entry.generation != key.generation || matches!(entry.content, Content::Free { .. }) {
            return None;
        }
        let before = std::mem::replace(&mut entry.content, Content::Free { next });
        self.first_free = key.index;
        self.used -= 1;
        match before {
            Content::Used(value) => Some(value),
            Content::Free { .. } => None,
        }
    }

    /// The keys of all used slots.
    pub fn keys(&self) -> Vec<Key> {
        let used = |(index, entry): (usize, &Entry<T>)| match entry.content {
            Content::Used(_) => Some(Key {
                index: index as u32,
                generation: entry.generation,
            }),
            Content::Free { .. } => None,
        };
        self.blocks
            .iter()
            .flatten()
            .enumerate()
            .filter_map(used)
            .collect()
    }
}
