//! `ringroad diff`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ringroad_policy::diagnostic::Diagnostic;
use ringroad_policy::difference::{
    Comparison, RequestDifference, Side, render_requests, render_structure, structure,
};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::{DnsTable, Snapshot};
use ringroad_policy::source::SourceFile;

use super::{
    DiffArgs, EXIT_USAGE, Format, page, print_json, print_out, refuse_configuration, refuse_input,
};
use crate::control::config_dir::{self, ReadLimits};
use crate::control::load::PolicyLoader;
use crate::control::reload::Loader as _;

/// Exit codes as those of diff(1): 0 no difference, 1 some, 2 trouble.
pub fn diff(args: &DiffArgs) -> ExitCode {
    let trouble = |why: &str| refuse_input(args.format, why);
    let print_page = |text: &str| print_out(&page::fit(text, page::width()));
    let (old, new) = match (load(&args.old), load(&args.new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(Refusal::Path(why)), _) | (_, Err(Refusal::Path(why))) => return trouble(&why),
        (Err(Refusal::Found(files, found, why)), _)
        | (_, Err(Refusal::Found(files, found, why))) => {
            refuse_configuration(args.format, &files, &found, &why);
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let Some(log) = &args.requests else {
        let difference = structure(old.side(), new.side());
        match args.format {
            Format::Text => print_page(&render_structure(&difference)),
            Format::Json => print_json(&difference),
        }
        return differs(!difference.changes.is_empty());
    };
    let difference = match compare(log, old.side(), new.side()) {
        Ok(difference) => difference,
        Err(error) => return trouble(&format!("{} cannot be read: {error}", log.display())),
    };
    if difference.requests == 0 && difference.unrouted_lines == 0 {
        let log = log.display();
        return trouble(&format!(
            "{log} has no request in the text or JSON format of the access log"
        ));
    }
    match args.format {
        Format::Text => print_page(&render_requests(&difference)),
        Format::Json => print_json(&difference),
    }
    differs(!difference.groups.is_empty())
}

fn differs(differs: bool) -> ExitCode {
    if differs {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// A configuration that was accepted.
struct Accepted {
    snapshot: Snapshot,
    files: Vec<SourceFile>,
}

impl Accepted {
    fn side(&self) -> Side<'_> {
        Side {
            snapshot: &self.snapshot,
            files: &self.files,
        }
    }
}

/// Why there is nothing to compare.
enum Refusal {
    Path(String),
    Found(Vec<SourceFile>, Vec<Diagnostic>, String),
}

fn load(root: &Path) -> Result<Accepted, Refusal> {
    let roots = [PathBuf::from(root)];
    let reading = config_dir::read(&roots, &ReadLimits::default())
        .map_err(|error| Refusal::Path(error.to_string()))?;
    let loader = PolicyLoader {
        overrides: Overrides::default(),
    };
    let outcome = loader.load(&reading, &DnsTable::default());
    let Some(snapshot) = outcome.snapshot else {
        let why = format!("the configuration {} is refused", root.display());
        return Err(Refusal::Found(reading.files, outcome.diagnostics, why));
    };
    Ok(Accepted {
        snapshot,
        files: reading.files,
    })
}

/// Reads the log line by line; `-` is the standard input.
fn compare(log: &Path, old: Side<'_>, new: Side<'_>) -> io::Result<RequestDifference> {
    let mut lines: Box<dyn BufRead> = if log == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(log)?))
    };
    let mut comparison = Comparison::new(old, new);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        comparison.add_line(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(comparison.finish())
}
