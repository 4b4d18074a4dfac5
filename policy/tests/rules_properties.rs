//! Whatever stands in a document, also values of types that the table would refuse: the rules
//! never panic, and say the same when asked again.

use proptest::prelude::*;
use ringroad_policy::rules;
use ringroad_policy::schema::{Node, Report};
use ringroad_policy::source::SourceFile;
use ringroad_policy::validate::validate;
use ringroad_policy::yaml::{self, Document};
use serde_yaml::Value;

/// One document of each kind that uses most of its fields.
const DOCUMENTS: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, annotations: {istio.io/dry-run: "x"}}
spec:
  hosts: [a.example.com, "*.b.com"]
  gateways: [ns/edge, mesh, a.b.svc]
  exportTo: [".", b]
  http:
  - match: [{uri: {regex: "/a{2}[b-d]"}, headers: {x: {prefix: a}}, sourceLabels: {a: b}, port: 80}]
    route: [{destination: {host: b, subset: v1, port: {number: 80}}, weight: 1}, {destination: {host: c}, weight: 2}]
    headers: {request: {set: {x: "%REQ(a)%"}, remove: [b]}}
    rewrite: {uriRegexRewrite: {match: "(a)", rewrite: "b"}}
    retries: {attempts: 2, retryOn: "5xx,503"}
    fault: {abort: {httpStatus: 500, percentage: {value: 1}}, delay: {fixedDelay: 1s}}
    corsPolicy: {allowOrigins: [{regex: "a"}], allowMethods: [GET], maxAge: 1h}
    mirrors: [{destination: {host: d}, percentage: {value: 5}}]
  - redirect: {prefixRewrite: /b}
  - directResponse: {status: 200, body: {string: a}}
  tls: [{match: [{sniHosts: [outbound_.80_.v1_.a.b]}], route: [{destination: {host: b}}]}]
  tcp: [{match: [{destinationSubnets: [10.0.0.0/8]}], route: [{destination: {host: b}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a
  subsets: [{name: v1, labels: {a/b: c}}]
  trafficPolicy:
    connectionPool: {tcp: {maxConnections: 1}, http: {http2KeepAlive: {interval: 1s, timeout: 1s}}}
    outlierDetection: {maxEjectionPercent: 10}
    loadBalancer:
      consistentHash: {httpCookie: {name: a, attributes: [{name: b}]}, maglev: {tableSize: 7}}
      localityLbSetting: {distribute: [{from: "a/*", to: {a/b: 60, c/*: 40}}], failover: [{from: a, to: b}]}
      zoneAwareLbSetting: {failoverPriority: [a]}
      warmup: {duration: 1s, aggression: 1}
    tls: {mode: SIMPLE, credentialName: "configmap://a"}
    portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL}}]
    tunnel: {targetHost: a, targetPort: 1}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: a}
spec:
  servers:
  - port: {number: 443, name: a, protocol: HTTPS}
    hosts: [ns/a.com]
    bind: "unix:///a"
    tls: {mode: MUTUAL, cipherSuites: [ALL, x, x], minProtocolVersion: TLSV1_0, tlsCertificates: [{privateKey: a}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a, labels: {istio.io/use-waypoint: a}}
spec:
  hosts: [a.com, "*.b"]
  addresses: [10.0.0.0/8]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 1}]
  resolution: STATIC
  endpoints: [{address: "unix:///a", ports: {http: 1}, labels: {a: b}}]
  workloadSelector: {labels: {a: b}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: a}
spec: {metadata: {labels: {a: b}}, template: {}, probe: {httpGet: {port: 1, httpHeaders: [{name: a}]}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: a}
spec:
  ingress: [{port: {number: 1, protocol: TLS}, defaultEndpoint: "[::1]:1", tls: {mode: SIMPLE}, connectionPool: {http: {}}}]
  egress: [{port: {number: 0}, bind: "unix:///a", hosts: [./a.b, "*/*", "~a/*"]}]
  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a, port: {number: 1}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, annotations: {istio.io/dry-run: "true"}}
spec:
  action: CUSTOM
  provider: {name: a}
  targetRefs: [{kind: Service, name: a}]
  rules:
  - from: [{source: {principals: [a], ipBlocks: [1.2.3.4/5], serviceAccounts: [a/b], trustDomains: ["*a"]}}]
    to: [{operation: {paths: ["/{*}/{**}"], ports: ["1"]}}]
    when: [{key: "request.headers[a]", values: [b]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: a}
spec:
  jwtRules:
  - {issuer: a, jwksUri: "https://a@[::1]:1/b", jwks: '{"keys": [{"kty": "EC"}]}', outputClaimToHeaders: [{claim: a, header: b}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a}
spec: {selector: {matchLabels: {a: b}}, portLevelMtls: {80: {mode: STRICT}}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: a}
spec:
  tracing: [{providers: [{name: a}], customTags: {a: {literal: {value: b}}}}]
  metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT, value: b}}, match: {customMetric: a}}]}]
  accessLogging: [{filter: {expression: "a.b(['c'], {d: 1}) ? r'x' : -2u"}}]
"#;

fn documents() -> Vec<Document> {
    let (documents, problems) = yaml::parse(&[SourceFile {
        path: "a.yaml".to_string(),
        text: DOCUMENTS.to_string(),
    }]);
    assert_eq!(problems, []);
    documents
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Sequence(items) => items.iter().map(count).sum(),
        Value::Mapping(entries) => entries.values().map(count).sum(),
        _ => 0,
    }
}

/// The node that comes `at` nodes after this one, from top to bottom.
fn nth(value: &mut Value, at: usize) -> Option<&mut Value> {
    if at == 0 {
        return Some(value);
    }
    let mut left = at - 1;
    let children: Vec<&mut Value> = match value {
        Value::Sequence(items) => items.iter_mut().collect(),
        Value::Mapping(entries) => entries.values_mut().collect(),
        _ => return None,
    };
    for child in children {
        let size = count(child);
        if left < size {
            return nth(child, left);
        }
        left -= size;
    }
    None
}

fn replacement() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Number(number.into())),
        any::<f64>().prop_map(|number| Value::Number(number.into())),
        "[a-z*./:~%(){}\\[\\]\\\\?+\"'é@0-9-]{0,12}".prop_map(Value::String),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let pair = ("[a-z*/.]{0,6}".prop_map(Value::String), inner.clone());
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(Value::Sequence),
            prop::collection::vec(pair, 0..3)
                .prop_map(|entries| Value::Mapping(entries.into_iter().collect())),
        ]
    })
}

#[test]
fn the_documents_are_read_by_the_table() {
    let not_known: Vec<_> = validate(&documents())
        .into_iter()
        .filter(|found| ["unknown-kind", "unknown-field", "wrong-type"].contains(&found.code))
        .collect();
    assert_eq!(not_known, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn no_value_makes_the_rules_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), replacement()), 1..4),
    ) {
        let mut documents = documents();
        let mut document = documents.swap_remove(which.index(documents.len()));
        for (at, value) in changes {
            let at = at.index(count(&document.value));
            if let Some(node) = nth(&mut document.value, at) {
                *node = value;
            }
        }
        let check = || {
            let mut found = Vec::new();
            let mut report = Report::new(&document, &mut found);
            rules::check(&Node::root(&document.value), &mut report);
            found
        };
        prop_assert_eq!(check(), check());
        validate(std::slice::from_ref(&document));
    }

    #[test]
    fn no_text_makes_a_pattern_panic(pattern in "\\PC{0,24}") {
        // What is translated means something to the library, or is refused by it with a reason.
        if let Ok(translated) = ringroad_policy::re2::translate(&pattern) {
            let _ = regex_syntax::parse(&translated);
        }
    }
}
