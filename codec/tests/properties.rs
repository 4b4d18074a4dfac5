//! Properties that hold for any bytes. The generator is seeded, so that a failure repeats.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestRng, TestRunner};
use ringroad_codec::http1::*;
use ringroad_codec::proxy_protocol::parse_proxy_header;
use ringroad_codec::sniff::{Sniff, sniff};

fn check<S: Strategy>(
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, property)
        .unwrap_or_else(|failure| panic!("{failure}"));
}

/// Everything a caller can see of a parsed request.
fn request_outcome(
    buf: &[u8],
    limits: &HeadLimits,
    ends: impl Iterator<Item = usize>,
) -> Option<Result<String, HeadError>> {
    let mut head = RequestHead::default();
    for end in ends {
        match parse_request(&buf[..end], limits, &mut head) {
            Ok(Progress::Complete) => return Some(Ok(format!("{head:?}"))),
            Ok(Progress::Incomplete) => {}
            Err(error) => return Some(Err(error)),
        }
    }
    None
}

fn response_outcome(
    buf: &[u8],
    limits: &HeadLimits,
    to_head: bool,
    ends: impl Iterator<Item = usize>,
) -> Option<Result<String, HeadError>> {
    let mut head = ResponseHead::default();
    for end in ends {
        match parse_response(&buf[..end], limits, to_head, false, &mut head) {
            Ok(Progress::Complete) => return Some(Ok(format!("{head:?}"))),
            Ok(Progress::Incomplete) => {}
            Err(error) => return Some(Err(error)),
        }
    }
    None
}

fn cuts(len: usize, indexes: &[Index]) -> Vec<usize> {
    let mut ends: Vec<usize> = indexes.iter().map(|index| index.index(len + 1)).collect();
    ends.push(len);
    ends.sort_unstable();
    ends
}

/// Pieces of heads, right and wrong, so that random sequences come close to heads.
fn head_piece() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&'static [u8]> = vec![
        b"GET / HTTP/1.1\r\n",
        b"POST http://a:80/x HTTP/1.0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 304 \r\n",
        b"Host: a\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close, x\r\n",
        b"Connection: keep-alive\r\n",
        b"Upgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"X: y\r\n",
        b"X: y\r\n",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\r",
        b"\n",
        b" ",
        b":",
        b"\0",
        b"x",
        b"\xff",
    ];
    prop_oneof![
        20 => select(known).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..6),
    ]
}

/// A head that is mostly right: a first line, headers, an end, some bytes of what follows; then a
/// few bytes of it changed.
fn head_like(first: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let body = vec(head_piece(), 0..8);
    let changes = vec((any::<Index>(), any::<u8>()), 0..3);
    let free = vec(head_piece(), 0..10).prop_map(|pieces| pieces.concat());
    let formed = (body, changes).prop_map(move |(pieces, changes)| {
        let mut bytes = [first, b"Host: h\r\n", &pieces.concat(), b"\r\nrest"].concat();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![formed, free]
}

fn small_limits() -> impl Strategy<Value = HeadLimits> {
    (20usize..200, 0usize..8).prop_map(|(max_head_bytes, max_headers)| HeadLimits {
        max_head_bytes,
        max_headers,
        ..HeadLimits::default()
    })
}

#[test]
fn splits_do_not_change_the_verdict_on_requests() {
    let limits = prop_oneof![Just(HeadLimits::default()), small_limits()];
    let input = (
        head_like(b"GET /p HTTP/1.1\r\n"),
        vec(any::<Index>(), 0..6),
        limits,
    );
    check(20_000, input, |(buf, indexes, limits)| {
        let whole = request_outcome(&buf, &limits, std::iter::once(buf.len()));
        let split = request_outcome(&buf, &limits, cuts(buf.len(), &indexes).into_iter());
        let drip = request_outcome(&buf, &limits, 0..=buf.len());
        prop_assert_eq!(&whole, &split);
        prop_assert_eq!(&whole, &drip);
        Ok(())
    });
}

#[test]
fn splits_do_not_change_the_verdict_on_responses() {
    let limits = prop_oneof![Just(HeadLimits::default()), small_limits()];
    let input = (
        head_like(b"HTTP/1.1 200 OK\r\n"),
        vec(any::<Index>(), 0..6),
        limits,
        any::<bool>(),
    );
    check(20_000, input, |(buf, indexes, limits, to_head)| {
        let whole = response_outcome(&buf, &limits, to_head, std::iter::once(buf.len()));
        let split = response_outcome(
            &buf,
            &limits,
            to_head,
            cuts(buf.len(), &indexes).into_iter(),
        );
        let drip = response_outcome(&buf, &limits, to_head, 0..=buf.len());
        prop_assert_eq!(&whole, &split);
        prop_assert_eq!(&whole, &drip);
        Ok(())
    });
}

#[test]
fn random_bytes_never_panic() {
    let framing = select(vec![
        BodyFraming::Chunked,
        BodyFraming::Length(9),
        BodyFraming::UntilClose,
    ]);
    check(
        20_000,
        (vec(any::<u8>(), 0..200), framing),
        |(buf, framing)| {
            let limits = HeadLimits::default();
            let _ = parse_request(&buf, &limits, &mut RequestHead::default());
            let _ = parse_response(&buf, &limits, false, false, &mut ResponseHead::default());
            let mut scanner = BodyScanner::new(framing, &BodyLimits::default());
            let _ = scanner.scan(&buf);
            let _ = scanner.end_of_input();
            Ok(())
        },
    );
}

#[test]
fn the_first_bytes_of_a_connection_are_judged_alike_however_split() {
    let starts: Vec<&'static [u8]> = vec![
        b"",
        b"\x16\x03\x01\x00\x40\x01\x00\x00\x3c\x03\x03",
        b"GET / HTTP/1",
        b"PRI * HTTP/2.0",
        b"PROXY TCP4 1.2.3.4 ",
        b"PROXY UNKNOWN",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00",
    ];
    let input = (
        select(starts),
        vec(
            prop_oneof![any::<u8>(), Just(0), Just(b'\r'), Just(b'\n')],
            0..90,
        ),
    );
    check(10_000, input, |(start, rest)| {
        let bytes = [start, &rest].concat();
        let sniffed = sniff(&bytes);
        let header = parse_proxy_header(&bytes);
        for end in 0..bytes.len() {
            let earlier = sniff(&bytes[..end]);
            prop_assert!(earlier == Sniff::Incomplete || earlier == sniffed);
            let earlier = parse_proxy_header(&bytes[..end]);
            prop_assert!(earlier == Ok(None) || earlier == header);
        }
        prop_assert!(
            header.is_ok_and(|h| h.is_none_or(|h| h.len <= bytes.len())) || header.is_err()
        );
        Ok(())
    });
}

fn header_line() -> impl Strategy<Value = (String, String)> {
    ("x-[a-z]{1,12}", "([!-~]([ \t!-~]{0,20}[!-~])?)?")
}

#[test]
fn a_written_request_reads_back() {
    let input = (
        select(vec!["GET", "POST", "PATCH", "x-own"]),
        "/[!\"$-~]{0,40}",
        "[a-z]{1,10}(\\.[a-z]{1,5})?(:[1-9][0-9]{0,3})?",
        vec(header_line(), 0..20),
        1u64..1 << 62,
    );
    check(5_000, input, |(method, target, host, lines, length)| {
        let mut bytes = Vec::new();
        write_request_line(&mut bytes, method.as_bytes(), target.as_bytes());
        write_header(&mut bytes, b"host", host.as_bytes());
        for (name, value) in &lines {
            write_header(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        write_content_length(&mut bytes, length);
        end_head(&mut bytes);
        let mut head = RequestHead::default();
        let progress = parse_request(&bytes, &HeadLimits::default(), &mut head);
        prop_assert_eq!(progress, Ok(Progress::Complete));
        prop_assert_eq!(head.head_len, bytes.len());
        prop_assert_eq!(head.method.of(&bytes), method.as_bytes());
        prop_assert_eq!(head.target.of(&bytes), target.as_bytes());
        prop_assert_eq!(head.host.map(|h| h.of(&bytes)), Some(host.as_bytes()));
        prop_assert_eq!(head.framing, BodyFraming::Length(length));
        let read: Vec<_> = head
            .headers(&bytes)
            .iter()
            .skip(1)
            .take(lines.len())
            .collect();
        for ((name, value), (read_name, read_value, _)) in lines.iter().zip(read) {
            prop_assert_eq!(name.as_bytes(), read_name);
            prop_assert_eq!(value.as_bytes(), read_value);
        }
        Ok(())
    });
}

#[test]
fn a_written_response_reads_back() {
    let input = (200u16..600, vec(header_line(), 0..20), 1u64..1 << 62);
    check(5_000, input, |(status, lines, length)| {
        prop_assume!(status != 204 && status != 304);
        let mut bytes = Vec::new();
        write_status_line(&mut bytes, status);
        for (name, value) in &lines {
            write_header(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        write_content_length(&mut bytes, length);
        end_head(&mut bytes);
        let mut head = ResponseHead::default();
        let progress = parse_response(&bytes, &HeadLimits::default(), false, false, &mut head);
        prop_assert_eq!(progress, Ok(Progress::Complete));
        prop_assert_eq!((head.status, head.head_len), (status, bytes.len()));
        prop_assert_eq!(head.reason.of(&bytes), reason_phrase(status).as_bytes());
        prop_assert_eq!(head.framing, BodyFraming::Length(length));
        prop_assert_eq!(head.headers.len(), lines.len() + 1);
        Ok(())
    });
}

/// Reads what may stand between the size of a chunk and the end of its line.
fn is_chunk_extension(text: &[u8]) -> bool {
    fn token(text: &[u8]) -> Option<&[u8]> {
        let end = text.iter().position(|b| !is_token(&[*b]));
        let (token, rest) = text.split_at(end.unwrap_or(text.len()));
        (!token.is_empty()).then_some(rest)
    }
    fn quoted(mut text: &[u8]) -> Option<&[u8]> {
        loop {
            text = match text {
                [b'"', rest @ ..] => return Some(rest),
                [b'\\', _, rest @ ..] => rest,
                [_, rest @ ..] => rest,
                [] => return None,
            };
        }
    }
    fn value(text: &[u8]) -> Option<&[u8]> {
        match text.strip_prefix(b"\"") {
            Some(text) => quoted(text),
            None => token(text),
        }
    }
    let mut rest = text.trim_ascii_start();
    while let Some(extension) = rest.strip_prefix(b";") {
        let Some(behind) = token(extension.trim_ascii_start()) else {
            return false;
        };
        rest = behind.trim_ascii_start();
        if let Some(behind) = rest.strip_prefix(b"=") {
            let Some(behind) = value(behind.trim_ascii_start()) else {
                return false;
            };
            rest = behind.trim_ascii_start();
        }
    }
    rest.is_empty()
}

/// Reads a whole chunked body the plain way: line by line, chunk by chunk, straight from the
/// grammar of RFC 9112 section 7.1. `None` when it is wrong or not all there.
fn reference_chunked(input: &[u8]) -> Option<(Vec<u8>, usize)> {
    fn line(input: &[u8]) -> Option<(&[u8], &[u8])> {
        let end = input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = &input[..end];
        let clean = line
            .iter()
            .all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f));
        clean.then_some((line, &input[end + 2..]))
    }
    let mut rest = input;
    let mut payload = Vec::new();
    loop {
        let (size_line, after) = line(rest)?;
        let end = size_line.iter().position(|b| !b.is_ascii_hexdigit());
        let (digits, extension) = size_line.split_at(end.unwrap_or(size_line.len()));
        if !is_chunk_extension(extension) {
            return None;
        }
        if digits.is_empty() || digits.len() > 16 {
            return None;
        }
        let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        rest = after;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= rest.len())?;
        payload.extend_from_slice(&rest[..size]);
        rest = rest[size..].strip_prefix(b"\r\n")?;
    }
    loop {
        let (trailer, after) = line(rest)?;
        rest = after;
        if trailer.is_empty() {
            return Some((payload, input.len() - rest.len()));
        }
        let name = &trailer[..trailer.iter().position(|b| *b == b':')?];
        if !is_token(name) || name.eq_ignore_ascii_case(b"host") {
            return None;
        }
    }
}

fn chunked_body() -> impl Strategy<Value = Vec<u8>> {
    let extension = select(vec![
        "",
        "",
        "",
        ";a",
        ";a=b",
        ";q=\"x y\"",
        ";q=\"\\\"\";r",
        ";",
        " ",
        " ; a = b",
        "\t;a",
    ]);
    let chunk = (vec(any::<u8>(), 1..40), extension, any::<bool>(), 0usize..3);
    let trailers = select(vec!["", "", "x: y\r\n", "x:\r\ny: z z\r\n", "Host: a\r\n"]);
    let changes = vec(
        (
            any::<Index>(),
            select(b"\r\n 0;1fxg-\0\"=\\".to_vec()),
            0u8..3,
        ),
        0..3,
    );
    (vec(chunk, 0..5), trailers, changes).prop_map(|(chunks, trailers, changes)| {
        let mut bytes = Vec::new();
        for (data, extension, upper, zeros) in chunks {
            bytes.extend(std::iter::repeat_n(b'0', zeros));
            let size = data.len();
            let digits = if upper {
                format!("{size:X}")
            } else {
                format!("{size:x}")
            };
            bytes.extend_from_slice(digits.as_bytes());
            bytes.extend_from_slice(extension.as_bytes());
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&data);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n");
        bytes.extend_from_slice(trailers.as_bytes());
        bytes.extend_from_slice(b"\r\nGET /");
        for (index, byte, how) in changes {
            let at = index.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

#[test]
fn the_scanner_agrees_with_a_plain_decoder() {
    let accepted = std::cell::Cell::new(0u32);
    check(
        30_000,
        (chunked_body(), vec(any::<Index>(), 0..8)),
        |(bytes, indexes)| {
            let mut scanner = BodyScanner::new(BodyFraming::Chunked, &BodyLimits::default());
            let mut whole_payload = Vec::new();
            let whole = scanner.decode(&bytes, |run| whole_payload.extend_from_slice(run));

            match (&whole, reference_chunked(&bytes)) {
                (
                    Ok(Scan {
                        consumed,
                        complete: true,
                    }),
                    Some((payload, len)),
                ) => {
                    prop_assert_eq!((&whole_payload, *consumed), (&payload, len));
                    accepted.set(accepted.get() + 1);
                }
                (
                    Ok(Scan {
                        complete: false, ..
                    })
                    | Err(_),
                    None,
                ) => {}
                (found, expected) => prop_assert!(false, "{:?} against {:?}", found, expected),
            }

            let mut pieces = BodyScanner::new(BodyFraming::Chunked, &BodyLimits::default());
            let mut payload = Vec::new();
            let mut from = 0;
            let mut split = Ok(Scan {
                consumed: 0,
                complete: false,
            });
            for end in cuts(bytes.len(), &indexes) {
                if pieces.is_complete() {
                    break;
                }
                split = pieces.decode(&bytes[from..end], |run| payload.extend_from_slice(run));
                let Ok(scan) = split else { break };
                split = Ok(Scan {
                    consumed: from + scan.consumed,
                    complete: scan.complete,
                });
                from = end;
            }
            prop_assert_eq!(split, whole);
            prop_assert_eq!(payload, whole_payload);
            Ok(())
        },
    );
    // The mutations must leave enough bodies valid for the comparison to mean something.
    assert!(
        accepted.get() > 5_000,
        "only {} valid bodies",
        accepted.get()
    );
}
