//! Rules and lists of rules.

use super::condition::Condition;
use super::facts::AccessFacts;
use super::index::Index;
use crate::source::Origin;

/// One rule of a policy.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `ns[NAMESPACE]-policy[NAME]-rule[INDEX]`, as Istio calls it.
    pub name: String,
    /// Envoy's response code detail for a request that this rule denies.
    pub denial: String,
    /// Where it was written.
    pub origin: Origin,
    /// From whom: one of these groups of conditions has to hold.
    pub principals: Vec<Vec<Condition>>,
    /// What for: one of these groups of conditions has to hold.
    pub permissions: Vec<Vec<Condition>>,
}

impl Rule {
    pub fn new(
        name: String,
        origin: Origin,
        principals: Vec<Vec<Condition>>,
        permissions: Vec<Vec<Condition>>,
    ) -> Self {
        Self {
            denial: format!("rbac_access_denied_matched_policy[{name}]"),
            name,
            origin,
            principals,
            permissions,
        }
    }

    /// Whether the rule matches.
    pub fn is_match(&self, facts: &AccessFacts<'_>) -> bool {
        one_holds(&self.permissions, facts) && one_holds(&self.principals, facts)
    }
}

fn one_holds(groups: &[Vec<Condition>], facts: &AccessFacts<'_>) -> bool {
    groups
        .iter()
        .any(|group| group.iter().all(|condition| condition.holds(facts)))
}

/// Rules that have the same consequence, and an index over them.
#[derive(Debug, Clone)]
pub struct RuleSet {
    rules: Vec<Rule>,
    index: Index,
}

impl RuleSet {
    /// Envoy asks rules in the order of their names, so that is the order in which one is named.
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.sort_by(|a, b| a.name.cmp(&b.name));
        let index = Index::new(&rules);
        Self { rules, index }
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule that matches. Allocates nothing, unless a header that some rule asks for was
    /// sent several times.
    pub fn first_match(&self, facts: &AccessFacts<'_>) -> Option<&Rule> {
        let is_match = |at: usize| self.rules[at].is_match(facts);
        let at = self.index.first(self.rules.len(), facts, is_match)?;
        Some(&self.rules[at])
    }

    /// The same by asking every rule: slow and plain, for tests.
    pub fn first_match_by_asking_all(&self, facts: &AccessFacts<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.is_match(facts))
    }
}
