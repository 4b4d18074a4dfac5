//! ES512, the kind of signature that the library for tokens does not have.

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use ringroad_policy::authenticate::{KeySet, TokenCache, TokenError};
use ringroad_policy::snapshot::{ConnectionFacts, RequestFacts};
use serde_json::{Value, json};
use tokens::{Signer, base64url};

/// The principal of a token by a set of keys.
fn verdict(keys: &str, token: &str) -> Result<Option<String>, TokenError> {
    let document = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens"},
        "spec": {"jwtRules": [{"issuer": "me", "audiences": ["shop"], "jwks": keys}]},
    });
    let access = support::snapshot(&format!("---\n{document}\n")).access;
    let rules = access
        .expect("rules")
        .authentication
        .clone()
        .expect("rules");
    let headers = vec![("authorization", format!("Bearer {token}"))];
    let facts = RequestFacts {
        method: "GET",
        scheme: "http",
        authority: "a.example",
        path: "/",
        query: None,
        headers: &headers,
        connection: ConnectionFacts::UNKNOWN,
        claims: None,
    };
    let found = rules.authenticate(&facts, 1_800_000_000, &mut TokenCache::new(0))?;
    Ok(found
        .token
        .map(|token| token.claims.principal().unwrap_or("-").to_string()))
}

/// Signed with ES512 by OpenSSL.
const ES512_TOKEN: &str = "eyJhbGciOiAiRVM1MTIiLCAia2lkIjogImZpdmUifQ\
    .eyJpc3MiOiAibWUiLCAic3ViIjogInlvdSIsICJhdWQiOiAic2hvcCJ9\
    .AVT4iYd4fN6W-eD8hXUtKndzZVYHfDSmWbhTcPPkDP7jgYdyz1B2g7IHptcjbS1vt46AeZAaYbODpZmS8Mo93eWYAPZt\
    lNDCbfgXL5jVZsjBBORJlfl9B7P85glPIrSO3iRko3zx9xqAjHZhMFvgP_AHEKGJ2U3CFQHZiVeZobd68os0";
/// The coordinates of its public key.
const P521_X: &str =
    "APaTjwqUroaEajnZTTeifkBrk4FWy9eLuRn9U78kFoBtB4ZtlR1I0TS1BX427lGfm7D-l1S7RKVvbO1Ci8-Xe6dD";
const P521_Y: &str =
    "ACHCqaEb5A9ePwBBL3PEq5e_LH2aSmThC4NwyP83XNnnBPbEjavjWzpqQS0IcZUMw4wErdQijyp3MXbjEB9rYGeO";

#[test]
fn es512_is_verified_with_keys_on_p_521_and_with_no_others() {
    let set = |key: &Value| json!({"keys": [key]}).to_string();
    let key = json!({"kty": "EC", "crv": "P-521", "kid": "five", "x": P521_X, "y": P521_Y});
    let found = verdict(&set(&key), ES512_TOKEN);
    assert_eq!(found, Ok(Some("me/you".to_string())));

    let (signed, signature) = ES512_TOKEN.rsplit_once('.').expect("a token");
    let (header, payload) = signed.split_once('.').expect("a token");
    let claims = base64url(br#"{"iss": "me", "sub": "root", "aud": "shop"}"#);
    let zeros = base64url(&[0; 132]);
    let other_algorithm = base64url(br#"{"alg": "ES256", "kid": "five"}"#);
    for forged in [
        format!("{header}.{claims}.{signature}"),
        format!("{signed}.{zeros}"),
        format!("{signed}.{}", &signature[..88]),
        format!("{other_algorithm}.{payload}.{signature}"),
    ] {
        let error = verdict(&set(&key), &forged).expect_err("forged");
        assert_eq!(error, TokenError::Verification, "{forged}");
    }
    let of_another_kind = Signer::ec_p256("five").key_set();
    let error = verdict(&of_another_kind, ES512_TOKEN).expect_err("another key");
    assert!(
        matches!(error, TokenError::Verification | TokenError::NoSuchKey),
        "{error:?}"
    );

    // A point that is not on the curve is no key.
    let off = json!({"kty": "EC", "crv": "P-521", "kid": "five", "x": P521_Y, "y": P521_X});
    assert!(KeySet::parse(&set(&off)).expect("a set").is_empty());
}
