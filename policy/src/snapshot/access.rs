//! Who may do what at the workload at hand.

use crate::authorize::Authorization;

/// The security policies that apply.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `None`: everything is allowed.
    pub authorization: Option<Authorization>,
}

impl Access {
    /// Whether no policy says anything.
    pub fn is_empty(&self) -> bool {
        self.authorization.is_none()
    }
}
