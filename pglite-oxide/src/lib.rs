//! Embedded PostgreSQL: a real PostgreSQL, compiled ahead of time to native code, inside your process.
//!
//! ```no_run
//! let mut db = pglite_oxide::Pglite::temporary()?;
//! let row = db.query_one("SELECT 'hello ' || $1 AS greeting", &[&"world"])?;
//! assert_eq!(row.get::<_, &str>("greeting"), "hello world");
//! # Ok::<(), pglite_oxide::Error>(())
//! ```
//!
//! This crate compiles nothing and opens no network connection: PostgreSQL comes with it.

mod abi;
mod archive;
mod artifacts;
mod builder;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
mod client;
mod cluster;
#[cfg(feature = "async")]
mod connect;
mod database;
mod db_error;
mod engine;
mod error;
mod fs;
mod guest;
mod host;
mod instance;
mod interrupts;
mod manifest;
mod memory;
mod options;
mod payload;
#[doc(hidden)]
pub mod pipeline;
mod process;
mod protocol;
mod root;
mod schedule;
mod serve;
mod server;
mod session;
mod sqlstate;
mod stored_settings;
mod streams;
#[doc(hidden)]
pub mod testing;
mod tools;
mod worker;
mod world;

pub use archive::Format;
pub use builder::Builder;
pub use client::{
    BinaryCopyInWriter, BinaryCopyOutIter, BinaryCopyOutRow, BlockingIter, Column, CopyInWriter, CopyOutReader,
    Description, GenericClient, IsolationLevel, Iter, Notification, Notifications, Portal, Row, RowIndex, RowIter,
    Savepoint, SimpleColumn, SimpleQueryMessage, SimpleQueryRow, Statement, TimeoutIter, ToStatement, Transaction, TransactionBuilder,
};
#[cfg(feature = "async")]
pub use connect::Connection;
pub use database::{Pglite, preload};
pub use db_error::{DbError, ErrorPosition};
pub use error::{Error, ErrorKind, Result};
pub use options::Durability;
/// Types of PostgreSQL and the conversions of Rust's from and to them: the crate `postgres-types`.
pub use postgres_types as types;
pub use postgres_types::{FromSql, ToSql, Type};
pub use protocol::TransactionStatus;
pub use server::{Listen, PgliteServer};
pub use session::CancelToken;
pub use sqlstate::SqlState;
/// The client of the feature `async`: the crate `tokio-postgres`.
#[cfg(feature = "async")]
pub use tokio_postgres;
pub use tools::{DumpFormat, PgDumpOptions};

/// The quick start of the README is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
