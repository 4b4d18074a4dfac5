//! Clients of HTTP/1.1 that take nothing of what waits for them. Streams of HTTP/2 have a watch of
//! their own (`http2/stall.rs`).

use super::connection::deadline_after;
use crate::rt;
use crate::transport::Transport;
use std::cell::Cell;
use std::time::Instant;

/// How long a client may take nothing. It has no timer: who waits sets his own by it.
///
/// A send can be long, and a client slow without standing still. So when the patience is over for
/// the first time it is noted how far the client has come, and the wait is over when it has come no
/// further in the same time again.
#[derive(Default)]
pub struct SendStall {
    /// 0 is without limit.
    patience_ms: u64,
    ends_at: Cell<Option<Instant>>,
    confirmed: Cell<Option<u64>>,
}

impl SendStall {
    pub fn new(patience_ms: u64) -> Self {
        Self {
            patience_ms,
            ..Self::default()
        }
    }

    /// Something waits to be taken.
    pub fn begins(&self) {
        self.confirmed.set(None);
        self.ends_at
            .set(deadline_after(rt::now(), self.patience_ms));
    }

    /// It has been taken.
    pub fn ends(&self) {
        self.ends_at.set(None);
    }

    /// When it is to be asked whether the wait [is over](Self::is_over); `None` while nothing
    /// waits.
    pub fn ends_at(&self) -> Option<Instant> {
        self.ends_at.get()
    }

    /// Whether the client has taken nothing for too long.
    pub fn is_over(&self, client: &Transport) -> bool {
        if self.ends_at.get().is_none_or(|end| end > rt::now()) {
            return false;
        }
        let confirmed = client.confirmed_bytes();
        if self.confirmed.replace(confirmed) == confirmed {
            return true;
        }
        self.ends_at
            .set(deadline_after(rt::now(), self.patience_ms));
        false
    }
}
