use super::*;
use crate::control::data_path::Worker;
use crate::control::status::RunningConfig;
use crate::rt::DriverKind;
use crate::tls::{CertificateFacts, CertificateReport};
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use ringroad_policy::settings::ProxySettings;
use ringroad_policy::snapshot::{Cluster, DnsTable, Endpoint, EndpointAddress, Snapshot};
use ringroad_policy::source::SourceFile;
use std::sync::atomic::Ordering;
use tower::ServiceExt as _;

#[derive(Default)]
struct OneWorker {
    draining: AtomicBool,
}

impl DataPath for OneWorker {
    fn publish(&self, _: Arc<Snapshot>) -> Result<u64, String> {
        Err("not here".to_string())
    }

    fn workers(&self) -> Vec<Worker> {
        vec![Worker {
            id: 0,
            connections: 3,
            generation: 7,
        }]
    }

    fn certificates(&self) -> Vec<CertificateReport> {
        vec![report()]
    }

    fn certificate_problems(&self) -> usize {
        1
    }

    fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

fn report() -> CertificateReport {
    CertificateReport {
        authorities: Vec::new(),
        leaves: vec![CertificateFacts {
            place: "/etc/certs/cert-chain.pem".to_string(),
            serial_number: "0a1b".to_string(),
            subject: String::new(),
            uris: vec!["spiffe://cluster.local/ns/shop/sa/cart".to_string()],
            dns_names: vec!["cart.test".to_string()],
            ip_addresses: Vec::new(),
            not_before: 1_700_000_000,
            not_after: 32_503_680_000,
        }],
        problems: Vec::new(),
    }
}

struct Admin {
    state: Arc<AdminState>,
    quit: mpsc::UnboundedReceiver<()>,
}

impl Admin {
    fn new(files: Vec<SourceFile>) -> Self {
        let mut cluster = Cluster::new("outbound|80||shop.example".to_string());
        let address = EndpointAddress::Socket("192.0.2.1:80".parse().expect("an address"));
        cluster.set_endpoints(vec![Endpoint {
            locality: "eu/a".into(),
            ..Endpoint::at(address)
        }]);
        let settings = Arc::new(ProxySettings::default());
        let clusters = vec![Arc::new(cluster)];
        let snapshot = Snapshot::new(
            settings,
            Vec::new(),
            clusters,
            Vec::new(),
            &DnsTable::default(),
        );
        let status = ConfigStatus::new(RunningConfig {
            files: Arc::new(files),
            snapshot: Arc::new(snapshot),
            generation: 7,
            accepted_at: std::time::SystemTime::now(),
        });
        let (sender, quit) = mpsc::unbounded_channel();
        let level = tracing_subscriber::filter::LevelFilter::INFO;
        let state = AdminState {
            status: Arc::new(status),
            data_path: Arc::new(OneWorker::default()),
            registry: Arc::new(Registry::default()),
            health: Arc::new(HealthRegistry::new(1)),
            dns: Arc::default(),
            access_log: LineSink::to(std::io::sink()).expect("a thread"),
            log_level: crate::control::logging::start(level).expect("a log"),
            driver: DriverReport {
                kind: DriverKind::Epoll,
                reason: "io_uring refused".into(),
            },
            cores: vec![3],
            config_paths: vec!["/etc/ringroad".to_string()],
            started: Instant::now(),
            failed_on_request: AtomicBool::new(false),
            quit: sender,
        };
        Self {
            state: Arc::new(state),
            quit,
        }
    }

    fn loaded() -> Self {
        Self::new(vec![SourceFile {
            path: "a.yaml".to_string(),
            text: String::new(),
        }])
    }

    async fn ask(&self, method: &str, target: &str) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", "localhost:15000")
            .body(Body::empty())
            .expect("a request");
        self.send(request).await
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, String) {
        let bound = "127.0.0.1:15000".parse().expect("an address");
        let response = router(Arc::clone(&self.state), bound)
            .oneshot(request)
            .await
            .expect("answers");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20)
            .await
            .expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    }

    async fn json(&self, target: &str) -> serde_json::Value {
        let (status, body) = self.ask("GET", target).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str(&body).expect("JSON")
    }
}

#[tokio::test]
async fn ready_tells_the_state() {
    let empty = Admin::new(Vec::new());
    let answer = empty.ask("GET", "/ready").await;
    assert_eq!(
        answer,
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "PRE_INITIALIZING\n".to_string()
        )
    );
    let admin = Admin::loaded();
    assert_eq!(
        admin.ask("GET", "/ready").await,
        (StatusCode::OK, "LIVE\n".to_string())
    );
    admin.ask("POST", "/healthcheck/fail").await;
    let draining = (StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n".to_string());
    assert_eq!(admin.ask("GET", "/ready").await, draining);
    admin.ask("POST", "/healthcheck/ok").await;
    assert_eq!(admin.ask("GET", "/ready").await.0, StatusCode::OK);
    admin.ask("POST", "/drain_listeners?graceful").await;
    assert_eq!(admin.ask("GET", "/ready").await, draining);
}

#[tokio::test]
async fn what_changes_something_needs_post() {
    let mut admin = Admin::loaded();
    for path in [
        "/quitquitquit",
        "/drain_listeners",
        "/healthcheck/fail",
        "/healthcheck/ok",
    ] {
        let (status, body) = admin.ask("GET", path).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(body, "Method GET not allowed, POST required.\n");
    }
    assert!(admin.quit.try_recv().is_err());
    assert_eq!(admin.ask("POST", "/quitquitquit").await.0, StatusCode::OK);
    assert!(admin.quit.try_recv().is_ok());
}

#[tokio::test]
async fn the_driver_and_its_reason_are_told() {
    let info = Admin::loaded().json("/server_info").await;
    assert_eq!(info["driver"]["name"], "epoll");
    assert_eq!(info["driver"]["reason"], "io_uring refused");
    assert_eq!(info["workers"][0]["core"], 3);
    assert_eq!(info["workers"][0]["connections"], 3);
    assert_eq!(info["generation"], 7);
    assert_eq!(info["state"], "LIVE");
}

#[tokio::test]
async fn clusters_come_in_envoys_text_and_as_json() {
    let admin = Admin::loaded();
    let (_, text) = admin.ask("GET", "/clusters").await;
    let name = "outbound|80||shop.example";
    for line in [
        "default_priority::max_connections::4294967295",
        "192.0.2.1:80::health_flags::healthy",
        "192.0.2.1:80::region::eu",
        "192.0.2.1:80::zone::a",
        "192.0.2.1:80::priority::0",
    ] {
        assert!(
            text.contains(&format!("{name}::{line}\n")),
            "{line} in {text}"
        );
    }
    let json = admin.json("/clusters?format=json").await;
    let status = &json["cluster_statuses"][0];
    assert_eq!(status["name"], name);
    assert_eq!(
        status["host_statuses"][0]["address"]["socket_address"]["port_value"],
        80
    );
}

#[tokio::test]
async fn stats_are_filtered_and_formatted() {
    let admin = Admin::loaded();
    admin
        .state
        .registry
        .cluster("a", 0)
        .upstream_rq_total
        .add(5);
    let (_, text) = admin.ask("GET", "/stats?filter=upstream_rq_total").await;
    assert_eq!(text, "cluster.a.upstream_rq_total: 5\n");
    let (_, used) = admin.ask("GET", "/stats?usedonly&filter=%5Econfig").await;
    assert!(
        used.contains("config.generation: 7\n") && !used.contains("rejected"),
        "{used}"
    );
    let json = admin.json("/stats?format=json&filter=server.live").await;
    assert_eq!(json["stats"][0]["value"], 1);
    let (_, gauges) = admin.ask("GET", "/stats?type=Gauges").await;
    assert!(gauges.contains("config.generation: 7\n"), "{gauges}");
    assert!(!gauges.contains("upstream_rq_total"), "{gauges}");
    let (_, counters) = admin.ask("GET", "/stats?type=Counters").await;
    assert!(counters.contains("cluster.a.upstream_rq_total: 5\n") && !counters.contains("server."));
    let (_, gauges) = admin.ask("GET", "/stats/prometheus?type=Gauges").await;
    assert!(gauges.contains(" gauge\n") && !gauges.contains(" counter\n"));
    for target in [
        "/stats?filter=%28",
        "/stats/prometheus?filter=%28",
        "/stats?type=gauges",
        "/stats/prometheus?type=loud",
    ] {
        assert_eq!(admin.ask("GET", target).await.0, StatusCode::BAD_REQUEST);
    }
    for target in [
        "/stats?format=prometheus&filter=upstream_rq_total",
        "/stats/prometheus?usedonly&filter=upstream_rq_t",
    ] {
        let (_, text) = admin.ask("GET", target).await;
        let figures = text.lines().filter(|line| !line.starts_with('#'));
        let figure = "envoy_cluster_upstream_rq_total{cluster_name=\"a\"} 5";
        assert_eq!(figures.collect::<Vec<_>>(), [figure], "{target}");
    }
    for target in ["/stats/prometheus", "/stats?format=prometheus"] {
        let (_, text) = admin.ask("GET", target).await;
        assert!(
            text.contains("# TYPE ringroad_config_reload_rejected_total counter\n"),
            "{text}"
        );
        assert!(
            text.contains("envoy_cluster_upstream_rq_total{cluster_name=\"a\"} 5\n"),
            "{text}"
        );
    }
}

#[test]
fn nobody_waits_for_a_page_that_may_be_long() {
    // One thread for the pages, which is taken until something else has been answered.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let admin = Admin::loaded();
        for page in [
            "/clusters",
            "/clusters?format=json",
            "/config_dump",
            "/stats",
            "/stats?format=json",
            "/stats/prometheus",
        ] {
            let (free, is_free) = std::sync::mpsc::channel();
            tokio::task::spawn_blocking(move || is_free.recv());
            let answered = std::cell::RefCell::new(Vec::new());
            let ask = async |target| {
                assert_eq!(admin.ask("GET", target).await.0, StatusCode::OK);
                answered.borrow_mut().push(target);
            };
            let ready = async {
                ask("/ready").await;
                free.send(()).expect("the thread waits");
            };
            tokio::join!(ask(page), ready);
            assert_eq!(answered.into_inner(), ["/ready", page]);
        }
    });
}

#[tokio::test]
async fn the_level_of_the_log_can_be_changed() {
    let admin = Admin::loaded();
    let (status, body) = admin.ask("POST", "/logging?level=loud").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body.contains("usage"));
    assert_eq!(admin.ask("POST", "/logging").await.0, StatusCode::OK);
    assert!(
        admin
            .ask("GET", "/logging")
            .await
            .1
            .starts_with("active loggers:\n  ringroad: ")
    );
}

#[tokio::test]
async fn every_page_of_the_index_is_there() {
    let admin = Admin::loaded();
    let (_, help) = admin.ask("GET", "/help").await;
    let (_, index) = admin.ask("GET", "/").await;
    for line in help.lines().skip(1) {
        let (page, _) = line.trim().split_once(':').expect("path: meaning");
        let (path, method) = match page.split_once(' ') {
            Some((path, _)) => (path, "POST"),
            None => (page, "GET"),
        };
        assert!(
            index.contains(&format!("\"{path}\"")),
            "{path} on the index page"
        );
        assert_ne!(
            admin.ask(method, path).await.0,
            StatusCode::NOT_FOUND,
            "{path}"
        );
    }
    assert_eq!(admin.ask("GET", "/nothing").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn requests_for_another_host_are_refused() {
    let admin = Admin::loaded();
    let request = Request::builder()
        .uri("/config_dump")
        .header("host", "evil.example")
        .body(Body::empty())
        .expect("a request");
    assert_eq!(admin.send(request).await.0, StatusCode::FORBIDDEN);
}

#[test]
fn a_taken_address_says_what_to_do() {
    let taken = bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let address = taken.local_addr().expect("an address");
    let why = bind(address).expect_err("is taken");
    assert!(why.contains("--admin"), "{why}");
}

#[tokio::test]
async fn certificates_are_shown_as_envoy_shows_them() {
    let admin = Admin::new(Vec::new());
    let shown = admin.json("/certs").await;
    let leaf = &shown["certificates"][0]["cert_chain"][0];
    assert_eq!(leaf["path"], "/etc/certs/cert-chain.pem");
    assert_eq!(leaf["serial_number"], "0a1b");
    assert_eq!(leaf["valid_from"], "2023-11-14T22:13:20Z");
    assert_eq!(leaf["expiration_time"], "3000-01-01T00:00:00Z");
    let names = serde_json::json!([
        { "uri": "spiffe://cluster.local/ns/shop/sa/cart" },
        { "dns": "cart.test" },
    ]);
    assert_eq!(leaf["subject_alt_names"], names);
    let days = leaf["days_until_expiration"].as_str().expect("a text");
    assert!(days.parse::<u64>().expect("a number") > 300_000);

    let stats = admin.ask("GET", "/stats").await.1;
    assert!(
        stats.contains("server.certificates_unreadable: 1\n"),
        "{stats}"
    );
    let line = format!("server.days_until_first_cert_expiring: {days}\n");
    assert!(stats.contains(&line), "{stats}");
    let metrics = admin.ask("GET", "/stats/prometheus").await.1;
    let sample = "ringroad_certificate_expiration_timestamp_seconds\
        {place=\"/etc/certs/cert-chain.pem\",serial_number=\"0a1b\"} 32503680000\n";
    assert!(metrics.contains(sample), "{metrics}");
}
