//! The contexts of a snapshot, and keeping them fresh.

use super::client::ClientContext;
use super::credentials::{Fingerprint, Places, Reader};
use super::report::{CertificateFacts, CertificateReport, ExpiryWatch, tell_roots};
use super::server::ServerContext;
use ringroad_policy::snapshot::{
    DownstreamTls, FilterChains, Listener, ListenerKind, Snapshot, UpstreamTls,
};
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

/// A description of TLS that becomes a context for handshakes.
pub(super) trait Described: Eq + Hash + Sized {
    /// What it is made of, as it was read.
    type Material;
    type Context;
    /// Whom it is spoken with, for people.
    const WHOM: &'static str;

    /// All that a snapshot has, and where: a server or a cluster that keeps its place from one
    /// snapshot to the next.
    fn all(snapshot: &Snapshot) -> Vec<(String, Arc<Self>)>;

    /// Whether nothing but where certificates and roots come from is another than in `before`.
    fn moves(&self, before: &Self) -> bool;

    /// Reads all that it names.
    ///
    /// # Errors
    /// What is missing, and where.
    fn read(&self, places: &Places<'_>, seen: &mut Fingerprint) -> Result<Self::Material, String>;

    /// The context, and its certificates for people; `trust_domains` are those of the mesh.
    ///
    /// # Errors
    /// What is broken or does not go together.
    fn build(
        &self,
        material: Self::Material,
        trust_domains: &[String],
    ) -> Result<(Self::Context, CertificateReport), String>;
}

/// A context and what it was made of.
struct Built<C> {
    context: Arc<C>,
    fingerprint: u64,
    report: Arc<CertificateReport>,
    /// What was read since is broken.
    is_old: bool,
}

impl<C> Clone for Built<C> {
    fn clone(&self) -> Self {
        Self {
            context: self.context.clone(),
            fingerprint: self.fingerprint,
            report: self.report.clone(),
            is_old: self.is_old,
        }
    }
}

impl<C> Built<C> {
    /// Notes what is shown and trusted from now on, and was not or was broken, and whom nobody
    /// trusts any more.
    fn note_since(&self, before: Option<&Self>, news: &mut News) {
        if self.is_old {
            return;
        }
        let known = before.map(|before| &*before.report);
        let shown = before.filter(|before| !before.is_old);
        let shown = shown.map(|before| &*before.report);
        let lacks = |list: &[CertificateFacts], one: &CertificateFacts| !list.contains(one);
        let leaves = self.report.leaves.iter();
        let is_new = |one: &&_| shown.is_none_or(|shown| lacks(&shown.leaves, one));
        news.renewed.extend(leaves.filter(is_new).cloned());
        let roots = self.report.authorities.iter();
        let is_new = |one: &&_| known.is_none_or(|known| lacks(&known.authorities, one));
        news.trusted.extend(roots.filter(is_new).cloned());
        let gone = known.into_iter().flat_map(|known| &known.authorities);
        let is_gone = |one: &&_| lacks(&self.report.authorities, one);
        news.dropped.extend(gone.filter(is_gone).cloned());
    }
}

/// What a round has to tell.
#[derive(Default)]
struct News {
    problems: Vec<String>,
    /// Certificates that new handshakes show from now on.
    renewed: BTreeSet<CertificateFacts>,
    /// Roots that verify new handshakes from now on, and those that do no more.
    trusted: BTreeSet<CertificateFacts>,
    dropped: BTreeSet<CertificateFacts>,
}

impl News {
    fn tell(&self) {
        for certificate in &self.renewed {
            certificate.tell_renewed();
        }
        tell_roots(&self.trusted, "new handshakes are verified by");
        tell_roots(&self.dropped, "new handshakes are no longer verified by");
    }
}

/// Contexts by their descriptions, or why there is none.
struct Table<D: Described> {
    built: HashMap<Arc<D>, Result<Built<D::Context>, String>>,
    places: HashMap<String, Arc<D>>,
}

impl<D: Described> Default for Table<D> {
    fn default() -> Self {
        Self {
            built: HashMap::new(),
            places: HashMap::new(),
        }
    }
}

impl<D: Described> Table<D> {
    fn context(&self, tls: &D) -> Result<&Arc<D::Context>, &str> {
        match self.built.get(tls) {
            Some(Ok(built)) => Ok(&built.context),
            Some(Err(why)) => Err(why),
            None => Err(NOT_READ),
        }
    }

    /// The table for another snapshot, or for files that may have changed. What cannot be read
    /// keeps its old context, and is a problem.
    fn renewed(&self, round: &Round<'_>, news: &mut News) -> Self {
        let mut next = Self::default();
        for (place, tls) in D::all(round.places.snapshot) {
            next.places.insert(place.clone(), tls.clone());
            if next.built.contains_key(&tls) {
                continue;
            }
            let before = self.good(&tls);
            let whom = D::WHOM;
            let built = round.build(&*tls, before).or_else(|why| {
                // What the same place had, where only a path or a name is another.
                let moved = || self.places.get(&place).filter(|old| tls.moves(old));
                let before = before.or_else(|| self.good(moved()?));
                let (end, old) = match before {
                    Some(before) => {
                        let old = Built {
                            is_old: true,
                            ..before.clone()
                        };
                        ("what was in use stays", Ok(old))
                    }
                    None => ("handshakes fail until it is mended", Err(why.clone())),
                };
                news.problems.push(format!("TLS with {whom}: {why}; {end}"));
                old
            });
            if let Ok(built) = &built
                && !built.is_old
            {
                let problems = built.report.problems.iter();
                news.problems
                    .extend(problems.map(|problem| format!("TLS with {whom}: {problem}")));
            }
            if let (Some(before), Ok(built)) = (self.built.get(&tls), &built) {
                built.note_since(before.as_ref().ok(), news);
            }
            next.built.insert(tls, built);
        }
        next
    }

    fn good(&self, tls: &D) -> Option<&Built<D::Context>> {
        self.built.get(tls)?.as_ref().ok()
    }

    fn is_same(&self, other: &Self) -> bool {
        let fingerprint =
            |built: &Result<Built<_>, String>| built.as_ref().ok().map(|built| built.fingerprint);
        self.built.len() == other.built.len()
            && self.built.iter().all(|(tls, built)| {
                let other = other.built.get(tls);
                other.is_some_and(|other| fingerprint(other) == fingerprint(built))
            })
    }

    fn reports(&self) -> impl Iterator<Item = &CertificateReport> {
        self.built.values().flatten().map(|built| &*built.report)
    }
}

/// One reading of all files.
struct Round<'a> {
    places: Places<'a>,
    trust_domains: Vec<String>,
}

impl Round<'_> {
    fn build<D: Described>(
        &self,
        tls: &D,
        before: Option<&Built<D::Context>>,
    ) -> Result<Built<D::Context>, String> {
        let mut seen = Fingerprint::default();
        for domain in &self.trust_domains {
            seen.add(domain.as_bytes());
        }
        let material = tls.read(&self.places, &mut seen)?;
        let fingerprint = seen.value();
        if let Some(known) = before.filter(|known| known.fingerprint == fingerprint) {
            return Ok(Built {
                is_old: false,
                ..known.clone()
            });
        }
        let (context, report) = tls.build(material, &self.trust_domains)?;
        Ok(Built {
            context: Arc::new(context),
            fingerprint,
            report: Arc::new(report),
            is_old: false,
        })
    }
}

/// The contexts of a snapshot, found by their descriptions.
#[derive(Default)]
pub struct TlsContexts {
    servers: Table<DownstreamTls>,
    clients: Table<UpstreamTls>,
    /// How many descriptions have certificates that cannot be read.
    pub problems: usize,
}

const NOT_READ: &str = "its certificates have not been read yet";

impl TlsContexts {
    /// # Errors
    /// Why there is no context.
    pub fn server(&self, tls: &DownstreamTls) -> Result<&Arc<ServerContext>, &str> {
        self.servers.context(tls)
    }

    /// # Errors
    /// Why there is no context.
    pub fn client(&self, tls: &UpstreamTls) -> Result<&Arc<ClientContext>, &str> {
        self.clients.context(tls)
    }

    /// The certificates in use, each combination once, in order of their places.
    pub fn certificates(&self) -> Vec<CertificateReport> {
        let mut reports: Vec<_> = self
            .servers
            .reports()
            .chain(self.clients.reports())
            .collect();
        reports.retain(|report| !report.is_empty());
        reports.sort();
        reports.dedup();
        reports.into_iter().cloned().collect()
    }
}

/// Builds contexts, on the control thread.
pub struct TlsKeeper {
    config_roots: Vec<PathBuf>,
    reader: Reader,
    /// What was said, so that it is said once.
    told: Vec<String>,
    expiry: ExpiryWatch,
    current: Arc<TlsContexts>,
}

impl TlsKeeper {
    pub fn new(config_roots: Vec<PathBuf>) -> Self {
        Self {
            config_roots,
            reader: Reader::default(),
            told: Vec::new(),
            expiry: ExpiryWatch::default(),
            current: Arc::default(),
        }
    }

    /// Reads everything that `snapshot` names. The contexts, if they are others than before. What
    /// cannot be read keeps its old context, and is logged.
    pub fn refresh(&mut self, snapshot: &Snapshot) -> Option<Arc<TlsContexts>> {
        self.reader.forget_files();
        let trust_domains = snapshot.settings.trust_domains();
        let round = Round {
            places: Places {
                snapshot,
                config_roots: &self.config_roots,
                reader: &self.reader,
            },
            trust_domains: trust_domains.into_iter().map(str::to_string).collect(),
        };
        let mut news = News::default();
        let next = TlsContexts {
            servers: self.current.servers.renewed(&round, &mut news),
            clients: self.current.clients.renewed(&round, &mut news),
            problems: news.problems.len(),
        };
        news.tell();
        let problems = news.problems;
        for (at, problem) in problems.iter().enumerate() {
            // Several descriptions may have the same.
            if !self.told.contains(problem) && !problems[..at].contains(problem) {
                tracing::warn!("{problem}");
            }
        }
        self.told = problems;
        self.expiry.look(&next.certificates(), SystemTime::now());
        if next.servers.is_same(&self.current.servers)
            && next.clients.is_same(&self.current.clients)
            && next.problems == self.current.problems
        {
            return None;
        }
        self.current = Arc::new(next);
        Some(self.current.clone())
    }
}

/// The descriptions of all servers.
pub(super) fn servers(snapshot: &Snapshot) -> Vec<(String, Arc<DownstreamTls>)> {
    type Found = Vec<(String, Arc<DownstreamTls>)>;
    fn of_chains(listener: &Listener, chains: &FilterChains, found: &mut Found) {
        found.extend(chains.all().filter_map(|chain| {
            let place = format!("{} {:?}", listener.name, chain.matches);
            Some((place, chain.tls.clone()?))
        }));
    }
    fn of_listener(listener: &Listener, found: &mut Found) {
        match &listener.kind {
            ListenerKind::Http(_) => {}
            ListenerKind::Chains(chains) => of_chains(listener, chains, found),
            ListenerKind::Intercepted(outbound) => {
                for inner in outbound.listeners() {
                    of_listener(inner, found);
                }
                of_chains(listener, &outbound.fallback, found);
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
pub(super) fn clients(snapshot: &Snapshot) -> Vec<(String, Arc<UpstreamTls>)> {
    let clusters = snapshot.clusters.iter();
    clusters
        .filter_map(|cluster| Some((cluster.name.clone(), cluster.tls.clone()?)))
        .collect()
}
