//! From hashes to endpoints, so that an endpoint that comes or goes moves few of them.

use crate::snapshot::{Balancer, Endpoint, EndpointAddress};
use twox_hash::XxHash64;

/// Envoy: `RingHashLbConfig.minimum_ring_size`.
pub const DEFAULT_RING_SIZE: u64 = 1024;
/// Envoy: `RingHashLbConfig.maximum_ring_size`.
pub const LARGEST_RING_SIZE: u64 = 8 * 1024 * 1024;
/// Envoy: `MaglevLbConfig.table_size`.
pub const DEFAULT_TABLE_SIZE: u64 = 65_537;

/// The hash that Envoy uses for keys and endpoints, so that both agree.
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    XxHash64::oneshot(0, bytes)
}

/// Endpoints by hash, for one priority. Built when the endpoints are known, not with requests.
#[derive(Debug, Clone)]
pub(super) enum HashTable {
    Ring(Ring),
    Maglev(Maglev),
}

/// An endpoint and its part of the whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub member: u32,
    /// All parts of a table sum to 1.
    pub weight: f64,
}

impl HashTable {
    /// The table that `balancer` needs, if it hashes.
    pub fn build(balancer: Balancer, parts: &[Part], endpoints: &[Endpoint]) -> Option<Self> {
        match balancer {
            _ if parts.is_empty() => None,
            Balancer::RingHash { minimum_size } => {
                Some(Self::Ring(Ring::build(minimum_size, parts, endpoints)))
            }
            Balancer::Maglev { table_size } => {
                Some(Self::Maglev(Maglev::build(table_size, parts, endpoints)))
            }
            _ => None,
        }
    }

    /// The endpoint of a hash, then those that stand in for it, each perhaps several times.
    pub fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let len = match self {
            Self::Ring(ring) => ring.points.len(),
            Self::Maglev(table) => table.slots.len() + REHASHES as usize,
        };
        let start = match self {
            Self::Ring(ring) => ring.points.partition_point(|(at, _)| *at < hash),
            Self::Maglev(_) => 0,
        };
        (0..len).map(move |attempt| match self {
            Self::Ring(ring) => ring.points[(start + attempt) % len].1,
            Self::Maglev(table) => table.candidate(hash, attempt as u64),
        })
    }
}

/// Points on a circle of hashes; a hash belongs to the next point (consistent hashing, as in
/// ketama).
#[derive(Debug, Clone)]
pub(super) struct Ring {
    /// Hash and endpoint, by hash.
    points: Vec<(u64, u32)>,
}

impl Ring {
    fn build(minimum_size: u64, parts: &[Part], endpoints: &[Endpoint]) -> Self {
        // Whoever weighs least has a whole number of points.
        let least = parts.iter().map(|part| part.weight).fold(1.0, f64::min);
        let size = (least * minimum_size as f64).ceil() / least;
        let size = size.min(LARGEST_RING_SIZE as f64);
        let mut points = Vec::with_capacity(size.ceil() as usize);
        let mut key = Vec::new();
        let mut wanted = 0.0;
        for part in parts {
            wanted += size * part.weight;
            write_key(&endpoints[part.member as usize].address, &mut key);
            key.push(b'_');
            let stem = key.len();
            let mut number: u64 = 0;
            while (points.len() as f64) < wanted {
                key.truncate(stem);
                key.extend_from_slice(number.to_string().as_bytes());
                points.push((hash_of(&key), part.member));
                number += 1;
            }
        }
        points.sort_by_key(|(hash, _)| *hash);
        Self { points }
    }
}

/// A table of endpoints in which each fills slots in an order of its own (the Maglev paper,
/// section 3.4).
#[derive(Debug, Clone)]
pub(super) struct Maglev {
    slots: Vec<u32>,
}

/// How often another hash is tried in place of one whose endpoint cannot be taken, before the
/// slots are gone through in turn. Envoy: `host_selection_retry_max_attempts` as Istio sets it.
const REHASHES: u64 = 5;

const NOBODY: u32 = u32::MAX;

impl Maglev {
    fn build(table_size: u64, parts: &[Part], endpoints: &[Endpoint]) -> Self {
        struct Filler {
            part: Part,
            offset: u64,
            skip: u64,
            next: u64,
            /// What its weight times the round has to come to for another slot.
            due: f64,
        }
        let size = table_size.max(2);
        // Slots are filled in turn, so the order has to be the same everywhere.
        let key = |part: &Part| {
            let mut key = Vec::new();
            write_key(&endpoints[part.member as usize].address, &mut key);
            key
        };
        let mut keyed: Vec<(Vec<u8>, Part)> = parts.iter().map(|part| (key(part), *part)).collect();
        keyed.sort_by(|a, b| a.0.cmp(&b.0));
        let filler = |(key, part): (Vec<u8>, Part)| Filler {
            part,
            offset: hash_of(&key) % size,
            skip: XxHash64::oneshot(1, &key) % (size - 1) + 1,
            next: 0,
            due: 0.0,
        };
        let mut fillers: Vec<Filler> = keyed.into_iter().map(filler).collect();
        let most = parts.iter().map(|part| part.weight).fold(0.0, f64::max);
        let mut slots = vec![NOBODY; size as usize];
        let mut empty = slots.len();
        let mut round = 0.0;
        while empty > 0 {
            round += 1.0;
            for filler in &mut fillers {
                if empty == 0 {
                    break;
                }
                if round * filler.part.weight < filler.due {
                    continue;
                }
                filler.due += most;
                loop {
                    let at = (filler.offset + filler.skip * filler.next) % size;
                    filler.next += 1;
                    let slot = &mut slots[at as usize];
                    if *slot == NOBODY {
                        *slot = filler.part.member;
                        break;
                    }
                }
                empty -= 1;
            }
        }
        Self { slots }
    }

    fn candidate(&self, hash: u64, attempt: u64) -> u32 {
        let size = self.slots.len() as u64;
        let at = match attempt {
            0 => hash % size,
            1..=REHASHES => (hash ^ 0_u64.wrapping_sub(attempt)) % size,
            _ => (hash % size + attempt - REHASHES) % size,
        };
        self.slots[at as usize]
    }
}

/// What Envoy hashes for an endpoint: the address as text, or the path.
fn write_key(address: &EndpointAddress, key: &mut Vec<u8>) {
    key.clear();
    match address {
        EndpointAddress::Socket(address) => key.extend_from_slice(address.to_string().as_bytes()),
        EndpointAddress::Unix(path) => key.extend_from_slice(path.as_bytes()),
    }
}
