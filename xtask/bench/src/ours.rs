//! The embedded side of the benchmark. Everything that is measured of `pglite-oxide` goes through
//! here.

use std::io::Write;
use std::path::Path;

use pglite_oxide::types::ToSql;
use pglite_oxide::{Builder, Durability, ErrorKind, Pglite, SimpleQueryMessage, Statement, dev};

use crate::error::{Context as _, Error, Result};
use crate::session::{Operation, Session};

/// A session of a temporary database, and the statement it has prepared.
#[derive(Debug)]
pub(crate) struct Ours {
    db: Pglite,
    prepared: Option<Statement>,
}

impl Ours {
    /// Opens a temporary database: in memory, without syncing.
    pub(crate) fn temporary() -> Result<Self> {
        Self::open(&Self::builder(true)?)
    }

    /// What opens temporary databases: a PostgreSQL with all extensions, or one without any. What
    /// the latter consists of stays in memory as long as the process runs.
    pub(crate) fn builder(extensions: bool) -> Result<Builder> {
        // Autovacuum is off on the native side too, where it would run at any time.
        let builder = Pglite::builder().setting("autovacuum", "off");
        if extensions {
            return Ok(builder);
        }
        dev::without_extensions(builder).context(|| "cannot leave out the extensions".into())
    }

    /// Opens a database with these options.
    pub(crate) fn open(builder: &Builder) -> Result<Self> {
        builder.open().map(Self::new).context(|| "cannot open a database".into())
    }

    /// Opens or creates the database in a directory: every commit is durable.
    pub(crate) fn persistent(root: &Path) -> Result<Self> {
        Pglite::open(root).map(Self::new).context(|| format!("cannot open the database in {}", root.display()))
    }

    /// Opens or creates the database in a directory, with this durability, and buffers that a table
    /// of some ten megabytes does not fit into.
    pub(crate) fn at(root: &Path, durability: Durability) -> Result<Self> {
        let builder = Pglite::builder().path(root).durability(durability);
        let builder = builder.setting("shared_buffers", "16MB").setting("autovacuum", "off");
        builder.open().map(Self::new).context(|| format!("cannot open the database in {}", root.display()))
    }

    /// Closes the database.
    pub(crate) fn close(self) -> Result<()> {
        self.db.close().context(|| "cannot close the database".into())
    }

    fn new(db: Pglite) -> Self {
        Self { db, prepared: None }
    }
}

impl Session for Ours {
    fn offers(&self, operation: Operation) -> bool {
        match operation {
            Operation::Simple | Operation::Bare | Operation::Sync | Operation::Prepared | Operation::CopyIn => true,
        }
    }

    fn simple(&mut self, sql: &str) -> Result<usize> {
        let answer = self.db.simple_query(sql).context(|| failed(sql))?;
        Ok(answer.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count())
    }

    fn value(&mut self, sql: &str) -> Result<String> {
        let answer = self.db.simple_query(sql).context(|| failed(sql))?;
        let value = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        value.ok_or_else(|| Error::new(format!("ours: no value: {sql}")))
    }

    fn failure(&mut self, sql: &str) -> Result<String> {
        match self.db.batch_execute(sql) {
            Ok(()) => Err(Error::new(format!("ours: expected an error: {sql}"))),
            // An error that ended the session is not an answer.
            Err(error) => match (error.kind(), error.code()) {
                (ErrorKind::Database, Some(state)) => Ok(state.code().to_owned()),
                _ => Err(Error::new(failed(sql)).cause(error)),
            },
        }
    }

    /// There is no client library between the caller and the protocol to leave out.
    fn bare(&mut self, sql: &str) -> Result<usize> {
        self.simple(sql)
    }

    fn sync(&mut self) -> Result<()> {
        dev::round_trip(&mut self.db).context(|| failed("a Sync message"))
    }

    fn prepare(&mut self, sql: &str) -> Result<()> {
        self.prepared = Some(self.db.prepare(sql).context(|| failed(sql))?);
        Ok(())
    }

    fn prepared(&mut self, parameters: &[i32]) -> Result<usize> {
        let statement = self.prepared.as_ref().ok_or_else(|| Error::new("ours: nothing is prepared"))?;
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| value as _).collect();
        let rows = self.db.query(statement, &parameters).context(|| failed("the prepared statement"))?;
        Ok(rows.len())
    }

    fn copy_in(&mut self, sql: &str, rows: &[u8]) -> Result<u64> {
        let mut writer = self.db.copy_in(sql).context(|| failed(sql))?;
        writer.write_all(rows).context(|| failed(sql))?;
        writer.finish().context(|| failed(sql))
    }
}

fn failed(sql: &str) -> String {
    format!("ours: {sql}")
}
