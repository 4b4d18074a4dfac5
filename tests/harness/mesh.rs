//! Sidecars with certificates of one authority, on loopback, before an application that tells who
//! asked.

use super::pki::{AnyName, Authority, Identity};
use super::{Answer, Proxy, folder, free_address, settings, try_send};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

pub const HOST: &str = "payment.test";

/// A mesh of one authority, with an application that tells what header it was sent.
pub struct Mesh {
    pub authority: Authority,
    pub files: tempfile::TempDir,
    pub application: SocketAddr,
    pub driver: &'static str,
}

/// An application that answers with the `x-forwarded-client-cert` of each request.
pub fn application() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut received = Vec::new();
                let mut piece = [0; 4096];
                loop {
                    match stream.read(&mut piece) {
                        Ok(len @ 1..) => received.extend_from_slice(&piece[..len]),
                        Ok(0) | Err(_) => return,
                    }
                    let Some(end) = received.windows(4).position(|part| part == b"\r\n\r\n") else {
                        continue;
                    };
                    let head = String::from_utf8_lossy(&received[..end]).into_owned();
                    received.drain(..end + 4);
                    let told: Vec<&str> = head
                        .lines()
                        .filter_map(|line| line.split_once(": "))
                        .filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-client-cert"))
                        .map(|(_, value)| value)
                        .collect();
                    let body = told.join("|");
                    let length = body.len();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

pub fn id(account: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{account}")
}

impl Mesh {
    pub fn new(driver: &'static str) -> Self {
        Self {
            authority: Authority::new(),
            files: tempfile::tempdir().expect("a folder"),
            application: application(),
            driver,
        }
    }

    pub fn identity(&self, account: &str) -> Identity {
        self.authority.issue(&[&id(account)])
    }

    pub fn path(&self, name: &str) -> String {
        let path: &Path = self.files.path();
        path.join(name).display().to_string()
    }

    /// Puts a certificate where the sidecar of `account` finds it.
    pub fn install(&self, account: &str, identity: &Identity) {
        let put = |name: &str, text: &str| {
            let path = self.path(&format!("{account}-{name}"));
            fs::write(format!("{path}.new"), text).expect("written");
            fs::rename(format!("{path}.new"), path).expect("moved");
        };
        put("key.pem", &identity.key);
        put("chain.pem", &identity.certificate);
        put("root.pem", &self.authority.pem);
    }

    pub fn settings(&self, account: &str, more: &str) -> String {
        settings(&format!(
            "{{role: sidecar, namespace: shop, workload: {{labels: {{app: {account}}}, \
             serviceAccount: {account}}}, certificates: {{chain: {}, key: {}, roots: {}}}{more}}}",
            self.path(&format!("{account}-chain.pem")),
            self.path(&format!("{account}-key.pem")),
            self.path(&format!("{account}-root.pem"))
        ))
    }

    pub fn start(&self, files: &[(&str, &str)]) -> Proxy {
        let args = ["--driver", self.driver, "--workers", "2"];
        Proxy::start_with_workers(folder(files), &args)
    }

    /// The sidecar of payment-service, whose inbound port has a socket of its own.
    pub fn payment(&self, mode: &str, more_settings: &str, documents: &str) -> (Proxy, SocketAddr) {
        self.install("payment-service", &self.identity("payment-service"));
        let inbound = free_address();
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: Sidecar\n\
             metadata: {{name: payment, namespace: shop}}\nspec:\n  ingress:\n  \
             - port: {{number: {}, protocol: HTTP, name: http}}\n    bind: {}\n    \
             captureMode: NONE\n    defaultEndpoint: {}\n---\n\
             apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
             metadata: {{name: default, namespace: shop}}\nspec: {{mtls: {{mode: {mode}}}}}\n\
             {documents}",
            inbound.port(),
            inbound.ip(),
            self.application
        );
        let settings = self.settings("payment-service", more_settings);
        let proxy = self.start(&[("settings.yaml", &settings), ("payment.yaml", &text)]);
        (proxy, inbound)
    }

    /// The sidecar of another service, by auto-mTLS; payment-service is at the address that comes
    /// with it.
    pub fn caller(&self, account: &str, to: SocketAddr) -> (Proxy, SocketAddr) {
        let labels = "    labels: {security.istio.io/tlsMode: istio}\n";
        self.caller_by(account, to, labels)
    }

    /// The same with what stands behind the endpoint of payment-service.
    pub fn caller_by(&self, account: &str, to: SocketAddr, more: &str) -> (Proxy, SocketAddr) {
        self.install(account, &self.identity(account));
        let outbound = free_address();
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: payment, namespace: shop}}\nspec:\n  hosts: [{HOST}]\n  \
             location: MESH_INTERNAL\n  resolution: STATIC\n  \
             ports: [{{number: {}, name: http, protocol: HTTP}}]\n  endpoints:\n  \
             - address: {}\n    ports: {{http: {}}}\n    serviceAccount: payment-service\n{more}",
            outbound.port(),
            to.ip(),
            to.port()
        );
        let settings = self.settings(account, "");
        let proxy = self.start(&[("settings.yaml", &settings), ("services.yaml", &text)]);
        (proxy, outbound)
    }
}

pub fn ask(address: SocketAddr, method: &str) -> std::io::Result<Answer> {
    try_send(address, method, HOST, "/charge")
}

/// Certificates of the mesh have no host names: a plain client has to look at the chain alone.
pub fn skip_names(config: &mut rustls::ClientConfig, authority: &Authority) {
    config
        .dangerous()
        .set_certificate_verifier(Arc::new(AnyName::of(authority)));
    config.alpn_protocols = vec![b"istio".to_vec()];
}
