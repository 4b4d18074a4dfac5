//! The three bodies that the upstream serves and the load generator expects.

use clap::ValueEnum;
use serde::Serialize;

/// A response body by its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
pub enum Payload {
    /// 128 bytes at `/128`.
    #[value(name = "128")]
    #[serde(rename = "128")]
    Small,
    /// 16 KiB at `/16k`.
    #[value(name = "16k")]
    #[serde(rename = "16k")]
    Medium,
    /// 1 MiB at `/1m`.
    #[value(name = "1m")]
    #[serde(rename = "1m")]
    Large,
}

impl Payload {
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// Length of the body in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Small => 128,
            Self::Medium => 16 * 1024,
            Self::Large => 1024 * 1024,
        }
    }

    /// The path that answers with it.
    pub fn path(self) -> &'static str {
        match self {
            Self::Small => "/128",
            Self::Medium => "/16k",
            Self::Large => "/1m",
        }
    }

    /// The size as people say it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Small => "128 B",
            Self::Medium => "16 KiB",
            Self::Large => "1 MiB",
        }
    }

    /// The body itself: printable, and nowhere the same for long, so that bytes at a wrong place
    /// are seen.
    pub fn body(self) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        (0..self.bytes())
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                b'a' + (state % 26) as u8
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_their_length_and_do_not_repeat() {
        for payload in Payload::ALL {
            let body = payload.body();
            assert_eq!(body.len(), payload.bytes());
            let start = &body[..32];
            assert_eq!(
                memchr::memmem::find_iter(&body, start).count(),
                1,
                "{payload:?}"
            );
        }
    }
}
