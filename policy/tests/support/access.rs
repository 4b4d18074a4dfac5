//! Policies as plain data, and a plain judge of them: each value becomes the regular expression
//! that Istio tells Envoy, each rule is asked in turn.

use std::net::{IpAddr, SocketAddr};

use regex::Regex;
use ringroad_policy::authenticate::Claims;
use ringroad_policy::authorize::AccessFacts;
use ringroad_policy::snapshot::{ConnectionFacts, PeerIdentity, RequestFacts};
use serde_json::{Value, json};

/// A list of a source or an operation, or a condition: its key, what it may be and must not be.
#[derive(Debug, Clone)]
pub struct Ask {
    pub key: String,
    pub values: Vec<String>,
    pub not_values: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub struct PlainRule {
    pub from: Vec<Vec<Ask>>,
    pub to: Vec<Vec<Ask>>,
    pub when: Vec<Ask>,
}

#[derive(Debug, Clone)]
pub struct PlainPolicy {
    pub name: String,
    pub action: &'static str,
    pub rules: Vec<PlainRule>,
}

/// Fields of `source`, the attribute of each, and the name of its negation.
pub const SOURCE: [(&str, &str, &str); 7] = [
    ("principals", "source.principal", "notPrincipals"),
    (
        "requestPrincipals",
        "request.auth.principal",
        "notRequestPrincipals",
    ),
    ("namespaces", "source.namespace", "notNamespaces"),
    (
        "serviceAccounts",
        "source.serviceAccount",
        "notServiceAccounts",
    ),
    ("trustDomains", "source.trustDomain", "notTrustDomains"),
    ("ipBlocks", "source.ip", "notIpBlocks"),
    ("remoteIpBlocks", "remote.ip", "notRemoteIpBlocks"),
];
/// Fields of `operation`.
pub const OPERATION: [(&str, &str, &str); 4] = [
    ("hosts", "host", "notHosts"),
    ("ports", "destination.port", "notPorts"),
    ("methods", "method", "notMethods"),
    ("paths", "path", "notPaths"),
];

impl PlainPolicy {
    /// As a document; JSON is YAML.
    pub fn document(&self) -> String {
        let list = |asks: &[Ask], fields: &[(&str, &str, &str)]| {
            let mut object = serde_json::Map::new();
            for ask in asks {
                let (name, _, negated) = fields.iter().find(|f| f.1 == ask.key).expect("a field");
                if !ask.values.is_empty() {
                    object.insert((*name).to_string(), json!(ask.values));
                }
                if !ask.not_values.is_empty() {
                    object.insert((*negated).to_string(), json!(ask.not_values));
                }
            }
            Value::Object(object)
        };
        let rule = |rule: &PlainRule| {
            let mut object = serde_json::Map::new();
            if !rule.from.is_empty() {
                let from = rule
                    .from
                    .iter()
                    .map(|asks| json!({"source": list(asks, &SOURCE)}));
                object.insert("from".to_string(), from.collect());
            }
            if !rule.to.is_empty() {
                let to = rule
                    .to
                    .iter()
                    .map(|asks| json!({"operation": list(asks, &OPERATION)}));
                object.insert("to".to_string(), to.collect());
            }
            if !rule.when.is_empty() {
                let when = rule.when.iter().map(|ask| {
                    let mut when = json!({"key": ask.key});
                    if !ask.values.is_empty() {
                        when["values"] = json!(ask.values);
                    }
                    if !ask.not_values.is_empty() {
                        when["notValues"] = json!(ask.not_values);
                    }
                    when
                });
                object.insert("when".to_string(), when.collect());
            }
            Value::Object(object)
        };
        let mut spec = json!({"action": self.action});
        if !self.rules.is_empty() {
            spec["rules"] = self.rules.iter().map(rule).collect();
        }
        let document = json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": self.name},
            "spec": spec,
        });
        format!("---\n{document}\n")
    }
}

/// A request or connection with everything that a policy may ask about.
#[derive(Debug, Clone)]
pub struct Caller {
    pub method: String,
    pub host: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub peer: IpAddr,
    pub client: IpAddr,
    pub destination: SocketAddr,
    pub server_name: Option<String>,
    pub principal: Option<String>,
    pub claims: Option<Value>,
}

impl Caller {
    /// Hands `each` the facts, as of a request or of a TCP connection.
    pub fn with_facts<T>(&self, is_tcp: bool, each: impl FnOnce(&AccessFacts<'_>) -> T) -> T {
        let identity = self.principal.as_ref().map(|principal| PeerIdentity {
            principal: principal.clone(),
            trust_domain: String::new(),
            namespace: String::new(),
            service_account: String::new(),
        });
        let connection = ConnectionFacts {
            peer: Some((self.peer, 40_000).into()),
            destination: Some(self.destination),
            server_name: self.server_name.as_deref().map(Into::into),
            identity: identity.map(Box::new),
            ..ConnectionFacts::default()
        };
        let claims = self.claims.as_ref().and_then(Value::as_object);
        let claims = claims.map(|fields| Claims::new(fields.clone(), &[]));
        let request = RequestFacts {
            method: &self.method,
            scheme: "http",
            authority: &self.host,
            path: &self.path,
            query: None,
            headers: &self.headers,
            connection: &connection,
            claims: claims.as_ref(),
        };
        each(&AccessFacts {
            request: (!is_tcp).then_some(&request),
            connection: &connection,
            client: Some(self.client),
        })
    }

    /// The name of the rule that denies, `none` where no ALLOW rule matches, nothing when allowed.
    pub fn judge(&self, policies: &[PlainPolicy], is_tcp: bool) -> Option<String> {
        if let Some(name) = self.first_match(policies, "DENY", is_tcp) {
            return Some(name);
        }
        let has_allow = policies.iter().any(|policy| policy.action == "ALLOW");
        if has_allow && self.first_match(policies, "ALLOW", is_tcp).is_none() {
            return Some("none".to_string());
        }
        None
    }

    /// The first matching rule of an action, by name.
    pub fn first_match(
        &self,
        policies: &[PlainPolicy],
        action: &str,
        is_tcp: bool,
    ) -> Option<String> {
        let mut names = Vec::new();
        for policy in policies.iter().filter(|policy| policy.action == action) {
            for (at, rule) in policy.rules.iter().enumerate() {
                if self.matches(rule, action, is_tcp) {
                    names.push(format!("ns[default]-policy[{}]-rule[{at}]", policy.name));
                }
            }
        }
        names.sort();
        names.into_iter().next()
    }

    fn matches(&self, rule: &PlainRule, action: &str, is_tcp: bool) -> bool {
        let groups = rule.from.iter().chain(&rule.to);
        let asks = || groups.clone().flatten().chain(&rule.when);
        let is_http_only = |ask: &&Ask| {
            matches!(ask.key.as_str(), "host" | "method" | "path")
                || ask.key.starts_with("request.")
        };
        if is_tcp && action == "ALLOW" && asks().any(|ask| is_http_only(&ask)) {
            return false;
        }
        let holds = |ask: &Ask| {
            (is_tcp && is_http_only(&ask)) || {
                let is = |value: &String| self.is(&ask.key, value, action, false);
                let is_not = |value: &String| self.is(&ask.key, value, action, true);
                (ask.values.is_empty() || ask.values.iter().any(is))
                    && !ask.not_values.iter().any(is_not)
            }
        };
        let one = |groups: &[Vec<Ask>]| {
            groups.is_empty() || groups.iter().any(|group| group.iter().all(holds))
        };
        one(&rule.from) && one(&rule.to) && rule.when.iter().all(holds)
    }

    fn is(&self, key: &str, value: &str, action: &str, negated: bool) -> bool {
        let identity = self
            .principal
            .as_ref()
            .map(|name| format!("spiffe://{name}"));
        let identity_is = |pattern: &str| {
            let identity = identity.as_deref();
            identity.is_some_and(|identity| full(pattern).is_match(identity))
        };
        let quoted = regex::escape(value);
        match key {
            "source.principal" => identity_is(&match value {
                "*" => ".+".to_string(),
                _ if value.starts_with('*') => format!("spiffe://.*{}", regex::escape(&value[1..])),
                _ => format!("spiffe://{}", simple(value)),
            }),
            "source.namespace" => identity_is(&format!(".*/ns/{}/.*", quoted.replace("\\*", ".*"))),
            "source.serviceAccount" => {
                let (namespace, account) = value.split_once('/').unwrap_or(("default", value));
                let (namespace, account) = (regex::escape(namespace), regex::escape(account));
                identity_is(&format!(
                    "spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"
                ))
            }
            "source.trustDomain" => identity_is(&match value {
                "*" => "spiffe://.*".to_string(),
                _ => format!("spiffe://{}/.*", quoted.replacen("\\*", "[^/]*", 1)),
            }),
            "request.auth.principal" => {
                let text = |name: &str| self.claims.as_ref()?.get(name)?.as_str();
                let (Some(issuer), Some(subject)) = (text("iss"), text("sub")) else {
                    return false;
                };
                let (a, b) = request_principal(value);
                full(&a).is_match(issuer) && full(&b).is_match(subject)
            }
            "source.ip" => within(value, self.peer),
            "remote.ip" => within(value, self.client),
            "destination.ip" => within(value, self.destination.ip()),
            "destination.port" => value == self.destination.port().to_string(),
            "connection.sni" => {
                full(&simple(value)).is_match(self.server_name.as_deref().unwrap_or_default())
            }
            "method" => value == "*" || full(&simple(value)).is_match(&self.method),
            "path" => full(&path(value)).is_match(&self.path),
            "host" => {
                let pattern = full(&format!("(?i){}", simple(value)));
                let bare = Regex::new(r"^(.*?)\.?(:[0-9]*)?$").unwrap();
                let bare = bare.captures(&self.host).expect("matches all")[1].to_string();
                let refuses = (action == "ALLOW") == negated;
                value == "*" || pattern.is_match(&self.host) || refuses && pattern.is_match(&bare)
            }
            _ if key.starts_with("experimental.") => false,
            _ => {
                let inside = &key[key.find('[').expect("a key") + 1..key.len() - 1];
                if key.starts_with("request.headers") {
                    let mut all = self.headers.iter().filter(|(name, _)| name == inside);
                    let pattern = full(&simple(value));
                    return all.any(|(_, found)| value == "*" || pattern.is_match(found));
                }
                let mut found = self.claims.as_ref();
                for name in inside.split("][") {
                    found = found.and_then(|value| value.get(name));
                }
                let is = |text: &Value| {
                    let text = text.as_str();
                    text.is_some_and(|text| full(&simple(value)).is_match(text))
                };
                match found {
                    Some(Value::Array(list)) => list.iter().any(is),
                    Some(other) => is(other),
                    None => false,
                }
            }
        }
    }
}

fn full(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("a pattern")
}

fn simple(value: &str) -> String {
    if value == "*" {
        ".+".to_string()
    } else if let Some(end) = value.strip_prefix('*') {
        format!(".*{}", regex::escape(end))
    } else if let Some(start) = value.strip_suffix('*') {
        format!("{}.*", regex::escape(start))
    } else {
        regex::escape(value)
    }
}

fn path(value: &str) -> String {
    if !value.contains("{*}") && !value.contains("{**}") {
        return simple(value);
    }
    let byte = "[a-zA-Z0-9._~%!$&'()+,;:@-]";
    let one = format!("{byte}+");
    let rest = format!("(?:{byte}|/)*");
    regex::escape(value)
        .replace("\\{\\*\\*\\}", &rest)
        .replace("\\{\\*\\}", &one)
}

fn request_principal(value: &str) -> (String, String) {
    let any = || ".+".to_string();
    if value == "*" {
        return (any(), any());
    }
    let split = value.rsplit_once('/');
    if let Some(end) = value.strip_prefix('*') {
        return match split {
            Some((issuer, subject)) => (simple(issuer), regex::escape(subject)),
            None => (any(), format!(".*{}", regex::escape(end))),
        };
    }
    if let Some(start) = value.strip_suffix('*') {
        return match split {
            Some((issuer, "*")) => (regex::escape(issuer), any()),
            Some((issuer, subject)) => (regex::escape(issuer), simple(subject)),
            None => (format!("{}.*", regex::escape(start)), any()),
        };
    }
    let (issuer, subject) = split.unwrap_or((value, ""));
    (regex::escape(issuer), regex::escape(subject))
}

fn within(block: &str, address: IpAddr) -> bool {
    let (network, bits) = match block.split_once('/') {
        Some((network, bits)) => (network, bits.parse().expect("bits")),
        None => (block, 128_usize),
    };
    let bits_of = |address: IpAddr| -> Vec<bool> {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let bit = |at: usize| bytes[at / 8] >> (7 - at % 8) & 1 == 1;
        (0..bytes.len() * 8).map(bit).collect()
    };
    let (a, b) = (
        bits_of(network.parse().expect("an address")),
        bits_of(address),
    );
    a.len() == b.len() && a.iter().zip(&b).take(bits).all(|(a, b)| a == b)
}
