//! `ringroad test`.

use std::process::ExitCode;

use ringroad_policy::diagnostic::{Severity, render_text};
use ringroad_policy::routing_tests::{self, render_json};
use ringroad_policy::settings::Overrides;

use super::{Format, TestArgs, page, print_out, refuse_input};
use crate::control::config_dir::{self, ReadLimits};

/// Exit code 0 when every case passed, 1 when one failed or the configuration is refused, 2 when
/// there is nothing to test or a test file cannot be read.
pub fn test(args: &TestArgs) -> ExitCode {
    let usage = |why: String| refuse_input(args.format, &why);
    let read = |paths| config_dir::read(paths, &ReadLimits::default());
    let (tests, config) = match (read(&args.files), read(&args.config)) {
        (Ok(tests), Ok(config)) => (tests, config),
        (Err(error), _) | (_, Err(error)) => return usage(error.to_string()),
    };
    let (cases, mut found) = routing_tests::read(&tests.files);
    found.extend(tests.problems);
    eprint!("{}", render_text(&tests.files, &found));
    if found.iter().any(|one| one.severity == Severity::Error) {
        return usage("no case was run, since not all can be read".to_string());
    }
    if cases.is_empty() {
        return usage("there is no test case in these files".to_string());
    }
    if !config.problems.is_empty() {
        eprint!("{}", render_text(&config.files, &config.problems));
        return ExitCode::FAILURE;
    }
    let overrides = Overrides::default();
    let outcome = match routing_tests::run(&tests.files, &cases, &config.files, &overrides) {
        Ok(outcome) => outcome,
        Err(diagnostics) => {
            eprint!("{}", render_text(&config.files, &diagnostics));
            eprintln!("error: the configuration is refused, so no case was run");
            return ExitCode::FAILURE;
        }
    };
    match args.format {
        Format::Text => {
            let text = routing_tests::render_text(&outcome, args.verbose);
            print_out(&page::fit(&text, page::width()));
        }
        Format::Json => print_out(&render_json(&outcome)),
    }
    if outcome.failed == 0 {
        return ExitCode::SUCCESS;
    }
    eprint!("{}", render_text(&config.files, &outcome.left_out));
    ExitCode::FAILURE
}
