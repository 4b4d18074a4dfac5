//! Who may do what: AuthorizationPolicy, compiled.
//!
//! Policies are asked in Istio's order, CUSTOM, AUDIT, DENY, ALLOW, on the very path, host and
//! headers that routing sees. A DENY rule that matches refuses; where there is an ALLOW policy, one
//! of its rules has to match.

mod address;
mod condition;
mod facts;
mod identity;
mod index;
mod keys;
mod nest;
mod rules;
mod text;

pub use address::AddressBlock;
pub use condition::{Condition, RequestPrincipalTest, Test};
pub use facts::{AccessFacts, client_address};
pub use identity::{NamespaceTest, ServiceAccountTest, TrustDomainTest};
pub use rules::{Rule, RuleSet};
pub use text::{PathTemplate, PathTest, TextTest};

use std::sync::Arc;

use crate::settings::Provider;
use crate::snapshot::ClusterId;

/// The policies of a workload.
#[derive(Debug, Clone, Default)]
pub struct Authorization {
    /// For requests.
    pub http: Stages,
    /// For connections of which nothing but their ends is known.
    pub tcp: Stages,
}

/// Policies by what they do.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    pub custom: Option<Custom>,
    /// Action AUDIT: requests to be noted.
    pub audit: Option<RuleSet>,
    pub deny: Enforcement,
    pub allow: Enforcement,
}

/// Rules in force, and rules that are tried out.
#[derive(Debug, Clone, Default)]
pub struct Enforcement {
    /// `None` where no policy says anything; a set without rules says that nothing matches.
    pub enforced: Option<RuleSet>,
    /// With the annotation `istio.io/dry-run`: counted, without consequence.
    pub shadow: Option<RuleSet>,
}

/// Action CUSTOM: requests that somebody else decides about.
#[derive(Debug, Clone)]
pub struct Custom {
    pub rules: RuleSet,
    pub decider: Decider,
}

/// Who decides about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decider {
    Provider(Arc<CheckProvider>),
    /// Nobody: the provider does not exist or cannot be told from others, so requests are denied.
    Nobody,
}

/// A service that is asked whether a request may pass. Istio: `extensionProviders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckProvider {
    pub name: String,
    /// `outbound|PORT||HOST`.
    pub cluster_name: String,
    /// `None` when the service has no such port: nobody can be asked.
    pub cluster: Option<ClusterId>,
    pub settings: Provider,
}

/// Why a request is denied.
#[derive(Debug, Clone, Copy)]
pub enum Denial<'p> {
    /// A DENY rule matches.
    Rule(&'p Rule),
    /// There are ALLOW policies, and no rule of them matches.
    NoRule,
    /// A CUSTOM rule matches that nobody decides about.
    NoDecider(&'p Rule),
}

/// What becomes of an access.
#[derive(Debug, Clone, Copy, Default)]
pub struct Decision<'p> {
    /// `None`: it is allowed.
    pub denied: Option<Denial<'p>>,
    /// The ALLOW rule that matched.
    pub allowed_by: Option<&'p Rule>,
    /// The AUDIT rule that matched.
    pub audited_by: Option<&'p Rule>,
    /// Whether DENY policies that are tried out would have let it pass.
    pub shadow_deny: Option<Shadow<'p>>,
    /// Whether ALLOW policies that are tried out would have let it pass.
    pub shadow_allow: Option<Shadow<'p>>,
}

/// What policies that are tried out would have done.
#[derive(Debug, Clone, Copy)]
pub struct Shadow<'p> {
    pub is_allowed: bool,
    /// The rule that matched.
    pub rule: Option<&'p Rule>,
}

/// What to do about the CUSTOM action.
#[derive(Debug, Clone, Copy)]
pub enum CustomDecision<'p> {
    /// No rule matches: nothing.
    Pass,
    /// The provider decides.
    Ask(&'p Arc<CheckProvider>, &'p Rule),
    Deny(Denial<'p>),
}

impl<'p> Denial<'p> {
    /// Envoy's response code detail.
    pub fn details(&self) -> &'p str {
        match self {
            Self::Rule(rule) | Self::NoDecider(rule) => &rule.denial,
            Self::NoRule => "rbac_access_denied_matched_policy[none]",
        }
    }

    /// The rule that matched.
    pub fn rule(&self) -> Option<&'p Rule> {
        match self {
            Self::Rule(rule) | Self::NoDecider(rule) => Some(rule),
            Self::NoRule => None,
        }
    }
}

impl Stages {
    /// Whether no policy applies.
    pub fn is_empty(&self) -> bool {
        let sets = [
            &self.audit,
            &self.deny.enforced,
            &self.deny.shadow,
            &self.allow.enforced,
            &self.allow.shadow,
        ];
        self.custom.is_none() && sets.iter().all(|set| set.is_none())
    }

    /// Whether any policy in force can deny.
    pub fn enforces(&self) -> bool {
        self.deny.enforced.is_some() || self.allow.enforced.is_some()
    }

    /// Whether somebody else decides. Comes first, before tokens are looked at.
    pub fn custom(&self, facts: &AccessFacts<'_>) -> CustomDecision<'_> {
        let Some(custom) = &self.custom else {
            return CustomDecision::Pass;
        };
        match (custom.rules.first_match(facts), &custom.decider) {
            (None, _) => CustomDecision::Pass,
            (Some(rule), Decider::Provider(provider)) => CustomDecision::Ask(provider, rule),
            (Some(rule), Decider::Nobody) => CustomDecision::Deny(Denial::NoDecider(rule)),
        }
    }

    /// Decides by AUDIT, DENY and ALLOW policies.
    pub fn decide(&self, facts: &AccessFacts<'_>) -> Decision<'_> {
        let mut decision = Decision {
            audited_by: self.audit.as_ref().and_then(|set| set.first_match(facts)),
            ..Decision::default()
        };
        decision.shadow_deny = self.deny.shadow.as_ref().map(|set| {
            let rule = set.first_match(facts);
            let is_allowed = rule.is_none();
            Shadow { is_allowed, rule }
        });
        if let Some(set) = &self.deny.enforced
            && let Some(rule) = set.first_match(facts)
        {
            decision.denied = Some(Denial::Rule(rule));
            return decision;
        }
        decision.shadow_allow = self.allow.shadow.as_ref().map(|set| {
            let rule = set.first_match(facts);
            let is_allowed = rule.is_some();
            Shadow { is_allowed, rule }
        });
        if let Some(set) = &self.allow.enforced {
            decision.allowed_by = set.first_match(facts);
            if decision.allowed_by.is_none() {
                decision.denied = Some(Denial::NoRule);
            }
        }
        decision
    }
}
