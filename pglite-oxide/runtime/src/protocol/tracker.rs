//! Tracks a server's output as it passes: the state of the session, the key of cancel requests, and
//! the last error. It changes nothing and keeps nothing else.

use bytes::BytesMut;
use postgres_protocol::message::backend::Message;

use crate::error::DbError;
use crate::protocol::TransactionStatus;

/// The tag and the length of a message.
const HEAD: usize = 5;

/// Follows output that is cut anywhere.
#[derive(Debug, Default)]
pub struct Follower {
    head: [u8; HEAD],
    /// Bytes of `head` that have come.
    have: usize,
    /// Bytes of the message that are still to come.
    left: usize,
    /// The message that is on its way, as far as it has come, if it is one to look at.
    message: BytesMut,
    /// The last ErrorResponse.
    error: BytesMut,
    key: Option<CancelKey>,
    status: Option<TransactionStatus>,
}

/// What a client proves with that it may cancel a session's statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CancelKey {
    pub process_id: i32,
    pub secret: i32,
}

impl Follower {
    /// Follows a session that is ready already.
    pub fn ready(status: TransactionStatus) -> Self {
        Self { status: Some(status), ..Self::default() }
    }

    /// Sees the next piece of the output.
    pub fn follow(&mut self, mut output: &[u8]) {
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
                let [_, len @ ..] = self.head;
                self.left = (u32::from_be_bytes(len) as usize).saturating_sub(len.len());
                if self.is_noted() {
                    self.message.clear();
                    self.message.extend_from_slice(&self.head);
                }
            } else {
                self.left -= piece.len();
                if self.is_noted() {
                    self.message.extend_from_slice(piece);
                }
            }
            if self.left == 0 {
                if self.is_noted() {
                    self.note();
                }
                self.have = 0;
            }
        }
    }

    /// The last error, if it ended the session.
    pub fn take_fatal(&mut self) -> Option<DbError> {
        self.take_error().filter(DbError::is_fatal)
    }

    /// The last error.
    pub fn take_error(&mut self) -> Option<DbError> {
        let Ok(Some(Message::ErrorResponse(body))) = Message::parse(&mut self.error) else { return None };
        DbError::parse(body.fields()).ok()
    }

    /// What the client was told to cancel with.
    pub fn key(&self) -> Option<CancelKey> {
        self.key
    }

    /// The state of the transaction when the session was ready the last time. None: it never was.
    pub fn status(&self) -> Option<TransactionStatus> {
        self.status
    }

    fn is_noted(&self) -> bool {
        matches!(self.head[0], b'E' | b'K' | b'Z')
    }

    fn note(&mut self) {
        if self.head[0] == b'E' {
            std::mem::swap(&mut self.error, &mut self.message);
            return;
        }
        match Message::parse(&mut self.message) {
            Ok(Some(Message::BackendKeyData(body))) => {
                self.key = Some(CancelKey { process_id: body.process_id(), secret: body.secret_key() });
            }
            Ok(Some(Message::ReadyForQuery(body))) => self.status = Some(TransactionStatus::from_byte(body.status())),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
    }

    #[test]
    fn what_counts_is_found_however_the_output_is_cut() {
        let output = [
            message(b'K', &[0, 0, 0, 7, 0xff, 0xff, 0xff, 0xfe]),
            message(b'E', b"SERROR\0C22012\0Mfirst\0\0"),
            message(b'I', b""),
            message(b'D', b"E\0\0\0\x05x"),
            message(b'Z', b"E"),
            message(b'E', b"SFATAL\0C57P01\0Msecond\0\0"),
            message(b'N', b"SWARNING\0C01000\0Mnothing\0\0"),
        ]
        .concat();
        for size in 1..=output.len() {
            let mut follower = Follower::default();
            assert!(follower.status().is_none());
            output.chunks(size).for_each(|piece| follower.follow(piece));
            assert_eq!(follower.take_fatal().unwrap().message(), "second", "in pieces of {size} bytes");
            assert!(follower.take_fatal().is_none());
            assert_eq!(follower.key(), Some(CancelKey { process_id: 7, secret: -2 }));
            assert_eq!(follower.status(), Some(TransactionStatus::Failed));
        }
        let mut follower = Follower::default();
        follower.follow(&message(b'E', b"SERROR\0C22012\0Mfirst\0\0"));
        assert!(follower.take_fatal().is_none());
    }
}
