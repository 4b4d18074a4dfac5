//! What a route does with a request, value by value, each with the place that it comes from.

use serde::Serialize;

use super::LocalAnswer;
use super::places::{Places, Written};
use crate::snapshot::{
    AbortAnswer, Cluster, Destination, Discovery, HeaderEdits, HeaderValue, PartsPerMillion,
    PathRewrite, RequestFacts, Route, RouteAction, Segment, UNLIMITED, WriteMode,
};

/// A value in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: String,
    pub value: String,
    /// `None` is a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointView {
    pub address: String,
    pub weight: u32,
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub labels: std::collections::BTreeMap<String, String>,
}

fn setting(name: &str, value: impl Into<String>, written: Option<Written>) -> Setting {
    Setting {
        name: name.to_string(),
        value: value.into(),
        written,
    }
}

fn milliseconds(ms: u64) -> String {
    if ms >= 1000 && ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

fn percent(share: PartsPerMillion) -> String {
    format!("{}%", f64::from(share.0) / 10_000.0)
}

/// What the route itself sets.
pub(super) fn settings(route: &Route, facts: &RequestFacts<'_>, places: &Places) -> Vec<Setting> {
    let mut list = Vec::new();
    let at_route = || places.of_optional(&route.origin);
    if matches!(route.action, RouteAction::Forward(_)) {
        let value = route.timeout_ms.map_or("none".to_string(), milliseconds);
        list.push(setting(
            "timeout",
            value,
            places.of_optional(&route.timeout_origin),
        ));
        list.push(retries(route, places));
    }
    if let Some(rewrite) = &route.path_rewrite {
        let mut path = Vec::new();
        route.rewrite_path(facts.path, &mut path);
        let path = String::from_utf8_lossy(&path).into_owned();
        let how = match rewrite {
            PathRewrite::Matched(_) => "",
            PathRewrite::Regex(_) => " (by regex)",
        };
        list.push(setting("path upstream", format!("{path}{how}"), at_route()));
    }
    if let Some(host) = &route.host_rewrite {
        list.push(setting("host upstream", host.clone(), at_route()));
    }
    edits(
        "request header",
        &route.request_headers,
        &at_route(),
        &mut list,
    );
    edits(
        "response header",
        &route.response_headers,
        &at_route(),
        &mut list,
    );
    if let Some(fault) = &route.fault {
        if let Some(delay) = &fault.delay {
            let value = format!(
                "{} of {}",
                milliseconds(delay.delay_ms),
                percent(delay.share)
            );
            list.push(setting("fault delay", value, at_route()));
        }
        if let Some(abort) = &fault.abort {
            let answer = match abort.answer {
                AbortAnswer::HttpStatus(status) => format!("HTTP {status}"),
                AbortAnswer::GrpcStatus(status) => format!("gRPC {status}"),
            };
            let value = format!("{answer} for {}", percent(abort.share));
            list.push(setting("fault abort", value, at_route()));
        }
    }
    for mirror in &route.mirrors {
        let value = format!(
            "{} of requests to {}",
            percent(mirror.share),
            mirror.cluster_name
        );
        list.push(setting("mirror", value, at_route()));
    }
    list
}

fn retries(route: &Route, places: &Places) -> Setting {
    let Some(retry) = &route.retry else {
        return setting("retries", "none", places.of_optional(&route.origin));
    };
    let mut value = format!("{} on {}", retry.attempts, retry.retry_on.join(","));
    for code in &retry.status_codes {
        value += &format!(",{code}");
    }
    if let Some(ms) = retry.per_try_timeout_ms {
        value += &format!(", {} per try", milliseconds(ms));
    }
    value += &format!(", back-off from {}", milliseconds(retry.backoff_base_ms));
    setting("retries", value, places.of_optional(&retry.origin))
}

fn edits(what: &str, edits: &HeaderEdits, written: &Option<Written>, list: &mut Vec<Setting>) {
    for name in &edits.remove {
        list.push(setting(what, format!("remove {name}"), written.clone()));
    }
    for write in &edits.write {
        let verb = match write.mode {
            WriteMode::Set => "set",
            WriteMode::Add => "add",
        };
        let value = format!("{verb} {}: {}", write.name, value_text(&write.value));
        list.push(setting(what, value, written.clone()));
    }
}

fn value_text(value: &HeaderValue) -> String {
    let HeaderValue::Format(segments) = value else {
        let HeaderValue::Literal(text) = value else {
            return String::new();
        };
        return text.clone();
    };
    let each = segments.iter().map(|segment| match segment {
        Segment::Text(text) => text.clone(),
        Segment::Operator(operator) => match &operator.argument {
            Some(argument) => format!("%{}({argument})%", operator.name),
            None => format!("%{}%", operator.name),
        },
    });
    each.collect()
}

/// A destination and what stands behind it.
pub(super) fn destination(
    destination: &Destination,
    share_percent: f64,
    cluster: Option<&Cluster>,
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
        })
    };
    if let Some(host) = &destination.host_rewrite {
        view.settings
            .push(setting("host upstream", host.clone(), view.written.clone()));
    }
    edits(
        "request header",
        &destination.request_headers,
        &view.written,
        &mut view.settings,
    );
    edits(
        "response header",
        &destination.response_headers,
        &view.written,
        &mut view.settings,
    );
    let Some(cluster) = cluster else {
        view.answer = refuse("NC", "there is no such cluster");
        return view;
    };
    view.subset.clone_from(&cluster.subset);
    view.subset_written = places.of_optional(&cluster.policy_origins.subset);
    for endpoint in &cluster.endpoints {
        view.endpoints.push(EndpointView {
            address: endpoint.address.to_string(),
            weight: endpoint.weight,
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
                "the original destination of a connection is not known",
            );
        }
        Discovery::Static => {}
    }
    if view.endpoints.is_empty() && view.dns_names.is_empty() && view.answer.is_none() {
        view.answer = refuse("UH", "the cluster has no endpoint");
    }
    view.settings.extend(cluster_settings(cluster, places));
    view
}

fn cluster_settings(cluster: &Cluster, places: &Places) -> Vec<Setting> {
    let origins = &cluster.policy_origins;
    let balancer = places.of_optional(&origins.load_balancer);
    let pool = places.of_optional(&origins.connection_pool);
    let mut list = vec![
        setting("load balancer", cluster.balancer.as_str(), balancer),
        setting(
            "connect timeout",
            milliseconds(cluster.connect_timeout_ms),
            pool.clone(),
        ),
        setting(
            "upstream idle timeout",
            cluster
                .upstream_idle_timeout_ms
                .map_or("none".to_string(), milliseconds),
            pool.clone(),
        ),
    ];
    let limits = &cluster.connection_pool;
    let numbers = [
        ("max connections", limits.max_connections, UNLIMITED),
        (
            "max pending requests",
            limits.max_pending_requests,
            UNLIMITED,
        ),
        ("max requests", limits.max_requests, UNLIMITED),
        ("max retries", limits.max_retries, UNLIMITED),
        (
            "max requests per connection",
            limits.max_requests_per_connection,
            0,
        ),
    ];
    for (name, value, unlimited) in numbers {
        if value != unlimited {
            list.push(setting(name, value.to_string(), pool.clone()));
        }
    }
    if let Some(outlier) = &cluster.outlier_detection {
        let after = match (outlier.consecutive_5xx, outlier.consecutive_gateway_errors) {
            (Some(errors), _) => format!("{errors} errors 5xx"),
            (None, Some(errors)) => format!("{errors} gateway errors"),
            (None, None) => "nothing".to_string(),
        };
        let value = format!(
            "after {after}, for {}, at most {}% of endpoints",
            milliseconds(outlier.base_ejection_time_ms),
            outlier.max_ejection_percent
        );
        let written = places.of_optional(&origins.outlier_detection);
        list.push(setting("outlier ejection", value, written));
    }
    list
}
