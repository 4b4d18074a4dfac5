//! Where each value of an explanation comes from: the file, or a default.

use ringroad_policy::explain::{Explanation, Request, explain};
use ringroad_policy::load;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;

/// The edge and a VirtualService of it with these rules, and one that it may delegate to.
fn delegating(rule: &str, delegate: &str) -> String {
    let edge = ONE_DESTINATION.split("---").take(2).collect::<Vec<_>>();
    let of = |name: &str, spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: {name}}}\nspec:\n{spec}"
        )
    };
    let front = of(
        "front",
        &format!("  hosts: ['*']\n  gateways: [edge]\n  http:\n{rule}"),
    );
    let team = of("team", &format!("  http:\n{delegate}"));
    [edge.join("---"), front, team].concat()
}

fn explained(config: &str) -> Explanation {
    let files = [SourceFile {
        path: "shop.yaml".into(),
        text: config.to_string(),
    }];
    let loaded = load(&files, &Overrides::default(), &DnsTable::default());
    let snapshot = loaded.snapshot.expect("a configuration that is accepted");
    let request = Request::for_url("http://shop.test:8080/").unwrap();
    explain(&snapshot, &files, &request, None)
}

fn line_of(config: &str, text: &str) -> Option<u32> {
    let mut lines = config.lines();
    let at = lines.position(|line| line.contains(text))?;
    Some(at as u32 + 1)
}

#[test]
fn an_answer_of_a_delegate_without_a_match_stands_in_the_delegate() {
    for answer in ["directResponse: {status: 202}", "redirect: {uri: /z}"] {
        let rule = "  - match: [{uri: {prefix: /}}]\n    delegate: {name: team}\n";
        let config = delegating(rule, &format!("  - {answer}\n"));
        let written = explained(&config).answer.unwrap().written.unwrap();
        assert_eq!(Some(written.line), line_of(&config, answer), "{config}");
        let field = answer.split(':').next().unwrap();
        assert_eq!(written.field, format!("spec.http[0].{field}"));
    }
}

#[test]
fn what_a_delegate_leaves_open_stands_in_the_rule_that_delegates() {
    let rule = "
  - match: [{uri: {prefix: /}}]
    delegate: {name: team}
    timeout: 7s
    rewrite: {uri: /above}
    retries: {attempts: 9}
    headers: {request: {set: {of-above: a}}}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}}
    mirrors: [{destination: {host: shop.test}}]
";
    let delegate = "
  - route: [{destination: {host: shop.test}}]
    corsPolicy: {allowOrigins: [{exact: https://shop.test}]}
";
    let config = delegating(rule, delegate);
    let told = explained(&config).settings;
    for (name, text) in [
        ("timeout", "timeout:"),
        ("path upstream", "rewrite:"),
        ("retries", "attempts:"),
        ("request header", "of-above"),
        ("fault delay", "fixedDelay"),
        ("mirror", "mirrors:"),
        ("cors origins", "corsPolicy:"),
    ] {
        let setting = told.iter().find(|one| one.name == name);
        let written = setting.and_then(|one| one.written.as_ref());
        let line = written.map(|written| written.line);
        assert_eq!(
            line,
            line_of(&config, text),
            "{name} in {told:#?}\n{config}"
        );
    }
}

/// Name, value and line of each setting of the route and of its first destination, and whether it
/// is a default.
fn settings_in(config: &str) -> Vec<(String, String, Option<u32>, bool)> {
    let told = explained(config);
    let each = told.settings.iter().chain(&told.destinations[0].settings);
    each.map(|one| {
        let line = one.written.as_ref().map(|written| written.line);
        (one.name.clone(), one.value.clone(), line, one.is_default)
    })
    .collect()
}

const ONE_DESTINATION: &str = r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.test]
  ports: [{number: 8080, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.test]
  gateways: [edge]
  http:
  - headers:
      request: {set: {of-rule: a}}
    retries:
      attempts: 5
    route:
    - destination: {host: shop.test}
      headers:
        request:
          set:
            of-destination: b
        response:
          remove: [gone]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop}
spec:
  host: shop.test
  trafficPolicy:
    connectionPool:
      tcp:
        connectTimeout: 10s
      http:
        idleTimeout: 1h
        h2UpgradePolicy: DO_NOT_UPGRADE
        maxRequestsPerConnection:
    outlierDetection:
      consecutive5xxErrors: 5
    tls:
      mode: DISABLE
"#;

#[test]
fn what_is_written_is_no_default_even_where_it_says_the_same() {
    let told = settings_in(ONE_DESTINATION);
    let line = |text: &str| line_of(ONE_DESTINATION, text);
    for (name, value, text) in [
        ("connect timeout", "10s", "connectTimeout"),
        ("upstream idle timeout", "3600s", "idleTimeout"),
        ("upstream protocol", "HTTP/1.1", "h2UpgradePolicy"),
        (
            "outlier 5xx errors",
            "after 5 of 5xx in a row",
            "consecutive5xx",
        ),
        ("upstream tls", "none", "tls:"),
        ("retries", "5", "attempts"),
        ("request header", "set of-rule: a", "of-rule"),
        ("request header", "set of-destination: b", "of-destination"),
        ("response header", "remove gone", "remove"),
    ] {
        let wanted = (name.to_string(), value.to_string(), line(text), false);
        assert!(told.contains(&wanted), "{wanted:?} not in {told:#?}");
    }
    let defaults = told.iter().filter(|(.., line, is_default)| {
        assert_eq!(line.is_none(), *is_default);
        *is_default
    });
    let defaults: Vec<&str> = defaults.map(|(name, ..)| name.as_str()).collect();
    for name in [
        "retry on",
        "retry back-off",
        "max requests per connection",
        "outlier interval",
    ] {
        assert!(defaults.contains(&name), "{name} not in {defaults:?}");
    }
}
