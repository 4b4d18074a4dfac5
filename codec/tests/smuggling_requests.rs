//! Requests whose lines, targets or hosts two parsers could read differently, or that no server
//! should carry, each with its verdict. Every one is also fed byte by byte, which must not change
//! the verdict.

mod verdicts;

use ringroad_codec::http1::HeadErrorKind::*;
use verdicts::{PASS, check, check_headers};

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
