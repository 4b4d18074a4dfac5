//! Heads of HTTP/2 (RFC 9113 section 8.3) as HTTP/1.1 text, and back.
//!
//! The engine knows one form of a head, HTTP/1.1 text, so routing, authorization and rewriting see
//! the same whatever the peer speaks.

use super::failure::StreamFailure;
use super::inflow::Framing;
use super::websocket;
use crate::proxy::grpc::is_grpc_type;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use ringroad_codec::http1::{
    BodyFraming, HeaderKind, Headers, RequestHead, ResponseHead, Upgrade, end_head, is_token,
    may_be_trailer, write_header, write_status_line,
};

/// The text of a request head, and how its body is framed; `None` for what has no such text, which
/// is malformed. An extended CONNECT becomes the upgrade that it stands for (RFC 8441 section 5).
/// `make_key` makes the key of a WebSocket.
pub fn request_text(
    request: &Request<()>,
    ends_here: bool,
    make_key: impl FnOnce() -> String,
) -> Option<(Vec<u8>, Framing)> {
    let mut out = Vec::with_capacity(512);
    let uri = request.uri();
    let headers = request.headers();
    let protocol = request.extensions().get::<h2::ext::Protocol>();
    let is_connect = request.method() == Method::CONNECT;
    // `h2` lets any text be a protocol.
    if protocol.is_some_and(|protocol| !is_connect || !is_token(protocol.as_str().as_bytes())) {
        return None;
    }
    // What is no WebSocket is refused further on, as over HTTP/1.1.
    let is_tunnel = is_connect && protocol.is_none();
    let is_websocket =
        |protocol: &h2::ext::Protocol| protocol.as_str().eq_ignore_ascii_case("websocket");
    let is_upgrade = protocol.is_some_and(is_websocket);
    let method = match protocol {
        Some(_) => "GET",
        None => request.method().as_str(),
    };
    let target = match (is_tunnel, uri.authority()) {
        (true, Some(authority)) => authority.as_str(),
        _ => uri.path_and_query().map_or("/", |path| path.as_str()),
    };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    // `:authority` stands above a `host` beside it (RFC 9113 section 8.3.1). Without one, several
    // hosts are for the parser to refuse.
    match uri.authority() {
        Some(authority) => write_header(&mut out, b"host", authority.as_str().as_bytes()),
        None => {
            let hosts = headers.get_all("host").into_iter();
            hosts.for_each(|host| write_header(&mut out, b"host", host.as_bytes()));
        }
    }
    let mut has_length = false;
    let hides_length = !ends_here && may_have_trailers(headers);
    let mut cookies: Vec<&[u8]> = Vec::new();
    for (name, value) in headers {
        match name.as_str() {
            "host" => {}
            websocket::KEY if is_upgrade => {}
            "content-length" if hides_length => {}
            // Split for compression; one line in HTTP/1.1 (RFC 9113 section 8.2.3).
            "cookie" => cookies.push(value.as_bytes()),
            "content-length" => {
                has_length = true;
                write_header(&mut out, name.as_str().as_bytes(), value.as_bytes());
            }
            name => write_header(&mut out, name.as_bytes(), value.as_bytes()),
        }
    }
    if !cookies.is_empty() {
        write_header(&mut out, b"cookie", &cookies.join(b"; ".as_slice()));
    }
    if let Some(protocol) = protocol {
        out.extend_from_slice(b"connection: upgrade\r\n");
        write_header(&mut out, b"upgrade", protocol.as_str().as_bytes());
    }
    let framing = match (is_upgrade, ends_here, has_length) {
        (true, ..) => {
            write_header(&mut out, websocket::KEY.as_bytes(), make_key().as_bytes());
            Framing::Tunnel
        }
        (_, true, _) => Framing::None,
        _ if is_connect => Framing::None,
        (_, false, true) => Framing::Length,
        (_, false, false) => {
            write_header(&mut out, b"transfer-encoding", b"chunked");
            Framing::Chunked
        }
    };
    end_head(&mut out);
    Some((out, framing))
}

/// Whether trailers are to be expected behind the body: of gRPC, or where they are announced. In the
/// text the body then comes in chunks, since none can follow a length; `h2` itself holds the sender
/// to the length.
fn may_have_trailers(headers: &HeaderMap) -> bool {
    let kind = headers.get("content-type");
    kind.is_some_and(|kind| is_grpc_type(kind.as_bytes())) || headers.contains_key("trailer")
}

/// Whether a request that ends with its head announces a body all the same: it is malformed
/// (RFC 9113 section 8.1.1).
pub fn lacks_its_body(headers: &HeaderMap) -> bool {
    let mut lengths = headers.get_all("content-length").into_iter();
    let announces = |length: &HeaderValue| length.as_bytes().iter().any(|digit| *digit != b'0');
    lengths.any(announces)
}

/// The text of a response head, and how its body is framed. `to_head` tells that HEAD was asked.
pub fn response_text<B>(
    response: &Response<B>,
    ends_here: bool,
    to_head: bool,
) -> (Vec<u8>, Framing) {
    let mut out = Vec::with_capacity(512);
    let status = response.status();
    write_status_line(&mut out, status.as_u16());
    let headers = response.headers();
    let has_body = !status.is_informational() && !matches!(status.as_u16(), 204 | 304) && !to_head;
    let hides_length = has_body && !ends_here && may_have_trailers(headers);
    for (name, value) in headers {
        if !(hides_length && name == "content-length") {
            write_header(&mut out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let has_length = !hides_length && headers.contains_key("content-length");
    let framing = match (has_body, ends_here, has_length) {
        (false, ..) => Framing::None,
        (true, true, true) => Framing::None,
        (true, true, false) => {
            write_header(&mut out, b"content-length", b"0");
            Framing::None
        }
        (true, false, true) => Framing::Length,
        (true, false, false) => {
            write_header(&mut out, b"transfer-encoding", b"chunked");
            Framing::Chunked
        }
    };
    end_head(&mut out);
    (out, framing)
}

/// The text of the 101 that an accepted extended CONNECT stands for; `accept` answers the key of
/// the request.
pub fn switching_text<B>(response: &Response<B>, accept: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write_status_line(&mut out, 101);
    write_fields(response.headers(), &mut out);
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    if let Some(accept) = accept {
        write_header(&mut out, websocket::ACCEPT.as_bytes(), accept.as_bytes());
    }
    end_head(&mut out);
    out
}

/// Appends a line for each field, but for those that do not belong behind a body.
pub fn write_trailers(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        let name = name.as_str().as_bytes();
        if may_be_trailer(name) {
            write_header(out, name, value.as_bytes());
        }
    }
}

/// Appends a line for each field.
fn write_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in fields {
        write_header(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

/// The request of a parsed head. `scheme` counts where no header names it, as that of Envoy.
///
/// # Errors
/// `InvalidData` for a head that HTTP/2 cannot carry.
pub fn request_of(
    head: &RequestHead,
    bytes: &[u8],
    scheme: &'static str,
) -> Result<Request<()>, StreamFailure> {
    let headers = head.headers(bytes);
    let authority = head.host.map_or("", |host| ascii(host.of(bytes)));
    let scheme = match headers.first("x-forwarded-proto") {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => scheme,
    };
    let (prefix, rest) = head.path_and_query(bytes);
    let path = [prefix, ascii(rest)].concat();
    let is_upgrade = head.upgrade == Upgrade::WebSocket;
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| StreamFailure::Protocol)?;
    let mut request = Request::new(());
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = match is_upgrade {
        true => Method::CONNECT,
        false => Method::from_bytes(head.method.of(bytes)).map_err(|_| StreamFailure::Protocol)?,
    };
    let mut fields = header_map(&headers, true);
    if is_upgrade {
        let websocket = h2::ext::Protocol::from_static("websocket");
        request.extensions_mut().insert(websocket);
        fields.remove(websocket::KEY);
    }
    *request.headers_mut() = fields;
    Ok(request)
}

/// The response of a parsed head. One without a body ends with it.
///
/// # Errors
/// `InvalidData` for a head that HTTP/2 cannot carry.
pub fn response_of(
    head: &ResponseHead,
    bytes: &[u8],
    to_upgrade: bool,
) -> Result<Response<()>, StreamFailure> {
    let mut response = Response::new(());
    let status = match head.status {
        // The answer to an extended CONNECT (RFC 8441 section 5).
        101 => 200,
        // Here the client would take it for an agreement that there is not.
        200..=299 if to_upgrade => 502,
        status => status,
    };
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| StreamFailure::Protocol)?;
    *response.version_mut() = Version::HTTP_2;
    let mut fields = header_map(&head.headers(bytes), false);
    // A gRPC status alone is all there is: a length would make it look like a message.
    let is_empty = matches!(head.framing, BodyFraming::None | BodyFraming::Length(0));
    if fields.contains_key("grpc-status") && is_empty {
        fields.remove("content-length");
    }
    if to_upgrade {
        fields.remove(websocket::ACCEPT);
    }
    *response.headers_mut() = fields;
    Ok(response)
}

/// Trailers as a map.
pub fn trailer_map(trailers: &Headers<'_>) -> HeaderMap {
    header_map(trailers, false)
}

/// The fields that go end to end.
fn header_map(headers: &Headers<'_>, is_request: bool) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(headers.len());
    for (name, value, kind) in headers.iter() {
        let is_host = is_request && kind == HeaderKind::Host;
        let is_trailers_wish = kind == HeaderKind::Te && value.eq_ignore_ascii_case(b"trailers");
        if is_host || kind.is_hop_by_hop() && !is_trailers_wish {
            continue;
        }
        let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        else {
            continue;
        };
        map.append(name, value);
    }
    map
}

/// Bytes that the codec has checked to be ASCII.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
