//! Limits of a DestinationRule that limit nothing as they are written.

use crate::schema::{Node, Report, duration_ns};

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
    let mut codes = Vec::new();
    for code in outlier.get("outlierDetectionHttpErrorCodes").items() {
        if codes.contains(&code.integer()) {
            let message = format!("the status {} is in the list already", code.integer());
            report.warning("duplicate-value", &code, message, "remove it");
            continue;
        }
        codes.push(code.integer());
        if !(200..=599).contains(&code.integer()) {
            let message = format!("no answer has the status {}", code.integer());
            report.warning(
                "never-matches",
                &code,
                message,
                "write a status, such as 503",
            );
        }
    }
    let percent = outlier.get("maxEjectionPercent");
    if percent.is_set() && percent.integer() == 0 {
        let message = "0 counts as not written, which is 10";
        let help = "write 1 to 100, or remove `outlierDetection` to eject nothing";
        report.warning("no-effect", &percent, message, help);
    }
}

/// A limit on retries whose place a budget takes. Envoy: `CircuitBreakers.Thresholds.retry_budget`.
pub(super) fn check_max_retries(policy: &Node<'_>, has_budget: bool, report: &mut Report<'_>) {
    if !has_budget {
        return;
    }
    let ports = policy.get("portLevelSettings");
    let of_ports: Vec<Node<'_>> = ports.items().collect();
    for level in std::iter::once(policy).chain(&of_ports) {
        let pool = level.get("connectionPool");
        let http = pool.get("http");
        let limit = http.get("maxRetries");
        if limit.integer() > 0 {
            let message = "`maxRetries` has no effect: `retryBudget` takes its place";
            report.key_warning("no-effect", &limit, message, "keep one of the two");
        }
    }
}

/// A warm-up under a balancer that has none: only those that take turns by weight do. Istio:
/// `ApplySimpleDefaultLoadBalancer`, `setWarmup`.
pub(super) fn check_warm_up(balancer: &Node<'_>, report: &mut Report<'_>) {
    let simple = balancer.get("simple");
    let how = match simple.text() {
        "RANDOM" | "PASSTHROUGH" => simple.text(),
        _ if balancer.get("consistentHash").is_set() => "consistentHash",
        _ => return,
    };
    for name in ["warmup", "warmupDurationSecs"] {
        let warm_up = balancer.get(name);
        if warm_up.is_set() {
            let message = format!("with `{how}` endpoints are not warmed up");
            let help = "write `simple: LEAST_REQUEST` or `ROUND_ROBIN`, or remove it";
            report.key_warning("no-effect", &warm_up, message, help);
        }
    }
}

/// Limits of 0, which Istio takes as not written. Istio: `applyConnectionPool`.
pub(super) fn check_connection_pool(pool: &Node<'_>, report: &mut Report<'_>) {
    let (tcp, http) = (pool.get("tcp"), pool.get("http"));
    check_keepalive(&tcp.get("tcpKeepalive"), report);
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

/// Times that the kernel takes in seconds. Istio: `setKeepAliveSettings` takes the whole ones.
fn check_keepalive(keepalive: &Node<'_>, report: &mut Report<'_>) {
    const SECOND: u64 = 1_000_000_000;
    for name in ["time", "interval"] {
        let field = keepalive.get(name);
        let Some(ns) = duration_ns(field.text()) else {
            continue;
        };
        let whole = ns as u64 / SECOND;
        if ns <= 0 || (ns as u64).is_multiple_of(SECOND) {
            continue;
        }
        let (message, help) = match whole {
            0 => (
                format!(
                    "`{name}` is taken in whole seconds, and {} has none: it counts as not written",
                    field.text()
                ),
                "write `1s` or more".to_string(),
            ),
            whole => (
                format!(
                    "`{name}` is taken in whole seconds: {} counts as {whole}s",
                    field.text()
                ),
                format!("write `{whole}s` or `{}s`", whole + 1),
            ),
        };
        report.warning("no-effect", &field, message, help);
    }
}

/// Envoy: `RingHashLbConfig.minimum_ring_size`.
const LARGEST_RING: i64 = 8_388_608;

/// A consistent hash of nothing, which is a random choice. Istio: `ConsistentHashLB.hash_key`.
pub(super) fn check_hash_key(hash: &Node<'_>, report: &mut Report<'_>) {
    const KEYS: [&str; 4] = [
        "httpHeaderName",
        "httpCookie",
        "useSourceIp",
        "httpQueryParameterName",
    ];
    let has_key = KEYS.into_iter().any(|name| {
        let key = hash.get(name);
        key.is_true() || !key.text().is_empty() || !key.is_empty()
    });
    let cookie = hash.get("httpCookie");
    if cookie.is_set() && !cookie.get("ttl").is_set() {
        for name in ["path", "attributes"] {
            let field = cookie.get(name);
            if !field.text().is_empty() || !field.is_empty() {
                let message = format!("without `ttl` no cookie is made, so `{name}` has no effect");
                let help = "write `ttl: 0s` for a session or a time, or remove it";
                report.key_warning("no-effect", &field, message, help);
            }
        }
    }
    let ring = hash.get("ringHash");
    let ring = ring.get("minimumRingSize");
    if ring.integer() > LARGEST_RING {
        let message = format!(
            "a ring has at most {LARGEST_RING} points here; Envoy refuses a cluster with more"
        );
        let help = "write 1024, or some hundred times the number of endpoints";
        report.warning("no-effect", &ring, message, help);
    }
    if hash.is_set() && !has_key {
        let message = "nothing is hashed: each request goes to an endpoint by chance";
        let help = "write `httpHeaderName:`, `httpCookie:`, `useSourceIp: true` or \
                    `httpQueryParameterName:`";
        report.key_warning("no-effect", hash, message, help);
    }
}

/// A budget's least number of retries, of which 0 counts as not written. Istio: `applyRetryBudget`.
pub(super) fn check_least_retries(budget: &Node<'_>, report: &mut Report<'_>) {
    let least = budget.get("minRetryConcurrency");
    if least.is_set() && least.integer() == 0 {
        let message = "0 counts as not written, which is 3 retries at once";
        report.warning(
            "no-effect",
            &least,
            message,
            "write 1 or more, or remove it",
        );
    }
}
