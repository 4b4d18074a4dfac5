//! Who a request comes from, and whether it may pass.
//!
//! Tokens are verified and policies asked on the head as it will be routed and sent on: whatever a
//! token changes is changed in the head itself before anybody else looks at it.

use super::accept::ChosenChain;
use super::answer::Answer;
use super::check::{CheckEffects, Grant};
use super::connection::Connection;
use super::edits::EditLevels;
use super::request_id::RequestId;
use super::seen_head::SeenHead;
use super::target::with_facts;
use crate::rt::Chunk;
use crate::stats::ListenerStats;
use crate::worker::{Rules, Worker, WorkerLimits};
use ringroad_codec::http1::{
    HeadLimits, HeaderKind, RequestHead, Upgrade, parse_request, write_header,
};
use ringroad_policy::authenticate::{
    Authentication, TokenError, VerifiedToken, without_parameters,
};
use ringroad_policy::authorize::{
    AccessFacts, CheckProvider, CustomDecision, Decision, Denial, Stages, client_address,
};
use ringroad_policy::snapshot::{Access, ConnectionFacts, RequestFacts, path::Normalization};
use std::rc::Rc;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What becomes of a request that policies were asked about.
#[derive(Default)]
pub struct Admission {
    /// The verified token, if there was one.
    pub token: Option<Arc<VerifiedToken>>,
    /// `None`: it may pass.
    pub refusal: Option<Box<Answer>>,
    /// What is left of a check by somebody else.
    pub check: Option<Box<CheckEffects>>,
}

/// A request that came in, and what may be asked for a decision about it.
pub struct Incoming<'a> {
    pub connection: &'a mut Connection,
    pub worker: &'a Rc<Worker>,
    pub rules: &'a Rules,
    pub limits: &'a WorkerLimits,
    /// How it was chosen what the connection carries, if that had to be.
    pub chain: Option<&'a ChosenChain>,
    pub head: &'a mut RequestHead,
    pub bytes: &'a mut Chunk,
    pub request_id: &'a RequestId,
}

impl Incoming<'_> {
    /// The head as it stands by now.
    pub fn seen(&self) -> SeenHead<'_> {
        let came = (&*self.head, &**self.bytes);
        SeenHead::of(
            self.connection,
            self.rules,
            self.chain,
            came,
            self.request_id,
        )
    }
}

/// Longest address in `www-authenticate`. Envoy's limit.
const MAX_REALM_BYTES: usize = 256;

impl Admission {
    pub fn refuse(&mut self, answer: Answer) {
        self.refusal = Some(Box::new(answer));
    }

    /// What a check adds to the answer.
    pub fn response_edits(&self) -> EditLevels<'_> {
        self.edits_after(EditLevels::default())
    }

    /// The edits of a route, and what a check adds.
    pub fn edits_after<'a>(&'a self, route: EditLevels<'a>) -> EditLevels<'a> {
        match &self.check {
            None => route,
            Some(check) => route.with_check(&check.response_edits),
        }
    }

    /// Whether nobody has refused yet, and somebody is still there to be answered.
    pub fn goes_on(&self) -> bool {
        let is_gone = self
            .check
            .as_ref()
            .is_some_and(|check| check.client_is_gone);
        self.refusal.is_none() && !is_gone
    }
}

/// The action CUSTOM, before tokens are looked at: who is to be asked about the request. A refusal
/// is left in `admission`.
pub fn whom_to_ask<'p>(
    access: &'p Access,
    incoming: &Incoming<'_>,
    admission: &mut Admission,
) -> Option<&'p Arc<CheckProvider>> {
    let authorization = access.authorization.as_ref()?;
    authorization.http.custom.as_ref()?;
    let direction = incoming.rules.listener().direction;
    let facts = incoming.connection.facts(direction);
    let paths = incoming.rules.paths();
    let decision = with_facts(&incoming.seen(), paths, facts, None, |request| {
        authorization.http.custom(&AccessFacts {
            request: Some(request),
            client: client_address(facts, request.headers),
            connection: facts,
        })
    })?;
    match decision {
        CustomDecision::Pass => None,
        CustomDecision::Ask(provider, _) => Some(provider),
        CustomDecision::Deny(denial) => {
            let stats = &incoming.connection.listener.stats;
            stats.rbac_denied.add(1);
            admission.refuse(denied(&denial));
            None
        }
    }
}

/// Looks at tokens and asks the policies in force. The head changes when a token is taken out of
/// it, or what it says put in.
pub fn admit(access: &Access, incoming: &mut Incoming<'_>, admission: &mut Admission) {
    let direction = incoming.rules.listener().direction;
    let facts = incoming.connection.facts(direction).clone();
    let listener = incoming.connection.listener.clone();
    let stats = &listener.stats;
    let paths = incoming.rules.paths();
    if let Some(authentication) = &access.authentication {
        match authenticate(authentication, &facts, paths, incoming) {
            Ok(token) => {
                stats.jwt_authn_allowed.add(1);
                // What only a token may say must not choose a route when a client says it, so what
                // has changed counts.
                if let Some(check) = &mut admission.check {
                    check.routed_by = None;
                }
                admission.token = token;
            }
            Err(answer) => {
                stats.jwt_authn_denied.add(1);
                admission.refuse(answer);
                return;
            }
        }
    }
    if let Some(authorization) = &access.authorization {
        let claims = admission.token.as_ref().map(|token| &token.claims);
        let decision = with_facts(&incoming.seen(), paths, &facts, claims, |request| {
            let client = client_address(&facts, request.headers);
            authorization.http.decide(&AccessFacts {
                request: Some(request),
                client,
                connection: &facts,
            })
        });
        // A target that cannot be read is refused when it is to be routed.
        if let Some(decision) = decision {
            count(&decision, &authorization.http, stats);
            admission.refusal = decision.denied.map(|denial| Box::new(denied(&denial)));
        }
    }
}

/// Whether a connection that is no HTTP may pass: policies are asked once, about its ends and its
/// identity.
///
/// # Errors
/// Envoy's detail of the refusal.
pub fn may_connect<'p>(
    access: &'p Access,
    facts: &ConnectionFacts,
    stats: &ListenerStats,
) -> Result<(), &'p str> {
    let Some(authorization) = &access.authorization else {
        return Ok(());
    };
    let asked = AccessFacts::of_connection(facts);
    let decision = authorization.tcp.decide(&asked);
    count(&decision, &authorization.tcp, stats);
    match decision.denied {
        Some(denial) => Err(denial.details()),
        None => Ok(()),
    }
}

/// The action CUSTOM for a connection that is no HTTP: who is to be asked about it.
///
/// # Errors
/// Envoy's detail of the refusal.
pub fn whom_to_ask_of_connection<'p>(
    access: &'p Access,
    facts: &ConnectionFacts,
    stats: &ListenerStats,
) -> Result<Option<&'p Arc<CheckProvider>>, &'p str> {
    let Some(authorization) = &access.authorization else {
        return Ok(None);
    };
    match authorization.tcp.custom(&AccessFacts::of_connection(facts)) {
        CustomDecision::Pass => Ok(None),
        CustomDecision::Ask(provider, _) => Ok(Some(provider)),
        CustomDecision::Deny(denial) => {
            stats.rbac_denied.add(1);
            Err(denial.details())
        }
    }
}

/// Writes the head anew as a grant says; the bytes of the one before, if anything changes.
///
/// # Errors
/// What comes of it is no head.
pub fn apply_grant(
    grant: &Grant,
    head: &mut RequestHead,
    bytes: &mut Chunk,
    limits: &WorkerLimits,
) -> Result<Option<Chunk>, Answer> {
    let is_named = |name: &[u8]| {
        let mut names = grant.set.iter().map(|(name, _)| name).chain(&grant.remove);
        names.any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    let has_named = || {
        let mut headers = head.headers.iter();
        headers.any(|header| is_named(header.name.of(bytes)))
    };
    let changes_headers = !grant.set.is_empty() || !grant.append.is_empty() || has_named();
    if !changes_headers && grant.query.is_empty() {
        return Ok(None);
    }
    let set = grant.set.iter();
    let set = set.filter(|(name, _)| !grant.remove.contains(name));
    let set = set.map(|(name, value)| (name.as_bytes(), value.as_slice()));
    let target = match grant.query.is_empty() {
        true => head.target.of(bytes).to_vec(),
        false => grant.query.apply(head.target.of(bytes)),
    };
    let written = write_again(head, bytes, &target, is_named, &grant.append, set);
    replace(head, bytes, written, limits).map(Some)
}

/// Verifies tokens, and writes the head anew if they change it.
fn authenticate(
    authentication: &Authentication,
    facts: &ConnectionFacts,
    paths: Normalization,
    incoming: &mut Incoming<'_>,
) -> Result<Option<Arc<VerifiedToken>>, Answer> {
    let (worker, limits) = (incoming.worker, incoming.limits);
    let now = worker.wall_clock().duration_since(UNIX_EPOCH);
    let now_unix_s = now.unwrap_or_default().as_secs();
    let found = with_facts(&incoming.seen(), paths, facts, None, |request| {
        let mut cache = worker.tokens.borrow_mut();
        cache.set_max_bytes(limits.settings.max_token_cache_bytes as usize);
        authentication
            .authenticate(request, now_unix_s, &mut cache)
            .map_err(|error| {
                if error == TokenError::NoSuchKey {
                    worker.fleet.unknown_keys.notify_one();
                }
                unauthorized(error, request, incoming.head.target.of(incoming.bytes))
            })
    });
    let Some(found) = found else {
        return Ok(None);
    };
    let found = found?;
    let (head, bytes) = (&mut *incoming.head, &mut *incoming.bytes);
    let removes = |name: &[u8]| {
        let is_name = |known: &&str| name.eq_ignore_ascii_case(known.as_bytes());
        found.removed_headers.iter().any(is_name)
    };
    let is_changed = !found.added_headers.is_empty()
        || !found.removed_parameters.is_empty()
        || head
            .headers
            .iter()
            .any(|header| removes(header.name.of(bytes)));
    if is_changed {
        let target = head.target.of(bytes);
        let target = match target.iter().position(|byte| *byte == b'?') {
            Some(at) if !found.removed_parameters.is_empty() => {
                let query = String::from_utf8_lossy(&target[at + 1..]);
                let left = without_parameters(&query, &found.removed_parameters);
                let mut target = target[..at].to_vec();
                if !left.is_empty() {
                    target.push(b'?');
                    target.extend_from_slice(left.as_bytes());
                }
                target
            }
            _ => target.to_vec(),
        };
        let added = found.added_headers.iter();
        let added = added.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let written = write_again(head, bytes, &target, removes, &[], added);
        drop(replace(head, bytes, written, limits)?);
    }
    Ok(found.token)
}

/// The head with another target, without some headers and with others. What is `appended` goes
/// behind the first line of its name, if there is one. What the client has told
/// for this connection alone goes: its `connection` must not name what we add.
fn write_again<'h>(
    head: &RequestHead,
    bytes: &[u8],
    target: &[u8],
    removes: impl Fn(&[u8]) -> bool,
    appended: &[(String, Vec<u8>)],
    added: impl Iterator<Item = (&'h [u8], &'h [u8])>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    out.extend_from_slice(head.method.of(bytes));
    out.push(b' ');
    out.extend_from_slice(target);
    let version: &[u8] = match head.version {
        ringroad_codec::http1::Version::Http10 => b" HTTP/1.0\r\n",
        ringroad_codec::http1::Version::Http11 => b" HTTP/1.1\r\n",
    };
    out.extend_from_slice(version);
    let mut appended: Vec<_> = appended.iter().collect();
    for header in &head.headers {
        let name = header.name.of(bytes);
        let is_of_connection = matches!(
            header.kind,
            HeaderKind::Connection | HeaderKind::NamedByConnection
        );
        if !is_of_connection && !removes(name) {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(header.value.of(bytes));
            appended.retain(|(known, value)| {
                let is_here = name.eq_ignore_ascii_case(known.as_bytes());
                if is_here {
                    out.push(b',');
                    out.extend_from_slice(value);
                }
                !is_here
            });
            out.extend_from_slice(b"\r\n");
        }
    }
    match (head.upgrade, head.keep_alive) {
        (Upgrade::None, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (Upgrade::None, false) => out.extend_from_slice(b"connection: close\r\n"),
        (_, _) => out.extend_from_slice(b"connection: upgrade\r\n"),
    }
    for (name, value) in added {
        write_header(&mut out, name, value);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Takes a head that we have written in place of the one that came, whose bytes it returns.
fn replace(
    head: &mut RequestHead,
    bytes: &mut Chunk,
    written: Vec<u8>,
    limits: &WorkerLimits,
) -> Result<Chunk, Answer> {
    // What we add must not run into the limits for what clients send.
    let limits = HeadLimits {
        max_head_bytes: limits.head.max_head_bytes * 2 + written.len(),
        max_headers: limits.head.max_headers * 2,
        ..limits.head.clone()
    };
    head.reset();
    parse_request(&written, &limits, head).map_err(|error| Answer::malformed(&error))?;
    Ok(std::mem::replace(bytes, Chunk::from_vec(written)))
}

fn count(decision: &Decision<'_>, stages: &Stages, stats: &ListenerStats) {
    match decision.denied {
        Some(_) => stats.rbac_denied.add(1),
        None if stages.enforces() => stats.rbac_allowed.add(1),
        None => {}
    }
    let shadows = [decision.shadow_deny, decision.shadow_allow];
    for shadow in shadows.into_iter().flatten() {
        match shadow.is_allowed {
            true => stats.rbac_shadow_allowed.add(1),
            false => stats.rbac_shadow_denied.add(1),
        }
    }
    if decision.audited_by.is_some() {
        stats.rbac_logged.add(1);
    }
}

fn denied(denial: &Denial<'_>) -> Answer {
    Answer::access_denied(denial.details().to_string())
}

fn unauthorized(error: TokenError, request: &RequestFacts<'_>, target: &[u8]) -> Answer {
    let (text, details) = error.text_and_details();
    let target = String::from_utf8_lossy(target);
    let target = match target.find("://") {
        Some(at) => {
            &target[target[at + 3..]
                .find('/')
                .map_or(target.len(), |end| at + 3 + end)..]
        }
        None => &target,
    };
    let target: String = target.chars().take(MAX_REALM_BYTES).collect();
    let (scheme, authority) = (request.scheme, request.authority);
    let mut challenge = format!("Bearer realm=\"{scheme}://{authority}{target}\"");
    if error != TokenError::Missing {
        challenge += ", error=\"invalid_token\"";
    }
    Answer::unauthorized(error.status(), text, details, challenge)
}
