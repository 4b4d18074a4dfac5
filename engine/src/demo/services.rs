//! The bookinfo application: four small HTTP services, one of them in three versions.
//!
//! They are real: each listens on its own port of loopback, and they call each other through the
//! proxy by their service names, as they would in a mesh.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use ringroad_policy::snapshot::{Cluster, EndpointAddress, Snapshot};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::client;

/// A service of the application, in one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceSpec {
    pub name: &'static str,
    pub version: &'static str,
}

impl ServiceSpec {
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version }
    }

    /// Where the configuration expects this service.
    pub fn address(&self, snapshot: &Snapshot) -> Option<SocketAddr> {
        let of_service =
            |cluster: &&Arc<Cluster>| cluster.service.host.split('.').next() == Some(self.name);
        let endpoints = snapshot.clusters.iter().filter(of_service);
        let mut endpoints = endpoints.flat_map(|cluster| &cluster.endpoints);
        endpoints.find_map(|endpoint| match endpoint.address {
            EndpointAddress::Socket(address) if endpoint.workload.version == self.version => {
                Some(address)
            }
            _ => None,
        })
    }
}

/// All services.
pub const SERVICES: [ServiceSpec; 6] = [
    ServiceSpec::new("productpage", "v1"),
    ServiceSpec::new("details", "v1"),
    ServiceSpec::new("ratings", "v1"),
    ServiceSpec::new("reviews", "v1"),
    ServiceSpec::new("reviews", "v2"),
    ServiceSpec::new("reviews", "v3"),
];

/// What callers pass on, so that routing by user and tracing work across services.
const PASSED_ON: [&str; 4] = ["end-user", "x-request-id", "traceparent", "b3"];

/// Where the proxy takes requests, once it does.
pub type ProxyAddress = Arc<OnceLock<SocketAddr>>;

/// Binds every service where the configuration expects it.
///
/// # Errors
/// Which service has no address, or whose is taken, and what to do.
pub fn bind(snapshot: &Snapshot) -> Result<Vec<(ServiceSpec, std::net::TcpListener)>, String> {
    let mut bound = Vec::new();
    for spec in SERVICES {
        let ServiceSpec { name, version } = spec;
        let address = spec
            .address(snapshot)
            .ok_or_else(|| format!("services.yaml has no endpoint for {name} {version}"))?;
        let listener = std::net::TcpListener::bind(address)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .map_err(|error| {
                format!(
                    "{name} {version} cannot listen on {address}: {error}; stop what has this \
                     port (`ss -ltnp` names it), maybe another `ringroad demo`, or write another \
                     into services.yaml"
                )
            })?;
        bound.push((spec, listener));
    }
    Ok(bound)
}

/// Starts the services on a thread of their own.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(
    bound: Vec<(ServiceSpec, std::net::TcpListener)>,
    proxy: ProxyAddress,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("bookinfo".to_string())
        .spawn(move || {
            runtime.block_on(async move {
                let mut services = tokio::task::JoinSet::new();
                for (spec, listener) in bound {
                    services.spawn(serve(spec, listener, Arc::clone(&proxy)));
                }
                while services.join_next().await.is_some() {}
            });
        })?;
    Ok(())
}

struct Service {
    spec: ServiceSpec,
    proxy: ProxyAddress,
    quit: Notify,
}

async fn serve(spec: ServiceSpec, listener: std::net::TcpListener, proxy: ProxyAddress) {
    let service = Arc::new(Service {
        spec,
        proxy,
        quit: Notify::new(),
    });
    let asked = Arc::clone(&service);
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => {
            axum::serve(listener, router(service))
                .with_graceful_shutdown(async move { asked.quit.notified().await })
                .await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!("{} {} has ended: {error}", spec.name, spec.version);
    }
}

fn router(service: Arc<Service>) -> Router {
    let router = Router::new().route("/quit", post(quit));
    let router = match service.spec.name {
        "productpage" => router
            .route("/productpage", get(product_page))
            .route("/api/v1/products", get(products))
            .route("/api/v1/products/{id}", get(product_details))
            .route("/api/v1/products/{id}/reviews", get(product_reviews))
            .route("/api/v1/products/{id}/ratings", get(product_ratings)),
        "details" => router.route("/details/{id}", get(details)),
        "ratings" => router.route("/ratings/{id}", get(ratings)),
        _ => router.route("/reviews/{id}", get(reviews)),
    };
    router.with_state(service)
}

/// Stops this service: its port refuses connections from then on.
async fn quit(State(service): State<Arc<Service>>) -> Json<Value> {
    service.quit.notify_one();
    Json(json!({ "service": service.spec.name, "version": service.spec.version, "stops": true }))
}

impl Service {
    /// Asks another service, through the proxy.
    async fn ask(&self, name: &str, path: &str, headers: &HeaderMap) -> (StatusCode, Value) {
        let Some(proxy) = self.proxy.get() else {
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                json!({ "error": "the proxy is not up" }),
            );
        };
        let host = format!("{name}.default.svc.cluster.local");
        let passed_on = PASSED_ON
            .into_iter()
            .filter_map(|header| Some((HeaderName::from_static(header), headers.get(header)?)));
        match client::get(*proxy, &host, path, passed_on).await {
            Ok((status, body)) => {
                let text = || Value::from(String::from_utf8_lossy(&body).trim());
                let value = serde_json::from_slice(&body).unwrap_or_else(|_| text());
                (status, value)
            }
            Err(error) => (StatusCode::BAD_GATEWAY, json!({ "error": error })),
        }
    }
}

async fn products() -> Json<Value> {
    Json(json!([{ "id": 0, "title": "A Walk Around the Ring" }]))
}

async fn product_details(
    State(service): State<Arc<Service>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
) -> Response {
    let (status, body) = service
        .ask("details", &format!("/details/{id}"), &headers)
        .await;
    (status, Json(body)).into_response()
}

async fn product_reviews(
    State(service): State<Arc<Service>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
) -> Response {
    let (status, body) = service
        .ask("reviews", &format!("/reviews/{id}"), &headers)
        .await;
    (status, Json(body)).into_response()
}

async fn product_ratings(
    State(service): State<Arc<Service>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
) -> Response {
    let (status, body) = service
        .ask("ratings", &format!("/ratings/{id}"), &headers)
        .await;
    (status, Json(body)).into_response()
}

async fn details(State(service): State<Arc<Service>>, Path(id): Path<u32>) -> Json<Value> {
    Json(json!({
        "service": "details",
        "version": service.spec.version,
        "id": id,
        "title": "A Walk Around the Ring",
        "author": "R. Road",
        "pages": 128,
    }))
}

async fn ratings(State(service): State<Arc<Service>>, Path(id): Path<u32>) -> Json<Value> {
    Json(json!({
        "service": "ratings",
        "version": service.spec.version,
        "id": id,
        "ratings": { "Ada": 5, "Ben": 4 },
    }))
}

/// Version 1 has no stars, version 2 black ones and version 3 red ones, as in Istio's sample.
async fn reviews(
    State(service): State<Arc<Service>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
) -> Json<Value> {
    let version = service.spec.version;
    let mut answer = json!({
        "service": "reviews",
        "version": version,
        "id": id,
        "reviews": [
            { "reviewer": "Ada", "text": "Went round twice." },
            { "reviewer": "Ben", "text": "Never met a red light." },
        ],
    });
    if version != "v1" {
        let (status, ratings) = service
            .ask("ratings", &format!("/ratings/{id}"), &headers)
            .await;
        answer["stars"] = if status.is_success() {
            let color = if version == "v2" { "black" } else { "red" };
            json!({ "color": color, "by_reviewer": ratings["ratings"] })
        } else {
            json!({ "error": format!("ratings answered {}", status.as_u16()) })
        };
    }
    Json(answer)
}

async fn product_page(State(service): State<Arc<Service>>, headers: HeaderMap) -> Html<String> {
    let (details_status, details) = service.ask("details", "/details/0", &headers).await;
    let (reviews_status, reviews) = service.ask("reviews", "/reviews/0", &headers).await;
    let show = |status: StatusCode, value: &Value| {
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        format!("<p>status {}</p><pre>{text}</pre>", status.as_u16())
    };
    let version = reviews["version"].as_str().unwrap_or("unknown");
    Html(format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Bookinfo</title>\
         </head><body>\n<h1>A Walk Around the Ring</h1>\n\
         <p>reviews answered by <b>reviews-{version}</b></p>\n\
         <h2>Details</h2>\n{}\n<h2>Reviews</h2>\n{}\n</body></html>\n",
        show(details_status, &details),
        show(reviews_status, &reviews),
    ))
}
