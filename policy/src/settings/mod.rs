//! What Istio keeps in its bootstrap and mesh configuration: the kind `ProxySettings` of
//! `ringroad.dev/v1alpha1`, the flags of the command line, and the defaults of both.

mod dns;
pub mod duration;
mod interception;
mod limits;
mod providers;
mod proxy_headers;
mod topology;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;

use crate::pem;
use crate::snapshot::locality_of;
use crate::snapshot::path::Normalization;
use crate::source::FieldPath;

pub use dns::{DnsFamilies, DnsSettings, DnsSpec};
pub use interception::{InterceptionMode, InterceptionSettings, InterceptionSpec};
pub use limits::{LimitInfo, LimitUnit, Limits, LimitsSpec};
pub use providers::{
    BodyInCheck, CheckProtocol, HttpCheck, Provider, ProviderSpec, is_header_name,
};
pub use proxy_headers::{ClientCertDetails, ForwardedClientCert, ProxyHeaders, ProxyHeadersSpec};
pub use topology::{GatewayTopologySpec, ProxyProtocolSpec};

/// `apiVersion` of the kind.
pub const API_VERSION: &str = "ringroad.dev/v1alpha1";
/// Name of the kind.
pub const KIND: &str = "ProxySettings";

/// Which side of the mesh the process serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Beside a workload: carries its requests to services.
    Sidecar,
    /// At the edge: carries requests by Gateway documents.
    Gateway,
}

/// What happens to requests for hosts that nobody declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficPolicy {
    /// They pass to where the client addressed them.
    #[default]
    AllowAny,
    /// They are answered 502.
    RegistryOnly,
}

/// The form of access log lines on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogFormat {
    /// Istio's default text format.
    Text,
    /// The same fields as one JSON object a line.
    Json,
}

/// The workload that the process serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadIdentity {
    pub labels: BTreeMap<String, String>,
    pub service_account: String,
    /// For metrics; empty is unknown.
    pub name: String,
    pub app: String,
    pub version: String,
    /// Addresses of the workload, by which its own services are found.
    pub addresses: Vec<std::net::IpAddr>,
    /// `region/zone/subzone`, as far as it is known. Istio: the locality of the proxy.
    pub locality: String,
}

/// The settings in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    pub role: Role,
    /// Namespace of the workload.
    pub namespace: String,
    pub workload: WorkloadIdentity,
    /// Whether the workload has labels of its own, so that selectors are honoured.
    pub selects_by_labels: bool,
    /// Worker threads; `None` is one for each core that the process may use.
    pub workers: Option<u32>,
    pub admin_address: SocketAddr,
    pub trust_domain: String,
    /// Further names of the trust domain. Istio: `trustDomainAliases`.
    pub trust_domain_aliases: Vec<String>,
    pub root_namespace: String,
    /// What is appended to `name.namespace.svc.`
    pub domain_suffix: String,
    pub outbound_traffic_policy: OutboundTrafficPolicy,
    /// The form of paths that routes, policies and upstreams see. Istio: mesh `pathNormalization`.
    pub path_normalization: Normalization,
    /// Whether endpoints further away wait behind nearer ones where outlier detection is on and
    /// nothing else is written. Istio: mesh `localityLbSetting.enabled`.
    pub locality_failover: bool,
    pub interception: InterceptionSettings,
    /// `None` is off.
    pub access_log: Option<AccessLogFormat>,
    /// Whether a request that met a dead reused connection goes to a fresh one by itself.
    pub replay_on_dead_connection: bool,
    /// How long requests in flight may take after SIGTERM.
    pub drain_deadline_ms: u64,
    /// How long files have to be quiet before they are loaded.
    pub reload_settle_ms: u64,
    /// Istio: mesh `connectTimeout`.
    pub connect_timeout_ms: u64,
    /// How long a client may be silent on a port whose protocol is found out by its first bytes,
    /// before the connection is taken for one whose server speaks first. Istio: mesh
    /// `protocolDetectionTimeout`, which is without limit by default.
    pub protocol_detection_timeout_ms: u64,
    pub certificates: CertificateFiles,
    pub proxy_headers: ProxyHeaders,
    /// Where all that is random begins, so that a run can be repeated; `None` is different in
    /// each process.
    pub seed: Option<u64>,
    pub dns: DnsSettings,
    /// Whether connections to gateways begin with a header of the PROXY protocol. Istio:
    /// `gatewayTopology.proxyProtocol`.
    pub takes_proxy_protocol: bool,
    /// Who decides about requests for the action CUSTOM, by name.
    pub extension_providers: BTreeMap<String, Provider>,
    pub limits: Limits,
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            role: Role::Sidecar,
            namespace: "default".to_string(),
            workload: WorkloadIdentity::default(),
            selects_by_labels: false,
            workers: None,
            admin_address: SocketAddr::from(([127, 0, 0, 1], 15000)),
            trust_domain: "cluster.local".to_string(),
            trust_domain_aliases: Vec::new(),
            root_namespace: "istio-system".to_string(),
            domain_suffix: "cluster.local".to_string(),
            outbound_traffic_policy: OutboundTrafficPolicy::AllowAny,
            path_normalization: Normalization::Base,
            locality_failover: true,
            interception: InterceptionSettings::default(),
            access_log: None,
            replay_on_dead_connection: true,
            drain_deadline_ms: 45_000,
            reload_settle_ms: 20,
            connect_timeout_ms: 10_000,
            protocol_detection_timeout_ms: 300,
            certificates: CertificateFiles::default(),
            proxy_headers: ProxyHeaders::of_role(Role::Sidecar),
            seed: None,
            dns: DnsSettings::default(),
            takes_proxy_protocol: false,
            extension_providers: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// Where the workload's certificate and those of secrets are. Paths of PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The workload's certificate and what leads from it to a root.
    pub chain: String,
    pub key: String,
    /// The roots of the mesh.
    pub roots: String,
    /// A folder with a folder for each `credentialName`, asked before those of the configuration.
    pub credentials_directory: Option<String>,
}

impl Default for CertificateFiles {
    /// Where Istio puts them.
    fn default() -> Self {
        Self {
            chain: "/etc/certs/cert-chain.pem".to_string(),
            key: "/etc/certs/key.pem".to_string(),
            roots: "/etc/certs/root-cert.pem".to_string(),
            credentials_directory: None,
        }
    }
}

/// What the command line says; it overrides the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    pub workers: Option<u32>,
    pub admin_address: Option<SocketAddr>,
    pub role: Option<Role>,
    /// For questions about a sidecar other than the one that the files describe.
    pub workload: WorkloadOverrides,
}

/// Another workload than the one that the files describe, as far as it is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadOverrides {
    pub namespace: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
}

/// `spec` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ProxySettingsSpec {
    pub role: Option<Role>,
    pub namespace: Option<String>,
    pub workload: WorkloadSpec,
    pub workers: Option<u32>,
    pub admin_address: Option<String>,
    pub trust_domain: Option<String>,
    pub trust_domain_aliases: Option<Vec<String>>,
    pub root_namespace: Option<String>,
    pub domain_suffix: Option<String>,
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    pub path_normalization: PathNormalizationSpec,
    pub locality_lb_setting: LocalityLbSpec,
    pub interception: InterceptionSpec,
    pub access_log: AccessLogSpec,
    pub replay_on_dead_connection: Option<bool>,
    pub drain_deadline: Option<String>,
    pub reload_settle: Option<String>,
    pub connect_timeout: Option<String>,
    pub protocol_detection_timeout: Option<String>,
    pub certificates: CertificatesSpec,
    pub proxy_headers: ProxyHeadersSpec,
    pub seed: Option<u64>,
    pub dns: DnsSpec,
    pub gateway_topology: GatewayTopologySpec,
    pub extension_providers: Vec<ProviderSpec>,
    pub limits: LimitsSpec,
}

/// `spec.workload` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WorkloadSpec {
    pub labels: Option<BTreeMap<String, String>>,
    pub service_account: String,
    pub name: String,
    pub app: Option<String>,
    pub version: Option<String>,
    pub addresses: Vec<String>,
    pub locality: Option<String>,
}

/// `spec.pathNormalization` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PathNormalizationSpec {
    pub normalization: Option<Normalization>,
}

/// `spec.localityLbSetting` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LocalityLbSpec {
    pub enabled: Option<bool>,
}

/// `spec.certificates` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CertificatesSpec {
    pub chain: Option<String>,
    pub key: Option<String>,
    pub roots: Option<String>,
    pub credentials_directory: Option<String>,
}

impl CertificatesSpec {
    fn check(&self) -> Result<(), SettingsError> {
        let paths = [
            ("chain", &self.chain),
            ("key", &self.key),
            ("roots", &self.roots),
        ];
        let pem = paths
            .into_iter()
            .find(|(_, path)| path.as_deref().is_some_and(pem::is_pem));
        pem.map_or(Ok(()), |(name, _)| {
            let message = pem::NOT_A_PATH.to_string();
            let help = "write it to a file that the proxy may read and give its path";
            Err(SettingsError::at(&["certificates", name], message, help))
        })
    }
}

/// `spec.accessLog` as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessLogSpec {
    pub format: Option<AccessLogFormat>,
}

/// A field of `spec` whose value cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsError {
    /// From the root of the document on.
    pub field: FieldPath,
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl SettingsError {
    /// The field `names`, each within the one before, below `spec`.
    fn at(names: &[&str], message: String, help: &str) -> Self {
        let spec = FieldPath::root().field("spec");
        Self {
            field: names.iter().fold(spec, |path, name| path.field(name)),
            message,
            help: help.to_string(),
        }
    }
}

impl ProxySettings {
    /// The settings that follow from a document, the command line and the defaults.
    /// `has_gateways` decides the role where nobody does.
    ///
    /// # Errors
    ///
    /// The first value that is none: an address, a duration, a limit.
    pub fn resolve(
        spec: &ProxySettingsSpec,
        overrides: &Overrides,
        has_gateways: bool,
    ) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let by_content = if has_gateways {
            Role::Gateway
        } else {
            Role::Sidecar
        };
        settings.role = overrides.role.or(spec.role).unwrap_or(by_content);
        replace(&mut settings.namespace, &spec.namespace);
        replace(&mut settings.trust_domain, &spec.trust_domain);
        replace(
            &mut settings.trust_domain_aliases,
            &spec.trust_domain_aliases,
        );
        replace(&mut settings.root_namespace, &spec.root_namespace);
        replace(&mut settings.domain_suffix, &spec.domain_suffix);
        replace(
            &mut settings.outbound_traffic_policy,
            &spec.outbound_traffic_policy,
        );
        replace(
            &mut settings.path_normalization,
            &spec.path_normalization.normalization,
        );
        replace(
            &mut settings.replay_on_dead_connection,
            &spec.replay_on_dead_connection,
        );
        settings.interception = spec.interception.resolve();
        settings.proxy_headers = spec.proxy_headers.resolve(settings.role);
        settings.access_log = spec.access_log.format;
        replace(
            &mut settings.locality_failover,
            &spec.locality_lb_setting.enabled,
        );
        settings.workers = overrides.workers.or(spec.workers);
        settings.seed = spec.seed;
        spec.certificates.check()?;
        let certificates = &mut settings.certificates;
        replace(&mut certificates.chain, &spec.certificates.chain);
        replace(&mut certificates.key, &spec.certificates.key);
        replace(&mut certificates.roots, &spec.certificates.roots);
        certificates.credentials_directory = spec.certificates.credentials_directory.clone();
        if let Some(text) = &spec.admin_address {
            settings.admin_address = address(text, &["adminAddress"])?;
        }
        if let Some(address) = overrides.admin_address {
            settings.admin_address = address;
        }
        replace_ms(
            &mut settings.drain_deadline_ms,
            &spec.drain_deadline,
            &["drainDeadline"],
        )?;
        replace_ms(
            &mut settings.reload_settle_ms,
            &spec.reload_settle,
            &["reloadSettle"],
        )?;
        replace_ms(
            &mut settings.connect_timeout_ms,
            &spec.connect_timeout,
            &["connectTimeout"],
        )?;
        replace_ms(
            &mut settings.protocol_detection_timeout_ms,
            &spec.protocol_detection_timeout,
            &["protocolDetectionTimeout"],
        )?;
        settings.takes_proxy_protocol = spec.gateway_topology.proxy_protocol.is_some();
        settings.dns = spec.dns.resolve()?;
        settings.extension_providers = providers::resolve(&spec.extension_providers)?;
        settings.workload = spec.workload.resolve()?;
        settings.selects_by_labels = spec.workload.labels.is_some();
        if settings.role == Role::Sidecar {
            let workload = &overrides.workload;
            replace(&mut settings.namespace, &workload.namespace);
            replace(&mut settings.workload.labels, &workload.labels);
            settings.selects_by_labels |= workload.labels.is_some();
        }
        settings.limits = spec.limits.over_defaults().map_err(|(name, expected)| {
            let message = format!("`{name}` is not what is expected");
            SettingsError::at(&["limits", name], message, &format!("write {expected}"))
        })?;
        Ok(settings)
    }

    /// All names of the trust domain, its own first.
    pub fn trust_domains(&self) -> Vec<&str> {
        let aliases = self.trust_domain_aliases.iter().map(String::as_str);
        std::iter::once(self.trust_domain.as_str())
            .chain(aliases)
            .collect()
    }

    /// Whether documents with this workload selector apply: without labels of our own, all do.
    pub fn selected_by(&self, selector: &BTreeMap<String, String>) -> bool {
        !self.selects_by_labels
            || selector
                .iter()
                .all(|(key, value)| self.workload.labels.get(key) == Some(value))
    }
}

impl WorkloadSpec {
    fn resolve(&self) -> Result<WorkloadIdentity, SettingsError> {
        let labels = self.labels.clone().unwrap_or_default();
        let label = |given: &Option<String>, names: &[&str]| {
            let from_labels = || names.iter().find_map(|name| labels.get(*name).cloned());
            given.clone().or_else(from_labels).unwrap_or_default()
        };
        let mut addresses = Vec::new();
        for text in &self.addresses {
            addresses.push(text.parse().map_err(|_| {
                let message = format!("`{text}` is no IP address");
                let help = "write an address without a port, such as 10.0.0.1";
                SettingsError::at(&["workload", "addresses"], message, help)
            })?);
        }
        Ok(WorkloadIdentity {
            service_account: self.service_account.clone(),
            name: self.name.clone(),
            app: label(&self.app, &["app", "app.kubernetes.io/name"]),
            version: label(&self.version, &["version", "app.kubernetes.io/version"]),
            addresses,
            locality: locality_of(self.locality.as_deref().unwrap_or_default(), &labels),
            labels,
        })
    }
}

const DURATION_HELP: &str = "write numbers with the units h, m, s or ms, such as `10s`";

fn replace<T: Clone>(value: &mut T, written: &Option<T>) {
    if let Some(written) = written {
        *value = written.clone();
    }
}

fn replace_ms(
    value: &mut u64,
    written: &Option<String>,
    field: &[&str],
) -> Result<(), SettingsError> {
    if let Some(text) = written {
        *value = duration::parse_ms(text)
            .map_err(|error| SettingsError::at(field, error.to_string(), DURATION_HELP))?;
    }
    Ok(())
}

fn address(text: &str, field: &[&str]) -> Result<SocketAddr, SettingsError> {
    text.parse().map_err(|_| {
        let message = format!("`{text}` is no address with a port");
        SettingsError::at(field, message, "write one such as \"127.0.0.1:15000\"")
    })
}
