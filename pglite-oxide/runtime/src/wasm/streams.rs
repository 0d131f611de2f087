//! The protocol streams of a guest. It owns the buffers, and the source and sink that are called
//! when the guest reads or writes in the middle of a statement. `protocol` interprets the bytes.

use std::sync::{Mutex, PoisonError};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::fs::{RawSlice, RawSliceMut};

/// Empty buffers with a larger capacity than this, in bytes, are freed.
const BUFFER_KEPT_MAX: usize = 1 << 20;

/// Gives a guest input in the middle of a statement, as COPY FROM STDIN wants it. The guest's
/// thread waits in it.
pub trait Source: Send {
    /// Puts at least one whole message into the empty input, or says why there is none.
    fn more(&mut self, input: &mut BytesMut) -> More;

    /// Whether the client has left, as far as that is known without waiting.
    fn client_left(&mut self) -> ClientLeft {
        ClientLeft::default()
    }
}

/// What is known of a client that may have left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientLeft {
    /// It has closed its side of the connection.
    pub closed: bool,
    /// The next to be read is its Terminate message or the end of its input.
    pub goodbye: bool,
}

/// What a source has for a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    Messages,
    /// None yet, but an interrupt that the guest may want to serve first.
    Interrupt,
    /// The client is gone, and the session ends.
    End,
}

/// Takes a guest's output while the guest runs. The guest's thread waits in it.
pub trait Sink: Send {
    /// May take output, or leave it to grow; called after every flush of the guest, and messages
    /// may be cut anywhere. False: the client is gone and the session ends.
    fn take(&mut self, output: &mut BytesMut) -> bool;
}

/// Input and output of one guest. Only whole messages are ever put in.
#[derive(Default)]
pub struct Streams {
    input: BytesMut,
    /// How much of the input the guest has read.
    taken: usize,
    output: BytesMut,
    /// The buffer that `receive` gave away last was large.
    gave_large: bool,
    /// Without one, a guest that wants input in the middle of a statement is told that there is
    /// none.
    source: Option<Mutex<Box<dyn Source>>>,
    /// Without one, output stays here until the guest is at rest.
    sink: Option<Mutex<Box<dyn Sink>>>,
}

impl Streams {
    /// Adds messages to the input and leaves `messages` empty.
    pub fn send(&mut self, messages: &mut BytesMut) {
        if self.ready() == 0 {
            self.clear_input();
            std::mem::swap(&mut self.input, messages);
        } else {
            self.input.extend_from_slice(messages);
            empty(messages);
        }
    }

    /// Takes the output that no sink has taken and adds it to `unread`.
    pub fn receive(&mut self, unread: &mut BytesMut) {
        if unread.is_empty() {
            // Its capacity says nothing: what was split off is not counted.
            if self.gave_large {
                *unread = BytesMut::new();
            }
            std::mem::swap(&mut self.output, unread);
            self.gave_large = unread.len() > BUFFER_KEPT_MAX;
        } else {
            unread.extend_from_slice(&self.output);
        }
        empty(&mut self.output);
    }

    /// Puts a source and a sink in place for the statements that follow; `None` takes them away.
    pub fn attach(&mut self, source: Option<Box<dyn Source>>, sink: Option<Box<dyn Sink>>) {
        // The locks are never taken: they make the streams `Sync`, as the guest's host must be.
        self.source = source.map(Mutex::new);
        self.sink = sink.map(Mutex::new);
    }

    /// How much input the guest can read without waiting, in bytes.
    pub fn ready(&self) -> usize {
        self.input.len() - self.taken
    }

    /// Reads input for the guest; 0 only at its end, `None` for an interrupt. A guest that asks for
    /// more than there is executes a COPY from its client. Without a source of data for it, the
    /// guest reads a CopyFail message, and the statement ends with an error instead of the session.
    pub fn read<'a>(&mut self, buffer: impl Into<RawSliceMut<'a>>) -> Option<usize> {
        let mut buffer = buffer.into();
        if self.ready() == 0 {
            self.clear_input();
            let more = match &mut self.source {
                Some(source) => source.get_mut().unwrap_or_else(PoisonError::into_inner).more(&mut self.input),
                None => {
                    let refusal = "no data for COPY FROM STDIN: use copy_in";
                    frontend::copy_fail(refusal, &mut self.input).map_or(More::End, |()| More::Messages)
                }
            };
            match more {
                More::Messages => (),
                More::Interrupt => return None,
                More::End => return Some(0),
            }
        }
        let rest = &self.input[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer.part(0, count).copy_from(&rest[..count]);
        self.taken += count;
        Some(count)
    }

    /// Whether the client has left. Without a source there is none that could.
    pub fn client_left(&mut self) -> ClientLeft {
        let source = self.source.as_mut();
        source.map_or_else(ClientLeft::default, |source| {
            source.get_mut().unwrap_or_else(PoisonError::into_inner).client_left()
        })
    }

    /// Takes output of the guest. False: the reader is closed.
    pub fn write<'a>(&mut self, bytes: impl Into<RawSlice<'a>>) -> bool {
        bytes.into().append_to(&mut self.output);
        match &mut self.sink {
            Some(sink) => sink.get_mut().unwrap_or_else(PoisonError::into_inner).take(&mut self.output),
            None => true,
        }
    }

    fn clear_input(&mut self) {
        empty(&mut self.input);
        self.taken = 0;
    }
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("input", &self.ready()).field("output", &self.output.len()).finish()
    }
}

/// Empties a buffer. Its memory is kept unless it is large.
pub fn empty(buffer: &mut BytesMut) {
    if buffer.capacity() > BUFFER_KEPT_MAX {
        *buffer = BytesMut::new();
    } else {
        buffer.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Script(Vec<&'static [u8]>);

    impl Source for Script {
        fn more(&mut self, input: &mut BytesMut) -> More {
            let Some(next) = self.0.pop() else { return More::End };
            input.extend_from_slice(next);
            if next.is_empty() { More::Interrupt } else { More::Messages }
        }
    }

    #[test]
    fn a_source_is_asked_when_the_input_is_drained() {
        let mut streams = Streams::default();
        streams.send(&mut BytesMut::from(&b"abc"[..]));
        streams.attach(Some(Box::new(Script(vec![b"de", b""]))), None);
        let mut buffer = [0; 2];
        let mut read = || (streams.read(&mut buffer), buffer[0]);
        let expected = [(Some(2), b'a'), (Some(1), b'c'), (None, b'c'), (Some(2), b'd'), (Some(0), b'd')];
        assert_eq!([read(), read(), read(), read(), read()], expected);
        assert_eq!(streams.ready(), 0);
    }

    #[test]
    fn without_a_source_the_guest_reads_a_refusal() {
        let mut streams = Streams::default();
        let mut buffer = [0; 100];
        let count = streams.read(&mut buffer);
        assert_eq!((buffer[0], count), (b'f', Some(streams_refusal_len(&buffer))));
    }

    fn streams_refusal_len(message: &[u8]) -> usize {
        1 + message[1..5].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }

    #[test]
    fn buffers_go_round_and_large_ones_are_let_go() {
        let mut streams = Streams::default();
        let mut scratch = BytesMut::with_capacity(2 * BUFFER_KEPT_MAX);
        scratch.extend_from_slice(b"x");
        streams.send(&mut scratch);
        assert!(scratch.capacity() < BUFFER_KEPT_MAX);
        assert!(streams.write(b"y") && streams.write(b"z"));
        let mut unread = BytesMut::new();
        streams.receive(&mut unread);
        assert_eq!(&unread[..], b"yz");
    }
}
