//! The lock file beside a Unix socket (`.s.PGSQL.5432.lock`), as PostgreSQL makes it: its holder
//! may remove a socket that a dead server left behind, and listen there. A server of
//! PostgreSQL's own and one of this crate respect each other's. It owns the lock file; the socket
//! belongs to `listen`.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, test_kill_process};

use crate::error::{Error, ErrorKind, Result};

/// How often a lock file is looked at that disappears, or that another server makes at the same
/// time.
const ATTEMPTS: usize = 100;

/// The right to listen at a socket. Dropped, it removes the lock file.
#[derive(Debug)]
pub(super) struct SocketLock {
    path: PathBuf,
}

/// Lock files of this process. The process ID in a file does not tell a server of this process from
/// a dead one that had the same ID, as the first process of a container always has.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

impl SocketLock {
    /// Takes the lock of a socket, whose directory must be an absolute path.
    ///
    /// # Errors
    /// [`ErrorKind::InUse`] if a server that runs has it, or a lock file says nothing about its
    /// owner; [`ErrorKind::Io`] if the system refuses something.
    pub(super) fn acquire(socket: &Path, directory: &Path, port: u16) -> Result<Self> {
        let mut name = socket.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |cause: io::Error| {
            Error::new(ErrorKind::Io, format!("cannot make the lock file {}", path.display())).with_cause(cause)
        };
        let mut held = held();
        if held.contains(&path) {
            return Err(in_use(socket, "another server of this process"));
        }
        for _ in 0..ATTEMPTS {
            match create(&path, directory, port) {
                Ok(()) => {
                    held.insert(path.clone());
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                Err(cause) => return Err(failed(cause)),
            }
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    check_owner(&text, socket, &path)?;
                    // The file of a process with this process's number, or its parent's, may be
                    // that of a server which runs.
                    if UnixStream::connect(socket).is_ok() {
                        return Err(in_use(socket, "a server"));
                    }
                }
                // Its server has just ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(cause) => return Err(failed(cause)),
            }
            match std::fs::remove_file(&path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
                _ => (),
            }
        }
        Err(in_use(socket, "another server that starts"))
    }
}

impl Drop for SocketLock {
    fn drop(&mut self) {
        let mut held = held();
        // Somebody else may have done it.
        let _ = std::fs::remove_file(&self.path);
        held.remove(&self.path);
    }
}

fn held() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the file with its contents, or not at all. The lines are PostgreSQL's: process, data
/// directory (none here), start, port, directory of the socket.
fn create(path: &Path, directory: &Path, port: u16) -> io::Result<()> {
    let start = std::time::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    let mut file = tempfile::Builder::new()
        .prefix(".s.PGSQL.")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)?;
    write!(file, "{}\n\n{start}\n{port}\n{}\n", std::process::id(), directory.display())?;
    file.persist_noclobber(path).map(drop).map_err(|error| error.error)
}

/// An error unless the process that a lock file names is gone.
fn check_owner(text: &str, socket: &Path, path: &Path) -> Result<()> {
    let first = text.lines().next().unwrap_or_default().trim();
    // A negative number is that of a PostgreSQL without a postmaster.
    let pid = first.parse::<i32>().ok().and_then(|pid| Pid::from_raw(pid.saturating_abs()));
    let Some(pid) = pid else {
        let message = format!(
            "the lock file {} names no process: remove it if no server listens at {}",
            path.display(),
            socket.display()
        );
        return Err(Error::new(ErrorKind::InUse, message));
    };
    // Most likely the file is from before a restart of a container, when the numbers were the same.
    // If not, the server answers at its socket.
    let number = pid.as_raw_nonzero().get().cast_unsigned();
    if number == std::process::id() || number == std::os::unix::process::parent_id() {
        return Ok(());
    }
    match test_kill_process(pid) {
        // A process of another user's, which cannot have made the file.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::PERM) => Ok(()),
        _ => Err(in_use(socket, &format!("a server with the process ID {number}"))),
    }
}

fn in_use(socket: &Path, whose: &str) -> Error {
    let message = format!("{}: {whose} listens there; use another directory or port", socket.display());
    Error::new(ErrorKind::InUse, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_counts_as_long_as_its_process_runs() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join(".s.PGSQL.5432");
        let file = directory.path().join(".s.PGSQL.5432.lock");
        let acquire = || SocketLock::acquire(&socket, directory.path(), 5432);
        let lock = acquire().unwrap();
        let lines: Vec<String> = std::fs::read_to_string(&file).unwrap().lines().map(str::to_string).collect();
        assert_eq!((lines.len(), &lines[0], &lines[3]), (5, &std::process::id().to_string(), &"5432".to_string()));
        assert_eq!(acquire().unwrap_err().kind(), ErrorKind::InUse);
        drop(lock);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);

        let mut process = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        std::fs::write(&file, format!("{}\n/data\n", process.id())).unwrap();
        let refused = acquire();
        process.kill().unwrap();
        process.wait().unwrap();
        let refused = refused.unwrap_err();
        assert!(refused.kind() == ErrorKind::InUse && refused.to_string().contains(&process.id().to_string()));
        // It has ended, and so has one from before a restart that had the number of this process.
        for stale in [process.id(), std::process::id(), std::os::unix::process::parent_id()] {
            std::fs::write(&file, format!("{stale}\n/data\n")).unwrap();
            drop(acquire().unwrap());
        }
        for unknown in ["", "\n", "x\n", "0\n"] {
            std::fs::write(&file, unknown).unwrap();
            assert_eq!(acquire().unwrap_err().kind(), ErrorKind::InUse, "{unknown:?}");
        }
    }

    /// A program that starts another one with the same socket, for example: the child's parent is
    /// the process in the lock file.
    #[test]
    fn a_lock_file_of_this_process_or_its_parent_counts_if_a_server_answers() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join(".s.PGSQL.5432");
        let file = directory.path().join(".s.PGSQL.5432.lock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for owner in [std::process::id(), std::os::unix::process::parent_id()] {
            std::fs::write(&file, format!("{owner}\n/data\n")).unwrap();
            let refused = SocketLock::acquire(&socket, directory.path(), 5432).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InUse);
            assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{owner}\n/data\n"));
        }
        drop(listener);
        drop(SocketLock::acquire(&socket, directory.path(), 5432).unwrap());
    }
}
