//! Configurations that are held against each other.

use ringroad_policy::difference::Side;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::{DnsTable, Snapshot};
use ringroad_policy::source::SourceFile;

/// A configuration of one file.
pub struct Loaded {
    snapshot: Snapshot,
    files: Vec<SourceFile>,
}

impl Loaded {
    /// As one of the two that are compared.
    pub fn side(&self) -> Side<'_> {
        Side {
            snapshot: &self.snapshot,
            files: &self.files,
        }
    }
}

pub fn load(path: &str, text: &str) -> Loaded {
    let files = vec![SourceFile {
        path: path.to_string(),
        text: text.to_string(),
    }];
    let loaded = ringroad_policy::load(&files, &Overrides::default(), &DnsTable::default());
    let snapshot = loaded
        .snapshot
        .unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics));
    Loaded { snapshot, files }
}
