//! Conditions of rules.

use super::address::AddressBlock;
use super::facts::AccessFacts;
use super::identity::{NamespaceTest, ServiceAccountTest, TrustDomainTest};
use super::text::{PathTest, TextTest};
use crate::snapshot::RequestFacts;
use std::borrow::Cow;

/// One attribute, the values that it may have and those that it must not have.
#[derive(Debug, Clone)]
pub struct Condition {
    /// One of them has to match.
    pub values: Option<Test>,
    /// None of them may match.
    pub not_values: Option<Test>,
}

impl Condition {
    #[inline]
    pub fn holds(&self, facts: &AccessFacts<'_>) -> bool {
        self.values.as_ref().is_none_or(|test| test.is_match(facts))
            && !self
                .not_values
                .as_ref()
                .is_some_and(|test| test.is_match(facts))
    }
}

/// An attribute and a list of values, one of which has to match.
#[derive(Debug, Clone)]
pub enum Test {
    PeerAddress(Vec<AddressBlock>),
    ClientAddress(Vec<AddressBlock>),
    DestinationAddress(Vec<AddressBlock>),
    DestinationPort(Vec<u16>),
    ServerName(Vec<TextTest>),
    Principal(Vec<TextTest>),
    Namespace(Vec<NamespaceTest>),
    ServiceAccount(Vec<ServiceAccountTest>),
    TrustDomain(Vec<TrustDomainTest>),
    RequestPrincipal(Vec<RequestPrincipalTest>),
    Claim {
        path: Vec<String>,
        values: Vec<TextTest>,
    },
    Header {
        /// Lower-case.
        name: String,
        values: Vec<TextTest>,
    },
    Host {
        /// Lower-case.
        values: Vec<TextTest>,
        /// A match refuses the request. Then a value without port is meant with any port, and with
        /// the dot that may end a full name, so that neither gets a request past the rule.
        refuses: bool,
    },
    Method(Vec<TextTest>),
    Path(Vec<PathTest>),
    /// Metadata of other filters, of which there are none.
    Absent,
}

/// Issuer and subject of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestPrincipalTest {
    issuer: TextTest,
    subject: TextTest,
}

impl RequestPrincipalTest {
    /// Reads `issuer/subject`, split at the last slash, since issuers are URLs.
    pub fn new(value: &str) -> Self {
        let (issuer, subject) = match value.rsplit_once('/') {
            _ if value == "*" => (TextTest::NotEmpty, TextTest::NotEmpty),
            Some((issuer, subject)) if value.starts_with('*') => {
                (TextTest::new(issuer), TextTest::Exact(subject.into()))
            }
            Some((issuer, subject)) => (TextTest::Exact(issuer.into()), of_subject(subject)),
            None => match (value.strip_prefix('*'), value.strip_suffix('*')) {
                (Some(end), _) => (TextTest::NotEmpty, TextTest::Suffix(end.into())),
                (_, Some(start)) => (TextTest::Prefix(start.into()), TextTest::NotEmpty),
                _ => (TextTest::Exact(value.into()), TextTest::Exact("".into())),
            },
        };
        Self { issuer, subject }
    }

    /// `issuer/subject`, if both are written out.
    pub(super) fn exact(&self) -> Option<String> {
        match (&self.issuer, &self.subject) {
            (TextTest::Exact(issuer), TextTest::Exact(subject)) => {
                Some(format!("{issuer}/{subject}"))
            }
            _ => None,
        }
    }

    fn is_match(&self, issuer: &str, subject: &str) -> bool {
        self.issuer.is_match(issuer.as_bytes()) && self.subject.is_match(subject.as_bytes())
    }
}

/// A subject whose wildcard, if it has one, ends it.
fn of_subject(subject: &str) -> TextTest {
    match subject.strip_suffix('*') {
        Some("") => TextTest::NotEmpty,
        Some(start) => TextTest::Prefix(start.into()),
        None => TextTest::Exact(subject.into()),
    }
}

impl Test {
    /// Whether only a request has such an attribute, and a TCP connection has not.
    pub fn is_http_only(&self) -> bool {
        matches!(
            self,
            Self::RequestPrincipal(_)
                | Self::Claim { .. }
                | Self::Header { .. }
                | Self::Host { .. }
                | Self::Method(_)
                | Self::Path(_)
        )
    }

    pub fn is_match(&self, facts: &AccessFacts<'_>) -> bool {
        let within = |blocks: &[AddressBlock], address: Option<_>| {
            address.is_some_and(|address| blocks.iter().any(|block| block.contains(address)))
        };
        match self {
            Self::PeerAddress(blocks) => within(blocks, facts.peer()),
            Self::ClientAddress(blocks) => within(blocks, facts.client),
            Self::DestinationAddress(blocks) => {
                within(blocks, facts.destination().map(|address| address.ip()))
            }
            Self::DestinationPort(ports) => facts
                .destination()
                .is_some_and(|address| ports.contains(&address.port())),
            Self::ServerName(values) => any(values, facts.server_name().as_bytes()),
            Self::Principal(values) => facts
                .principal()
                .is_some_and(|principal| any(values, principal.as_bytes())),
            Self::Namespace(values) => facts
                .principal()
                .is_some_and(|principal| values.iter().any(|value| value.is_match(principal))),
            Self::ServiceAccount(values) => facts
                .principal()
                .is_some_and(|principal| values.iter().any(|value| value.is_match(principal))),
            Self::TrustDomain(values) => facts
                .principal()
                .is_some_and(|principal| values.iter().any(|value| value.is_match(principal))),
            Self::RequestPrincipal(values) => {
                let claims = facts.claims();
                let issuer = claims.and_then(|claims| claims.text("iss"));
                let subject = claims.and_then(|claims| claims.text("sub"));
                issuer.zip(subject).is_some_and(|(issuer, subject)| {
                    values.iter().any(|value| value.is_match(issuer, subject))
                })
            }
            Self::Claim { path, values } => facts.claims().is_some_and(|claims| {
                let mut found = false;
                claims.visit(path, &mut |text| found |= any(values, text.as_bytes()));
                found
            }),
            Self::Absent => false,
            Self::Header { .. } | Self::Host { .. } | Self::Method(_) | Self::Path(_) => facts
                .request
                .is_some_and(|request| self.is_match_of_request(request)),
        }
    }

    fn is_match_of_request(&self, request: &RequestFacts<'_>) -> bool {
        match self {
            Self::Header { name, values } => with_header(request, name, |value| any(values, value)),
            Self::Host { values, refuses } => {
                let matches = |host: &str| {
                    values
                        .iter()
                        .any(|value| value.is_match_ignoring_case(host.as_bytes()))
                };
                let host = request.authority;
                matches(host)
                    || *refuses && {
                        let bare = bare_host(host);
                        bare.len() < host.len() && matches(bare)
                    }
            }
            Self::Method(values) => any(values, request.method.as_bytes()),
            Self::Path(values) => values
                .iter()
                .any(|value| value.is_match(request.path.as_bytes())),
            _ => false,
        }
    }
}

#[inline]
fn any(values: &[TextTest], value: &[u8]) -> bool {
    values.iter().any(|test| test.is_match(value))
}

/// A host without its port and without the dot that may end a full name.
pub(super) fn bare_host(authority: &str) -> &str {
    let host = crate::snapshot::without_port(authority);
    host.strip_suffix('.').unwrap_or(host)
}

/// Whether a header is there and `judge` likes it; of several lines one is enough, as in Envoy.
fn with_header(request: &RequestFacts<'_>, name: &str, judge: impl Fn(&[u8]) -> bool) -> bool {
    match name {
        ":method" => return judge(request.method.as_bytes()),
        ":authority" | "host" => return judge(request.authority.as_bytes()),
        ":scheme" => return judge(request.scheme.as_bytes()),
        ":path" => return judge(&path_and_query(request)),
        _ => {}
    }
    let mut held = false;
    request
        .headers
        .visit(name, &mut |value| held |= judge(value));
    held
}

fn path_and_query<'a>(request: &RequestFacts<'a>) -> Cow<'a, [u8]> {
    match request.query {
        Some(query) => Cow::Owned(format!("{}?{query}", request.path).into_bytes()),
        None => Cow::Borrowed(request.path.as_bytes()),
    }
}
