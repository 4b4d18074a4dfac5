//! Figures as text, JSON and for Prometheus.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{AdminState, aside, certificates, json, membership, text};
use crate::control::metrics::{self, Figure};
use crate::stats::{FamilyKind, Sample, SampleValue, StatKind};

/// The compiled size of `?filter=` is bounded by this many bytes.
const MAX_FILTER_BYTES: usize = 1 << 20;

/// Which figures are asked for.
struct Wanted {
    filter: Option<regex::Regex>,
    used_only: bool,
    /// By Envoy's name; no kind has text.
    kinds: Kinds,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kinds {
    All,
    Only(FamilyKind),
    None,
}

impl Wanted {
    /// `?filter=REGEX`, `?usedonly` (what is not zero), `?type=` a kind by Envoy's name.
    fn of(query: &HashMap<String, String>) -> Result<Self, Box<Response>> {
        let refused = |why: String| Box::new((StatusCode::BAD_REQUEST, why).into_response());
        let compile = |pattern: &String| {
            regex::RegexBuilder::new(pattern)
                .size_limit(MAX_FILTER_BYTES)
                .build()
        };
        let filter = query.get("filter").map(compile).transpose();
        let kinds = match query.get("type").map_or("All", String::as_str) {
            "All" => Kinds::All,
            "Counters" => Kinds::Only(FamilyKind::Counter),
            "Gauges" => Kinds::Only(FamilyKind::Gauge),
            "Histograms" => Kinds::Only(FamilyKind::Histogram),
            "TextReadouts" => Kinds::None,
            _ => {
                let usage = "usage: /stats?type=All|Counters|Gauges|Histograms|TextReadouts\n";
                return Err(refused(usage.to_string()));
            }
        };
        Ok(Self {
            filter: filter.map_err(|error| refused(format!("Invalid regex: {error}\n")))?,
            used_only: query.contains_key("usedonly"),
            kinds,
        })
    }

    fn has(&self, name: &str, kind: FamilyKind, is_zero: bool) -> bool {
        let filter = self.filter.as_ref();
        let is_of_kind = self.kinds == Kinds::All || self.kinds == Kinds::Only(kind);
        is_of_kind
            && !(self.used_only && is_zero)
            && filter.is_none_or(|filter| filter.is_match(name))
    }

    fn has_sample(&self, name: &str, kind: FamilyKind, sample: &Sample) -> bool {
        let is_zero = match &sample.value {
            SampleValue::Number(value) => *value == 0,
            SampleValue::Histogram(total) => total.count() == 0,
        };
        self.has(name, kind, is_zero)
    }
}

/// What [`Wanted`] takes, and `?format=json|prometheus|text`.
pub async fn stats(
    State(state): State<Arc<AdminState>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let format = query.get("format").map_or("text", String::as_str);
    if format == "prometheus" {
        return prometheus(State(state), Query(query)).await;
    }
    if !["text", "json"].contains(&format) {
        let usage = "usage: /stats?format=text|json|prometheus\n";
        return (StatusCode::BAD_REQUEST, usage).into_response();
    }
    let is_json = format == "json";
    match Wanted::of(&query) {
        Ok(wanted) => aside(move || stats_page(&state, &wanted, is_json)).await,
        Err(refusal) => *refusal,
    }
}

fn stats_page(state: &AdminState, wanted: &Wanted, is_json: bool) -> Response {
    let mut figures = state.registry.text_stats();
    figures.extend(state.health.text_stats());
    membership::visit(state, &mut |cluster, stat, _, n| {
        figures.push((format!("cluster.{cluster}.{stat}"), StatKind::Gauge, n));
    });
    figures.extend(own_stats(state));
    figures.retain(|(name, kind, value)| wanted.has(name, (*kind).into(), *value == 0));
    figures.sort_by(|one, other| one.0.cmp(&other.0));
    if is_json {
        let stats: Vec<_> = figures
            .iter()
            .map(|(name, _, value)| json!({ "name": name, "value": value }))
            .collect();
        return json(&json!({ "stats": stats }));
    }
    let mut out = String::new();
    for (name, _, value) in figures {
        let _ = writeln!(out, "{name}: {value}");
    }
    text(out)
}

/// What [`Wanted`] takes, by the names that figures have here.
pub async fn prometheus(
    State(state): State<Arc<AdminState>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match Wanted::of(&query) {
        Ok(wanted) => aside(move || prometheus_page(&state, &wanted)).await,
        Err(refusal) => *refusal,
    }
}

fn prometheus_page(state: &AdminState, wanted: &Wanted) -> Response {
    let mut families = state.registry.gather();
    families.extend(state.health.families());
    families.extend(membership::families(state));
    for family in &mut families {
        let (name, kind) = (&family.name, family.kind);
        let samples = &mut family.samples;
        samples.retain(|sample| wanted.has_sample(name, kind, sample));
    }
    let mut figures = figures(state);
    figures.retain(|figure| wanted.has(figure.name, figure.kind, figure.value == 0.0));
    match metrics::encode(families, figures) {
        Ok(body) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error).into_response(),
    }
}

/// The control thread's own figures, in the dotted names of `/stats`.
fn own_stats(state: &AdminState) -> Vec<(String, StatKind, u64)> {
    let status = &state.status;
    let dns = &state.dns;
    let live = u64::from(state.server_state() == "LIVE");
    [
        ("access_log.lines_dropped", state.access_log.dropped_lines()),
        ("access_log.lines_written", state.access_log.written_lines()),
        ("config.generation", status.running().generation),
        (
            "config.last_reload_ms",
            u64::try_from(status.last_reload().as_millis()).unwrap_or(0),
        ),
        (
            "config.last_reload_successful",
            u64::from(status.last_load_good()),
        ),
        ("config.reload_accepted", status.accepted()),
        ("config.reload_rejected", status.rejected()),
        ("dns.lookup_failure", dns.failures.load(Ordering::Relaxed)),
        ("dns.lookup_total", dns.lookups.load(Ordering::Relaxed)),
        (
            "server.certificates_unreadable",
            state.data_path.certificate_problems() as u64,
        ),
        ("server.concurrency", state.cores.len() as u64),
        (
            "server.days_until_first_cert_expiring",
            certificates::days_until_first_expires(state),
        ),
        ("server.live", live),
        ("server.uptime", state.started.elapsed().as_secs()),
    ]
    .map(|(name, value)| {
        let counts = ["access_log.", "config.reload_", "dns."];
        let kind = match counts.iter().any(|start| name.starts_with(start)) {
            true => StatKind::Counter,
            false => StatKind::Gauge,
        };
        (name.to_string(), kind, value)
    })
    .into()
}

/// The same for Prometheus.
fn figures(state: &AdminState) -> Vec<Figure> {
    let status = &state.status;
    let dns = &state.dns;
    let flag = |holds: bool| if holds { 1.0 } else { 0.0 };
    let mut figures = certificates::figures(state);
    figures.extend([
        Figure::gauge("istio_build", "The build of this proxy", 1.0)
            .with_label("component", "proxy")
            .with_label("tag", env!("CARGO_PKG_VERSION")),
        Figure::gauge(
            "envoy_server_live",
            "Whether requests are served",
            flag(state.server_state() == "LIVE"),
        ),
        Figure::gauge(
            "envoy_server_uptime",
            "Seconds since the start",
            state.started.elapsed().as_secs_f64(),
        ),
        Figure::gauge(
            "envoy_server_concurrency",
            "Workers",
            state.cores.len() as f64,
        ),
        Figure::gauge(
            "ringroad_config_generation",
            "Number of the snapshot in use",
            status.running().generation as f64,
        ),
        Figure::counter(
            "ringroad_config_reload_accepted_total",
            "Loads of the configuration that were accepted",
            status.accepted(),
        ),
        Figure::counter(
            "ringroad_config_reload_rejected_total",
            "Loads of the configuration that were refused",
            status.rejected(),
        ),
        Figure::gauge(
            "ringroad_config_last_reload_successful",
            "Whether the files in the directory are what runs",
            flag(status.last_load_good()),
        ),
        Figure::gauge(
            "ringroad_config_last_reload_seconds",
            "From the last accepted change until every worker used it",
            status.last_reload().as_secs_f64(),
        ),
        Figure::counter(
            "ringroad_dns_lookups_total",
            "Names that were looked up",
            dns.lookups.load(Ordering::Relaxed),
        ),
        Figure::counter(
            "ringroad_dns_failures_total",
            "Lookups that failed; the addresses known before stay",
            dns.failures.load(Ordering::Relaxed),
        ),
        Figure::counter(
            "ringroad_access_log_lines_written_total",
            "Access log lines written",
            state.access_log.written_lines(),
        ),
        Figure::counter(
            "ringroad_access_log_lines_dropped_total",
            "Access log lines dropped, because nobody read them in time",
            state.access_log.dropped_lines(),
        ),
    ]);
    figures
}
