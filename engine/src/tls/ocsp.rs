//! Answers of authorities about certificates (OCSP, RFC 6960 section 4.2.1), as far as has to be known
//! before they are stapled. Whether they are signed is for clients to verify.

use super::report::timestamp;
use std::time::{SystemTime, UNIX_EPOCH};
use x509_parser::prelude::{FromDer as _, X509Certificate};

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const ENUMERATED: u8 = 0x0a;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// What is explicitly tagged with 0.
const TAGGED_0: u8 = 0xa0;

/// What an answer says of one certificate.
struct Single<'a> {
    serial_number: &'a [u8],
    /// When there is a newer one: year to second, in digits.
    next_update: Option<&'a [u8]>,
}

/// Whether `answer` may be stapled to a certificate.
///
/// # Errors
/// Why not.
pub fn judge(answer: &[u8], certificate: &[u8], now: SystemTime) -> Result<(), &'static str> {
    let all = singles(answer).ok_or("is no answer of OCSP that tells of certificates")?;
    let parsed = X509Certificate::from_der(certificate).ok();
    let serial_number = parsed.as_ref().map(|(_, parsed)| parsed.raw_serial());
    let own = all
        .iter()
        .find(|single| Some(single.serial_number) == serial_number);
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

fn is_past(single: &Single<'_>, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = timestamp(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
    let digits = |text: &[u8]| -> Vec<u8> {
        let digits = text.iter().filter(|byte| byte.is_ascii_digit());
        digits.take("YYYYMMDDhhmmss".len()).copied().collect()
    };
    single
        .next_update
        .is_some_and(|end| digits(end) < digits(now.as_bytes()))
}

fn singles(answer: &[u8]) -> Option<Vec<Single<'_>>> {
    let mut answer = content(&mut &*answer, SEQUENCE)?;
    // Anything but 0 is no success.
    if content(&mut answer, ENUMERATED)? != [0] {
        return None;
    }
    let mut bytes = content(&mut content(&mut answer, TAGGED_0)?, SEQUENCE)?;
    content(&mut bytes, OBJECT_IDENTIFIER)?;
    let mut basic = content(&mut content(&mut bytes, OCTET_STRING)?, SEQUENCE)?;
    let mut data = content(&mut basic, SEQUENCE)?;
    // A version, who answers, and when stand before the list.
    let mut list = loop {
        if let (SEQUENCE, list) = element(&mut data)? {
            break list;
        }
    };
    let mut all = Vec::new();
    while !list.is_empty() {
        all.push(single(content(&mut list, SEQUENCE)?)?);
    }
    Some(all)
}

fn single(mut bytes: &[u8]) -> Option<Single<'_>> {
    let mut id = content(&mut bytes, SEQUENCE)?;
    content(&mut id, SEQUENCE)?;
    content(&mut id, OCTET_STRING)?;
    content(&mut id, OCTET_STRING)?;
    let serial_number = content(&mut id, INTEGER)?;
    let _status = element(&mut bytes)?;
    content(&mut bytes, GENERALIZED_TIME)?;
    let next_update = match element(&mut bytes) {
        Some((TAGGED_0, mut time)) => Some(content(&mut time, GENERALIZED_TIME)?),
        _ => None,
    };
    Some(Single {
        serial_number,
        next_update,
    })
}

/// The content of the next element of DER, if it has this tag.
fn content<'a>(bytes: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (found, content) = element(bytes)?;
    (found == tag).then_some(content)
}

/// The next element of DER: its tag and its content.
fn element<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        ..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (len, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let digits = len.iter();
            let len = digits.fold(0, |len, byte| len << 8 | usize::from(*byte));
            (len, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    *bytes = rest;
    Some((tag, content))
}
