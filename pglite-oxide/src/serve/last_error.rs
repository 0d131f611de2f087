//! Finds the last error in a server's output while it passes by: the one that says why a session ended. It changes nothing and keeps nothing else.

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;

use crate::db_error::DbError;

/// The tag and the length of a message.
const HEAD: usize = 5;

/// Follows output that is cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct LastError {
    head: [u8; HEAD],
    /// Bytes of `head` that have come.
    have: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// The last ErrorResponse, as far as it has come.
    error: BytesMut,
}

impl LastError {
    /// Sees the next piece of the output.
    pub(crate) fn follow(&mut self, mut output: &[u8]) {
        while !output.is_empty() {
            let wanted = if self.have < HEAD { HEAD - self.have } else { self.left };
            let (piece, rest) = output.split_at(wanted.min(output.len()));
            output = rest;
            if self.have < HEAD {
                self.head[self.have..self.have + piece.len()].copy_from_slice(piece);
                self.have += piece.len();
                if self.have < HEAD {
                    break;
                }
                let [tag, len @ ..] = self.head;
                self.left = (u32::from_be_bytes(len) as usize).saturating_sub(len.len());
                if tag == b'E' {
                    self.error.clear();
                    self.error.extend_from_slice(&self.head);
                }
            } else {
                self.left -= piece.len();
                if self.head[0] == b'E' {
                    self.error.extend_from_slice(piece);
                }
            }
            if self.left == 0 {
                self.have = 0;
            }
        }
    }

    /// The last error, if it ended the session.
    pub(crate) fn take_fatal(&mut self) -> Option<DbError> {
        self.take().filter(DbError::is_fatal)
    }

    /// The last error.
    pub(crate) fn take(&mut self) -> Option<DbError> {
        let Ok(Some(Message::ErrorResponse(body))) = Message::parse(&mut self.error) else { return None };
        DbError::parse(body.fields()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    #[test]
    fn the_last_error_counts_however_the_output_is_cut() {
        let output = [
            message(b'E', b"SERROR\0C22012\0Mfirst\0\0"),
            message(b'I', b""),
            message(b'D', b"E\0\0\0\x05x"),
            message(b'E', b"SFATAL\0C57P01\0Msecond\0\0"),
            message(b'N', b"SWARNING\0C01000\0Mnothing\0\0"),
        ]
        .concat();
        for size in 1..=output.len() {
            let mut last = LastError::default();
            output.chunks(size).for_each(|piece| last.follow(piece));
            assert_eq!(last.take_fatal().unwrap().message(), "second", "in pieces of {size} bytes");
            assert!(last.take_fatal().is_none());
        }
        let mut last = LastError::default();
        last.follow(&message(b'E', b"SERROR\0C22012\0Mfirst\0\0"));
        assert!(last.take_fatal().is_none());
    }
}
