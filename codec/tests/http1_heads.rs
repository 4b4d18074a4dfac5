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
