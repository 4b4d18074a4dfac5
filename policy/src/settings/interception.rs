//! How a sidecar gets its connections.

use serde::Deserialize;

/// Whether the connections of the workload are redirected to the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InterceptionMode {
    /// They are not: a sidecar listens on loopback.
    #[default]
    None,
    /// By the kernel, which keeps where they were addressed.
    Redirect,
}

/// How a sidecar gets its connections. Istio: `interceptionMode`, `proxyListenPort`,
/// `proxyInboundListenPort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterceptionSettings {
    pub mode: InterceptionMode,
    /// Where connections of the workload arrive.
    pub outbound_port: u16,
    /// Where connections to the workload arrive.
    pub inbound_port: u16,
}

impl Default for InterceptionSettings {
    fn default() -> Self {
        Self {
            mode: InterceptionMode::None,
            outbound_port: 15001,
            inbound_port: 15006,
        }
    }
}

/// `spec.interception` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InterceptionSpec {
    pub mode: Option<InterceptionMode>,
    pub outbound_port: Option<u16>,
    pub inbound_port: Option<u16>,
}

impl InterceptionSpec {
    /// With defaults for what is not written.
    pub fn resolve(&self) -> InterceptionSettings {
        let default = InterceptionSettings::default();
        InterceptionSettings {
            mode: self.mode.unwrap_or(default.mode),
            outbound_port: self.outbound_port.unwrap_or(default.outbound_port),
            inbound_port: self.inbound_port.unwrap_or(default.inbound_port),
        }
    }
}
