//! What can be looked at: state, listeners, clusters.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use ringroad_policy::snapshot::{Cluster, Direction, EndpointAddress};
use serde::Deserialize;
use serde_json::json;

use super::{AdminState, aside, json, text};
use crate::health::{ClusterHealth, EndpointHealth, HealthRegistry};
use crate::rt::DriverKind;
use crate::stats::StatKind;

/// Every page: path, what it is for, whether it changes something.
const PAGES: [(&str, &str, bool); 15] = [
    ("/", "this list", false),
    ("/help", "this list as text", false),
    ("/certs", "certificates in use, and when they expire", false),
    (
        "/clusters",
        "upstream clusters and their endpoints (?format=json)",
        false,
    ),
    (
        "/config_dump",
        "the configuration in use: documents, listeners, routes, clusters",
        false,
    ),
    (
        "/drain_listeners",
        "stop accepting and let requests finish",
        true,
    ),
    (
        "/healthcheck/fail",
        "answer /ready with 503 from now on",
        true,
    ),
    ("/healthcheck/ok", "take /healthcheck/fail back", true),
    (
        "/listeners",
        "listeners and their addresses (?format=json)",
        false,
    ),
    (
        "/logging",
        "the level of the log; POST ?level=debug changes it",
        false,
    ),
    (
        "/quitquitquit",
        "let requests finish and end the process",
        true,
    ),
    (
        "/ready",
        "200 LIVE when requests are served, else 503",
        false,
    ),
    ("/server_info", "version, state, I/O driver, workers", false),
    (
        "/stats",
        "figures (?filter=regex, ?usedonly, ?type=All|Counters|Gauges|Histograms|TextReadouts, \
         ?format=text|json|prometheus)",
        false,
    ),
    ("/stats/prometheus", "figures for Prometheus", false),
];

pub async fn index() -> Html<String> {
    let mut rows = String::new();
    for (path, meaning, mutating) in PAGES {
        let link = if mutating {
            format!("<form action=\"{path}\" method=\"post\"><button>{path}</button></form>")
        } else {
            format!("<a href=\"{path}\">{path}</a>")
        };
        let _ = writeln!(rows, "<tr><td>{link}</td><td>{meaning}</td></tr>");
    }
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>Ringroad admin</title>\
         <style>body{{font-family:sans-serif}}td{{padding:.2em .8em}}form{{margin:0}}</style>\
         </head><body>\n<h1>Ringroad {}</h1>\n<table>\n{rows}</table>\n</body></html>\n",
        env!("CARGO_PKG_VERSION")
    ))
}

fn page_list() -> String {
    let mut list = "admin commands are:\n".to_string();
    for (path, meaning, mutating) in PAGES {
        let method = if mutating { " (POST)" } else { "" };
        let _ = writeln!(list, "  {path}{method}: {meaning}");
    }
    list
}

pub async fn help() -> Response {
    text(page_list())
}

pub async fn not_found() -> Response {
    let body = format!("invalid path. {}", page_list());
    (StatusCode::NOT_FOUND, body).into_response()
}

pub async fn ready(State(state): State<Arc<AdminState>>) -> Response {
    let name = state.server_state();
    let status = if name == "LIVE" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, text(format!("{name}\n"))).into_response()
}

pub async fn server_info(State(state): State<Arc<AdminState>>) -> Response {
    let running = state.status.running();
    let driver = match state.driver.kind {
        DriverKind::IoUring => "io_uring",
        DriverKind::Epoll => "epoll",
    };
    let workers: Vec<_> = state
        .data_path
        .workers()
        .into_iter()
        .map(|worker| {
            json!({
                "id": worker.id,
                "core": state.cores.get(worker.id),
                "connections": worker.connections,
                "generation": worker.generation,
            })
        })
        .collect();
    let uptime = format!("{}s", state.started.elapsed().as_secs());
    let settings = &running.snapshot.settings;
    json(&json!({
        "version": format!("ringroad/{}", env!("CARGO_PKG_VERSION")),
        "state": state.server_state(),
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "command_line_options": {
            "config_path": state.config_paths,
            "concurrency": workers.len(),
            "admin_address": settings.admin_address,
            "drain_time": format!("{}s", settings.drain_deadline_ms / 1_000),
            "pid": std::process::id(),
        },
        "driver": { "name": driver, "reason": state.driver.reason },
        "generation": running.generation,
        "last_load_good": state.status.last_load_good(),
        "last_rejection": state.status.last_rejection(),
        "workers": workers,
    }))
}

/// `?format=json`.
#[derive(Deserialize)]
pub struct Format {
    #[serde(default)]
    format: String,
}

pub async fn listeners(
    State(state): State<Arc<AdminState>>,
    Query(query): Query<Format>,
) -> Response {
    let running = state.status.running();
    if query.format == "json" {
        let statuses: Vec<_> = running
            .snapshot
            .listeners
            .iter()
            .map(|listener| {
                let direction = match listener.direction {
                    Direction::Gateway => "GATEWAY",
                    Direction::Outbound => "OUTBOUND",
                    Direction::Inbound => "INBOUND",
                };
                json!({
                    "name": listener.name,
                    "local_address": socket_address(&EndpointAddress::Socket(listener.address)),
                    "direction": direction,
                })
            })
            .collect();
        return json(&json!({ "listener_statuses": statuses }));
    }
    let mut out = String::new();
    for listener in &running.snapshot.listeners {
        let _ = writeln!(out, "{}::{}", listener.name, listener.address);
    }
    text(out)
}

/// An address as Envoy's JSON has it.
pub fn socket_address(address: &EndpointAddress) -> serde_json::Value {
    match address {
        EndpointAddress::Socket(address) => json!({
            "socket_address": {
                "address": address.ip().to_string(),
                "port_value": address.port(),
            }
        }),
        EndpointAddress::Unix(path) => json!({ "pipe": { "path": path } }),
    }
}

pub async fn clusters(
    State(state): State<Arc<AdminState>>,
    Query(query): Query<Format>,
) -> Response {
    aside(move || clusters_page(&state, &query)).await
}

fn clusters_page(state: &AdminState, query: &Format) -> Response {
    let running = state.status.running();
    if query.format == "json" {
        let statuses: Vec<_> = running
            .snapshot
            .clusters
            .iter()
            .map(|cluster| cluster_json(cluster, &state.health))
            .collect();
        return json(&json!({ "cluster_statuses": statuses }));
    }
    let mut out = String::new();
    for cluster in &running.snapshot.clusters {
        write_cluster(cluster, &state.health, &mut out);
    }
    text(out)
}

fn thresholds(cluster: &Cluster) -> [(&'static str, u32); 4] {
    let pool = &cluster.connection_pool;
    [
        ("max_connections", pool.max_connections),
        ("max_pending_requests", pool.max_pending_requests),
        ("max_requests", pool.max_requests),
        ("max_retries", pool.max_retries),
    ]
}

fn locality(endpoint: &ringroad_policy::snapshot::Endpoint) -> [(&'static str, &str); 3] {
    let mut parts = endpoint.locality.splitn(3, '/');
    ["region", "zone", "sub_zone"].map(|name| (name, parts.next().unwrap_or_default()))
}

/// What the workers know about an endpoint; nothing before a request has used its cluster.
struct Seen {
    is_ejected: bool,
    figures: Vec<(&'static str, StatKind, u64)>,
}

impl Seen {
    fn of(cluster: Option<&ClusterHealth>, address: &EndpointAddress) -> Self {
        let known = cluster.and_then(|cluster| cluster.find_endpoint(address));
        let unused = || EndpointHealth::new(address.clone()).figures();
        Self {
            is_ejected: known.as_ref().is_some_and(|known| known.is_ejected()),
            figures: known.map_or_else(unused, |known| known.figures()),
        }
    }
}

fn write_cluster(cluster: &Cluster, health: &HealthRegistry, out: &mut String) {
    let health = health.find(&cluster.name);
    let name = &cluster.name;
    let _ = writeln!(out, "{name}::observability_name::{name}");
    let protocol = cluster.upstream_protocol.as_str();
    let _ = writeln!(out, "{name}::upstream_protocol::{protocol}");
    if cluster.outlier_detection.is_some() {
        // Istio never ejects by success rates; Envoy lists them all the same.
        for figure in ["average", "ejection_threshold"] {
            let _ = writeln!(out, "{name}::outlier::success_rate_{figure}::-1");
            let _ = writeln!(
                out,
                "{name}::outlier::local_origin_success_rate_{figure}::-1"
            );
        }
    }
    for (threshold, value) in thresholds(cluster) {
        let _ = writeln!(out, "{name}::default_priority::{threshold}::{value}");
    }
    let _ = writeln!(out, "{name}::added_via_api::true");
    for (endpoint, priority) in cluster.endpoints.iter().zip(cluster.priority_of_each()) {
        let address = &endpoint.address;
        let seen = Seen::of(health.as_deref(), address);
        for (figure, _, value) in seen.figures {
            let _ = writeln!(out, "{name}::{address}::{figure}::{value}");
        }
        let flags = if seen.is_ejected {
            "/failed_outlier_check"
        } else {
            "healthy"
        };
        let _ = writeln!(out, "{name}::{address}::health_flags::{flags}");
        let _ = writeln!(out, "{name}::{address}::weight::{}", endpoint.weight);
        for (part, value) in locality(endpoint) {
            let _ = writeln!(out, "{name}::{address}::{part}::{value}");
        }
        let priority = priority.unwrap_or(0);
        let _ = writeln!(out, "{name}::{address}::canary::false");
        let _ = writeln!(out, "{name}::{address}::priority::{priority}");
        let _ = writeln!(out, "{name}::{address}::success_rate::-1");
        let _ = writeln!(out, "{name}::{address}::local_origin_success_rate::-1");
    }
}

/// A figure as Envoy's JSON has it: 64-bit numbers are texts, and a counter is the default type.
fn figure_json((name, kind, value): (&'static str, StatKind, u64)) -> serde_json::Value {
    let value = value.to_string();
    match kind {
        StatKind::Counter => json!({ "name": name, "value": value }),
        StatKind::Gauge => json!({ "name": name, "value": value, "type": "GAUGE" }),
    }
}

fn cluster_json(cluster: &Cluster, health: &HealthRegistry) -> serde_json::Value {
    let health = health.find(&cluster.name);
    let hosts: Vec<_> = cluster
        .endpoints
        .iter()
        .zip(cluster.priority_of_each())
        .map(|(endpoint, priority)| {
            let seen = Seen::of(health.as_deref(), &endpoint.address);
            let mut health_status = json!({ "eds_health_status": "HEALTHY" });
            if seen.is_ejected {
                health_status["failed_outlier_check"] = true.into();
            }
            let stats: Vec<_> = seen.figures.into_iter().map(figure_json).collect();
            json!({
                "address": socket_address(&endpoint.address),
                "stats": stats,
                "health_status": health_status,
                "weight": endpoint.weight,
                "priority": priority,
                "locality": locality(endpoint)
                    .into_iter()
                    .filter(|(_, value)| !value.is_empty())
                    .collect::<std::collections::BTreeMap<_, _>>(),
            })
        })
        .collect();
    let limits: serde_json::Map<String, serde_json::Value> = thresholds(cluster)
        .into_iter()
        .map(|(name, value)| (name.to_string(), value.into()))
        .chain([("priority".to_string(), "DEFAULT".into())])
        .collect();
    json!({
        "name": cluster.name,
        "observability_name": cluster.name,
        "upstream_protocol": cluster.upstream_protocol.as_str(),
        "added_via_api": true,
        "host_statuses": hosts,
        "circuit_breakers": { "thresholds": [limits] },
    })
}
