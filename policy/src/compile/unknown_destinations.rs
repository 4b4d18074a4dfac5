//! Services whose endpoints are where clients address them, which nobody knows without interception.

use super::Compiler;
use crate::diagnostic::{Diagnostic, Place};
use crate::settings::{InterceptionMode, Role};
use crate::source::FieldPath;

/// Warns of each ServiceEntry with resolution `NONE`, unless connections are redirected to this
/// sidecar.
pub fn report(compiler: &mut Compiler<'_>) {
    let settings = compiler.settings;
    let mode = settings.interception.mode;
    if settings.role == Role::Sidecar && mode == InterceptionMode::Redirect {
        return;
    }
    for object in &compiler.resources.service_entries {
        let written = object.spec.resolution.as_deref();
        if !matches!(written, None | Some("" | "NONE")) {
            continue;
        }
        let spec = FieldPath::root().field("spec");
        let field = match written {
            None => spec,
            Some(_) => spec.field("resolution"),
        };
        let place = Place::Field(object.metadata.origin(field));
        let message = "`resolution: NONE` goes to where clients have addressed their connections, \
                       which is known only of redirected ones: requests get 503";
        let help = "write `resolution: STATIC` with `endpoints`, `resolution: DNS`, or for a \
                    sidecar `interception: {mode: REDIRECT}` in ProxySettings";
        let warning = Diagnostic::warning("value-not-carried", place, message);
        compiler.findings.add(warning.with_help(help));
    }
}
