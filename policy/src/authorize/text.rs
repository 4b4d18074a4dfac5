//! How values of policies match texts.

/// One value of a list, in Istio's notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextTest {
    Exact(Box<str>),
    /// `text*`
    Prefix(Box<str>),
    /// `*text`
    Suffix(Box<str>),
    /// `*`: there, and not empty.
    NotEmpty,
    /// `*` of a header or a host: there.
    Present,
}

impl TextTest {
    /// Reads a value where `*` asks for something that is not empty.
    pub fn new(value: &str) -> Self {
        match value {
            "*" => Self::NotEmpty,
            _ => Self::with_wildcard(value),
        }
    }

    /// Reads a value of a header, where `*` asks for its presence.
    pub fn of_header(value: &str) -> Self {
        match value {
            "*" => Self::Present,
            _ => Self::with_wildcard(value),
        }
    }

    fn with_wildcard(value: &str) -> Self {
        if let Some(suffix) = value.strip_prefix('*') {
            Self::Suffix(suffix.into())
        } else if let Some(prefix) = value.strip_suffix('*') {
            Self::Prefix(prefix.into())
        } else {
            Self::Exact(value.into())
        }
    }

    /// The same in lower case, for texts that are compared without regard to case.
    #[must_use]
    pub fn to_lower_case(&self) -> Self {
        match self {
            Self::Exact(text) => Self::Exact(text.to_ascii_lowercase().into()),
            Self::Prefix(text) => Self::Prefix(text.to_ascii_lowercase().into()),
            Self::Suffix(text) => Self::Suffix(text.to_ascii_lowercase().into()),
            other => other.clone(),
        }
    }

    #[inline]
    pub fn is_match(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => value == text.as_bytes(),
            Self::Prefix(text) => value.starts_with(text.as_bytes()),
            Self::Suffix(text) => value.ends_with(text.as_bytes()),
            Self::NotEmpty => !value.is_empty(),
            Self::Present => true,
        }
    }

    /// Without regard to the case of ASCII letters.
    #[inline]
    pub fn is_match_ignoring_case(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(text) => value.eq_ignore_ascii_case(text.as_bytes()),
            Self::Prefix(text) => value
                .get(..text.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes())),
            Self::Suffix(text) => value
                .len()
                .checked_sub(text.len())
                .is_some_and(|at| value[at..].eq_ignore_ascii_case(text.as_bytes())),
            Self::NotEmpty => !value.is_empty(),
            Self::Present => true,
        }
    }
}

/// One value of `paths`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathTest {
    Text(TextTest),
    Template(PathTemplate),
}

impl PathTest {
    pub fn new(value: &str) -> Self {
        if value.contains("{*}") || value.contains("{**}") {
            Self::Template(PathTemplate::new(value))
        } else {
            Self::Text(TextTest::new(value))
        }
    }

    #[inline]
    pub fn is_match(&self, path: &[u8]) -> bool {
        match self {
            Self::Text(text) => text.is_match(path),
            Self::Template(template) => template.is_match(path),
        }
    }
}

/// A path with `{*}` for one segment and `{**}` for any number of them. Envoy:
/// `UriTemplateMatchConfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    segments: Vec<TemplateSegment>,
    /// With `{**}`: what has to follow it, a slash first, or nothing.
    after_rest: Option<Box<str>>,
    /// What each matching path begins with.
    literal: Box<str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplateSegment {
    Literal(Box<str>),
    /// `{*}`: one character at least.
    One,
}

impl PathTemplate {
    fn new(value: &str) -> Self {
        let (before, after_rest) = match value.split_once("{**}") {
            Some((before, after)) => (before.strip_suffix('/').unwrap_or(before), Some(after)),
            None => (value, None),
        };
        let segments = match before.strip_prefix('/') {
            Some(before) => before.split('/').collect(),
            None if before.is_empty() => Vec::new(),
            None => before.split('/').collect::<Vec<_>>(),
        };
        let segments = segments.into_iter().map(|part| match part {
            "{*}" => TemplateSegment::One,
            _ => TemplateSegment::Literal(part.into()),
        });
        Self {
            segments: segments.collect(),
            after_rest: after_rest.map(Into::into),
            literal: value.split('{').next().unwrap_or_default().into(),
        }
    }

    /// What each matching path begins with.
    pub fn literal_prefix(&self) -> &str {
        &self.literal
    }

    fn is_match(&self, path: &[u8]) -> bool {
        let mut rest = path;
        for segment in &self.segments {
            let Some((b'/', after)) = rest.split_first() else {
                return false;
            };
            let end = after.iter().position(|byte| *byte == b'/');
            let end = end.unwrap_or(after.len());
            let fits = match segment {
                TemplateSegment::Literal(text) => &after[..end] == text.as_bytes(),
                TemplateSegment::One => end > 0 && after[..end].iter().all(is_template_byte),
            };
            if !fits {
                return false;
            }
            rest = &after[end..];
        }
        let Some(after_rest) = &self.after_rest else {
            return rest.is_empty();
        };
        let any = rest
            .strip_prefix(b"/")
            .and_then(|rest| rest.strip_suffix(after_rest.as_bytes()));
        any.is_some_and(|any| {
            any.iter()
                .all(|byte| *byte == b'/' || is_template_byte(byte))
        })
    }
}

/// What a wildcard of a template stands for: RFC 3986's `pchar` without `*` and `=`.
fn is_template_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@".contains(byte)
}
