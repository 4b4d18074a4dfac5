//! `x-forwarded-client-cert`: what upstreams are told of the certificates of clients.

use super::accept::ChosenChain;
use crate::tls::{PeerCertificate, sha256_hex};
use crate::worker::Rules;
use base64::Engine as _;
use ringroad_policy::settings::ClientCertDetails;
use ringroad_policy::snapshot::ForwardedCert;
use rustls::pki_types::CertificateDer;

/// What becomes of the header in the requests of a connection.
pub fn forwarded_cert<'a>(rules: &Rules, chain: Option<&'a ChosenChain>) -> ForwardedCert<'a> {
    let headers = &rules.view.snapshot.settings.proxy_headers;
    let mode = headers.forwarded_client_cert(rules.listener().direction);
    ForwardedCert::new(mode, chain.and_then(ChosenChain::client_cert))
}

/// The element of one client, as Envoy writes it. `own_uris` are those of the certificate that was
/// shown to it; `chain` begins with its own.
pub fn element(
    own_uris: &[String],
    chain: &[CertificateDer<'_>],
    peer: &PeerCertificate,
    details: &ClientCertDetails,
) -> String {
    let mut parts: Vec<String> = own_uris.iter().map(|uri| format!("By={uri}")).collect();
    if let Some(leaf) = chain.first() {
        parts.push(format!("Hash={}", sha256_hex(leaf)));
        if details.cert {
            parts.push(format!("Cert=\"{}\"", url_encoded(&pem(leaf))));
        }
    }
    if details.chain {
        let all: String = chain.iter().map(|one| pem(one)).collect();
        parts.push(format!("Chain=\"{}\"", url_encoded(&all)));
    }
    if details.subject {
        parts.push(format!("Subject=\"{}\"", peer.subject));
    }
    if details.uri && peer.uris.is_empty() {
        parts.push("URI=".to_string());
    } else if details.uri {
        parts.extend(peer.uris.iter().map(|uri| format!("URI={uri}")));
    }
    if details.dns {
        parts.extend(peer.dns_names.iter().map(|name| format!("DNS={name}")));
    }
    // What a certificate holds must not end the line.
    let element = parts.join(";");
    element.replace(|c: char| c.is_ascii_control(), " ")
}

fn pem(der: &[u8]) -> String {
    let base64 = base64::engine::general_purpose::STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

/// With all escaped that Envoy escapes in PEM.
fn url_encoded(pem: &str) -> String {
    let mut out = String::with_capacity(pem.len() * 2);
    for c in pem.chars() {
        match c {
            '\n' => out.push_str("%0A"),
            ' ' => out.push_str("%20"),
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_tells_what_is_asked_for_in_the_order_of_envoy() {
        let peer = PeerCertificate {
            subject: "CN=a\nb".to_string(),
            uris: vec!["spiffe://td/ns/a/sa/b".to_string()],
            dns_names: vec!["one.test".to_string(), "two.test".to_string()],
            ..PeerCertificate::default()
        };
        let chain = [CertificateDer::from(vec![0xfb, 0xff])];
        let own = ["spiffe://td/ns/a/sa/own".to_string()];
        let all = ClientCertDetails {
            subject: true,
            cert: true,
            chain: true,
            dns: true,
            uri: true,
        };
        let encoded = "-----BEGIN%20CERTIFICATE-----%0A%2B%2F8%3D%0A-----END%20CERTIFICATE-----%0A";
        let hash = sha256_hex(&[0xfb, 0xff]);
        assert_eq!(
            element(&own, &chain, &peer, &all),
            format!(
                "By=spiffe://td/ns/a/sa/own;Hash={hash};Cert=\"{encoded}\";Chain=\"{encoded}\";\
                 Subject=\"CN=a b\";URI=spiffe://td/ns/a/sa/b;DNS=one.test;DNS=two.test"
            )
        );
        let uri = ClientCertDetails {
            uri: true,
            ..ClientCertDetails::default()
        };
        let nobody = PeerCertificate::default();
        assert_eq!(
            element(&[], &chain, &nobody, &uri),
            format!("Hash={hash};URI=")
        );
    }
}
