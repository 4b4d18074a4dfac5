//! ProxySettings that no process could run by: each is an error at its place, with what to write.

mod support;

use std::net::SocketAddr;

use ringroad_policy::diagnostic::{Diagnostic, Severity, render_text};
use ringroad_policy::load;
use ringroad_policy::settings::{LimitUnit, Limits, Overrides};
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;
use support::*;

fn with_settings(spec: &str, more: &str) -> String {
    format!(
        "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\nspec: {spec}\n{more}"
    )
}

/// The one error of a text.
#[track_caller]
fn error_of(text: &str) -> Diagnostic {
    let loaded = load_text(text);
    assert!(loaded.snapshot.is_none(), "accepted:\n{text}");
    let is_error = |found: &Diagnostic| found.severity == Severity::Error;
    let mut errors: Vec<_> = loaded.diagnostics.into_iter().filter(is_error).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    errors.remove(0)
}

/// Its text for people, where the place is a line and a column.
fn rendered(text: &str, found: Diagnostic) -> String {
    let files = [SourceFile {
        path: "config.yaml".to_string(),
        text: text.to_string(),
    }];
    render_text(&files, &[found])
}

#[track_caller]
fn refused(spec: &str, code: &str, message: &str, help: &str) {
    let text = with_settings(spec, "");
    let found = error_of(&text);
    assert_eq!(found.code, code, "{spec}");
    assert!(found.message.contains(message), "{spec}: {}", found.message);
    let given = found.help.clone().unwrap_or_default();
    assert!(given.contains(help), "{spec}: {given}");
    let page = rendered(&text, found);
    assert!(page.contains("config.yaml:4:"), "{page}");
}

#[test]
fn settings_that_no_process_could_run_by_pass_check() {
    for (spec, code, message, help) in [
        (
            "{gatewayTopology: {proxyProtocol: {version: V2}}}",
            "unknown-field",
            "version",
            "write `proxyProtocol: {}`",
        ),
        (
            "{workers: 1000000}",
            "out-of-range",
            "workers",
            "from 1 to 1024",
        ),
        (
            "{connectTimeout: 0s}",
            "duration-out-of-range",
            "connectTimeout",
            "at least 1ms",
        ),
        (
            "{dns: {failureRefresh: 0s}}",
            "duration-out-of-range",
            "failureRefresh",
            "100ms",
        ),
        (
            "{dns: {queryTimeout: 0s}}",
            "duration-out-of-range",
            "queryTimeout",
            "1ms",
        ),
        (
            "{dns: {minTtl: 0s}}",
            "duration-out-of-range",
            "minTtl",
            "10ms",
        ),
        (
            "{limits: {maxHeadBytes: 0}}",
            "out-of-range",
            "maxHeadBytes",
            "from 512 to 8388608",
        ),
        (
            "{limits: {maxHeadBytes: 1}}",
            "out-of-range",
            "maxHeadBytes",
            "from 512",
        ),
        (
            "{limits: {maxHeaders: 513}}",
            "out-of-range",
            "maxHeaders",
            "to 512",
        ),
        (
            "{limits: {receiveBufferBytes: 0}}",
            "out-of-range",
            "receiveBufferBytes",
            "from 512",
        ),
        (
            "{limits: {maxReceiveBuffers: 0}}",
            "out-of-range",
            "maxReceiveBuffers",
            "to 32768",
        ),
        (
            "{limits: {maxDownstreamConnections: 0}}",
            "out-of-range",
            "maxDown",
            "from 1 on",
        ),
        (
            "{limits: {maxConcurrentStreams: 0}}",
            "out-of-range",
            "maxConcurrent",
            "from 1 to",
        ),
        (
            "{limits: {http2StreamWindowBytes: 0}}",
            "out-of-range",
            "http2Stream",
            "from 1024",
        ),
        (
            "{limits: {requestHeadTimeout: 0s}}",
            "duration-out-of-range",
            "requestHead",
            "1ms",
        ),
        (
            "{namespace: Shop_1}",
            "invalid-settings",
            "`namespace: Shop_1`",
            "lower-case letters",
        ),
        (
            "{namespace: ''}",
            "invalid-settings",
            "is no name of a namespace",
            "such as `shop`",
        ),
        (
            "{rootNamespace: a.b}",
            "invalid-settings",
            "`rootNamespace: a.b`",
            "such as `shop`",
        ),
        (
            "{trustDomain: 'a b'}",
            "invalid-settings",
            "`a b` is no trust domain",
            "cluster.local",
        ),
        (
            "{trustDomain: 'spiffe://a'}",
            "invalid-settings",
            "no trust domain",
            "cluster.local",
        ),
        (
            "{trustDomainAliases: [ok, a_b]}",
            "invalid-settings",
            "`a_b`",
            "cluster.local",
        ),
        (
            "{domainSuffix: .cluster.local}",
            "invalid-settings",
            "empty label",
            "cluster.local",
        ),
        (
            "{domainSuffix: cluster.local.}",
            "invalid-settings",
            "ends in a dot",
            "cluster.local",
        ),
        (
            "{interception: {outboundPort: 15006}}",
            "invalid-settings",
            "both 15006",
            "15001",
        ),
        (
            "{interception: {outboundPort: 9, inboundPort: 9}}",
            "invalid-settings",
            "both 9",
            "15001",
        ),
    ] {
        refused(spec, code, message, help);
    }
}

#[test]
fn an_empty_domain_suffix_leaves_names_as_they_are() {
    let loaded = load_text(&with_settings("{domainSuffix: ''}", ""));
    assert!(loaded.snapshot.is_some(), "{:?}", loaded.diagnostics);
}

#[test]
fn settings_of_a_wrong_type_are_refused_without_saying_what_to_write() {
    for (spec, code, message, help) in [
        (
            "{adminAddress: '15000'}",
            "invalid-settings",
            "`15000`",
            "\"127.0.0.1:15000\"",
        ),
        (
            "{adminAddress: '::1'}",
            "invalid-settings",
            "`::1`",
            "add the port: \"[::1]:15000\"",
        ),
        (
            "{dns: {servers: [dns.example]}}",
            "invalid-settings",
            "`dns.example`",
            "10.0.0.2",
        ),
        (
            "{workload: {addresses: ['10.0.0.1:80']}}",
            "invalid-settings",
            "10.0.0.1:80",
            "10.0.0.1",
        ),
        (
            "{limits: {maxHeadBytes: 64KiB}}",
            "wrong-type",
            "is text",
            "a number of bytes: 65536",
        ),
        (
            "{limits: {maxHeadBytes: '100'}}",
            "wrong-type",
            "is text",
            "a number of bytes: 100",
        ),
        (
            "{limits: {maxHeadBytes: big}}",
            "wrong-type",
            "is text",
            "the default: 61440",
        ),
        (
            "{limits: {maxHeaders: 1.5}}",
            "wrong-type",
            "expected a whole number",
            "default: 100",
        ),
        (
            "{limits: {maxHeaders: -1}}",
            "out-of-range",
            "-1",
            "from 1 to 512",
        ),
        (
            "{limits: {requestHeadTimeout: 10}}",
            "wrong-type",
            "a duration",
            "`10s`",
        ),
        (
            "{limits: {maxHeadBites: 10}}",
            "unknown-field",
            "maxHeadBites",
            "`maxHeadBytes`",
        ),
        (
            "{extensionProviders: [{name: a, envoyExtAuthzHttp: {service: a, port: 1, statusOnError: x}}]}",
            "invalid-settings",
            "`x` is no status",
            "\"403\"",
        ),
    ] {
        refused(spec, code, message, help);
    }
}

#[test]
fn all_that_is_wrong_in_the_settings_is_said_at_once() {
    let text = with_settings(
        "{workers: 0, namespace: A, trustDomain: [a], limits: {maxHeaders: 0, maxTrailerBytes: 0}}",
        "",
    );
    assert_eq!(
        codes(&load_text(&text).diagnostics),
        [
            "out-of-range",
            "wrong-type",
            "invalid-settings",
            "out-of-range",
            "out-of-range"
        ]
    );
}

#[test]
fn each_bound_of_a_limit_can_be_written_and_what_is_beyond_cannot() {
    for limit in Limits::TABLE {
        let written = |value: u64| match limit.unit {
            LimitUnit::Duration => format!("{{limits: {{{}: {value}ms}}}}", limit.name),
            _ => format!("{{limits: {{{}: {value}}}}}", limit.name),
        };
        let accepted = |value| {
            load_text(&with_settings(&written(value), ""))
                .snapshot
                .is_some()
        };
        assert!(accepted(limit.lowest), "{}", limit.name);
        assert!(accepted(limit.default), "{}", limit.name);
        assert!(
            limit.lowest == 0 || !accepted(limit.lowest - 1),
            "{}",
            limit.name
        );
        if limit.highest < Limits::UNBOUNDED {
            assert!(accepted(limit.highest), "{}", limit.name);
            assert!(!accepted(limit.highest + 1), "{}", limit.name);
        }
    }
}

#[test]
fn the_admin_interface_where_a_gateway_listens_passes_check() {
    let gateway = GATEWAY.replace("8080", "9901");
    let text = with_settings("{adminAddress: '127.0.0.1:9901'}", &gateway);
    let found = error_of(&text);
    assert_eq!(found.code, "admin-at-listener");
    assert!(found.message.contains("0.0.0.0_9901"), "{}", found.message);
    let page = rendered(&text, found);
    assert!(page.contains("config.yaml:4:"), "{page}");
    assert!(page.contains("127.0.0.1:9902"), "{page}");
    assert!(page.contains("the listener: config.yaml:"), "{page}");

    // By its default, and by the command line, the admin interface is nowhere in the files.
    let text = GATEWAY.replace("8080", "15000");
    assert_eq!(error_of(&text).code, "admin-at-listener");
    let files = [SourceFile {
        path: "config.yaml".to_string(),
        text,
    }];
    for (admin, is_accepted) in [
        ("127.0.0.1:15000", false),
        ("127.0.0.1:15001", true),
        ("[::1]:0", true),
    ] {
        let overrides = Overrides {
            admin_address: Some(admin.parse::<SocketAddr>().unwrap()),
            ..Overrides::default()
        };
        let loaded = load(&files, &overrides, &DnsTable::default());
        assert_eq!(loaded.snapshot.is_some(), is_accepted, "{admin}");
    }
}

#[test]
fn the_admin_interface_where_a_sidecar_listens_passes_check() {
    let service = service("a.com", 9901, 1);
    let text = with_settings("{role: sidecar, adminAddress: '127.0.0.1:9901'}", &service);
    assert_eq!(error_of(&text).code, "admin-at-listener");
    let elsewhere = with_settings("{role: sidecar, adminAddress: '127.0.0.2:9901'}", &service);
    assert!(load_text(&elsewhere).snapshot.is_some());
    let door = "{role: sidecar, adminAddress: '127.0.0.1:15006', interception: {mode: REDIRECT}}";
    assert_eq!(error_of(&with_settings(door, "")).code, "admin-at-listener");
}
