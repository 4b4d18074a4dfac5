//! A service with endpoints and a traffic policy of its own.

use super::{Proxy, folder, free_address, gateway, settings};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};

/// The name of its cluster.
pub const CLUSTER: &str = "outbound|80||pool.test";

/// Everything for any host goes to these endpoints, in turn and without retries, by the given
/// fields of `trafficPolicy`.
pub fn pool(endpoints: &[SocketAddr], policy: &str) -> String {
    let list: Vec<String> = endpoints
        .iter()
        .map(|at| format!("{{address: {}, ports: {{http: {}}}}}", at.ip(), at.port()))
        .collect();
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: pool}}\nspec:\n  \
         hosts: [\"*\"]\n  gateways: [gate]\n  http:\n  - route:\n    \
         - destination: {{host: pool.test, port: {{number: 80}}}}\n    retries: {{attempts: 0}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: pool}}\nspec:\n  \
         hosts: [pool.test]\n  resolution: STATIC\n  \
         ports: [{{number: 80, name: http, protocol: HTTP}}]\n  endpoints: [{}]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: pool}}\nspec:\n  \
         host: pool.test\n  trafficPolicy:\n    loadBalancer: {{simple: ROUND_ROBIN}}\n    {policy}\n",
        list.join(", ")
    )
}

/// A proxy in front of that service.
pub fn start_pool(
    driver: &str,
    workers: &str,
    endpoints: &[SocketAddr],
    policy: &str,
) -> (Proxy, SocketAddr) {
    start_with(driver, workers, &pool(endpoints, policy))
}

/// The same with one retry of any 5xx.
pub fn start_retrying_pool(
    driver: &str,
    workers: &str,
    endpoints: &[SocketAddr],
    policy: &str,
) -> (Proxy, SocketAddr) {
    let pool = pool(endpoints, policy);
    start_with_retries(driver, workers, &pool, "{attempts: 1, retryOn: 5xx}")
}

/// A proxy in front of a service whose route has these `retries`, and what else stands behind them.
pub fn start_with_retries(
    driver: &str,
    workers: &str,
    pool: &str,
    retries: &str,
) -> (Proxy, SocketAddr) {
    let retrying = pool.replace("{attempts: 0}", retries);
    assert_ne!(retrying, pool);
    start_with(driver, workers, &retrying)
}

fn start_with(driver: &str, workers: &str, pool: &str) -> (Proxy, SocketAddr) {
    let address = free_address();
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings("{role: gateway}")),
        ("pool.yaml", pool),
    ]);
    let args = ["--driver", driver, "--workers", workers];
    (Proxy::start_with_workers(config, &args), address)
}

/// A proxy that sends everything to these upstreams by prior knowledge, and by this
/// `connectionPool.http`.
pub fn start_http2_pool(driver: &str, upstreams: &[SocketAddr], http: &str) -> (Proxy, SocketAddr) {
    start_edited_http2_pool(driver, upstreams, http, |text| text)
}

/// The same after a change of its documents.
pub fn start_edited_http2_pool(
    driver: &str,
    upstreams: &[SocketAddr],
    http: &str,
    edit: impl FnOnce(String) -> String,
) -> (Proxy, SocketAddr) {
    let address = free_address();
    let policy = format!("connectionPool: {{http: {{{http}}}}}");
    let config = folder(&[
        ("gate.yaml", &gateway(address)),
        ("settings.yaml", &settings("{role: gateway}")),
        ("pool.yaml", &edit(over_http2(&pool(upstreams, &policy)))),
    ]);
    let args = ["--driver", driver, "--workers", "1"];
    (Proxy::start_with_workers(config, &args), address)
}

/// The service says that it speaks HTTP/2.
pub fn over_http2(pool: &str) -> String {
    let edited = pool.replace("protocol: HTTP}", "protocol: HTTP2}");
    assert_ne!(edited, pool);
    edited
}

/// What says nothing of interest in a `connectionPool.http`.
pub const ANY: &str = "maxRetries: 1000";

/// A figure of the service's cluster.
pub fn cluster_stat(proxy: &Proxy, name: &str) -> u64 {
    proxy.stat(&format!("cluster.{CLUSTER}.{name}"))
}

/// Waits for a figure of that cluster. An answer may arrive a moment before its request is over.
#[track_caller]
pub fn until_cluster_stat(proxy: &Proxy, name: &str, wanted: u64) {
    proxy.until_stat(&format!("cluster.{CLUSTER}.{name}"), wanted);
}

/// An endpoint that answers with a status that can be changed.
pub struct Backend {
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    status: AtomicU16,
    requests: AtomicUsize,
    open: AtomicUsize,
    most_open: AtomicUsize,
    ended: AtomicBool,
}

impl Backend {
    /// On a free port.
    pub fn start() -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").expect("a free port"))
    }

    /// Where an endpoint was, or was expected.
    pub fn start_at(address: SocketAddr) -> Self {
        Self::listen(TcpListener::bind(address).expect("the port is free"))
    }

    pub fn listen(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            status: AtomicU16::new(200),
            requests: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || shared.serve(stream));
            }
        });
        Self { address, shared }
    }

    /// The status of answers from now on.
    pub fn set_status(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The most connections that were open at once.
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }

    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }
}

impl Drop for Backend {
    /// Stops listening; connections that are open go on.
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) {
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_open.fetch_max(open, Ordering::SeqCst);
        let _ = stream.set_nodelay(true);
        let mut reader = BufReader::new(stream);
        while self.answer(&mut reader).is_some() {}
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn answer(&self, reader: &mut BufReader<TcpStream>) -> Option<()> {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        let status = self.status.load(Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 2\r\n\r\nok");
        reader.get_mut().write_all(answer.as_bytes()).ok()
    }
}
