//! Tokens as sent: RFC 7519, in the compact form of RFC 7515.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::keys::Scheme;
use super::status::TokenError;

/// How far clocks may differ, in seconds. Envoy's default.
const CLOCK_SKEW_S: f64 = 60.0;

/// Base64 for URLs, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

/// A token that has been read, and not been verified.
#[derive(Debug, Clone)]
pub(super) struct Token<'t> {
    pub scheme: Scheme,
    pub key_id: String,
    /// What is signed.
    pub signed: &'t str,
    /// As sent.
    pub payload_base64: &'t str,
    pub signature_base64: &'t str,
    pub fields: Map<String, Value>,
    pub times: Times,
}

/// When a token counts, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Times {
    not_before: f64,
    /// 0 is never.
    expiry: f64,
}

impl Times {
    pub fn check(&self, now_unix_s: u64) -> Result<(), TokenError> {
        let now = now_unix_s as f64;
        if now + CLOCK_SKEW_S < self.not_before {
            return Err(TokenError::NotYetValid);
        }
        if self.expiry > 0.0 && now > self.expiry + CLOCK_SKEW_S {
            return Err(TokenError::Expired);
        }
        Ok(())
    }
}

impl<'t> Token<'t> {
    pub fn parse(text: &'t str) -> Result<Self, TokenError> {
        let mut parts = text.split('.').filter(|part| !part.is_empty());
        let (Some(header), Some(payload), Some(signature)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError::BadFormat);
        };
        if text.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Err(TokenError::BadFormat);
        }
        let signed = &text[..header.len() + 1 + payload.len()];
        let header = decode_base64(header).ok_or(TokenError::HeaderBase64)?;
        let header: Map<String, Value> =
            serde_json::from_slice(&header).map_err(|_| TokenError::HeaderJson)?;
        let algorithm = header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm.ok_or(TokenError::Algorithm)?;
        let scheme = algorithm
            .parse()
            .map_err(|_| TokenError::UnknownAlgorithm)?;
        let key_id = text_field(&header, "kid", TokenError::KeyId)?.unwrap_or_default();
        let fields = decode_base64(payload).ok_or(TokenError::PayloadBase64)?;
        let fields: Map<String, Value> =
            serde_json::from_slice(&fields).map_err(|_| TokenError::PayloadJson)?;
        text_field(&fields, "iss", TokenError::Issuer)?;
        text_field(&fields, "sub", TokenError::Subject)?;
        number_field(&fields, "iat", TokenError::IssuedAt)?;
        let times = Times {
            not_before: number_field(&fields, "nbf", TokenError::NotBefore)?,
            expiry: number_field(&fields, "exp", TokenError::Expiry)?,
        };
        text_field(&fields, "jti", TokenError::TokenId)?;
        if !matches!(fields.get("aud"), None | Some(Value::String(_)))
            && audiences(&fields).is_none()
        {
            return Err(TokenError::Audience);
        }
        decode_base64(signature).ok_or(TokenError::SignatureBase64)?;
        Ok(Self {
            scheme,
            key_id: key_id.to_string(),
            signed,
            payload_base64: payload,
            signature_base64: signature,
            times,
            fields,
        })
    }

    pub fn issuer(&self) -> &str {
        let issuer = self.fields.get("iss").and_then(Value::as_str);
        issuer.unwrap_or_default()
    }
}

/// The texts of a list that holds nothing else.
fn audiences(fields: &Map<String, Value>) -> Option<Vec<&str>> {
    fields
        .get("aud")?
        .as_array()?
        .iter()
        .map(Value::as_str)
        .collect()
}

fn text_field<'f>(
    fields: &'f Map<String, Value>,
    name: &str,
    error: TokenError,
) -> Result<Option<&'f str>, TokenError> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(error),
    }
}

/// A time; 0 where there is none.
fn number_field(
    fields: &Map<String, Value>,
    name: &str,
    error: TokenError,
) -> Result<f64, TokenError> {
    match fields.get(name) {
        None => Ok(0.0),
        Some(value) => value.as_f64().filter(|number| *number >= 0.0).ok_or(error),
    }
}
