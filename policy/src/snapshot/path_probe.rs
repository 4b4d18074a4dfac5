//! A first look at a route's path condition that stays within a few cache lines for a whole host.

use super::matching::{PathMatch, RouteMatch};

/// So much of a text lies in the probe itself.
const HEAD_BYTES: usize = 20;

/// The beginning of a path condition. Probes of a host lie side by side, while the routes that
/// they stand for are large and their texts lie elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    kind: Kind,
    /// The path is the only condition, and the probe holds all of its text.
    is_all: bool,
    len: u16,
    head: [u8; HEAD_BYTES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact,
    Prefix,
    Other,
}

/// What a probe says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    No,
    Yes,
    /// The route itself has to be asked.
    Ask,
}

impl Probe {
    pub(crate) fn new(matches: &RouteMatch) -> Self {
        let (kind, text) = match &matches.path {
            PathMatch::Exact(text) => (Kind::Exact, text.as_str()),
            PathMatch::Prefix(text) => (Kind::Prefix, text.as_str()),
            _ => (Kind::Other, ""),
        };
        let Ok(len) = u16::try_from(text.len()) else {
            return Self {
                kind: Kind::Other,
                is_all: false,
                len: 0,
                head: [0; HEAD_BYTES],
            };
        };
        let mut head = [0; HEAD_BYTES];
        let known = text.len().min(HEAD_BYTES);
        head[..known].copy_from_slice(&text.as_bytes()[..known]);
        let alone = matches.headers.is_empty() && matches.query.is_empty();
        let is_all = alone && kind != Kind::Other && text.len() <= HEAD_BYTES;
        Self {
            kind,
            is_all,
            len,
            head,
        }
    }

    #[inline]
    pub(crate) fn judge(&self, path: &str) -> Verdict {
        let len = usize::from(self.len);
        let fits = match self.kind {
            Kind::Exact => path.len() == len,
            Kind::Prefix => path.len() >= len,
            Kind::Other => return Verdict::Ask,
        };
        let known = len.min(HEAD_BYTES);
        if !fits || path.as_bytes()[..known] != self.head[..known] {
            return Verdict::No;
        }
        if self.is_all {
            Verdict::Yes
        } else {
            Verdict::Ask
        }
    }
}
