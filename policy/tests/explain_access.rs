//! Who a request comes from and whether it may pass, retold with the rule that decides.

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use ringroad_policy::explain::{Explanation, Request, explain};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::{DnsTable, PeerIdentity};
use ringroad_policy::source::SourceFile;
use serde_json::json;
use tokens::Signer;

const NOW: u64 = 1_800_000_000;

const EDGE: &str = "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all}
spec:
  hosts: ['*']
  gateways: [edge]
  http:
  - name: admins
    match: [{headers: {'@request.auth.claims.group': {exact: admin}}}]
    directResponse: {status: 202}
  - name: others
    directResponse: {status: 200}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: judge}
spec:
  hosts: [judge.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: ringroad.dev/v1alpha1
kind: ProxySettings
metadata: {name: p}
spec:
  extensionProviders: [{name: judge, envoyExtAuthzHttp: {service: judge.test, port: 80}}]
";

const POLICIES: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: [/admin]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: known}
spec:
  rules:
  - from: [{source: {ipBlocks: [10.0.0.0/8]}}]
  - from: [{source: {principals: [cluster.local/ns/shop/sa/cart]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, annotations: {istio.io/dry-run: 'true'}}
spec:
  action: DENY
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: asked}
spec:
  action: CUSTOM
  provider: {name: judge}
  rules: [{to: [{operation: {paths: [/asked]}}]}]
";

fn told(policies: &str, url: &str, change: impl FnOnce(&mut Request)) -> Explanation {
    let files = [("edge.yaml", EDGE), ("policies.yaml", policies)].map(|(path, text)| SourceFile {
        path: path.to_string(),
        text: text.to_string(),
    });
    let loaded = ringroad_policy::load(&files, &Overrides::default(), &DnsTable::default());
    let snapshot = loaded.snapshot.expect("a configuration without errors");
    let mut request = Request::for_url(url).expect("a URL");
    request.now_unix_s = Some(NOW);
    change(&mut request);
    explain(&snapshot, &files, &request, None)
}

fn from(ip: &str) -> impl FnOnce(&mut Request) {
    let ip = ip.parse().expect("an address");
    move |request| request.connection.source = Some(ip)
}

/// The one word of an action.
fn word(told: &Explanation, asked: &str) -> (String, String) {
    let mut words = told.access.iter().filter(|word| word.asked == asked);
    let word = words
        .next()
        .unwrap_or_else(|| panic!("{asked}: {:?}", told.access));
    assert!(words.next().is_none(), "{:?}", told.access);
    let place = word.written.as_ref().map(ToString::to_string);
    (word.outcome.clone(), place.unwrap_or_default())
}

#[test]
fn the_rule_that_allows_or_denies_is_named_with_its_place() {
    let allowed = told(POLICIES, "http://shop:8080/", from("10.1.2.3"));
    let (outcome, place) = word(&allowed, "ALLOW");
    assert_eq!(outcome, "allowed by ns[default]-policy[known]-rule[0]");
    assert_eq!(place, "policies.yaml:14:5");
    assert_eq!(word(&allowed, "DENY").0, "no rule matches");
    let (trial, place) = word(&allowed, "DENY (dry-run)");
    assert!(
        trial.starts_with("would deny it, by ns[default]-policy[tried]"),
        "{trial}"
    );
    assert_eq!(place, "policies.yaml:22:11");
    assert_eq!(allowed.answer.expect("an answer").status, 200);

    let by_identity = told(POLICIES, "http://shop:8080/", |request| {
        let id = "spiffe://cluster.local/ns/shop/sa/cart";
        request.connection.identity = PeerIdentity::from_spiffe(id);
    });
    assert!(
        word(&by_identity, "ALLOW")
            .0
            .ends_with("policy[known]-rule[1]")
    );

    let denied = told(POLICIES, "http://shop:8080/x/../admin", from("10.1.2.3"));
    assert_eq!(
        word(&denied, "DENY"),
        (
            "denied by ns[default]-policy[no-admin]-rule[0]".to_string(),
            "policies.yaml:7:5".to_string()
        )
    );
    let answer = denied.answer.expect("an answer");
    assert_eq!(answer.status, 403);
    assert!(
        answer.reason.contains("policy[no-admin]-rule[0]"),
        "{}",
        answer.reason
    );
    assert_eq!(answer.written.map(|at| at.line), Some(7));
    assert_eq!(
        denied.route.as_deref(),
        Some("others"),
        "the route is told all the same"
    );

    let unknown = told(POLICIES, "http://shop:8080/", from("192.168.0.1"));
    assert_eq!(
        word(&unknown, "ALLOW").0,
        "denied: none of the 2 rules of ALLOW policies matches"
    );
    assert!(unknown.answer.expect("an answer").reason.contains("[none]"));
    let asked = told(POLICIES, "http://shop:8080/asked", from("10.1.2.3"));
    let (outcome, place) = word(&asked, "CUSTOM");
    assert!(
        outcome.starts_with("provider `judge` is asked, at outbound|80||judge.test"),
        "{outcome}"
    );
    assert_eq!(place, "policies.yaml:30:11");
    let text = asked.to_text();
    assert!(
        text.contains("ALLOW") && text.contains("(policies.yaml:14:5)"),
        "{text}"
    );
}

#[test]
fn headers_are_judged_as_the_gateway_makes_them() {
    let policies = r#"apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tls-only}
spec:
  action: DENY
  rules:
  - when: [{key: "request.headers[x-forwarded-proto]", values: [http]}]
"#;
    let asked = |proto: Option<&str>| {
        let told = told(policies, "http://shop:8080/", |request| {
            let header = proto.map(|proto| ("X-Forwarded-Proto".to_string(), proto.to_string()));
            request.headers.extend(header);
        });
        word(&told, "DENY").0
    };
    for said in [None, Some("https")] {
        let denied = "denied by ns[default]-policy[tls-only]-rule[0]";
        assert_eq!(asked(said), denied, "{said:?}");
    }
}

#[test]
fn without_a_time_nobody_is_asked() {
    let told = told(POLICIES, "http://shop:8080/admin", |request| {
        request.now_unix_s = None
    });
    assert!(told.access.is_empty());
    assert_eq!(told.answer.map(|answer| answer.status), Some(200));
}

#[test]
fn tokens_count_for_policies_and_routes() {
    let signer = Signer::ec_p256("a");
    let document = |kind: &str, spec: serde_json::Value| {
        let document = json!({
            "apiVersion": "security.istio.io/v1", "kind": kind, "metadata": {"name": "t"},
            "spec": spec,
        });
        format!("---\n{document}\n")
    };
    let policies = document(
        "RequestAuthentication",
        json!({"jwtRules": [{"issuer": "shop", "jwks": signer.key_set()}]}),
    ) + &document(
        "AuthorizationPolicy",
        json!({"rules": [{"from": [{"source": {"requestPrincipals": ["shop/*"]}}]}]}),
    );
    let with_token = |expiry: u64| {
        let claims = json!({"iss": "shop", "sub": "ann", "group": "admin", "exp": expiry});
        let token = signer.sign(&claims);
        told(&policies, "http://shop:8080/", move |request| {
            let value = format!("Bearer {token}");
            request.headers.push(("authorization".to_string(), value));
        })
    };
    let valid = with_token(NOW + 60);
    assert_eq!(word(&valid, "token").0, "valid, of `shop/ann`");
    assert!(word(&valid, "ALLOW").0.starts_with("allowed by"));
    assert_eq!(valid.route.as_deref(), Some("admins"));
    let expired = with_token(NOW - 3_600);
    assert_eq!(word(&expired, "token").0, "refused: Jwt is expired");
    assert_eq!(expired.answer.map(|answer| answer.status), Some(401));
    let missing = told(&policies, "http://shop:8080/", |_| {});
    assert!(word(&missing, "token").0.starts_with("there is none"));
    assert_eq!(
        word(&missing, "ALLOW").0,
        "denied: the one rule of the ALLOW policies does not match"
    );
}
