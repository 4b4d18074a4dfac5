//! What Istio would refuse or warn about, document by document.

mod delegates;
mod duplicates;

use crate::diagnostic::Diagnostic;
use crate::rules;
use crate::schema::{self, Node, Report};
use crate::settings;
use crate::yaml::Document;

/// Checks the names, types and meaning of everything that is written. References to other
/// documents are not followed: those are the compiler's to warn about. Only circles of delegates
/// and documents of one name are looked for here.
pub fn validate(documents: &[Document]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for document in documents {
        check_document(document, &mut diagnostics);
    }
    delegates::check(documents, &mut diagnostics);
    duplicates::check(documents, &mut diagnostics);
    diagnostics
}

fn check_document(document: &Document, diagnostics: &mut Vec<Diagnostic>) {
    let root = Node::root(&document.value);
    let mut report = Report::new(document, diagnostics);
    let Some(kind) = schema::kind_of(&root, &mut report) else {
        return;
    };
    schema::check(kind, &root, &mut report);
    // The rules of settings pass over what has a wrong type, so that all is said at once.
    if !report.has_error() || kind.name == settings::KIND {
        rules::check(&root, &mut report);
    }
}
