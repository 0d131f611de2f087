//! The error type of the crate. It owns the kinds of errors; messages of SQL errors are
//! PostgreSQL's.

mod db_error;
mod sqlstate;

use std::fmt;

pub use db_error::{DbError, ErrorPosition};
pub use sqlstate::SqlState;

/// Result of a function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed.
pub struct Error(Box<Inner>);

/// The kind of an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// PostgreSQL reported an error. The session remains usable.
    Database,
    /// A commit was requested for a transaction that an earlier error had failed, and PostgreSQL
    /// rolled it back. The session remains usable.
    RolledBack,
    /// A parameter cannot be converted to the type that PostgreSQL expects. Nothing was executed.
    ToSql,
    /// A value cannot be converted to the requested type.
    FromSql,
    /// The number of parameters differs from that of the statement, or exceeds the limit of the
    /// protocol. Nothing was executed.
    ParameterCount,
    /// There is no column with this name or index.
    ColumnNotFound,
    /// The number of rows is not the expected one.
    RowCount,
    /// The function does not match the statement or the state of the session, for example a query
    /// passed to `copy_in`. The session remains usable.
    Usage,
    /// A wait was ended with a `CancelToken`.
    Cancelled,
    /// The session is closed, or PostgreSQL ended it: then [`Error::as_db_error`] has the reason.
    Closed,
    /// PostgreSQL crashed. The session is dead; the database recovers when it is opened again.
    Crashed,
    /// The compiled PostgreSQL or its files are missing, damaged, or made for another machine or
    /// another version of this crate.
    Payload,
    /// The answer violates the protocol. The session is over.
    Protocol,
    /// An operation of the operating system failed.
    Io,
    /// The database is already open, in this process or another one; the message names the holder.
    InUse,
    /// A directory or archive is not a database of this crate, or is one of another version. It was
    /// not changed.
    Incompatible,
    /// A PostgreSQL client program, such as `pg_dump`, ended with an error; the message is the
    /// program's. The session remains usable.
    Program,
    /// An option is invalid, for example a setting that this crate reserves. Nothing was done.
    Config,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    database: Option<DbError>,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// SQLSTATE of an error that PostgreSQL reported.
    pub fn code(&self) -> Option<&SqlState> {
        self.as_db_error().map(DbError::code)
    }

    /// PostgreSQL's report, if PostgreSQL reported the error.
    pub fn as_db_error(&self) -> Option<&DbError> {
        self.0.database.as_ref()
    }

    #[doc(hidden)]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), database: None, cause: None }))
    }

    #[doc(hidden)]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Adds PostgreSQL's error to one from another source.
    #[doc(hidden)]
    pub fn with_database(mut self, error: DbError) -> Self {
        self.0.database = Some(error);
        self
    }

    /// Adds what the reader can do about it.
    pub fn with_advice(mut self, advice: &str) -> Self {
        self.0.message = format!("{}\nHINT: {advice}", self.0.message);
        self
    }

    pub fn database(kind: ErrorKind, error: DbError) -> Self {
        Self(Box::new(Inner { kind, message: error.to_string(), database: Some(error), cause: None }))
    }

    /// The error with which PostgreSQL ended a session. After a PANIC the database needs recovery;
    /// FATAL ends only the session.
    #[doc(hidden)]
    pub fn ended(error: DbError) -> Self {
        let kind = if error.severity() == "PANIC" { ErrorKind::Crashed } else { ErrorKind::Closed };
        Self::database(kind, error)
    }

    #[doc(hidden)]
    pub fn protocol(cause: std::io::Error) -> Self {
        Self::new(ErrorKind::Protocol, "cannot read the server's answer").with_cause(cause)
    }

    #[doc(hidden)]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.cause {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Error {
    /// The cause. Its message is part of this error's, too.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}

/// For `io::Write` and `io::Read` of COPY: the error is found again with `io::Error::get_ref`.
impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
