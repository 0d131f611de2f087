//! The public face: a database in this process. It owns what a temporary database starts from; sessions and results are `session`'s.

use std::sync::Arc;

use crate::error::{DbError, Result};
use crate::fs::{Tree, Volume};
use crate::instance::Launch;
use crate::interrupts::Flag;
use crate::payload;
use crate::protocol::ResultSet;
use crate::session::Session;
use crate::world::World;

/// Directory of the database inside the guest.
pub(crate) const PGDATA: &str = "/pgdata";

/// A PostgreSQL database with one session.
#[derive(Debug)]
pub struct Pglite {
    session: Session,
}

impl Pglite {
    /// Opens a new, empty database that lives in memory and is gone when this value is.
    ///
    /// # Errors
    /// [`ErrorKind::Payload`](crate::ErrorKind::Payload) if this build carries no PostgreSQL for this machine.
    pub fn temporary() -> Result<Self> {
        let payload = payload::embedded()?;
        let args = ["postgres", "--single", "-F", "-D", PGDATA].map(String::from).to_vec();
        let launch = Launch {
            modules: payload.modules()?,
            volume: Arc::new(Volume::new(Tree::new(payload.image()?))),
            args,
            env: payload::environment(),
            stdin: bytes::Bytes::new(),
            world: World::default(),
        };
        Ok(Self { session: Session::open(launch, "postgres", "postgres")? })
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
