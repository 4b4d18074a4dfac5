//! `ringroad test`.

use std::path::PathBuf;
use std::process::ExitCode;

use ringroad_policy::diagnostic::{Diagnostic, Severity, render_text};
use ringroad_policy::routing_tests::{self, render_json};
use ringroad_policy::settings::Overrides;
use ringroad_policy::source::SourceFile;

use super::{Format, TestArgs, page, print_out, refuse_configuration, refuse_input};
use crate::control::config_dir::{self, ReadLimits, Reading};

/// Exit code 0 when every case passed, 1 when one failed or the configuration is refused, 2 when
/// there is nothing to test or a test file cannot be read.
pub fn test(args: &TestArgs) -> ExitCode {
    let usage = |why: String| refuse_input(args.format, &why);
    let (of_tests, of_config) = match args.tests.is_empty() {
        true => (&args.files, &args.config),
        false => (&args.tests, &args.files),
    };
    let read = |paths| config_dir::read(paths, &ReadLimits::default());
    let (mut tests, mut config) = match (read(of_tests), read(of_config)) {
        (Ok(tests), Ok(config)) => (tests, config),
        (Err(error), _) | (_, Err(error)) => return usage(error.to_string()),
    };
    leave_out(&mut tests, of_tests, routing_tests::is_configuration);
    leave_out(&mut config, of_config, routing_tests::has_cases_alone);
    let (cases, mut found) = routing_tests::read(&tests.files);
    found.extend(tests.problems);
    eprint!("{}", render_text(&tests.files, &found));
    if found.iter().any(|one| one.severity == Severity::Error) {
        return usage("no case was run, since not all can be read".to_string());
    }
    if cases.is_empty() {
        return usage("there is no test case in these files".to_string());
    }
    let refused = |found: &[Diagnostic]| {
        let why = "the configuration is refused, so no case was run";
        refuse_configuration(args.format, &config.files, found, why)
    };
    if !config.problems.is_empty() {
        return refused(&config.problems);
    }
    let overrides = Overrides::default();
    let outcome = match routing_tests::run(&tests.files, &cases, &config.files, &overrides) {
        Ok(outcome) => outcome,
        Err(diagnostics) => return refused(&diagnostics),
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

/// Files of a folder that holds tests and configuration, as if there was nothing in those that are
/// not wanted. One that is named itself is meant.
fn leave_out(reading: &mut Reading, named: &[PathBuf], is_unwanted: fn(&SourceFile) -> bool) {
    for file in &mut reading.files {
        let is_named = named
            .iter()
            .any(|path| path.as_os_str() == file.path.as_str());
        if !is_named && is_unwanted(file) {
            // Findings name files by their place in the list.
            file.text = "# left out\n".to_string();
        }
    }
}
