//! The form of paths that routes, policies and upstreams see.

mod support;

use std::borrow::Cow;

use proptest::prelude::*;
use ringroad_policy::snapshot::path::{Normalization, PathError};
use support::*;

const ALL: [Normalization; 4] = [
    Normalization::None,
    Normalization::Base,
    Normalization::MergeSlashes,
    Normalization::DecodeAndMergeSlashes,
];

#[test]
fn paths_are_normalised_as_istio_does_by_default() {
    for (path, normal) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/../b", "/b"),
        ("/../../a", "/a"),
        ("/a/./b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a%2Fb", "/a%2Fb"),
        ("/%61%7e", "/a~"),
        ("\\a\\..\\b", "/b"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("/.hidden/..a", "/.hidden/..a"),
        ("/%zz%4", "/%zz%4"),
        ("/a b{}", "/a%20b%7B%7D"),
        ("/a^b|c", "/a%5Eb%7Cc"),
        ("/é", "/%C3%A9"),
        ("*", "*"),
    ] {
        assert_eq!(
            Normalization::Base.apply(path).as_deref(),
            Ok(normal),
            "{path}"
        );
    }
    assert!(matches!(
        Normalization::Base.apply("/a/b.c/..d"),
        Ok(Cow::Owned(_) | Cow::Borrowed(_))
    ));
    assert!(matches!(
        Normalization::Base.apply("/plain/path.html"),
        Ok(Cow::Borrowed(_))
    ));
    assert_eq!(Normalization::Base.apply("a"), Err(PathError::NotAbsolute));
    assert_eq!(Normalization::Base.apply(""), Err(PathError::NotAbsolute));
    assert_eq!(Normalization::Base.apply("/a#b"), Err(PathError::Fragment));
    assert_eq!(Normalization::Base.apply("/a%00"), Err(PathError::Nul));
}

#[test]
fn a_dot_segment_does_not_hide_behind_parameters() {
    for (path, normal) in [
        ("/a/..;/b", "/b"),
        ("/a/..;x=y/b", "/b"),
        ("/a/..;;/b", "/b"),
        ("/a/..;..;/b", "/b"),
        ("/a/..;x%2fy/b", "/b"),
        ("/a/..;%zz/b", "/b"),
        ("/a/.;/b", "/a/b"),
        ("/a/.;x/b", "/a/b"),
        ("/a/.;./b", "/a/b"),
        ("/..;/b", "/b"),
        ("/..;", "/"),
        ("/a/..;", "/"),
        ("/a/..;x", "/"),
        ("/a/.;x", "/a/"),
        ("/a/..;/", "/"),
        ("/a/..;/..", "/"),
        ("/a/b/..;x/..;y/c", "/c"),
        ("/a/b/../..;/c", "/c"),
        ("/a//..;/b", "/a/b"),
        ("/;/..;/b", "/b"),
        ("/a;x/..;/b", "/b"),
        // No dot segments.
        ("/a/...;/b", "/a/...;/b"),
        ("/a/..x;/b", "/a/..x;/b"),
        ("/a/;../b", "/a/;../b"),
        ("/a;..", "/a;.."),
        ("/a/..%3b/b", "/a/..%3b/b"),
        ("/a/..\\;/b", "/;/b"),
        // Its dots may come escaped.
        ("/a/%2e%2e;/b", "/b"),
        ("/a/.%2E;x=y/b", "/b"),
        ("/a/%2e;/b", "/a/b"),
        ("/a/b/..;/%2e%2e;/c", "/c"),
    ] {
        for kind in &ALL[1..] {
            if path.contains("%2f") && *kind == Normalization::DecodeAndMergeSlashes {
                continue;
            }
            assert_eq!(
                kind.apply(path).as_deref(),
                Ok(normal),
                "{kind:?} of {path}"
            );
        }
        assert_eq!(Normalization::None.apply(path).as_deref(), Ok(path));
    }
    let decoded = Normalization::DecodeAndMergeSlashes.apply("/a/..;x%2fy/b");
    assert_eq!(decoded.as_deref(), Ok("/y/b"));
}

#[test]
fn a_document_chooses_what_is_done_to_paths() {
    for (written, chosen) in [
        ("{}", Normalization::Base),
        ("{normalization: DEFAULT}", Normalization::Base),
        ("{normalization: BASE}", Normalization::Base),
        ("{normalization: NONE}", Normalization::None),
        (
            "{normalization: MERGE_SLASHES}",
            Normalization::MergeSlashes,
        ),
        (
            "{normalization: DECODE_AND_MERGE_SLASHES}",
            Normalization::DecodeAndMergeSlashes,
        ),
    ] {
        let text = format!(
            "apiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: p}}\n\
             spec: {{pathNormalization: {written}}}\n"
        );
        assert_eq!(snapshot(&text).settings.path_normalization, chosen);
    }
}

#[test]
fn slashes_are_merged_and_decoded_where_that_is_chosen() {
    for (path, normal) in [
        ("//a", ["//a", "//a", "/a", "/a"]),
        ("/a///b//", ["/a///b//", "/a///b//", "/a/b/", "/a/b/"]),
        ("//", ["//", "//", "/", "/"]),
        ("/a//../b", ["/a//../b", "/a/b", "/a/b", "/a/b"]),
        ("/a%2Fb", ["/a%2Fb", "/a%2Fb", "/a%2Fb", "/a/b"]),
        (
            "/a%2f%5C%5cb",
            ["/a%2f%5C%5cb", "/a%2f%5C%5cb", "/a%2f%5C%5cb", "/a/b"],
        ),
        (
            "/a%2f..%2fb",
            ["/a%2f..%2fb", "/a%2f..%2fb", "/a%2f..%2fb", "/b"],
        ),
        ("/a%252fb", ["/a%252fb", "/a%252fb", "/a%252fb", "/a%252fb"]),
        ("/%61", ["/%61", "/a", "/a", "/a"]),
        ("*", ["*", "*", "*", "*"]),
    ] {
        let found = ALL.map(|kind| kind.apply(path).unwrap().into_owned());
        assert_eq!(found, normal, "{path}");
    }
    assert_eq!(
        Normalization::None.apply("\\a"),
        Err(PathError::NotAbsolute)
    );
}

#[test]
fn what_was_resolved_is_no_part_of_another_escape() {
    for (path, normal) in [
        ("/%%36%31", "/%2561"),
        ("/%6%31", "/%2561"),
        ("/%%361", "/%2561"),
        ("/%%%36%31", "/%%2561"),
        ("/%%2F", "/%%2F"),
        ("/%2%46", "/%252F"),
        ("/%", "/%"),
        ("/%4", "/%4"),
    ] {
        let found = Normalization::Base.apply(path);
        assert_eq!(found.as_deref(), Ok(normal), "{path}");
    }
}

/// Paths of the pieces that normalisation is about.
fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", "//", "\\", ".", "..", "%", "%%", "%2", "%2f", "%2F", "%5c", "%2e", "%25", "%41",
        "%61", "%36", "%7", "6", "1", "a", "F", "e", "{", " ", "\u{e9}", "*", ";", "%ff",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn a_normal_path_stays_as_it_is(path in paths()) {
        for kind in ALL {
            let once = kind.apply(&path).unwrap().into_owned();
            let twice = kind.apply(&once).unwrap();
            prop_assert_eq!(&once, &twice, "{:?} of {}", kind, path);
        }
    }

    #[test]
    fn what_normalisation_promises_to_remove_is_gone(path in paths()) {
        for kind in &ALL[1..] {
            let normal = kind.apply(&path).unwrap().into_owned();
            prop_assert!(normal.starts_with('/'));
            prop_assert!(!normal.contains('\\'));
            prop_assert!(normal.is_ascii());
            let mut names = normal.split('/').filter_map(|segment| segment.split(';').next());
            prop_assert!(!names.any(|name| name == "." || name == ".."));
            let lower = normal.to_ascii_lowercase();
            prop_assert!(!lower.contains("%61") && !lower.contains("%2e"));
            if *kind != Normalization::Base {
                prop_assert!(!normal.contains("//"));
            }
            if *kind == Normalization::DecodeAndMergeSlashes {
                prop_assert!(!lower.contains("%2f") && !lower.contains("%5c"));
            }
        }
    }
}
