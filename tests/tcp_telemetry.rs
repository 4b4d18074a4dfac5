//! What is told about connections that are no HTTP: Istio's metrics, Envoy's counters and the
//! access log, on both drivers.

mod harness;

use harness::access::policy;
use harness::tcp::{connect, echo, raw_gateway, route, service};
use harness::{
    DRIVERS, LogLines, Proxy, folder, free_address, gateway, settings, until, until_equal,
};
use serde_json::{Value, json};
use socket2::SockRef;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

const CLUSTER: &str = "outbound|9000||db.test";

struct Setup {
    proxy: Proxy,
    address: SocketAddr,
    log: LogLines,
}

/// A gateway of TCP before `upstream`, with further documents.
fn start(driver: &str, upstream: SocketAddr, more: &str) -> Setup {
    start_with(driver, &service(upstream), more, "")
}

fn start_with(driver: &str, service: &str, more: &str, settings_too: &str) -> Setup {
    let address = free_address();
    let spec = format!(
        "{{role: gateway, accessLog: {{format: JSON}}, workload: {{name: edge}}{settings_too}}}"
    );
    let config = folder(&[
        ("gate.yaml", &raw_gateway(address, "TCP", "")),
        ("settings.yaml", &settings(&spec)),
        ("route.yaml", &(route(address) + service + more)),
    ]);
    let args = ["--driver", driver];
    let mut proxy = Proxy::start_with_stdout(config, &args, Stdio::piped());
    let log = LogLines::of(&mut proxy);
    Setup {
        proxy,
        address,
        log,
    }
}

fn rule(policy: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: db}}\n\
         spec: {{host: db.test, trafficPolicy: {policy}}}\n"
    )
}

impl Setup {
    /// The only line there is so far.
    fn line(&self) -> Value {
        self.log.wait_for(1);
        let line = self.log.line_with("start_time");
        serde_json::from_str(&line).expect("JSON")
    }

    /// Istio's metric with these flags.
    fn metric(&self, name: &str, flags: &str) -> Option<u64> {
        let page = self.proxy.admin("/stats/prometheus").body;
        let mut lines = page.lines();
        let line = lines.find(|line| {
            line.starts_with(&format!("{name}{{"))
                && line.contains(&format!("response_flags=\"{flags}\""))
        });
        let value = line?.rsplit(' ').next();
        Some(value.expect("a value").parse().expect("a number"))
    }

    #[track_caller]
    fn until_metric(&self, name: &str, flags: &str, wanted: u64) {
        until_equal(name, Some(wanted), || self.metric(name, flags));
    }

    #[track_caller]
    fn until_tcp(&self, name: &str, wanted: u64) {
        self.proxy
            .until_stat(&format!("tcp.{CLUSTER}.{name}"), wanted);
    }

    /// Reads to the end of a connection, however it comes.
    fn is_closed(&self) -> bool {
        let mut client = connect(self.address);
        matches!(client.read(&mut [0]), Ok(0) | Err(_))
    }
}

#[test]
fn bytes_are_counted_while_they_flow_and_the_end_is_logged() {
    for driver in DRIVERS {
        let upstream = echo();
        let setup = start(driver, upstream, "");
        let mut client = connect(setup.address);
        client.write_all(b"twelve bytes").expect("sent");
        let mut got = [0; 12];
        client.read_exact(&mut got).expect("received");
        setup.until_metric("istio_tcp_received_bytes_total", "-", 12);
        setup.until_metric("istio_tcp_sent_bytes_total", "-", 12);
        setup.until_metric("istio_tcp_connections_opened_total", "-", 1);
        setup.until_metric("istio_tcp_connections_closed_total", "-", 0);
        setup.until_tcp("downstream_cx_total", 1);
        let page = setup.proxy.admin("/stats/prometheus").body;
        let line = page
            .lines()
            .find(|line| line.starts_with("istio_tcp_sent_bytes_total{"));
        for label in [
            "reporter=\"source\"",
            "source_workload=\"edge\"",
            "destination_service=\"db.test\"",
            "destination_service_name=\"db.test\"",
            "request_protocol=\"tcp\"",
            "connection_security_policy=\"unknown\"",
            "response_flags=\"-\"",
        ] {
            assert!(
                line.is_some_and(|line| line.contains(label)),
                "{label}: {line:?}"
            );
        }
        assert!(
            !line.is_some_and(|line| line.contains("response_code=")),
            "{line:?}"
        );
        assert!(
            !page.contains("istio_requests_total{"),
            "no requests were made"
        );

        client.shutdown(Shutdown::Write).expect("ended");
        let mut rest = String::new();
        client.read_to_string(&mut rest).expect("received");
        assert_eq!(rest, "bye");
        let line = setup.line();
        for (key, value) in [
            ("method", Value::Null),
            ("response_code", json!(0)),
            ("response_flags", json!("-")),
            ("bytes_received", json!(12)),
            ("bytes_sent", json!(15)),
            ("upstream_host", json!(upstream.to_string())),
            ("upstream_cluster", json!(CLUSTER)),
            ("downstream_local_address", json!(setup.address.to_string())),
            (
                "downstream_remote_address",
                json!(client.local_addr().expect("an address").to_string()),
            ),
        ] {
            assert_eq!(line[key], value, "{key}: {line}");
        }
        assert!(line["upstream_local_address"].is_string(), "{line}");
        setup.until_metric("istio_tcp_connections_closed_total", "-", 1);
        setup.until_metric("istio_tcp_sent_bytes_total", "-", 15);
        for (name, value) in [
            ("downstream_cx_rx_bytes_total", 12),
            ("downstream_cx_tx_bytes_total", 15),
        ] {
            setup.until_tcp(name, value);
        }
        for (name, value) in [
            ("upstream_cx_tx_bytes_total", 12),
            ("upstream_cx_rx_bytes_total", 15),
            ("upstream_cx_active", 0),
        ] {
            let name = format!("cluster.{CLUSTER}.{name}");
            setup.proxy.until_stat(&name, value);
        }
    }
}

/// A service that nobody is behind.
const EMPTY: &str = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
    metadata: {name: db}\nspec:\n  hosts: [db.test]\n  resolution: STATIC\n  \
    ports: [{number: 9000, name: tcp, protocol: TCP}]\n";

#[test]
fn a_connection_that_is_not_carried_says_why() {
    for driver in DRIVERS {
        let refusing = service(free_address());
        let cases = [
            (EMPTY.to_string(), "UH", "upstream_cx_none_healthy"),
            (refusing, "UF,URX", "upstream_cx_connect_fail"),
        ];
        for (service, flags, counter) in cases {
            let setup = start_with(driver, &service, "", "");
            assert!(setup.is_closed());
            let line = setup.line();
            assert_eq!(line["response_flags"], json!(flags), "{line}");
            assert_eq!(line["bytes_sent"], json!(0), "{line}");
            let counter = format!("cluster.{CLUSTER}.{counter}");
            setup.proxy.until_stat(&counter, 1);
            let of_metrics = if flags == "UH" { "UH" } else { "URX,UF" };
            for name in [
                "istio_tcp_connections_opened_total",
                "istio_tcp_connections_closed_total",
            ] {
                setup.until_metric(name, of_metrics, 1);
            }
        }
        let line_of_failure = start_with(driver, &service(free_address()), "", "");
        assert!(line_of_failure.is_closed());
        let reason = line_of_failure.line()["upstream_transport_failure_reason"].clone();
        assert!(
            reason.as_str().is_some_and(|why| why.contains("refused")),
            "{reason}"
        );
        // No such service at all.
        let setup = start_with(driver, "", "", "");
        assert!(setup.is_closed());
        assert_eq!(setup.line()["response_flags"], json!("NC"));
        setup.until_tcp("downstream_cx_no_route", 1);
    }
}

#[test]
fn max_connections_refuses_with_uo_and_waits_for_nobody() {
    for driver in DRIVERS {
        let limited = rule("{connectionPool: {tcp: {maxConnections: 1}}}");
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &raw_gateway(address, "TCP", "")),
            (
                "settings.yaml",
                &settings("{role: gateway, accessLog: {format: JSON}}"),
            ),
            (
                "route.yaml",
                &(route(address) + &service(echo()) + &limited),
            ),
        ]);
        let mut proxy = Proxy::start_piped(config, &["--driver", driver, "--workers", "1"]);
        let log = LogLines::of(&mut proxy);
        let mut first = connect(address);
        first.write_all(b"a").expect("sent");
        first.read_exact(&mut [0]).expect("it is carried");
        let mut second = connect(address);
        assert!(matches!(second.read(&mut [0]), Ok(0) | Err(_)));
        let line = log.line_with("\"UO\"");
        assert!(line.contains(CLUSTER), "{line}");
        proxy.until_stat(&format!("cluster.{CLUSTER}.upstream_cx_overflow"), 1);
        first.shutdown(Shutdown::Write).expect("ended");
        first.read_to_end(&mut Vec::new()).expect("received");
        until("room", || {
            let mut third = connect(address);
            let sent = third.write_all(b"b");
            sent.is_ok() && matches!(third.read(&mut [0]), Ok(1))
        });
    }
}

#[test]
fn idle_connections_end_and_so_do_old_ones() {
    for driver in DRIVERS {
        let idle = start(
            driver,
            echo(),
            &rule("{connectionPool: {tcp: {idleTimeout: 1s}}}"),
        );
        let mut client = connect(idle.address);
        client.write_all(b"x").expect("sent");
        client.read_exact(&mut [0]).expect("received");
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        let line = idle.line();
        assert_eq!(
            line["connection_termination_details"],
            json!("tcp_session_idle_timeout"),
            "{line}"
        );
        assert!(line["duration"].as_u64() >= Some(1000), "{line}");
        idle.until_tcp("idle_timeout", 1);
        let old = start(
            driver,
            echo(),
            &rule("{connectionPool: {tcp: {maxConnectionDuration: 300ms}}}"),
        );
        // Bytes that keep flowing do not save it.
        let mut client = connect(old.address);
        while client.write_all(b"x").is_ok() && matches!(client.read(&mut [0]), Ok(1)) {}
        let line = old.line();
        assert_eq!(line["response_flags"], json!("DT"), "{line}");
        assert!(line["duration"].as_u64() >= Some(300), "{line}");
        old.until_tcp("max_downstream_connection_duration", 1);
    }
}

#[test]
fn policies_refuse_connections_and_the_log_names_the_rule() {
    for driver in DRIVERS {
        let denied = policy(
            "no-loopback",
            &json!({"action": "DENY", "rules": [
                {"from": [{"source": {"ipBlocks": ["127.0.0.0/8"]}}]},
            ]}),
        );
        let setup = start(driver, echo(), &denied);
        assert!(setup.is_closed());
        let line = setup.line();
        assert_eq!(
            line["connection_termination_details"],
            json!("rbac_access_denied_matched_policy[ns[default]-policy[no-loopback]-rule[0]]"),
            "{line}"
        );
    }
}

#[test]
fn a_client_that_breaks_its_connection_ends_the_connect_and_one_that_only_ends_waits() {
    for driver in DRIVERS {
        // A backlog of one that is full: connecting takes until somebody accepts.
        let full = FullListener::new();
        let setup = start(driver, full.address, "");
        let client = connect(setup.address);
        let connecting = || {
            let active = format!("cluster.{CLUSTER}.upstream_cx_active");
            setup.proxy.stat(&active)
        };
        until("it connects", || connecting() == 1);
        reset(client);
        let line = setup.line();
        assert_eq!(line["response_flags"], json!("DC"), "{line}");
        until("the connect is given up", || connecting() == 0);
        // One that has only ended its side still gets what the server has to say.
        let mut quiet = connect(setup.address);
        quiet.shutdown(Shutdown::Write).expect("ended");
        until("it connects", || connecting() == 1);
        full.accept_and_say("hello");
        let mut got = String::new();
        quiet.read_to_string(&mut got).expect("received");
        assert_eq!(got, "hello");
    }
}

/// Closes with a reset.
fn reset(stream: std::net::TcpStream) {
    let set = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    set.expect("set");
}

/// A listener whose backlog is full, so that further connects wait.
struct FullListener {
    listener: TcpListener,
    address: SocketAddr,
    filling: Vec<std::net::TcpStream>,
}

impl FullListener {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        SockRef::from(&listener).listen(0).expect("listens");
        let address = listener.local_addr().expect("an address");
        let mut filling = Vec::new();
        let soon = Duration::from_millis(100);
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, soon) {
            filling.push(stream);
        }
        Self {
            listener,
            address,
            filling,
        }
    }

    /// Takes what fills the backlog, then the connection that waits.
    fn accept_and_say(self, words: &str) {
        for _ in &self.filling {
            drop(self.listener.accept().expect("accepted"));
        }
        let (mut stream, _) = self.listener.accept().expect("accepted");
        stream.write_all(words.as_bytes()).expect("sent");
    }
}

#[test]
fn a_drain_leaves_connections_until_its_deadline() {
    for driver in DRIVERS {
        let mut setup = start_with(driver, &service(echo()), "", ", drainDeadline: 3s");
        let mut client = connect(setup.address);
        client.write_all(b"a").expect("sent");
        client.read_exact(&mut [0]).expect("received");
        setup.proxy.signal(libc::SIGTERM);
        until("nobody is accepted", || {
            std::net::TcpStream::connect(setup.address).is_err()
        });
        client.write_all(b"b").expect("sent");
        client.read_exact(&mut [0]).expect("it still passes");
        let status = setup.proxy.wait();
        assert!(status.success(), "{status}");
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
    }
}

#[test]
fn upgrades_count_their_bytes_with_their_request() {
    for driver in DRIVERS {
        let upstream = harness::raw::ScriptedUpstream::start(|connection| {
            if connection.head().is_some() {
                connection.send(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                     upgrade: websocket\r\n\r\n12345",
                );
                let mut piece = [0; 64];
                while matches!(connection.stream.read(&mut piece), Ok(1..)) {}
            }
        });
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("settings.yaml", &settings("{accessLog: {format: JSON}}")),
            ("split.yaml", &harness::splitting(&[(upstream.address, 1)])),
        ]);
        let mut proxy = Proxy::start_with_stdout(config, &["--driver", driver], Stdio::piped());
        let log = LogLines::of(&mut proxy);
        let mut client = connect(address);
        let ask = "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\n\
                   upgrade: websocket\r\n\r\nabc";
        client.write_all(ask.as_bytes()).expect("sent");
        let stats = |name: &str| {
            let name = format!(".{name}");
            let page = proxy.admin("/stats").body;
            let named = page.lines().filter_map(|line| line.split_once(": "));
            let named =
                named.filter(|(known, _)| known.starts_with("http.") && known.ends_with(&name));
            named
                .map(|(_, value)| value.parse::<u64>().expect("a number"))
                .sum::<u64>()
        };
        until("the upgrade", || {
            stats("downstream_cx_upgrades_active") == 1
        });
        client.shutdown(Shutdown::Write).expect("ended");
        let mut all = String::new();
        client.read_to_string(&mut all).expect("received");
        assert!(all.ends_with("12345"), "{all}");
        let line: Value = serde_json::from_str(&log.line_with("/chat")).expect("JSON");
        assert_eq!(line["response_code"], json!(101), "{line}");
        assert_eq!(line["bytes_received"], json!(3), "{line}");
        assert_eq!(line["bytes_sent"], json!(5), "{line}");
        assert_eq!(stats("downstream_cx_upgrades_total"), 1);
        until("the end of the upgrade", || {
            stats("downstream_cx_upgrades_active") == 0
        });
    }
}
