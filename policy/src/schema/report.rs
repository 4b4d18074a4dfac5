//! Where the checks of one document put what they find.

use super::node::Node;
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::source::{DocumentId, Origin};
use crate::yaml::Document;

/// The findings about one document.
#[derive(Debug)]
pub struct Report<'d> {
    document: &'d Document,
    diagnostics: &'d mut Vec<Diagnostic>,
    has_error: bool,
}

impl<'d> Report<'d> {
    /// A report that appends to `diagnostics`.
    pub fn new(document: &'d Document, diagnostics: &'d mut Vec<Diagnostic>) -> Self {
        Self {
            document,
            diagnostics,
            has_error: false,
        }
    }

    /// The document that is checked.
    pub fn document(&self) -> &'d Document {
        self.document
    }

    /// Whether any finding was an error.
    pub fn has_error(&self) -> bool {
        self.has_error
    }

    /// Something that Istio would refuse.
    pub fn error(
        &mut self,
        code: &'static str,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = Place::field(self.id(), node.path());
        self.push(Diagnostic::error(code, place, message).with_help(help));
    }

    /// A number or a boolean in the place of a text, which is shown as it has to be written:
    /// what was written between `before` and `after`.
    pub fn unquoted(
        &mut self,
        node: &Node<'_>,
        message: String,
        help: String,
        (before, after): (String, String),
    ) {
        let error = Diagnostic::error("wrong-type", Place::field(self.id(), node.path()), message);
        self.push(error.with_help(help).with_example(before, after));
    }

    /// A text without quotes that only a cluster takes for something else.
    pub fn unquoted_text(&mut self, node: &Node<'_>, message: String) {
        let warning =
            Diagnostic::warning("wrong-type", Place::field(self.id(), node.path()), message);
        let warning = warning.with_help("write it in quotes");
        self.push(warning.with_example("\"", "\""));
    }

    /// Something that is accepted and should be known.
    pub fn warning(
        &mut self,
        code: &'static str,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = Place::field(self.id(), node.path());
        self.push(Diagnostic::warning(code, place, message).with_help(help));
    }

    /// An error about the name of a field, not its value.
    pub fn key_error(
        &mut self,
        code: &'static str,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = Place::key(self.id(), node.path());
        self.push(Diagnostic::error(code, place, message).with_help(help));
    }

    /// A warning about the name of a field, not its value.
    pub fn key_warning(
        &mut self,
        code: &'static str,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let place = Place::key(self.id(), node.path());
        self.push(Diagnostic::warning(code, place, message).with_help(help));
    }

    /// A policy that takes the place of the one at `other`.
    pub fn replaced(
        &mut self,
        node: &Node<'_>,
        message: impl Into<String>,
        help: impl Into<String>,
        other: Origin,
        note: &str,
    ) {
        let place = Place::field(self.id(), node.path());
        let warning = Diagnostic::warning("policy-replaced", place, message);
        self.push(warning.with_help(help).with_related(other, note));
    }

    fn id(&self) -> DocumentId {
        self.document.id
    }

    fn push(&mut self, diagnostic: Diagnostic) {
        self.has_error |= diagnostic.severity == Severity::Error;
        self.diagnostics.push(diagnostic);
    }
}
