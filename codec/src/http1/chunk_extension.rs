//! The extensions of a chunk, byte by byte (RFC 9112 section 7.1.1). Where a quoted string ends
//! decides where the line ends, so what is not of that form is not passed on for others to guess at.

use super::charset::{is_field_value_byte, is_token_byte};

/// What has come of `BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ]`, any number of
/// times, each with blanks behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkExtension {
    Semicolon,
    Name,
    BehindName,
    Equals,
    Value,
    Quoted,
    Escaped,
    BehindValue,
}

impl ChunkExtension {
    /// What has come with `byte` behind it; `None` when it may not stand there.
    pub(super) fn followed_by(self, byte: u8) -> Option<Self> {
        use ChunkExtension::*;
        match (self, byte) {
            (Quoted, b'"') => Some(BehindValue),
            (Quoted, b'\\') => Some(Escaped),
            (Quoted | Escaped, _) => is_field_value_byte(byte).then_some(Quoted),
            (Semicolon | BehindName | Equals | BehindValue, b' ' | b'\t') => Some(self),
            (Name, b' ' | b'\t') => Some(BehindName),
            (Value, b' ' | b'\t') => Some(BehindValue),
            (Name | BehindName | Value | BehindValue, b';') => Some(Semicolon),
            (Name | BehindName, b'=') => Some(Equals),
            (Equals, b'"') => Some(Quoted),
            (Semicolon | Name, _) => is_token_byte(byte).then_some(Name),
            (Equals | Value, _) => is_token_byte(byte).then_some(Value),
            (BehindName | BehindValue, _) => None,
        }
    }

    /// Whether the line may end here.
    pub(super) fn may_end(self) -> bool {
        use ChunkExtension::*;
        matches!(self, Name | BehindName | Value | BehindValue)
    }
}
