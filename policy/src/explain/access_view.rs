//! What tokens and policies say about a request or a connection, retold by asking them.

use serde::Serialize;

use super::Explanation;
use super::places::{Places, Written};
use crate::authenticate::{
    Authentication, KeySource, TokenCache, TokenError, VerifiedToken, without_parameters,
};
use crate::authorize::{
    AccessFacts, Authorization, CustomDecision, Decision, Denial, Rule, Shadow, Stages,
    client_address,
};
use crate::snapshot::{ConnectionFacts, RequestFacts, Snapshot};
use std::sync::Arc;

/// One word about access, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessView {
    /// `CUSTOM`, `token`, `AUDIT`, `DENY`, `ALLOW`, or one of the last two with `dry-run`.
    pub asked: &'static str,
    pub outcome: String,
    /// The rule that matched, or the RequestAuthentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Written>,
}

/// A request after its tokens were looked at.
pub(super) struct Authenticated {
    pub token: Option<Arc<VerifiedToken>>,
    /// Headers and target as routing sees them.
    pub headers: Vec<(String, String)>,
    pub query: Option<String>,
}

impl Explanation {
    /// Asks somebody else, and looks at tokens: what comes first. Afterwards the request may look
    /// different.
    pub(super) fn tell_authentication(
        &mut self,
        snapshot: &Snapshot,
        facts: &RequestFacts<'_>,
        headers: &[(String, String)],
        now_unix_s: Option<u64>,
        places: &Places,
    ) -> Authenticated {
        let mut found = Authenticated {
            token: None,
            headers: headers.to_vec(),
            query: facts.query.map(ToString::to_string),
        };
        let access = snapshot.access_for(facts.connection.direction);
        let (Some(access), Some(now)) = (access, now_unix_s) else {
            return found;
        };
        if let Some(authorization) = &access.authorization {
            self.tell_custom(&authorization.http, &of_request(facts), places);
        }
        if let Some(authentication) = &access.authentication {
            self.tell_token(authentication, facts, now, places, &mut found);
        }
        found
    }

    fn tell_custom(&mut self, stages: &Stages, facts: &AccessFacts<'_>, places: &Places) {
        match stages.custom(facts) {
            CustomDecision::Pass => {}
            CustomDecision::Ask(provider, rule) => {
                let outcome = format!(
                    "provider `{}` is asked, at {}, for {}",
                    provider.name, provider.cluster_name, rule.name
                );
                self.word("CUSTOM", outcome, Some(rule), places);
            }
            CustomDecision::Deny(denial) => {
                let outcome = "denies: its provider does not exist, or there are several";
                self.word("CUSTOM", outcome.to_string(), denial.rule(), places);
                self.refuse(&denial, places);
            }
        }
    }

    fn tell_token(
        &mut self,
        authentication: &Authentication,
        facts: &RequestFacts<'_>,
        now_unix_s: u64,
        places: &Places,
        found: &mut Authenticated,
    ) {
        let first = authentication.rules.first();
        let written = first.and_then(|rule| places.of(&rule.origin));
        let mut say = |outcome: String| {
            self.access.push(AccessView {
                asked: "token",
                outcome,
                written: written.clone(),
            });
        };
        let mut cache = TokenCache::new(0);
        let verified = match authentication.authenticate(facts, now_unix_s, &mut cache) {
            Ok(verified) => verified,
            Err(error) => {
                let (text, _) = error.text_and_details();
                let fetched = authentication
                    .rules
                    .iter()
                    .any(|rule| rule.source != KeySource::Inline && rule.keys.is_empty());
                let unknown =
                    fetched && matches!(error, TokenError::NoKeys | TokenError::Verification);
                say(match unknown {
                    true => {
                        format!("not verified: its keys are fetched, and not known here ({text})")
                    }
                    false => format!("refused: {text}"),
                });
                if !unknown {
                    self.answer_locally(error.status(), "-", text);
                }
                return;
            }
        };
        say(match &verified.token {
            None => "there is none: the request passes on to the policies".to_string(),
            Some(token) => match token.claims.principal() {
                Some(principal) => format!("valid, of `{principal}`"),
                None => "valid, without issuer or subject".to_string(),
            },
        });
        let removed = |name: &str| {
            let mut names = verified.removed_headers.iter();
            names.any(|known| known.eq_ignore_ascii_case(name))
        };
        found.headers.retain(|(name, _)| !removed(name));
        for (name, value) in &verified.added_headers {
            found.headers.push(((*name).to_string(), value.clone()));
        }
        if let Some(query) = &found.query {
            let left = without_parameters(query, &verified.removed_parameters);
            found.query = (!left.is_empty()).then_some(left);
        }
        found.token = verified.token;
    }

    /// What AUDIT, DENY and ALLOW policies say of a request.
    pub(super) fn tell_authorization(
        &mut self,
        snapshot: &Snapshot,
        facts: &RequestFacts<'_>,
        places: &Places,
    ) {
        let access = snapshot.access_for(facts.connection.direction);
        if let Some(authorization) = access.and_then(|access| access.authorization.as_ref()) {
            self.tell_decision(&authorization.http, &of_request(facts), places);
        }
    }

    /// What policies say of a connection that is no HTTP.
    pub(super) fn tell_access_of_bytes(
        &mut self,
        snapshot: &Snapshot,
        connection: &ConnectionFacts,
        places: &Places,
    ) {
        let access = snapshot.access_for(connection.direction);
        let authorization: Option<&Arc<Authorization>> =
            access.and_then(|access| access.authorization.as_ref());
        if let Some(authorization) = authorization {
            let facts = AccessFacts::of_connection(connection);
            self.tell_custom(&authorization.tcp, &facts, places);
            self.tell_decision(&authorization.tcp, &facts, places);
            if let Some(answer) = &mut self.answer {
                answer.reason = format!("{}; the connection is closed", answer.reason);
            }
        }
    }

    fn tell_decision(&mut self, stages: &Stages, facts: &AccessFacts<'_>, places: &Places) {
        let decision: Decision<'_> = stages.decide(facts);
        if let Some(rule) = decision.audited_by {
            self.word(
                "AUDIT",
                format!("noted by {}", rule.name),
                Some(rule),
                places,
            );
        }
        if let Some(shadow) = &decision.shadow_deny {
            self.tell_shadow("DENY (dry-run)", shadow, places);
        }
        match decision.denied {
            Some(Denial::Rule(rule)) => {
                let outcome = format!("denied by {}", rule.name);
                self.word("DENY", outcome, Some(rule), places);
            }
            _ if stages.deny.enforced.is_some() => {
                self.word("DENY", "no rule matches".to_string(), None, places);
            }
            _ => {}
        }
        if let Some(shadow) = &decision.shadow_allow {
            self.tell_shadow("ALLOW (dry-run)", shadow, places);
        }
        match (decision.denied, decision.allowed_by) {
            (Some(Denial::NoRule), _) => {
                let rules = stages
                    .allow
                    .enforced
                    .as_ref()
                    .map_or(0, |set| set.rules().len());
                let outcome = match rules {
                    0 => "denied: the ALLOW policies have no rules, so they allow nothing"
                        .to_string(),
                    1 => "denied: the one rule of the ALLOW policies does not match".to_string(),
                    rules => format!("denied: none of the {rules} rules of ALLOW policies matches"),
                };
                self.word("ALLOW", outcome, None, places);
            }
            (None, Some(rule)) => {
                let outcome = format!("allowed by {}", rule.name);
                self.word("ALLOW", outcome, Some(rule), places);
            }
            _ => {}
        }
        if let Some(denial) = &decision.denied {
            self.refuse(denial, places);
        }
    }

    fn tell_shadow(&mut self, asked: &'static str, shadow: &Shadow<'_>, places: &Places) {
        let verdict = match shadow.is_allowed {
            true => "would let it pass",
            false => "would deny it",
        };
        let outcome = match shadow.rule {
            Some(rule) => format!("{verdict}, by {}", rule.name),
            None => format!("{verdict}: no rule matches"),
        };
        self.word(asked, outcome, shadow.rule, places);
    }

    fn word(&mut self, asked: &'static str, outcome: String, rule: Option<&Rule>, places: &Places) {
        self.access.push(AccessView {
            asked,
            outcome,
            written: rule.and_then(|rule| places.of(&rule.origin)),
        });
    }

    fn refuse(&mut self, denial: &Denial<'_>, places: &Places) {
        let reason = format!("RBAC: access denied, {}", denial.details());
        self.answer_locally(403, "-", reason);
        if let Some(answer) = &mut self.answer {
            answer.written = denial.rule().and_then(|rule| places.of(&rule.origin));
        }
    }
}

fn of_request<'r>(facts: &'r RequestFacts<'r>) -> AccessFacts<'r> {
    AccessFacts {
        connection: facts.connection,
        request: Some(facts),
        client: client_address(facts.connection, facts.headers),
    }
}
