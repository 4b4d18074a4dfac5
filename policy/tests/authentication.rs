//! Tokens and RequestAuthentication: which tokens count, what is said of those that do not, and
//! what becomes of those that do.

mod support;
#[path = "support/tokens.rs"]
mod tokens;

use std::sync::Arc;

use proptest::prelude::*;
use ringroad_policy::authenticate::{
    Authenticated, Authentication, KeySet, KeySource, TokenCache, TokenError,
};
use ringroad_policy::snapshot::{ConnectionFacts, KeyTable, RequestFacts};
use serde_json::{Value, json};
use tokens::{Signer, base64url};

const NOW: u64 = 1_800_000_000;

fn document(rules: &Value) -> String {
    let document = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens"},
        "spec": {"jwtRules": rules},
    });
    format!("---\n{document}\n")
}

fn compile(rules: &Value) -> Authentication {
    let access = support::snapshot(&document(rules)).access.expect("rules");
    access.authentication.clone().expect("rules")
}

fn one_rule(signer: &Signer) -> Authentication {
    compile(&json!([{"issuer": "me", "audiences": ["shop"], "jwks": signer.key_set()}]))
}

fn claims() -> Value {
    json!({"iss": "me", "sub": "you", "aud": "shop", "exp": NOW + 600})
}

struct Request<'a> {
    method: &'a str,
    query: Option<&'a str>,
    headers: Vec<(&'a str, String)>,
}

fn bearer(token: &str) -> Request<'static> {
    Request {
        method: "GET",
        query: None,
        headers: vec![("authorization", format!("Bearer {token}"))],
    }
}

fn ask<'r>(
    rules: &'r Authentication,
    request: &Request<'_>,
    cache: &mut TokenCache,
    now: u64,
) -> Result<Authenticated<'r>, TokenError> {
    let facts = RequestFacts {
        method: request.method,
        scheme: "http",
        authority: "a.example",
        path: "/",
        query: request.query,
        headers: &request.headers,
        connection: ConnectionFacts::UNKNOWN,
        claims: None,
    };
    rules.authenticate(&facts, now, cache)
}

fn verdict(rules: &Authentication, request: &Request<'_>) -> Result<Option<String>, TokenError> {
    let result = ask(rules, request, &mut TokenCache::new(0), NOW)?;
    Ok(result
        .token
        .map(|token| token.claims.principal().unwrap_or("-").to_string()))
}

#[test]
fn every_kind_of_key_verifies_its_own_algorithms_and_no_other() {
    let signers = [
        Signer::ec_p256("a"),
        Signer::ec_p384("b"),
        Signer::ed25519("c"),
        Signer::rsa("d", "RS256"),
        Signer::rsa("e", "RS512"),
        Signer::rsa("f", "PS256"),
        Signer::rsa("g", "PS384"),
        Signer::shared("h", "HS256"),
    ];
    for signer in &signers {
        let rules = one_rule(signer);
        let token = signer.sign(&claims());
        let found = verdict(&rules, &bearer(&token));
        assert_eq!(
            found,
            Ok(Some("me/you".to_string())),
            "{}",
            signer.algorithm()
        );
        for other in signers.iter().filter(|other| other.id() != signer.id()) {
            // Another key, under the name of the right one.
            let forged = other.sign_as(signer.id(), &claims());
            let error = verdict(&rules, &bearer(&forged)).expect_err("forged");
            let expected = [TokenError::Verification, TokenError::NoSuchKey];
            assert!(
                expected.contains(&error) || other.is_same_key(signer),
                "{error:?}"
            );
        }
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let rsa = Signer::rsa("k", "RS256");
    let without_algorithm = {
        let mut set: Value = serde_json::from_str(&rsa.key_set()).expect("JSON");
        set["keys"][0].as_object_mut().expect("a key").remove("alg");
        set.to_string()
    };
    let rules = compile(&json!([{"issuer": "me", "jwks": without_algorithm}]));
    // The modulus as sent in the key set, and the set itself, as secrets of HS256.
    for secret in [rsa.modulus(), without_algorithm.into_bytes()] {
        let forged = Signer::with_secret("k", &secret).sign(&claims());
        assert_eq!(
            verdict(&rules, &bearer(&forged)),
            Err(TokenError::Verification)
        );
    }
    let unsigned = format!(
        "{}.{}.x",
        base64url(br#"{"alg":"none","kid":"k"}"#),
        base64url(claims().to_string().as_bytes())
    );
    assert_eq!(
        verdict(&rules, &bearer(&unsigned)),
        Err(TokenError::UnknownAlgorithm)
    );
}

#[test]
fn what_is_wrong_is_said_in_envoys_words() {
    let signer = Signer::ec_p256("a");
    let rules = one_rule(&signer);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        signer.sign(&claims)
    };
    let good = signer.sign(&claims());
    let (signed, _) = good.rsplit_once('.').expect("dots");
    let other_payload = good.replacen(
        good.split('.').nth(1).expect("a payload"),
        &base64url(json!({"iss": "me", "aud": "shop"}).to_string().as_bytes()),
        1,
    );
    let header = |json: &str| {
        format!(
            "{}.{}",
            base64url(json.as_bytes()),
            &good[good.find('.').expect("a dot") + 1..]
        )
    };
    let cases = [
        (
            "nonsense".to_string(),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        (
            format!("{good}.x"),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        (format!("!{good}"), 401, "Jwt verification fails"),
        (
            format!("a!{good}"),
            401,
            "Jwt header is an invalid Base64url encoded",
        ),
        (header("[]"), 401, "Jwt header is an invalid JSON"),
        (
            header("{}"),
            401,
            "Jwt header [alg] field is required and must be a string",
        ),
        (
            header("{\"alg\":\"XS256\"}"),
            401,
            "Jwt header [alg] is not supported",
        ),
        (
            header("{\"alg\":\"ES256\",\"kid\":1}"),
            401,
            "Jwt header [kid] field is not a string",
        ),
        (
            header("{\"alg\":\"ES256\",\"kid\":\"z\"}"),
            401,
            "Jwks doesn't have key to match kid or alg from Jwt",
        ),
        (format!("{signed}.AAAA"), 401, "Jwt verification fails"),
        (other_payload, 401, "Jwt verification fails"),
        (with("exp", json!(NOW - 61)), 401, "Jwt is expired"),
        (with("nbf", json!(NOW + 61)), 401, "Jwt not yet valid"),
        (
            with("exp", json!("soon")),
            401,
            "Jwt payload [exp] field is not an integer",
        ),
        (
            with("iss", json!("them")),
            401,
            "Jwt issuer is not configured",
        ),
        (
            with("iss", json!(1)),
            401,
            "Jwt payload [iss] field is not a string",
        ),
        (
            with("aud", json!("other")),
            403,
            "Audiences in Jwt are not allowed",
        ),
        (
            with("aud", json!(["other", "more"])),
            403,
            "Audiences in Jwt are not allowed",
        ),
        (
            with("aud", json!([1])),
            401,
            "Jwt payload [aud] field is not a string or string list",
        ),
    ];
    for (token, status, text) in cases {
        match verdict(&rules, &bearer(&token)) {
            // What may not stand in a token before its first character is passed over.
            Ok(_) if token.starts_with('!') => {}
            Ok(found) => panic!("{token} passes as {found:?}"),
            Err(error) => {
                assert_eq!(error.text_and_details().0, text, "{token}");
                assert_eq!(error.status(), status);
                let details = format!("jwt_authn_access_denied{{{}}}", text.replace(' ', "_"));
                assert_eq!(error.text_and_details().1, details);
            }
        }
    }
    // Clocks may differ by a minute.
    for token in [with("exp", json!(NOW - 59)), with("nbf", json!(NOW + 59))] {
        assert!(verdict(&rules, &bearer(&token)).is_ok());
    }
    // Scheme and last slash of an audience do not count.
    assert!(verdict(&rules, &bearer(&with("aud", json!(["x", "https://shop/"])))).is_ok());
}

#[test]
fn a_missing_token_passes_and_so_does_a_preflight() {
    let rules = one_rule(&Signer::ec_p256("a"));
    let none = Request {
        method: "GET",
        query: Some("q=1"),
        headers: Vec::new(),
    };
    assert_eq!(verdict(&rules, &none), Ok(None));
    let mut preflight = bearer("nonsense");
    preflight.method = "OPTIONS";
    assert!(
        verdict(&rules, &preflight).is_err(),
        "only with the headers of a preflight"
    );
    preflight.headers.push(("origin", "https://a".to_string()));
    preflight
        .headers
        .push(("access-control-request-method", "GET".to_string()));
    assert_eq!(verdict(&rules, &preflight), Ok(None));
}

#[test]
fn tokens_are_found_where_a_rule_says_and_nowhere_else() {
    let signer = Signer::ec_p256("a");
    let token = signer.sign(&claims());
    let places = compile(&json!([{
        "issuer": "me", "jwks": signer.key_set(),
        "fromHeaders": [{"name": "X-Token"}, {"name": "x-other", "prefix": "Token "}],
        "fromParams": ["t"], "fromCookies": ["c"],
    }]));
    let standard = one_rule(&signer);
    let header = |name: &'static str, value: String| Request {
        method: "GET",
        query: None,
        headers: vec![(name, value)],
    };
    let query = format!("a=b&t={token}");
    let escaped = format!("%74={}", token.replace('.', "%2E"));
    let found = [
        header("x-token", token.clone()),
        header("x-other", format!("Token {token}")),
        header("cookie", format!("a=b; c={token}")),
        Request {
            method: "GET",
            query: Some(&query),
            headers: Vec::new(),
        },
        Request {
            method: "GET",
            query: Some(&escaped),
            headers: Vec::new(),
        },
    ];
    for request in &found {
        assert_eq!(verdict(&places, request), Ok(Some("me/you".to_string())));
        assert_eq!(verdict(&standard, request), Ok(None));
    }
    assert_eq!(verdict(&places, &bearer(&token)), Ok(None));
    let query = format!("access_token={token}");
    let request = Request {
        method: "GET",
        query: Some(&query),
        headers: Vec::new(),
    };
    assert!(matches!(verdict(&standard, &request), Ok(Some(_))));
}

#[test]
fn a_good_token_does_not_cover_for_a_bad_one() {
    let signer = Signer::ec_p256("a");
    let rules = one_rule(&signer);
    let good = signer.sign(&claims());
    for (first, second) in [("nonsense", good.as_str()), (&good, "nonsense")] {
        let mut request = bearer(first);
        request
            .headers
            .push(("Authorization", format!("Bearer {second}")));
        assert_eq!(verdict(&rules, &request), Err(TokenError::BadFormat));
        let query = format!("access_token={second}");
        let request = Request {
            query: Some(&query),
            ..bearer(first)
        };
        assert_eq!(verdict(&rules, &request), Err(TokenError::BadFormat));
    }
}

#[test]
fn of_several_rules_one_has_to_be_content() {
    let (a, b) = (Signer::ec_p256("a"), Signer::ed25519("b"));
    let rules = compile(&json!([
        {"issuer": "me", "jwks": a.key_set()},
        {"issuer": "them", "jwks": b.key_set()},
    ]));
    let of =
        |signer: &Signer, issuer: &str| bearer(&signer.sign(&json!({"iss": issuer, "sub": "s"})));
    assert_eq!(verdict(&rules, &of(&a, "me")), Ok(Some("me/s".to_string())));
    assert_eq!(
        verdict(&rules, &of(&b, "them")),
        Ok(Some("them/s".to_string()))
    );
    // Each issuer has its own keys.
    assert_eq!(verdict(&rules, &of(&a, "them")), Err(TokenError::NoSuchKey));
    assert_eq!(
        verdict(&rules, &of(&a, "nobody")),
        Err(TokenError::UnknownIssuer)
    );
}

#[test]
fn what_a_token_says_reaches_the_upstream_and_nobody_can_pretend_it() {
    let signer = Signer::ec_p256("a");
    let rules = compile(&json!([{
        "issuer": "me", "jwks": signer.key_set(), "outputPayloadToHeader": "X-Payload",
        "outputClaimToHeaders": [
            {"header": "x-sub", "claim": "sub"},
            {"header": "x-nested", "claim": "a.b"},
            {"header": "x-dotted", "claim": "https://x.example/c"},
            {"header": "x-count", "claim": "count"},
            {"header": "x-list", "claim": "list"},
            {"header": "x-lines", "claim": "lines"},
        ],
    }]));
    let token = signer.sign(&json!({
        "iss": "me", "sub": "you", "a": {"b": true}, "https://x.example/c": "d", "count": 3,
        "list": ["x"], "lines": "a\r\nx-admin: 1",
    }));
    let request = bearer(&token);
    let result = ask(&rules, &request, &mut TokenCache::new(0), NOW).expect("valid");
    let payload = token.split('.').nth(1).expect("a payload").to_string();
    let expected = [
        ("x-payload", payload),
        ("x-sub", "you".to_string()),
        ("x-nested", "true".to_string()),
        ("x-dotted", "d".to_string()),
        ("x-count", "3".to_string()),
    ];
    assert_eq!(result.added_headers, expected);
    assert!(result.removed_headers.contains(&"authorization"));
    let ours = ["x-payload", "x-sub", "x-list", "x-lines"];
    assert!(
        ours.iter()
            .all(|name| result.removed_headers.contains(name))
    );
    // Without a token, what only we write is removed all the same.
    let none = Request {
        method: "GET",
        query: None,
        headers: vec![("x-sub", "admin".to_string())],
    };
    let result = ask(&rules, &none, &mut TokenCache::new(0), NOW).expect("valid");
    assert!(
        ours.iter()
            .all(|name| result.removed_headers.contains(name))
    );
    assert!(result.added_headers.is_empty());
}

#[test]
fn a_forwarded_token_stays_and_a_parameter_goes() {
    let signer = Signer::ec_p256("a");
    let token = signer.sign(&claims());
    let kept = compile(&json!([
        {"issuer": "me", "jwks": signer.key_set(), "forwardOriginalToken": true},
    ]));
    let mut cache = TokenCache::new(0);
    let request = bearer(&token);
    let result = ask(&kept, &request, &mut cache, NOW).expect("valid");
    assert!(result.removed_headers.is_empty());
    let rules = one_rule(&signer);
    let query = format!("a=1&access_token={token}&b=%2F");
    let request = Request {
        method: "GET",
        query: Some(&query),
        headers: Vec::new(),
    };
    let result = ask(&rules, &request, &mut cache, NOW).expect("valid");
    assert_eq!(result.removed_parameters, ["access_token"]);
    let left = ringroad_policy::authenticate::without_parameters(&query, &["access_token"]);
    assert_eq!(left, "a=1&b=%2F");
}

#[test]
fn the_cache_is_bounded_and_asks_for_the_time_each_time() {
    let signer = Signer::ec_p256("a");
    let rules = one_rule(&signer);
    let mut cache = TokenCache::new(20_000);
    let token = signer.sign(&claims());
    let request = bearer(&token);
    for now in [NOW, NOW + 659] {
        assert!(ask(&rules, &request, &mut cache, now).is_ok());
        assert_eq!(cache.len(), 1);
    }
    let late = ask(&rules, &request, &mut cache, NOW + 661);
    assert_eq!(late.expect_err("expired"), TokenError::Expired);
    for number in 0..200 {
        let mut claims = claims();
        claims["jti"] = json!(number.to_string());
        assert!(ask(&rules, &bearer(&signer.sign(&claims)), &mut cache, NOW).is_ok());
        assert!(cache.len() <= 25, "{}", cache.len());
    }
    // The same rule with other keys does not know what was verified with the old ones.
    let other = Arc::new(KeySet::parse(&Signer::ec_p256("a").key_set()).expect("keys"));
    let rotated = rules.with_keys(&|source| (*source == KeySource::Inline).then(|| other.clone()));
    let mut cache = TokenCache::new(20_000);
    assert!(ask(&rules, &request, &mut cache, NOW).is_ok());
    let refused = ask(&rotated, &request, &mut cache, NOW);
    assert_eq!(refused.expect_err("another key"), TokenError::Verification);
}

#[test]
fn until_keys_have_been_fetched_tokens_are_refused() {
    let signer = Signer::ec_p256("a");
    let text = document(&json!([
        {"issuer": "me", "jwksUri": "https://keys.example/a", "timeout": "2s"},
        {"issuer": "them"},
    ]));
    let snapshot = support::snapshot(&text);
    let uri = "https://keys.example/a".to_string();
    let issuer = "them".to_string();
    let sources = [
        KeySource::Uri {
            uri,
            timeout_ms: 2_000,
        },
        KeySource::Issuer {
            issuer,
            timeout_ms: 5_000,
        },
    ];
    assert!(snapshot.key_sources().iter().eq(&sources));
    let rules = |snapshot: &ringroad_policy::snapshot::Snapshot| {
        let access = snapshot.access.clone().expect("rules");
        access.authentication.clone().expect("rules")
    };
    let token = bearer(&signer.sign(&claims()));
    assert_eq!(
        verdict(&rules(&snapshot), &token),
        Err(TokenError::Verification)
    );
    let keys = Arc::new(KeySet::parse(&signer.key_set()).expect("keys"));
    let table = KeyTable::from([(sources[0].clone(), keys)]);
    let found = verdict(&rules(&snapshot.with_keys(&table)), &token);
    assert_eq!(found, Ok(Some("me/you".to_string())));
}

proptest! {
    /// Nothing that a client sends makes the reader stumble, and nothing but a signature passes.
    #[test]
    fn no_text_is_a_token_but_a_signed_one(text in "[ -~]{0,80}", cut in 0_usize..400, byte in any::<u8>()) {
        let signer = Signer::ed25519("a");
        let rules = one_rule(&signer);
        prop_assert!(verdict(&rules, &bearer(&text)).is_err());
        let good = signer.sign(&claims());
        let mut bytes = good.clone().into_bytes();
        let at = cut % bytes.len();
        bytes[at] = byte;
        let changed = String::from_utf8_lossy(&bytes).into_owned();
        if changed != good {
            prop_assert!(verdict(&rules, &bearer(&changed)).is_err(), "{changed}");
        }
    }
}
