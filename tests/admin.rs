//! The admin interface of a running proxy.

mod harness;

use harness::raw::converse;
use harness::{
    Client, DRIVERS, PATIENCE, Proxy, Upstream, folder, free_address, gateway, get, post, settings,
    splitting, until,
};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

#[test]
fn pages_tell_what_runs_and_what_was_carried() {
    for driver in DRIVERS {
        let (address, upstream) = (free_address(), Upstream::start("one"));
        let split = splitting(&[(upstream.address, 1)]);
        let config = folder(&[("gate.yaml", &gateway(address)), ("split.yaml", &split)]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert_eq!(proxy.admin("/ready").body, "LIVE\n");
        let answer = get(address, "shop.example", "/");
        assert_eq!((answer.status, answer.body.as_str()), (200, "one"));

        let info = proxy.admin_json("/server_info");
        let name = info["driver"]["name"].as_str().expect("a name");
        if driver == "epoll" {
            assert_eq!(name, "epoll");
        }
        assert_ne!(info["driver"]["reason"], "");
        assert_eq!(info["workers"].as_array().map(Vec::len), Some(2));
        assert!(
            proxy
                .admin("/listeners")
                .body
                .ends_with(&format!("::{address}\n"))
        );
        let clusters = proxy.admin("/clusters").body;
        let endpoint = format!("outbound|80||up0.test::{}::weight::1\n", upstream.address);
        assert!(clusters.contains(&endpoint), "{clusters}");
        let dump = proxy.admin_json("/config_dump");
        assert_eq!(dump["documents"].as_array().map(Vec::len), Some(3));
        assert_eq!(dump["clusters"][0]["name"], "outbound|80||up0.test");

        until("the request in the metrics", || {
            let text = proxy.admin("/stats/prometheus").body;
            text.lines().any(|line| {
                line.starts_with("istio_requests_total{")
                    && line.contains("response_code=\"200\"")
                    && line.ends_with(" 1")
            })
        });
        assert_eq!(proxy.stat("config.generation"), 1);
    }
}

/// Who sent what to whom, and how long it took: what Istio's dashboards go by.
#[test]
fn requests_are_told_with_the_labels_of_istio() {
    for driver in DRIVERS {
        let (address, upstream) = (free_address(), Upstream::start("one"));
        let split = splitting(&[(upstream.address, 1)]);
        let labelled = split.replace(
            "    ports: {http",
            "    labels: {app: shop, version: v7}\n    ports: {http",
        );
        let own = "{role: gateway, namespace: edge, \
                   workload: {name: front, labels: {app: door, version: v2}}}";
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &labelled),
            ("settings.yaml", &settings(own)),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        upstream.close_gate();
        let mut client = Client::connect(address).expect("connects");
        let began = Instant::now();
        client.start("GET", "shop.example", "/").expect("is sent");
        until("the request at the upstream", || upstream.requests() == 1);
        // Time is part of what this tests.
        let pause = Duration::from_millis(100);
        std::thread::sleep(pause);
        upstream.open_gate();
        assert_eq!(client.answer().expect("an answer").status, 200);
        let took = began.elapsed();

        let sample = |name: &str| {
            let page = proxy.admin("/stats/prometheus").body;
            let line = page.lines().find(|line| line.starts_with(name))?;
            Some(line.to_string())
        };
        let mut told = None;
        until("the request in the metrics", || {
            told = sample("istio_requests_total{");
            told.is_some()
        });
        let told = told.expect("was waited for");
        for label in [
            "reporter=\"source\"",
            "source_workload=\"front\"",
            "source_workload_namespace=\"edge\"",
            "source_app=\"door\"",
            "source_version=\"v2\"",
            "source_canonical_service=\"door\"",
            "source_canonical_revision=\"v2\"",
            "destination_app=\"shop\"",
            "destination_version=\"v7\"",
            "destination_service=\"up0.test\"",
            "destination_service_name=\"up0.test\"",
            "destination_service_namespace=\"default\"",
            "request_protocol=\"http\"",
            "response_code=\"200\"",
            "response_flags=\"-\"",
            "connection_security_policy=\"unknown\"",
        ] {
            assert!(told.contains(label), "{label}: {told}");
        }
        let figure = |name: &str| {
            let line = sample(&format!("istio_request_duration_milliseconds_{name}{{"));
            let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            value.expect("a number")
        };
        assert_eq!(figure("count"), 1.0);
        let (least, most) = (pause.as_secs_f64(), took.as_secs_f64());
        let sum = figure("sum") / 1e3;
        assert!(least <= sum && sum <= most, "{least} {sum} {most}");
    }
}

/// A release relabels what runs at an address that stays.
#[test]
fn labels_that_a_change_gives_to_an_endpoint_or_the_workload_are_in_the_metrics_at_once() {
    for driver in DRIVERS {
        let (address, upstream) = (free_address(), Upstream::start("one"));
        let split = splitting(&[(upstream.address, 1)]);
        let endpoint = |version: &str| {
            let labels = format!("    labels: {{app: shop, version: {version}}}\n");
            split.replace("    ports: {http", &format!("{labels}    ports: {{http"))
        };
        let own = |version: &str, more: &str| {
            settings(&format!(
                "{{workload: {{name: front, labels: {{app: door, version: {version}{more}}}}}}}"
            ))
        };
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &endpoint("v1")),
            ("settings.yaml", &own("v1", "")),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let counted = |labels: &[&str]| {
            let answered = get(address, "shop.example", "/").status == 200
                && get(address, "shop.example", "/none").status == 200;
            answered && proxy.has_series("istio_requests_total", labels)
        };
        until("the first labels", || {
            counted(&["source_version=\"v1\"", "destination_version=\"v1\""])
        });
        proxy.put("split.yaml", &endpoint("v2"));
        until("the labels of the endpoint", || {
            counted(&["source_version=\"v1\"", "destination_version=\"v2\""])
        });
        let named = ", service.istio.io/canonical-name: porch";
        proxy.put("settings.yaml", &own("v3", named));
        until("the labels of the workload", || {
            counted(&[
                "source_version=\"v3\"",
                "source_canonical_service=\"porch\"",
                "destination_version=\"v2\"",
            ])
        });
    }
}

#[test]
fn every_admin_path_answers() {
    DRIVERS.into_iter().for_each(every_page_answers);
}

/// Every page of the index over a real socket, and what it is good for.
fn every_page_answers(driver: &str) {
    let (address, upstream) = (free_address(), Upstream::start("one"));
    let split = splitting(&[(upstream.address, 1)]);
    let config = folder(&[("gate.yaml", &gateway(address)), ("split.yaml", &split)]);
    let proxy = Proxy::start(config, &["--driver", driver]);
    assert_eq!(get(address, "a", "/").status, 200);
    let index = proxy.admin("/");
    assert!(
        index
            .header("content-type")
            .is_some_and(|it| it.starts_with("text/html"))
    );
    let linked: Vec<&str> = index
        .body
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    for page in &linked {
        assert_eq!(proxy.admin(page).status, 200, "{page}");
    }
    for page in [
        "/clusters",
        "/config_dump",
        "/listeners",
        "/logging",
        "/ready",
        "/server_info",
        "/stats",
        "/stats/prometheus",
    ] {
        assert!(linked.contains(&page), "{page} is not on the index page");
    }
    for page in ["/quitquitquit", "/drain_listeners"] {
        assert!(index.body.contains(&format!("\"{page}\"")), "{page}");
        assert_eq!(proxy.admin(page).status, 405, "{page} needs POST");
    }
    assert_eq!(proxy.admin("/nowhere").status, 404);

    let filtered = proxy.admin("/stats?filter=%5Econfig%5C.gen").body;
    assert_eq!(filtered, "config.generation: 1\n");
    let cluster = "cluster.outbound|80||up0.test.upstream_rq_total";
    proxy.until_stat(cluster, 1);
    let used = proxy.admin("/stats?usedonly&filter=upstream_rq").body;
    assert!(used.contains(&format!("{cluster}: 1\n")), "{used}");
    assert!(!used.lines().any(|line| line.ends_with(": 0")), "{used}");
    let stats = proxy.admin_json("/stats?format=json&filter=upstream_rq_total");
    assert_eq!(stats["stats"][0]["name"], cluster);
    assert_eq!(stats["stats"][0]["value"], 1);
    let broken = proxy.admin("/stats?filter=(");
    assert_eq!(broken.status, 400);
    assert!(broken.body.contains("regex"), "{}", broken.body);
    assert_eq!(proxy.admin("/stats?format=xml").status, 400);
    let help = proxy.admin("/help").body;
    let (_, kinds) = help.split_once("?type=").expect("the kinds of figures");
    let kinds: Vec<&str> = kinds.split_once(',').unwrap().0.split('|').collect();
    assert_eq!(
        kinds,
        ["All", "Counters", "Gauges", "Histograms", "TextReadouts"]
    );
    for kind in kinds {
        let page = format!("/stats?type={kind}");
        assert_eq!(proxy.admin(&page).status, 200, "{page}");
    }

    let clusters = proxy.admin_json("/clusters?format=json");
    let host = &clusters["cluster_statuses"][0]["host_statuses"][0]["address"];
    assert_eq!(
        host["socket_address"]["port_value"],
        upstream.address.port()
    );
    let listeners = proxy.admin_json("/listeners?format=json");
    let local = &listeners["listener_statuses"][0]["local_address"];
    assert_eq!(local["socket_address"]["port_value"], address.port());

    assert_eq!(post(proxy.admin, "/logging?level=debug").status, 200);
    assert!(proxy.admin("/logging").body.ends_with("ringroad: debug\n"));
    assert_eq!(post(proxy.admin, "/logging?level=loud").status, 400);
    assert_eq!(proxy.admin("/logging?level=info").status, 405);
    assert!(proxy.admin("/logging").body.ends_with("ringroad: debug\n"));

    assert_eq!(post(proxy.admin, "/healthcheck/fail").status, 200);
    assert_eq!(proxy.admin("/ready").status, 503);
    assert_eq!(get(address, "a", "/").status, 200, "requests go on");
    assert_eq!(post(proxy.admin, "/healthcheck/ok").status, 200);
    assert_eq!(proxy.admin("/ready").status, 200);
}

#[test]
fn other_hosts_are_refused() {
    let proxy = Proxy::start(folder(&[]), &[]);
    assert_eq!(get(proxy.admin, "evil.example", "/config_dump").status, 403);
    assert_eq!(proxy.admin("/config_dump").status, 200);
}

/// A page that can add a header could else name this machine in one and itself in the other.
#[test]
fn the_first_of_two_hosts_is_taken() {
    let proxy = Proxy::start(folder(&[]), &[]);
    for hosts in [
        "localhost\r\nhost: evil.example",
        "evil.example\r\nhost: localhost",
    ] {
        let mut client = Client::connect(proxy.admin).expect("connects");
        let answer = client
            .send("GET", hosts, "/config_dump")
            .expect("an answer");
        assert_eq!(answer.status, 400, "{hosts}");
        assert!(answer.body.contains("Host"), "{}", answer.body);
    }
}

#[test]
fn one_worker_is_told_of_in_the_singular() {
    let args = ["--workers", "1"];
    let proxy = Proxy::start_with_workers(folder(&[]), &args);
    proxy.until_logged("1 worker on ");
}

#[test]
fn quitting_needs_post_and_ends_the_process() {
    let mut proxy = Proxy::start(folder(&[]), &[]);
    assert_eq!(proxy.admin("/quitquitquit").status, 405);
    assert!(proxy.is_running());
    assert_eq!(post(proxy.admin, "/quitquitquit").status, 200);
    assert_eq!(proxy.wait().code(), Some(0));
}

/// Routes with a `statPrefix` are counted under it, those that share one together.
#[test]
fn routes_are_counted_by_themselves_where_they_are_told_to() {
    for driver in DRIVERS {
        let upstream = Upstream::start("up");
        let address = free_address();
        let matches = "  - match: [{uri: {prefix: /api}, statPrefix: api}, \
                       {uri: {prefix: /v2}, statPrefix: api}, {uri: {prefix: /other}}]\n    route:";
        let rules = splitting(&[(upstream.address, 1)]).replace("  - route:", matches);
        let config = folder(&[("gate.yaml", &gateway(address)), ("rules.yaml", &rules)]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert!(!proxy.log().contains("statPrefix"), "{}", proxy.log());
        for path in ["/api/1", "/api/2", "/v2", "/other"] {
            assert_eq!(get(address, "shop.test", path).status, 200);
        }
        let (host, name) = (format!("*:{}", address.port()), "upstream_rq_2xx");
        proxy.until_stat(&format!("vhost.{host}.route.api.{name}"), 3);
        let line = format!(
            "envoy_vhost_route_upstream_rq_completed{{envoy_route=\"api\",\
             envoy_virtual_host=\"{host}\"}} 3"
        );
        proxy.until_metrics(&line);
    }
}

/// Old health checks name no host; pages in browsers always do.
#[test]
fn a_probe_of_http_1_0_without_a_host_is_answered() {
    let proxy = Proxy::start(folder(&[]), &[]);
    let ask = |head: &str| converse(proxy.admin, &[head.as_bytes()]).0;
    let answer = ask("GET /server_info HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    let answer = ask("GET /server_info HTTP/1.0\r\nhost: evil.example\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 403 "), "{answer}");
    let answer = ask("GET /server_info HTTP/1.0\r\norigin: http://evil.example\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.0 403 "), "{answer}");
    let answer = ask("GET /server_info HTTP/1.1\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("no Host header"), "{answer}");
}

#[test]
fn a_request_does_nothing_before_all_of_it_has_come() {
    let mut proxy = Proxy::start(folder(&[]), &[]);
    proxy.until_logged("not ready until a file comes");
    let post = "POST /quitquitquit HTTP/1.1\r\nhost: localhost\r\n";
    let chunked = "transfer-encoding: chunked\r\n";
    for (rest, status) in [
        (format!("{chunked}\r\nzz\r\n"), 411),
        (format!("content-length: 5\r\n{chunked}\r\n0\r\n\r\n"), 411),
        (
            format!("content-length: 99999\r\n\r\n{}", "x".repeat(99_999)),
            400,
        ),
    ] {
        let (answer, _) = converse(proxy.admin, &[post.as_bytes(), rest.as_bytes()]);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    let mut client = TcpStream::connect(proxy.admin).expect("connects");
    let part = format!("{post}content-length: 10\r\n\r\nabc");
    client.write_all(part.as_bytes()).expect("is sent");
    client.shutdown(Shutdown::Write).expect("ends");
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer);
    assert!(!answer.contains(" 200 "), "{answer}");
    assert!(proxy.log().lines().all(|line| !line.contains("drain")));
    // With all of its body it acts.
    let whole = format!("{post}connection: close\r\ncontent-length: 3\r\n\r\nabc");
    let (answer, _) = converse(proxy.admin, &[whole.as_bytes()]);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_target_that_names_another_host_is_refused_whatever_host_says() {
    let proxy = Proxy::start(folder(&[]), &[]);
    let ask = |target: &str| {
        let head = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        converse(proxy.admin, &[head.as_bytes()]).0
    };
    assert!(ask("http://evil.example/stats").starts_with("HTTP/1.1 403 "));
    assert!(ask("http://localhost:15000/stats").starts_with("HTTP/1.1 200 "));
}

/// Most of those who connect say nothing, or half a request.
#[test]
fn a_crowd_at_the_admin_interface_leaves_descriptors_to_clients_and_goes_by_itself() {
    let proxies = DRIVERS.map(|driver| {
        let upstream = Upstream::start("up");
        let address = free_address();
        let rules = splitting(&[(upstream.address, 1)]);
        let config = folder(&[("gate.yaml", &gateway(address)), ("rules.yaml", &rules)]);
        let args = ["--driver", driver, "--workers", "2"];
        let proxy = Proxy::start_with_open_files(96, config, &args);
        let crowd: Vec<TcpStream> = (0..100)
            .map(|at| {
                let mut stream = TcpStream::connect(proxy.admin).expect("connects");
                stream.write_all(&b"GET"[..at % 3]).expect("is sent");
                stream
            })
            .collect();
        (proxy, upstream, address, crowd)
    });
    for (proxy, _, address, _) in &proxies {
        for _ in 0..20 {
            assert_eq!(get(*address, "shop.test", "/").status, 200);
        }
        assert!(!proxy.log().contains("Too many open files"));
    }
    for (_, _, _, crowd) in proxies {
        let mut first = &crowd[0];
        first.set_read_timeout(Some(PATIENCE)).expect("set");
        let ended = first.read(&mut [0; 1000]);
        assert!(matches!(ended, Ok(0)), "what stalls is closed: {ended:?}");
    }
}
