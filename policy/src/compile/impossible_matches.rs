//! Conditions of `http[].match[]` that no request can meet: paths that are not in the form which
//! routes see, and hosts that do not lead to the VirtualService.

use std::net::IpAddr;

use super::Compiler;
use super::gateway_tables::resolved_hosts;
use super::names::is_subset;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::TextMatch;
use crate::snapshot::path::Normalization;
use crate::snapshot::without_port;
use crate::source::FieldPath;

/// Warns of each such condition.
pub fn report(compiler: &mut Compiler<'_>) {
    let resources = compiler.resources;
    let paths = compiler.settings.path_normalization;
    for object in &resources.virtual_services {
        let hosts = resolved_hosts(object, compiler.settings);
        let hosts: Vec<String> = hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
        for (index, rule) in object.spec.http.iter().enumerate() {
            for (at, condition) in rule.r#match.iter().enumerate() {
                let rule = FieldPath::root().field("spec").field("http").index(index);
                let place = |field: &str| {
                    let field = rule.field("match").index(at).field(field);
                    Place::Field(object.metadata.origin(field))
                };
                if let Some((message, help)) = condition
                    .uri
                    .as_ref()
                    .and_then(|uri| path_is_lost(uri, paths))
                {
                    let warning = Diagnostic::warning("never-matches", place("uri"), message);
                    compiler.findings.add(warning.with_help(help));
                }
                let authority = condition.authority.as_ref();
                let exact = authority.and_then(|text| text.exact.as_deref());
                if let Some(exact) = exact
                    && !leads_here(exact, &hosts, compiler)
                {
                    let message = format!(
                        "no request for `{exact}` comes to this VirtualService, which has the \
                         hosts {}: this never matches",
                        hosts.join(", ")
                    );
                    let warning = Diagnostic::warning("never-matches", place("authority"), message);
                    let help = "add it to `hosts`, or remove the condition";
                    compiler.findings.add(warning.with_help(help));
                }
            }
        }
    }
}

/// Why no path is like this once it is normal, and what to write.
fn path_is_lost(uri: &TextMatch, paths: Normalization) -> Option<(String, String)> {
    let wrong = |reason: String| format!("{reason}: this never matches");
    if let Some(exact) = &uri.exact {
        return match paths.apply(exact) {
            Ok(normal) if normal == exact.as_str() => None,
            Ok(normal) => Some((
                wrong(format!(
                    "paths are matched in their normal form, in which `{exact}` is `{normal}`"
                )),
                format!("write `{normal}`"),
            )),
            // Of that the validation tells.
            Err(_) => None,
        };
    }
    // What a prefix ends in may go on.
    let prefix = uri.prefix.as_deref()?;
    let whole_segments = prefix.rsplit('/').skip(1);
    let has_dots = whole_segments
        .map(|segment| segment.split(';').next())
        .any(|name| matches!(name, Some("." | "..")));
    (has_dots && paths != Normalization::None).then(|| {
        let reason = format!(
            "paths are matched in their normal form, without dot segments as in `{prefix}`"
        );
        let normal = paths.apply(prefix);
        let help = normal.map(|normal| format!("write `{normal}`"));
        let otherwise = "write the path without them".to_string();
        (wrong(reason), help.unwrap_or(otherwise))
    })
}

/// Whether a request with this Host may come to a VirtualService of these hosts. Says so of what
/// only a look at every service would tell.
fn leads_here(authority: &str, hosts: &[String], compiler: &Compiler<'_>) -> bool {
    let host = without_port(authority).to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_alias = || {
        let service = compiler.registry.find(host, "");
        service.is_some_and(|service| service.alias_of.is_some())
    };
    // Without hosts it is delegated to, by one that has some.
    hosts.is_empty()
        || bare.parse::<IpAddr>().is_ok()
        || hosts.iter().any(|own| {
            is_subset(host, own)
                // Its abbreviations, and the pods behind a headless service.
                || own.strip_prefix(host).is_some_and(|rest| rest.starts_with('.'))
                || host.strip_suffix(own.as_str()).is_some_and(|pod| pod.ends_with('.'))
        })
        || abbreviates(host, hosts, compiler)
        || is_alias()
}

/// Whether it is a short name of a service that a wildcard covers.
fn abbreviates(host: &str, hosts: &[String], compiler: &Compiler<'_>) -> bool {
    let mut services = compiler
        .registry
        .services
        .iter()
        .map(|service| &service.host);
    services.any(|service| {
        let rest = service.strip_prefix(host);
        rest.is_some_and(|rest| rest.starts_with('.'))
            && hosts.iter().any(|own| is_subset(service, own))
    })
}
