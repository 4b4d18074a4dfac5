//! A decision, retold: what was chosen and passed over, why, and where it was written.

mod support;

use ringroad_policy::explain::{Explanation, Request, explain};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::DnsTable;
use ringroad_policy::source::SourceFile;
use ringroad_policy::{load, snapshot::Snapshot};

const SERVICES: &str = "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}}
  - {address: 10.0.0.2, labels: {version: v2}, weight: 4}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
";

const ROUTES: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
  - name: jason
    match:
    - uri: {prefix: /reviews}
      headers:
        end-user: {exact: jason}
    route:
    - destination: {host: reviews, subset: v2}
  - name: fixed
    match:
    - uri: {exact: /fixed}
    directResponse: {status: 204}
  - name: gone
    match:
    - uri: {exact: /gone}
    route:
    - destination: {host: nobody}
  - name: empty
    match:
    - uri: {exact: /empty}
    route:
    - destination: {host: reviews, subset: v3}
  - name: split
    match:
    - uri: {prefix: /reviews}
    timeout: 3s
    route:
    - destination: {host: reviews, subset: v1}
      weight: 75
    - destination: {host: reviews, subset: v2}
      weight: 25
";

fn files() -> Vec<SourceFile> {
    [("services.yaml", SERVICES), ("routes.yaml", ROUTES)]
        .map(|(path, text)| SourceFile {
            path: path.to_string(),
            text: text.to_string(),
        })
        .to_vec()
}

fn snapshot() -> Snapshot {
    load(&files(), &Overrides::default(), &DnsTable::default())
        .snapshot
        .unwrap()
}

fn told(url: &str, headers: &[(&str, &str)], gateway: Option<&str>) -> Explanation {
    let mut request = Request::for_url(url).unwrap();
    let headers = headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    request.headers = headers.collect();
    explain(&snapshot(), &files(), &request, gateway)
}

#[test]
fn it_names_every_step_with_its_place() {
    let told = told(
        "http://shop:8080/reviews/1?x=1",
        &[("End-User", "bob")],
        None,
    );
    assert_eq!(told.listener.as_deref(), Some("0.0.0.0_8080"));
    assert_eq!(told.route_config.as_deref(), Some("http.8080"));
    assert_eq!(told.virtual_host.as_deref(), Some("*:8080"));
    assert_eq!(told.route.as_deref(), Some("split"));
    let written = told.route_written.unwrap();
    assert_eq!(
        (written.to_string().as_str(), written.field.as_str()),
        ("routes.yaml:40:7", "spec.http[4].match[0]")
    );
    let reasons: Vec<&str> = told
        .passed_over
        .iter()
        .map(|passed| passed.because.as_str())
        .collect();
    assert_eq!(
        reasons,
        [
            "header `end-user` with `bob` is not `jason`",
            "path `/reviews/1` is not `/fixed`",
            "path `/reviews/1` is not `/gone`",
            "path `/reviews/1` is not `/empty`",
        ]
    );
    assert_eq!(told.passed_over[0].written.as_ref().unwrap().line, 19);
    let shares: Vec<(&str, f64)> = told
        .destinations
        .iter()
        .map(|d| (d.subset.as_str(), d.share_percent))
        .collect();
    assert_eq!(shares, [("v1", 75.0), ("v2", 25.0)]);
    assert_eq!(told.destinations[1].endpoints[0].address, "10.0.0.2:9080");
    assert_eq!(told.destinations[1].endpoints[0].weight, 4);
    let setting = |name: &str| {
        let mut all = told.settings.iter().chain(&told.destinations[0].settings);
        let found = all.find(|setting| setting.name == name).unwrap();
        (
            found.value.clone(),
            found.written.as_ref().map(ToString::to_string),
        )
    };
    assert_eq!(
        setting("timeout"),
        ("3s".to_string(), Some("routes.yaml:41:14".to_string()))
    );
    assert_eq!(setting("retries"), ("2".to_string(), None));
    let (on, written) = setting("retry on");
    assert!(on.starts_with("connect-failure,refused-stream"), "{on}");
    assert_eq!(written, None);
    assert_eq!(setting("retry back-off"), ("from 25ms".to_string(), None));
    assert_eq!(
        setting("load balancer"),
        (
            "ROUND_ROBIN".to_string(),
            Some("services.yaml:18:5".to_string())
        )
    );
    assert_eq!(setting("connect timeout"), ("10s".to_string(), None));
}

#[test]
fn it_takes_the_very_decision_of_the_router() {
    let told = told("http://shop:8080/reviews", &[("end-user", "jason")], None);
    assert_eq!(told.route.as_deref(), Some("jason"));
    assert_eq!(
        told.cluster.as_deref(),
        Some("outbound|9080|v2|reviews.default.svc.cluster.local")
    );
    assert!(told.passed_over.is_empty() && told.answer.is_none() && told.error.is_none());
}

#[test]
fn it_says_what_the_proxy_answers_by_itself() {
    let answer = |path: &str| {
        let told = told(&format!("http://shop:8080{path}"), &[], None);
        let answer = told.answer.unwrap();
        (answer.status, answer.flag, told.error.is_some())
    };
    assert_eq!(answer("/fixed"), (204, "-".to_string(), false));
    assert_eq!(answer("/nothing"), (404, "NR".to_string(), true));
    assert_eq!(answer("/gone"), (503, "NC".to_string(), false));
    assert_eq!(answer("/empty"), (503, "UH".to_string(), false));
    assert_eq!(answer("/a%00b"), (400, "-".to_string(), true));
}

#[test]
fn it_finds_the_listener_by_port_or_gateway() {
    assert!(
        told("http://shop:81/", &[], None)
            .error
            .unwrap()
            .contains("no listener on port 81")
    );
    assert_eq!(
        told("shop/fixed", &[], None).route.as_deref(),
        Some("fixed")
    );
    assert_eq!(
        told("shop:80/fixed", &[], Some("default/edge"))
            .route
            .as_deref(),
        Some("fixed")
    );
    let other = told("shop:8080/", &[], Some("default/other"));
    assert_eq!(
        other.error.as_deref(),
        Some("no listener of gateway `default/other`; there are default/edge")
    );
    let forgotten = told("shop:8080/", &[], Some("edge"));
    assert_eq!(
        forgotten.error.as_deref(),
        Some("no listener of gateway `edge`: write NS/NAME; there are default/edge")
    );
}

#[test]
fn urls_that_are_none_are_refused() {
    for url in [
        "",
        "http://",
        "http://:80/",
        "http://h:port/",
        "http://h:99999/",
    ] {
        assert!(Request::for_url(url).is_err(), "{url}");
    }
    let request = Request::for_url("http://[::1]:8080?x=1").unwrap();
    assert_eq!(
        (
            request.authority.as_str(),
            request.target.as_str(),
            request.port
        ),
        ("[::1]:8080", "/?x=1", Some(8080))
    );
}

#[test]
fn both_forms_carry_the_names() {
    let told = told("http://shop:8080/reviews", &[], None);
    let json = told.to_json();
    for (key, value) in [
        ("listener", "0.0.0.0_8080"),
        ("routeConfig", "http.8080"),
        ("virtualHost", "*:8080"),
        ("route", "split"),
        (
            "cluster",
            "outbound|9080|v1|reviews.default.svc.cluster.local",
        ),
    ] {
        assert_eq!(json[key], value);
    }
    assert_eq!(json["passedOver"][0]["written"]["line"], 19);
    let columns = regex::Regex::new("  +").unwrap();
    let text = told.to_text();
    let text = columns.replace_all(&text, "  ");
    for part in [
        "passed over  `jason`: header `end-user` is absent: it is not `jason`  (routes.yaml:19:7)",
        "route  `split`  (routes.yaml:40:7)",
        "timeout  3s  (routes.yaml:41:14)",
        "gets 75%  (routes.yaml:43:7)",
        "endpoint  10.0.0.1:9080 version=v1",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
}

/// Everything that a route and a cluster may have.
const RICH: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: rich}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new, redirectCode: 302}
  - match: [{uri: {prefix: /api/}}]
    route: [{destination: {host: a.com}}]
    rewrite: {uri: /v2/, authority: b.com}
    retries: {attempts: 2, perTryTimeout: 2s, retryOn: '5xx,429', backoff: 50ms}
    fault:
      delay: {fixedDelay: 5s, percentage: {value: 10}}
      abort: {httpStatus: 503, percentage: {value: 0.5}}
    mirror: {host: a.com}
    mirrorPercentage: {value: 25}
    corsPolicy:
      allowOrigins: [{exact: 'http://x.com'}]
      allowMethods: [GET, PUT]
      maxAge: 60s
      unmatchedPreflights: IGNORE
  - directResponse: {status: 404, body: {string: no}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a.com
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 7}
      http: {http1MaxPendingRequests: 8, http2MaxRequests: 9, maxRetries: 3}
    outlierDetection:
      consecutive5xxErrors: 3
      consecutiveGatewayErrors: 2
      interval: 5s
      baseEjectionTime: 1m
      maxEjectionPercent: 50
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}]
";

fn told_of_rich(path: &str) -> Explanation {
    let files = vec![SourceFile {
        path: "rich.yaml".to_string(),
        text: RICH.to_string(),
    }];
    let snapshot = load(&files, &Overrides::default(), &DnsTable::default())
        .snapshot
        .unwrap();
    let request = Request::for_url(&format!("http://shop:8080{path}")).unwrap();
    explain(&snapshot, &files, &request, None)
}

/// The line of the first text in [`RICH`].
fn line_of(text: &str) -> Option<u32> {
    let at = RICH.lines().position(|line| line.contains(text));
    at.map(|at| at as u32 + 1)
}

#[test]
fn it_tells_all_that_a_route_does_and_where_that_is_written() {
    let told = told_of_rich("/api/x");
    let settings = told.settings.iter().chain(&told.destinations[0].settings);
    let told: Vec<(String, String, Option<u32>)> = settings
        .map(|one| {
            let line = one.written.as_ref().map(|written| written.line);
            (one.name.clone(), one.value.clone(), line)
        })
        .collect();
    let has = |name: &str, value: &str, written: Option<&str>| {
        let line = written.map(|text| line_of(text).expect("a line"));
        let wanted = (name.to_string(), value.to_string(), line);
        assert!(told.contains(&wanted), "{wanted:?} not in {told:#?}");
    };
    has("timeout", "none", None);
    has("retries", "2", Some("retries:"));
    let on = "5xx,retriable-status-codes,429";
    has("retry on", on, Some("retries:"));
    has("per try timeout", "2s", Some("retries:"));
    has("retry back-off", "from 50ms", Some("retries:"));
    has("path upstream", "/v2/x", Some("rewrite:"));
    has("host upstream", "b.com", Some("rewrite:"));
    has("fault delay", "5s for 10%", Some("fault:"));
    has("fault abort", "HTTP 503 for 0.5%", Some("fault:"));
    has(
        "mirror",
        "25% of requests to outbound|80||a.com",
        Some("mirror:"),
    );
    has("cors origins", "http://x.com", Some("corsPolicy:"));
    has("cors methods", "GET,PUT", Some("corsPolicy:"));
    has("cors max age", "60s", Some("corsPolicy:"));
    has(
        "cors preflights",
        "of other origins are answered here",
        Some("corsPolicy:"),
    );
    has("max connections", "7", Some("maxConnections:"));
    has(
        "max pending requests",
        "8",
        Some("http1MaxPendingRequests:"),
    );
    has("max requests", "9", Some("http2MaxRequests:"));
    has("max retries", "3", Some("maxRetries:"));
    has("max requests per connection", "no limit", None);
    has("connect timeout", "10s", None);
    has(
        "outlier 5xx errors",
        "after 3 of 5xx in a row",
        Some("consecutive5xxErrors:"),
    );
    has(
        "outlier gateway errors",
        "after 2 of 502, 503 and 504 in a row",
        Some("consecutiveGatewayErrors:"),
    );
    has("outlier interval", "5s", Some("interval:"));
    has(
        "outlier ejection time",
        "60s, longer each time",
        Some("baseEjectionTime:"),
    );
    has(
        "outlier max ejection",
        "50%: 1 of 2",
        Some("maxEjectionPercent:"),
    );
}

#[test]
fn answers_of_a_route_are_told_with_their_place() {
    let answer = told_of_rich("/old/x").answer.unwrap();
    assert_eq!(
        (answer.status, answer.reason.as_str()),
        (302, "location: http://shop:8080/new")
    );
    assert_eq!(answer.written.unwrap().line, line_of("redirect:").unwrap());
    let answer = told_of_rich("/").answer.unwrap();
    assert_eq!(answer.status, 404);
    assert_eq!(
        answer.written.unwrap().line,
        line_of("directResponse:").unwrap()
    );
}

#[test]
fn the_retries_that_one_of_several_destinations_asks_for_are_told_with_it() {
    let config = r#"
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
  - route:
    - destination: {host: shop.test}
      weight: 1
      headers: {request: {set: {x-envoy-max-retries: "1"}}}
    - {destination: {host: shop.test}, weight: 1}
"#;
    let files = [SourceFile {
        path: "shop.yaml".into(),
        text: config.to_string(),
    }];
    let snapshot = load(&files, &Overrides::default(), &DnsTable::default())
        .snapshot
        .unwrap();
    let request = Request::for_url("http://shop.test:8080/").unwrap();
    let told = explain(&snapshot, &files, &request, None);
    let named = |name: &str, value: &str| (name == "retries").then(|| value.to_string());
    let of_route = told
        .settings
        .iter()
        .find_map(|one| named(&one.name, &one.value));
    let of_destination = |at: usize| {
        let mut settings = told.destinations[at].settings.iter();
        settings.find_map(|one| named(&one.name, &one.value))
    };
    let retries = |count: u32| Some(count.to_string());
    assert_eq!(of_route, retries(2));
    assert_eq!([of_destination(0), of_destination(1)], [retries(1), None]);
    let headers = |at: usize| told.destinations[at].settings.iter();
    assert!(headers(0).all(|one| one.name != "request header"));
}
