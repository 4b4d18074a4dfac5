//! What is seen in logs, metrics, cookies and packets alone is a difference too.

#[path = "support/sides.rs"]
mod sides;
mod support;

use ringroad_policy::difference::structure;
use sides::load;
use support::*;

/// Name, old and new value of all that differs.
fn details(old: &str, new: &str) -> Vec<(String, String, String)> {
    let (old, new) = (load("old.yaml", old), load("new.yaml", new));
    let changes = structure(old.side(), new.side()).changes.into_iter();
    let details = changes.flat_map(|change| change.details);
    details.map(|one| (one.name, one.old, one.new)).collect()
}

fn shop(rule_of: &str, policy: &str) -> String {
    let mut text = GATEWAY.to_string() + &service("a.com", 80, 2);
    if !policy.is_empty() {
        text += &destination_rule("d", &format!("host: a.com\ntrafficPolicy: {policy}\n"));
    }
    let http = format!("- {rule_of}\n  route: [{{destination: {{host: a.com}}}}]\n");
    let spec = format!("hosts: ['*']\ngateways: [edge]\nhttp:\n{http}");
    text + &rule("shop", &spec)
}

#[test]
fn names_of_routes_and_metrics_are_told() {
    let told = |name: &str, old: &str, new: &str| {
        vec![(name.to_string(), old.to_string(), new.to_string())]
    };
    let names = |old: &str, new: &str| details(&shop(old, ""), &shop(new, ""));
    assert_eq!(
        names("name: one", "name: two"),
        told("name", "`one`", "`two`")
    );
    assert_eq!(
        names("timeout: 1s", "name: two\n  timeout: 1s"),
        told("name", "none", "`two`")
    );
    let prefixed = |prefix: &str| format!("match: [{{uri: {{prefix: /}}, statPrefix: {prefix}}}]");
    assert_eq!(
        names(&prefixed("one"), &prefixed("two")),
        told("statPrefix", "`one`", "`two`")
    );
}

#[test]
fn paths_of_cookies_and_keep_alives_are_told() {
    let cookie = |more: &str| {
        format!("{{loadBalancer: {{consistentHash: {{httpCookie: {{name: k, ttl: 9s{more}}}}}}}}}")
    };
    let alive =
        |more: &str| format!("{{connectionPool: {{tcp: {{tcpKeepalive: {{time: 60s{more}}}}}}}}}");
    for (old, new, name) in [
        (cookie(""), cookie(", path: /a"), "hash key"),
        (cookie(", path: /a"), cookie(", path: /b"), "hash key"),
        (alive(""), alive(", interval: 5s"), "tcp keepalive"),
        (alive(""), alive(", probes: 5"), "tcp keepalive"),
        (alive(""), String::new(), "tcp keepalive"),
    ] {
        let of = |policy: &str| shop("timeout: 1s", policy);
        let found = details(&of(&old), &of(&new));
        assert!(
            found.iter().any(|(told, _, _)| told.contains(name)),
            "{old} {new}: {found:?}"
        );
        assert_eq!(details(&of(&old), &of(&old)), []);
    }
}
