//! Why a request of a case takes no route.

use super::proxy::{Proxy, Request, virtual_services};
use super::run::has_host;
use crate::inquiry::Decided;
use crate::settings::Role;

/// Why no route is taken; names a VirtualService that seems to be there for it.
pub(super) fn reason(
    proxy: &Proxy,
    request: &Request<'_>,
    decided: &Decided<'_>,
    host: &str,
) -> String {
    let answer = decided.reason();
    match proxy.is_for_other_role(request) {
        Some(Role::Gateway) => {
            return format!(
                "{answer}; in the mesh there is a route, but with its Gateways this configuration \
                 is a gateway's: write `gateways:` in the VirtualService, or `gateway: mesh` in \
                 the case's `request` to ask a sidecar"
            );
        }
        Some(Role::Sidecar) => {
            return format!(
                "{answer}; a gateway has a route, but by `role: sidecar` this configuration is a \
                 sidecar's: write `gateways: [mesh]` in the VirtualService, or `gateway: \
                 NAMESPACE/NAME` in the case's `request` to ask that one"
            );
        }
        None => {}
    }
    // A gateway that nothing is bound to has a virtual host without routes.
    let found = decided
        .virtual_host
        .filter(|found| !found.routes().is_empty());
    let is_known = found.is_some() && !decided.is_for_unknown_hosts();
    let mut services = virtual_services(&proxy.documents);
    match services.find(|document| has_host(proxy, document, host)) {
        Some(document) if !is_known => format!(
            "VirtualService {}/{} has this host, but nothing listens for it; `ringroad check` \
             tells why",
            document.namespace, document.name
        ),
        _ => answer,
    }
}
