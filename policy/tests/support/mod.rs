//! Configuration text in, decisions out.
#![allow(dead_code)] // Each test binary uses its own part.

use ringroad_policy::diagnostic::{Diagnostic, Place};
use ringroad_policy::settings::Overrides;
use ringroad_policy::snapshot::{
    ConnectionFacts, Decision, DnsTable, EndpointAddress, Listener, RequestFacts, Route,
    RouteTable, Snapshot,
};
use ringroad_policy::source::SourceFile;
use ringroad_policy::{Loaded, load};

/// A service with one endpoint for each of the versions: 10.0.0.1 has v1, 10.0.0.2 v2, …
pub fn service(host: &str, port: u16, versions: u8) -> String {
    let mut text = format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {}}}\n\
         spec:\n  hosts: [{host}]\n  location: MESH_INTERNAL\n  resolution: STATIC\n  \
         ports: [{{number: {port}, name: http, protocol: HTTP}}]\n  endpoints:\n",
        host.replace(['.', '*'], "-")
    );
    for version in 1..=versions {
        text += &format!("  - {{address: 10.0.0.{version}, labels: {{version: v{version}}}}}\n");
    }
    text
}

/// A gateway for all hosts.
pub const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 8080, name: http, protocol: HTTP}
    hosts: ['*']
";

/// Settings of a sidecar in `namespace`.
pub fn sidecar(namespace: &str) -> String {
    format!(
        "---\napiVersion: ringroad.dev/v1alpha1\nkind: ProxySettings\nmetadata: {{name: proxy}}\n\
         spec: {{role: sidecar, namespace: {namespace}}}\n"
    )
}

/// A VirtualService whose `spec` follows.
pub fn rule(name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: {name}}}\nspec:\n{spec}"
    )
}

/// A DestinationRule whose `spec` follows.
pub fn destination_rule(name: &str, spec: &str) -> String {
    rule(name, spec).replace("VirtualService", "DestinationRule")
}

pub fn load_text(text: &str) -> Loaded {
    let files = [SourceFile {
        path: "config.yaml".to_string(),
        text: text.to_string(),
    }];
    load(&files, &Overrides::default(), &DnsTable::default())
}

/// The snapshot of a text that has no error.
pub fn snapshot(text: &str) -> Snapshot {
    let loaded = load_text(text);
    match loaded.snapshot {
        Some(snapshot) => snapshot,
        None => panic!("refused: {:#?}", loaded.diagnostics),
    }
}

/// Code and field of each finding about a text that has no error.
pub fn found_in(text: &str) -> Vec<(&'static str, String)> {
    let loaded = load_text(text);
    assert!(loaded.snapshot.is_some(), "{:#?}", loaded.diagnostics);
    let found = loaded.diagnostics.iter().map(|found| {
        let (Place::Field(origin) | Place::Key(origin)) = &found.place else {
            panic!("{found:?}")
        };
        assert!(found.help.is_some(), "what to write instead: {found:?}");
        (found.code, origin.field.to_string())
    });
    found.collect()
}

pub fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics
        .iter()
        .map(|diagnostic| diagnostic.code)
        .collect()
}

pub fn listener(snapshot: &Snapshot, port: u16) -> &Listener {
    let mut listeners = snapshot.listeners.iter();
    let found = listeners.find(|listener| listener.address.port() == port);
    found.unwrap_or_else(|| panic!("no listener on port {port}"))
}

pub fn table(snapshot: &Snapshot, port: u16) -> &RouteTable {
    listener(snapshot, port)
        .route_table()
        .expect("an HTTP listener")
}

/// A GET request.
pub struct Get<'a> {
    pub host: &'a str,
    /// With its query.
    pub path: &'a str,
    pub headers: Vec<(&'a str, &'a str)>,
}

pub fn get<'a>(host: &'a str, path: &'a str) -> Get<'a> {
    Get {
        host,
        path,
        headers: Vec::new(),
    }
}

impl<'a> Get<'a> {
    pub fn with(mut self, name: &'a str, value: &'a str) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn facts(&self) -> RequestFacts<'_> {
        let (path, query) = match self.path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.path, None),
        };
        RequestFacts {
            method: "GET",
            scheme: "http",
            authority: self.host,
            path,
            query,
            headers: &self.headers,
            connection: ConnectionFacts::UNKNOWN,
            claims: None,
        }
    }

    pub fn decide<'s>(&self, table: &'s RouteTable) -> Decision<'s> {
        table.route(&self.facts())
    }

    /// The route taken, or what stands in the way.
    pub fn route<'s>(&self, table: &'s RouteTable) -> Result<&'s Route, &'static str> {
        match self.decide(table) {
            Decision::Route { route, .. } => Ok(route),
            Decision::NoVirtualHost => Err("no virtual host"),
            Decision::NoRoute(_) => Err("no route"),
            Decision::HttpsRedirect(_) => Err("https"),
        }
    }

    /// The name of the only or first cluster.
    pub fn cluster(&self, snapshot: &Snapshot, port: u16) -> String {
        match self.route(table(snapshot, port)) {
            Ok(route) => match route.destinations() {
                [first, ..] => first.cluster_name.clone(),
                [] => "answered here".to_string(),
            },
            Err(reason) => reason.to_string(),
        }
    }
}

/// The addresses of a cluster's endpoints.
pub fn addresses(snapshot: &Snapshot, cluster: &str) -> Vec<String> {
    let cluster = snapshot.cluster_named(cluster);
    let cluster = cluster.unwrap_or_else(|| panic!("no such cluster"));
    let endpoints = cluster
        .endpoints
        .iter()
        .map(|endpoint| match &endpoint.address {
            EndpointAddress::Socket(address) => address.to_string(),
            EndpointAddress::Unix(path) => path.clone(),
        });
    endpoints.collect()
}

/// A line of the access log in the text format, as the proxy writes it.
pub fn log_line(method: &str, path: &str, host: &str, cluster: &str, route: &str) -> String {
    format!(
        "[2026-11-21T04:05:06.789Z] \"{method} {path} HTTP/1.1\" 200 - via_upstream - \"-\" 0 12 3 \
         2 \"10.1.1.1\" \"curl/8 \"x\" y\" \"6b1f\" \"{host}\" \"10.0.0.1:80\" {cluster} \
         10.9.9.9:40000 127.0.0.1:8080 10.1.1.1:51000 - {route}"
    )
}
