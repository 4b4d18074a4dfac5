//! `headers`: what is set, added and removed, and the Host that may hide among it.

use std::collections::BTreeMap;

use crate::resource::virtual_service::{HeaderOperations, Headers};
use crate::snapshot::{HeaderEdits, HeaderValue, HeaderWrite, WriteMode, is_framing_header};

/// `headers` of a rule or a destination.
#[derive(Debug, Default)]
pub struct Edits {
    pub request: HeaderEdits,
    pub response: HeaderEdits,
    /// The value of `:authority` or `host`; that of `set` before that of `add`.
    pub authority: Option<String>,
}

/// Translates `headers`.
pub fn edits(headers: Option<&Headers>) -> Edits {
    let mut edits = Edits::default();
    let Some(headers) = headers else { return edits };
    if let Some(request) = &headers.request {
        edits.authority = authority(&request.set).or_else(|| authority(&request.add));
        edits.request = operations(request);
    }
    if let Some(response) = &headers.response {
        edits.response = operations(response);
        // The proxy names itself last of all, whatever was asked for.
        let is_server = |name: &str| name == "server";
        edits.response.remove.retain(|name| !is_server(name));
        edits.response.write.retain(|line| !is_server(&line.name));
    }
    edits
}

fn authority(written: &BTreeMap<String, String>) -> Option<String> {
    let mut found = written.iter().filter(|(name, _)| {
        name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
    });
    found
        .next_back()
        .map(|(_, value)| value.clone())
        .filter(|value| !value.is_empty())
}

/// Names that no edit may touch.
fn is_internal(name: &str) -> bool {
    name.starts_with(':') || name.eq_ignore_ascii_case("host") || is_framing_header(name)
}

fn operations(written: &HeaderOperations) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    for name in written.remove.iter().filter(|name| !is_internal(name)) {
        edits.remove.push(name.to_ascii_lowercase());
    }
    for (entries, mode) in [
        (&written.set, WriteMode::Set),
        (&written.add, WriteMode::Add),
    ] {
        // Envoy writes no header whose value is empty, and leaves the one that is there.
        let written = |(name, value): &(&String, &String)| !is_internal(name) && !value.is_empty();
        for (name, value) in entries.iter().filter(written) {
            // What is no format was reported where it is written.
            if let Ok(value) = HeaderValue::parse(value) {
                let name = name.to_ascii_lowercase();
                edits.write.push(HeaderWrite { name, value, mode });
            }
        }
    }
    edits
}
