//! RequestAuthentication. Istio: `ValidateRequestAuthentication`.

use super::headers::{check_name, check_plain_name, is_authority};
use super::json_web_keys;
use super::selectors::check_targets;
use super::values::{check_no_empty_text, check_no_null_item, report_missing};
use crate::schema::{Node, Report};
use crate::snapshot::tokens_may_set;

pub(super) fn check(spec: &Node<'_>, report: &mut Report<'_>) {
    check_targets(spec, report);
    for rule in spec.get("jwtRules").items() {
        check_rule(&rule, report);
    }
}

fn check_rule(rule: &Node<'_>, report: &mut Report<'_>) {
    check_no_empty_text(&rule.get("audiences"), report);
    let old_name = rule.get("jwks_uri");
    if old_name.is_set() && rule.get("jwksUri").is_set() {
        let message = "`jwks_uri` and `jwksUri` are two names of one field";
        report.key_error("conflicting-fields", &old_name, message, "remove it");
    }
    let uri = match rule.get("jwksUri") {
        uri if uri.is_set() => uri,
        _ => old_name,
    };
    if rule.get("issuer").text().is_empty() && uri.text().is_empty() {
        let help = "write `issuer:`, or `jwksUri:` to take tokens of any issuer";
        report_missing(rule, "the rule has no issuer and no keys", help, report);
    }
    if !uri.text().is_empty() && !is_http_url(uri.text()) {
        let message = format!("`{}` is no URL to fetch keys from", uri.text());
        report.error("invalid-url", &uri, message, "write `https://HOST/PATH`");
    } else if lacks_host(uri.text()) {
        let message = format!("`{}` names no host, so no keys are fetched", uri.text());
        report.warning("invalid-url", &uri, message, "write `https://HOST/PATH`");
    }
    let keys = rule.get("jwks");
    let issuer = rule.get("issuer");
    let is_asked = uri.text().is_empty() && keys.text().is_empty() && !issuer.text().is_empty();
    if is_asked && (!is_http_url(issuer.text()) || lacks_host(issuer.text())) {
        let message = format!(
            "`{}` is no URL to ask for keys, so each token is refused",
            issuer.text()
        );
        report.warning(
            "unusable-keys",
            &issuer,
            message,
            "write `jwksUri:` or `jwks:`",
        );
    }
    if !keys.text().is_empty() {
        json_web_keys::check(&keys, report);
    }
    let from_headers = rule.get("fromHeaders");
    check_no_null_item(&from_headers, report);
    for header in from_headers.items().filter(Node::is_set) {
        let name = header.get("name");
        match name.text().is_empty() {
            true => report_missing(&header, "the header has no name", "write `name:`", report),
            false => check_name(&name, report),
        }
    }
    check_no_empty_text(&rule.get("fromParams"), report);
    check_no_empty_text(&rule.get("fromCookies"), report);
    check_no_empty_text(&rule.get("spaceDelimitedClaims"), report);
    let claims = rule.get("outputClaimToHeaders");
    check_no_null_item(&claims, report);
    for claim in claims.items().filter(Node::is_set) {
        let header = claim.get("header");
        if claim.get("claim").text().is_empty() || header.text().is_empty() {
            let help = "write `claim:` and `header:`";
            report_missing(&claim, "a claim or its header has no name", help, report);
        } else {
            check_plain_name(&header, true, report);
            check_told_header(&header, report);
        }
    }
    let payload = rule.get("outputPayloadToHeader");
    if !payload.text().is_empty() {
        check_name(&payload, report);
        check_told_header(&payload, report);
    }
}

/// A header in which the upstream is told what a token says.
fn check_told_header(header: &Node<'_>, report: &mut Report<'_>) {
    let name = header.text();
    if tokens_may_set(name) {
        return;
    }
    let message = match is_authority(name) {
        true => format!("`{name}` says where a request goes, so no token sets it"),
        false => format!("`{name}` belongs to the connection, so no token sets it"),
    };
    let help = "write the name of a header that nobody else uses, such as `x-user`";
    report.warning("framing-header", header, message, help);
}

/// `http` or `https`, a host, and a port that is one; or a file.
fn is_http_url(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    if scheme == "file" {
        // Ours: a file that is read again and again.
        return rest.starts_with('/');
    }
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_and_port = authority.rsplit('@').next().unwrap_or_default();
    let after_host = match host_and_port.strip_prefix('[') {
        Some(address) => address.split_once(']').map(|(_, after)| after),
        None => Some(
            host_and_port
                .find(':')
                .map_or("", |at| &host_and_port[at..]),
        ),
    };
    let port_is_number = after_host.is_some_and(|after| {
        let digits = after.strip_prefix(':').unwrap_or(after);
        digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    let is_plain = !url.contains(|c: char| c.is_ascii_control() || c == ' ');
    is_http && port_is_number && is_plain
}

/// Whether nobody is named behind `//`.
fn lacks_host(url: &str) -> bool {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    !url.starts_with("file:") && rest.starts_with(['/', '?', '#', ':'])
}
