//! Responses that two parsers could read differently, each with its verdict. Every one is also fed
//! byte by byte, which must not change the verdict.

use ringroad_codec::http1::HeadErrorKind::*;
use ringroad_codec::http1::*;

const HEAD: (bool, bool) = (true, false);
const CONNECT: (bool, bool) = (false, true);
const GET: (bool, bool) = (false, false);

fn verdict(
    bytes: &[u8],
    (to_head, to_connect): (bool, bool),
    step: usize,
) -> Result<BodyFraming, HeadErrorKind> {
    let mut head = ResponseHead::default();
    let limits = HeadLimits::default();
    for end in (1..=bytes.len()).filter(|end| end % step == 0 || *end == bytes.len()) {
        match parse_response(&bytes[..end], &limits, to_head, to_connect, &mut head) {
            Ok(Progress::Complete) => return Ok(head.framing),
            Ok(Progress::Incomplete) => {}
            Err(error) => {
                assert_eq!(error.status(), 502);
                return Err(error.kind);
            }
        }
    }
    panic!("incomplete: {:?}", String::from_utf8_lossy(bytes));
}

fn check(answering: (bool, bool), vectors: &[(&str, Result<BodyFraming, HeadErrorKind>)]) {
    let mut wrong = Vec::new();
    for (bytes, expected) in vectors {
        let bytes = bytes.as_bytes();
        for step in [bytes.len(), 1, 7] {
            let found = verdict(bytes, answering, step);
            if found != *expected {
                let text = String::from_utf8_lossy(bytes);
                wrong.push(format!(
                    "by {step} {text:?}: expected {expected:?}, found {found:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn status_lines() {
    use BodyFraming::UntilClose;
    check(
        GET,
        &[
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(UntilClose)),
            ("HTTP/1.1 200 \r\n\r\n", Ok(UntilClose)),
            ("HTTP/1.1 200\r\n\r\n", Ok(UntilClose)),
            ("HTTP/1.1 200  two  spaces\r\n\r\n", Ok(UntilClose)),
            ("HTTP/1.1 200 caf\u{e9}\r\n\r\n", Ok(UntilClose)),
            ("HTTP/1.1 999 Own\r\n\r\n", Ok(UntilClose)),
            ("HTTP/1.0 200 OK\r\n\r\n", Ok(UntilClose)),
            ("HTTP/1.1 099 Low\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 000 Low\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 20 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 2000 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 +20 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 2x0 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1  200 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1\t200 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 200\tOK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 200 O\0K\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1 200 O\rK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.2 200 OK\r\n\r\n", Err(UnsupportedVersion)),
            ("HTTP/2.0 200 OK\r\n\r\n", Err(UnsupportedVersion)),
            ("HTTP/1.10 200 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.x 200 OK\r\n\r\n", Err(InvalidVersion)),
            ("http/1.1 200 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("HTTP/1.1\r\n\r\n", Err(InvalidStatusLine)),
            ("ICY 200 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("\r\nHTTP/1.1 200 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("\nHTTP/1.1 200 OK\r\n\r\n", Err(InvalidStatusLine)),
            ("<html>", Err(InvalidStatusLine)),
        ],
    );
}

#[test]
fn line_ends_and_header_lines() {
    check(
        GET,
        &[
            ("HTTP/1.1 200 OK\n\n", Err(BareLineFeed)),
            (
                "HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\n",
                Err(BareLineFeed),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\n",
                Err(BareLineFeed),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\n",
                Err(BareLineFeed),
            ),
            (
                "HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
                Err(BareCarriageReturn),
            ),
            (
                "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
                Err(InvalidHeaderValue),
            ),
            (
                "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
                Err(ObsoleteLineFolding),
            ),
            ("HTTP/1.1 200 OK\r\n X: a\r\n\r\n", Err(ObsoleteLineFolding)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\n",
                Err(SpaceBeforeColon),
            ),
            ("HTTP/1.1 200 OK\r\n: 5\r\n\r\n", Err(InvalidHeaderName)),
            (
                "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
                Err(InvalidHeaderName),
            ),
            (
                "HTTP/1.1 200 OK\r\nHost: a\r\nHost: b\r\nContent-Length: 1\r\n\r\n",
                Ok(BodyFraming::Length(1)),
            ),
        ],
    );
}

#[test]
fn framing() {
    use BodyFraming::*;
    check(
        GET,
        &[
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Ok(Length(5)),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(None)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n",
                Ok(Chunked),
            ),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n",
                Ok(Length(5)),
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(TransferEncodingNotAllowed),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(ContentLengthWithTransferEncoding),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
                Err(DuplicateContentLength),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
                Err(InvalidContentLength),
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
                Err(InvalidContentLength),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                Err(UnsupportedTransferEncoding),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                Err(UnsupportedTransferEncoding),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
                Err(UnsupportedTransferEncoding),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(DuplicateTransferEncoding),
            ),
            ("HTTP/1.1 204 No Content\r\n\r\n", Ok(None)),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
                Ok(None),
            ),
            (
                "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
                Err(ContentLengthNotAllowed),
            ),
            (
                "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(TransferEncodingNotAllowed),
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
                Ok(None),
            ),
            (
                "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
                Ok(None),
            ),
            ("HTTP/1.1 100 Continue\r\n\r\n", Ok(None)),
            (
                "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
                Err(ContentLengthNotAllowed),
            ),
            (
                "HTTP/1.1 101 Switching\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(TransferEncodingNotAllowed),
            ),
            ("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", Ok(None)),
            (
                "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\n",
                Err(ConnectionHeaderRejected),
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: set-cookie\r\nContent-Length: 5\r\n\r\n",
                Ok(Length(5)),
            ),
        ],
    );
    check(
        HEAD,
        &[
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Ok(None)),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Ok(None),
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(None)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
                Err(InvalidContentLength),
            ),
        ],
    );
    check(
        CONNECT,
        &[
            ("HTTP/1.1 200 OK\r\n\r\n", Ok(None)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Err(ContentLengthNotAllowed),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                Err(TransferEncodingNotAllowed),
            ),
            (
                "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n",
                Ok(Length(5)),
            ),
        ],
    );
}
