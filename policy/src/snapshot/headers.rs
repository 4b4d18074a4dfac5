//! Edits of header lists, and the values that they write.

use std::fmt;

/// Whether a header belongs to the connection and its framing (RFC 9110 section 7.6.1, RFC 9112
/// section 6), so that no route may set, add or remove it: a body whose length is lost would be
/// read as the next message.
pub fn is_framing_header(name: &str) -> bool {
    [
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ]
    .iter()
    .any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether what a token says may be told the upstream in this header. Neither the framing of a
/// message nor its host is for tokens to say: a body would be cut, and be read as another request.
pub fn tokens_may_set(name: &str) -> bool {
    !is_framing_header(name) && !name.eq_ignore_ascii_case("host")
}

/// What a level of the configuration changes in a head.
///
/// Removals come first, then [`HeaderEdits::write`] in order. Levels are applied destination
/// first, then route: so with several destinations the route's `set` wins, as in Istio. With one
/// destination the compiler has already appended the destination's edits to the route's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderEdits {
    /// Lower-case names whose every occurrence goes.
    pub remove: Vec<String>,
    /// What is written afterwards, in order.
    pub write: Vec<HeaderWrite>,
}

/// One header to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderWrite {
    /// Lower-case name.
    pub name: String,
    pub value: HeaderValue,
    pub mode: WriteMode,
}

/// What happens to a value that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// `set`: replaced.
    Set,
    /// `add`: kept, and a further header line is appended.
    Add,
    /// Kept, and nothing is written then. Envoy: `ADD_IF_ABSENT`.
    AddIfAbsent,
    /// Replaced; where there is none, nothing is written. Envoy: `OVERWRITE_IF_EXISTS`.
    SetIfPresent,
}

impl WriteMode {
    /// Whether a value that is there already goes.
    pub fn replaces(self) -> bool {
        matches!(self, Self::Set | Self::SetIfPresent)
    }
}

impl HeaderEdits {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.write.is_empty()
    }

    /// These edits and then those of `later`, as one level: what replaces comes before what adds.
    pub fn append(&mut self, later: &HeaderEdits) {
        self.remove.extend(later.remove.iter().cloned());
        self.write.extend(later.write.iter().cloned());
        self.write.sort_by_key(|line| !line.mode.replaces());
    }
}

/// A header value as configured: text, with Envoy's `%COMMAND%` operators resolved at load time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderValue {
    /// The same for each request.
    Literal(String),
    /// Text and operators, in order.
    Format(Vec<Segment>),
}

/// A part of a formatted value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Text(String),
    Operator(Operator),
}

/// A command operator `%NAME(argument):length%` of Envoy's substitution format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// `DOWNSTREAM_REMOTE_ADDRESS`, `REQ`, …
    pub name: String,
    /// What stands between the parentheses.
    pub argument: Option<String>,
    /// The longest rendering, in bytes.
    pub max_len: Option<usize>,
}

/// What the operators are rendered from: the request at hand.
pub trait FormatContext {
    /// Appends what `operator` stands for, and says whether there is such a value.
    fn render(&self, operator: &Operator, out: &mut Vec<u8>) -> bool;

    /// Whether there is a response that has this header, by its lower-case name.
    fn response_has(&self, name: &str) -> bool;
}

/// Why a value with a percent sign is no substitution format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatError {
    /// Where in the value, in bytes from 0.
    pub offset: usize,
    message: &'static str,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.message, self.offset)
    }
}

impl std::error::Error for FormatError {}

/// Operators of Envoy's substitution format, and whether the engine's `RequestFormat` has a value
/// for each; a header of the others is left out.
const OPERATORS: &[(&str, bool)] = &[
    ("ACCESS_LOG_TYPE", false),
    ("BYTES_RECEIVED", true),
    ("BYTES_SENT", true),
    ("CEL", false),
    ("CLUSTER_METADATA", false),
    ("COALESCE", false),
    ("COMMON_DURATION", false),
    ("CONNECTION_ID", true),
    ("CONNECTION_TERMINATION_DETAILS", false),
    ("CUSTOM_FLAGS", false),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", false),
    ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", false),
    ("DOWNSTREAM_DIRECT_LOCAL_PORT", false),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", true),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", true),
    ("DOWNSTREAM_DIRECT_REMOTE_PORT", true),
    ("DOWNSTREAM_LOCAL_ADDRESS", true),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", true),
    ("DOWNSTREAM_LOCAL_PORT", true),
    ("DOWNSTREAM_LOCAL_SUBJECT", false),
    ("DOWNSTREAM_LOCAL_URI_SAN", false),
    ("DOWNSTREAM_PEER_CERT", false),
    ("DOWNSTREAM_PEER_CERT_V_END", false),
    ("DOWNSTREAM_PEER_CERT_V_START", false),
    ("DOWNSTREAM_PEER_FINGERPRINT_256", false),
    ("DOWNSTREAM_PEER_ISSUER", false),
    ("DOWNSTREAM_PEER_SERIAL", false),
    ("DOWNSTREAM_PEER_SUBJECT", false),
    ("DOWNSTREAM_PEER_URI_SAN", false),
    ("DOWNSTREAM_REMOTE_ADDRESS", true),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", true),
    ("DOWNSTREAM_REMOTE_PORT", true),
    ("DOWNSTREAM_TLS_CIPHER", false),
    ("DOWNSTREAM_TLS_SESSION_ID", false),
    ("DOWNSTREAM_TLS_VERSION", false),
    ("DURATION", true),
    ("DYNAMIC_METADATA", false),
    ("EMIT_TIME", true),
    ("EMIT_TIME_LOCAL", false),
    ("ENVIRONMENT", true),
    ("FILTER_CHAIN_NAME", false),
    ("FILTER_STATE", false),
    ("GRPC_STATUS", false),
    ("GRPC_STATUS_NUMBER", false),
    ("HOSTNAME", true),
    ("LOCAL_REPLY_BODY", false),
    ("METADATA", false),
    ("PATH", true),
    ("PER_REQUEST_STATE", false),
    ("PROTOCOL", true),
    ("QUERY_PARAM", true),
    ("QUERY_PARAMS", true),
    ("REQ", true),
    ("REQUESTED_SERVER_NAME", true),
    ("REQUEST_DURATION", false),
    ("REQUEST_HEADER", true),
    ("REQUEST_HEADERS_BYTES", false),
    ("REQUEST_TX_DURATION", false),
    ("RESP", true),
    ("RESPONSE_CODE", true),
    ("RESPONSE_CODE_DETAILS", true),
    ("RESPONSE_DURATION", false),
    ("RESPONSE_FLAGS", true),
    ("RESPONSE_FLAGS_LONG", true),
    ("RESPONSE_HEADER", true),
    ("RESPONSE_HEADERS_BYTES", false),
    ("RESPONSE_TRAILER", false),
    ("RESPONSE_TRAILERS_BYTES", false),
    ("RESPONSE_TX_DURATION", false),
    ("ROUTE_NAME", true),
    ("SPAN_ID", false),
    ("START_TIME", true),
    ("START_TIME_LOCAL", false),
    ("STREAM_ID", true),
    ("TRACE_ID", false),
    ("TRAILER", false),
    ("UNIQUE_ID", true),
    ("UPSTREAM_CLUSTER", true),
    ("UPSTREAM_CLUSTER_RAW", true),
    ("UPSTREAM_CONNECTION_ID", false),
    ("UPSTREAM_HOST", true),
    ("UPSTREAM_HOST_NAME", false),
    ("UPSTREAM_HOST_NAME_WITHOUT_PORT", false),
    ("UPSTREAM_LOCAL_ADDRESS", false),
    ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", false),
    ("UPSTREAM_LOCAL_PORT", false),
    ("UPSTREAM_METADATA", false),
    ("UPSTREAM_PEER_CERT", false),
    ("UPSTREAM_PEER_ISSUER", false),
    ("UPSTREAM_PEER_SUBJECT", false),
    ("UPSTREAM_PEER_URI_SAN", false),
    ("UPSTREAM_PROTOCOL", false),
    ("UPSTREAM_REMOTE_ADDRESS", true),
    ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", true),
    ("UPSTREAM_REMOTE_PORT", true),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", true),
    ("UPSTREAM_SERVER_NAME", false),
    ("UPSTREAM_TLS_CIPHER", false),
    ("UPSTREAM_TLS_SESSION_ID", false),
    ("UPSTREAM_TLS_VERSION", false),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", false),
    ("VIRTUAL_CLUSTER_NAME", false),
];

/// Operators that have a value and stand for nothing without an argument.
const NAMED: [&str; 6] = [
    "ENVIRONMENT",
    "QUERY_PARAM",
    "REQ",
    "REQUEST_HEADER",
    "RESP",
    "RESPONSE_HEADER",
];

impl Operator {
    /// Whether it can have a value in this proxy.
    pub fn has_value(&self) -> bool {
        let has_value = OPERATORS.contains(&(self.name.as_str(), true));
        match (self.name.as_str(), self.argument.as_deref()) {
            ("QUERY_PARAMS", argument) => matches!(argument, None | Some("" | "ORIG")),
            _ => has_value,
        }
    }
}

impl HeaderValue {
    /// Reads a value as configured: `%%` is a percent sign, `%NAME…%` an operator.
    ///
    /// # Errors
    ///
    /// A lone percent sign, an unclosed parenthesis, a length that is no number, a name that is
    /// missing and an operator that Envoy does not have.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if !text.contains('%') {
            return Ok(Self::Literal(text.to_string()));
        }
        let mut segments = Vec::new();
        let mut plain = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find('%') {
            plain.push_str(&text[at..at + found]);
            let start = at + found;
            if text[start + 1..].starts_with('%') {
                plain.push('%');
                at = start + 2;
                continue;
            }
            let (operator, end) = parse_operator(text, start)?;
            if !plain.is_empty() {
                segments.push(Segment::Text(std::mem::take(&mut plain)));
            }
            segments.push(Segment::Operator(operator));
            at = end;
        }
        plain.push_str(&text[at..]);
        if segments.is_empty() {
            return Ok(Self::Literal(plain));
        }
        if !plain.is_empty() {
            segments.push(Segment::Text(plain));
        }
        Ok(Self::Format(segments))
    }

    /// The first operator that Envoy has and this proxy has no value for.
    pub fn unrendered(&self) -> Option<&str> {
        let Self::Format(segments) = self else {
            return None;
        };
        let mut operators = segments.iter().filter_map(|segment| match segment {
            Segment::Operator(operator) => Some(operator),
            Segment::Text(_) => None,
        });
        let unrendered = operators.find(|operator| !operator.has_value());
        unrendered.map(|operator| operator.name.as_str())
    }

    /// Appends the value for the request behind `context`.
    ///
    /// An operator without a value leaves nothing among other text. Where all of the value is empty,
    /// Envoy writes no header, and leaves the one that is there: the result is `false`.
    pub fn render(&self, context: &impl FormatContext, out: &mut Vec<u8>) -> bool {
        let segments = match self {
            Self::Literal(text) => {
                out.extend_from_slice(text.as_bytes());
                return true;
            }
            Self::Format(segments) => segments,
        };
        let before = out.len();
        for segment in segments {
            match segment {
                Segment::Text(text) => out.extend_from_slice(text.as_bytes()),
                Segment::Operator(operator) => {
                    let start = out.len();
                    if !context.render(operator, out) {
                        out.truncate(start);
                    }
                    if let Some(max_len) = operator.max_len {
                        out.truncate(start.saturating_add(max_len).min(out.len()));
                    }
                }
            }
        }
        out.len() > before
    }

    /// Whether the value for the request behind `context` is one that is written.
    pub fn is_written(&self, context: &impl FormatContext) -> bool {
        match self {
            Self::Literal(_) => true,
            Self::Format(_) => self.render(context, &mut Vec::new()),
        }
    }
}

/// Reads the operator whose opening percent sign stands at `start`; also where it ends.
fn parse_operator(text: &str, start: usize) -> Result<(Operator, usize), FormatError> {
    let error = |offset, message| FormatError { offset, message };
    let body = &text[start + 1..];
    let name_len = body.find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'));
    let name_len = name_len.ok_or(error(start, "a lone `%` (write `%%` for a percent sign)"))?;
    let name = &body[..name_len];
    if name.is_empty() {
        return Err(error(start, "a lone `%` (write `%%` for a percent sign)"));
    }
    let mut rest = &body[name_len..];
    let mut argument = None;
    if let Some(inner) = rest.strip_prefix('(') {
        let mut closings = inner.match_indices(')').map(|(at, _)| at);
        let close = closings.find(|at| inner[at + 1..].starts_with(['%', ':']));
        let close = close.ok_or(error(start, "an operator whose `(` is not closed"))?;
        argument = Some(inner[..close].to_string());
        rest = &inner[close + 1..];
    }
    let mut max_len = None;
    if let Some(after) = rest.strip_prefix(':') {
        let digits = after
            .find('%')
            .ok_or(error(start, "an operator without a closing `%`"))?;
        max_len = Some(
            after[..digits]
                .parse()
                .map_err(|_| error(start, "a length that is no number"))?,
        );
        rest = &after[digits..];
    }
    let rest = rest
        .strip_prefix('%')
        .ok_or(error(start, "an operator without a closing `%`"))?;
    if !OPERATORS.iter().any(|(known, _)| *known == name) {
        return Err(error(start, "an operator that does not exist"));
    }
    if argument.as_deref().unwrap_or_default().is_empty() && NAMED.contains(&name) {
        return Err(error(start, "an operator without the name that it needs"));
    }
    Ok((
        Operator {
            name: name.to_string(),
            argument,
            max_len,
        },
        text.len() - rest.len(),
    ))
}
