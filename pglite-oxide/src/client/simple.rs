//! Simple queries: statements as text, with results as text.

use std::sync::Arc;

use bytes::Bytes;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use crate::Pglite;
use crate::client::row::{Values, value, values};
use crate::client::session::Session;
use crate::client::statement::invalid;
use crate::error::{Error, ErrorKind, Result};

/// Part of the answer to [`Pglite::simple_query`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum SimpleQueryMessage {
    /// The columns of the rows that follow.
    RowDescription(Arc<[SimpleColumn]>),
    /// A row.
    Row(SimpleQueryRow),
    /// The end of a statement; the number of rows that it changed or read.
    CommandComplete(u64),
}

/// A column of a text result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimpleColumn {
    name: String,
}

/// A row whose values are text.
#[derive(Debug, Clone)]
pub struct SimpleQueryRow {
    columns: Arc<[SimpleColumn]>,
    body: Bytes,
    values: Values,
}

impl Pglite {
    /// Runs statements, separated by semicolons, and returns their rows as text. Without explicit
    /// transactions the statements are one transaction: an error in any of them undoes all.
    ///
    /// Nothing is escaped: pass untrusted text as parameters of [`Self::query`].
    ///
    /// # Errors
    /// [`ErrorKind::Database`] with the first error.
    pub fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        self.session.simple_query(sql)
    }

    /// Runs statements, separated by semicolons, and discards their rows; otherwise as
    /// [`Self::simple_query`].
    ///
    /// # Errors
    /// As [`Self::simple_query`].
    pub fn batch_execute(&mut self, sql: &str) -> Result<()> {
        self.session.batch_execute(sql).map(|_| ())
    }
}

impl Session {
    /// Runs statements and returns the command tag of the last.
    pub(crate) fn batch_execute(&mut self, sql: &str) -> Result<String> {
        frontend::query(sql, self.begin()?).map_err(invalid)?;
        self.send()?;
        let mut tag = String::new();
        loop {
            match self.next()? {
                Message::ReadyForQuery(_) => return Ok(tag),
                Message::CommandComplete(body) => {
                    self.complete(&body)?;
                    body.tag().unwrap_or_default().clone_into(&mut tag);
                }
                _ => (),
            }
        }
    }

    fn simple_query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>> {
        frontend::query(sql, self.begin()?).map_err(invalid)?;
        self.send()?;
        let mut answer = Vec::new();
        let mut columns: Arc<[SimpleColumn]> = Arc::default();
        loop {
            match self.next()? {
                Message::ReadyForQuery(_) => return Ok(answer),
                Message::RowDescription(body) => {
                    let names = body.fields().map(|field| Ok(SimpleColumn { name: field.name().to_string() }));
                    columns = names.collect::<Vec<_>>().map_err(|cause| self.broken_by(cause))?.into();
                    answer.push(SimpleQueryMessage::RowDescription(columns.clone()));
                }
                Message::DataRow(body) => {
                    let values = values(body.buffer()).map_err(|cause| self.broken_by(cause))?;
                    let row = SimpleQueryRow { columns: columns.clone(), body: body.buffer_bytes().clone(), values };
                    answer.push(SimpleQueryMessage::Row(row));
                }
                message => {
                    if let Some(count) = self.ended(&message)? {
                        answer.push(SimpleQueryMessage::CommandComplete(count));
                    }
                }
            }
        }
    }
}

impl SimpleColumn {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl SimpleQueryRow {
    /// The columns.
    pub fn columns(&self) -> &[SimpleColumn] {
        &self.columns
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// A value, by the column's index from 0; `None` for NULL.
    ///
    /// # Panics
    /// If [`Self::try_get`] returns an error.
    #[track_caller]
    // Like indexing: for programs that know their columns.
    #[allow(clippy::panic)]
    pub fn get(&self, column: usize) -> Option<&str> {
        match self.try_get(column) {
            Ok(value) => value,
            Err(error) => panic!("{error}"),
        }
    }

    /// A value, by the column's index from 0; `None` for NULL.
    ///
    /// # Errors
    /// [`ErrorKind::ColumnNotFound`] if the column does not exist; [`ErrorKind::FromSql`] if the
    /// value is not UTF-8.
    pub fn try_get(&self, column: usize) -> Result<Option<&str>> {
        let Some(offset) = self.values.get(column) else {
            let message = format!("there is no column {column}: the row has {}", self.values.len());
            return Err(Error::new(ErrorKind::ColumnNotFound, message));
        };
        let text = value(&self.body, *offset).map(std::str::from_utf8).transpose();
        text.map_err(|cause| Error::new(ErrorKind::FromSql, format!("column {column}")).with_cause(cause))
    }
}
