//! A request shown to a route table by a tool, and what came of it.

use crate::compile::names::{is_subset, is_wildcard};
use crate::explain::wording;
use crate::snapshot::{
    ConnectionFacts, Decision, Direction, ExcludedRule, ForwardedCert, HeaderName, Mismatch,
    RequestFacts, Route, RouteTable, SeenHeaders, Trace, VirtualHost, path::Normalization,
    without_port,
};

/// A request as a tool knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Inquiry<'r> {
    pub method: &'r str,
    pub authority: &'r str,
    /// With its query.
    pub target: &'r str,
    pub headers: &'r Vec<(String, String)>,
    /// What becomes of paths before they are matched.
    pub paths: Normalization,
    /// `None` is `http`, and `https` where the server redirects to that.
    pub scheme: Option<&'r str>,
}

/// What a table does with a request.
#[derive(Debug, Clone)]
pub(crate) struct Decided<'s> {
    pub virtual_host: Option<&'s VirtualHost>,
    pub route: Option<&'s Route>,
    /// Routes before the one taken.
    pub passed_over: Vec<PassedOver>,
    /// Why there is no route.
    pub refusal: Option<Refusal>,
    /// How well the virtual host fits the host of the request.
    pub rank: Rank,
    /// Whether the table redirects all of `http` to `https`.
    pub redirects: bool,
    /// VirtualServices that have no route in the table.
    pub left_out: &'s [ExcludedRule],
}

/// A route that did not match.
#[derive(Debug, Clone)]
pub(crate) struct PassedOver {
    /// [`Route::identity`].
    pub identity: u64,
    pub because: String,
    /// The header that it asks for, if that is what failed.
    pub header: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoListener,
    BadPath(String),
    NoVirtualHost,
    NoRoute,
    HttpsRedirect,
}

/// How well a virtual host fits a host; the least is best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Exact,
    /// By how many characters the wildcard falls short of the longest one there can be.
    Wildcard(usize),
    /// Any host, by a rule of the mesh for what nobody declares.
    Unknown,
    None,
}

impl Refusal {
    /// The answer in short: `404 NR`.
    pub(crate) fn answer(&self) -> &'static str {
        match self {
            Self::NoListener => "no listener",
            Self::BadPath(_) => "400",
            Self::NoVirtualHost | Self::NoRoute => "404 NR",
            Self::HttpsRedirect => "301 to https",
        }
    }
}

impl Decided<'_> {
    pub(crate) fn refused(refusal: Refusal) -> Self {
        Self {
            virtual_host: None,
            route: None,
            passed_over: Vec::new(),
            refusal: Some(refusal),
            rank: Rank::None,
            redirects: false,
            left_out: &[],
        }
    }

    /// Whether it is the mesh's rule for hosts that nobody declares.
    pub(crate) fn is_for_unknown_hosts(&self) -> bool {
        self.rank == Rank::Unknown
    }

    /// Why no route of a VirtualService or service is taken.
    pub(crate) fn reason(&self) -> String {
        if self.is_for_unknown_hosts() {
            return "no VirtualService or service has this host".to_string();
        }
        match &self.refusal {
            Some(Refusal::NoListener) => "nothing listens for it".to_string(),
            Some(Refusal::BadPath(error)) => format!("400: {error}"),
            Some(Refusal::NoVirtualHost) => "no virtual host has this host: 404 NR".to_string(),
            Some(Refusal::NoRoute) => "no route matches: 404 NR".to_string(),
            Some(Refusal::HttpsRedirect) => "the server redirects to https: 301".to_string(),
            None => String::new(),
        }
    }
}

impl Inquiry<'_> {
    /// The decision of the data path's matcher.
    pub(crate) fn decide_by<'s>(&self, table: &'s RouteTable, direction: Direction) -> Decided<'s> {
        let (target, query) = match self.target.split_once('?') {
            Some((target, query)) => (target, Some(query)),
            None => (self.target, None),
        };
        let normal = match self.paths.apply(target) {
            Ok(normal) => normal,
            Err(error) => return Decided::refused(Refusal::BadPath(error.to_string())),
        };
        let ask = |scheme| {
            let headers = SeenHeaders {
                came: self.headers,
                direction,
                scheme,
                peer: None,
                client_cert: ForwardedCert::default(),
                request_id: None,
                is_upgrade: true,
            };
            let facts = RequestFacts {
                claims: None,
                method: self.method,
                scheme,
                authority: self.authority,
                path: &normal,
                query,
                headers: &headers,
                connection: ConnectionFacts::UNKNOWN,
            };
            let mut watch = Watch {
                facts,
                passed_over: Vec::new(),
            };
            let decision = table.route_traced(&facts, &mut watch);
            (decision, watch.passed_over)
        };
        let (mut decision, mut passed_over) = ask(self.scheme.unwrap_or("http"));
        let redirects = matches!(decision, Decision::HttpsRedirect(_));
        if redirects && self.scheme.is_none() {
            (decision, passed_over) = ask("https");
        }
        let (virtual_host, route, refusal) = match decision {
            Decision::Route {
                virtual_host,
                route,
            } => (Some(virtual_host), Some(route), None),
            Decision::NoRoute(found) => (Some(found), None, Some(Refusal::NoRoute)),
            Decision::HttpsRedirect(found) => (Some(found), None, Some(Refusal::HttpsRedirect)),
            Decision::NoVirtualHost => (None, None, Some(Refusal::NoVirtualHost)),
        };
        let host = without_port(self.authority).to_ascii_lowercase();
        Decided {
            virtual_host,
            route,
            passed_over,
            refusal,
            rank: virtual_host.map_or(Rank::None, |found| rank(found, route, &host)),
            redirects,
            left_out: &table.excluded,
        }
    }
}

fn rank(found: &VirtualHost, route: Option<&Route>, host: &str) -> Rank {
    /// Longer than any host.
    const LONGEST: usize = 1 << 16;
    let is_of_nobody = route.is_some_and(|route| route.origin.is_none());
    if found.domains.iter().any(|domain| domain == host) {
        return Rank::Exact;
    }
    let wildcards = found.domains.iter().filter(|domain| is_wildcard(domain));
    let covering = wildcards.filter(|domain| is_subset(host, domain));
    match covering.map(String::len).max() {
        Some(1) if is_of_nobody => Rank::Unknown,
        Some(length) => Rank::Wildcard(LONGEST - length.min(LONGEST)),
        None => Rank::Wildcard(LONGEST),
    }
}

/// Follows the matcher.
struct Watch<'r> {
    facts: RequestFacts<'r>,
    passed_over: Vec<PassedOver>,
}

impl Trace for Watch<'_> {
    const WATCHING: bool = true;

    fn passed_over(&mut self, route: &Route, mismatch: Mismatch<'_>) {
        let header = match mismatch {
            Mismatch::Header(header) => match &header.name {
                HeaderName::Field(name) => Some(name.clone()),
                _ => None,
            },
            _ => None,
        };
        self.passed_over.push(PassedOver {
            identity: route.identity,
            because: wording::of_mismatch(mismatch, &self.facts),
            header,
        });
    }
}
