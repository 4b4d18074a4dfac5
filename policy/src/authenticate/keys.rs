//! Keys that tokens are verified with: RFC 7517.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use p521::ecdsa::Signature;
use p521::ecdsa::signature::Verifier as _;
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
    scheme: Option<Scheme>,
    /// What a key of this form can verify.
    can: &'static [Scheme],
    key: Material,
}

impl fmt::Debug for KeySet {
    /// Without the keys: a shared one is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.keys.iter().map(|key| &key.id);
        f.debug_list().entries(ids).finish()
    }
}

const RSA: [Scheme; 6] = [
    Scheme::Library(Algorithm::RS256),
    Scheme::Library(Algorithm::RS384),
    Scheme::Library(Algorithm::RS512),
    Scheme::Library(Algorithm::PS256),
    Scheme::Library(Algorithm::PS384),
    Scheme::Library(Algorithm::PS512),
];
const SHARED: [Scheme; 3] = [
    Scheme::Library(Algorithm::HS256),
    Scheme::Library(Algorithm::HS384),
    Scheme::Library(Algorithm::HS512),
];

/// How a token is signed: RFC 7518 section 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Library(Algorithm),
    /// ECDSA on P-521, which the library for the others does not have.
    Es512,
}

impl FromStr for Scheme {
    type Err = jsonwebtoken::errors::Error;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "ES512" => Ok(Self::Es512),
            name => name.parse().map(Self::Library),
        }
    }
}

#[derive(Clone)]
enum Material {
    Library(DecodingKey),
    P521(Arc<p521::ecdsa::VerifyingKey>),
}

impl Material {
    fn has_signed(&self, token: &Token<'_>) -> bool {
        match (self, token.scheme) {
            (Self::Library(key), Scheme::Library(algorithm)) => {
                let signed = token.signed.as_bytes();
                crypto::verify(token.signature_base64, signed, key, algorithm).unwrap_or(false)
            }
            (Self::P521(key), Scheme::Es512) => {
                let signature = decode_base64(token.signature_base64);
                let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
                signature.is_some_and(|it| key.verify(token.signed.as_bytes(), &it).is_ok())
            }
            _ => false,
        }
    }
}

/// A public key of P-521 by its coordinates: RFC 7518 section 6.2.1.
fn p521_key(x: &str, y: &str) -> Option<Material> {
    const UNCOMPRESSED: u8 = 4;
    let point = [vec![UNCOMPRESSED], decode_base64(x)?, decode_base64(y)?].concat();
    let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point).ok()?;
    Some(Material::P521(Arc::new(key)))
}

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
            if is_other || key.scheme.is_some_and(|scheme| scheme != token.scheme) {
                continue;
            }
            error = TokenError::Verification;
            // What a key is for is asked of the key, never of the token.
            if key.can.contains(&token.scheme) && key.key.has_signed(token) {
                return Ok(());
            }
        }
        Err(error)
    }
}

impl Key {
    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let (can, key): (&'static [Scheme], _) = match text("kty")? {
            "RSA" => {
                let key = DecodingKey::from_rsa_components(text("n")?, text("e")?);
                (&RSA, Material::Library(key.ok()?))
            }
            "EC" => {
                let (x, y) = (text("x")?, text("y")?);
                let library = || DecodingKey::from_ec_components(x, y).map(Material::Library);
                match text("crv")? {
                    "P-256" => (&[Scheme::Library(Algorithm::ES256)], library().ok()?),
                    "P-384" => (&[Scheme::Library(Algorithm::ES384)], library().ok()?),
                    "P-521" => (&[Scheme::Es512], p521_key(x, y)?),
                    _ => return None,
                }
            }
            "OKP" if text("crv")? == "Ed25519" => {
                let key = DecodingKey::from_ed_components(text("x")?);
                (
                    &[Scheme::Library(Algorithm::EdDSA)],
                    Material::Library(key.ok()?),
                )
            }
            "oct" => {
                let secret = decode_base64(text("k")?)?;
                (
                    &SHARED,
                    Material::Library(DecodingKey::from_secret(&secret)),
                )
            }
            _ => return None,
        };
        let scheme = match text("alg") {
            None => None,
            Some(name) => Some(name.parse().ok().filter(|known| can.contains(known))?),
        };
        Some(Self {
            id: text("kid").unwrap_or_default().to_string(),
            scheme,
            can,
            key,
        })
    }
}
