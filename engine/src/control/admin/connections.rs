//! The connections of the admin interface: a few at a time, and none keeps its place by stalling.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// For the head of a request, from the end of the one before it; for its body; and for the client to
/// take more of an answer.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Of the body of a request, which nothing is read from.
const MAX_BODY_BYTES: usize = 64 << 10;

/// Before the next try when no connection could be accepted, as without descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves `most` connections at a time, for ever. Further ones wait until one has ended.
pub async fn serve(listener: TcpListener, router: Router, most: usize) {
    let places = Arc::new(Semaphore::new(most));
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(STALL_TIMEOUT);
    // Nobody closes the semaphore.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = accept(&listener).await;
        let service = TowerToHyperService::new(router.clone());
        let connection = server.serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move {
            // Whoever asked has gone, or asked what is no HTTP: there is nobody to tell.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        let accepted = match listener.accept().await {
            Ok((stream, _)) => socket2::SockRef::from(&stream)
                .set_tcp_user_timeout(Some(STALL_TIMEOUT))
                .map(|()| stream),
            Err(error) => Err(error),
        };
        match accepted {
            Ok(stream) => return stream,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!("the admin interface cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, InvalidInput};
    let kinds = [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        InvalidInput,
    ];
    kinds.contains(&error.kind())
}

/// Lets a request act once all of it has come. None needs a body, so that its length can be told.
pub async fn whole(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        let why = "Requests to the admin interface need no body: send none, or its length.\n";
        return (StatusCode::LENGTH_REQUIRED, why).into_response();
    }
    let (head, body) = request.into_parts();
    let refused = match tokio::time::timeout(STALL_TIMEOUT, to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(_)) => return next.run(Request::from_parts(head, Body::empty())).await,
        Ok(Err(_)) => StatusCode::BAD_REQUEST,
        Err(_) => StatusCode::REQUEST_TIMEOUT,
    };
    let why = "The body of the request did not come, or was too long. No body is needed.\n";
    (refused, why).into_response()
}
