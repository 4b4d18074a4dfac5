//! `trafficPolicy` of a DestinationRule, and the connection pools that a Sidecar has as well.

use super::idle_limits::check_hash_key;
use super::names::check_fqdn;
use super::values::{
    check_file_path, check_not_negative, check_port, check_range, is_ip, report_missing,
};
use super::{idle_limits, locality};
use crate::schema::{Node, Report};

/// Blocks that a port of its own may have, too.
const SHARED_BLOCKS: [&str; 4] = ["outlierDetection", "connectionPool", "loadBalancer", "tls"];
/// Blocks of a whole destination alone.
const WHOLE_BLOCKS: [&str; 4] = [
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];

pub(super) fn check(policy: &Node<'_>, report: &mut Report<'_>) {
    if !policy.is_set() {
        return;
    }
    let mut blocks = SHARED_BLOCKS.iter().chain(&WHOLE_BLOCKS);
    if !blocks.any(|block| policy.get(block).is_set()) {
        let help = "write what it changes, such as `loadBalancer:`, or remove it";
        report_missing(policy, "the traffic policy changes nothing", help, report);
    }
    let (tunnel, proxy_protocol) = (policy.get("tunnel"), policy.get("proxyProtocol"));
    if tunnel.is_set() && proxy_protocol.is_set() {
        let message = "`tunnel` and `proxyProtocol` cannot be in one policy";
        report.key_error(
            "conflicting-fields",
            &proxy_protocol,
            message,
            "keep one of the two",
        );
    }
    check_shared_blocks(policy, report);
    let ports = policy.get("portLevelSettings");
    for settings in ports.items() {
        if !settings.get("port").is_set() {
            let help = "write `port: {number: ...}`";
            report_missing(
                &settings,
                "the settings of a port name no port",
                help,
                report,
            );
        }
        if SHARED_BLOCKS
            .iter()
            .any(|block| settings.get(block).is_set())
        {
            check_shared_blocks(&settings, report);
        } else {
            let help = "write what they change, such as `loadBalancer:`";
            report_missing(
                &settings,
                "the settings of a port change nothing",
                help,
                report,
            );
        }
    }
    if tunnel.is_set() {
        check_tunnel(&tunnel, report);
    }
}

fn check_shared_blocks(policy: &Node<'_>, report: &mut Report<'_>) {
    let outlier = policy.get("outlierDetection");
    check_outlier_detection(&outlier, report);
    idle_limits::check_outlier_detection(&outlier, report);
    check_connection_pool(&policy.get("connectionPool"), report);
    idle_limits::check_connection_pool(&policy.get("connectionPool"), report);
    check_load_balancer(&policy.get("loadBalancer"), outlier.is_set(), report);
    check_client_tls(&policy.get("tls"), report);
}

fn check_tunnel(tunnel: &Node<'_>, report: &mut Report<'_>) {
    let protocol = tunnel.get("protocol");
    if !["", "CONNECT", "POST"].contains(&protocol.text()) {
        let message = format!("`{}` is no way to open a tunnel", protocol.text());
        report.error(
            "unknown-value",
            &protocol,
            message,
            "write `CONNECT` or `POST`",
        );
    }
    if protocol.text() == "POST" {
        let message = "tunnels by `POST` are not opened yet: bytes go on without one";
        report.warning("value-not-carried", &protocol, message, "write `CONNECT`");
    }
    let host = tunnel.get("targetHost");
    if let Err(problem) = check_fqdn(host.text())
        && !is_ip(host.text())
    {
        let message = format!("the target `{}` {problem}", host.text());
        report.error(
            "invalid-host",
            &host,
            message,
            "write a DNS name or an IP address",
        );
    }
    check_port(tunnel, "targetPort", report);
}

fn check_outlier_detection(outlier: &Node<'_>, report: &mut Report<'_>) {
    let consecutive = outlier.get("consecutiveErrors");
    if consecutive.integer() != 0 {
        let message = "`consecutiveErrors` is deprecated and has no effect, in Istio neither";
        let help = "write `consecutive5xxErrors:` or `consecutiveGatewayErrors:`";
        report.key_warning("deprecated-field", &consecutive, message, help);
    }
    let local = outlier.get("consecutiveLocalOriginFailures");
    if local.integer() > 0 && !outlier.get("splitExternalLocalOriginErrors").is_true() {
        let message = "local failures are only counted on their own when they are split off";
        let help = "write `splitExternalLocalOriginErrors: true`";
        report.key_error("conflicting-fields", &local, message, help);
    }
    check_range(&outlier.get("maxEjectionPercent"), 0.0, 100.0, report);
    check_range(&outlier.get("minHealthPercent"), 0.0, 100.0, report);
}

pub(super) fn check_connection_pool(pool: &Node<'_>, report: &mut Report<'_>) {
    if !pool.is_set() {
        return;
    }
    let (http, tcp) = (pool.get("http"), pool.get("tcp"));
    if !http.is_set() && !tcp.is_set() {
        let help = "write `http:` or `tcp:`";
        report_missing(pool, "the connection pool has no settings", help, report);
    }
    for name in [
        "http1MaxPendingRequests",
        "http2MaxRequests",
        "maxRequestsPerConnection",
        "maxRetries",
        "maxConcurrentStreams",
    ] {
        check_not_negative(&http.get(name), report);
    }
    check_not_negative(&tcp.get("maxConnections"), report);
    let client_protocol = http.get("useClientProtocol");
    if http.get("h2UpgradePolicy").text() == "UPGRADE" && client_protocol.is_true() {
        let message = "`useClientProtocol` contradicts `h2UpgradePolicy: UPGRADE`";
        report.key_error(
            "conflicting-fields",
            &client_protocol,
            message,
            "keep one of the two",
        );
    }
    let keep_alive = http.get("http2KeepAlive");
    for name in ["interval", "timeout"] {
        if keep_alive.is_set() && !keep_alive.get(name).is_set() {
            let message = format!("`http2KeepAlive` has no `{name}`");
            report_missing(
                &keep_alive,
                message,
                "write `interval:` and `timeout:`",
                report,
            );
        }
    }
}

fn check_load_balancer(balancer: &Node<'_>, has_outlier: bool, report: &mut Report<'_>) {
    check_consistent_hash(&balancer.get("consistentHash"), report);
    check_hash_key(&balancer.get("consistentHash"), report);
    let locality = balancer.get("localityLbSetting");
    let zone_aware = balancer.get("zoneAwareLbSetting");
    if locality.is_set() && zone_aware.is_set() {
        let message = "`localityLbSetting` and `zoneAwareLbSetting` cannot be written both";
        report.key_error(
            "conflicting-fields",
            &zone_aware,
            message,
            "keep one of the two",
        );
    }
    locality::check_setting(&locality, has_outlier, report);
    locality::check_zone_aware(&zone_aware, has_outlier, report);
    idle_limits::check_warm_up(balancer, report);
    let warmup = balancer.get("warmup");
    let aggression = warmup.get("aggression");
    if aggression.is_set() && aggression.number() <= 0.0 {
        let message = format!("`aggression` is {}", aggression.number());
        report.error(
            "out-of-range",
            &aggression,
            message,
            "write a number above 0",
        );
    }
    check_range(&warmup.get("minimumPercent"), 0.0, 100.0, report);
}

fn check_consistent_hash(hash: &Node<'_>, report: &mut Report<'_>) {
    /// Envoy: `MaglevLbConfig.table_size`.
    const LARGEST_TABLE: i64 = 5_000_011;
    let cookie = hash.get("httpCookie");
    if cookie.is_set() && cookie.get("name").text().is_empty() {
        report_missing(&cookie, "the cookie has no name", "write `name:`", report);
    }
    let attributes = cookie.get("attributes");
    let items: Vec<Node<'_>> = attributes.items().collect();
    for (at, attribute) in items.iter().enumerate() {
        let name = attribute.get("name");
        let mut earlier = items[..at].iter();
        if name.text().is_empty() {
            report_missing(
                attribute,
                "the attribute has no name",
                "write `name:`",
                report,
            );
        } else if earlier.any(|earlier| earlier.get("name").text() == name.text()) {
            let message = format!("the attribute `{}` is there twice", name.text());
            report.error("duplicate-value", &name, message, "keep one of the two");
        }
    }
    let size = hash.get("minimumRingSize");
    let (ring, maglev) = (hash.get("ringHash"), hash.get("maglev"));
    if size.integer() != 0 {
        let message = "`minimumRingSize` is deprecated";
        let help = "write `ringHash: {minimumRingSize: ...}`";
        if ring.is_set() || maglev.is_set() {
            let message = "`minimumRingSize` stands beside `ringHash` or `maglev`";
            report.key_error("conflicting-fields", &size, message, help);
        } else {
            report.key_warning("deprecated-field", &size, message, help);
        }
    }
    if maglev.is_set() {
        let table = maglev.get("tableSize");
        let size = table.integer();
        if size >= LARGEST_TABLE || !is_prime(size) {
            let node = if table.is_set() { &table } else { &maglev };
            let message = format!("{size} is no size of a Maglev table");
            let help = format!("write a prime number below {LARGEST_TABLE}, such as 65537");
            report.error("out-of-range", node, message, help);
        }
    }
}

fn is_prime(number: i64) -> bool {
    number > 1
        && (2..)
            .take_while(|n| n * n <= number)
            .all(|n| number % n != 0)
}

/// `tls` towards upstream. Istio: `ValidateTLS`.
fn check_client_tls(tls: &Node<'_>, report: &mut Report<'_>) {
    const CONFIG_MAP: &str = "configmap://";
    let credential = tls.get("credentialName");
    let has_credential = !credential.text().is_empty();
    let own_namespace = report.document().namespace.as_str();
    if let Some(reference) = credential.text().strip_prefix(CONFIG_MAP) {
        let (namespace, name) = match reference.split_once('/') {
            Some((namespace, name)) => (namespace, name),
            None => (own_namespace, reference),
        };
        if namespace != own_namespace || name.is_empty() || name.contains('/') {
            let message = format!(
                "`{}` names no ConfigMap of this namespace",
                credential.text()
            );
            let help = format!("write `{CONFIG_MAP}{own_namespace}/name`");
            report.error("invalid-name", &credential, message, help);
        }
    }
    for name in ["clientCertificate", "privateKey", "caCertificates", "caCrl"] {
        check_file_path(&tls.get(name), report);
    }
    let ca = tls.get("caCertificates");
    let names = tls.get("subjectAltNames");
    let mode = tls.get("mode").text().to_string();
    check_idle_tls(tls, &mode, report);
    let skips = tls.get("insecureSkipVerify");
    if skips.is_true() && ["SIMPLE", "MUTUAL"].contains(&mode.as_str()) {
        let verifies =
            !ca.text().is_empty() || names.is_set() || mode == "SIMPLE" && has_credential;
        if verifies {
            let message = "`insecureSkipVerify` contradicts what says how to verify";
            let help = "remove it, or `caCertificates`, `credentialName` and `subjectAltNames`";
            report.key_error("conflicting-fields", &skips, message, help);
        } else {
            let message = "upstreams are not verified: whoever is in between can read and change \
                           what passes";
            let help =
                "remove it, and write `caCertificates:` and `subjectAltNames:` of the upstream";
            report.key_warning("unverified-peers", &skips, message, help);
        }
    }
    if has_credential && ["SIMPLE", "MUTUAL"].contains(&mode.as_str()) {
        for name in ["clientCertificate", "privateKey", "caCertificates", "caCrl"] {
            let file = tls.get(name);
            if !file.text().is_empty() {
                let message = format!("`{name}` stands beside `credentialName`, which holds it");
                report.key_error("conflicting-fields", &file, message, "keep one of the two");
            }
        }
        return;
    }
    for name in ["clientCertificate", "privateKey"] {
        if mode == "MUTUAL" && tls.get(name).text().is_empty() {
            let message = format!("mode MUTUAL has no `{name}`");
            let help = "write `clientCertificate:` and `privateKey:`, or `credentialName:`";
            report_missing(tls, message, help, report);
        }
    }
}

/// Fields that the mode does not look at, and names that are never indicated.
fn check_idle_tls(tls: &Node<'_>, mode: &str, report: &mut Report<'_>) {
    const OWN: [&str; 2] = ["clientCertificate", "privateKey"];
    const PEER: [&str; 4] = ["caCertificates", "caCrl", "subjectAltNames", "sni"];
    let (idle, why, help): (Vec<&str>, _, _) = match mode {
        "DISABLE" => (
            [&OWN[..], &PEER, &["credentialName"]].concat(),
            "mode DISABLE speaks plain text",
            "remove it, or write `mode: SIMPLE`",
        ),
        "" => (
            [&OWN[..], &PEER, &["credentialName"]].concat(),
            "without a mode `tls` speaks plain text",
            "write `mode: SIMPLE`, or remove it",
        ),
        "SIMPLE" => (
            OWN.to_vec(),
            "mode SIMPLE shows no certificate of its own",
            "write `mode: MUTUAL` to show it, or remove it",
        ),
        "ISTIO_MUTUAL" => (
            [&OWN[..], &["caCertificates", "caCrl", "credentialName"]].concat(),
            "mode ISTIO_MUTUAL shows the certificate of the workload, and trusts its roots",
            "remove it, or write `mode: MUTUAL`",
        ),
        _ => return,
    };
    for name in idle {
        let field = tls.get(name);
        if !field.text().is_empty() || !field.is_empty() {
            let message = format!("{why}, so `{name}` has no effect");
            report.key_warning("no-effect", &field, message, help);
        }
    }
    let sni = tls.get("sni");
    let is_address = sni.text().parse::<std::net::IpAddr>().is_ok();
    if !["DISABLE", ""].contains(&mode) && (sni.text().contains('*') || is_address) {
        let what = if is_address {
            "an address"
        } else {
            "a wildcard"
        };
        let message = format!("`{}` is {what}, which is never indicated", sni.text());
        let help = "write the whole name that the server knows";
        report.warning("no-effect", &sni, message, help);
    }
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn primes_are_known() {
        let primes: Vec<i64> = (-3..30).filter(|number| is_prime(*number)).collect();
        assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]);
        assert!(is_prime(65537) && !is_prime(65535));
    }
}
