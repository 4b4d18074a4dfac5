//! Certificates in use, for people and metrics, and warnings before they expire. No key is here.

use super::certificate::PeerCertificate;
use crate::control::access_log::write_time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The certificates of one context.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateReport {
    /// The authorities that peers are verified by, but for those of the operating system.
    pub authorities: Vec<CertificateFacts>,
    /// What is shown to peers: the leaf of each chain.
    pub leaves: Vec<CertificateFacts>,
    /// What is wrong, though it can be used.
    pub problems: Vec<String>,
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificateFacts {
    /// A path, or the name of a secret.
    pub place: String,
    /// In lower-case hex.
    pub serial_number: String,
    /// As RFC 2253 writes it.
    pub subject: String,
    pub uris: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
}

impl CertificateFacts {
    /// Of a certificate in DER; `None` when it is none.
    pub(super) fn read(der: &[u8], place: &str) -> Option<Self> {
        let certificate = PeerCertificate::read(der)?;
        Some(Self {
            place: place.to_string(),
            serial_number: certificate.serial_number,
            subject: certificate.subject,
            uris: certificate.uris,
            dns_names: certificate.dns_names,
            ip_addresses: certificate.ip_addresses,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
        })
    }

    /// Whole days until it expires; 0 when it has.
    pub fn days_until_expiration(&self, now: SystemTime) -> u64 {
        self.left(now).as_secs() / DAY.as_secs()
    }

    /// Says that new handshakes show it.
    pub(super) fn tell_renewed(&self) {
        let Self {
            place,
            serial_number,
            ..
        } = self;
        let until = timestamp(self.not_after);
        tracing::info!(
            "the certificate {serial_number} of {place}, good until {until}, serves new handshakes"
        );
    }

    fn left(&self, now: SystemTime) -> Duration {
        let end = u64::try_from(self.not_after).unwrap_or(0);
        let end = UNIX_EPOCH + Duration::from_secs(end);
        end.duration_since(now).unwrap_or_default()
    }

    /// A tenth of its life, and at most thirty days: who renews in time has done so by then.
    fn warns_before(&self) -> Duration {
        let life = u64::try_from(self.not_after.saturating_sub(self.not_before)).unwrap_or(0);
        (Duration::from_secs(life) / 10).min(30 * DAY)
    }
}

/// Says of each place which of its roots this holds for: by name if they are few.
pub(super) fn tell_roots(roots: &BTreeSet<CertificateFacts>, what: &str) {
    let roots: Vec<_> = roots.iter().collect();
    for of_one_place in roots.chunk_by(|one, next| one.place == next.place) {
        let place = &of_one_place[0].place;
        if of_one_place.len() > MOST_ROOTS_BY_NAME {
            let count = of_one_place.len();
            tracing::info!("{what} {count} roots of {place}");
            continue;
        }
        for root in of_one_place {
            let serial_number = &root.serial_number;
            let until = timestamp(root.not_after);
            tracing::info!("{what} the root {serial_number} of {place}, good until {until}");
        }
    }
}

/// Bundles of an operating system hold more than a hundred.
const MOST_ROOTS_BY_NAME: usize = 8;

impl CertificateReport {
    pub fn is_empty(&self) -> bool {
        self.authorities.is_empty() && self.leaves.is_empty()
    }

    pub fn certificates(&self) -> impl Iterator<Item = &CertificateFacts> {
        self.authorities.iter().chain(&self.leaves)
    }
}

/// `2026-01-31T12:00:00Z` of seconds since 1970.
pub fn timestamp(seconds: i64) -> String {
    let mut text = Vec::new();
    let unix_ms = u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
    write_time(unix_ms, &mut text);
    String::from_utf8_lossy(&text).replace(".000Z", "Z")
}

const DAY: Duration = Duration::from_secs(86_400);

/// How far a certificate has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Expiring,
    Expired,
}

/// Warns of each certificate once when it is about to expire, and once when it has.
#[derive(Debug, Default)]
pub struct ExpiryWatch {
    told: BTreeMap<(String, String), Stage>,
}

impl ExpiryWatch {
    /// Looks at the certificates in use at this time.
    pub fn look(&mut self, reports: &[CertificateReport], now: SystemTime) {
        let mut told = BTreeMap::new();
        for certificate in reports.iter().flat_map(CertificateReport::certificates) {
            let left = certificate.left(now);
            let stage = match () {
                () if left.is_zero() => Stage::Expired,
                () if left < certificate.warns_before() => Stage::Expiring,
                () => continue,
            };
            let key = (certificate.place.clone(), certificate.serial_number.clone());
            let is_new = self.told.get(&key) != Some(&stage) && !told.contains_key(&key);
            if is_new {
                warn(certificate, stage, left);
            }
            told.insert(key, stage);
        }
        self.told = told;
    }
}

fn warn(certificate: &CertificateFacts, stage: Stage, left: Duration) {
    let CertificateFacts {
        place,
        serial_number,
        ..
    } = certificate;
    match stage {
        Stage::Expired => tracing::warn!(
            "the certificate {serial_number} of {place} has expired: peers refuse it; put a \
             renewed one into its place"
        ),
        Stage::Expiring => {
            let hours = left.as_secs() / 3600;
            tracing::warn!(
                "the certificate {serial_number} of {place} expires in {} days and {} hours; put \
                 a renewed one into its place",
                hours / 24,
                hours % 24
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(days: i64) -> CertificateFacts {
        CertificateFacts {
            place: "a.pem".to_string(),
            serial_number: "01".to_string(),
            subject: String::new(),
            uris: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            not_before: 0,
            not_after: days * 86_400,
        }
    }

    fn after(days: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(days * 86_400)
    }

    #[test]
    fn days_are_whole_and_never_negative() {
        let certificate = certificate(100);
        assert_eq!(certificate.days_until_expiration(after(0)), 100);
        let a_moment_later = after(99) + Duration::from_secs(1);
        assert_eq!(certificate.days_until_expiration(a_moment_later), 0);
        assert_eq!(certificate.days_until_expiration(after(200)), 0);
    }

    #[test]
    fn a_certificate_is_expiring_in_its_last_tenth_and_its_last_month_at_most() {
        for (life, first_day) in [(100, 91), (3650, 3621)] {
            let report = CertificateReport {
                leaves: vec![certificate(life)],
                ..CertificateReport::default()
            };
            let mut watch = ExpiryWatch::default();
            let mut stage = |day| {
                watch.look(std::slice::from_ref(&report), after(day));
                watch.told.values().next().copied()
            };
            assert_eq!(stage(first_day - 1), None);
            assert_eq!(stage(first_day), Some(Stage::Expiring));
            assert_eq!(stage(life as u64), Some(Stage::Expired));
            assert_eq!(stage(1), None, "renewed");
        }
    }
}
