//! One PostgreSQL backend, compiled ahead of time to native code, inside this process: loading and
//! instantiating modules, the host interface, files, protocol bytes, interrupts.
//!
//! An internal crate of `pglite-oxide`, without a stable API. It owns everything that the build
//! pipeline needs to run PostgreSQL on the modules it has just built, and nothing that only a
//! program needs: data directories, sessions, clients and servers are `pglite-oxide`'s.

pub mod backend;
pub mod error;
pub mod fs;
pub mod pipeline;
pub mod protocol;
pub mod sync;
pub mod wasm;
