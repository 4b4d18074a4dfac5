//! `spec.extensionProviders`: who decides about requests that policies with the action CUSTOM
//! match. The form is that of Istio's mesh configuration.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{SettingsError, duration};
use crate::source::FieldPath;

/// A service that is asked whether a request may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Host of the service as written: a full name, or one with `namespace/` before it.
    pub service: String,
    pub port: u16,
    /// For the whole answer, connecting among it. Istio: 600 s.
    pub timeout_ms: u64,
    /// Whether requests pass while the service fails.
    pub fail_open: bool,
    /// The status while the service fails.
    pub status_on_error: u16,
    /// `None`: the service is not shown the body.
    pub body_in_check: Option<BodyInCheck>,
    /// Whether what the service adds to a request counts for its route.
    pub clear_route_cache: bool,
    pub protocol: CheckProtocol,
}

/// How a service is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckProtocol {
    /// Istio: `envoyExtAuthzHttp`.
    Http(HttpCheck),
    /// Istio: `envoyExtAuthzGrpc`.
    Grpc,
}

/// What is particular to checks over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// Goes before the path of the request.
    pub path_prefix: String,
    /// Which headers the service is shown, beside method, path, host and authorization. Lower-case;
    /// `*` may begin or end each.
    pub request_headers_in_check: Vec<String>,
    /// Headers that are added for the service.
    pub additional_headers_in_check: BTreeMap<String, String>,
    /// Headers of an answer 200 that the upstream gets.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Headers of any other answer that the client gets.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Headers of an answer 200 that the client gets.
    pub headers_to_downstream_on_allow: Vec<String>,
}

impl HttpCheck {
    /// Whether one of `patterns`, as they are kept here, stands for the header of this name.
    pub fn is_listed(patterns: &[String], name: &[u8]) -> bool {
        let is_same = |a: &[u8], b: &[u8]| a.eq_ignore_ascii_case(b);
        patterns.iter().any(|pattern| {
            let pattern = pattern.as_bytes();
            match (pattern.strip_prefix(b"*"), pattern.strip_suffix(b"*")) {
                (Some(end), _) => {
                    name.len() >= end.len() && is_same(&name[name.len() - end.len()..], end)
                }
                (None, Some(start)) => {
                    name.len() >= start.len() && is_same(&name[..start.len()], start)
                }
                (None, None) => is_same(name, pattern),
            }
        })
    }
}

/// How much of a body the service is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyInCheck {
    pub max_bytes: u32,
    /// Whether a longer body is cut for the service; else the request is answered 413.
    pub allow_partial: bool,
    /// Whether a message of gRPC carries it as bytes, not as text.
    pub packs_as_bytes: bool,
}

/// An item as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProviderSpec {
    pub name: String,
    pub envoy_ext_authz_http: Option<HttpProviderSpec>,
    pub envoy_ext_authz_grpc: Option<GrpcProviderSpec>,
}

/// `envoyExtAuthzGrpc` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrpcProviderSpec {
    pub service: String,
    pub port: u32,
    pub timeout: Option<String>,
    pub fail_open: bool,
    pub status_on_error: Option<String>,
    pub include_request_body_in_check: Option<BodySpec>,
    pub clear_route_cache: bool,
}

/// `envoyExtAuthzHttp` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HttpProviderSpec {
    pub service: String,
    pub port: u32,
    pub timeout: Option<String>,
    pub path_prefix: String,
    pub fail_open: bool,
    pub status_on_error: Option<String>,
    pub include_request_headers_in_check: Vec<String>,
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    pub include_request_body_in_check: Option<BodySpec>,
    pub headers_to_upstream_on_allow: Vec<String>,
    pub headers_to_downstream_on_deny: Vec<String>,
    pub headers_to_downstream_on_allow: Vec<String>,
    pub clear_route_cache: bool,
}

/// `includeRequestBodyInCheck` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BodySpec {
    pub max_request_bytes: u32,
    pub allow_partial_message: bool,
    pub pack_as_bytes: bool,
}

const DEFAULT_TIMEOUT_MS: u64 = 600_000;
const DEFAULT_STATUS_ON_ERROR: u16 = 403;
/// Longest name of a provider: that of a DNS label.
const MAX_NAME_BYTES: usize = 63;

/// Reads all providers.
pub(super) fn resolve(list: &[ProviderSpec]) -> Result<BTreeMap<String, Provider>, SettingsError> {
    let mut providers = BTreeMap::new();
    for (at, spec) in list.iter().enumerate() {
        let place = FieldPath::root().field("spec").field("extensionProviders");
        let place = place.index(at);
        let of_provider = |problem: Problem| problem.below(&place);
        let name = &spec.name;
        if !is_label(name) {
            let message = format!("`{name}` is no name of a provider");
            let help = "write letters a-z, digits and inner `-`, at most 63 of them";
            return Err(of_provider(problem("name", message, help)));
        }
        let provider = match (&spec.envoy_ext_authz_http, &spec.envoy_ext_authz_grpc) {
            (Some(http), None) => http
                .resolve()
                .map_err(|problem| problem.below(&place.field("envoyExtAuthzHttp")))?,
            (None, Some(grpc)) => grpc
                .resolve()
                .map_err(|problem| problem.below(&place.field("envoyExtAuthzGrpc")))?,
            _ => {
                let message = format!("nothing says how provider `{name}` is asked");
                let help = "write one of `envoyExtAuthzHttp:` and `envoyExtAuthzGrpc:`";
                return Err(of_provider(problem("name", message, help)));
            }
        };
        if providers.insert(name.clone(), provider).is_some() {
            let message = format!("two providers are called `{name}`");
            let help = "give one of them another name";
            return Err(of_provider(problem("name", message, help)));
        }
    }
    Ok(providers)
}

/// What is wrong with a field of a provider.
struct Problem {
    field: &'static str,
    message: String,
    help: &'static str,
}

impl Problem {
    fn below(self, place: &FieldPath) -> SettingsError {
        SettingsError {
            field: place.field(self.field),
            message: self.message,
            help: self.help.to_string(),
        }
    }
}

fn problem(field: &'static str, message: String, help: &'static str) -> Problem {
    Problem {
        field,
        message,
        help,
    }
}

fn is_label(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name.bytes().all(is_plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

impl GrpcProviderSpec {
    fn resolve(&self) -> Result<Provider, Problem> {
        Ok(Provider {
            service: service(&self.service)?,
            port: port(self.port)?,
            timeout_ms: timeout_ms(self.timeout.as_deref())?,
            fail_open: self.fail_open,
            status_on_error: status_on_error(self.status_on_error.as_deref())?,
            body_in_check: body_in_check(self.include_request_body_in_check.as_ref())?,
            clear_route_cache: self.clear_route_cache,
            protocol: CheckProtocol::Grpc,
        })
    }
}

fn service(name: &str) -> Result<String, Problem> {
    match name {
        "" => {
            let message = "the service has no name".to_string();
            let help = "write its full name, such as `checks.auth.svc.cluster.local`";
            Err(problem("service", message, help))
        }
        name => Ok(name.to_string()),
    }
}

fn port(number: u32) -> Result<u16, Problem> {
    match u16::try_from(number) {
        Ok(port @ 1..) => Ok(port),
        _ => {
            let message = format!("`{number}` is no port");
            Err(problem("port", message, "ports go from 1 to 65535"))
        }
    }
}

fn timeout_ms(written: Option<&str>) -> Result<u64, Problem> {
    let read = |text| duration::parse_ms(text);
    let wrong = |error: duration::DurationError| {
        problem("timeout", error.to_string(), super::DURATION_HELP)
    };
    written.map_or(Ok(DEFAULT_TIMEOUT_MS), |text| read(text).map_err(wrong))
}

fn status_on_error(written: Option<&str>) -> Result<u16, Problem> {
    let Some(text) = written else {
        return Ok(DEFAULT_STATUS_ON_ERROR);
    };
    match text.parse() {
        Ok(status @ 200..=599) => Ok(status),
        _ => {
            let message = format!("`{text}` is no status of an answer");
            let help = "write a status from 200 to 599 in quotes: \"403\"";
            Err(problem("statusOnError", message, help))
        }
    }
}

fn body_in_check(written: Option<&BodySpec>) -> Result<Option<BodyInCheck>, Problem> {
    if written.is_some_and(|body| body.max_request_bytes == 0) {
        let message = "the service is shown 0 bytes of bodies".to_string();
        let help = "write how many bytes, as in `maxRequestBytes: 8192`";
        return Err(problem("includeRequestBodyInCheck", message, help));
    }
    Ok(written.map(|body| BodyInCheck {
        max_bytes: body.max_request_bytes,
        allow_partial: body.allow_partial_message,
        packs_as_bytes: body.pack_as_bytes,
    }))
}

impl HttpProviderSpec {
    fn resolve(&self) -> Result<Provider, Problem> {
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'?' && byte != b'#';
        let prefix = &self.path_prefix;
        if !(prefix.is_empty() || prefix.starts_with('/') && prefix.bytes().all(is_plain)) {
            let message = format!("`{prefix}` is no beginning of a path");
            let help = "write one without a query or a fragment, such as `/check`";
            return Err(problem("pathPrefix", message, help));
        }
        for (name, value) in &self.include_additional_headers_in_check {
            let is_visible = |byte: u8| byte == b'\t' || (b' '..=b'~').contains(&byte);
            if !is_header_name(name) || !value.bytes().all(is_visible) {
                let message = format!("`{name}: {value}` is no header");
                let help = "write a name and one line of visible characters, `x-source: mesh`";
                return Err(problem("includeAdditionalHeadersInCheck", message, help));
            }
        }
        let check = HttpCheck {
            path_prefix: prefix.clone(),
            request_headers_in_check: patterns(
                &self.include_request_headers_in_check,
                "includeRequestHeadersInCheck",
            )?,
            additional_headers_in_check: self.include_additional_headers_in_check.clone(),
            headers_to_upstream_on_allow: patterns(
                &self.headers_to_upstream_on_allow,
                "headersToUpstreamOnAllow",
            )?,
            headers_to_downstream_on_deny: patterns(
                &self.headers_to_downstream_on_deny,
                "headersToDownstreamOnDeny",
            )?,
            headers_to_downstream_on_allow: patterns(
                &self.headers_to_downstream_on_allow,
                "headersToDownstreamOnAllow",
            )?,
        };
        Ok(Provider {
            service: service(&self.service)?,
            port: port(self.port)?,
            timeout_ms: timeout_ms(self.timeout.as_deref())?,
            fail_open: self.fail_open,
            status_on_error: status_on_error(self.status_on_error.as_deref())?,
            body_in_check: body_in_check(self.include_request_body_in_check.as_ref())?,
            clear_route_cache: self.clear_route_cache,
            protocol: CheckProtocol::Http(check),
        })
    }
}

/// Whether a text can be the name of a header (RFC 9110 section 5.1).
pub fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// Names of headers in lower case; `*` alone is refused, as in Istio.
fn patterns(list: &[String], field: &'static str) -> Result<Vec<String>, Problem> {
    let read = |name: &String| {
        if name == "*" || !is_header_name(name) {
            let message = format!("`{name}` is no name of a header");
            let help = "write a name with `*` at one end at most, such as `x-request-*`";
            return Err(problem(field, message, help));
        }
        Ok(name.to_ascii_lowercase())
    };
    list.iter().map(read).collect()
}
