//! What the proxy does with a request by itself, as `explain` tells it: preflights, requests whose
//! original destination nobody knows, and the path that an upstream gets.

mod support;

use ringroad_policy::explain::{Explanation, Request, explain};
use ringroad_policy::snapshot::Direction;
use support::*;

fn told(text: &str, url: &str, method: &str, headers: &[(&str, &str)]) -> Explanation {
    let mut request = Request::for_url(url).unwrap();
    request.method = method.to_string();
    let headers = headers.iter();
    request.headers = headers
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    explain(&snapshot(text), &[], &request, None)
}

/// A gateway with this in its only route.
fn edge(host: &str, more: &str) -> String {
    let http = format!(
        "hosts: ['*']\ngateways: [edge]\nhttp:\n- name: only\n  timeout: 3s\n  \
         match: [{{uri: {{prefix: /api}}}}]\n  route: [{{destination: {{host: {host}}}}}]\n  {more}\n"
    );
    GATEWAY.to_string() + &service("a.com", 80, 1) + &rule("r", &http)
}

const SHOP: (&str, &str) = ("Origin", "https://shop.test");
const OTHER: (&str, &str) = ("Origin", "https://other.test");
const ASKS: (&str, &str) = ("Access-Control-Request-Method", "PUT");

#[test]
fn a_preflight_is_not_said_to_go_to_the_upstream() {
    let cors =
        "corsPolicy: {allowOrigins: [{exact: 'https://shop.test'}], allowMethods: [GET, PUT]}";
    let text = edge("a.com", cors);
    let ask = |method: &str, headers: &[(&str, &str)]| {
        told(&text, "http://shop.test:8080/api/x", method, headers)
    };
    let preflight = ask("OPTIONS", &[SHOP, ASKS]);
    assert_eq!(preflight.route.as_deref(), Some("only"));
    assert!(preflight.destinations.is_empty() && preflight.cluster.is_none());
    let answer = preflight.answer.expect("an answer of the proxy");
    assert_eq!((answer.status, answer.flag.as_str()), (200, "-"));
    for part in ["https://shop.test", "access-control-allow-methods GET,PUT"] {
        assert!(answer.reason.contains(part), "{}", answer.reason);
    }
    assert!(preflight.settings.iter().all(|one| one.name != "timeout"));
    // Whatever lacks one of the three is a request as others are.
    for (method, headers) in [
        ("OPTIONS", &[SHOP][..]),
        ("OPTIONS", &[ASKS]),
        ("GET", &[SHOP, ASKS]),
    ] {
        let plain = ask(method, headers);
        assert_eq!(plain.cluster.as_deref(), Some("outbound|80||a.com"));
        assert!(plain.answer.is_none(), "{method} {headers:?}");
    }
}

#[test]
fn a_preflight_of_another_origin_is_said_to_be_forwarded_or_not() {
    let ask = |more: &str| {
        let cors = format!("corsPolicy: {{allowOrigins: [{{exact: 'https://shop.test'}}]{more}}}");
        let text = edge("a.com", &cors);
        told(
            &text,
            "http://shop.test:8080/api",
            "OPTIONS",
            &[OTHER, ASKS],
        )
    };
    let forwarded = ask("");
    assert_eq!(forwarded.cluster.as_deref(), Some("outbound|80||a.com"));
    assert!(forwarded.answer.is_none());
    let mut settings = forwarded.settings.iter();
    let note = settings.find(|one| one.name == "this preflight");
    let note = &note.expect("a word about it").value;
    assert!(
        note.starts_with("forwarded: `https://other.test`"),
        "{note}"
    );
    let ignored = ask(", unmatchedPreflights: IGNORE");
    assert!(ignored.destinations.is_empty());
    let answer = ignored.answer.expect("an answer of the proxy");
    assert_eq!(answer.status, 200);
    assert!(
        answer.reason.contains("unmatchedPreflights"),
        "{}",
        answer.reason
    );
}

#[test]
fn a_preflight_is_granted_though_the_cluster_is_not_there() {
    let cors = "corsPolicy: {allowOrigins: [{prefix: 'https://shop'}]}";
    let one = edge("nobody.com", cors);
    let several = one.replace(
        "route: [{destination: {host: nobody.com}}]",
        "route: [{destination: {host: nobody.com}, weight: 1}, {destination: {host: a.com}, weight: 1}]",
    );
    assert_ne!(one, several);
    for text in [one, several] {
        let ask = |origin| {
            told(
                &text,
                "http://shop.test:8080/api",
                "OPTIONS",
                &[origin, ASKS],
            )
        };
        let granted = ask(SHOP);
        let answer = granted.answer.expect("an answer");
        assert_eq!((answer.status, answer.flag.as_str()), (200, "-"));
        assert!(granted.destinations.is_empty());
        // Another origin's goes where the request would.
        let lost = ask(OTHER).destinations.remove(0).answer.expect("an answer");
        assert_eq!((lost.status, lost.flag.as_str()), (503, "NC"));
    }
}

#[test]
fn an_unknown_host_on_loopback_is_not_said_to_reach_the_listener_itself() {
    let text = sidecar("default") + &service("web.test", 80, 1);
    let on_loopback = told(&text, "http://other.test/", "GET", &[]);
    assert_eq!(on_loopback.cluster.as_deref(), Some("PassthroughCluster"));
    assert_eq!(on_loopback.destinations[0].endpoints, []);
    let answer = on_loopback
        .answer
        .as_ref()
        .expect("no original destination");
    assert_eq!((answer.status, answer.flag.as_str()), (503, "UH"));
    assert!(on_loopback.to_text().contains(" 503 UH: requests go where"));
    // Redirected connections have one.
    let mut request = Request::for_url("http://other.test/").unwrap();
    request.connection.direction = Some(Direction::Outbound);
    request.connection.address = Some("203.0.113.7".parse().unwrap());
    let redirected = explain(&snapshot(&text), &[], &request, None);
    assert!(redirected.answer.is_none());
    let [endpoint] = redirected.destinations[0].endpoints.as_slice() else {
        panic!("{:?}", redirected.destinations)
    };
    assert_eq!(endpoint.address, "203.0.113.7:80");
}

#[test]
fn a_rewritten_path_keeps_its_query() {
    let text = edge("a.com", "rewrite: {uri: /v2}");
    let path = |url: &str| {
        let told = told(&text, url, "GET", &[]);
        let mut settings = told.settings.into_iter();
        settings
            .find(|one| one.name == "path upstream")
            .map(|one| one.value)
    };
    let rewritten = path("http://shop.test:8080/api/x?a=1&b=2");
    assert_eq!(rewritten.as_deref(), Some("/v2/x?a=1&b=2"));
    let without = path("http://shop.test:8080/api/x");
    assert_eq!(without.as_deref(), Some("/v2/x"));
}

/// As Envoy has it, whose fault filter comes before its router.
#[test]
fn a_fault_for_all_requests_is_the_answer_also_where_there_is_no_cluster() {
    for host in ["a.com", "nobody.com"] {
        let ask = |percent: &str| {
            let fault = format!(
                "fault: {{abort: {{percentage: {{value: {percent}}}, httpStatus: 418}}}}\n  \
                 corsPolicy: {{allowOrigins: [{{exact: 'https://shop.test'}}]}}"
            );
            told(
                &edge(host, &fault),
                "http://shop.test:8080/api",
                "OPTIONS",
                &[SHOP, ASKS],
            )
            .answer
        };
        let answer = ask("100").expect("an answer");
        assert_eq!((answer.status, answer.flag.as_str()), (418, "FI"));
        // Some get past it.
        assert_eq!(ask("99.9").expect("of the preflight").flag, "-");
    }
}

/// A gateway with `count` routes of one header and path each before the last.
fn many_routes(count: usize) -> String {
    let mut http = String::new();
    for at in 0..count {
        http += &format!(
            "- name: r{at}\n  match: [{{uri: {{prefix: /{at}/}}}}]\n  \
             route: [{{destination: {{host: a.com}}}}]\n"
        );
        if at % 10 == 9 {
            http += &format!(
                "- name: h{at}\n  match: [{{headers: {{x-{at}: {{exact: y}}}}}}]\n  \
                 route: [{{destination: {{host: a.com}}}}]\n"
            );
        }
    }
    http += "- name: last\n  route: [{destination: {host: a.com}}]\n";
    let spec = format!("hosts: ['*']\ngateways: [edge]\nhttp:\n{http}");
    GATEWAY.to_string() + &service("a.com", 80, 1) + &rule("many", &spec)
}

#[test]
fn many_routes_that_were_passed_over_are_folded_in_text_alone() {
    let told = |count: usize| {
        let request = Request::for_url("http://shop:8080/x").unwrap();
        let told = explain(&snapshot(&many_routes(count)), &[], &request, None);
        assert_eq!(told.passed_over.len(), count + count / 10);
        let text = told.to_text();
        let lines = text.lines().filter(|line| line.starts_with("passed over"));
        lines
            .map(|line| line[11..].trim().to_string())
            .collect::<Vec<_>>()
    };
    let few = told(9);
    assert_eq!(few.len(), 9);
    assert!(
        few[0].starts_with("`r0`: path `/x` does not begin with"),
        "{few:?}"
    );
    let more = told(30);
    assert_eq!(more.len(), 6, "{more:?}");
    assert_eq!(more[0], "10 routes that ask for other paths");
    assert_eq!(more[1], "`h9`: header `x-9` is absent: it is not `y`");
    let many = told(400);
    assert_eq!(many.len(), 13, "{many:?}");
    assert_eq!(many[6], "374 more; `--format json` has them all");
    assert!(many[12].starts_with("`h399`: header"), "{many:?}");
}

#[test]
fn an_abort_of_every_request_is_the_answer_whatever_stands_behind_it() {
    let abort = |share: &str, more: &str| {
        format!("fault: {{abort: {{percentage: {{value: {share}}}, {more}}}}}")
    };
    for host in ["a.com", "nowhere.com"] {
        let text = edge(host, &abort("100", "httpStatus: 418"));
        let answer = told(&text, "http://x:8080/api", "GET", &[]).answer;
        let answer = answer.expect("an answer of the proxy");
        assert_eq!((answer.status, answer.flag.as_str()), (418, "FI"), "{host}");
    }
    let text = edge("a.com", &abort("100", "grpcStatus: UNAVAILABLE"));
    let answer = told(&text, "http://x:8080/api", "GET", &[]).answer.unwrap();
    assert_eq!((answer.status, answer.flag.as_str()), (200, "FI"));
    assert!(answer.reason.contains("14"), "{}", answer.reason);

    let text = edge("a.com", &abort("99.9", "httpStatus: 418"));
    assert!(
        told(&text, "http://x:8080/api", "GET", &[])
            .answer
            .is_none()
    );
}

#[test]
fn endpoints_that_are_never_chosen_are_no_way_on() {
    let settings = "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\n\
                    spec: {role: gateway, workload: {locality: near}}\n";
    let balanced = "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: d}\nspec:\n  host: a.com\n  trafficPolicy:\n    \
                    loadBalancer:\n      consistentHash: {httpHeaderName: x}\n      \
                    localityLbSetting: {distribute: [{from: '*', to: {far/*: 100}}]}\n";
    let text = edge("a.com", "") + settings + balanced;
    let explanation = told(&text, "http://x:8080/api", "GET", &[("x", "1")]);
    let answer = explanation.answer.expect("an answer of the proxy");
    assert_eq!((answer.status, answer.flag.as_str()), (503, "UH"));
    let [to] = explanation.destinations.as_slice() else {
        panic!("one destination");
    };
    assert!(to.settings.iter().all(|one| one.name != "endpoint of key"));
}

#[test]
fn what_a_key_needs_to_know_of_the_client_is_asked_for() {
    let balanced = |by: &str| {
        let policy = format!("trafficPolicy: {{loadBalancer: {{consistentHash: {by}}}}}");
        edge("a.com", "headers: {request: {add: {x-at: '%START_TIME%'}}}")
            + &destination_rule("d", &format!("host: a.com\n{policy}\n"))
    };
    let endpoint = |by: &str, source: Option<&str>, headers: &[(&str, &str)]| {
        let mut request = Request::for_url("http://shop.test:8080/api?user=7").unwrap();
        request.connection.source = source.map(|source| source.parse().unwrap());
        let headers = headers.iter();
        request.headers = headers
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect();
        let told = explain(&snapshot(&balanced(by)), &[], &request, None);
        let mut settings = told.destinations[0].settings.iter();
        let found = settings.find(|one| one.name == "endpoint of key");
        found.expect("an endpoint of the key").value.clone()
    };
    let known = "10.0.0.1:80, while it is available";
    for by in ["{useSourceIp: true}", "{httpHeaderName: x-forwarded-for}"] {
        let unknown = endpoint(by, None, &[]);
        assert!(unknown.contains("`--source-ip`"), "{by}: {unknown}");
        assert_eq!(endpoint(by, Some("10.1.1.1"), &[]), known, "{by}");
    }
    let by_time = endpoint("{httpHeaderName: x-at}", None, &[("x-at", "noon")]);
    assert!(by_time.ends_with("by `%START_TIME%`"), "{by_time}");
    // What is made of other headers makes no difference.
    let by_header = "{httpHeaderName: x-user}";
    assert_eq!(endpoint(by_header, None, &[("x-user", "7")]), known);
    assert!(endpoint(by_header, None, &[]).contains("drawn"));
    assert_eq!(endpoint("{httpQueryParameterName: user}", None, &[]), known);
    let cookie = endpoint("{httpCookie: {name: user, ttl: 0s}}", None, &[]);
    assert!(cookie.contains("leads anywhere"), "{cookie}");
}
