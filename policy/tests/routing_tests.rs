//! Routing unit tests in the format of istio-config-validator.

mod support;

use ringroad_policy::diagnostic::Diagnostic;
use ringroad_policy::routing_tests::{Outcome, RequestOutcome, read, render_text, run};
use ringroad_policy::settings::Overrides;
use ringroad_policy::source::SourceFile;

fn file(path: &str, text: &str) -> Vec<SourceFile> {
    vec![SourceFile {
        path: path.to_string(),
        text: text.to_string(),
    }]
}

/// A part of somebody's configuration: neither the services nor the delegates are at hand.
const CONFIG: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: example, namespace: example}
spec:
  gateways: [mesh]
  hosts: [www.example.com, example.com]
  http:
  - match: [{uri: {prefix: /home}}]
    redirect: {uri: /, authority: www.example.com}
  - match: [{uri: {regex: '/users(/.*)?'}}]
    route:
    - destination: {host: users.users.svc.cluster.local, port: {number: 80}}
    headers: {request: {set: {x-custom-header: ok}}}
  - match: [{uri: {prefix: /partners}, method: {regex: GET|OPTIONS}}]
    route:
    - destination: {host: partner.partner.svc.cluster.local, port: {number: 8000}}
  - match: [{uri: {prefix: /reseller}, headers: {x-request-class: {exact: bot}}}]
    route:
    - destination: {host: partner}
    fault: {abort: {percentage: {value: 100}, httpStatus: 403}}
  - match: [{uri: {prefix: /reseller}}]
    route:
    - destination: {host: partner}
    rewrite: {uri: /partner}
    timeout: 5s
  - match: [{uri: {prefix: /split}}]
    route:
    - destination: {host: a.com}
      weight: 90
    - destination: {host: b.com}
      weight: 10
  - match: [{queryParams: {beta: {exact: '1'}}}]
    directResponse: {status: 418}
  - route:
    - destination: {host: monolith.monolith.svc.cluster.local}
";

fn run_on(config: &str, cases: &str) -> Outcome {
    let files = file("tests.yaml", cases);
    let (cases, found) = read(&files);
    assert_eq!(found, [], "the cases are right");
    run(
        &files,
        &cases,
        &file("config.yaml", config),
        &Overrides::default(),
    )
    .expect("accepted")
}

/// The outcome of one GET for a host and path with this expectation.
fn ask(config: &str, host: &str, uri: &str, want: bool, expected: &str) -> RequestOutcome {
    let cases = format!(
        "testCases:\n- description: x\n  wantMatch: {want}\n  \
         request: {{authority: [{host}], method: [GET], uri: ['{uri}']}}\n{expected}"
    );
    let mut outcome = run_on(config, &cases);
    outcome.cases.remove(0).requests.remove(0)
}

fn passes(uri: &str, expected: &str) -> bool {
    let matches = ask(CONFIG, "example.com", uri, true, expected).passed;
    let differs = ask(CONFIG, "example.com", uri, false, expected).passed;
    assert_ne!(matches, differs, "one of the two holds: {uri} {expected}");
    matches
}

#[test]
fn every_field_of_the_format_is_compared() {
    let users =
        "  route: [{destination: {host: users.users.svc.cluster.local, port: {number: 80}}}]\n";
    assert!(passes("/users", users));
    assert!(passes("/users/7", users));
    assert!(!passes("/usersx", users));
    let without_port = "  route: [{destination: {host: users.users.svc.cluster.local}}]\n";
    assert!(!passes("/users", without_port));
    assert!(passes(
        "/home",
        "  redirect: {uri: /, authority: www.example.com}\n"
    ));
    assert!(!passes("/home", "  redirect: {uri: /}\n"));
    assert!(passes("/reseller", "  rewrite: {uri: /partner}\n"));
    assert!(!passes("/reseller", "  rewrite: {uri: /partners}\n"));
    assert!(!passes("/users", "  rewrite: {uri: /partner}\n"));
    assert!(passes(
        "/users",
        "  headers: {request: {set: {x-custom-header: ok}}}\n"
    ));
    assert!(!passes(
        "/users",
        "  headers: {request: {set: {x-custom-header: no}}}\n"
    ));
    assert!(passes("/any?beta=1", "  directResponse: {status: 418}\n"));
    assert!(passes("/reseller", "  timeout: 5000ms\n"));
    let fault = "  fault: {abort: {percentage: {value: 100}, httpStatus: 403}}\n";
    let bot = format!(
        "testCases:\n- wantMatch: true\n  request:\n    authority: [example.com]\n    method: [PUT]\n    \
         uri: [/reseller]\n    headers: {{X-Request-Class: bot}}\n{fault}"
    );
    assert_eq!(run_on(CONFIG, &bot).failed, 0);
    assert!(!passes("/reseller", fault));
}

#[test]
fn values_are_compared_as_istio_understands_them() {
    // A short name is that of the VirtualService's namespace.
    let full = "  route: [{destination: {host: partner.example.svc.cluster.local}}]\n";
    assert!(passes("/reseller", full));
    assert!(!passes(
        "/reseller",
        "  route: [{destination: {host: partner.other.svc.cluster.local}}]\n"
    ));
    // The only destination gets everything, and the order of several decides nothing.
    assert!(passes(
        "/reseller",
        "  route: [{destination: {host: partner}, weight: 100}]\n"
    ));
    let swapped = "  route:\n  - {destination: {host: b.com}, weight: 10}\n  \
                   - {destination: {host: a.com}, weight: 90}\n";
    assert!(passes("/split", swapped));
    assert!(!passes("/split", &swapped.replace("90", "80")));
    // Weights are those that are written, as in istio-config-validator.
    let scaled = swapped.replace("10}", "1}").replace("90", "9");
    assert!(!passes("/split", &scaled), "{scaled}");
    assert!(passes(
        "/home",
        "  redirect: {uri: /, authority: www.example.com, redirectCode: 301}\n"
    ));
}

#[test]
fn all_combinations_are_asked_and_each_is_told() {
    let cases = "testCases:
- description: partners
  wantMatch: true
  request:
    authority: [example.com, www.example.com]
    method: [GET, PUT]
    uri: [/partners, /partners/1]
  route: [{destination: {host: partner.partner.svc.cluster.local, port: {number: 8000}}}]
---
testCases:
- description: no host
  wantMatch: false
  request: {authority: [other.com], method: [GET], uri: [/]}
";
    let outcome = run_on(CONFIG, cases);
    assert_eq!(
        (outcome.passed, outcome.failed, outcome.requests),
        (1, 1, 9)
    );
    let requests = &outcome.cases[0].requests;
    let failed: Vec<&RequestOutcome> = requests.iter().filter(|one| !one.passed).collect();
    assert_eq!(failed.len(), 4);
    assert!(failed.iter().all(|one| one.method == "PUT"));
    let first = failed[0];
    assert_eq!(
        first.comparisons[0].expected,
        "partner.partner.svc.cluster.local:8000"
    );
    assert_eq!(
        first.comparisons[0].came,
        "monolith.monolith.svc.cluster.local"
    );
    let taken = first.taken.as_ref().unwrap();
    assert_eq!(taken.virtual_service.as_deref(), Some("example/example"));
    assert_eq!(
        taken.written.as_ref().unwrap().to_string(),
        "config.yaml:34:5"
    );
    let hint = first.hint.as_deref().unwrap();
    assert!(
        hint.contains("config.yaml:14:5") && hint.contains("`:method` with `PUT`"),
        "{hint}"
    );
    let text = render_text(&outcome, false);
    for part in [
        "tests.yaml\n",
        "  FAIL  partners  (4 of 8 requests)\n",
        "        PUT example.com/partners\n",
        "          took      route of VirtualService example/example, config.yaml:34:5\n",
        "            expected  partner.partner.svc.cluster.local:8000\n",
        "            came      monolith.monolith.svc.cluster.local\n",
        "        and 1 more\n",
        "  ok    no host\n",
        "1 case passed, 1 failed (9 requests)\n",
    ] {
        assert!(text.contains(part), "{part} not in\n{text}");
    }
}

#[test]
fn a_case_without_expectation_asks_whether_anything_takes_it() {
    assert!(ask(CONFIG, "example.com", "/", true, "").passed);
    assert!(!ask(CONFIG, "example.com", "/", false, "").passed);
    let other = ask(CONFIG, "other.com", "/", true, "");
    assert!(!other.passed);
    assert!(other.reason.unwrap().contains("has this host"));
}

/// A VirtualService of a gateway that is not at hand, and one of a gateway that is.
const GATEWAYS: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: any}
spec:
  hosts: ['*']
  gateways: [edge]
  http: [{directResponse: {status: 201}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.com]
  gateways: [infra/public]
  http: [{directResponse: {status: 202}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: inside, namespace: far}
spec:
  hosts: [cart]
  http: [{directResponse: {status: 203}}]
";

#[test]
fn the_listener_that_knows_the_host_best_is_asked() {
    let status = |host: &str, status: u16| {
        let expected = format!("  directResponse: {{status: {status}}}\n");
        ask(GATEWAYS, host, "/", true, &expected).passed
    };
    assert!(status("shop.com", 202));
    assert!(status("shop.com:443", 202));
    assert!(status("other.com", 201));
    // Not the mesh: where there are Gateways, the process is a gateway.
    assert!(status("cart", 201));
    let to = |host: &str, more: &str, status: u16| {
        let cases = format!(
            "testCases:\n- wantMatch: true\n  \
             request: {{authority: [{host}], method: [GET], uri: [/], {more}}}\n  \
             directResponse: {{status: {status}}}\n"
        );
        run_on(GATEWAYS, &cases).failed == 0
    };
    assert!(to("cart", "gateway: mesh", 203));
    assert!(to("cart.far.svc.cluster.local", "gateway: mesh", 203));
    let at = |more: &str, status: u16| to("shop.com", more, status);
    assert!(at("gateway: default/edge", 201));
    assert!(at("port: 8080", 201));
    assert!(at("gateway: infra/public", 202));
    assert!(!at("gateway: mesh", 202));
}

/// What would run is a gateway, which has no route of a VirtualService for the mesh.
#[test]
fn a_virtual_service_for_the_mesh_takes_nothing_at_a_gateway() {
    let expected = "  directResponse: {status: 203}\n";
    let (edge, others) = GATEWAYS.split_once("---\n").unwrap();
    let inside = others.rsplit_once("---\n").unwrap().1;
    let gateway = format!("{edge}---\n{inside}");
    let host = "cart.far.svc.cluster.local";
    let outcome = ask(&gateway, host, "/", true, expected);
    assert!(!outcome.passed);
    let reason = outcome.reason.unwrap();
    assert!(reason.contains("404 NR"), "{reason}");
    assert!(reason.contains("write `gateways:`"), "{reason}");
    assert!(ask(&gateway, host, "/", false, "").passed);
    // Without the Gateway nobody knows what runs, and the mesh is asked.
    assert!(ask(inside, host, "/", true, expected).passed);
    let role = |role: &str| {
        format!(
            "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\n\
             metadata: {{name: own}}\nspec: {{role: {role}}}\n"
        )
    };
    let asked = |role: String| ask(&format!("{gateway}{role}"), host, "/", true, expected);
    assert!(asked(role("sidecar")).passed);
    assert!(!asked(role("gateway")).passed);
    let outside = GATEWAYS.replace("metadata: {name: any}", "metadata: {name: all}");
    let outside = format!("{outside}{}", role("sidecar"));
    let outcome = ask(
        &outside,
        "shop.com",
        "/",
        true,
        "  directResponse: {status: 202}\n",
    );
    let reason = outcome.reason.unwrap();
    assert!(reason.contains("`gateways: [mesh]`"), "{reason}");
}

#[test]
fn services_without_a_virtual_service_are_tested_too() {
    let config = support::sidecar("default") + &support::service("a.com", 9080, 1);
    let to = |host: &str| {
        format!("  route: [{{destination: {{host: {host}, port: {{number: 9080}}}}}}]\n")
    };
    assert!(ask(&config, "a.com", "/", true, &to("a.com")).passed);
    assert!(!ask(&config, "a.com", "/", true, &to("b.com")).passed);
    // No VirtualService takes it.
    assert!(ask(&config, "a.com", "/", false, "").passed);
}

fn findings(cases: &str) -> Vec<Diagnostic> {
    read(&file("tests.yaml", cases)).1
}

#[test]
fn what_cannot_be_a_test_is_refused_where_it_stands() {
    let request = "request: {authority: [a.com], method: [GET], uri: [/]}";
    let case = |fields: &str| format!("testCases:\n- {{wantMatch: true, {fields}}}\n");
    assert_eq!(findings(&case(request)), []);
    for broken in [
        case("description: x"),
        case("request: {authority: [], method: [GET], uri: [/]}"),
        case("request: {authority: a.com, method: [GET], uri: [/]}"),
        case("request: {authority: [a.com], method: [GET], uri: [cart]}"),
        case("request: {authority: [a.com], method: [GET], uri: [/], headers: {x: 1}}"),
        case(&format!("{request}, rout: []")),
        case(&format!("{request}, route: [{{destination: {{hots: a}}}}]")),
        case(&format!("{request}, redirect: {{uri: 7}}")),
        "testCases: {}\n".to_string(),
        "tests: []\n".to_string(),
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n".to_string(),
    ] {
        let found = findings(&broken);
        assert!(!found.is_empty(), "{broken}");
        for one in found {
            assert!(one.help.is_some(), "{one:?}");
        }
    }
    let silent = findings(&format!("testCases:\n- {{{request}}}\n"));
    assert_eq!(
        silent.len(),
        1,
        "no `wantMatch` means false, which is said: {silent:?}"
    );
}

#[test]
fn a_refused_configuration_is_told_as_such() {
    let files = file("t.yaml", "testCases: []\n");
    let refused = run(
        &files,
        &[],
        &file("c.yaml", "kind: [\n"),
        &Overrides::default(),
    );
    assert!(!refused.expect_err("refused").is_empty());
}

/// A VirtualService that delegates, its delegates and one that somebody else holds.
const DELEGATES: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root, namespace: example}
spec:
  hosts: [example.org]
  http:
  - match: [{uri: {regex: '/merchants(/.*)?'}}]
    delegate: {name: merchants}
    headers: {request: {set: {x-from: root}}}
  - match: [{uri: {prefix: /seller}}]
    delegate: {name: seller, namespace: sellers}
  - match: [{uri: {prefix: /gone}}]
    delegate: {name: gone}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: merchants, namespace: example}
spec:
  http:
  - route: [{destination: {host: merchants.com}}]
    rewrite: {uri: /m}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: gone, namespace: example}
spec:
  http:
  - redirect: {uri: /elsewhere}
";

#[test]
fn delegates_are_followed_and_may_be_expected() {
    let passes = |uri: &str, expected: &str| ask(DELEGATES, "example.org", uri, true, expected);
    let route = "  route: [{destination: {host: merchants.com}}]\n";
    let all = format!(
        "{route}  rewrite: {{uri: /m}}\n  headers: {{request: {{set: {{x-from: root}}}}}}\n  \
         delegate: {{name: merchants}}\n"
    );
    let merchants = passes("/merchants/1", &all);
    assert!(merchants.passed, "{merchants:?}");
    let taken = merchants.taken.unwrap();
    assert_eq!(taken.virtual_service.as_deref(), Some("example/merchants"));
    assert_eq!(taken.written.unwrap().line, 20);
    // The delegate of another team need not be at hand.
    assert!(
        passes(
            "/seller",
            "  delegate: {name: seller, namespace: sellers}\n"
        )
        .passed
    );
    assert!(!passes("/seller", "  delegate: {name: seller}\n").passed);
    assert!(!passes("/seller", route).passed);
    assert!(
        passes(
            "/gone",
            "  redirect: {uri: /elsewhere}\n  delegate: {name: gone}\n"
        )
        .passed
    );
}

#[test]
fn a_rule_that_no_request_reaches_is_pointed_to() {
    let config = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.com]
  http:
  - route: [{destination: {host: a.com}}]
  - match: [{uri: {prefix: /api}}]
    route: [{destination: {host: api.com}}]
";
    let expected = "  route: [{destination: {host: api.com}}]\n";
    let outcome = ask(config, "shop.com", "/api", true, expected);
    let hint = outcome.hint.unwrap();
    assert!(
        hint.contains("config.yaml:8:5") && hint.contains("no request gets there"),
        "{hint}"
    );
}

#[test]
fn a_host_that_only_its_gateway_lacks_is_told_as_such() {
    let config = GATEWAYS.replace("hosts: ['*']\n---", "hosts: [shop.com]\n---");
    let config = config.replace(
        "hosts: ['*']\n  gateways: [edge]",
        "hosts: [web.com]\n  gateways: [edge]",
    );
    let reason = ask(&config, "web.com", "/", true, "").reason.unwrap();
    assert!(
        reason.starts_with("VirtualService default/any has this host, but nothing listens"),
        "{reason}"
    );
}
