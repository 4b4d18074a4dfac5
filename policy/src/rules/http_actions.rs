//! What an HTTP route does beside forwarding: redirect, answer, rewrite, retry, fault, CORS.

use super::headers::{check_cors_name, check_one_line, check_sendable, check_string_match};
use super::regex::check_regex;
use super::rewritten_targets;
use super::values::{check_not_negative, check_port_number, report_missing};
use crate::grpc_status;
use crate::schema::{Node, Report, duration_ns};
use crate::snapshot::RegexRewrite;

pub(super) fn check_redirect(redirect: &Node<'_>, conditions: &Node<'_>, report: &mut Report<'_>) {
    if !redirect.is_set() {
        return;
    }
    let uri = redirect.get("uri");
    let prefix = redirect.get("prefixRewrite");
    let (has_uri, has_prefix) = (!uri.text().is_empty(), !prefix.text().is_empty());
    if has_uri && has_prefix {
        let message = "`uri` and `prefixRewrite` cannot be in one redirect";
        report.key_error(
            "conflicting-fields",
            &prefix,
            message,
            "keep one of the two",
        );
    }
    let matches_without_prefix = conditions.items().any(|condition| {
        let uri = condition.get("uri");
        uri.is_set() && !uri.get("prefix").is_set()
    });
    if has_prefix && matches_without_prefix {
        let message = "`prefixRewrite` replaces a prefix, but a match of this route has none";
        let help = "match `uri: {prefix: ...}`, or write `uri:` here";
        report.error("conflicting-fields", &prefix, message, help);
    }
    let has_authority = !redirect.get("authority").text().is_empty();
    let scheme = redirect.get("scheme");
    let port = redirect.get("port");
    let has_port = port.is_set() || redirect.get("derivePort").is_set();
    if !has_uri && !has_prefix && !has_authority && !has_port && scheme.text().is_empty() {
        let help = "write `uri:`, `prefixRewrite:`, `authority:`, `scheme:` or `port:`";
        report_missing(
            redirect,
            "the redirect leads to where it came from",
            help,
            report,
        );
    }
    if uri.text().contains("%PREFIX()%") {
        let message = "`%PREFIX()%` stands for nothing here: it goes into `location` as it is";
        let help = "write `prefixRewrite:` with what takes the place of the matched prefix";
        report.warning("no-effect", &uri, message, help);
    }
    for text in [&uri, &prefix, &redirect.get("authority")] {
        check_one_line(text, report);
    }
    let authority = redirect.get("authority");
    if let Some((scheme, host)) = authority.text().split_once("://") {
        let message = format!(
            "the authority becomes part of `location` as it is: `{}://...`",
            authority.text()
        );
        let help = format!("write `authority: {host}` and `scheme: {scheme}`");
        report.warning("no-effect", &authority, message, help);
    }
    if port.is_set() && port.integer() == 0 {
        let message = "port 0 counts as not written";
        report.warning("no-effect", &port, message, "write the port, or remove it");
    }
    let code = redirect.get("redirectCode");
    if code.integer() != 0 && !(300..=399).contains(&code.integer()) {
        let message = format!("{} is no status of a redirect", code.integer());
        report.error(
            "out-of-range",
            &code,
            message,
            "write 301, 302, 303, 307 or 308",
        );
    }
    if !["", "http", "https"].contains(&scheme.text()) {
        let message = format!("`{}` is no scheme to redirect to", scheme.text());
        report.error("unknown-value", &scheme, message, "write `http` or `https`");
    }
    if port.integer() > 0 {
        check_port_number(&port, report);
    }
}

/// Istio lets 600 pass, which Envoy then refuses with all routes beside it.
fn check_status(status: &Node<'_>, report: &mut Report<'_>) {
    const HELP: &str = "write a status from 200 to 599";
    let number = status.integer();
    if number == 600 {
        let message = "600 is no status of HTTP: it is sent as written, and clients may refuse it";
        report.warning("out-of-range", status, message, HELP);
    } else if !(200..600).contains(&number) {
        let message = format!("{number} is no status of an answer");
        report.error("out-of-range", status, message, HELP);
    }
}

pub(super) fn check_direct_response(direct: &Node<'_>, report: &mut Report<'_>) {
    const MOST: usize = 1 << 20;
    const MUCH: usize = 100 << 10;
    if !direct.is_set() {
        return;
    }
    let body = direct.get("body");
    let encoded = body.get("bytes").text().trim_end_matches('=').len();
    let size = body
        .get("string")
        .text()
        .len()
        .max(encoded / 4 * 3 + encoded % 4);
    if size > MOST {
        let message = format!("the body has {size} bytes");
        let help = "write at most 1 MiB, or serve it from an endpoint";
        report.error("out-of-range", &body, message, help);
    } else if size > MUCH {
        let message = format!("the body has {size} bytes, which every snapshot carries");
        report.warning("large-body", &body, message, "serve it from an endpoint");
    }
    let status = direct.get("status");
    if matches!(status.integer(), 204 | 205 | 304) && size > 0 {
        let message = format!(
            "an answer with status {} has no body: this is not sent",
            status.integer()
        );
        report.key_warning(
            "no-effect",
            &body,
            message,
            "remove it, or write another status",
        );
    }
    if status.is_set() {
        check_status(&status, report);
    } else {
        report_missing(
            direct,
            "the answer has no status",
            "write `status:`",
            report,
        );
    }
}

pub(super) fn check_rewrite(rewrite: &Node<'_>, report: &mut Report<'_>) {
    if !rewrite.is_set() {
        return;
    }
    let regex = rewrite.get("uriRegexRewrite");
    let has_uri = !rewrite.get("uri").text().is_empty();
    if has_uri && regex.is_set() {
        let message = "`uri` and `uriRegexRewrite` cannot be in one rewrite";
        report.key_error("conflicting-fields", &regex, message, "keep one of the two");
    }
    for text in [
        rewrite.get("uri"),
        rewrite.get("authority"),
        regex.get("rewrite"),
    ] {
        check_sendable(&text, report);
    }
    rewritten_targets::check_authority(&rewrite.get("authority"), report);
    rewritten_targets::check_path(&rewrite.get("uri"), report);
    if !has_uri && !regex.is_set() && rewrite.get("authority").text().is_empty() {
        let help = "write `uri:`, `uriRegexRewrite:` or `authority:`";
        report_missing(rewrite, "the rewrite changes nothing", help, report);
    }
    if regex.is_set() {
        let pattern = regex.get("match");
        if pattern.text().is_empty() || regex.get("rewrite").text().is_empty() {
            let message = "`uriRegexRewrite` has no `match` or no `rewrite`";
            report_missing(&regex, message, "write both", report);
        } else if check_regex(&pattern, report) {
            check_substitution(&pattern, &regex.get("rewrite"), report);
        }
    }
}

fn check_substitution(pattern: &Node<'_>, substitution: &Node<'_>, report: &mut Report<'_>) {
    if let Err(problem) = RegexRewrite::new(pattern.text(), substitution.text()) {
        let message = format!("`{}` cannot be put in: {problem}", substitution.text());
        let help = "write `\\1` for the first group of `match`, `\\0` for all that it matched, and \
                    `\\\\` for a backslash";
        report.error("invalid-regex", substitution, message, help);
    }
}

/// Names of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// A status of RFC 9110 or its registry.
fn is_known_status(text: &str) -> bool {
    let Ok(status) = text.parse::<u16>() else {
        return false;
    };
    matches!(
        status,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429
            | 431 | 451 | 500..=508 | 510 | 511
    )
}

pub(super) fn check_retries(retries: &Node<'_>, report: &mut Report<'_>) {
    let attempts = retries.get("attempts");
    check_not_negative(&attempts, report);
    let retry_on = retries.get("retryOn");
    let has_policy = retries.get("perTryTimeout").is_set()
        || !retry_on.text().is_empty()
        || retries.get("retryRemoteLocalities").is_set();
    if attempts.integer() == 0 && has_policy {
        let message = "0 attempts switch retries off, so the rest of `retries` has no use";
        let help = "write `attempts:`, or leave `attempts: 0` alone";
        report.key_error("conflicting-fields", retries, message, help);
    } else if attempts.integer() == 0 {
        for name in ["backoff", "retryIgnorePreviousHosts"] {
            let field = retries.get(name);
            if field.is_set() {
                let message = format!("0 attempts switch retries off, so `{name}` has no effect");
                report.key_warning("no-effect", &field, message, "write `attempts:`");
            }
        }
    }
    for name in retry_on.text().split(',').filter(|name| !name.is_empty()) {
        if !RETRY_ON.contains(&name) && !is_known_status(name) {
            let message = format!("`{name}` is nothing to retry on");
            let help = match name.trim() {
                trimmed if trimmed != name => "write the names with commas and without spaces",
                _ => "write names such as `5xx,connect-failure`, or statuses such as `503`",
            };
            report.error("unknown-value", &retry_on, message, help);
        }
    }
}

/// A share in percent: 0, or from a ten-thousandth to 100.
fn check_percentage(percentage: &Node<'_>, report: &mut Report<'_>) {
    let value = percentage.get("value");
    let percent = value.number();
    if percent != 0.0 && !(0.0001..=100.0).contains(&percent) {
        let message = format!("{percent} is no share in percent");
        report.error(
            "out-of-range",
            &value,
            message,
            "write 0, or from 0.0001 to 100",
        );
    }
}

pub(super) fn check_fault(fault: &Node<'_>, report: &mut Report<'_>) {
    if !fault.is_set() {
        return;
    }
    let (abort, delay) = (fault.get("abort"), fault.get("delay"));
    if !abort.is_set() && !delay.is_set() {
        let help = "write `abort:` or `delay:`";
        report_missing(fault, "the fault does nothing", help, report);
    }
    if abort.is_set() {
        check_abort(&abort, report);
    }
    if delay.is_set() {
        check_percentage(&delay.get("percentage"), report);
        let percent = delay.get("percent");
        if percent.integer() < 0 {
            let message = format!("{} is no share in percent", percent.integer());
            let help = "write `percentage: {value: ...}` with a number from 0 to 100";
            report.error("out-of-range", &percent, message, help);
        }
        let exponential = delay.get("exponentialDelay");
        if exponential.is_set() {
            let message = "`exponentialDelay` is not supported, in Istio neither";
            report.key_error(
                "unknown-value",
                &exponential,
                message,
                "write `fixedDelay:`",
            );
        }
    }
}

fn check_abort(abort: &Node<'_>, report: &mut Report<'_>) {
    check_percentage(&abort.get("percentage"), report);
    let http = abort.get("httpStatus");
    let grpc = abort.get("grpcStatus");
    let http2 = abort.get("http2Error");
    if http2.is_set() {
        let message = "`http2Error` is not supported, in Istio neither";
        report.key_error("unknown-value", &http2, message, "write `httpStatus:`");
    } else if grpc.is_set() {
        if grpc_status::number(grpc.text()).is_none() {
            let message = format!("`{}` is no gRPC status", grpc.text());
            report.error(
                "unknown-value",
                &grpc,
                message,
                "write a name such as `UNAVAILABLE`",
            );
        }
    } else if http.is_set() {
        check_status(&http, report);
    } else {
        let message = "the abort has no status, so it aborts nothing";
        let help = "write `httpStatus:` or `grpcStatus:`";
        report.warning("no-effect", abort, message, help);
    }
}

pub(super) fn check_cors(cors: &Node<'_>, report: &mut Report<'_>) {
    const METHODS: [&str; 10] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
    ];
    const SECOND: i64 = 1_000_000_000;
    for origin in cors.get("allowOrigins").items() {
        let is_empty = ["exact", "prefix", "regex"]
            .iter()
            .all(|form| origin.get(form).text().is_empty());
        if is_empty {
            let help = "write `exact:`, `prefix:` or `regex:` with a text";
            report_missing(&origin, "an origin matches nothing", help, report);
        } else {
            check_string_match(&origin, true, report);
        }
    }
    for method in cors.get("allowMethods").items() {
        if !METHODS.contains(&method.text()) {
            let message = format!("`{}` is no method", method.text());
            let help = "write methods in capitals, such as `GET`, or `*`";
            report.error("unknown-value", &method, message, help);
        }
    }
    for list in ["allowHeaders", "exposeHeaders"] {
        for name in cors.get(list).items() {
            check_cors_name(&name, report);
        }
    }
    let max_age = cors.get("maxAge");
    if duration_ns(max_age.text()).is_some_and(|ns| ns % SECOND != 0) {
        let message = format!("`{}` is no whole number of seconds", max_age.text());
        report.error(
            "invalid-duration",
            &max_age,
            message,
            "write a duration such as `24h`",
        );
    }
}
