//! Limits of a DestinationRule that limit nothing as they are written.

use crate::schema::{Node, Report};

/// What ejects nothing. Istio: `applyOutlierDetection`.
pub(super) fn check_outlier_detection(outlier: &Node<'_>, report: &mut Report<'_>) {
    /// When `consecutive5xxErrors` is not written.
    const DEFAULT_ERRORS: i64 = 5;
    if !outlier.is_set() {
        return;
    }
    let errors = outlier.get("consecutive5xxErrors");
    let gateway = outlier.get("consecutiveGatewayErrors");
    let limit = match errors.is_set() {
        true => errors.integer(),
        false => DEFAULT_ERRORS,
    };
    let splits = outlier.get("splitExternalLocalOriginErrors").is_true();
    if limit == 0 && gateway.integer() == 0 && !splits {
        let message = "no error counts: nothing is ever ejected";
        let help = "write `consecutive5xxErrors: 5`, or remove `outlierDetection`";
        report.warning("no-effect", &errors, message, help);
    }
    let has_codes = !outlier.get("outlierDetectionHttpErrorCodes").is_empty();
    if limit > 0 && gateway.integer() >= limit && !has_codes {
        let message = format!(
            "{} gateway errors are never reached: {limit} errors 5xx, of which they are a part, \
             eject before",
            gateway.integer()
        );
        let help = format!(
            "write less than {limit}, or `consecutive5xxErrors: 0` to count gateway errors alone"
        );
        report.warning("no-effect", &gateway, message, help);
    }
    let percent = outlier.get("maxEjectionPercent");
    if percent.is_set() && percent.integer() == 0 {
        let message = "0 counts as not written, which is 10";
        let help = "write 1 to 100, or remove `outlierDetection` to eject nothing";
        report.warning("no-effect", &percent, message, help);
    }
}

/// Limits of 0, which Istio takes as not written. Istio: `applyConnectionPool`.
pub(super) fn check_connection_pool(pool: &Node<'_>, report: &mut Report<'_>) {
    let (tcp, http) = (pool.get("tcp"), pool.get("http"));
    let limits = [
        tcp.get("maxConnections"),
        http.get("http1MaxPendingRequests"),
        http.get("http2MaxRequests"),
        http.get("maxRetries"),
    ];
    for limit in limits {
        if limit.is_set() && limit.integer() == 0 {
            let message = format!(
                "`{}: 0` counts as not written: there is no limit",
                limit.name()
            );
            let help = match limit.name() {
                "maxRetries" => "write 1 or more; `retries: {attempts: 0}` of a route ends retries",
                _ => "write 1 or more",
            };
            report.warning("no-effect", &limit, message, help);
        }
    }
}
