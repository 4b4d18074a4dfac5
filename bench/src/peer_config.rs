//! The configuration of a peer: its template in `bench/peers/`, filled in.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::peers::HOST;
use crate::rows::Front;
use crate::sys;

/// What the templates are filled with.
pub struct Filling<'a> {
    pub listen: SocketAddr,
    pub upstream: SocketAddr,
    /// A port by which a service is known, and which nobody listens on.
    pub service_port: u16,
    /// Where the proxy's files go.
    pub directory: &'a Path,
    /// As [`crate::certificates::make`] makes it.
    pub certificates: &'a Path,
    pub front: Front,
    /// Clients have to show a certificate.
    pub is_mutual: bool,
    /// The upstream is reached by mutual TLS.
    pub upstream_is_mutual: bool,
}

impl Filling<'_> {
    /// Fills `template`.
    pub fn fill(&self, template: &str) -> io::Result<String> {
        let path = |name: &str| self.certificates.join(name).display().to_string();
        let (certificate, key) = (path("tls.crt"), path("tls.key"));
        let credentials = self.certificates.parent().unwrap_or(self.certificates);
        let is_tls = self.front == Front::Tls;
        let only = |wanted: bool, text: String| if wanted { text } else { String::new() };
        let nginx_tls = format!(
            "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3;"
        );
        let haproxy_tls = format!(" ssl crt {}", path("both.pem"));
        let envoy_tls = format!(
            "transport_socket:\n            name: envoy.transport_sockets.tls\n            \
             typed_config:\n              \"@type\": type.googleapis.com/envoy.extensions.\
             transport_sockets.tls.v3.DownstreamTlsContext\n              common_tls_context:\n\
             {0}tls_certificates:\n{0}- certificate_chain: {{ filename: {certificate} }}\n{0}  \
             private_key: {{ filename: {key} }}",
            " ".repeat(16),
        );
        let mode = match self.is_mutual {
            true => "MUTUAL",
            false => "SIMPLE",
        };
        let ringroad_tls = format!("tls: {{ mode: {mode}, credentialName: bench-cert }}");
        let upstream_tls = format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
             metadata: {{ name: upstream }}\nspec:\n  host: upstream.bench.internal\n  \
             trafficPolicy:\n    tls:\n      mode: MUTUAL\n      sni: {HOST}\n      \
             subjectAltNames: [{HOST}]\n      clientCertificate: {certificate}\n      \
             privateKey: {key}\n      caCertificates: {}\n",
            path("ca.crt"),
        );
        let haproxy_bind = match self.front {
            Front::Plain => String::new(),
            Front::Tls => haproxy_tls,
            Front::Http2 => " proto h2".to_string(),
        };
        let nginx_listen = match self.front {
            Front::Plain => "",
            Front::Tls => " ssl",
            Front::Http2 => " http2",
        };
        let values = [
            ("listen_port", self.listen.port().to_string()),
            ("upstream_port", self.upstream.port().to_string()),
            ("service_port", self.service_port.to_string()),
            ("host", HOST.to_string()),
            ("directory", self.directory.display().to_string()),
            ("credentials", credentials.display().to_string()),
            ("descriptors", "16384".to_string()),
            ("user_line", only(sys::is_root(), "user root;".to_string())),
            ("nginx_listen", nginx_listen.to_string()),
            ("nginx_tls", only(is_tls, nginx_tls)),
            ("haproxy_bind", haproxy_bind),
            ("envoy_tls", only(is_tls, envoy_tls)),
            (
                "protocol",
                if is_tls { "HTTPS" } else { "HTTP" }.to_string(),
            ),
            ("ringroad_tls", only(is_tls, ringroad_tls)),
            ("upstream_tls", only(self.upstream_is_mutual, upstream_tls)),
        ];
        let filled = values
            .iter()
            .fold(template.to_string(), |text, (name, value)| {
                text.replace(&format!("{{{{{name}}}}}"), value)
            });
        match filled.contains("{{") {
            true => Err(io::Error::other("a template names what is not known")),
            false => Ok(filled),
        }
    }

    /// Fills `template` into a file of the peer's directory.
    pub fn write(&self, template: &str, file: &Path) -> io::Result<()> {
        fs::write(file, self.fill(template)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_filled_completely() {
        let directory = Path::new("/somewhere");
        for template in [
            include_str!("../peers/nginx.conf"),
            include_str!("../peers/haproxy.cfg"),
            include_str!("../peers/envoy.yaml"),
            include_str!("../peers/ringroad.yaml"),
            include_str!("../peers/ringroad-rich.yaml"),
        ] {
            assert!(template.contains("{{listen_port}}") && template.contains("{{upstream_port}}"));
            for front in [Front::Plain, Front::Tls, Front::Http2] {
                let filling = Filling {
                    listen: SocketAddr::from(([127, 0, 0, 1], 1)),
                    upstream: SocketAddr::from(([127, 0, 0, 1], 2)),
                    service_port: 3,
                    directory,
                    certificates: directory,
                    front,
                    is_mutual: true,
                    upstream_is_mutual: true,
                };
                filling.fill(template).expect("is filled");
            }
        }
    }
}
