//! Resolving the names that clusters need, again and again as their answers expire.
//!
//! One task a name; a failure keeps the last good addresses, and an answer that there are none takes
//! them away. What changed goes to the reload loop, which alone publishes.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use ringroad_policy::settings::{DnsFamilies, DnsSettings};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;

/// An answer with a longer time to live is asked for again after this.
const MAX_TTL: Duration = Duration::from_secs(60);
/// The first wait after a failure; it doubles up to the setting `dns.failureRefresh`.
const FIRST_FAILURE_WAIT: Duration = Duration::from_secs(1);
/// Lookups at the same time.
const MAX_CONCURRENT_LOOKUPS: usize = 64;
/// How often the system's own files are looked at, at most.
const SYSTEM_FILES_CHECK_INTERVAL: Duration = Duration::from_secs(5);

const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// What a lookup found for a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub name: String,
    /// `None`: it failed, the addresses known before hold. Empty: there are none, says the name server.
    pub addresses: Option<Vec<IpAddr>>,
}

/// Counters of the resolver.
#[derive(Debug, Default)]
pub struct DnsCounters {
    pub lookups: AtomicU64,
    pub failures: AtomicU64,
}

/// Keeps a set of names resolved.
pub struct Resolver {
    tasks: HashMap<String, AbortHandle>,
    settings: DnsSettings,
    shared: Arc<Shared>,
}

struct Shared {
    answers: mpsc::UnboundedSender<Answer>,
    counters: Arc<DnsCounters>,
    permits: Semaphore,
    client: Mutex<Option<Client>>,
}

struct Client {
    resolver: Arc<TokioResolver>,
    system_files: [Option<SystemTime>; 2],
    checked_at: Instant,
}

impl Resolver {
    /// A resolver without names, and where its answers arrive.
    pub fn new(counters: Arc<DnsCounters>) -> (Self, mpsc::UnboundedReceiver<Answer>) {
        let (answers, receiver) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            answers,
            counters,
            permits: Semaphore::new(MAX_CONCURRENT_LOOKUPS),
            client: Mutex::new(None),
        });
        (
            Self {
                tasks: HashMap::new(),
                settings: DnsSettings::default(),
                shared,
            },
            receiver,
        )
    }

    /// Resolves exactly `names` from now on. Every name that is new is answered once soon, be it
    /// with a failure.
    pub fn follow(&mut self, names: &HashSet<&str>, settings: &DnsSettings) {
        if self.settings != *settings {
            self.settings = settings.clone();
            *self.shared.lock_client() = None;
            self.tasks.drain().for_each(|(_, task)| task.abort());
        }
        self.tasks.retain(|name, task| {
            let stays = names.contains(name.as_str());
            if !stays {
                task.abort();
            }
            stays
        });
        for name in names {
            if !self.tasks.contains_key(*name) {
                let task = keep_resolved(
                    Arc::clone(&self.shared),
                    (*name).to_string(),
                    self.settings.clone(),
                );
                self.tasks
                    .insert((*name).to_string(), tokio::spawn(task).abort_handle());
            }
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.tasks.drain().for_each(|(_, task)| task.abort());
    }
}

enum Unresolved {
    /// There is no such name, or it has no address of the families that are asked for.
    NoAddress,
    /// Nobody knows.
    Failed(String),
}

async fn keep_resolved(shared: Arc<Shared>, name: String, settings: DnsSettings) {
    let mut failure_wait = FIRST_FAILURE_WAIT;
    let mut had_addresses = false;
    loop {
        let permit = shared.permits.acquire().await;
        let found = shared.look_up(&name, &settings).await;
        drop(permit);
        shared.counters.lookups.fetch_add(1, Ordering::Relaxed);
        let wait = match &found {
            Ok((_, valid_until)) => {
                had_addresses = true;
                failure_wait = FIRST_FAILURE_WAIT;
                let min_ttl = Duration::from_millis(settings.min_ttl_ms);
                let ttl = valid_until.saturating_duration_since(Instant::now());
                ttl.min(MAX_TTL).max(min_ttl)
            }
            Err(error) => {
                shared.counters.failures.fetch_add(1, Ordering::Relaxed);
                match error {
                    Unresolved::Failed(why) => tracing::debug!("{name} cannot be resolved: {why}"),
                    Unresolved::NoAddress if std::mem::take(&mut had_addresses) => {
                        tracing::warn!("{name} has no address any more, says the name server");
                    }
                    Unresolved::NoAddress => {}
                }
                let longest = Duration::from_millis(settings.failure_refresh_ms);
                let wait = failure_wait.min(longest);
                failure_wait = (failure_wait * 2).min(longest);
                wait
            }
        };
        let addresses = match found {
            Ok((addresses, _)) => Some(addresses),
            Err(Unresolved::NoAddress) => Some(Vec::new()),
            Err(Unresolved::Failed(_)) => None,
        };
        if shared
            .answers
            .send(Answer {
                name: name.clone(),
                addresses,
            })
            .is_err()
        {
            return;
        }
        tokio::time::sleep(wait).await;
    }
}

impl Shared {
    fn lock_client(&self) -> std::sync::MutexGuard<'_, Option<Client>> {
        self.client
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn look_up(
        &self,
        name: &str,
        settings: &DnsSettings,
    ) -> Result<(Vec<IpAddr>, Instant), Unresolved> {
        let resolver = self.resolver(settings).map_err(Unresolved::Failed)?;
        let found = match resolver.lookup_ip(name).await {
            Ok(found) => found,
            Err(error) if is_negative(&error) => {
                // Of two families it may be the answer of one, while the query of the other failed.
                for record_type in record_types(settings.families) {
                    match resolver.lookup(name, *record_type).await {
                        Err(error) if is_negative(&error) => {}
                        Err(error) => return Err(Unresolved::Failed(error.to_string())),
                        Ok(_) => return Err(Unresolved::Failed("it has just come".to_string())),
                    }
                }
                return Err(Unresolved::NoAddress);
            }
            Err(error) => return Err(Unresolved::Failed(error.to_string())),
        };
        let mut addresses: Vec<IpAddr> = found.iter().collect();
        addresses.dedup();
        if addresses.is_empty() {
            return Err(Unresolved::Failed("the answer has no address".to_string()));
        }
        Ok((addresses, found.valid_until()))
    }

    /// The client in use, made anew when the system's files changed.
    fn resolver(&self, settings: &DnsSettings) -> Result<Arc<TokioResolver>, String> {
        let mut slot = self.lock_client();
        if let Some(client) = &mut *slot {
            if client.checked_at.elapsed() < SYSTEM_FILES_CHECK_INTERVAL {
                return Ok(Arc::clone(&client.resolver));
            }
            client.checked_at = Instant::now();
            if client.system_files == system_files() {
                return Ok(Arc::clone(&client.resolver));
            }
        }
        let resolver = Arc::new(make_resolver(settings).map_err(|error| error.to_string())?);
        *slot = Some(Client {
            resolver: Arc::clone(&resolver),
            system_files: system_files(),
            checked_at: Instant::now(),
        });
        Ok(resolver)
    }
}

/// NXDOMAIN, or NOERROR without records (RFC 2308 section 2).
fn is_negative(error: &NetError) -> bool {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return false;
    };
    matches!(
        none.response_code,
        ResponseCode::NXDomain | ResponseCode::NoError
    )
}

fn record_types(families: DnsFamilies) -> &'static [RecordType] {
    match families {
        DnsFamilies::All | DnsFamilies::V4Preferred => &[RecordType::A, RecordType::AAAA],
        DnsFamilies::V4Only => &[RecordType::A],
        DnsFamilies::V6Only => &[RecordType::AAAA],
    }
}

fn system_files() -> [Option<SystemTime>; 2] {
    SYSTEM_FILES.map(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())
}

fn make_resolver(settings: &DnsSettings) -> Result<TokioResolver, NetError> {
    let mut builder = if settings.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let server = |address: &std::net::SocketAddr| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()]
                .map(|mut connection| {
                    connection.port = address.port();
                    connection
                })
                .into();
            NameServerConfig::new(address.ip(), true, connections)
        };
        let servers = settings.servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.ip_strategy = match settings.families {
        DnsFamilies::All => LookupIpStrategy::Ipv4AndIpv6,
        DnsFamilies::V4Only => LookupIpStrategy::Ipv4Only,
        DnsFamilies::V6Only => LookupIpStrategy::Ipv6Only,
        DnsFamilies::V4Preferred => LookupIpStrategy::Ipv4thenIpv6,
    };
    options.timeout = Duration::from_millis(settings.query_timeout_ms);
    // Each name is asked for when its answer has expired: a cache would only be in the way.
    options.cache_size = 0;
    builder.build()
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
