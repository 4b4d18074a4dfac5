//! Who a request comes from: RequestAuthentication, compiled, and tokens.
//!
//! A token that is there has to be valid; one that is missing is for AuthorizationPolicy to judge.
//! The time is handed in.

mod cache;
mod claims;
mod keys;
mod locate;
mod rule;
mod status;
mod token;

use std::sync::Arc;

use crate::snapshot::RequestFacts;

pub use cache::{TokenCache, VerifiedToken};
pub use claims::Claims;
pub use keys::KeySet;
pub(crate) use locate::is_preflight;
pub use locate::without_parameters;
pub use rule::{ClaimHeader, JwtRule, KeySource, TokenLocation};
pub use status::TokenError;

/// The rules of a workload, by issuer.
#[derive(Debug, Clone, Default)]
pub struct Authentication {
    pub rules: Vec<Arc<JwtRule>>,
}

/// A request whose tokens, if it has any, are valid.
#[derive(Debug, Clone, Default)]
pub struct Authenticated<'r> {
    /// `None`: there was no token.
    pub token: Option<Arc<VerifiedToken>>,
    /// Headers that neither policies nor the upstream see, in lower case: the token's, and those
    /// that only we may write.
    pub removed_headers: Vec<&'r str>,
    /// Headers that we write.
    pub added_headers: Vec<(&'r str, String)>,
    /// Parameters of the query that held the token.
    pub removed_parameters: Vec<&'r str>,
}

impl Authentication {
    /// Looks for tokens and verifies them. A cross-origin preflight carries no credentials and
    /// passes.
    ///
    /// # Errors
    ///
    /// What is wrong with the token.
    pub fn authenticate(
        &self,
        request: &RequestFacts<'_>,
        now_unix_s: u64,
        cache: &mut TokenCache,
    ) -> Result<Authenticated<'_>, TokenError> {
        let mut result = Authenticated::default();
        result.removed_headers.extend(self.own_headers());
        if is_preflight(request) {
            return Ok(result);
        }
        // Any rule that is content will do; else each has to find no token at all.
        let mut error = TokenError::Missing;
        let mut first_hard = TokenError::Missing;
        for rule in &self.rules {
            match verify_all(rule, request, now_unix_s, cache, &mut result) {
                Ok(()) => return Ok(result),
                Err(TokenError::Missing) => {}
                Err(other) => {
                    if first_hard == TokenError::Missing {
                        first_hard = other;
                    }
                    if other != TokenError::UnknownIssuer || error == TokenError::Missing {
                        error = other;
                    }
                }
            }
        }
        // The requirement that every rule be content or find nothing comes last, and speaks with
        // its first failure.
        if first_hard != TokenError::UnknownIssuer && first_hard != TokenError::Missing {
            error = first_hard;
        }
        match error {
            TokenError::Missing => Ok(result),
            other => Err(other),
        }
    }

    /// The headers that only we may write (`outputPayloadToHeader`, `outputClaimToHeaders`), in
    /// lower case.
    fn own_headers(&self) -> impl Iterator<Item = &str> {
        let names = self.rules.iter().flat_map(|rule| {
            let claims = rule.claim_headers.iter().map(|claim| claim.header.as_str());
            claims.chain([rule.payload_header.as_str()])
        });
        names.filter(|name| !name.is_empty())
    }

    /// Whether only we may write the header `name`, in any case.
    #[must_use]
    pub fn owns_header(&self, name: &[u8]) -> bool {
        self.own_headers()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// The rules with the keys that `keys` has for their sources; without one, a rule keeps those
    /// it has.
    #[must_use]
    pub fn with_keys(&self, keys: &dyn Fn(&KeySource) -> Option<Arc<KeySet>>) -> Self {
        let rules = self.rules.iter().map(|rule| match keys(&rule.source) {
            Some(keys) => Arc::new(JwtRule {
                keys,
                ..JwtRule::clone(rule)
            }),
            None => rule.clone(),
        });
        Self {
            rules: rules.collect(),
        }
    }
}

/// Verifies all tokens in the places of a rule: one good token must not cover for a bad one.
fn verify_all<'r>(
    rule: &'r Arc<JwtRule>,
    request: &RequestFacts<'_>,
    now_unix_s: u64,
    cache: &mut TokenCache,
    result: &mut Authenticated<'r>,
) -> Result<(), TokenError> {
    let found = locate::tokens(rule, request);
    if found.is_empty() {
        return Err(TokenError::Missing);
    }
    let mut tokens = Vec::with_capacity(found.len());
    for (location, text) in found.iter().rev() {
        tokens.push((*location, rule.verify(text, now_unix_s, cache)?));
    }
    for (location, token) in tokens {
        if !rule.payload_header.is_empty() {
            let payload = token.payload_base64.clone();
            result.added_headers.push((&rule.payload_header, payload));
        }
        for ClaimHeader { header, claim } in &rule.claim_headers {
            if let Some(text) = token.claims.as_header(claim) {
                result.added_headers.push((header, text));
            }
        }
        if !rule.forwards_token {
            match location {
                TokenLocation::Header { name, .. } => result.removed_headers.push(name),
                TokenLocation::Parameter(name) => result.removed_parameters.push(name),
                // Envoy leaves cookies alone.
                TokenLocation::Cookie(_) => {}
            }
        }
        result.token = Some(token);
    }
    Ok(())
}
