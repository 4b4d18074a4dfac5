//! Other paths: for the upstream (rewrite) and for the client (redirect).

use regex::bytes::Regex;

use super::matching::compile_regex;
use super::request::RequestFacts;

/// How the path for the upstream follows from the client's. The query is never touched.
#[derive(Debug, Clone)]
pub enum PathRewrite {
    /// Replaces what the route matched: the prefix, or with any other match the whole path.
    Matched(String),
    /// Replaces every match of the expression.
    Regex(RegexRewrite),
}

/// `uriRegexRewrite`: RE2's global replace, `\1` for the first group.
#[derive(Debug, Clone)]
pub struct RegexRewrite {
    regex: Regex,
    /// As configured.
    pub pattern: String,
    /// As configured.
    pub substitution: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Part {
    Text(Vec<u8>),
    Group(usize),
}

impl RegexRewrite {
    /// # Errors
    ///
    /// A pattern that does not compile, a backslash that neither escapes nor names a group, and a
    /// group that the pattern does not have.
    pub fn new(pattern: &str, substitution: &str) -> Result<Self, String> {
        let regex = compile_regex(pattern)?;
        let mut parts = Vec::new();
        let mut text = Vec::new();
        let mut bytes = substitution.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'\\' {
                text.push(byte);
                continue;
            }
            match bytes.next() {
                Some(b'\\') => text.push(b'\\'),
                Some(digit @ b'0'..=b'9') => {
                    let group = usize::from(digit - b'0');
                    if group >= regex.captures_len() {
                        return Err(format!("the pattern has no group {group}"));
                    }
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text)));
                    }
                    parts.push(Part::Group(group));
                }
                _ => return Err("a lone backslash in the substitution".to_string()),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        let (pattern, substitution) = (pattern.to_string(), substitution.to_string());
        Ok(Self {
            regex,
            pattern,
            substitution,
            parts,
        })
    }

    fn apply(&self, path: &[u8], out: &mut Vec<u8>) {
        let mut copied = 0;
        for captures in self.regex.captures_iter(path) {
            let whole = captures.get(0).map_or(0..0, |found| found.range());
            out.extend_from_slice(&path[copied..whole.start]);
            for part in &self.parts {
                match part {
                    Part::Text(text) => out.extend_from_slice(text),
                    Part::Group(group) => {
                        out.extend_from_slice(captures.get(*group).map_or(b"", |g| g.as_bytes()));
                    }
                }
            }
            copied = whole.end;
        }
        out.extend_from_slice(&path[copied..]);
    }
}

impl PathRewrite {
    /// Appends the new path; `matched_len` is what the route's match covers.
    pub(crate) fn apply(&self, path: &str, matched_len: usize, out: &mut Vec<u8>) {
        match self {
            Self::Matched(replacement) => {
                out.extend_from_slice(replacement.as_bytes());
                out.extend_from_slice(&path.as_bytes()[matched_len..]);
            }
            Self::Regex(rewrite) => rewrite.apply(path.as_bytes(), out),
        }
    }
}

/// A redirect. What is `None` stays as the client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    pub scheme: Option<String>,
    pub authority: Option<String>,
    pub port: Option<u16>,
    pub path: RedirectPath,
}

/// The path of a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectPath {
    Same,
    /// Replaces the path; the query stays, unless the replacement brings its own.
    Whole(String),
    /// Replaces the matched prefix; the query stays.
    Prefix(String),
}

impl Redirect {
    /// To where the request was sent, for good.
    pub fn to_same() -> Self {
        Self {
            status: 301,
            scheme: None,
            authority: None,
            port: None,
            path: RedirectPath::Same,
        }
    }

    /// Appends the value of `location`; `matched_len` is what the route's match covers of the
    /// path. A port that is the default of the new scheme is dropped with a change of scheme, and
    /// any port is dropped with a change of host.
    pub fn location(&self, request: &RequestFacts<'_>, matched_len: usize, out: &mut Vec<u8>) {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        out.extend_from_slice(scheme.as_bytes());
        out.extend_from_slice(b"://");
        let asked = super::hosts::without_port(request.authority);
        let asked_port = request.authority[asked.len()..].strip_prefix(':');
        match (&self.authority, self.port) {
            (Some(authority), None) => out.extend_from_slice(authority.as_bytes()),
            (authority, Some(port)) => {
                let host = authority
                    .as_deref()
                    .map_or(asked, super::hosts::without_port);
                out.extend_from_slice(format!("{host}:{port}").as_bytes());
            }
            (None, None) => {
                out.extend_from_slice(asked.as_bytes());
                let elided = scheme != request.scheme
                    && matches!(
                        (request.scheme, asked_port),
                        ("http", Some("80")) | ("https", Some("443"))
                    );
                if let (Some(port), false) = (asked_port, elided) {
                    out.push(b':');
                    out.extend_from_slice(port.as_bytes());
                }
            }
        }
        let mut keep_query = true;
        match &self.path {
            RedirectPath::Same => out.extend_from_slice(request.path.as_bytes()),
            RedirectPath::Whole(path) => {
                keep_query = !path.contains('?');
                out.extend_from_slice(path.as_bytes());
            }
            RedirectPath::Prefix(prefix) => {
                out.extend_from_slice(prefix.as_bytes());
                out.extend_from_slice(&request.path.as_bytes()[matched_len..]);
            }
        }
        if let (Some(query), true) = (request.query, keep_query) {
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
        }
    }
}
