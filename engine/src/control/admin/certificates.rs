//! Certificates in use: Envoy's `/certs`, and when they expire.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::{AdminState, json};
use crate::control::metrics::Figure;
use crate::tls::{CertificateFacts, CertificateReport, timestamp};

pub async fn certs(State(state): State<Arc<AdminState>>) -> Response {
    let now = SystemTime::now();
    let shown = |facts: &[CertificateFacts]| -> Vec<Value> {
        facts.iter().map(|facts| certificate(facts, now)).collect()
    };
    let reports = state.data_path.certificates();
    let reports = reports.iter().map(|report| {
        json!({
            "ca_cert": shown(&report.authorities),
            "cert_chain": shown(&report.leaves),
        })
    });
    json(&json!({ "certificates": reports.collect::<Vec<_>>() }))
}

fn certificate(facts: &CertificateFacts, now: SystemTime) -> Value {
    let named = |kind: &'static str, names: &[String]| -> Vec<Value> {
        names.iter().map(|name| json!({ kind: name })).collect()
    };
    let names = [
        named("uri", &facts.uris),
        named("dns", &facts.dns_names),
        named("ip_address", &facts.ip_addresses),
    ];
    json!({
        "path": facts.place,
        "serial_number": facts.serial_number,
        "subject_alt_names": names.concat(),
        // A 64-bit number is a text in Envoy's JSON.
        "days_until_expiration": facts.days_until_expiration(now).to_string(),
        "valid_from": timestamp(facts.not_before),
        "expiration_time": timestamp(facts.not_after),
    })
}

/// Envoy's figure; without certificates the greatest number, as there.
pub fn days_until_first_expires(state: &AdminState) -> u64 {
    let now = SystemTime::now();
    let reports = state.data_path.certificates();
    let all = reports.iter().flat_map(CertificateReport::certificates);
    let days = all.map(|facts| facts.days_until_expiration(now));
    days.min().unwrap_or(u64::from(u32::MAX))
}

/// For Prometheus: when each certificate expires, and whether some cannot be read.
pub fn figures(state: &AdminState) -> Vec<Figure> {
    let reports = state.data_path.certificates();
    let all = reports.iter().flat_map(CertificateReport::certificates);
    let each: BTreeSet<_> = all
        .map(|facts| (&facts.place, &facts.serial_number, facts.not_after))
        .collect();
    let expiries = each.into_iter().map(|(place, serial_number, not_after)| {
        let name = "ringroad_certificate_expiration_timestamp_seconds";
        Figure::gauge(name, "When a certificate in use expires", not_after as f64)
            .with_label("place", place)
            .with_label("serial_number", serial_number)
    });
    let problems = state.data_path.certificate_problems() as f64;
    let first = days_until_first_expires(state) as f64;
    [
        Figure::gauge(
            "ringroad_certificates_unreadable",
            "Sets of certificates that cannot be read; what was in use stays",
            problems,
        ),
        Figure::gauge(
            "envoy_server_days_until_first_cert_expiring",
            "Whole days until the first certificate in use expires",
            first,
        ),
    ]
    .into_iter()
    .chain(expiries)
    .collect()
}
