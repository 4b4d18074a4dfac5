//! Istio configuration of any size, for compiling, looking up and reloading.

use std::fmt::Write as _;

/// Where a generated configuration listens and forwards to.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub listen: u16,
    /// The port of the service as routes name it.
    pub service: u16,
    /// The port of its one endpoint on 127.0.0.1.
    pub upstream: u16,
}

/// A gateway for every host at a port of 127.0.0.1.
pub fn gateway(listen: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: bench }}
spec:
  selector: {{ istio: ingressgateway }}
  servers:
    - port: {{ number: {listen}, name: http, protocol: HTTP }}
      bind: 127.0.0.1
      hosts: [\"*\"]
"
    )
}

/// A gateway, a service, and `hosts` virtual services of `routes_per_host` routes each.
///
/// Host number H is `hH.bench.local`. Route number R of it matches the prefix `/rR/`, but for the
/// last, which matches everything. `version` is set as the response header `x-bench-version` by
/// each virtual service.
pub fn generate(hosts: usize, routes_per_host: usize, ports: Ports, version: u64) -> String {
    let Ports {
        listen,
        service,
        upstream,
    } = ports;
    let mut yaml = gateway(listen);
    let _ = write!(
        yaml,
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: upstream }}
spec:
  hosts: [upstream.bench.internal]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
    - {{ number: {service}, name: http, protocol: HTTP }}
  endpoints:
    - address: 127.0.0.1
      ports: {{ http: {upstream} }}
"
    );
    for host in 0..hosts {
        let _ = write!(
            yaml,
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: host-{host} }}
spec:
  hosts: [h{host}.bench.local]
  gateways: [bench]
  http:
"
        );
        for route in 0..routes_per_host {
            let matching = if route + 1 == routes_per_host {
                String::new()
            } else {
                format!("match: [{{ uri: {{ prefix: /r{route}/ }} }}], ")
            };
            let _ = writeln!(
                yaml,
                "    - {{ {matching}headers: {{ response: {{ set: {{ x-bench-version: \
                 \"{version}\" }} }} }}, route: [{{ destination: {{ host: \
                 upstream.bench.internal, port: {{ number: {service} }} }} }}] }}"
            );
        }
    }
    yaml
}
