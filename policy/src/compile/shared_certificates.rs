//! HTTPS servers with one certificate and routes of their own.

use std::collections::HashMap;
use std::sync::Arc;

use super::findings::Findings;
use crate::diagnostic::{Diagnostic, Place};
use crate::snapshot::{ChainHandler, CredentialSource, FilterChain, Listener, ListenerKind};

/// Warns of servers whose certificate an earlier one of the port has, too. A browser takes an
/// HTTP/2 connection for every host that its certificate is for (RFC 9113 section 9.1.1), and the
/// routes of a connection are those of the server that it was opened to.
pub fn report(listeners: &[Arc<Listener>], findings: &mut Findings) {
    for listener in listeners {
        let ListenerKind::Chains(chains) = &listener.kind else {
            continue;
        };
        let mut known: HashMap<&CredentialSource, &FilterChain> = HashMap::new();
        for chain in &chains.chains {
            let (Some(tls), ChainHandler::Http(_)) = (&chain.tls, &chain.handler) else {
                continue;
            };
            let (Some(host), true) = (chain.matches.server_names.first(), tls.alpn.contains(&"h2"))
            else {
                continue;
            };
            for credential in &tls.credentials {
                if *credential == CredentialSource::Workload {
                    continue;
                }
                let first = *known.entry(credential).or_insert(chain);
                if std::ptr::eq(first, chain) {
                    continue;
                }
                let other = first.matches.server_names.first();
                let (Some(other), Some(origin), Some(earlier)) =
                    (other, &tls.origin, &first.origin)
                else {
                    continue;
                };
                let message = format!(
                    "the server of `{other}` has this certificate, too: a browser sends requests \
                     for `{host}` on a connection that it has to `{other}`, where they get 404"
                );
                let place = Place::Field(origin.clone());
                let warning = Diagnostic::warning("shared-certificate", place, message)
                    .with_help("write all hosts into one server, or give each its certificate")
                    .with_related(earlier.clone(), "the other server");
                findings.add(warning);
            }
        }
    }
}
