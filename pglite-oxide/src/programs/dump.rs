//! `pg_dump`: a database as SQL or as a PostgreSQL archive. It owns the options of a dump, and
//! restoring the state of the session afterwards.

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

/// Number of retries of the clean-up after a dump if it is cancelled.
const CANCELLED_MAX: usize = 100;

/// Options of `pg_dump`: what a dump contains, and its format. The default is the whole database,
/// as SQL.
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
    compression: Option<String>,
}

/// The format of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DumpFormat {
    /// SQL for `psql`, as text.
    #[default]
    Plain,
    /// PostgreSQL's archive for `pg_restore` (`pg_dump --format=custom`), compressed with gzip if
    /// [`PgDumpOptions::compression`] says nothing else.
    Custom,
    /// The same, as a tar file (`pg_dump --format=tar`), which is never compressed.
    Tar,
}

impl PgDumpOptions {
    /// The whole database.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the format. [`Pglite::dump_sql`] supports [`DumpFormat::Plain`] only.
    #[must_use]
    pub fn format(mut self, format: DumpFormat) -> Self {
        self.format = format;
        self
    }

    /// Compresses an archive of the format [`DumpFormat::Custom`] with this method: `gzip`, `lz4`,
    /// `zstd` or `none`, with a level or without, such as `zstd:9` (`--compress`). Default: `gzip`.
    ///
    /// The dump fails with [`ErrorKind::Config`] if its format is another one, and with
    /// [`ErrorKind::Program`] if `pg_dump` does not know the method or the level.
    #[must_use]
    pub fn compression(mut self, method: impl Into<String>) -> Self {
        self.compression = Some(method.into());
        self
    }

    /// Dumps definitions only, no data (`--schema-only`).
    #[must_use]
    pub fn schema_only(self) -> Self {
        self.with("--schema-only")
    }

    /// Dumps data only, no definitions (`--data-only`).
    #[must_use]
    pub fn data_only(self) -> Self {
        self.with("--data-only")
    }

    /// Dumps only the tables, views and sequences that match this pattern or an earlier one
    /// (PostgreSQL documentation, `psql`, "Patterns").
    #[must_use]
    pub fn table(self, pattern: &str) -> Self {
        self.with_value("--table", pattern)
    }

    /// Omits the tables that match this pattern.
    #[must_use]
    pub fn exclude_table(self, pattern: &str) -> Self {
        self.with_value("--exclude-table", pattern)
    }

    /// Omits the data of the tables that match this pattern.
    #[must_use]
    pub fn exclude_table_data(self, pattern: &str) -> Self {
        self.with_value("--exclude-table-data", pattern)
    }

    /// Dumps only the schemas that match this pattern or an earlier one.
    #[must_use]
    pub fn schema(self, pattern: &str) -> Self {
        self.with_value("--schema", pattern)
    }

    /// Omits the schemas that match this pattern.
    #[must_use]
    pub fn exclude_schema(self, pattern: &str) -> Self {
        self.with_value("--exclude-schema", pattern)
    }

    /// Dumps data as INSERT statements instead of COPY (`--inserts`). Any SQL client can run them;
    /// restoring is slow.
    #[must_use]
    pub fn inserts(self) -> Self {
        self.with("--inserts")
    }

    /// Dumps data as INSERT statements with column names (`--column-inserts`).
    #[must_use]
    pub fn column_inserts(self) -> Self {
        self.with("--column-inserts")
    }

    /// Omits ownership (`--no-owner`).
    #[must_use]
    pub fn no_owner(self) -> Self {
        self.with("--no-owner")
    }

    /// Omits GRANT and REVOKE (`--no-privileges`).
    #[must_use]
    pub fn no_privileges(self) -> Self {
        self.with("--no-privileges")
    }

    /// Omits comments (`--no-comments`).
    #[must_use]
    pub fn no_comments(self) -> Self {
        self.with("--no-comments")
    }

    /// Drops objects before creating them (`--clean`).
    #[must_use]
    pub fn clean(self) -> Self {
        self.with("--clean")
    }

    /// With [`Self::clean`]: drops only existing objects (`--if-exists`).
    #[must_use]
    pub fn if_exists(self) -> Self {
        self.with("--if-exists")
    }

    /// Creates the database and connects to it (`--create`).
    #[must_use]
    pub fn create(self) -> Self {
        self.with("--create")
    }

    /// Adds another argument of `pg_dump`. An option and its value can be one argument or two.
    /// Options that this crate sets (file, format, connection, jobs, compression) are rejected when
    /// the dump is made.
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
        let compressed = match &self.compression {
            Some(method) if self.format == DumpFormat::Custom => Some(format!("--compress={method}")),
            Some(_) => {
                let message = "only the custom format can be compressed (`compression`, `--compression`); compress the dump instead";
                return Err(Error::new(ErrorKind::Config, message));
            }
            None => None,
        };
        let managed = ["/usr/bin/pg_dump", format].map(str::to_string).into_iter().chain(compressed);
        Ok(managed.chain(self.arguments.iter().cloned()).chain(self.more.iter().cloned()).collect())
    }
}

impl Pglite {
    /// Dumps the database as SQL with PostgreSQL's `pg_dump`, in this session. `psql` restores it.
    /// Other clients can restore it after removing the lines that begin with `\`, if it contains no
    /// data or was made with [`PgDumpOptions::inserts`].
    ///
    /// The lines `\restrict` and `\unrestrict`, with a random key, prevent that contents of the
    /// database act as commands of `psql`. With a fixed key, as in `.arg("--restrict-key=abc")`,
    /// equal databases give equal dumps.
    ///
    /// The dump contains what is committed. Settings, prepared statements and LISTEN registrations
    /// of the session are kept.
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`] if a transaction is open.
    /// - [`ErrorKind::Config`] if an option is rejected, with the alternative.
    /// - [`ErrorKind::Program`] with the message of `pg_dump`, and with PostgreSQL's error in
    ///   [`Error::as_db_error`] if that was the reason: a table that does not exist, a missing
    ///   privilege, a dump that was cancelled. The session remains usable.
    /// - [`ErrorKind::Closed`] or [`ErrorKind::Crashed`] if the session is over.
    pub fn dump_sql(&mut self, options: &PgDumpOptions) -> Result<String> {
        plain(options)?;
        text(self.dump_bytes(options)?)
    }

    /// Dumps the database in any format with PostgreSQL's `pg_dump`; otherwise as
    /// [`Self::dump_sql`].
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
        // Whatever pg_dump sets is undone with this transaction. Its own is a warning in here, and
        // asks for the same isolation.
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
    /// [`ErrorKind::Config`] if an option is refused; [`ErrorKind::Payload`] or [`ErrorKind::Io`]
    /// if the program cannot be started.
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
        // The transaction that a dump in a session begins is there already; that is no news to
        // anybody.
        let said: Vec<&str> = said.lines().filter(|line| !line.starts_with("WARNING:  there is already a")).collect();
        let said = if said.is_empty() { format!("pg_dump ended with exit code {code}") } else { said.join("\n") };
        Err(Error::new(ErrorKind::Program, said))
    }
}

/// Refuses every form but text.
pub(crate) fn plain(options: &PgDumpOptions) -> Result<()> {
    match options.format {
        DumpFormat::Plain => Ok(()),
        other => Err(Error::new(ErrorKind::Config, format!("{other:?} is not SQL: use dump_bytes"))),
    }
}

/// A dump as text.
pub(crate) fn text(dump: Vec<u8>) -> Result<String> {
    String::from_utf8(dump).map_err(|_| {
        Error::new(ErrorKind::Config, "the dump is not UTF-8: use dump_bytes, or leave the encoding to this crate")
    })
}
