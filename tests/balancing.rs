//! Which upstream a request meets, through real sockets, on both drivers.

mod harness;

use harness::raw::ScriptedUpstream;
use harness::{Answer, Client, DRIVERS, Proxy, Upstream, folder, free_address, gateway, settings};
use socket2::{Domain, Socket, Type};
use std::collections::{BTreeMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A service at `HOST.test` with these endpoints; each is an address and more of its fields.
fn service(host: &str, endpoints: &[(SocketAddr, &str)], policy: &str) -> String {
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {host}}}\n\
         spec:\n  hosts: [{host}.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n"
    );
    for (address, fields) in endpoints {
        let (ip, port) = (address.ip(), address.port());
        text += &format!("  - {{address: {ip}, ports: {{http: {port}}}{fields}}}\n");
    }
    text + &format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
         metadata: {{name: {host}}}\nspec:\n  host: {host}.test\n  trafficPolicy: {policy}\n\
         ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {host}}}\nspec:\n  hosts: [{host}.test]\n  gateways: [gate]\n  http:\n  \
         - route: [{{destination: {{host: {host}.test}}}}]\n"
    )
}

fn start(driver: &str, workers: &str, spec: &str, rules: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("rules.yaml", rules),
        ("settings.yaml", &settings(spec)),
    ]);
    let args = ["--driver", driver, "--workers", workers];
    (Proxy::start_with_workers(config, &args), address)
}

fn upstreams(count: usize) -> Vec<Upstream> {
    let named = (0..count).map(|at| Upstream::start(&format!("up{at}")));
    named.collect()
}

fn plain(upstreams: &[Upstream]) -> Vec<(SocketAddr, &'static str)> {
    let addresses = upstreams.iter().map(|upstream| (upstream.address, ""));
    addresses.collect()
}

/// `GET target` with more header lines, on a connection of its own, from `source`.
fn ask(address: SocketAddr, source: Ipv4Addr, target: &str, host: &str, more: &str) -> Answer {
    let stream = connect_from(source, address);
    let mut client = Client::over(stream);
    let head = format!("GET {target} HTTP/1.1\r\nhost: {host}.test\r\n{more}\r\n");
    client.write(head.as_bytes());
    client.answer().expect("an answer")
}

/// A connection whose client has that address of the loopback network.
fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from((source, 0));
    socket.bind(&from.into()).expect("is bound");
    socket.connect(&to.into()).expect("connects");
    socket.into()
}

const SOMEBODY: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Each of `keys` meets one upstream however often it comes, and together they meet many.
fn assert_sticky<K: std::fmt::Debug>(keys: &[K], ask: impl Fn(&K) -> String) {
    let mut met = HashSet::new();
    for key in keys {
        let first = ask(key);
        for _ in 0..3 {
            assert_eq!(ask(key), first, "{key:?}");
        }
        met.insert(first);
    }
    assert!(met.len() >= 4, "{met:?}");
}

/// Envoy asks for the key when the route has made its changes.
#[test]
fn keys_are_those_of_the_request_as_it_goes_upstream() {
    let upstreams = upstreams(6);
    let all = plain(&upstreams);
    let hashed = |host: &str, header: &str, changes: &str| {
        let by = format!("{{loadBalancer: {{consistentHash: {{httpHeaderName: '{header}'}}}}}}");
        let text = service(host, &all, &by);
        text.replace("  - route: ", &format!("  - {changes}\n    route: "))
    };
    let rules = [
        hashed("set", "x-user", "headers: {request: {set: {x-user: all}}}"),
        hashed("gone", "x-user", "headers: {request: {remove: [x-user]}}"),
        hashed("path", ":path", "timeout: 5s"),
        hashed(
            "moved",
            ":path",
            "rewrite: {uriRegexRewrite: {match: '/.+', rewrite: /all}}",
        ),
        hashed("host", "Host", "rewrite: {authority: all.test}"),
    ];
    for driver in DRIVERS {
        let (_proxy, address) = start(driver, "1", "{role: gateway}", &rules.concat());
        let met = |host: &str, same: bool| {
            let all = (0..40).map(|at| {
                let user = if same { 0 } else { at };
                let header = format!("x-user: {user}\r\n");
                ask(address, SOMEBODY, &format!("/{user}"), host, &header).body
            });
            all.collect::<HashSet<_>>().len()
        };
        assert_eq!(met("set", false), 1);
        assert!(met("gone", true) >= 4, "without a key they are drawn");
        assert_eq!(met("path", true), 1);
        assert!(met("path", false) >= 4);
        assert_eq!(met("moved", false), 1);
        assert_eq!(met("host", false), 1);
    }
}

#[test]
fn requests_of_one_key_stay_with_one_upstream() {
    let upstreams = upstreams(6);
    let all = plain(&upstreams);
    let hashed = |host: &str, by: &str| {
        service(
            host,
            &all,
            &format!("{{loadBalancer: {{consistentHash: {by}}}}}"),
        )
    };
    let rules = [
        hashed("header", "{httpHeaderName: X-User}"),
        hashed(
            "query",
            "{httpQueryParameterName: user, maglev: {tableSize: 251}}",
        ),
        hashed(
            "source",
            "{useSourceIp: true, ringHash: {minimumRingSize: 300}}",
        ),
        hashed("cookie", "{httpCookie: {name: user}}"),
    ];
    for driver in DRIVERS {
        let (_proxy, address) = start(driver, "2", "{role: gateway}", &rules.concat());
        let users: Vec<String> = (0..25).map(|at| format!("user{at}")).collect();
        assert_sticky(&users, |user| {
            ask(
                address,
                SOMEBODY,
                "/",
                "header",
                &format!("x-user: {user}\r\n"),
            )
            .body
        });
        assert_sticky(&users, |user| {
            ask(
                address,
                SOMEBODY,
                &format!("/?a=b&user={user}"),
                "query",
                "",
            )
            .body
        });
        assert_sticky(&users, |user| {
            let cookies = format!("cookie: other=1; user={user}\r\n");
            ask(address, SOMEBODY, "/", "cookie", &cookies).body
        });
        let sources: Vec<Ipv4Addr> = (1..=25).map(|at| Ipv4Addr::new(127, 0, 0, at)).collect();
        assert_sticky(&sources, |source| {
            ask(address, *source, "/", "source", "").body
        });
        // Without a key, or a cookie that nobody makes, requests are drawn.
        for host in ["header", "query", "cookie"] {
            let answers = (0..60).map(|_| ask(address, SOMEBODY, "/", host, ""));
            let mut met = HashSet::new();
            for answer in answers {
                assert_eq!(answer.header("set-cookie"), None);
                met.insert(answer.body);
            }
            assert!(met.len() >= 4, "{host}: {met:?}");
        }
    }
}

#[test]
fn a_cookie_that_is_absent_is_made_and_leads_back() {
    let upstreams = upstreams(6);
    let policy = "{loadBalancer: {consistentHash: {httpCookie: {name: session, ttl: 600s, \
                  path: /shop, attributes: [{name: SameSite, value: Lax}, {name: Secure}]}}}}";
    let rules = service("made", &plain(&upstreams), policy);
    for driver in DRIVERS {
        let (_proxy, address) = start(driver, "2", "{role: gateway}", &rules);
        let mut met = HashSet::new();
        for _ in 0..25 {
            let first = ask(address, SOMEBODY, "/", "made", "");
            let cookie = first.header("set-cookie").expect("a cookie").to_string();
            let value = cookie
                .strip_prefix("session=\"")
                .and_then(|rest| rest.split_once('"'))
                .expect("a quoted value");
            assert_eq!(
                value.1,
                "; Max-Age=600; Path=/shop; SameSite=Lax; Secure; HttpOnly"
            );
            let sent = format!("cookie: session={}\r\n", value.0);
            for _ in 0..2 {
                let again = ask(address, SOMEBODY, "/", "made", &sent);
                assert_eq!(again.header("set-cookie"), None);
                assert_eq!(again.body, first.body);
            }
            met.insert(first.body);
        }
        assert!(met.len() >= 4, "{met:?}");
    }
}

/// How many of `count` requests each upstream answers.
fn shares(address: SocketAddr, host: &str, count: usize) -> BTreeMap<String, usize> {
    let mut client = Client::connect(address).expect("connects");
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let answer = client
            .send("GET", &format!("{host}.test"), "/")
            .expect("an answer");
        *shares.entry(answer.body).or_default() += 1;
    }
    shares
}

fn table(shares: &[(&str, usize)]) -> BTreeMap<String, usize> {
    let each = shares.iter();
    each.map(|(name, count)| (name.to_string(), *count))
        .collect()
}

#[test]
fn weights_and_places_are_shares() {
    let upstreams = upstreams(3);
    let placed = |fields: [&'static str; 3]| {
        let each = upstreams.iter().zip(fields);
        each.map(|(upstream, fields)| (upstream.address, fields))
            .collect::<Vec<_>>()
    };
    let weighted = placed([", weight: 1", ", weight: 3", ", weight: 6"]);
    let places = placed([
        ", locality: west/a",
        ", locality: west/b",
        ", locality: east/a",
    ]);
    let rules = [
        service(
            "weighted",
            &weighted,
            "{loadBalancer: {simple: ROUND_ROBIN}}",
        ),
        service(
            "shared",
            &places,
            "{loadBalancer: {simple: ROUND_ROBIN, localityLbSetting: {distribute: \
             [{from: west/*, to: {west/a: 80, east/*: 20}}]}}}",
        ),
        service(
            "near",
            &places,
            "{outlierDetection: {}, loadBalancer: {simple: ROUND_ROBIN}}",
        ),
        service(
            "alike",
            &places,
            "{outlierDetection: {}, loadBalancer: {simple: ROUND_ROBIN, \
             localityLbSetting: {enabled: false}}}",
        ),
    ];
    let spec = "{role: gateway, workload: {locality: west/b}}";
    for driver in DRIVERS {
        let (_proxy, address) = start(driver, "1", spec, &rules.concat());
        let exact = [("up0", 10), ("up1", 30), ("up2", 60)];
        assert_eq!(shares(address, "weighted", 100), table(&exact));
        let exact = [("up0", 80), ("up2", 20)];
        assert_eq!(shares(address, "shared", 100), table(&exact));
        assert_eq!(shares(address, "near", 20), table(&[("up1", 20)]));
        let exact = [("up0", 10), ("up1", 10), ("up2", 10)];
        assert_eq!(shares(address, "alike", 30), table(&exact));
    }
}

/// A quarter of the endpoints for half of the proxies: half of the requests stay in the zone.
#[test]
fn zones_keep_what_their_endpoints_can_carry() {
    let upstreams = upstreams(4);
    let places = ["a", "b", "b", "b"].map(|zone| format!(", locality: west/{zone}"));
    let endpoints = upstreams.iter().zip(&places);
    let endpoints: Vec<_> = endpoints
        .map(|(up, place)| (up.address, place.as_str()))
        .collect();
    let policy = "{loadBalancer: {simple: ROUND_ROBIN, \
                  zoneAwareLbSetting: {enabled: true, minClusterSize: 4}}}";
    // Where proxies like this one are; nobody connects to them.
    let own = [
        (SocketAddr::from(([192, 0, 2, 1], 80)), places[0].as_str()),
        (SocketAddr::from(([192, 0, 2, 2], 80)), places[1].as_str()),
    ];
    let rules = service("zones", &endpoints, policy)
        + &service("own", &own, "{loadBalancer: {simple: RANDOM}}");
    let spec = "{role: gateway, workload: {locality: west/a, addresses: [192.0.2.1]}}";
    for driver in DRIVERS {
        let (_proxy, address) = start(driver, "1", spec, &rules);
        let shares = shares(address, "zones", 120);
        assert!(shares["up0"].abs_diff(60) <= 1, "{shares:?}");
        for near in ["up1", "up2", "up3"] {
            assert!(shares[near].abs_diff(20) <= 1, "{shares:?}");
        }
    }
}

/// With `retryRemoteLocalities` the third try leaves the place where two have failed.
#[test]
fn retries_go_to_other_places_where_they_are_told_to() {
    let failing = || {
        ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send("HTTP/1.1 503 X\r\ncontent-length: 4\r\n\r\nnear");
            }
        })
    };
    let near = [failing(), failing()];
    let far = Upstream::start("far");
    let endpoints = [
        (near[0].address, ", locality: west/a"),
        (near[1].address, ", locality: west/a"),
        (far.address, ", locality: east/a"),
    ];
    let stays = service("remote", &endpoints, "{outlierDetection: {interval: 1h}}");
    for driver in DRIVERS {
        for (told, status) in [("false", 503), ("true", 200)] {
            let retries = format!(
                "retries: {{attempts: 2, retryOn: 5xx, retryRemoteLocalities: {told}, backoff: 1ms}}\n    \
                 route:"
            );
            let rules = stays.replace("route:", &retries);
            let spec = "{role: gateway, workload: {locality: west/a}}";
            let (_proxy, address) = start(driver, "1", spec, &rules);
            for _ in 0..3 {
                let answer = ask(address, SOMEBODY, "/", "remote", "");
                assert_eq!(answer.status, status, "{told}");
            }
        }
    }
    assert_eq!(far.requests(), 2 * 3);
}

#[test]
fn a_new_endpoint_warms_up() {
    let upstreams = upstreams(3);
    let all = plain(&upstreams);
    let policy = "{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 3600s}}}";
    for driver in DRIVERS {
        let cold = "{loadBalancer: {simple: ROUND_ROBIN}}";
        let rules = service("warm", &all[..2], cold);
        let (proxy, address) = start(driver, "1", "{role: gateway}", &rules);
        assert_eq!(
            shares(address, "warm", 100),
            table(&[("up0", 50), ("up1", 50)])
        );
        proxy.put("rules.yaml", &service("warm", &all, policy));
        let mut client = Client::connect(address).expect("connects");
        harness::until("the first request of the new one", || {
            let answer = client.send("GET", "warm.test", "/").expect("an answer");
            answer.body == "up2"
        });
        // A tenth of the weight of the others.
        let shares = shares(address, "warm", 420);
        assert!(shares["up2"].abs_diff(20) <= 1, "{shares:?}");
        assert!(shares["up0"].abs_diff(200) <= 1, "{shares:?}");
    }
}

#[test]
fn least_request_spares_a_slow_upstream() {
    // How long upstreams take is what is balanced by.
    const FAST: Duration = Duration::from_millis(40);
    const IN_FLIGHT: usize = 64;
    let delayed = |delay: Duration| {
        ScriptedUpstream::start(move |connection| {
            while connection.head().is_some() {
                std::thread::sleep(delay);
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        })
    };
    let mut endpoints: Vec<ScriptedUpstream> = (0..9).map(|_| delayed(FAST)).collect();
    endpoints.push(delayed(10 * FAST));
    let all: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint.address, ""))
        .collect();
    let rules = service("busy", &all, "{loadBalancer: {simple: LEAST_REQUEST}}");
    for driver in DRIVERS {
        let (_proxy, address) = start(driver, "2", "{role: gateway}", &rules);
        let before: Vec<usize> = endpoints.iter().map(|one| one.heads().len()).collect();
        let until = Instant::now() + Duration::from_secs(3);
        let clients = (0..IN_FLIGHT).map(|_| {
            std::thread::spawn(move || {
                let mut client = Client::connect(address).expect("connects");
                while Instant::now() < until {
                    client.send("GET", "busy.test", "/").expect("an answer");
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.join().expect("no panic");
        }
        let after = endpoints.iter().map(|one| one.heads().len());
        let counts: Vec<usize> = after
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        let share = counts[9] as f64 / counts.iter().sum::<usize>() as f64;
        // An even share is a tenth, and the cores that are short here make the fast ones slow, too.
        // `policy/tests/balancing.rs` has the bar of 3 %, on virtual time.
        assert!(share <= 0.06, "{share}: {counts:?}");
        assert!(counts[9] > 0);
    }
}

#[test]
fn a_retry_stays_with_the_upstream_of_its_key_unless_it_is_told_to_leave() {
    let failing = || {
        ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n");
            }
        })
    };
    let endpoints: Vec<ScriptedUpstream> = (0..4).map(|_| failing()).collect();
    let all: Vec<_> = endpoints
        .iter()
        .map(|endpoint| (endpoint.address, ""))
        .collect();
    let hashed = "{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}";
    let with_retries = |host: &str, more: &str| {
        let retries =
            format!("retries: {{attempts: 2, retryOn: 5xx, backoff: 1ms{more}}}\n    route:");
        service(host, &all, hashed).replace("  - route:", &format!("  - {retries}"))
    };
    let rules = [
        with_retries("stays", ""),
        with_retries("leaves", ", retryIgnorePreviousHosts: true"),
    ];
    for driver in DRIVERS {
        let (_proxy, address) = start(driver, "1", "{role: gateway}", &rules.concat());
        for at in 0..8 {
            let tries = |host: &str| {
                let seen = |one: &ScriptedUpstream| one.heads().len();
                let before: Vec<usize> = endpoints.iter().map(seen).collect();
                let more = format!("x-user: user{at}\r\n");
                assert_eq!(ask(address, SOMEBODY, "/", host, &more).status, 503);
                let after = endpoints.iter().map(seen).zip(before);
                let mut tries: Vec<usize> = after.map(|(after, before)| after - before).collect();
                tries.sort_unstable();
                tries
            };
            assert_eq!(tries("stays"), [0, 0, 0, 3]);
            assert_eq!(tries("leaves"), [0, 1, 1, 1]);
        }
    }
}

#[test]
fn far_endpoints_serve_while_near_ones_are_ejected() {
    let is_broken = Arc::new(AtomicBool::new(false));
    let broken = Arc::clone(&is_broken);
    let near = ScriptedUpstream::start(move |connection| {
        while connection.head().is_some() {
            let status = if broken.load(Relaxed) { 500 } else { 200 };
            let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 4\r\n\r\n");
            connection.send(head + "near");
        }
    });
    let far = Upstream::start("far");
    let endpoints = [
        (near.address, ", locality: west/a"),
        (far.address, ", locality: east/a"),
    ];
    let policy = "{outlierDetection: {consecutive5xxErrors: 2, interval: 100ms, \
                  baseEjectionTime: 500ms, maxEjectionPercent: 100}}";
    let rules = service("pair", &endpoints, policy);
    for driver in DRIVERS {
        let spec = "{role: gateway, workload: {locality: west/a}}";
        let (_proxy, address) = start(driver, "2", spec, &rules);
        let next = || ask(address, SOMEBODY, "/", "pair", "");
        assert!((0..20).all(|_| next().body == "near"));
        is_broken.store(true, Relaxed);
        harness::until("the far endpoint", || next().body == "far");
        is_broken.store(false, Relaxed);
        harness::until("the near endpoint", || next().body == "near");
        assert!((0..20).all(|_| next().body == "near"));
    }
}

#[test]
fn connections_of_one_client_stay_with_one_upstream() {
    let upstreams = upstreams(6);
    let policy = "{loadBalancer: {consistentHash: {useSourceIp: true}}}";
    for driver in DRIVERS {
        let tcp = free_address();
        let port = tcp.port();
        let rules = service("plain", &plain(&upstreams), policy)
            .replace("name: http, protocol: HTTP", "name: http, protocol: TCP")
            .replace(
                "http:\n  - route: [{destination: {host: plain.test}}]",
                &format!(
                    "tcp:\n  - match: [{{port: {port}}}]\n    \
                     route: [{{destination: {{host: plain.test, port: {{number: 80}}}}}}]"
                ),
            )
            .replace("gateways: [gate]", "gateways: [carrier]")
            .replace(
                "hosts: [plain.test]\n  gateways",
                "hosts: ['*']\n  gateways",
            );
        let gateway = gateway(tcp)
            .replace("name: gate}", "name: carrier}")
            .replace("name: http, protocol: HTTP", "name: tcp, protocol: TCP");
        let documents = format!("{gateway}{rules}");
        let (_proxy, _) = start(driver, "2", "{role: gateway}", &documents);
        let sources: Vec<Ipv4Addr> = (1..=25).map(|at| Ipv4Addr::new(127, 0, 0, at)).collect();
        assert_sticky(&sources, |source| ask(tcp, *source, "/", "plain", "").body);
    }
}
