//! Raw access to the protocol: the caller's messages in, the server's messages out, as bytes. It
//! owns the check of the messages that may be sent, and interprets nothing.

use crate::Pglite;
use crate::client::session::MESSAGE_MAX;
use crate::error::{Error, Result};

impl Pglite {
    /// Sends messages of PostgreSQL's frontend/backend protocol, version 3.0, and returns what the
    /// server answers (PostgreSQL documentation, chapter "Frontend/Backend Protocol"). For a driver
    /// with an implementation of the protocol of its own, and for tools that pass messages on.
    ///
    /// `messages` are whole messages as a client sends them once it is connected: there is no
    /// start-up packet, since the session is there. The answer is in the bytes that are returned,
    /// errors of SQL included: they are messages like all others, with the transaction's status in
    /// ReadyForQuery. As over a connection, an error in the extended query protocol has PostgreSQL
    /// skip messages until a Sync, and what it answers may be kept back until a Sync or Flush. Data
    /// for `COPY FROM STDIN`, with the CopyDone or CopyFail that ends it, must be in the same call
    /// as the statement.
    ///
    /// A call of another method ends an extended query that has had no Sync yet, as a Sync would.
    /// Notices and notifications are in the bytes and are also kept for [`Self::take_notices`] and
    /// [`Self::notifications`].
    ///
    /// ```no_run
    /// use bytes::BytesMut;
    /// use postgres_protocol::message::frontend;
    ///
    /// let mut db = pglite_oxide::Pglite::temporary()?;
    /// let mut messages = BytesMut::new();
    /// frontend::query("SELECT 1", &mut messages).expect("no zero byte");
    /// let answer = db.exec_protocol_raw(&messages)?;
    /// // RowDescription, DataRow, CommandComplete, ReadyForQuery
    /// assert_eq!(answer[0], b'T');
    /// # Ok::<(), pglite_oxide::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`ErrorKind::Usage`](crate::ErrorKind::Usage) if `messages` are not whole messages, or one
    ///   of them is Terminate (use [`Self::close`]), FunctionCall (use `SELECT`) or longer than 1
    ///   GiB. Nothing was sent then.
    /// - [`ErrorKind::Closed`](crate::ErrorKind::Closed) or
    ///   [`ErrorKind::Crashed`](crate::ErrorKind::Crashed) if the session is over.
    pub fn exec_protocol_raw(&mut self, messages: &[u8]) -> Result<Vec<u8>> {
        check(messages)?;
        self.session.exchange(messages)
    }
}

fn check(messages: &[u8]) -> Result<()> {
    let refuse = |at: usize, why: &str| Err(Error::usage(format!("the message at byte {at} {why}")));
    let mut at = 0;
    while at < messages.len() {
        let Some(&[tag, a, b, c, d]) = messages.get(at..at + 5) else { return refuse(at, "is cut off") };
        let len = u32::from_be_bytes([a, b, c, d]) as usize;
        match tag {
            b'X' => return refuse(at, "is Terminate: end the session with `close`"),
            b'F' => return refuse(at, "is FunctionCall: call the function in a SELECT"),
            _ if len < 4 => return refuse(at, "has a length that is none"),
            _ if len > MESSAGE_MAX => return refuse(at, "is longer than PostgreSQL takes"),
            _ if messages.len() - at - 1 < len => return refuse(at, "is cut off"),
            _ => at += 1 + len,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_messages_are_sent() {
        assert!(check(b"").is_ok());
        assert!(check(b"S\0\0\0\x04H\0\0\0\x04Q\0\0\0\x05\0").is_ok());
        let refused: [(&[u8], &str); 6] = [
            (b"S\0\0\0\x04Q\0\0", "at byte 5 is cut off"),
            (b"Q\0\0\0\x06\0", "at byte 0 is cut off"),
            (b"Q\0\0\0\x03\0", "length"),
            (b"Q\x7f\xff\xff\xff", "longer"),
            (b"S\0\0\0\x04X\0\0\0\x04", "`close`"),
            (b"F\0\0\0\x04", "SELECT"),
        ];
        for (messages, why) in refused {
            let error = check(messages).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
