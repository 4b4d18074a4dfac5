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
    let high = (random.next_u64() & !0xf000) | 0x4000;
    let low = (random.next_u64() & !(0b11 << 62)) | (0b10 << 62);
    let [first, second] = [hex_digits((high >> 32) as u32), hex_digits(high as u32)];
    let [third, last] = [hex_digits((low >> 32) as u32), hex_digits(low as u32)];
    let text = &mut out.0;
    text[..8].copy_from_slice(&first);
    text[9..13].copy_from_slice(&second[..4]);
    text[14..18].copy_from_slice(&second[4..]);
    text[19..23].copy_from_slice(&third[..4]);
    text[24..28].copy_from_slice(&third[4..]);
    text[28..].copy_from_slice(&last);
    for dash in [8, 13, 18, 23] {
        text[dash] = b'-';
    }
}

/// The eight hexadecimal digits of a number, all at once: each half byte is moved into a byte of its
/// own, then those above 9 to the letters.
fn hex_digits(number: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & (0x0f * EACH);
    let letters = ((digits + 6 * EACH) >> 4) & EACH;
    let to_letters = u64::from(b'a' - b'9' - 1);
    (digits + u64::from(b'0') * EACH + to_letters * letters).to_be_bytes()
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

    #[test]
    fn digits_are_those_of_the_number() {
        let mut random = Random::new(7);
        let some = (0..1000).map(|_| random.next_u64() as u32);
        for number in some.chain([0, 9, 10, u32::MAX, 0x9a9a_9a9a, 0x0123_4567, 0x89ab_cdef]) {
            assert_eq!(hex_digits(number), *format!("{number:08x}").as_bytes());
        }
    }
}
