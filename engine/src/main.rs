//! `ringroad`: a thread-per-core proxy that reads Istio YAML.
// Until the workers use it.
#[allow(dead_code, unused_imports)]
mod rt;

fn main() {}
