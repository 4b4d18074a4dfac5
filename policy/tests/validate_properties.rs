//! Whatever stands in a document: no panic, and every place that is named is there or could be.

use proptest::prelude::*;
use ringroad_policy::diagnostic::{Place, Severity};
use ringroad_policy::source::SourceFile;
use ringroad_policy::validate::validate;
use ringroad_policy::yaml::{self, Document, Mapping, Value};

const KINDS: [(&str, &str); 16] = [
    ("networking.istio.io/v1", "VirtualService"),
    ("networking.istio.io/v1", "DestinationRule"),
    ("networking.istio.io/v1", "Gateway"),
    ("networking.istio.io/v1", "ServiceEntry"),
    ("networking.istio.io/v1", "WorkloadEntry"),
    ("networking.istio.io/v1", "WorkloadGroup"),
    ("networking.istio.io/v1", "Sidecar"),
    ("networking.istio.io/v1beta1", "ProxyConfig"),
    ("security.istio.io/v1", "PeerAuthentication"),
    ("security.istio.io/v1", "AuthorizationPolicy"),
    ("security.istio.io/v1", "RequestAuthentication"),
    ("telemetry.istio.io/v1", "Telemetry"),
    ("v1", "Service"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    ("ringroad.dev/v1alpha1", "ProxySettings"),
    ("v1", "Secret"),
];

/// Documents that validation passes, to be spoilt in one place.
const GOOD: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a.example.com, '*.example.org']
  gateways: [ns/edge]
  http:
  - match: [{uri: {regex: '/a{1,2}'}, headers: {x: {prefix: y}, '@request.auth.claims.a': {exact: b}}, port: 80}]
    rewrite: {uriRegexRewrite: {match: a, rewrite: b}}
    headers: {request: {set: {x: '%REQ(y)%'}}, response: {remove: [z]}}
    retries: {attempts: 1, retryOn: '5xx,429'}
    fault: {abort: {httpStatus: 500, percentage: {value: 1.5}}}
    corsPolicy: {allowOrigins: [{exact: a}], allowMethods: [GET], maxAge: 1s}
    timeout: 1s
    route:
    - {destination: {host: b.example.com, subset: v1, port: {number: 80}}, weight: 1}
    - {destination: {host: b.example.com}, weight: 99}
  tls: [{match: [{sniHosts: [a.example.com]}], route: [{destination: {host: b.example.com}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a.example.com
  exportTo: [.]
  trafficPolicy:
    loadBalancer: {consistentHash: {httpCookie: {name: a, ttl: 0s}, maglev: {tableSize: 65537}}}
    connectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s}, http: {http2KeepAlive: {interval: 1s, timeout: 1s}}}
    outlierDetection: {maxEjectionPercent: 50}
    portLevelSettings: [{port: {number: 80}, tls: {mode: SIMPLE, caCertificates: a}}]
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a/b/*, to: {a/b/*: 80, c: 20}}]}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: a}
spec:
  selector: {a: b}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [ns/a.example.com], tls: {httpsRedirect: true}}
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: MUTUAL, serverCertificate: a, privateKey: b, caCertificates: c, cipherSuites: [AES128-SHA]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec:
  hosts: [a.example.com]
  addresses: [10.0.0.0/8]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1, ports: {http: 81}, labels: {a: b}, weight: 2}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: a}
spec:
  workloadSelector: {labels: {a: b}}
  ingress: [{port: {number: 80, name: http, protocol: HTTPS}, defaultEndpoint: '127.0.0.1:80', tls: {mode: SIMPLE, serverCertificate: a, privateKey: b}}]
  egress: [{port: {number: 81, protocol: HTTP}, hosts: ['./*', '~x/a.b']}, {hosts: ['*/a.b']}]
  outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: a.b, port: {number: 80}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a, annotations: {istio.io/dry-run: 'true'}}
spec:
  selector: {matchLabels: {a: b}}
  action: DENY
  rules:
  - from: [{source: {principals: [a], ipBlocks: [10.0.0.0/8], remoteIpBlocks: ['::1']}}]
    to: [{operation: {ports: ['80'], paths: ['/a/{*}/{**}'], methods: [GET]}}]
    when: [{key: 'request.headers[a]', values: [b]}, {key: source.serviceAccount, notValues: [a/b]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: a}
spec:
  jwtRules:
  - {issuer: a, jwksUri: 'https://a/b', jwks: '{\"keys\":[]}', fromHeaders: [{name: a}], outputClaimToHeaders: [{header: a, claim: b}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: a}
spec:
  metrics: [{providers: [{name: a}], overrides: [{match: {metric: ALL_METRICS}, tagOverrides: {a: {value: b}}}]}]
  accessLogging: [{filter: {expression: 'response.code >= 400'}}]
  tracing: [{customTags: {a: {literal: {value: b}}}, randomSamplingPercentage: 5}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: a}
spec:
  metadata: {labels: {a: b}}
  template: {serviceAccount: a, ports: {http: 80}}
  probe: {httpGet: {port: 80, httpHeaders: [{name: a, value: b}]}}
";

fn parse(text: &str) -> Vec<Document> {
    let files = [SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }];
    let (documents, unreadable) = yaml::parse(&files);
    assert_eq!(unreadable, []);
    documents
}

/// Field names and values that mean something to one check or another.
const WORDS: [&str; 48] = [
    "",
    "*",
    "a",
    "a.b",
    "*.a.b",
    "*a.b",
    "a_b",
    "10.0.0.1",
    "10.0.0.0/8",
    "::1",
    "unix:///a",
    "unix://",
    "-",
    "%",
    "100%%",
    "%REQ(",
    "ns/a",
    "/",
    "~/a.b",
    "{**}",
    "(",
    "é",
    "{",
    "0",
    "80",
    "5xx,",
    "mesh",
    "spec",
    "http",
    "match",
    "route",
    "hosts",
    "host",
    "destination",
    "port",
    "number",
    "headers",
    "regex",
    "uri",
    "tls",
    "mode",
    "rules",
    "from",
    "source",
    "when",
    "key",
    "request.headers[",
    "@request.auth.claims",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| Value::Number(number.into())),
        any::<u64>().prop_map(|number| Value::Number(number.into())),
        any::<f64>().prop_map(|number| Value::Number(number.into())),
        prop::sample::select(&WORDS[..]).prop_map(|word| Value::String(word.to_string())),
        "[ -~é\u{0}\n]{0,12}".prop_map(Value::String),
        Just(Value::String("é".repeat(2_000))),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(6, 60, 6, |inner| {
        let name = prop::sample::select(&WORDS[..]).prop_map(|word| Value::String(word.into()));
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Sequence),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|entries| Value::Mapping(entries.into_iter().collect::<Mapping>())),
        ]
    })
}

/// Where to go down, and what to write there; nothing removes what is there.
#[derive(Debug, Clone)]
struct Spoil {
    document: prop::sample::Index,
    steps: Vec<prop::sample::Index>,
    value: Option<Value>,
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let steps = prop::collection::vec(any::<prop::sample::Index>(), 1..8);
    let value = prop::option::weighted(0.8, value());
    (any::<prop::sample::Index>(), steps, value).prop_map(|(document, steps, value)| Spoil {
        document,
        steps,
        value,
    })
}

impl Spoil {
    fn apply(&self, documents: &mut [Document]) {
        let at = self.document.index(documents.len());
        let spec = documents[at].value.get_mut("spec").unwrap();
        spoil_below(spec, &self.steps, self.value.as_ref());
    }
}

/// Goes down as far as there are steps and something to go down to.
fn spoil_below(here: &mut Value, steps: &[prop::sample::Index], value: Option<&Value>) {
    let inner = match (steps, &mut *here) {
        ([step, ..], Value::Mapping(entries)) if !entries.is_empty() => {
            let at = step.index(entries.len());
            if steps.len() == 1 && value.is_none() {
                let key = entries.keys().nth(at).unwrap().clone();
                entries.remove(&key);
                return;
            }
            entries.values_mut().nth(at)
        }
        ([step, ..], Value::Sequence(items)) if !items.is_empty() => {
            let at = step.index(items.len());
            if steps.len() == 1 && value.is_none() {
                items.remove(at);
                return;
            }
            items.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) => spoil_below(inner, &steps[1..], value),
        None => *here = value.cloned().unwrap_or(Value::Null),
    }
}

fn check(documents: &[Document]) {
    for diagnostic in validate(documents) {
        let is_placed = matches!(diagnostic.place, Place::Field(_) | Place::Key(_));
        assert!(is_placed, "{diagnostic:?}");
        assert!(!diagnostic.message.is_empty(), "{diagnostic:?}");
        assert!(diagnostic.help.is_some(), "{diagnostic:?}");
    }
}

#[test]
fn the_documents_that_are_spoilt_are_good() {
    let documents = parse(GOOD);
    let mut errors = validate(&documents);
    errors.retain(|diagnostic| diagnostic.severity == Severity::Error);
    assert_eq!(errors, []);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3_000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_value_as_a_spec_is_judged_without_a_panic(
        kind in prop::sample::select(&KINDS[..]),
        spec in value(),
    ) {
        let (api_version, kind) = kind;
        let head = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n");
        let mut documents = parse(&head);
        if let Value::Mapping(entries) = &mut documents[0].value {
            match (kind, spec) {
                ("EndpointSlice" | "Secret", Value::Mapping(fields)) => entries.extend(fields),
                (_, spec) => {
                    entries.insert("spec".into(), spec);
                }
            }
        }
        check(&documents);
    }

    #[test]
    fn good_documents_with_one_or_two_bad_places_are_judged_without_a_panic(
        spoils in prop::collection::vec(spoil(), 1..3),
    ) {
        let mut documents = parse(GOOD);
        for spoil in &spoils {
            spoil.apply(&mut documents);
        }
        check(&documents);
    }
}
