//! The connection between a session's thread and a client at the other end of a socket. The thread
//! reads and writes the socket itself; it waits in the system's selector, which interrupts of the
//! guest wake as well. It owns the socket, not the meaning of the bytes.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use mio::{Events, Interest, Poll, Token};

use crate::transport::{Closer, Input, Peer, Watch};
use crate::wasm::interrupts::Interrupts;

/// Most bytes that one read takes.
const READ_MAX: usize = 64 * 1024;

const CLIENT: Token = Token(0);
const INTERRUPT: Token = Token(1);

/// The session's end of a socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Stream,
    poll: Poll,
    events: Events,
    waker: Arc<Selected>,
    /// Another thread has closed the connection.
    closed: Arc<AtomicBool>,
    interrupts: Option<Arc<Interrupts>>,
    buffer: Box<[u8]>,
    /// The connection broke, or the client closed it.
    gone: bool,
}

/// A socket of either kind.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(mio::net::TcpStream),
    #[cfg(unix)]
    Unix(mio::net::UnixStream),
}

/// Wakes the selector.
#[derive(Debug)]
struct Selected(mio::Waker);

impl Socket {
    /// Wraps a socket in non-blocking mode.
    pub(crate) fn new(mut stream: Stream) -> io::Result<Self> {
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        match &mut stream {
            Stream::Tcp(stream) => poll.registry().register(stream, CLIENT, interest)?,
            #[cfg(unix)]
            Stream::Unix(stream) => poll.registry().register(stream, CLIENT, interest)?,
        }
        let waker = Arc::new(Selected(mio::Waker::new(poll.registry(), INTERRUPT)?));
        let (events, buffer) = (Events::with_capacity(4), vec![0; READ_MAX].into_boxed_slice());
        let closed = Arc::default();
        Ok(Self { stream, poll, events, waker, closed, interrupts: None, buffer, gone: false })
    }

    /// Sleeps until the socket may have become readable or writable, an interrupt was flagged or
    /// the time is up. Events from before the call are reported at once.
    fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        }
    }

    fn lost(&mut self) -> Input {
        self.gone = true;
        Input::End
    }
}

impl Peer for Socket {
    fn attach(&mut self, interrupts: &Arc<Interrupts>) {
        interrupts.set_waker(Some(self.waker.clone().into()));
        self.interrupts = Some(interrupts.clone());
    }

    fn wait(&mut self, bytes: &mut BytesMut, timeout: Option<Duration>) -> Input {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if self.closed.load(Ordering::SeqCst) {
                return self.lost();
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return self.lost(),
                Ok(count) => {
                    bytes.extend_from_slice(&self.buffer[..count]);
                    return Input::Bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.lost(),
            }
            if self.interrupts.as_ref().is_some_and(|interrupts| interrupts.is_flagged()) {
                return Input::Interrupt;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Input::Timeout;
            }
            if self.sleep(left).is_err() {
                return self.lost();
            }
        }
    }

    fn write(&mut self, bytes: &mut BytesMut, deadline: Option<Instant>) -> bool {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => bytes.advance(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let dying = self.interrupts.as_ref().is_some_and(|interrupts| interrupts.is_dying());
                    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
                    let over = dying || left == Some(Duration::ZERO) || self.closed.load(Ordering::SeqCst);
                    if over || self.sleep(left).is_err() {
                        self.gone = true;
                        return false;
                    }
                }
                Err(_) => {
                    self.gone = true;
                    return false;
                }
            }
        }
        true
    }

    fn is_abandoned(&self) -> bool {
        self.gone
    }

    #[cfg(unix)]
    fn watch(&self) -> Option<Watch> {
        use std::os::fd::AsFd;

        let descriptor = match &self.stream {
            Stream::Tcp(stream) => stream.as_fd().try_clone_to_owned(),
            Stream::Unix(stream) => stream.as_fd().try_clone_to_owned(),
        };
        let descriptor = descriptor.ok()?;
        Some(Box::new(move || {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};

            let closed = PollFlags::HUP | PollFlags::ERR;
            #[cfg(target_os = "linux")]
            let closed = closed | PollFlags::RDHUP;
            let mut polled = [PollFd::new(&descriptor, closed)];
            poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().intersects(closed)
        }))
    }

    #[cfg(not(unix))]
    fn watch(&self) -> Option<Watch> {
        None
    }

    fn closer(&self) -> Closer {
        let (closed, waker) = (self.closed.clone(), self.waker.clone());
        Box::new(move || {
            closed.store(true, Ordering::SeqCst);
            waker.wake();
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // What has been written still reaches the client, even if the client sent more that is
        // unread. An error means that the client is gone already.
        let _ = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            #[cfg(unix)]
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            #[cfg(unix)]
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wake for Selected {
    fn wake(self: Arc<Self>) {
        // It fails only when the selector, and with it the waiting thread, is gone.
        let _ = self.0.wake();
    }
}
