//! The handshake of WebSocket between its two forms: HTTP/1.1 proves with a key that the server
//! means it (RFC 6455 section 4.2.2), HTTP/2 leaves that out (RFC 8441 section 5). Within the data
//! path the form of HTTP/1.1 holds, so a key is made for a client that has none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ringroad_codec::http1::Headers;
use ringroad_policy::snapshot::Random;

pub const KEY: &str = "sec-websocket-key";
pub const ACCEPT: &str = "sec-websocket-accept";

/// What a server appends to the key (RFC 6455 section 1.3).
const SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A fresh `Sec-WebSocket-Key`.
pub fn new_key(random: &mut Random) -> String {
    let bytes: [u8; 16] = std::array::from_fn(|_| random.below(256) as u8);
    BASE64_STANDARD.encode(bytes)
}

/// The `Sec-WebSocket-Accept` that belongs to a key.
pub fn accept_of(key: &[u8]) -> String {
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, SUFFIX].concat());
    BASE64_STANDARD.encode(proof)
}

/// Whether a server's 101 proves that it has understood the request.
pub fn is_accepted(request: &Headers<'_>, response: &Headers<'_>) -> bool {
    let proof = request.first(KEY).map(accept_of);
    proof.is_some_and(|proof| response.first(ACCEPT) == Some(proof.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_standard() {
        // RFC 6455 section 1.3.
        assert_eq!(
            accept_of(b"dGhlIHNhbXBsZSBub25jZQ=="),
            "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn keys_are_sixteen_bytes_and_differ() {
        let mut random = Random::new(7);
        let (one, other) = (new_key(&mut random), new_key(&mut random));
        assert_eq!(BASE64_STANDARD.decode(&one).map(|key| key.len()), Ok(16));
        assert_ne!(one, other);
    }
}
