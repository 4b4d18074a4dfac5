//! What is wrong with a configuration, where, and what to write instead.

use crate::source::{FieldPath, FileId, Origin, Position};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Accepted, but the author should know.
    Warning,
    /// The whole directory is refused.
    Error,
}

/// Where a diagnostic points.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// The value of a field; its line is looked up when the diagnostic is printed.
    Field(Origin),
    /// The name of a field, where the name is what is wrong.
    Key(Origin),
    /// A position in a file, for text that is no YAML.
    Position { file: FileId, position: Position },
    /// A file as a whole.
    File(FileId),
    /// No file: the directory as a whole.
    Nowhere,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    /// Stable, kebab-case, for filters and documentation: `unknown-field`.
    pub code: &'static str,
    pub place: Place,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Diagnostic {
    pub fn error(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            place,
            message: message.into(),
            help: None,
        }
    }

    pub fn warning(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            code,
            place,
            message: message.into(),
            help: None,
        }
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Place {
    pub fn field(document: crate::source::DocumentId, field: FieldPath) -> Self {
        Self::Field(Origin { document, field })
    }

    pub fn key(document: crate::source::DocumentId, field: FieldPath) -> Self {
        Self::Key(Origin { document, field })
    }
}
