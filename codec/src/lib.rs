//! Wire formats as state machines over bytes. No sockets, no clocks, no configuration.
#![forbid(unsafe_code)]
