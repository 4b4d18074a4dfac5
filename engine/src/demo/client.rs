//! The HTTP client of the demo's services: one request, one connection.

use std::net::SocketAddr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY_BYTES: usize = 1 << 20;

/// Sends `GET path` for `host` to the proxy at `address` and reads the answer.
///
/// # Errors
/// What went wrong, for people.
pub async fn get<'h>(
    address: SocketAddr,
    host: &str,
    path: &str,
    headers: impl Iterator<Item = (HeaderName, &'h HeaderValue)>,
) -> Result<(StatusCode, Bytes), String> {
    let mut request = Request::get(path).header("host", host);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    tokio::time::timeout(REQUEST_TIMEOUT, exchange(address, request))
        .await
        .map_err(|_| format!("{host} did not answer in time"))?
        .map_err(|error| format!("{host} cannot be asked: {error}"))
}

async fn exchange(
    address: SocketAddr,
    request: Request<Empty<Bytes>>,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the request; the answer carries its error.
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_BODY_BYTES)
        .collect()
        .await?
        .to_bytes();
    driver.abort();
    Ok((status, body))
}
