//! What reads bytes of strangers, without a connection or a guest: for fuzzing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};

use crate::interrupts::Interrupts;
use crate::serve::peer::{Closer, Input, Peer, Watch};

/// Gives bytes, in pieces of `size`, to what looks at a client's bytes before PostgreSQL does and at a session's before the client does. For fuzzing: it returns nothing.
///
/// # Panics
/// If what comes of them depends on the pieces, or is not what came.
pub fn read_untrusted(bytes: &[u8], size: usize) {
    crate::server::check_reading(&mut Pieces { bytes, taken: 0, size: size.max(1), answer: BytesMut::new() });
    crate::serve::check_framing(bytes, size);
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

    fn write(&mut self, bytes: &mut BytesMut, _: Option<Instant>) -> bool {
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

    fn closer(&self) -> Closer {
        Box::new(|| ())
    }
}
