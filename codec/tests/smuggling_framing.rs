//! Requests whose end two parsers could find in different places, each with its verdict. Every one
//! is also fed byte by byte, which must not change the verdict.

mod verdicts;

use ringroad_codec::http1::HeadErrorKind::*;
use verdicts::{PASS, check, check_headers};

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
        ("Expect:", PASS),
        ("Expect: , ,", PASS),
        ("Expect: , 100-continue,", PASS),
        ("Expect: 100-continue, 100-Continue", PASS),
        ("Expect: 100-continue\r\nExpect: 100-continue", PASS),
        ("Expect: ,\r\nExpect: x", Some(UnsupportedExpectation)),
        ("Expect: x, 100-continue", Some(UnsupportedExpectation)),
        ("Expect: 100-continue;q=1", Some(UnsupportedExpectation)),
        (
            "Expect: 100-continue 100-continue",
            Some(UnsupportedExpectation),
        ),
        ("Expect: 100-continue, x", Some(UnsupportedExpectation)),
        ("Expect: 200-ok", Some(UnsupportedExpectation)),
        (
            "Expect: x\r\nExpect: 100-continue",
            Some(UnsupportedExpectation),
        ),
    ]);
}
