//! `host [":" port]` as in `Host`, `:authority` and request targets (RFC 9110 section 7.2).

use super::charset::is_reg_name_byte;

/// Splits `host [":" port]` at the port. An IPv6 literal keeps its brackets. The port is what
/// stands after the colon, possibly empty; `None` when there is no colon.
///
/// The split does not validate; see [`valid_authority`].
pub fn split_authority(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let host_end = match authority.first() {
        Some(b'[') => match memchr::memchr(b']', authority) {
            Some(at) => at + 1,
            None => return (authority, None),
        },
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_end);
    match rest.split_first() {
        Some((b':', port)) => (host, Some(port)),
        _ => (host, None),
    }
}

/// Whether `authority` is a non-empty `uri-host [":" port]` (RFC 3986 sections 3.2.2 and 3.2.3)
/// without user information. A port is at most 65,535; an empty one after the colon is allowed,
/// as the grammar has it.
pub fn valid_authority(authority: &[u8]) -> bool {
    let (host, port) = split_authority(authority);
    if host.len() + port.map_or(0, |p| p.len() + 1) != authority.len() {
        return false;
    }
    let host_ok = match host {
        [b'[', inside @ .., b']'] => valid_ip_literal(inside),
        _ => valid_reg_name(host),
    };
    host_ok && port.is_none_or(valid_port)
}

/// Up to five digits, at most 65,535; empty is fine.
pub(super) fn valid_port(port: &[u8]) -> bool {
    port.len() <= 5
        && port.iter().all(u8::is_ascii_digit)
        && port.iter().fold(0u32, |n, d| n * 10 + u32::from(d - b'0')) <= 65_535
}

fn valid_ip_literal(inside: &[u8]) -> bool {
    match inside {
        [b'v' | b'V', rest @ ..] => match rest.iter().position(|b| *b == b'.') {
            Some(dot) => {
                let (version, address) = (&rest[..dot], &rest[dot + 1..]);
                !version.is_empty()
                    && version.iter().all(u8::is_ascii_hexdigit)
                    && !address.is_empty()
                    && address.iter().all(|b| is_reg_name_byte(*b) || *b == b':')
            }
            None => false,
        },
        _ => {
            std::str::from_utf8(inside).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
        }
    }
}

fn valid_reg_name(name: &[u8]) -> bool {
    if name.iter().all(|b| is_reg_name_byte(*b)) {
        return !name.is_empty();
    }
    let mut rest = name;
    while let Some((&b, after)) = rest.split_first() {
        rest = match (b, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            _ if is_reg_name_byte(b) => after,
            _ => return false,
        };
    }
    true
}
