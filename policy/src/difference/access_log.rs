//! Requests as the access log recorded them, in Istio's default text format or in JSON with the
//! same keys. Istio: `EnvoyTextLogFormat`, `EnvoyJSONLogFormatIstio`.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What a line of the log says of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Recorded {
    pub method: String,
    pub authority: String,
    /// With its query, before any rewrite.
    pub target: String,
    /// Those that the log has, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The port that it came in at.
    pub port: Option<u16>,
    /// Whether the client named a server in TLS.
    pub is_tls: bool,
    pub route_name: Option<String>,
    pub cluster: Option<String>,
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Request(Recorded),
    /// What no route decides about: a head that was refused, CONNECT, `OPTIONS *`, a request
    /// without a host, a connection of TCP.
    Unrouted,
}

/// What a line says, or `None` for one that is none of the two formats. What collectors of logs put
/// before the line (a time, the name of a container) is passed over.
pub fn parse_line(line: &str) -> Option<Line> {
    let line = line.trim();
    let json = line.find('{').and_then(|start| parse_json(&line[start..]));
    let recorded = json.or_else(|| parse_text(line))?;
    let is_routed = !recorded.method.is_empty()
        && !recorded.authority.is_empty()
        && recorded.target.starts_with('/');
    Some(match is_routed {
        true => Line::Request(recorded),
        false => Line::Unrouted,
    })
}

/// `-` stands for nothing.
fn written(text: &str) -> Option<String> {
    (!text.is_empty() && text != "-").then(|| text.to_string())
}

/// With nothing for `-`.
fn known(text: Option<String>) -> String {
    text.unwrap_or_default()
}

fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

fn headers(forwarded_for: Option<String>, user_agent: Option<String>) -> Vec<(String, String)> {
    let named = [
        ("x-forwarded-for", forwarded_for),
        ("user-agent", user_agent),
    ];
    let present = named.into_iter();
    present
        .filter_map(|(name, value)| Some((name.to_string(), value?)))
        .collect()
}

/// A request, as far as it is known.
fn parse_json(line: &str) -> Option<Recorded> {
    let value: Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| written(value.get(key)?.as_str()?);
    // Other programs write JSON too.
    let is_log = ["method", "path", "authority"].map(|key| value.get(key).is_some());
    if is_log.contains(&false) {
        return None;
    }
    Some(Recorded {
        method: known(text("method")),
        authority: known(text("authority")),
        target: known(text("path")),
        headers: headers(text("x_forwarded_for"), text("user_agent")),
        port: text("downstream_local_address").and_then(|address| port_of(&address)),
        is_tls: text("requested_server_name").is_some(),
        route_name: text("route_name"),
        cluster: text("upstream_cluster"),
    })
}

fn parse_text(line: &str) -> Option<Recorded> {
    // Up to the first quoted header; what follows is taken apart from its end, since a user agent
    // may hold quotes.
    static HEAD: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let pattern = r#"\[[^\]]*\] "(\S+) (\S+) [^"]*" \d+ \S+ \S+ \S+ ".*?" \d+ \d+ \d+ \S+ ""#;
        Regex::new(pattern).ok()
    });
    let found = HEAD.as_ref()?.captures(line)?;
    let rest = &line[found.get(0)?.end()..];
    let (quoted, names) = rest.rsplit_once("\" ")?;
    let mut names = names.split(' ');
    let cluster = names.next()?;
    let downstream_local = names.nth(1)?;
    let server_name = names.nth(1)?;
    let route_name: Vec<&str> = names.collect();
    let fields: Vec<&str> = quoted.split("\" \"").collect();
    let [
        forwarded_for,
        user_agent @ ..,
        _request_id,
        authority,
        _upstream,
    ] = fields.as_slice()
    else {
        return None;
    };
    Some(Recorded {
        method: known(written(&found[1])),
        authority: known(written(authority)),
        target: known(written(&found[2])),
        headers: headers(written(forwarded_for), written(&user_agent.join("\" \""))),
        port: port_of(downstream_local),
        is_tls: written(server_name).is_some(),
        route_name: written(&route_name.join(" ")),
        cluster: written(cluster),
    })
}
