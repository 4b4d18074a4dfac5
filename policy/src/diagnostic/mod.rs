//! What is wrong with a configuration, where, and what to write instead.

mod json;
mod place;
mod secrecy;
mod text;

use std::fmt;

use crate::source::{FieldPath, FileId, Origin, Position};

pub use json::render_json;
pub use place::{Placed, place_all};
pub use secrecy::without_keys;
pub use text::{TextOptions, render_text, render_text_with};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Accepted, but the author should know.
    Warning,
    /// The whole directory is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
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
    /// What the help goes on with where the text of the place is known.
    pub example: Option<Example>,
    /// The other place that it is about, such as the route that wins.
    pub related: Option<Related>,
}

/// The text of a place as it was written, with what has to stand around it. Only a lookup knows
/// that text: the number `1.10` is 1.1 to everyone else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    pub before: String,
    pub after: String,
}

/// A second place of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Related {
    pub origin: Origin,
    /// What stands there, without a full stop: `this route takes them`.
    pub note: String,
}

impl Diagnostic {
    pub fn error(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            place,
            message: message.into(),
            help: None,
            example: None,
            related: None,
        }
    }

    pub fn warning(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            code,
            place,
            message: message.into(),
            help: None,
            example: None,
            related: None,
        }
    }

    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Lets the help end with `: ` and the text of the place between these two, once that is
    /// looked up.
    pub fn with_example(mut self, before: impl Into<String>, after: impl Into<String>) -> Self {
        self.example = Some(Example {
            before: before.into(),
            after: after.into(),
        });
        self
    }

    /// Names a second place, shown after the help.
    pub fn with_related(mut self, origin: Origin, note: impl Into<String>) -> Self {
        let note = note.into();
        self.related = Some(Related { origin, note });
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

/// How many diagnostics there are of each severity. Displayed as `2 errors, 1 warning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    pub errors: usize,
    pub warnings: usize,
}

impl Summary {
    pub fn of(diagnostics: &[Diagnostic]) -> Self {
        let is_error = |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error;
        let errors = diagnostics.iter().filter(is_error).count();
        Self {
            errors,
            warnings: diagnostics.len() - errors,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (errors, warnings) = (self.errors, self.warnings);
        write!(
            f,
            "{errors} error{}, {warnings} warning{}",
            plural(errors),
            plural(warnings)
        )
    }
}
