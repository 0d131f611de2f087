//! Connections between a session's thread and its client. This module owns the trait; `pipe` and
//! `socket` implement it. The meaning of the bytes belongs to `server`.

pub(crate) mod pipe;
pub(crate) mod socket;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::wasm::interrupts::Interrupts;

/// The session's end of a connection. When it is dropped, the client reads the end of the stream.
pub(crate) trait Peer: Debug + Send {
    /// Sets the interrupts of the session that serves the client from now on. They end its waits.
    fn attach(&mut self, interrupts: &Arc<Interrupts>);

    /// Waits for bytes, which it appends to `bytes`, for an interrupt of the guest, or for
    /// `timeout`.
    fn wait(&mut self, bytes: &mut BytesMut, timeout: Option<Duration>) -> Input;

    /// Writes all bytes, as fast as the client reads them. False: the client reads no more, or it
    /// does not read and the session is to be terminated or the deadline has passed.
    fn write(&mut self, bytes: &mut BytesMut, deadline: Option<Instant>) -> bool;

    /// Whether the client is known to have left without Terminate.
    fn is_abandoned(&self) -> bool;

    /// A function that tells from any thread whether the client is gone. `None`: the session ends
    /// by itself as soon as the client is gone.
    fn watch(&self) -> Option<Watch>;

    /// A function that closes the connection from any thread: waits and blocked writes end.
    fn closer(&self) -> Closer;
}

/// See [`Peer::watch`].
pub(crate) type Watch = Box<dyn Fn() -> bool + Send + Sync>;

/// See [`Peer::closer`].
pub(crate) type Closer = Box<dyn FnOnce() + Send>;

/// What a wait for a client's bytes ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// Some came.
    Bytes,
    /// The client sends no more.
    End,
    /// None came, but the guest has an interrupt to serve.
    Interrupt,
    /// The time is up.
    Timeout,
}
