//! What a client is answered when its upstream takes too long, on both drivers.

mod harness;

use harness::DRIVERS;
use harness::pool::{cluster_stat, pool, start_with_retries, until_cluster_stat};
use harness::raw::{ScriptedUpstream, converse, status};
use std::net::SocketAddr;

/// It reads requests and never answers.
fn silent() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| while connection.head().is_some() {})
}

/// All of the answer to a request on a connection of its own.
fn ask(address: SocketAddr) -> String {
    let request = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    converse(address, &[request]).0
}

const ASKS: &str = "headers: {request: {set: {x-envoy-upstream-rq-timeout-alt-response: \"1\"}}}";

const EJECTING: &str =
    "outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100, interval: 60s}";

/// Envoy does so for whoever asks by this header, whatever its value.
#[test]
fn a_route_may_ask_for_204_in_the_place_of_504() {
    for driver in DRIVERS {
        for limit in [
            "{attempts: 0}\n    timeout: 200ms",
            "{attempts: 1, perTryTimeout: 100ms, retryOn: connect-failure}\n    timeout: 60s",
        ] {
            let upstream = silent();
            let pool = pool(&[upstream.address], EJECTING);
            let route = format!("{limit}\n    {ASKS}");
            let (proxy, address) = start_with_retries(driver, "1", &pool, &route);
            let answer = ask(address);
            assert_eq!(status(&answer), 204, "{limit}");
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
            assert!(!answer.contains("content-length"), "{answer}");
            proxy.until_metrics("response_flags=\"UT\"");
            until_cluster_stat(&proxy, "upstream_rq_204", 1);
            assert_eq!(cluster_stat(&proxy, "upstream_rq_504"), 0);
            // It is none of the errors that eject.
            assert_eq!(
                cluster_stat(&proxy, "outlier_detection.ejections_active"),
                0
            );
            let heads = upstream.heads();
            assert!(!heads[0].contains("alt-response"), "{heads:?}");

            let upstream = silent();
            let pool = harness::pool::pool(&[upstream.address], EJECTING);
            let (proxy, address) = start_with_retries(driver, "1", &pool, limit);
            assert_eq!(status(&ask(address)), 504, "{limit}");
            until_cluster_stat(&proxy, "outlier_detection.ejections_active", 1);
        }
    }
}

#[test]
fn one_of_several_destinations_may_ask_for_204() {
    for driver in DRIVERS {
        let upstream = silent();
        let plain = "- destination: {host: pool.test, port: {number: 80}}";
        let pool = pool(&[upstream.address], "{}");
        let several = pool.replace(
            plain,
            &format!("{plain}\n      weight: 1\n      {ASKS}\n    {plain}\n      weight: 1"),
        );
        assert_ne!(several, pool);
        let several = several.replace("    {}\n", "");
        let limit = "{attempts: 0}\n    timeout: 100ms";
        let (_proxy, address) = start_with_retries(driver, "1", &several, limit);
        let mut statuses: Vec<u16> = (0..10).map(|_| status(&ask(address))).collect();
        statuses.sort_unstable();
        statuses.dedup();
        assert_eq!(statuses, [204, 504]);
    }
}
