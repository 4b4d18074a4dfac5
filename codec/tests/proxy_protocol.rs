//! PROXY protocol headers, read and written.

use ringroad_codec::proxy_protocol::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn pair(source: &str, destination: &str) -> Option<ProxyAddresses> {
    Some(ProxyAddresses {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
    })
}

/// The verdict, which every split must leave as it is.
fn parse(buf: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let whole = parse_proxy_header(buf);
    for end in 0..buf.len() {
        match parse_proxy_header(&buf[..end]) {
            Ok(None) => {}
            decided => {
                assert_eq!(decided, whole, "more bytes changed it: {buf:?}");
                break;
            }
        }
    }
    whole
}

fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &len, payload].concat()
}

#[test]
fn version_1_lines_are_read() {
    for (line, addresses) in [
        (
            "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
            pair("192.0.2.1:56324", "198.51.100.2:443"),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 1 65535\r\n",
            pair("[2001:db8::1]:1", "[::1]:65535"),
        ),
        (
            "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
            pair("0.0.0.0:0", "0.0.0.0:0"),
        ),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    ] {
        let expected = Ok(Some(ProxyHeader {
            addresses,
            len: line.len(),
        }));
        assert_eq!(parse(line.as_bytes()), expected, "{line}");
        assert_eq!(parse(format!("{line}GET /").as_bytes()), expected, "{line}");
    }
}

#[test]
fn malformed_version_1_lines_are_refused() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 \r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443 9\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 01 443\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2  443\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 1 443\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 1 443\r\n",
        "PROXY TCP4 ::1 ::2 1 443\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 443\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY \r\n",
        "PROXY TCP4 \u{ff11}92.0.2.1 198.51.100.2 1 443\r\n",
    ] {
        assert_eq!(
            parse(line.as_bytes()),
            Err(ProxyHeaderError::InvalidLine),
            "{line:?}"
        );
    }
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1_BYTES - 16));
    assert_eq!(longest.len(), MAX_V1_BYTES);
    assert!(parse(longest.as_bytes()).is_ok());
    let longer = longest.replace("x\r", "xx\r");
    assert_eq!(parse(longer.as_bytes()), Err(ProxyHeaderError::InvalidLine));
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PROXYx",
        b"\r\n\r\nx",
        b"\x16\x03\x01",
    ] {
        assert_eq!(parse(bytes), Err(ProxyHeaderError::NoHeader));
    }
}

#[test]
fn version_2_headers_are_read() {
    let four = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 1, 0xbb];
    let six = [&[0; 15][..], &[1], &[0; 15], &[2], &[0, 80, 1, 0xbb]].concat();
    let extended = [&four[..], &[4, 0, 2, 9, 9]].concat();
    for (bytes, addresses) in [
        (
            v2(0x21, 0x11, &four),
            pair("192.0.2.1:56324", "198.51.100.2:443"),
        ),
        (
            v2(0x21, 0x11, &extended),
            pair("192.0.2.1:56324", "198.51.100.2:443"),
        ),
        (v2(0x21, 0x21, &six), pair("[::1]:80", "[::2]:443")),
        (v2(0x21, 0x31, &[0; 216]), None),
        (v2(0x21, 0x00, &[]), None),
        (v2(0x21, 0x00, &[1, 2, 3]), None),
        (v2(0x20, 0x00, &[]), None),
        (v2(0x20, 0x11, &four), None),
        (v2(0x20, 0x77, &four), None),
        (v2(0x20, 0x11, &[]), None),
    ] {
        let expected = Ok(Some(ProxyHeader {
            addresses,
            len: bytes.len(),
        }));
        assert_eq!(parse(&bytes), expected, "{bytes:?}");
        assert_eq!(
            parse(&[&bytes[..], b"\x16"].concat()),
            expected,
            "{bytes:?}"
        );
        assert_eq!(parse(&bytes[..bytes.len() - 1]), Ok(None), "{bytes:?}");
    }
}

#[test]
fn malformed_version_2_headers_are_refused() {
    use ProxyHeaderError::*;
    for (bytes, error) in [
        (v2(0x11, 0x11, &[0; 12]), InvalidBinary),
        (v2(0x22, 0x11, &[0; 12]), InvalidBinary),
        (v2(0x21, 0x12, &[0; 12]), InvalidBinary),
        (v2(0x21, 0x10, &[0; 12]), InvalidBinary),
        (v2(0x21, 0x41, &[0; 12]), InvalidBinary),
        (v2(0x21, 0x11, &[0; 11]), InvalidBinary),
        (v2(0x21, 0x21, &[0; 35]), InvalidBinary),
        (v2(0x21, 0x31, &[0; 215]), InvalidBinary),
        (v2(0x21, 0x11, &[0; MAX_V2_PAYLOAD_BYTES + 1]), TooLarge),
    ] {
        assert_eq!(parse(&bytes), Err(error), "{:?}", &bytes[..16]);
    }
    assert!(parse(&v2(0x21, 0x11, &[0; MAX_V2_PAYLOAD_BYTES])).is_ok());
}

#[test]
fn written_headers_read_back() {
    for addresses in [
        pair("192.0.2.1:1", "198.51.100.2:65535"),
        pair("[2001:db8::a]:1024", "[::ffff:1.2.3.4]:443"),
        None,
    ] {
        for write in [write_proxy_v1, write_proxy_v2] {
            let mut out = Vec::new();
            write(&mut out, addresses.as_ref());
            let expected = Ok(Some(ProxyHeader {
                addresses,
                len: out.len(),
            }));
            assert_eq!(parse(&out), expected);
        }
    }
    let mixed = pair("192.0.2.1:1", "[::1]:2");
    for write in [write_proxy_v1, write_proxy_v2] {
        let mut out = Vec::new();
        write(&mut out, mixed.as_ref());
        assert_eq!(
            parse(&out).map(|header| header.map(|h| h.addresses)),
            Ok(Some(None))
        );
    }
}
