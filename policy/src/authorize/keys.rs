//! What rules can be looked up by.

use super::address::{AddressBlock, address_number};
use super::condition::{Condition, Test, bare_host};
use super::facts::AccessFacts;
use super::identity::plain_namespace;
use super::rules::Rule;
use super::text::{PathTest, TextTest};

/// An attribute whose values rules are looked up by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    Path,
    Method,
    /// In lower case.
    Host,
    DestinationPort,
    ServerName,
    Principal,
    Namespace,
    RequestPrincipal,
    Claim(Vec<String>),
    /// Lower-case.
    Header(String),
    PeerAddress,
    ClientAddress,
}

/// Values of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Addresses(AddressBlock),
}

impl Attribute {
    /// The attributes that a rule can be looked up by.
    pub fn asked_by(rule: &Rule) -> Vec<Self> {
        let mut asked = Vec::new();
        for groups in [&rule.principals, &rule.permissions] {
            let conditions = groups.first().into_iter().flatten();
            for attribute in conditions.filter_map(Self::of) {
                if !asked.contains(&attribute) && keys_of(rule, &attribute).is_some() {
                    asked.push(attribute);
                }
            }
        }
        asked
    }

    pub fn is_address(&self) -> bool {
        matches!(self, Self::PeerAddress | Self::ClientAddress)
    }

    fn of(condition: &Condition) -> Option<Self> {
        Some(match condition.values.as_ref()? {
            Test::PeerAddress(_) => Self::PeerAddress,
            Test::ClientAddress(_) => Self::ClientAddress,
            Test::DestinationPort(_) => Self::DestinationPort,
            Test::ServerName(_) => Self::ServerName,
            Test::Principal(_) => Self::Principal,
            Test::Namespace(_) | Test::ServiceAccount(_) => Self::Namespace,
            Test::RequestPrincipal(_) => Self::RequestPrincipal,
            Test::Claim { path, .. } => Self::Claim(path.clone()),
            Test::Header { name, .. } if !is_pseudo(name) => Self::Header(name.clone()),
            Test::Host { .. } => Self::Host,
            Test::Method(_) => Self::Method,
            Test::Path(_) => Self::Path,
            _ => return None,
        })
    }
}

fn is_pseudo(name: &str) -> bool {
    name.starts_with(':') || name == "host"
}

/// The values of `attribute` of which one is needed for `rule` to match; `None` where it may match
/// whatever the value is.
pub(super) fn keys_of(rule: &Rule, attribute: &Attribute) -> Option<Vec<Key>> {
    keys_of_groups(&rule.principals, attribute)
        .or_else(|| keys_of_groups(&rule.permissions, attribute))
}

fn keys_of_groups(groups: &[Vec<Condition>], attribute: &Attribute) -> Option<Vec<Key>> {
    let mut keys = Vec::new();
    for group in groups {
        let asking = group
            .iter()
            .filter(|condition| Attribute::of(condition).as_ref() == Some(attribute));
        let found = asking.filter_map(|condition| keys_of_test(condition.values.as_ref()?));
        keys.extend(found.min_by_key(Vec::len)?);
    }
    Some(keys)
}

fn keys_of_test(test: &Test) -> Option<Vec<Key>> {
    Some(match test {
        Test::PeerAddress(blocks) | Test::ClientAddress(blocks) => {
            blocks.iter().copied().map(Key::Addresses).collect()
        }
        Test::DestinationPort(ports) => {
            let key = |port: &u16| Key::Exact(port.to_be_bytes().into());
            ports.iter().map(key).collect()
        }
        Test::ServerName(values) | Test::Principal(values) | Test::Method(values) => {
            keys_of_texts(values)
        }
        Test::Claim { values, .. } | Test::Header { values, .. } => keys_of_texts(values),
        Test::Host { values, .. } => {
            let values: Vec<TextTest> = values.iter().map(TextTest::to_lower_case).collect();
            keys_of_texts(&values)
        }
        Test::Path(values) => values.iter().map(key_of_path).collect(),
        Test::Namespace(values) => {
            let exact = values.iter().map(|value| value.exact());
            let key = |namespace: Option<&str>| Some(Key::Exact(namespace?.as_bytes().into()));
            exact.map(key).collect::<Option<_>>()?
        }
        Test::ServiceAccount(values) => {
            let namespaces = values.iter().map(|value| value.namespace());
            namespaces
                .map(|namespace| Key::Exact(namespace.as_bytes().into()))
                .collect()
        }
        Test::RequestPrincipal(values) => {
            let exact = values.iter().map(|value| value.exact());
            let key = |text: Option<String>| Some(Key::Exact(text?.into_bytes().into()));
            exact.map(key).collect::<Option<_>>()?
        }
        _ => return None,
    })
}

fn keys_of_texts(values: &[TextTest]) -> Vec<Key> {
    values.iter().map(key_of_text).collect()
}

fn key_of_text(value: &TextTest) -> Key {
    match value {
        TextTest::Exact(text) => Key::Exact(text.as_bytes().into()),
        TextTest::Prefix(text) => Key::Prefix(text.as_bytes().into()),
        TextTest::Suffix(text) => Key::Suffix(text.as_bytes().into()),
        // Any value at all.
        TextTest::NotEmpty | TextTest::Present => Key::Prefix(Box::default()),
    }
}

fn key_of_path(value: &PathTest) -> Key {
    match value {
        PathTest::Text(text) => key_of_text(text),
        PathTest::Template(template) => Key::Prefix(template.literal_prefix().as_bytes().into()),
    }
}

/// The address that `attribute` is, as a number.
pub(super) fn numbers_of(facts: &AccessFacts<'_>, attribute: &Attribute) -> Option<u128> {
    match attribute {
        Attribute::PeerAddress => facts.peer().map(address_number),
        Attribute::ClientAddress => facts.client.map(address_number),
        _ => None,
    }
}

/// Longest host that is looked up; a name has at most 253 bytes (RFC 1035 section 2.3.4).
const MAX_HOST_BYTES: usize = 300;

/// Calls `each` with the values of an attribute. False: they cannot be told.
pub(super) fn texts_of(
    facts: &AccessFacts<'_>,
    attribute: &Attribute,
    each: &mut dyn FnMut(&[u8]),
) -> bool {
    match attribute {
        Attribute::DestinationPort => {
            if let Some(address) = facts.destination() {
                each(&address.port().to_be_bytes());
            }
        }
        Attribute::ServerName => each(facts.server_name().as_bytes()),
        Attribute::Principal => {
            if let Some(principal) = facts.principal() {
                each(principal.as_bytes());
            }
        }
        Attribute::Namespace => match facts.principal().map(plain_namespace) {
            Some(Some(namespace)) => each(namespace.as_bytes()),
            Some(None) => return false,
            None => {}
        },
        Attribute::RequestPrincipal => {
            if let Some(principal) = facts.claims().and_then(|claims| claims.principal()) {
                each(principal.as_bytes());
            }
        }
        Attribute::Claim(path) => {
            if let Some(claims) = facts.claims() {
                claims.visit(path, &mut |text| each(text.as_bytes()));
            }
        }
        Attribute::PeerAddress | Attribute::ClientAddress => return false,
        Attribute::Path | Attribute::Method | Attribute::Host | Attribute::Header(_) => {
            return texts_of_request(facts, attribute, each);
        }
    }
    true
}

fn texts_of_request(
    facts: &AccessFacts<'_>,
    attribute: &Attribute,
    each: &mut dyn FnMut(&[u8]),
) -> bool {
    let Some(request) = facts.request else {
        return true;
    };
    match attribute {
        Attribute::Path => each(request.path.as_bytes()),
        Attribute::Method => each(request.method.as_bytes()),
        Attribute::Host => {
            let mut memory = [0; MAX_HOST_BYTES];
            let host = request.authority.as_bytes();
            let Some(lower) = memory.get_mut(..host.len()) else {
                return false;
            };
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            each(lower);
            let bare = bare_host(request.authority).len();
            if bare < host.len() {
                each(&lower[..bare]);
            }
        }
        Attribute::Header(name) => {
            request.headers.visit(name, each);
        }
        _ => return false,
    }
    true
}
