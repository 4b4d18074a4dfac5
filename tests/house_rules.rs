//! Rules that no compiler checks, such as where locks may be.

use std::process::Command;

#[test]
fn the_rules_of_the_house_are_kept() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let git = Command::new("git").args(["-C", root, "ls-files"]).output();
    if !git.is_ok_and(|listed| listed.status.success()) {
        println!("skipped: the sources are no clone of git's");
        return;
    }
    let script = format!("{root}/tests/house-rules.sh");
    let run = Command::new("bash").arg(script).output().expect("runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
}
