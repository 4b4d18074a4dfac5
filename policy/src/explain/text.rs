//! An explanation for people.

use std::fmt::Write;

use super::{DestinationView, Explanation, PassedOver, Setting, Written};

/// Least width of the column of names.
const NAMES: usize = 16;

pub(super) fn render(explanation: &Explanation) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    let mut line = |name: &str, value: &str, written: Option<&Written>| {
        let place = written
            .map(|written| format!("  ({written})"))
            .unwrap_or_default();
        lines.push((name.to_string(), format!("{value}{place}")));
    };
    line("request", &explanation.request, None);
    if let (Some(name), Some(address)) = (&explanation.listener, &explanation.listener_address) {
        line("listener", &format!("{name} on {address}"), None);
    }
    if let Some(note) = &explanation.listener_note {
        line("", note, None);
    }
    if let Some(name) = &explanation.filter_chain {
        line("filter chain", name, None);
    }
    if let Some(name) = &explanation.route_config {
        line("route table", name, None);
    }
    if let Some(name) = &explanation.virtual_host {
        line(
            "virtual host",
            &format!("{name}, for {}", explanation.domains.join(", ")),
            None,
        );
    }
    for word in &explanation.access {
        line(word.asked, &word.outcome, word.written.as_ref());
    }
    write_passed_over(&mut line, &explanation.passed_over);
    if let Some(route) = &explanation.route {
        line("route", &named(route), explanation.route_written.as_ref());
    }
    for setting in &explanation.settings {
        write_setting(&mut line, "", setting);
    }
    for destination in &explanation.destinations {
        write_destination(&mut line, destination);
    }
    if let Some(answer) = &explanation.answer {
        let flag = if answer.flag == "-" {
            String::new()
        } else {
            format!(" {}", answer.flag)
        };
        line(
            "answer",
            &format!("{}{flag}: {}", answer.status, answer.reason),
            answer.written.as_ref(),
        );
    }
    // An answer has told it already.
    if let Some(error) = explanation
        .error
        .as_ref()
        .filter(|_| explanation.answer.is_none())
    {
        line("error", error, None);
    }
    let longest = lines.iter().map(|(name, _)| name.len() + 2).max();
    let width = longest.unwrap_or_default().max(NAMES);
    let mut out = String::new();
    for (name, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name:width$}{value}");
    }
    out
}

/// Routes that did not match, one by one as long as they are few. Of many, those that ask for other
/// paths in a row are one line, and of the others the first and the last are told.
fn write_passed_over(
    line: &mut impl FnMut(&str, &str, Option<&Written>),
    passed_over: &[PassedOver],
) {
    /// Lines about all of them, and about either end of a longer list.
    const MOST: usize = 12;
    const AT_AN_END: usize = 6;
    let is_long = passed_over.len() > MOST;
    let runs = passed_over.chunk_by(|one, next| is_long && one.by_path && next.by_path);
    let runs: Vec<&[PassedOver]> = runs.collect();
    let left_out = match runs.len() > MOST {
        true => AT_AN_END..runs.len() - AT_AN_END,
        false => 0..0,
    };
    for (at, run) in runs.iter().enumerate() {
        if left_out.contains(&at) {
            if at == left_out.start {
                let routes: usize = runs[left_out.clone()].iter().map(|run| run.len()).sum();
                let value = format!("{routes} more; `--format json` has them all");
                line("passed over", &value, None);
            }
            continue;
        }
        match run {
            [one] => {
                let value = format!("{}: {}", named(&one.route), one.because);
                line("passed over", &value, one.written.as_ref());
            }
            many => {
                let value = format!("{} routes that ask for other paths", many.len());
                line("passed over", &value, None);
            }
        }
    }
}

fn named(route: &str) -> String {
    if route.is_empty() {
        "(without name)".to_string()
    } else {
        format!("`{route}`")
    }
}

fn write_setting(
    line: &mut impl FnMut(&str, &str, Option<&Written>),
    indent: &str,
    setting: &Setting,
) {
    let default = if setting.is_default {
        "  (default)"
    } else {
        ""
    };
    let name = format!("{indent}{}", setting.name);
    line(
        &name,
        &format!("{}{default}", setting.value),
        setting.written.as_ref(),
    );
}

fn write_destination(
    line: &mut impl FnMut(&str, &str, Option<&Written>),
    destination: &DestinationView,
) {
    let share = (destination.share_percent * 100.0).round() / 100.0;
    let value = format!("{} gets {share}%", destination.cluster);
    line("cluster", &value, destination.written.as_ref());
    if !destination.subset.is_empty() {
        line(
            "  subset",
            &destination.subset,
            destination.subset_written.as_ref(),
        );
    }
    for endpoint in &destination.endpoints {
        let labels: Vec<String> = endpoint
            .labels
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let weight = match endpoint.weight {
            1 => String::new(),
            weight => format!(" weight {weight}"),
        };
        let mut parts = vec![format!("{}{weight}", endpoint.address)];
        parts.extend(endpoint.priority.map(|at| format!("priority {at}")));
        if endpoint.unused {
            parts.push("never used".to_string());
        }
        parts.push(endpoint.locality.clone());
        parts.push(labels.join(","));
        parts.retain(|part| !part.is_empty());
        line("  endpoint", &parts.join(" "), None);
    }
    for name in &destination.dns_names {
        line("  endpoint", &format!("addresses of {name}"), None);
    }
    for setting in &destination.settings {
        write_setting(line, "  ", setting);
    }
    if let Some(answer) = &destination.answer {
        line(
            "  answer",
            &format!("{} {}: {}", answer.status, answer.flag, answer.reason),
            None,
        );
    }
}
