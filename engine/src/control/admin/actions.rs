//! What changes something: POST only, as in Envoy.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{AdminState, text};
use crate::control::logging::parse_level;

pub async fn post_required(method: Method) -> Response {
    let body = format!("Method {method} not allowed, POST required.\n");
    (
        StatusCode::METHOD_NOT_ALLOWED,
        [(header::ALLOW, "POST")],
        body,
    )
        .into_response()
}

fn loggers(state: &AdminState) -> Response {
    text(format!(
        "active loggers:\n  ringroad: {}\n",
        state.log_level.name()
    ))
}

pub async fn logging(
    State(state): State<Arc<AdminState>>,
    method: Method,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match query.is_empty() {
        true => loggers(&state),
        false => post_required(method).await,
    }
}

/// `?level=NAME`, or `?ringroad=NAME`: there is one logger.
pub async fn set_logging(
    State(state): State<Arc<AdminState>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let asked = query.get("level").or_else(|| query.get("ringroad"));
    match asked.map(|name| parse_level(name)) {
        Some(Some(level)) => state.log_level.set(level),
        None if query.is_empty() => {}
        _ => {
            let usage = "usage: /logging?level=<level>\n\
                         levels: trace, debug, info, warning, error, critical, off\n";
            return (StatusCode::BAD_REQUEST, usage).into_response();
        }
    }
    loggers(&state)
}

pub async fn healthcheck_fail(State(state): State<Arc<AdminState>>) -> Response {
    state.failed_on_request.store(true, Ordering::Relaxed);
    text("OK\n")
}

pub async fn healthcheck_ok(State(state): State<Arc<AdminState>>) -> Response {
    state.failed_on_request.store(false, Ordering::Relaxed);
    text("OK\n")
}

/// Envoy's `?graceful` is how we always drain: requests in flight finish.
pub async fn drain_listeners(
    State(state): State<Arc<AdminState>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if query.contains_key("inboundonly") {
        let why = "inboundonly is not supported: all listeners drain together\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    tracing::info!("draining, as asked through the admin interface");
    state.data_path.drain();
    text("OK\n")
}

pub async fn quit(State(state): State<Arc<AdminState>>) -> Response {
    // The receiver lives as long as the process serves.
    let _ = state.quit.send(());
    text("OK\n")
}
