//! Test cases as they are written.

use serde_yaml::{Mapping, Value};

use crate::diagnostic::{Diagnostic, Place, Severity};
use crate::schema::{self, Node, Report, nearest};
use crate::source::{DocumentId, FieldPath, Origin, SourceFile, Step};
use crate::yaml::{self, Document};

/// Fields of a route that a case may expect, by the names of Istio's `HTTPRoute`. The first six
/// are those that istio-config-validator knows.
pub(super) const EXPECTED_FIELDS: [&str; 13] = [
    "route",
    "redirect",
    "rewrite",
    "fault",
    "headers",
    "delegate",
    "directResponse",
    "timeout",
    "retries",
    "mirror",
    "mirrors",
    "mirrorPercentage",
    "corsPolicy",
];

const CODE: &str = "invalid-test-case";

/// One item of `testCases`.
#[derive(Debug, Clone)]
pub struct Case {
    /// In the files that were given to [`read`].
    pub origin: Origin,
    pub description: String,
    /// Whether the expectations are to hold; when they are not, each of them has to fail.
    pub want_match: bool,
    pub request: RequestMatrix,
    /// Fields of the route, and what they should be.
    pub expected: Vec<(&'static str, Value)>,
}

/// `request`: every combination of authority, method and URI is a request of its own.
#[derive(Debug, Clone, Default)]
pub struct RequestMatrix {
    pub authorities: Vec<String>,
    pub methods: Vec<String>,
    /// Paths, with their query.
    pub uris: Vec<String>,
    /// Of every request.
    pub headers: Vec<(String, String)>,
    /// `namespace/name` of the gateway that receives it, or `mesh`; by default the one that knows
    /// the host best. An addition of Ringroad.
    pub gateway: Option<String>,
    /// The port that it comes in at. An addition of Ringroad.
    pub port: Option<u16>,
    /// `http` or `https`. An addition of Ringroad.
    pub scheme: Option<String>,
}

/// All cases of all files, and what is wrong with them. With an error among the findings no case
/// should be run: it may be the one that matters.
pub fn read(files: &[SourceFile]) -> (Vec<Case>, Vec<Diagnostic>) {
    let (documents, mut found) = yaml::parse_plain(files);
    let mut cases = Vec::new();
    for (id, value) in &documents {
        let mut reader = Reader {
            document: *id,
            found: &mut found,
        };
        reader.read_document(value, &mut cases);
    }
    (cases, found)
}

/// Whether a file of a folder that holds both is none of the configuration.
pub fn has_cases_alone(file: &SourceFile) -> bool {
    has_key(file, "testCases:") && !has_key(file, "kind:")
}

/// Whether a file of a folder that holds both has no test cases.
pub fn is_configuration(file: &SourceFile) -> bool {
    has_key(file, "kind:") && !has_key(file, "testCases:")
}

/// Whether a document of the file has the key at its top.
fn has_key(file: &SourceFile, key: &str) -> bool {
    file.text.lines().any(|line| line.starts_with(key))
}

struct Reader<'f> {
    document: DocumentId,
    found: &'f mut Vec<Diagnostic>,
}

impl Reader<'_> {
    fn error(&mut self, place: &FieldPath, message: impl Into<String>, help: impl Into<String>) {
        let place = Place::field(self.document, place.clone());
        self.found
            .push(Diagnostic::error(CODE, place, message).with_help(help));
    }

    fn read_document(&mut self, value: &Value, cases: &mut Vec<Case>) {
        let root = FieldPath::root();
        let Some(fields) = value.as_mapping() else {
            let help = "begin it with `testCases:` and a list";
            self.error(&root, "the document is no mapping", help);
            return;
        };
        if fields.contains_key("kind") && !fields.contains_key("testCases") {
            let message = "this is configuration, no test case";
            self.error(&root, message, "name it by `--config`");
            return;
        }
        self.refuse_unknown(&root, fields, &["testCases"]);
        let place = root.field("testCases");
        match fields.get("testCases") {
            Some(Value::Sequence(items)) => {
                for (at, item) in items.iter().enumerate() {
                    cases.extend(self.read_case(&place.index(at), item));
                }
            }
            None | Some(Value::Null) => {
                let help = "write `testCases:` and a list";
                self.error(&root, "there are no test cases", help);
            }
            Some(_) => self.error(&place, "`testCases` is no list", "begin each case with `-`"),
        }
    }

    fn refuse_unknown(&mut self, place: &FieldPath, fields: &Mapping, known: &[&str]) {
        for key in fields.keys().filter_map(Value::as_str) {
            if known.contains(&key) {
                continue;
            }
            let help = match nearest(key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("write one of {}", known.join(", ")),
            };
            let place = Place::key(self.document, place.field(key));
            let message = format!("there is no field `{key}` here");
            self.found
                .push(Diagnostic::error(CODE, place, message).with_help(help));
        }
    }

    fn read_case(&mut self, place: &FieldPath, item: &Value) -> Option<Case> {
        let Some(fields) = item.as_mapping() else {
            let help = "write `description:`, `wantMatch:`, `request:` and what is expected";
            self.error(place, "the case is no mapping", help);
            return None;
        };
        let mut known = vec!["description", "wantMatch", "request"];
        known.extend(EXPECTED_FIELDS);
        self.refuse_unknown(place, fields, &known);
        let description = match fields.get("description") {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => String::new(),
            Some(_) => {
                self.error(
                    &place.field("description"),
                    "this is no text",
                    "write it in quotes",
                );
                String::new()
            }
        };
        let want_match = match fields.get("wantMatch") {
            Some(Value::Bool(want)) => *want,
            None | Some(Value::Null) => {
                let place = Place::field(self.document, place.clone());
                let message = "without `wantMatch` the case asks that nothing below matches";
                let warning = Diagnostic::warning(CODE, place, message);
                self.found.push(
                    warning.with_help("write `wantMatch: true`, or `false` if that is meant"),
                );
                false
            }
            Some(_) => {
                let place = place.field("wantMatch");
                self.error(
                    &place,
                    "`wantMatch` is neither true nor false",
                    "write `true`",
                );
                false
            }
        };
        let request = self.read_request(&place.field("request"), fields.get("request"))?;
        let written = |name: &&'static str| {
            let value = fields.get(*name).filter(|value| !value.is_null())?;
            Some((*name, value.clone()))
        };
        let expected: Vec<_> = EXPECTED_FIELDS.iter().filter_map(written).collect();
        self.check_expected(place, &expected);
        Some(Case {
            origin: Origin {
                document: self.document,
                field: place.clone(),
            },
            description,
            want_match,
            request,
            expected,
        })
    }

    fn read_request(&mut self, place: &FieldPath, value: Option<&Value>) -> Option<RequestMatrix> {
        let Some(Value::Mapping(fields)) = value else {
            let help = "write `request:` with `authority:`, `method:` and `uri:`";
            self.error(place, "the case has no request", help);
            return None;
        };
        const KNOWN: [&str; 7] = [
            "authority",
            "method",
            "uri",
            "headers",
            "gateway",
            "port",
            "scheme",
        ];
        self.refuse_unknown(place, fields, &KNOWN);
        let mut lists = Vec::new();
        for (name, example) in [
            ("authority", "[shop.example.com]"),
            ("method", "[GET]"),
            ("uri", "[/cart]"),
        ] {
            lists.push(self.read_list(&place.field(name), fields.get(name), example));
        }
        let uris = lists.pop().unwrap_or_default();
        for (at, uri) in uris.iter().enumerate() {
            if !uri.starts_with('/') {
                let message = format!("`{uri}` is no path");
                self.error(&place.field("uri").index(at), message, "begin it with `/`");
            }
        }
        let methods = lists.pop().unwrap_or_default();
        let authorities = lists.pop().unwrap_or_default();
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_string);
        let port = fields.get("port").filter(|port| !port.is_null());
        let number = port.and_then(Value::as_u64);
        let number = number.and_then(|number| u16::try_from(number).ok());
        if port.is_some() && number.is_none() {
            self.error(
                &place.field("port"),
                "this is no port",
                "write `port: 8080`",
            );
        }
        let scheme = text("scheme");
        if scheme
            .as_deref()
            .is_some_and(|text| !["http", "https"].contains(&text))
        {
            let place = place.field("scheme");
            self.error(&place, "this is no scheme", "write `http` or `https`");
        }
        Some(RequestMatrix {
            authorities,
            methods,
            uris,
            headers: self.read_headers(&place.field("headers"), fields.get("headers")),
            gateway: text("gateway"),
            port: number,
            scheme,
        })
    }

    fn read_list(
        &mut self,
        place: &FieldPath,
        value: Option<&Value>,
        example: &str,
    ) -> Vec<String> {
        let items = match value {
            Some(Value::Sequence(items)) => items.as_slice(),
            _ => &[],
        };
        let texts: Vec<String> = items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_string))
            .collect();
        if texts.is_empty() || texts.len() < items.len() {
            let name = match place.0.last() {
                Some(Step::Field(name)) => name.as_str(),
                _ => "list",
            };
            let message = format!("`{name}` is no list of texts with at least one in it");
            self.error(place, message, format!("write `{name}: {example}`"));
        }
        texts
    }

    fn read_headers(&mut self, place: &FieldPath, value: Option<&Value>) -> Vec<(String, String)> {
        let fields = match value {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Mapping(fields)) => fields,
            Some(_) => {
                self.error(place, "the headers are no mapping", "write `x-user: jason`");
                return Vec::new();
            }
        };
        let mut headers = Vec::new();
        for (name, value) in fields {
            let Some(name) = name.as_str() else { continue };
            match value.as_str() {
                Some(value) => headers.push((name.to_ascii_lowercase(), value.to_string())),
                None => {
                    let message = format!("the header `{name}` is no text");
                    self.error(&place.field(name), message, "write its value in quotes");
                }
            }
        }
        headers
    }

    /// Judges the expectations as the fields of a route that they are: a misspelt one would never
    /// match, and with `wantMatch: false` nobody would notice.
    fn check_expected(&mut self, place: &FieldPath, expected: &[(&'static str, Value)]) {
        let route: Mapping = expected
            .iter()
            .map(|(name, value)| (Value::from(*name), value.clone()))
            .collect();
        let map = |fields: &[(&str, Value)]| {
            let fields = fields.iter();
            Value::Mapping(fields.map(|(k, v)| (Value::from(*k), v.clone())).collect())
        };
        let spec = map(&[
            ("hosts", Value::Sequence(vec![Value::from("a.example")])),
            ("http", Value::Sequence(vec![Value::Mapping(route)])),
        ]);
        let value = map(&[
            ("apiVersion", Value::from("networking.istio.io/v1")),
            ("kind", Value::from("VirtualService")),
            ("metadata", map(&[("name", Value::from("a"))])),
            ("spec", spec),
        ]);
        let document = Document {
            id: self.document,
            kind: "VirtualService".to_string(),
            api_version: "networking.istio.io/v1".to_string(),
            namespace: "default".to_string(),
            name: "a".to_string(),
            labels: Default::default(),
            annotations: Default::default(),
            created_unix_s: None,
            unquoted: Default::default(),
            value,
        };
        let root = Node::root(&document.value);
        let mut found = Vec::new();
        let mut report = Report::new(&document, &mut found);
        if let Some(kind) = schema::kind_of(&root, &mut report) {
            schema::check(kind, &root, &mut report);
        }
        let route = FieldPath::root().field("spec").field("http").index(0);
        for mut diagnostic in found {
            let is_error = diagnostic.severity == Severity::Error;
            let (Place::Field(origin) | Place::Key(origin)) = &mut diagnostic.place else {
                continue;
            };
            if let Some(rest) = origin.field.0.strip_prefix(route.0.as_slice())
                && is_error
            {
                let steps = place.0.iter().chain(rest).cloned();
                origin.field = FieldPath(steps.collect());
                self.found.push(diagnostic);
            }
        }
    }
}
