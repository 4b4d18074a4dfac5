//! What can be wrong with a token. Texts are Envoy's, which clients and tests know.

/// The first thing that is wrong with a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    Missing,
    NotYetValid,
    Expired,
    BadFormat,
    HeaderBase64,
    HeaderJson,
    Algorithm,
    UnknownAlgorithm,
    KeyId,
    PayloadBase64,
    PayloadJson,
    Issuer,
    Subject,
    IssuedAt,
    NotBefore,
    Expiry,
    TokenId,
    Audience,
    SignatureBase64,
    UnknownIssuer,
    AudienceNotAllowed,
    Verification,
    NoKeys,
    NoSuchKey,
}

impl TokenError {
    /// Status of the answer.
    pub fn status(self) -> u16 {
        match self {
            Self::AudienceNotAllowed => 403,
            _ => 401,
        }
    }

    /// The text of the answer, and Envoy's response code detail.
    pub fn text_and_details(self) -> (&'static str, &'static str) {
        macro_rules! texts {
            ($($kind:ident: $text:literal, $details:literal;)*) => {
                match self {
                    $(Self::$kind => ($text, concat!("jwt_authn_access_denied{", $details, "}")),)*
                }
            };
        }
        texts! {
            Missing: "Jwt is missing", "Jwt_is_missing";
            NotYetValid: "Jwt not yet valid", "Jwt_not_yet_valid";
            Expired: "Jwt is expired", "Jwt_is_expired";
            BadFormat: "Jwt is not in the form of Header.Payload.Signature with two dots and 3 \
                sections", "Jwt_is_not_in_the_form_of_Header.Payload.Signature_with_two_dots_and_3_sections";
            HeaderBase64: "Jwt header is an invalid Base64url encoded",
                "Jwt_header_is_an_invalid_Base64url_encoded";
            HeaderJson: "Jwt header is an invalid JSON", "Jwt_header_is_an_invalid_JSON";
            Algorithm: "Jwt header [alg] field is required and must be a string",
                "Jwt_header_[alg]_field_is_required_and_must_be_a_string";
            UnknownAlgorithm: "Jwt header [alg] is not supported",
                "Jwt_header_[alg]_is_not_supported";
            KeyId: "Jwt header [kid] field is not a string",
                "Jwt_header_[kid]_field_is_not_a_string";
            PayloadBase64: "Jwt payload is an invalid Base64url encoded",
                "Jwt_payload_is_an_invalid_Base64url_encoded";
            PayloadJson: "Jwt payload is an invalid JSON", "Jwt_payload_is_an_invalid_JSON";
            Issuer: "Jwt payload [iss] field is not a string",
                "Jwt_payload_[iss]_field_is_not_a_string";
            Subject: "Jwt payload [sub] field is not a string",
                "Jwt_payload_[sub]_field_is_not_a_string";
            IssuedAt: "Jwt payload [iat] field is not an integer",
                "Jwt_payload_[iat]_field_is_not_an_integer";
            NotBefore: "Jwt payload [nbf] field is not an integer",
                "Jwt_payload_[nbf]_field_is_not_an_integer";
            Expiry: "Jwt payload [exp] field is not an integer",
                "Jwt_payload_[exp]_field_is_not_an_integer";
            TokenId: "Jwt payload [jti] field is not a string",
                "Jwt_payload_[jti]_field_is_not_a_string";
            Audience: "Jwt payload [aud] field is not a string or string list",
                "Jwt_payload_[aud]_field_is_not_a_string_or_string_list";
            SignatureBase64: "Jwt signature is an invalid Base64url encoded",
                "Jwt_signature_is_an_invalid_Base64url_encoded";
            UnknownIssuer: "Jwt issuer is not configured", "Jwt_issuer_is_not_configured";
            AudienceNotAllowed: "Audiences in Jwt are not allowed",
                "Audiences_in_Jwt_are_not_allowed";
            Verification: "Jwt verification fails", "Jwt_verification_fails";
            NoKeys: "Jwks doesn't have any valid public key",
                "Jwks_doesn't_have_any_valid_public_key";
            NoSuchKey: "Jwks doesn't have key to match kid or alg from Jwt",
                "Jwks_doesn't_have_key_to_match_kid_or_alg_from_Jwt";
        }
    }
}
