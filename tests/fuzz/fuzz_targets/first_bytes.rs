//! The first bytes of a connection: once judged, more bytes change nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringroad_codec::proxy_protocol::parse_proxy_header;
use ringroad_codec::sniff::{Sniff, sniff};

fuzz_target!(|data: &[u8]| {
    let Some((cut, bytes)) = data.split_first() else {
        return;
    };
    let early = &bytes[..bytes.len() * usize::from(*cut) / 256];

    let whole = sniff(bytes);
    let sniffed_early = sniff(early);
    assert!(sniffed_early == Sniff::Incomplete || sniffed_early == whole);

    let whole = parse_proxy_header(bytes);
    let parsed_early = parse_proxy_header(early);
    assert!(parsed_early == Ok(None) || parsed_early == whole);
    if let Ok(Some(header)) = whole {
        assert!(header.len <= bytes.len());
    }
});
