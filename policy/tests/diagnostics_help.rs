//! Help shows what to write, from what was written.

use ringroad_policy::diagnostic::{TextOptions, render_json, render_text_with};
use ringroad_policy::load;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;

/// The help of each finding about the text as a person reads it; a program has to get the same.
fn helps(text: &str) -> Vec<String> {
    let files = [SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }];
    let found = load(&files, &Overrides::default(), &DnsTable::default()).diagnostics;
    let json: serde_json::Value = serde_json::from_str(&render_json(&files, &found)).unwrap();
    let entries = json.as_array().unwrap();
    let of_programs: Vec<String> = entries
        .iter()
        .map(|entry| entry["help"].as_str().unwrap().to_string())
        .collect();
    let wide = TextOptions {
        width: 1000,
        ..TextOptions::default()
    };
    let text = render_text_with(&files, &found, wide);
    let of_people: Vec<&str> = text
        .lines()
        .filter_map(|line| Some(line.split_once("= help: ")?.1))
        .collect();
    assert_eq!(of_people, of_programs);
    of_programs
}

fn help(text: &str) -> String {
    let mut found = helps(text);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

/// A VirtualService with one route, to which these lines belong.
fn with_route(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\n\
         spec:\n  hosts: [a.example.com]\n  http:\n  - name: r\n{lines}"
    )
}

const TO_B: &str = "route: [{destination: {host: b.example.com}}]\n";

#[test]
fn a_value_that_needs_quotes_is_quoted_as_it_was_written() {
    for written in ["1.10", ".5", "0o17", "1e3", "0x10", "-0", "True", "7"] {
        let quoted = format!("write it in quotes: \"{written}\"");
        let label = format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{name: a, labels: {{version: {written}}}}}\nspec: {{address: 10.0.0.1}}\n"
        );
        assert_eq!(help(&label), quoted);
        let name = label.replace("name: a", &format!("name: {written}"));
        assert_eq!(helps(&name), [quoted.as_str()]);
        let prefix = with_route(&format!("match: [{{uri: {{prefix: {written}}}}}]\n{TO_B}"));
        assert_eq!(help(&prefix), quoted);
    }
}

#[test]
fn a_repeated_value_that_needs_quotes_is_quoted_as_it_was_written() {
    let text = with_route(&format!(
        "match: [{{port: &p 0x50, uri: {{prefix: *p}}}}]\n{TO_B}"
    ));
    assert_eq!(help(&text), "write it in quotes: \"0x50\"");
}

#[test]
fn a_value_with_a_type_of_its_own_is_not_shown_in_quotes_twice() {
    let text = with_route(&format!(
        "match: [{{uri: {{prefix: !!int \"5\"}}}}]\n{TO_B}"
    ));
    assert_eq!(help(&text), "write it in quotes");
}

#[test]
fn a_value_without_its_mapping_is_shown_in_it() {
    let cases = [
        (
            "match: [{uri: /x}]",
            "write `uri: {prefix: /x}`, or `exact` or `regex` in place of `prefix`",
        ),
        (
            "match: [{method: GET}]",
            "write `method: {exact: GET}`, or `prefix` or `regex` in place of `exact`",
        ),
        (
            "match: [{headers: {x-user: 'a, b'}}]",
            "write `x-user: {exact: 'a, b'}`, or `prefix` or `regex` in place of `exact`",
        ),
        (
            "match: [{queryParams: {v: '1.10'}}]",
            "write `v: {exact: '1.10'}`, or `prefix` or `regex` in place of `exact`",
        ),
        (
            "match: [{headers: {x-version: 1.10}}]",
            "write it in quotes, under `exact`: `x-version: {exact: \"1.10\"}`, or `prefix` or \
             `regex` in place of `exact`",
        ),
        (
            "corsPolicy: {allowOrigins: ['*']}",
            "write `{exact: '*'}`, or `prefix` or `regex` in place of `exact`",
        ),
        (
            "corsPolicy: {allowOrigins: https://a.example.com}",
            "write `allowOrigins: [{exact: https://a.example.com}]`",
        ),
        (
            "mirrorPercentage: 10",
            "write `mirrorPercentage: {value: 10}`",
        ),
        (
            "mirrorPercentage: 10%",
            "write `mirrorPercentage: {value: 10}`",
        ),
        (
            "fault: {abort: {httpStatus: 503, percentage: 50}}",
            "write `percentage: {value: 50}`",
        ),
        ("fault: {delay: 5s}", "write `delay: {fixedDelay: 5s}`"),
        ("retries: 3", "write `retries: {attempts: 3}`"),
        (
            "match: [{sourceLabels: v1}]",
            "write each value after its name: `sourceLabels: {NAME: VALUE}`",
        ),
        ("match: [{gateways: edge}]", "write `gateways: [edge]`"),
        (
            "match: [{gateways: 1.10}]",
            "write it in quotes, in a list: `gateways: [\"1.10\"]`",
        ),
        ("match: {port: 80}", "write a list: each item after `- `"),
    ];
    for (lines, wanted) in cases {
        let found = helps(&with_route(&format!("{lines}\n{TO_B}"))).join(" ");
        assert_eq!(found, wanted, "{lines}");
    }
    let route = |destination: &str| help(&with_route(&format!("route: [{destination}]")));
    assert_eq!(
        route("{destination: {host: b.example.com, port: 80}}"),
        "write `port: {number: 80}`"
    );
    assert_eq!(
        route("{destination: b.example.com}"),
        "write `destination: {host: b.example.com}`"
    );
    assert_eq!(
        route("b.example.com"),
        "write a mapping; its fields are destination, headers, weight"
    );
    assert_eq!(
        route("{destination: [{host: b.example.com}]}"),
        "write a mapping: its fields without `- `"
    );
}

#[test]
fn a_value_that_its_mapping_would_not_take_is_not_shown_in_it() {
    let help = |lines: &str| help(&with_route(&format!("{lines}\n{TO_B}")));
    assert_eq!(
        help("mirrorPercentage: most"),
        "write a mapping; its fields are value"
    );
    assert!(!help("match: [{uri: \"a\\nb\"}]").contains("a\\nb"));
    assert!(!help(&format!("match: [{{uri: /{}}}]", "x".repeat(500))).contains("xxx"));
}

#[test]
fn a_kind_of_another_group_is_told_its_group() {
    let document = |api_version: &str, kind: &str| {
        help(&format!(
            "apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n"
        ))
    };
    for group in ["networking.istio.io/v1", "security.istio.io/v1beta1"] {
        assert_eq!(document(group, "Service"), "write `apiVersion: v1`");
        assert_eq!(document(group, "Secret"), "write `apiVersion: v1`");
        assert_eq!(
            document(group, "EndpointSlice"),
            "write `apiVersion: discovery.k8s.io/v1`"
        );
    }
    assert_eq!(
        document("networking.istio.io/v1", "AuthorizationPolicy"),
        "write `apiVersion: security.istio.io/v1`"
    );
    assert_eq!(document("apps/v1", "Service"), "did you mean `v1`?");
    assert_eq!(
        document("v1", "EndpointSlice"),
        "did you mean `discovery.k8s.io/v1`?"
    );
}

#[test]
fn a_host_that_is_not_there_is_not_called_a_short_name() {
    let gateway = |host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  \
             servers: [{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['{host}']}}]\n"
        )
    };
    assert_eq!(helps(&gateway("ns/")), ["write `ns/*` for all hosts"]);
    assert_eq!(helps(&gateway("")), ["write `*` for all hosts"]);
}

fn entry(spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\nspec: \
         {{{spec}}}\n"
    )
}

/// It named the form that was refused.
#[test]
fn a_host_that_has_to_be_resolved_is_not_told_to_be_a_wildcard() {
    let ports = "ports: [{number: 80, name: http, protocol: HTTP}]";
    let found = helps(&entry(&format!(
        "hosts: ['*.a.com'], resolution: DNS, {ports}"
    )));
    assert_eq!(
        found,
        ["write a name without a wildcard, such as `reviews.example.com`, or `endpoints`"]
    );
}

#[test]
fn a_number_that_is_too_large_is_told_the_largest() {
    let found = help(
        "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {name: p}\n\
         spec: {seed: 9223372036854775808}\n",
    );
    assert_eq!(
        found,
        "write a number from 0 to 9223372036854775807, which is 2^63-1"
    );
}

#[test]
fn a_letter_hit_twice_is_not_taken_for_another_word() {
    let ports = "ports: [{number: 80, name: http, protocol: HTTPP}]";
    let found = helps(&entry(&format!("hosts: [a.com], {ports}"))).join(" ");
    assert!(found.contains("did you mean `HTTP`?"), "{found}");
}

/// Each of the two names was answered with the other.
#[test]
fn a_service_that_no_rule_can_name_is_told_to_have_a_dot() {
    let ports = "ports: [{number: 80, name: http, protocol: HTTP}]";
    let declared = entry(&format!(
        "hosts: [cart], {ports}, resolution: STATIC, endpoints: [{{address: 10.0.0.1}}]"
    ));
    for host in ["cart", "cart.", "carts."] {
        let route = with_route("").replace("- name: r\n", "- route: [{destination: {host: H}}]\n");
        let found = helps(&(route.replace("host: H", &format!("host: {host}")) + &declared));
        let found = found.join("\n");
        assert!(!found.contains("did you mean"), "{host}: {found}");
        let told = found.contains("a host with a dot, such as `cart.example.com`");
        assert_eq!(told, host != "carts.", "{host}: {found}");
    }
}
