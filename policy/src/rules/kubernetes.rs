//! Service, as Kubernetes validates it.

use super::values::report_missing;
use crate::schema::{Node, Report};

pub(super) fn check_service(spec: &Node<'_>, report: &mut Report<'_>) {
    let name = spec.get("externalName");
    if spec.get("type").text() == "ExternalName" && name.text().is_empty() {
        let at = if name.is_set() { &name } else { spec };
        let message = "a Service of type ExternalName has no `externalName`";
        let help = "write the host that it stands for, `externalName: api.example.com`";
        report_missing(at, message, help, report);
    }
}
