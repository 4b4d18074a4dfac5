//! What the compiler has to say, each thing once.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Place};

/// Collected diagnostics.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Diagnostic>,
    known: HashSet<(&'static str, Place, String)>,
}

impl Findings {
    /// Notes a diagnostic unless the very same was noted already: a rule is looked at once for
    /// each port and gateway that it applies to.
    pub fn add(&mut self, diagnostic: Diagnostic) {
        let key = (
            diagnostic.code,
            diagnostic.place.clone(),
            diagnostic.message.clone(),
        );
        if self.known.insert(key) {
            self.list.push(diagnostic);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }
}
