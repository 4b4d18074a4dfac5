//! What the parser says of a request.

use ringroad_codec::http1::*;

/// It is taken.
pub const PASS: Option<HeadErrorKind> = None;

fn verdict(bytes: &[u8]) -> Option<HeadErrorKind> {
    let mut head = RequestHead::default();
    match parse_request(bytes, &HeadLimits::default(), &mut head) {
        Ok(Progress::Complete) => None,
        Ok(Progress::Incomplete) => panic!("incomplete: {:?}", String::from_utf8_lossy(bytes)),
        Err(error) => Some(error.kind),
    }
}

fn verdict_of_drip(bytes: &[u8]) -> Option<HeadErrorKind> {
    let mut head = RequestHead::default();
    for end in 1..=bytes.len() {
        match parse_request(&bytes[..end], &HeadLimits::default(), &mut head) {
            Ok(Progress::Complete) => return None,
            Ok(Progress::Incomplete) => {}
            Err(error) => return Some(error.kind),
        }
    }
    panic!("incomplete: {:?}", String::from_utf8_lossy(bytes));
}

/// Every request has its verdict, fed whole and byte by byte.
pub fn check(vectors: &[(&str, Option<HeadErrorKind>)]) {
    let mut wrong = Vec::new();
    for (bytes, expected) in vectors {
        for (way, found) in [
            ("whole", verdict(bytes.as_bytes())),
            ("drip", verdict_of_drip(bytes.as_bytes())),
        ] {
            if found != *expected {
                wrong.push(format!(
                    "{way} {bytes:?}: expected {expected:?}, found {found:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `POST / HTTP/1.1` with a Host and these lines.
pub fn check_headers(vectors: &[(&str, Option<HeadErrorKind>)]) {
    let whole: Vec<(String, Option<HeadErrorKind>)> = vectors
        .iter()
        .map(|(lines, verdict)| {
            (
                format!("POST / HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n\r\n"),
                *verdict,
            )
        })
        .collect();
    check(
        &whole
            .iter()
            .map(|(bytes, verdict)| (bytes.as_str(), *verdict))
            .collect::<Vec<_>>(),
    );
}
