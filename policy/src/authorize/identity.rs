//! How values of policies match the identity of a peer, `td/ns/foo/sa/bar`.

/// A namespace, in which `*` stands for anything. Envoy is told `.*/ns/VALUE/.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceTest {
    /// The text between the wildcards.
    parts: Vec<Box<str>>,
}

impl NamespaceTest {
    pub fn new(value: &str) -> Self {
        Self {
            parts: value.split('*').map(Into::into).collect(),
        }
    }

    /// The namespace, where it has no wildcard.
    pub fn exact(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    pub fn is_match(&self, principal: &str) -> bool {
        // What stands before the principal, `spiffe://`, ends with a slash.
        after_label(principal, "ns/").any(|rest| self.begins(rest))
    }

    /// Whether `rest` is the namespace, a slash, and anything.
    fn begins(&self, rest: &str) -> bool {
        let Some((first, others)) = self.parts.split_first() else {
            return false;
        };
        let Some(mut rest) = rest.strip_prefix(&**first) else {
            return false;
        };
        let Some((last, middle)) = others.split_last() else {
            return rest.starts_with('/');
        };
        for part in middle {
            match rest.find(&**part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        let mut ends = rest.match_indices(&**last);
        ends.any(|(at, _)| rest[at + last.len()..].starts_with('/'))
    }
}

/// `namespace/account`. Envoy is told `spiffe://.+/ns/NAMESPACE/(.+/|)sa/ACCOUNT(/.+)?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccountTest {
    namespace: Box<str>,
    account: Box<str>,
}

impl ServiceAccountTest {
    /// Reads `namespace/account`, or `account` of the policy's own namespace.
    pub fn new(value: &str, policy_namespace: &str) -> Self {
        let (namespace, account) = value.split_once('/').unwrap_or((policy_namespace, value));
        Self {
            namespace: namespace.into(),
            account: account.into(),
        }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn is_match(&self, principal: &str) -> bool {
        let Some(first) = principal.chars().next() else {
            return false;
        };
        // The trust domain has one character at least.
        let domain_and_more = &principal[first.len_utf8()..];
        domain_and_more
            .match_indices("/ns/")
            .filter_map(|(at, label)| {
                let rest = &domain_and_more[at + label.len()..];
                rest.strip_prefix(&*self.namespace)?.strip_prefix('/')
            })
            .any(|rest| after_label(rest, "sa/").any(|rest| self.ends(rest)))
    }

    fn ends(&self, rest: &str) -> bool {
        match rest.strip_prefix(&*self.account) {
            Some("") => true,
            Some(more) => more.len() > 1 && more.starts_with('/'),
            None => false,
        }
    }
}

/// A trust domain, in which one `*` may begin or end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustDomainTest {
    Any,
    Exact(Box<str>),
    Pattern { start: Box<str>, end: Box<str> },
}

impl TrustDomainTest {
    pub fn new(value: &str) -> Self {
        match value.split_once('*') {
            Some(("", "")) => Self::Any,
            Some((start, end)) => Self::Pattern {
                start: start.into(),
                end: end.into(),
            },
            None => Self::Exact(value.into()),
        }
    }

    pub fn is_match(&self, principal: &str) -> bool {
        let Some((domain, _)) = principal.split_once('/') else {
            return matches!(self, Self::Any);
        };
        match self {
            Self::Any => true,
            Self::Exact(text) => domain == &**text,
            Self::Pattern { start, end } => {
                domain.len() >= start.len() + end.len()
                    && domain.starts_with(&**start)
                    && domain.ends_with(&**end)
            }
        }
    }
}

/// What stands behind each `label` that begins a segment of `text`.
fn after_label<'t>(text: &'t str, label: &'t str) -> impl Iterator<Item = &'t str> {
    let begins_segment = move |at: usize| at == 0 || text.as_bytes()[at - 1] == b'/';
    text.match_indices(label)
        .filter(move |(at, _)| begins_segment(*at))
        .map(|(at, label)| &text[at + label.len()..])
}

/// The namespace of a principal in the plain form, `td/ns/foo/sa/bar`; `None` for any other form.
pub(super) fn plain_namespace(principal: &str) -> Option<&str> {
    let mut parts = principal.split('/');
    let domain = parts.next()?;
    let (ns, namespace, sa, account) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_plain = !domain.is_empty()
        && ns == "ns"
        && !matches!(domain, "ns" | "sa")
        && !matches!(namespace, "ns" | "sa")
        && sa == "sa"
        && account != "ns"
        && parts.next().is_none();
    is_plain.then_some(namespace)
}
