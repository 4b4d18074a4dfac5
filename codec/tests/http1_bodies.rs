//! Where bodies end, what is refused in their framing, and their limits.

use ringroad_codec::http1::*;

/// Feeds `input` in pieces of `step` bytes; payload, consumed bytes and whether it completed.
fn feed(
    framing: BodyFraming,
    limits: &BodyLimits,
    input: &[u8],
    step: usize,
) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut scanner = BodyScanner::new(framing, limits);
    let mut payload = Vec::new();
    let mut at = 0;
    while at < input.len() && !scanner.is_complete() {
        let end = (at + step).min(input.len());
        let scan = scanner.decode(&input[at..end], |run| payload.extend_from_slice(run))?;
        assert_eq!(scan.complete, scanner.is_complete());
        assert!(scan.complete || scan.consumed == end - at);
        at += scan.consumed;
    }
    Ok((payload, at, scanner.is_complete()))
}

fn chunked(input: &str) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let limits = BodyLimits::default();
    let whole = feed(
        BodyFraming::Chunked,
        &limits,
        input.as_bytes(),
        usize::MAX / 2,
    );
    for step in [1, 2, 3, 7] {
        assert_eq!(
            feed(BodyFraming::Chunked, &limits, input.as_bytes(), step),
            whole,
            "{input:?}"
        );
    }
    whole
}

#[test]
fn chunked_bodies_decode_and_end() {
    for (input, payload, rest) in [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        (
            "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1",
            "hello",
            "GET / HTTP/1.1",
        ),
        ("1\r\na\r\nA\r\n0123456789\r\n00\r\n\r\n", "a0123456789", ""),
        (
            "000000000000000a\r\n0123456789\r\n0\r\n\r\nx",
            "0123456789",
            "x",
        ),
        ("3;a=b;c=\"d e\"\r\nabc\r\n0;last\r\n\r\n", "abc", ""),
        ("3;a=\"\"\t; b =c;d\r\nabc\r\n0\r\n\r\n", "abc", ""),
        ("3;a=\"\\\";\\\\\u{e9}\"\r\nabc\r\n0\r\n\r\n", "abc", ""),
        ("3 ; a = b\r\nabc\r\n0\t;last \r\n\r\n", "abc", ""),
        ("3 \r\nabc\r\n0 \t\r\n\r\nx", "abc", "x"),
        ("4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", ""),
        (
            "1\r\na\r\n0\r\nX: y\r\nEtag: \"z\"\r\n\r\nrest",
            "a",
            "rest",
        ),
    ] {
        let expected = (payload.as_bytes().to_vec(), input.len() - rest.len(), true);
        assert_eq!(chunked(input), Ok(expected), "{input:?}");
    }
}

#[test]
fn ambiguous_chunked_framing_is_refused() {
    use BodyError::*;
    for (input, error) in [
        ("\r\n", InvalidChunkSize),
        (";a\r\n", InvalidChunkSize),
        ("x\r\n", InvalidChunkSize),
        ("g\r\n", InvalidChunkSize),
        ("0x5\r\nhello\r\n", InvalidChunkSize),
        ("+5\r\nhello\r\n", InvalidChunkSize),
        ("-5\r\nhello\r\n", InvalidChunkSize),
        (" 5\r\nhello\r\n", InvalidChunkSize),
        ("\t5\r\nhello\r\n", InvalidChunkSize),
        (" ;a\r\n", InvalidChunkSize),
        ("5 5\r\nhello\r\n", InvalidChunkSize),
        ("5 a\r\nhello\r\n", InvalidChunkSize),
        ("5 \nhello\r\n", InvalidChunkSize),
        ("5 \rhello\r\n", MissingLineEnd),
        ("5\u{b}\r\nhello\r\n", InvalidChunkSize),
        ("5 ;a\nhello\r\n", InvalidChunkExtension),
        ("5_0\r\n", InvalidChunkSize),
        ("5,5\r\n", InvalidChunkSize),
        ("5\nhello\r\n0\r\n\r\n", InvalidChunkSize),
        ("5\0\r\n", InvalidChunkSize),
        ("8000000000000000\r\n", InvalidChunkSize),
        ("ffffffffffffffff\r\n", InvalidChunkSize),
        ("10000000000000005\r\nhello\r\n", InvalidChunkSize),
        ("00000000000000005\r\nhello\r\n", InvalidChunkSize),
        ("5\rhello\r\n", MissingLineEnd),
        ("5\r\r\nhello\r\n", MissingLineEnd),
        ("5;a\nhello\r\n", InvalidChunkExtension),
        ("5;a\rb\r\nhello\r\n", MissingLineEnd),
        ("5;a\0\r\nhello\r\n", InvalidChunkExtension),
        ("5;\u{b}\r\nhello\r\n", InvalidChunkExtension),
        ("5;\r\nhello\r\n", InvalidChunkExtension),
        ("5;a;\r\nhello\r\n", InvalidChunkExtension),
        ("5;;a\r\nhello\r\n", InvalidChunkExtension),
        ("5;=b\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=\r\nhello\r\n", InvalidChunkExtension),
        ("5;a= ;b\r\nhello\r\n", InvalidChunkExtension),
        ("5;a b\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=b c\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=b=c\r\nhello\r\n", InvalidChunkExtension),
        ("5;a,b\r\nhello\r\n", InvalidChunkExtension),
        ("5;\u{e9}\r\nhello\r\n", InvalidChunkExtension),
        ("5;\"a\"\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=\"\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=\"b\\\"\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=\"b\"c\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=b\"c\"\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=\"\n\"\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=\"\u{7f}\"\r\nhello\r\n", InvalidChunkExtension),
        ("5;a=\"\\\0\"\r\nhello\r\n", InvalidChunkExtension),
        ("0;a=\"\r\n\r\n", InvalidChunkExtension),
        ("5\r\nhello0\r\n\r\n", MissingLineEnd),
        ("5\r\nhello\n0\r\n\r\n", MissingLineEnd),
        ("5\r\nhello\r0\r\n\r\n", MissingLineEnd),
        ("5\r\nhello\r\n\r\n0\r\n\r\n", InvalidChunkSize),
        ("5\r\nhello!\r\n0\r\n\r\n", MissingLineEnd),
        ("0\r\n\n", InvalidTrailer),
        ("0\n\r\n", InvalidChunkSize),
        ("0\r\nX: y\n\r\n", InvalidTrailer),
        ("0\r\nX: a\rb\r\n\r\n", InvalidTrailer),
        ("0\r\nX : y\r\n\r\n", InvalidTrailer),
        ("0\r\n X: y\r\n\r\n", InvalidTrailer),
        ("0\r\nX: y\r\n z\r\n\r\n", InvalidTrailer),
        ("0\r\nno colon\r\n\r\n", InvalidTrailer),
        ("0\r\n: y\r\n\r\n", InvalidTrailer),
        ("0\r\nX: \0\r\n\r\n", InvalidTrailer),
        ("0\r\n\rX: y\r\n\r\n", InvalidTrailer),
        ("0\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", InvalidTrailer),
        ("0\r\nContent-Length: 5\r\n\r\n", ForbiddenTrailer),
        ("0\r\ntransfer-encoding: chunked\r\n\r\n", ForbiddenTrailer),
        ("0\r\nHost: b\r\n\r\n", ForbiddenTrailer),
        ("0\r\nConnection: close\r\n\r\n", ForbiddenTrailer),
        ("0\r\nTrailer: x\r\n\r\n", ForbiddenTrailer),
        ("0\r\nAuthorization: x\r\n\r\n", ForbiddenTrailer),
        ("0\r\nSet-Cookie: x\r\n\r\n", ForbiddenTrailer),
        ("0\r\nContent-Encoding: x\r\n\r\n", ForbiddenTrailer),
        ("0\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", ForbiddenTrailer),
        ("0\r\nX-Envoy-Internal: true\r\n\r\n", ForbiddenTrailer),
    ] {
        assert_eq!(chunked(input), Err(error), "{input:?}");
    }
}

#[test]
fn lengths_and_closes_end_bodies() {
    let limits = BodyLimits::default();
    for step in [1, 3, 100] {
        assert_eq!(
            feed(BodyFraming::Length(5), &limits, b"hello, world", step),
            Ok((b"hello".to_vec(), 5, true))
        );
        assert_eq!(
            feed(BodyFraming::Length(50), &limits, b"hello", step),
            Ok((b"hello".to_vec(), 5, false))
        );
        assert_eq!(
            feed(BodyFraming::UntilClose, &limits, b"hello", step),
            Ok((b"hello".to_vec(), 5, false))
        );
    }
    for framing in [BodyFraming::None, BodyFraming::Length(0)] {
        let mut scanner = BodyScanner::new(framing, &limits);
        assert!(scanner.is_complete());
        assert_eq!(
            scanner.scan(b"next"),
            Ok(Scan {
                consumed: 0,
                complete: true
            })
        );
    }
}

#[test]
fn the_end_of_the_connection_ends_only_what_may_end_so() {
    let limits = BodyLimits::default();
    for (framing, input, expected) in [
        (BodyFraming::None, "", Ok(())),
        (BodyFraming::UntilClose, "abc", Ok(())),
        (BodyFraming::Length(3), "abc", Ok(())),
        (BodyFraming::Length(4), "abc", Err(BodyError::Truncated)),
        (BodyFraming::Chunked, "", Err(BodyError::Truncated)),
        (
            BodyFraming::Chunked,
            "3\r\nabc\r\n",
            Err(BodyError::Truncated),
        ),
        (BodyFraming::Chunked, "0\r\n", Err(BodyError::Truncated)),
        (BodyFraming::Chunked, "0\r\n\r\n", Ok(())),
    ] {
        let mut scanner = BodyScanner::new(framing, &limits);
        scanner.scan(input.as_bytes()).unwrap();
        assert_eq!(scanner.end_of_input(), expected, "{framing:?} {input:?}");
        assert_eq!(scanner.is_complete(), expected.is_ok());
    }
}

#[test]
fn limits_bind_exactly() {
    let limits = BodyLimits {
        max_chunk_extension_bytes: 4,
        max_trailer_bytes: 12,
        max_trailers: 2,
    };
    use BodyError::*;
    for (input, expected) in [
        ("1;abc\r\nx\r\n0\r\n\r\n", Ok(())),
        ("1;abcd\r\nx\r\n0\r\n\r\n", Err(ChunkExtensionTooLarge)),
        ("1    \r\nx\r\n0\r\n\r\n", Ok(())),
        ("1     \r\nx\r\n0\r\n\r\n", Err(ChunkExtensionTooLarge)),
        ("1  ;a\r\nx\r\n0\r\n\r\n", Ok(())),
        ("1  ;ab\r\nx\r\n0\r\n\r\n", Err(ChunkExtensionTooLarge)),
        // Those of all chunks count where they are longer than the data.
        ("1    \r\nx\r\n0 \r\n\r\n", Ok(())),
        ("1    \r\nx\r\n0  \r\n\r\n", Err(ChunkExtensionTooLarge)),
        ("1;ab\r\nx\r\n1;ab\r\nx\r\n0\r\n\r\n", Ok(())),
        (
            "1;ab\r\nx\r\n1;ab\r\nx\r\n0 \r\n\r\n",
            Err(ChunkExtensionTooLarge),
        ),
        (
            "4;abc\r\nxxxx\r\n4;abc\r\nxxxx\r\n3;abc\r\nxxx\r\n0;ab\r\n\r\n",
            Ok(()),
        ),
        ("0\r\nA:\r\nB:\r\n\r\n", Ok(())),
        ("0\r\nA:1\r\nB:2\r\n\r\n", Ok(())),
        ("0\r\nA:1\r\nB:23\r\n\r\n", Err(TrailersTooLarge)),
        ("0\r\nA:\r\nB:\r\nC:\r\n", Err(TooManyTrailers)),
    ] {
        for step in [1, 2, 1000] {
            let found = feed(BodyFraming::Chunked, &limits, input.as_bytes(), step).map(drop);
            assert_eq!(found, expected, "{input:?} by {step}");
        }
    }
}

/// Storage services sign each chunk in an extension.
#[test]
fn a_long_body_may_have_an_extension_in_each_chunk() {
    let signature = format!(";chunk-signature={}", "f".repeat(64));
    let chunk = format!("400{signature}\r\n{}\r\n", "x".repeat(1024));
    let body = chunk.repeat(2000) + &format!("0{signature}\r\n\r\n");
    let limits = BodyLimits::default();
    let read = feed(BodyFraming::Chunked, &limits, body.as_bytes(), 10_000);
    assert_eq!(read.map(|(data, ..)| data.len()), Ok(2000 * 1024));
}

/// Else a sender of little could make the next reader walk through much.
#[test]
fn many_small_chunks_may_not_have_long_extensions() {
    let chunk = format!("1;{}\r\nx\r\n", "a".repeat(15));
    let body = chunk.repeat(300) + "0\r\n\r\n";
    let limits = BodyLimits {
        max_chunk_extension_bytes: 64,
        ..BodyLimits::default()
    };
    let read = feed(BodyFraming::Chunked, &limits, body.as_bytes(), 10_000);
    assert_eq!(read, Err(BodyError::ChunkExtensionTooLarge));
}

#[test]
fn an_error_stays() {
    let mut scanner = BodyScanner::new(BodyFraming::Chunked, &BodyLimits::default());
    assert_eq!(scanner.scan(b"zz"), Err(BodyError::InvalidChunkSize));
    assert_eq!(scanner.scan(b"0\r\n\r\n"), Err(BodyError::InvalidChunkSize));
    assert_eq!(scanner.scan(b""), Err(BodyError::InvalidChunkSize));
    assert_eq!(scanner.end_of_input(), Err(BodyError::InvalidChunkSize));
}

#[test]
fn trailers_can_be_read_and_a_scanner_used_again() {
    let mut scanner = BodyScanner::new(BodyFraming::Chunked, &BodyLimits::default());
    for piece in [&b"0\r\nGrpc-St"[..], b"atus:  0 \r\nX", b":\r\n\r", b"\n"] {
        assert_eq!(
            scanner.scan(piece).map(|scan| scan.consumed),
            Ok(piece.len())
        );
    }
    let trailers: Vec<_> = scanner.trailers().iter().map(|(n, v, _)| (n, v)).collect();
    assert_eq!(trailers, [(&b"Grpc-Status"[..], &b"0"[..]), (b"X", b"")]);
    scanner.reset(BodyFraming::Chunked);
    assert!(scanner.trailers().is_empty());
    assert_eq!(
        scanner.scan(b"0\r\n\r\n"),
        Ok(Scan {
            consumed: 5,
            complete: true
        })
    );
}

/// What a response is passed on as, when it comes in pieces of `step` bytes.
fn passed_on(input: &[u8], step: usize) -> Result<Vec<u8>, BodyError> {
    let mut scanner = BodyScanner::of_response(BodyFraming::Chunked, &BodyLimits::default());
    let mut out = Vec::new();
    for piece in input.chunks(step) {
        let scan = scanner.scan(piece)?;
        assert_eq!(scan.consumed, piece.len());
        out.extend_from_slice(&piece[..scan.consumed - scanner.held_back()]);
    }
    assert!(scanner.is_complete());
    if let Some(trailers) = scanner.rewritten_trailers() {
        for (name, value, _) in trailers.iter() {
            write_header(&mut out, name, value);
        }
        end_head(&mut out);
    }
    Ok(out)
}

#[test]
fn a_forbidden_trailer_does_not_break_a_response() {
    const BODY: &str = "2\r\nhi\r\n0\r\n";
    for (section, kept) in [
        ("\r\n", "\r\n"),
        ("x-sum: 1\r\n\r\n", "x-sum: 1\r\n\r\n"),
        (
            "authentication-info: nextnonce=\"x\"\r\n\r\n",
            "authentication-info: nextnonce=\"x\"\r\n\r\n",
        ),
        ("cache-control: no-store\r\n\r\n", "\r\n"),
        ("content-length: 5\r\n\r\n", "\r\n"),
        ("transfer-encoding: chunked\r\n\r\n", "\r\n"),
        (
            "a: 1\r\nset-cookie: x\r\nb: 2\r\nx-request-id: 7\r\n\r\n",
            "a: 1\r\nb: 2\r\n\r\n",
        ),
    ] {
        let input = format!("{BODY}{section}");
        for step in 1..=input.len() {
            let found = passed_on(input.as_bytes(), step).map(String::from_utf8);
            assert_eq!(
                found,
                Ok(Ok(format!("{BODY}{kept}"))),
                "{input:?} by {step}"
            );
        }
    }
    for section in ["via : x\r\n\r\n", "via: \0\r\n\r\n", "via: a\r\n b\r\n\r\n"] {
        let input = format!("{BODY}{section}");
        let found = passed_on(input.as_bytes(), 1);
        assert_eq!(found, Err(BodyError::InvalidTrailer), "{section:?}");
    }
}

#[test]
fn trailers_of_a_response_that_are_left_out_count_towards_the_limit() {
    let limits = BodyLimits {
        max_trailers: 2,
        ..BodyLimits::default()
    };
    let mut scanner = BodyScanner::of_response(BodyFraming::Chunked, &limits);
    let found = scanner.scan(b"0\r\nvia: 1\r\nvia: 2\r\nvia: 3\r\n\r\n");
    assert_eq!(found, Err(BodyError::TooManyTrailers));
    // And a scanner that is used again starts anew.
    scanner.reset(BodyFraming::Chunked);
    scanner.scan(b"0\r\nvia: 1\r\nx: 2\r\n\r\n").unwrap();
    assert_eq!(scanner.rewritten_trailers().map(|kept| kept.len()), Some(1));
    scanner.reset(BodyFraming::Chunked);
    scanner.scan(b"0\r\nx: 2\r\n\r\n").unwrap();
    assert_eq!(
        (scanner.held_back(), scanner.rewritten_trailers().is_none()),
        (0, true)
    );
}

#[test]
fn contiguous_payload_is_announced() {
    let mut scanner = BodyScanner::new(BodyFraming::Length(10), &BodyLimits::default());
    assert_eq!(scanner.contiguous_bytes(), Some(10));
    scanner.scan(b"abc").unwrap();
    assert_eq!(scanner.contiguous_bytes(), Some(7));
    scanner.reset(BodyFraming::Chunked);
    assert_eq!(scanner.contiguous_bytes(), None);
    scanner.scan(b"10\r\nabc").unwrap();
    assert_eq!(scanner.contiguous_bytes(), Some(13));
}
