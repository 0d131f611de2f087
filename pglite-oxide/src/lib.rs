//! Embedded PostgreSQL: a real PostgreSQL, compiled ahead of time to native code, inside your process.
//!
//! ```no_run
//! let mut db = pglite_oxide::Pglite::temporary()?;
//! let greeting = db.query("SELECT 'hello' AS greeting")?;
//! assert_eq!(greeting.rows[0][0].as_deref(), Some("hello"));
//! # Ok::<(), pglite_oxide::Error>(())
//! ```
//!
//! This crate compiles nothing and opens no network connection: PostgreSQL comes with it.

mod abi;
mod archive;
mod artifacts;
mod builder;
mod database;
mod engine;
mod error;
mod fs;
mod host;
mod instance;
mod interrupts;
mod manifest;
mod memory;
mod options;
mod payload;
#[doc(hidden)]
pub mod pipeline;
mod protocol;
mod root;
mod session;
#[doc(hidden)]
pub mod testing;
mod world;

pub use archive::Format;
pub use builder::Builder;
pub use database::{CancelHandle, Pglite};
pub use error::{DbError, Error, ErrorKind, Result, SqlState};
pub use options::Durability;
pub use protocol::ResultSet;
