//! What a parsed head tells its caller.

use ringroad_codec::http1::*;

fn request(bytes: &[u8]) -> RequestHead {
    let mut head = RequestHead::default();
    match parse_request(bytes, &HeadLimits::default(), &mut head) {
        Ok(Progress::Complete) => head,
        other => panic!("{other:?} for {:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn a_request_is_described_by_ranges_of_its_buffer() {
    let bytes = b"\r\nPOST /a?b=c HTTP/1.1\r\nHost: example.com:80\r\nX-Empty:\r\nX-A: \t v w \t\r\n\
        Content-Length: 5\r\nExpect: 100-Continue\r\nConnection: x-a, TE\r\nTE: trailers\r\n\r\nhello";
    let head = request(bytes);
    assert_eq!(head.method.of(bytes), b"POST");
    assert_eq!(head.target.of(bytes), b"/a?b=c");
    assert_eq!(head.path_and_query(bytes), ("", &b"/a?b=c"[..]));
    assert_eq!(head.host.map(|h| h.of(bytes)), Some(&b"example.com:80"[..]));
    assert_eq!(head.framing, BodyFraming::Length(5));
    assert_eq!(&bytes[head.head_len..], b"hello");
    assert!(head.keep_alive && head.expect_continue && head.te_trailers);
    let headers: Vec<_> = head.headers(bytes).iter().collect();
    assert_eq!(headers[1], (&b"X-Empty"[..], &b""[..], HeaderKind::Other));
    assert_eq!(
        headers[2],
        (&b"X-A"[..], &b"v w"[..], HeaderKind::NamedByConnection)
    );
    assert_eq!(headers[6], (&b"TE"[..], &b"trailers"[..], HeaderKind::Te));
}

fn refusal(bytes: &[u8], limits: &HeadLimits) -> HeadError {
    parse_request(bytes, limits, &mut RequestHead::default()).expect_err("must be refused")
}

fn with_lines(first: &str, lines: &str) -> Vec<u8> {
    format!("{first}\r\nHost: a\r\n{lines}\r\n").into_bytes()
}

#[test]
fn statuses_and_details_suit_the_fault() {
    let limits = HeadLimits::default();
    for (first, lines, status, details) in [
        ("GET / HTTP/1.1", "X : y\r\n", 400, "http1.codec_error"),
        (
            "GET / HTTP/1.1",
            "X: \u{1}\r\n",
            400,
            "http1.invalid_characters",
        ),
        ("GET x HTTP/1.1", "", 400, "http1.invalid_url"),
        ("GET ws://x/ HTTP/1.1", "", 400, "http1.invalid_scheme"),
        ("GET / HTTP/3.0", "", 505, "http1.unsupported_version"),
        ("PRI * HTTP/2.0", "", 505, "http1.http2_preface"),
        (
            "GET / HTTP/1.1",
            "Expect: tea\r\n",
            417,
            "http1.unsupported_expectation",
        ),
        (
            "GET / HTTP/1.1",
            "Transfer-Encoding: br\r\n",
            501,
            "http1.invalid_transfer_encoding",
        ),
        (
            "GET / HTTP/1.1",
            "Connection: x-forwarded-for\r\n",
            400,
            "http1.connection_header_rejected",
        ),
    ] {
        let error = refusal(&with_lines(first, lines), &limits);
        assert_eq!(
            (error.status(), error.details()),
            (status, details),
            "{first} {lines}"
        );
    }
}

#[test]
fn a_head_may_fill_its_limit_and_not_exceed_it() {
    let filler = "x".repeat(100);
    let bytes = with_lines("GET / HTTP/1.1", &format!("X: {filler}\r\n"));
    let exact = HeadLimits {
        max_head_bytes: bytes.len(),
        ..HeadLimits::default()
    };
    let short = HeadLimits {
        max_head_bytes: bytes.len() - 1,
        ..HeadLimits::default()
    };
    let mut head = RequestHead::default();
    assert_eq!(
        parse_request(&bytes, &exact, &mut head),
        Ok(Progress::Complete)
    );
    let error = refusal(&bytes, &short);
    assert_eq!(
        (error.status(), error.details()),
        (431, "http1.headers_too_large")
    );
    // It is refused as soon as it can no longer fit, without its end.
    assert_eq!(
        refusal(&bytes[..bytes.len() - 1], &short).kind,
        HeadErrorKind::HeadTooLarge
    );
    assert_eq!(
        parse_request(&bytes[..bytes.len() - 2], &short, &mut head),
        Ok(Progress::Incomplete)
    );
    let endless = [b"GET /".to_vec(), vec![b'a'; 70_000]].concat();
    assert_eq!(refusal(&endless, &HeadLimits::default()).status(), 431);
}

#[test]
fn headers_are_counted() {
    let limits = HeadLimits {
        max_headers: 3,
        ..HeadLimits::default()
    };
    let mut head = RequestHead::default();
    let three = with_lines("GET / HTTP/1.1", "A: 1\r\nB: 2\r\n");
    assert_eq!(
        parse_request(&three, &limits, &mut head),
        Ok(Progress::Complete)
    );
    let four = with_lines("GET / HTTP/1.1", "A: 1\r\nB: 2\r\nC: 3\r\n");
    let error = refusal(&four, &limits);
    assert_eq!(
        (error.status(), error.details()),
        (431, "http1.too_many_headers")
    );
    for lines in [63, 64, 65, 100] {
        let usual = with_lines("GET / HTTP/1.1", &"A: 1\r\n".repeat(lines - 1));
        let mut head = RequestHead::default();
        assert_eq!(
            parse_request(&usual, &HeadLimits::default(), &mut head),
            Ok(Progress::Complete)
        );
        assert_eq!(head.headers(&usual).iter().count(), lines);
        let usual = with_lines("HTTP/1.1 204 Fine", &"A: 1\r\n".repeat(lines - 1));
        let mut head = ResponseHead::default();
        assert_eq!(
            parse_response(&usual, &HeadLimits::default(), false, false, &mut head),
            Ok(Progress::Complete)
        );
        assert_eq!(head.headers(&usual).iter().count(), lines);
    }
    let many = HeadLimits {
        max_headers: usize::MAX,
        ..HeadLimits::default()
    };
    let ceiling = "A: 1\r\n".repeat(HeadLimits::HEADERS_CEILING);
    assert_eq!(
        refusal(&with_lines("GET / HTTP/1.1", &ceiling), &many).status(),
        431
    );
}

#[test]
fn persistence_follows_version_and_connection() {
    for (first, lines, expected) in [
        ("GET / HTTP/1.1", "", true),
        ("GET / HTTP/1.1", "Connection: close\r\n", false),
        ("GET / HTTP/1.1", "Connection: x, CLOSE\r\n", false),
        (
            "GET / HTTP/1.1",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
        ("GET / HTTP/1.1", "Proxy-Connection: close\r\n", true),
        // What follows may be meant for a tunnel.
        (
            "GET / HTTP/1.1",
            "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
            false,
        ),
        ("GET / HTTP/1.1", "Upgrade: websocket\r\n", true),
        (
            "GET / HTTP/1.1",
            "Connection: Upgrade\r\nUpgrade: h2c\r\n",
            true,
        ),
        ("GET / HTTP/1.0", "", false),
        ("GET / HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("GET / HTTP/1.0", "Connection: keep-alive, close\r\n", false),
        ("GET / HTTP/1.0", "Proxy-Connection: keep-alive\r\n", false),
    ] {
        assert_eq!(
            request(&with_lines(first, lines)).keep_alive,
            expected,
            "{first} {lines}"
        );
    }
}

#[test]
fn upgrades_are_classified() {
    for (lines, expected) in [
        (
            "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n",
            Upgrade::H2c,
        ),
        (
            "Upgrade: WebSocket\r\nConnection: upgrade\r\n",
            Upgrade::WebSocket,
        ),
        (
            "Upgrade: h2c, websocket\r\nConnection: upgrade\r\n",
            Upgrade::Other,
        ),
        (
            "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
            Upgrade::Other,
        ),
        ("Upgrade:\r\nConnection: upgrade\r\n", Upgrade::Other),
        (
            "Upgrade:\r\nUpgrade: h2c\r\nConnection: upgrade\r\n",
            Upgrade::Other,
        ),
        (
            "Upgrade: h2c\r\nUpgrade: foo/1\r\nConnection: upgrade\r\n",
            Upgrade::Other,
        ),
        (
            "Upgrade: TLS/1.0\r\nConnection: upgrade\r\n",
            Upgrade::Other,
        ),
        ("Upgrade: websocket\r\n", Upgrade::None),
        ("Connection: upgrade\r\n", Upgrade::None),
    ] {
        let bytes = with_lines("GET / HTTP/1.1", lines);
        let head = request(&bytes);
        assert_eq!(head.upgrade, expected, "{lines}");
        for (name, _, kind) in head.headers(&bytes).iter().skip(1) {
            assert!(kind.is_hop_by_hop(), "{}", String::from_utf8_lossy(name));
        }
    }
    let old = with_lines(
        "GET / HTTP/1.0",
        "Upgrade: websocket\r\nConnection: upgrade\r\n",
    );
    assert_eq!(request(&old).upgrade, Upgrade::None);
}

#[test]
fn a_continue_is_owed_only_where_a_body_follows() {
    for (first, lines, expected) in [
        (
            "POST / HTTP/1.1",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            true,
        ),
        (
            "POST / HTTP/1.1",
            "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n",
            true,
        ),
        (
            "POST / HTTP/1.1",
            "Expect: 100-continue\r\nContent-Length: 0\r\n",
            false,
        ),
        ("POST / HTTP/1.1", "Expect: 100-continue\r\n", false),
        (
            "POST / HTTP/1.1",
            "Expect: , 100-continue, 100-continue\r\nContent-Length: 1\r\n",
            true,
        ),
        (
            "POST / HTTP/1.1",
            "Expect: 100-continue\r\nExpect:\r\nContent-Length: 1\r\n",
            true,
        ),
        (
            "POST / HTTP/1.1",
            "Expect: ,\r\nContent-Length: 1\r\n",
            false,
        ),
        (
            "POST / HTTP/1.0",
            "Expect: 100-continue\r\nContent-Length: 1\r\n",
            false,
        ),
    ] {
        assert_eq!(
            request(&with_lines(first, lines)).expect_continue,
            expected,
            "{first} {lines}"
        );
    }
}

#[test]
fn an_absolute_target_overrides_host() {
    for (method, target, authority, prefix, rest) in [
        ("GET", "http://b:81/x?y", "b:81", "", "/x?y"),
        ("GET", "http://b", "b", "/", ""),
        ("GET", "https://b?y", "b", "/", "?y"),
        ("OPTIONS", "http://b:81", "b:81", "/", ""),
        ("OPTIONS", "http://b/", "b", "", "/"),
        ("OPTIONS", "*", "a", "", "*"),
        ("CONNECT", "c:443", "c:443", "", ""),
    ] {
        let bytes = with_lines(&format!("{method} {target} HTTP/1.1"), "");
        let head = request(&bytes);
        assert_eq!(
            head.host.map(|h| h.of(&bytes)),
            Some(authority.as_bytes()),
            "{target}"
        );
        assert_eq!(
            head.path_and_query(&bytes),
            (prefix, rest.as_bytes()),
            "{target}"
        );
    }
    let bytes = b"GET http://b/ HTTP/1.0\r\n\r\n";
    let head = request(bytes);
    assert_eq!(head.host.map(|h| h.of(bytes)), Some(&b"b"[..]));
    let TargetForm::Absolute { scheme, .. } = head.target_form else {
        panic!()
    };
    assert_eq!(scheme.of(bytes), b"http");
    assert_eq!(request(b"GET / HTTP/1.0\r\n\r\n").host, None);
}

#[test]
fn header_values_are_visited_by_name() {
    let bytes = with_lines(
        "GET / HTTP/1.1",
        "Accept: a\r\nX: y\r\naccept: b, c\r\nACCEPT:\r\n",
    );
    let head = request(&bytes);
    let headers = head.headers(&bytes);
    let mut seen = Vec::new();
    headers.visit("accepT", &mut |value| seen.push(value.to_vec()));
    assert_eq!(seen, [b"a".to_vec(), b"b, c".to_vec(), b"".to_vec()]);
    assert_eq!(headers.first("x"), Some(&b"y"[..]));
    assert_eq!(headers.first("absent"), None);
}

#[test]
fn known_names_have_kinds() {
    for (name, kind) in [
        ("Host", HeaderKind::Host),
        ("TE", HeaderKind::Te),
        ("X-Envoy-Attempt-Count", HeaderKind::XEnvoy),
        ("x-envoy-", HeaderKind::XEnvoy),
        ("x-envo", HeaderKind::Other),
        ("X-Forwarded-Client-Cert", HeaderKind::XForwardedClientCert),
        ("x-forwarded-for", HeaderKind::XForwardedFor),
        ("x-forwarded-fox", HeaderKind::Other),
        ("X-REQUEST-ID", HeaderKind::XRequestId),
        ("Trailer", HeaderKind::Trailer),
        ("trailers", HeaderKind::Other),
        ("Proxy-Connection", HeaderKind::ProxyConnection),
        ("Keep-Alive", HeaderKind::KeepAlive),
        ("Server", HeaderKind::Server),
        ("Date", HeaderKind::Date),
    ] {
        assert_eq!(HeaderKind::of_name(name.as_bytes()), kind, "{name}");
    }
}

#[test]
fn a_head_can_be_used_again_after_any_outcome() {
    let limits = HeadLimits::default();
    let mut head = RequestHead::default();
    let good = with_lines("GET /1 HTTP/1.1", "A: b\r\nConnection: close\r\n");
    assert_eq!(
        parse_request(&good, &limits, &mut head),
        Ok(Progress::Complete)
    );
    assert!(parse_request(b"GET x HTTP/1.1\r\n", &limits, &mut head).is_err());
    let plain = with_lines("GET /2 HTTP/1.1", "");
    assert_eq!(
        parse_request(&plain, &limits, &mut head),
        Ok(Progress::Complete)
    );
    assert_eq!(
        (head.target.of(&plain), head.headers.len()),
        (&b"/2"[..], 1)
    );
    assert!(head.keep_alive);
    assert_eq!(
        parse_request(&good[..20], &limits, &mut head),
        Ok(Progress::Incomplete)
    );
    head.reset();
    assert_eq!(
        parse_request(&plain, &limits, &mut head),
        Ok(Progress::Complete)
    );
}

#[test]
fn a_response_is_described_by_ranges_of_its_buffer() {
    let bytes = b"HTTP/1.1 404 Not Here\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc";
    let mut head = ResponseHead::default();
    let limits = HeadLimits::default();
    assert_eq!(
        parse_response(bytes, &limits, false, false, &mut head),
        Ok(Progress::Complete)
    );
    assert_eq!(
        (head.status, head.reason.of(bytes)),
        (404, &b"Not Here"[..])
    );
    assert_eq!(head.framing, BodyFraming::Length(3));
    assert_eq!(&bytes[head.head_len..], b"abc");
    assert!(head.keep_alive && !head.is_interim());
    assert_eq!(head.headers(bytes).first("server"), Some(&b"x"[..]));

    assert_eq!(
        parse_response(bytes, &limits, true, false, &mut head),
        Ok(Progress::Complete)
    );
    assert_eq!(
        (head.framing, head.content_length),
        (BodyFraming::None, Some(3))
    );
}

#[test]
fn a_response_connection_persists_only_if_its_end_is_known() {
    for (bytes, keep_alive) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n",
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n",
            true,
        ),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", false),
        ("HTTP/1.1 204 No Content\r\n\r\n", true),
    ] {
        let mut head = ResponseHead::default();
        let limits = HeadLimits::default();
        let progress = parse_response(bytes.as_bytes(), &limits, false, false, &mut head);
        assert_eq!(
            (progress, head.keep_alive),
            (Ok(Progress::Complete), keep_alive),
            "{bytes}"
        );
    }
}

#[test]
fn only_a_101_switches_protocols() {
    let limits = HeadLimits::default();
    let mut head = ResponseHead::default();
    for (status, upgrade, interim) in [
        (101, Upgrade::WebSocket, false),
        (200, Upgrade::None, false),
        (103, Upgrade::None, true),
    ] {
        let bytes =
            format!("HTTP/1.1 {status} x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        let progress = parse_response(bytes.as_bytes(), &limits, false, false, &mut head);
        assert_eq!(progress, Ok(Progress::Complete));
        assert_eq!(
            (head.upgrade, head.is_interim()),
            (upgrade, interim),
            "{status}"
        );
    }
}
