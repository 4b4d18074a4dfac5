//! Bytes that the writers produce.

use ringroad_codec::http1::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_and_numbers() {
    assert_eq!(
        written(|o| write_request_line(o, b"GET", b"/a?b")),
        "GET /a?b HTTP/1.1\r\n"
    );
    assert_eq!(
        written(|o| write_status_line(o, 200)),
        "HTTP/1.1 200 OK\r\n"
    );
    assert_eq!(
        written(|o| write_status_line(o, 503)),
        "HTTP/1.1 503 Service Unavailable\r\n"
    );
    assert_eq!(
        written(|o| write_status_line(o, 299)),
        "HTTP/1.1 299 Unknown\r\n"
    );
    assert_eq!(
        written(|o| write_status_line_as(o, Version::Http10, 404, b"Gone fishing")),
        "HTTP/1.0 404 Gone fishing\r\n"
    );
    assert_eq!(written(|o| write_header(o, b"a", b"b c")), "a: b c\r\n");
    for number in [0, 1, 9, 10, 12_345_678_901_234_567_890, u64::MAX] {
        assert_eq!(written(|o| write_number(o, number)), number.to_string());
        assert_eq!(
            written(|o| write_content_length(o, number)),
            format!("content-length: {number}\r\n")
        );
    }
    for size in [1, 15, 16, 255, 4096, u64::MAX] {
        assert_eq!(
            written(|o| write_chunk_header(o, size)),
            format!("{size:x}\r\n")
        );
    }
    assert_eq!(written(write_last_chunk), "0\r\n\r\n");
    let trailers = written(|o| {
        begin_trailers(o);
        write_header(o, b"x", b"y");
        end_head(o);
    });
    assert_eq!(trailers, "0\r\nx: y\r\n\r\n");
}

#[test]
fn dates() {
    for (seconds, text) in [
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
        (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
        (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
        (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
        (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
        (1_735_689_600, "Wed, 01 Jan 2025 00:00:00 GMT"),
        (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        (253_402_300_799, "Fri, 31 Dec 9999 23:59:59 GMT"),
        (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        let date = written(|o| write_http_date(o, seconds));
        assert_eq!((date.as_str(), date.len()), (text, HTTP_DATE_LEN));
    }
}

#[test]
fn local_replies() {
    let reply = LocalReply {
        version: Version::Http11,
        status: 404,
        body: b"no route",
        to_head: false,
        headers: &[("server", b"istio-envoy")],
        keep_alive: true,
    };
    let text = "HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\ncontent-type: text/plain\r\n\
        server: istio-envoy\r\n\r\nno route";
    assert_eq!(written(|o| reply.write(o)), text);
    let to_head = LocalReply {
        to_head: true,
        keep_alive: false,
        ..reply
    };
    let text = "HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\ncontent-type: text/plain\r\n\
        server: istio-envoy\r\nconnection: close\r\n\r\n";
    assert_eq!(written(|o| to_head.write(o)), text);
    let old = LocalReply {
        version: Version::Http10,
        status: 204,
        headers: &[],
        ..reply
    };
    assert_eq!(
        written(|o| old.write(o)),
        "HTTP/1.0 204 No Content\r\nconnection: keep-alive\r\n\r\n"
    );
    let empty = LocalReply {
        status: 503,
        body: b"",
        headers: &[],
        ..reply
    };
    assert_eq!(
        written(|o| empty.write(o)),
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    );
}

#[test]
fn local_replies_are_read_back_with_their_framing() {
    for status in [200, 204, 304, 400, 431, 503] {
        for keep_alive in [false, true] {
            for version in [Version::Http10, Version::Http11] {
                let reply = LocalReply {
                    version,
                    status,
                    body: b"why",
                    to_head: false,
                    headers: &[("x", b"y")],
                    keep_alive,
                };
                let bytes = written(|o| reply.write(o)).into_bytes();
                let mut head = ResponseHead::default();
                let limits = HeadLimits::default();
                let progress = parse_response(&bytes, &limits, false, false, &mut head);
                assert_eq!(progress, Ok(Progress::Complete));
                assert_eq!((head.status, head.keep_alive), (status, keep_alive));
                let mut body = BodyScanner::new(head.framing, &BodyLimits::default());
                let scan = body.scan(&bytes[head.head_len..]).unwrap();
                assert!(scan.complete && head.head_len + scan.consumed == bytes.len());
            }
        }
    }
}

#[test]
fn reasons_are_for_registered_statuses() {
    assert!(is_known_status(431) && is_known_status(100));
    assert!(!is_known_status(299) && !is_known_status(0));
    let mut head = ResponseHead::default();
    let progress = parse_response(CONTINUE, &HeadLimits::default(), false, false, &mut head);
    assert_eq!((progress, head.status), (Ok(Progress::Complete), 100));
}
