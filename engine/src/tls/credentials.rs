//! Reading certificates and keys from where the configuration says they are.
//!
//! Errors name the place and never what is in it.

use super::ocsp;
use super::report::CertificateFacts;
use ringroad_policy::diagnostic::without_keys;
use ringroad_policy::snapshot::{CredentialSource, Snapshot, TrustSource};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A certificate with its chain and key.
pub struct Credential {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub ocsp: Option<Vec<u8>>,
    /// Why what lies there is not stapled.
    pub ocsp_problem: Option<String>,
    /// For people: where it is from.
    pub place: String,
    /// The same of the key.
    pub key_place: String,
}

/// The texts of a certificate with its chain and key, as they were read.
pub struct CredentialText {
    chain: Arc<[u8]>,
    key: Arc<[u8]>,
    ocsp: Option<Arc<[u8]>>,
    place: String,
    key_place: String,
}

/// Authorities to trust, or other entries of a file, as they were read.
pub enum RootsText {
    Pem {
        pem: Arc<[u8]>,
        place: String,
    },
    /// Those of the operating system.
    System(Arc<Vec<CertificateDer<'static>>>),
}

/// Where secrets and files are looked for.
pub struct Places<'a> {
    pub snapshot: &'a Snapshot,
    /// The configuration folders: each may hold a folder with a secret's name.
    pub config_roots: &'a [PathBuf],
    pub reader: &'a Reader,
}

/// Reads each file once a round, however many descriptions name it.
#[derive(Default)]
pub struct Reader {
    files: RefCell<HashMap<PathBuf, FileText>>,
    /// Read once: these change with the system, and take a while.
    system_roots: OnceCell<Arc<Vec<CertificateDer<'static>>>>,
}

/// What a file holds, or why it cannot be read.
type FileText = Result<Arc<[u8]>, String>;

impl Reader {
    /// A new round begins.
    pub fn forget_files(&self) {
        self.files.borrow_mut().clear();
    }

    fn file(&self, path: &Path) -> FileText {
        let mut files = self.files.borrow_mut();
        let known = files.get(path).cloned();
        known.unwrap_or_else(|| {
            let text = read(path).map(Arc::from);
            files.insert(path.to_path_buf(), text.clone());
            text
        })
    }

    fn system_roots(&self) -> Arc<Vec<CertificateDer<'static>>> {
        let load = || Arc::new(rustls_native_certs::load_native_certs().certs);
        self.system_roots.get_or_init(load).clone()
    }
}

/// What was read, so that a change is seen.
#[derive(Default)]
pub struct Fingerprint(DefaultHasher);

impl Fingerprint {
    pub fn add(&mut self, bytes: &[u8]) {
        bytes.hash(&mut self.0);
    }

    pub fn value(&self) -> u64 {
        self.0.finish()
    }
}

/// Names under which a secret keeps a certificate, a key and a root.
const CERTIFICATE_KEYS: &[&str] = &["tls.crt", "cert"];
const KEY_KEYS: &[&str] = &["tls.key", "key"];
const ROOT_KEYS: &[&str] = &["ca.crt", "cacert"];
const OCSP_KEY: &str = "tls.ocsp-staple";
/// What a file of its own is called behind the name of a certificate's file.
const OCSP_SUFFIX: &str = ".ocsp";
/// The longest file that is taken for a certificate or a key.
const MOST_FILE_BYTES: u64 = 4 * 1024 * 1024;

impl Places<'_> {
    /// A certificate and its key.
    ///
    /// # Errors
    /// What is missing or broken, and where.
    pub fn credential(
        &self,
        source: &CredentialSource,
        seen: &mut Fingerprint,
    ) -> Result<CredentialText, String> {
        match source {
            CredentialSource::Workload => {
                let files = &self.snapshot.settings.certificates;
                self.credential_files(&files.chain, &files.key, seen)
            }
            CredentialSource::Files { certificate, key } => {
                self.credential_files(certificate, key, seen)
            }
            CredentialSource::Secret { namespace, name } => {
                let place = place_of(namespace.as_deref(), name);
                let entries = self
                    .secret(namespace.as_deref(), name)
                    .ok_or_else(|| self.no_secret(&place, name, "tls.crt and tls.key"))?;
                let entry = |keys: &[&str]| keys.iter().find_map(|key| entries.get(*key));
                let lacks = |key| format!("{place} has no `{key}`{}", unknown_keys(&entries));
                let chain = entry(CERTIFICATE_KEYS).ok_or_else(|| lacks("tls.crt"))?;
                let key = entry(KEY_KEYS).ok_or_else(|| lacks("tls.key"))?;
                let ocsp = entries.get(OCSP_KEY).cloned();
                let text = CredentialText {
                    chain: Arc::from(chain.as_slice()),
                    key: Arc::from(key.as_slice()),
                    ocsp: ocsp.map(Arc::from),
                    key_place: format!("`tls.key` of {place}"),
                    place,
                };
                Ok(text.seen(seen))
            }
        }
    }

    fn credential_files(
        &self,
        certificate: &str,
        key: &str,
        seen: &mut Fingerprint,
    ) -> Result<CredentialText, String> {
        let own_staple = format!("{certificate}{OCSP_SUFFIX}");
        let staple = Path::new(certificate).with_file_name(OCSP_KEY);
        let staple = self
            .reader
            .file(Path::new(&own_staple))
            .or_else(|_| self.reader.file(&staple));
        let text = CredentialText {
            chain: self.reader.file(Path::new(certificate))?,
            key: self.reader.file(Path::new(key))?,
            ocsp: staple.ok(),
            place: certificate.to_string(),
            key_place: key.to_string(),
        };
        Ok(text.seen(seen))
    }

    /// Authorities to trust.
    ///
    /// # Errors
    /// What is missing or broken, and where.
    pub fn roots(&self, source: &TrustSource, seen: &mut Fingerprint) -> Result<RootsText, String> {
        match source {
            TrustSource::System => Ok(RootsText::System(self.reader.system_roots())),
            TrustSource::Workload => self.file(&self.snapshot.settings.certificates.roots, seen),
            TrustSource::File(path) => self.file(path, seen),
            TrustSource::Secret { namespace, name } => {
                let place = place_of(namespace.as_deref(), name);
                let beside = format!("{name}-cacert");
                let of = |name: &str| {
                    let entries = self.secret(namespace.as_deref(), name)?;
                    let key = ROOT_KEYS.iter().find(|key| entries.contains_key(**key))?;
                    let place = format!("`{key}` of {}", place_of(namespace.as_deref(), name));
                    Some((entries.get(*key)?.clone(), place))
                };
                let found = of(&beside).or_else(|| of(name));
                let (pem, place) = found.ok_or_else(|| {
                    let Some(own) = self.secret(namespace.as_deref(), name) else {
                        return self.no_secret(&place, name, "ca.crt");
                    };
                    let unknown = unknown_keys(&own);
                    format!("{place} has no `ca.crt`{unknown}, and there is no secret `{beside}`")
                })?;
                seen.add(&pem);
                let pem = Arc::from(pem);
                Ok(RootsText::Pem { pem, place })
            }
        }
    }

    /// A file of certificates, or of lists of revoked ones.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn file(&self, path: &str, seen: &mut Fingerprint) -> Result<RootsText, String> {
        let pem = self.reader.file(Path::new(path))?;
        seen.add(&pem);
        let place = path.to_string();
        Ok(RootsText::Pem { pem, place })
    }

    /// The entries of a secret: of a document, else of a folder of that name.
    fn secret(&self, namespace: Option<&str>, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let secrets = &self.snapshot.secrets;
        let settings = &self.snapshot.settings;
        let written = match namespace {
            Some(namespace) => secrets.get(namespace, name),
            None => secrets.find(&[settings.namespace.as_str()], name),
        };
        written.cloned().or_else(|| self.folder(name))
    }

    fn folder(&self, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        // A name is one step of a path: no way out of the folder.
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return None;
        }
        let settings = &self.snapshot.settings;
        let own = settings.certificates.credentials_directory.as_ref();
        let roots = own.map(PathBuf::from).into_iter();
        let mut folders = roots
            .chain(self.config_roots.iter().cloned())
            .map(|root| root.join(name));
        let folder = folders.find(|folder| folder.is_dir())?;
        let keys = [CERTIFICATE_KEYS, KEY_KEYS, ROOT_KEYS, &[OCSP_KEY]].concat();
        let entries = keys.into_iter().filter_map(|key| {
            Some((
                key.to_string(),
                self.reader.file(&folder.join(key)).ok()?.to_vec(),
            ))
        });
        Some(entries.collect())
    }

    /// `files` are those of a folder in its place.
    fn no_secret(&self, place: &str, name: &str, files: &str) -> String {
        let folders: Vec<String> = self
            .config_roots
            .iter()
            .map(|root| root.join(without_keys(name)).display().to_string())
            .collect();
        format!(
            "there is no {place}: write a `kind: Secret` document, or put {files} into {}",
            folders.join(" or ")
        )
    }
}

/// Names of entries of a secret that are longer are not shown.
const LONGEST_SHOWN_NAME: usize = 39;

/// What else a secret has, which may be a key that is misspelt.
fn unknown_keys(entries: &BTreeMap<String, Vec<u8>>) -> String {
    let known = [CERTIFICATE_KEYS, KEY_KEYS, ROOT_KEYS, &[OCSP_KEY]].concat();
    let unknown = entries.keys().filter(|key| !known.contains(&key.as_str()));
    // A part of a key may stand where a name belongs.
    let unknown: Vec<String> = unknown
        .map(|key| match key.len() <= LONGEST_SHOWN_NAME {
            true => format!("`{key}`"),
            false => "a long name".to_string(),
        })
        .collect();
    match unknown.is_empty() {
        true => String::new(),
        false => format!(" (but {}, which means nothing)", unknown.join(", ")),
    }
}

fn place_of(namespace: Option<&str>, name: &str) -> String {
    let whole = namespace.map(|namespace| format!("{namespace}/{name}"));
    format!(
        "secret `{}`",
        without_keys(whole.as_deref().unwrap_or(name))
    )
}

impl CredentialText {
    fn seen(self, seen: &mut Fingerprint) -> Self {
        seen.add(&self.chain);
        seen.add(&self.key);
        let ocsp = self.ocsp.as_deref().unwrap_or_default();
        seen.add(ocsp);
        seen.add(&[u8::from(ocsp::has_expired(ocsp, SystemTime::now()))]);
        self
    }

    /// What is in it.
    ///
    /// # Errors
    /// It is no PEM.
    pub fn parse(&self) -> Result<Credential, String> {
        let Self {
            chain,
            key,
            ocsp,
            place,
            key_place,
        } = self;
        let chain = certificates(chain, place)?;
        let leaf = chain.first().map_or(&[][..], |leaf| leaf);
        let judged = ocsp
            .as_deref()
            .map(|answer| ocsp::judge(answer, leaf, SystemTime::now()));
        let refusal = judged.and_then(Result::err);
        Ok(Credential {
            ocsp: ocsp
                .as_deref()
                .filter(|_| refusal.is_none())
                .map(<[u8]>::to_vec),
            ocsp_problem: refusal
                .map(|why| format!("the OCSP answer beside {place} {why}: it is not stapled")),
            chain,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|_| no_key(key, key_place))?,
            place: place.clone(),
            key_place: key_place.clone(),
        })
    }
}

impl Credential {
    /// Why the library does not take it.
    pub fn refusal(place: &str, key_place: &str, error: &rustls::Error) -> String {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key in {key_place} is not that of the certificate in {place}")
            }
            _ => format!("the key in {key_place} cannot be used with the certificate in {place}"),
        }
    }
}

/// Why no key is found in a text.
fn no_key(pem: &[u8], place: &str) -> String {
    let text = String::from_utf8_lossy(pem);
    let is_encrypted =
        text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED");
    match is_encrypted {
        true => format!("the key in {place} is encrypted: put it there without a passphrase"),
        false => format!("{place} holds no private key in PEM"),
    }
}

impl RootsText {
    /// The certificates in it.
    ///
    /// # Errors
    /// It is no PEM.
    pub fn parse(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        match self {
            Self::Pem { pem, place } => certificates(pem, place),
            Self::System(roots) => Ok(roots.to_vec()),
        }
    }

    /// What there is to tell of these; nothing of the operating system's.
    pub fn facts(&self, certificates: &[CertificateDer<'_>]) -> Vec<CertificateFacts> {
        match self {
            Self::Pem { place, .. } => certificates
                .iter()
                .filter_map(|one| CertificateFacts::read(one, place))
                .collect(),
            Self::System(_) => Vec::new(),
        }
    }
}

/// The lists of revoked certificates in a file.
///
/// # Errors
/// It is no PEM.
pub fn revocations(text: &RootsText) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let RootsText::Pem { pem, place } = text else {
        return Ok(Vec::new());
    };
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{place} holds no revocation list in PEM")),
    }
}

fn certificates(pem: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ if String::from_utf8_lossy(pem).contains("PRIVATE KEY-----") => Err(format!(
            "{place} holds a private key where its certificate should be"
        )),
        _ => Err(format!("{place} holds no certificate in PEM")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let found = std::fs::metadata(path).map_err(failed)?;
    // A pipe would be waited for without end.
    if !found.is_file() {
        return Err(format!("{} is no regular file", path.display()));
    }
    if found.len() > MOST_FILE_BYTES {
        return Err(format!("{} is too long for a certificate", path.display()));
    }
    std::fs::read(path).map_err(failed)
}
