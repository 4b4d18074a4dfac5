//! `ringroad certs`: certificates for development.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::{CertsArgs, EXIT_USAGE, print_out};

const ROOT_CERTIFICATE: &str = "root-cert.pem";
const ROOT_KEY: &str = "root-key.pem";
const CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";

const DAY: Duration = Duration::from_secs(86_400);
/// Clocks of other machines may be a little behind.
const BACKDATE: Duration = Duration::from_secs(300);
/// How long the root is good.
const ROOT_DAYS: u32 = 3650;

pub fn certs(args: &CertsArgs) -> ExitCode {
    let accounts: Result<Vec<_>, String> = args
        .workloads
        .iter()
        .map(|text| Account::parse(text))
        .collect();
    let accounts = match check_names(args).and(accounts) {
        Ok(accounts) => accounts,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    match write_all(args, &accounts) {
        Ok(told) => {
            print_out(&told);
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whom a certificate is for.
struct Account<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl<'a> Account<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
        // A step of a path and of an identity, as Kubernetes allows them.
        let is_label = |text: &str| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            !text.is_empty() && text.chars().all(allowed)
        };
        match is_label(namespace) && is_label(name) {
            true => Ok(Self { namespace, name }),
            false => Err(format!(
                "`{text}` is no service account: write NAMESPACE/ACCOUNT, such as shop/cart, of \
                 lower-case letters, digits and `-`"
            )),
        }
    }
}

/// Names that no peer could verify are refused, before any file is written.
fn check_names(args: &CertsArgs) -> Result<(), String> {
    let domain = &args.trust_domain;
    // SPIFFE-ID section 2.1.
    let is_of_domain =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
    if domain.is_empty() || domain.len() > MOST_NAME_BYTES || !domain.chars().all(is_of_domain) {
        return Err(format!(
            "`{domain}` is no trust domain: write lower-case letters, digits, `.`, `-` and `_`, \
             such as cluster.local"
        ));
    }
    match args.dns.iter().find(|name| !is_dns_name(name)) {
        Some(name) => Err(format!(
            "`{name}` is no host name: write one such as shop.example.com or *.example.com"
        )),
        None => Ok(()),
    }
}

/// RFC 1035 section 2.3.4.
const MOST_NAME_BYTES: usize = 255;

/// A host name; its first label may be `*`.
fn is_dns_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(is_allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let rest = name.strip_prefix("*.").unwrap_or(name);
    name.len() <= MOST_NAME_BYTES && rest.split('.').all(is_label)
}

fn write_all(args: &CertsArgs, accounts: &[Account<'_>]) -> Result<String, String> {
    let domain = &args.trust_domain;
    let folder = &args.out;
    make_folder(folder)?;
    let mut told = String::new();
    let root = Root::load(folder)?;
    let root = match root {
        Some(root) => {
            let _ = writeln!(told, "kept   {}", folder.join(ROOT_CERTIFICATE).display());
            root
        }
        None => {
            let root = Root::new(domain)?;
            write_file(&folder.join(ROOT_KEY), &root.issuer.key().serialize_pem())?;
            write_file(&folder.join(ROOT_CERTIFICATE), &root.certificate)?;
            let _ = writeln!(told, "made   {}", folder.join(ROOT_CERTIFICATE).display());
            root
        }
    };
    for Account { namespace, name } in accounts {
        let identity = format!("spiffe://{domain}/ns/{namespace}/sa/{name}");
        let (chain, key) = root.issue(&identity, &args.dns, args.days)?;
        let own = folder.join(namespace).join(name);
        make_folder(&own)?;
        write_file(&own.join(KEY), &key)?;
        write_file(&own.join(CHAIN), &chain)?;
        write_file(&own.join(ROOT_CERTIFICATE), &root.certificate)?;
        let _ = writeln!(told, "made   {}  {identity}", own.display());
    }
    Ok(told)
}

/// The authority that all others are signed by.
struct Root {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Root {
    fn new(trust_domain: &str) -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("the root cannot be made: {error}");
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(ROOT_DAYS)?;
        params.distinguished_name.push(
            DnType::CommonName,
            format!("Ringroad development root of {trust_domain}"),
        );
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self {
            issuer,
            certificate,
        })
    }

    /// The one that is there, if it is.
    fn load(folder: &Path) -> Result<Option<Self>, String> {
        let (certificate, key) = (folder.join(ROOT_CERTIFICATE), folder.join(ROOT_KEY));
        let (certificate, key_pem) = match (read(&certificate)?, read(&key)?) {
            (None, None) => return Ok(None),
            (Some(certificate), Some(key)) => (certificate, key),
            _ => {
                return Err(format!(
                    "{} has one of {ROOT_CERTIFICATE} and {ROOT_KEY} and not the other: bring \
                     it back, or remove both for a new root",
                    folder.display()
                ));
            }
        };
        // What is wrong with it could quote from it.
        let broken = |_| {
            format!("{ROOT_KEY} or {ROOT_CERTIFICATE} cannot be used; remove both for a new root")
        };
        let key = KeyPair::from_pem(&key_pem).map_err(broken)?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(broken)?;
        Ok(Some(Self {
            issuer,
            certificate,
        }))
    }

    /// A certificate for a workload and its key, in PEM.
    fn issue(&self, identity: &str, dns: &[String], days: u32) -> Result<(String, String), String> {
        let failed = |error: rcgen::Error| format!("{identity}: {error}");
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params(days)?;
        let uri = identity.try_into().map_err(failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        for name in dns {
            let name = name.as_str().try_into().map_err(failed)?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Good from now on for so many days, with an empty subject, as Istio's are.
fn params(days: u32) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

fn make_folder(path: &Path) -> Result<(), String> {
    fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Writes a file that only its owner reads, and moves it into place whole.
fn write_file(path: &Path, text: &str) -> Result<(), String> {
    let mut beside = PathBuf::from(path);
    beside.set_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|error: io::Error| {
        // The error is told; what is left behind of the file is not worth another.
        let _ = fs::remove_file(&beside);
        format!("{}: {error}", path.display())
    })
}
