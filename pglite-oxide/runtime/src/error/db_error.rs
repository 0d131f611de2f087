//! PostgreSQL's report of an error or notice. It owns the fields and their decoding from the
//! protocol.

use std::fmt;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::ErrorFields;

use crate::error::SqlState;

/// PostgreSQL's report of an error or notice, with the fields of the protocol's ErrorResponse and
/// NoticeResponse messages (PostgreSQL documentation, chapter "Error and Notice Message Fields").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DbError {
    severity: String,
    code: SqlState,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
    position: Option<ErrorPosition>,
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

/// The position of an error in a statement, in characters from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorPosition {
    /// In the statement that was sent.
    Original(u32),
    /// In a statement that PostgreSQL generated, for example inside a PL/pgSQL function.
    Internal {
        /// Position in `query`.
        position: u32,
        /// That statement.
        query: String,
    },
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

    /// The position of the error in the statement.
    pub fn position(&self) -> Option<&ErrorPosition> {
        self.position.as_ref()
    }

    /// Line of PostgreSQL's source that reported the error.
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    text_fields! {
        /// A more detailed message.
        detail,
        /// A suggestion for solving the problem.
        hint,
        /// The calls that led to the error, innermost first, one per line.
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

    /// Whether the session ends with this error.
    #[doc(hidden)]
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }

    #[doc(hidden)]
    pub fn parse(mut fields: ErrorFields<'_>) -> std::io::Result<Self> {
        let mut error = Self::default();
        let mut original: Option<u32> = None;
        let mut internal: Option<u32> = None;
        let mut internal_query = None;
        while let Some(field) = fields.next()? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                // The translated severity comes first; servers since 9.6 also send the untranslated
                // one.
                b'S' if error.severity.is_empty() => error.severity = value,
                b'V' => error.severity = value,
                b'C' => error.code = SqlState::from_code(&value).unwrap_or(SqlState::INTERNAL_ERROR),
                b'M' => error.message = value,
                b'D' => error.detail = Some(value),
                b'H' => error.hint = Some(value),
                b'P' => original = value.parse().ok(),
                b'p' => internal = value.parse().ok(),
                b'q' => internal_query = Some(value),
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
        error.position = match (original, internal, internal_query) {
            (Some(position), ..) => Some(ErrorPosition::Original(position)),
            (None, Some(position), Some(query)) => Some(ErrorPosition::Internal { position, query }),
            _ => None,
        };
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
