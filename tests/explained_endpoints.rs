//! The endpoint that `explain` names for a key is the one that the running proxy takes, whatever
//! the route makes of the request first.

mod harness;

use harness::{Client, Proxy, Upstream, folder, free_address, gateway, ringroad, settings};
use socket2::{Domain, Socket, Type};
use std::collections::{BTreeSet, HashSet};
use std::net::{Ipv4Addr, SocketAddr};

/// How a cluster hashes, and what the route does before.
struct Case {
    host: &'static str,
    /// `consistentHash`.
    by: &'static str,
    /// Of the route.
    changes: &'static str,
    /// Of the destination.
    own_changes: &'static str,
}

const fn case(host: &'static str, by: &'static str, changes: &'static str) -> Case {
    let own_changes = "";
    Case {
        host,
        by,
        changes,
        own_changes,
    }
}

const X_KEY: &str = "{httpHeaderName: X-Key}";

/// Keys that follow from what the client sends.
const TOLD: &[Case] = &[
    case("came", X_KEY, ""),
    case("path", "{httpHeaderName: ':path'}", ""),
    case(
        "prefix",
        "{httpHeaderName: ':path'}",
        "rewrite: {uri: /elsewhere/}",
    ),
    case(
        "regex",
        "{httpHeaderName: ':path'}",
        r"rewrite: {uriRegexRewrite: {match: '^/(\w)\w*/(.*)$', rewrite: '/\2/\1'}}",
    ),
    case("method", "{httpHeaderName: ':method'}", ""),
    case("scheme", "{httpHeaderName: ':scheme'}", ""),
    case("host", "{httpHeaderName: Host}", ""),
    case(
        "authority",
        "{httpHeaderName: ':authority'}",
        "headers: {request: {set: {':authority': other.test}}}",
    ),
    case(
        "moved",
        "{httpHeaderName: host}",
        "rewrite: {authority: 'moved.test:81'}",
    ),
    case(
        "set",
        X_KEY,
        "headers: {request: {set: {x-key: 'k-%REQ(x-user)%'}}}",
    ),
    case(
        "absent",
        X_KEY,
        "headers: {request: {set: {x-key: '%REQ(x-nobody?X-User)%'}}}",
    ),
    case(
        "nothing",
        X_KEY,
        "headers: {request: {set: {x-key: '%REQ(x-nobody)%'}}}",
    ),
    case(
        "beside",
        X_KEY,
        "headers: {request: {add: {x-key: 'b%QUERY_PARAM(user)%'}}}",
    ),
    case(
        "target",
        X_KEY,
        "rewrite: {uri: /new}\n    headers: {request: {set: {x-key: '%REQ(:path)% %PATH(NQ)%'}}}",
    ),
    case(
        "client",
        X_KEY,
        "headers: {request: {set: {x-key: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%'}}}",
    ),
    case(
        "forwarded",
        "{httpHeaderName: X-Forwarded-For}",
        "headers: {request: {add: {x-forwarded-for: '%DOWNSTREAM_LOCAL_PORT%'}}}",
    ),
    case(
        "constant",
        X_KEY,
        "name: known\n    headers: {request: {set: {x-key: '%ROUTE_NAME% %UPSTREAM_CLUSTER% \
         %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_HOST%'}}}",
    ),
    case(
        "cookie",
        "{httpCookie: {name: user, ttl: 0s}}",
        "headers: {request: {set: {cookie: 'a=b; user=%REQ(x-user)%'}}}",
    ),
    case("address", "{useSourceIp: true}", "timeout: 9s"),
    case(
        "query",
        "{httpQueryParameterName: user}",
        "rewrite: {uri: /}",
    ),
    Case {
        host: "levels",
        by: X_KEY,
        changes: "headers: {request: {set: {x-key: 'r%REQ(x-user)%'}}}",
        own_changes: "headers: {request: {set: {x-key: 'd%REQ(x-user)%'}, remove: [x-user]}}",
    },
    Case {
        host: "taken",
        by: X_KEY,
        changes: "headers: {request: {add: {x-key: 'r%REQ(x-user)%'}}}",
        own_changes: "headers: {request: {remove: [x-key]}}",
    },
];

/// Keys that only the running proxy knows.
const UNTOLD: &[(&str, Case)] = &[
    (
        "x-request-id",
        case("id", "{httpHeaderName: X-Request-Id}", ""),
    ),
    (
        "%START_TIME%",
        case(
            "time",
            X_KEY,
            "headers: {request: {set: {x-key: '%START_TIME(%s)%'}}}",
        ),
    ),
    (
        "%HOSTNAME%",
        case(
            "name",
            X_KEY,
            "headers: {request: {add: {x-key: 'at %HOSTNAME%'}}}",
        ),
    ),
    (
        "%DOWNSTREAM_REMOTE_PORT%",
        case(
            "port",
            X_KEY,
            "headers: {request: {set: {x-key: '%DOWNSTREAM_REMOTE_PORT%'}}}",
        ),
    ),
    (
        "x-request-id",
        case(
            "copied",
            X_KEY,
            "headers: {request: {set: {x-key: '%REQ(x-request-id)%'}}}",
        ),
    ),
];

fn rules(case: &Case, upstreams: &[Upstream]) -> String {
    let Case {
        host,
        by,
        changes,
        own_changes,
    } = case;
    let mut endpoints = String::new();
    for upstream in upstreams {
        let (ip, port) = (upstream.address.ip(), upstream.address.port());
        endpoints += &format!("  - {{address: {ip}, ports: {{http: {port}}}}}\n");
    }
    let mut destination = format!("destination: {{host: {host}.test}}");
    let mut second = String::new();
    if !own_changes.is_empty() {
        // Changes of an only destination would be the route's.
        destination += &format!(", {own_changes}, weight: 1");
        second = format!("    - {{{destination}}}\n");
    }
    let matched = "match: [{uri: {prefix: /}}]";
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {host}}}\n\
         spec:\n  hosts: [{host}.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n{endpoints}\
         ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {host}}}\nspec:\n  host: {host}.test\n  \
         trafficPolicy: {{loadBalancer: {{consistentHash: {by}}}}}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {host}}}\nspec:\n  hosts: ['*.{host}.test']\n  gateways: [gate]\n  \
         http:\n  - {matched}\n    {changes}\n    route:\n    - {{{destination}}}\n{second}"
    )
}

/// What a client says.
struct Asked {
    source: Ipv4Addr,
    method: &'static str,
    authority: String,
    target: String,
    headers: Vec<String>,
}

impl Asked {
    /// Each client differs from each other in everything that may be hashed.
    fn by_client(number: u8, case: &Case, port: u16) -> Self {
        let host = case.host;
        let methods = ["GET", "PUT", "DELETE", "OPTIONS"];
        Self {
            source: Ipv4Addr::new(127, 0, 0, 10 + number),
            method: methods[usize::from(number) % methods.len()],
            authority: format!("u{number}.{host}.test:{port}"),
            target: format!("/user{number}/./page%2D{number}?user={number}"),
            headers: vec![
                format!("x-user: user{number}"),
                format!("X-Key: key{number}"),
                format!("cookie: user=c{number}"),
                format!("x-forwarded-for: 10.1.1.{number}"),
            ],
        }
    }

    /// The name of the upstream that answers.
    fn answered_by(&self, address: SocketAddr) -> String {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let from = SocketAddr::from((self.source, 0));
        socket.bind(&from.into()).expect("is bound");
        socket.connect(&address.into()).expect("connects");
        let mut client = Client::over(socket.into());
        let (method, target, host) = (self.method, &self.target, &self.authority);
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
        for header in &self.headers {
            head += &format!("{header}\r\n");
        }
        client.write(format!("{head}\r\n").as_bytes());
        client.answer().expect("an answer").body
    }

    /// What `explain` says of the endpoint, the same for each destination.
    fn explained(&self, config: &str) -> String {
        let url = format!("http://{}{}", self.authority, self.target);
        let source = self.source.to_string();
        let mut args = vec!["explain", config, "--format", "json", "--url", &url];
        args.extend(["--source-ip", &source, "--method", self.method]);
        for header in &self.headers {
            args.extend(["--header", header]);
        }
        let output = ringroad(&args);
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let destinations = found["destinations"].as_array().expect("destinations");
        let told = destinations.iter().map(|destination| {
            let mut settings = destination["settings"].as_array().expect("settings").iter();
            let found = settings.find(|setting| setting["name"] == "endpoint of key");
            let value = found.and_then(|setting| setting["value"].as_str());
            value
                .unwrap_or_else(|| panic!("{url}: {destination}"))
                .to_string()
        });
        let told: BTreeSet<String> = told.collect();
        assert_eq!(told.len(), 1, "{url}: {told:?}");
        told.into_iter().next().expect("is one")
    }
}

#[test]
fn the_endpoint_that_is_told_is_the_one_that_is_taken() {
    const CLIENTS: u8 = 8;
    let upstreams: Vec<Upstream> = (0..7)
        .map(|at| Upstream::start(&format!("up{at}")))
        .collect();
    let address = free_address();
    let all = TOLD.iter().chain(UNTOLD.iter().map(|(_, case)| case));
    let rules: String = all.map(|case| rules(case, &upstreams)).collect();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("rules.yaml", &rules),
        ("settings.yaml", &settings("{role: gateway}")),
    ]);
    let proxy = Proxy::start_with_workers(config, &["--workers", "1"]);
    let config = proxy.config.display().to_string();
    let mut met = HashSet::new();
    for case in TOLD {
        let mut distinct = HashSet::new();
        for number in 0..CLIENTS {
            let asked = Asked::by_client(number, case, address.port());
            let told = asked.explained(&config);
            let named = upstreams.iter().position(|upstream| {
                told == format!("{}, while it is available", upstream.address)
            });
            let named = named.unwrap_or_else(|| panic!("{}: {told}", case.host));
            for _ in 0..2 {
                let taken = asked.answered_by(address);
                assert_eq!(
                    taken,
                    format!("up{named}"),
                    "{} of client {number}",
                    case.host
                );
            }
            distinct.insert(named);
            met.insert(named);
        }
        let is_same_for_all = ["scheme", "authority", "moved", "constant"].contains(&case.host);
        assert_eq!(distinct.len() == 1, is_same_for_all, "{}", case.host);
    }
    assert_eq!(met.len(), upstreams.len());
    for (part, case) in UNTOLD {
        let asked = Asked::by_client(0, case, address.port());
        let told = asked.explained(&config);
        assert!(
            told.starts_with("known only") && told.contains(part),
            "{told}"
        );
    }
}
