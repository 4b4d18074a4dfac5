//! Clients and upstreams that speak HTTP/2 by the `h2` crate, on threads of their own.

use super::PATIENCE;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, mpsc};

/// Runs a client of one connection to its end.
pub fn client<F: Future<Output = ()>>(
    address: SocketAddr,
    talk: impl FnOnce(SendRequest<Bytes>) -> F,
) {
    let run = async {
        let socket = tokio::net::TcpStream::connect(address)
            .await
            .expect("connects");
        let (send, connection) = h2::client::handshake(socket).await.expect("speaks HTTP/2");
        let driver = tokio::spawn(connection);
        talk(send).await;
        driver.abort();
    };
    let patient = async { tokio::time::timeout(PATIENCE, run).await };
    runtime().block_on(patient).expect("in time");
}

/// Waits for a condition while the other tasks of this thread go on.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

pub fn request(method: Method, path: &str) -> Request<()> {
    let uri = format!("http://shop.test{path}");
    let request = Request::builder().method(method).uri(uri);
    request.body(()).expect("a request")
}

/// Sends a request with this body and reads the whole answer.
pub async fn exchange(
    send: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: Option<&[u8]>,
    trailers: Option<HeaderMap>,
) -> Result<(Response<()>, Vec<u8>, Option<HeaderMap>), h2::Error> {
    let ready = send.clone().ready().await?;
    *send = ready;
    let (response, mut out) = send.send_request(request, body.is_none())?;
    if let Some(body) = body {
        let is_last = trailers.is_none();
        send_all(&mut out, body, is_last).await?;
        if let Some(trailers) = trailers {
            out.send_trailers(trailers)?;
        }
    }
    let (parts, mut incoming) = response.await?.into_parts();
    let got = read_all(&mut incoming).await?;
    let trailers = incoming.trailers().await?;
    Ok((Response::from_parts(parts, ()), got, trailers))
}

/// Sends bytes as the peer takes them; what it no longer wants is left.
pub async fn send_all(
    out: &mut SendStream<Bytes>,
    bytes: &[u8],
    is_last: bool,
) -> Result<(), h2::Error> {
    let mut rest = bytes;
    if rest.is_empty() && is_last {
        return out.send_data(Bytes::new(), true);
    }
    while !rest.is_empty() {
        out.reserve_capacity(rest.len());
        let room = poll_fn(|cx| out.poll_capacity(cx)).await;
        let Some(Ok(room)) = room else { break };
        let (now, later) = rest.split_at(room.min(rest.len()));
        out.send_data(Bytes::copy_from_slice(now), later.is_empty() && is_last)?;
        rest = later;
    }
    Ok(())
}

/// Reads a body to its end.
pub async fn read_all(incoming: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut got = Vec::new();
    while let Some(data) = incoming.data().await {
        let data = data?;
        got.extend_from_slice(&data);
        let _ = incoming.flow_control().release_capacity(data.len());
    }
    Ok(got)
}

/// An upstream of HTTP/2.
pub struct Http2Upstream {
    pub address: SocketAddr,
    pub seen: Arc<Seen>,
}

/// What an upstream has seen.
#[derive(Default)]
pub struct Seen {
    pub connections: AtomicUsize,
    pub open: AtomicUsize,
    pub requests: AtomicUsize,
    /// Streams at the moment, and the most there were on one connection.
    pub most_streams: AtomicUsize,
    pub heads: Mutex<Vec<Request<()>>>,
    /// What ALPN has chosen, for each connection with TLS.
    pub protocols: Mutex<Vec<Vec<u8>>>,
    /// Streams that the proxy has reset, in order.
    pub resets: Mutex<Vec<Reason>>,
}

/// One request as an upstream gets it.
pub struct Call {
    pub request: Request<()>,
    pub body: RecvStream,
    pub respond: SendResponse<Bytes>,
    /// Connections before this one.
    pub connection: usize,
    /// Requests before this one, all connections together.
    pub number: usize,
    pub seen: Arc<Seen>,
    orders: mpsc::UnboundedSender<Order>,
}

/// What upstreams wait at until the test opens it.
#[derive(Clone)]
pub struct Gate(Arc<Semaphore>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    /// For good.
    pub fn open(&self) {
        self.0.close();
    }

    pub async fn passed(&self) {
        let closed = self.0.acquire().await;
        assert!(closed.is_err(), "there are no permits to get");
    }
}

/// What becomes of a connection.
enum Order {
    /// It takes no more requests.
    SayGoodbye,
    /// It is closed at once.
    Close,
    /// It neither reads nor writes from now on.
    Freeze,
}

impl Http2Upstream {
    /// Every request is served by `serve`.
    pub fn start<F>(serve: impl Fn(Call) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_with(Builder::new(), serve)
    }

    /// The same with settings of its own.
    pub fn start_with<F>(builder: Builder, serve: impl Fn(Call) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::listen(builder, None, serve)
    }

    /// Over TLS.
    pub fn start_tls<F>(
        config: rustls::ServerConfig,
        serve: impl Fn(Call) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Self::listen(Builder::new(), Some(acceptor), serve)
    }

    fn listen<F>(
        builder: Builder,
        acceptor: Option<tokio_rustls::TlsAcceptor>,
        serve: impl Fn(Call) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("can be set");
        let seen = Arc::<Seen>::default();
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            let serve = std::rc::Rc::new(serve);
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime(), async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((socket, _)) = listener.accept().await {
                    let _ = socket.set_nodelay(true);
                    let connection = kept.connections.fetch_add(1, Ordering::SeqCst);
                    let (builder, serve) = (builder.clone(), serve.clone());
                    let seen = Arc::clone(&kept);
                    let acceptor = acceptor.clone();
                    tokio::task::spawn_local(async move {
                        seen.open.fetch_add(1, Ordering::SeqCst);
                        let (builder, serve) = (&builder, &*serve);
                        match acceptor {
                            None => {
                                serve_connection(socket, builder, serve, connection, &seen).await;
                            }
                            Some(acceptor) => {
                                if let Ok(socket) = acceptor.accept(socket).await {
                                    let chosen = socket.get_ref().1.alpn_protocol();
                                    let chosen = chosen.map(<[u8]>::to_vec);
                                    seen.protocols.lock().expect("not poisoned").extend(chosen);
                                    serve_connection(socket, builder, serve, connection, &seen)
                                        .await;
                                }
                            }
                        }
                        seen.open.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        });
        Self { address, seen }
    }

    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub fn open_connections(&self) -> usize {
        self.seen.open.load(Ordering::SeqCst)
    }

    pub fn resets(&self) -> Vec<Reason> {
        self.seen.resets.lock().expect("not poisoned").clone()
    }

    /// The heads received so far.
    pub fn heads(&self) -> Vec<Request<()>> {
        self.seen.heads.lock().expect("not poisoned").clone()
    }
}

async fn serve_connection<F>(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    builder: &Builder,
    serve: &impl Fn(Call) -> F,
    connection: usize,
    seen: &Arc<Seen>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(mut http2) = builder.handshake::<_, Bytes>(socket).await else {
        return;
    };
    let (orders, mut given) = mpsc::unbounded_channel();
    let streams = Arc::<AtomicUsize>::default();
    loop {
        let accepted = tokio::select! {
            order = given.recv() => match order {
                Some(Order::SayGoodbye) => {
                    http2.graceful_shutdown();
                    continue;
                }
                Some(Order::Freeze) => std::future::pending().await,
                Some(Order::Close) | None => return,
            },
            accepted = http2.accept() => accepted,
        };
        let Some(Ok((request, respond))) = accepted else {
            return;
        };
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        let mut heads = seen.heads.lock().expect("not poisoned");
        heads.push(request.clone());
        drop(heads);
        let call = Call {
            request,
            body,
            respond,
            connection,
            number: seen.requests.fetch_add(1, Ordering::SeqCst),
            seen: Arc::clone(seen),
            orders: orders.clone(),
        };
        let here = streams.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most_streams.fetch_max(here, Ordering::SeqCst);
        let serving = serve(call);
        let streams = Arc::clone(&streams);
        tokio::spawn(async move {
            serving.await;
            streams.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl Call {
    pub fn path(&self) -> String {
        let path = self.request.uri().path_and_query();
        path.map_or("", |path| path.as_str()).to_string()
    }

    /// The connection takes no more requests.
    pub fn say_goodbye(&self) {
        let _ = self.orders.send(Order::SayGoodbye);
    }

    /// Closes the connection with all its streams.
    pub fn close_connection(&self) {
        let _ = self.orders.send(Order::Close);
    }

    /// Nothing moves on the connection any more.
    pub fn freeze_connection(&self) {
        let _ = self.orders.send(Order::Freeze);
    }

    /// Begins an answer.
    pub fn start(&mut self, response: Response<()>, ends_here: bool) -> SendStream<Bytes> {
        let sent = self.respond.send_response(response, ends_here);
        sent.expect("the stream is open")
    }

    /// Answers 200 with this body and these trailers.
    pub async fn answer(&mut self, body: &[u8], trailers: Option<HeaderMap>) {
        let Ok(mut out) = self.respond.send_response(Response::new(()), false) else {
            return;
        };
        if send_all(&mut out, body, trailers.is_none()).await.is_ok()
            && let Some(trailers) = trailers
        {
            let _ = out.send_trailers(trailers);
        }
    }

    /// Waits until the proxy gives the stream up, and notes how.
    pub async fn wait_for_reset(&mut self) {
        let reason = poll_fn(|cx| self.respond.poll_reset(cx)).await;
        self.note_reset(reason);
    }

    /// The same behind the beginning of an answer.
    pub async fn wait_for_reset_of(&self, out: &mut SendStream<Bytes>) {
        let reason = poll_fn(|cx| out.poll_reset(cx)).await;
        self.note_reset(reason);
    }

    fn note_reset(&self, reason: Result<Reason, h2::Error>) {
        if let Ok(reason) = reason {
            self.seen.resets.lock().expect("not poisoned").push(reason);
        }
    }
}

/// Fields of these names and values.
pub fn fields(list: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(*name, value.parse().expect("a value"));
    }
    map
}

/// An answer of 200 that begins with these fields.
pub fn ok_with(list: &[(&'static str, &str)]) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = fields(list);
    response
}
