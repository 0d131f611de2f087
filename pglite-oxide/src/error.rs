//! The one error type of the crate. It owns what went wrong and whether the session survives; wording of SQL errors is the server's.

use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

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

/// What PostgreSQL says about an error or notice; the fields are those of the protocol's ErrorResponse and NoticeResponse messages
/// (PostgreSQL documentation, chapter "Error and Notice Message Fields").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DbError {
    severity: String,
    code: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<u32>,
    internal_position: Option<u32>,
    internal_query: Option<String>,
    context: Option<String>,
    schema: Option<String>,
    table: Option<String>,
    column: Option<String>,
    data_type: Option<String>,
    constraint: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    routine: Option<String>,
}

/// A SQLSTATE: five characters that tell an error apart (PostgreSQL documentation, appendix "PostgreSQL Error Codes").
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct SqlState(String);

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

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), database: None, cause: None }))
    }

    pub(crate) fn with_cause(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    pub(crate) fn database(kind: ErrorKind, error: DbError) -> Self {
        Self(Box::new(Inner { kind, message: error.to_string(), database: Some(error), cause: None }))
    }

    pub(crate) fn protocol(cause: std::io::Error) -> Self {
        Self::new(ErrorKind::Protocol, "cannot read the server's answer").with_cause(cause)
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
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The cause is part of the message already; what lies below it is not.
        self.0.cause.as_ref().and_then(|cause| cause.source())
    }
}

macro_rules! text_fields {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        $($(#[$doc])* pub fn $name(&self) -> Option<&str> { self.$name.as_deref() })*
    };
}

impl DbError {
    /// ERROR, FATAL, PANIC, WARNING, NOTICE, DEBUG, INFO or LOG, never translated.
    pub fn severity(&self) -> &str {
        &self.severity
    }

    /// The SQLSTATE.
    pub fn code(&self) -> &SqlState {
        &self.code
    }

    /// The primary message.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where in the statement the error is, counted in characters from 1.
    pub fn position(&self) -> Option<u32> {
        self.position
    }

    /// Where in [`Self::internal_query`] the error is, counted in characters from 1.
    pub fn internal_position(&self) -> Option<u32> {
        self.internal_position
    }

    /// Line of PostgreSQL's source that reported the error.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    text_fields! {
        /// More about the problem.
        detail,
        /// What to do about it.
        hint,
        /// Statement that PostgreSQL itself made, in which the error is.
        internal_query,
        /// Calls that led to the error, the innermost first, one a line.
        context,
        /// Schema of the object concerned.
        schema,
        /// Table concerned.
        table,
        /// Column concerned.
        column,
        /// Data type concerned.
        data_type,
        /// Constraint concerned.
        constraint,
        /// File of PostgreSQL's source that reported the error.
        file,
        /// Function of PostgreSQL's source that reported the error.
        routine,
    }

    pub(crate) fn parse(mut fields: ErrorFields<'_>) -> std::io::Result<Self> {
        let mut error = Self::default();
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                // The translated severity comes first; servers since 9.6 send the other one too.
                b'S' if error.severity.is_empty() => error.severity = value,
                b'V' => error.severity = value,
                b'C' => error.code = SqlState(value),
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'P' => error.position = value.parse().ok(),
                b'p' => error.internal_position = value.parse().ok(),
                b'q' => error.internal_query = Some(value),
                b'W' => error.context = Some(value),
                b's' => error.schema = Some(value),
                b't' => error.table = Some(value),
                b'c' => error.column = Some(value),
                b'd' => error.data_type = Some(value),
                b'n' => error.constraint = Some(value),
                b'F' => error.file = Some(value),
                b'L' => error.line = value.parse().ok(),
                b'R' => error.routine = Some(value),
                _ => (),
            }
        }
        Ok(error)
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity, self.message, self.code)?;
        if let Some(detail) = &self.detail {
            write!(f, "\nDETAIL: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nHINT: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DbError {}

impl SqlState {
    /// The five characters.
    pub fn code(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PartialEq<str> for SqlState {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for SqlState {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}
