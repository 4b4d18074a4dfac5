//! The compiled router against a plain one that is obviously right: it asks every host, every
//! rule and every condition in turn, and shares no code with the compiler.
//!
//! `RINGROAD_ROUTER_PAIRS` sets how many pairs of configuration and request are compared.

mod support;

use ringroad_policy::snapshot::{Random, RequestFacts};
use support::*;

const SEED: u64 = 0x5eed_0001;
const REQUESTS_PER_CONFIG: usize = 250;

/// Regular expressions with what they mean, written out.
type Meaning = fn(&str) -> bool;
const REGEXES: [(&str, Meaning); 5] = [
    (".*", |_| true),
    ("/a.*", |text| text.starts_with("/a")),
    ("/[ab]/v1", |text| text == "/a/v1" || text == "/b/v1"),
    ("1|2", |text| text == "1" || text == "2"),
    ("[0-9]+", |text| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
    }),
];

#[derive(Clone, Debug)]
enum Text {
    Exact(&'static str),
    Prefix(&'static str),
    Regex(usize),
    Present,
}

#[derive(Clone, Debug, Default)]
struct Condition {
    uri: Option<Text>,
    ignore_case: bool,
    method: Option<Text>,
    authority: Option<Text>,
    headers: Vec<(&'static str, Text)>,
    without: Vec<(&'static str, Text)>,
    query: Vec<(&'static str, Text)>,
    port: u16,
    source_namespace: &'static str,
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    matches: Vec<Condition>,
    /// Rules of another VirtualService that this one hands its requests to. Where this one has
    /// matches they have none, so that what they come to needs no thought.
    delegate: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Service {
    name: String,
    hosts: Vec<&'static str>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Ask {
    host: &'static str,
    path: &'static str,
    query: Option<&'static str>,
    method: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

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

fn services(random: &mut Random) -> Vec<Service> {
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

fn ask(random: &mut Random) -> Ask {
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

// The configuration as YAML.

fn yaml_text(text: &Text) -> String {
    match text {
        Text::Exact(text) => format!("{{exact: '{text}'}}"),
        Text::Prefix(text) => format!("{{prefix: '{text}'}}"),
        Text::Regex(at) => format!("{{regex: '{}'}}", REGEXES[*at].0),
        Text::Present => "{}".to_string(),
    }
}

fn yaml_map(name: &str, entries: &[(&'static str, Text)], out: &mut Vec<String>) {
    if !entries.is_empty() {
        let each: Vec<String> = entries
            .iter()
            .map(|(name, text)| format!("{name}: {}", yaml_text(text)))
            .collect();
        out.push(format!("{name}: {{{}}}", each.join(", ")));
    }
}

fn yaml_condition(condition: &Condition) -> String {
    let mut parts = Vec::new();
    for (name, text) in [
        ("uri", &condition.uri),
        ("method", &condition.method),
        ("authority", &condition.authority),
    ] {
        if let Some(text) = text {
            parts.push(format!("{name}: {}", yaml_text(text)));
        }
    }
    if condition.ignore_case {
        parts.push("ignoreUriCase: true".to_string());
    }
    if condition.port > 0 {
        parts.push(format!("port: {}", condition.port));
    }
    if !condition.source_namespace.is_empty() {
        parts.push(format!("sourceNamespace: {}", condition.source_namespace));
    }
    yaml_map("headers", &condition.headers, &mut parts);
    yaml_map("withoutHeaders", &condition.without, &mut parts);
    yaml_map("queryParams", &condition.query, &mut parts);
    format!("{{{}}}", parts.join(", "))
}

fn yaml_rule(rule: &Rule) -> String {
    let action = if rule.delegate.is_empty() {
        "directResponse: {status: 200}".to_string()
    } else {
        format!("delegate: {{name: to-{}}}", rule.name)
    };
    let mut text = format!("- name: {}\n  {action}\n", rule.name);
    if !rule.matches.is_empty() {
        text += "  match:\n";
    }
    for condition in &rule.matches {
        text += &format!("  - {}\n", yaml_condition(condition));
    }
    text
}

fn yaml(services: &[Service]) -> String {
    let mut out = GATEWAY.to_string();
    for service in services {
        let hosts: Vec<String> = service
            .hosts
            .iter()
            .map(|host| format!("'{host}'"))
            .collect();
        let mut spec = format!("hosts: [{}]\ngateways: [edge]\nhttp:\n", hosts.join(", "));
        for rule in &service.rules {
            spec += &yaml_rule(rule);
            if !rule.delegate.is_empty() {
                let rules: String = rule.delegate.iter().map(yaml_rule).collect();
                out += &support::rule(&format!("to-{}", rule.name), &format!("http:\n{rules}"));
            }
        }
        out += &support::rule(&service.name, &spec);
    }
    out
}

// The plain router.

fn holds(text: &Text, value: &str) -> bool {
    match text {
        Text::Exact(text) => value == *text,
        Text::Prefix(text) => value.starts_with(text),
        Text::Regex(at) => REGEXES[*at].1(value),
        Text::Present => true,
    }
}

fn header<'a>(ask: &'a Ask, name: &str) -> Vec<&'a str> {
    ask.headers
        .iter()
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| *value)
        .collect()
}

fn parameter(ask: &Ask, name: &str) -> Option<String> {
    for pair in ask.query?.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key == name {
            return Some(value.to_string());
        }
    }
    None
}

/// Whether a condition can hold at this port and for this workload at all.
fn is_for_us(condition: &Condition) -> bool {
    (condition.port == 0 || condition.port == 8080)
        && (condition.source_namespace.is_empty() || condition.source_namespace == "default")
}

/// The rules with those that they hand requests to in their place.
fn expanded(service: &Service) -> Vec<Rule> {
    let mut rules = Vec::new();
    for rule in &service.rules {
        if rule.delegate.is_empty() {
            rules.push(rule.clone());
        }
        for part in &rule.delegate {
            let mut whole = part.clone();
            whole.name = format!("{}-{}", rule.name, part.name);
            if !rule.matches.is_empty() {
                whole.matches = rule.matches.clone();
            }
            rules.push(whole);
        }
    }
    rules
}

fn meets(condition: &Condition, ask: &Ask) -> bool {
    if !is_for_us(condition) {
        return false;
    }
    let path_holds = match (&condition.uri, condition.ignore_case) {
        (None, _) => ask.path.starts_with('/'),
        (Some(Text::Exact(text)), true) => ask.path.to_lowercase() == text.to_lowercase(),
        (Some(Text::Prefix(text)), true) => {
            ask.path.to_lowercase().starts_with(&text.to_lowercase())
        }
        (Some(text), _) => holds(text, ask.path),
    };
    path_holds
        && condition
            .method
            .as_ref()
            .is_none_or(|text| holds(text, ask.method))
        && condition
            .authority
            .as_ref()
            .is_none_or(|text| holds(text, ask.host))
        && condition
            .headers
            .iter()
            .all(|(name, text)| header(ask, name).iter().any(|value| holds(text, value)))
        && condition
            .without
            .iter()
            .all(|(name, text)| match (text, header(ask, name)) {
                (Text::Present, values) => values.is_empty(),
                (text, values) if values.is_empty() => !holds(text, ""),
                (text, values) => !values.iter().any(|value| holds(text, value)),
            })
        && condition
            .query
            .iter()
            .all(|(name, text)| parameter(ask, name).is_some_and(|value| holds(text, &value)))
}

fn is_catch_all(condition: &Condition) -> bool {
    let any_path = match &condition.uri {
        None => true,
        Some(Text::Prefix(text)) => *text == "/",
        Some(Text::Regex(at)) => REGEXES[*at].0 == ".*",
        _ => false,
    };
    any_path
        && condition.method.is_none()
        && condition.authority.is_none()
        && condition.headers.is_empty()
        && condition.without.is_empty()
        && condition.query.is_empty()
}

fn plain(services: &[Service], ask: &Ask) -> Result<String, &'static str> {
    let host = ask
        .host
        .split(':')
        .next()
        .unwrap_or_default()
        .to_lowercase();
    let all = services
        .iter()
        .flat_map(|service| service.hosts.iter().copied());
    let matching = all.filter(|domain| match domain.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
        None => *domain == host,
    });
    let best = matching.max_by_key(|domain| (!domain.starts_with('*'), domain.len()));
    let domain = best.ok_or("no virtual host")?;
    let mut first = Vec::new();
    let mut last = Vec::new();
    for service in services
        .iter()
        .filter(|service| service.hosts.contains(&domain))
    {
        'service: for rule in expanded(service) {
            let any = [Condition::default()];
            let matches = if rule.matches.is_empty() {
                &any[..]
            } else {
                &rule.matches
            };
            for condition in matches {
                if !is_for_us(condition) {
                    continue;
                }
                if is_catch_all(condition) {
                    last.push((rule.name.clone(), condition.clone()));
                    break 'service;
                }
                first.push((rule.name.clone(), condition.clone()));
            }
        }
    }
    // A host that no rule has a route for at this port is no virtual host at all.
    if first.is_empty() && last.is_empty() {
        return Err("empty");
    }
    let mut routes = first.iter().chain(&last);
    let found = routes.find(|(_, condition)| meets(condition, ask));
    found.map(|(name, _)| name.clone()).ok_or("no route")
}

#[test]
fn the_compiled_router_agrees_with_a_plain_one() {
    let pairs = std::env::var("RINGROAD_ROUTER_PAIRS")
        .ok()
        .and_then(|text| text.parse().ok());
    let pairs: usize = pairs.unwrap_or(25_000);
    let mut random = Random::new(SEED);
    let (mut routed, mut refused) = (0, 0);
    for config in 0..pairs.div_ceil(REQUESTS_PER_CONFIG) {
        let services = services(&mut random);
        // A host without any route falls to a wildcard in one router and not in the other; the
        // case has a test of its own.
        let has_empty = services.iter().any(|service| {
            expanded(service)
                .iter()
                .all(|rule| !rule.matches.is_empty() && !rule.matches.iter().any(is_for_us))
        });
        if has_empty {
            continue;
        }
        let text = yaml(&services);
        let snapshot = snapshot(&text);
        let table = table(&snapshot, 8080);
        for _ in 0..REQUESTS_PER_CONFIG {
            let ask = ask(&mut random);
            let request = Get {
                host: ask.host,
                path: ask.path,
                headers: ask.headers.clone(),
            };
            let facts = RequestFacts {
                method: ask.method,
                query: ask.query,
                ..request.facts()
            };
            let decided = match table.route(&facts) {
                ringroad_policy::snapshot::Decision::Route { route, .. } => {
                    Ok(route.name.split('.').next().unwrap_or_default().to_string())
                }
                ringroad_policy::snapshot::Decision::NoVirtualHost => Err("no virtual host"),
                _ => Err("no route"),
            };
            let expected = plain(&services, &ask);
            assert_eq!(
                decided, expected,
                "config {config} of seed {SEED}: {ask:?}\n{text}"
            );
            *(if decided.is_ok() {
                &mut routed
            } else {
                &mut refused
            }) += 1;
        }
    }
    // Both outcomes have to be common for the comparison to mean something.
    assert!(
        routed > refused / 4 && refused > routed / 20,
        "{routed} routed, {refused} refused"
    );
}
