//! `docs/diagnostics.md` lists every code that the sources use, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, out);
        } else if name.ends_with(".rs") && !name.contains("tests") {
            out.push(path);
        }
    }
}

#[test]
fn the_page_of_codes_is_complete_and_has_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    sources(&root.join("policy/src"), &mut files);
    sources(&root.join("engine/src/control"), &mut files);
    sources(&root.join("engine/src/tls"), &mut files);

    // A code is a first or second argument of what makes a diagnostic, or a named constant.
    let call = r#"(?:\b|key_)(?:error|warning|warn|refuse)\(\s*(?:[^";]{0,80}?,\s*)?"([a-z0-9]+(?:-[a-z0-9]+)+)""#;
    let call = Regex::new(call).unwrap();
    let constant = Regex::new(r#"pub const [A-Z_]+: &str = "([a-z]+(?:-[a-z0-9]+)+)";"#).unwrap();
    let mut used = BTreeSet::new();
    let mut all_text = String::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        used.extend(call.captures_iter(&text).map(|found| found[1].to_string()));
        if file.ends_with("yaml/mod.rs") {
            used.extend(
                constant
                    .captures_iter(&text)
                    .map(|found| found[1].to_string()),
            );
        }
        all_text += &text;
    }
    assert!(used.len() > 30, "the scan finds what it should: {used:?}");

    let page = fs::read_to_string(root.join("docs/diagnostics.md")).unwrap();
    let row = Regex::new(r"(?m)^\| `([a-z0-9]+(?:-[a-z0-9]+)*)` \| [A-Z]").unwrap();
    let listed: Vec<String> = row
        .captures_iter(&page)
        .map(|found| found[1].to_string())
        .collect();
    let documented: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(
        listed.len(),
        documented.len(),
        "a code stands twice on the page"
    );

    let missing: Vec<_> = used.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "add a row to docs/diagnostics.md for {missing:?}"
    );
    let stale: Vec<_> = documented
        .iter()
        .filter(|code| !all_text.contains(&format!("\"{code}\"")))
        .collect();
    assert!(
        stale.is_empty(),
        "remove the rows of docs/diagnostics.md for {stale:?}"
    );
}
