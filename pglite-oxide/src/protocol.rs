//! PostgreSQL's frontend/backend protocol, as far as text queries need it. It turns statements into messages and answers into results;
//! it does no I/O: bytes come from and go to whoever runs the guest.

use std::collections::HashMap;

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::{backend, frontend};

use crate::error::{DbError, Error, ErrorKind, Result};

/// Notices kept for the caller: the newest ones.
const NOTICES_MAX: usize = 1000;

/// The rows of one statement, as text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResultSet {
    /// Names of the columns; empty for a statement that returns no rows.
    pub columns: Vec<String>,
    /// Values in PostgreSQL's text format, `None` for NULL.
    pub rows: Vec<Vec<Option<String>>>,
    /// What PostgreSQL says it did, like `INSERT 0 3`.
    pub command_tag: String,
}

/// Whether a transaction is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TransactionStatus {
    #[default]
    Idle,
    InTransaction,
    Failed,
}

/// What is known of the server from its answers.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: BytesMut,
    parameters: HashMap<String, String>,
    notices: Vec<DbError>,
    pub(crate) status: TransactionStatus,
}

/// Everything the server answered to one message, up to its being ready for the next.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) results: Vec<ResultSet>,
    /// The first error, which ended the statement.
    pub(crate) error: Option<DbError>,
    /// The server is ready for the next statement. If it isn't, it has ended the session.
    pub(crate) ready: bool,
}

/// The message that says who wants to connect to what.
pub(crate) fn startup(user: &str, database: &str) -> Result<BytesMut> {
    let mut message = BytesMut::new();
    let parameters = [("user", user), ("database", database), ("client_encoding", "UTF8")];
    frontend::startup_message(parameters, &mut message)
        .map_err(|cause| Error::new(ErrorKind::Protocol, "cannot send the names of user and database").with_cause(cause))?;
    Ok(message)
}

/// A simple Query message.
pub(crate) fn query(sql: &str) -> Result<BytesMut> {
    let mut message = BytesMut::new();
    frontend::query(sql, &mut message)
        .map_err(|cause| Error::new(ErrorKind::Protocol, "cannot send this statement").with_cause(cause))?;
    Ok(message)
}

/// A Terminate message.
pub(crate) fn terminate() -> BytesMut {
    let mut message = BytesMut::new();
    frontend::terminate(&mut message);
    message
}

impl Reader {
    /// Value of a setting that the server reports, like `server_version`.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Takes the notices that came since the last time.
    pub(crate) fn take_notices(&mut self) -> Vec<DbError> {
        std::mem::take(&mut self.notices)
    }

    /// Reads the server's output up to its being ready, or to the end of the output.
    pub(crate) fn read(&mut self, output: &[u8]) -> Result<Answer> {
        self.buffer.extend_from_slice(output);
        let mut answer = Answer::default();
        let mut current = ResultSet::default();
        let mut failure = None;
        loop {
            match backend::Message::parse(&mut self.buffer) {
                Ok(None) => break,
                // What follows a message that cannot be read is read all the same, or it would be taken for the answer to the next statement.
                Ok(Some(message)) => {
                    if let Err(error) = self.take(message, &mut answer, &mut current) {
                        failure.get_or_insert(error);
                    }
                }
                Err(error) => {
                    self.buffer.clear();
                    failure.get_or_insert(error);
                    break;
                }
            }
        }
        failure.map_or(Ok(answer), |error| Err(Error::protocol(error)))
    }

    fn take(&mut self, message: backend::Message, answer: &mut Answer, current: &mut ResultSet) -> std::io::Result<()> {
        match message {
            backend::Message::RowDescription(body) => {
                current.columns = body.fields().map(|field| Ok(field.name().to_string())).collect()?;
            }
            backend::Message::DataRow(body) => current.rows.push(row(&body)?),
            backend::Message::CommandComplete(body) => {
                current.command_tag = body.tag()?.to_string();
                answer.results.push(std::mem::take(current));
            }
            backend::Message::EmptyQueryResponse => answer.results.push(std::mem::take(current)),
            backend::Message::ErrorResponse(body) => {
                let error = DbError::parse(body.fields())?;
                answer.error.get_or_insert(error);
            }
            backend::Message::NoticeResponse(body) => {
                if self.notices.len() == NOTICES_MAX {
                    self.notices.remove(0);
                }
                self.notices.push(DbError::parse(body.fields())?);
            }
            backend::Message::ParameterStatus(body) => {
                let name = body.name()?.to_string();
                self.parameters.insert(name, body.value()?.to_string());
            }
            backend::Message::ReadyForQuery(body) => {
                answer.ready = true;
                self.status = match body.status() {
                    b'T' => TransactionStatus::InTransaction,
                    b'E' => TransactionStatus::Failed,
                    _ => TransactionStatus::Idle,
                };
            }
            // Data of a COPY TO STDOUT has no place in a result of rows; notifications and keys have none yet.
            _ => (),
        }
        Ok(())
    }
}

fn row(body: &backend::DataRowBody) -> std::io::Result<Vec<Option<String>>> {
    let buffer = body.buffer();
    let value = |range: Option<std::ops::Range<usize>>| {
        let text = |range| std::str::from_utf8(&buffer[range]).map(str::to_owned);
        range.map(text).transpose().map_err(|error| {
            std::io::Error::other(format!("a value is not UTF-8 ({error}): is client_encoding another one than UTF8?"))
        })
    };
    body.ranges().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    fn column(name: &str) -> Vec<u8> {
        let mut bytes = format!("{name}\0").into_bytes();
        bytes.extend_from_slice(&[0; 18]);
        bytes
    }

    #[test]
    fn reads_rows_nulls_and_tags_and_waits_for_the_rest_of_a_message() {
        let mut output = message(b'T', &[&[0, 2][..], &column("a"), &column("b")].concat());
        output.extend(message(b'D', &[&[0, 2][..], &3u32.to_be_bytes(), b"one", &u32::MAX.to_be_bytes()].concat()));
        output.extend(message(b'C', b"SELECT 1\0"));
        output.extend(message(b'Z', b"T"));
        let mut reader = Reader::default();
        // In the middle of the last message.
        let (head, tail) = output.split_at(output.len() - 2);
        let answer = reader.read(head).unwrap();
        assert!(!answer.ready && answer.error.is_none());
        assert!(reader.read(tail).unwrap().ready);
        assert_eq!(reader.status, TransactionStatus::InTransaction);
        let expected = ResultSet {
            columns: vec!["a".to_string(), "b".to_string()],
            rows: vec![vec![Some("one".to_string()), None]],
            command_tag: "SELECT 1".to_string(),
        };
        assert_eq!(answer.results, [expected]);
    }

    #[test]
    fn what_follows_an_unreadable_value_is_not_left_for_the_next_answer() {
        let mut output = message(b'T', &[&[0, 1][..], &column("a")].concat());
        output.extend(message(b'D', &[&[0, 1][..], &1u32.to_be_bytes(), b"\xe4"].concat()));
        output.extend(message(b'C', b"SELECT 1\0"));
        output.extend(message(b'Z', b"I"));
        let mut reader = Reader::default();
        let error = reader.read(&output).unwrap_err();
        assert!(error.to_string().contains("not UTF-8"), "{error}");
        assert!(reader.read(&message(b'Z', b"I")).unwrap().results.is_empty());
    }

    #[test]
    fn keeps_every_field_of_an_error() {
        let fields = b"SFEHLER\0VERROR\0C23505\0Mdup\0Dd\0Hh\0P3\0p4\0qq\0Ww\0ss\0tt\0cc\0dd\0nn\0Ff.c\0L12\0Rr\0\0";
        let mut output = message(b'E', fields);
        output.extend(message(b'Z', b"I"));
        let error = Reader::default().read(&output).unwrap().error.unwrap();
        assert_eq!((error.severity(), error.code().code(), error.message()), ("ERROR", "23505", "dup"));
        let texts =
            [error.detail(), error.hint(), error.internal_query(), error.context(), error.schema(), error.table()];
        assert_eq!(texts, ["d", "h", "q", "w", "s", "t"].map(Some));
        let texts = [error.column(), error.data_type(), error.constraint(), error.file(), error.routine()];
        assert_eq!(texts, ["c", "d", "n", "f.c", "r"].map(Some));
        assert_eq!((error.position(), error.internal_position(), error.line()), (Some(3), Some(4), Some(12)));
        assert_eq!(error.to_string(), "ERROR: dup (SQLSTATE 23505)\nDETAIL: d\nHINT: h");
    }

    #[test]
    fn parameters_and_notices() {
        let mut output = message(b'S', b"server_version\x0017.11\0");
        output.extend(message(b'N', b"VNOTICE\0C00000\0Mhello\0\0"));
        let mut reader = Reader::default();
        let answer = reader.read(&output).unwrap();
        assert!(!answer.ready);
        assert_eq!(reader.parameter("server_version"), Some("17.11"));
        assert_eq!(reader.take_notices()[0].message(), "hello");
        assert!(reader.take_notices().is_empty());
    }

    #[test]
    fn nonsense_is_a_protocol_error() {
        assert_eq!(Reader::default().read(&message(b'!', b"")).unwrap_err().kind(), ErrorKind::Protocol);
        assert_eq!(query("a\0b").unwrap_err().kind(), ErrorKind::Protocol);
    }
}
