//! Helpers for the SQL of the tests: running statements and reading their results, in an embedded
//! database or on a PostgreSQL server.

use std::error::Error;

use pglite_oxide::{ErrorKind, Pglite};
use postgres::Client;

use crate::workload::Statement;

/// Rows of a result, as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// What SQL can be run in.
pub(crate) trait Sql {
    type Error: Error + Send + Sync + 'static;

    /// Runs SQL without a result.
    fn run(&mut self, sql: &str) -> Result<(), Self::Error>;

    /// Runs SQL and returns its rows.
    fn rows(&mut self, sql: &str) -> Result<Rows, Self::Error>;

    /// Whether PostgreSQL answered with an error of this SQLSTATE, after which the session goes on.
    fn is(error: &Self::Error, code: &str) -> bool;
}

impl Sql for Pglite {
    type Error = pglite_oxide::Error;

    fn run(&mut self, sql: &str) -> Result<(), Self::Error> {
        self.batch_execute(sql)
    }

    fn rows(&mut self, sql: &str) -> Result<Rows, Self::Error> {
        let messages = self.simple_query(sql)?;
        let row = |message: &pglite_oxide::SimpleQueryMessage| match message {
            pglite_oxide::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }

    fn is(error: &Self::Error, code: &str) -> bool {
        error.kind() == ErrorKind::Database && error.code().is_some_and(|found| found.code() == code)
    }
}

impl Sql for Client {
    type Error = postgres::Error;

    fn run(&mut self, sql: &str) -> Result<(), Self::Error> {
        self.batch_execute(sql)
    }

    fn rows(&mut self, sql: &str) -> Result<Rows, Self::Error> {
        let messages = self.simple_query(sql)?;
        let row = |message: &postgres::SimpleQueryMessage| match message {
            postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        };
        Ok(messages.iter().filter_map(row).collect())
    }

    fn is(error: &Self::Error, code: &str) -> bool {
        error.code().is_some_and(|found| found.code() == code)
    }
}

/// Runs SQL without a result.
pub(crate) fn run<D: Sql>(db: &mut D, sql: &str) -> Result<(), D::Error> {
    db.run(sql)
}

/// Runs SQL and returns its rows.
pub(crate) fn rows<D: Sql>(db: &mut D, sql: &str) -> Result<Rows, D::Error> {
    db.rows(sql)
}

/// Runs SQL that returns one number, or NULL.
pub(crate) fn number<D: Sql>(db: &mut D, sql: &str) -> Result<Option<u64>, D::Error> {
    let rows = rows(db, sql)?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()).and_then(|number| number.parse().ok()))
}

/// Runs a statement of a transaction. `Ok(false)`: it did not fail as expected.
pub(crate) fn execute<D: Sql>(db: &mut D, statement: &Statement) -> Result<bool, D::Error> {
    match (run(db, &statement.sql), statement.fails) {
        (Ok(()), None) => Ok(true),
        (Ok(()), Some(_)) => Ok(false),
        (Err(error), Some(code)) if D::is(&error, code) => Ok(true),
        (Err(error), _) => Err(error),
    }
}
