//! Keys that tokens are verified with: RFC 7517.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;

use super::status::TokenError;
use super::token::{Token, decode_base64};

/// The keys of one issuer. Keys that cannot be used are left out.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    /// Empty where the key has none.
    id: String,
    /// The one algorithm that the key is for, if it says so.
    algorithm: Option<Algorithm>,
    /// The algorithms that a key of this form can verify.
    can: &'static [Algorithm],
    key: DecodingKey,
}

impl fmt::Debug for KeySet {
    /// Without the keys: a shared one is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| &key.id);
        f.debug_list().entries(ids).finish()
    }
}

const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const SHARED: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];

impl KeySet {
    /// Reads a JSON Web Key Set.
    ///
    /// # Errors
    ///
    /// Text that is none. Keys of a form that is not known are no error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let set: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err("there is no list `keys`".to_string());
        };
        let keys = list.iter().filter_map(Key::read).collect();
        Ok(Self { keys })
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Verifies the signature: by the key that the token names, or by any where it names none.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), TokenError> {
        if self.is_empty() {
            return Err(TokenError::NoKeys);
        }
        let mut error = TokenError::NoSuchKey;
        for key in &self.keys {
            let is_other = !token.key_id.is_empty() && !key.id.is_empty() && key.id != token.key_id;
            if is_other
                || key
                    .algorithm
                    .is_some_and(|algorithm| algorithm != token.algorithm)
            {
                continue;
            }
            error = TokenError::Verification;
            // What a key is for is asked of the key, never of the token.
            if key.can.contains(&token.algorithm)
                && let Ok(true) = crypto::verify(
                    token.signature_base64,
                    token.signed.as_bytes(),
                    &key.key,
                    token.algorithm,
                )
            {
                return Ok(());
            }
        }
        Err(error)
    }
}

impl Key {
    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let (can, key): (&'static [Algorithm], _) = match text("kty")? {
            "RSA" => (
                &RSA,
                DecodingKey::from_rsa_components(text("n")?, text("e")?),
            ),
            "EC" => {
                let can: &[Algorithm] = match text("crv")? {
                    "P-256" => &[Algorithm::ES256],
                    "P-384" => &[Algorithm::ES384],
                    _ => return None,
                };
                (can, DecodingKey::from_ec_components(text("x")?, text("y")?))
            }
            "OKP" if text("crv")? == "Ed25519" => (
                &[Algorithm::EdDSA],
                DecodingKey::from_ed_components(text("x")?),
            ),
            "oct" => {
                let secret = decode_base64(text("k")?)?;
                (&SHARED, Ok(DecodingKey::from_secret(&secret)))
            }
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(name) => Some(name.parse().ok().filter(|known| can.contains(known))?),
        };
        Some(Self {
            id: text("kid").unwrap_or_default().to_string(),
            algorithm,
            can,
            key: key.ok()?,
        })
    }
}
