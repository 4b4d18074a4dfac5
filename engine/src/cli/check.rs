//! `ringroad check`.

use std::process::ExitCode;

use ringroad_policy::diagnostic::Severity;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;

use super::{CheckArgs, EXIT_USAGE, print_out};
use crate::control::config_dir::{self, ReadLimits};
use crate::control::load::PolicyLoader;
use crate::control::reload::Loader as _;

pub fn check(args: &CheckArgs) -> ExitCode {
    let reading = match config_dir::read(&args.config, &ReadLimits::default()) {
        Ok(reading) => reading,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    let loader = PolicyLoader {
        overrides: Overrides::default(),
    };
    let outcome = loader.load(&reading, &DnsTable::default());
    let found = &outcome.diagnostics;
    print_out(&loader.render(&reading.files, found));
    let of = |severity| found.iter().filter(|it| it.severity == severity).count();
    let verdict = if outcome.snapshot.is_some() {
        "accepted"
    } else {
        "refused"
    };
    let files = reading.files.len();
    let errors = of(Severity::Error);
    let warnings = of(Severity::Warning);
    print_out(&format!(
        "{verdict}: {}, {}, {}\n",
        counted(files, "file"),
        counted(errors, "error"),
        counted(warnings, "warning")
    ));
    if files == 0 {
        print_out("no *.yaml, *.yml or *.json was found\n");
    }
    if outcome.snapshot.is_some() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
