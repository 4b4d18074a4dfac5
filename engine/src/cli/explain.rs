//! `ringroad explain`.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ringroad_policy::explain::{Request, explain as explain_request};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;

use super::{EXIT_USAGE, ExplainArgs, Format, print_out};
use crate::control::config_dir::{self, ReadLimits};
use crate::control::load::PolicyLoader;
use crate::control::reload::Loader as _;

/// Exit code 0 when there is a decision, even one that refuses the request; 1 when the
/// configuration is refused or nothing listens for the request.
pub fn explain(args: &ExplainArgs) -> ExitCode {
    let usage = |why: String| {
        eprintln!("error: {why}");
        ExitCode::from(EXIT_USAGE)
    };
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
        eprint!("{}", loader.render(&reading.files, &outcome.diagnostics));
        eprintln!("error: the configuration is refused, so there is no decision to explain");
        return ExitCode::FAILURE;
    };
    let explanation = explain_request(&snapshot, &reading.files, &request, args.gateway.as_deref());
    match args.format {
        Format::Text => print_out(&explanation.to_text()),
        Format::Json => {
            let json = serde_json::to_string_pretty(&explanation.to_json()).unwrap_or_default();
            print_out(&format!("{json}\n"));
        }
    }
    if explanation.error.is_some() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn request(args: &ExplainArgs) -> Result<Request, String> {
    let mut request = match &args.url {
        Some(url) => Request::for_url(url).map_err(|error| error.to_string())?,
        None => Request {
            method: args.method.clone(),
            target: "/".to_string(),
            ..Request::default()
        },
    };
    request.method = args.method.clone();
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    request.now_unix_s = now.ok().map(|now| now.as_secs());
    for header in &args.header {
        let (name, value) = header
            .split_once(':')
            .filter(|(name, _)| !name.trim().is_empty())
            .ok_or_else(|| format!("`{header}` is no header such as `end-user: jason`"))?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_string());
        if name == "host" {
            request.authority = value;
        } else {
            request.headers.push((name, value));
        }
    }
    args.connection.connect(&mut request)?;
    Ok(request)
}
