//! Runs the validation over a text and tells what it found.
#![allow(dead_code, reason = "each test uses a part of it")]

use ringroad_policy::diagnostic::{Place, Severity};
use ringroad_policy::source::SourceFile;
use ringroad_policy::validate::validate;
use ringroad_policy::yaml;

/// A diagnostic, with its place as text.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    pub severity: Severity,
    pub code: &'static str,
    pub path: String,
    pub message: String,
    pub help: String,
}

/// What validation finds in a text that is good YAML.
#[track_caller]
pub fn find(text: &str) -> Vec<Found> {
    let (documents, unreadable) = yaml::parse(&[SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }]);
    assert_eq!(unreadable, [], "{text}");
    validate(&documents)
        .into_iter()
        .map(|diagnostic| Found {
            severity: diagnostic.severity,
            code: diagnostic.code,
            path: match &diagnostic.place {
                Place::Field(origin) | Place::Key(origin) => origin.field.to_string(),
                other => format!("{other:?}"),
            },
            message: diagnostic.message,
            help: diagnostic.help.unwrap_or_default(),
        })
        .collect()
}

/// Severity and code of each finding.
#[track_caller]
pub fn severity_and_codes(text: &str) -> Vec<(Severity, &'static str)> {
    find(text)
        .iter()
        .map(|found| (found.severity, found.code))
        .collect()
}

/// Code and path of each error.
#[track_caller]
pub fn errors(text: &str) -> Vec<(&'static str, String)> {
    of_severity(text, Severity::Error)
}

/// Code and path of each warning, but for kinds that are only validated.
#[track_caller]
pub fn warnings(text: &str) -> Vec<(&'static str, String)> {
    let mut found = of_severity(text, Severity::Warning);
    found.retain(|(code, _)| *code != "kind-not-carried");
    found
}

#[track_caller]
fn of_severity(text: &str, severity: Severity) -> Vec<(&'static str, String)> {
    find(text)
        .into_iter()
        .filter(|found| found.severity == severity)
        .map(|found| (found.code, found.path))
        .collect()
}
