//! Helpers for the SQL of the tests: running statements and reading their results.

use pglite_oxide::{Error, ErrorKind, Pglite, SimpleQueryMessage};

use crate::workload::Statement;

/// Rows of a result, as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

/// Runs SQL without a result.
pub(crate) fn run(db: &mut Pglite, sql: &str) -> Result<(), Error> {
    db.batch_execute(sql)
}

/// Runs SQL and returns its rows.
pub(crate) fn rows(db: &mut Pglite, sql: &str) -> Result<Rows, Error> {
    let messages = db.simple_query(sql)?;
    let row = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages.iter().filter_map(row).collect())
}

/// Runs SQL that returns one number, or NULL.
pub(crate) fn number(db: &mut Pglite, sql: &str) -> Result<Option<u64>, Error> {
    let rows = rows(db, sql)?;
    Ok(rows.first().and_then(|row| row.first()?.as_deref()).and_then(|number| number.parse().ok()))
}

/// Runs a statement of a transaction. `Ok(false)`: it did not fail as expected.
pub(crate) fn execute(db: &mut Pglite, statement: &Statement) -> Result<bool, Error> {
    match (run(db, &statement.sql), statement.fails) {
        (Ok(()), None) => Ok(true),
        (Ok(()), Some(_)) => Ok(false),
        (Err(error), Some(code)) if error.kind() == ErrorKind::Database && is(&error, code) => Ok(true),
        (Err(error), _) => Err(error),
    }
}

/// Whether an error has this SQLSTATE.
pub(crate) fn is(error: &Error, code: &str) -> bool {
    error.code().is_some_and(|found| found.code() == code)
}
