//! What the compiler has to say, each thing once.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::{Diagnostic, Place};
use crate::resource::virtual_service::VirtualService;
use crate::resource::{Metadata, Object};
use crate::source::DocumentId;

/// What to do about two documents that say they are the same.
pub const NAMESAKE_HELP: &str = "remove one of the two documents, or give it a name of its own";

/// Collected diagnostics.
#[derive(Debug, Default)]
pub struct Findings {
    list: Vec<Diagnostic>,
    known: HashSet<(&'static str, Place, String)>,
    /// `namespace/name` of each VirtualService.
    names: HashMap<DocumentId, String>,
    /// VirtualServices whose routes of requests were compiled for some table.
    routed: HashSet<DocumentId>,
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

    /// Keeps the names of VirtualServices, to tell documents that say they are the same.
    pub fn name_all(&mut self, objects: &[Object<VirtualService>]) {
        let names = objects.iter().map(|object| {
            let Metadata {
                document,
                namespace,
                name,
                ..
            } = &object.metadata;
            (*document, format!("{namespace}/{name}"))
        });
        self.names = names.collect();
    }

    /// `namespace/name` of the VirtualService in a document.
    pub fn name_of(&self, document: DocumentId) -> Option<&str> {
        self.names.get(&document).map(String::as_str)
    }

    /// Whether two documents hold VirtualServices of one name.
    pub fn are_namesakes(&self, one: DocumentId, other: DocumentId) -> bool {
        one != other
            && self
                .name_of(one)
                .is_some_and(|name| self.name_of(other) == Some(name))
    }

    /// Notes that the routes of a VirtualService were looked at for a table.
    pub fn note_routed(&mut self, document: DocumentId) {
        self.routed.insert(document);
    }

    /// Whether they were.
    pub fn is_routed(&self, document: DocumentId) -> bool {
        self.routed.contains(&document)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn into_list(self) -> Vec<Diagnostic> {
        self.list
    }
}
