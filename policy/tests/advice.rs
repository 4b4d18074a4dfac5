//! What a diagnostic advises has to help: each of these once sent its reader the wrong way, or
//! nowhere.

mod support;

use ringroad_policy::diagnostic::{Diagnostic, Severity, render_text};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;
use support::*;

/// The text of what is said about a file, in one line.
fn said(text: &str) -> String {
    let files = [SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }];
    let loaded = ringroad_policy::load(&files, &Overrides::default(), &DnsTable::default());
    one_line(&render_text(&files, &loaded.diagnostics))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    let said = said(text);
    for part in parts {
        assert!(said.contains(part), "lacks `{part}`:\n{said}");
    }
}

fn errors(text: &str) -> Vec<Diagnostic> {
    let is_error = |found: &Diagnostic| found.severity == Severity::Error;
    let found = load_text(text).diagnostics.into_iter();
    found.filter(is_error).collect()
}

/// A VirtualService that nothing listens for.
fn unbound(http: &str) -> String {
    rule(
        "a",
        &format!("hosts: [a.example.com]\ngateways: [none/such]\nhttp:\n- {http}"),
    )
}

const ROUTE: &str = "route: [{destination: {host: b.example.com}}]";

#[test]
fn an_expression_that_grows_too_large_passes_where_nothing_listens_for_it() {
    for (http, field) in [
        (
            format!("match: [{{uri: {{regex: '((a{{1,100}}){{1,100}}){{1,100}}'}}}}]\n  {ROUTE}"),
            "spec.http[0].match[0].uri.regex",
        ),
        (
            format!("match: [{{headers: {{x: {{regex: '(\\pL{{1,99}}){{99}}'}}}}}}]\n  {ROUTE}"),
            "spec.http[0].match[0].headers.x.regex",
        ),
        (
            format!(
                "corsPolicy: {{allowOrigins: [{{regex: '(.{{99}}){{999}}{{9}}'}}]}}\n  {ROUTE}"
            )
            .replace("{9}", ""),
            "spec.http[0].corsPolicy.allowOrigins[0].regex",
        ),
        (
            format!(
                "rewrite: {{uriRegexRewrite: {{match: '(x{{999}}){{999}}', rewrite: y}}}}\n  {ROUTE}"
            ),
            "spec.http[0].rewrite.uriRegexRewrite.match",
        ),
    ] {
        let found = errors(&unbound(&http));
        assert_eq!(codes(&found), ["invalid-regex"], "{http}");
        assert!(found[0].message.contains("more than 4 MiB"), "{found:?}");
        assert!(
            found[0]
                .help
                .as_ref()
                .is_some_and(|help| help.contains("repeat less"))
        );
        let place = format!("{:?}", found[0].place);
        let last = field.rsplit('.').next().unwrap_or_default();
        assert!(place.contains(last), "{place}");
    }
    let small = unbound(&format!(
        "match: [{{uri: {{regex: '/v[0-9]{{1,3}}/\\pL+'}}}}]\n  {ROUTE}"
    ));
    assert_eq!(errors(&small), []);
}

#[test]
fn an_expression_that_is_none_passes_where_nothing_listens_for_it() {
    let deep = format!("{}a{}", "(".repeat(245), ")".repeat(245));
    for regex in ["a)(b", &deep, "[a", "(?=a)"] {
        let text = unbound(&format!(
            "match: [{{uri: {{regex: '{regex}'}}}}]\n  {ROUTE}"
        ));
        let found = errors(&text);
        assert_eq!(codes(&found), ["invalid-regex"], "{regex}");
        assert!(found[0].help.is_some(), "{regex}");
    }
    // A quotation that ends with the expression.
    let quoted = unbound(&format!(
        "match: [{{uri: {{regex: '/\\Qa.b'}}}}]\n  {ROUTE}"
    ));
    assert_eq!(errors(&quoted), []);
    let quoted = quoted.replace("none/such", "edge") + GATEWAY;
    assert_eq!(errors(&quoted), []);
}

#[test]
fn a_substitution_without_its_group_passes_where_nothing_listens_for_it() {
    for rewrite in ["\\2", "\\x"] {
        let rewrite = format!("{{uriRegexRewrite: {{match: '(a)', rewrite: '{rewrite}'}}}}");
        let found = errors(&unbound(&format!("rewrite: {rewrite}\n  {ROUTE}")));
        assert_eq!(codes(&found), ["invalid-regex"]);
        assert!(
            found[0]
                .help
                .as_ref()
                .is_some_and(|help| help.contains("`\\1`"))
        );
    }
}

fn split(weight: &str) -> String {
    unbound(&format!(
        "route:\n  - {{destination: {{host: b}}, weight: {weight}}}\n  - {{destination: {{host: c}}, weight: 90}}"
    ))
}

#[test]
fn a_weight_with_a_leading_zero_is_not_what_a_cluster_reads() {
    says(
        &split("010"),
        &["without a leading zero: 10, or 8, which is what a cluster reads (octal)"],
    );
    says(&split("09"), &["write it without leading zeros: 9"]);
}

#[test]
fn a_negative_weight_is_called_a_share_of_a_hundred() {
    says(
        &split("-1"),
        &[
            "the weight -1 is negative",
            "such as `weight: 10`, or 0 for none",
        ],
    );
    let only = unbound("route: [{destination: {host: b.example.com}, weight: -1}]");
    assert_eq!(codes(&load_text(&only).diagnostics), ["invalid-weight"]);
}

#[test]
fn a_short_name_in_a_gateway_is_told_to_be_a_short_name() {
    says(
        &GATEWAY.replace("['*']", "[a]"),
        &[
            "short name",
            "`a.example.com`",
            "`a.default.svc.cluster.local`",
        ],
    );
    let scope = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\n\
                 spec: {egress: [{hosts: [shop/a]}]}\n";
    says(scope, &["short name", "`shop/a.default.svc.cluster.local`"]);
}

#[test]
fn a_bracket_that_is_not_closed_is_looked_for_where_the_text_goes_wrong() {
    let text = GATEWAY.replace("spec:\n", "spec:\n  oops: [\n");
    says(
        &text,
        &[
            "a.yaml:6:9",
            "the list that begins here is not closed",
            "add the `]`",
            "in line 8",
        ],
    );
    let text = GATEWAY.replace(
        "{number: 8080, name: http, protocol: HTTP}",
        "{number: 8080",
    );
    says(
        &text,
        &[
            "a.yaml:8:11",
            "the mapping that begins here is not closed",
            "add the `}`",
        ],
    );
}

#[test]
fn a_line_break_in_a_header_is_answered_with_percent_signs() {
    for (value, problem) in [
        ("\"a\\r\\nb: c\"", "has a line break"),
        ("\"a\\u0001\"", "has a control character"),
    ] {
        let http = format!("headers: {{request: {{set: {{x-a: {value}}}}}}}\n  {ROUTE}");
        let said = said(&unbound(&http));
        assert!(said.contains(problem), "{said}");
        assert!(said.contains("one line"), "{said}");
        assert!(!said.contains("percent"), "{said}");
    }
}

#[test]
fn a_route_in_two_files_is_hidden_by_an_older_one_that_is_itself() {
    let same = rule(
        "a",
        "hosts: [a.example.com]\ngateways: [edge, mesh]\nhttp:\n- match: [{uri: {prefix: /x}}]\n  \
         directResponse: {status: 200}\n",
    );
    let files = [
        ("a.yaml", same.clone()),
        ("b.yaml", same),
        (
            "more.yaml",
            GATEWAY.to_string() + &service("a.example.com", 80, 1),
        ),
    ];
    let files = files.map(|(path, text)| SourceFile {
        path: path.to_string(),
        text,
    });
    let of_role = |role| {
        let overrides = Overrides {
            role: Some(role),
            ..Overrides::default()
        };
        let loaded = ringroad_policy::load(&files, &overrides, &DnsTable::default());
        one_line(&render_text(&files, &loaded.diagnostics))
    };
    let text = of_role(ringroad_policy::settings::Role::Gateway);
    let code = text.find("unreachable-route").expect("the second is told");
    assert!(
        text[code..].contains("another document of the name `default/a` takes all its requests")
    );
    assert!(
        text[code..].contains("remove one of the two documents"),
        "{text}"
    );
    assert!(!text.contains("older VirtualService"), "{text}");
    let text = of_role(ringroad_policy::settings::Role::Sidecar);
    let code = text.find("duplicate-host").expect("the second is told");
    assert!(
        text[code..].contains("taken by another document of the name `default/a`"),
        "{text}"
    );
    assert!(!text.contains("older VirtualService"), "{text}");
}

#[test]
fn a_maglev_table_with_fewer_places_than_endpoints_is_named() {
    let tables = |size: u64| {
        let spec = format!(
            "host: a.com\ntrafficPolicy: {{loadBalancer: {{consistentHash: {{httpHeaderName: x, \
             maglev: {{tableSize: {size}}}}}}}}}\n"
        );
        found_in(&(sidecar("default") + &service("a.com", 80, 3) + &destination_rule("d", &spec)))
    };
    let field = "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize";
    assert_eq!(tables(2), [("no-effect", field.to_string())]);
    assert_eq!(tables(3), []);
}
