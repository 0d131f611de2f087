//! The operations that are measured: one trait, implemented in `ours` and `theirs`. Cases use
//! nothing else of a side.

use crate::error::{Error, Result};

/// An operation that a side may not support.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Statements in the simple protocol.
    Simple,
    /// The same with a minimal client.
    Bare,
    /// A protocol round trip in which nothing is executed.
    Sync,
    /// A prepared statement.
    Prepared,
    /// `COPY … FROM STDIN`.
    CopyIn,
}

/// One session with a PostgreSQL.
pub(crate) trait Session {
    /// Whether the side supports this. Unsupported operations are not called, and left out of the
    /// result.
    fn offers(&self, operation: Operation) -> bool;

    /// Runs statements, reads every row of the answer and returns how many there were.
    fn simple(&mut self, sql: &str) -> Result<usize>;

    /// The first column of the first row, as text.
    fn value(&mut self, sql: &str) -> Result<String>;

    /// Runs a statement that fails and returns its SQLSTATE.
    fn failure(&mut self, sql: &str) -> Result<String>;

    /// As [`Self::simple`], through the bare protocol.
    fn bare(&mut self, _sql: &str) -> Result<usize> {
        Err(unsupported(Operation::Bare))
    }

    /// Sends a Sync message and waits for the answer.
    fn sync(&mut self) -> Result<()> {
        Err(unsupported(Operation::Sync))
    }

    /// Prepares the statement that [`Self::prepared`] runs.
    fn prepare(&mut self, _sql: &str) -> Result<()> {
        Err(unsupported(Operation::Prepared))
    }

    /// Runs the prepared statement with these parameters and returns the number of its rows.
    fn prepared(&mut self, _parameters: &[i32]) -> Result<usize> {
        Err(unsupported(Operation::Prepared))
    }

    /// Sends the rows, in COPY's text format, and returns how many arrived.
    fn copy_in(&mut self, _sql: &str, _rows: &[u8]) -> Result<u64> {
        Err(unsupported(Operation::CopyIn))
    }
}

fn unsupported(operation: Operation) -> Error {
    Error::new(format!("{operation:?} was asked of a side that does not offer it"))
}
