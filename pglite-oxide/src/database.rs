//! The public face: a database in this process. It owns what a temporary database starts from; sessions and results are `session`'s.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use crate::archive::{self, Format};
use crate::builder::{self, Builder, Data};
use crate::error::{DbError, Error, ErrorKind, Result};
use crate::fs::FileSystem;
use crate::interrupts::Flag;
use crate::options::{Durability, Options};
use crate::payload;
use crate::protocol::ResultSet;
use crate::root::identity::Layout;
use crate::session::Session;

/// Directory of the database inside the guest.
pub(crate) const PGDATA: &str = "/pgdata";

/// A PostgreSQL database with one session.
#[derive(Debug)]
pub struct Pglite {
    session: Session,
    data: Data,
    options: Options,
}

impl Pglite {
    /// Opens a new, empty database that lives in memory and is gone when this value is.
    ///
    /// # Errors
    /// [`ErrorKind::Payload`] if this build carries no PostgreSQL for this machine.
    pub fn temporary() -> Result<Self> {
        Self::builder().temporary().open()
    }

    /// Opens the database in a directory, which is made if it is not there. Commits are durable: see [`Durability`](crate::Durability).
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder().path(path).open()
    }

    /// Says how to open a database.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a new temporary database with everything that is committed in this one. The two are independent from then on. A database in memory
    /// shares its pages with the copy until one of them writes; one in a directory is copied into memory.
    ///
    /// # Errors
    /// As [`Self::checkpoint`] and [`Builder::open`].
    pub fn try_clone(&mut self) -> Result<Self> {
        self.checkpoint()?;
        let data = match &self.data {
            Data::Image(fs) => fs.copy(),
            Data::Other(fs) => {
                let copy = builder::empty();
                builder::copy(&**fs, &copy)?;
                copy
            }
        };
        let options = Options { durability: Durability::None, ..self.options.clone() };
        builder::start(payload::embedded()?, Data::Image(data), options, None)
    }

    /// Writes an archive of the database with everything that is committed. [`Builder::load`] makes a database of it.
    ///
    /// # Errors
    /// As [`Self::checkpoint`]; [`ErrorKind::Io`] if the archive cannot be written.
    pub fn dump_data_dir(&mut self, writer: impl Write, format: Format) -> Result<()> {
        self.checkpoint()?;
        let fs: &dyn FileSystem = match &self.data {
            Data::Image(fs) => fs,
            Data::Other(fs) => &**fs,
        };
        archive::dump(fs, &Layout::of(fs)?, writer, format)
    }

    /// Writes everything that is committed to its place in the files, as the statement CHECKPOINT does, in a failed transaction too.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the files cannot be written; [`ErrorKind::Closed`] or [`ErrorKind::Crashed`] if the session is over.
    pub fn checkpoint(&mut self) -> Result<()> {
        let instance = self.session.instance();
        if instance.checkpoint()? {
            return Ok(());
        }
        let log = instance.take_log();
        Err(Error::new(ErrorKind::Io, format!("PostgreSQL could not make a checkpoint: {}", log.trim_end())))
    }

    pub(crate) fn new(session: Session, data: Data, options: Options) -> Self {
        Self { session, data, options }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Runs one or more statements, separated by semicolons, and returns the result of each. Statements without a transaction of their own
    /// are one: an error in any of them undoes them all.
    ///
    /// # Errors
    /// What PostgreSQL reports, as [`ErrorKind::Database`](crate::ErrorKind::Database); the session goes on after it.
    pub fn exec(&mut self, sql: &str) -> Result<Vec<ResultSet>> {
        self.session.exec(sql)
    }

    /// Runs a statement and returns its rows; of several statements, those of the last.
    ///
    /// # Errors
    /// As [`Self::exec`].
    pub fn query(&mut self, sql: &str) -> Result<ResultSet> {
        Ok(self.exec(sql)?.pop().unwrap_or_default())
    }

    /// Value of a setting that PostgreSQL reports to its clients, like `server_version`.
    pub fn parameter(&mut self, name: &str) -> Option<&str> {
        self.session.reader().parameter(name)
    }

    /// Takes the notices and warnings that came since the last time, the newest 1000.
    pub fn take_notices(&mut self) -> Vec<DbError> {
        self.session.reader().take_notices()
    }

    /// A handle that cancels the running statement from another thread.
    pub fn cancel_handle(&mut self) -> CancelHandle {
        CancelHandle(self.session.instance().interrupts().clone())
    }

    /// Ends the session in good order. Dropping the value does the same and hides errors.
    ///
    /// # Errors
    /// [`ErrorKind::Crashed`](crate::ErrorKind::Crashed) if PostgreSQL stopped instead.
    pub fn close(mut self) -> Result<()> {
        self.session.close()
    }
}

/// Cancels the statement a database is running, from any thread. Does nothing once the database is closed.
#[derive(Debug, Clone)]
pub struct CancelHandle(Arc<crate::interrupts::Interrupts>);

impl CancelHandle {
    /// Asks PostgreSQL to end the statement with SQLSTATE 57014.
    pub fn cancel(&self) {
        self.0.flag(Flag::Cancel);
    }
}
