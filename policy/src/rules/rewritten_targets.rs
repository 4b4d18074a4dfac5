//! What a rewrite puts into a request line and its `Host`, where it goes out as it is written.
//! Istio is silent about all of these.

use crate::schema::{Node, Report};

/// Neither Envoy nor Istio looks at the text: the upstream gets it as its `Host` (RFC 9110 section
/// 7.2, a host and perhaps a port).
pub(super) fn check_authority(authority: &Node<'_>, report: &mut Report<'_>) {
    let text = authority.text();
    let Some((problem, help)) = problem_of(text) else {
        return;
    };
    let message = format!("the upstream gets `{text}` as its Host, and {problem}");
    report.warning("invalid-host", authority, message, help);
}

fn problem_of(text: &str) -> Option<(String, String)> {
    if text.is_empty() {
        return None;
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let problem = format!("a Host has no scheme, `{scheme}://`");
        return Some((problem, format!("write `{host}`")));
    }
    if let Some(at) = text.find(['/', '?', '#', '@']) {
        let problem = format!("no Host has a `{}`", &text[at..=at]);
        let help = match &text[at..=at] {
            "@" => format!("write `{}`", &text[at + 1..]),
            _ => format!("write `{}`, and a path by `uri:`", &text[..at]),
        };
        return Some((problem, help));
    }
    let after_host = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((_, after)) => after,
            None => {
                let problem = "its `[` is not closed".to_string();
                return Some((problem, "write `[2001:db8::1]:8080`".to_string()));
            }
        },
        None => text.find(':').map_or("", |at| &text[at..]),
    };
    let host = &text[..text.len() - after_host.len()];
    let port = match after_host {
        "" => return None,
        after => after.strip_prefix(':').unwrap_or(after),
    };
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        let problem = "an IPv6 address in a Host stands in brackets".to_string();
        return Some((problem, format!("write `[{text}]`")));
    }
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    if after_host.starts_with(':') && is_port && is_number {
        return None;
    }
    let problem = format!("`{port}` is no port");
    Some((
        problem,
        format!("write `{host}`, or `{host}:` and one port"),
    ))
}

/// Paths are rewritten without their query, which follows as it came.
pub(super) fn check_path(uri: &Node<'_>, report: &mut Report<'_>) {
    let text = uri.text();
    let Some(at) = text.find(['?', '#']) else {
        return;
    };
    let (message, help) = match &text[at..=at] {
        "?" => (
            format!(
                "a rewrite makes a path, and what is left of it and the query come behind: a \
                 request with `?a=b` goes out with `{text}?a=b`"
            ),
            format!("write `{}`: a rewrite adds no query", path_before(text, at)),
        ),
        _ => (
            format!("the upstream gets the path `{text}`, and no path has a `#`"),
            format!("write `{}`", path_before(text, at)),
        ),
    };
    report.warning("invalid-path", uri, message, help);
}

fn path_before(text: &str, at: usize) -> &str {
    match &text[..at] {
        "" => "/",
        path => path,
    }
}
