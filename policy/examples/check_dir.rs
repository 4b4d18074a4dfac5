//! Loads each file on its own and each directory as a whole, and prints the verdicts:
//! `check_dir PATH...`; `-q` before the paths leaves the diagnostics out.

use std::path::{Path, PathBuf};

use ringroad_policy::diagnostic::Severity;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;
use ringroad_policy::{Loaded, load};

fn main() -> std::io::Result<()> {
    let mut quiet = false;
    for argument in std::env::args().skip(1) {
        if argument == "-q" {
            quiet = true;
            continue;
        }
        let path = PathBuf::from(argument);
        let mut files = Vec::new();
        read(&path, &mut files)?;
        let loaded = load(&files, &Overrides::default(), &DnsTable::default());
        print(&path, &loaded, quiet);
    }
    Ok(())
}

fn read(path: &Path, files: &mut Vec<SourceFile>) -> std::io::Result<()> {
    if path.is_dir() {
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        inside.retain(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            path.is_dir() || matches!(extension, Some("yaml" | "yml"))
        });
        inside.sort();
        return inside.iter().try_for_each(|path| read(path, files));
    }
    files.push(SourceFile {
        path: path.display().to_string(),
        text: std::fs::read_to_string(path)?,
    });
    Ok(())
}

fn print(path: &Path, loaded: &Loaded, quiet: bool) {
    let count = |severity| {
        loaded
            .diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count()
    };
    let verdict = match loaded.snapshot {
        Some(_) => "accepted",
        None => "rejected",
    };
    println!(
        "{}\t{verdict}\t{} errors\t{} warnings",
        path.display(),
        count(Severity::Error),
        count(Severity::Warning)
    );
    if quiet {
        return;
    }
    for diagnostic in &loaded.diagnostics {
        let severity = match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        println!(
            "  {severity}[{}]: {} ({})",
            diagnostic.code,
            diagnostic.message,
            diagnostic.help.as_deref().unwrap_or_default()
        );
    }
}
