//! `ringroad check`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use ringroad_policy::diagnostic::{TextOptions, render_json, render_text_with};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;

use super::{CheckArgs, Format, page, print_out, refuse_input};
use crate::control::config_dir::{self, ReadLimits};
use crate::control::load::PolicyLoader;
use crate::control::reload::Loader as _;
use crate::tls::inspect_secrets;

pub fn check(args: &CheckArgs) -> ExitCode {
    let reading = match config_dir::read(&args.config, &ReadLimits::default()) {
        Ok(reading) => reading,
        Err(error) => return refuse_input(args.format, &error.to_string()),
    };
    let loader = PolicyLoader {
        overrides: Overrides::default(),
    };
    let mut outcome = loader.load(&reading, &DnsTable::default());
    if reading.files.is_empty() {
        outcome.diagnostics.push(config_dir::no_files(&args.config));
    }
    let accepted = outcome.snapshot.is_some();
    if let Some(snapshot) = &outcome.snapshot {
        let found = inspect_secrets(snapshot, &args.config);
        outcome.diagnostics.extend(found);
    }
    match args.format {
        Format::Json => print_out(&render_json(&reading.files, &outcome.diagnostics)),
        Format::Text => {
            let options = TextOptions {
                color: wants_color(),
                width: page::width(),
            };
            print_out(&render_text_with(
                &reading.files,
                &outcome.diagnostics,
                options,
            ));
            let files = match reading.files.len() {
                1 => "1 file".to_string(),
                count => format!("{count} files"),
            };
            let verdict = if accepted { "accepted" } else { "refused" };
            print_out(&format!("{verdict}: {files}\n"));
        }
    }
    if accepted {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// On a terminal, unless the user does not want any: <https://no-color.org>.
fn wants_color() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !refused
}
