//! Which DestinationRule governs a service, and what its policy comes to for a port and subset.

use std::collections::BTreeMap;

use super::names::{by_specificity, is_exported, is_subset, resolve_short_name};
use super::registry::Service;
use crate::resource::destination_rule::{
    ClientTls, ConnectionPool, DestinationRule, LoadBalancer, OutlierDetection, ProxyProtocol,
    RetryBudget, TrafficPolicy, Tunnel,
};
use crate::resource::{Object, Resources};
use crate::settings::ProxySettings;
use crate::source::{FieldPath, Origin};

/// All rules, by namespace.
#[derive(Debug)]
pub struct RuleIndex<'r> {
    by_namespace: BTreeMap<&'r str, Vec<HostRule<'r>>>,
    settings: &'r ProxySettings,
}

#[derive(Debug)]
struct HostRule<'r> {
    host: String,
    object: &'r Object<DestinationRule>,
}

/// The rule of one service: what several objects for one host come to.
#[derive(Debug, Default)]
pub struct Rule<'r> {
    pub policy: Option<Sourced<'r, TrafficPolicy>>,
    pub subsets: Vec<RuleSubset<'r>>,
    /// Whether it is for some workloads only, by their labels.
    pub selects: bool,
}

/// A subset and its place.
#[derive(Debug)]
pub struct RuleSubset<'r> {
    pub name: &'r str,
    pub labels: &'r BTreeMap<String, String>,
    pub origin: Origin,
    policy: Option<Sourced<'r, TrafficPolicy>>,
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub struct Sourced<'r, T> {
    pub value: &'r T,
    pub origin: Origin,
}

/// The blocks in force for one cluster.
#[derive(Debug, Clone, Default)]
pub struct EffectivePolicy<'r> {
    pub load_balancer: Option<Sourced<'r, LoadBalancer>>,
    pub connection_pool: Option<Sourced<'r, ConnectionPool>>,
    pub outlier_detection: Option<Sourced<'r, OutlierDetection>>,
    pub tls: Option<Sourced<'r, ClientTls>>,
    pub retry_budget: Option<Sourced<'r, RetryBudget>>,
    pub tunnel: Option<Sourced<'r, Tunnel>>,
    pub proxy_protocol: Option<Sourced<'r, ProxyProtocol>>,
}

impl<'r> RuleIndex<'r> {
    pub fn new(resources: &'r Resources, settings: &'r ProxySettings) -> Self {
        let mut by_namespace: BTreeMap<&str, Vec<HostRule<'_>>> = BTreeMap::new();
        for object in &resources.destination_rules {
            let namespace = object.metadata.namespace.as_str();
            let host = resolve_short_name(&object.spec.host, namespace, &settings.domain_suffix);
            let host = host.to_ascii_lowercase();
            by_namespace
                .entry(namespace)
                .or_default()
                .push(HostRule { host, object });
        }
        Self {
            by_namespace,
            settings,
        }
    }

    /// The rule in force for a service: from the namespace of the workload, else of the service,
    /// else the root namespace. The first namespace with a rule for the host ends the search.
    pub fn find(&self, service: &Service) -> Option<Rule<'r>> {
        let own = self.settings.namespace.as_str();
        let root = self.settings.root_namespace.as_str();
        if own != root || service.namespace == root {
            let found = self.of_namespace(own, &service.host, false);
            if found.is_some() {
                return found;
            }
        }
        [service.namespace.as_str(), root]
            .into_iter()
            .find_map(|namespace| self.of_namespace(namespace, &service.host, true))
    }

    fn of_namespace(&self, namespace: &str, host: &str, exported: bool) -> Option<Rule<'r>> {
        let rules = self.by_namespace.get(namespace)?;
        let covering = rules.iter().filter(|rule| is_subset(host, &rule.host));
        let most_specific = covering.min_by(|a, b| by_specificity(&a.host, &b.host))?;
        let visible = |rule: &&HostRule<'r>| {
            rule.host == most_specific.host
                && (!exported
                    || is_exported(
                        &rule.object.spec.export_to,
                        namespace,
                        &self.settings.namespace,
                    ))
        };
        let candidates: Vec<&HostRule<'r>> = rules.iter().filter(visible).collect();
        // Rules that select workloads come before those that do not.
        let selecting = candidates.iter().find(|rule| {
            let selector = rule.object.spec.workload_selector.as_ref();
            selector.is_some_and(|selector| {
                super::names::selects(&selector.match_labels, &self.settings.workload.labels)
            })
        });
        let selector = selecting.and_then(|rule| rule.object.spec.workload_selector.as_ref());
        let group = candidates
            .iter()
            .filter(|rule| rule.object.spec.workload_selector.as_ref() == selector);
        let mut merged: Option<Rule<'r>> = None;
        for rule in group {
            let merged = merged.get_or_insert_with(Rule::default);
            merged.selects = selector.is_some();
            merged.add(rule.object);
        }
        merged
    }
}

impl<'r> Rule<'r> {
    fn add(&mut self, object: &'r Object<DestinationRule>) {
        let spec = FieldPath::root().field("spec");
        if self.policy.is_none() {
            self.policy = object.spec.traffic_policy.as_ref().map(|value| {
                let origin = object.metadata.origin(spec.field("trafficPolicy"));
                Sourced { value, origin }
            });
        }
        for (index, subset) in object.spec.subsets.iter().enumerate() {
            if self.subsets.iter().any(|known| known.name == subset.name) {
                continue;
            }
            let place = spec.field("subsets").index(index);
            let policy = subset.traffic_policy.as_ref().map(|value| Sourced {
                value,
                origin: object.metadata.origin(place.field("trafficPolicy")),
            });
            self.subsets.push(RuleSubset {
                name: &subset.name,
                labels: &subset.labels,
                origin: object.metadata.origin(place),
                policy,
            });
        }
    }

    /// The policy for a port: of the subset if given, over that of the rule, block by block. A
    /// setting for the port replaces all blocks, those that it leaves out by their defaults.
    pub fn policy(&self, port: u32, subset: Option<&RuleSubset<'r>>) -> EffectivePolicy<'r> {
        let mut effective = EffectivePolicy::default();
        let levels = [
            self.policy.as_ref(),
            subset.and_then(|subset| subset.policy.as_ref()),
        ];
        for level in levels.into_iter().flatten() {
            effective.lay_over(level, port);
        }
        effective
    }
}

impl<'r> EffectivePolicy<'r> {
    fn lay_over(&mut self, policy: &Sourced<'r, TrafficPolicy>, port: u32) {
        let value = policy.value;
        let for_port = value
            .port_level_settings
            .iter()
            .position(|p| p.port.number == port);
        let Origin { document, field } = &policy.origin;
        let (balancer, pool, outlier, tls, base) = match for_port {
            Some(at) => {
                // A port has none of these of its own, so the destination's stay.
                let (retry_budget, tunnel) = (self.retry_budget.take(), self.tunnel.take());
                let proxy_protocol = self.proxy_protocol.take();
                *self = Self {
                    retry_budget,
                    tunnel,
                    proxy_protocol,
                    ..Self::default()
                };
                let of_port = &value.port_level_settings[at];
                (
                    &of_port.load_balancer,
                    &of_port.connection_pool,
                    &of_port.outlier_detection,
                    &of_port.tls,
                    field.field("portLevelSettings").index(at),
                )
            }
            None => (
                &value.load_balancer,
                &value.connection_pool,
                &value.outlier_detection,
                &value.tls,
                field.clone(),
            ),
        };
        let place = |name| Origin {
            document: *document,
            field: base.field(name),
        };
        let of_destination = |name| Origin {
            document: *document,
            field: field.field(name),
        };
        if let Some(value) = &policy.value.retry_budget {
            self.retry_budget = Some(Sourced {
                value,
                origin: of_destination("retryBudget"),
            });
        }
        if let Some(value) = &policy.value.proxy_protocol {
            self.proxy_protocol = Some(Sourced {
                value,
                origin: of_destination("proxyProtocol"),
            });
        }
        if let Some(value) = &policy.value.tunnel {
            self.tunnel = Some(Sourced {
                value,
                origin: of_destination("tunnel"),
            });
        }
        if let Some(value) = balancer {
            self.load_balancer = Some(Sourced {
                value,
                origin: place("loadBalancer"),
            });
        }
        if let Some(value) = pool {
            self.connection_pool = Some(Sourced {
                value,
                origin: place("connectionPool"),
            });
        }
        if let Some(value) = outlier {
            self.outlier_detection = Some(Sourced {
                value,
                origin: place("outlierDetection"),
            });
        }
        if let Some(value) = tls {
            self.tls = Some(Sourced {
                value,
                origin: place("tls"),
            });
        }
    }
}
