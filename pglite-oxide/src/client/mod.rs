//! The direct API on a session: statements, rows, transactions, COPY, notifications. It owns their
//! public interface; `session` owns the order of sending and reading. The functions are methods of
//! [`Pglite`](crate::Pglite), one file for each concern.

mod binary_copy;
mod builder;
mod catalog;
mod copy;
mod generic;
mod notifications;
mod pglite;
mod portal;
mod prepared;
mod query;
mod raw;
mod row;
pub(crate) mod session;
mod simple;
mod statement;
mod transaction;

pub use binary_copy::{BinaryCopyInWriter, BinaryCopyOutIter, BinaryCopyOutRow};
pub use builder::Builder;
pub(crate) use catalog::TypeCache;
pub use copy::{CopyInWriter, CopyOutReader};
pub use generic::GenericClient;
pub use notifications::{BlockingIter, Iter, Notifications, TimeoutIter};
pub use pglite::{Pglite, preload};
pub use portal::{Portal, RowIter};
pub use row::{Row, RowIndex};
pub use session::CancelToken;
pub use simple::{SimpleColumn, SimpleQueryMessage, SimpleQueryRow};
pub(crate) use statement::Garbage;
pub use statement::{Column, Description, Statement, ToStatement};
pub use transaction::{IsolationLevel, Savepoint, Transaction, TransactionBuilder};
