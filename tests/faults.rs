//! Faults, mirrors and cross-origin rules, on both drivers.

mod harness;

use harness::raw::{ScriptedUpstream, converse, status};
use harness::{
    Answer, Client, DRIVERS, Proxy, folder, free_address, gateway, get, settings, until,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn service(name: &str, endpoint: SocketAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{name}.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n  \
         - address: {}\n    ports: {{http: {}}}\n",
        endpoint.ip(),
        endpoint.port()
    )
}

/// A proxy whose one virtual service has these annotations and this rule before its route to
/// `main.test`.
fn start(
    driver: &str,
    annotations: &str,
    rule: &str,
    services: &[(&str, SocketAddr)],
    spec: &str,
) -> (Proxy, SocketAddr) {
    let address = free_address();
    let mut rules = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: shop, annotations: {annotations}}}\nspec:\n  hosts: [\"*\"]\n  \
         gateways: [gate]\n  http:\n  - {rule}\n    \
         route: [{{destination: {{host: main.test, port: {{number: 80}}}}}}]\n"
    );
    for (name, endpoint) in services {
        rules += &service(name, *endpoint);
    }
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("rules.yaml", &rules),
        ("settings.yaml", &settings(spec)),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

fn ok_upstream() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while let Some((_, head)) = connection.head() {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            let body = connection.body(length);
            connection.send(format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"
            ));
            connection.send(body);
        }
    })
}

#[track_caller]
fn until_listener_stat(proxy: &Proxy, address: SocketAddr, name: &str, wanted: u64) {
    proxy.until_stat(&format!("http.127.0.0.1_{}.{name}", address.port()), wanted);
}

#[test]
fn a_share_of_requests_is_aborted_and_never_forwarded() {
    for driver in DRIVERS {
        let upstream = ok_upstream();
        let rule = "fault: {abort: {httpStatus: 418, percentage: {value: 25}}}";
        let services = [("main", upstream.address)];
        let (proxy, address) = start(driver, "{}", rule, &services, "{role: gateway}");
        let mut client = Client::connect(address).expect("connects");
        let mut aborted = 0;
        for _ in 0..400 {
            let answer = client.send("GET", "a.test", "/").expect("an answer");
            if answer.status == 418 {
                assert_eq!(answer.body, "fault filter abort");
                aborted += 1;
            }
        }
        // 100 expected; nine standard deviations either way.
        assert!((22..=178).contains(&aborted), "{aborted}");
        assert_eq!(upstream.heads().len(), 400 - aborted);
        until_listener_stat(&proxy, address, "fault.aborts_injected", aborted as u64);
        proxy.until_metrics("response_flags=\"FI\"");
    }
}

#[test]
fn a_seed_makes_faults_repeat() {
    let upstream = ok_upstream();
    let rule = "fault: {abort: {httpStatus: 500, percentage: {value: 50}}}";
    let run = |seed: u32| -> Vec<u16> {
        let services = [("main", upstream.address)];
        let spec = format!("{{role: gateway, seed: {seed}}}");
        let (_proxy, address) = start("auto", "{}", rule, &services, &spec);
        let mut client = Client::connect(address).expect("connects");
        let mut status = || client.send("GET", "a.test", "/").expect("an answer").status;
        (0..64).map(|_| status()).collect()
    };
    let first = run(7);
    assert_eq!(run(7), first);
    assert_ne!(run(8), first);
}

#[test]
fn a_delay_holds_the_request_and_not_its_timeout() {
    for driver in DRIVERS {
        let upstream = ok_upstream();
        let rule =
            "timeout: 1500ms\n    fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}}";
        let services = [("main", upstream.address)];
        let (proxy, address) = start(driver, "{}", rule, &services, "{role: gateway}");
        let began = Instant::now();
        assert_eq!(get(address, "a.test", "/").status, 200);
        assert!(began.elapsed() >= Duration::from_secs(2));
        until_listener_stat(&proxy, address, "fault.delays_injected", 1);
        proxy.until_metrics("response_flags=\"DI\"");
    }
}

#[test]
fn only_so_many_requests_are_delayed_at_a_time() {
    let upstream = ok_upstream();
    let rule = "fault: {delay: {fixedDelay: 60s, percentage: {value: 100}}}";
    let spec = "{role: gateway, limits: {maxActiveFaults: 2}}";
    let (proxy, address) = start("auto", "{}", rule, &[("main", upstream.address)], spec);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(address).expect("connects");
        client.start("GET", "a.test", "/").expect("sent");
        held.push(client);
    }
    until_listener_stat(&proxy, address, "fault.delays_injected", 2);
    assert_eq!(get(address, "a.test", "/").status, 200);
    until_listener_stat(&proxy, address, "fault.faults_overflow", 1);
    // A client that leaves gives its place back.
    drop(held.pop());
    let given_up = "downstream_cx_destroy_remote_active_rq";
    until_listener_stat(&proxy, address, given_up, 1);
    let mut client = Client::connect(address).expect("connects");
    client.start("GET", "a.test", "/").expect("sent");
    until_listener_stat(&proxy, address, "fault.delays_injected", 3);
}

#[test]
fn faults_on_the_upstream_side_are_retried_and_timed() {
    for driver in DRIVERS {
        let upstream = ok_upstream();
        let side = "{ringroad.dev/fault-side: upstream}";
        let rule = "retries: {attempts: 20, retryOn: 5xx, backoff: 1ms}\n    \
                    fault: {abort: {httpStatus: 503, percentage: {value: 50}}}";
        let services = [("main", upstream.address)];
        let (proxy, address) = start(driver, side, rule, &services, "{role: gateway, seed: 1}");
        for _ in 0..20 {
            assert_eq!(get(address, "a.test", "/").status, 200);
        }
        let retried = proxy.stat("cluster.outbound|80||main.test.upstream_rq_retry");
        assert!(retried > 0);
        until_listener_stat(&proxy, address, "fault.aborts_injected", retried);

        let rule =
            "timeout: 100ms\n    fault: {delay: {fixedDelay: 60s, percentage: {value: 100}}}";
        let (_proxy, address) = start(driver, side, rule, &services, "{role: gateway}");
        assert_eq!(get(address, "a.test", "/").status, 504);
    }
}

#[test]
fn mirrors_get_copies_and_nobody_waits_for_them() {
    for driver in DRIVERS {
        let upstream = ok_upstream();
        let copied = ok_upstream();
        // A mirror that never answers, and one that is not there.
        let silent = ScriptedUpstream::start(|connection| while connection.head().is_some() {});
        let rule = "mirrors:\n    - destination: {host: copied.test, port: {number: 80}}\n    \
                    - destination: {host: silent.test, port: {number: 80}}\n    \
                    - destination: {host: absent.test, port: {number: 80}}\n    \
                    - destination: {host: copied.test, port: {number: 80}}\n      \
                      percentage: {value: 0}";
        let services = [
            ("main", upstream.address),
            ("copied", copied.address),
            ("silent", silent.address),
            ("absent", free_address()),
        ];
        let (proxy, address) = start(driver, "{}", rule, &services, "{role: gateway}");
        let mut client = Client::connect(address).expect("connects");
        for _ in 0..20 {
            let answer = client
                .send("GET", "a.test", "/path?q=1")
                .expect("an answer");
            assert_eq!(answer.status, 200);
        }
        let stat = |name: &str| proxy.stat(&format!("cluster.outbound|80||{name}"));
        until("the copies", || stat("copied.test.upstream_rq_2xx") == 20);
        assert_eq!(copied.heads().len(), 20);
        assert!(copied.heads()[0].starts_with("GET /path?q=1 HTTP/1.1\r\nhost: a.test\r\n"));
        until("the silent copies", || silent.heads().len() == 20);
        until("the failed copies", || {
            stat("absent.test.shadow_rq_failed") == 20
        });

        // With its body, whole, also when it comes in pieces.
        let body = "0123456789".repeat(5_000);
        let head = format!(
            "POST /upload HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let (first, second) = body.split_at(20_000);
        let pieces = [head.as_bytes(), first.as_bytes(), second.as_bytes()];
        let (answer, _) = converse(address, &pieces);
        assert_eq!(status(&answer), 200);
        until("the copy of the upload", || {
            stat("copied.test.upstream_cx_tx_bytes_total") as usize >= body.len()
                || stat("copied.test.upstream_rq_2xx") == 21
        });
    }
}

const CORS: &str = "corsPolicy:\n      allowOrigins: [{exact: \"https://shop.test\"}, {prefix: \
    \"https://dev.\"}]\n      allowMethods: [GET, PUT]\n      allowHeaders: [x-token]\n      \
    exposeHeaders: [x-total]\n      maxAge: 24h\n      allowCredentials: true";

fn ask(address: SocketAddr, method: &str, headers: &str) -> Answer {
    let mut client = Client::connect(address).expect("connects");
    let target = format!("/ HTTP/1.1\r\n{headers}x-end:");
    // The harness writes the rest of the request line behind the target: it becomes a header.
    client.send(method, "a.test", &target).expect("an answer")
}

#[test]
fn cross_origin_requests_get_what_the_policy_grants() {
    for driver in DRIVERS {
        let upstream = ok_upstream();
        let services = [("main", upstream.address)];
        let (proxy, address) = start(driver, "{}", CORS, &services, "{role: gateway}");
        let preflight = "access-control-request-method: PUT\r\n";

        let answer = ask(
            address,
            "OPTIONS",
            &format!("origin: https://shop.test\r\n{preflight}"),
        );
        assert_eq!(answer.status, 200);
        for (name, value) in [
            ("access-control-allow-origin", "https://shop.test"),
            ("access-control-allow-methods", "GET,PUT"),
            ("access-control-allow-headers", "x-token"),
            ("access-control-max-age", "86400"),
            ("access-control-allow-credentials", "true"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{name}");
        }
        assert_eq!(upstream.heads().len(), 0, "a preflight is answered here");

        let answer = ask(address, "GET", "origin: https://dev.test\r\n");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://dev.test")
        );
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("x-total")
        );
        assert_eq!(answer.header("access-control-allow-methods"), None);

        // Others pass as they are, preflights too.
        for (method, headers) in [
            ("GET", "origin: https://other.test\r\n".to_string()),
            ("GET", String::new()),
            (
                "OPTIONS",
                format!("origin: https://other.test\r\n{preflight}"),
            ),
            ("OPTIONS", "origin: https://dev.test\r\n".to_string()),
        ] {
            let before = upstream.heads().len();
            let answer = ask(address, method, &headers);
            assert_eq!(answer.status, 200);
            let granted = answer.header("access-control-allow-origin").is_some();
            assert_eq!(granted, headers.contains("dev.test"), "{method} {headers}");
            assert_eq!(upstream.heads().len(), before + 1);
        }
        until_listener_stat(&proxy, address, "cors.origin_valid", 3);
        until_listener_stat(&proxy, address, "cors.origin_invalid", 2);

        let ignoring = format!("{CORS}\n      unmatchedPreflights: IGNORE");
        let (_proxy, address) = start(driver, "{}", &ignoring, &services, "{role: gateway}");
        let before = upstream.heads().len();
        let answer = ask(
            address,
            "OPTIONS",
            &format!("origin: https://other.test\r\n{preflight}"),
        );
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(upstream.heads().len(), before);
    }
}

/// Faults and cross-origin rules come before it is asked which cluster there is.
#[test]
fn a_route_that_leads_nowhere_still_injects_and_grants() {
    const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: lost}
spec:
  hosts: ['*']
  gateways: [gate]
  http:
  - match: [{uri: {prefix: /abort}}]
    fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    route: [{destination: {host: nobody.test}}]
  - match: [{uri: {prefix: /delay}}]
    fault: {delay: {fixedDelay: 200ms, percentage: {value: 100}}}
    route: [{destination: {host: nobody.test}}]
  - corsPolicy: {allowOrigins: [{exact: 'https://a'}], allowMethods: [GET]}
    headers: {response: {set: {x-rule: '1'}}}
    route:
    - destination: {host: nobody.test}
      headers: {response: {set: {x-destination: '1'}}}
";
    for driver in DRIVERS {
        let address = free_address();
        let settings = settings("{role: gateway, accessLog: {format: TEXT}}");
        let files = [
            ("gate.yaml", gateway(address)),
            ("rules.yaml", RULES.to_string()),
            ("settings.yaml", settings),
        ];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let proxy = Proxy::start(folder(&files), &["--driver", driver]);
        let aborted = get(address, "a.test", "/abort");
        assert_eq!(
            (aborted.status, aborted.body.as_str()),
            (418, "fault filter abort")
        );
        until_listener_stat(&proxy, address, "fault.aborts_injected", 1);
        let began = Instant::now();
        assert_eq!(get(address, "a.test", "/delay").status, 503);
        assert!(began.elapsed() >= Duration::from_millis(200));
        let asks = "origin: https://a\r\naccess-control-request-method: GET\r\n";
        let preflight = ask(address, "OPTIONS", asks);
        assert_eq!(preflight.status, 200, "{driver}");
        assert_eq!(
            preflight.header("access-control-allow-methods"),
            Some("GET")
        );
        let plain = ask(address, "GET", "origin: https://a\r\n");
        assert_eq!(plain.status, 503);
        for (name, value) in [
            ("access-control-allow-origin", "https://a"),
            ("x-rule", "1"),
            ("x-destination", "1"),
        ] {
            assert_eq!(plain.header(name), Some(value), "{name} {plain:?}");
        }
    }
}
