//! A client as a session's thread sees it, wherever its bytes come from. It owns what such a connection has to do; `pipe` and `socket` do it.

pub(crate) mod pipe;
pub(crate) mod socket;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use crate::wasm::interrupts::Interrupts;

/// The session's end of a connection to a client. Dropped, it ends what the client reads.
pub(crate) trait Peer: Debug + Send {
    /// Names the interrupts of the session that serves the client from now on: they end its waits.
    fn attach(&mut self, interrupts: &Arc<Interrupts>);

    /// Waits for bytes and adds them to `bytes`; for an interrupt of the guest too; and no longer than `timeout`.
    fn wait(&mut self, bytes: &mut BytesMut, timeout: Option<Duration>) -> Input;

    /// Hands all bytes to the client, as fast as it reads. False: it reads no more, or the session is to die or the deadline has passed and the client does not read.
    fn write(&mut self, bytes: &mut BytesMut, deadline: Option<Instant>) -> bool;

    /// Whether the client is known to have gone without saying goodbye.
    fn is_abandoned(&self) -> bool;

    /// Tells from any thread, and at any time, whether the client is gone. `None`: that ends the session at once anyway.
    fn watch(&self) -> Option<Watch>;

    /// Closes the connection from any thread: waits for the client's bytes end, and so do writes that it does not read.
    fn closer(&self) -> Closer;
}

/// See [`Peer::watch`].
pub(crate) type Watch = Box<dyn Fn() -> bool + Send + Sync>;

/// See [`Peer::closer`].
pub(crate) type Closer = Box<dyn FnOnce() + Send>;

/// What the wait for a client's bytes ended with.
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
