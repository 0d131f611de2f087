//! Our side of the benchmark. Everything that is measured of `pglite-oxide` goes through here.

use pglite_oxide::{ErrorKind, Pglite};

use crate::error::{Context as _, Error, Result};
use crate::session::{Operation, Session};

/// A session of a temporary database.
#[derive(Debug)]
pub(crate) struct Ours(Pglite);

impl Ours {
    /// Opens a temporary database: in memory, without syncing.
    pub(crate) fn temporary() -> Result<Self> {
        Pglite::temporary().map(Self).context(|| "cannot open a temporary database".into())
    }
}

impl Session for Ours {
    fn offers(&self, operation: Operation) -> bool {
        match operation {
            // There is nothing between the caller and the protocol that could be left out.
            Operation::Simple | Operation::Bare => true,
            Operation::Sync | Operation::Prepared | Operation::CopyIn => false,
        }
    }

    fn simple(&mut self, sql: &str) -> Result<usize> {
        let results = self.0.exec(sql).context(|| failed(sql))?;
        Ok(results.iter().map(|result| result.rows.len()).sum())
    }

    fn value(&mut self, sql: &str) -> Result<String> {
        let result = self.0.query(sql).context(|| failed(sql))?;
        let value = result.rows.first().and_then(|row| row.first()).and_then(Clone::clone);
        value.ok_or_else(|| Error::new(format!("ours: no value: {sql}")))
    }

    fn failure(&mut self, sql: &str) -> Result<String> {
        match self.0.exec(sql) {
            Ok(_) => Err(Error::new(format!("ours: expected an error: {sql}"))),
            // An error that ended the session is no answer.
            Err(error) => match (error.kind(), error.code()) {
                (ErrorKind::Database, Some(state)) => Ok(state.code().to_owned()),
                _ => Err(Error::new(failed(sql)).cause(error)),
            },
        }
    }

    fn bare(&mut self, sql: &str) -> Result<usize> {
        self.simple(sql)
    }
}

fn failed(sql: &str) -> String {
    format!("ours: {sql}")
}
