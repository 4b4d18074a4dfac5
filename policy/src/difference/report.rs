//! Differences for people, in lines that fit a terminal.

use std::fmt::Write as _;

use super::requests::{Group, GroupKind, RequestDifference};
use super::structure::{Change, ChangeKind, Detail, StructureDifference};

/// Groups and changes that are told in full.
const MAX_TOLD: usize = 30;
/// Widest line, in characters; only names and values of the configuration may be wider.
const WIDTH: usize = 100;

/// What the recorded requests come to.
pub fn render_requests(difference: &RequestDifference) -> String {
    let mut out = String::new();
    let RequestDifference {
        requests,
        same,
        elsewhere,
        moved,
        treated_differently,
        ..
    } = difference;
    let plural = if *requests == 1 { "" } else { "s" };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{requests} request{plural}");
    let mut count = |number: u64, what: &str| {
        let _ = writeln!(out, "  {number:>8}  {what}");
    };
    count(*same, "go where they went");
    let part = match moved == elsewhere {
        true => String::new(),
        false => format!(", by their share of {elsewhere} whose route changed"),
    };
    count(*moved, &format!("are routed elsewhere{part}"));
    count(
        *treated_differently,
        "go where they went, and are treated differently",
    );
    if difference.contradicted > 0 {
        count(
            difference.contradicted,
            "of them went another way than OLD says: it is not what they were recorded under,",
        );
        let _ = writeln!(
            out,
            "            or headers decided that the log does not have"
        );
    }
    if difference.unrouted_lines > 0 {
        let _ = writeln!(
            out,
            "  {:>8}  lines are left out, since no route decides about them: refused heads, CONNECT,\n            \
             `OPTIONS *`, requests without a host, connections of TCP",
            difference.unrouted_lines
        );
    }
    if difference.unreadable_lines > 0 {
        let lines: Vec<String> = difference
            .first_unreadable
            .iter()
            .map(u64::to_string)
            .collect();
        let more = match difference.unreadable_lines as usize > lines.len() {
            true => ", ...",
            false => "",
        };
        let what = format!("lines are no access log (line {}{more})", lines.join(", "));
        let _ = writeln!(out, "  {:>8}  {what}", difference.unreadable_lines);
    }
    for (name, number) in &difference.unknown_headers {
        let what = format!("go where they went unless they have the header `{name}`");
        let _ = writeln!(out, "  {number:>8}  {what}, which the log does not tell");
    }
    for group in difference.groups.iter().take(MAX_TOLD) {
        out.push('\n');
        write_group(group, &mut out);
    }
    if difference.groups.len() > MAX_TOLD {
        let rest = &difference.groups[MAX_TOLD..];
        let requests: u64 = rest.iter().map(|group| group.requests).sum();
        let _ = writeln!(
            out,
            "\n{requests} more by further changes ({}); `--format json` has them all",
            rest.len()
        );
    }
    out
}

fn write_group(group: &Group, out: &mut String) {
    let what = match group.kind {
        GroupKind::Elsewhere => "routed elsewhere",
        GroupKind::Treatment => "treated differently",
    };
    let plural = if group.requests == 1 { "" } else { "s" };
    let (number, part) = match group.kind == GroupKind::Elsewhere && group.moved != group.requests {
        true => (
            format!("{} of {}", group.moved, group.requests),
            ", by their share",
        ),
        false => (group.requests.to_string(), ""),
    };
    let _ = writeln!(out, "{number} request{plural} {what}{part}");
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "  {name:8}{}", wrapped(&printable(value), 10));
    };
    if group.kind == GroupKind::Elsewhere && group.from != group.to {
        line("from", &group.from);
        line("to", &group.to);
    }
    line("why", &group.why);
    for example in &group.examples {
        line("like", example);
    }
    for (name, number) in &group.unknown_headers {
        let value = format!("{number} of them, if they have the header `{name}`, may differ");
        line("unknown", &value);
    }
    let skipped = ["to", "path upstream", "host upstream"];
    let is_told = |detail: &&Detail| {
        group.kind == GroupKind::Treatment || !skipped.contains(&detail.name.as_str())
    };
    write_details(group.details.iter().filter(is_told), 2, out);
}

fn write_details<'d>(details: impl Iterator<Item = &'d Detail>, indent: usize, out: &mut String) {
    /// Details of one change.
    const MOST: usize = 12;
    let is_list = |name: &str| name.starts_with("endpoints") || name == "domains";
    let details: Vec<&Detail> = details.collect();
    let longest = details
        .iter()
        .map(|detail| detail.name.chars().count())
        .max();
    let width = longest.unwrap_or_default().min(40);
    for detail in details.iter().take(MOST) {
        let name = &detail.name;
        let (old, new) = (printable(&detail.old), printable(&detail.new));
        let value = match (old.as_str(), new.as_str()) {
            ("", new) => new.to_string(),
            (old, "") => old.to_string(),
            (old, new) if name.starts_with("endpoints") => format!("{old} gone, {new} new"),
            (old, new) if old.len() + new.len() > WIDTH / 2 => {
                format!("{old}\n→ {new}")
            }
            (old, new) => format!("{old} → {new}"),
        };
        let value = match (name.as_str(), old.is_empty(), new.is_empty()) {
            ("left out", false, true) => format!("before: {value}"),
            (name, false, true) if is_list(name) => format!("{value} gone"),
            (name, true, false) if is_list(name) => format!("{value} new"),
            _ => value,
        };
        let start = format!("{}{name:width$}  ", " ".repeat(indent));
        let column = start.chars().count();
        let mut lines = value.split('\n');
        let first = wrapped(lines.next().unwrap_or_default(), column);
        let _ = writeln!(out, "{start}{first}");
        for line in lines {
            let _ = writeln!(out, "{}{}", " ".repeat(column), wrapped(line, column));
        }
    }
    if details.len() > MOST {
        let _ = writeln!(
            out,
            "{}and {} more",
            " ".repeat(indent),
            details.len() - MOST
        );
    }
}

/// The text with its control characters escaped: a log or a body may hold some that a terminal
/// obeys.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() || is_of_direction(character) {
            true => out.extend(character.escape_default()),
            false => out.push(character),
        }
    }
    out
}

/// Characters that turn the direction of what follows, so that it reads as something else.
fn is_of_direction(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text in lines no wider than the page, the further ones indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > WIDTH {
            let _ = write!(out, "\n{}", " ".repeat(indent));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out
}

/// What changed, listener by listener and cluster by cluster.
pub fn render_structure(difference: &StructureDifference) -> String {
    let mut out = String::new();
    if difference.changes.is_empty() {
        return "no difference\n".to_string();
    }
    let mut last: &[String] = &[];
    for change in difference.changes.iter().take(MAX_TOLD * 4) {
        let shared = change
            .path
            .iter()
            .zip(last)
            .take_while(|(a, b)| a == b)
            .count();
        let own = change.path.len() - 1;
        for (depth, part) in change.path.iter().enumerate().take(own).skip(shared) {
            let _ = writeln!(out, "{}{part}", "  ".repeat(depth));
        }
        write_change(change, own, &mut out);
        last = &change.path[..own];
    }
    let told = difference.changes.len().min(MAX_TOLD * 4);
    if difference.changes.len() > told {
        let more = difference.changes.len() - told;
        let _ = writeln!(out, "more changes: {more}; `--format json` has them all");
    }
    let count = |kind: ChangeKind| {
        let of_kind = difference
            .changes
            .iter()
            .filter(|change| change.kind == kind);
        of_kind.count()
    };
    let _ = writeln!(
        out,
        "{} added, {} removed, {} changed, {} moved",
        count(ChangeKind::Added),
        count(ChangeKind::Removed),
        count(ChangeKind::Changed),
        count(ChangeKind::Moved)
    );
    out
}

fn write_change(change: &Change, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let sign = match change.kind {
        ChangeKind::Added => "+ ",
        ChangeKind::Removed => "- ",
        ChangeKind::Changed | ChangeKind::Moved => "",
    };
    let place = change.new.as_ref().or(change.old.as_ref());
    let place = place
        .map(|place| format!("  ({place})"))
        .unwrap_or_default();
    let name = change.path.last().map_or("", String::as_str);
    let _ = writeln!(out, "{indent}{sign}{name}{place}");
    write_details(change.details.iter(), 2 * depth + 4, out);
    if let Some(first) = change.also_in.first() {
        let more = match change.also_in.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let _ = writeln!(out, "{indent}    also in {first}{more}");
    }
}
