//! Which kind a document is of.

use super::node::Node;
use super::report::Report;
use super::suggest::nearest;
use super::table::{Kind, TABLE};

/// Groups of which every kind is known, so that an unknown one is a mistake.
const OWN_GROUPS: [&str; 5] = [
    "networking.istio.io",
    "security.istio.io",
    "telemetry.istio.io",
    "extensions.istio.io",
    "ringroad.dev",
];

/// Kinds of these groups that are known and not supported.
const UNSUPPORTED: [&str; 1] = ["TrafficExtension"];

/// Whether traffic follows the kind of this name that `group` has, in whatever version.
pub fn is_carried(group: &str, name: &str) -> bool {
    let mut kinds = TABLE.kinds.iter();
    kinds.any(|kind| kind.group == group && kind.name == name && kind.carried)
}

/// Whether any group has a kind of this name that is understood.
pub fn is_known_anywhere(name: &str) -> bool {
    TABLE.kinds.iter().any(|kind| kind.name == name)
}

/// The kind of a document, `None` when it is none that is understood, which is then reported.
pub fn kind_of(root: &Node<'_>, report: &mut Report<'_>) -> Option<&'static Kind> {
    let document = report.document();
    let name = document.kind.as_str();
    let (group, version) = match document.api_version.split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", document.api_version.as_str()),
    };
    let kind_node = root.get("kind");
    let version_node = root.get("apiVersion");
    let same_name = || TABLE.kinds.iter().filter(move |kind| kind.name == name);
    if let Some(kind) = same_name().find(|kind| kind.group == group) {
        if kind.versions.contains(&version) {
            return Some(kind);
        }
        let versions: Vec<String> = kind
            .versions
            .iter()
            .map(|version| format!("`{}`", api_version(kind.group, version)))
            .collect();
        report.error(
            "unknown-api-version",
            &version_node,
            format!("{name} has no version `{version}`"),
            format!("write {}", versions.join(" or ")),
        );
        return None;
    }
    if OWN_GROUPS.contains(&group) {
        unknown_in_own_group(group, name, &kind_node, &version_node, report);
        return None;
    }
    let meant = nearest(group, OWN_GROUPS);
    let has_no_such_kinds = has_no_such_kinds(group);
    let is_meant = |kind: &&Kind| {
        let is_jumbled = is_of_istio(kind) && is_jumbled(group);
        meant == Some(kind.group) || has_no_such_kinds || is_jumbled
    };
    if let Some(kind) = same_name().find(is_meant) {
        let written = &document.api_version;
        report.error(
            "unknown-api-group",
            &version_node,
            format!("there is no {name} in `{written}`"),
            format!(
                "did you mean `{}`?",
                api_version(kind.group, kind.versions[0])
            ),
        );
        return None;
    }
    not_supported(group, name, &kind_node, report);
    None
}

/// Whether a group is of Kubernetes itself or of Istio's old ones, where nothing is called as the
/// kinds of other groups are; groups of other domains may have a `VirtualService` of their own.
fn has_no_such_kinds(group: &str) -> bool {
    let is_of_kubernetes = !group.contains('.') || group == "networking.k8s.io";
    is_of_kubernetes || group == "istio.io" || group.ends_with(".istio.io")
}

fn is_of_istio(kind: &Kind) -> bool {
    kind.group.ends_with(".istio.io")
}

/// Whether a group has the words of one of Istio's, in whatever order: `istio.networking.io`. What
/// only has a kind of the same name may be somebody's own, as `VirtualService` in `appmesh.k8s.aws`.
fn is_jumbled(group: &str) -> bool {
    let names = |meant: &[&'static str]| {
        let mut words = group.split(|c: char| !c.is_alphanumeric());
        words.any(|word| nearest(word, meant.iter().copied()).is_some())
    };
    names(&["istio"]) && names(&["networking", "security", "telemetry", "extensions"])
}

fn unknown_in_own_group(
    group: &str,
    name: &str,
    kind_node: &Node<'_>,
    version_node: &Node<'_>,
    report: &mut Report<'_>,
) {
    if UNSUPPORTED.contains(&name) {
        not_supported(group, name, kind_node, report);
        return;
    }
    if let Some(kind) = TABLE.kinds.iter().find(|kind| kind.name == name) {
        report.error(
            "unknown-api-group",
            version_node,
            format!("{name} is no kind of `{group}`"),
            format!(
                "write `apiVersion: {}`",
                api_version(kind.group, kind.versions[0])
            ),
        );
        return;
    }
    let known = TABLE.kinds.iter().map(|kind| kind.name).chain(UNSUPPORTED);
    let help = match nearest(name, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            let kinds: Vec<_> = TABLE
                .kinds
                .iter()
                .filter(|kind| kind.group == group)
                .map(|kind| kind.name)
                .collect();
            format!("write one of {}", kinds.join(", "))
        }
    };
    let message = format!("`{group}` has no kind `{name}`");
    report.error("unknown-kind", kind_node, message, help);
}

/// Names the group too: some kinds of others are called as Istio's are.
fn not_supported(group: &str, name: &str, kind_node: &Node<'_>, report: &mut Report<'_>) {
    let of_group = match group {
        "" => String::new(),
        group => format!(" of `{group}`"),
    };
    let of_ours = TABLE.kinds.iter().filter(|kind| kind.group == group);
    let mut of_istio = TABLE.kinds.iter().filter(|kind| is_of_istio(kind));
    const LEAVE: &str = "keep it out of the directory, or leave it for other programs";
    let help = match nearest(name, of_ours.map(|kind| kind.name)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        // A Gateway of another group is rarely meant to be Istio's.
        None => match of_istio.find(|kind| kind.name == name && name != "Gateway") {
            Some(kind) => {
                let own = api_version(kind.group, kind.versions[0]);
                format!("{LEAVE}; Istio's own {name} is of `{own}`")
            }
            None => LEAVE.to_string(),
        },
    };
    report.warning(
        "kind-not-supported",
        kind_node,
        format!("kind {name}{of_group} is not supported and has no effect"),
        help,
    );
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_string()
    } else {
        format!("{group}/{version}")
    }
}
