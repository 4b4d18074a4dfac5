//! Which protocol the first bytes of a connection are taken for.

use ringroad_codec::sniff::*;

fn vector8(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector16(data)].concat()
}

fn server_name(host: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0][..], &vector16(host)].concat()))
}

fn alpn(protocols: &[&[u8]]) -> Vec<u8> {
    extension(
        16,
        &vector16(
            &protocols
                .iter()
                .flat_map(|p| vector8(p))
                .collect::<Vec<u8>>(),
        ),
    )
}

/// A handshake message of type 1 with these extensions.
fn hello(extensions: &[Vec<u8>]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[9; 32],
        &vector8(&[1; 32]),
        &vector16(&[0x13, 1, 0x13, 2]),
        &vector8(&[0]),
        &vector16(&extensions.concat()),
    ]
    .concat();
    let len = (body.len() as u32).to_be_bytes();
    [&[1, len[1], len[2], len[3]][..], &body].concat()
}

fn records(message: &[u8], fragment: usize) -> Vec<u8> {
    message
        .chunks(fragment)
        .flat_map(|part| [&[22, 3, 1][..], &vector16(part)].concat())
        .collect()
}

fn tls(extensions: &[Vec<u8>]) -> Sniff {
    sniff(&records(&hello(extensions), 1 << 14))
}

/// The answer, and that every shorter prefix of what decided it was `Incomplete`.
fn decided(buf: &[u8]) -> (Sniff, usize) {
    for end in 0..=buf.len() {
        let answer = sniff(&buf[..end]);
        if answer != Sniff::Incomplete {
            assert_eq!(sniff(buf), answer, "more bytes changed it: {buf:?}");
            return (answer, end);
        }
    }
    (Sniff::Incomplete, buf.len())
}

#[test]
fn a_client_hello_tells_name_and_protocols() {
    let expected = ClientHello {
        server_name: Some("reviews.example".into()),
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    let message = hello(&[
        extension(43, &[2, 3, 4]),
        server_name(b"Reviews.Example"),
        alpn(&[b"h2", b"http/1.1"]),
    ]);
    for fragment in [1, 3, 50, 1 << 14] {
        let bytes = records(&message, fragment);
        assert_eq!(
            decided(&bytes),
            (Sniff::Tls(expected.clone()), bytes.len()),
            "by {fragment}"
        );
        let followed = [&bytes[..], b"more"].concat();
        assert_eq!(sniff(&followed), Sniff::Tls(expected.clone()));
    }
    assert_eq!(tls(&[]), Sniff::Tls(ClientHello::default()));
    let no_extensions = [&[3, 1][..], &[9; 32], &[0, 0, 2, 0, 5, 1, 0]].concat();
    let message = [&[1, 0, 0, no_extensions.len() as u8][..], &no_extensions].concat();
    assert_eq!(
        sniff(&records(&message, 99)),
        Sniff::Tls(ClientHello::default())
    );
}

#[test]
fn a_malformed_client_hello_is_unknown() {
    for (why, extensions) in [
        ("empty name", vec![server_name(b"")]),
        ("name with a space", vec![server_name(b"a b")]),
        ("name with a NUL", vec![server_name(b"a\0b")]),
        ("name beyond ASCII", vec![server_name("é".as_bytes())]),
        (
            "two name extensions",
            vec![server_name(b"a"), server_name(b"b")],
        ),
        ("empty name list", vec![extension(0, &[0, 0])]),
        (
            "name list too short",
            vec![extension(0, &[0, 9, 0, 0, 1, b'a'])],
        ),
        (
            "bytes after the name list",
            vec![extension(0, &[0, 4, 0, 0, 1, b'a', 0])],
        ),
        ("two ALPN extensions", vec![alpn(&[b"h2"]), alpn(&[b"h2"])]),
        ("empty protocol", vec![alpn(&[b"h2", b""])]),
        ("empty protocol list", vec![alpn(&[])]),
        ("cut extension", vec![vec![0, 16, 0, 9, 0]]),
    ] {
        assert_eq!(tls(&extensions), Sniff::Unknown, "{why}");
    }
    let two_names = [&[0][..], &vector16(b"a"), &[0], &vector16(b"b")].concat();
    assert_eq!(tls(&[extension(0, &vector16(&two_names))]), Sniff::Unknown);
    let mut trailing = hello(&[]);
    trailing.push(0);
    trailing[3] += 1;
    assert_eq!(sniff(&records(&trailing, 999)), Sniff::Unknown);
}

#[test]
fn what_cannot_become_a_client_hello_is_unknown_at_once() {
    for (bytes, at) in [
        (&[22, 2][..], 2),
        (&[22, 3, 5], 3),
        (&[22, 3, 1, 0, 0], 5),
        (&[22, 3, 1, 0x40, 1], 5),
        (&[22, 3, 1, 0, 9, 2], 6),
        (&[22, 3, 1, 0, 9, 1, 1, 0, 0], 9),
        (&[22, 3, 1, 0, 1, 1, 23], 7),
    ] {
        assert_eq!(decided(bytes), (Sniff::Unknown, at), "{bytes:?}");
    }
}

#[test]
fn http_is_known_by_its_first_line() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(decided(preface), (Sniff::Http2, preface.len()));
    for line in [
        "GET / HTTP/1.1\r\n",
        "x-own http://a/ HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
    ] {
        assert_eq!(
            decided(line.as_bytes()),
            (Sniff::Http1, line.len()),
            "{line}"
        );
        assert_eq!(sniff(format!("{line}Host: a\r\n").as_bytes()), Sniff::Http1);
    }
    for text in [
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HELO mail.example\r\n",
        "GET / HTTP/1.2\r\n",
        "GET / HTTP/1.1\n",
        "GET  HTTP/1.1\r\n",
        "GET / HTTP/1.1\rx",
        "PRI * HTTP/2.0\r\n\r\nXX",
        "a b c d",
        "\r\n",
        " GET",
        "*1\r\n$4\r\nPING\r\n",
        "\0\0\0\u{8}",
        "caf\u{e9} / HTTP/1.1\r\n",
    ] {
        assert_eq!(decided(text.as_bytes()).0, Sniff::Unknown, "{text:?}");
    }
    assert_eq!(sniff(b""), Sniff::Incomplete);
    let endless = vec![b'a'; MAX_REQUEST_LINE_BYTES];
    assert_eq!(decided(&endless), (Sniff::Unknown, MAX_REQUEST_LINE_BYTES));
}
