//! What of a request is hashed, and the cookie that is made for those that have none.

use ringroad_policy::snapshot::{HashCookie, HashKey, HashPolicy};
use std::net::SocketAddr;

type Headers<'a> = Vec<(&'a str, &'a str)>;

/// XXH64 of `a`, of `abc` and of nothing, with seed 0, as published with the algorithm.
const OF_A: u64 = 0xd24e_c4f1_a98c_6e5b;
const OF_ABC: u64 = 0x44bc_2cf5_ad77_0999;
const OF_NOTHING: u64 = 0xef46_db37_51d8_e999;

fn key(policy: &HashPolicy, headers: &Headers<'_>, query: Option<&str>) -> Option<u64> {
    let key = policy.key(headers, query, None, || None);
    assert_eq!(key.made_cookie, None);
    key.hash
}

#[test]
fn the_values_of_a_header_are_hashed_in_any_order() {
    let policy = HashPolicy::Header("x-key".to_string());
    let of = |headers: Headers<'_>| key(&policy, &headers, None);
    assert_eq!(of(vec![("X-Key", "a")]), Some(OF_A));
    assert_eq!(of(vec![("x-key", "")]), Some(OF_NOTHING));
    assert_eq!(of(vec![("x-other", "a")]), None);
    // Sorted: `a`, then `bc` with the hash of that as its seed.
    const OF_BC_BEHIND_A: u64 = 0x5dca_9114_658e_0844;
    let both = [("x-key", "a"), ("x-key", "bc")];
    assert_eq!(of(both.to_vec()), Some(OF_BC_BEHIND_A));
    assert_eq!(of(both.into_iter().rev().collect()), Some(OF_BC_BEHIND_A));
}

#[test]
fn the_first_value_of_a_parameter_is_hashed_as_it_is_written() {
    let policy = HashPolicy::QueryParameter("k".to_string());
    let of = |query| key(&policy, &Vec::new(), query);
    assert_eq!(of(Some("x=1&k=a&k=b")), Some(OF_A));
    assert_ne!(of(Some("k=%61")), Some(OF_A));
    assert_eq!(of(Some("k")), Some(OF_NOTHING));
    assert_eq!(of(Some("kk=a&K=a")), None);
    assert_eq!(of(None), None);
}

fn cookie(ttl_s: Option<u64>) -> HashCookie {
    HashCookie {
        name: "k".to_string(),
        ttl_s,
        path: String::new(),
        attributes: Vec::new(),
    }
}

#[test]
fn the_first_cookie_of_the_name_is_hashed_without_its_quotes() {
    let policy = HashPolicy::Cookie(cookie(None));
    let of = |lines: &[&str]| {
        let headers = lines.iter().map(|line| ("cookie", *line)).collect();
        key(&policy, &headers, None)
    };
    assert_eq!(of(&["x=1; k=a; k=b"]), Some(OF_A));
    assert_eq!(of(&["x=1", "k=\"abc\""]), Some(OF_ABC));
    assert_eq!(of(&["kk=a; junk;k=a"]), Some(OF_A));
    assert_eq!(of(&["K=a"]), None);
    assert_eq!(of(&["k="]), None);
    assert_eq!(of(&["k=\"\""]), None);
    assert_eq!(of(&[]), None);
}

#[test]
fn a_cookie_is_made_from_both_ends_of_the_connection_and_leads_to_the_same_hash() {
    let policy = HashPolicy::Cookie(cookie(Some(60)));
    let (peer, local): (SocketAddr, SocketAddr) = (
        "10.0.0.1:4000".parse().unwrap(),
        "[2001:db8::1]:80".parse().unwrap(),
    );
    let none: Headers<'_> = Vec::new();
    let make = |peer: SocketAddr| policy.key(&none, None, Some(peer), || Some(local));
    let made = make(peer);
    assert_eq!(make(peer), made);
    assert_ne!(make("10.0.0.1:4001".parse().unwrap()), made);
    let value = made.made_cookie.expect("is made");
    let mut written = Vec::new();
    cookie(Some(60)).write(value, &mut written);
    let written = String::from_utf8(written).unwrap();
    assert_eq!(written, format!("k=\"{value:016x}\"; Max-Age=60; HttpOnly"));
    let sent = format!("k={value:016x}");
    assert_eq!(key(&policy, &vec![("cookie", &sent)], None), made.hash);
}

#[test]
fn a_session_cookie_has_no_age_and_attributes_follow_the_path() {
    let cookie = HashCookie {
        path: "/p".to_string(),
        attributes: vec![
            ("SameSite".to_string(), "Strict".to_string()),
            ("Secure".to_string(), String::new()),
        ],
        ..cookie(Some(0))
    };
    let mut written = Vec::new();
    cookie.write(0xab, &mut written);
    let expected = "k=\"00000000000000ab\"; Path=/p; SameSite=Strict; Secure; HttpOnly";
    assert_eq!(String::from_utf8(written).unwrap(), expected);
}

#[test]
fn the_source_is_the_address_without_its_port_in_its_own_family() {
    let of = |text: &str| {
        let peer: SocketAddr = text.parse().unwrap();
        let by_connection = HashPolicy::SourceIp.key_of_connection(Some(peer));
        let none: Headers<'_> = Vec::new();
        let by_request = HashPolicy::SourceIp.key(&none, None, Some(peer), || None);
        assert_eq!(by_connection, by_request);
        by_connection.hash.expect("is known")
    };
    assert_eq!(of("10.0.0.1:1"), of("10.0.0.1:2"));
    assert_eq!(of("10.0.0.1:1"), of("[::ffff:10.0.0.1]:1"));
    assert_ne!(of("10.0.0.1:1"), of("10.0.0.2:1"));
    assert_eq!(
        HashPolicy::SourceIp.key_of_connection(None),
        HashKey::default()
    );
    // Nobody reads requests on a plain TCP connection.
    let header = HashPolicy::Header("x-key".to_string());
    let peer = Some("10.0.0.1:1".parse().unwrap());
    assert_eq!(header.key_of_connection(peer), HashKey::default());
}
