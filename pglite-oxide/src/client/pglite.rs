//! `Pglite`, a database in this process. It owns opening, copying and closing; `client` owns what
//! runs in a session.

use std::io::Write;
use std::path::PathBuf;

use super::builder::Builder;
use crate::bundle::{self, Payload};
use crate::client::session::{CancelToken, Session};
use crate::cluster::archive::{self, Format};
use crate::cluster::control_file::Layout;
use crate::cluster::options::{Durability, Options};
use crate::cluster::{self, Cluster, Data};
use crate::error::DbError;
use crate::error::Result;
use crate::fs::FileSystem;
use crate::protocol::TransactionStatus;

/// Loads PostgreSQL into this process now: unpacks and checks its code and files, which the first
/// open would do otherwise. This is most of the time and memory that a process needs once for all
/// its databases. Calling it again has no effect.
///
/// # Errors
/// [`ErrorKind::Payload`](crate::ErrorKind::Payload) if this build contains no PostgreSQL for this
/// machine.
pub fn preload() -> Result<()> {
    let payload = bundle::embedded()?;
    payload.modules()?;
    let data = crate::fs::ImageFs::new(payload.template()?);
    payload.volume(std::sync::Arc::new(data)).map(drop)
}

/// A PostgreSQL database with one session.
#[derive(Debug)]
pub struct Pglite {
    pub(crate) session: Session,
    payload: &'static Payload,
    data: Data,
    options: Options,
}

impl Pglite {
    /// Opens a new, empty database in memory, which is discarded with this value.
    ///
    /// # Errors
    /// [`ErrorKind::Payload`] if this build contains no PostgreSQL for this machine.
    pub fn temporary() -> Result<Self> {
        Self::builder().temporary().open()
    }

    /// Opens the database in a directory, which is created if it does not exist. Commits are
    /// durable: see [`Durability`](crate::Durability).
    ///
    /// # Errors
    /// As [`Builder::open`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Self::builder().path(path).open()
    }

    /// Returns the options for opening a database.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Opens a new temporary database with everything that is committed in this one. The two are
    /// independent afterwards. A database in memory shares its pages with the copy until one of
    /// them writes; one in a directory is copied into memory.
    ///
    /// # Errors
    /// As [`Self::checkpoint`] and [`Builder::open`].
    pub fn try_clone(&mut self) -> Result<Self> {
        let data = self.with_files_at_rest(|data| match data {
            Data::Image(fs) => Ok(fs.copy()),
            Data::Other(fs) => {
                let copy = cluster::empty();
                cluster::copy(&**fs, &copy)?;
                Ok(copy)
            }
        })?;
        let options = Options { durability: Durability::None, ..self.options.clone() };
        Self::start(Cluster::new(self.payload, Data::Image(data), options, None).with_extensions())
    }

    /// Writes an archive of the database with everything that is committed. [`Builder::load`]
    /// creates a database from it.
    ///
    /// # Errors
    /// As [`Self::checkpoint`]; [`ErrorKind::Io`] if the archive cannot be written.
    pub fn dump_data_dir(&mut self, writer: impl Write, format: Format) -> Result<()> {
        self.with_files_at_rest(|data| {
            let fs: &dyn FileSystem = match data {
                Data::Image(fs) => fs,
                Data::Other(fs) => &**fs,
            };
            archive::dump(fs, &Layout::of(fs)?, writer, format)
        })
    }

    /// Makes a checkpoint and reads the files while PostgreSQL does nothing: between statements,
    /// the thread that flushes commits may vacuum tables as well.
    fn with_files_at_rest<T>(&mut self, read: impl FnOnce(&Data) -> Result<T>) -> Result<T> {
        self.checkpoint()?;
        let slot = self.session.guest();
        let guest = slot.lock();
        let result = read(&self.data);
        let flush_due = guest.as_ref().is_some_and(|guest| guest.is_alive() && guest.flush_due());
        drop(guest);
        // A flush that came due meanwhile was not done. Without a thread for it, the next
        // statement does it.
        let _ = flush_due && slot.flush_later();
        result
    }

    /// Writes all committed data to its files, as the statement CHECKPOINT does. Works in a failed
    /// transaction too.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the files cannot be written; [`ErrorKind::Closed`] or
    /// [`ErrorKind::Crashed`] if the session is over.
    pub fn checkpoint(&mut self) -> Result<()> {
        self.session.checkpoint()
    }

    /// Starts a session as the user and in the database of the cluster's options, and creates the
    /// extensions.
    pub(crate) fn start(cluster: Cluster) -> Result<Self> {
        let options = cluster.options().clone();
        let session = Session::open(cluster.launch()?, &options.user, &options.database);
        let session = session.map_err(|error| cluster.explain(error))?;
        // What the cluster holds goes with the session, however that ends.
        let mut db = Self { session, payload: cluster.payload(), data: cluster.data().clone(), options };
        // The payload has each name, so no quotes are in it.
        for name in cluster.missing_extensions() {
            db.batch_execute(&format!("CREATE EXTENSION IF NOT EXISTS \"{name}\" CASCADE"))?;
        }
        Ok(db)
    }

    /// Where its files are.
    #[cfg(feature = "async")]
    pub(crate) fn data(&self) -> &Data {
        &self.data
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The value of a setting that PostgreSQL reports to its clients, such as `server_version`.
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

    /// Whether the session is over: closed, ended by PostgreSQL, or crashed. The error of the next
    /// statement tells which.
    pub fn is_closed(&self) -> bool {
        self.session.is_over()
    }

    /// Checks that PostgreSQL answers.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`](crate::ErrorKind::Closed) with the reason if the session is over.
    pub fn is_valid(&mut self) -> Result<()> {
        self.batch_execute("")
    }

    /// Takes the notices and warnings since the last call, at most the newest 1000.
    pub fn take_notices(&mut self) -> Vec<DbError> {
        self.session.reader().take_notices()
    }

    /// From now on, calls a function with each notice and warning while its statement is being
    /// answered, instead of keeping it for [`Self::take_notices`].
    pub fn on_notice(&mut self, callback: impl FnMut(DbError) + Send + 'static) {
        self.session.reader().on_notice(Some(Box::new(callback)));
    }

    /// A handle that cancels the running statement from any thread.
    pub fn cancel_token(&self) -> CancelToken {
        self.session.cancel_token()
    }

    /// Closes the session. Dropping the value does the same and ignores errors.
    ///
    /// # Errors
    /// [`ErrorKind::Crashed`](crate::ErrorKind::Crashed) if PostgreSQL stopped instead.
    pub fn close(mut self) -> Result<()> {
        self.session.close()
    }
}
