//! What the policy benches share: a generated configuration, compiled.

#[path = "../../src/routes_config.rs"]
pub mod routes_config;

use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::{DnsTable, Snapshot};
use ringroad_policy::source::SourceFile;

use routes_config::{Ports, generate};

/// A configuration as the one file of a directory.
pub fn files(hosts: usize, routes_per_host: usize) -> Vec<SourceFile> {
    let ports = Ports {
        listen: 8080,
        service: 80,
        upstream: 9080,
    };
    let text = generate(hosts, routes_per_host, ports, 1);
    vec![SourceFile {
        path: "bench.yaml".to_string(),
        text,
    }]
}

/// From text to snapshot.
pub fn compile(files: &[SourceFile]) -> Snapshot {
    let loaded = ringroad_policy::load(files, &Overrides::default(), &DnsTable::default());
    loaded
        .snapshot
        .unwrap_or_else(|| panic!("refused: {:?}", loaded.diagnostics.first()))
}
