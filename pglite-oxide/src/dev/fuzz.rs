//! What reads bytes of strangers, without a connection or a guest: for fuzzing.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};

use crate::client::session::MESSAGE_MAX;
use crate::protocol::Follower;
use crate::server::admission::Packet;
use crate::server::session_loop::{UNKNOWN_MESSAGE_MAX, whole};
use crate::server::startup::PACKET_MAX;
use crate::transport::{Input, Peer, Watch};
use crate::wasm::interrupts::Interrupts;

/// Gives bytes, in pieces of `size`, to what looks at a client's bytes before PostgreSQL does and at a session's before the client does. For fuzzing: it returns nothing.
///
/// # Panics
/// If what comes of them depends on the pieces, or is not what came.
pub fn read_untrusted(bytes: &[u8], size: usize) {
    check_reading(&mut Pieces { bytes, taken: 0, size: size.max(1), answer: BytesMut::new() });
    check_framing(bytes, size);
}

/// A client that sends some bytes in pieces and then no more.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    bytes: &'a [u8],
    taken: usize,
    size: usize,
    /// What it was told.
    pub(crate) answer: BytesMut,
}

impl Pieces<'_> {
    /// What was read of its bytes.
    pub(crate) fn taken(&self) -> &[u8] {
        &self.bytes[..self.taken]
    }
}

impl Peer for Pieces<'_> {
    fn attach(&mut self, _: &Arc<Interrupts>) {}

    fn wait(&mut self, bytes: &mut BytesMut, _: Option<Duration>) -> Input {
        let left = &self.bytes[self.taken..];
        let piece = &left[..left.len().min(self.size)];
        if piece.is_empty() {
            return Input::End;
        }
        bytes.extend_from_slice(piece);
        self.taken += piece.len();
        Input::Bytes
    }

    fn write(&mut self, bytes: &mut BytesMut) -> bool {
        self.answer.extend_from_slice(bytes);
        bytes.advance(bytes.len());
        true
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn watch(&self) -> Option<Watch> {
        None
    }
}

/// For fuzzing: whatever a client begins with, nothing of it is lost, and it is told nothing but what is meant for it.
///
/// # Panics
/// If that is not so.
fn check_reading(peer: &mut Pieces<'_>) {
    let packet = Packet::read(peer);
    if let Some(Packet::Startup { startup, received }) = packet {
        assert!((8..=PACKET_MAX).contains(&startup.len()), "a start-up packet of {} bytes", startup.len());
        assert_eq!((&startup[..4]).get_u32() as usize, startup.len());
        let kept = [startup, received].concat();
        assert!(peer.taken().ends_with(&kept), "bytes are not those that came");
    }
    let told = peer.answer.iter().position(|byte| *byte != b'N').unwrap_or(peer.answer.len());
    let rest = &peer.answer[told..];
    assert!(rest.is_empty() || rest[0] == b'E', "an answer that is none: {rest:?}");
    assert!(told <= peer.taken().len() / 8, "more answers about encryption than requests");
}

/// For fuzzing: what is handed on does not depend on how bytes were cut on their way.
///
/// # Panics
/// If it does.
fn check_framing(bytes: &[u8], size: usize) {
    for max in [UNKNOWN_MESSAGE_MAX, MESSAGE_MAX] {
        let at_once = whole(bytes, max);
        assert_eq!(whole(&bytes[..at_once], max), at_once);
        let mut taken = 0;
        for end in (0..bytes.len()).step_by(size.max(1)).chain([bytes.len()]) {
            taken += whole(&bytes[taken..end], max);
        }
        // Of what is no message, all that has come is handed on.
        assert!(taken == at_once || at_once == bytes.len(), "{taken} bytes in pieces of {size}, {at_once} at once");
    }
    let (mut at_once, mut in_pieces) = (Follower::default(), Follower::default());
    at_once.follow(bytes);
    bytes.chunks(size.max(1)).for_each(|piece| in_pieces.follow(piece));
    assert_eq!(at_once.key(), in_pieces.key());
    assert_eq!(at_once.status(), in_pieces.status());
    assert_eq!(
        at_once.take_fatal().map(|error| error.to_string()),
        in_pieces.take_fatal().map(|error| error.to_string())
    );
}

#[cfg(test)]
mod tests {
    use postgres_protocol::message::frontend;

    use super::*;

    #[test]
    fn any_bytes_give_the_same_messages_in_any_pieces() {
        let mut bytes = BytesMut::new();
        frontend::sync(&mut bytes);
        frontend::query("SELECT 1", &mut bytes).unwrap();
        bytes.extend_from_slice(
            b"E\0\0\0\x17SFATAL\0C57P01\0Mgone\0\0Z\0\0\0\x05IK\0\0\0\x0c\0\0\0\x01\0\0\0\x02Q\xff\xff\xff\xffS",
        );
        for size in 1..=bytes.len() {
            (0..bytes.len()).for_each(|start| read_untrusted(&bytes[start..], size));
        }
    }
}
