//! What a route asks of a request, prepared so that asking allocates nothing.

use regex::bytes::{Regex, RegexBuilder};

use super::request::RequestFacts;
use crate::re2;

/// Largest compiled program of one regular expression, in bytes.
const REGEX_PROGRAM_BYTES: usize = 4 << 20;

/// A regular expression that matches a whole value, with RE2's view of classes: `\d`, `\w` and
/// `\s` are ASCII.
#[derive(Debug, Clone)]
pub struct FullRegex {
    regex: Regex,
    text: String,
}

impl FullRegex {
    /// Compiles `text` so that it has to match from the first to the last byte.
    ///
    /// # Errors
    ///
    /// What the regex library says of a pattern that is none or that grows too large.
    pub fn new(text: &str) -> Result<Self, String> {
        // Translated by itself: a quotation that is not closed ends with the text.
        let translated = re2::translate(text).map_err(|error| error.to_string())?;
        build_regex(&format!("^(?:{translated})$")).map(|regex| Self {
            regex,
            text: text.to_string(),
        })
    }

    #[inline]
    pub fn is_match(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }

    /// The expression as configured.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Compiles RE2's notation, with ASCII classes as RE2 has them, and with Unicode where the pattern
/// needs it.
pub(crate) fn compile_regex(pattern: &str) -> Result<Regex, String> {
    build_regex(&re2::translate(pattern).map_err(|error| error.to_string())?)
}

fn build_regex(translated: &str) -> Result<Regex, String> {
    let build = |unicode| {
        RegexBuilder::new(translated)
            .unicode(unicode)
            .size_limit(REGEX_PROGRAM_BYTES)
            .build()
    };
    let built = match build(false) {
        Err(regex::Error::Syntax(_)) => build(true),
        built => built,
    };
    built.map_err(|error| match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("compiled, it takes more than {} MiB", limit >> 20)
        }
        error => error.to_string(),
    })
}

/// A condition on one text.
#[derive(Debug, Clone)]
pub enum StringMatch {
    Exact(String),
    Prefix(String),
    Regex(FullRegex),
}

impl StringMatch {
    #[inline]
    pub fn is_match(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// A condition on the path without its query.
#[derive(Debug, Clone)]
pub enum PathMatch {
    Exact(String),
    /// A plain string prefix: `/v2` matches `/v2foo`.
    Prefix(String),
    ExactIgnoreCase(String),
    PrefixIgnoreCase(String),
    Regex(FullRegex),
}

impl PathMatch {
    #[inline]
    pub fn is_match(&self, path: &str) -> bool {
        let path = path.as_bytes();
        match self {
            Self::Exact(text) => path == text.as_bytes(),
            Self::Prefix(text) => path.starts_with(text.as_bytes()),
            Self::ExactIgnoreCase(text) => path.eq_ignore_ascii_case(text.as_bytes()),
            Self::PrefixIgnoreCase(text) => {
                path.len() >= text.len() && path[..text.len()].eq_ignore_ascii_case(text.as_bytes())
            }
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// How much of a matching path a prefix rewrite replaces, in bytes; all of it when the match
    /// is no prefix.
    pub fn matched_len(&self, path: &str) -> usize {
        match self {
            Self::Prefix(text) | Self::PrefixIgnoreCase(text) => text.len().min(path.len()),
            _ => path.len(),
        }
    }
}

/// What a header or a query parameter has to be.
#[derive(Debug, Clone)]
pub enum ValueMatch {
    /// There, whatever its value.
    Present,
    Text(StringMatch),
}

/// Where the value of a header condition comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderName {
    Method,
    Scheme,
    /// With the port, if the client sent one.
    Authority,
    /// The normalised path with its query.
    Path,
    /// Lower-case.
    Field(String),
    /// A claim of the verified token: names from the outermost to the innermost. Its text, or one
    /// of the texts in its list, has to match.
    Claim {
        written: String,
        path: Vec<String>,
    },
}

impl HeaderName {
    /// The name as Envoy writes it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Field(name) => name,
            Self::Claim { written, .. } => written,
        }
    }
}

/// A condition on a header. Of a header that stands there several times, one value is enough.
#[derive(Debug, Clone)]
pub struct HeaderMatch {
    pub name: HeaderName,
    pub value: ValueMatch,
    /// `withoutHeaders`: the condition holds when the value does not match. An absent header then
    /// counts as empty text, unless the condition is on its presence.
    pub inverted: bool,
}

impl HeaderMatch {
    pub fn is_match(&self, request: &RequestFacts<'_>) -> bool {
        let held = match &self.name {
            HeaderName::Method => self.holds_for(request.method),
            HeaderName::Scheme => self.holds_for(request.scheme),
            HeaderName::Authority => self.holds_for(request.authority),
            HeaderName::Path => match request.query {
                None => self.holds_for(request.path),
                Some(query) => self.holds_for(&format!("{}?{query}", request.path)),
            },
            HeaderName::Field(name) => self.holds_for_field(name, request),
            HeaderName::Claim { path, .. } => Some(self.holds_for_claim(path, request)),
        };
        match held {
            Some(held) => held != self.inverted,
            None if !self.inverted => false,
            None => match &self.value {
                ValueMatch::Present => true,
                ValueMatch::Text(text) => !text.is_match(b""),
            },
        }
    }

    fn holds_for_claim(&self, path: &[String], request: &RequestFacts<'_>) -> bool {
        let mut held = false;
        if let Some(claims) = request.claims {
            claims.visit(path, &mut |text| {
                held |= match &self.value {
                    ValueMatch::Present => true,
                    ValueMatch::Text(test) => test.is_match(text.as_bytes()),
                };
            });
        }
        held
    }

    fn holds_for(&self, value: &str) -> Option<bool> {
        match &self.value {
            ValueMatch::Present => Some(true),
            ValueMatch::Text(text) => Some(text.is_match(value.as_bytes())),
        }
    }

    /// Whether any of the values matches; `None` when there is no such header.
    fn holds_for_field(&self, name: &str, request: &RequestFacts<'_>) -> Option<bool> {
        let mut held = None;
        request.headers.visit(name, &mut |value| {
            let holds = match &self.value {
                ValueMatch::Present => true,
                ValueMatch::Text(text) => text.is_match(value),
            };
            held = Some(held == Some(true) || holds);
        });
        held
    }
}

/// A condition on the first query parameter of a name; names and values are compared as sent.
#[derive(Debug, Clone)]
pub struct QueryMatch {
    pub name: String,
    pub value: ValueMatch,
}

impl QueryMatch {
    pub fn is_match(&self, query: Option<&str>) -> bool {
        let parameters = query.unwrap_or_default().split('&');
        let mut pairs = parameters.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let found = pairs.find(|(name, _)| !name.is_empty() && *name == self.name);
        match (&self.value, found) {
            (_, None) => false,
            (ValueMatch::Present, Some(_)) => true,
            (ValueMatch::Text(text), Some((_, value))) => text.is_match(value.as_bytes()),
        }
    }
}

/// All conditions of one route; all of them have to hold.
#[derive(Debug, Clone)]
pub struct RouteMatch {
    pub path: PathMatch,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
}

/// The first condition of a route that a request does not meet.
#[derive(Debug, Clone, Copy)]
pub enum Mismatch<'s> {
    Path(&'s PathMatch),
    Header(&'s HeaderMatch),
    Query(&'s QueryMatch),
}

impl RouteMatch {
    /// What each request matches.
    pub fn any() -> Self {
        Self {
            path: PathMatch::Prefix("/".to_string()),
            headers: Vec::new(),
            query: Vec::new(),
        }
    }

    /// The first condition that fails, in the order path, headers, query; `None` is a match.
    #[inline]
    pub fn mismatch(&self, request: &RequestFacts<'_>) -> Option<Mismatch<'_>> {
        if !self.path.is_match(request.path) {
            return Some(Mismatch::Path(&self.path));
        }
        if let Some(header) = self.headers.iter().find(|header| !header.is_match(request)) {
            return Some(Mismatch::Header(header));
        }
        self.query
            .iter()
            .find(|query| !query.is_match(request.query))
            .map(Mismatch::Query)
    }

    /// Whether no later route can be reached: no condition but the path `/` or `.*`.
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.path {
            PathMatch::Prefix(prefix) | PathMatch::PrefixIgnoreCase(prefix) => prefix == "/",
            PathMatch::Regex(regex) => regex.text() == ".*",
            _ => false,
        };
        any_path && self.headers.is_empty() && self.query.is_empty()
    }
}
