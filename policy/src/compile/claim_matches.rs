//! Matches by the claims of a token (`@request.auth.claims`) at a gateway that looks at no token.

use super::Compiler;
use super::http_match::claim_path;
use super::policy_targets::applies;
use crate::diagnostic::{Diagnostic, Place};
use crate::settings::Role;
use crate::source::FieldPath;

/// Warns of each such condition. In the mesh they are errors.
pub fn report(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    let settings = compiler.settings;
    let mut policies = resources.request_authentications.iter();
    let looks_at_tokens = policies.any(|object| {
        !object.spec.jwt_rules.is_empty()
            && applies(&object.metadata, &object.spec.target, settings)
    });
    if looks_at_tokens || settings.role != Role::Gateway {
        return;
    }
    for object in &resources.virtual_services {
        for (index, rule) in object.spec.http.iter().enumerate() {
            for (at, condition) in rule.r#match.iter().enumerate() {
                let headers = condition.headers.keys().map(|name| ("headers", name));
                let without = condition.without_headers.keys();
                let without = without.map(|name| ("withoutHeaders", name));
                for (list, name) in headers.chain(without) {
                    if claim_path(name).is_none() {
                        continue;
                    }
                    let (code, outcome) = match list {
                        "headers" => ("never-matches", "never matches"),
                        _ => ("no-effect", "always holds"),
                    };
                    let message = format!(
                        "no RequestAuthentication with `jwtRules` applies to this gateway, so no \
                         token is looked at: this {outcome}"
                    );
                    let help = "add a RequestAuthentication in the namespace of the gateway or in \
                                the root namespace, for all workloads there or for the labels of \
                                the gateway";
                    let rule = FieldPath::root().field("spec").field("http").index(index);
                    let place = rule.field("match").index(at).field(list).field(name);
                    let place = Place::Key(object.metadata.origin(place));
                    let warning = Diagnostic::warning(code, place, message).with_help(help);
                    compiler.findings.add(warning);
                }
            }
        }
    }
}
