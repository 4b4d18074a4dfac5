//! What a route does with a request, value by value, each with the place that it comes from.

use serde::Serialize;

use super::places::{Places, Written};
use super::wording;
use crate::compile::default_retry;
use crate::snapshot::{
    AbortAnswer, CorsPolicy, FaultSide, HeaderEdits, HeaderValue, PartsPerMillion, PathMatch,
    PathRewrite, RequestFacts, RetryPolicy, Route, RouteAction, Segment, TimeoutStatus, WriteMode,
};
use crate::source::Origin;

/// A value in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    pub name: String,
    pub value: String,
    /// Where the value comes from; `None` is a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    /// Whether it is a default.
    #[serde(rename = "default")]
    pub is_default: bool,
}

pub(super) fn setting(name: &str, value: impl Into<String>, written: Option<Written>) -> Setting {
    Setting {
        name: name.to_string(),
        value: value.into(),
        is_default: written.is_none(),
        written,
    }
}

pub(super) fn milliseconds(ms: u64) -> String {
    if ms >= 1000 && ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

fn percent(share: PartsPerMillion) -> String {
    format!("{}%", f64::from(share.0) / 10_000.0)
}

pub(super) fn milliseconds_or(ms: Option<u64>, none: &str) -> String {
    ms.map_or(none.to_string(), milliseconds)
}

/// What the route itself sets. Without a request, rewrites are told in general.
pub(crate) fn settings(
    route: &Route,
    facts: Option<&RequestFacts<'_>>,
    places: &Places,
) -> Vec<Setting> {
    let mut list = Vec::new();
    let at = |field: &str| places.of_optional(&field_of_rule(route, field));
    if matches!(route.action, RouteAction::Forward(_)) {
        let value = milliseconds_or(route.timeout_ms, "none");
        let written = places.of_optional(&route.timeout_origin);
        list.push(setting("timeout", value, written));
        list.extend(timeout_answer(route.timeout_status, at("headers")));
        match &route.retry {
            Some(policy) => list.extend(retries(policy, places)),
            None => list.push(setting("retries", "none", at("retries"))),
        }
    }
    rewrites(route, facts, &at, &mut list);
    let alone = match route.destinations() {
        [only] => only.origin.clone(),
        _ => None,
    };
    let owners = [rule_of(route, "headers"), alone];
    for (of, changes) in [
        (HeadersOf::Request, &route.request_headers),
        (HeadersOf::Response, &route.response_headers),
    ] {
        edits(of, changes, &owners, places, &mut list);
    }
    faults(route, &at, &mut list);
    for mirror in &route.mirrors {
        let dropped = match mirror.cluster {
            Some(_) => "",
            None => ", which is no cluster: nothing is copied",
        };
        let share = percent(mirror.share);
        let value = format!("{share} of requests to {}{dropped}", mirror.cluster_name);
        let of = |field| places.of_field(&rule_of(route, field), &[field], true);
        list.push(setting(
            "mirror",
            value,
            of("mirror").or_else(|| of("mirrors")),
        ));
    }
    if let Some(cors) = &route.cors {
        cross_origin(cors, at("corsPolicy"), &mut list);
    }
    list
}

/// Where a field of the rule that a route was made of is written.
pub(super) fn field_of_rule(route: &Route, field: &str) -> Option<Origin> {
    Some(route.rule.as_ref()?.field(field))
}

/// The rule that says what `field` is.
fn rule_of(route: &Route, field: &str) -> Option<Origin> {
    Some(route.rule.as_ref()?.of(field).clone())
}

/// What is answered when time is over, where it is not 504.
pub(super) fn timeout_answer(status: TimeoutStatus, written: Option<Written>) -> Option<Setting> {
    let answer = match status {
        TimeoutStatus::GatewayTimeout => return None,
        TimeoutStatus::NoContent => "204 without a body",
    };
    Some(setting("timeout answer", answer, written))
}

fn rewrites(
    route: &Route,
    facts: Option<&RequestFacts<'_>>,
    at: &impl Fn(&str) -> Option<Written>,
    list: &mut Vec<Setting>,
) {
    let value = match (&route.path_rewrite, facts) {
        (None, _) => None,
        (Some(rewrite), Some(facts)) => {
            let mut path = Vec::new();
            route.rewrite_path(facts.path, &mut path);
            let mut path = String::from_utf8_lossy(&path).into_owned();
            if let Some(query) = facts.query {
                path += &format!("?{query}");
            }
            Some(match rewrite {
                PathRewrite::Matched(_) => path,
                PathRewrite::Regex(_) => format!("{path} (by regex)"),
            })
        }
        (Some(PathRewrite::Matched(new)), None) => Some(match &route.matches.path {
            PathMatch::Prefix(old) | PathMatch::PrefixIgnoreCase(old) => {
                format!("`{new}` in place of `{old}`")
            }
            _ => format!("`{new}`"),
        }),
        (Some(PathRewrite::Regex(regex)), None) => Some(format!(
            "`{}` in place of `{}`",
            regex.substitution, regex.pattern
        )),
    };
    if let Some(value) = value {
        list.push(setting("path upstream", value, at("rewrite")));
    }
    if let Some(host) = &route.host_rewrite {
        list.push(setting("host upstream", host.clone(), at("rewrite")));
    }
}

fn faults(route: &Route, at: &impl Fn(&str) -> Option<Written>, list: &mut Vec<Setting>) {
    let Some(fault) = &route.fault else { return };
    let side = match fault.side {
        FaultSide::Downstream => "",
        FaultSide::Upstream => ", in each try",
    };
    if let Some(delay) = &fault.delay {
        let (time, share) = (milliseconds(delay.delay_ms), percent(delay.share));
        let value = format!("{time} for {share}{side}");
        list.push(setting("fault delay", value, at("fault")));
    }
    if let Some(abort) = &fault.abort {
        let answer = match abort.answer {
            AbortAnswer::HttpStatus(status) => format!("HTTP {status}"),
            AbortAnswer::GrpcStatus(status) => format!("gRPC {status}"),
        };
        let value = format!("{answer} for {}{side}", percent(abort.share));
        list.push(setting("fault abort", value, at("fault")));
    }
}

fn cross_origin(cors: &CorsPolicy, written: Option<Written>, list: &mut Vec<Setting>) {
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            list.push(setting(name, value, written.clone()));
        }
    };
    let origins = cors.allow_origins.iter().map(wording::of_text);
    let origins: Vec<String> = origins.collect();
    let origins = match origins.as_slice() {
        [] => "none".to_string(),
        origins => origins.join(", "),
    };
    add("cors origins", origins);
    add("cors methods", cors.allow_methods.clone());
    add("cors headers", cors.allow_headers.clone());
    add("cors exposes", cors.expose_headers.clone());
    add(
        "cors max age",
        cors.max_age_s.map(|s| format!("{s}s")).unwrap_or_default(),
    );
    let credentials = cors.allow_credentials.map(|allowed| match allowed {
        true => "allowed".to_string(),
        false => "not allowed".to_string(),
    });
    add("cors credentials", credentials.unwrap_or_default());
    let others = match cors.forward_unmatched_preflights {
        true => "go to the upstream",
        false => "are answered here",
    };
    add("cors preflights", format!("of other origins {others}"));
}

/// What is tried again, how often and when.
pub(crate) fn retries(retry: &RetryPolicy, places: &Places) -> Vec<Setting> {
    let usual = default_retry();
    let part = |name: &str, value: String, field: &str, is_default: bool| {
        let written = places.of_field(&retry.origin, &[field], is_default);
        setting(name, value, written)
    };
    let mut on = retry.retry_on.join(",");
    for code in &retry.status_codes {
        on += &format!(",{code}");
    }
    for name in &retry.header_names {
        on += &format!(",header {name}");
    }
    let is_usual = (&retry.retry_on, &retry.status_codes, &retry.header_names)
        == (&usual.retry_on, &usual.status_codes, &usual.header_names);
    let attempts = retry.attempts;
    let mut list = vec![
        part(
            "retries",
            attempts.to_string(),
            "attempts",
            attempts == usual.attempts,
        ),
        part("retry on", on, "retryOn", is_usual),
    ];
    if let Some(ms) = retry.per_try_timeout_ms {
        list.push(part(
            "per try timeout",
            milliseconds(ms),
            "perTryTimeout",
            false,
        ));
    }
    let base = retry.backoff_base_ms;
    let from = format!("from {}", milliseconds(base));
    list.push(part(
        "retry back-off",
        from,
        "backoff",
        base == usual.backoff_base_ms,
    ));
    if !retry.exclude_tried {
        let again = "any, tried or not".to_string();
        list.push(part(
            "retry endpoints",
            again,
            "retryIgnorePreviousHosts",
            true,
        ));
    }
    if retry.retry_remote_localities {
        let first = "others first".to_string();
        list.push(part(
            "retry localities",
            first,
            "retryRemoteLocalities",
            false,
        ));
    }
    list
}

/// Whose headers are changed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeadersOf {
    Request,
    Response,
}

/// Changes of headers, one setting each. `owners` are the rule and the destinations that may have
/// written them: one destination alone shares its changes with the rule.
pub(crate) fn edits(
    of: HeadersOf,
    edits: &HeaderEdits,
    owners: &[Option<Origin>],
    places: &Places,
    list: &mut Vec<Setting>,
) {
    let (what, side) = match of {
        HeadersOf::Request => ("request header", "request"),
        HeadersOf::Response => ("response header", "response"),
    };
    let written = |path: &[&str], is_default: bool| {
        let path = [&["headers", side], path].concat();
        let mut each = owners.iter();
        each.find_map(|owner| places.of_field(owner, &path, is_default))
    };
    let nearest = || written(&[], true).or_else(|| written(&[], false));
    for name in &edits.remove {
        let place = written(&["remove"], true).or_else(nearest);
        list.push(setting(what, format!("remove {name}"), place));
    }
    for write in &edits.write {
        let (verb, field) = match write.mode {
            WriteMode::Set => ("set", "set"),
            WriteMode::Add => ("add", "add"),
            WriteMode::AddIfAbsent => ("add if absent", "add"),
            WriteMode::SetIfPresent => ("set if present", "set"),
        };
        let place = written(&[field, &write.name], true).or_else(nearest);
        let value = format!("{verb} {}: {}", write.name, value_text(&write.value));
        list.push(setting(what, value, place));
    }
}

fn value_text(value: &HeaderValue) -> String {
    let HeaderValue::Format(segments) = value else {
        let HeaderValue::Literal(text) = value else {
            return String::new();
        };
        return text.clone();
    };
    let each = segments.iter().map(|segment| match segment {
        Segment::Text(text) => text.clone(),
        Segment::Operator(operator) => match &operator.argument {
            Some(argument) => format!("%{}({argument})%", operator.name),
            None => format!("%{}%", operator.name),
        },
    });
    each.collect()
}
