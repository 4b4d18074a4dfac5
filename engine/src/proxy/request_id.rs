//! `x-request-id`: a random UUID, version 4 (RFC 9562 section 5.4).

use ringroad_codec::http1::{HeaderKind, RequestHead};
use ringroad_policy::snapshot::{Direction, Random};

/// The 36 characters of an id; all zero while there is none.
#[derive(Debug, Clone, Copy)]
pub struct RequestId(pub [u8; 36]);

impl Default for RequestId {
    fn default() -> Self {
        Self([0; 36])
    }
}

impl RequestId {
    /// The id, if one was made.
    pub fn get(&self) -> Option<&[u8]> {
        (self.0[0] != 0).then_some(&self.0)
    }
}

/// Whether the request needs an id from us: it brings none, or brings one from outside the mesh.
pub fn request_id_needed(head: &RequestHead, direction: Direction) -> bool {
    direction == Direction::Gateway
        || !head
            .headers
            .iter()
            .any(|header| header.kind == HeaderKind::XRequestId)
}

/// Writes a fresh UUID.
pub fn write_uuid(random: &mut Random, out: &mut RequestId) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let high = (random.next_u64() & !0xf000) | 0x4000;
    let low = (random.next_u64() & !(0b11 << 62)) | (0b10 << 62);
    let mut to = 0;
    for (half, dashes_before) in [(high, [8, 12]), (low, [0, 4])] {
        for at in 0..16 {
            if dashes_before.contains(&at) {
                out.0[to] = b'-';
                to += 1;
            }
            out.0[to] = DIGITS[(half >> (60 - 4 * at)) as usize & 15];
            to += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_its_version_variant_and_dashes() {
        let mut random = Random::new(7);
        for _ in 0..100 {
            let mut id = RequestId::default();
            write_uuid(&mut random, &mut id);
            let text = std::str::from_utf8(id.get().unwrap()).unwrap();
            let groups: Vec<usize> = text.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12]);
            assert_eq!(text.as_bytes()[14], b'4');
            assert!(b"89ab".contains(&text.as_bytes()[19]));
        }
    }
}
