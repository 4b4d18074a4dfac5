//! Bodies: pieces and whole give one verdict and one payload; what is written anew reads back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringroad_codec::http1::*;

fn read(
    framing: BodyFraming,
    limits: &BodyLimits,
    bytes: &[u8],
    step: usize,
) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut scanner = BodyScanner::new(framing, limits);
    let mut shadow = BodyScanner::new(framing, limits);
    let mut payload = Vec::new();
    let mut at = 0;
    while at < bytes.len() && !scanner.is_complete() {
        let piece = &bytes[at..(at + step).min(bytes.len())];
        let decoded = scanner.decode(piece, |run| payload.extend_from_slice(run));
        assert_eq!(decoded, shadow.scan(piece));
        let scan = decoded?;
        assert!(scan.consumed <= piece.len());
        assert!(scan.complete || scan.consumed == piece.len());
        at += scan.consumed;
    }
    Ok((payload, at, scanner.is_complete()))
}

/// What a chunked response is passed on as.
fn passed_on(limits: &BodyLimits, bytes: &[u8], step: usize) -> Option<Vec<u8>> {
    let mut scanner = BodyScanner::of_response(BodyFraming::Chunked, limits);
    let mut out = Vec::new();
    for piece in bytes.chunks(step) {
        let scan = scanner.scan(piece).ok()?;
        out.extend_from_slice(&piece[..scan.consumed - scanner.held_back()]);
        if scan.complete {
            break;
        }
    }
    if let Some(trailers) = scanner.rewritten_trailers() {
        for (name, value, _) in trailers.iter() {
            write_header(&mut out, name, value);
        }
        end_head(&mut out);
    }
    scanner.is_complete().then_some(out)
}

fuzz_target!(|data: &[u8]| {
    let Some(([step, kind, limit], bytes)) = data.split_first_chunk::<3>() else {
        return;
    };
    let framing = match kind % 8 {
        0 => BodyFraming::Length(u64::from(*limit)),
        1 => BodyFraming::UntilClose,
        2 => BodyFraming::None,
        _ => BodyFraming::Chunked,
    };
    let limits = match kind / 128 {
        0 => BodyLimits::default(),
        _ => BodyLimits {
            max_chunk_extension_bytes: usize::from(limit % 16),
            max_trailer_bytes: usize::from(*limit),
            max_trailers: usize::from(limit % 8),
        },
    };
    // A response goes on as what a strict reader takes, with the same payload.
    if let Some(response) = passed_on(&BodyLimits::default(), bytes, 1 + usize::from(*step)) {
        // Each trailer may have got a blank before its value.
        let mut limits = BodyLimits::default();
        limits.max_trailer_bytes += limits.max_trailers;
        let reread = read(BodyFraming::Chunked, &limits, &response, usize::MAX / 2);
        assert!(reread.is_ok_and(|(_, consumed, complete)| complete && consumed == response.len()));
    }

    let whole = read(framing, &limits, bytes, usize::MAX / 2);
    assert_eq!(whole, read(framing, &limits, bytes, 1 + usize::from(*step)));

    let Ok((payload, consumed, complete)) = whole else {
        return;
    };
    assert!(complete || consumed == bytes.len());
    if framing == BodyFraming::Chunked && complete {
        let mut again = Vec::new();
        for run in payload.chunks(1 + usize::from(*step)) {
            write_chunk_header(&mut again, run.len() as u64);
            again.extend_from_slice(run);
            again.extend_from_slice(b"\r\n");
        }
        write_last_chunk(&mut again);
        let len = again.len();
        let reread = read(framing, &BodyLimits::default(), &again, usize::MAX / 2);
        assert_eq!(reread, Ok((payload, len, true)));
    }
});
