//! Which fields of a `trafficPolicy` are written, so that what one rule has and another lacks can
//! be named.

use crate::resource::destination_rule::{
    ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy,
};

/// Block and path of a field within it.
pub type Field = (&'static str, &'static str);

/// The fields that are written, block by block. A block without any is named with an empty path.
pub fn written(policy: &TrafficPolicy) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut block = |name: &'static str, list: Option<Vec<(&'static str, bool)>>| {
        let Some(list) = list else { return };
        fields.push((name, ""));
        let written = list.into_iter().filter(|(_, is_written)| *is_written);
        fields.extend(written.map(|(path, _)| (name, path)));
    };
    block(
        "loadBalancer",
        policy.load_balancer.as_ref().map(of_load_balancer),
    );
    block(
        "connectionPool",
        policy.connection_pool.as_ref().map(of_connection_pool),
    );
    block(
        "outlierDetection",
        policy.outlier_detection.as_ref().map(of_outlier_detection),
    );
    fields
}

/// What `wide` has and `narrow` lacks: whole blocks, and fields of blocks that both have.
pub fn lost(wide: &TrafficPolicy, narrow: Option<&TrafficPolicy>) -> Vec<String> {
    let own = narrow.map(written).unwrap_or_default();
    let has_block = |name: &str| own.iter().any(|(block, _)| *block == name);
    let all = written(wide).into_iter();
    let missing = all.filter(|field| !own.contains(field));
    let named = missing.filter_map(|(block, path)| match (has_block(block), path) {
        (false, "") => Some(block.to_string()),
        (true, path) if !path.is_empty() => Some(format!("{block}.{path}")),
        _ => None,
    });
    named.collect()
}

/// The choice of a balancer is left out: another one takes its place, which is no loss.
fn of_load_balancer(block: &LoadBalancer) -> Vec<(&'static str, bool)> {
    vec![
        ("localityLbSetting", block.locality_lb_setting.is_some()),
        ("zoneAwareLbSetting", block.zone_aware_lb_setting.is_some()),
        ("warmup", block.warmup.is_some()),
        ("warmupDurationSecs", block.warmup_duration_secs.is_some()),
    ]
}

fn of_connection_pool(block: &ConnectionPool) -> Vec<(&'static str, bool)> {
    let mut list = Vec::new();
    if let Some(tcp) = &block.tcp {
        list.extend([
            ("tcp.maxConnections", tcp.max_connections != 0),
            ("tcp.connectTimeout", tcp.connect_timeout.is_some()),
            ("tcp.idleTimeout", tcp.idle_timeout.is_some()),
            (
                "tcp.maxConnectionDuration",
                tcp.max_connection_duration.is_some(),
            ),
            ("tcp.tcpKeepalive", tcp.tcp_keepalive.is_some()),
        ]);
    }
    if let Some(http) = &block.http {
        list.extend([
            (
                "http.http1MaxPendingRequests",
                http.http1_max_pending_requests != 0,
            ),
            ("http.http2MaxRequests", http.http2_max_requests != 0),
            (
                "http.maxRequestsPerConnection",
                http.max_requests_per_connection != 0,
            ),
            ("http.maxRetries", http.max_retries != 0),
            ("http.idleTimeout", http.idle_timeout.is_some()),
            ("http.h2UpgradePolicy", http.h2_upgrade_policy.is_some()),
            ("http.useClientProtocol", http.use_client_protocol),
            (
                "http.maxConcurrentStreams",
                http.max_concurrent_streams != 0,
            ),
            ("http.http2KeepAlive", http.http2_keep_alive.is_some()),
        ]);
    }
    list
}

fn of_outlier_detection(block: &OutlierDetection) -> Vec<(&'static str, bool)> {
    vec![
        (
            "splitExternalLocalOriginErrors",
            block.split_external_local_origin_errors,
        ),
        (
            "consecutiveLocalOriginFailures",
            block.consecutive_local_origin_failures.is_some(),
        ),
        (
            "consecutiveGatewayErrors",
            block.consecutive_gateway_errors.is_some(),
        ),
        (
            "consecutive5xxErrors",
            block.consecutive_5xx_errors.is_some(),
        ),
        ("interval", block.interval.is_some()),
        ("baseEjectionTime", block.base_ejection_time.is_some()),
        ("maxEjectionPercent", block.max_ejection_percent != 0),
        ("minHealthPercent", block.min_health_percent != 0),
        (
            "outlierDetectionHttpErrorCodes",
            !block.outlier_detection_http_error_codes.is_empty(),
        ),
    ]
}
