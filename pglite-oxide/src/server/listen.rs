//! Where and how a server listens: its configuration and the listening socket. Admitting clients
//! belongs to `admission`.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
#[cfg(unix)]
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Interest, Poll, Token};

use super::Address;
#[cfg(unix)]
use super::socket_lock::SocketLock;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::socket::Stream;

/// PostgreSQL's port, and the number in the name of a Unix socket if none is given.
const PORT: u16 = 5432;
/// The guest reads the authentication method from this variable.
const AUTHENTICATION: &str = "PGL_AUTHENTICATION";

/// Configures where a server listens and how it treats its clients.
///
/// ```
/// use std::time::Duration;
/// use pglite_oxide::Listen;
///
/// let wait = Duration::from_secs(30);
/// let listen = Listen::tcp().port(5433).password("secret").wait_for_session(wait);
/// # let _ = listen;
/// ```
#[derive(Clone)]
pub struct Listen {
    place: Place,
    port: Option<u16>,
    pub(super) password: Option<String>,
    pub(super) wait: Duration,
    pub(super) grace: Duration,
    pub(super) take_over_idle: bool,
    mode: u32,
    on_error: Option<Arc<dyn Fn(Error) + Send + Sync>>,
}

#[derive(Debug, Clone)]
enum Place {
    Tcp(IpAddr),
    Unix(PathBuf),
}

impl Listen {
    /// Listens at the loopback address 127.0.0.1, on a free port. Every user of this machine can
    /// connect unless there is a password.
    pub fn tcp() -> Self {
        Self::at(Place::Tcp(Ipv4Addr::LOCALHOST.into()))
    }

    /// Listens at a Unix socket in an existing directory. As with PostgreSQL, clients are given the
    /// directory as the host; the socket's name in it is `.s.PGSQL.5432`, with a lock file
    /// `.s.PGSQL.5432.lock` beside it. Only the user that runs the server can connect: see
    /// [`Self::socket_mode`].
    pub fn unix(directory: impl Into<PathBuf>) -> Self {
        Self::at(Place::Unix(directory.into()))
    }

    /// Sets the TCP port, instead of a free one; or the number in the name of the Unix socket,
    /// instead of 5432.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Sets the TCP address, instead of 127.0.0.1. An address that other machines can reach
    /// requires a [`password`](Self::password); the connections are not encrypted.
    #[must_use]
    pub fn address(mut self, address: IpAddr) -> Self {
        self.place = Place::Tcp(address);
        self
    }

    /// Sets the password of the server's user, in the database, and requires SCRAM-SHA-256
    /// authentication: every client must know the password of its role. Default: every client may
    /// connect as any role.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets how long a client waits for a session while another client has it, before it gets the
    /// error 53300. Default: 5 seconds.
    #[must_use]
    pub fn wait_for_session(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long a running statement may go on when the server is shut down, before it is
    /// cancelled. Default: 5 seconds.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Has a client that connects end a session that is idle, outside of a transaction, instead of
    /// waiting for it. The client of that session gets the error 57P01. For clients that open a
    /// connection before they close the one they have, like `\\c` of psql. Default: no.
    #[must_use]
    pub fn take_over_idle(mut self, take_over: bool) -> Self {
        self.take_over_idle = take_over;
        self
    }

    /// Sets the permissions of the Unix socket. Permission to write is permission to connect.
    /// Default: 0o600.
    #[must_use]
    pub fn socket_mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Sets a function to be called with errors that no caller and no client is told, such as that
    /// of a session that crashed. It is called on threads of the server, which go on if it panics.
    /// Default: such errors are dropped; [`PgliteServer::shutdown`](crate::PgliteServer::shutdown)
    /// returns the last one.
    #[must_use]
    pub fn on_error(mut self, callback: impl Fn(Error) + Send + Sync + 'static) -> Self {
        self.on_error = Some(Arc::new(callback));
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |message: String| Err(Error::new(ErrorKind::Config, message));
        match (&self.place, &self.password) {
            (_, Some(password)) if password.is_empty() => refuse("an empty password protects nothing".to_string()),
            (_, Some(password)) if password.contains('\0') => refuse("the password has a zero byte".to_string()),
            (Place::Tcp(address), None) if !address.is_loopback() => refuse(format!(
                "other machines can reach {address}, and would need no password: set one with `password`, or listen at 127.0.0.1"
            )),
            (Place::Unix(_), _) if self.port == Some(0) => {
                refuse("the port 0 names no Unix socket: choose another number".to_string())
            }
            _ => Ok(()),
        }
    }

    /// The environment variable that tells a guest how its client has to authenticate.
    pub(super) fn authentication(&self) -> (String, String) {
        let method = if self.password.is_some() { "scram-sha-256" } else { "trust" };
        (AUTHENTICATION.to_string(), method.to_string())
    }

    pub(super) fn socket_number(&self) -> u16 {
        self.port.unwrap_or(PORT)
    }

    /// Calls the function for errors. A panic in it has been reported by the panic hook, and ends
    /// nothing else.
    pub(super) fn report(&self, error: Error) {
        if let Some(callback) = &self.on_error {
            let _ = catch_unwind(AssertUnwindSafe(|| callback(error)));
        }
    }

    fn at(place: Place) -> Self {
        Self {
            place,
            port: None,
            password: None,
            wait: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            take_over_idle: false,
            mode: 0o600,
            on_error: None,
        }
    }
}

impl fmt::Debug for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Logs must not contain the password.
        f.debug_struct("Listen")
            .field("place", &self.place)
            .field("port", &self.port)
            .field("password", &self.password.is_some())
            .finish_non_exhaustive()
    }
}

const LISTENER: Token = Token(0);
const CLOSE: Token = Token(1);

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    socket: Socket,
    poll: std::sync::Mutex<Poll>,
    closer: Closer,
}

#[derive(Debug)]
enum Socket {
    Tcp(mio::net::TcpListener),
    #[cfg(unix)]
    Unix(mio::net::UnixListener),
}

/// The address of a listener, also after the listener has been closed.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) address: Address,
    #[cfg(unix)]
    file: std::sync::Mutex<Option<SocketFile>>,
}

/// A Unix socket's file with its lock. Dropped, both are removed.
#[cfg(unix)]
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    /// Removed after the socket.
    _lock: SocketLock,
}

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Listener {
    pub(super) fn bind(listen: &Listen) -> Result<(Self, Bound)> {
        let (mut socket, bound) = match &listen.place {
            Place::Tcp(address) => bind_tcp(SocketAddr::new(*address, listen.port.unwrap_or(0)))?,
            #[cfg(unix)]
            Place::Unix(directory) => bind_unix(directory, listen.socket_number(), listen.mode)?,
            #[cfg(not(unix))]
            Place::Unix(_) => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "this system has no Unix sockets: listen with `Listen::tcp`",
                ));
            }
        };
        let mut prepare = || {
            let poll = Poll::new()?;
            match &mut socket {
                Socket::Tcp(socket) => poll.registry().register(socket, LISTENER, Interest::READABLE)?,
                #[cfg(unix)]
                Socket::Unix(socket) => poll.registry().register(socket, LISTENER, Interest::READABLE)?,
            }
            let waker = mio::Waker::new(poll.registry(), CLOSE)?;
            Ok((poll, waker))
        };
        let (poll, waker) = prepare().map_err(|cause: io::Error| {
            bound.remove();
            Error::new(ErrorKind::Io, "cannot listen").with_cause(cause)
        })?;
        let closer = Closer { waker: Arc::new(waker), closed: Arc::default() };
        Ok((Self { socket, poll: std::sync::Mutex::new(poll), closer }, bound))
    }

    /// Makes `next` return `None`, from another thread.
    pub(super) fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Waits for the next connection; `None` when the listener is to be closed.
    pub(super) fn next(&self) -> Option<io::Result<Stream>> {
        let mut poll = self.poll.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut events = mio::Events::with_capacity(2);
        // Clients that never stop to connect must not keep it open.
        while !self.closer.is_closed() {
            let accepted = match &self.socket {
                Socket::Tcp(socket) => socket.accept().map(|(stream, _)| Stream::Tcp(stream)),
                #[cfg(unix)]
                Socket::Unix(socket) => socket.accept().map(|(stream, _)| Stream::Unix(stream)),
            };
            match accepted {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => return Some(result),
            }
            match poll.poll(&mut events, None) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Some(Err(error)),
                _ => (),
            }
        }
        None
    }

    /// Waits, after a failure that may be temporary. False: the listener is to be closed.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let mut poll = self.poll.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut events = mio::Events::with_capacity(2);
        let _ = poll.poll(&mut events, Some(pause));
        !self.closer.is_closed()
    }
}

/// Closes a listener from another thread.
#[derive(Debug, Clone)]
pub(super) struct Closer {
    waker: Arc<mio::Waker>,
    closed: Arc<AtomicBool>,
}

impl Closer {
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        // It fails only if the listener is gone.
        let _ = self.waker.wake();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}

impl Bound {
    /// Removes the socket's file.
    pub(super) fn remove(&self) {
        #[cfg(unix)]
        drop(self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    }

    fn tcp(address: SocketAddr) -> Self {
        Self {
            address: Address::Tcp(address),
            #[cfg(unix)]
            file: std::sync::Mutex::default(),
        }
    }
}

fn bind_tcp(address: SocketAddr) -> Result<(Socket, Bound)> {
    let failed = |cause: io::Error| {
        let hint =
            if cause.kind() == io::ErrorKind::AddrInUse { "; without `port` the server finds a free one" } else { "" };
        let kind = if cause.kind() == io::ErrorKind::AddrInUse { ErrorKind::InUse } else { ErrorKind::Io };
        Error::new(kind, format!("cannot listen at {address}{hint}")).with_cause(cause)
    };
    let socket = mio::net::TcpListener::bind(address).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok((Socket::Tcp(socket), Bound::tcp(address)))
}

#[cfg(unix)]
fn bind_unix(directory: &Path, number: u16, mode: u32) -> Result<(Socket, Bound)> {
    let directory = std::path::absolute(directory)
        .map_err(|cause| Error::new(ErrorKind::Io, format!("{}: no path", directory.display())).with_cause(cause))?;
    let file = directory.join(format!(".s.PGSQL.{number}"));
    let failed =
        |cause: io::Error| Error::new(ErrorKind::Io, format!("cannot listen at {}", file.display())).with_cause(cause);
    let lock = SocketLock::acquire(&file, &directory, number).map_err(|error| match error.kind() {
        ErrorKind::Io => Error::new(ErrorKind::Io, format!("cannot listen at {}", file.display())).with_cause(error),
        _ => error,
    })?;
    // With the lock held, a socket that is there is stale, unless a server without lock files
    // listens.
    if std::os::unix::net::UnixStream::connect(&file).is_ok() {
        let message = format!("{}: another server listens there; use another directory or port", file.display());
        return Err(Error::new(ErrorKind::InUse, message));
    }
    match std::fs::remove_file(&file) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
        _ => (),
    }
    let socket = mio::net::UnixListener::bind(&file).map_err(failed)?;
    let socket_file = SocketFile { path: file.clone(), _lock: lock };
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    let bound = Bound { address: Address::Unix(directory), file: std::sync::Mutex::new(Some(socket_file)) };
    Ok((Socket::Unix(socket), bound))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_strangers_in_is_refused() {
        let refusal = |listen: Listen| listen.check().unwrap_err().to_string();
        assert!(refusal(Listen::tcp().address([0, 0, 0, 0].into())).contains("set one with `password`"));
        assert!(Listen::tcp().address([0, 0, 0, 0].into()).password("x").check().is_ok());
        assert!(Listen::tcp().address("::1".parse().unwrap()).check().is_ok());
        assert!(refusal(Listen::tcp().password("")).contains("empty"));
        assert!(refusal(Listen::unix("/tmp").port(0)).contains("port 0"));
    }

    #[test]
    fn a_password_is_not_printed() {
        assert!(!format!("{:?}", Listen::tcp().password("sesame")).contains("sesame"));
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_that_a_dead_server_left_is_taken_over_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".s.PGSQL.5432");
        let listen = Listen::unix(directory.path());
        // A server without a lock file, and what is left of it.
        let other = std::os::unix::net::UnixListener::bind(&file).unwrap();
        assert_eq!(Listener::bind(&listen).unwrap_err().kind(), ErrorKind::InUse);
        drop(other);
        let (first, bound) = Listener::bind(&listen).unwrap();
        assert_eq!(Listener::bind(&listen).unwrap_err().kind(), ErrorKind::InUse);
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(directory.path().join(".s.PGSQL.5432.lock").exists());
        bound.remove();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        drop(first);
        let far = directory.path().join("x".repeat(120));
        assert!(Listener::bind(&Listen::unix(far)).unwrap_err().to_string().contains("cannot listen at"));
    }
}
