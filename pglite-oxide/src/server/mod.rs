//! The local server: a listener that takes clients in, and the threads that serve them. It owns their life, from the first bind to the last session's end. What a
//! session is, is `serve`'s; how a client gets in, `door`'s and `queue`'s.

pub(crate) mod admission;
pub(crate) mod attach;
mod listen;
mod queue;
mod session_handle;
pub(crate) mod session_loop;
pub(crate) mod startup;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::client::{Builder, Pglite};
use crate::cluster::Cluster;
use crate::error::SqlState;
use crate::error::{Error, ErrorKind, Result};
use crate::transport::pipe::ClientEnd;

pub use listen::Listen;
use listen::{Bound, Listener};
use queue::Queue;
use session_handle::Presence;
use session_loop::Ended;

/// A PostgreSQL server for any client, on a port or socket of this machine. It runs until it is shut down or dropped.
///
/// One session runs at a time: a client that connects meanwhile waits for its turn, and is told so if that takes too long (see [`Listen::wait_for_session`]).
///
/// ```no_run
/// let server = pglite_oxide::PgliteServer::temporary()?;
/// println!("{}", server.connection_uri());
/// # Ok::<(), pglite_oxide::Error>(())
/// ```
#[derive(Debug)]
pub struct PgliteServer {
    shared: Arc<Shared>,
    threads: Option<Threads>,
}

#[derive(Debug)]
struct Threads {
    listener: JoinHandle<()>,
    sessions: Vec<JoinHandle<()>>,
    /// At its end when all sessions' threads are.
    ended: Mutex<mpsc::Receiver<()>>,
    close_listener: Arc<mio::Waker>,
}

/// What the server's threads share.
#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    listen: Listen,
    bound: Bound,
    queue: Queue,
    /// One for each session that can run at a time.
    presences: Vec<Arc<Presence>>,
    /// Clients that are being let in, each with a thread.
    at_the_door: AtomicUsize,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Builder {
    /// Opens the database for clients that connect to a local server. Each gets a session of its own, with the settings given here; the user and the
    /// database given here are the ones that [`PgliteServer::connection_uri`] names, and others may exist. The server runs on threads of its own until it is
    /// shut down or dropped.
    ///
    /// ```no_run
    /// use pglite_oxide::{Listen, Pglite};
    ///
    /// let server = Pglite::builder().path("data/shop").extension("vector").serve(&Listen::tcp())?;
    /// println!("{}", server.connection_uri());
    /// # Ok::<(), pglite_oxide::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::open`]; [`ErrorKind::Config`] if `listen` asks for an address that strangers can reach and sets no password; [`ErrorKind::Io`] or
    /// [`ErrorKind::InUse`] if it cannot listen there.
    pub fn serve(&self, listen: &Listen) -> Result<PgliteServer> {
        listen.check()?;
        PgliteServer::start(self.cluster()?, listen)
    }
}

impl PgliteServer {
    /// A server for a new, empty database in memory, on a free port of this machine. The database is gone when the server is.
    ///
    /// # Errors
    /// As [`Builder::serve`](crate::Builder::serve).
    pub fn temporary() -> Result<Self> {
        Pglite::builder().temporary().serve(&Listen::tcp())
    }

    /// A server for the database in a directory, which is made if it is not there, on a free port of this machine.
    ///
    /// # Errors
    /// As [`Builder::serve`](crate::Builder::serve).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Pglite::builder().path(path).serve(&Listen::tcp())
    }

    pub(crate) fn start(cluster: Cluster, listen: &Listen) -> Result<Self> {
        prepare(&cluster, listen)?;
        let (listener, bound) = Listener::bind(listen)?;
        let shared = Arc::new(Shared {
            cluster,
            listen: listen.clone(),
            bound,
            queue: Queue::default(),
            presences: vec![Arc::default()],
            at_the_door: AtomicUsize::new(0),
        });
        let threads = Threads::start(&shared, listener).inspect_err(|_| {
            // What has started ends by itself.
            shared.queue.close();
            shared.bound.remove();
        })?;
        Ok(Self { shared, threads: Some(threads) })
    }

    /// The connection URI for clients, with user, database and the password if there is one; percent-encoded.
    ///
    /// ```text
    /// postgresql://postgres@127.0.0.1:54321/postgres
    /// postgresql://postgres@%2Frun%2Fshop:5432/postgres
    /// ```
    pub fn connection_uri(&self) -> String {
        let options = self.shared.cluster.options();
        let encode = |text: &str| utf8_percent_encode(text, URI_PART).to_string();
        let password = self.shared.listen.password.as_ref().map(|password| format!(":{}", encode(password)));
        let host = match &self.shared.bound.address {
            Address::Tcp(address) if address.is_ipv6() => format!("[{}]", reachable(*address).ip()),
            Address::Tcp(address) => reachable(*address).ip().to_string(),
            Address::Unix(directory) => encode(&directory.to_string_lossy()),
        };
        let (user, database) = (encode(&options.user), encode(&options.database));
        format!("postgresql://{user}{}@{host}:{}/{database}", password.unwrap_or_default(), self.port())
    }

    /// The environment variables that PostgreSQL's own programs and libraries connect with: `PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGPASSWORD`; and
    /// `DATABASE_URL` with [`Self::connection_uri`].
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let options = self.shared.cluster.options();
        let host = match &self.shared.bound.address {
            Address::Tcp(address) => reachable(*address).ip().to_string(),
            Address::Unix(directory) => directory.to_string_lossy().into_owned(),
        };
        let mut variables = vec![
            ("DATABASE_URL", self.connection_uri()),
            ("PGHOST", host),
            ("PGPORT", self.port().to_string()),
            ("PGUSER", options.user.clone()),
            ("PGDATABASE", options.database.clone()),
        ];
        variables.extend(self.shared.listen.password.clone().map(|password| ("PGPASSWORD", password)));
        variables
    }

    /// The user that [`Self::connection_uri`] names.
    pub(crate) fn user(&self) -> &str {
        &self.shared.cluster.options().user
    }

    /// The database that [`Self::connection_uri`] names.
    pub(crate) fn database(&self) -> &str {
        &self.shared.cluster.options().database
    }

    /// The password that clients have to know, if there is one.
    pub(crate) fn password(&self) -> Option<&str> {
        self.shared.listen.password.as_deref()
    }

    /// Connects clients of this process.
    pub(crate) fn connector(&self) -> ServerConnector {
        ServerConnector(self.shared.clone())
    }

    /// The TCP port, or the number in the name of the Unix socket.
    pub fn port(&self) -> u16 {
        match &self.shared.bound.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => self.shared.listen.socket_number(),
        }
    }

    /// Stops the server: it takes no more clients in; a running statement may end, and is cancelled after the grace period ([`Listen::grace`]); sessions end, open
    /// transactions are rolled back. Then everything is in the database's files, and it may be opened again.
    ///
    /// # Errors
    /// [`ErrorKind::Crashed`] if a thread of the server panicked.
    pub fn shutdown(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        let Some(threads) = self.threads.take() else { return Ok(()) };
        let Threads { listener, sessions, ended, close_listener } = threads;
        // It cannot fail while the listener is there, and it must not be waited for if it is not.
        let _ = close_listener.wake();
        let mut panicked = listener.join().is_err();
        self.shared.bound.remove();
        admission::turn_away(self.shared.queue.close(), &SqlState::CANNOT_CONNECT_NOW, SHUTTING_DOWN, None);
        self.shared.presences.iter().for_each(|presence| presence.close());
        // Nothing is ever sent: it is the end that is waited for.
        let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(self.shared.listen.grace);
        self.shared.presences.iter().for_each(|presence| presence.end());
        for session in sessions {
            panicked |= session.join().is_err();
        }
        if panicked { Err(Error::new(ErrorKind::Crashed, "a thread of the server panicked")) } else { Ok(()) }
    }
}

/// Connects clients of this process to a server, without a socket.
#[derive(Debug, Clone)]
pub(crate) struct ServerConnector(Arc<Shared>);

impl ServerConnector {
    /// The client's end of a new connection.
    pub(crate) fn connect(&self) -> Result<ClientEnd> {
        admission::connect(&self.0)
    }
}

impl Threads {
    /// Starts everything and waits until the first sessions wait for clients.
    fn start(shared: &Arc<Shared>, listener: Listener) -> Result<Self> {
        let (alive, ended) = mpsc::channel();
        let mut sessions = Vec::new();
        for presence in &shared.presences {
            let (started, start) = mpsc::sync_channel(1);
            let (shared, presence, alive) = (shared.clone(), presence.clone(), alive.clone());
            sessions.push(spawn("session", move || {
                let _alive = alive;
                serve_sessions(&shared, &presence, started);
            })?);
            // A session that cannot even start is an error of the caller's, and what it has to say is the reason.
            start.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::Crashed, "the session's thread panicked")))?;
        }
        let close_listener = listener.waker();
        let shared = shared.clone();
        let listener = spawn("listener", move || admission::stand(&listener, &shared))?;
        Ok(Self { listener, sessions, ended: Mutex::new(ended), close_listener })
    }
}

impl Drop for PgliteServer {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = self.stop();
    }
}

/// PostgreSQL's words.
const SHUTTING_DOWN: &str = "the database system is shutting down";

/// Everything but what a URI never encodes.
const URI_PART: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// An address to connect to: one that stands for all of a machine's is reached at loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Does in a session of its own what has to be done before clients come. Most servers need none.
fn prepare(cluster: &Cluster, listen: &Listen) -> Result<()> {
    if cluster.options().extensions.is_empty() && listen.password.is_none() {
        return Ok(());
    }
    let mut db = Pglite::start(cluster.clone())?;
    if let Some(password) = &listen.password {
        let secret = postgres_protocol::password::scram_sha_256(password.as_bytes());
        let user = cluster.options().user.replace('"', "\"\"");
        db.batch_execute(&format!("ALTER ROLE \"{user}\" PASSWORD '{secret}'"))?;
    }
    db.close()
}

/// Serves one client after the other. Each session is started before its client comes.
fn serve_sessions(shared: &Arc<Shared>, presence: &Arc<Presence>, started: mpsc::SyncSender<Result<()>>) {
    let started = Arc::new(Mutex::new(Some(started)));
    let tell = move |result| {
        let first = started.lock().unwrap_or_else(PoisonError::into_inner).take();
        match first {
            // Whoever started the server waits for this.
            Some(first) => first.send(result).map_err(|_| None),
            None => Err(result.err()),
        }
    };
    loop {
        let reception = {
            let (shared, tell) = (shared.clone(), tell.clone());
            Box::new(move || {
                let _ = tell(Ok(()));
                shared.queue.next()
            })
        };
        let launch = shared.cluster.launch().map(|mut launch| {
            launch.env.push(shared.listen.authentication());
            launch
        });
        let ended = launch.and_then(|launch| session_loop::attend(launch, presence.clone(), reception));
        let error = match ended {
            Ok(Ended::Unused) => return,
            Ok(Ended::Served(Ok(()))) => continue,
            // PostgreSQL told its client what it ended the session for.
            Ok(Ended::Served(Err(error))) if error.as_db_error().is_some() => continue,
            Ok(Ended::Served(Err(error))) => {
                shared.listen.report(error);
                continue;
            }
            Err(error) => error,
        };
        let message = error.to_string();
        match tell(Err(error)) {
            Ok(()) | Err(None) => return,
            Err(Some(error)) => shared.listen.report(error),
        }
        // It may be over when the next client comes; this one is told.
        let Some(client) = shared.queue.next() else { return };
        admission::turn_away([client], &SqlState::CANNOT_CONNECT_NOW, &message, None);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = std::thread::Builder::new().name(format!("pglite-oxide-{name}"));
    thread.spawn(work).map_err(|cause| Error::new(ErrorKind::Io, "cannot start a thread").with_cause(cause))
}

impl Shared {
    /// Lets go of a place at the door.
    fn leave_the_door(&self) {
        self.at_the_door.fetch_sub(1, Ordering::SeqCst);
    }
}
