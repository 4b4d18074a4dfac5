//! Requests that two parsers could read differently, or that no server should carry, each with its
//! verdict. Every one is also fed byte by byte, which must not change the verdict.

use ringroad_codec::http1::HeadErrorKind::*;
use ringroad_codec::http1::*;

const PASS: Option<HeadErrorKind> = None;

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

fn check(vectors: &[(&str, Option<HeadErrorKind>)]) {
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
fn check_headers(vectors: &[(&str, Option<HeadErrorKind>)]) {
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

#[test]
fn line_ends() {
    check(&[
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(BareLineFeed)),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", Some(BareLineFeed)),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(BareLineFeed)),
        ("GET / HTTP/1.1\n\nHost: a\r\n\r\n", Some(BareLineFeed)),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(BareLineFeed)),
        (
            "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(BareCarriageReturn),
        ),
        ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        (
            "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(LeadingBlankLines),
        ),
        ("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        (
            "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            Some(BareCarriageReturn),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
            Some(BareCarriageReturn),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\rTransfer-Encoding: chunked\r\n\r\n",
            Some(BareCarriageReturn),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: b\nTransfer-Encoding: chunked\r\n\r\n",
            Some(BareLineFeed),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n",
            Some(BareCarriageReturn),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\r\n\r\n",
            Some(BareCarriageReturn),
        ),
    ]);
}

#[test]
fn request_lines() {
    check(&[
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        ("M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        ("!#$%&'*+-.^_`|~9 / HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        (
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidRequestLine),
        ),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidMethod)),
        (
            "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidRequestLine),
        ),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidMethod)),
        ("GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidMethod)),
        (
            "G\u{e9}T / HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidMethod),
        ),
        ("G\0T / HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidMethod)),
        ("GET /\r\n\r\n", Some(InvalidRequestLine)),
        ("GET\r\nHost: a\r\n\r\n", Some(InvalidRequestLine)),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        (
            "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidVersion),
        ),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        ("GET / HTTP/1\r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        ("GET / HTTP/+1.1\r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        ("GET / ICY/1.1\r\nHost: a\r\n\r\n", Some(InvalidVersion)),
        (
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
            Some(UnsupportedVersion),
        ),
        (
            "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
            Some(UnsupportedVersion),
        ),
        (
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            Some(UnsupportedVersion),
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Http2Preface)),
        ("\u{16}\u{3}\u{1}\u{2}\0", Some(InvalidMethod)),
    ]);
}

#[test]
fn targets() {
    check(&[
        ("GET /a%20b?c=%zz&d={|}\" HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        ("GET //a//b/../c HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidTarget)),
        (
            "GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidTarget)),
        (
            "GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        (
            "GET /\u{b}x HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidTarget)),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidTarget)),
        ("GET ?x HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidTarget)),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Some(InvalidTarget)),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        (
            "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        ("GET HTTPS://b:443?x HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        ("GET http://[::1]:8080/ HTTP/1.1\r\nHost: a\r\n\r\n", PASS),
        (
            "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        (
            "GET http:/x HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        (
            "GET http:x HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        (
            "GET http://b:99999/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        (
            "GET http://b:x/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(InvalidTarget),
        ),
        (
            "GET http://b\\@c/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(UserInfoInTarget),
        ),
        (
            "GET http://u:p@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(UserInfoInTarget),
        ),
        (
            "GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(UnsupportedScheme),
        ),
        ("GET http://b/ HTTP/1.1\r\n\r\n", Some(MissingHost)),
        ("GET http://b/ HTTP/1.1\r\nHost:\r\n\r\n", PASS),
        (
            "GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n",
            Some(InvalidHost),
        ),
        ("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", PASS),
        ("CONNECT [::1]:443 HTTP/1.1\r\nHost: b\r\n\r\n", PASS),
        ("CONNECT b HTTP/1.1\r\nHost: b\r\n\r\n", Some(InvalidTarget)),
        (
            "CONNECT b: HTTP/1.1\r\nHost: b\r\n\r\n",
            Some(InvalidTarget),
        ),
        ("CONNECT / HTTP/1.1\r\nHost: b\r\n\r\n", Some(InvalidTarget)),
        (
            "CONNECT http://b/ HTTP/1.1\r\nHost: b\r\n\r\n",
            Some(InvalidTarget),
        ),
        (
            "CONNECT u@b:443 HTTP/1.1\r\nHost: b\r\n\r\n",
            Some(UserInfoInTarget),
        ),
    ]);
}

#[test]
fn hosts() {
    let with = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let vectors = [
        ("", Some(MissingHost)),
        ("Host: a\r\nHost: a\r\n", Some(DuplicateHost)),
        ("Host: a\r\nhOST: b\r\n", Some(DuplicateHost)),
        ("Host:\r\n", Some(InvalidHost)),
        ("Host: \t \r\n", Some(InvalidHost)),
        ("Host: a\r\n", PASS),
        ("Host: a_b-c.d~\r\n", PASS),
        ("Host: a:\r\n", PASS),
        ("Host: a:80\r\n", PASS),
        ("Host: 127.0.0.1:8080\r\n", PASS),
        ("Host: [::1]\r\n", PASS),
        ("Host: [::1]:80\r\n", PASS),
        ("Host: [v1.a:b]\r\n", PASS),
        ("Host: %41b\r\n", PASS),
        ("Host: %4\r\n", Some(InvalidHost)),
        ("Host: [::1\r\n", Some(InvalidHost)),
        ("Host: [::1]x\r\n", Some(InvalidHost)),
        ("Host: [a]\r\n", Some(InvalidHost)),
        ("Host: [fe80::1%25eth0]\r\n", Some(InvalidHost)),
        ("Host: ::1\r\n", Some(InvalidHost)),
        ("Host: a:b\r\n", Some(InvalidHost)),
        ("Host: a:-1\r\n", Some(InvalidHost)),
        ("Host: a:+80\r\n", Some(InvalidHost)),
        ("Host: a:65536\r\n", Some(InvalidHost)),
        ("Host: a:080000\r\n", Some(InvalidHost)),
        ("Host: :80\r\n", Some(InvalidHost)),
        ("Host: a b\r\n", Some(InvalidHost)),
        ("Host: a, b\r\n", Some(InvalidHost)),
        ("Host: a/b\r\n", Some(InvalidHost)),
        ("Host: a?b\r\n", Some(InvalidHost)),
        ("Host: a#b\r\n", Some(InvalidHost)),
        ("Host: a@b\r\n", Some(InvalidHost)),
        ("Host: a\\b\r\n", Some(InvalidHost)),
        ("Host: http://a\r\n", Some(InvalidHost)),
        ("Host: caf\u{e9}\r\n", Some(InvalidHost)),
        ("Host: a\0\r\n", Some(InvalidHeaderValue)),
    ];
    let whole: Vec<_> = vectors.iter().map(|(lines, v)| (with(lines), *v)).collect();
    check(
        &whole
            .iter()
            .map(|(bytes, v)| (bytes.as_str(), *v))
            .collect::<Vec<_>>(),
    );
    check(&[
        ("GET / HTTP/1.0\r\n\r\n", PASS),
        (
            "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n",
            Some(DuplicateHost),
        ),
        ("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n", PASS),
    ]);
}

#[test]
fn header_lines() {
    check_headers(&[
        ("X-A: b", PASS),
        ("X_A: b", PASS),
        ("X-A:", PASS),
        ("X-A:b\tc", PASS),
        ("X-A: caf\u{e9}", PASS),
        ("X-A : b", Some(SpaceBeforeColon)),
        ("X-A\t: b", Some(SpaceBeforeColon)),
        ("Content-Length : 5", Some(SpaceBeforeColon)),
        ("Transfer-Encoding : chunked", Some(SpaceBeforeColon)),
        ("X-A: b\r\n c", Some(ObsoleteLineFolding)),
        ("X-A: b\r\n\tc", Some(ObsoleteLineFolding)),
        ("Transfer-Encoding:\r\n chunked", Some(ObsoleteLineFolding)),
        (": b", Some(InvalidHeaderName)),
        ("X A: b", Some(InvalidHeaderName)),
        ("X-A", Some(InvalidHeaderName)),
        ("X\u{e9}: b", Some(InvalidHeaderName)),
        ("X\0: b", Some(InvalidHeaderName)),
        ("X(A): b", Some(InvalidHeaderName)),
        ("\"X\": b", Some(InvalidHeaderName)),
        ("X-A: b\0c", Some(InvalidHeaderValue)),
        ("X-A: b\u{b}c", Some(InvalidHeaderValue)),
        ("X-A: b\u{1b}[0m", Some(InvalidHeaderValue)),
        ("X-A: b\u{7f}", Some(InvalidHeaderValue)),
        ("X-A: \u{8}", Some(InvalidHeaderValue)),
    ]);
    check(&[
        (
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            Some(ObsoleteLineFolding),
        ),
        (
            "GET / HTTP/1.1\r\n\tHost: a\r\nHost: b\r\n\r\n",
            Some(ObsoleteLineFolding),
        ),
    ]);
}

#[test]
fn content_lengths() {
    check_headers(&[
        ("Content-Length: 0", PASS),
        ("Content-Length: 5", PASS),
        ("Content-Length: 0005", PASS),
        ("Content-Length: 9223372036854775807", PASS),
        (
            "Content-Length: 9223372036854775808",
            Some(InvalidContentLength),
        ),
        (
            "Content-Length: 18446744073709551616",
            Some(InvalidContentLength),
        ),
        (
            "Content-Length: 99999999999999999999999999",
            Some(InvalidContentLength),
        ),
        ("Content-Length:", Some(InvalidContentLength)),
        ("Content-Length: +5", Some(InvalidContentLength)),
        ("Content-Length: -5", Some(InvalidContentLength)),
        ("Content-Length: 5 6", Some(InvalidContentLength)),
        ("Content-Length: 5,5", Some(InvalidContentLength)),
        ("Content-Length: 5, 6", Some(InvalidContentLength)),
        ("Content-Length: 5;", Some(InvalidContentLength)),
        ("Content-Length: 0x5", Some(InvalidContentLength)),
        ("Content-Length: 5a", Some(InvalidContentLength)),
        ("Content-Length: 5.0", Some(InvalidContentLength)),
        ("Content-Length: 1e1", Some(InvalidContentLength)),
        ("Content-Length: \"5\"", Some(InvalidContentLength)),
        ("Content-Length: \u{ff15}", Some(InvalidContentLength)),
        (
            "Content-Length: 5\r\nContent-Length: 5",
            Some(DuplicateContentLength),
        ),
        (
            "Content-Length: 5\r\ncontent-length: 6",
            Some(DuplicateContentLength),
        ),
        (
            "Content-Length: 5\r\nContent-Length:",
            Some(InvalidContentLength),
        ),
        ("Content_Length: x", PASS),
    ]);
}

#[test]
fn transfer_encodings() {
    check_headers(&[
        ("Transfer-Encoding: chunked", PASS),
        ("transfer-encoding: CHUNKED", PASS),
        ("Transfer-Encoding: \tchunked \t", PASS),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 5",
            Some(ContentLengthWithTransferEncoding),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            Some(ContentLengthWithTransferEncoding),
        ),
        (
            "Content-Length: 0\r\nTransfer-Encoding: chunked",
            Some(ContentLengthWithTransferEncoding),
        ),
        (
            "Content-Length: 5\r\nTransfer-Encoding: identity",
            Some(ContentLengthWithTransferEncoding),
        ),
        ("Transfer-Encoding:", Some(UnsupportedTransferEncoding)),
        (
            "Transfer-Encoding: identity",
            Some(UnsupportedTransferEncoding),
        ),
        ("Transfer-Encoding: gzip", Some(UnsupportedTransferEncoding)),
        (
            "Transfer-Encoding: gzip, chunked",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, gzip",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, identity",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked, chunked",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked,",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: , chunked",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked;q=1",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: xchunked",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunkedx",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunk",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: \"chunked\"",
            Some(UnsupportedTransferEncoding),
        ),
        (
            "Transfer-Encoding: chun\u{212a}ed",
            Some(UnsupportedTransferEncoding),
        ),
        ("Transfer-Encoding: \u{b}chunked", Some(InvalidHeaderValue)),
        ("Transfer-Encoding: chunked\0", Some(InvalidHeaderValue)),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            Some(DuplicateTransferEncoding),
        ),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            Some(DuplicateTransferEncoding),
        ),
        (
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
            Some(DuplicateTransferEncoding),
        ),
        ("Transfer_Encoding: chunked", PASS),
        ("X-Transfer-Encoding: chunked\r\nContent-Length: 5", PASS),
    ]);
    check(&[
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some(TransferEncodingNotAllowed),
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
            Some(TransferEncodingNotAllowed),
        ),
        ("POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\n", PASS),
        (
            "CONNECT b:1 HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n",
            Some(TransferEncodingNotAllowed),
        ),
        (
            "CONNECT b:1 HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\n",
            Some(ContentLengthNotAllowed),
        ),
        (
            "CONNECT b:1 HTTP/1.1\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
            PASS,
        ),
        (
            "GET / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n",
            PASS,
        ),
    ]);
}

#[test]
fn connection_headers() {
    check_headers(&[
        ("Connection: keep-alive, Upgrade, x-custom", PASS),
        ("Connection: close, close", PASS),
        ("Connection: ,, close ,", PASS),
        ("Connection:", PASS),
        (
            "Connection: transfer-encoding\r\nTransfer-Encoding: chunked",
            PASS,
        ),
        ("Connection: a,b,c,d,e,f,g,h,i,j", PASS),
        (
            "Connection: a,b,c,d,e,f,g,h,i,j,k",
            Some(ConnectionHeaderRejected),
        ),
        (
            "Connection: a,b,c,d,e,f\r\nConnection: g,h,i,j,k",
            Some(ConnectionHeaderRejected),
        ),
        ("Connection: x y", Some(ConnectionHeaderRejected)),
        ("Connection: :authority", Some(ConnectionHeaderRejected)),
        ("Connection: \"x\"", Some(ConnectionHeaderRejected)),
        ("Connection: host", Some(ConnectionHeaderRejected)),
        (
            "Connection: Content-Length\r\nContent-Length: 5",
            Some(ConnectionHeaderRejected),
        ),
        (
            "Connection: close, X-Forwarded-For",
            Some(ConnectionHeaderRejected),
        ),
        (
            "Connection: x-forwarded-proto",
            Some(ConnectionHeaderRejected),
        ),
        (
            "Connection: x-forwarded-host",
            Some(ConnectionHeaderRejected),
        ),
        (
            "Connection: x-forwarded-client-cert",
            Some(ConnectionHeaderRejected),
        ),
        ("Connection: x-request-id", Some(ConnectionHeaderRejected)),
        (
            "Connection: x-envoy-peer-metadata",
            Some(ConnectionHeaderRejected),
        ),
        ("Connection: Authorization", Some(ConnectionHeaderRejected)),
        ("Connection: cookie", Some(ConnectionHeaderRejected)),
        ("Connection: forwarded", Some(ConnectionHeaderRejected)),
    ]);
}

#[test]
fn expectations() {
    check_headers(&[
        ("Expect: 100-continue", PASS),
        ("Expect: 100-CONTINUE", PASS),
        ("Expect:", Some(UnsupportedExpectation)),
        ("Expect: 100-continue, x", Some(UnsupportedExpectation)),
        ("Expect: 200-ok", Some(UnsupportedExpectation)),
        (
            "Expect: x\r\nExpect: 100-continue",
            Some(UnsupportedExpectation),
        ),
    ]);
}
