//! Who may do what at the workload at hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Snapshot;
use crate::authenticate::{Authentication, KeySet, KeySource};
use crate::authorize::Authorization;

/// The security policies that apply.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// `None`: nobody looks at tokens.
    pub authentication: Option<Authentication>,
    /// `None`: everything is allowed.
    pub authorization: Option<Arc<Authorization>>,
}

/// Keys by where they come from, as far as they are known.
pub type KeyTable = BTreeMap<KeySource, Arc<KeySet>>;

impl Access {
    /// Whether no policy says anything.
    pub fn is_empty(&self) -> bool {
        self.authentication.is_none() && self.authorization.is_none()
    }
}

impl Snapshot {
    /// Where keys have to be fetched from.
    pub fn key_sources(&self) -> BTreeSet<KeySource> {
        let access = self.access.as_ref();
        let authentication = access.and_then(|access| access.authentication.as_ref());
        let rules = authentication.into_iter().flat_map(|known| &known.rules);
        let sources = rules.map(|rule| rule.source.clone());
        sources
            .filter(|source| *source != KeySource::Inline)
            .collect()
    }

    /// The same with the keys of a table. Cheap: everything else is shared.
    #[must_use]
    pub fn with_keys(&self, table: &KeyTable) -> Self {
        let mut snapshot = self.clone();
        if let Some(access) = &self.access
            && let Some(authentication) = &access.authentication
        {
            let authentication = authentication.with_keys(&|source| table.get(source).cloned());
            snapshot.access = Some(Arc::new(Access {
                authentication: Some(authentication),
                authorization: access.authorization.clone(),
            }));
        }
        snapshot
    }
}
