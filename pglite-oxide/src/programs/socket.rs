//! The way of a client program to a server's socket. It owns the two threads of a connection, which
//! do the waiting that the program must be able to end.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use bytes::{Buf, BytesMut};

use crate::fs::errno::{Errno, Result};
use crate::wasm::channel::{Channel, Dialer};

/// Bytes that wait in each direction at most.
const CAPACITY: usize = 128 * 1024;
/// Bytes that are read at a time.
const PIECE: usize = 64 * 1024;

#[cfg_attr(not(any(test, feature = "cli")), allow(dead_code, reason = "for the command line's psql"))]
/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SocketDialer {
    Tcp(SocketAddr),
    /// The socket itself, not its directory.
    #[cfg(unix)]
    Unix(std::path::PathBuf),
}

impl Dialer for SocketDialer {
    fn dial(&self, _: &Waker) -> Result<Box<dyn Channel>> {
        let (reader, writer): (Box<dyn Half>, Box<dyn Half>) = match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)?;
                // Many messages are small, and each waits for its answer.
                stream.set_nodelay(true)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
            #[cfg(unix)]
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                (Box::new(stream.try_clone()?), Box::new(stream))
            }
        };
        let shared = Arc::<Shared>::default();
        let start = |name: &str, run: Box<dyn FnOnce(&Shared) + Send>| {
            let shared = shared.clone();
            thread::Builder::new().name(format!("pglite-oxide-{name}")).spawn(move || run(&shared)).map(drop)
        };
        // Whatever fails, the drop of the channel ends the other thread.
        let channel = SocketChannel(shared.clone());
        start("receive", Box::new(move |shared| shared.receive(reader)))?;
        start("send", Box::new(move |shared| shared.send(writer)))?;
        Ok(Box::new(channel))
    }
}

/// One of the two handles of a socket.
trait Half: Read + Write + Send {
    fn shut_down(&self);
}

impl Half for TcpStream {
    fn shut_down(&self) {
        // A socket that is gone needs no goodbye.
        let _ = self.shutdown(Shutdown::Both);
    }
}

#[cfg(unix)]
impl Half for UnixStream {
    fn shut_down(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

/// A connection to a socket.
#[derive(Debug)]
struct SocketChannel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// For the threads: there is room, there are bytes, or it is over.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    incoming: BytesMut,
    /// How what comes has ended.
    incoming_end: Option<Result<()>>,
    outgoing: BytesMut,
    /// Why nothing goes out any more.
    outgoing_end: Option<Errno>,
    /// The program is done with the connection.
    closed: bool,
    waker: Option<Waker>,
}

impl Shared {
    fn receive(&self, mut socket: Box<dyn Half>) {
        let mut piece = vec![0; PIECE];
        let end = loop {
            match socket.read(&mut piece) {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    let mut state = self.lock();
                    state.incoming.extend_from_slice(&piece[..count]);
                    wake(state);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => break Err(error.into()),
            }
            let mut state = self.lock();
            while state.incoming.len() >= CAPACITY && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                break Ok(());
            }
        };
        let mut state = self.lock();
        state.incoming_end = Some(end);
        wake(state);
    }

    /// Sends what there is, to the end: a goodbye is the last of it.
    fn send(&self, mut socket: Box<dyn Half>) {
        loop {
            let piece = {
                let mut state = self.lock();
                while state.outgoing.is_empty() && !state.closed {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                let piece = state.outgoing.split();
                if piece.is_empty() {
                    break;
                }
                wake(state);
                piece
            };
            if let Err(error) = socket.write_all(&piece) {
                let mut state = self.lock();
                state.outgoing_end = Some(error.into());
                wake(state);
                break;
            }
        }
        // Ends the other thread too, if the program is done; if only writing failed, what has come
        // is still read.
        if self.lock().closed {
            socket.shut_down();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of the lock before it wakes: who waits holds a lock of its own, which waking takes,
/// while it looks at what this one protects.
fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    waker.into_iter().for_each(Waker::wake);
}

impl Channel for SocketChannel {
    fn poll_read(&self, context: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize>> {
        let mut state = self.0.lock();
        if state.incoming.is_empty() {
            let Some(end) = state.incoming_end else {
                state.waker = Some(context.waker().clone());
                return Poll::Pending;
            };
            return Poll::Ready(end.map(|()| 0));
        }
        let count = buf.len().min(state.incoming.len());
        buf[..count].copy_from_slice(&state.incoming[..count]);
        state.incoming.advance(count);
        drop(state);
        self.0.changed.notify_all();
        Poll::Ready(Ok(count))
    }

    fn poll_write(&self, context: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize>> {
        let mut state = self.0.lock();
        if let Some(errno) = state.outgoing_end {
            return Poll::Ready(Err(errno));
        }
        let count = data.len().min(CAPACITY.saturating_sub(state.outgoing.len()));
        if count == 0 && !data.is_empty() {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.outgoing.extend_from_slice(&data[..count]);
        drop(state);
        self.0.changed.notify_all();
        Poll::Ready(Ok(count))
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if !state.incoming.is_empty() || state.incoming_end.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.outgoing.len() < CAPACITY || state.outgoing_end.is_some() {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for SocketChannel {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::wasm::channel::{Channels, PATH, READ, WRITE};
    use crate::wasm::interrupts::Interrupts;

    /// Echoes one connection to its end, after it has said that it is there.
    fn echo(listener: &TcpListener) {
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(b"hi").unwrap();
        let mut piece = vec![0; 1000];
        while let Ok(count @ 1..) = socket.read(&mut piece) {
            socket.write_all(&piece[..count]).unwrap();
        }
    }

    #[test]
    fn bytes_go_both_ways_and_the_last_ones_arrive() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialer = SocketDialer::Tcp(listener.local_addr().unwrap());
        let interrupts = Arc::<Interrupts>::default();
        let mut channels = Channels::new(Box::new(dialer), &interrupts);
        std::thread::scope(|scope| {
            let server = scope.spawn(|| echo(&listener));
            channels.open(PATH).unwrap();
            let (mut sent, mut received) = (0, 0);
            let wanted = 10 * CAPACITY;
            let mut buf = vec![0; 3 * CAPACITY];
            while received < wanted + 2 {
                let events = channels.wait(0, if sent < wanted { READ | WRITE } else { READ }, None).unwrap();
                if events & READ != 0 {
                    received += channels.read(0, &mut buf).unwrap();
                }
                if events & WRITE != 0 {
                    sent += channels.write(0, &buf[..(wanted - sent).min(70_000)]).unwrap();
                }
            }
            assert_eq!(received, wanted + 2);
            assert_eq!(channels.write(0, b"goodbye"), Ok(7));
            channels.close(0);
            server.join().unwrap();
        });
    }

    #[test]
    fn a_server_that_is_not_there_refuses_and_one_that_goes_ends_the_input() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut channels = Channels::new(Box::new(SocketDialer::Tcp(address)), &Arc::default());
        channels.open(PATH).unwrap();
        drop(listener.accept().unwrap());
        assert_eq!(channels.wait(0, READ, None), Ok(READ));
        assert!(matches!(channels.read(0, &mut [0]), Ok(0) | Err(Errno::CONNRESET)));
        drop(listener);
        assert_eq!(channels.open(PATH), Err(Errno::CONNREFUSED));
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_with_a_path() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut channels = Channels::new(Box::new(SocketDialer::Unix(path)), &Arc::default());
        channels.open(PATH).unwrap();
        listener.accept().unwrap().0.write_all(b"x").unwrap();
        assert_eq!(channels.wait(0, READ, None), Ok(READ));
        assert_eq!(channels.read(0, &mut [0; 8]), Ok(1));
    }
}
