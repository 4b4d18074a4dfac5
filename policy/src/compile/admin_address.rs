//! The admin interface beside the listeners: both cannot have one address.

use std::net::SocketAddr;

use super::findings::Findings;
use crate::diagnostic::{Diagnostic, Place};
use crate::resource::Object;
use crate::settings::{ProxySettings, ProxySettingsSpec};
use crate::snapshot::Snapshot;
use crate::source::FieldPath;

/// Refuses a listener where the admin interface listens. One of the two could not be bound.
pub fn report(snapshot: &Snapshot, written: &[Object<ProxySettingsSpec>], findings: &mut Findings) {
    let admin = snapshot.settings.admin_address;
    // Port 0 is one that nobody has.
    let taken = (admin.port() != 0).then(|| snapshot.listener_at(admin));
    let Some(listener) = taken.flatten() else {
        return;
    };
    let mut settings = written.iter().filter_map(|object| {
        let text = object.spec.admin_address.as_ref()?;
        let here = text
            .parse()
            .is_ok_and(|address: SocketAddr| address == admin);
        let field = FieldPath::root().field("spec").field("adminAddress");
        here.then(|| object.metadata.origin(field))
    });
    let message = format!(
        "the admin interface and the listener {} both want {admin}",
        listener.name
    );
    let mut others = (admin.port()..=u16::MAX).map(|port| SocketAddr::new(admin.ip(), port));
    let free = others.find(|address| snapshot.listener_at(*address).is_none());
    let address = free.unwrap_or(ProxySettings::default().admin_address);
    let help = format!(
        "give one of them another port, as with `adminAddress: \"{address}\"` in ProxySettings or \
         `--admin {address}`"
    );
    let refused = |place| Diagnostic::error("admin-at-listener", place, message).with_help(help);
    findings.add(match (settings.next(), &listener.origin) {
        (Some(field), Some(listener)) => {
            refused(Place::Field(field)).with_related(listener.clone(), "the listener")
        }
        (Some(field), None) => refused(Place::Field(field)),
        (None, Some(listener)) => refused(Place::Field(listener.clone())),
        (None, None) => refused(Place::Nowhere),
    });
}
