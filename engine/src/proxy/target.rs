//! From a request head to the route, the destination and what the upstream will see.

use super::answer::Answer;
use super::connection::Connection;
use super::edits::EditLevels;
use super::format::{Client, RequestFormat};
use super::seen_head::SeenHead;
use super::upstream::ClusterView;
use crate::rt;
use crate::worker::{Rules, Worker};
use ringroad_codec::http1::{RequestHead, TargetForm, Upgrade};
use ringroad_policy::authenticate::Claims;
use ringroad_policy::snapshot::{
    ConnectionFacts, Decision, Destination, HashCookie, HashKey, HashPolicy, HeaderLevels,
    Redirect, RequestFacts, Route, RouteAction, RouteTable, Target, TimeoutStatus, UpstreamHeaders,
    path::Normalization,
};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

/// Where a request goes and as what.
pub struct Plan<'a> {
    pub route: &'a Route,
    pub destination: &'a Destination,
    pub cluster: Rc<ClusterView>,
    /// What a balancer that hashes goes by.
    pub hash: HashKey,
    /// For the upstream: normalised, perhaps rewritten.
    pub path: Cow<'a, [u8]>,
    pub query: Option<&'a str>,
    pub authority: &'a str,
    /// The normalised path that a rewrite replaced.
    pub original_path: Option<Cow<'a, str>>,
    /// The authority that a rewrite replaced.
    pub original_authority: Option<&'a str>,
}

/// An answer in place of a plan, with the route that gave it.
pub struct Refusal<'a> {
    pub answer: Box<Answer>,
    pub route: Option<&'a Route>,
    /// The destination of the route whose cluster is not there.
    pub lost: Option<&'a Destination>,
}

impl<'a> Plan<'a> {
    pub fn request_edits(&self) -> EditLevels<'a> {
        self.request_levels().into()
    }

    fn request_levels(&self) -> HeaderLevels<'a> {
        HeaderLevels::new(
            &self.destination.request_headers,
            &self.route.request_headers,
        )
    }

    /// What the balancer of the cluster goes by.
    fn hash_key(&self, connection: &Connection, seen: &SeenHead<'_>) -> HashKey {
        let Some(policy) = &self.cluster.cluster.hash_policy else {
            return HashKey::default();
        };
        let format = self.format(seen, connection.told(), None, rt::now(), &connection.worker);
        let local = || connection.stream.local_addr().ok();
        let headers = UpstreamHeaders {
            values: format.values(&local),
            edits: self.request_levels(),
            format: &format,
        };
        policy.key(&headers, self.query, Some(connection.peer), local)
    }

    /// What configured header values of the request are rendered from.
    pub fn format<'f>(
        &'f self,
        seen: &'f SeenHead<'f>,
        client: Client<'f>,
        upstream: Option<SocketAddr>,
        started: Instant,
        worker: &'f Worker,
    ) -> RequestFormat<'f> {
        RequestFormat {
            seen: Some(seen),
            target: Target {
                path: &self.path,
                query: self.query,
                authority: self.authority,
                original_path: self.original_path.as_deref().map(str::as_bytes),
                original_authority: self.original_authority,
            },
            client,
            upstream,
            cluster: &self.cluster.cluster.name,
            route: &self.route.name,
            started,
            response: None,
            worker,
        }
    }

    /// What time limits are answered.
    pub fn timeout_status(&self) -> TimeoutStatus {
        self.route.timeout_status_of(self.destination)
    }

    /// A cookie that was made for the client, and its value.
    pub fn made_cookie(&self) -> Option<(&HashCookie, u64)> {
        match &self.cluster.cluster.hash_policy {
            Some(HashPolicy::Cookie(cookie)) => Some((cookie, self.hash.made_cookie?)),
            _ => None,
        }
    }

    pub fn response_edits(&self) -> EditLevels<'a> {
        EditLevels::new(
            &self.destination.response_headers,
            &self.route.response_headers,
        )
    }
}

impl Refusal<'_> {
    fn plain(answer: Answer) -> Self {
        Self {
            answer: Box::new(answer),
            route: None,
            lost: None,
        }
    }
}

impl<'a> Refusal<'a> {
    /// The answer that a route gives.
    fn by(route: Option<&'a Route>, answer: Answer) -> Self {
        Self {
            route,
            ..Self::plain(answer)
        }
    }

    /// What becomes of the headers of the answer.
    pub fn response_edits(&self) -> Option<EditLevels<'a>> {
        let route = self.route?;
        Some(match self.lost {
            Some(to) => EditLevels::new(&to.response_headers, &route.response_headers),
            None => EditLevels::of_route(&route.response_headers),
        })
    }
}

/// Hands `ask` the request in the very form that it is routed and sent on in; nothing for a target
/// that is refused.
pub fn with_facts<T>(
    seen: &SeenHead<'_>,
    paths: Normalization,
    connection: &ConnectionFacts,
    claims: Option<&Claims>,
    ask: impl FnOnce(&RequestFacts<'_>) -> T,
) -> Option<T> {
    let mut memory = String::new();
    let (path, query, authority) = split_target(seen.head, seen.bytes, &mut memory)?;
    let normal = paths.apply(path).ok()?;
    Some(ask(&RequestFacts {
        method: method(seen.method()),
        scheme: seen.scheme,
        authority,
        path: &normal,
        query,
        headers: seen,
        connection,
        claims,
    }))
}

/// The scheme of the requests of a connection.
pub fn scheme(connection: &ConnectionFacts) -> &'static str {
    match connection.is_tls {
        true => "https",
        false => "http",
    }
}

/// What a plan is written in. Kept from request to request.
#[derive(Default)]
pub struct PlanMemory {
    target: String,
    rewritten: Vec<u8>,
}

/// Decides.
pub fn plan<'a>(
    connection: &Connection,
    claims: Option<&Claims>,
    rules: &'a Rules,
    table: Option<&'a RouteTable>,
    seen: &SeenHead<'a>,
    memory: &'a mut PlanMemory,
) -> Result<Plan<'a>, Refusal<'a>> {
    let mut planned = plan_route(connection, claims, rules, table, seen, memory);
    if let Ok(plan) = &mut planned {
        plan.hash = plan.hash_key(connection, seen);
    }
    planned
}

/// A plan without its hash. Returned as it is made: what is changed in between is copied.
fn plan_route<'a>(
    connection: &Connection,
    claims: Option<&Claims>,
    rules: &'a Rules,
    table: Option<&'a RouteTable>,
    seen: &SeenHead<'a>,
    memory: &'a mut PlanMemory,
) -> Result<Plan<'a>, Refusal<'a>> {
    let SeenHead { head, bytes, .. } = *seen;
    let PlanMemory { target, rewritten } = memory;
    let known = connection.facts.get();
    let known = known.map_or(ConnectionFacts::UNKNOWN, |facts| facts);
    let Some((path, query, authority)) = split_target(head, bytes, target) else {
        return Err(Refusal::plain(match head.target_form {
            // CONNECT asks for a tunnel, which is an upgrade by another name.
            TargetForm::Authority => Answer::upgrade_refused(),
            _ => Answer::bad_path(),
        }));
    };
    if head.host.is_none() {
        return Err(Refusal::plain(Answer::no_host()));
    }
    let normal = rules
        .paths()
        .apply(path)
        .map_err(|_| Refusal::plain(Answer::bad_path()))?;
    let facts = RequestFacts {
        method: method(seen.method()),
        scheme: seen.scheme,
        authority,
        path: &normal,
        query,
        headers: seen,
        connection: known,
        claims,
    };
    if let TargetForm::Absolute { scheme, .. } = head.target_form
        && scheme.of(bytes).eq_ignore_ascii_case(b"https")
        && !facts.connection.is_tls
    {
        return Err(Refusal::plain(Answer::https_in_plain_text()));
    }
    let decision = table.map(|table| table.route(&facts));
    if head.upgrade == Upgrade::Other {
        let route = match decision {
            Some(Decision::Route { route, .. }) => Some(route),
            _ => None,
        };
        let answer = Answer::upgrade_refused();
        return Err(Refusal::by(route, answer));
    }
    let route = match decision {
        Some(Decision::Route { route, .. }) => route,
        Some(Decision::HttpsRedirect(_)) => {
            return Err(Refusal::plain(redirect(&to_https(), &facts, 0)));
        }
        Some(Decision::NoVirtualHost | Decision::NoRoute(_)) | None => {
            return Err(Refusal::plain(Answer::no_route()));
        }
    };
    let answered = |answer| Err(Refusal::by(Some(route), answer));
    let matched_len = route.matches.path.matched_len(&normal);
    match &route.action {
        RouteAction::Forward(_) => {}
        RouteAction::DirectResponse { status, body } => {
            let answer = Answer::direct(*status, body);
            return answered(match status {
                // As in Envoy, what is created or moved without a word is where the request is.
                201 | 300..=399 => answer.with_location(location(&Redirect::to_same(), &facts, 0)),
                _ => answer,
            });
        }
        RouteAction::Redirect(to) => return answered(redirect(to, &facts, matched_len)),
    }
    let worker: &Worker = &connection.worker;
    let destination = rules.view.pick_destination(worker, route);
    let Some(cluster) = destination.cluster else {
        return Err(Refusal {
            lost: Some(destination),
            ..Refusal::by(Some(route), Answer::no_cluster())
        });
    };
    let cluster = rules.view.cluster(worker, cluster).clone();
    rewritten.clear();
    let is_rewritten = route.rewrite_path(&normal, rewritten);
    let rewritten: &'a [u8] = rewritten;
    let host = route.host_rewrite_of(destination);
    let (path, original_path) = if is_rewritten {
        (Cow::Borrowed(rewritten), Some(normal))
    } else {
        (into_bytes(normal), None)
    };
    Ok(Plan {
        route,
        destination,
        cluster,
        hash: HashKey::default(),
        original_path,
        original_authority: host.map(|_| authority),
        path,
        query,
        authority: host.unwrap_or(authority),
    })
}

fn into_bytes(path: Cow<'_, str>) -> Cow<'_, [u8]> {
    match path {
        Cow::Borrowed(path) => Cow::Borrowed(path.as_bytes()),
        Cow::Owned(path) => Cow::Owned(path.into_bytes()),
    }
}

/// Path, query and authority of a request; `None` when the target has no path to route by.
fn split_target<'a>(
    head: &RequestHead,
    bytes: &'a [u8],
    memory: &'a mut String,
) -> Option<(&'a str, Option<&'a str>, &'a str)> {
    let authority = head.host.map_or("", |host| ascii(host.of(bytes)));
    let (prefix, rest) = head.path_and_query(bytes);
    let whole = if prefix.is_empty() {
        ascii(rest)
    } else {
        memory.clear();
        memory.push_str(prefix);
        memory.push_str(ascii(rest));
        memory.as_str()
    };
    if whole.is_empty() {
        return None;
    }
    let (path, query) = split_query(whole);
    Some((path, query, authority))
}

/// What follows the question mark of the target.
pub fn query<'a>(head: &RequestHead, bytes: &'a [u8]) -> Option<&'a str> {
    let (_, rest) = head.path_and_query(bytes);
    split_query(ascii(rest)).1
}

/// A target without its query, and that. Byte by byte: targets are short.
fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.bytes().position(|byte| byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// The text of a method, without a look at each byte of the usual ones.
fn method(bytes: &[u8]) -> &str {
    match bytes {
        b"GET" => "GET",
        b"POST" => "POST",
        _ => ascii(bytes),
    }
}

/// Bytes that the codec has checked to be ASCII.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A gateway server's `httpsRedirect`.
fn to_https() -> Redirect {
    Redirect {
        scheme: Some("https".to_string()),
        ..Redirect::to_same()
    }
}

fn redirect(to: &Redirect, facts: &RequestFacts<'_>, matched_len: usize) -> Answer {
    Answer::redirect(to.status, location(to, facts, matched_len))
}

fn location(to: &Redirect, facts: &RequestFacts<'_>, matched_len: usize) -> String {
    let mut location = Vec::new();
    to.location(facts, matched_len, &mut location);
    String::from_utf8_lossy(&location).into_owned()
}
