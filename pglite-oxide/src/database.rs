//! The public face: a database in this process. It owns what a temporary database starts from and what is known of a session; what runs in one
//! is `client`'s.

use std::sync::Arc;

use crate::db_error::DbError;
use crate::error::Result;
use crate::fs::{Tree, Volume};
use crate::instance::Launch;
use crate::payload;
use crate::protocol::TransactionStatus;
use crate::session::{CancelToken, Session};
use crate::world::World;

/// Directory of the database inside the guest.
pub(crate) const PGDATA: &str = "/pgdata";

/// A PostgreSQL database with one session.
#[derive(Debug)]
pub struct Pglite {
    pub(crate) session: Session,
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

    /// Value of a setting that PostgreSQL reports to its clients, like `server_version`.
    pub fn parameter(&mut self, name: &str) -> Option<&str> {
        self.session.reader().parameter(name)
    }

    /// Whether a transaction is open.
    pub fn transaction_status(&mut self) -> TransactionStatus {
        // A session that is over has none.
        match self.session.settle() {
            Ok(()) => self.session.reader().status,
            Err(_) => TransactionStatus::Idle,
        }
    }

    /// Whether the session is over: closed, ended by PostgreSQL, or crashed. The next statement says which.
    pub fn is_closed(&self) -> bool {
        self.session.is_over()
    }

    /// Makes sure that PostgreSQL answers.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) with the reason if the session is over.
    pub fn is_valid(&mut self) -> Result<()> {
        self.batch_execute("")
    }

    /// Takes the notices and warnings that came since the last time, the newest 1000.
    pub fn take_notices(&mut self) -> Vec<DbError> {
        self.session.reader().take_notices()
    }

    /// Has each notice and warning handed to a function from now on, while the statement that causes it is being answered, instead of keeping it for
    /// [`Self::take_notices`].
    pub fn on_notice(&mut self, callback: impl FnMut(DbError) + Send + 'static) {
        self.session.reader().on_notice(Some(Box::new(callback)));
    }

    /// A handle that cancels the running statement from any thread.
    pub fn cancel_token(&self) -> CancelToken {
        self.session.cancel_token()
    }

    /// Ends the session in good order. Dropping the value does the same and hides errors.
    ///
    /// # Errors
    /// [`ErrorKind::Crashed`](crate::ErrorKind::Crashed) if PostgreSQL stopped instead.
    pub fn close(mut self) -> Result<()> {
        self.session.close()
    }
}
