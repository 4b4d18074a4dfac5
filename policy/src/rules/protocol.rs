//! Whether a port names a protocol that there is.

use crate::resource::protocol::Protocol;
use crate::schema::{Node, Report};

/// A protocol that has to be known if one is written; without one it is detected.
pub(super) fn check_optional(protocol: &Node<'_>, report: &mut Report<'_>) {
    if !protocol.text().is_empty() {
        check(protocol, report);
    }
}

/// A protocol that has to be known.
pub(super) fn check(protocol: &Node<'_>, report: &mut Report<'_>) {
    if Protocol::named(protocol.text()).is_none() {
        let message = format!("`{}` is no protocol", protocol.text());
        let names = Protocol::NAMES.map(|(name, _)| name);
        let help = format!("write one of {}", names.join(", "));
        report.error("unknown-value", protocol, message, help);
    }
}
