//! Checks each given file, or each file of the given folders, as a configuration of its own, and
//! prints the verdict and the diagnostics:
//! `cargo run -p ringroad-policy --example check_dir -- DIR...`

use std::path::{Path, PathBuf};
use std::time::Instant;

use ringroad_policy::diagnostic::{Summary, render_text};
use ringroad_policy::source::SourceFile;
use ringroad_policy::{validate, yaml};

fn main() -> std::io::Result<()> {
    for argument in std::env::args().skip(1) {
        let path = PathBuf::from(argument);
        let mut paths = if path.is_dir() {
            let entries = std::fs::read_dir(&path)?;
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<Vec<_>>>()?
        } else {
            vec![path]
        };
        paths.sort();
        for path in paths {
            check(&path)?;
        }
    }
    Ok(())
}

fn check(path: &Path) -> std::io::Result<()> {
    let files = [SourceFile {
        path: path.display().to_string(),
        text: std::fs::read_to_string(path)?,
    }];
    let start = Instant::now();
    let (documents, mut diagnostics) = yaml::parse(&files);
    let parse = start.elapsed();
    let start = Instant::now();
    diagnostics.extend(validate::validate(&documents));
    let validate = start.elapsed();
    let summary = Summary::of(&diagnostics);
    let verdict = if summary.errors == 0 {
        "accepted"
    } else {
        "rejected"
    };
    println!(
        "{verdict} {} ({} documents, {summary}, parsed in {parse:?}, validated in {validate:?})",
        path.display(),
        documents.len(),
    );
    print!("{}", render_text(&files, &diagnostics));
    Ok(())
}
