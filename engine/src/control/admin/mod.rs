//! The admin interface: Envoy's paths, so that people's fingers and scripts work.
//!
//! It runs on the control thread. What takes long is done on a blocking thread beside it.

mod actions;
mod certificates;
mod config_dump;
mod connections;
mod guard;
mod membership;
mod pages;
mod stats;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::mpsc;

use super::data_path::DataPath;
use super::dns::DnsCounters;
use super::line_sink::LineSink;
use super::logging::LogLevel;
use super::status::ConfigStatus;
use crate::health::HealthRegistry;
use crate::rt::DriverReport;
use crate::stats::Registry;

/// What the admin interface shows and can change.
pub struct AdminState {
    pub status: Arc<ConfigStatus>,
    pub data_path: Arc<dyn DataPath>,
    pub registry: Arc<Registry>,
    pub health: Arc<HealthRegistry>,
    pub dns: Arc<DnsCounters>,
    pub access_log: LineSink,
    pub log_level: LogLevel,
    pub driver: DriverReport,
    /// The core of each worker.
    pub cores: Vec<usize>,
    /// The paths that are watched, as given.
    pub config_paths: Vec<String>,
    pub started: Instant,
    /// `/healthcheck/fail` was asked for.
    pub failed_on_request: AtomicBool,
    pub quit: mpsc::UnboundedSender<()>,
}

impl AdminState {
    /// Envoy's name for what the process is doing.
    pub fn server_state(&self) -> &'static str {
        let failed = self
            .failed_on_request
            .load(std::sync::atomic::Ordering::Relaxed);
        if failed || self.data_path.is_draining() {
            "DRAINING"
        } else if self.status.running().is_ready() {
            "LIVE"
        } else {
            "PRE_INITIALIZING"
        }
    }
}

/// Binds the address of the admin interface.
///
/// # Errors
/// What is wrong and what to do, for people.
pub fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    let listener = TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "the admin address {address} is taken by another process: stop that one, or choose \
             another address with --admin ADDR:PORT"
        ),
        _ => format!("cannot listen on the admin address {address}: {error}"),
    })?;
    listener
        .set_nonblocking(true)
        .map_err(|error| format!("the admin socket cannot be used: {error}"))?;
    Ok(listener)
}

/// Serves `most_connections` at a time, for ever.
///
/// # Errors
/// The socket cannot be used.
pub async fn serve(
    listener: TcpListener,
    state: Arc<AdminState>,
    most_connections: usize,
) -> std::io::Result<()> {
    let bound = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    connections::serve(listener, router(state, bound), most_connections).await;
    Ok(())
}

fn router(state: Arc<AdminState>, bound: SocketAddr) -> Router {
    let mutating = |handler: axum::routing::MethodRouter<Arc<AdminState>>| {
        handler.fallback(actions::post_required)
    };
    Router::new()
        .route("/", get(pages::index))
        .route("/help", get(pages::help))
        .route("/ready", get(pages::ready))
        .route("/server_info", get(pages::server_info))
        .route("/listeners", get(pages::listeners))
        .route("/clusters", get(pages::clusters))
        .route("/certs", get(certificates::certs))
        .route("/config_dump", get(config_dump::config_dump))
        .route("/stats", get(stats::stats))
        .route("/stats/prometheus", get(stats::prometheus))
        .route("/logging", get(actions::logging).post(actions::set_logging))
        .route(
            "/healthcheck/fail",
            mutating(post(actions::healthcheck_fail)),
        )
        .route("/healthcheck/ok", mutating(post(actions::healthcheck_ok)))
        .route("/drain_listeners", mutating(post(actions::drain_listeners)))
        .route("/quitquitquit", mutating(post(actions::quit)))
        .fallback(pages::not_found)
        .layer(middleware::from_fn(connections::whole))
        .layer(middleware::from_fn_with_state(bound, guard::refuse_foreign))
        .with_state(state)
}

/// Makes a page that may be megabytes long on a blocking thread: the control thread stays free.
async fn aside(page: impl FnOnce() -> Response + Send + 'static) -> Response {
    let made = tokio::task::spawn_blocking(page).await;
    made.unwrap_or_else(|error| {
        (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
    })
}

fn text(body: impl Into<String>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; charset=UTF-8")],
        body.into(),
    )
        .into_response()
}

fn json(value: &serde_json::Value) -> Response {
    let mut body = serde_json::to_string_pretty(value).unwrap_or_default();
    body.push('\n');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
