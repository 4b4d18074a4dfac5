//! Fields of an HTTP route that are accepted and change nothing, and rewrites that do more than
//! they say. Istio is silent about all of these.

use super::cut_short;
use crate::compile::FAULT_SIDE;
use crate::schema::{Node, Report, duration_ns};

pub(super) fn check(route: &Node<'_>, report: &mut Report<'_>) {
    check_answered(route, report);
    check_only_weight(route, "request", report);
    check_mirror_share(route, report);
    check_fault_shares(&route.get("fault"), report);
    check_tries(route, report);
    check_delay(route, report);
    cut_short::check_back_off(route, report);
    cut_short::check_aborted(route, report);
    check_retry_conditions(route, report);
    check_rewritten_prefixes(route, report);
    let conditions = route.get("match");
    for condition in conditions.items() {
        check_match(&condition, report);
    }
    let cors = route.get("corsPolicy");
    if cors.is_set() && cors.get("allowOrigins").is_empty() && cors.get("allowOrigin").is_empty() {
        let message = "the policy allows no origin";
        report.key_warning("no-effect", &cors, message, "write `allowOrigins:`");
    }
    for origin in cors.get("allowOrigins").items() {
        check_origin(&origin.get("exact"), report);
    }
}

/// A browser sends `null`, or a scheme, a host and perhaps a port (RFC 6454 section 6.2).
fn check_origin(origin: &Node<'_>, report: &mut Report<'_>) {
    let text = origin.text();
    if text.is_empty() || ["*", "null"].contains(&text) {
        return;
    }
    let Some((_, host)) = text.split_once("://") else {
        let message = format!("no origin is `{text}`: each begins with a scheme");
        let help = format!("write `https://{text}`");
        return report.warning("never-matches", origin, message, help);
    };
    let end = text.len() - host.len() + host.find('/').unwrap_or(host.len());
    let normal = text[..end].to_ascii_lowercase();
    if normal != text {
        let message = format!("no origin is `{text}`: an origin is in lower case and has no path");
        report.warning(
            "never-matches",
            origin,
            message,
            format!("write `{normal}`"),
        );
    }
}

/// What only forwarding needs, on a route that the proxy answers itself.
fn check_answered(route: &Node<'_>, report: &mut Report<'_>) {
    let answer = if route.get("redirect").is_set() {
        "a redirect"
    } else if route.get("directResponse").is_set() {
        "a direct response"
    } else {
        return;
    };
    for name in ["timeout", "retries", "mirror", "mirrors", "corsPolicy"] {
        let field = route.get(name);
        if field.is_set() {
            let message = format!("`{name}` has no effect beside {answer}: nothing is forwarded");
            report.key_warning("no-effect", &field, message, "remove it");
        }
    }
    let headers = route.get("headers");
    let request = headers.get("request");
    if request.is_set() {
        let message = format!("nobody sees the request headers: {answer} forwards nothing");
        let help = "remove them, or write `response:` if the answer is meant";
        report.key_warning("no-effect", &request, message, help);
    }
}

/// A share of `what` there are, given to the only destination there is.
pub(super) fn check_only_weight(route: &Node<'_>, what: &str, report: &mut Report<'_>) {
    let destinations = route.get("route");
    let mut items = destinations.items();
    let (Some(only), None) = (items.next(), items.next()) else {
        return;
    };
    let weight = only.get("weight");
    // One below 0 is an error of its own.
    if weight.integer() > 0 && weight.integer() != 100 {
        let message = format!(
            "the only destination gets every {what}, not {} of 100",
            weight.integer()
        );
        let help = "add the destination that gets the rest, or remove `weight`";
        report.warning("no-effect", &weight, message, help);
    }
}

/// The share of `mirror` under each of its names.
const MIRROR_SHARES: [&str; 3] = ["mirrorPercentage", "mirrorPercent", "mirror_percent"];

fn check_mirror_share(route: &Node<'_>, report: &mut Report<'_>) {
    let mirrors = route.get("mirrors");
    let mirrors: Vec<Node<'_>> = mirrors.items().collect();
    let of_mirror = MIRROR_SHARES.map(|name| route.get(name));
    // The first that is written counts.
    let of_mirror = of_mirror.into_iter().find(Node::is_set);
    let of_mirror = of_mirror.filter(|_| route.get("mirror").is_set());
    let shares = mirrors.iter().map(|mirror| mirror.get("percentage"));
    for share in shares.filter(Node::is_set).chain(of_mirror) {
        let is_none = match share.name() {
            "mirrorPercent" | "mirror_percent" => share.integer() == 0,
            // Istio counts in parts of a million.
            _ => share.get("value").number() * 10_000.0 < 1.0,
        };
        if is_none {
            let message = "less than one request of a million is mirrored: none is";
            let help = "write `value: 100` or a smaller share, or remove the mirror";
            report.warning("no-effect", &share, message, help);
        }
    }
    for name in MIRROR_SHARES {
        let share = route.get(name);
        if share.is_set() && !route.get("mirror").is_set() {
            let message = format!("`{name}` has no effect without `mirror`");
            let help = match route.get("mirrors").is_set() {
                true => "write `percentage:` in each of `mirrors`",
                false => "write `mirror:`, or remove it",
            };
            report.key_warning("no-effect", &share, message, help);
        }
    }
}

/// Istio's own documentation says that a fault without a share hits all requests; what it tells
/// Envoy is none.
fn check_fault_shares(fault: &Node<'_>, report: &mut Report<'_>) {
    for name in ["delay", "abort"] {
        let kind = fault.get(name);
        let share = kind.get("percentage");
        let whole = kind.get("percent");
        if share.is_set() && whole.is_set() {
            let message = "`percent` has no effect beside `percentage`";
            report.key_warning("no-effect", &whole, message, "keep one of the two");
        } else if whole.integer() > 100 {
            let message = format!("{} percent are all requests", whole.integer());
            let help = "write `percentage: {value: 100}`, or a smaller share";
            report.warning("no-effect", &whole, message, help);
        }
        let has_share = share.is_set() || whole.integer() != 0;
        if kind.is_set() && !has_share {
            let message = format!("without `percentage` this {name} never happens");
            let help = "write `percentage: {value: 100}`";
            report.key_warning("no-effect", &kind, message, help);
        } else if share.is_set() && share.get("value").number() == 0.0 {
            let message = format!("0 percent: this {name} never happens");
            let help = format!("write `value: 100` or a smaller share, or remove the {name}");
            report.warning("no-effect", &share, message, help);
        }
    }
    let delay = fault.get("delay");
    if delay.is_set() && !delay.get("fixedDelay").is_set() {
        let message = "the delay has no length, so there is none";
        report.key_warning("no-effect", &delay, message, "write `fixedDelay: 5s`");
    }
}

/// A limit of one try that the limit of all tries makes pointless.
fn check_tries(route: &Node<'_>, report: &mut Report<'_>) {
    let retries = route.get("retries");
    let per_try = retries.get("perTryTimeout");
    let whole = route.get("timeout");
    let (Some(try_ns), Some(whole_ns)) = (duration_ns(per_try.text()), duration_ns(whole.text()))
    else {
        return;
    };
    if whole_ns > 0 && try_ns >= whole_ns {
        let message = format!(
            "no try is cut at {}: the `timeout` of {} for all tries comes first, and no try is \
             left for a retry",
            per_try.text(),
            whole.text()
        );
        let help = "write a `perTryTimeout` that is shorter than `timeout`";
        report.warning("no-effect", &per_try, message, help);
    }
}

/// A fault comes before the router, whose clock the timeout is. On the upstream side it does not.
fn check_delay(route: &Node<'_>, report: &mut Report<'_>) {
    let fault = route.get("fault");
    let delay = fault.get("delay");
    let delay = delay.get("fixedDelay");
    let whole = route.get("timeout");
    let (Some(delay_ns), Some(whole_ns)) = (duration_ns(delay.text()), duration_ns(whole.text()))
    else {
        return;
    };
    let side = report.document().annotations.get(FAULT_SIDE);
    if whole_ns > 0 && whole_ns <= delay_ns && side.is_none_or(|side| side != "upstream") {
        let message = format!(
            "the delay of {} is not cut: the `timeout` of {} begins when it is over",
            delay.text(),
            whole.text()
        );
        let help = format!(
            "delay a service that is called further on, or write the annotation `{FAULT_SIDE}: \
             upstream`, which puts the delay within the timeout"
        );
        report.warning("delay-outside-timeout", &whole, message, help);
    }
}

/// Conditions that need to be told more, which a header that the route sets can do.
fn check_retry_conditions(route: &Node<'_>, report: &mut Report<'_>) {
    let retries = route.get("retries");
    let retry_on = retries.get("retryOn");
    let names: Vec<&str> = retry_on.text().split(',').map(str::trim).collect();
    let has_codes = names.iter().any(|name| name.parse::<u16>().is_ok());
    for (name, header, what, help) in [
        (
            "retriable-headers",
            "x-envoy-retriable-header-names",
            "headers",
            "another condition in its place",
        ),
        (
            "retriable-status-codes",
            "x-envoy-retriable-status-codes",
            "codes",
            "them into the list: `retryOn: 503,504`",
        ),
    ] {
        let is_told = has_codes && what == "codes" || sets_request_header(route, header);
        if is_told || !names.contains(&name) {
            continue;
        }
        let message = format!("`{name}` retries nothing: nobody says which {what} are meant");
        let help = format!(
            "write `headers: {{request: {{set: {{{header}: VALUES}}}}}}`, which goes no further, or \
             {help}"
        );
        report.warning("no-effect", &retry_on, message, help);
    }
}

/// Whether the route, or one of its destinations, sets this header in requests.
fn sets_request_header(route: &Node<'_>, header: &str) -> bool {
    let sets = |node: &Node<'_>| {
        let headers = node.get("headers");
        let request = headers.get("request");
        ["set", "add"].into_iter().any(|operation| {
            let lines = request.get(operation);
            let mut lines = lines.entries();
            lines.any(|(name, _)| name.eq_ignore_ascii_case(header))
        })
    };
    let destinations = route.get("route");
    sets(route) || destinations.items().any(|one| sets(&one))
}

fn check_match(condition: &Node<'_>, report: &mut Report<'_>) {
    check_matched_path(&condition.get("uri"), report);
    let method = condition.get("method");
    check_matched_method(&method.get("exact"), report);
    check_names_of_parts(condition, report);
    check_matched_scheme(&condition.get("scheme").get("exact"), report);
    check_contradictions(condition, report);
    if !condition.get("gateways").is_empty() {
        for name in ["sourceLabels", "sourceNamespace"] {
            let field = condition.get(name);
            if !field.is_empty() || !field.text().is_empty() {
                let message = format!("beside `gateways`, `{name}` is not looked at");
                let help = "remove one of the two, or write two matches";
                report.key_warning("no-effect", &field, message, help);
            }
        }
    }
    let ignores_case = condition.get("ignoreUriCase");
    let uri = condition.get("uri");
    let has_text = uri.get("exact").is_set() || uri.get("prefix").is_set();
    if ignores_case.is_true() && !has_text {
        let (message, help) = match uri.get("regex").is_set() {
            true => (
                "`ignoreUriCase` has no effect on a regular expression",
                "begin the expression with `(?i)`",
            ),
            false => ("there is no `uri` whose case to ignore", "remove it"),
        };
        report.key_warning("no-effect", &ignores_case, message, help);
    }
}

/// Parts of a request that stand beside `headers`, not among them. Istio's documentation says that
/// it leaves out these keys; what it tells Envoy is to ask for headers of these names.
fn check_names_of_parts(condition: &Node<'_>, report: &mut Report<'_>) {
    const PARTS: [(&str, &str); 4] = [
        ("uri", "the path"),
        ("scheme", "the scheme"),
        ("method", "the method"),
        ("authority", "the host"),
    ];
    for (list, code) in [
        ("headers", "never-matches"),
        ("withoutHeaders", "no-effect"),
    ] {
        let headers = condition.get(list);
        for (name, value) in headers.entries() {
            let part = PARTS
                .iter()
                .find(|(part, _)| name.eq_ignore_ascii_case(part));
            let Some((part, what)) = part else { continue };
            let message = format!(
                "this asks for a header of the name `{name}`, which no client sends, and not for \
                 {what} of the request"
            );
            let help = match list {
                "headers" => format!("write `{part}:` beside `headers:`, not in it"),
                _ => "remove it; what a request must not be, an earlier route can take".to_string(),
            };
            report.key_warning(code, &value, message, help);
        }
    }
}

/// Texts that no path begins with: it is matched without its query, and requests with a fragment
/// are refused.
fn check_matched_path(uri: &Node<'_>, report: &mut Report<'_>) {
    for name in ["exact", "prefix"] {
        let path = uri.get(name);
        let text = path.text();
        if let Some(at) = text.find(['?', '#']) {
            let message = format!(
                "no path is `{text}`: what follows `{}` is not part of it",
                &text[at..=at]
            );
            let help = "write the path alone, and the query by `queryParams:`";
            report.warning("never-matches", &path, message, help);
        } else if !text.is_empty() && !text.starts_with('/') && text != "*" {
            let message = format!("no path is `{text}`: paths begin with `/`");
            let help = format!("write `/{text}`");
            report.warning("never-matches", &path, message, help);
        }
    }
}

fn check_matched_method(method: &Node<'_>, report: &mut Report<'_>) {
    const METHODS: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE",
    ];
    let meant = method.text().to_ascii_uppercase();
    if meant != method.text() && METHODS.contains(&meant.as_str()) {
        let message = format!(
            "methods are compared with their case, and no client sends `{}`",
            method.text()
        );
        report.warning("never-matches", method, message, format!("write `{meant}`"));
    }
}

fn check_matched_scheme(scheme: &Node<'_>, report: &mut Report<'_>) {
    let text = scheme.text();
    if !text.is_empty() && !["http", "https"].contains(&text) {
        let message = format!("no request has the scheme `{text}`");
        let help = "write `http` or `https`, in lower case";
        report.warning("never-matches", scheme, message, help);
    }
}

/// A header that is asked for and ruled out by one match.
fn check_contradictions(condition: &Node<'_>, report: &mut Report<'_>) {
    let wanted = condition.get("headers");
    let forbidden = condition.get("withoutHeaders");
    for (name, without) in forbidden.entries() {
        let exact = without.get("exact").text();
        let is_any = ["exact", "prefix", "regex"]
            .iter()
            .all(|form| !without.get(form).is_set());
        let mut same = wanted
            .entries()
            .filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let contradicts = same
            .any(|(_, value)| is_any || !exact.is_empty() && value.get("exact").text() == exact);
        if contradicts {
            let message = format!("`headers` asks for `{name}`, and this rules it out: none match");
            let help = "remove one of the two conditions";
            report.key_warning("never-matches", &without, message, help);
        }
    }
}

/// A prefix is replaced as text, so that a slash is doubled or lost where the two do not both end
/// in one.
fn check_rewritten_prefixes(route: &Node<'_>, report: &mut Report<'_>) {
    let rewrite = route.get("rewrite");
    let uri = rewrite.get("uri");
    let new = uri.text();
    if new.is_empty() {
        return;
    }
    if !new.starts_with('/') {
        let message = format!("the new path begins with `{new}`, and a path begins with `/`");
        report.warning("rewrite-slash", &uri, message, format!("write `/{new}`"));
        return;
    }
    let conditions = route.get("match");
    for condition in conditions.items() {
        let path = condition.get("uri");
        let prefix = path.get("prefix").text();
        if prefix.len() < 2 || prefix.ends_with('/') == new.ends_with('/') {
            continue;
        }
        let example = format!("{}/x", prefix.trim_end_matches('/'));
        let made = format!("{new}{}", &example[prefix.len()..]);
        let message =
            format!("the prefix `{prefix}` is replaced as text: `{example}` becomes `{made}`");
        let help = if new.ends_with('/') {
            format!("match `{prefix}/` with this rewrite, and `{prefix}` alone by `exact`")
        } else {
            format!(
                "write `{new}/`, or match `{}`",
                prefix.trim_end_matches('/')
            )
        };
        report.warning("rewrite-slash", &uri, message, help);
        return;
    }
}
