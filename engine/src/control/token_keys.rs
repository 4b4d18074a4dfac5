//! Fetching the keys that tokens are verified with, again and again.
//!
//! One task a source. A key server that is down keeps no request waiting: the last good keys stay,
//! and until the first come, tokens are refused. What changed goes to the reload loop, which alone
//! publishes.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::http::Uri;
use axum::http::uri::Scheme;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use ringroad_policy::authenticate::{KeySet, KeySource};
use ringroad_policy::snapshot::{KeyTable, Snapshot};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

/// How long keys count before they are fetched again. Istio: `PILOT_JWT_PUB_KEY_REFRESH_INTERVAL`.
const REFRESH: Duration = Duration::from_secs(20 * 60);
/// How often a file is looked at.
const FILE_REFRESH: Duration = Duration::from_secs(2);
/// How long keys count at least: a token with a key that nobody knows makes them be fetched anew, but
/// not more often, whoever sends such tokens.
const LEAST_REFRESH: Duration = Duration::from_secs(10);
/// How long a configuration waits for the first answer of its key servers before it is used without.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Waits after failures, from the first to the longest. Istio waits a minute.
const FIRST_FAILURE_WAIT: Duration = Duration::from_secs(1);
const LONGEST_FAILURE_WAIT: Duration = Duration::from_secs(60);
/// Largest key set, or answer of an issuer.
const MAX_BODY_BYTES: usize = 1 << 20;
/// Where an issuer tells of its keys (OpenID Connect Discovery 1.0 section 4). Redirects are not
/// followed, there or at the keys: a key server says itself where they are.
const DISCOVERY: &str = "/.well-known/openid-configuration";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What came of asking a source.
pub struct Fetched {
    source: KeySource,
    /// `None`: it could not be reached, or has none that can be used.
    keys: Option<(String, Arc<KeySet>)>,
}

/// All sources of the configuration, and the keys known for them.
pub struct TokenKeys {
    table: KeyTable,
    texts: HashMap<KeySource, String>,
    tasks: HashMap<KeySource, AbortHandle>,
    /// When each source was heard of last.
    heard: HashMap<KeySource, Instant>,
    sender: mpsc::UnboundedSender<Fetched>,
    fetched: mpsc::UnboundedReceiver<Fetched>,
}

impl TokenKeys {
    pub fn new() -> Self {
        let (sender, fetched) = mpsc::unbounded_channel();
        Self {
            table: KeyTable::new(),
            texts: HashMap::new(),
            tasks: HashMap::new(),
            heard: HashMap::new(),
            sender,
            fetched,
        }
    }

    pub fn table(&self) -> &KeyTable {
        &self.table
    }

    /// Fetches for the sources of these snapshots from now on, and for no others.
    pub fn follow<'s>(&mut self, snapshots: impl Iterator<Item = &'s Snapshot>) {
        let sources: BTreeSet<KeySource> = snapshots.flat_map(Snapshot::key_sources).collect();
        self.tasks.retain(|source, task| {
            let stays = sources.contains(source);
            if !stays {
                task.abort();
            }
            stays
        });
        self.table.retain(|source, _| sources.contains(source));
        self.texts.retain(|source, _| sources.contains(source));
        self.heard.retain(|source, _| sources.contains(source));
        for source in sources {
            if !self.tasks.contains_key(&source) {
                self.fetch(source);
            }
        }
    }

    fn fetch(&mut self, source: KeySource) {
        let task = keep_fetched(source.clone(), self.sender.clone());
        let task = tokio::spawn(task).abort_handle();
        if let Some(before) = self.tasks.insert(source, task) {
            before.abort();
        }
    }

    /// Waits until all sources were heard of once, but not for long: whose keys are still on their
    /// way then, his tokens are refused until they come. The sources of which the table has other
    /// keys now.
    pub async fn hear_all(&mut self) -> Vec<KeySource> {
        let mut changed = Vec::new();
        let all = async {
            while self
                .tasks
                .keys()
                .any(|source| !self.heard.contains_key(source))
            {
                let Some(fetched) = self.fetched.recv().await else {
                    return;
                };
                let source = fetched.source.clone();
                if self.take(fetched) {
                    changed.push(source);
                }
            }
        };
        // Nobody waits twice for one that does not answer.
        let _ = tokio::time::timeout(FIRST_ANSWER_WAIT, all).await;
        for source in self.tasks.keys() {
            let heard = self.heard.entry(source.clone());
            heard.or_insert_with(Instant::now);
        }
        changed
    }

    /// Fetches anew what was not fetched just now: a token has named a key that nobody knows.
    pub fn renew(&mut self) {
        let is_due = |source: &&KeySource| {
            let heard = self.heard.get(*source);
            heard.is_some_and(|heard| heard.elapsed() >= LEAST_REFRESH)
        };
        let due: Vec<KeySource> = self.tasks.keys().filter(is_due).cloned().collect();
        for source in due {
            self.heard.insert(source.clone(), Instant::now());
            self.fetch(source);
        }
    }

    /// The next keys that have come; never ends without one.
    pub async fn next(&mut self) -> Option<Fetched> {
        self.fetched.recv().await
    }

    /// Takes keys into the table. False: there are none, they are known already, or nobody wants them
    /// any more.
    pub fn take(&mut self, fetched: Fetched) -> bool {
        let Fetched { source, keys } = fetched;
        if !self.tasks.contains_key(&source) {
            return false;
        }
        self.heard.insert(source.clone(), Instant::now());
        let Some((text, keys)) = keys else {
            return false;
        };
        if self.texts.get(&source) == Some(&text) {
            return false;
        }
        self.texts.insert(source.clone(), text);
        self.table.insert(source, keys);
        true
    }
}

impl Drop for TokenKeys {
    fn drop(&mut self) {
        self.tasks.drain().for_each(|(_, task)| task.abort());
    }
}

async fn keep_fetched(source: KeySource, sender: mpsc::UnboundedSender<Fetched>) {
    let mut failure_wait = FIRST_FAILURE_WAIT;
    let mut has_failed = false;
    loop {
        let outcome = fetch_keys(&source).await;
        let (keys, wait) = match outcome {
            Ok((text, keys)) => {
                if has_failed {
                    tracing::info!("keys of {} are there again", name_of(&source));
                }
                (has_failed, failure_wait) = (false, FIRST_FAILURE_WAIT);
                (Some((text, Arc::new(keys))), refresh_of(&source))
            }
            Err(error) => {
                if !has_failed {
                    let name = name_of(&source);
                    tracing::warn!(
                        "keys of {name} cannot be fetched: {error}; what is known stays"
                    );
                }
                has_failed = true;
                let wait = failure_wait;
                failure_wait = (failure_wait * 2).min(LONGEST_FAILURE_WAIT);
                (None, wait)
            }
        };
        let source = source.clone();
        if sender.send(Fetched { source, keys }).is_err() {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

fn refresh_of(source: &KeySource) -> Duration {
    match source {
        KeySource::Uri { uri, .. } if file_path(uri).is_some() => FILE_REFRESH,
        _ => REFRESH,
    }
}

fn name_of(source: &KeySource) -> &str {
    match source {
        KeySource::Inline => "the configuration",
        KeySource::Uri { uri, .. } => uri,
        KeySource::Issuer { issuer, .. } => issuer,
    }
}

/// The path of a `file:` URI.
fn file_path(uri: &str) -> Option<PathBuf> {
    uri.strip_prefix("file://").map(PathBuf::from)
}

async fn fetch_keys(source: &KeySource) -> Result<(String, KeySet), Failure> {
    let text = match source {
        KeySource::Inline => return Err("the keys stand in the configuration".into()),
        KeySource::Uri { uri, timeout_ms } => match file_path(uri) {
            Some(path) => {
                let read = move || std::fs::read_to_string(path);
                tokio::task::spawn_blocking(read).await??
            }
            None => within(*timeout_ms, get(uri)).await?,
        },
        KeySource::Issuer { issuer, timeout_ms } => {
            let address = format!("{}{DISCOVERY}", issuer.trim_end_matches('/'));
            let found = within(*timeout_ms, get(&address)).await?;
            let found: serde_json::Value = serde_json::from_str(&found)?;
            let uri = found.get("jwks_uri").and_then(serde_json::Value::as_str);
            let uri = uri.ok_or("the issuer's configuration has no `jwks_uri`")?;
            within(*timeout_ms, get(uri)).await?
        }
    };
    let keys = KeySet::parse(&text)?;
    if keys.is_empty() {
        return Err("none of the keys can be used".into());
    }
    Ok((text, keys))
}

async fn within<T>(
    timeout_ms: u64,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let limit = Duration::from_millis(timeout_ms);
    let done = tokio::time::timeout(limit, work).await;
    done.map_err(|_| format!("no answer within {limit:?}"))?
}

/// The body of an answer 200.
async fn get(address: &str) -> Result<String, Failure> {
    let uri: Uri = address.parse()?;
    let is_https = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(scheme) if *scheme == Scheme::HTTP => false,
        _ => return Err("it is no address of http or https".into()),
    };
    let host = uri.host().ok_or("the address has no host")?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let stream = TcpStream::connect((bare, port)).await?;
    if !is_https {
        return exchange(stream, &uri).await;
    }
    let name = ServerName::try_from(bare.to_string())?;
    let connector = TlsConnector::from(client_config()?);
    exchange(connector.connect(name, stream).await?, &uri).await
}

/// TLS by the roots that the system trusts; read once.
fn client_config() -> Result<Arc<ClientConfig>, Failure> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("the system has no certificates of authorities".into());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}

async fn exchange<S>(stream: S, uri: &Uri) -> Result<String, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the request; the answer carries its error.
    let driver = tokio::spawn(connection);
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = uri.authority().ok_or("the address has no host")?;
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let request = Request::get(target)
        .header("host", host)
        .header("accept", "application/json")
        .body(Empty::<Bytes>::new())?;
    let answered = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status != 200 {
            return Err(unexpected(status));
        }
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let body = body.collect().await?.to_bytes();
        Ok(String::from_utf8(body.to_vec())?)
    };
    let answered = answered.await;
    driver.abort();
    answered
}

fn unexpected(status: impl Display) -> Failure {
    format!("the answer is {status}").into()
}
