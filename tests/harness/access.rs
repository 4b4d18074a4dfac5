//! A proxy with policies before an upstream that says yes to everything.

use super::raw::{ScriptedUpstream, converse, status};
use super::{Proxy, folder, free_address, gateway, settings, splitting, until_equal};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

/// An upstream that says yes to everything; what it was asked is in its heads.
pub fn upstream() -> ScriptedUpstream {
    ScriptedUpstream::start(|connection| {
        while let Some((_, head)) = connection.head() {
            if head.contains("transfer-encoding: chunked") {
                connection.chunks();
            }
            connection.send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-language: en\r\n\
                 content-length: 2\r\n\r\nok",
            );
        }
    })
}

pub fn policy(name: &str, spec: &Value) -> String {
    let document = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name},
        "spec": spec,
    });
    format!("---\n{document}\n")
}

pub fn authentication(rules: &Value) -> String {
    let document = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens"},
        "spec": {"jwtRules": rules},
    });
    format!("---\n{document}\n")
}

pub struct Setup {
    pub proxy: Proxy,
    pub address: SocketAddr,
    pub upstream: ScriptedUpstream,
}

pub fn start(driver: &str, policies: &str, stdout: Stdio) -> Setup {
    start_with_settings(driver, policies, "{accessLog: {format: JSON}}", stdout)
}

/// The same with settings of its own.
pub fn start_with_settings(driver: &str, policies: &str, spec: &str, stdout: Stdio) -> Setup {
    let address = free_address();
    let upstream = upstream();
    let folder = folder(&[
        ("gateway.yaml", &gateway(address)),
        ("routes.yaml", &splitting(&[(upstream.address, 1)])),
        ("policies.yaml", policies),
        ("settings.yaml", &settings(spec)),
    ]);
    let proxy = Proxy::start_with_stdout(folder, &["--driver", driver], stdout);
    Setup {
        proxy,
        address,
        upstream,
    }
}

impl Setup {
    /// Sends one request and reads to the end of the connection; `head` lacks its last lines.
    pub fn ask(&self, head: &str) -> (u16, String) {
        let request = format!("{head}\r\nconnection: close\r\n\r\n");
        let (answer, _) = converse(self.address, &[request.as_bytes()]);
        (status(&answer), answer)
    }

    pub fn get(&self, target: &str, headers: &str) -> (u16, String) {
        let separator = if headers.is_empty() { "" } else { "\r\n" };
        self.ask(&format!(
            "GET {target} HTTP/1.1\r\nhost: shop.test{separator}{headers}"
        ))
    }

    /// A figure of all listeners together.
    pub fn sum_of(&self, name: &str) -> u64 {
        let stats = self.proxy.admin("/stats?filter=rbac|jwt|ext_authz").body;
        let named = stats.lines().filter_map(|line| line.split_once(": "));
        let named = named.filter(|(known, _)| known.ends_with(&format!(".{name}")));
        named
            .map(|(_, value)| value.parse::<u64>().expect("a number"))
            .sum()
    }

    /// Waits until that figure is as wanted.
    #[track_caller]
    pub fn until_sum_of(&self, name: &str, wanted: u64) {
        until_equal(name, wanted, || self.sum_of(name));
    }

    pub fn last_head(&self) -> String {
        self.upstream
            .heads()
            .last()
            .expect("a request arrived")
            .clone()
    }
}

pub fn now_unix_s() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("after 1970").as_secs()
}

pub fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}
