//! Configuration documents that many tests begin with.

use std::fs;
use std::net::SocketAddr;

/// A gateway at `address` for every host.
pub fn gateway(address: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gate}}\nspec:\n  \
         servers:\n  - port: {{number: {}, name: http, protocol: HTTP}}\n    bind: {}\n    \
         hosts: [\"*\"]\n",
        address.port(),
        address.ip()
    )
}

/// A gateway at `address` with an HTTPS server for each of these hosts, each with its `tls` block.
pub fn https_gateway(address: SocketAddr, servers: &[(&str, &str)]) -> String {
    let mut text = String::from(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gate}\nspec:\n  \
         servers:\n",
    );
    for (at, (host, tls)) in servers.iter().enumerate() {
        text += &format!(
            "  - port: {{number: {}, name: https-{at}, protocol: HTTPS}}\n    bind: {}\n    \
             hosts: [\"{host}\"]\n    tls: {tls}\n",
            address.port(),
            address.ip()
        );
    }
    text
}

/// A virtual service of that gateway that answers by itself.
pub fn answering(body: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: answer}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  - directResponse:\n      \
         status: 200\n      body: {{string: \"{body}\"}}\n"
    )
}

/// A virtual service of that gateway that splits between upstreams by weight.
pub fn splitting(to: &[(SocketAddr, u32)]) -> String {
    let mut routes = String::new();
    let mut entries = String::new();
    for (at, (address, weight)) in to.iter().enumerate() {
        routes += &format!(
            "    - destination: {{host: up{at}.test, port: {{number: 80}}}}\n      \
             weight: {weight}\n"
        );
        entries += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
             metadata: {{name: up{at}}}\nspec:\n  hosts: [up{at}.test]\n  resolution: STATIC\n  \
             ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints:\n  \
             - address: {}\n    ports: {{http: {}}}\n",
            address.ip(),
            address.port()
        );
    }
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: split}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  - route:\n{routes}{entries}"
    )
}

/// A document of our own kind with this `spec`.
pub fn settings(spec: &str) -> String {
    format!(
        "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: test}}\n\
         spec: {spec}\n"
    )
}

/// The text of an example in `configs/`, where each of `changes` replaces what stands there once.
pub fn example(path: &str, changes: &[(&str, String)]) -> String {
    let configs = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/");
    let text = fs::read_to_string(format!("{configs}{path}")).expect("is there");
    changes.iter().fold(text, |text, (written, wanted)| {
        assert_eq!(text.matches(written).count(), 1, "{written}");
        text.replace(written, wanted)
    })
}
