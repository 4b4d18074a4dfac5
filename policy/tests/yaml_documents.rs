//! From text to documents: what a file gives, and what it is refused for.

use ringroad_policy::diagnostic::{Diagnostic, Place, Severity, render_text};
use ringroad_policy::source::{FieldPath, FileId, Position, SourceFile};
use ringroad_policy::yaml::{self, Document};

fn parse(text: &str) -> (Vec<Document>, Vec<Diagnostic>) {
    yaml::parse(&[SourceFile {
        path: "a.yaml".to_string(),
        text: text.to_string(),
    }])
}

fn accepted(text: &str) -> Vec<Document> {
    let (documents, diagnostics) = parse(text);
    assert_eq!(diagnostics, []);
    documents
}

fn codes(text: &str) -> Vec<&'static str> {
    parse(text)
        .1
        .iter()
        .map(|diagnostic| diagnostic.code)
        .collect()
}

const HEAD: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: a}\n";

#[test]
fn reads_the_head_of_each_document_of_a_file() {
    let documents = accepted(
        "# first\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: b\n  \
         labels: {app: x}\n  annotations: {8080: web, on: yes}\n  \
         creationTimestamp: 2024-01-02T03:04:05Z\nspec: {ports: []}\n---\n---\n# nothing\n---\n\
         apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: c, \
         creationTimestamp: null}\n",
    );
    let [service, gateway] = &documents[..] else {
        panic!("{documents:?}")
    };
    assert_eq!(
        (service.kind.as_str(), service.api_version.as_str()),
        ("Service", "v1")
    );
    assert_eq!(
        (service.name.as_str(), service.namespace.as_str()),
        ("a", "b")
    );
    assert_eq!(service.labels["app"], "x");
    assert_eq!(service.annotations["8080"], "web");
    assert_eq!(service.annotations["on"], "yes");
    assert_eq!(service.created_unix_s, Some(1_704_164_645));
    assert!(service.value["spec"]["ports"].is_sequence());
    assert_eq!(
        (gateway.name.as_str(), gateway.namespace.as_str()),
        ("c", "default")
    );
    assert_eq!(gateway.created_unix_s, None);
    assert_eq!((service.id.index, gateway.id.index), (0, 1));
}

#[test]
fn text_without_a_document_gives_none() {
    for text in [
        "",
        "\n",
        "---\n",
        "# only a comment\n",
        "--- ~\n...\n---\n",
        "\u{feff}",
    ] {
        assert_eq!(accepted(text), [], "{text:?}");
    }
}

#[test]
fn a_list_is_replaced_by_its_items() {
    let item = "{apiVersion: v1, kind: Service, metadata: {name: NAME}}";
    let documents = accepted(&format!(
        "apiVersion: v1\nkind: List\nitems:\n- {}\n- {}\n",
        item.replace("NAME", "a"),
        item.replace("NAME", "b")
    ));
    let names: Vec<_> = documents
        .iter()
        .map(|document| document.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(codes(&list("items: 3")), ["bad-list"]);
    assert_eq!(codes(&list("items: [{kind: List}]")), ["bad-list"]);
    for empty in ["items: []", "metadata: {resourceVersion: \"\"}\nitems: []"] {
        assert_eq!(accepted(&list(empty)), []);
    }
}

fn list(fields: &str) -> String {
    format!("apiVersion: v1\nkind: List\n{fields}\n")
}

fn list_of_virtual_services(fields: &str) -> String {
    format!("apiVersion: networking.istio.io/v1\nkind: VirtualServiceList\n{fields}\n")
}

/// Code, line and help of each finding.
fn told(text: &str) -> Vec<(&'static str, u32, String)> {
    let (_, found) = parse(text);
    let told = found.into_iter().map(|one| {
        let (Place::Field(origin) | Place::Key(origin)) = &one.place else {
            panic!("{one:?}")
        };
        let line = yaml::locate(text, origin.document.index, &origin.field).line;
        (one.code, line, one.help.unwrap_or_default())
    });
    told.collect()
}

#[test]
fn a_list_without_its_items_is_no_empty_list() {
    let item = "{apiVersion: v1, kind: Service, metadata: {name: a}}";
    let meant = |line| ("unknown-field", line, "did you mean `items`?".to_string());
    for key in ["item", "itemz", "Items"] {
        let misspelt = format!("{key}:\n- {item}");
        assert_eq!(told(&list(&misspelt)), [meant(3)]);
        assert_eq!(told(&list_of_virtual_services(&misspelt)), [meant(3)]);
    }
    assert_eq!(
        told(&list(&format!("items: [{item}]\nitem: []"))),
        [meant(4)]
    );
    assert_eq!(codes(&list("")), ["bad-list"]);
    assert_eq!(codes(&list_of_virtual_services("")), ["bad-list"]);
    let codes_of_spec = codes(&list("spec: {a: b}"));
    assert_eq!(codes_of_spec, ["unknown-field", "bad-list"]);
    let both = list(&format!("spec: {{a: b}}\nitems: [{item}]"));
    assert_eq!(codes(&both), ["unknown-field"]);
}

#[test]
fn a_list_has_the_version_of_a_list() {
    let of = |api_version: &str, kind: &str| {
        told(&format!(
            "apiVersion: {api_version}\nkind: {kind}\nitems: []\n"
        ))
    };
    let told = |code, line, help: &str| vec![(code, line, help.to_string())];
    let istio = "networking.istio.io/v1";
    let write_v1 = "write `apiVersion: v1`";
    assert_eq!(of("v2", "List"), told("unknown-api-version", 1, write_v1));
    assert_eq!(of(istio, "List"), told("unknown-api-group", 1, write_v1));
    let no_version = parse("kind: List\nitems: []\n").1;
    assert_eq!(no_version[0].code, "missing-api-version");
    assert_eq!(no_version[0].help.as_deref(), Some(write_v1));

    assert_eq!(of(istio, "VirtualServiceList"), []);
    assert_eq!(of("v1", "ConfigMapList"), []);
    assert_eq!(of("gateway.networking.k8s.io/v1", "GatewayList"), []);
    let found = of("networking.istio.io/v2", "VirtualServiceList");
    assert_eq!((found[0].0, found[0].1), ("unknown-api-version", 1));
    assert!(found[0].2.contains(istio), "{found:?}");
    let found = of("v1", "VirtualServiceList");
    assert_eq!((found[0].0, found[0].1), ("unknown-api-group", 1));
    let found = of(istio, "VirtualSeviceList");
    assert_eq!(
        found,
        told("unknown-kind", 2, "did you mean `VirtualService`?")
    );
}

/// As `kubectl get --raw` writes it: each item was refused for the lack of a head.
#[test]
fn items_of_a_list_of_one_kind_are_of_that_kind() {
    let of = |api_version: &str, list: &str, item: &str| {
        format!(
            "apiVersion: {api_version}\nkind: {list}\nmetadata: {{resourceVersion: \"1\"}}\nitems:\n\
             - metadata: {{name: a}}\n  {item}\n- {{metadata: {{name: b}}, kind: \"\", apiVersion: null}}\n"
        )
    };
    for (api_version, kind) in [
        ("networking.istio.io/v1", "VirtualService"),
        ("security.istio.io/v1beta1", "AuthorizationPolicy"),
        ("v1", "Service"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("v1", "ConfigMap"),
    ] {
        let documents = accepted(&of(api_version, &format!("{kind}List"), "spec: {}"));
        let heads = documents.iter().map(|document| {
            let value = |name| document.value[name].as_str().unwrap_or_default();
            assert_eq!(document.kind, value("kind"));
            assert_eq!(document.api_version, value("apiVersion"));
            (value("apiVersion"), value("kind"), document.name.as_str())
        });
        let heads: Vec<_> = heads.collect();
        assert_eq!(heads, [(api_version, kind, "a"), (api_version, kind, "b")]);
        let index: Vec<_> = documents.iter().map(|one| one.id.index).collect();
        assert_eq!(index, [1, 2]);
    }
    let text = of(
        "networking.istio.io/v1",
        "VirtualServiceList",
        "spec: {hostz: [a]}",
    );
    let hosts = FieldPath::root().field("spec").field("hostz");
    let found = yaml::locate(&text, 1, &hosts);
    assert_eq!((found.line, found.column), (6, 10));

    // What an item says itself holds, and in a plain List it has to say it.
    let other = of("v1", "ServiceList", "kind: Secret\n  apiVersion: v1");
    assert_eq!(accepted(&other)[0].kind, "Secret");
    let half = of("v1", "ServiceList", "kind: Service");
    assert_eq!(codes(&half), ["missing-api-version"]);
    let plain = of("v1", "List", "spec: {}");
    assert_eq!(codes(&plain).len(), 3, "{:?}", codes(&plain));
}

#[test]
fn what_is_nearly_a_list_is_not_told_that_it_has_no_name() {
    let misspelt = |kind: &str| told(&format!("apiVersion: v1\nkind: {kind}\nitems: []\n"));
    for kind in ["list", "Lsit", "LIST"] {
        let meant = "did you mean `List`?".to_string();
        assert_eq!(misspelt(kind), [("unknown-kind", 2, meant)]);
    }
    let found = misspelt("Many");
    assert_eq!(found[0].0, "missing-name");
    assert!(found[0].2.contains("`kind: List`"), "{found:?}");
}

#[test]
fn json_is_yaml() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \
                \"a\\/b\"}\n}\n";
    assert_eq!(accepted(text)[0].name, "a/b");
}

/// Both were refused, in text that `kubectl` takes.
#[test]
fn json_may_be_indented_with_tabs_and_escape_characters_in_pairs() {
    let text = "{\n\t\"apiVersion\": \"networking.istio.io/v1\",\n\t\"kind\": \"Gateway\",\n\t\
        \"metadata\": {\n\t\t\"name\": \"a\",\n\t\t\"annotations\": {\n\t\t\t\
        \"a\": \"\\ud83d\\uDE00 \\\\ud83d \\u00e9\\t\"\n\t\t}\n\t},\n\t\
        \"spec\": {\n\t\t\"servers\": [\n\t\t\t{\n\t\t\t\t\"hostz\": [\"*\"]\n\t\t\t}\n\t\t]\n\t}\n}\n";
    let [gateway] = &accepted(text)[..] else {
        panic!("one document")
    };
    assert_eq!(gateway.annotations["a"], "\u{1f600} \\ud83d \u{e9}\t");
    let field = FieldPath::root().field("spec").field("servers");
    let hosts = yaml::locate(text, 0, &field.index(0).field("hostz"));
    assert_eq!((hosts.line, hosts.column), (13, 5));
    // What is YAML alone keeps its tabs.
    let block = "apiVersion: v1\nkind: Service\nmetadata: {name: a, annotations: {b: \"c\td\"}}\n";
    assert_eq!(accepted(block)[0].annotations["b"], "c\td");
    // Of JSON that is wrong, it is not the tabs that are told.
    let (_, found) = parse("{\n\t\"kind\": {\n\t\t\"a\": 1\n\t\t\"b\": 2\n\t}\n}\n");
    assert_eq!(found[0].code, "yaml-syntax", "{found:?}");
    let two = "{\n\ta: {\n\t\tb: c\n\t}\n}\n---\na: |\n \tb\n";
    assert_eq!(codes(two), ["missing-kind", "yaml-tab"]);
    // No JSON, and a backslash before what is longer than a byte.
    assert_eq!(codes("{\n\t\"kind\": \"\\ud83d \\\u{e9}\"\n}\n").len(), 1);
}

#[test]
fn aliases_are_written_out() {
    let documents = accepted(&format!("{HEAD}spec:\n  a: &x [1, 2]\n  b: *x\n"));
    assert_eq!(
        documents[0].value["spec"]["a"],
        documents[0].value["spec"]["b"]
    );
}

#[test]
fn json_of_another_program_does_not_refuse_the_directory() {
    let of = |path: &str, text: &str| {
        let (documents, found) = yaml::parse(&[
            SourceFile {
                path: "a.yaml".to_string(),
                text: HEAD.to_string(),
            },
            SourceFile {
                path: path.to_string(),
                text: text.to_string(),
            },
        ]);
        let found = found.iter().map(|it| (it.code, it.severity));
        (documents.len(), found.collect::<Vec<_>>())
    };
    let left_out = (1, vec![("foreign-file", Severity::Warning)]);
    assert_eq!(
        of("case.json", "{\"name\": \"x\", \"expect\": []}"),
        left_out
    );
    // What was meant as a resource is refused.
    let refused = (1, vec![("missing-kind", Severity::Error)]);
    for meant in [
        "{\"Kind\": \"Gateway\"}",
        "{\"spec\": {}}",
        "{\"items\": []}",
    ] {
        assert_eq!(of("case.json", meant), refused, "{meant}");
    }
    assert_eq!(of("case.yaml", "name: x\nexpect: []\n"), refused);
}

#[test]
fn names_what_is_missing_or_wrong_in_a_head() {
    assert_eq!(codes("spec: {}\n"), ["missing-kind"]);
    assert_eq!(codes("apiVersion: v1\n"), ["missing-kind"]);
    assert_eq!(codes("kind: Service\n"), ["missing-api-version"]);
    assert_eq!(codes("apiVersion: v1\nkind: Service\n"), ["missing-name"]);
    assert_eq!(codes("- a\n"), ["not-a-mapping"]);
    assert_eq!(codes("just text\n"), ["not-a-mapping"]);
    assert_eq!(
        codes("apiVersion: v1\nkind: Service\nmetadata: {name: 5}\n"),
        ["bad-metadata"]
    );
    assert_eq!(
        codes("apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {a: 1, b: {}}}\n"),
        ["bad-metadata", "bad-metadata"]
    );
    let created =
        "apiVersion: v1\nkind: Service\nmetadata: {name: a, creationTimestamp: yesterday}\n";
    assert_eq!(codes(created), ["bad-metadata"]);
    assert_eq!(
        codes("apiVersion: kustomize.config.k8s.io/v1\nkind: Kustomization\n"),
        [""; 0]
    );
}

/// Files that begin with a byte order mark, joined with `between`.
fn joined(between: &str) -> String {
    let of =
        |name: &str| format!("\u{feff}apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n");
    format!("{}{between}{}", of("a"), of("b"))
}

#[test]
fn joined_files_may_keep_their_byte_order_marks() {
    let texts = [
        joined("...\n---\n"),
        joined("---\r\n"),
        joined("--- # next\n\n  # more\n"),
        joined("...\n---\n"),
        joined("---\n\u{feff}# next\n"),
        joined("\u{feff}---\n"),
        joined("\u{feff}---\n\u{feff}"),
        joined("...\n\u{feff}%YAML 1.2\n---\n"),
    ];
    for text in texts {
        let names: Vec<_> = accepted(&text).into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["a", "b"], "{text:?}");
    }
    let large = joined(&format!("---\n{}", "# filled\n".repeat(20_000)));
    assert_eq!(accepted(&large).len(), 2);
}

#[test]
fn places_after_a_later_byte_order_mark_are_right() {
    let text = joined("\u{feff}---\n");
    let kind = FieldPath::root().field("kind");
    let name = FieldPath::root().field("metadata").field("name");
    assert_eq!(place(&text, &kind), (6, 7));
    assert_eq!(place(&text, &name), (7, 18));
    let version = FieldPath::root().field("apiVersion");
    assert_eq!(place(&text, &version), (5, 13), "the mark takes no column");
    let broken = joined("---\n") + "  : x\n\t- y";
    let (_, found) = parse(&broken);
    let Place::Position { position, .. } = found[0].place else {
        panic!("{found:?}");
    };
    assert_eq!(position.line, 8, "{found:?}");
    let files = [SourceFile {
        path: "a.yaml".into(),
        text: joined("---\n").replace("apiVersion: v1", "apiVersion: 1"),
    }];
    let shown = render_text(&files, &yaml::parse(&files).1);
    assert!(
        shown.contains("\n5 | apiVersion: 1\n  |             ^\n"),
        "{shown}"
    );
}

fn place(text: &str, path: &FieldPath) -> (u32, u32) {
    let position = yaml::locate(text, 1, path);
    (position.line, position.column)
}

#[test]
fn a_byte_order_mark_inside_of_a_document_is_pointed_at() {
    let texts = [
        (joined(""), 4),
        (joined("spec:\n"), 5),
        (joined("--- {}\n"), 5),
        (joined("\r\r\n"), 6),
    ];
    for (text, line) in texts {
        let (_, found) = parse(&text);
        let at = Place::Position {
            file: FileId(0),
            position: Position { line, column: 1 },
        };
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (found[0].code, &found[0].place),
            ("yaml-syntax", &at),
            "{text:?}"
        );
        assert!(found[0].message.contains("byte order mark"));
    }
    let inside = "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: {a: \"\u{feff}b\"}}\n";
    assert_eq!(accepted(inside)[0].labels["a"], "\u{feff}b");
}
