//! The whole pipeline in one call.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread;

use crate::compile::compile;
use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::resource::Resources;
use crate::settings::{Overrides, ProxySettings, ProxySettingsSpec};
use crate::snapshot::{DnsTable, Snapshot};
use crate::source::{FieldPath, SourceFile};
use crate::validate::validate;
use crate::yaml::{self, Document};

/// What a directory of files comes to.
#[derive(Debug)]
pub struct Loaded {
    /// `None` when a diagnostic is an error: the one that was running stays.
    pub snapshot: Option<Snapshot>,
    pub diagnostics: Vec<Diagnostic>,
}

/// Parses, validates and compiles. Pure: the same files, flags and answers give the same
/// snapshot. `resolved` are the addresses of names as far as they are known; names that it lacks
/// have no endpoints until [`Snapshot::with_resolved`] is given them.
pub fn load(files: &[SourceFile], overrides: &Overrides, resolved: &DnsTable) -> Loaded {
    let (documents, mut diagnostics) = yaml::parse(files);
    let (found, (resources, unreadable)) = validate_and_read(&documents);
    diagnostics.extend(found);
    if has_error(&diagnostics) {
        return Loaded {
            snapshot: None,
            diagnostics,
        };
    }
    diagnostics.extend(unreadable);
    let settings = settings_of(&resources, overrides, &mut diagnostics);
    if has_error(&diagnostics) {
        return Loaded {
            snapshot: None,
            diagnostics,
        };
    }
    let (snapshot, found) = thread::scope(|scope| {
        // To free so many small values takes as long as to compile them.
        let _ = thread::Builder::new().spawn_scoped(scope, move || drop(documents));
        compile(&resources, Arc::new(settings), resolved)
    });
    diagnostics.extend(found);
    let snapshot = (!has_error(&diagnostics)).then_some(snapshot);
    Loaded {
        snapshot,
        diagnostics,
    }
}

/// Both at a time: each of them takes a good part of a reload.
fn validate_and_read(documents: &[Document]) -> (Vec<Diagnostic>, (Resources, Vec<Diagnostic>)) {
    thread::scope(|scope| {
        let reader = thread::Builder::new().spawn_scoped(scope, || Resources::read(documents));
        let found = validate(documents);
        let read = match reader.map(|thread| thread.join()) {
            Ok(Ok(read)) => read,
            Ok(Err(panic)) => resume_unwind(panic),
            // There can be no second thread.
            Err(_) => Resources::read(documents),
        };
        (found, read)
    })
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics
        .iter()
        .any(|diagnostic| diagnostic.severity == Severity::Error)
}

fn settings_of(
    resources: &Resources,
    overrides: &Overrides,
    diagnostics: &mut Vec<Diagnostic>,
) -> ProxySettings {
    let mut objects = resources.proxy_settings.iter();
    let first = objects.next();
    for further in objects {
        let place = Place::field(further.metadata.document, FieldPath::root().field("kind"));
        let message = "a second ProxySettings: only one says how the process runs";
        diagnostics.push(
            Diagnostic::error("duplicate-settings", place, message)
                .with_help("merge both into one document"),
        );
    }
    let default = ProxySettingsSpec::default();
    let spec = first.map_or(&default, |object| &object.spec);
    let has_gateways = !resources.gateways.is_empty();
    match ProxySettings::resolve(spec, overrides, has_gateways) {
        Ok(settings) => settings,
        Err(error) => {
            let place = match first {
                Some(object) => Place::Field(object.metadata.origin(error.field)),
                None => Place::Nowhere,
            };
            let refused = Diagnostic::error("invalid-settings", place, error.message);
            diagnostics.push(refused.with_help(error.help));
            ProxySettings::default()
        }
    }
}
