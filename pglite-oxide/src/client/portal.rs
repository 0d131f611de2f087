//! Rows in batches, so that a result need not fit in memory: iteration over a statement, and
//! portals of a transaction.

use std::sync::Arc;

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use postgres_types::{BorrowToSql, ToSql};

use crate::Pglite;
use crate::client::query::{check_number, put_bind};
use crate::client::session::Session;
use crate::client::statement::sealed::Source;
use crate::client::statement::{Garbage, invalid};
use crate::client::{Column, Row, ToStatement};
use crate::error::{Error, Result};

/// Default number of rows of the first batch.
const FIRST_ROWS: i32 = 64;
/// Default size of the following batches, in bytes.
const PORTION: usize = 256 * 1024;
/// Default maximum number of rows of a batch.
const ROWS_MAX: i32 = 10_000;

/// Rows of a running statement, fetched in batches. Memory stays constant for any number of rows.
/// Dropping it before the end ends the statement.
#[derive(Debug)]
pub struct RowIter<'a> {
    session: &'a mut Session,
    columns: Arc<[Column]>,
    /// Number of rows of the next batch.
    fetch: i32,
    /// The caller has set the number.
    fixed: bool,
    /// Of the current batch.
    bytes: usize,
    rows: i32,
    affected: Option<u64>,
    done: bool,
}

impl Pglite {
    /// Runs a statement and returns an iterator over its rows, which fetches them in batches: of
    /// about 256 KiB by default, or of the number of rows that [`RowIter::set_fetch_size`] sets.
    ///
    /// ```no_run
    /// # fn main() -> pglite_oxide::Result<()> {
    /// # let mut db = pglite_oxide::Pglite::temporary()?;
    /// let mut sum = 0;
    /// for row in db.query_raw("SELECT g FROM generate_series(1, $1) g", [10_000_000i32])? {
    ///     sum += i64::from(row?.get::<_, i32>(0));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Self::query`]. An error after some rows is the iterator's last item.
    pub fn query_raw<T, P, I>(&mut self, statement: &T, params: I) -> Result<RowIter<'_>>
    where
        T: ?Sized + ToStatement,
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        let columns = self.session.open_portal("", statement.source(), params)?;
        let mut rows = RowIter {
            session: &mut self.session,
            columns,
            fetch: FIRST_ROWS,
            fixed: false,
            bytes: 0,
            rows: 0,
            affected: None,
            done: false,
        };
        rows.fetch()?;
        match rows.session.next()? {
            Message::BindComplete => Ok(rows),
            _ => Err(rows.session.broken("unexpected answer to Bind")),
        }
    }
}

impl Session {
    /// Adds a Bind message to the outgoing messages, and returns the columns of its portal.
    fn open_portal<P, I>(&mut self, portal: &str, source: Source<'_>, params: I) -> Result<Arc<[Column]>>
    where
        P: BorrowToSql,
        I: IntoIterator<Item = P>,
        I::IntoIter: ExactSizeIterator,
    {
        let params = params.into_iter();
        check_number(params.len())?;
        match source {
            Source::Prepared(statement) => {
                let name = statement.name_in(self)?;
                put_bind(portal, name, statement.params(), params, self.begin()?)?;
                Ok(statement.shared_columns().clone())
            }
            Source::Text(sql) => {
                let (types, columns) = self.parse_unnamed(sql)?;
                match put_bind(portal, "", &types, params, self.more()) {
                    Ok(()) => Ok(columns),
                    Err(error) => Err(self.unexpected(error)),
                }
            }
        }
    }
}

impl RowIter<'_> {
    /// The columns of the rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Sets the number of rows of the next batches, at least 1.
    pub fn set_fetch_size(&mut self, rows: u32) {
        self.fixed = true;
        self.fetch = i32::try_from(rows).unwrap_or(i32::MAX).max(1);
    }

    /// Number of rows that the statement changed, or read in its last batch. Known when the
    /// iterator has ended.
    pub fn rows_affected(&self) -> Option<u64> {
        self.affected
    }

    /// Sends the outgoing messages and requests a batch.
    fn fetch(&mut self) -> Result<()> {
        if !self.fixed && self.rows > 0 {
            let average = (self.bytes / self.rows as usize).max(1);
            self.fetch = i32::try_from(PORTION / average).unwrap_or(ROWS_MAX).clamp(1, ROWS_MAX);
        }
        (self.bytes, self.rows) = (0, 0);
        let messages = self.session.outgoing();
        frontend::execute("", self.fetch, messages).map_err(invalid)?;
        frontend::flush(messages);
        self.session.send()
    }

    fn try_next(&mut self) -> Result<Option<Row>> {
        loop {
            match self.session.next()? {
                Message::DataRow(body) => {
                    self.bytes += body.buffer().len();
                    self.rows += 1;
                    let row = Row::new(self.columns.clone(), &body);
                    return row.map(Some).map_err(|cause| self.session.broken_by(cause));
                }
                Message::PortalSuspended => {
                    self.session.more();
                    self.fetch()?;
                }
                message => {
                    if let Some(count) = self.session.ended(&message)? {
                        self.affected = Some(count);
                        return self.end().map(|()| None);
                    }
                }
            }
        }
    }

    /// Ends the message sequence, and with it the statement. Reports its errors, for example of a
    /// constraint that is checked at the end.
    fn end(&mut self) -> Result<()> {
        self.done = true;
        frontend::sync(self.session.more());
        self.session.send()?;
        self.session.finish()
    }
}

impl Iterator for RowIter<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.try_next();
        self.done |= next.is_err();
        next.transpose()
    }
}

impl Drop for RowIter<'_> {
    fn drop(&mut self) {
        if !self.done {
            // If the session has ended, the next statement reports it.
            let _ = self.session.settle();
        }
    }
}

/// A portal: a statement with its parameters in a transaction, which returns its rows in batches.
/// It ends with the transaction or when it is dropped.
#[derive(Debug)]
pub struct Portal {
    name: String,
    columns: Arc<[Column]>,
    garbage: Arc<Garbage>,
}

impl Portal {
    /// The columns of its rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        self.garbage.add(b'P', std::mem::take(&mut self.name));
    }
}

/// Portals as transactions and savepoints offer them.
impl Session {
    pub(super) fn bind(&mut self, source: Source<'_>, params: &[&(dyn ToSql + Sync)]) -> Result<Portal> {
        let name = self.name("p");
        let columns = self.open_portal(&name, source, params.iter().copied())?;
        frontend::sync(self.outgoing());
        self.send()?;
        self.expect_bind()?;
        self.finish()?;
        Ok(Portal { name, columns, garbage: self.garbage().clone() })
    }

    pub(super) fn query_portal(&mut self, portal: &Portal, max_rows: u32) -> Result<Vec<Row>> {
        if !Arc::ptr_eq(&portal.garbage, self.garbage()) {
            return Err(Error::usage("the portal belongs to another database"));
        }
        let messages = self.begin()?;
        frontend::execute(&portal.name, i32::try_from(max_rows).unwrap_or(i32::MAX), messages).map_err(invalid)?;
        frontend::sync(messages);
        self.send()?;
        let mut rows = Vec::new();
        loop {
            match self.next()? {
                Message::DataRow(body) => {
                    let row = Row::new(portal.columns.clone(), &body);
                    rows.push(row.map_err(|cause| self.broken_by(cause))?);
                }
                message => {
                    if self.ended(&message)?.is_some() {
                        self.finish()?;
                        return Ok(rows);
                    }
                }
            }
        }
    }
}
