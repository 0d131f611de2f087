//! The one error type of the crate. It owns what went wrong and whether the session survives; wording of SQL errors is the server's.

mod db_error;
mod sqlstate;

use std::fmt;

pub use db_error::{DbError, ErrorPosition};
pub use sqlstate::SqlState;

/// Result of a function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something failed.
pub struct Error(Box<Inner>);

/// What kind of failure an [`Error`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// PostgreSQL reported an error. The session goes on.
    Database,
    /// A transaction was to be committed, but an earlier error in it had failed it, and PostgreSQL rolled it back. The session goes on.
    RolledBack,
    /// A parameter cannot be turned into a value of the type PostgreSQL wants. Nothing was run.
    ToSql,
    /// A value cannot be turned into the type asked for.
    FromSql,
    /// The number of parameters is not that of the statement, or more than the protocol can send. Nothing was run.
    ParameterCount,
    /// There is no column of that name or number.
    ColumnNotFound,
    /// Another number of rows than asked for.
    RowCount,
    /// The function does not fit the statement or the state of the session, like a row query in `copy_in`. The session goes on.
    Usage,
    /// A wait was ended with a `CancelToken`.
    Cancelled,
    /// The session has ended in good order, or PostgreSQL ended it: [`Error::as_db_error`] says why if it did.
    Closed,
    /// PostgreSQL crashed. The session is dead; the database recovers when it is opened again.
    Crashed,
    /// The compiled PostgreSQL or its files are missing, damaged, or made for another machine or another version of this crate.
    Payload,
    /// The answer was not what the protocol says. The session is of no more use.
    Protocol,
    /// The operating system refused something.
    Io,
    /// The database is open already, in this process or another one; the message says where.
    InUse,
    /// A directory or archive is not a database of this crate, or one of another version. Nothing in it was touched.
    Incompatible,
    /// A client program of PostgreSQL's, like `pg_dump`, ended with an error: the message is what it said. The session goes on.
    Program,
    /// Something was asked for that cannot be, like a setting that belongs to this crate. Nothing was done.
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
    /// What kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// SQLSTATE of an error that PostgreSQL reported.
    pub fn code(&self) -> Option<&SqlState> {
        self.as_db_error().map(DbError::code)
    }

    /// Everything PostgreSQL said about the error, if it was PostgreSQL.
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

    /// Adds PostgreSQL's error to one that somebody else told.
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

    /// The error with which PostgreSQL ended a session. After a PANIC the database needs recovery; FATAL ends a session in good order.
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
