//! What a client of HTTP/2 may do, and what is too much.

use ringroad_codec::http2::{Conduct, ConductLimits, FrameHead, FrameKind, FrameWalk, Misconduct};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const LIMITS: ConductLimits = ConductLimits {
    max_control_frames: 1000,
    max_empty_frames: 1,
    max_priority_frames_per_stream: 100,
    max_window_updates_per_data_frame: 10,
    max_continuation_frames: 5,
    max_bad_streams: 250,
    premature_ms: 1000,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A connection whose client has sent its preface.
fn begun() -> Conduct {
    let mut conduct = Conduct::new(LIMITS);
    conduct.received(PREFACE, 0).unwrap();
    conduct.received(&frame(SETTINGS, 0, 0, b""), 0).unwrap();
    conduct
}

/// How many of `frame` pass, of at most 100,000.
fn passing(conduct: &mut Conduct, frame: &[u8]) -> (usize, Option<Misconduct>) {
    for at in 0..100_000 {
        if let Err(misconduct) = conduct.received(frame, 0) {
            return (at, Some(misconduct));
        }
    }
    (100_000, None)
}

#[test]
fn heads_are_found_however_the_bytes_are_cut() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[0; 12]));
    bytes.extend(frame(HEADERS, END_HEADERS | PADDED, 1, b"\x03headerspad"));
    bytes.extend(frame(DATA, END_STREAM, 1, b"0123"));
    bytes.extend(frame(DATA, PADDED, 3, b"\xff"));
    bytes.extend(frame(RST_STREAM, 0, 5, &[0, 0, 0, 8]));
    bytes.extend(frame(0xfa, 0, 0, b"?"));
    let told = |step: usize| {
        let mut walk = FrameWalk::of_client();
        let mut heads = Vec::new();
        for piece in bytes.chunks(step) {
            let walked: Result<(), ()> = walk.walk(piece, |head| {
                heads.push(head);
                Ok(())
            });
            walked.unwrap();
        }
        heads
    };
    let whole = told(bytes.len());
    let kinds: Vec<_> = whole.iter().map(|head| head.kind).collect();
    assert_eq!(
        kinds,
        [
            FrameKind::Settings,
            FrameKind::Headers,
            FrameKind::Data,
            FrameKind::Data,
            FrameKind::RstStream,
            FrameKind::Unknown
        ]
    );
    let headers = FrameHead {
        kind: FrameKind::Headers,
        ends_stream: false,
        ends_headers: true,
        stream: 1,
        content_bytes: 7,
        error_code: 0,
    };
    assert_eq!(whole[1], headers);
    assert_eq!((whole[2].content_bytes, whole[2].ends_stream), (4, true));
    assert_eq!(whole[3].content_bytes, 0);
    assert_eq!(whole[4].error_code, 8);
    for step in 1..40 {
        assert_eq!(told(step), whole, "in pieces of {step}");
    }
}

#[test]
fn frames_without_content_are_bounded() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    let mut conduct = begun();
    // The SETTINGS of the preface is one of the thousand.
    assert_eq!(
        passing(&mut conduct, &ping),
        (999, Some(Misconduct::ControlFrames))
    );

    let settings = frame(SETTINGS, 0, 0, b"");
    assert_eq!(
        passing(&mut begun(), &settings),
        (999, Some(Misconduct::ControlFrames))
    );
    let unknown = frame(0xee, 0, 0, b"what");
    assert_eq!(
        passing(&mut begun(), &unknown),
        (999, Some(Misconduct::ControlFrames))
    );
    let unheard_of = frame(RST_STREAM, 0, 1, &[0; 4]);
    assert_eq!(
        passing(&mut begun(), &unheard_of),
        (999, Some(Misconduct::ControlFrames))
    );
    let priority = frame(PRIORITY, 0, 1, &[0; 5]);
    assert_eq!(
        passing(&mut begun(), &priority),
        (100, Some(Misconduct::PriorityFrames))
    );
    let update = frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]);
    assert_eq!(
        passing(&mut begun(), &update),
        (5, Some(Misconduct::WindowUpdates))
    );

    for empty in [
        frame(DATA, 0, 1, b""),
        frame(DATA, PADDED, 1, b"\x04pads"),
        frame(HEADERS, 0, 1, b""),
    ] {
        assert_eq!(
            passing(&mut begun(), &empty),
            (1, Some(Misconduct::EmptyFrames))
        );
    }
    let more = frame(CONTINUATION, 0, 1, b"x");
    assert_eq!(
        passing(&mut begun(), &more),
        (5, Some(Misconduct::ContinuationFrames))
    );
}

#[test]
fn what_an_honest_client_does_is_never_too_much() {
    let mut conduct = begun();
    let mut now_ms = 0;
    for stream in (1..20_001).step_by(2) {
        now_ms += 3;
        let request = [
            frame(HEADERS, END_HEADERS, stream, b"head"),
            frame(PRIORITY, 0, stream, &[0; 5]),
            frame(DATA, 0, stream, &[7; 100]),
            frame(PING, 0, 0, &[0; 8]),
            frame(DATA, END_STREAM, stream, b""),
        ];
        conduct.received(&request.concat(), now_ms).unwrap();
        conduct.sent(&frame(HEADERS, END_HEADERS, stream, b"head"));
        for _ in 0..3 {
            conduct.sent(&frame(DATA, 0, stream, &[7; 16_384]));
            for window in [0, stream] {
                let update = frame(WINDOW_UPDATE, 0, window, &[0, 0, 64, 0]);
                conduct.received(&update, now_ms).unwrap();
            }
        }
        conduct.sent(&frame(DATA, END_STREAM, stream, b"end"));
        // A client that has enough of it, after its end.
        conduct
            .received(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]), now_ms)
            .unwrap();
    }
    // And one that asks now and then, for days, whether anybody is there.
    for second in 0..100_000 {
        let ping = frame(PING, 0, 0, &[0; 8]);
        conduct.received(&ping, now_ms + second * 1000).unwrap();
    }
}

#[test]
fn streams_that_are_begun_and_given_up_are_bounded() {
    let give_up = |stream: u32| {
        [
            frame(HEADERS, END_HEADERS | END_STREAM, stream, b"head"),
            frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    let mut conduct = begun();
    let refused = (0..1000).find(|at| conduct.received(&give_up(at * 2 + 1), 0).is_err());
    assert_eq!(refused, Some(249));
    assert_eq!(conduct.take_resets().received, 250);

    // Those that we reset for what they sent count as well; those of our own failures do not.
    for (error_code, bound) in [(1, Some(250)), (7, Some(250)), (2, None), (8, None)] {
        let mut conduct = begun();
        let refused = (0..1000).find(|at| {
            let stream = at * 2 + 1;
            let request = frame(HEADERS, END_HEADERS, stream, b"head");
            let outcome = conduct.received(&request, 0);
            conduct.sent(&frame(RST_STREAM, 0, stream, &[0, 0, 0, error_code]));
            outcome.is_err()
        });
        assert_eq!(refused, bound, "error code {error_code}");
    }

    // A client may give up what it has waited for, and a few others among many.
    let mut conduct = begun();
    for at in 0..10_000 {
        let request = frame(HEADERS, END_HEADERS | END_STREAM, at * 2 + 1, b"head");
        let reset = frame(RST_STREAM, 0, at * 2 + 1, &[0, 0, 0, 8]);
        let now_ms = u64::from(at) * 2000;
        conduct.received(&request, now_ms).unwrap();
        conduct.received(&reset, now_ms + 1001).unwrap();
    }
    let mut conduct = begun();
    for at in 0..10_000 {
        match at % 3 {
            0 => conduct.received(&give_up(at * 2 + 1), 0).unwrap(),
            _ => {
                let request = frame(HEADERS, END_HEADERS | END_STREAM, at * 2 + 1, b"head");
                conduct.received(&request, 0).unwrap();
                let answer = frame(HEADERS, END_HEADERS | END_STREAM, at * 2 + 1, b"head");
                conduct.sent(&answer);
            }
        }
    }
}

#[test]
fn it_is_known_since_when_a_head_has_been_coming() {
    let mut conduct = Conduct::new(LIMITS);
    conduct.received(PREFACE, 5).unwrap();
    assert_eq!(conduct.waiting_since_ms(), Some(0));
    conduct.received(&frame(SETTINGS, 0, 0, b""), 7).unwrap();
    assert_eq!(conduct.waiting_since_ms(), None);
    let request = [
        frame(HEADERS, 0, 1, b"head"),
        frame(CONTINUATION, END_HEADERS, 1, b"more"),
    ]
    .concat();
    for (at, octet) in request.iter().enumerate() {
        let now_ms = 10 + at as u64;
        conduct.received(&[*octet], now_ms).unwrap();
        let since = conduct.waiting_since_ms();
        match at + 1 {
            // What kind of frame it is can be told with its fourth octet.
            1..=3 => assert_eq!(since, None, "{at}"),
            len if len == request.len() => assert_eq!(since, None),
            _ => assert_eq!(since, Some(13), "{at}"),
        }
    }
    let body = frame(DATA, 0, 1, &[7; 100]);
    conduct.received(&body[..50], 100).unwrap();
    assert_eq!(conduct.waiting_since_ms(), None);
}
