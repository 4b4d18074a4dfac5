//! How test cases went, for people and for programs.

use std::fmt::Write as _;

use super::run::{CaseOutcome, Outcome, RequestOutcome};

/// Failed requests of one case that are told in full.
const MAX_TOLD: usize = 3;

/// One line for each case that passed, and all about those that failed. `verbose` lists the
/// requests that passed, too.
pub fn render_text(outcome: &Outcome, verbose: bool) -> String {
    let mut out = String::new();
    let mut file = None;
    for case in &outcome.cases {
        let written = case.written.as_ref().map(|written| &written.file);
        if written.is_some() && written != file {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", written.map_or("", String::as_str));
            file = written;
        }
        write_case(case, verbose, &mut out);
    }
    let plural = |count: usize, one: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    };
    let _ = writeln!(
        out,
        "{} passed, {} failed ({})",
        plural(outcome.passed, "case"),
        outcome.failed,
        plural(outcome.requests, "request")
    );
    out
}

fn write_case(case: &CaseOutcome, verbose: bool, out: &mut String) {
    let verdict = if case.passed { "ok  " } else { "FAIL" };
    let name = match (case.description.as_str(), &case.written) {
        ("", Some(written)) => format!("(case at line {})", written.line),
        (text, _) => text.to_string(),
    };
    let failed = case
        .requests
        .iter()
        .filter(|request| !request.passed)
        .count();
    let count = match (failed, case.requests.len()) {
        (_, 1) => String::new(),
        (0, all) => format!("  ({all} requests)"),
        (failed, all) => format!("  ({failed} of {all} requests)"),
    };
    let _ = writeln!(out, "  {verdict}  {name}{count}");
    let mut told = 0;
    for request in &case.requests {
        match request.passed {
            true if verbose => {
                let taken = route_in_words(request);
                let _ = writeln!(out, "          ok {}: {taken}", request_in_words(request));
            }
            true => {}
            false if verbose || told < MAX_TOLD => {
                write_failure(case, request, out);
                told += 1;
            }
            false => told += 1,
        }
    }
    if !verbose && told > MAX_TOLD {
        let _ = writeln!(out, "        and {} more", told - MAX_TOLD);
    }
}

fn request_in_words(request: &RequestOutcome) -> String {
    let mut headers: Vec<_> = request.headers.iter().collect();
    headers.sort();
    let headers = headers
        .iter()
        .map(|(name, value)| format!(" {name}: {value}"));
    let headers: Vec<String> = headers.collect();
    let RequestOutcome {
        method,
        authority,
        uri,
        ..
    } = request;
    format!("{method} {authority}{uri}{}", headers.join(","))
}

fn route_in_words(request: &RequestOutcome) -> String {
    match (&request.taken, &request.reason) {
        (Some(taken), _) => {
            let name = match taken.route.as_str() {
                "" => String::new(),
                name => format!(" `{name}`"),
            };
            let of = match &taken.virtual_service {
                Some(service) => format!(" of VirtualService {service}"),
                None => " that the mesh adds by itself".to_string(),
            };
            let place = taken.written.as_ref().map(|at| format!(", {at}"));
            format!("route{name}{of}{}", place.unwrap_or_default())
        }
        (None, Some(reason)) => format!("none: {reason}"),
        (None, None) => "no route".to_string(),
    }
}

fn write_failure(case: &CaseOutcome, request: &RequestOutcome, out: &mut String) {
    let _ = writeln!(out, "        {}", request_in_words(request));
    let _ = writeln!(out, "          took      {}", route_in_words(request));
    for comparison in &request.comparisons {
        if comparison.same == case.want_match {
            continue;
        }
        if case.want_match {
            let _ = writeln!(out, "          {}", comparison.field);
            let _ = writeln!(out, "            expected  {}", comparison.expected);
            let _ = writeln!(out, "            came      {}", comparison.came);
        } else {
            let _ = writeln!(out, "          {}", comparison.field);
            let _ = writeln!(out, "            unwanted  {}", comparison.came);
        }
    }
    if request.comparisons.is_empty() {
        let wanted = if case.want_match {
            "a route"
        } else {
            "no route"
        };
        let _ = writeln!(out, "          expected  {wanted} of a VirtualService");
    }
    if let Some(hint) = &request.hint {
        let _ = writeln!(out, "          note      {hint}");
    }
}

/// As one JSON object.
pub fn render_json(outcome: &Outcome) -> String {
    let mut text = serde_json::to_string_pretty(outcome).unwrap_or_default();
    text.push('\n');
    text
}
