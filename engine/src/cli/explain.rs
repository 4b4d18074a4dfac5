//! `ringroad explain`.

use std::process::ExitCode;

use ringroad_policy::explain::explain as explain_request;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;

use super::explained_request::request;
use super::{ExplainArgs, Format, page, print_json, print_out, refuse_configuration, refuse_input};
use crate::control::config_dir::{self, ReadLimits};
use crate::control::load::PolicyLoader;
use crate::control::reload::Loader as _;

/// Exit code 0 when there is a decision, even one that refuses the request; 1 when the
/// configuration is refused or no listener takes the request.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let usage = |why: String| refuse_input(args.format, &why);
    let request = match request(args) {
        Ok(request) => request,
        Err(why) => return usage(why),
    };
    let reading = match config_dir::read(&args.config, &ReadLimits::default()) {
        Ok(reading) => reading,
        Err(error) => return usage(error.to_string()),
    };
    let loader = PolicyLoader {
        overrides: Overrides {
            workload: args.connection.workload(&request),
            ..Overrides::default()
        },
    };
    let outcome = loader.load(&reading, &DnsTable::default());
    let Some(snapshot) = outcome.snapshot else {
        let why = "the configuration is refused, so there is no decision to explain";
        return refuse_configuration(args.format, &reading.files, &outcome.diagnostics, why);
    };
    let explanation = explain_request(&snapshot, &reading.files, &request, args.gateway.as_deref());
    match args.format {
        Format::Text => print_out(&page::fit(&explanation.to_text(), page::width())),
        Format::Json => print_json(&explanation.to_json()),
    }
    if explanation.error.is_some() && explanation.answer.is_none() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
