use super::*;
use std::os::unix::fs::symlink;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn read_one(root: &Path) -> Reading {
    read(&[root.to_path_buf()], &ReadLimits::default()).expect("the folder is there")
}

fn texts(reading: &Reading) -> Vec<&str> {
    reading
        .files
        .iter()
        .map(|file| file.text.as_str())
        .collect()
}

#[test]
fn takes_yaml_and_json_with_subfolders_in_the_order_of_their_names() {
    let root = folder();
    for (name, text) in [
        ("b.yaml", "b"),
        ("a.yml", "a"),
        ("c.JSON", "c"),
        ("notes.txt", "no"),
    ] {
        fs::write(root.path().join(name), text).expect("written");
    }
    fs::create_dir(root.path().join("more")).expect("created");
    fs::write(root.path().join("more/d.yaml"), "d").expect("written");
    fs::write(root.path().join(".hidden.yaml"), "no").expect("written");
    let reading = read_one(root.path());
    assert_eq!(texts(&reading), ["a", "b", "c", "d"]);
    assert_eq!(reading.problems, []);
}

#[test]
fn follows_a_kubernetes_volume_through_its_swap() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    for (dated, text) in [("..2026_01", "old"), ("..2026_02", "new")] {
        fs::create_dir(at(dated)).expect("created");
        fs::write(at(dated).join("routes.yaml"), text).expect("written");
    }
    symlink("..2026_01", at("..data")).expect("linked");
    symlink("..data/routes.yaml", at("routes.yaml")).expect("linked");
    assert_eq!(texts(&read_one(root.path())), ["old"]);
    let before = fingerprint(&[root.path().into()], &ReadLimits::default()).expect("listed");

    symlink("..2026_02", at("..data_tmp")).expect("linked");
    fs::rename(at("..data_tmp"), at("..data")).expect("swapped");
    assert_eq!(texts(&read_one(root.path())), ["new"]);
    let after = fingerprint(&[root.path().into()], &ReadLimits::default()).expect("listed");
    assert_ne!(before, after);
}

#[test]
fn a_folder_that_is_given_twice_is_read_once() {
    let root = folder();
    fs::create_dir(root.path().join("sub")).expect("created");
    fs::write(root.path().join("a.yaml"), "a").expect("written");
    fs::write(root.path().join("sub/b.yaml"), "b").expect("written");
    let path = root.path().to_path_buf();
    let roots = [path.clone(), path.join("sub"), path];
    let reading = read(&roots, &ReadLimits::default()).expect("read");
    assert_eq!(texts(&reading), ["a", "b"]);
}

#[test]
fn a_file_that_is_reached_by_two_ways_is_read_once() {
    let root = folder();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("sub")).expect("created");
    fs::write(at("sub/a.yaml"), "a").expect("written");
    fs::write(at("b.yaml"), "b").expect("written");
    symlink("sub/a.yaml", at("z.yaml")).expect("linked");
    let roots = [root.path().to_path_buf(), at("b.yaml"), at("sub/a.yaml")];
    let reading = read(&roots, &ReadLimits::default()).expect("read");
    assert_eq!(texts(&reading), ["b", "a"]);
    let alone = read(&[at("b.yaml"), at("b.yaml")], &ReadLimits::default()).expect("read");
    assert_eq!(texts(&alone), ["b"]);
}

#[test]
fn a_cycle_of_links_ends() {
    let root = folder();
    fs::write(root.path().join("a.yaml"), "a").expect("written");
    symlink(".", root.path().join("again")).expect("linked");
    assert_eq!(texts(&read_one(root.path())), ["a"]);
}

#[test]
fn text_that_is_not_utf_8_is_named_with_its_place() {
    let root = folder();
    fs::write(root.path().join("bad.yaml"), b"a: 1\nb\xc3\xa9: \xff\n").expect("written");
    let reading = read_one(root.path());
    assert_eq!(texts(&reading), [""]);
    let [problem] = &reading.problems[..] else {
        panic!("{:?}", reading.problems)
    };
    assert_eq!(problem.code, "not-utf-8");
    let position = Position { line: 2, column: 5 };
    assert_eq!(
        problem.place,
        Place::Position {
            file: FileId(0),
            position
        }
    );
}

#[test]
fn limits_are_told_and_not_passed_over() {
    let root = folder();
    fs::write(root.path().join("a.yaml"), "12345").expect("written");
    fs::write(root.path().join("b.yaml"), "123").expect("written");
    let roots = [root.path().to_path_buf()];
    let codes = |limits: ReadLimits| -> Vec<&'static str> {
        let reading = read(&roots, &limits).expect("read");
        reading
            .problems
            .iter()
            .map(|problem| problem.code)
            .collect()
    };
    let limits = ReadLimits::default();
    assert_eq!(
        codes(ReadLimits {
            max_file_bytes: 4,
            ..limits
        }),
        ["file-too-large"]
    );
    assert_eq!(
        codes(ReadLimits {
            max_total_bytes: 7,
            ..limits
        }),
        ["configuration-too-large"]
    );
    assert_eq!(
        codes(ReadLimits {
            max_files: 1,
            ..limits
        }),
        ["too-many-files"]
    );
    assert_eq!(codes(limits), Vec::<&str>::new());
}

/// A folder of many large files that are no configuration was parsed all the same, for minutes.
#[test]
fn what_is_too_large_together_is_not_kept_for_parsing() {
    let root = folder();
    for name in ["a.yaml", "b.yaml", "c.yaml", "d.yaml"] {
        fs::write(root.path().join(name), "a: 1\n").expect("written");
    }
    let limits = ReadLimits {
        max_total_bytes: 12,
        ..ReadLimits::default()
    };
    let reading = read(&[root.path().to_path_buf()], &limits).expect("is there");
    assert_eq!(reading.problems.len(), 1, "{:?}", reading.problems);
    assert!(reading.files.iter().all(|file| file.text.is_empty()));
}

#[test]
fn what_cannot_be_opened_is_named() {
    let root = folder();
    symlink("nowhere.yaml", root.path().join("dangling.yaml")).expect("linked");
    let fifo = root.path().join("pipe.yaml");
    let name = std::ffi::CString::new(fifo.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: `name` is a NUL-terminated path that outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let reading = read_one(root.path());
    assert_eq!(reading.problems.len(), 2, "{:?}", reading.problems);
    assert!(
        reading
            .problems
            .iter()
            .all(|problem| problem.code == "unreadable" && problem.help.is_some())
    );
}

#[test]
fn files_that_are_removed_while_they_are_read_are_no_fault() {
    let root = folder();
    let path = |name: &str| root.path().join(name);
    for name in ["a.yaml", "b.yaml"] {
        fs::write(path(name), "a: 1\n").expect("written");
    }
    symlink("nowhere.yaml", path("dangling.yaml")).expect("linked");
    let limits = ReadLimits::default();
    let steps = &Steps::new(limits.max_stall);
    let pass = Pass { limits, steps };
    let look = || list(&[root.path().to_path_buf()], &pass).expect("is there");
    let before = look();
    fs::remove_file(path("b.yaml")).expect("removed");
    let seen = read_listed(&before, &pass);
    assert_eq!(seen.problems.len(), 2, "{:?}", seen.problems);
    let mut forgiven = seen.clone();
    forgive_removed(&mut forgiven, &before, &look());
    assert_eq!(
        forgiven.problems,
        seen.problems[1..],
        "a link stays a fault"
    );
    // With the last of them gone, nothing may be taken for a configuration without documents.
    let lone = folder();
    fs::write(lone.path().join("a.yaml"), "a: 1\n").expect("written");
    let look_alone = || list(&[lone.path().to_path_buf()], &pass).expect("is there");
    let before_alone = look_alone();
    fs::remove_file(lone.path().join("a.yaml")).expect("removed");
    let mut last = read_listed(&before_alone, &pass);
    forgive_removed(&mut last, &before_alone, &look_alone());
    assert_eq!(last.problems.len(), 1, "{last:?}");
    // It may have got another name.
    fs::write(path("c.yaml"), "a: 1\n").expect("written");
    let mut kept = seen.clone();
    forgive_removed(&mut kept, &before, &look());
    assert_eq!(kept, seen);
}

#[test]
fn a_path_that_is_not_there_is_an_error_of_its_own() {
    let root = folder();
    let gone = root.path().join("gone");
    let error = read(&[gone], &ReadLimits::default()).expect_err("is not there");
    assert!(
        error.to_string().ends_with("gone does not exist"),
        "{error}"
    );
}

#[test]
fn a_file_without_text_is_refused_and_one_with_a_comment_is_not() {
    let root = folder();
    let path = root.path().join("routes.yaml");
    for text in ["", "\n", " \r\n\t", "\u{feff}", "\u{feff}\n"] {
        fs::write(&path, text).expect("written");
        let problems = read_one(root.path()).problems;
        let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["empty-file"], "{text:?}");
    }
    fs::write(&path, "# none\n").expect("written");
    assert_eq!(read_one(root.path()).problems, []);
}
