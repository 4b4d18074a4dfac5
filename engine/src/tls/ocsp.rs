//! Answers of authorities about certificates (OCSP, RFC 6960 section 4.2.1), as far as has to be known
//! before they are stapled. Whether they are signed is for clients to verify.

use der::Decode as _;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_ocsp::{BasicOcspResponse, OcspResponse, OcspResponseStatus, SingleResponse};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Whether `answer` may be stapled to a certificate.
///
/// # Errors
/// Why not.
pub fn judge(answer: &[u8], certificate: &[u8], now: SystemTime) -> Result<(), &'static str> {
    let all = singles(answer).ok_or("is no answer of OCSP that tells of certificates")?;
    let parsed = X509Certificate::from_der(certificate).ok();
    let own = parsed.and_then(|(_, parsed)| {
        let serial_number = without_zeros(parsed.raw_serial());
        let mut all = all.iter();
        all.find(|single| without_zeros(single.cert_id.serial_number.as_bytes()) == serial_number)
    });
    match own {
        None => Err("is about another certificate"),
        Some(single) if is_past(single, now) => Err("has expired"),
        Some(_) => Ok(()),
    }
}

/// Whether something that `answer` tells has expired.
pub fn has_expired(answer: &[u8], now: SystemTime) -> bool {
    let all = singles(answer).unwrap_or_default();
    all.iter().any(|single| is_past(single, now))
}

/// Whether there is a newer answer, by what this one says.
fn is_past(single: &SingleResponse, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let next_update = single.next_update.as_ref();
    next_update.is_some_and(|time| time.0.to_unix_duration().as_secs() < now.as_secs())
}

/// What `answer` says of each certificate; `None` if it is no successful answer.
fn singles(answer: &[u8]) -> Option<Vec<SingleResponse>> {
    let response = OcspResponse::from_der(answer).ok()?;
    if response.response_status != OcspResponseStatus::Successful {
        return None;
    }
    let bytes = response.response_bytes?.response;
    let basic = BasicOcspResponse::from_der(bytes.as_bytes()).ok()?;
    Some(basic.tbs_response_data.responses)
}

/// A number without what only keeps it from being read as negative.
fn without_zeros(mut number: &[u8]) -> &[u8] {
    while let [0, rest @ ..] = number {
        number = rest;
    }
    number
}
