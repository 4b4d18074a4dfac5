//! The rules that one request goes by.

use super::view::SnapshotView;
use ringroad_policy::snapshot::path::Normalization;
use ringroad_policy::snapshot::{Access, Listener};
use std::rc::Rc;
use std::sync::Arc;

/// A snapshot and the listener in it that the request came through.
#[derive(Clone)]
pub struct Rules {
    pub view: Rc<SnapshotView>,
    listener: usize,
}

impl Rules {
    pub fn new(view: Rc<SnapshotView>, listener: usize) -> Self {
        Self { view, listener }
    }

    #[inline]
    pub fn listener(&self) -> &Arc<Listener> {
        &self.view.snapshot.listeners[self.listener]
    }

    /// Who may do what here; `None` where no policy says anything.
    #[inline]
    pub fn access(&self) -> Option<&Arc<Access>> {
        self.view.snapshot.access_for(self.listener().direction)
    }

    /// What is done to the paths of requests.
    #[inline]
    pub fn paths(&self) -> Normalization {
        self.view.snapshot.settings.path_normalization
    }
}
