//! Settings: defaults, the document, the command line.

mod support;
use ringroad_policy::load;
use ringroad_policy::settings::{
    AccessLogFormat, LimitUnit, Limits, Overrides, ProxySettings, Role, duration,
};
use ringroad_policy::snapshot::{DnsTable, HostIndex, without_port};
use ringroad_policy::source::SourceFile;
use support::*;

fn settings(spec: &str, more: &str) -> ProxySettings {
    let text = format!(
        "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\nspec: {spec}\n{more}"
    );
    snapshot(&text).settings.as_ref().clone()
}

#[test]
fn without_a_document_gateways_decide_the_role() {
    assert_eq!(snapshot(GATEWAY).settings.role, Role::Gateway);
    assert_eq!(
        snapshot(&service("a.com", 80, 1)).settings.role,
        Role::Sidecar
    );
    let sidecar = snapshot(&service("a.com", 80, 1)).settings;
    assert_eq!(*sidecar, ProxySettings::default());
    assert_eq!(settings("{role: sidecar}", GATEWAY).role, Role::Sidecar);
}

#[test]
fn a_document_sets_and_the_command_line_overrides() {
    let spec = "{namespace: web, workers: 3, adminAddress: '127.0.0.1:9901', accessLog: {format: JSON}, \
                drainDeadline: 5s, connectTimeout: 2s, replayOnDeadConnection: false, \
                dns: {servers: [10.0.0.2, '[::1]:5353'], minTtl: 500ms}, \
                workload: {labels: {app: shop, version: v2}}, \
                limits: {maxHeadBytes: 1024, requestHeadTimeout: 2s}}";
    let found = settings(spec, "");
    assert_eq!((found.namespace.as_str(), found.workers), ("web", Some(3)));
    assert_eq!(found.admin_address.to_string(), "127.0.0.1:9901");
    assert_eq!(found.access_log, Some(AccessLogFormat::Json));
    assert_eq!(
        (found.drain_deadline_ms, found.connect_timeout_ms),
        (5_000, 2_000)
    );
    assert!(!found.replay_on_dead_connection);
    assert_eq!(found.dns.servers[0].to_string(), "10.0.0.2:53");
    assert_eq!(found.dns.servers[1].to_string(), "[::1]:5353");
    assert_eq!(
        (found.workload.app.as_str(), found.workload.version.as_str()),
        ("shop", "v2")
    );
    assert_eq!(
        (
            found.limits.max_head_bytes,
            found.limits.request_head_timeout_ms
        ),
        (1024, 2_000)
    );
    assert_eq!(found.limits.max_headers, Limits::default().max_headers);
    let text = "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {name: p}\nspec: {workers: 3}\n";
    let files = [SourceFile {
        path: "p.yaml".to_string(),
        text: text.to_string(),
    }];
    let overrides = Overrides {
        workers: Some(1),
        ..Overrides::default()
    };
    let loaded = load(&files, &overrides, &DnsTable::default());
    assert_eq!(loaded.snapshot.unwrap().settings.workers, Some(1));
}

#[test]
fn what_cannot_be_taken_refuses_the_load() {
    for spec in [
        "{adminAddress: nowhere}",
        "{drainDeadline: soon}",
        "{limits: {maxHeadBytes: 10s}}",
        "{limits: {requestHeadTimeout: 10}}",
        "{limits: {maxHeadBites: 10}}",
        "{dns: {servers: [host]}}",
        "{role: waypoint}",
        "{workload: {addresses: [host]}}",
    ] {
        let text = format!(
            "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\nspec: {spec}\n"
        );
        let loaded = load_text(&text);
        assert!(loaded.snapshot.is_none(), "{spec}");
    }
    let two = sidecar("a") + &sidecar("b").replace("name: proxy", "name: other");
    assert_eq!(codes(&load_text(&two).diagnostics), ["duplicate-settings"]);
}

#[test]
fn every_limit_is_in_the_reference_with_its_default_and_its_bounds() {
    let reference = include_str!("../../docs/configuration.md");
    for limit in Limits::TABLE {
        let default = match limit.unit {
            LimitUnit::Bytes if limit.default.is_multiple_of(1 << 20) => {
                format!("{} MiB", limit.default >> 20)
            }
            LimitUnit::Bytes => format!("{} KiB", limit.default >> 10),
            LimitUnit::Count => limit.default.to_string(),
            LimitUnit::Duration if limit.default.is_multiple_of(3_600_000) => {
                format!("{}h", limit.default / 3_600_000)
            }
            LimitUnit::Duration => format!("{}s", limit.default / 1_000),
        };
        let shown = |value: u64| match limit.unit {
            LimitUnit::Bytes if value > 0 && value.is_multiple_of(1 << 20) => {
                format!("{} MiB", value >> 20)
            }
            LimitUnit::Bytes if value > 0 && value.is_multiple_of(1 << 10) => {
                format!("{} KiB", value >> 10)
            }
            LimitUnit::Duration if value > 0 => format!("{value}ms"),
            _ => value.to_string(),
        };
        let bounds = match limit.highest {
            Limits::UNBOUNDED => format!("{} and more", shown(limit.lowest)),
            highest => format!("{} to {}", shown(limit.lowest), shown(highest)),
        };
        let row = format!("| `{}` | {default} | {bounds} |", limit.name);
        assert!(
            reference.contains(&row),
            "docs/configuration.md lacks `{row}`"
        );
        assert_eq!(Limits::default().get(limit.name), Some(limit.default));
    }
}

#[test]
fn durations_are_gos() {
    for (text, ms) in [
        ("0", 0),
        ("0s", 0),
        ("1h2m3.5s", 3_723_500),
        ("150ms", 150),
        ("1.5s", 1_500),
        ("1us", 1),
        (".5s", 500),
    ] {
        assert_eq!(duration::parse_ms(text), Ok(ms), "{text}");
    }
    for text in [
        "",
        "5",
        "s",
        "-1s",
        "1d",
        "1 s",
        "1s2",
        "é",
        "999999999999h",
        "1..5s",
        ".",
    ] {
        assert!(duration::parse_ms(text).is_err(), "{text}");
    }
}

#[test]
fn the_port_of_a_host_is_left_aside() {
    for (authority, host) in [
        ("a.com", "a.com"),
        ("a.com:80", "a.com"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("::1", "::1"),
        ("a:b", "a:b"),
        ("", ""),
        (":80", ""),
    ] {
        assert_eq!(without_port(authority), host);
    }
}

#[test]
fn hosts_are_found_exact_then_by_longest_suffix_then_by_longest_prefix() {
    let mut index = HostIndex::default();
    let domains = [
        "a.example.com",
        "*.example.com",
        "*example.com",
        "*.com",
        "www.*",
        "www.ex*",
        "*",
    ];
    for (value, domain) in domains.iter().enumerate() {
        assert!(index.insert(domain, value as u32), "{domain}");
        assert!(
            !index.insert(&domain.to_uppercase(), 99),
            "{domain} is taken"
        );
    }
    for (host, domain) in [
        ("A.EXAMPLE.com", "a.example.com"),
        ("b.example.com", "*.example.com"),
        ("myexample.com", "*example.com"),
        ("example.com", "*.com"),
        ("www.example.org", "www.ex*"),
        ("www.other.org", "www.*"),
        ("www.", "*"),
        ("x", "*"),
    ] {
        let expected = domains
            .iter()
            .position(|known| *known == domain)
            .map(|at| at as u32);
        assert_eq!(index.find(host), expected, "{host}");
    }
    let mut many = HostIndex::default();
    for number in 0..10_000 {
        assert!(many.insert(&format!("host-{number}.example.com"), number));
    }
    assert!((0..10_000).all(|n| many.find(&format!("HOST-{n}.example.com")) == Some(n)));
    assert_eq!(many.find("host-10000.example.com"), None);
}
