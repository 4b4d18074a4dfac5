//! Our end of a connection against rustls, and against itself where rustls would not do what a bad
//! peer does.

use super::*;
use crate::transport::tls_records::MAX_PLAIN_BYTES;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ContentType, RootCertStore, ServerConfig,
    SupportedCipherSuite,
};
use std::io::{Read as _, Write as _};
use std::sync::Arc;

const SUITES: [SupportedCipherSuite; 6] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];
const TLS13: SupportedCipherSuite = SUITES[0];
const TLS12: SupportedCipherSuite = SUITES[3];

fn configs(suite: SupportedCipherSuite) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_string()]).expect("is made");
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    let provider = Arc::new(provider);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("has versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
        .expect("is a certificate");
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("is a root");
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("has versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
}

fn name() -> ServerName<'static> {
    ServerName::try_from("a.example").expect("is a name")
}

fn session(handshake: Handshake) -> Session {
    let (records, _, rest) = handshake.finish().expect("is done");
    Session::new(records, rest)
}

/// Ours as a server, and rustls as its client, which has sent `early` along with its last message.
fn with_client(suite: SupportedCipherSuite, early: &[u8]) -> (Session, ClientConnection) {
    let (server, client) = configs(suite);
    let mut client = ClientConnection::new(client, name()).expect("begins");
    let server = UnbufferedServerConnection::new(server).expect("begins");
    let mut ours = Handshake::new(server.into());
    client.writer().write_all(early).expect("is kept");
    loop {
        let mut out = Vec::new();
        let is_done = ours.advance(&sent_by(&mut client), &mut out);
        give(&mut client, &out);
        if is_done.expect("goes on") {
            return (session(ours), client);
        }
    }
}

/// Ours at both ends: the server and the client.
fn pair(suite: SupportedCipherSuite) -> (Session, Session) {
    let (server, client) = configs(suite);
    let server = UnbufferedServerConnection::new(server).expect("begins");
    let client = UnbufferedClientConnection::new(client, name()).expect("begins");
    let (mut server, mut client) = (Handshake::new(server.into()), Handshake::new(client.into()));
    let mut to_client = Vec::new();
    loop {
        let mut to_server = Vec::new();
        let client_done = client.advance(&to_client, &mut to_server).expect("goes on");
        to_client.clear();
        let server_done = server.advance(&to_server, &mut to_client).expect("goes on");
        if client_done && server_done {
            let (server, mut client) = (session(server), session(client));
            // Tickets.
            assert_eq!(receive(&mut client, &to_client), b"");
            return (server, client);
        }
    }
}

fn sent_by(client: &mut ClientConnection) -> Vec<u8> {
    let mut sent = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut sent).expect("is written");
    }
    sent
}

/// What the client encrypts of `bytes`.
fn encrypted_by(client: &mut ClientConnection, bytes: &[u8]) -> Vec<u8> {
    client.set_buffer_limit(None);
    client.writer().write_all(bytes).expect("is written");
    sent_by(client)
}

/// Gives the client what came, and returns what it decrypts.
fn give(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("is read");
        let state = client.process_new_packets().expect("is right");
        let mut more = vec![0; state.plaintext_bytes_to_read()];
        client.reader().read_exact(&mut more).expect("is there");
        plain.extend(more);
    }
    plain
}

/// All that one read gives us.
fn receive(session: &mut Session, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    assert!(session.received.is_empty());
    session.received = Chunk::copy_of(bytes);
    while !session.received.is_empty() {
        let _ = session.decrypt();
        plain.extend_from_slice(&std::mem::take(&mut session.plain));
    }
    plain
}

fn seal(session: &mut Session, head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let sealed = session.records.seal(head, body, &mut out);
    assert_eq!(sealed, Ok(()));
    out
}

fn failed(session: &Session) -> bool {
    matches!(session.end, Some(End::Failed(io::ErrorKind::InvalidData)))
}

/// The alert that the peer reads in what waits to be sent.
fn complaint(session: &mut Session, client: &mut ClientConnection) -> AlertDescription {
    let mut out = Vec::new();
    session.records.take_answer(&mut out);
    client.read_tls(&mut &out[..]).expect("is read");
    match client.process_new_packets() {
        Err(rustls::Error::AlertReceived(alert)) => alert,
        other => panic!("{other:?}"),
    }
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn both_sides_understand_each_other_with_every_suite() {
    for suite in SUITES {
        let (mut ours, mut client) = with_client(suite, b"");
        for round in 0..3 {
            let sent = encrypted_by(&mut client, b"a question");
            assert_eq!(
                receive(&mut ours, &sent),
                b"a question",
                "{suite:?} {round}"
            );
            let sent = seal(&mut ours, b"head,", b"body");
            assert_eq!(give(&mut client, &sent), b"head,body", "{suite:?} {round}");
        }
        let (mut server, mut client) = pair(suite);
        let sent = seal(&mut client, b"", b"a question");
        assert_eq!(receive(&mut server, &sent), b"a question");
        let sent = seal(&mut server, b"an answer", b"");
        assert_eq!(receive(&mut client, &sent), b"an answer");
    }
}

#[test]
fn head_and_body_are_one_record() {
    let (mut ours, _) = with_client(TLS13, b"");
    let sent = seal(&mut ours, b"head", b"body");
    assert_eq!(record_len(&sent), Ok(Some(sent.len())));
    // Header, content type and tag.
    assert_eq!(sent.len(), HEADER_BYTES + 8 + 1 + 16);
}

#[test]
fn a_record_may_be_cut_anywhere() {
    for suite in [TLS13, TLS12] {
        let (mut ours, mut client) = with_client(suite, b"");
        let records = |client: &mut ClientConnection| {
            let mut sent = encrypted_by(client, b"one record");
            sent.extend(encrypted_by(client, b", and one more"));
            sent
        };
        let length = records(&mut with_client(suite, b"").1).len();
        for cut in 0..=length {
            let sent = records(&mut client);
            let mut plain = receive(&mut ours, &sent[..cut]);
            plain.extend(receive(&mut ours, &sent[cut..]));
            assert_eq!(
                plain, b"one record, and one more",
                "{suite:?}, cut at {cut}"
            );
            assert_eq!(ours.partial.capacity(), 0, "nothing is kept without need");
        }
        let sent = encrypted_by(&mut client, b"byte by byte");
        let plain = sent.iter().flat_map(|byte| receive(&mut ours, &[*byte]));
        assert_eq!(plain.collect::<Vec<u8>>(), b"byte by byte");
    }
}

#[test]
fn records_of_one_read_are_joined_where_they_lie() {
    let (mut ours, mut client) = with_client(TLS13, b"");
    let mut sent = Vec::new();
    for part in [&b"one "[..], b"two ", b"three"] {
        sent.extend(encrypted_by(&mut client, part));
    }
    ours.received = Chunk::copy_of(&sent);
    let place = ours.received.as_ptr();
    assert!(ours.decrypt() == Decrypted::Done);
    assert_eq!(&*ours.plain, b"one two three");
    assert_eq!(ours.plain.as_ptr(), place.wrapping_add(HEADER_BYTES));
    // Not where another chunk sees the same bytes.
    let sent = encrypted_by(&mut client, b"four");
    ours.received = Chunk::copy_of(&sent);
    let other = ours.received.share();
    assert!(ours.decrypt() == Decrypted::Done);
    assert_eq!((&*ours.plain, &*other), (&b"four"[..], &sent[..]));
}

#[test]
fn long_bodies_pass_in_records_as_large_as_may_be() {
    let body = text(100_000);
    for suite in [TLS13, TLS12] {
        let (mut ours, mut client) = with_client(suite, b"");
        for read in [1, 7_919, 16_384, 32_768, 1 << 20] {
            let sent = encrypted_by(
                &mut client,
                &body[..if read == 1 { 20_000 } else { 100_000 }],
            );
            let plain = sent.chunks(read).flat_map(|part| receive(&mut ours, part));
            assert!(
                body.starts_with(&plain.collect::<Vec<u8>>()),
                "{read} at a time"
            );
        }
        let sent = seal(&mut ours, &body[..99], &body[99..]);
        let (mut at, mut records) = (0, 0);
        while let Ok(Some(len)) = record_len(&sent[at..]) {
            at += len;
            records += 1;
        }
        assert_eq!(
            (at, records),
            (sent.len(), body.len().div_ceil(MAX_PLAIN_BYTES))
        );
        assert_eq!(give(&mut client, &sent), body);
    }
}

#[test]
fn data_that_comes_with_the_end_of_the_handshake_is_not_lost() {
    for suite in [TLS13, TLS12] {
        let (mut ours, mut client) = with_client(suite, b"first");
        assert!(ours.has_news() || suite == TLS12);
        let _ = ours.decrypt();
        let mut plain = ours.plain.to_vec();
        plain.extend(receive(&mut ours, &sent_by(&mut client)));
        assert_eq!(plain, b"first");
    }
}

#[test]
fn peers_may_change_their_keys() {
    let (mut ours, mut client) = with_client(TLS13, b"");
    for round in 0..40 {
        // Between two records, and once without our having sent anything since.
        let mut sent = encrypted_by(&mut client, b"old");
        client.refresh_traffic_keys().expect("may");
        sent.extend(encrypted_by(&mut client, b", new"));
        assert_eq!(receive(&mut ours, &sent), b"old, new", "{round}");
        if round % 2 == 1 {
            let sent = seal(&mut ours, b"an ", b"answer");
            assert_eq!(give(&mut client, &sent), b"an answer", "{round}");
        }
    }
}

#[test]
fn who_does_nothing_but_change_keys_is_shut_out() {
    let (mut ours, mut client) = with_client(TLS13, b"");
    for _ in 0..32 {
        client.refresh_traffic_keys().expect("may");
        assert_eq!(receive(&mut ours, &sent_by(&mut client)), b"");
        assert!(ours.end.is_none());
    }
    client.refresh_traffic_keys().expect("may");
    receive(&mut ours, &sent_by(&mut client));
    assert!(failed(&ours));
    assert_eq!(
        complaint(&mut ours, &mut client),
        AlertDescription::UnexpectedMessage
    );
}

#[test]
fn our_key_is_changed_before_it_has_sealed_too_much() {
    let (mut ours, mut client) = with_client(TLS13, b"");
    ours.records.limit_keys(5);
    for round in 0..30 {
        let sent = seal(&mut ours, b"head", b"");
        assert_eq!(give(&mut client, &sent), b"head", "{round}");
        // The client's answer to a request for new keys comes along.
        let sent = encrypted_by(&mut client, b"next");
        assert_eq!(receive(&mut ours, &sent), b"next", "{round}");
    }
    let (mut ours, mut client) = with_client(TLS12, b"");
    ours.records.limit_keys(5);
    let mut out = Vec::new();
    while ours.records.seal(b"head", b"", &mut out).is_ok() {}
    assert_eq!(give(&mut client, &out), b"headheadhead");
    let state = client.process_new_packets().expect("is right");
    assert!(state.peer_has_closed());
}

#[test]
fn nothing_counts_that_follows_a_goodbye() {
    let (mut ours, mut client) = with_client(TLS13, b"");
    let mut sent = encrypted_by(&mut client, b"the last");
    client.send_close_notify();
    sent.extend(sent_by(&mut client));
    sent.extend([b'x'; 100]);
    assert_eq!(receive(&mut ours, &sent), b"the last");
    assert!(matches!(ours.end, Some(End::Closed)));
    // Our side goes on until it is closed, too.
    let mut sent = seal(&mut ours, b"goes on", b"");
    ours.records.say_goodbye(&mut sent);
    let length = sent.len();
    ours.records.say_goodbye(&mut sent);
    assert_eq!(sent.len(), length, "once is enough");
    assert_eq!(give(&mut client, &sent), b"goes on");
    let state = client.process_new_packets().expect("is right");
    assert!(state.peer_has_closed());
}

#[test]
fn what_was_tampered_with_is_refused_and_what_came_before_is_not() {
    for cut in [0, 1, 30] {
        let (mut ours, mut client) = with_client(TLS13, b"");
        let mut sent = encrypted_by(&mut client, b"right");
        let length = sent.len();
        sent.extend(encrypted_by(&mut client, b"wrong"));
        sent[length + 7] ^= 1;
        let mut plain = receive(&mut ours, &sent[..cut]);
        plain.extend(receive(&mut ours, &sent[cut..]));
        assert_eq!(plain, b"right");
        assert!(failed(&ours));
        let alert = complaint(&mut ours, &mut client);
        assert_eq!(alert, AlertDescription::BadRecordMac);
    }
}

#[test]
fn headers_are_judged_before_the_rest_is_there() {
    for (header, alert) in [
        ([23, 3, 3, 0x48, 1], AlertDescription::RecordOverflow),
        ([20, 3, 3, 0, 0], AlertDescription::UnexpectedMessage),
        ([21, 3, 3, 0, 0], AlertDescription::UnexpectedMessage),
        ([23, 3, 3, 0, 0], AlertDescription::BadRecordMac),
    ] {
        for cut in 0..header.len() {
            let (mut ours, mut client) = with_client(TLS13, b"");
            receive(&mut ours, &header[..cut]);
            receive(&mut ours, &header[cut..]);
            assert!(failed(&ours), "{header:?}");
            assert_eq!(complaint(&mut ours, &mut client), alert, "{header:?}");
        }
    }
}

/// What a peer would send that seals this.
fn put(session: &mut Session, kind: ContentType, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let put = session.records.put(kind, [payload, &[]], &mut out);
    assert_eq!(put, Ok(()));
    out
}

#[test]
fn records_without_content_are_not_endless() {
    let (mut server, mut client) = pair(TLS13);
    for round in 0..100 {
        let sent = put(&mut client, ContentType::ApplicationData, b"");
        assert_eq!(receive(&mut server, &sent), b"");
        if round == 31 {
            assert!(server.end.is_none());
            let sent = seal(&mut client, b"something", b"");
            assert_eq!(receive(&mut server, &sent), b"something");
        }
        if server.end.is_some() {
            assert_eq!(round, 64);
            return;
        }
    }
    panic!("they are endless");
}

#[test]
fn messages_may_come_in_parts_with_nothing_in_between() {
    let (mut server, mut client) = pair(TLS13);
    let update = [24, 0, 0, 1, 0];
    let mut sent = put(&mut client, ContentType::Handshake, &update[..2]);
    sent.extend(put(&mut client, ContentType::Handshake, &update[2..]));
    assert_eq!(receive(&mut server, &sent), b"");
    assert!(server.end.is_none());
    let (mut server, mut client) = pair(TLS13);
    let mut sent = put(&mut client, ContentType::Handshake, &update[..2]);
    sent.extend(seal(&mut client, b"between", b""));
    assert_eq!(receive(&mut server, &sent), b"");
    assert!(failed(&server));
}

#[test]
fn messages_that_have_no_place_end_the_connection() {
    let refused: [(SupportedCipherSuite, ContentType, &[u8]); 12] = [
        // Something after a change of keys in the same record, no such request, no request.
        (TLS13, ContentType::Handshake, &[24, 0, 0, 1, 0, 24]),
        (TLS13, ContentType::Handshake, &[24, 0, 0, 1, 2]),
        (TLS13, ContentType::Handshake, &[24, 0, 0, 0]),
        // A ticket for a server, a greeting, and more than a message may be.
        (TLS13, ContentType::Handshake, &[4, 0, 0, 1, 0]),
        (TLS13, ContentType::Handshake, &[1, 0, 0, 1, 0]),
        (TLS13, ContentType::Handshake, &[24, 1, 0, 0]),
        // Warnings that TLS 1.3 does not have, a level that is none, half an alert, a failure.
        (TLS13, ContentType::Alert, &[1, 100]),
        (TLS13, ContentType::Alert, &[3, 10]),
        (TLS13, ContentType::Alert, &[1]),
        (TLS13, ContentType::Alert, &[2, 40]),
        (TLS12, ContentType::Handshake, &[24, 0, 0, 1, 0]),
        (TLS12, ContentType::ChangeCipherSpec, &[1]),
    ];
    for (suite, kind, payload) in refused {
        let (mut server, mut client) = pair(suite);
        let sent = put(&mut client, kind, payload);
        assert_eq!(receive(&mut server, &sent), b"");
        assert!(failed(&server), "{kind:?} {payload:?}");
    }
}

#[test]
fn warnings_are_borne_for_a_while() {
    for (suite, warning) in [
        (TLS13, AlertDescription::UserCanceled),
        (TLS12, AlertDescription::UnrecognisedName),
    ] {
        let (mut server, mut client) = pair(suite);
        for round in 0..5 {
            assert!(server.end.is_none(), "{round}");
            let sent = put(&mut client, ContentType::Alert, &[1, warning.into()]);
            receive(&mut server, &sent);
        }
        assert!(failed(&server));
    }
}

#[test]
fn a_second_handshake_is_declined_once() {
    let (mut server, mut client) = pair(TLS12);
    let hello = put(&mut server, ContentType::Handshake, &[0, 0, 0, 0]);
    client.received = Chunk::copy_of(&hello);
    assert!(client.decrypt() == Decrypted::MustAnswer);
    let mut out = Vec::new();
    client.records.take_answer(&mut out);
    assert_eq!(receive(&mut server, &out), b"");
    assert!(server.end.is_none(), "a warning is no end");
    let sent = seal(&mut server, b"goes on", b"");
    assert_eq!(receive(&mut client, &sent), b"goes on");
    let hello = put(&mut server, ContentType::Handshake, &[0, 0, 0, 0]);
    receive(&mut client, &hello);
    assert!(failed(&client));
}

#[test]
fn whatever_is_damaged_on_the_way_only_what_was_before_it_arrives() {
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        // Knuth's generator; its high bits are good enough.
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as usize % below
    };
    for round in 0..400 {
        let suite = SUITES[round % SUITES.len()];
        let (mut ours, mut client) = with_client(suite, b"");
        let (mut sent, mut plain) = (Vec::new(), Vec::new());
        for _ in 0..1 + random(5) {
            let part = text(random(3000));
            sent.extend(encrypted_by(&mut client, &part));
            plain.extend(part);
        }
        let damage = random(sent.len().max(1));
        let is_damaged = !sent.is_empty() && round % 4 > 0;
        match round % 4 {
            _ if !is_damaged => {}
            1 => sent[damage] ^= 1 << random(8),
            2 => drop(sent.remove(damage)),
            _ => sent.insert(damage, random(256) as u8),
        }
        let (mut got, mut rest) = (Vec::new(), &sent[..]);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(1 + random(rest.len()));
            got.extend(receive(&mut ours, now));
            rest = later;
        }
        assert!(plain.starts_with(&got), "{round}: {suite:?}");
        assert!(is_damaged || got == plain, "{round}: {suite:?}");
    }
}
