//! `connectionPool`: limits of the process, whatever worker a request comes to.

mod harness;

use harness::pool::{Backend, cluster_stat, start_pool, start_retrying_pool, until_cluster_stat};
use harness::raw::ScriptedUpstream;
use harness::{Client, DRIVERS, Upstream, get, until};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

/// A request on a connection of its own that nobody has answered yet.
fn begin(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).expect("connects");
    client.start("GET", "a.test", "/").expect("is sent");
    client
}

#[test]
fn requests_wait_for_a_connection_until_too_many_do() {
    for driver in DRIVERS {
        let upstream = Upstream::start("up");
        let policy = "connectionPool: {tcp: {maxConnections: 1}, \
                      http: {http1MaxPendingRequests: 1}}";
        let (proxy, address) = start_pool(driver, "1", &[upstream.address], policy);
        upstream.close_gate();
        let mut first = begin(address);
        until("the first at the upstream", || upstream.requests() == 1);
        assert_eq!(cluster_stat(&proxy, "circuit_breakers.default.cx_open"), 1);
        let mut second = begin(address);
        until("the second to wait", || {
            cluster_stat(&proxy, "upstream_rq_pending_active") == 1
        });
        assert_eq!(
            cluster_stat(&proxy, "circuit_breakers.default.rq_pending_open"),
            1
        );
        assert_eq!(
            cluster_stat(&proxy, "circuit_breakers.default.remaining_pending"),
            0
        );
        let third = get(address, "a.test", "/");
        assert_eq!(third.status, 503);
        assert_eq!(third.header("x-envoy-overloaded"), Some("true"));
        assert_eq!(
            third.body,
            "upstream connect error or disconnect/reset before headers. reset reason: overflow"
        );
        until_cluster_stat(&proxy, "upstream_rq_pending_overflow", 1);
        assert!(cluster_stat(&proxy, "upstream_cx_overflow") >= 1);
        proxy.until_metrics("response_flags=\"UO\"");
        upstream.open_gate();
        assert_eq!(first.answer().expect("an answer").status, 200);
        assert_eq!(second.answer().expect("an answer").status, 200);
        assert_eq!(cluster_stat(&proxy, "upstream_cx_total"), 1);
        until_cluster_stat(&proxy, "upstream_rq_pending_active", 0);
        until_cluster_stat(&proxy, "circuit_breakers.default.rq_pending_open", 0);
    }
}

#[test]
fn a_client_that_gives_up_waiting_leaves_its_place() {
    for driver in DRIVERS {
        let upstream = Upstream::start("up");
        let policy = "connectionPool: {tcp: {maxConnections: 1}, \
                      http: {http1MaxPendingRequests: 2}}";
        let (proxy, address) = start_pool(driver, "1", &[upstream.address], policy);
        upstream.close_gate();
        let mut first = begin(address);
        until("the first at the upstream", || upstream.requests() == 1);
        let waiting = |count| cluster_stat(&proxy, "upstream_rq_pending_active") == count;
        let gone = begin(address);
        until("the second to wait", || waiting(1));
        let mut third = begin(address);
        until("the third to wait", || waiting(2));
        drop(gone);
        until("the second to leave", || waiting(1));
        upstream.open_gate();
        assert_eq!(first.answer().expect("an answer").status, 200);
        assert_eq!(third.answer().expect("an answer").status, 200);
        assert_eq!(upstream.requests(), 2);
        until_cluster_stat(&proxy, "upstream_cx_active", 1);
    }
}

#[test]
fn active_requests_are_limited_over_all_workers_and_no_place_is_lost() {
    const LIMIT: usize = 3;
    for driver in DRIVERS {
        let upstream = Upstream::start("up");
        let policy = format!("connectionPool: {{http: {{http2MaxRequests: {LIMIT}}}}}");
        let (proxy, address) = start_pool(driver, "2", &[upstream.address], &policy);
        for round in 1..=5 {
            upstream.close_gate();
            let mut clients: Vec<Client> = (0..3 * LIMIT).map(|_| begin(address)).collect();
            until("the refusals", || {
                let refused = cluster_stat(&proxy, "upstream_rq_active_overflow");
                refused as usize == round * 2 * LIMIT
            });
            until("those within the limit", || {
                upstream.requests() == round * LIMIT
            });
            assert_eq!(cluster_stat(&proxy, "circuit_breakers.default.rq_open"), 1);
            assert_eq!(
                cluster_stat(&proxy, "circuit_breakers.default.remaining_rq"),
                0
            );
            upstream.open_gate();
            let mut statuses: Vec<u16> = clients
                .iter_mut()
                .map(|client| client.answer().expect("an answer").status)
                .collect();
            statuses.sort_unstable();
            until_cluster_stat(&proxy, "upstream_rq_active", 0);
            assert_eq!(statuses[..LIMIT], [200; LIMIT], "round {round}");
            assert_eq!(statuses[LIMIT..], [503; 2 * LIMIT], "round {round}");
        }
        let left = cluster_stat(&proxy, "circuit_breakers.default.remaining_rq");
        assert_eq!(left as usize, LIMIT);
    }
}

#[test]
fn connections_stay_within_the_limit_under_load_and_nobody_starves() {
    const LIMIT: usize = 3;
    for driver in DRIVERS {
        let backend = Backend::start();
        let policy = format!("connectionPool: {{tcp: {{maxConnections: {LIMIT}}}}}");
        let (proxy, address) = start_pool(driver, "2", &[backend.address], &policy);
        std::thread::scope(|scope| {
            for _ in 0..12 {
                scope.spawn(|| {
                    let mut client = Client::connect(address).expect("connects");
                    for _ in 0..100 {
                        let answer = client.send("GET", "a.test", "/").expect("an answer");
                        assert_eq!(answer.status, 200, "{answer:?}");
                    }
                });
            }
        });
        // A worker without a connection gets one, above the limit if need be.
        let most = backend.most_open();
        assert!(most <= LIMIT + 1, "{most}");
        assert!(cluster_stat(&proxy, "upstream_rq_pending_total") >= 12 - 2 * LIMIT as u64);
        until_cluster_stat(&proxy, "upstream_rq_total", 1200);
        until_cluster_stat(&proxy, "upstream_rq_pending_active", 0);
    }
}

#[test]
fn a_connection_takes_so_many_requests_and_lives_so_long() {
    for driver in DRIVERS {
        let backend = Backend::start();
        let policy = "connectionPool: {http: {maxRequestsPerConnection: 2}}";
        let (proxy, address) = start_pool(driver, "1", &[backend.address], policy);
        for _ in 0..6 {
            assert_eq!(get(address, "a.test", "/").status, 200);
        }
        assert_eq!(cluster_stat(&proxy, "upstream_cx_total"), 3);
        until_cluster_stat(&proxy, "upstream_cx_max_requests", 3);
        until("the end of the last", || backend.open() == 0);

        let policy = "connectionPool: {tcp: {maxConnectionDuration: 50ms}}";
        let (proxy, address) = start_pool(driver, "1", &[backend.address], policy);
        until("the end of a connection", || {
            assert_eq!(get(address, "a.test", "/").status, 200);
            cluster_stat(&proxy, "upstream_cx_max_duration_reached") >= 2
        });

        let policy = "connectionPool: {http: {idleTimeout: 50ms}}";
        let (proxy, address) = start_pool(driver, "1", &[backend.address], policy);
        assert_eq!(get(address, "a.test", "/").status, 200);
        until("the end of an idle connection", || {
            cluster_stat(&proxy, "upstream_cx_idle_timeout") == 1
        });
        until_cluster_stat(&proxy, "upstream_cx_active", 0);
    }
}

#[test]
fn a_silent_upstream_is_probed() {
    for driver in DRIVERS {
        let backend = Backend::start();
        let plain = "connectionPool: {tcp: {connectTimeout: 5s}}";
        let (_plain, address) = start_pool(driver, "1", &[backend.address], plain);
        assert_eq!(get(address, "a.test", "/").status, 200);
        assert_eq!(keepalive_timers(backend.address), 0);
        let probing = "connectionPool: {tcp: {tcpKeepalive: {probes: 3, time: 60s, interval: 5s}}}";
        let (_probing, address) = start_pool(driver, "1", &[backend.address], probing);
        assert_eq!(get(address, "a.test", "/").status, 200);
        assert_eq!(keepalive_timers(backend.address), 1);
    }
}

#[test]
fn retries_under_way_are_limited_by_number_or_by_budget() {
    let policies = [
        "connectionPool: {http: {maxRetries: 1}}",
        "retryBudget: {percent: 1, minRetryConcurrency: 1}",
    ];
    for driver in DRIVERS {
        for policy in policies {
            let gate = Arc::new(Mutex::new(()));
            let upstream_gate = Arc::clone(&gate);
            let upstream = ScriptedUpstream::start(move |connection| {
                while let Some((_, head)) = connection.head() {
                    if head.contains("x-envoy-attempt-count: 2") {
                        let _open = upstream_gate.lock().expect("not poisoned");
                        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
                    } else {
                        connection.send("HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n");
                    }
                }
            });
            let (proxy, address) = start_retrying_pool(driver, "2", &[upstream.address], policy);
            let closed = gate.lock().expect("not poisoned");
            let mut first = begin(address);
            until("the first retry", || upstream.heads().len() == 2);
            assert_eq!(
                cluster_stat(&proxy, "circuit_breakers.default.rq_retry_open"),
                1
            );
            // Each of the others gets the answer that it would have tried again after.
            for refused in 1..=4 {
                assert_eq!(get(address, "a.test", "/").status, 503, "{policy}");
                until_cluster_stat(&proxy, "upstream_rq_retry_overflow", refused);
            }
            proxy.until_metrics("response_flags=\"UO\"");
            drop(closed);
            assert_eq!(first.answer().expect("an answer").status, 200);
            until("the end of the retry", || {
                cluster_stat(&proxy, "circuit_breakers.default.rq_retry_open") == 0
            });
            assert_eq!(get(address, "a.test", "/").status, 200);
            until_cluster_stat(&proxy, "upstream_rq_retry", 2);
        }
    }
}

/// Sockets connected to `peer` whose keep-alive timer runs, as the kernel lists them.
fn keepalive_timers(peer: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("is there");
    let port = format!(":{:04X}", peer.port());
    let runs = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let timer = fields.get(5).and_then(|timer| timer.split(':').next());
        fields.get(2).is_some_and(|remote| remote.ends_with(&port)) && timer == Some("02")
    };
    table.lines().filter(runs).count()
}
