//! One WebAssembly instance: its engine and modules, linear memory, imports, descriptors, streams
//! and interrupts. It does not know what the module does: PostgreSQL's backend and the client
//! programs are instances alike.

pub mod abi;
pub mod artifact;
pub mod channel;
pub mod channel_abi;
pub mod clock;
pub mod distance;
pub mod engine;
pub mod fd_table;
pub mod import_state;
pub mod instance;
pub mod interrupts;
pub mod loader;
pub mod memory;
pub mod rng;
pub mod streams;
pub mod wasi;
