//! What is counted by Envoy's names: for clusters responses by status, those that were retried,
//! endpoints, and picks in panic; for listeners what became of the requests that were routed.

mod harness;

use harness::frames::{END_HEADERS, END_STREAM, FrameClient, HEADERS, block, frame};
use harness::pool::{
    Backend, CLUSTER, cluster_stat, pool, start_pool, start_retrying_pool, until_cluster_stat,
};
use harness::raw::{ScriptedUpstream, converse, status};
use harness::{
    DRIVERS, PATIENCE, Proxy, folder, free_address, gateway, get, settings, until, until_equal,
};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};

/// The figures of the service's cluster whose names hold `upstream_rq_` and begin with `prefix`,
/// and which are not zero.
fn figures(proxy: &Proxy, prefix: &str) -> Vec<String> {
    let page = proxy
        .admin("/stats?usedonly&filter=upstream_rq_(%5Cd|completed)")
        .body;
    let start = format!("cluster.{CLUSTER}.");
    let of_cluster = page.lines().filter_map(|line| line.strip_prefix(&start));
    of_cluster
        .filter(|line| line.starts_with(prefix))
        .map(str::to_string)
        .collect()
}

#[test]
fn responses_are_counted_by_status_and_those_that_are_retried_apart() {
    for driver in DRIVERS {
        let backend = Backend::start();
        let (proxy, address) = start_retrying_pool(driver, "2", &[backend.address], "tls: {}");
        assert_eq!(figures(&proxy, ""), [""; 0]);
        for expected in [200, 404, 200] {
            backend.set_status(expected);
            assert_eq!(get(address, "a.test", "/").status, expected);
        }
        assert_eq!(figures(&proxy, "retry."), [""; 0]);
        backend.set_status(503);
        assert_eq!(get(address, "a.test", "/").status, 503);
        let by_status = [
            "upstream_rq_200: 2",
            "upstream_rq_2xx: 2",
            "upstream_rq_404: 1",
            "upstream_rq_4xx: 1",
            "upstream_rq_503: 1",
            "upstream_rq_5xx: 1",
            "upstream_rq_completed: 4",
        ];
        let retried = [
            "retry.upstream_rq_503: 1",
            "retry.upstream_rq_5xx: 1",
            "retry.upstream_rq_completed: 1",
        ];
        for (prefix, wanted) in [("upstream_rq_", &by_status[..]), ("retry.", &retried)] {
            let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
            until_equal(prefix, wanted, || figures(&proxy, prefix));
        }
        let metrics = proxy.admin("/stats/prometheus").body;
        for line in [
            format!(
                "envoy_cluster_upstream_rq{{cluster_name=\"{CLUSTER}\",response_code=\"404\"}} 1"
            ),
            format!(
                "envoy_cluster_upstream_rq{{cluster_name=\"{CLUSTER}\",response_code_class=\"2xx\"}} 2"
            ),
            format!("envoy_cluster_upstream_rq_completed{{cluster_name=\"{CLUSTER}\"}} 4"),
            format!(
                "envoy_cluster_retry_upstream_rq{{cluster_name=\"{CLUSTER}\",response_code=\"503\"}} 1"
            ),
        ] {
            assert!(metrics.contains(&line), "{line} not in {metrics}");
        }
        let families = metrics.lines();
        let families = families.filter(|line| *line == "# TYPE envoy_cluster_upstream_rq counter");
        assert_eq!(families.count(), 1);
    }
}

/// Many clients in step, so that a worker learns of the end of an upload and of its answer at once.
#[test]
fn uploads_that_end_together_with_their_answers_keep_their_connections() {
    const CLIENTS: usize = 64;
    const ROUNDS: usize = 12;
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.body(10);
                connection.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
            }
        });
        let (proxy, address) = start_pool(driver, "1", &[upstream.address], "tls: {}");
        let mut clients: Vec<TcpStream> = (0..CLIENTS)
            .map(|_| TcpStream::connect(address).expect("connects"))
            .collect();
        for round in 1..=ROUNDS {
            for client in &mut clients {
                client.set_read_timeout(Some(PATIENCE)).expect("set");
                let head = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirst";
                client.write_all(head).expect("sent");
            }
            until("each upload to have begun", || {
                upstream.heads().len() == CLIENTS * round
            });
            for client in &mut clients {
                client.write_all(b"later").expect("sent");
            }
            for client in &mut clients {
                let answer = read_answer(client);
                assert!(answer.starts_with("HTTP/1.1 200"), "{driver}: {answer}");
                assert!(!answer.contains("connection: close"), "{driver}: {answer}");
            }
        }
        assert_eq!(cluster_stat(&proxy, "upstream_cx_total"), CLIENTS as u64);
    }
}

/// An answer with a body of two bytes.
fn read_answer(client: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut piece = [0; 1024];
        match client.read(&mut piece).expect("is answered") {
            0 => break,
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn a_response_is_counted_when_its_head_has_come() {
    for driver in DRIVERS {
        let (ends, end) = mpsc::channel::<()>();
        let end = Mutex::new(end);
        let upstream = ScriptedUpstream::start(move |connection| {
            connection.head();
            connection.send("HTTP/1.1 103 Early Hints\r\n\r\n");
            connection.send("HTTP/1.1 201 Created\r\ncontent-length: 5\r\n\r\nhe");
            // The rest never comes.
            let _ = end.lock().expect("not poisoned").recv();
        });
        let (proxy, address) = start_pool(driver, "1", &[upstream.address], "tls: {}");
        let request = b"GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";
        let client = std::thread::spawn(move || converse(address, &[request]));
        until_cluster_stat(&proxy, "upstream_rq_completed", 2);
        until_cluster_stat(&proxy, "upstream_rq_201", 1);
        until_cluster_stat(&proxy, "upstream_rq_103", 1);
        drop(ends);
        let (answer, _) = client.join().expect("the client");
        assert!(answer.contains("201 Created"), "{answer}");
    }
}

#[test]
fn what_never_came_as_far_as_the_upstream_is_not_counted_for_it() {
    for driver in DRIVERS {
        let backend = Backend::start();
        let address = free_address();
        let route = "  - match: [{statPrefix: all}]\n    fault: {abort: {httpStatus: 418, \
                     percentage: {value: 100}}}\n    route:";
        let rules = pool(&[backend.address], "tls: {}").replace("  - route:", route);
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings("{role: gateway}")),
            ("pool.yaml", &rules),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert_eq!(get(address, "a.test", "/").status, 418);
        assert_eq!(figures(&proxy, ""), [""; 0]);
        let route = format!("vhost.*:{}.route.all.upstream_rq_total", address.port());
        assert!(proxy.admin("/stats").body.contains(&route));
        assert_eq!(proxy.stat(&route), 0);
        // What is answered in the upstream's place is counted as if it had come from there.
        let nobody = pool(&[free_address()], "tls: {}");
        proxy.put("pool.yaml", &nobody);
        until("the reload", || proxy.stat("config.generation") == 2);
        assert_eq!(get(address, "a.test", "/").status, 503);
        until_cluster_stat(&proxy, "upstream_rq_503", 1);
    }
}

#[test]
fn endpoints_and_picks_in_panic_are_counted() {
    for driver in DRIVERS {
        let (one, failing) = (Backend::start(), Backend::start());
        failing.set_status(500);
        let policy = "outlierDetection: {consecutive5xxErrors: 1, interval: 1h, \
                      baseEjectionTime: 1h, maxEjectionPercent: 100, minHealthPercent: 60}";
        let endpoints = [one.address, failing.address];
        let (proxy, address) = start_pool(driver, "1", &endpoints, policy);
        assert_eq!(cluster_stat(&proxy, "membership_total"), 2);
        assert_eq!(cluster_stat(&proxy, "membership_healthy"), 2);
        until("the ejection", || {
            get(address, "a.test", "/");
            cluster_stat(&proxy, "membership_healthy") == 1
        });
        assert_eq!(cluster_stat(&proxy, "membership_total"), 2);
        let before = cluster_stat(&proxy, "lb_healthy_panic");
        for _ in 0..4 {
            get(address, "a.test", "/");
        }
        until_cluster_stat(&proxy, "lb_healthy_panic", before + 4);
        let metrics = proxy.admin("/stats/prometheus").body;
        let line = format!("envoy_cluster_membership_healthy{{cluster_name=\"{CLUSTER}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
}

/// Whatever ends it, and by the side that did.
#[test]
fn every_connection_that_ends_is_counted_by_who_ended_it() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            let (path, _) = connection.head().expect("a head");
            let (answer, closes) = match path.as_str() {
                "/until-close" => ("HTTP/1.1 200 OK\r\n\r\nhi", true),
                "/closed-at-once" => ("", true),
                "/short" => ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", true),
                "/garbage" => ("nonsense\r\n\r\n", false),
                "/excess" => ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhixxx", false),
                _ => (
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
                    false,
                ),
            };
            connection.send(answer);
            if !closes {
                // Ends when the proxy closes.
                connection.head();
            }
        });
        let (proxy, address) = start_pool(driver, "1", &[upstream.address], "tls: {}");
        let names = [
            "upstream_cx_destroy_remote",
            "upstream_cx_destroy_local",
            "upstream_cx_protocol_error",
        ];
        let mut expected = [0; 3];
        for (path, rises) in [
            ("/until-close", &[0][..]),
            ("/closed-at-once", &[0]),
            ("/short", &[0, 2]),
            ("/garbage", &[1, 2]),
            ("/excess", &[1, 2]),
            ("/last", &[1]),
        ] {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
            converse(address, &[request.as_bytes()]);
            for at in rises {
                expected[*at] += 1;
            }
            until_equal(path, expected, || {
                names.map(|name| cluster_stat(&proxy, name))
            });
        }
        let opened = cluster_stat(&proxy, "upstream_cx_total");
        assert_eq!(expected[0] + expected[1], opened);
    }
}

#[test]
fn a_connect_that_is_refused_ends_a_connection_by_the_upstream() {
    for driver in DRIVERS {
        let (proxy, address) = start_pool(driver, "1", &[free_address()], "tls: {}");
        assert_eq!(get(address, "a.test", "/").status, 503);
        until_cluster_stat(&proxy, "upstream_cx_connect_fail", 1);
        until_cluster_stat(&proxy, "upstream_cx_destroy_remote", 1);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_destroy_local"), 0);
    }
}

const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [a.test]
  gateways: [gate]
  http:
  - {match: [{uri: {prefix: /direct}}], directResponse: {status: 204}}
  - {match: [{uri: {prefix: /redirect}}], redirect: {uri: /new}}
  - match: [{uri: {prefix: /fault}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: cut.test, port: {number: 80}}}]
  - {match: [{uri: {prefix: /nowhere}}], route: [{destination: {host: none.test}}]}
  - {match: [{uri: {prefix: /cut}}], route: [{destination: {host: cut.test, port: {number: 80}}}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: cut}
spec:
  hosts: [cut.test]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
";

#[test]
fn what_becomes_of_routed_requests_is_counted_for_the_listener() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            let (path, _) = connection.head().expect("a head");
            match path.split('?').next() {
                Some("/cut/short") => {
                    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc")
                }
                _ => connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            }
        });
        let (ip, port) = (upstream.address.ip(), upstream.address.port());
        let endpoint = format!("  endpoints: [{{address: {ip}, ports: {{http: {port}}}}}]\n");
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("routes.yaml", &format!("{ROUTES}{endpoint}")),
            ("settings.yaml", &settings("{role: gateway}")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let listener = format!("http.{}_{}", address.ip(), address.port());
        let names = [
            "total",
            "direct_response",
            "reset_after_downstream_response_started",
        ];
        let counted = || {
            let of = |name: String| proxy.stat(&format!("{listener}.{name}"));
            let [total, direct, reset] = names.map(|name| of(format!("rq_{name}")));
            let [no_route, no_cluster] = ["no_route", "no_cluster"].map(|name| of(name.into()));
            [total, direct, reset, no_route, no_cluster]
        };
        let mut expected = [0; 5];
        for (path, status, rises) in [
            ("/cut/whole", "200", &[0][..]),
            ("/direct", "204", &[0, 1]),
            ("/redirect", "301", &[0, 1]),
            ("/cut/short", "200", &[0]),
            ("/cut/short?grpc", "200", &[0, 2]),
            ("/unrouted", "404", &[0, 3]),
            ("/nowhere", "503", &[0, 4]),
            // An injected answer comes before the route is followed.
            ("/fault", "418", &[]),
        ] {
            let kind = if path.ends_with("?grpc") {
                "grpc"
            } else {
                "json"
            };
            let request = format!(
                "GET {path} HTTP/1.1\r\nhost: a.test\r\ncontent-type: application/{kind}\r\n\
                 connection: close\r\n\r\n"
            );
            let (answer, _) = converse(address, &[request.as_bytes()]);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            for at in rises {
                expected[*at] += 1;
            }
            until("the counts", || counted() == expected);
        }
        let completed = format!("{listener}.downstream_rq_completed");
        until("the end of the last", || proxy.stat(&completed) == 8);
        assert_eq!(counted(), expected);
        let label = "envoy_http_conn_manager_prefix";
        let line = format!(
            "envoy_http_rq_direct_response{{{label}=\"{}_{}\"}} 2",
            address.ip(),
            address.port()
        );
        let metrics = proxy.admin("/stats/prometheus").body;
        assert!(metrics.contains(&line), "{line} not in {metrics}");
    }
}

/// As in Envoy: else a part of all requests would seem to be more than all.
#[test]
fn heads_that_are_refused_count_among_all_requests() {
    for driver in DRIVERS {
        let address = free_address();
        let spec = "{role: gateway, limits: {maxHeaders: 10, requestHeadTimeout: 100ms}}";
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings(spec)),
            ("answer.yaml", &harness::answering("ok")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let many = "x-a: 1\r\n".repeat(11);
        let count = |name: &str| {
            let listener = format!("http.{}_{}", address.ip(), address.port());
            proxy.stat(&format!("{listener}.{name}"))
        };
        for (at, (head, refusal)) in [
            ("GET / HTTP/1.1\r\n\r\n".to_string(), 400),
            (format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), 431),
            ("GET / HTTP/1.1\r\nho".to_string(), 408),
        ]
        .into_iter()
        .enumerate()
        {
            let (answer, _) = converse(address, &[head.as_bytes()]);
            assert_eq!(status(&answer), refusal, "{driver}: {answer}");
            until_equal("a request that is complete", at as u64 + 1, || {
                count("downstream_rq_completed")
            });
            assert_eq!(count("downstream_rq_total"), at as u64 + 1, "{driver}");
        }
        let mut streams = FrameClient::connect(address, &[]);
        let block = block("GET", "/", &[("x-a", "1"); 11]);
        streams.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block));
        streams.until("a refusal", |frame| frame.kind == HEADERS);
        until_equal("its end", 4, || count("downstream_rq_completed"));
        assert_eq!(count("downstream_rq_total"), 4, "{driver}");
    }
}

#[test]
fn every_response_counts_as_completed_whatever_its_status() {
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while let Some((path, _)) = connection.head() {
                let status = path.trim_start_matches('/');
                if status == "103" {
                    connection.send("HTTP/1.1 103 Early Hints\r\n\r\n");
                }
                if status == "100" {
                    connection.body(1);
                }
                let last = if status < "200" { "200" } else { status };
                connection.send(format!("HTTP/1.1 {last} X\r\ncontent-length: 0\r\n\r\n"));
            }
        });
        let (proxy, address) = start_pool(driver, "1", &[upstream.address], "");
        let listener = format!("http.{}_{}", address.ip(), address.port());
        let count = |name: &str| proxy.stat(&format!("{listener}.downstream_rq_{name}"));
        let head = "host: a.test\r\nconnection: close\r\n";
        let upload = format!(
            "POST /100 HTTP/1.1\r\n{head}content-length: 1\r\nexpect: 100-continue\r\n\r\n"
        );
        let mut client = TcpStream::connect(address).expect("a connection");
        client.set_read_timeout(Some(PATIENCE)).expect("a limit");
        client.write_all(upload.as_bytes()).expect("sent");
        let mut interim = [0; 25];
        client.read_exact(&mut interim).expect("100 Continue");
        client.write_all(b"x").expect("sent");
        client.read_to_string(&mut String::new()).expect("the rest");
        until_equal("100 and 200", (2, 1), || (count("completed"), count("1xx")));
        for (at, (path, of_it)) in [("999", 1), ("600", 1), ("103", 2)].into_iter().enumerate() {
            let before = count("completed");
            let request = format!("GET /{path} HTTP/1.1\r\n{head}\r\n");
            converse(address, &[request.as_bytes()]);
            until_equal(path, before + of_it, || count("completed"));
            assert_eq!(count("total"), at as u64 + 2, "{driver}");
        }
        assert_eq!(count("1xx"), 2, "{driver}");
    }
}
