//! A destination: its share, the endpoints behind it, and the limits that hold for them.

use serde::Serialize;

use super::LocalAnswer;
use super::balancing_view;
use super::effects::{
    HeadersOf, Setting, edits, milliseconds, milliseconds_or, retries, setting, timeout_answer,
};
use super::hash_view::{Carried, endpoint_of_key};
use super::places::{Places, Written};
use crate::health::RetryBudget;
use crate::snapshot::{
    Cluster, Destination, Discovery, OutlierDetection, UNLIMITED, UpstreamProtocol, UpstreamSni,
    UpstreamTlsMode,
};

/// A destination, its share and what stands behind it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationView {
    pub cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subset: String,
    pub weight: u32,
    pub share_percent: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subset_written: Option<Written>,
    pub endpoints: Vec<EndpointView>,
    /// Names whose addresses are endpoints at run time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    pub settings: Vec<Setting>,
    /// What the proxy answers when it can go nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<LocalAnswer>,
}

/// An endpoint that may be chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EndpointView {
    pub address: String,
    pub weight: u32,
    /// `region/zone/subzone`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub locality: String,
    /// From 0, where there are several; with `unused` for one that never gets a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unused: bool,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A destination and what stands behind it.
pub(super) fn destination(
    destination: &Destination,
    share_percent: f64,
    cluster: Option<&Cluster>,
    carried: Carried<'_>,
    places: &Places,
) -> DestinationView {
    let mut view = DestinationView {
        cluster: destination.cluster_name.clone(),
        subset: String::new(),
        weight: destination.weight,
        share_percent,
        written: places.of_optional(&destination.origin),
        subset_written: None,
        endpoints: Vec::new(),
        dns_names: Vec::new(),
        settings: Vec::new(),
        answer: None,
    };
    let refuse = |flag: &str, reason: &str| {
        Some(LocalAnswer {
            status: 503,
            flag: flag.to_string(),
            reason: reason.to_string(),
            written: None,
        })
    };
    if let Some(host) = &destination.host_rewrite {
        view.settings
            .push(setting("host upstream", host.clone(), view.written.clone()));
    }
    if let Some(policy) = &destination.retry {
        view.settings.extend(retries(policy, places));
    }
    let written = view.written.clone();
    view.settings
        .extend(timeout_answer(destination.timeout_status, written));
    let owner = [destination.origin.clone()];
    for (of, changes) in [
        (HeadersOf::Request, &destination.request_headers),
        (HeadersOf::Response, &destination.response_headers),
    ] {
        edits(of, changes, &owner, places, &mut view.settings);
    }
    let Some(cluster) = cluster else {
        view.answer = refuse("NC", "there is no such cluster");
        return view;
    };
    view.subset.clone_from(&cluster.subset);
    view.subset_written = places.of_optional(&cluster.policy_origins.subset);
    let has_priorities = cluster.priorities().count() > 1;
    let priorities = cluster.priority_of_each();
    for (endpoint, priority) in cluster.endpoints.iter().zip(priorities) {
        view.endpoints.push(EndpointView {
            address: endpoint.address.to_string(),
            weight: endpoint.weight,
            locality: endpoint.locality.clone(),
            priority: priority.filter(|_| has_priorities),
            unused: priority.is_none(),
            labels: endpoint.labels.clone(),
        });
    }
    match &cluster.discovery {
        Discovery::StrictDns(targets) | Discovery::LogicalDns(targets) => {
            let names = targets
                .iter()
                .map(|target| format!("{}:{}", target.name, target.port));
            view.dns_names = names.collect();
        }
        Discovery::OriginalDestination => {
            view.answer = refuse(
                "UH",
                "requests go where the client had addressed its connection, and of one that was \
                 not redirected here that is not known",
            );
        }
        Discovery::Static => {}
    }
    if view.endpoints.is_empty() && view.dns_names.is_empty() && view.answer.is_none() {
        view.answer = refuse("UH", "the cluster has no endpoint");
    }
    let is_used = |endpoint: &EndpointView| !endpoint.unused;
    if !view.endpoints.is_empty() && !view.endpoints.iter().any(is_used) {
        view.answer = refuse("UH", "no endpoint is in a place that gets a share");
    }
    let written = places.of_optional(&cluster.policy_origins.load_balancer);
    if view.answer.is_none() {
        let key = endpoint_of_key(carried, destination, cluster, written);
        view.settings.extend(key);
    }
    view.settings.extend(cluster_settings(cluster, places));
    view
}

/// How endpoints are chosen, and what limits hold for them.
pub(crate) fn cluster_settings(cluster: &Cluster, places: &Places) -> Vec<Setting> {
    let origins = &cluster.policy_origins;
    let mut list = balancing_view::settings(cluster, places);
    pool_settings(cluster, places, &mut list);
    if let Some(target) = &cluster.tunnel_target {
        list.push(setting(
            "tunnel",
            format!("CONNECT {target}, for TCP"),
            places.of_optional(&origins.tunnel),
        ));
    }
    if let Some(budget) = &cluster.retry_budget {
        let of = match budget.interval_ms {
            0 => "active requests".to_string(),
            ms => format!("the requests of {}", milliseconds(ms)),
        };
        let RetryBudget {
            percent,
            min_concurrency,
            ..
        } = budget;
        let value = format!("{percent}% of {of}, at least {min_concurrency}");
        let written = places.of_optional(&origins.retry_budget);
        list.push(setting("retry budget", value, written));
    }
    list.push(protocol_setting(cluster, places));
    if let Some(version) = cluster.proxy_protocol {
        let written = places.of_optional(&origins.proxy_protocol);
        list.push(setting("proxy protocol", format!("{version:?}"), written));
    }
    list.push(tls_setting(cluster, places));
    match &cluster.outlier_detection {
        None => list.push(setting("outlier detection", "off", None)),
        Some(outlier) => outlier_settings(cluster, outlier, places, &mut list),
    }
    list
}

/// The version of HTTP, and what decided about it.
fn protocol_setting(cluster: &Cluster, places: &Places) -> Setting {
    let written = places.of_optional(&cluster.policy_origins.upstream_protocol);
    setting(
        "upstream protocol",
        cluster.upstream_protocol.as_str(),
        written,
    )
}

/// How the upstream is spoken to.
fn tls_setting(cluster: &Cluster, places: &Places) -> Setting {
    let Some(tls) = &cluster.tls else {
        let written = places.of_optional(&cluster.policy_origins.tls);
        return setting("upstream tls", "none", written);
    };
    let mode = match tls.mode {
        UpstreamTlsMode::Simple => "SIMPLE",
        UpstreamTlsMode::Mutual => "MUTUAL",
        UpstreamTlsMode::IstioMutual => "ISTIO_MUTUAL",
    };
    let able = cluster.endpoints.iter();
    let able = able.filter(|one| cluster.tls_for(one).is_some()).count();
    let mut value = match tls.is_automatic {
        true => format!("{mode} by itself, to {able} of {}", cluster.endpoints.len()),
        false => mode.to_string(),
    };
    value += &match &tls.sni {
        UpstreamSni::Fixed(name) => format!(", server name {name}"),
        UpstreamSni::Host => ", server name as the Host".to_string(),
    };
    if tls.skips_verification {
        value += ", not verified";
    }
    setting("upstream tls", value, places.of_optional(&tls.origin))
}

/// Timeouts and the limits of the circuit breaker.
fn pool_settings(cluster: &Cluster, places: &Places, list: &mut Vec<Setting>) {
    let unset = Cluster::new(String::new());
    let block = &cluster.policy_origins.connection_pool;
    let of = |name: &str, value: String, path: &[&str], is_default: bool| {
        setting(name, value, places.of_field(block, path, is_default))
    };
    let connect = cluster.connect_timeout_ms;
    let is_default = connect == unset.connect_timeout_ms;
    list.push(of(
        "connect timeout",
        milliseconds(connect),
        &["tcp", "connectTimeout"],
        is_default,
    ));
    let idle = cluster.upstream_idle_timeout_ms;
    let is_default = idle == unset.upstream_idle_timeout_ms;
    let of_http = places.of_field(block, &["http", "idleTimeout"], true);
    let of_tcp = || places.of_field(block, &["tcp", "idleTimeout"], is_default);
    list.push(setting(
        "upstream idle timeout",
        milliseconds_or(idle, "none"),
        of_http.or_else(of_tcp),
    ));
    let pool = &cluster.connection_pool;
    let protocol = cluster.upstream_protocol;
    let streams_matter = protocol != UpstreamProtocol::Http1;
    let limits: [(&str, u32, u32, [&str; 2]); 6] = [
        (
            "max connections",
            pool.max_connections,
            UNLIMITED,
            ["tcp", "maxConnections"],
        ),
        (
            "max pending requests",
            pool.max_pending_requests,
            UNLIMITED,
            ["http", "http1MaxPendingRequests"],
        ),
        (
            "max requests",
            pool.max_requests,
            UNLIMITED,
            ["http", "http2MaxRequests"],
        ),
        (
            "max retries",
            pool.max_retries,
            UNLIMITED,
            ["http", "maxRetries"],
        ),
        (
            "max requests per connection",
            pool.max_requests_per_connection,
            0,
            ["http", "maxRequestsPerConnection"],
        ),
        (
            "max concurrent streams",
            pool.max_concurrent_streams,
            UNLIMITED,
            ["http", "maxConcurrentStreams"],
        ),
    ];
    for (name, value, unlimited, path) in limits {
        if name == "max concurrent streams" && !streams_matter {
            continue;
        }
        let text = match value == unlimited {
            true => "no limit".to_string(),
            false => value.to_string(),
        };
        list.push(of(name, text, &path, value == unlimited));
    }
    if let Some(ms) = pool.max_connection_duration_ms {
        let path = ["tcp", "maxConnectionDuration"];
        list.push(of(
            "max connection duration",
            milliseconds(ms),
            &path,
            false,
        ));
    }
    if let Some(keepalive) = &pool.keepalive {
        let of_system = "as the system has it";
        let seconds = |s: Option<u32>| s.map_or(of_system.to_string(), |s| format!("{s}s"));
        let value = format!(
            "idle for {}, probes every {}, at most {}",
            seconds(keepalive.time_s),
            seconds(keepalive.interval_s),
            keepalive
                .probes
                .map_or(of_system.to_string(), |n| n.to_string())
        );
        list.push(of("tcp keepalive", value, &["tcp", "tcpKeepalive"], false));
    }
    if let Some(keepalive) = pool.http2_keepalive.filter(|_| streams_matter) {
        let (every, patience) = (keepalive.interval_ms, keepalive.timeout_ms);
        let value = format!(
            "PING every {}, answered within {}",
            milliseconds(every),
            milliseconds(patience)
        );
        list.push(of(
            "http2 keepalive",
            value,
            &["http", "http2KeepAlive"],
            false,
        ));
    }
}

/// When endpoints are ejected, and how many of them may be.
fn outlier_settings(
    cluster: &Cluster,
    outlier: &OutlierDetection,
    places: &Places,
    list: &mut Vec<Setting>,
) {
    const DEFAULT_ERRORS: u32 = 5;
    const DEFAULT_INTERVAL_MS: u64 = 10_000;
    const DEFAULT_EJECTION_MS: u64 = 30_000;
    const DEFAULT_PERCENT: u32 = 10;
    let block = &cluster.policy_origins.outlier_detection;
    let mut add = |name: &str, value: String, path: &str, is_default: bool| {
        let written = places.of_field(block, &[path], is_default);
        list.push(setting(name, value, written));
    };
    let in_a_row = |count: Option<u32>, what: &str| match count {
        Some(1) => format!("after 1 {what}"),
        Some(count) => format!("after {count} {what} in a row"),
        None => "off".to_string(),
    };
    let errors = outlier.consecutive_5xx;
    let text = in_a_row(errors, "of 5xx");
    let is_default = errors == Some(DEFAULT_ERRORS);
    add(
        "outlier 5xx errors",
        text,
        "consecutive5xxErrors",
        is_default,
    );
    let gateway = outlier.consecutive_gateway_errors;
    let text = in_a_row(gateway, "of 502, 503 and 504");
    add(
        "outlier gateway errors",
        text,
        "consecutiveGatewayErrors",
        gateway.is_none(),
    );
    if outlier.split_local_origin_errors {
        let text = in_a_row(outlier.consecutive_local_origin_failures, "failures");
        add(
            "outlier local failures",
            text,
            "consecutiveLocalOriginFailures",
            false,
        );
    }
    if !outlier.error_codes.is_empty() {
        let codes: Vec<String> = outlier.error_codes.iter().map(u16::to_string).collect();
        let text = format!("{} in place of 5xx", codes.join(", "));
        add(
            "outlier codes",
            text,
            "outlierDetectionHttpErrorCodes",
            false,
        );
    }
    let interval = outlier.interval_ms;
    let is_default = interval == DEFAULT_INTERVAL_MS;
    add(
        "outlier interval",
        milliseconds(interval),
        "interval",
        is_default,
    );
    let time = outlier.base_ejection_time_ms;
    let text = format!("{}, longer each time", milliseconds(time));
    add(
        "outlier ejection time",
        text,
        "baseEjectionTime",
        time == DEFAULT_EJECTION_MS,
    );
    let percent = outlier.max_ejection_percent;
    let count = cluster.endpoints.len();
    let of = match outlier.max_ejected(count) {
        _ if count == 0 => String::new(),
        0 => format!(": none of {count}"),
        some => format!(": {some} of {count}"),
    };
    add(
        "outlier max ejection",
        format!("{percent}%{of}"),
        "maxEjectionPercent",
        percent == DEFAULT_PERCENT,
    );
    let panic = cluster.panic_threshold_percent;
    if panic > 0 {
        add(
            "outlier min health",
            format!("{panic}%: below, all endpoints are used"),
            "minHealthPercent",
            false,
        );
    }
}
