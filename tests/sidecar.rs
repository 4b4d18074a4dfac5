//! What a sidecar sees and how rules for the mesh count, through real sockets, on both drivers.

mod harness;

use harness::raw::{ScriptedUpstream, converse, status};
use harness::{Answer, DRIVERS, Proxy, Upstream, folder, free_address, get, settings, until};
use std::net::SocketAddr;

/// A service of `namespace` at the port of `listener`.
fn service(host: &str, namespace: &str, listener: SocketAddr, endpoint: SocketAddr) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  hosts: [{host}]\n  \
         resolution: STATIC\n  ports: [{{number: {}, name: http, protocol: HTTP}}]\n  endpoints:\n  \
         - {{address: {}, ports: {{http: {}}}}}\n",
        listener.port(),
        endpoint.ip(),
        endpoint.port(),
        name = host.split('.').next().unwrap_or(host),
    )
}

/// A rule for the mesh that answers by itself.
fn answering(name: &str, namespace: &str, fields: &str, body: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  {fields}\n    \
         directResponse: {{status: 200, body: {{string: \"{body}\"}}}}\n"
    )
}

fn start(driver: &str, spec: &str, rules: &str) -> Proxy {
    let config = folder(&[("settings.yaml", &settings(spec)), ("rules.yaml", rules)]);
    Proxy::start(config, &["--driver", driver])
}

/// Absolute-form, with another name as Host.
fn absolute(address: SocketAddr, host: &str) -> u16 {
    let request =
        format!("GET http://{host}/ HTTP/1.1\r\nhost: else.test\r\nconnection: close\r\n\r\n");
    status(&converse(address, &[request.as_bytes()]).0)
}

fn told(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.body.as_str())
}

#[test]
fn a_sidecar_sees_what_its_document_imports_and_nothing_else() {
    for driver in DRIVERS {
        let address = free_address();
        let (cart, pay) = (Upstream::start("cart"), Upstream::start("pay"));
        let rules = service("cart.test", "shop", address, cart.address)
            + &service("pay.test", "money", address, pay.address);
        let scope = |hosts: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Sidecar\n\
                 metadata: {{name: default, namespace: shop}}\nspec:\n  egress:\n  \
                 - hosts: [{hosts}]\n  outboundTrafficPolicy: {{mode: REGISTRY_ONLY}}\n"
            )
        };
        let spec = "{role: sidecar, namespace: shop}";
        let proxy = start(driver, spec, &rules);
        let ask = |host: &str| get(address, host, "/");
        assert_eq!(told(&ask("cart.test")), (200, "cart"));
        assert_eq!(told(&ask("pay.test")), (200, "pay"));
        assert_eq!(absolute(address, "pay.test"), 200);

        proxy.put("sidecar.yaml", &scope("./*"));
        until("the narrow scope", || ask("pay.test").status == 502);
        let before = pay.requests();
        assert_eq!(absolute(address, "pay.test"), 502);
        assert_eq!(told(&ask("cart.test")), (200, "cart"));
        assert_eq!(pay.requests(), before);
        assert!(!proxy.log().contains("kind-not-carried"), "{}", proxy.log());

        proxy.put("sidecar.yaml", &scope("./*, money/pay.test"));
        until("the wider scope", || ask("pay.test").status == 200);
        proxy.put("sidecar.yaml", &scope("~/*"));
        until("the empty scope", || {
            harness::Client::connect(address).is_err()
        });
    }
}

#[test]
fn a_host_that_nobody_declares_is_refused_where_only_the_registry_counts() {
    for driver in DRIVERS {
        let address = free_address();
        let cart = Upstream::start("cart");
        let rules = service("cart.test", "default", address, cart.address);
        let spec = "{role: sidecar, outboundTrafficPolicy: REGISTRY_ONLY}";
        let proxy = start(driver, spec, &rules);
        assert_eq!(get(address, "cart.test", "/").status, 200);
        assert_eq!(get(address, "unknown.test", "/").status, 502);
        assert_eq!(absolute(address, "unknown.test"), 502);
        until("where it did not go, in the metrics", || {
            proxy.has_series(
                "istio_requests_total",
                &[
                    "destination_service_name=\"BlackHoleCluster\"",
                    "response_code=\"502\"",
                ],
            )
        });
        // A service that is declared while it runs is known at once.
        let more = service("unknown.test", "default", address, cart.address);
        proxy.put("more.yaml", &more);
        until("the new service", || {
            get(address, "unknown.test", "/").status == 200
        });
    }
}

/// In the mesh the older rule has a host alone; it counts where it is exported to, and for the
/// workloads that it names.
#[test]
fn rules_of_the_mesh_are_not_joined() {
    for driver in DRIVERS {
        let address = free_address();
        let upstream = Upstream::start("plain");
        let mut rules = String::new();
        for host in ["one.test", "kept.test", "label.test", "space.test"] {
            rules += &service(host, "default", address, upstream.address);
        }
        let by_path = "hosts: [one.test]\n  http:\n  - match: [{uri: {prefix: /a}}]";
        rules += &answering("a-older", "default", by_path, "older");
        let all = "hosts: [one.test]\n  http:\n  - name: all";
        rules += &answering("b-younger", "default", all, "younger");
        let kept = "hosts: [kept.test]\n  exportTo: ['.']\n  http:\n  - name: all";
        rules += &answering("kept", "elsewhere", kept, "kept back");
        for (label, body) in [("other", "not ours"), ("cart", "ours")] {
            let fields = format!(
                "hosts: [label.test]\n  http:\n  - match: [{{sourceLabels: {{app: {label}}}}}]"
            );
            // One rule after the other, in one VirtualService.
            let one = answering("label", "default", &fields, body);
            match rules.contains("hosts: [label.test]\n  http") {
                false => rules += &one,
                true => rules += one.split_once("  http:\n").expect("routes").1,
            }
        }
        let space = "hosts: [space.test]\n  http:\n  \
                     - match: [{sourceNamespace: elsewhere}]";
        rules += &answering("space", "default", space, "not ours");
        let spec = "{role: sidecar, workload: {labels: {app: cart}}}";
        let _proxy = start(driver, spec, &rules);
        for (host, path, expected) in [
            ("one.test", "/a", (200, "older")),
            ("one.test", "/b", (404, "")),
            ("kept.test", "/", (200, "plain")),
            ("label.test", "/", (200, "ours")),
            // A rule that leaves nothing for this workload is as if it were not there.
            ("space.test", "/", (200, "plain")),
        ] {
            let answer = get(address, host, path);
            assert_eq!(told(&answer), expected, "{driver} {host}{path}");
        }
    }
}

/// Istio's default for the way in: what reached nobody is tried again, what may have begun is not.
#[test]
fn requests_to_the_workload_are_tried_again_only_if_they_have_not_begun() {
    for driver in DRIVERS {
        let (listener, nobody) = (free_address(), free_address());
        let closing = ScriptedUpstream::start(|connection| drop(connection.head()));
        let ingress = |app: SocketAddr| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: Sidecar\n\
                 metadata: {{name: default}}\nspec:\n  ingress:\n  \
                 - port: {{number: {}, protocol: HTTP, name: http}}\n    bind: 127.0.0.1\n    \
                 captureMode: NONE\n    defaultEndpoint: {app}\n",
                listener.port()
            )
        };
        let proxy = start(driver, "{role: sidecar}", &ingress(nobody));
        let name = |stat: &str| format!("cluster.inbound|{}||.{stat}", listener.port());
        assert_eq!(get(listener, "any.test", "/").status, 503);
        assert_eq!(proxy.stat(&name("upstream_cx_connect_fail")), 3);
        assert_eq!(proxy.stat(&name("upstream_rq_retry")), 2);

        proxy.put("rules.yaml", &ingress(closing.address));
        until("the other application", || {
            let _ = get(listener, "any.test", "/");
            !closing.heads().is_empty()
        });
        let before = (
            closing.heads().len(),
            proxy.stat(&name("upstream_rq_retry")),
        );
        assert_eq!(get(listener, "any.test", "/").status, 503);
        let after = (
            closing.heads().len(),
            proxy.stat(&name("upstream_rq_retry")),
        );
        assert_eq!(after, (before.0 + 1, before.1), "sent twice");
    }
}

/// Envoy heeds them for internal requests alone, and Istio's defaults make none of these internal.
#[test]
fn envoy_headers_of_the_application_steer_its_requests() {
    for driver in DRIVERS {
        let address = free_address();
        let upstream = ScriptedUpstream::start(|connection| {
            while connection.head().is_some() {
                connection.send("HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n");
            }
        });
        let rules = service("cart.test", "shop", address, upstream.address);
        let _proxy = start(driver, "{role: sidecar, namespace: shop}", &rules);
        let request = "GET / HTTP/1.1\r\nhost: cart.test\r\nconnection: close\r\n\
                       x-forwarded-for: 10.0.0.1\r\nx-envoy-max-retries: 5\r\n\
                       x-envoy-retry-on: 5xx\r\nx-envoy-upstream-rq-timeout-ms: 90\r\n\
                       x-envoy-upstream-rq-per-try-timeout-ms: 80\r\n\
                       x-envoy-peer-metadata: ChoK\r\nx-envoy-peer-metadata-id: cart\r\n\r\n";
        let (answer, _) = converse(address, &[request.as_bytes()]);
        assert_eq!(status(&answer), 500, "{answer}");
        let heads = upstream.heads();
        assert_eq!(heads.len(), 1, "tried again: {heads:?}");
        for gone in ["max-retries", "retry-on", "timeout-ms", "peer-metadata"] {
            assert!(!heads[0].contains(gone), "{}", heads[0]);
        }
    }
}

/// Both would be bound to one address, and the kernel would deal the connections out.
#[test]
fn an_ingress_at_the_port_of_a_service_gets_all_of_its_requests() {
    for driver in DRIVERS {
        let address = free_address();
        let (own, other) = (Upstream::start("own"), Upstream::start("other"));
        let ingress = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\n\
             metadata: {{name: pay, namespace: shop}}\nspec:\n  ingress:\n  \
             - port: {{number: {}, protocol: HTTP, name: http}}\n    bind: {}\n    \
             captureMode: NONE\n    defaultEndpoint: {}\n",
            address.port(),
            address.ip(),
            own.address
        );
        let rules = service("pay.test", "shop", address, other.address) + &ingress;
        let proxy = start(driver, "{role: sidecar, namespace: shop}", &rules);
        for _ in 0..20 {
            assert_eq!(told(&get(address, "pay.test", "/")), (200, "own"));
        }
        assert!(
            proxy.log().contains("ingress-at-listener"),
            "{}",
            proxy.log()
        );
    }
}
