//! RequestAuthentication → rules for tokens, as Istio tells them to Envoy.

use std::sync::Arc;

use super::findings::Findings;
use super::policy_targets::applies;
use crate::authenticate::{Authentication, ClaimHeader, JwtRule, KeySet, KeySource, TokenLocation};
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::request_authentication::{JwtRule as Written, RequestAuthentication};
use crate::resource::{Metadata, Object};
use crate::settings::{ProxySettings, duration};
use crate::snapshot::tokens_may_set;
use crate::source::FieldPath;

/// How long fetching keys may take. Istio's default.
const DEFAULT_TIMEOUT_MS: u64 = 5_000;

/// The rules that apply to the workload at hand; `None` when there are none.
pub fn authentication(
    policies: &[Object<RequestAuthentication>],
    settings: &ProxySettings,
    findings: &mut Findings,
) -> Option<Authentication> {
    let mut selected: Vec<_> = policies
        .iter()
        .filter(|object| applies(&object.metadata, &object.spec.target, settings))
        .collect();
    // Those for the whole mesh come first.
    selected.sort_by_key(|object| object.metadata.namespace != settings.root_namespace);
    let mut rules = Vec::new();
    for Object { metadata, spec } in selected {
        for (at, written) in spec.jwt_rules.iter().enumerate() {
            rules.push(Arc::new(read(written, at, metadata, findings)));
        }
    }
    rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    (!rules.is_empty()).then_some(Authentication { rules })
}

fn read(written: &Written, at: usize, metadata: &Metadata, findings: &mut Findings) -> JwtRule {
    let field = FieldPath::root().field("spec").field("jwtRules").index(at);
    let timeout = written.timeout.as_deref();
    let timeout_ms = timeout.and_then(|text| duration::parse_ms(text).ok());
    let timeout_ms = timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
    let (source, keys) = if !written.jwks.is_empty() {
        (
            KeySource::Inline,
            KeySet::parse(&written.jwks).unwrap_or_default(),
        )
    } else if !written.jwks_uri.is_empty() {
        let uri = written.jwks_uri.clone();
        (KeySource::Uri { uri, timeout_ms }, KeySet::default())
    } else {
        let issuer = written.issuer.clone();
        (KeySource::Issuer { issuer, timeout_ms }, KeySet::default())
    };
    if source == KeySource::Inline && keys.is_empty() {
        let place = Place::Field(metadata.origin(field.field("jwks")));
        let message = "no key can be used, so each token is refused";
        let help = "write a set `{\"keys\": [...]}` of RSA keys, EC keys on P-256, P-384 or P-521, or \
                    Ed25519 keys";
        findings.add(Diagnostic::warning("unusable-keys", place, message).with_help(help));
    }
    let claims = written.output_claim_to_headers.iter();
    let claims = claims.filter(|item| tokens_may_set(&item.header));
    let payload_header = Some(written.output_payload_to_header.to_ascii_lowercase());
    JwtRule {
        issuer: written.issuer.clone(),
        audiences: written.audiences.clone(),
        locations: locations(written),
        source,
        keys: Arc::new(keys),
        payload_header: payload_header
            .filter(|name| tokens_may_set(name))
            .unwrap_or_default(),
        claim_headers: claims
            .map(|item| ClaimHeader {
                header: item.header.to_ascii_lowercase(),
                claim: item.claim.clone(),
            })
            .collect(),
        forwards_token: written.forward_original_token,
        space_delimited_claims: written.space_delimited_claims.clone(),
        origin: metadata.origin(field),
    }
}

/// Where tokens stand; the places that Envoy knows, where none is written.
fn locations(written: &Written) -> Vec<TokenLocation> {
    let mut headers: Vec<_> = written
        .from_headers
        .iter()
        .map(|header| TokenLocation::Header {
            name: header.name.to_ascii_lowercase(),
            prefix: header.prefix.clone(),
        })
        .collect();
    let parameters = written.from_params.iter().cloned();
    headers.extend(parameters.map(TokenLocation::Parameter));
    headers.extend(
        written
            .from_cookies
            .iter()
            .cloned()
            .map(TokenLocation::Cookie),
    );
    if headers.is_empty() {
        headers.push(TokenLocation::Header {
            name: "authorization".to_string(),
            prefix: "Bearer ".to_string(),
        });
        headers.push(TokenLocation::Parameter("access_token".to_string()));
    }
    headers
}
