//! One `jwtRules` item.

use std::sync::Arc;

use super::cache::{TokenCache, VerifiedToken};
use super::claims::Claims;
use super::keys::KeySet;
use super::status::TokenError;
use super::token::Token;
use crate::source::Origin;

/// Which tokens count, and what becomes of them.
#[derive(Debug, Clone)]
pub struct JwtRule {
    /// Empty takes tokens of any issuer.
    pub issuer: String,
    /// A token has to be for one of them; none are asked for when this is empty.
    pub audiences: Vec<String>,
    pub locations: Vec<TokenLocation>,
    /// Where keys come from.
    pub source: KeySource,
    /// The keys that are known. Without any, each token is refused.
    pub keys: Arc<KeySet>,
    /// The upstream gets the payload in this header, in lower case; empty is none.
    pub payload_header: String,
    /// Claims that the upstream gets as headers.
    pub claim_headers: Vec<ClaimHeader>,
    /// Whether the upstream gets the token.
    pub forwards_token: bool,
    pub space_delimited_claims: Vec<String>,
    pub origin: Origin,
}

/// Where keys come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeySource {
    /// They stand in the rule.
    Inline,
    /// They are fetched from `http:` or `https:`, or read from `file:`.
    Uri { uri: String, timeout_ms: u64 },
    /// Their address is asked of the issuer (OpenID Connect Discovery 1.0 section 4).
    Issuer { issuer: String, timeout_ms: u64 },
}

/// Where a token may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenLocation {
    /// In a header, in lower case, behind a prefix.
    Header {
        name: String,
        prefix: String,
    },
    /// In a parameter of the query.
    Parameter(String),
    Cookie(String),
}

/// A claim that goes to a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimHeader {
    /// Lower-case.
    pub header: String,
    /// A name, or several with dots between for a nested claim.
    pub claim: String,
}

impl JwtRule {
    /// Verifies a token at a time.
    pub(super) fn verify(
        self: &Arc<Self>,
        text: &str,
        now_unix_s: u64,
        cache: &mut TokenCache,
    ) -> Result<Arc<VerifiedToken>, TokenError> {
        if let Some(token) = cache.get(self, text) {
            self.check(&token, now_unix_s)?;
            return Ok(token);
        }
        let token = Token::parse(text)?;
        let audiences = match token.fields.get("aud") {
            Some(serde_json::Value::String(one)) => vec![one.clone()],
            Some(serde_json::Value::Array(list)) => {
                let texts = list.iter().filter_map(|item| item.as_str());
                texts.map(ToString::to_string).collect()
            }
            _ => Vec::new(),
        };
        let verified = VerifiedToken {
            audiences,
            issuer: token.issuer().to_string(),
            payload_base64: token.payload_base64.to_string(),
            times: token.times,
            claims: Claims::new(token.fields.clone(), &self.space_delimited_claims),
        };
        self.check(&verified, now_unix_s)?;
        match self.keys.verify(&token) {
            // Until keys have come, Istio gives Envoy one that nobody can sign with.
            Err(TokenError::NoKeys) if self.source != KeySource::Inline => {
                return Err(TokenError::Verification);
            }
            other => other?,
        }
        let verified = Arc::new(verified);
        cache.insert(self, text, verified.clone());
        Ok(verified)
    }

    /// What is asked of a token each time, in Envoy's order.
    fn check(&self, token: &VerifiedToken, now_unix_s: u64) -> Result<(), TokenError> {
        if !self.issuer.is_empty() && token.issuer != self.issuer {
            return Err(TokenError::UnknownIssuer);
        }
        token.times.check(now_unix_s)?;
        let wanted = |audience: &String| {
            let audience = bare_audience(audience);
            self.audiences
                .iter()
                .any(|known| bare_audience(known) == audience)
        };
        if !self.audiences.is_empty() && !token.audiences.iter().any(wanted) {
            return Err(TokenError::AudienceNotAllowed);
        }
        Ok(())
    }
}

/// Audiences are compared without scheme and without the slash that may end them, as in Envoy.
fn bare_audience(audience: &str) -> &str {
    let bare = audience
        .strip_prefix("https://")
        .or_else(|| audience.strip_prefix("http://"))
        .unwrap_or(audience);
    bare.strip_suffix('/').unwrap_or(bare)
}
