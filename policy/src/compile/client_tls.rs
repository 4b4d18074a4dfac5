//! TLS that begins here: `tls` of a DestinationRule, or mTLS that nobody had to ask for.

use std::collections::BTreeSet;

use super::destination_rules::Sourced;
use super::names::sni_name;
use super::registry::{Resolution, Service};
use super::server_tls::secret;
use crate::resource::destination_rule::ClientTls;
use crate::settings::{ProxySettings, Role};
use crate::snapshot::{
    CredentialSource, Endpoint, TLS_MODE_ISTIO, TLS_MODE_LABEL, TrustSource, UpstreamSni,
    UpstreamTls, UpstreamTlsMode,
};

/// What TLS to a cluster depends on.
pub struct TlsScope<'a> {
    pub settings: &'a ProxySettings,
    pub service: &'a Service,
    pub port: u32,
    pub subset: &'a str,
    /// Of the cluster, as far as the configuration names them.
    pub endpoints: &'a [Endpoint],
    /// Whether the rule is for some workloads only, by labels.
    pub rule_selects: bool,
}

/// How TLS is spoken to a cluster; `None` is plain text.
pub fn upstream_tls(
    written: Option<&Sourced<'_, ClientTls>>,
    scope: &TlsScope<'_>,
) -> Option<UpstreamTls> {
    let Some(written) = written else {
        return automatic(scope);
    };
    let origin = Some(written.origin.clone());
    let tls = written.value;
    let mode = match tls.mode.as_deref() {
        Some("SIMPLE") => UpstreamTlsMode::Simple,
        Some("MUTUAL") => UpstreamTlsMode::Mutual,
        Some("ISTIO_MUTUAL") => {
            let mut mesh = mesh_tls(scope);
            mesh.origin = origin;
            if !tls.subject_alt_names.is_empty() {
                mesh.subject_alt_names.clone_from(&tls.subject_alt_names);
            }
            if !tls.sni.is_empty() {
                mesh.sni = UpstreamSni::Fixed(tls.sni.clone());
            }
            return Some(mesh);
        }
        _ => return None,
    };
    // A secret is only for those that a rule names: gateways, or workloads by their labels.
    let is_config_map = tls.credential_name.starts_with("configmap://");
    if scope.settings.role == Role::Sidecar
        && !scope.rule_selects
        && !tls.credential_name.is_empty()
        && !is_config_map
    {
        return None;
    }
    let skips = tls.insecure_skip_verify == Some(true);
    let mut names = tls.subject_alt_names.clone();
    let sni = match tls.sni.as_str() {
        "" => UpstreamSni::Host,
        sni => UpstreamSni::Fixed(sni.to_string()),
    };
    let verifies_sni = sni == UpstreamSni::Host && names.is_empty() && !skips;
    if names.is_empty() && !scope.service.is_kubernetes {
        names.clone_from(&scope.service.subject_alt_names);
    }
    let (credential, trust) = sources(tls, mode);
    Some(UpstreamTls {
        mode,
        is_automatic: false,
        sni,
        subject_alt_names: names,
        verifies_sni,
        credential,
        trust,
        revocations: (!tls.ca_crl.is_empty()).then(|| tls.ca_crl.clone()),
        skips_verification: skips,
        origin,
    })
}

fn sources(tls: &ClientTls, mode: UpstreamTlsMode) -> (Option<CredentialSource>, TrustSource) {
    let is_mutual = mode == UpstreamTlsMode::Mutual;
    if !tls.credential_name.is_empty() {
        let (namespace, name) = secret(&tls.credential_name);
        let trust = TrustSource::Secret {
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let credential = CredentialSource::Secret { namespace, name };
        return (is_mutual.then_some(credential), trust);
    }
    let trust = match tls.ca_certificates.as_str() {
        "" | "system" => TrustSource::System,
        file => TrustSource::File(file.to_string()),
    };
    let files = || CredentialSource::Files {
        certificate: tls.client_certificate.clone(),
        key: tls.private_key.clone(),
    };
    (is_mutual.then(files), trust)
}

/// From workload to workload, each with its identity.
fn mesh_tls(scope: &TlsScope<'_>) -> UpstreamTls {
    let service = scope.service;
    let trust_domain = &scope.settings.trust_domain;
    let namespace = |endpoint: &Endpoint| match endpoint.workload.namespace.as_str() {
        "" => service.namespace.clone(),
        namespace => namespace.to_string(),
    };
    let accounts = scope.endpoints.iter();
    let accounts = accounts.filter(|endpoint| !endpoint.service_account.is_empty());
    let mut names: BTreeSet<String> = accounts
        .map(|endpoint| {
            let (namespace, account) = (namespace(endpoint), &endpoint.service_account);
            format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}")
        })
        .collect();
    // Where some endpoint has no account, it may be anybody.
    if scope.endpoints.iter().any(|e| e.service_account.is_empty()) {
        names.clear();
    }
    names.extend(service.subject_alt_names.iter().cloned());
    UpstreamTls {
        mode: UpstreamTlsMode::IstioMutual,
        is_automatic: false,
        sni: UpstreamSni::Fixed(sni_name(scope.port, scope.subset, &service.host)),
        subject_alt_names: names.into_iter().collect(),
        verifies_sni: false,
        credential: Some(CredentialSource::Workload),
        trust: TrustSource::Workload,
        revocations: None,
        skips_verification: false,
        origin: None,
    }
}

/// mTLS where both sides can and nobody wrote anything.
fn automatic(scope: &TlsScope<'_>) -> Option<UpstreamTls> {
    let service = scope.service;
    let is_able = |endpoint: &Endpoint| {
        let label = endpoint.labels.get(TLS_MODE_LABEL);
        label.is_some_and(|value| value == TLS_MODE_ISTIO)
    };
    let able = match service.resolution {
        // Where the client chooses the endpoint, all have to be able.
        Resolution::Passthrough => {
            !scope.endpoints.is_empty() && scope.endpoints.iter().all(is_able)
        }
        _ => scope.endpoints.iter().any(is_able),
    };
    if service.is_external || !able {
        return None;
    }
    Some(UpstreamTls {
        is_automatic: true,
        ..mesh_tls(scope)
    })
}
