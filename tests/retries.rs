//! Retries and time limits, seen by the upstream and by the client, on both drivers.

mod harness;

use harness::raw::{ScriptedConnection, ScriptedUpstream, converse, status};
use harness::{Client, DRIVERS, Proxy, folder, free_address, gateway, settings, until_equal};
use std::net::SocketAddr;
use std::sync::{Barrier, Mutex};

const RULES: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: ["*"]
  gateways: [gate]
  http:
  - match: [{uri: {prefix: /5xx}}]
    retries: {attempts: 2, retryOn: 5xx, backoff: 1ms}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /listed}}]
    retries: {attempts: 1, retryOn: "418,retriable-4xx", backoff: 1ms}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /limits}}]
    retries: {attempts: 1, retryOn: envoy-ratelimited, backoff: 1ms}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /steered-names}}]
    retries: {attempts: 2, retryOn: retriable-headers, backoff: 1ms}
    headers: {request: {set: {x-envoy-retriable-header-names: "x-other, x-again"}}}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /steered-codes}}]
    headers: {request: {set: {x-envoy-retriable-status-codes: "418,odd"}}}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /steered-on}}]
    retries: {attempts: 0}
    route:
    - destination: {host: shop.test, port: {number: 80}}
      headers: {request: {set: {x-envoy-retry-on: 5xx, x-envoy-upstream-rq-per-try-timeout-ms: "1"}}}
  - match: [{uri: {prefix: /steered-max}}]
    headers: {request: {set: {x-envoy-retry-grpc-on: internal, x-envoy-max-retries: "4"}}}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /steered-share}}]
    route:
    - destination: {host: shop.test, port: {number: 80}}
      weight: 50
      headers: {request: {set: {x-envoy-retry-on: 5xx, x-envoy-max-retries: "3"}}}
    - destination: {host: shop.test, port: {number: 80}}
      weight: 50
  - match: [{uri: {prefix: /steered-levels}}]
    headers: {request: {set: {x-envoy-max-retries: "1"}, add: {x-envoy-retry-on: reset}}}
    route:
    - destination: {host: shop.test, port: {number: 80}}
      weight: 100
      headers: {request: {set: {x-envoy-retry-on: 5xx, x-envoy-max-retries: "3"}}}
    - {destination: {host: shop.test, port: {number: 80}}, weight: 0}
  - match: [{uri: {prefix: /steered-removed}}]
    headers: {request: {remove: [X-Envoy-Retry-On]}}
    route:
    - destination: {host: shop.test, port: {number: 80}}
      weight: 100
      headers: {request: {set: {x-envoy-retry-on: 5xx}}}
    - {destination: {host: shop.test, port: {number: 80}}, weight: 0}
  - match: [{uri: {prefix: /never}}]
    retries: {attempts: 0}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /per-try}}]
    timeout: 10s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: gateway-error, backoff: 1ms}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /in-all}}]
    timeout: 1800ms
    retries: {attempts: 10, perTryTimeout: 1s, retryOn: gateway-error, backoff: 1ms}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /begun}}]
    retries: {attempts: 2, perTryTimeout: 300ms, retryOn: "5xx,reset", backoff: 1ms}
    route: [{destination: {host: shop.test, port: {number: 80}}}]
  - route: [{destination: {host: shop.test, port: {number: 80}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: shop}
spec:
  hosts: [shop.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
"#;

fn start(driver: &str, upstreams: &[SocketAddr]) -> (Proxy, SocketAddr) {
    start_with(driver, upstreams, "{role: gateway}")
}

fn start_with(driver: &str, upstreams: &[SocketAddr], spec: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let mut rules = RULES.to_string();
    for upstream in upstreams {
        let (ip, port) = (upstream.ip(), upstream.port());
        rules += &format!("  - address: {ip}\n    ports: {{http: {port}}}\n");
    }
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("rules.yaml", &rules),
        ("settings.yaml", &settings(spec)),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

fn answer(connection: &mut ScriptedConnection, status: u16, headers: &str, body: &str) {
    let length = body.len();
    connection.send(format!(
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    ));
}

/// Answers with the statuses of the path in turn, then with the last of them: `/5xx/503/200`.
/// `reset` closes, `hang` never answers.
fn by_path() -> ScriptedUpstream {
    let seen = Mutex::new(std::collections::HashMap::<String, usize>::new());
    ScriptedUpstream::start(move |connection| {
        while let Some((path, head)) = connection.head() {
            let steps: Vec<&str> = path.split('/').skip(2).collect();
            let at = {
                let mut seen = seen.lock().expect("not poisoned");
                let at = seen.entry(path.clone()).or_default();
                *at += 1;
                (*at - 1).min(steps.len() - 1)
            };
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length: ")?
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            let body = connection.body(length);
            match steps[at] {
                "reset" => return,
                "hang" => {}
                "overloaded" => answer(connection, 503, "x-envoy-overloaded: true\r\n", ""),
                "grpc14" => answer(connection, 200, "grpc-status: 14\r\n", ""),
                "grpc14-404" => answer(connection, 404, "grpc-status: 14\r\n", ""),
                "grpc14-limited" => {
                    let lines = "grpc-status: 14\r\nx-envoy-ratelimited: true\r\n";
                    answer(connection, 200, lines, "");
                }
                "again" => answer(connection, 200, "x-again: 1\r\n", ""),
                "grpc13" => answer(connection, 200, "grpc-status: 13\r\n", ""),
                "limited" => answer(connection, 200, "x-envoy-ratelimited: true\r\n", ""),
                status => {
                    let status = status.parse().expect("a status");
                    answer(connection, status, "", &String::from_utf8_lossy(&body));
                }
            }
        }
    })
}

/// The status of the answer, and the heads of all tries that it took.
fn ask(upstream: &ScriptedUpstream, address: SocketAddr, path: &str) -> (u16, Vec<String>) {
    let before = upstream.heads().len();
    let answer = harness::get(address, "a.test", path);
    (answer.status, upstream.heads().split_off(before))
}

/// What is for the proxy has not gone on.
fn assert_nothing_steers(heads: &[String]) {
    for word in ["retr", "per-try"] {
        let leaked = heads.iter().find(|head| head.contains(word));
        assert!(leaked.is_none(), "{leaked:?}");
    }
}

/// A figure of the one cluster.
fn stat(proxy: &Proxy, name: &str) -> u64 {
    proxy.stat(&format!("cluster.outbound|80||shop.test.{name}"))
}

/// Waits until that figure is as wanted.
#[track_caller]
fn until_stat(proxy: &Proxy, name: &str, wanted: u64) {
    proxy.until_stat(&format!("cluster.outbound|80||shop.test.{name}"), wanted);
}

/// A route's own `x-envoy-` headers about retries are for the proxy, as Envoy takes them: they are
/// heeded, and nobody upstream sees them.
#[test]
fn headers_that_a_route_sets_steer_its_retries() {
    for driver in DRIVERS {
        let upstream = by_path();
        let (_proxy, address) = start(driver, &[upstream.address]);
        for (path, status, tries) in [
            ("/steered-names/again/again/200", 200, 3),
            ("/steered-names/503/200", 503, 1),
            ("/steered-codes/418/200", 200, 2),
            ("/steered-codes/503/200", 503, 1),
            // Without a policy of its own it is one retry.
            ("/steered-on/503/200", 200, 2),
            ("/steered-on/503/503/200", 503, 2),
            ("/steered-max/grpc13/grpc13/grpc13/grpc13/200", 200, 5),
        ] {
            let (answered, heads) = ask(&upstream, address, path);
            assert_eq!((answered, heads.len()), (status, tries), "{driver} {path}");
            assert_nothing_steers(&heads);
        }
    }
}

/// One of several destinations speaks for its own requests alone, and what the route sets or takes
/// out comes after it.
#[test]
fn headers_that_one_of_several_destinations_sets_steer_the_retries_of_its_share() {
    for driver in DRIVERS {
        let upstream = by_path();
        let (_proxy, address) = start(driver, &[upstream.address]);
        let tries = |path: &str| {
            let (_, heads) = ask(&upstream, address, path);
            assert_nothing_steers(&heads);
            heads.len()
        };
        // Half of them with three retries, the others with the default, which leaves 503 alone.
        let mut shared: Vec<usize> = (0..20).map(|_| tries("/steered-share/503")).collect();
        shared.sort_unstable();
        assert_eq!(shared, [[1; 10], [4; 10]].concat(), "{driver}");
        assert_eq!(tries("/steered-levels/503"), 2, "{driver}");
        assert_eq!(tries("/steered-removed/503"), 1, "{driver}");
    }
}

#[test]
fn what_is_retried_is_what_the_policy_says() {
    for driver in DRIVERS {
        let upstream = by_path();
        // A reset must be the retry policy's business alone.
        let spec = "{role: gateway, replayOnDeadConnection: false}";
        let (proxy, address) = start_with(driver, &[upstream.address], spec);
        for (path, status, tries) in [
            ("/5xx/503/500/200", 200, 3),
            ("/5xx/503", 503, 3),
            ("/5xx/reset/200", 200, 2),
            ("/5xx/404/200", 404, 1),
            ("/5xx/overloaded/200", 200, 2),
            ("/listed/418/200", 200, 2),
            ("/listed/409/200", 200, 2),
            ("/listed/503/200", 503, 1),
            ("/never/reset/200", 503, 1),
            // Istio's default: neither a status nor a reset, but what gRPC calls unavailable.
            ("/default/503/200", 503, 1),
            ("/default/reset/200", 503, 1),
            ("/default/grpc14/200", 200, 2),
            ("/default/grpc14-404/200", 200, 2),
            // What a limit of gRPC answers, is not asked again, and with the condition is.
            ("/default/grpc14-limited/200", 200, 1),
            ("/limits/limited/200", 200, 2),
        ] {
            let (answered, heads) = ask(&upstream, address, path);
            assert_eq!(answered, status, "{driver} {path}");
            let count_of = |head: &String| {
                let mut lines = head.lines();
                let count = lines.find_map(|line| line.strip_prefix("x-envoy-attempt-count: "));
                count.and_then(|count| count.parse().ok())
            };
            let counts: Vec<Option<usize>> = heads.iter().map(count_of).collect();
            let expected: Vec<Option<usize>> = (1..=tries).map(Some).collect();
            assert_eq!(counts, expected, "{driver} {path}");
        }
        until_stat(&proxy, "upstream_rq_retry", 11);
        until_stat(&proxy, "upstream_rq_retry_success", 8);
        until_stat(&proxy, "upstream_rq_retry_limit_exceeded", 1);
        let told = proxy.admin("/stats?filter=retry").body;
        for (name, count) in [
            ("upstream_rq_retry", 11),
            ("upstream_rq_retry_backoff_exponential", 11),
            ("upstream_rq_retry_limit_exceeded", 1),
            ("upstream_rq_retry_overflow", 0),
            ("upstream_rq_retry_success", 8),
            ("retry_or_shadow_abandoned", 0),
        ] {
            let line = format!("cluster.outbound|80||shop.test.{name}: {count}\n");
            assert!(told.contains(&line), "{line} not in {told}");
        }
        proxy.until_metrics("response_flags=\"URX\"");
    }
}

#[test]
fn a_retry_goes_to_an_endpoint_that_was_not_tried() {
    for driver in DRIVERS {
        let upstream = by_path();
        // Two of three refuse; with two retries every request finds the third.
        let (proxy, address) = start(driver, &[free_address(), upstream.address, free_address()]);
        for _ in 0..20 {
            let answer = harness::get(address, "a.test", "/default/200");
            assert_eq!(answer.status, 200);
        }
        assert!(stat(&proxy, "upstream_rq_retry_success") > 0);
        until_stat(&proxy, "upstream_rq_retry_limit_exceeded", 0);
    }
}

#[test]
fn nobody_to_connect_to_is_503_after_the_last_retry() {
    for driver in DRIVERS {
        let (proxy, address) = start(driver, &[free_address()]);
        let answer = harness::get(address, "a.test", "/default/200");
        assert_eq!(answer.status, 503);
        until_stat(&proxy, "upstream_cx_connect_fail", 3);
        until_stat(&proxy, "upstream_rq_retry_limit_exceeded", 1);
        proxy.until_metrics("response_flags=\"URX,UF\"");
    }
}

#[test]
fn a_retry_sends_the_whole_body_again() {
    for driver in DRIVERS {
        let upstream = by_path();
        let (proxy, address) = start(driver, &[upstream.address]);
        let body: String = (0..20_000).map(|n| format!("{n:06} ")).collect();
        let request = format!(
            "POST /5xx/503/reset/200 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (head, rest) = request.split_at(request.len() / 2);
        let (answer, _) = converse(address, &[head.as_bytes(), rest.as_bytes()]);
        assert_eq!(status(&answer), 200);
        assert!(answer.ends_with(&body), "{driver}: {} bytes", answer.len());
        until_stat(&proxy, "upstream_rq_retry_success", 1);
    }
}

#[test]
fn a_body_over_the_cap_is_streamed_without_a_retry() {
    for driver in DRIVERS {
        let upstream = by_path();
        let spec = "{role: gateway, limits: {maxReplayBodyBytes: 1000}}";
        let (proxy, address) = start_with(driver, &[upstream.address], spec);
        let mut abandoned = 0;
        // The last is one byte within it. Bodies come behind their head, or together with it.
        for (length, together) in [(100_000, false), (20_000, true), (1001, true), (1000, true)] {
            let body = "x".repeat(length);
            let mut message = format!(
                "POST /5xx/503/200/{length} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
                 content-length: {length}\r\n\r\n"
            );
            let rest = match together {
                true => {
                    message += &body;
                    ""
                }
                false => &body,
            };
            let (answer, _) = converse(address, &[message.as_bytes(), rest.as_bytes()]);
            let is_kept = length <= 1000;
            abandoned += u64::from(!is_kept);
            let expected = if is_kept { 200 } else { 503 };
            assert_eq!(status(&answer), expected, "{driver} {length}");
            until_stat(&proxy, "upstream_rq_retry", u64::from(is_kept));
            until_stat(&proxy, "retry_or_shadow_abandoned", abandoned);
        }
    }
}

#[test]
fn a_slow_try_is_cut_and_another_one_made() {
    for driver in DRIVERS {
        let upstream = by_path();
        let (proxy, address) = start(driver, &[upstream.address]);
        let answer = harness::get(address, "a.test", "/per-try/hang/200");
        assert_eq!(answer.status, 200);
        assert_eq!(upstream.heads().len(), 2);
        assert!(upstream.heads()[0].contains("x-envoy-expected-rq-timeout-ms: 1000\r\n"));
        until_stat(&proxy, "upstream_rq_per_try_timeout", 1);

        let answer = harness::get(address, "a.test", "/per-try/hang");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (504, "upstream request timeout")
        );
        assert_eq!(upstream.heads().len(), 5);
        until_stat(&proxy, "upstream_rq_per_try_timeout", 4);

        let before = upstream.heads().len();
        let answer = harness::get(address, "a.test", "/in-all/hang");
        assert_eq!(answer.status, 504);
        // The timeout of the route ends the second try.
        until_equal("tries", 2, || upstream.heads().len() - before);
        until_stat(&proxy, "upstream_rq_timeout", 1);
        proxy.until_metrics("response_flags=\"URX,UT\"");
    }
}

#[test]
fn a_grpc_caller_sets_the_limit_and_is_told_by_a_status() {
    for driver in DRIVERS {
        let upstream = by_path();
        let (proxy, address) = start(driver, &[upstream.address]);
        let call = |path: &str, headers: &str| {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\
                 content-type: application/grpc\r\n{headers}\r\n"
            );
            converse(address, &[request.as_bytes()]).0
        };
        let answer = call("/never/hang", "grpc-timeout: 50m\r\n");
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("grpc-status: 4\r\n"), "{answer}");
        assert!(
            answer.contains("grpc-message: upstream request timeout\r\n"),
            "{answer}"
        );
        // Charged as HTTP 504.
        until_stat(&proxy, "upstream_rq_5xx", 1);
        until_stat(&proxy, "upstream_rq_2xx", 0);
        let answer = call("/in-all/hang", "grpc-timeout: 1H\r\n");
        assert!(answer.contains("grpc-status: 14\r\n"), "{answer}");
        let heads = upstream.heads();
        let in_all: Vec<_> = heads.iter().filter(|h| h.contains("/in-all/")).collect();
        assert!(in_all[0].contains("grpc-timeout: 1000m\r\n"), "{in_all:?}");
        assert!(!in_all[0].contains("1H"), "{in_all:?}");
        // A later try has what the earlier ones left of the whole.
        assert!(!in_all[1].contains("grpc-timeout: 1000m\r\n"), "{in_all:?}");
    }
}

/// Whoever has sent an interim response has begun with the request: nobody else gets it then.
#[test]
fn a_request_that_its_upstream_has_begun_with_is_not_sent_twice() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                let steps: Vec<&str> = path.split('/').skip(2).collect();
                connection.body(3);
                if steps[0] != "none" {
                    connection.send(format!("HTTP/1.1 {} X\r\n\r\n", steps[0]));
                }
                match steps[1] {
                    "close" => return,
                    "hang" => {}
                    "garbage" => connection.send("HTTP/1.1 one\r\n\r\n"),
                    status => answer(connection, status.parse().expect("a status"), "", ""),
                }
            }
        });
        let (proxy, address) = start(driver, &[upstream.address]);
        let post = |path: &str| {
            let before = upstream.heads().len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\n"
            );
            let (answer, _) = converse(address, &[request.as_bytes(), b"pay"]);
            let last = answer.rfind("HTTP/1.1 ").expect("an answer");
            (status(&answer[last..]), upstream.heads().len() - before)
        };
        for interim in ["100", "102", "103"] {
            for (end, expected) in [
                ("503", 503),
                ("close", 503),
                ("hang", 504),
                ("garbage", 502),
            ] {
                let path = format!("/begun/{interim}/{end}");
                assert_eq!(post(&path), (expected, 1), "{driver} {path}");
            }
        }
        assert_eq!(stat(&proxy, "upstream_rq_retry"), 0);
        // Without it the same are tried again.
        assert_eq!(post("/begun/none/503"), (503, 3), "{driver}");
        until_stat(&proxy, "upstream_rq_retry", 2);
    }
}

/// Each try found a dead connection of its own in the pool, and sent the request anew.
#[test]
fn a_get_that_meets_dead_connections_is_sent_again_with_each_try() {
    for driver in DRIVERS {
        // Three connections that answer one request together, and then nothing any more.
        let together = Barrier::new(3);
        let upstream = ScriptedUpstream::start(move |connection| {
            if connection.number < 3 {
                connection.head();
                together.wait();
                answer(connection, 200, "", "");
            }
            connection.head();
        });
        let (proxy, address) = start(driver, &[upstream.address]);
        let get = |path: &str| {
            let mut client = Client::connect(address).expect("connects");
            client.send("GET", "shop.test", path).expect("sent").status
        };
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(get("/never/first"), 200));
            }
        });
        assert_eq!(get("/5xx/dead"), 503);
        let heads = upstream.heads();
        let dead = heads.iter().filter(|head| head.contains("/5xx/dead"));
        // Three tries, and once more within the first.
        assert_eq!(dead.count(), 4, "{heads:?}");
        until_stat(&proxy, "upstream_rq_replayed", 1);
        until_stat(&proxy, "upstream_rq_retry", 2);
    }
}
