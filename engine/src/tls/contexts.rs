//! The contexts of a snapshot, and keeping them fresh.

use super::certificate::PeerCertificate;
use super::client::{ClientMaterial, server_name};
use super::credentials::{Fingerprint, Places};
use super::server::ServerMaterial;
use ringroad_policy::snapshot::{
    DownstreamTls, FilterChains, Listener, ListenerKind, Snapshot, UpstreamTls,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;

/// What a handshake with a client needs.
pub struct ServerContext {
    pub config: Arc<ServerConfig>,
    fingerprint: u64,
}

/// What a handshake with an upstream needs.
pub struct ClientContext {
    config: Arc<ClientConfig>,
    fingerprint: u64,
}

impl ClientContext {
    /// The context that offers these protocols by ALPN.
    pub fn offering(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut config = (*self.config).clone();
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        Arc::new(config)
    }

    /// A host as a server name; an address is one too.
    pub fn server_name(host: &str) -> Option<ServerName<'static>> {
        server_name(host)
    }
}

/// A certificate in use, for people and metrics. It holds no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateReport {
    pub place: String,
    pub serial_number: String,
    pub subject: String,
    pub names: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

/// A description and its context, or why there is none.
type Known<T, C> = (Arc<T>, Result<Arc<C>, String>);

/// The contexts of a snapshot, found by their descriptions.
#[derive(Default)]
pub struct TlsContexts {
    servers: Vec<Known<DownstreamTls, ServerContext>>,
    clients: Vec<Known<UpstreamTls, ClientContext>>,
    pub certificates: Vec<CertificateReport>,
}

impl TlsContexts {
    /// # Errors
    /// Why there is no context.
    pub fn server(&self, tls: &Arc<DownstreamTls>) -> Result<&Arc<ServerContext>, &str> {
        find(&self.servers, tls)
    }

    /// # Errors
    /// Why there is no context.
    pub fn client(&self, tls: &UpstreamTls) -> Result<&Arc<ClientContext>, &str> {
        let known = self.clients.iter().find(|(known, _)| **known == *tls);
        match known {
            Some((_, Ok(context))) => Ok(context),
            Some((_, Err(why))) => Err(why),
            None => Err(NOT_READ),
        }
    }
}

const NOT_READ: &str = "its certificates have not been read yet";

fn find<'c>(
    known: &'c [Known<DownstreamTls, ServerContext>],
    wanted: &Arc<DownstreamTls>,
) -> Result<&'c Arc<ServerContext>, &'c str> {
    let by_place = || known.iter().find(|(tls, _)| Arc::ptr_eq(tls, wanted));
    let by_content = || known.iter().find(|(tls, _)| *tls == *wanted);
    match by_place().or_else(by_content) {
        Some((_, Ok(context))) => Ok(context),
        Some((_, Err(why))) => Err(why),
        None => Err(NOT_READ),
    }
}

/// Builds contexts, on the control thread.
pub struct TlsKeeper {
    config_roots: Vec<PathBuf>,
    /// What was said, so that it is said once.
    told: Vec<String>,
    current: Arc<TlsContexts>,
    /// Of all that was read for `current`.
    fingerprint: u64,
}

impl TlsKeeper {
    pub fn new(config_roots: Vec<PathBuf>) -> Self {
        Self {
            config_roots,
            told: Vec::new(),
            current: Arc::default(),
            fingerprint: 0,
        }
    }

    /// Reads everything that `snapshot` names. The contexts, if they are others than before. What
    /// cannot be read keeps its old context, and is logged.
    pub fn refresh(&mut self, snapshot: &Snapshot) -> Option<Arc<TlsContexts>> {
        let places = Places {
            snapshot,
            config_roots: &self.config_roots,
        };
        let settings = &snapshot.settings;
        let mut trust_domains = vec![settings.trust_domain.clone()];
        trust_domains.extend(settings.trust_domain_aliases.iter().cloned());
        let mut next = TlsContexts::default();
        let mut problems = Vec::new();
        let mut all_seen = Fingerprint::default();
        for tls in servers(snapshot) {
            if next
                .servers
                .iter()
                .any(|(known, _)| Arc::ptr_eq(known, &tls))
            {
                continue;
            }
            let mut seen = Fingerprint::default();
            let before = find(&self.current.servers, &tls).ok().cloned();
            let built = ServerMaterial::read(&tls, &places, &mut seen).and_then(|material| {
                report(material.leaves(), &mut next.certificates);
                let fingerprint = seen.value();
                match &before {
                    Some(known) if known.fingerprint == fingerprint => Ok(known.clone()),
                    _ => material.config(&tls, &trust_domains).map(|config| {
                        Arc::new(ServerContext {
                            config: Arc::new(config),
                            fingerprint,
                        })
                    }),
                }
            });
            let context = keep_old(built, before, "clients", &mut problems);
            let known = context.as_ref().map_or(0, |context| context.fingerprint);
            all_seen.add(&known.to_le_bytes());
            next.servers.push((tls, context));
        }
        for tls in clients(snapshot) {
            if next.clients.iter().any(|(known, _)| *known == tls) {
                continue;
            }
            let mut seen = Fingerprint::default();
            let before = self.current.client(&tls).ok().cloned();
            let built = ClientMaterial::read(&tls, &places, &mut seen).and_then(|material| {
                report(material.leaf().into_iter(), &mut next.certificates);
                let fingerprint = seen.value();
                match &before {
                    Some(known) if known.fingerprint == fingerprint => Ok(known.clone()),
                    _ => material.config(&tls, &trust_domains).map(|config| {
                        Arc::new(ClientContext {
                            config: Arc::new(config),
                            fingerprint,
                        })
                    }),
                }
            });
            let context = keep_old(built, before, "upstreams", &mut problems);
            let known = context.as_ref().map_or(1, |context| context.fingerprint);
            all_seen.add(&known.to_le_bytes());
            next.clients.push((tls, context));
        }
        next.certificates
            .sort_by(|one, other| one.place.cmp(&other.place));
        next.certificates.dedup();
        for problem in &problems {
            if !self.told.contains(problem) {
                tracing::warn!("{problem}");
            }
        }
        self.told = problems;
        let is_same = all_seen.value() == self.fingerprint
            && next.servers.len() == self.current.servers.len()
            && next.clients.len() == self.current.clients.len()
            && next.certificates == self.current.certificates
            && next
                .servers
                .iter()
                .zip(&self.current.servers)
                .all(|(one, other)| Arc::ptr_eq(&one.0, &other.0))
            && next
                .clients
                .iter()
                .zip(&self.current.clients)
                .all(|(one, other)| one.0 == other.0);
        if is_same {
            return None;
        }
        self.fingerprint = all_seen.value();
        self.current = Arc::new(next);
        Some(self.current.clone())
    }
}

fn keep_old<C>(
    built: Result<Arc<C>, String>,
    before: Option<Arc<C>>,
    whom: &str,
    problems: &mut Vec<String>,
) -> Result<Arc<C>, String> {
    built.or_else(|why| match before {
        Some(before) => {
            problems.push(format!("TLS with {whom}: {why}; what was in use stays"));
            Ok(before)
        }
        None => {
            problems.push(format!(
                "TLS with {whom}: {why}; handshakes fail until it is mended"
            ));
            Err(why)
        }
    })
}

fn report<'m>(
    leaves: impl Iterator<Item = (&'m [u8], &'m str)>,
    reports: &mut Vec<CertificateReport>,
) {
    for (der, place) in leaves {
        let Some(certificate) = PeerCertificate::read(der) else {
            continue;
        };
        let names = [
            certificate.uris,
            certificate.dns_names,
            certificate.ip_addresses,
        ];
        reports.push(CertificateReport {
            place: place.to_string(),
            serial_number: certificate.serial_number,
            subject: certificate.subject,
            names: names.concat(),
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        });
    }
}

/// The descriptions of all servers.
fn servers(snapshot: &Snapshot) -> Vec<Arc<DownstreamTls>> {
    fn of_chains(chains: &FilterChains, found: &mut Vec<Arc<DownstreamTls>>) {
        found.extend(chains.all().filter_map(|chain| chain.tls.clone()));
    }
    fn of_listener(listener: &Listener, found: &mut Vec<Arc<DownstreamTls>>) {
        match &listener.kind {
            ListenerKind::Http(_) => {}
            ListenerKind::Chains(chains) => of_chains(chains, found),
            ListenerKind::Intercepted(outbound) => {
                for inner in outbound.listeners() {
                    of_listener(inner, found);
                }
                of_chains(&outbound.fallback, found);
            }
        }
    }
    let mut found = Vec::new();
    for listener in &snapshot.listeners {
        of_listener(listener, &mut found);
    }
    found
}

/// The descriptions of all clusters that are reached by TLS.
fn clients(snapshot: &Snapshot) -> Vec<Arc<UpstreamTls>> {
    let clusters = snapshot.clusters.iter();
    clusters.filter_map(|cluster| cluster.tls.clone()).collect()
}
