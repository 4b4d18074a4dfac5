//! Where requests go and what the proxy answers by itself, through real sockets on both drivers.

mod harness;

use harness::raw::{ScriptedUpstream, converse, status};
use harness::{
    Answer, Client, DRIVERS, LogLines, Proxy, Upstream, folder, free_address, gateway, get,
    settings, splitting, until_equal,
};
use std::net::SocketAddr;
use std::process::Stdio;

/// A service of one endpoint.
fn service(name: &str, endpoints: &[SocketAddr]) -> String {
    let list: String = endpoints
        .iter()
        .map(|at| {
            format!(
                "  - address: {}\n    ports: {{http: {}}}\n",
                at.ip(),
                at.port()
            )
        })
        .collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{name}.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n{list}"
    )
}

/// The rules of most tests of this file.
const RULES: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [shop.test]
  gateways: [gate]
  http:
  - match: [{uri: {exact: /gone}}]
    directResponse: {status: 418, body: {string: teapot}}
  - match: [{uri: {prefix: /old/}}]
    redirect: {uri: /new, redirectCode: 308}
  - match: [{uri: {prefix: /elsewhere}}]
    redirect: {authority: other.test}
  - name: rewritten
    match: [{uri: {prefix: /api/}}]
    rewrite: {uri: /v1/, authority: inner.test}
    headers:
      request:
        set: {x-envoy-original-path: /forged, x-envoy-original-host: forged.test}
    route: [{destination: {host: echo.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /item}}]
    rewrite: {uriRegexRewrite: {match: '/item/(\d+)', rewrite: '/items?id=\1'}}
    route: [{destination: {host: echo.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /headers}}]
    headers:
      request:
        set: {x-set: new}
        add: {x-add: more}
        remove: [x-remove]
      response:
        set: {x-answer: here}
        remove: [x-secret]
    route: [{destination: {host: echo.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /slow}}]
    timeout: 1500ms
    route: [{destination: {host: echo.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /no-cluster}}]
    route: [{destination: {host: nowhere.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /no-endpoint}}]
    route: [{destination: {host: empty.test, port: {number: 80}}}]
  - match: [{uri: {prefix: /vip}, headers: {x-user: {exact: jane}}, queryParams: {beta: {exact: "1"}}}]
    directResponse: {status: 200, body: {string: vip}}
  - match: [{method: {exact: DELETE}, uri: {prefix: /vip}}]
    directResponse: {status: 200, body: {string: deleted}}
  - match: [{uri: {prefix: /vip}}]
    directResponse: {status: 200, body: {string: plain}}
"#;

/// Answers with what it received; `/slow` never, `/slow-body` never wholly.
fn echo() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while let Some((path, _)) = connection.head() {
            match path.as_str() {
                "/slow" => {}
                "/slow-body" => {
                    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc");
                }
                _ => connection.send(
                    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-secret: 1\r\nx-answer: old\r\n\r\nok",
                ),
            }
        }
    })
}

struct Shop {
    echo: ScriptedUpstream,
    address: SocketAddr,
    log: LogLines,
    proxy: Proxy,
}

fn shop(driver: &str) -> Shop {
    let echo = echo();
    let address = free_address();
    let rules = [
        RULES,
        &service("echo", &[echo.address]),
        // No endpoints at all.
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: empty}\n\
         spec:\n  hosts: [empty.test]\n  resolution: STATIC\n  \
         ports: [{number: 80, name: http, protocol: HTTP}]\n  \
         workloadSelector: {labels: {app: nobody}}\n",
    ]
    .concat();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("rules.yaml", &rules),
        (
            "settings.yaml",
            &settings("{role: gateway, accessLog: {format: JSON}}"),
        ),
    ]);
    let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
    let log = LogLines::of(&mut proxy);
    Shop {
        echo,
        address,
        log,
        proxy,
    }
}

impl Shop {
    fn get(&self, target: &str) -> Answer {
        get(self.address, "shop.test", target)
    }

    /// The response flags in the log line of the request for `target`.
    fn logged(&self, target: &str) -> serde_json::Value {
        let line = self.log.line_with(&format!("\"path\":\"{target}\""));
        serde_json::from_str(&line).expect("JSON")
    }

    /// What the upstream saw last, in lower case.
    fn seen(&self) -> String {
        let heads = self.echo.heads();
        heads.last().expect("a request").to_ascii_lowercase()
    }
}

#[test]
fn requests_that_lead_nowhere_are_answered_with_their_flag() {
    for driver in DRIVERS {
        let shop = shop(driver);
        for (host, target, expected, flag) in [
            ("unknown.test", "/host", 404, "NR"),
            ("shop.test", "/unrouted", 404, "NR"),
            ("shop.test", "/no-cluster", 503, "NC"),
            ("shop.test", "/no-endpoint", 503, "UH"),
        ] {
            let answer = get(shop.address, host, target);
            assert_eq!(answer.status, expected, "{target}: {answer:?}");
            let line = shop.logged(target);
            assert_eq!(line["response_flags"], flag, "{line}");
            assert_eq!(line["response_code"], expected, "{line}");
        }
        assert_eq!(shop.echo.heads(), Vec::<String>::new());
        let listener = format!("http.{}_{}", shop.address.ip(), shop.address.port());
        shop.proxy.until_stat(&format!("{listener}.no_route"), 2);
        shop.proxy.until_stat(&format!("{listener}.no_cluster"), 1);
        let none = "cluster.outbound|80||empty.test.upstream_cx_none_healthy";
        shop.proxy.until_stat(none, 1);
    }
}

#[test]
fn the_first_route_whose_conditions_hold_is_taken() {
    for driver in DRIVERS {
        let shop = shop(driver);
        let answer = |method: &str, target: &str, header: &str| {
            let request = format!(
                "{method} {target} HTTP/1.1\r\nhost: shop.test:8080\r\n{header}\
                 connection: close\r\n\r\n"
            );
            converse(shop.address, &[request.as_bytes()]).0
        };
        let vip = answer("GET", "/vip?a=b&beta=1", "X-User: jane\r\n");
        assert!(vip.ends_with("\r\n\r\nvip"), "{vip}");
        for (target, header) in [
            ("/vip?beta=1", ""),
            ("/vip?beta=2", "x-user: jane\r\n"),
            ("/vip", "x-user: jane\r\n"),
            ("/vip?beta=1", "x-user: Jane\r\n"),
        ] {
            let plain = answer("GET", target, header);
            assert!(plain.ends_with("\r\n\r\nplain"), "{target}: {plain}");
        }
        let deleted = answer("DELETE", "/vip", "");
        assert!(deleted.ends_with("\r\n\r\ndeleted"), "{deleted}");
        // Dots are taken out before the path is judged.
        let dots = answer("GET", "/x/../gone", "");
        assert_eq!(status(&dots), 418, "{dots}");
    }
}

#[test]
fn redirects_and_direct_responses_need_no_upstream() {
    for driver in DRIVERS {
        let shop = shop(driver);
        let answer = shop.get("/gone");
        assert_eq!((answer.status, answer.body.as_str()), (418, "teapot"));
        let answer = shop.get("/old/shoe?size=9");
        assert_eq!(answer.status, 308);
        let to = answer.header("location");
        assert_eq!(to, Some("http://shop.test/new?size=9"));
        let answer = shop.get("/elsewhere/x?y");
        assert_eq!(answer.status, 301);
        let to = answer.header("location");
        assert_eq!(to, Some("http://other.test/elsewhere/x?y"));
        // HEAD has the length, but not the bytes, so that the next answer is read right.
        let requests = b"HEAD /gone HTTP/1.1\r\nhost: shop.test\r\n\r\n\
                         GET /gone HTTP/1.1\r\nhost: shop.test\r\nconnection: close\r\n\r\n";
        let (answers, _) = converse(shop.address, &[requests]);
        assert_eq!(answers.matches("content-length: 6").count(), 2, "{answers}");
        assert_eq!(answers.matches("teapot").count(), 1, "{answers}");
        assert_eq!(shop.echo.heads(), Vec::<String>::new());
    }
}

#[test]
fn a_rewrite_changes_what_the_upstream_sees() {
    for driver in DRIVERS {
        let shop = shop(driver);
        assert_eq!(shop.get("/api/cart?id=7").status, 200);
        let seen = shop.seen();
        assert!(
            seen.starts_with("get /v1/cart?id=7 http/1.1\r\nhost: inner.test\r\n"),
            "{seen}"
        );
        assert!(
            seen.contains("x-envoy-original-path: /api/cart?id=7\r\n"),
            "path and query as they came: {seen}"
        );
        // Operations do not add a second line of these.
        assert!(
            seen.contains("x-envoy-original-host: shop.test\r\n"),
            "{seen}"
        );
        assert!(!seen.contains("forged"), "{seen}");
        // The log has the path as the client wrote it, and the name of the route.
        let line = shop.logged("/api/cart?id=7");
        assert_eq!(line["route_name"], "rewritten");
        assert_eq!(line["authority"], "inner.test");
        assert_eq!(shop.get("/item/42").status, 200);
        let seen = shop.seen();
        assert!(seen.starts_with("get /items?id=42 http/1.1\r\n"), "{seen}");
    }
}

#[test]
fn header_operations_reach_both_sides() {
    for driver in DRIVERS {
        let shop = shop(driver);
        let request = b"GET /headers HTTP/1.1\r\nhost: shop.test\r\nX-Set: old\r\nX-Remove: 1\r\n\
                        X-Add: first\r\nconnection: close\r\n\r\n";
        let (answer, _) = converse(shop.address, &[request]);
        let seen = shop.seen();
        assert!(seen.contains("x-set: new\r\n"), "{seen}");
        assert!(!seen.contains("x-set: old"), "{seen}");
        assert!(!seen.contains("x-remove"), "{seen}");
        assert!(seen.contains("x-add: first\r\n"), "{seen}");
        assert!(seen.contains("x-add: more\r\n"), "{seen}");
        assert!(answer.contains("x-answer: here\r\n"), "{answer}");
        assert!(!answer.contains("x-answer: old"), "{answer}");
        assert!(!answer.contains("x-secret"), "{answer}");
    }
}

/// `check` warns of them: a body without its length would be read as the next request.
#[test]
fn operations_on_the_framing_do_not_lose_where_a_message_ends() {
    const FRAMING: &str = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: all}
spec:
  hosts: ["*"]
  gateways: [gate]
  http:
  - headers:
      request:
        set: {transfer-encoding: chunked, connection: close, x-set: here}
        remove: [content-length]
      response:
        set: {content-length: "9", transfer-encoding: chunked, connection: close, x-set: here}
        remove: [content-length]
    route: [{destination: {host: echo.test, port: {number: 80}}}]
"#;
    for driver in DRIVERS {
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                let body = String::from_utf8(connection.body(5)).expect("text");
                connection.send(format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{body}"
                ));
            }
        });
        let address = free_address();
        let rules = [FRAMING, &service("echo", &[upstream.address])].concat();
        let config = folder(&[("gate.yaml", &gateway(address)), ("rules.yaml", &rules)]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        proxy.until_logged("framing-header");
        let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n";
        let both = format!("{request}\r\nfirst{request}connection: close\r\n\r\nagain");
        let (answers, _) = converse(address, &[both.as_bytes()]);
        for part in ["\r\n\r\nfirst", "\r\n\r\nagain"] {
            assert!(answers.contains(part), "{answers}");
        }
        assert_eq!(
            answers.matches("content-length: 5\r\n").count(),
            2,
            "{answers}"
        );
        assert_eq!(answers.matches("x-set: here\r\n").count(), 2, "{answers}");
        assert!(!answers.contains("chunked"), "{answers}");
        for head in upstream.heads() {
            let head = head.to_ascii_lowercase();
            assert!(head.contains("content-length: 5\r\n"), "{head}");
            assert!(head.contains("x-set: here\r\n"), "{head}");
            assert!(
                !head.contains("chunked") && !head.contains("connection"),
                "{head}"
            );
        }
    }
}

#[test]
fn a_route_timeout_is_504_before_the_answer_and_a_cut_within_it() {
    for driver in DRIVERS {
        let shop = shop(driver);
        // The connection stays usable after the 504.
        let mut client = Client::connect(shop.address).expect("connects");
        let answer = client.send("GET", "shop.test", "/slow").expect("an answer");
        assert_eq!(answer.status, 504);
        assert_eq!(answer.body, "upstream request timeout");
        let next = client.send("GET", "shop.test", "/gone").expect("an answer");
        assert_eq!(next.status, 418);
        assert_eq!(shop.logged("/slow")["response_flags"], "UT");
        let seen = shop.seen();
        assert!(
            seen.contains("x-envoy-expected-rq-timeout-ms: 1500\r\n"),
            "{seen}"
        );

        let request = b"GET /slow-body HTTP/1.1\r\nhost: shop.test\r\n\r\n";
        let (answer, _) = converse(shop.address, &[request]);
        assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
        assert_eq!(shop.logged("/slow-body")["response_flags"], "UT");
        let timeouts = "cluster.outbound|80||echo.test.upstream_rq_timeout";
        shop.proxy.until_stat(timeouts, 2);
    }
}

/// Ninety to ten is dealt, not tossed: each worker gives one of ten, in an order of its own.
#[test]
fn a_split_is_exact_in_each_block_of_each_worker() {
    for driver in DRIVERS {
        let (v1, v2) = (Upstream::start("v1"), Upstream::start("v2"));
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            (
                "split.yaml",
                &splitting(&[(v1.address, 90), (v2.address, 10)]),
            ),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        // A worker that is ahead hands a connection over, so each gets one.
        let mut clients = [0, 1].map(|_| {
            let mut client = Client::connect(address).expect("connects");
            assert_eq!(
                client.send("GET", "a.test", "/").expect("an answer").status,
                200
            );
            client
        });
        let served = |worker: &str| proxy.stat(&format!("worker_{worker}.requests"));
        until_equal("requests, one connection each", (1, 1), || {
            (served("0"), served("1"))
        });
        for client in &mut clients {
            let canaries: Vec<bool> = (1..1_000)
                .map(|_| {
                    let answer = client.send("GET", "a.test", "/").expect("an answer");
                    answer.body == "v2"
                })
                .collect();
            // The first of the block was the one above.
            let blocks: Vec<_> = canaries[9..].chunks(10).collect();
            for block in &blocks {
                let share = block.iter().filter(|is_canary| **is_canary).count();
                assert_eq!(share, 1, "{block:?}");
            }
            let mut places = [false; 10];
            for block in &blocks {
                places[block.iter().position(|is_canary| *is_canary).expect("one")] = true;
            }
            let used = places.iter().filter(|place| **place).count();
            assert!(used >= 8, "in 99 blocks only {used} places of ten");
        }
        assert_eq!((v1.requests(), v2.requests()), (1_800, 200));

        // A client that alternates between two URLs sees both versions of each.
        let mut canaries = [0, 0];
        for at in 0..400 {
            let target = ["/a", "/b"][at % 2];
            let answer = clients[0].send("GET", "a.test", target).expect("an answer");
            canaries[at % 2] += usize::from(answer.body == "v2");
        }
        assert!(canaries.iter().all(|count| *count > 0), "{canaries:?}");
        assert_eq!(canaries.iter().sum::<usize>(), 40);
    }
}

#[test]
fn round_robin_goes_evenly_round_the_endpoints() {
    for driver in DRIVERS {
        let upstreams = ["a", "b", "c"].map(Upstream::start);
        let address = free_address();
        let rules = [
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: ring}\n\
             spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  \
             - route: [{destination: {host: ring.test, port: {number: 80}}}]\n",
            &service(
                "ring",
                &upstreams.each_ref().map(|upstream| upstream.address),
            ),
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {name: ring}\nspec:\n  host: ring.test\n  \
             trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}\n",
        ]
        .concat();
        let config = folder(&[("gate.yaml", &gateway(address)), ("rules.yaml", &rules)]);
        let _proxy = Proxy::start(config, &["--driver", driver]);
        let mut clients: Vec<Client> = (0..6)
            .map(|_| Client::connect(address).expect("connects"))
            .collect();
        for _ in 0..50 {
            for client in &mut clients {
                client.send("GET", "a.test", "/").expect("an answer");
            }
        }
        let counts = upstreams.each_ref().map(Upstream::requests);
        assert_eq!(counts.iter().sum::<usize>(), 300);
        // Each of the two workers is within one of its share.
        assert!(
            counts.iter().all(|count| count.abs_diff(100) <= 2),
            "{counts:?}"
        );
    }
}

/// A sidecar listens at the port of the service.
#[test]
fn a_sidecar_trusts_what_the_workload_says_of_itself() {
    for driver in DRIVERS {
        let upstream = echo();
        let address = free_address();
        let rules = service("echo", &[upstream.address])
            .replace("number: 80", &format!("number: {}", address.port()));
        let config = folder(&[
            ("settings.yaml", &settings("{role: sidecar}")),
            ("rules.yaml", &rules),
        ]);
        let _proxy = Proxy::start(config, &["--driver", driver]);
        let request = b"GET http://echo.test/x HTTP/1.1\r\nhost: other.test\r\n\
                        x-request-id: mine\r\nx-forwarded-for: 9.9.9.9\r\n\
                        x-forwarded-proto: https\r\nx-envoy-retry-on: 5xx\r\n\
                        x-envoy-attempt-count: 9\r\nconnection: close\r\n\r\n";
        let (answer, _) = converse(address, &[request]);
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.contains("server: envoy\r\n"), "{answer}");
        let seen = upstream.heads().pop().expect("a request");
        let seen = seen.to_ascii_lowercase();
        for there in [
            "get /x http/1.1\r\nhost: echo.test\r\n",
            "x-request-id: mine\r\n",
            "x-forwarded-for: 9.9.9.9\r\n",
            "x-forwarded-proto: https\r\n",
            "x-envoy-attempt-count: 1\r\n",
        ] {
            assert_eq!(seen.matches(there).count(), 1, "{there}: {seen}");
        }
        assert!(!seen.contains("retry-on"), "{seen}");
        assert_eq!(seen.matches("x-envoy-attempt-count").count(), 1, "{seen}");

        // What it does not say is filled in.
        let request = b"GET /y HTTP/1.1\r\nhost: echo.test\r\nconnection: close\r\n\r\n";
        converse(address, &[request]);
        let seen = upstream.heads().pop().expect("a request");
        assert!(!seen.contains("x-forwarded-for"), "{seen}");
        assert!(seen.contains("x-forwarded-proto: http\r\n"), "{seen}");
        let id = seen.split("x-request-id: ").nth(1).expect("an id");
        assert_eq!(id.split('\r').next().map(str::len), Some(36), "{seen}");
    }
}

#[test]
fn options_of_a_whole_site_in_absolute_form_find_their_route() {
    for driver in DRIVERS {
        let upstream = echo();
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let _proxy = Proxy::start(config, &["--driver", driver]);
        let request = b"OPTIONS http://echo.test HTTP/1.1\r\nhost: echo.test\r\n\
                        connection: close\r\n\r\n";
        let (answer, _) = converse(address, &[request]);
        assert_eq!(status(&answer), 200, "{driver}: {answer}");
        let seen = upstream.heads().pop().expect("a request");
        assert!(seen.starts_with("OPTIONS / HTTP/1.1\r\n"), "{seen}");
    }
}
