//! PostgreSQL's frontend/backend protocol, the reading side: messages from the server's output. It
//! owns the messages that may arrive at any time (settings, notices, notifications, the
//! transaction's status) and does no I/O. The caller interprets the other messages.

use std::collections::{HashMap, VecDeque};
use std::io;

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;

use super::Notification;
use crate::error::DbError;

/// Number of notices kept for the caller, the newest ones.
const NOTICES_MAX: usize = 1000;

/// A callback for notices.
pub type NoticeCallback = Box<dyn FnMut(DbError) + Send>;

/// Whether a transaction is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransactionStatus {
    /// No transaction is open.
    #[default]
    Idle,
    /// A transaction is open.
    InTransaction,
    /// A failed transaction is open: it can only be rolled back, to a savepoint or completely.
    Failed,
}

impl TransactionStatus {
    /// The byte of ReadyForQuery.
    #[doc(hidden)]
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }

    /// From the code in ReadyForQuery.
    #[doc(hidden)]
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            b'T' => Self::InTransaction,
            b'E' => Self::Failed,
            _ => Self::Idle,
        }
    }
}

/// Unread output of the server, and the state known from what was read.
#[derive(Default)]
pub struct Reader {
    /// Unread output.
    pub unread: BytesMut,
    parameters: HashMap<String, String>,
    notices: VecDeque<DbError>,
    on_notice: Option<NoticeCallback>,
    pub notifications: VecDeque<Notification>,
    pub status: TransactionStatus,
    /// The server's process id, as `pg_backend_pid()` has it.
    pub process_id: i32,
}

impl Reader {
    /// The next message that belongs to an answer, or `None` when all output is read.
    pub fn next_message(&mut self) -> io::Result<Option<Message>> {
        while !self.unread.is_empty() {
            let Some(message) = Message::parse(&mut self.unread)? else { break };
            match message {
                Message::NoticeResponse(body) => self.notice(DbError::parse(body.fields())?),
                Message::ParameterStatus(body) => {
                    self.parameters.insert(body.name()?.to_string(), body.value()?.to_string());
                }
                Message::NotificationResponse(body) => self.notifications.push_back(Notification::new(
                    body.process_id(),
                    body.channel()?.to_string(),
                    body.message()?.to_string(),
                )),
                Message::BackendKeyData(body) => self.process_id = body.process_id(),
                Message::AuthenticationOk | Message::CloseComplete => (),
                Message::ReadyForQuery(body) => {
                    self.status = TransactionStatus::from_byte(body.status());
                    return Ok(Some(Message::ReadyForQuery(body)));
                }
                answer => return Ok(Some(answer)),
            }
        }
        Ok(None)
    }

    /// Value of a setting that the server reports, like `server_version`.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// The settings that the server reports, with their values.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Takes the notices since the last call.
    pub fn take_notices(&mut self) -> Vec<DbError> {
        std::mem::take(&mut self.notices).into()
    }

    /// Passes notices to a callback from now on, instead of keeping them.
    pub fn on_notice(&mut self, callback: Option<NoticeCallback>) {
        self.on_notice = callback;
    }

    fn notice(&mut self, notice: DbError) {
        match &mut self.on_notice {
            // A panic during a panic would abort the process.
            Some(callback) if !std::thread::panicking() => callback(notice),
            _ => {
                if self.notices.len() == NOTICES_MAX {
                    self.notices.pop_front();
                }
                self.notices.push_back(notice);
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("unread", &self.unread.len()).field("status", &self.status).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorPosition;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    fn reader(output: &[u8]) -> Reader {
        Reader { unread: output.into(), ..Reader::default() }
    }

    #[test]
    fn reads_messages_in_pieces() {
        let mut output = message(b'C', b"SELECT 1\0");
        output.extend(message(b'Z', b"T"));
        // In the middle of the last message.
        let (head, tail) = output.split_at(output.len() - 2);
        let mut reader = reader(head);
        assert!(
            matches!(reader.next_message().unwrap(), Some(Message::CommandComplete(body)) if body.tag().unwrap() == "SELECT 1")
        );
        assert!(reader.next_message().unwrap().is_none());
        assert_eq!(reader.status, TransactionStatus::Idle);
        reader.unread.extend_from_slice(tail);
        assert!(matches!(reader.next_message().unwrap(), Some(Message::ReadyForQuery(_))));
        assert_eq!(reader.status, TransactionStatus::InTransaction);
    }

    #[test]
    fn keeps_every_field_of_an_error() {
        let fields = b"SFEHLER\0VERROR\0C23505\0Mdup\0Dd\0Hh\0p4\0qq\0Ww\0ss\0tt\0cc\0dd\0nn\0Ff.c\0L12\0Rr\0\0";
        let Some(Message::ErrorResponse(body)) = reader(&message(b'E', fields)).next_message().unwrap() else {
            panic!("no error");
        };
        let error = DbError::parse(body.fields()).unwrap();
        assert_eq!((error.severity(), error.code().code(), error.message()), ("ERROR", "23505", "dup"));
        let texts = [error.detail(), error.hint(), error.context(), error.schema(), error.table()];
        assert_eq!(texts, ["d", "h", "w", "s", "t"].map(Some));
        let texts = [error.column(), error.data_type(), error.constraint(), error.file(), error.routine()];
        assert_eq!(texts, ["c", "d", "n", "f.c", "r"].map(Some));
        assert_eq!(error.position(), Some(&ErrorPosition::Internal { position: 4, query: "q".to_string() }));
        assert_eq!(error.line(), Some(12));
        assert_eq!(error.to_string(), "ERROR: dup (SQLSTATE 23505)\nDETAIL: d\nHINT: h");
    }

    #[test]
    fn what_comes_at_any_time_is_kept() {
        let mut output = message(b'R', &[0; 4]);
        output.extend(message(b'K', &[0; 8]));
        output.extend(message(b'S', b"server_version\x0017.11\0"));
        output.extend(message(b'N', b"VNOTICE\0C00000\0Mhello\0\0"));
        output.extend(message(b'A', b"\0\0\0\x07channel\0payload\0"));
        let mut reader = reader(&output);
        assert!(reader.next_message().unwrap().is_none());
        assert_eq!(reader.parameter("server_version"), Some("17.11"));
        assert_eq!(reader.take_notices()[0].message(), "hello");
        assert!(reader.take_notices().is_empty());
        let notification = &reader.notifications[0];
        assert_eq!(
            (notification.process_id(), notification.channel(), notification.payload()),
            (7, "channel", "payload")
        );
    }

    #[test]
    fn only_the_newest_notices_are_kept_or_all_handed_over() {
        let mut output = Vec::new();
        for number in 0..NOTICES_MAX + 5 {
            output.extend(message(b'N', format!("VNOTICE\0C00000\0M{number}\0\0").as_bytes()));
        }
        let mut keeping = reader(&output);
        assert!(keeping.next_message().unwrap().is_none());
        let notices = keeping.take_notices();
        assert_eq!((notices.len(), notices[0].message()), (NOTICES_MAX, "5"));

        let mut handing = reader(&output);
        let (sender, receiver) = std::sync::mpsc::channel();
        handing.on_notice(Some(Box::new(move |notice| sender.send(notice).unwrap())));
        assert!(handing.next_message().unwrap().is_none());
        assert_eq!(receiver.try_iter().count(), NOTICES_MAX + 5);
        assert!(handing.take_notices().is_empty());
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(reader(&message(b'!', b"")).next_message().is_err());
    }
}
