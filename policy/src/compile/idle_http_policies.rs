//! Parts of a traffic policy that are about requests, where all that comes is bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::findings::Findings;
use super::reached::Reached;
use crate::diagnostic::{Diagnostic, Place};
use crate::snapshot::{Cluster, ClusterId, HashPolicy, UNLIMITED, UpstreamProtocol};
use crate::source::Origin;

/// Warns of what holds for requests alone, in policies of clusters that `tcp` and `tls` routes
/// lead to and no others.
pub fn report(reached: &Reached, clusters: &[Arc<Cluster>], findings: &mut Findings) {
    let mut about_requests: HashMap<(&Origin, &str), (bool, &Cluster)> = HashMap::new();
    let mut order = Vec::new();
    for (at, cluster) in clusters.iter().enumerate() {
        let id = ClusterId(at as u32);
        let has_requests = reached.by_requests.contains(&id);
        // Those that nothing leads to decide nothing.
        if !has_requests && !reached.by_bytes.contains(&id) {
            continue;
        }
        for part in parts_of(cluster) {
            let known = about_requests.entry(part).or_insert_with(|| {
                order.push(part);
                (false, cluster)
            });
            known.0 |= has_requests;
        }
    }
    for part in order {
        let (has_requests, cluster) = about_requests[&part];
        if has_requests {
            continue;
        }
        let (Origin { document, field }, path) = part;
        let steps = path.split('.').filter(|step| !step.is_empty());
        let place = Place::Key(Origin {
            document: *document,
            field: steps.fold(field.clone(), |field, step| field.field(step)),
        });
        let message = format!(
            "this is about requests, and `{}` only gets connections of TCP: it has no effect",
            cluster.service.host
        );
        let help = "remove it, or give the port of the service an HTTP protocol and route it by \
                    `http`";
        findings.add(Diagnostic::warning("no-effect", place, message).with_help(help));
    }
}

/// What is written for requests alone, as the block and the field within it.
fn parts_of(cluster: &Cluster) -> Vec<(&Origin, &'static str)> {
    let origins = &cluster.policy_origins;
    let pool = &cluster.connection_pool;
    let speaks_http2 = matches!(
        cluster.upstream_protocol,
        UpstreamProtocol::Http2 | UpstreamProtocol::AsDownstream
    );
    let by_request = match cluster.hash_policy {
        Some(HashPolicy::Header(_)) => "consistentHash.httpHeaderName",
        Some(HashPolicy::Cookie(_)) => "consistentHash.httpCookie",
        Some(HashPolicy::QueryParameter(_)) => "consistentHash.httpQueryParameterName",
        Some(HashPolicy::SourceIp) | None => "",
    };
    let of_pool = origins.connection_pool.as_ref();
    let of_upgrade = of_pool.filter(|_| speaks_http2 && origins.upstream_protocol.is_some());
    let parts = [
        (origins.load_balancer.as_ref(), by_request),
        (
            of_pool,
            when(pool.max_requests != UNLIMITED, "http.http2MaxRequests"),
        ),
        (
            of_pool,
            when(pool.max_retries != UNLIMITED, "http.maxRetries"),
        ),
        (
            of_pool,
            when(
                pool.max_requests_per_connection > 0,
                "http.maxRequestsPerConnection",
            ),
        ),
        (of_upgrade, "http"),
    ];
    let parts = parts.into_iter().filter(|(_, field)| !field.is_empty());
    let mut parts: Vec<_> = parts
        .filter_map(|(block, field)| Some((block?, field)))
        .collect();
    parts.extend(origins.retry_budget.as_ref().map(|block| (block, "")));
    parts
}

fn when(holds: bool, field: &'static str) -> &'static str {
    if holds { field } else { "" }
}
