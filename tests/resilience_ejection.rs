//! Endpoints that fail are left out for a while, by all workers at once.

mod harness;

use harness::pool::{Backend, CLUSTER, cluster_stat, pool, start_pool};
use harness::raw::ScriptedUpstream;
use harness::{Client, DRIVERS, Proxy, example, folder, free_address, get, until, until_equal};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The statuses of so many requests, each on a connection of its own, so that all workers have
/// some.
fn statuses(address: SocketAddr, count: usize) -> Vec<u16> {
    (0..count)
        .map(|_| get(address, "a.test", "/").status)
        .collect()
}

fn failures(statuses: &[u16]) -> usize {
    statuses.iter().filter(|status| **status >= 500).count()
}

fn outlier_stat(proxy: &Proxy, name: &str) -> u64 {
    cluster_stat(proxy, &format!("outlier_detection.{name}"))
}

fn health_flags(proxy: &Proxy, endpoint: SocketAddr) -> String {
    let clusters = proxy.admin("/clusters").body;
    let prefix = format!("{CLUSTER}::{endpoint}::health_flags::");
    let line = clusters.lines().find_map(|line| line.strip_prefix(&prefix));
    line.expect("the endpoint is listed").to_string()
}

#[test]
fn a_killed_endpoint_is_out_after_five_failures_and_back_after_its_time() {
    for driver in DRIVERS {
        let (one, other) = (Backend::start(), Backend::start());
        let killed = free_address();
        let endpoints = [one.address, killed, other.address];
        let policy = "outlierDetection: {baseEjectionTime: 5s, interval: 100ms, \
                      maxEjectionPercent: 34}";
        let (proxy, address) = start_pool(driver, "2", &endpoints, policy);
        assert_eq!(health_flags(&proxy, killed), "healthy");

        let answers = statuses(address, 60);
        assert_eq!(failures(&answers), 5, "{answers:?}");
        assert_eq!(health_flags(&proxy, killed), "/failed_outlier_check");
        assert_eq!(health_flags(&proxy, one.address), "healthy");
        let json = proxy.admin_json("/clusters?format=json");
        let hosts = json["cluster_statuses"]
            .as_array()
            .and_then(|clusters| clusters.iter().find(|cluster| cluster["name"] == CLUSTER))
            .map(|cluster| cluster["host_statuses"].clone())
            .expect("the cluster");
        assert_eq!(hosts[1]["health_status"]["failed_outlier_check"], true);
        assert_eq!(outlier_stat(&proxy, "ejections_active"), 1);
        assert_eq!(outlier_stat(&proxy, "ejections_enforced_total"), 1);
        assert_eq!(
            outlier_stat(&proxy, "ejections_enforced_consecutive_5xx"),
            1
        );
        let metrics = proxy.admin("/stats/prometheus").body;
        let metric = format!(
            "envoy_cluster_outlier_detection_ejections_active{{cluster_name=\"{CLUSTER}\"}} 1"
        );
        assert!(metrics.contains(&metric), "{metrics}");
        let line = format!("ejected {killed} of {CLUSTER}: 5 errors in a row (CONSECUTIVE_5XX)");
        proxy.until_logged(&line);

        let revived = Backend::start_at(killed);
        until("the return", || {
            outlier_stat(&proxy, "ejections_active") == 0
        });
        let took = format!("took {killed} of {CLUSTER} back after ");
        proxy.until_logged(&took);
        let log = proxy.log();
        let after = log
            .split(&took)
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        let after_ms: u64 = after.and_then(|ms| ms.parse().ok()).expect("a number");
        assert!(after_ms >= 5000, "{after_ms}");
        assert_eq!(health_flags(&proxy, killed), "healthy");
        assert_eq!(failures(&statuses(address, 30)), 0);
        assert!(revived.requests() >= 8, "{}", revived.requests());
    }
}

#[test]
fn no_more_than_the_share_is_ejected() {
    for driver in DRIVERS {
        let one = Backend::start();
        let endpoints = [one.address, free_address(), free_address()];
        // The default of 10 % of three endpoints is none.
        let policy = "outlierDetection: {interval: 1h, baseEjectionTime: 1h}";
        let (proxy, address) = start_pool(driver, "2", &endpoints, policy);
        // Two of three, but for where each worker has begun and ended.
        let failed = failures(&statuses(address, 60));
        assert!((37..=43).contains(&failed), "{failed}");
        assert_eq!(outlier_stat(&proxy, "ejections_active"), 0);
        assert!(outlier_stat(&proxy, "ejections_overflow") >= 2);
        until("the warning", || {
            proxy
                .log()
                .contains("maxEjectionPercent 10 of 3 endpoints lets 0 be out")
        });

        // Half of three is one, whoever is first.
        let policy = "outlierDetection: {interval: 1h, baseEjectionTime: 1h, \
                      maxEjectionPercent: 50}";
        proxy.put("pool.yaml", &pool(&endpoints, policy));
        until("the reload", || proxy.stat("config.generation") == 2);
        let answers = statuses(address, 60);
        assert_eq!(outlier_stat(&proxy, "ejections_active"), 1);
        // The other one stays in.
        assert!(failures(&answers[40..]) >= 5, "{answers:?}");
    }
}

#[test]
fn a_success_starts_the_count_anew_and_with_all_out_nothing_is_healthy() {
    for driver in DRIVERS {
        let backend = Backend::start();
        let policy = "outlierDetection: {interval: 1h, baseEjectionTime: 1h, \
                      maxEjectionPercent: 100}";
        let (proxy, address) = start_pool(driver, "2", &[backend.address], policy);
        for _ in 0..3 {
            backend.set_status(500);
            assert_eq!(statuses(address, 4), [500; 4]);
            backend.set_status(200);
            assert_eq!(statuses(address, 1), [200]);
        }
        backend.set_status(500);
        assert_eq!(statuses(address, 5), [500; 5]);
        let answer = get(address, "a.test", "/");
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (503, "no healthy upstream")
        );
        assert_eq!(outlier_stat(&proxy, "ejections_active"), 1);
        assert_eq!(backend.requests(), 20);
    }
}

#[test]
fn failures_of_our_own_are_counted_apart_when_they_are_split_off() {
    for driver in DRIVERS {
        let (one, broken) = (Backend::start(), Backend::start());
        broken.set_status(500);
        let killed = free_address();
        let endpoints = [one.address, broken.address, killed];
        let policy = "outlierDetection: {interval: 1h, baseEjectionTime: 1h, \
                      maxEjectionPercent: 100, consecutive5xxErrors: 7, \
                      splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 3}";
        let (proxy, address) = start_pool(driver, "2", &endpoints, policy);
        let answers = statuses(address, 60);
        assert_eq!(failures(&answers), 7 + 3, "{answers:?}");
        let by_local = "ejections_enforced_consecutive_local_origin_failure";
        assert_eq!(outlier_stat(&proxy, by_local), 1);
        assert_eq!(
            outlier_stat(&proxy, "ejections_enforced_consecutive_5xx"),
            1
        );
    }
}

#[test]
fn gateway_errors_and_listed_statuses_eject_and_others_do_not() {
    let cases: &[(&str, u16, u16)] = &[
        (
            "consecutive5xxErrors: 0, consecutiveGatewayErrors: 3",
            500,
            502,
        ),
        (
            "consecutive5xxErrors: 3, outlierDetectionHttpErrorCodes: [404]",
            500,
            404,
        ),
    ];
    for driver in DRIVERS {
        for (fields, harmless, harmful) in cases {
            let backend = Backend::start();
            let policy = format!(
                "outlierDetection: {{interval: 1h, baseEjectionTime: 1h, maxEjectionPercent: 100, \
                 {fields}}}"
            );
            let (proxy, address) = start_pool(driver, "2", &[backend.address], &policy);
            backend.set_status(*harmless);
            statuses(address, 10);
            assert_eq!(outlier_stat(&proxy, "ejections_active"), 0, "{fields}");
            backend.set_status(*harmful);
            statuses(address, 3);
            assert_eq!(outlier_stat(&proxy, "ejections_active"), 1, "{fields}");
        }
    }
}

#[test]
fn a_reload_keeps_ejections_and_forgets_them_with_their_rules() {
    for driver in DRIVERS {
        let (one, other) = (Backend::start(), Backend::start());
        let killed = free_address();
        let policy = "outlierDetection: {interval: 1h, baseEjectionTime: 1h, \
                      maxEjectionPercent: 50}";
        let (proxy, address) = start_pool(driver, "2", &[one.address, killed], policy);
        assert_eq!(failures(&statuses(address, 30)), 5);
        let grown = [other.address, killed, one.address];
        proxy.put("pool.yaml", &pool(&grown, policy));
        until("the reload", || proxy.stat("config.generation") == 2);
        assert_eq!(failures(&statuses(address, 30)), 0);
        assert!(other.requests() > 0);
        assert_eq!(outlier_stat(&proxy, "ejections_active"), 1);
        assert_eq!(health_flags(&proxy, killed), "/failed_outlier_check");

        proxy.put(
            "pool.yaml",
            &pool(&grown, "connectionPool: {tcp: {connectTimeout: 1s}}"),
        );
        until("the reload", || proxy.stat("config.generation") == 3);
        until("the end of the ejection", || {
            get(address, "a.test", "/");
            health_flags(&proxy, killed) == "healthy"
        });
    }
}

#[test]
fn connections_from_before_an_ejection_are_not_used_after_it() {
    for driver in DRIVERS {
        let backend = Backend::start();
        let policy = "outlierDetection: {interval: 50ms, baseEjectionTime: 200ms, \
                      maxEjectionPercent: 100}";
        let (proxy, address) = start_pool(driver, "1", &[backend.address], policy);
        assert_eq!(statuses(address, 3), [200; 3]);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_total"), 1);
        backend.set_status(503);
        assert_eq!(statuses(address, 5), [503; 5]);
        backend.set_status(200);
        until("the return", || get(address, "a.test", "/").status == 200);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_total"), 2);
        until("the end of the old one", || backend.open() == 1);
    }
}

/// Of several that wait, the one used last takes each request: the others learn of no failure.
#[test]
fn idle_connections_from_before_an_ejection_are_not_used_after_it() {
    for driver in DRIVERS {
        let (gate_is_open, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (may_answer, count) = (gate_is_open.clone(), ended.clone());
        let upstream = ScriptedUpstream::start(move |connection| {
            while let Some((path, _)) = connection.head() {
                if path == "/held" {
                    until("leave to answer", || may_answer.load(Ordering::SeqCst));
                }
                let status = if path == "/bad" { 503 } else { 200 };
                let number = connection.number;
                connection.send(format!(
                    "HTTP/1.1 {status} X\r\ncontent-length: 1\r\n\r\n{number}"
                ));
            }
            count.fetch_add(1, Ordering::SeqCst);
        });
        let policy = "outlierDetection: {interval: 50ms, baseEjectionTime: 200ms, \
                      maxEjectionPercent: 100}";
        let (proxy, address) = start_pool(driver, "1", &[upstream.address], policy);
        let mut clients = [(); 3].map(|()| Client::connect(address).expect("connects"));
        for client in &mut clients {
            client.start("GET", "a.test", "/held").expect("is sent");
        }
        until("all at the upstream", || upstream.heads().len() == 3);
        gate_is_open.store(true, Ordering::SeqCst);
        for client in &mut clients {
            assert_eq!(client.answer().expect("an answer").status, 200);
        }
        for _ in 0..5 {
            assert_eq!(get(address, "a.test", "/bad").status, 503);
        }
        let mut answer = None;
        until("the return", || {
            let back = get(address, "a.test", "/");
            let is_back = back.status == 200;
            answer = is_back.then_some(back.body);
            is_back
        });
        assert_eq!(
            answer.as_deref(),
            Some("3"),
            "{driver}: the fourth connection"
        );
        assert_eq!(cluster_stat(&proxy, "upstream_cx_total"), 4);
        until_equal("ended connections", 3, || ended.load(Ordering::SeqCst));
    }
}

/// `configs/resilience` as it is, but for its ports and its patience.
#[test]
fn the_example_hides_a_killed_endpoint_and_takes_it_back() {
    const CART: &str = "outbound|80||cart.example.com";
    for driver in DRIVERS {
        let (address, killed) = (free_address(), free_address());
        let (one, other) = (Backend::start(), Backend::start());
        let changes = [
            ("number: 8080", format!("number: {}", address.port())),
            ("9001", one.address.port().to_string()),
            ("9002", killed.port().to_string()),
            ("9003", other.address.port().to_string()),
            ("baseEjectionTime: 30s", "baseEjectionTime: 4s".to_string()),
            ("interval: 10s", "interval: 100ms".to_string()),
        ];
        let text = example("resilience/resilience.yaml", &changes);
        let config = folder(&[("resilience.yaml", &text)]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert!(!proxy.log().contains("warning"), "{}", proxy.log());
        let stat = |name: &str| proxy.stat(&format!("cluster.{CART}.{name}"));
        let mut requests = 0;
        until("the ejection", || {
            requests += 1;
            assert_eq!(get(address, "shop.example.com", "/").status, 200);
            stat("outlier_detection.ejections_active") == 1
        });
        until_equal("retries", 5, || stat("upstream_rq_retry_success"));
        assert_eq!(one.requests() + other.requests(), requests);
        for _ in 0..30 {
            assert_eq!(get(address, "shop.example.com", "/").status, 200);
        }
        let revived = Backend::start_at(killed);
        until("requests at the endpoint that is back", || {
            assert_eq!(get(address, "shop.example.com", "/").status, 200);
            revived.requests() > 0
        });
    }
}
