//! A client program's network: byte streams that a dialer of the host's makes, known to the program as the sockets of one path. It owns their numbers and who waits
//! for what; what a channel leads to is the dialer's.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::fs::errno::{Errno, Result};
use crate::interrupts::{Interrupts, Woken};
use crate::serve::ClientEnd;

/// Where programs find the server: the directory of its socket and its port, in libpq's terms.
pub(crate) const HOST: &str = "/pglite-oxide";
pub(crate) const PORT: &str = "5432";
/// The path that follows from these.
pub(super) const PATH: &[u8] = b"/pglite-oxide/.s.PGSQL.5432";

/// Channels of one program at a time. A program has sockets for no more.
const CHANNELS_MAX: usize = 8;

/// A channel can be read from, or is at its end.
pub(crate) const READ: i32 = 1;
/// A channel takes bytes, or none for ever.
pub(crate) const WRITE: i32 = 2;

/// Connects a program to a server, each time it asks.
pub(crate) trait Dialer: std::fmt::Debug + Send + Sync {
    /// Makes a connection. The waker is for changes that no poll has asked for.
    fn dial(&self, waker: &Waker) -> Result<Box<dyn Channel>>;
}

/// A connection. Nothing here waits: what cannot go on says so and wakes the context's waker when it may. Dropped, it ends in good order.
pub(crate) trait Channel: std::fmt::Debug + Send + Sync {
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
pub(crate) struct Channels {
    dialer: Box<dyn Dialer>,
    open: Vec<Option<Box<dyn Channel>>>,
    interrupts: Arc<Interrupts>,
    waker: Waker,
}

impl Channels {
    /// No channels yet. Whoever sets the interrupts ends the program's waits.
    pub(crate) fn new(dialer: Box<dyn Dialer>, interrupts: &Arc<Interrupts>) -> Self {
        let open = (0..CHANNELS_MAX).map(|_| None).collect();
        Self { dialer, open, interrupts: interrupts.clone(), waker: interrupts.clone().into() }
    }

    pub(crate) fn open(&mut self, path: &[u8]) -> Result<usize> {
        if path != PATH {
            return Err(Errno::NOENT);
        }
        let free = self.open.iter().position(Option::is_none).ok_or(Errno::MFILE)?;
        self.open[free] = Some(self.dialer.dial(&self.waker)?);
        Ok(free)
    }

    pub(crate) fn read(&self, number: usize, buf: &mut [u8]) -> Result<usize> {
        now(self.channel(number)?.poll_read(&mut Context::from_waker(&self.waker), buf))
    }

    pub(crate) fn write(&self, number: usize, data: &[u8]) -> Result<usize> {
        now(self.channel(number)?.poll_write(&mut Context::from_waker(&self.waker), data))
    }

    /// Waits for one of the events and returns all that are there: none when the time is up.
    pub(crate) fn wait(&self, number: usize, events: i32, timeout: Option<Duration>) -> Result<i32> {
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
            Woken::Ready => Ok(ready.get()),
            Woken::Timeout => Ok(0),
            Woken::Flag => Err(Errno::INTR),
        }
    }

    pub(crate) fn close(&mut self, number: usize) {
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

/// The client's end of a session in this process. A program that goes has ended what it says.
#[derive(Debug)]
pub(crate) struct PipeChannel(pub(crate) ClientEnd);

impl Channel for PipeChannel {
    fn poll_read(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        self.0.poll_read(context, buf.len(), |bytes| buf[..bytes.len()].copy_from_slice(bytes)).map(Ok)
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        self.0.poll_write(context, data).map(|count| count.ok_or(Errno::PIPE))
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_read(context, 0, |_| ()).map(drop)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_writable(context)
    }
}

impl Drop for PipeChannel {
    fn drop(&mut self) {
        self.0.finish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::peer::{Input, Peer};
    use crate::serve::pipe;

    #[derive(Debug)]
    struct Once(std::sync::Mutex<Option<ClientEnd>>);

    impl Dialer for Once {
        fn dial(&self, _: &Waker) -> Result<Box<dyn Channel>> {
            let end = self.0.lock().unwrap().take().ok_or(Errno::CONNREFUSED)?;
            Ok(Box::new(PipeChannel(end)))
        }
    }

    #[test]
    fn a_program_reads_and_writes_without_waiting_and_waits_when_it_wants_to() {
        let (mut server, client) = pipe::pipe();
        let interrupts = Arc::<Interrupts>::default();
        let mut channels = Channels::new(Box::new(Once(Some(client).into())), &interrupts);
        assert_eq!(channels.open(b"/tmp/.s.PGSQL.5432"), Err(Errno::NOENT));
        assert_eq!(channels.open(PATH), Ok(0));
        assert_eq!(channels.open(PATH), Err(Errno::CONNREFUSED));
        let mut buf = [0; 4];
        assert_eq!(channels.read(0, &mut buf), Err(Errno::AGAIN));
        assert_eq!(channels.read(1, &mut buf), Err(Errno::BADF));
        assert_eq!(channels.wait(0, READ, Some(Duration::ZERO)), Ok(0));
        assert_eq!(channels.wait(0, READ | WRITE, None), Ok(WRITE));
        assert_eq!(channels.write(0, b"hello"), Ok(5));

        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut bytes = bytes::BytesMut::new();
                assert_eq!(server.wait(&mut bytes, None), Input::Bytes);
                assert!(server.write(&mut bytes));
            });
            assert_eq!(channels.wait(0, READ, None), Ok(READ));
        });
        assert_eq!((channels.read(0, &mut buf), &buf), (Ok(4), b"hell"));
        assert_eq!((channels.read(0, &mut buf), buf[0]), (Ok(1), b'o'));
        channels.close(0);
        assert_eq!(server.wait(&mut bytes::BytesMut::new(), None), Input::End, "its end is the end of the input");
        assert!(!server.is_abandoned());
    }
}
