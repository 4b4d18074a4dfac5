//! What stands in front of a gateway.

use serde::Deserialize;

/// `spec.gatewayTopology` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayTopologySpec {
    pub proxy_protocol: Option<ProxyProtocolSpec>,
}

/// `proxyProtocol` as written: that it is there is all it says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProxyProtocolSpec {}
