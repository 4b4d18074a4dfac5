//! `ringroad`: a thread-per-core proxy that reads Istio YAML.
fn main() {}
