//! Shows every request of every case to the proxy and compares.

use std::collections::HashMap;

use serde::Serialize;
use serde_yaml::Value;

use super::case::{Case, RequestMatrix};
use super::expectation::{Names, is_same};
use super::no_route::reason;
use super::proxy::{Proxy, Request, texts, virtual_services};
use super::wording;
use crate::compile::names::{is_subset, resolve_short_name};
use crate::diagnostic::Diagnostic;
use crate::explain::Written;
use crate::explain::places::locate;
use crate::inquiry::Decided;
use crate::settings::Overrides;
use crate::snapshot::{Route, RouteAction, without_port};
use crate::source::{FieldPath, Origin, SourceFile, Step};
use crate::yaml::Document;

/// How all cases went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// Cases of which every request passed.
    pub passed: usize,
    pub failed: usize,
    /// Over all cases.
    pub requests: usize,
    pub cases: Vec<CaseOutcome>,
    /// Warnings about rules that the configuration does not take over from delegates: a reason
    /// for routes that are missing.
    #[serde(skip)]
    pub left_out: Vec<Diagnostic>,
}

/// How a case went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseOutcome {
    pub description: String,
    pub want_match: bool,
    pub passed: bool,
    /// Where the case is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
    pub requests: Vec<RequestOutcome>,
}

/// How a request of a case went.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestOutcome {
    pub method: String,
    pub authority: String,
    pub uri: String,
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub headers: HashMap<String, String>,
    pub passed: bool,
    /// The route that the request takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken: Option<Taken>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub comparisons: Vec<Comparison>,
    /// A route that is as expected and was not taken, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A route that was taken.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Taken {
    /// `namespace/name`; `None` where the mesh routes without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_service: Option<String>,
    pub route: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

/// A field of the route beside what was expected, in flow form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    pub field: &'static str,
    pub expected: String,
    pub came: String,
    /// Whether the two say the same.
    pub same: bool,
}

/// Runs the cases. `case_files` are what they were read from, `files` is the configuration.
///
/// # Errors
///
/// What is wrong with a configuration that is refused.
pub fn run(
    case_files: &[SourceFile],
    cases: &[Case],
    files: &[SourceFile],
    overrides: &Overrides,
) -> Result<Outcome, Vec<Diagnostic>> {
    let proxy = Proxy::load(files, overrides)?;
    let mut drafts: Vec<Vec<Draft>> = Vec::with_capacity(cases.len());
    for case in cases {
        let requests = each_request(&case.request);
        drafts.push(
            requests
                .map(|request| judge(&proxy, case, &request))
                .collect(),
        );
    }
    let wanted = drafts.iter().flatten().flat_map(Draft::origins).cloned();
    let places = locate(files, wanted);
    let case_places = locate(case_files, cases.iter().map(|case| case.origin.clone()));
    let mut outcome = Outcome {
        left_out: proxy.left_out,
        ..Outcome::default()
    };
    for (case, drafts) in cases.iter().zip(drafts) {
        let requests: Vec<RequestOutcome> = drafts
            .into_iter()
            .map(|draft| draft.finish(&places))
            .collect();
        let passed = requests.iter().all(|request| request.passed);
        *if passed {
            &mut outcome.passed
        } else {
            &mut outcome.failed
        } += 1;
        outcome.requests += requests.len();
        outcome.cases.push(CaseOutcome {
            description: case.description.clone(),
            want_match: case.want_match,
            passed,
            written: case_places.get(&case.origin).cloned(),
            requests,
        });
    }
    Ok(outcome)
}

fn each_request(matrix: &RequestMatrix) -> impl Iterator<Item = Request<'_>> {
    matrix.uris.iter().flat_map(move |uri| {
        matrix.authorities.iter().flat_map(move |authority| {
            matrix.methods.iter().map(move |method| Request {
                method,
                authority,
                target: uri,
                headers: &matrix.headers,
                gateway: matrix.gateway.as_deref(),
                port: matrix.port,
                scheme: matrix.scheme.as_deref(),
            })
        })
    })
}

/// An outcome whose places have no line yet.
struct Draft {
    outcome: RequestOutcome,
    taken: Option<Origin>,
    hint: Option<(Origin, String)>,
}

impl Draft {
    fn origins(&self) -> impl Iterator<Item = &Origin> {
        let hint = self.hint.as_ref().map(|(origin, _)| origin);
        self.taken.iter().chain(hint)
    }

    fn finish(self, places: &HashMap<Origin, Written>) -> RequestOutcome {
        let mut outcome = self.outcome;
        if let Some(taken) = &mut outcome.taken {
            taken.written = self.taken.and_then(|origin| places.get(&origin).cloned());
        }
        outcome.hint = self.hint.map(|(origin, because)| {
            let place = places.get(&origin).map(ToString::to_string);
            let place = place.unwrap_or_else(|| origin.field.to_string());
            format!("the route at {place} is as expected, but {because}")
        });
        outcome
    }
}

fn judge(proxy: &Proxy, case: &Case, request: &Request<'_>) -> Draft {
    let decided = proxy.decide(request);
    let host = without_port(request.authority);
    // What the mesh does with hosts of nobody is no route of anybody's.
    let route = decided.route.filter(|_| !decided.is_for_unknown_hosts());
    let rule = route.and_then(|route| Rule::of(proxy, route, host));
    let value_of = |field: &str| match (&rule, route) {
        (Some(rule), _) => rule.value(field),
        (None, Some(route)) if field == "route" => destinations_of(route),
        _ => Value::Null,
    };
    let suffix = proxy.domain_suffix.as_str();
    let comparisons: Vec<Comparison> = case
        .expected
        .iter()
        .map(|(field, expected)| {
            let came = value_of(field);
            let names = Names {
                namespace: rule.as_ref().map_or("default", Rule::namespace),
                domain_suffix: suffix,
            };
            Comparison {
                field,
                expected: in_words(field, expected),
                came: in_words(field, &came),
                same: is_same(field, expected, &came, names),
            }
        })
        .collect();
    // Without an expectation the question is whether a VirtualService takes the request at all.
    let passed = match comparisons.as_slice() {
        [] => rule.is_some() == case.want_match,
        all => all.iter().all(|one| one.same == case.want_match),
    };
    let hint = match !passed && case.want_match && !case.expected.is_empty() {
        true => hint(proxy, case, &decided, host),
        false => None,
    };
    let taken = route.map(|route| Taken {
        virtual_service: rule.as_ref().map(Rule::name),
        route: route.name.clone(),
        written: None,
    });
    Draft {
        outcome: RequestOutcome {
            method: request.method.to_string(),
            authority: request.authority.to_string(),
            uri: request.target.to_string(),
            headers: request.headers.iter().cloned().collect(),
            passed,
            taken,
            reason: route
                .is_none()
                .then(|| reason(proxy, request, &decided, host)),
            comparisons,
            hint: None,
        },
        taken: rule.map(|rule| rule.origin()),
        hint,
    }
}

fn in_words(field: &str, value: &Value) -> String {
    match (field, value) {
        (_, Value::Null) => "nothing".to_string(),
        ("route", value) => wording::destinations(value),
        (_, value) => wording::flow(value),
    }
}

/// The first route of the virtual host that has all that is expected, and what kept it from being
/// taken.
fn hint(proxy: &Proxy, case: &Case, decided: &Decided<'_>, host: &str) -> Option<(Origin, String)> {
    let taken = decided.route.map(|route| route.identity);
    for route in decided.virtual_host?.routes() {
        let Some(rule) = Rule::of(proxy, route, host) else {
            continue;
        };
        let names = Names {
            namespace: rule.namespace(),
            domain_suffix: &proxy.domain_suffix,
        };
        let fits =
            |(field, expected): &(&str, Value)| is_same(field, expected, &rule.value(field), names);
        if Some(route.identity) == taken || !case.expected.iter().all(fits) {
            continue;
        }
        let passed = decided.passed_over.iter();
        let because = passed
            .clone()
            .find(|passed| passed.identity == route.identity)
            .map_or("the one taken comes before it", |passed| &passed.because);
        return Some((rule.origin(), because.to_string()));
    }
    unused_rule(proxy, case, host)
}

/// A rule that has all that is expected, of a VirtualService for the host, and became no route.
fn unused_rule(proxy: &Proxy, case: &Case, host: &str) -> Option<(Origin, String)> {
    for document in virtual_services(&proxy.documents) {
        if !has_host(proxy, document, host) {
            continue;
        }
        let names = Names {
            namespace: &document.namespace,
            domain_suffix: &proxy.domain_suffix,
        };
        let rules = document.value["spec"]["http"].as_sequence();
        for index in 0..rules.map_or(0, Vec::len) {
            let rule = Rule {
                document,
                index,
                above: None,
            };
            let fits = |(field, expected): &(&str, Value)| {
                is_same(field, expected, &rule.value(field), names)
            };
            if case.expected.iter().all(fits) {
                let because = "no request gets there; `ringroad check` tells why";
                return Some((rule.origin(), because.to_string()));
            }
        }
    }
    None
}

/// What the mesh does for a service without a VirtualService, as a VirtualService would say it.
fn destinations_of(route: &Route) -> Value {
    let map = |fields: Vec<(&str, Value)>| {
        Value::Mapping(
            fields
                .into_iter()
                .map(|(k, v)| (Value::from(k), v))
                .collect(),
        )
    };
    let each = route.destinations().iter().map(|destination| {
        let mut parts = destination.cluster_name.splitn(4, '|').skip(1);
        let port = parts.next().and_then(|port| port.parse::<u64>().ok());
        let host = parts.nth(1).unwrap_or(&destination.cluster_name);
        let mut to = vec![("host", Value::from(host))];
        if let Some(port) = port {
            to.push(("port", map(vec![("number", Value::from(port))])));
        }
        map(vec![("destination", map(to))])
    });
    Value::Sequence(each.collect())
}

/// An item of `http` as it is written, and the one that delegates to it.
struct Rule<'p> {
    document: &'p Document,
    index: usize,
    above: Option<(&'p Document, usize)>,
}

/// What a delegate takes over from the rule that delegates to it. Istio: `mergeHTTPRoute`.
const INHERITED: [&str; 10] = [
    "rewrite",
    "directResponse",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrors",
    "mirrorPercentage",
    "corsPolicy",
    "headers",
];

impl<'p> Rule<'p> {
    /// The rule that a route was made of; `None` for routes that the mesh adds by itself.
    fn of(proxy: &'p Proxy, route: &Route, host: &str) -> Option<Self> {
        let matched = place_of(proxy, route.origin.as_ref()?)?;
        let mut own = matched;
        if let Some(first) = route.destinations().first() {
            own = place_of(proxy, first.origin.as_ref()?)?;
        } else if let Some(delegate) = delegate_of(proxy, matched) {
            // An answer keeps no place but that of its match.
            let field = match route.action {
                RouteAction::Redirect(_) => "redirect",
                _ => "directResponse",
            };
            let rules = delegate.value["spec"]["http"].as_sequence();
            let mut rules = rules.into_iter().flatten();
            let index = rules.position(|rule| !rule[field].is_null()).unwrap_or(0);
            own = (delegate, index);
        }
        let (document, index) = own;
        let is_delegate = texts(&document.value["spec"]["hosts"]).next().is_none();
        let above = match is_delegate {
            false => None,
            true if matched.0.id != document.id => Some(matched),
            true => find_above(proxy, document, host),
        };
        Some(Self {
            document,
            index,
            above,
        })
    }

    fn value(&self, field: &str) -> Value {
        let of = |document: &Document, index: usize| {
            document.value["spec"]["http"][index][field].clone()
        };
        let own = of(self.document, self.index);
        match self.above {
            Some((above, at)) if field == "delegate" => of(above, at),
            Some((above, at)) if own.is_null() && INHERITED.contains(&field) => of(above, at),
            _ => own,
        }
    }

    fn namespace(&self) -> &str {
        &self.document.namespace
    }

    fn name(&self) -> String {
        format!("{}/{}", self.document.namespace, self.document.name)
    }

    fn origin(&self) -> Origin {
        let field = FieldPath::root()
            .field("spec")
            .field("http")
            .index(self.index);
        Origin {
            document: self.document.id,
            field,
        }
    }
}

/// The document and the index in `http` of a place in it.
fn place_of<'p>(proxy: &'p Proxy, origin: &Origin) -> Option<(&'p Document, usize)> {
    let [_, _, Step::Index(index), ..] = origin.field.0.as_slice() else {
        return None;
    };
    let mut documents = proxy.documents.iter();
    let document = documents.find(|document| document.id == origin.document)?;
    Some((document, *index))
}

/// The delegate that a rule names.
fn delegate_of<'p>(
    proxy: &'p Proxy,
    (document, index): (&Document, usize),
) -> Option<&'p Document> {
    let (namespace, name) = delegation(document, index)?;
    virtual_services(&proxy.documents)
        .find(|known| known.namespace == namespace && known.name == name)
}

/// Namespace and name of the delegate of a rule.
fn delegation(document: &Document, index: usize) -> Option<(&str, &str)> {
    let delegate = &document.value["spec"]["http"][index]["delegate"];
    let namespace = delegate["namespace"]
        .as_str()
        .filter(|text| !text.is_empty());
    Some((
        namespace.unwrap_or(&document.namespace),
        delegate["name"].as_str()?,
    ))
}

/// The rule that delegates to a VirtualService, of one that has the host.
fn find_above<'p>(
    proxy: &'p Proxy,
    delegate: &Document,
    host: &str,
) -> Option<(&'p Document, usize)> {
    let mut found = Vec::new();
    for document in virtual_services(&proxy.documents) {
        let count = document.value["spec"]["http"]
            .as_sequence()
            .map_or(0, Vec::len);
        let wanted = Some((delegate.namespace.as_str(), delegate.name.as_str()));
        let at = (0..count).find(|index| delegation(document, *index) == wanted);
        found.extend(at.map(|at| (document, at)));
    }
    let with_host = found
        .iter()
        .find(|(document, _)| has_host(proxy, document, host));
    with_host.or(found.first()).copied()
}

/// Whether a VirtualService is written for a host.
pub(super) fn has_host(proxy: &Proxy, document: &Document, host: &str) -> bool {
    let mut hosts = texts(&document.value["spec"]["hosts"]);
    let full = |name: &str| resolve_short_name(name, &document.namespace, &proxy.domain_suffix);
    hosts.any(|known| known == host || is_subset(&full(host), &full(known)))
}
