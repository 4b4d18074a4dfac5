//! How names are resolved.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{SettingsError, address, replace, replace_ms};

/// Which addresses of a name are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DnsFamilies {
    /// IPv4 and IPv6, each address an endpoint.
    All,
    V4Only,
    V6Only,
    /// IPv4, and IPv6 only where a name has none.
    #[default]
    V4Preferred,
}

/// How names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSettings {
    pub families: DnsFamilies,
    /// Name servers; empty takes those of the system.
    pub servers: Vec<SocketAddr>,
    /// How long to wait after a failure. Istio: `dnsRefreshRate`.
    pub failure_refresh_ms: u64,
    /// Answers with a shorter time to live are kept this long.
    pub min_ttl_ms: u64,
    /// For one query.
    pub query_timeout_ms: u64,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            // A name with both would send half of its requests to addresses that a host without
            // IPv6 cannot reach.
            families: DnsFamilies::V4Preferred,
            servers: Vec::new(),
            failure_refresh_ms: 60_000,
            min_ttl_ms: 1_000,
            query_timeout_ms: 5_000,
        }
    }
}

/// `spec.dns` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DnsSpec {
    pub families: Option<DnsFamilies>,
    pub servers: Vec<String>,
    pub failure_refresh: Option<String>,
    pub min_ttl: Option<String>,
    pub query_timeout: Option<String>,
}

impl DnsSpec {
    pub(super) fn resolve(&self) -> Result<DnsSettings, SettingsError> {
        let mut dns = DnsSettings::default();
        replace(&mut dns.families, &self.families);
        for text in &self.servers {
            dns.servers.push(match text.parse::<std::net::IpAddr>() {
                Ok(ip) => SocketAddr::new(ip, 53),
                Err(_) => address(text, &["dns", "servers"])?,
            });
        }
        replace_ms(
            &mut dns.failure_refresh_ms,
            &self.failure_refresh,
            &["dns", "failureRefresh"],
        )?;
        replace_ms(&mut dns.min_ttl_ms, &self.min_ttl, &["dns", "minTtl"])?;
        replace_ms(
            &mut dns.query_timeout_ms,
            &self.query_timeout,
            &["dns", "queryTimeout"],
        )?;
        Ok(dns)
    }
}
