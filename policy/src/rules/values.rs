//! Values that many kinds share: ports, addresses, durations, percentages.

use std::net::IpAddr;

use crate::pem::{NOT_A_PATH, PATH_HELP, is_pem};
use crate::schema::{Node, Report};

/// Prefix of the address of a Unix domain socket.
pub(super) const UNIX: &str = "unix://";

pub(super) fn is_ip(text: &str) -> bool {
    // A zone (`fe80::1%eth0`) belongs to the address in Istio.
    let address = text.split_once('%').map_or(text, |(address, _)| address);
    address.parse::<IpAddr>().is_ok()
}

/// `10.0.0.0/8` or `2001:db8::/32`.
pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else {
        return false;
    };
    let is_plain = bits == "0" || !bits.starts_with('0');
    let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(address), Ok(bits)) => {
            digits && is_plain && bits <= if address.is_ipv4() { 32 } else { 128 }
        }
        _ => false,
    }
}

pub(super) fn check_ip(address: &Node<'_>, report: &mut Report<'_>) {
    if !is_ip(address.text()) {
        let message = format!("`{}` is no IP address", address.text());
        let help = "write an address such as `10.0.0.1` or `2001:db8::1`";
        report.error("invalid-address", address, message, help);
    }
}

pub(super) fn check_ip_or_cidr(address: &Node<'_>, report: &mut Report<'_>) {
    let text = address.text();
    if !is_ip(text) && !is_cidr(text) {
        let message = format!("`{text}` is no IP address and no range of them");
        let help = "write `10.0.0.1` or `10.0.0.0/8`";
        report.error("invalid-address", address, message, help);
    }
}

/// The path of a Unix domain socket, after [`UNIX`].
pub(super) fn check_unix_path(address: &Node<'_>, report: &mut Report<'_>) {
    let path = address.text().strip_prefix(UNIX).unwrap_or_default();
    let is_abstract = path.starts_with('@');
    let is_file = path.starts_with('/') && !path.ends_with('/');
    if !is_abstract && !is_file {
        let message = format!("`{}` names no socket", address.text());
        let help = "write the absolute path of a file, such as `unix:///var/run/app.sock`";
        report.error("invalid-address", address, message, help);
    }
}

/// The address of a listener that would be a Unix socket.
pub(super) fn check_unix_listener(bind: &Node<'_>, help: &str, report: &mut Report<'_>) {
    check_unix_path(bind, report);
    let message = format!(
        "`bind: {}` has no effect yet: nothing listens at Unix sockets",
        bind.text()
    );
    report.warning("value-not-carried", bind, message, help);
}

/// The path of a certificate or a key, where its text is easily put instead.
pub(super) fn check_file_path(path: &Node<'_>, report: &mut Report<'_>) {
    if is_pem(path.text()) {
        report.error("not-a-path", path, NOT_A_PATH, PATH_HELP);
    }
}

pub(super) fn is_port(number: i64) -> bool {
    (1..=65535).contains(&number)
}

/// A port number; an absent one counts as 0 and is none. It is reported at `parent` then.
pub(super) fn check_port(parent: &Node<'_>, name: &str, report: &mut Report<'_>) {
    let port = parent.get(name);
    if port.is_set() {
        check_port_number(&port, report);
    } else {
        let message = format!("`{}` has no `{name}`", parent.name());
        let help = format!("write `{name}:` and a port from 1 to 65535");
        report.error("invalid-port", parent, message, help);
    }
}

pub(super) fn check_port_number(port: &Node<'_>, report: &mut Report<'_>) {
    if !is_port(port.integer()) {
        let message = format!("{} is no port", port.integer());
        report.error("invalid-port", port, message, "ports go from 1 to 65535");
    }
}

/// A number from `least` to `most`, if one is written.
pub(super) fn check_range(number: &Node<'_>, least: f64, most: f64, report: &mut Report<'_>) {
    let value = number.number();
    if number.is_set() && !(least..=most).contains(&value) {
        let message = format!("`{}` is {value}", number.name());
        let help = format!("write a number from {least} to {most}");
        report.error("out-of-range", number, message, help);
    }
}

/// A number that is not below 0, if one is written.
pub(super) fn check_not_negative(number: &Node<'_>, report: &mut Report<'_>) {
    let value = number.number();
    if value < 0.0 {
        let message = format!("`{}` is {value}", number.name());
        report.error("out-of-range", number, message, "write 0 or more");
    }
}

/// Texts of a list that may not be empty.
pub(super) fn check_no_empty_text(list: &Node<'_>, report: &mut Report<'_>) {
    for item in list.items() {
        if item.text().is_empty() {
            let message = format!("`{}` has an empty text", list.name());
            report.error(
                "empty-value",
                &item,
                message,
                "write a text, or remove the item",
            );
        }
    }
}

/// Items of a list that are null. The walk over the table lets null pass as absent.
pub(super) fn check_no_null_item(list: &Node<'_>, report: &mut Report<'_>) {
    for item in list.items() {
        if !item.is_set() {
            let message = format!("`{}` has an item with nothing in it", list.name());
            report.error(
                "empty-value",
                &item,
                message,
                "fill the item, or remove its `-`",
            );
        }
    }
}

/// Reports a field that is missing for the reason in `message`.
pub(super) fn report_missing(
    parent: &Node<'_>,
    message: impl Into<String>,
    help: &str,
    report: &mut Report<'_>,
) {
    report.error("missing-field", parent, message, help);
}
