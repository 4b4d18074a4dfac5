//! Certificates, keys and what follows from them: contexts for handshakes, on both sides.
//!
//! The snapshot describes TLS and names secrets and files; the control thread reads them
//! ([`credentials`]) and builds contexts ([`server`], [`client`]; both are
//! [`contexts::Described`]), which workers find in [`TlsContexts`] by the description.
//! [`TlsKeeper`] builds them anew when a snapshot or a file changes: a renewed certificate serves
//! new handshakes, open connections live on, and a broken one leaves the old in use.

mod certificate;
mod client;
mod contexts;
mod credentials;
mod inspection;
mod ocsp;
mod parameters;
mod report;
mod server;
mod subject;
mod verify;

pub use certificate::{PeerCertificate, spiffe_id};
pub use client::{ClientContext, Offer};
pub use contexts::{TlsContexts, TlsKeeper};
pub use inspection::inspect_secrets;
pub use report::{CertificateFacts, CertificateReport, timestamp};
pub use verify::sha256_hex;
