//! From what was read to a snapshot: the whole of `policy` behind the seam of the reload loop.

use ringroad_policy::diagnostic::{Diagnostic, Severity, render_text};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;

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
