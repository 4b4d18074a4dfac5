//! What is drawn: few names and values, so that rules meet requests and each other.

use super::{Ask, Condition, REGEXES, Rule, Service, Text};
use ringroad_policy::snapshot::Random;

const HOSTS: [&str; 9] = [
    "a.example.com",
    "b.example.com",
    "*.example.com",
    "*.com",
    "*",
    "a.example.org",
    "*ample.org",
    "x.y.example.com",
    "example.com",
];
const ASKED_HOSTS: [&str; 10] = [
    "a.example.com",
    "A.Example.COM",
    "b.example.com:8080",
    "c.example.com",
    "x.y.example.com",
    "example.com",
    "a.example.org",
    "ample.org",
    "other.net",
    "q.com:1",
];
const PATHS: [&str; 10] = [
    "/",
    "/a",
    "/a/",
    "/a/v1",
    "/b/v1",
    "/ab",
    "/A/v1",
    "/b",
    "/c/long/path",
    "*",
];
const VALUES: [&str; 5] = ["1", "2", "12", "", "x"];
const NAMES: [&str; 3] = ["x-a", "x-b", "end-user"];
const QUERIES: [Option<&str>; 7] = [
    None,
    Some(""),
    Some("q=1"),
    Some("q=2&p=1"),
    Some("p"),
    Some("p=12&q=1&q=2"),
    Some("&&=1&q"),
];

fn pick<T: Clone>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len())].clone()
}

fn chance(random: &mut Random, percent: usize) -> bool {
    random.below(100) < percent
}

fn text(random: &mut Random, values: &[&'static str]) -> Text {
    match random.below(4) {
        0 | 1 => Text::Exact(pick(random, values)),
        // An empty prefix matches everything, which validation refuses but for paths.
        2 => match pick(random, values) {
            "" => Text::Exact(""),
            prefix => Text::Prefix(prefix),
        },
        _ => Text::Regex(random.below(REGEXES.len())),
    }
}

fn value(random: &mut Random) -> Text {
    if chance(random, 20) {
        Text::Present
    } else {
        text(random, &VALUES)
    }
}

fn condition(random: &mut Random) -> Condition {
    let mut condition = Condition::default();
    if chance(random, 80) {
        condition.uri = Some(text(random, &PATHS));
        condition.ignore_case = chance(random, 15);
    }
    if chance(random, 15) {
        condition.method = Some(Text::Exact(pick(random, &["GET", "POST"])));
    }
    if chance(random, 10) {
        condition.authority = Some(text(random, &ASKED_HOSTS));
    }
    for name in NAMES {
        if chance(random, 15) {
            condition.headers.push((name, value(random)));
        } else if chance(random, 10) {
            condition.without.push((name, value(random)));
        }
    }
    for name in ["p", "q"] {
        if chance(random, 10) {
            condition.query.push((name, value(random)));
        }
    }
    if chance(random, 5) {
        condition.port = pick(random, &[8080, 9090]);
    }
    if chance(random, 5) {
        condition.source_namespace = pick(random, &["default", "other"]);
    }
    condition
}

fn overlap(one: &str, other: &str) -> bool {
    let covers = |wide: &str, narrow: &str| match wide.strip_prefix('*') {
        Some(suffix) => narrow.trim_start_matches('*').ends_with(suffix),
        None => wide == narrow,
    };
    covers(one, other) || covers(other, one)
}

pub fn services(random: &mut Random) -> Vec<Service> {
    let mut services = Vec::new();
    for index in 0..1 + random.below(5) {
        let mut hosts: Vec<&'static str> = Vec::new();
        for _ in 0..1 + random.below(3) {
            let host = pick(random, &HOSTS);
            // Validation refuses hosts of one service of which one covers the other.
            if !hosts.iter().any(|other| overlap(other, host)) {
                hosts.push(host);
            }
        }
        // Some large enough for the index over paths, some small enough to go without.
        let rules = if chance(random, 50) {
            1 + random.below(4)
        } else {
            8 + random.below(12)
        };
        let rules = (0..rules).map(|rule| {
            let matches = match random.below(20) {
                0 => Vec::new(),
                _ => (0..1 + random.below(3))
                    .map(|_| condition(random))
                    .collect(),
            };
            let mut rule = Rule {
                name: format!("s{index}r{rule}"),
                matches,
                delegate: Vec::new(),
            };
            if chance(random, 15) {
                for part in 0..1 + random.below(3) {
                    let conditions = if rule.matches.is_empty() {
                        random.below(3)
                    } else {
                        0
                    };
                    rule.delegate.push(Rule {
                        name: format!("d{part}"),
                        matches: (0..conditions).map(|_| condition(random)).collect(),
                        delegate: Vec::new(),
                    });
                }
            }
            rule
        });
        services.push(Service {
            name: format!("s{index}"),
            hosts,
            rules: rules.collect(),
        });
    }
    services
}

pub fn ask(random: &mut Random) -> Ask {
    let mut headers = Vec::new();
    for name in NAMES {
        for _ in 0..pick(random, &[0, 0, 1, 1, 2]) {
            headers.push((name, pick(random, &VALUES)));
        }
    }
    Ask {
        host: pick(random, &ASKED_HOSTS),
        path: pick(random, &PATHS),
        query: pick(random, &QUERIES),
        method: pick(random, &["GET", "POST"]),
        headers,
    }
}
