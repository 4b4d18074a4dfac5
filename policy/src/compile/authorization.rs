//! AuthorizationPolicy → rules, as Istio tells them to Envoy.

use std::sync::Arc;

use super::clusters::Clusters;
use super::names::cluster_name;
use super::policy_targets::applies;
use super::registry::Registry;
use crate::authorize::{
    AddressBlock, Authorization, CheckProvider, Condition, Custom, Decider, NamespaceTest,
    PathTest, RequestPrincipalTest, Rule, RuleSet, ServiceAccountTest, Stages, Test, TextTest,
    TrustDomainTest,
};
use crate::resource::authorization_policy::{
    AccessRule, Action, AuthorizationPolicy, Operation, Source, When,
};
use crate::resource::{Metadata, Object};
use crate::settings::{CheckProtocol, ProxySettings};
use crate::source::FieldPath;

/// The policies that apply to the workload at hand; `None` when there are none.
pub fn authorization(
    policies: &[Object<AuthorizationPolicy>],
    settings: &ProxySettings,
    registry: &Registry,
    clusters: &Clusters,
) -> Option<Authorization> {
    let selected: Vec<_> = policies
        .iter()
        .filter(|object| applies(&object.metadata, &object.spec.target, settings))
        .collect();
    if selected.is_empty() {
        return None;
    }
    let find = |name: &str| provider(name, settings, registry, clusters);
    let authorization = Authorization {
        http: stages(&selected, settings, &find, false),
        tcp: stages(&selected, settings, &find, true),
    };
    Some(authorization)
}

/// Finds a provider by its name; nothing when it is not defined, or its service is not declared.
type FindProvider<'f> = dyn Fn(&str) -> Option<CheckProvider> + 'f;

/// The provider of this name, where its service is. As in Istio the service is named in full,
/// perhaps with its namespace before it.
pub(super) fn provider(
    name: &str,
    settings: &ProxySettings,
    registry: &Registry,
    clusters: &Clusters,
) -> Option<CheckProvider> {
    let provider = settings.extension_providers.get(name)?;
    let (namespace, host) = match provider.service.split_once('/') {
        Some((namespace, host)) => (Some(namespace), host),
        None => (None, provider.service.as_str()),
    };
    let service = registry.services.iter().find(|service| {
        service.host.eq_ignore_ascii_case(host)
            && namespace.is_none_or(|wanted| service.namespace == wanted)
    })?;
    let cluster_name = cluster_name(u32::from(provider.port), "", &service.host);
    Some(CheckProvider {
        name: name.to_string(),
        cluster: clusters.id(&cluster_name),
        cluster_name,
        settings: provider.clone(),
    })
}

type Selected<'r> = [&'r Object<AuthorizationPolicy>];

fn stages(
    selected: &Selected<'_>,
    settings: &ProxySettings,
    find: &FindProvider<'_>,
    is_tcp: bool,
) -> Stages {
    let set = |action: Action, dry_run: bool| {
        let mut objects = selected.iter().filter(|object| {
            object.spec.action == action && is_dry_run(&object.metadata) == dry_run
        });
        let first = objects.next()?;
        let rules = std::iter::once(first).chain(objects);
        let rules = rules.flat_map(|object| rules_of(object, settings, is_tcp));
        Some(RuleSet::new(rules.collect()))
    };
    let mut stages = Stages {
        custom: custom(selected, settings, find, is_tcp),
        audit: set(Action::Audit, false),
        ..Stages::default()
    };
    stages.deny.enforced = set(Action::Deny, false);
    stages.deny.shadow = set(Action::Deny, true);
    stages.allow.enforced = set(Action::Allow, false);
    stages.allow.shadow = set(Action::Allow, true);
    stages
}

/// The annotation `istio.io/dry-run`.
pub(super) fn is_dry_run(metadata: &Metadata) -> bool {
    let value = metadata.annotations.get("istio.io/dry-run");
    value.is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
}

/// Rules of the action CUSTOM. As long as one workload has one provider, as in Istio, several are
/// a mistake that denies; so is a provider that is not defined.
fn custom(
    selected: &Selected<'_>,
    settings: &ProxySettings,
    find: &FindProvider<'_>,
    is_tcp: bool,
) -> Option<Custom> {
    let is_custom = |object: &&&Object<AuthorizationPolicy>| {
        object.spec.action == Action::Custom && !is_dry_run(&object.metadata)
    };
    let objects: Vec<_> = selected.iter().filter(is_custom).collect();
    let name_of = |object: &Object<AuthorizationPolicy>| {
        let provider = object.spec.provider.as_ref();
        provider.map_or(String::new(), |provider| provider.name.clone())
    };
    let name = name_of(objects.first()?);
    let is_alone = objects.iter().all(|object| name_of(object) == name);
    let provider = is_alone.then(|| find(&name)).flatten();
    let knows_requests_alone = provider
        .as_ref()
        .is_some_and(|provider| matches!(provider.settings.protocol, CheckProtocol::Http(_)));
    if knows_requests_alone && is_tcp {
        // A provider that is asked over HTTP knows requests alone.
        return None;
    }
    let rules = objects
        .iter()
        .flat_map(|object| rules_of(object, settings, is_tcp));
    let (decider, rules) = match provider {
        Some(provider) => (Decider::Provider(Arc::new(provider)), rules.collect()),
        None => {
            let denying = |rule: Rule| Rule {
                denial: format!(
                    "rbac_access_denied_matched_policy[{}-deny-due-to-bad-CUSTOM-action]",
                    rule.name
                ),
                ..rule
            };
            (Decider::Nobody, rules.map(denying).collect())
        }
    };
    let rules = RuleSet::new(rules);
    Some(Custom { rules, decider })
}

/// The rules of a policy that can be asked; on TCP, those of ALLOW that ask for anything of HTTP
/// are left out, and those of other actions lose what they ask (Istio: `checkError`).
fn rules_of(
    object: &Object<AuthorizationPolicy>,
    settings: &ProxySettings,
    is_tcp: bool,
) -> Vec<Rule> {
    let Object { metadata, spec } = object;
    let prefix = match (spec.action, &spec.provider) {
        (Action::Custom, Some(provider)) => format!("istio-ext-authz-{}-", provider.name),
        _ => String::new(),
    };
    let mut rules = Vec::new();
    for (at, rule) in spec.rules.iter().enumerate() {
        let reader = RuleReader {
            namespace: &metadata.namespace,
            settings,
            action: spec.action,
            is_tcp,
        };
        let Some((principals, permissions)) = reader.groups(rule) else {
            continue;
        };
        let (namespace, name) = (&metadata.namespace, &metadata.name);
        let name = format!("{prefix}ns[{namespace}]-policy[{name}]-rule[{at}]");
        let field = FieldPath::root().field("spec").field("rules").index(at);
        rules.push(Rule::new(
            name,
            metadata.origin(field),
            principals,
            permissions,
        ));
    }
    rules
}

/// Reads one rule.
struct RuleReader<'r> {
    namespace: &'r str,
    settings: &'r ProxySettings,
    action: Action,
    is_tcp: bool,
}

type Group = Vec<Condition>;
type Groups = Vec<Group>;

/// Which list of a source or an operation asks for what.
type Make<'r> = &'r dyn Fn(&[String], bool) -> Option<Test>;

impl RuleReader<'_> {
    /// From whom and what for; `None` when the rule does not count.
    fn groups(&self, rule: &AccessRule) -> Option<(Groups, Groups)> {
        let (mut principal, mut permission) = (Group::new(), Group::new());
        for when in &rule.when {
            self.add_when(when, &mut principal, &mut permission)?;
        }
        let mut principals = Groups::new();
        for from in &rule.from {
            let mut group = principal.clone();
            self.add_source(&from.source, &mut group)?;
            principals.push(group);
        }
        let mut permissions = Groups::new();
        for to in &rule.to {
            let mut group = permission.clone();
            self.add_operation(&to.operation, &mut group)?;
            permissions.push(group);
        }
        if principals.is_empty() {
            principals.push(principal);
        }
        if permissions.is_empty() {
            permissions.push(permission);
        }
        Some((principals, permissions))
    }

    /// Adds a condition on the values of one attribute. `None`: the rule does not count.
    fn add(
        &self,
        values: &[String],
        not_values: &[String],
        make: Make<'_>,
        group: &mut Group,
    ) -> Option<()> {
        let read = |list: &[String], is_negated: bool| -> Option<Option<Test>> {
            if list.is_empty() {
                return Some(None);
            }
            match make(list, is_negated) {
                Some(test) if !(self.is_tcp && test.is_http_only()) => Some(Some(test)),
                _ if self.action == Action::Allow => None,
                _ => Some(None),
            }
        };
        let (values, not_values) = (read(values, false)?, read(not_values, true)?);
        if values.is_some() || not_values.is_some() {
            group.push(Condition { values, not_values });
        }
        Some(())
    }

    fn add_source(&self, source: &Source, group: &mut Group) -> Option<()> {
        let Source {
            principals,
            not_principals,
            request_principals,
            not_request_principals,
            namespaces,
            not_namespaces,
            service_accounts,
            not_service_accounts,
            trust_domains,
            not_trust_domains,
            ip_blocks,
            not_ip_blocks,
            remote_ip_blocks,
            not_remote_ip_blocks,
        } = source;
        let fields: [(_, _, &str); 7] = [
            (principals, not_principals, "source.principal"),
            (
                request_principals,
                not_request_principals,
                "request.auth.principal",
            ),
            (namespaces, not_namespaces, "source.namespace"),
            (
                service_accounts,
                not_service_accounts,
                "source.serviceAccount",
            ),
            (trust_domains, not_trust_domains, "source.trustDomain"),
            (ip_blocks, not_ip_blocks, "source.ip"),
            (remote_ip_blocks, not_remote_ip_blocks, "remote.ip"),
        ];
        for (values, not_values, attribute) in fields {
            let make = |list: &[String], _| self.test(attribute, list);
            self.add(values, not_values, &make, group)?;
        }
        Some(())
    }

    fn add_operation(&self, operation: &Operation, group: &mut Group) -> Option<()> {
        let Operation {
            hosts,
            not_hosts,
            ports,
            not_ports,
            methods,
            not_methods,
            paths,
            not_paths,
        } = operation;
        let port = |list: &[String], _| self.test("destination.port", list);
        let method = |list: &[String], _| Some(Test::Method(texts(list, TextTest::of_header)));
        let path = |list: &[String], _| {
            Some(Test::Path(
                list.iter().map(|value| PathTest::new(value)).collect(),
            ))
        };
        let host = |list: &[String], is_negated| {
            Some(Test::Host {
                values: texts(list, |value| TextTest::of_header(value).to_lower_case()),
                refuses: (self.action == Action::Allow) == is_negated,
            })
        };
        self.add(ports, not_ports, &port, group)?;
        self.add(methods, not_methods, &method, group)?;
        self.add(paths, not_paths, &path, group)?;
        self.add(hosts, not_hosts, &host, group)
    }

    fn add_when(&self, when: &When, principal: &mut Group, permission: &mut Group) -> Option<()> {
        let When {
            key,
            values,
            not_values,
        } = when;
        let is_permission = key.starts_with("destination.")
            || key.starts_with("experimental.")
            || key == "connection.sni";
        let group = if is_permission { permission } else { principal };
        let make = |list: &[String], _| self.test(key, list);
        self.add(values, not_values, &make, group)
    }

    /// The test of an attribute; `None` when there is no such attribute.
    fn test(&self, attribute: &str, values: &[String]) -> Option<Test> {
        let blocks = || -> Option<Vec<AddressBlock>> {
            values
                .iter()
                .map(|value| AddressBlock::parse(value))
                .collect()
        };
        let texts = || texts(values, TextTest::new);
        Some(match attribute {
            "source.ip" => Test::PeerAddress(blocks()?),
            "remote.ip" => Test::ClientAddress(blocks()?),
            "destination.ip" => Test::DestinationAddress(blocks()?),
            "destination.port" => {
                let ports = values.iter().map(|value| value.parse().ok());
                Test::DestinationPort(ports.collect::<Option<_>>()?)
            }
            "connection.sni" => Test::ServerName(texts()),
            "source.principal" => {
                let aliases = self.settings.trust_domains();
                let all = values
                    .iter()
                    .flat_map(|value| with_aliases(value, &aliases));
                Test::Principal(all.map(|value| TextTest::new(&value)).collect())
            }
            "source.namespace" => Test::Namespace(
                values
                    .iter()
                    .map(|value| NamespaceTest::new(value))
                    .collect(),
            ),
            "source.serviceAccount" => {
                let read = |value: &String| ServiceAccountTest::new(value, self.namespace);
                Test::ServiceAccount(values.iter().map(read).collect())
            }
            "source.trustDomain" => {
                let domains = self.settings.trust_domains();
                let mut all = Vec::new();
                for value in values {
                    if domains.contains(&value.as_str()) {
                        all.extend(domains.iter().map(|domain| TrustDomainTest::new(domain)));
                    } else {
                        all.push(TrustDomainTest::new(value));
                    }
                }
                Test::TrustDomain(all)
            }
            "request.auth.principal" => {
                let read = |value: &String| RequestPrincipalTest::new(value);
                Test::RequestPrincipal(values.iter().map(read).collect())
            }
            "request.auth.audiences" => claim(vec!["aud".to_string()], texts()),
            "request.auth.presenter" => claim(vec!["azp".to_string()], texts()),
            _ => {
                let (map, key) = attribute.split_once('[')?;
                let key = key.strip_suffix(']')?;
                match map {
                    "request.headers" => Test::Header {
                        name: key.to_ascii_lowercase(),
                        values: self::texts(values, TextTest::of_header),
                    },
                    "request.auth.claims" => claim(claim_path(key), texts()),
                    _ if map.starts_with("experimental.envoy.filters.") => Test::Absent,
                    _ => return None,
                }
            }
        })
    }
}

fn texts(values: &[String], read: impl Fn(&str) -> TextTest) -> Vec<TextTest> {
    values.iter().map(|value| read(value)).collect()
}

fn claim(path: Vec<String>, values: Vec<TextTest>) -> Test {
    Test::Claim { path, values }
}

/// `group][id` is a nested claim; anything that does not read so is one name.
fn claim_path(inside: &str) -> Vec<String> {
    let parts: Vec<String> = inside.split("][").map(ToString::to_string).collect();
    let is_plain = |part: &String| !part.contains(['[', ']']);
    match parts.iter().all(is_plain) {
        true => parts,
        false => vec![inside.to_string()],
    }
}

/// The principal under each trust domain that the mesh goes by. `cluster.local` is the mesh's own,
/// whatever its name.
fn with_aliases(principal: &str, domains: &[&str]) -> Vec<String> {
    let parts: Vec<&str> = principal.split('/').collect();
    let (written, rest) = match parts.split_first() {
        Some((domain, rest)) if parts.len() == 5 && *domain != "*" => (*domain, rest.join("/")),
        _ => return vec![principal.to_string()],
    };
    let is_ours = domains.iter().any(|ours| overlaps(written, ours));
    if !is_ours && written != "cluster.local" {
        return vec![principal.to_string()];
    }
    let mut all: Vec<String> = Vec::new();
    for domain in domains {
        let covered = written
            .strip_prefix('*')
            .is_some_and(|suffix| domain.ends_with(suffix));
        let principal = match covered {
            true => principal.to_string(),
            false => format!("{domain}/{rest}"),
        };
        if !all.contains(&principal) {
            all.push(principal);
        }
    }
    all
}

/// Whether one of the two is the other, or a pattern with `*` at one end that covers it.
fn overlaps(a: &str, b: &str) -> bool {
    let covers = |pattern: &str, text: &str| {
        let suffix = pattern.strip_prefix('*');
        let prefix = pattern.strip_suffix('*');
        suffix.is_some_and(|suffix| text.ends_with(suffix))
            || prefix.is_some_and(|prefix| text.starts_with(prefix))
    };
    a == b || covers(a, b) || covers(b, a)
}
