//! What a route answers before it is asked where requests go: a fault for all of them, and most
//! preflights of CORS.

use super::Explanation;
use super::effects::{self, setting};
use super::places::Places;
use crate::authenticate::is_preflight;
use crate::snapshot::{AbortAnswer, CorsPolicy, FaultSide, RequestFacts, Route};

impl Explanation {
    /// Replaces what was told of a destination where the proxy answers by itself.
    pub(super) fn tell_preflight(
        &mut self,
        route: &Route,
        facts: &RequestFacts<'_>,
        places: &Places,
    ) {
        let Some(cors) = route.cors.as_ref().filter(|_| is_preflight(facts)) else {
            return;
        };
        let mut origin = Vec::new();
        facts.headers.visit("origin", &mut |value| {
            if origin.is_empty() {
                origin.extend_from_slice(value);
            }
        });
        let is_allowed = cors.allows(&origin);
        let origin = String::from_utf8_lossy(&origin).into_owned();
        if !is_allowed && cors.forward_unmatched_preflights {
            let written = places.of_optional(&effects::field_of_rule(route, "corsPolicy"));
            let value = format!("forwarded: `{origin}` is none of the origins that are allowed");
            self.settings
                .push(setting("this preflight", value, written));
            return;
        }
        let reason = match is_allowed {
            true => format!("the preflight is granted here: {}", granted(cors, &origin)),
            false => format!(
                "the preflight is answered here, and grants nothing: `{origin}` is none of the \
                 origins that are allowed, and unmatchedPreflights is IGNORE"
            ),
        };
        self.destinations.clear();
        self.cluster = None;
        let comes_before = |name: &str| name.starts_with("cors") || name.starts_with("fault");
        self.settings.retain(|one| comes_before(&one.name));
        self.answer_as_written(200, reason, route, "corsPolicy", places);
    }

    /// A fault for all requests is the answer, wherever they would go: it comes before the
    /// destination is asked, and before cross-origin rules. Says whether there is one.
    pub(super) fn tell_abort(&mut self, route: &Route, places: &Places) -> bool {
        let faults = route.fault.as_ref();
        let faults = faults.filter(|fault| fault.side == FaultSide::Downstream);
        let abort = faults.and_then(|fault| fault.abort.as_ref());
        let Some(abort) = abort.filter(|abort| abort.share.is_all()) else {
            return false;
        };
        let (status, what) = match abort.answer {
            AbortAnswer::HttpStatus(status) => (status, String::new()),
            AbortAnswer::GrpcStatus(status) => (200, format!(" with gRPC status {status}")),
        };
        let reason = format!("the fault of the route answers all requests{what}");
        self.answer_as_written(status, reason, route, "fault", places);
        if let Some(answer) = &mut self.answer {
            answer.flag = "FI".to_string();
        }
        true
    }
}

/// The headers of the answer, but for those that every response has.
fn granted(cors: &CorsPolicy, origin: &str) -> String {
    let mut list = vec![format!("access-control-allow-origin {origin}")];
    for (name, value) in [
        ("methods", &cors.allow_methods),
        ("headers", &cors.allow_headers),
    ] {
        if !value.is_empty() {
            list.push(format!("access-control-allow-{name} {value}"));
        }
    }
    list.join(", ")
}
