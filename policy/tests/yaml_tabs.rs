//! Tabs that YAML takes leave every place right; those that it does not take are told as tabs.

use ringroad_policy::diagnostic::{Diagnostic, Place};
use ringroad_policy::source::{FieldPath, SourceFile};
use ringroad_policy::yaml::{self, Document, YamlLimits};

fn parse(text: &str) -> (Vec<Document>, Vec<Diagnostic>) {
    yaml::parse(&[SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }])
}

fn field(path: &str) -> FieldPath {
    let steps = path.split('.');
    steps.fold(FieldPath::root(), |path, step| match step.parse() {
        Ok(index) => path.index(index),
        Err(_) => path.field(step),
    })
}

fn place(text: &str, document: u32, path: &str) -> (u32, u32) {
    let found = yaml::locate(text, document, &field(path));
    (found.line, found.column)
}

/// The place of `@` is looked for: it marks what the path leads to, and is taken out.
#[track_caller]
fn is_found(marked: &str, document: u32, path: &str) {
    let before = &marked[..marked.find('@').expect("a mark")];
    let line = before.matches('\n').count() as u32 + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() as u32 + 1;
    let text = marked.replacen('@', "", 1);
    assert_eq!(parse(&text).1, [], "{text:?}");
    assert_eq!(place(&text, document, path), (line, column), "{text:?}");
}

const HOST: &str = "spec.http.0.route.0.destination.host";

/// All findings from there on stood at the first line of the file.
#[test]
fn a_tab_behind_the_colon_of_a_key_leaves_all_places_right() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n\
        spec:\n  hosts: [a.com]\n  http:\n  - name: r\n    route:\n    - destination:\n        \
        host: @nope\n";
    is_found(text, 0, HOST);
    for key in ["apiVersion", "kind", "host", "name", "hosts", "metadata"] {
        for blank in ["\t", "\t\t", "\t ", " \t"] {
            let tabbed = text.replace(&format!("{key}: "), &format!("{key}:{blank}"));
            is_found(&tabbed, 0, HOST);
            is_found(&format!("# \u{e9}:\t-\n{tabbed}"), 0, HOST);
            is_found(&tabbed.replace('\n', "\r\n"), 0, HOST);
            let first = tabbed.replace('@', "");
            is_found(&format!("{first}---\n{text}"), 1, HOST);
            is_found(&format!("{first}---\n{tabbed}"), 1, HOST);
            is_found(&format!("{tabbed}---\n{first}"), 0, HOST);
        }
    }
    is_found(&text.replace("spec:", "spec:\t# a:\tb"), 0, HOST);
    is_found(&text.replace("route:", "\"route\":\t"), 0, HOST);
    is_found(&text.replace(": @nope", ":\t@'nope'"), 0, HOST);
}

#[test]
fn tabs_inside_of_texts_and_names_are_no_others() {
    let text = "apiVersion: v1\nkind:\tService\nmetadata:\n  name:\ta\n  annotations:\n    \
        one: \"a:\tb\\tc\"\n    two: 'd:\te'\n    three: |\n      f:\tg\n      \th: i\n    \
        four: j:k\tl\n    \"m:\tn\":\to\n    'p: q': r\n";
    let (documents, found) = parse(text);
    assert_eq!(found, []);
    let annotations = &documents[0].annotations;
    assert_eq!(annotations["one"], "a:\tb\tc");
    assert_eq!(annotations["two"], "d:\te");
    assert_eq!(annotations["three"], "f:\tg\n\th: i\n");
    assert_eq!(annotations["four"], "j:k\tl");
    assert_eq!(annotations["m:\tn"], "o");
    let of = |name: &str| {
        let path = field("metadata.annotations").field(name);
        let found = yaml::locate(text, 0, &path);
        (found.line, found.column)
    };
    assert_eq!(of("two"), (7, 10));
    assert_eq!(of("three"), (8, 5));
    assert_eq!(of("four"), (11, 11));
    assert_eq!(of("m:\tn"), (12, 13));
    assert_eq!(of("p: q"), (13, 13));
}

/// These were refused without a place, or for the tab.
#[test]
fn what_is_refused_below_such_a_tab_is_named_at_its_place() {
    let text = "apiVersion: v1\nkind:\tService\nmetadata: {name: a}\nmetadata: {name: b}\n";
    let (_, found) = parse(text);
    let [one] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(one.code, "duplicate-key");
    assert!(
        matches!(one.place, Place::Position { position, .. } if position.line == 4),
        "{one:?}"
    );
    // So many separators that the text is looked through first.
    let limits = YamlLimits {
        max_nodes: 12,
        ..YamlLimits::default()
    };
    let file = SourceFile {
        path: "a.yaml".to_string(),
        text: text[..text.len() - 20].to_string() + "# - - - - - - - - - -\n",
    };
    assert_eq!(yaml::parse_within(&[file], &limits).1, []);
}

#[test]
fn a_tab_between_a_dash_and_its_item_is_told_as_a_tab() {
    let text = |item: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec:\n  ports:\n{item}\n")
    };
    for (item, column) in [
        ("  -\tname: a", 4),
        ("  - \tname: a", 5),
        ("  -\ta", 4),
        ("  - name: a\n  -\t- b", 4),
    ] {
        let (_, found) = parse(&text(item));
        let [one] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(one.code, "yaml-tab", "{item:?}");
        let Place::Position { position, .. } = one.place else {
            panic!("{one:?}")
        };
        assert_eq!(position.column, column, "{item:?}");
        assert!(
            one.help
                .as_deref()
                .is_some_and(|help| help.contains("space"))
        );
    }
}
