//! DestinationRule `loadBalancer`, and what the place of the proxy makes of it.

use std::collections::BTreeMap;

use super::destination_rules::EffectivePolicy;
use super::findings::Findings;
use super::registry::{Registry, Service};
use super::workload::label_of_workload;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::destination_rule::{
    ConsistentHash, Failover, HttpCookie, LoadBalancer, LocalityLbSetting, Warmup,
    ZoneAwareLbSetting,
};
use crate::settings::{ProxySettings, duration};
use crate::snapshot::{
    Balancer, Cluster, DEFAULT_MIN_CLUSTER_SIZE, DEFAULT_RING_SIZE, DEFAULT_TABLE_SIZE, Discovery,
    HashCookie, HashPolicy, LARGEST_RING_SIZE, Locality, LocalityOrder, LocalityPolicy,
    LocalityPriorities, WarmUp, ZoneAware,
};
use crate::source::Origin;

/// Which endpoints a service itself prefers. Kubernetes: `trafficDistribution`; Istio: the
/// annotation `networking.istio.io/traffic-distribution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrafficDistribution {
    SameZone,
    SameNode,
}

/// The annotation.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

impl TrafficDistribution {
    /// By the field, else by the annotation.
    pub fn of(field: Option<&str>, annotation: Option<&str>) -> Option<Self> {
        let known = |text: &str| match text.to_ascii_lowercase().as_str() {
            "preferclose" | "prefersamezone" => Some(Self::SameZone),
            "prefersamenode" => Some(Self::SameNode),
            _ => None,
        };
        field.and_then(known).or_else(|| annotation.and_then(known))
    }

    /// From the widest to the nearest.
    fn labels(self) -> &'static [&'static str] {
        const NEAREST_LAST: [&str; 5] = [
            "topology.istio.io/network",
            "topology.kubernetes.io/region",
            "topology.kubernetes.io/zone",
            "topology.istio.io/subzone",
            "kubernetes.io/hostname",
        ];
        match self {
            Self::SameZone => &NEAREST_LAST[..3],
            Self::SameNode => &NEAREST_LAST,
        }
    }
}

/// How many proxies there are in each place that serve the same workload as this one: the endpoints
/// of its own services. Empty when it is not known.
pub type ProxyPlaces = BTreeMap<String, u32>;

/// The places of the services that run at the addresses of the workload.
pub fn proxy_places(registry: &Registry, settings: &ProxySettings) -> ProxyPlaces {
    let addresses = &settings.workload.addresses;
    let own = registry.services.iter().filter(|s| s.runs_at(addresses));
    let workloads: BTreeMap<&str, &str> = own.flat_map(Service::places).collect();
    let mut places = ProxyPlaces::new();
    for place in workloads.into_values() {
        let place = Locality::parse(place).to_string();
        *places.entry(place).or_default() += 1;
    }
    places
}

/// Sets how `cluster` chooses among its endpoints; [`Cluster::outlier_detection`] has to be set
/// before, [`Cluster::set_endpoints`] to be called after.
pub fn apply(
    block: Option<&LoadBalancer>,
    distribution: Option<TrafficDistribution>,
    settings: &ProxySettings,
    proxies: &ProxyPlaces,
    cluster: &mut Cluster,
) {
    let ejects = cluster.outlier_detection.is_some();
    let setting = block.and_then(|block| block.locality_lb_setting.as_ref());
    let zone_aware = block.and_then(|block| block.zone_aware_lb_setting.as_ref());
    cluster.locality = match zone_aware {
        Some(setting) => zone_policy(setting, proxies, settings),
        None => locality_policy(setting, distribution, ejects, settings),
    };
    let Some(block) = block else {
        return;
    };
    cluster.balancer = balancer_of(block);
    cluster.hash_policy = block.consistent_hash.as_ref().and_then(hash_policy);
    cluster.warm_up = match cluster.balancer {
        Balancer::LeastRequest | Balancer::RoundRobin => warm_up(block),
        _ => None,
    };
}

fn balancer_of(block: &LoadBalancer) -> Balancer {
    let unless_zero = |size: u64, default: u64| if size > 0 { size } else { default };
    if let Some(hash) = &block.consistent_hash {
        if let Some(maglev) = &hash.maglev {
            let table_size = unless_zero(maglev.table_size, DEFAULT_TABLE_SIZE);
            return Balancer::Maglev { table_size };
        }
        let ring = hash.ring_hash.as_ref();
        let written = ring.map_or(hash.minimum_ring_size, |ring| ring.minimum_ring_size);
        let minimum_size = unless_zero(written, DEFAULT_RING_SIZE).min(LARGEST_RING_SIZE);
        return Balancer::RingHash { minimum_size };
    }
    match block.simple.as_deref() {
        Some("ROUND_ROBIN") => Balancer::RoundRobin,
        Some("RANDOM") => Balancer::Random,
        Some("PASSTHROUGH") => Balancer::Passthrough,
        _ => Balancer::LeastRequest,
    }
}

fn hash_policy(hash: &ConsistentHash) -> Option<HashPolicy> {
    if let Some(name) = &hash.http_header_name {
        return Some(HashPolicy::Header(name.to_ascii_lowercase()));
    }
    if let Some(cookie) = &hash.http_cookie {
        return Some(HashPolicy::Cookie(hash_cookie(cookie)));
    }
    if let Some(name) = &hash.http_query_parameter_name {
        return Some(HashPolicy::QueryParameter(name.clone()));
    }
    (hash.use_source_ip == Some(true)).then_some(HashPolicy::SourceIp)
}

fn hash_cookie(written: &HttpCookie) -> HashCookie {
    let attributes = written.attributes.iter();
    HashCookie {
        name: written.name.clone(),
        ttl_s: ms(&written.ttl).map(|ms| ms / 1000),
        path: written.path.clone(),
        attributes: attributes
            .map(|attribute| (attribute.name.clone(), attribute.value.clone()))
            .collect(),
    }
}

fn warm_up(block: &LoadBalancer) -> Option<WarmUp> {
    let legacy = Warmup {
        duration: block.warmup_duration_secs.clone(),
        ..Warmup::default()
    };
    let written = block.warmup.as_ref().unwrap_or(&legacy);
    let duration_ms = ms(&written.duration).filter(|ms| *ms > 0)?;
    Some(WarmUp {
        duration_ms,
        least: written.minimum_percent.unwrap_or(10.0) / 100.0,
        aggression: written.aggression.unwrap_or(1.0),
    })
}

/// A duration that validation has let pass.
fn ms(text: &Option<String>) -> Option<u64> {
    text.as_deref()
        .and_then(|text| duration::parse_ms(text).ok())
}

/// Regions are apart in any case, zones within the own one by what their endpoints can carry.
fn zone_policy(
    setting: &ZoneAwareLbSetting,
    proxies: &ProxyPlaces,
    settings: &ProxySettings,
) -> LocalityPolicy {
    let own = Locality::parse(&settings.workload.locality);
    if setting.enabled == Some(false) || own.is_unknown() {
        return LocalityPolicy::default();
    }
    let labels = setting.failover_priority.iter();
    let next = next_region(&setting.failover, &own);
    LocalityPolicy {
        order: LocalityOrder::Priorities(LocalityPriorities {
            labels: labels.map(|label| near_label(label, settings)).collect(),
            own_place: Some(own.clone()),
            by_region: true,
            next_region: next,
        }),
        is_weighted: false,
        zones: Some(ZoneAware {
            own,
            proxies: proxies.clone(),
            min_cluster_size: setting.min_cluster_size.unwrap_or(DEFAULT_MIN_CLUSTER_SIZE),
        }),
    }
}

/// Where requests of the own region go first when it fails.
fn next_region(failover: &[Failover], own: &Locality) -> Option<String> {
    let mut rules = failover.iter();
    let rule = rules.find(|rule| rule.from == own.region);
    rule.map(|rule| rule.to.clone())
}

/// The rule's setting comes before what the service prefers, and that before the mesh's. Istio:
/// `GetEffectiveLbSetting`.
fn locality_policy(
    setting: Option<&LocalityLbSetting>,
    distribution: Option<TrafficDistribution>,
    ejects: bool,
    settings: &ProxySettings,
) -> LocalityPolicy {
    let own = Locality::parse(&settings.workload.locality);
    let Some(setting) = setting else {
        return match distribution {
            Some(distribution) => {
                let labels = distribution.labels().iter().copied();
                let labels = labels.map(|label| near_label(label, settings)).collect();
                by_priorities(labels, None, None, true)
            }
            None if ejects && settings.locality_failover => {
                by_priorities(Vec::new(), Some(own), None, false)
            }
            None => LocalityPolicy::default(),
        };
    };
    if setting.enabled == Some(false) {
        return LocalityPolicy::default();
    }
    if !setting.distribute.is_empty() {
        let mut rules = setting.distribute.iter();
        let rule = rules.find(|rule| own.is_in(&rule.from));
        let shares = |to: &std::collections::BTreeMap<String, u32>| {
            let shares = to.iter().map(|(place, share)| (place.clone(), *share));
            LocalityOrder::Shares(shares.collect())
        };
        return LocalityPolicy {
            order: rule.map_or(LocalityOrder::None, |rule| shares(&rule.to)),
            is_weighted: true,
            zones: None,
        };
    }
    if !ejects {
        return LocalityPolicy::default();
    }
    let next = next_region(&setting.failover, &own);
    let is_weighted = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    let labels = setting.failover_priority.iter();
    let labels: Vec<_> = labels.map(|label| near_label(label, settings)).collect();
    let by_place = labels.is_empty() || !setting.failover.is_empty();
    by_priorities(labels, by_place.then_some(own), next, is_weighted)
}

fn by_priorities(
    labels: Vec<(String, String)>,
    own_place: Option<Locality>,
    next_region: Option<String>,
    is_weighted: bool,
) -> LocalityPolicy {
    LocalityPolicy {
        order: LocalityOrder::Priorities(LocalityPriorities {
            labels,
            own_place,
            by_region: false,
            next_region,
        }),
        is_weighted,
        zones: None,
    }
}

/// `label` or `label=value`; without a value, that of the proxy's own workload.
fn near_label(written: &str, settings: &ProxySettings) -> (String, String) {
    match written.split_once('=') {
        Some((label, value)) => (label.to_string(), value.to_string()),
        None => (
            written.to_string(),
            label_of_workload(written, &settings.workload),
        ),
    }
}

/// Says what a policy does to the shares of endpoints without saying so.
pub fn report(cluster: &Cluster, policy: &EffectivePolicy<'_>, findings: &mut Findings) {
    let block = policy.load_balancer.as_ref();
    let setting = block.and_then(|block| block.value.locality_lb_setting.as_ref());
    if let (Some(outlier), None) = (&policy.outlier_detection, setting)
        && let Some(far) = second_place(cluster)
    {
        let message = format!(
            "`outlierDetection` makes far endpoints of `{}` wait behind near ones: those in {far} \
             get requests only in the measure in which nearer ones are ejected",
            cluster.service.host
        );
        let help = "write `loadBalancer: {localityLbSetting: {enabled: false}}` to use all alike, \
                    or `enabled: true` to say that it is meant";
        let place = Place::Field(outlier.origin.clone());
        let warning = Diagnostic::warning("implicit-locality-failover", place, message);
        findings.add(warning.with_help(help));
    }
    if let (Some(zones), Some(block)) = (&cluster.locality.zones, block) {
        report_zones(cluster, zones, &block.origin, findings);
    }
    let weight_of = |endpoint: &crate::snapshot::Endpoint| endpoint.weight;
    let mut weights = cluster.endpoints.iter().map(weight_of);
    let first = weights.next();
    if let (Some(block), Balancer::Random) = (block, cluster.balancer)
        && weights.any(|weight| Some(weight) != first)
    {
        let message = format!(
            "RANDOM draws endpoints of `{}` without regard to their weights",
            cluster.service.host
        );
        let place = Place::Field(block.origin.clone());
        let help = "write `simple: ROUND_ROBIN` or `LEAST_REQUEST`, or remove the weights";
        findings.add(Diagnostic::warning("no-effect", place, message).with_help(help));
    }
}

/// Says why zones will not count. Istio and Envoy leave it at that in silence.
fn report_zones(cluster: &Cluster, zones: &ZoneAware, origin: &Origin, findings: &mut Findings) {
    let own = zones.own.to_string();
    let (why, help) = if zones.proxies.is_empty() {
        let help = "write `workload.addresses` in ProxySettings, with an address that is an \
                    endpoint of the workload's own service";
        (
            "it is not known where the proxies of this workload are",
            help,
        )
    } else if zones.proxies.len() < 2 {
        (
            "all proxies of this workload are in one place",
            "nothing has to be done",
        )
    } else if !zones.proxies.contains_key(&own) {
        let help = "make `workload.locality` in ProxySettings the place of the own endpoint";
        (
            "this proxy is where no endpoint of its own service is",
            help,
        )
    } else {
        return;
    };
    let message = format!(
        "`zoneAwareLbSetting` keeps no requests for `{}` in their zone: {why}",
        cluster.service.host
    );
    let place = Place::Field(origin.clone());
    findings.add(Diagnostic::warning("no-effect", place, message).with_help(help));
}

/// Where the endpoints of the second priority are, if there is one.
fn second_place(cluster: &Cluster) -> Option<String> {
    let name = |cluster: &Cluster| {
        let places = cluster.priorities().nth(1)?;
        let place = places.first().map(|group| group.locality.as_str());
        Some(match place {
            Some("") | None => "no known place".to_string(),
            Some(place) => format!("`{place}`"),
        })
    };
    match &cluster.discovery {
        Discovery::StrictDns(targets) | Discovery::LogicalDns(targets) => {
            let mut resolved = cluster.clone();
            let templates = targets.iter().map(|target| target.template.clone());
            resolved.set_endpoints(templates.collect());
            name(&resolved)
        }
        Discovery::Static | Discovery::OriginalDestination => name(cluster),
    }
}
