//! Slots with stable indices and generations: a handle that outlives its slot is told apart from
//! the slot's next tenant.

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

/// A vector of recycled slots. The slot freed last is used first, since it is likely still cached.
pub(super) struct Slab<T> {
    entries: Vec<Entry<T>>,
    first_free: u32,
    used: usize,
}

impl<T> Slab<T> {
    pub fn new() -> Self {
        Slab {
            entries: Vec::new(),
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
            let index = u32::try_from(self.entries.len()).expect("fewer than 2^32 slots");
            self.entries.push(Entry {
                generation,
                content: Content::Used(value),
            });
            return Key { index, generation };
        }
        let entry = &mut self.entries[index as usize];
        if let Content::Free { next } = entry.content {
            self.first_free = next;
        }
        *entry = Entry {
            generation,
            content: Content::Used(value),
        };
        Key { index, generation }
    }

    /// The value of this very tenancy; `None` when the slot was freed since.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize) {
            Some(Entry {
                generation,
                content: Content::Used(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        match self.entries.get(key.index as usize) {
            Some(Entry {
                generation,
                content: Content::Used(value),
            }) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    /// The full key of a slot of which only the low bits of the generation are known.
    #[inline]
    pub fn find(&self, index: u32, generation: u32, mask: u32) -> Option<Key> {
        match self.entries.get(index as usize) {
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
        let entry = self.entries.get_mut(key.index as usize)?;
        if entry.generation != key.generation || matches!(entry.content, Content::Free { .. }) {
            return None;
        }
        let freed = Content::Free {
            next: self.first_free,
        };
        self.first_free = key.index;
        self.used -= 1;
        match std::mem::replace(&mut entry.content, freed) {
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
        self.entries.iter().enumerate().filter_map(used).collect()
    }
}
