//! `pg_dump`: a database as SQL or as an archive of PostgreSQL's. It owns what a dump may be asked for, and that the session it is made in is as it was afterwards.

use std::sync::Arc;

use super::session::SessionDialer;
use super::stdio::{Input, Kept};
use super::{Command, Login, Running, arguments, installation};
use crate::client::Pglite;
use crate::error::SqlState;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Volume;
use crate::protocol::TransactionStatus;
use crate::server::attach;
use crate::transport::pipe;
use crate::wasm::channel::Dialer;

/// How often what follows a dump is begun again when it is cancelled.
const CANCELLED_MAX: usize = 100;

/// What a dump consists of and looks like: options of PostgreSQL's `pg_dump`. The default is the whole database, as SQL.
///
/// ```no_run
/// use pglite_oxide::{PgDumpOptions, Pglite};
///
/// let mut db = Pglite::open("data/shop")?;
/// let schema = db.dump_sql(&PgDumpOptions::new().schema_only().no_owner())?;
/// # Ok::<(), pglite_oxide::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct PgDumpOptions {
    arguments: Vec<String>,
    /// As the caller spelled them.
    more: Vec<String>,
    format: DumpFormat,
}

/// The form of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DumpFormat {
    /// SQL for `psql`, as text.
    #[default]
    Plain,
    /// The archive of PostgreSQL's that `pg_restore` picks from, not compressed (`pg_dump --format=custom`).
    Custom,
    /// The same as a tar file (`pg_dump --format=tar`).
    Tar,
}

impl PgDumpOptions {
    /// The whole database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The form of the dump. [`Pglite::dump_sql`] makes [`DumpFormat::Plain`] only.
    #[must_use]
    pub fn format(mut self, format: DumpFormat) -> Self {
        self.format = format;
        self
    }

    /// No data, only what defines it.
    #[must_use]
    pub fn schema_only(self) -> Self {
        self.with("--schema-only")
    }

    /// Only the data.
    #[must_use]
    pub fn data_only(self) -> Self {
        self.with("--data-only")
    }

    /// Only the tables, views and sequences that match this pattern, or one given before (PostgreSQL documentation, `psql`, "Patterns").
    #[must_use]
    pub fn table(self, pattern: &str) -> Self {
        self.with_value("--table", pattern)
    }

    /// None of the tables that match this pattern.
    #[must_use]
    pub fn exclude_table(self, pattern: &str) -> Self {
        self.with_value("--exclude-table", pattern)
    }

    /// No data of the tables that match this pattern.
    #[must_use]
    pub fn exclude_table_data(self, pattern: &str) -> Self {
        self.with_value("--exclude-table-data", pattern)
    }

    /// Only the schemas that match this pattern, or one given before.
    #[must_use]
    pub fn schema(self, pattern: &str) -> Self {
        self.with_value("--schema", pattern)
    }

    /// None of the schemas that match this pattern.
    #[must_use]
    pub fn exclude_schema(self, pattern: &str) -> Self {
        self.with_value("--exclude-schema", pattern)
    }

    /// Data as INSERT statements, which any SQL client can run, instead of COPY. Slow to restore.
    #[must_use]
    pub fn inserts(self) -> Self {
        self.with("--inserts")
    }

    /// Data as INSERT statements that name their columns.
    #[must_use]
    pub fn column_inserts(self) -> Self {
        self.with("--column-inserts")
    }

    /// Does not say whom things belong to.
    #[must_use]
    pub fn no_owner(self) -> Self {
        self.with("--no-owner")
    }

    /// Leaves out GRANT and REVOKE.
    #[must_use]
    pub fn no_privileges(self) -> Self {
        self.with("--no-privileges")
    }

    /// Leaves out comments.
    #[must_use]
    pub fn no_comments(self) -> Self {
        self.with("--no-comments")
    }

    /// Drops what is about to be created.
    #[must_use]
    pub fn clean(self) -> Self {
        self.with("--clean")
    }

    /// With [`Self::clean`]: drops only what is there.
    #[must_use]
    pub fn if_exists(self) -> Self {
        self.with("--if-exists")
    }

    /// Creates the database and connects to it.
    #[must_use]
    pub fn create(self) -> Self {
        self.with("--create")
    }

    /// Any other argument of `pg_dump`, spelled as it likes it. An option and its value can be one argument or two. Refused when the dump is made is what belongs to this
    /// crate: file, format, connection, jobs, compression.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<String>) -> Self {
        self.more.push(argument.into());
        self
    }

    fn with(mut self, option: &str) -> Self {
        self.arguments.push(option.to_string());
        self
    }

    fn with_value(mut self, option: &str, value: &str) -> Self {
        self.arguments.push(format!("{option}={value}"));
        self
    }

    /// The program's arguments, its name first.
    fn arguments(&self) -> Result<Vec<String>> {
        arguments::check(&self.more)?;
        let format = match self.format {
            DumpFormat::Plain => "--format=plain",
            DumpFormat::Custom => "--format=custom",
            DumpFormat::Tar => "--format=tar",
        };
        let managed = ["/usr/bin/pg_dump", format].map(str::to_string).into_iter();
        Ok(managed.chain(self.arguments.iter().cloned()).chain(self.more.iter().cloned()).collect())
    }
}

impl Pglite {
    /// Dumps the database as SQL with PostgreSQL's `pg_dump`, made in this session. `psql` restores it; so does every other client if there is no data in it, or
    /// [`PgDumpOptions::inserts`] made INSERT statements of that, once the lines that begin with `\` are gone.
    ///
    /// Between lines of `psql`'s own, `\restrict` and `\unrestrict`, with a key that nobody can know before, what the database says cannot give orders to `psql`. With a key of
    /// your own, as in `.arg("--restrict-key=abc")`, equal databases give equal dumps.
    ///
    /// The dump shows what is committed. What the session has set, prepared and listens to stays.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`] if a transaction is open.
    /// - [`ErrorKind::Config`] if an option is refused, with what to do instead.
    /// - [`ErrorKind::Program`] with what `pg_dump` said, and with PostgreSQL's error in [`Error::as_db_error`] if that was the reason: a table that does not exist, a
    ///   right that the user lacks, a dump that was cancelled. The session goes on.
    /// - [`ErrorKind::Closed`] or [`ErrorKind::Crashed`] if the session is over.
    pub fn dump_sql(&mut self, options: &PgDumpOptions) -> Result<String> {
        plain(options)?;
        text(self.dump_bytes(options)?)
    }

    /// Dumps the database in any form with PostgreSQL's `pg_dump`, made in this session: [`Self::dump_sql`] says how.
    ///
    /// # Errors
    /// As [`Self::dump_sql`].
    pub fn dump_bytes(&mut self, options: &PgDumpOptions) -> Result<Vec<u8>> {
        options.arguments()?;
        if self.transaction_status() != TransactionStatus::Idle {
            return Err(Error::usage(
                "a transaction is open: a dump shows what is committed; commit or roll back first",
            ));
        }
        let before = self.prepared_statements()?;
        // Whatever pg_dump sets is undone with this transaction. Its own is a warning in here, and asks for the same isolation.
        self.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let dumped = self.dump_in_transaction(options);
        let restored = self.end_dump(&before);
        match (dumped, restored) {
            // Why the session is over says more than what that meant to the program.
            (_, Err(over)) => Err(over),
            (dumped, Ok(())) => dumped,
        }
    }

    fn dump_in_transaction(&mut self, options: &PgDumpOptions) -> Result<Vec<u8>> {
        // The dump does not depend on what the session has set.
        self.batch_execute("RESET ALL")?;
        let interrupts = self.session.interrupts().clone();
        let (server, client) = pipe::pipe();
        let dialer = Box::new(SessionDialer::new(client, &interrupts));
        let login = Login { user: &self.options().user, database: &self.options().database, password: None };
        let dump = Dump::start(dialer, &login, options)?;
        let served = attach::attach(self, server);
        let dump = dump.finish();
        let last_error = served?;
        dump.map_err(|error| match last_error {
            Some(cause) if error.kind() == ErrorKind::Program => error.with_database(cause),
            _ => error,
        })
    }

    /// Undoes what the dump did to the session.
    fn end_dump(&mut self, before: &[String]) -> Result<()> {
        self.retry_on_cancel(|db| db.batch_execute("ROLLBACK"))?;
        for name in self.retry_on_cancel(Self::prepared_statements)?.iter().filter(|name| !before.contains(name)) {
            let sql = format!("DEALLOCATE \"{}\"", name.replace('"', "\"\""));
            self.retry_on_cancel(|db| db.batch_execute(&sql))?;
        }
        Ok(())
    }

    /// Does something again that was cancelled: the dump was meant, and that is over.
    fn retry_on_cancel<T>(&mut self, mut step: impl FnMut(&mut Self) -> Result<T>) -> Result<T> {
        for _ in 0..CANCELLED_MAX {
            match step(self) {
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => (),
                result => return result,
            }
        }
        step(self)
    }

    /// Names of the statements that SQL has prepared, which no transaction undoes.
    fn prepared_statements(&mut self) -> Result<Vec<String>> {
        let rows = self.simple_query("SELECT name FROM pg_catalog.pg_prepared_statements WHERE from_sql")?;
        let name = |message| match message {
            crate::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
            _ => None,
        };
        Ok(rows.into_iter().filter_map(name).collect())
    }
}

/// A dump in the making.
#[derive(Debug)]
pub(crate) struct Dump {
    running: Running,
    stdout: Kept,
    stderr: Kept,
}

impl Dump {
    /// Starts the program. What it dumps is the dialer's and the names' to say.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if an option is refused; [`ErrorKind::Payload`] or [`ErrorKind::Io`] if the program cannot be started.
    pub(crate) fn start(dialer: Box<dyn Dialer>, login: &Login<'_>, options: &PgDumpOptions) -> Result<Self> {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let command = Command {
            program: "pg_dump",
            args: options.arguments()?,
            env: login.environment(),
            volume: Volume::new(Arc::new(installation("usr/bin/pg_dump")?)),
            working_directory: Some("/".to_string()),
            stdin: Input::Bytes(bytes::Bytes::new()),
            stdout: stdout.output(),
            stderr: stderr.output(),
            dialer,
        };
        Ok(Self { running: command.start()?, stdout, stderr })
    }

    /// Waits for the program and returns the dump.
    ///
    /// # Errors
    /// [`ErrorKind::Program`] with what the program said.
    pub(crate) fn finish(self) -> Result<Vec<u8>> {
        let code = self.running.wait()?;
        if code == 0 {
            return Ok(self.stdout.take());
        }
        let said = String::from_utf8_lossy(&self.stderr.take()).trim_end().to_string();
        // The transaction that a dump in a session begins is there already; that is no news to anybody.
        let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("WARNING:  there is already a")).collect();
        let said = if said.is_empty() { format!("pg_dump ended with exit code {code}") } else { said.join("\n") };
        Err(Error::new(ErrorKind::Program, said))
    }
}

/// Refuses every form but text.
pub(crate) fn plain(options: &PgDumpOptions) -> Result<()> {
    match options.format {
        DumpFormat::Plain => Ok(()),
        other => Err(Error::new(ErrorKind::Config, format!("{other:?} is no SQL: use dump_bytes"))),
    }
}

/// A dump as text.
pub(crate) fn text(dump: Vec<u8>) -> Result<String> {
    String::from_utf8(dump).map_err(|_| {
        Error::new(ErrorKind::Config, "the dump is not UTF-8: use dump_bytes, or leave the encoding to this crate")
    })
}
