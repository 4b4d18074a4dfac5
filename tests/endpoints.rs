//! Where endpoints come from, and how long what is known of them lives.

mod harness;

use harness::{
    Client, DRIVERS, Proxy, Upstream, folder, free_address, gateway, get, splitting, until,
    until_equal,
};
use std::fmt::Write as _;
use std::net::SocketAddr;

fn routing_to(host: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: all}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  \
         - route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]\n"
    )
}

/// Who answers, of so many requests.
fn answers(address: SocketAddr, count: usize) -> Vec<String> {
    let mut client = Client::connect(address).expect("connects");
    let ask = |_| {
        let answer = client.send("GET", "a.test", "/").expect("an answer");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    };
    let mut answers: Vec<_> = (0..count).map(ask).collect();
    answers.sort();
    answers.dedup();
    answers
}

fn start(driver: &str, host: &str, documents: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("route.yaml", &routing_to(host)),
        ("endpoints.yaml", documents),
    ]);
    (Proxy::start(config, &["--driver", driver]), address)
}

#[test]
fn names_are_resolved() {
    for driver in DRIVERS {
        let upstream = Upstream::start("by name");
        let documents = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: named}}\n\
             spec:\n  hosts: [named.test]\n  resolution: DNS\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n  \
             - address: localhost\n    ports: {{http: {}}}\n",
            upstream.address.port()
        );
        let (proxy, address) = start(driver, "named.test", &documents);
        // On a slow machine the proxy does not wait for the first addresses.
        until("the first addresses", || {
            get(address, "a.test", "/").status == 200
        });
        assert_eq!(answers(address, 3), ["by name"]);
        assert!(proxy.stat("dns.lookup_total") > 0);
        assert_eq!(proxy.stat("dns.lookup_failure"), 0);
    }
}

#[test]
fn workload_entries_are_selected_by_their_labels() {
    for driver in DRIVERS {
        let upstreams = ["one", "two", "other"].map(Upstream::start);
        let mut documents = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {name: shop}\nspec:\n  hosts: [shop.test]\n  resolution: STATIC\n  \
             ports: [{number: 80, name: http, protocol: HTTP}]\n  \
             workloadSelector: {labels: {app: shop}}\n"
            .to_string();
        for (at, upstream) in upstreams.iter().enumerate() {
            let app = if at < 2 { "shop" } else { "bar" };
            let _ = write!(
                documents,
                "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
                 metadata: {{name: w{at}}}\nspec: {{address: {}, ports: {{http: {}}}, \
                 labels: {{app: {app}}}}}\n",
                upstream.address.ip(),
                upstream.address.port()
            );
        }
        let (proxy, address) = start(driver, "shop.test", &documents);
        assert_eq!(answers(address, 40), ["one", "two"]);

        // A workload that joins is taken up.
        let joined = documents.replace("app: bar", "app: shop");
        proxy.put("endpoints.yaml", &joined);
        until("the third workload", || answers(address, 40).len() == 3);
    }
}

#[test]
fn kubernetes_services_get_their_endpoints_from_slices() {
    for driver in DRIVERS {
        let upstream = Upstream::start("pod");
        let documents = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: shop}}\nspec:\n  \
             ports: [{{name: http, port: 80, targetPort: http}}]\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: shop-1\n  \
             labels: {{kubernetes.io/service-name: shop}}\naddressType: IPv4\nports:\n\
             - {{name: http, port: {}}}\nendpoints:\n- addresses: [\"{}\"]\n  \
             conditions: {{ready: true}}\n- addresses: [\"127.0.0.99\"]\n  \
             conditions: {{ready: false}}\n",
            upstream.address.port(),
            upstream.address.ip()
        );
        let (_proxy, address) = start(driver, "shop", &documents);
        assert_eq!(answers(address, 20), ["pod"], "the one that is ready");
    }
}

/// A reload that changes weights leaves open connections where they are.
#[test]
fn pooled_connections_outlive_a_reload() {
    for driver in DRIVERS {
        let (one, two) = (Upstream::start("one"), Upstream::start("two"));
        let address = free_address();
        let split = |weight| splitting(&[(one.address, weight), (two.address, 1)]);
        let config = folder(&[("gate.yaml", &gateway(address)), ("split.yaml", &split(1))]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        let mut client = Client::connect(address).expect("connects");
        let mut ask = |count| {
            for _ in 0..count {
                client.send("GET", "a.test", "/").expect("an answer");
            }
        };
        let opened = || {
            let of = |name| proxy.stat(&format!("cluster.outbound|80||{name}.upstream_cx_total"));
            (of("up0.test"), of("up1.test"))
        };
        // Shares are exact per hand, which is longer than two.
        ask(200);
        assert_eq!(opened(), (1, 1));
        for weight in 2..=5 {
            proxy.put("split.yaml", &split(weight));
            until("the reload", || {
                proxy.stat("config.generation") == u64::from(weight)
            });
            ask(12);
        }
        assert_eq!(opened(), (1, 1), "after four reloads");
        // Requests in flight are counted on through a reload.
        one.close_gate();
        two.close_gate();
        let before = one.requests() + two.requests();
        let mut waiting = Client::connect(address).expect("connects");
        waiting.start("GET", "a.test", "/").expect("is sent");
        until("the request", || one.requests() + two.requests() > before);
        proxy.put("split.yaml", &split(6));
        until("the reload", || proxy.stat("config.generation") == 6);
        let active = || {
            let of = |name| proxy.stat(&format!("cluster.outbound|80||{name}.upstream_rq_active"));
            of("up0.test") + of("up1.test")
        };
        until_equal("requests in flight", 1, active);
        one.open_gate();
        two.open_gate();
        assert_eq!(waiting.answer().expect("an answer").status, 200);
        until("the end of the request", || active() == 0);
    }
}

#[test]
fn idle_upstream_connections_are_closed_in_time() {
    for driver in DRIVERS {
        let upstream = Upstream::start("up");
        let address = free_address();
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: up0}\nspec:\n  host: up0.test\n  \
                    trafficPolicy: {connectionPool: {http: {idleTimeout: 300ms}}}\n";
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("rule.yaml", rule),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let proxy = Proxy::start(config, &["--driver", driver]);
        assert_eq!(answers(address, 1), ["up"]);
        let stat = |name: &str| proxy.stat(&format!("cluster.outbound|80||up0.test.{name}"));
        until("the end of the idle connection", || {
            stat("upstream_cx_idle_timeout") == 1 && stat("upstream_cx_active") == 0
        });
        assert_eq!(answers(address, 1), ["up"]);
        until_equal("connections", 2, || stat("upstream_cx_total"));
    }
}

/// Few long connections do not end up with one worker.
#[test]
fn connections_are_spread_evenly_over_the_workers() {
    for driver in DRIVERS {
        let upstream = Upstream::start("up");
        let address = free_address();
        let config = folder(&[
            ("gate.yaml", &gateway(address)),
            ("split.yaml", &splitting(&[(upstream.address, 1)])),
        ]);
        let proxy = Proxy::start_with_workers(config, &["--driver", driver, "--workers", "4"]);
        let mut clients: Vec<Client> = Vec::new();
        for _ in 0..8 {
            let mut client = Client::connect(address).expect("connects");
            client.send("GET", "a.test", "/").expect("an answer");
            clients.push(client);
        }
        let of = |worker: usize| proxy.stat(&format!("worker_{worker}.connections"));
        until_equal("connections of each", [2; 4], || [0, 1, 2, 3].map(of));
    }
}
