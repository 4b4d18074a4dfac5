//! Response heads: pieces and whole give one verdict, and what is accepted is unambiguous.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringroad_codec::http1::*;

fuzz_target!(|data: &[u8]| {
    let Some(([step, limit, answering], bytes)) = data.split_first_chunk::<3>() else {
        return;
    };
    let limits = HeadLimits {
        max_head_bytes: if *limit == 0 {
            60 * 1024
        } else {
            usize::from(*limit) * 4
        },
        ..HeadLimits::default()
    };
    let (to_head, to_connect) = (answering & 1 != 0, answering & 2 != 0);
    let mut whole = ResponseHead::default();
    let verdict = parse_response(bytes, &limits, to_head, to_connect, &mut whole);

    let mut pieces = ResponseHead::default();
    let mut split = Ok(Progress::Incomplete);
    let mut end = 0;
    while split == Ok(Progress::Incomplete) && end < bytes.len() {
        end = (end + 1 + usize::from(*step)).min(bytes.len());
        split = parse_response(&bytes[..end], &limits, to_head, to_connect, &mut pieces);
    }
    assert_eq!(verdict, split);

    if verdict == Ok(Progress::Complete) {
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        let head = &bytes[..whole.head_len];
        assert!(head.ends_with(b"\r\n\r\n") && head.starts_with(b"HTTP/1."));
        for (at, byte) in head.iter().enumerate() {
            assert!(*byte != b'\n' || head[at - 1] == b'\r');
            assert!(*byte != b'\r' || head[at + 1] == b'\n');
        }
        assert!((100..=999).contains(&whole.status));
        assert!(!to_head || whole.framing == BodyFraming::None);
        assert!(!(whole.keep_alive && whole.framing == BodyFraming::UntilClose));
        let mut lengths = 0;
        whole
            .headers(bytes)
            .visit("content-length", &mut |_| lengths += 1);
        whole
            .headers(bytes)
            .visit("transfer-encoding", &mut |_| lengths += 1);
        assert!(lengths <= 1);
    }
});
