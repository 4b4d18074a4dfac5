//! Two sidecars in network namespaces, with connections redirected to them by the kernel. Skipped,
//! with a message, where the kernel or rights do not allow that.

mod harness;

use harness::namespaces::{World, addresses};
use harness::pki::{Authority, Identity};
use harness::{Answer, DRIVERS, PATIENCE, Proxy, settings};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;

/// The workloads: two with sidecars, and one without.
const ORDER: u8 = 1;
const PAYMENT: u8 = 2;
const STRANGER: u8 = 3;

/// The services, as all sidecars know them.
const SERVICES: &str = r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment, namespace: shop}
spec:
  hosts: [payment.test]
  addresses: [10.96.0.2, "fd96::2"]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 5432, name: tcp, protocol: TCP}
  endpoints:
  - address: 10.231.0.2
    serviceAccount: payment-service
    labels: {security.istio.io/tlsMode: istio}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: payment6, namespace: shop}
spec:
  hosts: [payment6.test]
  addresses: ["fd96::6"]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 5432, name: tcp, protocol: TCP}
  endpoints:
  - address: "fd77::2"
    serviceAccount: payment-service
    labels: {security.istio.io/tlsMode: istio}
"#;

fn document(kind: &str, name: &str, spec: &str) -> String {
    let group = match kind {
        "DestinationRule" | "Sidecar" => "networking.istio.io/v1",
        _ => "security.istio.io/v1",
    };
    format!(
        "---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {spec}\n"
    )
}

/// A mesh of one authority.
struct Mesh {
    world: World,
    authority: Authority,
    files: tempfile::TempDir,
    driver: &'static str,
}

impl Mesh {
    fn new(driver: &'static str) -> Option<Self> {
        Some(Self {
            world: World::new(3)?,
            authority: Authority::new(),
            files: tempfile::tempdir().expect("a folder"),
            driver,
        })
    }

    fn identity(&self, account: &str) -> Identity {
        let name = format!("spiffe://cluster.local/ns/shop/sa/{account}");
        self.authority.issue(&[&name])
    }

    /// Writes what the workload shows, and where its settings find it.
    fn certificates(&self, account: &str) -> String {
        let write = |name: &str, text: &str| {
            let path: &Path = self.files.path();
            let path = path.join(format!("{account}-{name}"));
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        let identity = self.identity(account);
        format!(
            "{{chain: {}, key: {}, roots: {}}}",
            write("chain.pem", &identity.certificate),
            write("key.pem", &identity.key),
            write("root.pem", &self.authority.pem)
        )
    }

    /// The sidecar of a workload, with further settings and documents.
    fn sidecar(&self, number: u8, more_settings: &str, documents: &str) -> Proxy {
        let (name, account) = match number {
            ORDER => ("order", "order-service"),
            _ => ("payment", "payment-service"),
        };
        let [v4, v6] = addresses(number);
        let settings = settings(&format!(
            "{{role: sidecar, namespace: shop, interception: {{mode: REDIRECT}}, \
             limits: {{requestHeadTimeout: 3s}}, workload: {{addresses: [{v4}, \"{v6}\"], \
             labels: {{app: {name}}}, serviceAccount: {account}}}, \
             certificates: {}{more_settings}}}",
            self.certificates(account)
        ));
        let files = [
            ("settings.yaml", settings.as_str()),
            ("services.yaml", SERVICES),
            ("more.yaml", documents),
        ];
        let args = ["--driver", self.driver, "--workers", "1"];
        self.world.sidecar(number, &files, &args)
    }

    fn get(&self, from: u8, to: &str, host: &str) -> std::io::Result<Answer> {
        let to: SocketAddr = to.parse().expect("an address");
        self.world
            .at(from, || harness::try_send(to, "GET", host, "/"))
    }

    /// What a connection gives before and after it has sent `ping`.
    fn exchange(&self, from: u8, to: &str) -> std::io::Result<String> {
        let to: SocketAddr = to.parse().expect("an address");
        self.world.at(from, || {
            let mut stream = TcpStream::connect(to)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut got = vec![0; "welcome\n".len()];
            stream.read_exact(&mut got)?;
            stream.write_all(b"ping")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read_to_end(&mut got)?;
            Ok(String::from_utf8_lossy(&got).into_owned())
        })
    }
}

const ANY: IpAddr = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

#[test]
fn services_are_reached_by_address_port_and_protocol_over_both_families() {
    for driver in DRIVERS {
        let Some(mesh) = Mesh::new(driver) else {
            return;
        };
        let order = mesh.sidecar(ORDER, "", "");
        let payment = mesh.sidecar(PAYMENT, "", "");
        mesh.world.serve_http(PAYMENT, ANY, 8080, "payment");
        mesh.world.serve_greeting(PAYMENT, ANY, 5432);
        for (address, host, from) in [
            ("10.96.0.2", "payment.test", "127.0.0.6"),
            ("[fd96::6]", "payment6.test", "::6"),
        ] {
            for _ in 0..2 {
                let answer = mesh.get(ORDER, &format!("{address}:80"), host);
                let answer = answer.expect("an answer");
                let start = format!("payment|{from}|");
                assert!(answer.body.starts_with(&start), "{}", answer.body);
                let caller = "URI=spiffe://cluster.local/ns/shop/sa/order-service";
                assert!(answer.body.ends_with(caller), "{}", answer.body);
            }
            let got = mesh.exchange(ORDER, &format!("{address}:5432"));
            assert_eq!(got.expect("bytes"), "welcome\nping");
        }
        let stat = |number, sidecar: &Proxy, name: &str| mesh.world.stat(number, sidecar, name);
        let handshakes = stat(PAYMENT, &payment, "http.virtualInbound.ssl_handshake");
        assert_eq!(
            handshakes, 4,
            "each way by mTLS, and HTTP by kept connections"
        );
        for (port, host) in [(80, "payment.test"), (5432, "payment6.test")] {
            let name = format!("cluster.outbound|{port}||{host}.upstream_cx_total");
            assert_eq!(stat(ORDER, &order, &name), 1, "{name}");
        }
        for name in ["inbound|8080||", "inbound|5432||"] {
            let name = format!("cluster.{name}.upstream_cx_total");
            assert_eq!(stat(PAYMENT, &payment, &name), 2, "{name}");
        }
    }
}

/// Under PERMISSIVE requests and bytes of the mesh share such a port with plain ones.
#[test]
fn a_port_of_unknown_protocol_is_reached_by_mutual_tls() {
    for driver in DRIVERS {
        let Some(mesh) = Mesh::new(driver) else {
            return;
        };
        let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
            metadata: {name: unknown, namespace: shop}\nspec:\n  hosts: [unknown.test]\n  \
            addresses: [10.96.0.7]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
            ports: [{number: 7000, name: web}, {number: 7001, name: bytes}]\n  endpoints:\n  \
            - address: 10.231.0.2\n    labels: {security.istio.io/tlsMode: istio}\n";
        let _order = mesh.sidecar(ORDER, "", entry);
        let payment = mesh.sidecar(PAYMENT, "", entry);
        mesh.world.serve_http(PAYMENT, ANY, 7000, "unknown");
        mesh.world.serve_greeting(PAYMENT, ANY, 7001);
        let answer = mesh.get(ORDER, "10.96.0.7:7000", "unknown.test");
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        let caller = "URI=spiffe://cluster.local/ns/shop/sa/order-service";
        assert!(answer.body.ends_with(caller), "{}", answer.body);
        let got = mesh.exchange(ORDER, "10.96.0.7:7001");
        assert_eq!(got.expect("bytes"), "welcome\nping");
        let handshakes = "http.virtualInbound.ssl_handshake";
        assert_eq!(mesh.world.stat(PAYMENT, &payment, handshakes), 2);
        let plain = mesh.get(STRANGER, "10.231.0.2:7000", "unknown.test");
        assert_eq!(plain.expect("an answer").status, 200);
    }
}

#[test]
fn what_nobody_declares_passes_through_to_where_it_was_addressed() {
    for driver in DRIVERS {
        let Some(mesh) = Mesh::new(driver) else {
            return;
        };
        let order = mesh.sidecar(ORDER, "", "");
        let payment = mesh.sidecar(PAYMENT, "", "");
        mesh.world.serve_http(PAYMENT, ANY, 9000, "unknown");
        mesh.world.serve_greeting(PAYMENT, ANY, 9001);
        mesh.world.serve_http(STRANGER, ANY, 80, "stranger");
        for ip in ["10.231.0.2", "[fd77::2]"] {
            let answer = mesh.get(ORDER, &format!("{ip}:9000"), "any.test");
            assert!(answer.expect("an answer").body.starts_with("unknown|"));
            let got = mesh.exchange(ORDER, &format!("{ip}:9001"));
            assert_eq!(got.expect("bytes"), "welcome\nping");
        }
        // A port that services have, and a host that none of them has.
        for ip in ["10.231.0.3", "[fd77::3]"] {
            let answer = mesh.get(ORDER, &format!("{ip}:80"), "other.test");
            assert!(answer.expect("an answer").body.starts_with("stranger|"));
        }
        let total = |number, sidecar, cluster: &str| {
            let name = format!("cluster.{cluster}.upstream_cx_total");
            mesh.world.stat(number, sidecar, &name)
        };
        assert_eq!(total(ORDER, &order, "PassthroughCluster"), 6);
        assert_eq!(total(PAYMENT, &payment, "InboundPassthroughCluster"), 4);
    }
}

#[test]
fn with_registry_only_nothing_goes_where_nobody_declares() {
    let Some(mesh) = Mesh::new("auto") else {
        return;
    };
    let order = mesh.sidecar(ORDER, ", outboundTrafficPolicy: REGISTRY_ONLY", "");
    mesh.world.serve_http(STRANGER, ANY, 80, "stranger");
    mesh.world.serve_greeting(STRANGER, ANY, 9001);
    let answer = mesh.get(ORDER, "10.231.0.3:80", "other.test");
    assert_eq!(answer.expect("an answer").status, 502);
    assert!(mesh.exchange(ORDER, "10.231.0.3:9001").is_err());
    let none = "cluster.BlackHoleCluster.upstream_cx_none_healthy";
    harness::until("it is counted", || {
        mesh.world.stat(ORDER, &order, none) == 1
    });
}

#[test]
fn what_is_addressed_to_the_doors_themselves_goes_in_no_circle() {
    for driver in DRIVERS {
        let Some(mesh) = Mesh::new(driver) else {
            return;
        };
        let payment = mesh.sidecar(PAYMENT, "", "");
        // From outside and from the workload itself, to both doors.
        for (from, to) in [
            (STRANGER, "10.231.0.2:15006"),
            (STRANGER, "[fd77::2]:15006"),
            (STRANGER, "10.231.0.2:15001"),
            (PAYMENT, "10.231.0.2:15001"),
            (PAYMENT, "127.0.0.1:15006"),
            (PAYMENT, "[::1]:15001"),
        ] {
            assert!(mesh.exchange(from, to).is_err(), "{to}");
        }
        let none = "cluster.BlackHoleCluster.upstream_cx_none_healthy";
        harness::until("each is counted, once", || {
            mesh.world.stat(PAYMENT, &payment, none) == 6
        });
        let total = |name: &str| {
            let name = format!("http.{name}.downstream_cx_total");
            mesh.world.stat(PAYMENT, &payment, &name)
        };
        let (outbound, inbound) = (total("virtualOutbound"), total("virtualInbound"));
        assert!(outbound + inbound <= 8, "{outbound} and {inbound}");
    }
}

#[test]
fn a_destination_rule_of_passthrough_goes_to_the_endpoint_that_was_addressed() {
    let Some(mesh) = Mesh::new("auto") else {
        return;
    };
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
        metadata: {name: both, namespace: shop}\nspec:\n  hosts: [both.test]\n  \
        resolution: STATIC\n  ports: [{number: 8081, name: http, protocol: HTTP}]\n  \
        endpoints: [{address: 10.231.0.2}, {address: 10.231.0.3}]\n";
    let rule = "{host: both.test, trafficPolicy: {loadBalancer: {simple: PASSTHROUGH}}}";
    let documents = entry.to_string() + &document("DestinationRule", "both", rule);
    let _order = mesh.sidecar(ORDER, "", &documents);
    mesh.world.serve_http(PAYMENT, ANY, 8081, "second");
    mesh.world.serve_http(STRANGER, ANY, 8081, "third");
    for _ in 0..5 {
        for (ip, name) in [("10.231.0.2", "second|"), ("10.231.0.3", "third|")] {
            let answer = mesh.get(ORDER, &format!("{ip}:8081"), "both.test");
            assert!(answer.expect("an answer").body.starts_with(name));
        }
    }
}

#[test]
fn the_workload_is_reached_on_loopback_where_a_sidecar_document_says_so() {
    let Some(mesh) = Mesh::new("auto") else {
        return;
    };
    let ingress = "{ingress: [{port: {number: 8080, protocol: HTTP, name: http}, \
        defaultEndpoint: '127.0.0.1:7070'}]}";
    let _payment = mesh.sidecar(PAYMENT, "", &document("Sidecar", "payment", ingress));
    let loopback = IpAddr::from([127, 0, 0, 1]);
    mesh.world.serve_http(PAYMENT, loopback, 7070, "loopback");
    for ip in ["10.231.0.2", "[fd77::2]"] {
        let answer = mesh.get(STRANGER, &format!("{ip}:8080"), "any.test");
        assert!(
            answer
                .expect("an answer")
                .body
                .starts_with("loopback|127.0.0.1|")
        );
    }
}

#[test]
fn a_workload_without_certificate_is_let_in_or_shut_out_as_its_port_wants_it() {
    for driver in DRIVERS {
        let Some(mesh) = Mesh::new(driver) else {
            return;
        };
        let _order = mesh.sidecar(ORDER, "", "");
        let payment = mesh.sidecar(PAYMENT, "", "");
        mesh.world.serve_http(PAYMENT, ANY, 8080, "payment");
        mesh.world.serve_greeting(PAYMENT, ANY, 5432);
        let stranger = || mesh.get(STRANGER, "10.231.0.2:8080", "payment.test");
        let of_mesh = || mesh.get(ORDER, "10.96.0.2:80", "payment.test");
        let put = |mode: &str| {
            let policy = document("PeerAuthentication", "default", mode);
            payment.put("more.yaml", &policy);
        };
        // Nobody has said anything: both, on one port, and a server may speak first.
        assert_eq!(stranger().expect("let in").status, 200);
        assert_eq!(of_mesh().expect("let in").status, 200);
        let got = mesh.exchange(STRANGER, "10.231.0.2:5432");
        assert_eq!(got.expect("bytes"), "welcome\nping");

        put("{mtls: {mode: STRICT}}");
        harness::until("the stranger is shut out", || stranger().is_err());
        assert!(mesh.exchange(STRANGER, "10.231.0.2:5432").is_err());
        assert_eq!(of_mesh().expect("let in").status, 200);
        let got = mesh.exchange(ORDER, "10.96.0.2:5432");
        assert_eq!(got.expect("bytes"), "welcome\nping");

        put(
            "{selector: {matchLabels: {app: payment}}, mtls: {mode: STRICT}, \
             portLevelMtls: {5432: {mode: DISABLE}}}",
        );
        harness::until("one port is open", || {
            mesh.exchange(STRANGER, "10.231.0.2:5432").is_ok()
        });
        assert!(stranger().is_err());

        put("{mtls: {mode: PERMISSIVE}}");
        harness::until("the stranger is let in again", || stranger().is_ok());
        assert_eq!(of_mesh().expect("let in").status, 200);
    }
}
