//! What a configuration does under failure that its author may not see: limits that never bite,
//! and retries that nothing limits. Looks at the compiled routes, so that only what requests can
//! reach is spoken of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::findings::Findings;
use crate::diagnostic::{Diagnostic, Place};
use crate::snapshot::{
    Balancer, Cluster, Discovery, Listener, OVERPROVISIONING_PERCENT, Route, UNLIMITED,
    UpstreamProtocol,
};
use crate::source::Origin;

/// More attempts than Istio makes by itself are worth a word when nothing limits them.
const MANY_ATTEMPTS: u32 = 3;

pub fn report(listeners: &[Arc<Listener>], clusters: &[Arc<Cluster>], findings: &mut Findings) {
    let mut used = BTreeSet::new();
    let mut most: BTreeMap<&str, Unlimited<'_>> = BTreeMap::new();
    for listener in listeners {
        let hosts = listener.route_tables().into_iter();
        let hosts = hosts.flat_map(|table| table.virtual_hosts());
        for route in hosts.flat_map(|host| host.routes()) {
            let reached = route.destinations().iter().filter_map(|to| to.cluster);
            used.extend(reached.map(|id| id.0 as usize));
            let Some(found) = unlimited_retries(route, clusters) else {
                continue;
            };
            let known = most.entry(&found.cluster.service.host).or_insert(found);
            if found.attempts > known.attempts {
                *known = found;
            }
        }
    }
    for found in most.values() {
        report_retries(found, findings);
    }
    let used = || used.iter().filter_map(|at| clusters.get(*at));
    report_ejection(used(), findings);
    report_panic(used(), findings);
    report_idle_streams(clusters, findings);
    report_unused_endpoints(clusters, findings);
    report_small_tables(clusters, findings);
}

/// Tables of Maglev with fewer slots than there are endpoints: some get none.
fn report_small_tables(clusters: &[Arc<Cluster>], findings: &mut Findings) {
    for cluster in clusters {
        let Balancer::Maglev { table_size } = cluster.balancer else {
            continue;
        };
        let (Some(origin), count) = (
            &cluster.policy_origins.load_balancer,
            cluster.endpoints.len(),
        ) else {
            continue;
        };
        if table_size >= count as u64 || cluster.discovery != Discovery::Static {
            continue;
        }
        let hash = origin.field.field("consistentHash");
        let place = Place::Field(Origin {
            document: origin.document,
            field: hash.field("maglev").field("tableSize"),
        });
        let message = format!(
            "`{}` has {count} endpoints for {table_size} places of the table: some get no request",
            cluster.service.host
        );
        let help = "write a prime number far above that of the endpoints, such as 65537";
        findings.add(Diagnostic::warning("no-effect", place, message).with_help(help));
    }
}

/// Endpoints of which none may be used, since they are in none of the places that share requests.
fn report_unused_endpoints(clusters: &[Arc<Cluster>], findings: &mut Findings) {
    for cluster in clusters {
        let Some(Origin { document, field }) = &cluster.policy_origins.load_balancer else {
            continue;
        };
        let mut priorities = cluster.priority_of_each().into_iter();
        let is_known = !cluster.endpoints.is_empty() && cluster.discovery == Discovery::Static;
        if !is_known || priorities.any(|priority| priority.is_some()) {
            continue;
        }
        let place = Place::Field(Origin {
            document: *document,
            field: field.field("localityLbSetting"),
        });
        let message = format!(
            "no endpoint of `{}` is in a place that gets a share: requests get 503 UH",
            cluster.service.host
        );
        let help = "write places under `to:` that endpoints name in their `locality`";
        findings.add(Diagnostic::warning("unused-endpoints", place, message).with_help(help));
    }
}

/// Settings of HTTP/2 where everything behind them speaks HTTP/1.1.
fn report_idle_streams(clusters: &[Arc<Cluster>], findings: &mut Findings) {
    let mut has_streams: HashMap<&Origin, bool> = HashMap::new();
    let mut written: Vec<(&Origin, &Cluster)> = Vec::new();
    for cluster in clusters {
        let Some(block) = &cluster.policy_origins.connection_pool else {
            continue;
        };
        *has_streams.entry(block).or_default() |=
            cluster.upstream_protocol != UpstreamProtocol::Http1;
        written.push((block, cluster));
    }
    written.retain(|(block, _)| !has_streams[block]);
    for (Origin { document, field }, cluster) in written {
        let pool = &cluster.connection_pool;
        let idle = [
            (
                "maxConcurrentStreams",
                pool.max_concurrent_streams != UNLIMITED,
            ),
            ("http2KeepAlive", pool.http2_keepalive.is_some()),
        ];
        for (name, _) in idle.iter().filter(|(_, is_written)| *is_written) {
            let place = Place::Key(Origin {
                document: *document,
                field: field.field("http").field(name),
            });
            let message = format!(
                "`{name}` has no effect: `{}` is reached by HTTP/1.1",
                cluster.service.host
            );
            let help = "give the port of the service the protocol HTTP2 or GRPC, write \
                        `h2UpgradePolicy: UPGRADE`, or remove it";
            findings.add(Diagnostic::warning("no-effect", place, message).with_help(help));
        }
    }
}

/// Retries that multiply the load on a failing service.
#[derive(Clone, Copy)]
struct Unlimited<'s> {
    attempts: u32,
    origin: &'s Origin,
    cluster: &'s Cluster,
}

fn unlimited_retries<'s>(route: &'s Route, clusters: &'s [Arc<Cluster>]) -> Option<Unlimited<'s>> {
    route.destinations().iter().find_map(|to| {
        let cluster = clusters.get(to.cluster?.0 as usize)?;
        let retry = route.retry_of(to)?;
        let is_limited =
            cluster.connection_pool.max_retries != UNLIMITED || cluster.retry_budget.is_some();
        (retry.attempts >= MANY_ATTEMPTS && !is_limited).then_some(Unlimited {
            attempts: retry.attempts,
            origin: retry.origin.as_ref()?,
            cluster,
        })
    })
}

/// Says it once a service, of the route with the most attempts.
fn report_retries(found: &Unlimited<'_>, findings: &mut Findings) {
    let cluster = found.cluster;
    let endpoints = match cluster.endpoints.len() {
        0 => String::new(),
        1 => " on 1 endpoint".to_string(),
        count => format!(" on {count} endpoints"),
    };
    let message = format!(
        "when `{}` fails, it gets up to {} times its requests{endpoints}: nothing limits retries",
        cluster.service.host,
        u64::from(found.attempts) + 1
    );
    let help = "write `retryBudget: {percent: 20}` or `connectionPool: {http: {maxRetries: 10}}` \
                in the `trafficPolicy` of its DestinationRule";
    let place = Place::Field(found.origin.clone());
    findings.add(Diagnostic::warning("unlimited-retries", place, message).with_help(help));
}

/// Outlier detection whose `maxEjectionPercent` is less than one endpoint. Envoy ejects while
/// `100 * (ejected + 1) / endpoints` is at most the percentage.
fn report_ejection<'c>(used: impl Iterator<Item = &'c Arc<Cluster>>, findings: &mut Findings) {
    let mut smallest: HashMap<&Origin, &Cluster> = HashMap::new();
    let mut in_order = Vec::new();
    for cluster in used {
        let Some(outlier) = &cluster.outlier_detection else {
            continue;
        };
        let Some(origin) = &cluster.policy_origins.outlier_detection else {
            continue;
        };
        let is_known = !cluster.endpoints.is_empty() && cluster.discovery == Discovery::Static;
        let counts_nothing = outlier.consecutive_5xx.is_none()
            && outlier.consecutive_gateway_errors.is_none()
            && outlier.consecutive_local_origin_failures.is_none();
        let none = outlier.max_ejected(cluster.endpoints.len()) == 0;
        if !is_known || counts_nothing || !none {
            continue;
        }
        let known = smallest.entry(origin).or_insert_with(|| {
            in_order.push(origin);
            cluster
        });
        if cluster.endpoints.len() < known.endpoints.len() {
            *known = cluster;
        }
    }
    for origin in in_order {
        let Some(cluster) = smallest.get(origin) else {
            continue;
        };
        findings.add(never_ejects(cluster, origin));
    }
}

/// A `minHealthPercent` that the first ejection goes below, so that all endpoints are used again at
/// once. Envoy: `LoadBalancerBase::recalculatePerPriorityPanic`, which lets no priority panic while
/// 140 % of what is healthy carries all requests: of four endpoints one can be missed.
fn report_panic<'c>(used: impl Iterator<Item = &'c Arc<Cluster>>, findings: &mut Findings) {
    let mut idle: HashMap<&Origin, (bool, &Cluster)> = HashMap::new();
    let mut in_order = Vec::new();
    for cluster in used {
        let Some(origin) = &cluster.policy_origins.outlier_detection else {
            continue;
        };
        let known = idle.entry(origin).or_insert_with(|| {
            in_order.push(origin);
            (true, cluster)
        });
        known.0 &= panics_at_once(cluster);
    }
    for origin in in_order {
        let (is_idle, cluster) = idle[origin];
        if !is_idle {
            continue;
        }
        let count = cluster.endpoints.len();
        let threshold = cluster.panic_threshold_percent;
        let (left, endpoints) = match count {
            1 => ("none".to_string(), "the only endpoint".to_string()),
            _ => (
                format!("{} %", (count - 1) * 100 / count),
                format!("one of {count} endpoints"),
            ),
        };
        let message = format!(
            "with {endpoints} ejected, {left} of `{}` is left, less than {threshold} %, and all are \
             used again: ejection changes nothing",
            cluster.service.host
        );
        let help = match count {
            1 => "remove `minHealthPercent`, so that requests get 503 UH while it is ejected"
                .to_string(),
            _ => format!(
                "write `minHealthPercent: {}` or less, or remove it",
                (count - 1) * 100 / count
            ),
        };
        let place = Place::Field(Origin {
            document: origin.document,
            field: origin.field.field("minHealthPercent"),
        });
        findings.add(Diagnostic::warning("no-effect", place, message).with_help(help));
    }
}

fn panics_at_once(cluster: &Cluster) -> bool {
    let count = cluster.endpoints.len() as u32;
    let threshold = u32::from(cluster.panic_threshold_percent);
    let ejects = cluster
        .outlier_detection
        .as_ref()
        .is_some_and(|outlier| outlier.max_ejected(count as usize) > 0);
    cluster.discovery == Discovery::Static
        && cluster.priorities().count() == 1
        && count > 0
        && ejects
        && (count - 1) * OVERPROVISIONING_PERCENT / count < 100
        && (count - 1) * 100 < threshold * count
}

fn never_ejects(cluster: &Cluster, origin: &Origin) -> Diagnostic {
    let count = cluster.endpoints.len();
    let percent = cluster
        .outlier_detection
        .as_ref()
        .map_or(0, |outlier| outlier.max_ejection_percent);
    let subset = match cluster.subset.as_str() {
        "" => String::new(),
        subset => format!(" (subset `{subset}`)"),
    };
    let endpoints = if count == 1 { "endpoint" } else { "endpoints" };
    let message = format!(
        "`{}`{subset} has {count} {endpoints}, of which `maxEjectionPercent: {percent}` is less \
         than one: none is ever ejected",
        cluster.service.host
    );
    let help = match count {
        1 => "write `maxEjectionPercent: 100` to eject the only endpoint (503 UH), or remove \
              `outlierDetection`"
            .to_string(),
        count => format!(
            "write `maxEjectionPercent: {}` to eject one at a time, or up to 100",
            100_usize.div_ceil(count)
        ),
    };
    let place = Place::Field(origin.clone());
    Diagnostic::warning("never-ejects", place, message).with_help(help)
}
