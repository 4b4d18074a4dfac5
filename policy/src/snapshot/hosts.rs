//! From the host of a request to its virtual host, without looking at all of them.

/// An open-addressed table from ASCII-case-insensitive text to a number. It is built once; the
/// keys lie in one arena, so that a lookup touches two cache lines whatever the size.
#[derive(Debug, Clone, Default)]
struct FoldedTable {
    slots: Vec<Slot>,
    /// Each key behind its length in two bytes.
    keys: Vec<u8>,
    len: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: u32,
    /// Of the key in the arena.
    start: u32,
    value: u32,
}

const EMPTY: u32 = u32::MAX;
const FREE: Slot = Slot {
    hash: 0,
    start: EMPTY,
    value: 0,
};

impl FoldedTable {
    /// Adds a key unless it is there; whether it was added. A key longer than any host can be is
    /// never found, and not added.
    fn insert(&mut self, key: &str, value: u32) -> bool {
        let Ok(key_len) = u16::try_from(key.len()) else {
            return false;
        };
        if self.get(key.as_bytes()).is_some() {
            return false;
        }
        if (self.len + 1) * 10 > self.slots.len() * 7 {
            self.grow();
        }
        let start = self.keys.len() as u32;
        self.keys.extend(key_len.to_le_bytes());
        self.keys
            .extend(key.bytes().map(|byte| byte.to_ascii_lowercase()));
        place(
            &mut self.slots,
            Slot {
                hash: fold_hash(key.as_bytes()),
                start,
                value,
            },
        );
        self.len += 1;
        true
    }

    fn grow(&mut self) {
        let mut larger = vec![FREE; (self.slots.len() * 2).max(8)];
        for slot in self.slots.iter().filter(|slot| slot.start != EMPTY) {
            place(&mut larger, *slot);
        }
        self.slots = larger;
    }

    #[inline]
    fn get(&self, key: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = fold_hash(key);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.start == EMPTY {
                return None;
            }
            if slot.hash == hash && self.key(slot.start as usize).eq_ignore_ascii_case(key) {
                return Some(slot.value);
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn key(&self, start: usize) -> &[u8] {
        let len = u16::from_le_bytes([self.keys[start], self.keys[start + 1]]);
        &self.keys[start + 2..start + 2 + usize::from(len)]
    }
}

fn place(slots: &mut [Slot], slot: Slot) {
    let mask = slots.len() - 1;
    let mut at = slot.hash as usize & mask;
    while slots[at].start != EMPTY {
        at = (at + 1) & mask;
    }
    slots[at] = slot;
}

/// A hash that is the same for both cases of a letter. Only configuration becomes a key, so that
/// a sender cannot fill a bucket and the hash needs no secret.
///
/// Bit 5 tells the cases of a letter apart; setting it in every byte also merges a few other
/// characters, which the comparison afterwards tells apart.
#[inline]
fn fold_hash(key: &[u8]) -> u32 {
    const FOLD: u64 = 0x2020_2020_2020_2020;
    const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut hash = key.len() as u64;
    let mut words = key.chunks_exact(8);
    for word in words.by_ref() {
        let word = u64::from_le_bytes(word.try_into().unwrap_or_default()) | FOLD;
        hash = (hash.rotate_left(23) ^ word).wrapping_mul(MULTIPLIER);
    }
    let mut tail = 0;
    for &byte in words.remainder() {
        tail = tail << 8 | u64::from(byte | 0x20);
    }
    hash = (hash.rotate_left(23) ^ tail).wrapping_mul(MULTIPLIER);
    ((hash ^ (hash >> 29)).wrapping_mul(MULTIPLIER) >> 32) as u32
}

/// Which virtual host a host belongs to: exact, else the longest `*suffix`, else the longest
/// `prefix*`, else `*`. A wildcard stands for at least one character.
#[derive(Debug, Clone, Default)]
pub struct HostIndex {
    exact: FoldedTable,
    suffixes: FoldedTable,
    /// Lengths of the suffixes that exist, longest first.
    suffix_lengths: Vec<u16>,
    prefixes: FoldedTable,
    prefix_lengths: Vec<u16>,
    any: Option<u32>,
}

impl HostIndex {
    /// Lets `domain` lead to virtual host `value`; `false` when the domain is taken already, in
    /// which case the first one keeps it.
    pub fn insert(&mut self, domain: &str, value: u32) -> bool {
        if domain == "*" {
            let free = self.any.is_none();
            self.any.get_or_insert(value);
            return free;
        }
        if let Some(suffix) = domain.strip_prefix('*') {
            note_length(&mut self.suffix_lengths, suffix.len());
            return self.suffixes.insert(suffix, value);
        }
        if let Some(prefix) = domain.strip_suffix('*') {
            note_length(&mut self.prefix_lengths, prefix.len());
            return self.prefixes.insert(prefix, value);
        }
        self.exact.insert(domain, value)
    }

    /// The virtual host of a host without port.
    #[inline]
    pub fn find(&self, host: &str) -> Option<u32> {
        let host = host.as_bytes();
        if let Some(value) = self.exact.get(host) {
            return Some(value);
        }
        for &len in &self.suffix_lengths {
            if usize::from(len) < host.len() {
                let suffix = &host[host.len() - usize::from(len)..];
                if let Some(value) = self.suffixes.get(suffix) {
                    return Some(value);
                }
            }
        }
        for &len in &self.prefix_lengths {
            if usize::from(len) < host.len()
                && let Some(value) = self.prefixes.get(&host[..usize::from(len)])
            {
                return Some(value);
            }
        }
        self.any
    }
}

fn note_length(lengths: &mut Vec<u16>, len: usize) {
    let len = len.min(usize::from(u16::MAX)) as u16;
    if let Err(at) = lengths.binary_search_by(|known| len.cmp(known)) {
        lengths.insert(at, len);
    }
}

/// A host without its port: `[::1]:80` is `[::1]`, `example.com:80` is `example.com`.
#[inline]
pub fn without_port(authority: &str) -> &str {
    let bytes = authority.as_bytes();
    let port_starts = bytes.iter().rposition(|byte| !byte.is_ascii_digit());
    let Some((b':', before)) = port_starts.and_then(|last| bytes[..=last].split_last()) else {
        return authority;
    };
    let is_ipv6_without_brackets = !before.ends_with(b"]") && before.contains(&b':');
    match is_ipv6_without_brackets {
        true => authority,
        false => &authority[..before.len()],
    }
}
