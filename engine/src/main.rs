//! `ringroad`: a thread-per-core proxy that reads Istio YAML.

mod alloc;
// Until the commands use them.
#[allow(dead_code, unused_imports)]
mod control;
#[allow(dead_code, unused_imports)]
mod proxy;
#[allow(dead_code, unused_imports)]
mod rt;
#[allow(dead_code, unused_imports)]
mod stats;
#[allow(dead_code, unused_imports)]
mod worker;

#[global_allocator]
static ALLOCATOR: alloc::CountingAllocator = alloc::CountingAllocator;

fn main() {}
