//! Keeps web pages away from the admin interface.
//!
//! A page in a browser can send requests to loopback, and with a name that resolves to 127.0.0.1
//! it can read the answers. Both show in the target, `Host` or `Origin`.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What probes and scrapers read, by whatever name they know this machine; it holds no secret.
const FOR_MACHINES: [&str; 2] = ["/ready", "/stats/prometheus"];

/// Refuses requests that were made for another host than this one.
pub async fn refuse_foreign(
    State(bound): State<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if request.headers().get_all(header::HOST).iter().count() > 1 {
        let why = "There are several Host headers. Send one.\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    if is_open(request.uri().path(), bound.ip()) {
        return next.run(request).await;
    }
    // Before HTTP/1.1 it was free to a client to name the host; browsers always do.
    if !request.headers().contains_key(header::HOST) && request.version() > Version::HTTP_10 {
        let why = "There is no Host header. Send one, such as `Host: localhost`.\n";
        return (StatusCode::BAD_REQUEST, why).into_response();
    }
    let target = request.uri().authority();
    // What the target names stands before Host (RFC 9112, section 3.2.2).
    let foreign = match target.is_some_and(|host| !is_ours(host.as_str(), bound.ip())) {
        true => Some("target"),
        false => foreign_header(request.headers(), bound.ip()),
    };
    match foreign {
        None => next.run(request).await,
        Some(name) => {
            let why = format!(
                "The {name} of the request names another host. The admin interface answers to \
                 localhost, loopback addresses and the address it listens on.\n"
            );
            (StatusCode::FORBIDDEN, why).into_response()
        }
    }
}

/// Whether a page is for other machines: only where they can reach it at all.
fn is_open(path: &str, bound: IpAddr) -> bool {
    !bound.is_loopback() && FOR_MACHINES.contains(&path)
}

fn foreign_header(headers: &HeaderMap, bound: IpAddr) -> Option<&'static str> {
    let value = |name| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    if value(header::HOST).is_some_and(|host| !is_ours(host, bound)) {
        return Some("Host header");
    }
    match value(header::ORIGIN) {
        Some(origin)
            if origin
                .split_once("://")
                .is_none_or(|(_, host)| !is_ours(host, bound)) =>
        {
            Some("Origin header")
        }
        _ => None,
    }
}

/// Whether `authority` (a host, maybe with a port) names this machine without a name service.
fn is_ours(authority: &str, bound: IpAddr) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    match literal.parse::<IpAddr>() {
        // On all addresses, any literal is one of ours: a page cannot fake one.
        Ok(ip) => ip.is_loopback() || ip == bound || bound.is_unspecified(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn verdict(
        host: Option<&'static str>,
        origin: Option<&'static str>,
        bound: &str,
    ) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(header::HOST, HeaderValue::from_static(host));
        }
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        foreign_header(&headers, bound.parse().expect("an address"))
    }

    #[test]
    fn names_of_this_machine_pass() {
        for host in [
            "localhost:15000",
            "LOCALHOST",
            "127.0.0.1:15000",
            "127.9.9.9",
            "[::1]:15000",
        ] {
            assert_eq!(verdict(Some(host), None, "127.0.0.1"), None, "{host}");
        }
        assert_eq!(verdict(Some("192.0.2.1:15000"), None, "192.0.2.1"), None);
        assert_eq!(verdict(Some("192.0.2.1:15000"), None, "0.0.0.0"), None);
        assert_eq!(verdict(Some("[2001:db8::1]:15000"), None, "::"), None);
    }

    #[test]
    fn other_names_do_not() {
        for host in [
            "evil.example:15000",
            "localhost.evil.example",
            "",
            "192.0.2.1",
        ] {
            assert_eq!(
                verdict(Some(host), None, "127.0.0.1"),
                Some("Host header"),
                "{host}"
            );
        }
        assert_eq!(
            verdict(Some("evil.example"), None, "0.0.0.0"),
            Some("Host header")
        );
    }

    #[test]
    fn scrapers_reach_a_proxy_that_listens_for_them_by_any_name() {
        let (everywhere, here) = ("0.0.0.0", "127.0.0.1");
        let is_open = |path, bound: &str| is_open(path, bound.parse().expect("an address"));
        assert!(is_open("/stats/prometheus", everywhere) && is_open("/ready", everywhere));
        assert!(!is_open("/stats/prometheus", here));
        assert!(!is_open("/config_dump", everywhere) && !is_open("/quitquitquit", everywhere));
    }

    #[test]
    fn a_page_of_another_origin_does_not() {
        let host = Some("127.0.0.1:15000");
        assert_eq!(
            verdict(host, Some("http://127.0.0.1:15000"), "127.0.0.1"),
            None
        );
        for origin in ["https://evil.example", "null", "file://"] {
            assert_eq!(
                verdict(host, Some(origin), "127.0.0.1"),
                Some("Origin header"),
                "{origin}"
            );
        }
    }
}
