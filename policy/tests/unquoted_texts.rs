//! Texts without quotes that a cluster, whose YAML is of version 1.1, takes for booleans or numbers:
//! it would refuse what is accepted here, so each is warned of.

use ringroad_policy::diagnostic::{Diagnostic, Severity, place_all, render_text};
use ringroad_policy::source::SourceFile;
use ringroad_policy::validate::validate;
use ringroad_policy::yaml;

fn read(text: &str) -> (Vec<SourceFile>, Vec<Diagnostic>) {
    let files = vec![SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }];
    let (documents, mut found) = yaml::parse(&files);
    found.extend(validate(&documents));
    (files, found)
}

/// The fields that are warned of, with what the help ends in; there may be no other finding.
#[track_caller]
fn warned(text: &str) -> Vec<(String, String)> {
    let (files, found) = read(text);
    let placed = place_all(&files, &found);
    let of = placed.iter().map(|placed| {
        let one = placed.diagnostic;
        let found = (one.severity, one.code);
        assert_eq!(found, (Severity::Warning, "wrong-type"), "{one:?}");
        let help = placed.help.as_deref().unwrap_or_default();
        let written = help.strip_prefix("write it in quotes: ");
        let field = placed.field.clone().unwrap_or_default();
        (field, written.unwrap_or(help).to_string())
    });
    of.collect()
}

fn virtual_service(value: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  \
         hosts: [a.com]\n  http:\n  - match:\n    - headers: {{x: {{exact: {value}}}}}\n    \
         directResponse: {{status: 201}}\n"
    )
}

const EXACT: &str = "spec.http[0].match[0].headers.x.exact";

fn expected(field: &str, written: &str) -> (String, String) {
    (field.to_string(), format!("\"{written}\""))
}

/// `exact: no` was a text without a word.
#[test]
fn a_text_that_a_cluster_reads_as_a_boolean_or_a_number_is_warned_of() {
    for value in [
        "no", "No", "NO", "yes", "on", "ON", "off", "Off", "y", "Y", "n", "1_000", "-1_0", "007",
        "08", "0x_1", "0XfF", "1_0.5",
    ] {
        let text = virtual_service(value);
        assert_eq!(warned(&text), [expected(EXACT, value)], "{value}");
        let (documents, _) = yaml::parse(&read(&text).0);
        let exact = &documents[0].value["spec"]["http"][0]["match"][0]["headers"]["x"]["exact"];
        assert_eq!(exact.as_str(), Some(value), "it stays a text");
    }
    let (files, found) = read(&virtual_service("no"));
    let rendered = render_text(&files, &found);
    assert!(
        rendered.contains("`exact` is a boolean to a cluster"),
        "{rendered}"
    );
    assert!(rendered.contains("a.yaml:8:28"), "{rendered}");
}

#[test]
fn what_is_text_to_a_cluster_too_is_not_warned_of() {
    for value in [
        "\"no\"",
        "'on'",
        "\"1_000\"",
        "!!str no",
        "nope",
        "oN",
        "yEs",
        "2020-01-01",
        "1:30",
        "_1",
        "1_a",
        "10.0.0.1",
        "v1",
        "none",
    ] {
        assert_eq!(warned(&virtual_service(value)), [], "{value}");
    }
    let block = virtual_service("no").replace("{x: {exact: no}}", "{x: {exact: ok}} # no");
    assert_eq!(warned(&block), []);
    let folded = "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  annotations:\n    b: |-\n      \
        no\n    c: >-\n      on\nspec: {ports: [{port: 80}]}\n";
    assert_eq!(warned(folded), []);
}

#[test]
fn quotes_are_asked_for_wherever_a_text_belongs() {
    let text = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: a, \
        labels: {version: on, other: \"on\"}, annotations: {b: off}}\nspec:\n  host: a.com\n  subsets:\n  \
        - {name: n, labels: {version: yes}}\n  exportTo: [no]\n";
    let (_, found) = read(text);
    let warned_codes = found.iter().filter(|one| one.code == "wrong-type").count();
    assert_eq!(warned_codes, 5, "{found:?}");

    // The second document of the file, by an alias, and in a list.
    let first = virtual_service("ok");
    let second = virtual_service("&word no").replace("name: a", "name: b");
    let alias = second.replace("hosts: [a.com]", "hosts: [b.com]")
        + "    headers: {response: {set: {x: *word}}}\n";
    assert_eq!(
        warned(&format!("{first}---\n{alias}")),
        [
            expected(EXACT, "no"),
            expected("spec.http[0].headers.response.set.x", "no")
        ]
    );
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: a, \
        labels: {b: c}}, spec: {ports: [{port: 80, name: y}]}}\n- {apiVersion: v1, kind: Service, \
        metadata: {name: b, labels: {b: n}}, spec: {ports: [{port: 80}]}}\n";
    assert_eq!(
        warned(list),
        [
            expected("spec.ports[0].name", "y"),
            expected("metadata.labels.b", "n")
        ]
    );
}

#[test]
fn what_no_cluster_reads_needs_no_quotes() {
    let settings = "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {name: on, \
        labels: {a: no}}\nspec: {}\n";
    assert_eq!(warned(settings), []);
    let other = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {b: no}}\n";
    let (_, found) = read(other);
    assert!(
        found.iter().all(|one| one.code == "kind-not-supported"),
        "{found:?}"
    );
}

#[test]
fn the_value_of_a_secret_is_not_shown_for_its_quotes() {
    let secret =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {password: 0_123456}\n";
    let (files, found) = read(secret);
    assert_eq!(found.len(), 1, "{found:?}");
    let rendered = render_text(&files, &found);
    assert!(rendered.contains("[redacted]"), "{rendered}");
    assert!(!rendered.contains("0_123456"), "{rendered}");
}
