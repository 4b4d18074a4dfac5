//! The services as somebody would write them.

use super::{Condition, REGEXES, Rule, Service, Text};
use crate::support::{self, GATEWAY};

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

pub fn yaml(services: &[Service]) -> String {
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
