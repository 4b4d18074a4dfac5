//! A cluster for each port of each service, and for each subset of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::balancing::{self, ProxyPlaces};
use super::client_tls::{TlsScope, upstream_tls};
use super::destination_rules::{EffectivePolicy, Rule, RuleIndex, RuleSubset};
use super::findings::Findings;
use super::names::{cluster_name, sni_name};
use super::peer_authentication::PeerModes;
use super::registry::{Port, PortEndpoints, Registry, Resolution, Service};
use crate::diagnostic::{Diagnostic, Place};
use crate::health::RetryBudget;
use crate::resource::destination_rule;
use crate::resource::protocol::Protocol;
use crate::settings::{ProxySettings, Role, duration};
use crate::snapshot::{
    BLACK_HOLE, Balancer, Cluster, ClusterId, ConnectionPool, Discovery, Http2Keepalive,
    OutlierDetection, PolicyOrigins, TcpKeepalive, UNLIMITED, UpstreamProtocol,
};
use crate::source::Origin;

/// Where requests go that no service is known for.
pub const PASSTHROUGH: &str = "PassthroughCluster";

/// Where connections to the workload go at ports that nobody speaks of.
pub const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

/// Istio's name of the cluster of a port of the workload at hand.
pub fn inbound_name(port: u16) -> String {
    format!("inbound|{port}||")
}

/// Clusters by name.
#[derive(Debug, Default)]
pub struct Clusters {
    pub list: Vec<Arc<Cluster>>,
    by_name: HashMap<String, ClusterId>,
}

impl Clusters {
    pub fn new(
        registry: &Registry,
        rules: &RuleIndex<'_>,
        peers: &PeerModes,
        settings: &ProxySettings,
        proxies: &ProxyPlaces,
        findings: &mut Findings,
    ) -> Self {
        let mut clusters = Self::default();
        for service in registry
            .services
            .iter()
            .filter(|service| service.alias_of.is_none())
        {
            let rule = rules.find(service);
            clusters.add_service(service, rule.as_ref(), peers, settings, proxies, findings);
        }
        for service in registry
            .services
            .iter()
            .filter(|service| service.alias_of.is_some())
        {
            // An alias of a host that nobody declares is reached by its name.
            if let Some(target) = &service.leads_to
                && registry.find_concrete(service).is_none()
            {
                clusters.add_external_name(service, target, settings);
            }
        }
        let mut passthrough = vec![PASSTHROUGH];
        if settings.role == Role::Sidecar {
            passthrough.push(INBOUND_PASSTHROUGH);
        }
        for name in passthrough {
            clusters.add(Cluster {
                balancer: Balancer::Passthrough,
                discovery: Discovery::OriginalDestination,
                follows_destination: true,
                is_workload: name == INBOUND_PASSTHROUGH,
                connect_timeout_ms: settings.connect_timeout_ms,
                upstream_protocol: UpstreamProtocol::AsDownstream,
                ..Cluster::new(name.to_string())
            });
        }
        clusters.add(Cluster::new(BLACK_HOLE.to_string()));
        clusters
    }

    pub fn id(&self, name: &str) -> Option<ClusterId> {
        self.by_name.get(name).copied()
    }

    /// Adds, for each cluster of these hosts, one that passes TLS on as it comes, under the name
    /// that is indicated for it; their names.
    pub fn add_sni_twins(&mut self, hosts: &HashSet<&str>) -> Vec<String> {
        let mut names = Vec::new();
        for cluster in self.list.clone() {
            let Cluster { subset, port, .. } = cluster.as_ref();
            let host = &cluster.service.host;
            if hosts.contains(host.as_str()) && cluster.name.starts_with("outbound|") {
                let name = sni_name(u32::from(*port), subset, host);
                names.push(name.clone());
                self.add(Cluster {
                    name,
                    tls: None,
                    ..cluster.as_ref().clone()
                });
            }
        }
        names
    }

    /// Whether a cluster chooses endpoints by hash.
    pub fn hashes(&self, id: Option<ClusterId>) -> bool {
        let cluster = id.and_then(|id| self.list.get(id.0 as usize));
        cluster.is_some_and(|cluster| cluster.balancer.is_hashing())
    }

    /// Adds a cluster, unless there is one of its name.
    pub fn add(&mut self, cluster: Cluster) {
        if self.by_name.contains_key(&cluster.name) {
            return;
        }
        let id = ClusterId(self.list.len() as u32);
        self.by_name.insert(cluster.name.clone(), id);
        self.list.push(Arc::new(cluster));
    }

    fn add_service(
        &mut self,
        service: &Service,
        rule: Option<&Rule<'_>>,
        peers: &PeerModes,
        settings: &ProxySettings,
        proxies: &ProxyPlaces,
        findings: &mut Findings,
    ) {
        for port in service
            .ports
            .iter()
            .filter(|port| port.protocol != Protocol::Udp)
        {
            let mut build = |subset: Option<&RuleSubset<'_>>| {
                let policy = rule
                    .map(|rule| rule.policy(port.number, subset))
                    .unwrap_or_default();
                let every = BTreeMap::new();
                let labels = subset.map_or(&every, |subset| subset.labels);
                let mut endpoints = service.endpoints(port, labels);
                peers.mark(&service.namespace, &mut endpoints);
                let known = endpoints.clone().known();
                let place = (service, port);
                let mut cluster =
                    build_cluster(place, endpoints, subset, &policy, settings, proxies);
                let scope = TlsScope {
                    settings,
                    service,
                    port: port.number,
                    subset: &cluster.subset,
                    endpoints: &known,
                    rule_selects: rule.is_some_and(|rule| rule.selects),
                };
                cluster.tls = upstream_tls(policy.tls.as_ref(), &scope).map(Arc::new);
                balancing::report(&cluster, &policy, findings);
                report_unnamed_clients(&cluster, findings);
                cluster
            };
            let whole = build(None);
            let subsets = rule.map_or(&[][..], |rule| &rule.subsets).iter();
            let subsets: Vec<Cluster> = subsets.map(|subset| build(Some(subset))).collect();
            self.add(whole);
            for subset in subsets {
                self.add(subset);
            }
        }
        let static_endpoints = matches!(service.resolution, Resolution::Static | Resolution::Dns);
        for subset in rule.map_or(&[][..], |rule| &rule.subsets) {
            if static_endpoints && !service.has_labels(subset.labels) {
                let message = format!(
                    "subset `{}` of `{}` has no endpoint with its labels: what is sent to it gets 503 UH",
                    subset.name, service.host
                );
                let place = Place::Field(subset.origin.clone());
                let help = "give an endpoint these labels, or change the labels of the subset";
                findings.add(Diagnostic::warning("empty-subset", place, message).with_help(help));
            }
        }
    }

    fn add_external_name(&mut self, service: &Service, target: &str, settings: &ProxySettings) {
        for port in &service.ports {
            let template = crate::snapshot::Endpoint::at(crate::snapshot::EndpointAddress::Unix(
                String::new(),
            ));
            let number = port.number as u16;
            let dns = crate::snapshot::DnsTarget {
                name: target.to_string(),
                port: number,
                template,
            };
            self.add(Cluster {
                discovery: Discovery::StrictDns(vec![dns]),
                ..base_cluster(
                    service,
                    port,
                    settings,
                    cluster_name(port.number, "", target),
                )
            });
        }
    }
}

fn base_cluster(service: &Service, port: &Port, settings: &ProxySettings, name: String) -> Cluster {
    Cluster {
        connect_timeout_ms: settings.connect_timeout_ms,
        upstream_idle_timeout_ms: nonzero(settings.limits.upstream_idle_timeout_ms),
        service: service.labels_for_metrics(),
        upstream_protocol: protocol_of(port.protocol, settings),
        port: port.number as u16,
        origin: Some(service.origin.clone()),
        ..Cluster::new(name)
    }
}

/// What is sent to a port when no DestinationRule says more. A port that declares nothing is known
/// by what came for it, which a sidecar has looked at; a gateway sends HTTP/1.1.
pub fn protocol_of(declared: Protocol, settings: &ProxySettings) -> UpstreamProtocol {
    match declared {
        declared if declared.is_http2() => UpstreamProtocol::Http2,
        Protocol::Sniffed if settings.role == Role::Sidecar => UpstreamProtocol::AsDownstream,
        _ => UpstreamProtocol::Http1,
    }
}

/// Where it was written what is sent to a port.
fn protocol_origin(service: &Service, port: &Port, policy: &EffectivePolicy<'_>) -> Option<Origin> {
    let pool = policy.connection_pool.as_ref();
    let http = pool.and_then(|block| block.value.http.as_ref());
    let field = http.and_then(|http| match http.h2_upgrade_policy.as_deref() {
        _ if http.use_client_protocol => Some("useClientProtocol"),
        Some("UPGRADE") => Some("h2UpgradePolicy"),
        Some("DO_NOT_UPGRADE") if !port.protocol.is_http2() => Some("h2UpgradePolicy"),
        _ => None,
    });
    match (field, pool) {
        (Some(name), Some(pool)) => Some(Origin {
            document: pool.origin.document,
            field: pool.origin.field.field("http").field(name),
        }),
        _ => port.protocol.is_http2().then(|| service.origin.clone()),
    }
}

fn build_cluster(
    (service, port): (&Service, &Port),
    endpoints: PortEndpoints,
    subset: Option<&RuleSubset<'_>>,
    policy: &EffectivePolicy<'_>,
    settings: &ProxySettings,
    proxies: &ProxyPlaces,
) -> Cluster {
    let subset_name = subset.map_or("", |subset| subset.name);
    let name = cluster_name(port.number, subset_name, &service.host);
    let mut cluster = base_cluster(service, port, settings, name);
    cluster.subset = subset_name.to_string();
    if let Some(pool) = &policy.connection_pool {
        apply_pool(pool.value, &mut cluster);
    }
    if let Some(outlier) = &policy.outlier_detection {
        cluster.outlier_detection = Some(outlier_of(outlier.value));
        cluster.panic_threshold_percent = outlier.value.min_health_percent.min(100) as u8;
    }
    let balancer = policy.load_balancer.as_ref().map(|block| block.value);
    let distribution = service.traffic_distribution;
    balancing::apply(balancer, distribution, settings, proxies, &mut cluster);
    match service.resolution {
        Resolution::Static => cluster.set_endpoints(endpoints.fixed),
        Resolution::Dns => cluster.discovery = Discovery::StrictDns(endpoints.named),
        Resolution::DnsRoundRobin => cluster.discovery = Discovery::LogicalDns(endpoints.named),
        // Addresses are used where a connection is not intercepted.
        Resolution::Passthrough if !endpoints.fixed.is_empty() => {
            cluster.set_endpoints(endpoints.fixed);
        }
        // Nothing is redirected to a gateway: as in Istio it knows endpoints or nothing.
        Resolution::Passthrough if settings.role == Role::Gateway => {}
        Resolution::Passthrough => cluster.discovery = Discovery::OriginalDestination,
    }
    cluster.follows_destination =
        service.resolution == Resolution::Passthrough || cluster.balancer == Balancer::Passthrough;
    cluster.retry_budget = policy
        .retry_budget
        .as_ref()
        .map(|budget| retry_budget_of(budget.value));
    cluster.tunnel_target = policy
        .tunnel
        .as_ref()
        .filter(|tunnel| tunnel.value.protocol != "POST")
        .map(|tunnel| tunnel_target(tunnel.value));
    let proxy_protocol = policy.proxy_protocol.as_ref();
    cluster.proxy_protocol = proxy_protocol.map(|block| block.value.version);
    cluster.policy_origins = PolicyOrigins {
        proxy_protocol: proxy_protocol.map(|block| block.origin.clone()),
        subset: subset.map(|subset| subset.origin.clone()),
        load_balancer: policy
            .load_balancer
            .as_ref()
            .map(|block| block.origin.clone()),
        connection_pool: policy
            .connection_pool
            .as_ref()
            .map(|block| block.origin.clone()),
        upstream_protocol: protocol_origin(service, port, policy),
        retry_budget: policy
            .retry_budget
            .as_ref()
            .map(|block| block.origin.clone()),
        tls: policy.tls.as_ref().map(|block| block.origin.clone()),
        outlier_detection: policy
            .outlier_detection
            .as_ref()
            .map(|block| block.origin.clone()),
        tunnel: policy.tunnel.as_ref().map(|block| block.origin.clone()),
    };
    cluster
}

/// RFC 9110 section 9.3.6: what `CONNECT` asks for.
fn tunnel_target(written: &destination_rule::Tunnel) -> Arc<str> {
    let host = match written.target_host.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => written.target_host.clone(),
    };
    format!("{host}:{}", written.target_port).into()
}

fn nonzero(ms: u64) -> Option<u64> {
    (ms > 0).then_some(ms)
}

/// A duration that validation has let pass.
fn ms(text: &Option<String>) -> Option<u64> {
    text.as_deref()
        .and_then(|text| duration::parse_ms(text).ok())
}

/// A duration that the kernel takes in seconds; less than one is "not set".
fn whole_seconds(text: &Option<String>) -> Option<u32> {
    let seconds = ms(text)? / 1000;
    u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// A limit where 0 is "not set".
fn limit(value: i64) -> u32 {
    if value <= 0 {
        UNLIMITED
    } else {
        u32::try_from(value).unwrap_or(UNLIMITED)
    }
}

/// Puts the limits and times of a `connectionPool` in force.
pub fn apply_pool(block: &destination_rule::ConnectionPool, cluster: &mut Cluster) {
    let mut pool = ConnectionPool::default();
    let mut idle = None;
    if let Some(tcp) = &block.tcp {
        pool.max_connections = limit(tcp.max_connections);
        pool.max_connection_duration_ms = ms(&tcp.max_connection_duration);
        if let Some(connect) = ms(&tcp.connect_timeout) {
            cluster.connect_timeout_ms = connect;
        }
        idle = ms(&tcp.idle_timeout);
        pool.keepalive = tcp.tcp_keepalive.as_ref().map(|keepalive| TcpKeepalive {
            probes: (keepalive.probes > 0).then_some(keepalive.probes),
            time_s: whole_seconds(&keepalive.time),
            interval_s: whole_seconds(&keepalive.interval),
        });
    }
    if let Some(http) = &block.http {
        pool.max_pending_requests = limit(http.http1_max_pending_requests);
        pool.max_requests = limit(http.http2_max_requests);
        pool.max_retries = limit(http.max_retries);
        pool.max_requests_per_connection =
            u32::try_from(http.max_requests_per_connection).unwrap_or(0);
        idle = ms(&http.idle_timeout).or(idle);
        pool.max_concurrent_streams = limit(http.max_concurrent_streams);
        pool.http2_keepalive = http.http2_keep_alive.as_ref().and_then(|keepalive| {
            Some(Http2Keepalive {
                interval_ms: ms(&keepalive.interval)?,
                timeout_ms: ms(&keepalive.timeout)?,
            })
        });
        if http.use_client_protocol {
            cluster.upstream_protocol = UpstreamProtocol::AsDownstream;
        } else if http.h2_upgrade_policy.as_deref() == Some("UPGRADE") {
            cluster.upstream_protocol = UpstreamProtocol::Http2;
        }
    }
    if let Some(idle) = idle {
        cluster.upstream_idle_timeout_ms = nonzero(idle);
    }
    cluster.connection_pool = pool;
}

/// Warns where clients are to be named on connections that many of them share.
fn report_unnamed_clients(cluster: &Cluster, findings: &mut Findings) {
    if cluster.upstream_protocol != UpstreamProtocol::Http2 {
        return;
    }
    if let Some(origin) = &cluster.policy_origins.proxy_protocol {
        let message = format!(
            "connections of HTTP/2 to {} are shared by all clients and name none of them",
            cluster.name
        );
        let place = Place::Field(origin.clone());
        let help = "remove `proxyProtocol`, or reach the port by HTTP/1.1";
        findings.add(Diagnostic::warning("no-effect", place, message).with_help(help));
    }
}

pub fn retry_budget_of(block: &destination_rule::RetryBudget) -> RetryBudget {
    RetryBudget {
        percent: block.percent.unwrap_or(20.0),
        min_concurrency: match block.min_retry_concurrency {
            0 => 3,
            least => least,
        },
        interval_ms: ms(&block.budget_interval).unwrap_or(0),
    }
}

fn outlier_of(block: &destination_rule::OutlierDetection) -> OutlierDetection {
    let unless_zero = |value: u32| (value > 0).then_some(value);
    let split = block.split_external_local_origin_errors;
    let local = block
        .consecutive_local_origin_failures
        .and_then(unless_zero);
    OutlierDetection {
        consecutive_5xx: unless_zero(block.consecutive_5xx_errors.unwrap_or(5)),
        consecutive_gateway_errors: block.consecutive_gateway_errors.and_then(unless_zero),
        watched_gateway_errors: block.consecutive_gateway_errors.is_none().then_some(5),
        // Here 0 is not "off" but Envoy's default.
        consecutive_local_origin_failures: split.then(|| local.unwrap_or(5)),
        split_local_origin_errors: split,
        error_codes: block.outlier_detection_http_error_codes.clone(),
        interval_ms: ms(&block.interval).unwrap_or(10_000),
        base_ejection_time_ms: ms(&block.base_ejection_time).unwrap_or(30_000),
        max_ejection_percent: match block.max_ejection_percent {
            0 => 10,
            percent => percent,
        },
    }
}
