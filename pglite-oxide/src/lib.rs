//! Embedded PostgreSQL: PostgreSQL, compiled ahead of time to native code, inside your process.
//!
//! ```no_run
//! let mut db = pglite_oxide::Pglite::temporary()?;
//! let row = db.query_one("SELECT 'hello ' || $1 AS greeting", &[&"world"])?;
//! assert_eq!(row.get::<_, &str>("greeting"), "hello world");
//! # Ok::<(), pglite_oxide::Error>(())
//! ```
//!
//! This crate contains PostgreSQL. It compiles nothing and opens no network connection.

#[cfg(feature = "async")]
mod async_connection;
mod bundle;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod client;
mod cluster;
#[cfg(any(test, feature = "internals"))]
#[doc(hidden)]
pub mod dev;
pub mod extensions;
mod programs;
mod server;
mod transport;

// The layers below are a crate of their own, which the build pipeline runs as well.
use pglite_oxide_runtime::{backend, error, fs, protocol, sync, wasm};

#[cfg(feature = "async")]
pub use async_connection::Connection;
pub use client::{
    BinaryCopyInWriter, BinaryCopyOutIter, BinaryCopyOutRow, BlockingIter, Builder, CancelToken, Column, CopyInWriter,
    CopyOutReader, Description, GenericClient, IsolationLevel, Iter, Notifications, Pglite, Portal, Row, RowIndex,
    RowIter, Savepoint, SimpleColumn, SimpleQueryMessage, SimpleQueryRow, Statement, TimeoutIter, ToStatement,
    Transaction, TransactionBuilder, preload,
};
pub use cluster::archive::Format;
pub use cluster::options::Durability;
#[doc(inline)]
pub use error::{DbError, Error, ErrorKind, ErrorPosition, Result, SqlState};
/// PostgreSQL's types and their conversions from and to Rust types: the crate `postgres-types`.
pub use postgres_types as types;
pub use postgres_types::{FromSql, ToSql, Type};
pub use programs::{DumpFormat, PgDumpOptions};
#[doc(inline)]
pub use protocol::{Notification, TransactionStatus};
pub use server::{Listen, PgliteServer};
/// The client of the feature `async`: the crate `tokio-postgres`.
#[cfg(feature = "async")]
pub use tokio_postgres;

/// The quick start of the README is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
