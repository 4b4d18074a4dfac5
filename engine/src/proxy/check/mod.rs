//! Asking a service whether a request may pass: the action CUSTOM of AuthorizationPolicy. Istio:
//! `extensionProviders`; Envoy: the filter `ext_authz`.

mod body;
mod exchange;
mod grpc;
mod http;
mod messages;
mod query;

use super::admission::{Admission, Incoming, apply_grant};
use super::answer::Answer;
use super::deadline::alongside;
use super::grpc::is_grpc;
use super::retries::client_gone;
use super::seen_head::SeenHead;
use crate::rt::{self, Chunk, Deadline};
use crate::stats::ListenerStats;
use crate::worker::{Rules, Worker};
use body::{ShownBody, body_to_show};
pub use query::QueryEdits;
use ringroad_codec::http1::{HeaderKind, RequestHead};
use ringroad_policy::authorize::CheckProvider;
use ringroad_policy::settings::{CheckProtocol, HttpCheck};
use ringroad_policy::snapshot::{
    ConnectionFacts, HeaderEdits, HeaderLookup as _, HeaderValue, HeaderWrite, WriteMode,
    is_taken_from_callers, path::Normalization,
};
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

/// What a check has left behind for the rest of the request.
pub struct CheckEffects {
    /// When the check began: the request has lasted since then.
    pub began: Instant,
    /// The head to choose a route by, where what the service has added does not count for that.
    pub routed_by: Option<(RequestHead, Chunk)>,
    /// What the service adds to the answer, whoever gives it.
    pub response_edits: HeaderEdits,
    /// The client left meanwhile.
    pub client_is_gone: bool,
}

/// What a service is shown.
pub struct Question<'a> {
    pub seen: SeenHead<'a>,
    /// What is done to its path.
    pub paths: Normalization,
    pub facts: &'a ConnectionFacts,
    pub body: Vec<u8>,
    /// Whether there is more of the body.
    pub is_body_cut: bool,
}

/// What a service says of a request.
pub enum Verdict {
    Allowed(Grant),
    Denied(Refusal),
    /// It could not be asked, or did not answer in time, or in no understandable way.
    Failed,
    /// It allows the request with a header that cannot be written, so nobody knows with what.
    Unwritable,
}

/// What comes with a permission.
#[derive(Default)]
pub struct Grant {
    /// Headers that take the place of those of the request. Lower-case names, each once.
    pub set: Vec<(String, Vec<u8>)>,
    /// What is appended to headers that the request has, behind a comma.
    pub append: Vec<(String, Vec<u8>)>,
    /// Headers that the request loses, though they be set.
    pub remove: Vec<String>,
    pub query: QueryEdits,
    pub response_edits: HeaderEdits,
}

/// An answer in place of the upstream's.
pub struct Refusal {
    pub status: u16,
    pub body: Vec<u8>,
    pub response_edits: HeaderEdits,
}

/// Asks `provider`, and leaves what it says in `admission`.
pub async fn ask(provider: &CheckProvider, incoming: &mut Incoming<'_>, admission: &mut Admission) {
    let Incoming {
        connection,
        worker,
        rules,
        limits,
        chain,
        head,
        bytes,
        request_id,
    } = incoming;
    let listener = connection.listener.clone();
    let stats: &ListenerStats = &listener.stats;
    let mut effects = CheckEffects {
        began: rt::now(),
        routed_by: None,
        response_edits: HeaderEdits::default(),
        client_is_gone: false,
    };
    let settings = &provider.settings;
    let shown = match settings.body_in_check {
        None => ShownBody::NONE,
        Some(wanted) => body_to_show(connection, head, limits, wanted).await,
    };
    let verdict = match shown {
        ShownBody::Bytes { body, is_cut } => {
            let direction = rules.listener().direction;
            let question = Question {
                seen: SeenHead::of(connection, rules, *chain, (head, bytes), request_id),
                paths: rules.paths(),
                facts: connection.facts(direction),
                body,
                is_body_cut: is_cut,
            };
            let gone = pin!(client_gone(&connection.stream));
            let asked = pin!(async {
                match &settings.protocol {
                    CheckProtocol::Http(check) => {
                        http::ask(worker, rules, limits, provider, check, question).await
                    }
                    CheckProtocol::Grpc => {
                        grpc::ask(worker, rules, limits, provider, question).await
                    }
                }
            });
            // The time limit is for each step of the check.
            alongside(&Deadline::new(), gone, asked).await.ok()
        }
        ShownBody::Refused(answer) => {
            admission.refuse(answer);
            admission.check = Some(Box::new(effects));
            return;
        }
        ShownBody::ClientGone => None,
    };
    let error = || Answer::authorization_failed(settings.status_on_error);
    match verdict {
        None => effects.client_is_gone = true,
        Some(Verdict::Allowed(grant)) => {
            let before = head.clone();
            match apply_grant(&grant, head, bytes, limits) {
                Ok(replaced) => {
                    stats.ext_authz_ok.add(1);
                    effects.response_edits = grant.response_edits;
                    effects.routed_by = replaced
                        .filter(|_| !settings.clear_route_cache)
                        .map(|bytes| (before, bytes));
                }
                Err(_) => {
                    stats.ext_authz_error.add(1);
                    admission.refuse(error());
                }
            }
        }
        Some(Verdict::Unwritable) => {
            stats.ext_authz_error.add(1);
            admission.refuse(error());
        }
        Some(Verdict::Denied(refusal)) => {
            stats.ext_authz_denied.add(1);
            effects.response_edits = refusal.response_edits;
            if is_grpc(&head.headers(bytes)) {
                // The status takes the place of the body.
                let edits = &mut effects.response_edits.write;
                edits.retain(|line| line.name != "content-type");
            }
            let answer = Answer::authorization_denied(refusal.status, refusal.body);
            admission.refuse(answer);
        }
        Some(Verdict::Failed) => {
            stats.ext_authz_error.add(1);
            match settings.fail_open {
                true => stats.ext_authz_failure_mode_allowed.add(1),
                false => admission.refuse(error()),
            }
        }
    }
    admission.check = Some(Box::new(effects));
}

/// Asks `provider` about a connection that is no HTTP: why it may not pass, if so.
pub async fn ask_of_connection(
    provider: &CheckProvider,
    worker: &Rc<Worker>,
    rules: &Rules,
    facts: &ConnectionFacts,
    stats: &ListenerStats,
) -> Option<&'static str> {
    match grpc::may_connect(worker, rules, provider, facts).await {
        Some(true) => {
            stats.ext_authz_ok.add(1);
            None
        }
        Some(false) => {
            stats.ext_authz_denied.add(1);
            Some("ext_authz_denied")
        }
        None => {
            stats.ext_authz_error.add(1);
            if provider.settings.fail_open {
                stats.ext_authz_failure_mode_allowed.add(1);
                return None;
            }
            Some("ext_authz_error")
        }
    }
}

/// Whether a service may set or remove a header of this name: what belongs to the connection, to
/// the framing of the message or to its routing by host is not its to change.
fn may_change(name: &str) -> bool {
    const NEVER: [&str; 5] = ["host", "te", "trailer", "expect", "http2-settings"];
    !name.starts_with(':')
        && !ringroad_policy::snapshot::is_framing_header(name)
        && !NEVER.contains(&name)
}

impl Question<'_> {
    /// Calls `visit` with each header as an upstream would see it, but for those that frame the
    /// body.
    fn visit_headers(&self, visit: &mut dyn FnMut(&[u8], &[u8])) {
        const MADE: [&str; 5] = [
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-client-cert",
            "x-request-id",
            "x-envoy-external-address",
        ];
        let SeenHead { head, bytes, .. } = self.seen;
        let is_made = |name: &[u8]| {
            let mut made = MADE.iter();
            made.any(|made| name.eq_ignore_ascii_case(made.as_bytes()))
        };
        for header in &head.headers {
            let name = header.name.of(bytes);
            let kept = match header.kind {
                HeaderKind::Host | HeaderKind::Expect | HeaderKind::ContentLength => false,
                HeaderKind::XEnvoy => !is_taken_from_callers(name, self.seen.direction),
                kind => !kind.is_hop_by_hop(),
            };
            if kept && !is_made(name) {
                visit(name, header.value.of(bytes));
            }
        }
        for name in MADE {
            self.seen
                .visit(name, &mut |value| visit(name.as_bytes(), value));
        }
    }
}

fn is_listed(patterns: &[String], name: &str) -> bool {
    HttpCheck::is_listed(patterns, name.as_bytes())
}

fn write(name: &str, value: &[u8], mode: WriteMode) -> HeaderWrite {
    HeaderWrite {
        name: name.to_string(),
        value: HeaderValue::Literal(String::from_utf8_lossy(value).into_owned()),
        mode,
    }
}
