//! Request heads: pieces and whole give one verdict, and what is accepted is unambiguous.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringroad_codec::http1::*;

fuzz_target!(|data: &[u8]| {
    let Some(([step, limit, headers], bytes)) = data.split_first_chunk::<3>() else {
        return;
    };
    let limits = HeadLimits {
        max_head_bytes: if *limit == 0 {
            60 * 1024
        } else {
            usize::from(*limit) * 4
        },
        max_headers: if *headers == 0 {
            100
        } else {
            usize::from(*headers)
        },
        ..HeadLimits::default()
    };
    let mut whole = RequestHead::default();
    let verdict = parse_request(bytes, &limits, &mut whole);

    let mut pieces = RequestHead::default();
    let mut split = Ok(Progress::Incomplete);
    let mut end = 0;
    while split == Ok(Progress::Incomplete) && end < bytes.len() {
        end = (end + 1 + usize::from(*step)).min(bytes.len());
        split = parse_request(&bytes[..end], &limits, &mut pieces);
    }
    assert_eq!(verdict, split);

    if verdict == Ok(Progress::Complete) {
        assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
        let head = &bytes[..whole.head_len];
        assert!(head.len() <= limits.max_head_bytes && whole.headers.len() <= limits.max_headers);
        assert!(head.ends_with(b"\r\n\r\n"));
        for (at, byte) in head.iter().enumerate() {
            assert!(*byte != b'\n' || head[at - 1] == b'\r');
            assert!(*byte != b'\r' || head[at + 1] == b'\n');
            assert!(*byte != 0);
        }
        assert!(is_token(whole.method.of(bytes)));
        let (prefix, rest) = whole.path_and_query(bytes);
        assert!(
            whole.target_form == TargetForm::Authority
                || prefix.starts_with(['/', '*'])
                || rest.starts_with(b"/")
                || rest == b"*"
        );
        let all = whole.headers(bytes);
        assert_eq!(all.len(), whole.headers.len());
        let count = |name: &str| {
            let mut n = 0;
            all.visit(name, &mut |_| n += 1);
            n
        };
        let lengths = count("content-length") + count("transfer-encoding");
        assert!(lengths <= 1 && count("host") <= 1);
        assert!(whole.framing != BodyFraming::UntilClose);
        assert!(lengths == 1 || whole.framing == BodyFraming::None);
        for (name, value, _) in all.iter() {
            assert!(is_token(name) && is_field_value(value));
        }
    }
});
