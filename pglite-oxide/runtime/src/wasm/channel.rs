//! A client program's network: byte streams that a dialer of the host creates, which the program
//! sees as sockets of one path. It owns their numbers and the waits; the dialer connects them.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::fs::errno::{Errno, Result};
use crate::wasm::interrupts::{Interrupts, WakeReason};

/// Where programs find the server: the directory of its socket and its port, in libpq's terms.
pub const HOST: &str = "/pglite-oxide";
pub const PORT: &str = "5432";
/// The path that follows from these.
pub const PATH: &[u8] = b"/pglite-oxide/.s.PGSQL.5432";

/// Channels of one program at a time. A program has sockets for no more.
const CHANNELS_MAX: usize = 8;

/// A channel can be read from, or is at its end.
pub const READ: i32 = 1;
/// A channel takes bytes, or none for ever.
pub const WRITE: i32 = 2;

/// Connects a program to a server, each time it asks.
pub trait Dialer: std::fmt::Debug + Send + Sync {
    /// Makes a connection. The waker is for changes that no poll has asked for.
    fn dial(&self, waker: &Waker) -> Result<Box<dyn Channel>>;
}

/// A connection. Nothing here waits: what cannot go on says so and wakes the context's waker when
/// it may. Dropped, it ends in good order.
pub trait Channel: std::fmt::Debug + Send + Sync {
    /// Reads bytes; none at the end.
    fn poll_read(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>>;

    /// Writes some of the bytes and returns how many.
    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>>;

    /// Whether reading would not wait.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Whether writing would not wait.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// The channels of one program.
#[derive(Debug)]
pub struct Channels {
    dialer: Box<dyn Dialer>,
    open: Vec<Option<Box<dyn Channel>>>,
    interrupts: Arc<Interrupts>,
    waker: Waker,
}

impl Channels {
    /// No channels yet. The owner of the interrupts ends the program's waits.
    pub fn new(dialer: Box<dyn Dialer>, interrupts: &Arc<Interrupts>) -> Self {
        let open = (0..CHANNELS_MAX).map(|_| None).collect();
        Self { dialer, open, interrupts: interrupts.clone(), waker: interrupts.clone().into() }
    }

    pub fn open(&mut self, path: &[u8]) -> Result<usize> {
        if path != PATH {
            return Err(Errno::NOENT);
        }
        let free = self.open.iter().position(Option::is_none).ok_or(Errno::MFILE)?;
        self.open[free] = Some(self.dialer.dial(&self.waker)?);
        Ok(free)
    }

    pub fn read(&self, number: usize, buf: &mut [u8]) -> Result<usize> {
        now(self.channel(number)?.poll_read(&mut Context::from_waker(&self.waker), buf))
    }

    pub fn write(&self, number: usize, data: &[u8]) -> Result<usize> {
        now(self.channel(number)?.poll_write(&mut Context::from_waker(&self.waker), data))
    }

    /// Waits for one of the events and returns all that are there: none when the time is up.
    pub fn wait(&self, number: usize, events: i32, timeout: Option<Duration>) -> Result<i32> {
        let channel = self.channel(number)?;
        let ready = Cell::new(0);
        let look = || {
            let mut context = Context::from_waker(&self.waker);
            let readable = events & READ != 0 && channel.poll_readable(&mut context).is_ready();
            let writable = events & WRITE != 0 && channel.poll_writable(&mut context).is_ready();
            ready.set(if readable { READ } else { 0 } | if writable { WRITE } else { 0 });
            ready.get() != 0
        };
        match self.interrupts.wait_or(timeout, look) {
            WakeReason::Ready => Ok(ready.get()),
            WakeReason::Timeout => Ok(0),
            WakeReason::Flag => Err(Errno::INTR),
        }
    }

    pub fn close(&mut self, number: usize) {
        if let Some(channel) = self.open.get_mut(number) {
            *channel = None;
        }
    }

    fn channel(&self, number: usize) -> Result<&dyn Channel> {
        self.open.get(number).and_then(Option::as_deref).ok_or(Errno::BADF)
    }
}

fn now<T>(poll: Poll<Result<T>>) -> Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Errno::AGAIN),
    }
}
