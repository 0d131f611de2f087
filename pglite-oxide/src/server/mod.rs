//! The local server: a listener and the threads that serve clients, from the bind to the last
//! session's end. A single session belongs to `session_loop`; how a client gets to one, to
//! `admission` and `queue`.

pub(crate) mod admission;
pub(crate) mod attach;
mod connection_info;
mod handshakes;
mod listen;
mod queue;
mod session_handle;
pub(crate) mod session_loop;
#[cfg(unix)]
mod socket_lock;
pub(crate) mod startup;

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use crate::backend::{Backend, Launch};
use crate::client::{Builder, Pglite};
use crate::cluster::Cluster;
use crate::cluster::options::Options;
use crate::error::SqlState;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::lock;
use crate::transport::pipe::ClientEnd;

use handshakes::Handshakes;
pub use listen::Listen;
use listen::{Bound, Closer, Listener};
use queue::Queue;
use session_handle::SessionHandle;
use session_loop::Ended;

/// A PostgreSQL server for any client, at a TCP port or Unix socket of this machine. It runs until
/// it is shut down or dropped.
///
/// One session runs at a time: a client that connects meanwhile waits for its turn, and gets an
/// error if that takes too long (see [`Listen::wait_for_session`]).
///
/// ```no_run
/// let server = pglite_oxide::PgliteServer::temporary()?;
/// println!("{}", server.connection_uri());
/// # Ok::<(), pglite_oxide::Error>(())
/// ```
#[derive(Debug)]
pub struct PgliteServer {
    options: Options,
    shared: Arc<Shared>,
    threads: Option<Threads>,
    /// On drop, the server is stopped by a thread of its own.
    pub(crate) stops_on_thread: bool,
}

#[derive(Debug)]
struct Threads {
    listener: JoinHandle<()>,
    sessions: Vec<JoinHandle<Result<()>>>,
    /// Disconnected when the threads of all sessions have ended.
    ended: Mutex<mpsc::Receiver<()>>,
    closer: Closer,
}

/// What the server's threads share. It does not contain the database: only the threads of sessions
/// hold that, so that it is closed when they have ended.
#[derive(Debug)]
struct Shared {
    listen: Listen,
    bound: Bound,
    queue: Queue,
    /// One for each session that can run at a time.
    handles: Vec<Arc<SessionHandle>>,
    handshakes: Handshakes,
    /// The last session could not start.
    failing: AtomicBool,
}

/// The address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Builder {
    /// Opens the database for clients that connect to a local server. Each client gets a session of
    /// its own, with the settings given here; the user and the database given here are the ones
    /// that [`PgliteServer::connection_uri`] names, and others may exist. The server runs on
    /// threads of its own until it is shut down or dropped.
    ///
    /// ```no_run
    /// use pglite_oxide::{Listen, Pglite};
    ///
    /// // With the feature `extensions-vector`.
    /// let server = Pglite::builder().path("data/shop").extension("vector").serve(&Listen::tcp())?;
    /// println!("{}", server.connection_uri());
    /// # Ok::<(), pglite_oxide::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Self::open`]; [`ErrorKind::Config`] if `listen` has an address that other machines can
    /// reach and no password; [`ErrorKind::Io`] or [`ErrorKind::InUse`] if it cannot listen there.
    pub fn serve(&self, listen: &Listen) -> Result<PgliteServer> {
        listen.check()?;
        PgliteServer::start(self.cluster()?, listen)
    }
}

impl PgliteServer {
    /// Starts a server for a new, empty database in memory, on a free port of this machine. The
    /// database is discarded with the server.
    ///
    /// # Errors
    /// As [`Builder::serve`](crate::Builder::serve).
    pub fn temporary() -> Result<Self> {
        Pglite::builder().temporary().serve(&Listen::tcp())
    }

    /// Starts a server for the database in a directory, which is created if it does not exist, on a
    /// free port of this machine.
    ///
    /// # Errors
    /// As [`Builder::serve`](crate::Builder::serve).
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        Pglite::builder().path(path).serve(&Listen::tcp())
    }

    pub(crate) fn start(cluster: Cluster, listen: &Listen) -> Result<Self> {
        prepare(&cluster, listen)?;
        let (listener, bound) = Listener::bind(listen)?;
        let options = cluster.options().clone();
        let shared = Arc::new(Shared {
            listen: listen.clone(),
            bound,
            queue: Queue::default(),
            handles: vec![Arc::default()],
            handshakes: Handshakes::default(),
            failing: AtomicBool::new(false),
        });
        let threads = Threads::start(&shared, &cluster, listener).inspect_err(|_| shared.bound.remove())?;
        Ok(Self { options, shared, threads: Some(threads), stops_on_thread: false })
    }

    /// The user that [`Self::connection_uri`] names.
    pub(crate) fn user(&self) -> &str {
        &self.options.user
    }

    /// The database that [`Self::connection_uri`] names.
    pub(crate) fn database(&self) -> &str {
        &self.options.database
    }

    /// The password that clients have to know, if there is one.
    pub(crate) fn password(&self) -> Option<&str> {
        self.shared.listen.password.as_deref()
    }

    /// Connects clients of this process.
    pub(crate) fn connector(&self) -> ServerConnector {
        ServerConnector(self.shared.clone())
    }

    /// Stops the server: it accepts no more clients; a running statement may finish, and is
    /// cancelled after the grace period ([`Listen::grace`]); sessions end, and open transactions
    /// are rolled back. When this returns, everything is in the database's files, and the database
    /// may be opened again.
    ///
    /// # Errors
    /// The error of the last session, if it crashed or could not start and no session has started
    /// since. The database may need recovery, which the next open does. [`ErrorKind::Crashed`] if a
    /// thread of the server panicked. The server is stopped all the same.
    pub fn shutdown(mut self) -> Result<()> {
        self.threads.take().map_or(Ok(()), |threads| threads.stop(&self.shared))
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
    /// Starts the threads and waits until the sessions are ready for clients. After an error, no
    /// thread is left running.
    fn start(shared: &Arc<Shared>, cluster: &Cluster, listener: Listener) -> Result<Self> {
        let (alive, ended) = mpsc::channel();
        let closer = listener.closer();
        let mut sessions = Vec::new();
        let start = || {
            for handle in &shared.handles {
                let (started, start) = mpsc::sync_channel(1);
                let (shared, handle, alive) = (shared.clone(), handle.clone(), alive.clone());
                let cluster = cluster.clone();
                sessions.push(spawn("session", move || {
                    let _alive = alive;
                    let started = Arc::new(Start::new(started));
                    Sessions { shared, cluster, handle, started, prepared: Mutex::default() }.serve()
                })?);
                // The caller is told why the first session cannot start.
                start
                    .recv()
                    .unwrap_or_else(|_| Err(Error::new(ErrorKind::Crashed, "the session's thread panicked")))?;
            }
            let shared = shared.clone();
            spawn("listener", move || admission::accept_loop(&listener, &shared))
        };
        match start() {
            Ok(listener) => Ok(Self { listener, sessions, ended: Mutex::new(ended), closer }),
            Err(error) => {
                shared.queue.close();
                // Their errors are not why the server does not start.
                sessions.into_iter().for_each(|session| drop(session.join()));
                Err(error)
            }
        }
    }

    /// Stops and joins all threads.
    fn stop(self, shared: &Shared) -> Result<()> {
        let Self { listener, sessions, ended, closer } = self;
        let panicked = || Error::new(ErrorKind::Crashed, "a thread of the server panicked");
        closer.close();
        let mut result = listener.join().map_err(|_| panicked());
        shared.bound.remove();
        admission::reject(shared.queue.close(), &SqlState::CANNOT_CONNECT_NOW, SHUTTING_DOWN, None);
        shared.handshakes.close();
        shared.handles.iter().for_each(|handle| handle.close());
        // Nothing is ever sent: this waits for the disconnection.
        let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(shared.listen.grace);
        shared.handles.iter().for_each(|handle| handle.end());
        for session in sessions {
            result = result.and(session.join().unwrap_or_else(|_| Err(panicked())));
        }
        result
    }
}

impl Drop for PgliteServer {
    fn drop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        let shared = self.shared.clone();
        // There is no caller to return an error to.
        if !self.stops_on_thread {
            let _ = threads.stop(&shared);
            return;
        }
        // If the thread cannot be spawned, this thread does it.
        let (hand_over, handed_over) = mpsc::sync_channel::<Threads>(1);
        let stop = move || {
            if let Ok(threads) = handed_over.recv() {
                let _ = threads.stop(&shared);
            }
        };
        match spawn("shutdown", stop) {
            Ok(_) => drop(hand_over.send(threads)),
            Err(_) => drop(threads.stop(&self.shared)),
        }
    }
}

/// PostgreSQL's words.
const SHUTTING_DOWN: &str = "the database system is shutting down";

/// Creates extensions and sets the password, in a session of its own, if there is something to do.
fn prepare(cluster: &Cluster, listen: &Listen) -> Result<()> {
    if cluster.missing_extensions().is_empty() && listen.password.is_none() {
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

/// The sessions that run one after the other on one thread.
struct Sessions {
    shared: Arc<Shared>,
    cluster: Cluster,
    handle: Arc<SessionHandle>,
    started: Arc<Start>,
    /// The thread that makes the next session's process.
    prepared: Mutex<Option<JoinHandle<Result<Backend>>>>,
}

/// How the last start of a session went.
struct Start {
    /// Waits for the first start.
    starter: Mutex<Option<mpsc::SyncSender<Result<()>>>>,
    /// Why the last one crashed or could not start.
    error: Mutex<Option<Error>>,
}

impl Sessions {
    /// Serves one client after the other, until the queue is closed. Each session is started before
    /// its client connects. The result is the error of the last session, if it crashed or could not
    /// start.
    fn serve(&self) -> Result<()> {
        loop {
            let error = match catch_unwind(AssertUnwindSafe(|| self.run_one())) {
                Ok(Ok(Ended::Unused)) => break,
                Ok(Ok(Ended::Served(Ok(())))) => continue,
                // PostgreSQL has told its client why it ended the session.
                Ok(Ok(Ended::Served(Err(error)))) if error.kind() != ErrorKind::Crashed && error.code().is_some() => {
                    continue;
                }
                Ok(Ok(Ended::Served(Err(error)))) => {
                    self.fail(error);
                    continue;
                }
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Crashed, "a session's thread panicked"),
            };
            self.handle.leave();
            let message = error.to_string();
            if !self.fail(error) {
                break;
            }
            self.shared.failing.store(true, Ordering::SeqCst);
            // The cause may be gone when the next client connects; this client is told.
            let Some(client) = self.shared.queue.next() else { break };
            admission::reject([client], &SqlState::CANNOT_CONNECT_NOW, &message, None);
        }
        // A prepared process holds the database as well.
        let prepared = lock(&self.prepared).take();
        drop(prepared.map(JoinHandle::join));
        lock(&self.started.error).take().map_or(Ok(()), Err)
    }

    fn run_one(&self) -> Result<Ended> {
        let (shared, started) = (self.shared.clone(), self.started.clone());
        let next_client = Box::new(move || {
            shared.failing.store(false, Ordering::SeqCst);
            started.succeeded();
            shared.queue.next()
        });
        let prepared = lock(&self.prepared).take().and_then(|thread| thread.join().ok()?.ok());
        let instance = match prepared {
            Some(instance) => instance,
            None => Backend::new(self.launch()?).map_err(|error| self.cluster.explain(error))?,
        };
        // Its error is that of a session that had no client.
        let (handle, data) = (self.handle.clone(), self.cluster.data().clone());
        session_loop::serve_one(instance, handle, data, next_client, &mut || self.prepare())
            .map_err(|error| self.cluster.explain(error))
    }

    fn launch(&self) -> Result<Launch> {
        let mut launch = self.cluster.launch()?;
        launch.env.push(self.shared.listen.authentication());
        Ok(launch)
    }

    /// Makes the next session's process on a thread of its own, while PostgreSQL ends the present
    /// session. It does not run any of PostgreSQL's start-up, nor touch the database's files. If
    /// this fails, for example for lack of address space, the next session makes its own process.
    fn prepare(&self) {
        let mut prepared = lock(&self.prepared);
        if prepared.is_none()
            && !self.shared.queue.is_closed()
            && let Ok(launch) = self.launch()
        {
            *prepared = spawn("prepare", move || Backend::new(launch)).ok();
        }
    }

    /// Reports an error and keeps it for the shutdown. False: it is the first session's, and the
    /// caller that starts the server was told.
    fn fail(&self, error: Error) -> bool {
        if let Some(starter) = lock(&self.started.starter).take() {
            // The caller that starts the server waits for this.
            let _ = starter.send(Err(error));
            return false;
        }
        let mut copy = Error::new(error.kind(), error.to_string());
        if let Some(database) = error.as_db_error() {
            copy = copy.with_database(database.clone());
        }
        *lock(&self.started.error) = Some(copy);
        self.shared.listen.report(error);
        true
    }
}

impl Start {
    fn new(starter: mpsc::SyncSender<Result<()>>) -> Self {
        Self { starter: Mutex::new(Some(starter)), error: Mutex::default() }
    }

    /// A session waits for its client.
    fn succeeded(&self) {
        *lock(&self.error) = None;
        if let Some(starter) = lock(&self.starter).take() {
            let _ = starter.send(Ok(()));
        }
    }
}

fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>> {
    let thread = std::thread::Builder::new().name(format!("pglite-oxide-{name}"));
    thread.spawn(work).map_err(|cause| Error::new(ErrorKind::Io, "cannot start a thread").with_cause(cause))
}
