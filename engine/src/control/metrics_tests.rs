use super::*;
use crate::stats::{CallKind, PeerLabels, Registry, ResponseFlags, SeriesKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One sample line, taken apart.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A strict reader of the exposition format, written from its description, not from the encoder:
/// a family's HELP and TYPE stand before its samples, each family occurs once, names and escapes
/// are legal, no sample occurs twice.
fn parse(text: &str) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let (mut seen, mut current) = (BTreeSet::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.contains(' '), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(seen.insert(name.to_string()), "family {name} twice");
            current = name.to_string();
        } else {
            let sample = parse_sample(line);
            assert!(
                sample.name.starts_with(&current),
                "{line} stands outside its family"
            );
            let same = |other: &&Line| other.name == sample.name && other.labels == sample.labels;
            assert_eq!(lines.iter().find(same), None, "twice");
            lines.push(sample);
        }
    }
    lines
}

fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.chars().all(legal) && text.starts_with(|c: char| !c.is_ascii_digit())
}

fn parse_sample(line: &str) -> Line {
    let name_end = line.find(['{', ' ']).expect("a value");
    let name = line[..name_end].to_string();
    assert!(is_name(&name), "{line}");
    let mut labels = BTreeMap::new();
    let mut rest = &line[name_end..];
    if let Some(mut inside) = rest.strip_prefix('{') {
        while !inside.starts_with('}') {
            let (label, after) = inside.split_once("=\"").expect("a label");
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                let (at, c) = chars.next().expect("a closing quote");
                match c {
                    '"' => break at,
                    '\\' => match chars.next().expect("an escape").1 {
                        'n' => value.push('\n'),
                        c @ ('"' | '\\') => value.push(c),
                        c => panic!("escape {c}"),
                    },
                    c => value.push(c),
                }
            };
            assert_eq!(labels.insert(label.to_string(), value), None);
            inside = after[end + 1..].trim_start_matches(',');
        }
        rest = &inside[1..];
    }
    let value = match rest.trim() {
        "+Inf" => f64::INFINITY,
        number => number.parse().expect("a number"),
    };
    Line {
        name,
        labels,
        value,
    }
}

fn encode_text(families: Vec<Family>, figures: Vec<Figure>) -> Vec<Line> {
    let bytes = encode(families, figures).expect("encodes");
    parse(std::str::from_utf8(&bytes).expect("UTF-8"))
}

fn value(lines: &[Line], name: &str, label: (&str, &str)) -> Option<f64> {
    let found = |line: &&Line| {
        line.name == name && line.labels.get(label.0).map(String::as_str) == Some(label.1)
    };
    lines.iter().find(found).map(|line| line.value)
}

#[test]
fn what_workers_count_is_valid_exposition_text() {
    let registry = Registry::default();
    registry
        .cluster("outbound|80||a", 0)
        .upstream_rq_total
        .add(3);
    registry
        .cluster("outbound|80||a", 1)
        .upstream_rq_total
        .add(4);
    registry.worker(0);
    let key = SeriesKey {
        peers: Arc::new(PeerLabels(vec![(
            "destination_service",
            "a \"b\" \\ c\nd".to_string(),
        )])),
        response_code: 200,
        flags: ResponseFlags::NONE,
        call: CallKind::Http,
    };
    let series = registry.series(key, 0);
    series.requests.add(2);
    series.duration_ms.record_thousandths(700);
    series.duration_ms.record_thousandths(7_000_000_000);
    let lines = encode_text(registry.gather(), Vec::new());
    let of = ("cluster_name", "outbound|80||a");
    assert_eq!(
        value(&lines, "envoy_cluster_upstream_rq_total", of),
        Some(7.0)
    );
    let of = ("destination_service", "a \"b\" \\ c\nd");
    assert_eq!(value(&lines, "istio_requests_total", of), Some(2.0));
    let name = "istio_request_duration_milliseconds";
    assert_eq!(value(&lines, &format!("{name}_count"), of), Some(2.0));
    assert_eq!(value(&lines, &format!("{name}_sum"), of), Some(7_000_000.7));
    let bucket = format!("{name}_bucket");
    assert_eq!(value(&lines, &bucket, ("le", "0.5")), Some(0.0));
    assert_eq!(value(&lines, &bucket, ("le", "1")), Some(1.0));
    assert_eq!(value(&lines, &bucket, ("le", "+Inf")), Some(2.0));
}

#[test]
fn figures_of_the_control_thread_keep_their_fractions_and_labels() {
    let figures = vec![
        Figure::counter("ringroad_reloads_total", "Loads", 3),
        Figure::gauge("istio_build", "The build", 1.0).with_label("tag", "0.1.0"),
        Figure::gauge("ringroad_reload_seconds", "Time", 0.0125),
    ];
    let lines = encode_text(Vec::new(), figures);
    assert_eq!(value(&lines, "istio_build", ("tag", "0.1.0")), Some(1.0));
    assert_eq!(lines[0].value, 3.0);
    assert_eq!(lines[2].value, 0.0125);
}

#[test]
fn nothing_at_all_is_no_text() {
    assert_eq!(encode(Vec::new(), Vec::new()), Ok(Vec::new()));
}
