//! From what was read to a snapshot: the whole of `policy` behind the seam of the reload loop.

use std::fmt::Write as _;

use ringroad_policy::diagnostic::{Diagnostic, Place, Severity};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::{FileId, SourceFile};

use super::config_dir::Reading;
use super::reload::{Loader, Outcome};

/// Parses, validates and compiles, with the flags of the command line.
pub struct PolicyLoader {
    pub overrides: Overrides,
}

impl Loader for PolicyLoader {
    fn load(&self, reading: &Reading, resolved: &DnsTable) -> Outcome {
        let loaded = ringroad_policy::load(&reading.files, &self.overrides, resolved);
        let mut diagnostics = reading.problems.clone();
        diagnostics.extend(loaded.diagnostics);
        let refused = diagnostics
            .iter()
            .any(|found| found.severity == Severity::Error);
        Outcome {
            snapshot: loaded.snapshot.filter(|_| !refused),
            diagnostics,
        }
    }

    fn render(&self, files: &[SourceFile], diagnostics: &[Diagnostic]) -> String {
        render_text(files, diagnostics)
    }
}

/// Diagnostics as text for people, one after the other.
pub fn render_text(files: &[SourceFile], diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for found in diagnostics {
        let severity = match found.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let _ = writeln!(out, "{severity}[{}]: {}", found.code, found.message);
        let path = |file: FileId| files.get(file.0 as usize).map_or("?", |file| &file.path);
        let _ = match &found.place {
            Place::Field(origin) | Place::Key(origin) => {
                let document = origin.document;
                let field = &origin.field;
                writeln!(
                    out,
                    "  --> {}: document {}: {field}",
                    path(document.file),
                    document.index
                )
            }
            Place::Position { file, position } => {
                writeln!(
                    out,
                    "  --> {}:{}:{}",
                    path(*file),
                    position.line,
                    position.column
                )
            }
            Place::File(file) => writeln!(out, "  --> {}", path(*file)),
            Place::Nowhere => Ok(()),
        };
        if let Some(help) = &found.help {
            let _ = writeln!(out, "  help: {help}");
        }
    }
    out
}
