//! For the program `pglite`, not for users of the library: PostgreSQL's client programs on this
//! process's standard streams. Not stable.

use std::io::IsTerminal;
use std::net::ToSocketAddrs;
use std::path::PathBuf;
use std::thread::JoinHandle;

use signal_hook::consts::SIGINT;
use signal_hook::iterator::{Handle, Signals};
use tokio_postgres::config::Host;

use crate::Pglite;
use crate::error::{Error, ErrorKind, Result};
use crate::programs::psql::{self, Psql};
use crate::programs::socket::SocketDialer;
use crate::programs::{Dump, Input, Interrupter, Login, Output, PgDumpOptions};

/// A server, by its connection URI.
#[derive(Debug)]
pub struct Server {
    dialer: SocketDialer,
    user: String,
    database: String,
    password: Option<String>,
}

impl Server {
    /// Parses a connection URI. Of several hosts, the first one counts.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it cannot be parsed, or names no host or user.
    pub fn at(uri: &str) -> Result<Self> {
        let refused = |what: &str| Error::new(ErrorKind::Config, format!("the connection URI {what}"));
        let config: tokio_postgres::Config =
            uri.parse().map_err(|cause: tokio_postgres::Error| refused("cannot be read").with_cause(cause))?;
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let dialer = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => {
                let mut addresses = (name.as_str(), port).to_socket_addrs().map_err(|cause| {
                    Error::new(ErrorKind::Io, format!("cannot find the host {name}")).with_cause(cause)
                })?;
                SocketDialer::Tcp(addresses.next().ok_or_else(|| refused("names a host without an address"))?)
            }
            #[cfg(unix)]
            Some(Host::Unix(directory)) => SocketDialer::Unix(directory.join(format!(".s.PGSQL.{port}"))),
            None => return Err(refused("names no host")),
        };
        let user = config.get_user().ok_or_else(|| refused("names no user"))?.to_string();
        let database = config.get_dbname().unwrap_or(&user).to_string();
        let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        Ok(Self { dialer, user, database, password })
    }

    /// Dumps the server's database.
    ///
    /// # Errors
    /// As [`Pglite::dump_bytes`].
    pub fn dump(&self, options: &PgDumpOptions) -> Result<Vec<u8>> {
        Dump::start(Box::new(self.dialer.clone()), &self.login(), options)?.finish()
    }

    /// Runs `psql` with these arguments and returns its exit code.
    ///
    /// # Errors
    /// As the program's.
    pub fn psql(&self, args: Vec<String>) -> Result<i32> {
        let mut psql = here(args)?;
        psql.env.extend(self.login().environment());
        let running = psql.start(Box::new(self.dialer.clone()))?;
        let _watch = OnSignal::interrupt(running.interrupter())?;
        running.wait()
    }

    fn login(&self) -> Login<'_> {
        Login { user: &self.user, database: &self.database, password: self.password.as_deref() }
    }
}

/// Runs `psql` in the session of a database, with these arguments, and returns its exit code.
///
/// # Errors
/// As the session's or the program's.
pub fn psql(db: &mut Pglite, args: Vec<String>) -> Result<i32> {
    here(args)?.run_in(db, OnSignal::interrupt)
}

/// With this process's streams, environment and working directory.
fn here(args: Vec<String>) -> Result<Psql> {
    let working_directory: Option<PathBuf> = match std::env::current_dir() {
        Ok(directory) => Some(directory),
        // It has been removed. As natively, only relative paths fail.
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => None,
        Err(cause) => return Err(Error::new(ErrorKind::Io, "cannot find the working directory").with_cause(cause)),
    };
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let is_terminal = stdin.is_terminal();
    Ok(Psql {
        args,
        env: psql::environment(),
        working_directory,
        stdin: Input::Reader { reader: Box::new(stdin), is_terminal },
        stdout: Output { is_terminal: stdout.is_terminal(), writer: Box::new(stdout) },
        stderr: Output { is_terminal: stderr.is_terminal(), writer: Box::new(stderr) },
    })
}

/// The signals that this program may catch: those that it did not inherit as ignored. `nohup`
/// ignores SIGHUP, and shells ignore SIGINT for background commands; such signals stay ignored.
///
/// # Errors
/// Those of the system, for a number that is no signal.
pub fn not_ignored(signals: &[i32]) -> std::io::Result<Vec<i32>> {
    let mut caught = Vec::new();
    for signal in signals {
        #[cfg(unix)]
        if is_ignored(*signal)? {
            continue;
        }
        caught.push(*signal);
    }
    Ok(caught)
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> std::io::Result<bool> {
    // SAFETY: a `sigaction` of zeros is a value of its type.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: without a new action, the call only writes the present one to the pointer, which is
    // valid.
    match unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } {
        0 => Ok(action.sa_sigaction == libc::SIG_IGN),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Has Ctrl-C interrupt a client program until this value is dropped.
struct OnSignal {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl OnSignal {
    fn interrupt(interrupter: Interrupter) -> Result<Self> {
        let failed = |cause| Error::new(ErrorKind::Io, "cannot catch signals").with_cause(cause);
        let mut signals = not_ignored(&[SIGINT]).and_then(Signals::new).map_err(failed)?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new().name("pglite-oxide-signals".to_string());
        let thread = thread.spawn(move || signals.forever().for_each(|_| interrupter.interrupt())).map_err(failed)?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for OnSignal {
    fn drop(&mut self) {
        self.handle.close();
        // A panic has been reported by the panic hook.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
