//! The plain router.

use super::{Ask, Condition, REGEXES, Rule, Service, Text};

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
pub fn is_for_us(condition: &Condition) -> bool {
    (condition.port == 0 || condition.port == 8080)
        && (condition.source_namespace.is_empty() || condition.source_namespace == "default")
}

/// The rules with those that they hand requests to in their place.
pub fn expanded(service: &Service) -> Vec<Rule> {
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

pub fn plain(services: &[Service], ask: &Ask) -> Result<String, &'static str> {
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
