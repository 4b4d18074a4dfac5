//! Where each value of an explanation comes from: the file, or a default.

use ringroad_policy::explain::{Request, explain};
use ringroad_policy::load;
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;

/// Name, value and line of each setting of the route and of its first destination, and whether it
/// is a default.
fn settings_in(config: &str) -> Vec<(String, String, Option<u32>, bool)> {
    let files = [SourceFile {
        path: "shop.yaml".into(),
        text: config.to_string(),
    }];
    let snapshot = load(&files, &Overrides::default(), &DnsTable::default())
        .snapshot
        .unwrap();
    let request = Request::for_url("http://shop.test:8080/").unwrap();
    let told = explain(&snapshot, &files, &request, None);
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
    let line = |text: &str| {
        let mut lines = ONE_DESTINATION.lines();
        lines
            .position(|line| line.contains(text))
            .map(|at| at as u32 + 1)
    };
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
