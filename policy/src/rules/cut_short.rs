//! What of an HTTP route never comes about, since something else is always first: retries behind
//! the time limit of all tries, and all that follows on a fault that answers everybody.

use crate::compile::FAULT_SIDE;
use crate::schema::{Node, Report, duration_ns};

/// The wait before a retry is drawn, the first from 0 to `backoff` (Envoy:
/// `JitteredExponentialBackOffStrategy`), and what it takes belongs to the time of all tries.
pub(super) fn check_back_off(route: &Node<'_>, report: &mut Report<'_>) {
    let retries = route.get("retries");
    let back_off = retries.get("backoff");
    let whole = route.get("timeout");
    // A delegate may have a time limit of its own.
    if route.get("delegate").is_set() {
        return;
    }
    let (Some(wait_ns), Some(whole_ns)) = (duration_ns(back_off.text()), duration_ns(whole.text()))
    else {
        return;
    };
    if whole_ns > 0 && wait_ns >= whole_ns {
        let message = format!(
            "before a retry up to {} pass, and the `timeout` of all tries is over after {}: \
             retries that wait longer never happen",
            back_off.text(),
            whole.text()
        );
        let help = "write a `backoff` that is a small part of `timeout`, such as 25ms";
        report.warning("no-effect", &back_off, message, help);
    }
}

/// Envoy's fault filter comes before its router and before cross-origin rules. On the upstream side
/// it does not.
pub(super) fn check_aborted(route: &Node<'_>, report: &mut Report<'_>) {
    let fault = route.get("fault");
    let abort = fault.get("abort");
    let share = abort.get("percentage");
    let is_all = match share.is_set() {
        true => share.get("value").number() >= 100.0,
        false => abort.get("percent").integer() >= 100,
    };
    let has_answer = ["httpStatus", "grpcStatus"]
        .iter()
        .any(|name| abort.get(name).is_set());
    let side = report.document().annotations.get(FAULT_SIDE);
    let is_upstream = side.is_some_and(|side| side == "upstream");
    if !is_all || !has_answer || is_upstream || route.get("delegate").is_set() {
        return;
    }
    for name in [
        "timeout",
        "retries",
        "rewrite",
        "mirror",
        "mirrors",
        "corsPolicy",
    ] {
        let field = route.get(name);
        if field.is_set() {
            let message = format!(
                "`{name}` has no effect: the abort answers all requests before it is looked at"
            );
            let help = format!(
                "write a smaller `percentage` for the abort, or remove `{name}`{}",
                match name {
                    "timeout" | "retries" => format!(
                        "; the annotation `{FAULT_SIDE}: upstream` puts faults where retries \
                         and timeouts see them"
                    ),
                    _ => String::new(),
                }
            );
            report.key_warning("no-effect", &field, message, help);
        }
    }
}
