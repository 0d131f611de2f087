//! Who has a data directory open. It owns two locks that are always taken together: PostgreSQL's
//! `postmaster.pid`, which a PostgreSQL server respects and makes, and a lock of the operating
//! system on the directory, which ends with the process and tells whether a `postmaster.pid` of
//! this crate's was left behind.
//!
//! | directory is open in | this crate | a PostgreSQL server |
//! |---|---|---|
//! | this crate | the lock on the directory | `postmaster.pid`: a running process |
//! | a PostgreSQL server | `postmaster.pid`: a running process, or shared memory in use | its own |
//!
//! The rules for a `postmaster.pid` that is found are those of `CreateLockFile` in PostgreSQL's
//! `miscinit.c`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::lock::Locked;
use crate::error::{Error, ErrorKind, Result};

/// PostgreSQL's lock file in a data directory.
pub(crate) const POSTMASTER_PID: &str = "postmaster.pid";

/// The last line of a `postmaster.pid` of this crate's. A server has its status there.
const MARK: &str = "pglite-oxide";

/// How often a file is read again that is empty or was replaced, and the pause before that. A
/// server that starts writes the file at once.
const ATTEMPTS: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);

/// What to do about another database of this crate.
const CLOSE: &str = "close it there first";

/// The right to use a data directory. Dropped, it removes `postmaster.pid`.
#[derive(Debug)]
pub(crate) struct DataLock {
    file: PathBuf,
    #[cfg_attr(not(test), expect(dead_code, reason = "held until it is dropped"))]
    directory: Option<Locked>,
}

/// What a `postmaster.pid` says about its owner.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    /// It says nothing: a server that starts, or what a loss of power left.
    Unknown,
    /// A database of this crate, which does not run any more: the caller has its lock.
    Gone,
    /// A server, whose processes are identified by the number of the first one and its shared
    /// memory.
    Server { pid: i32, shared_memory: Option<i32> },
}

impl DataLock {
    /// Takes the locks of a data directory.
    ///
    /// # Errors
    /// [`ErrorKind::InUse`] with the holder; [`ErrorKind::Io`] if the system refuses something.
    pub(crate) fn take(data: &Path) -> Result<Self> {
        let failed = |cause| Error::new(ErrorKind::Io, format!("cannot lock {}", data.display())).with_cause(cause);
        let file = data.join(POSTMASTER_PID);
        let directory = lock_directory(data).map_err(failed)?;
        let directory = directory.ok_or_else(|| in_use(data, &holder(&file), CLOSE))?;
        for attempt in 0..ATTEMPTS {
            match create(&file, data) {
                Ok(()) => return Ok(Self { file, directory }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
                Err(cause) => return Err(failed(cause)),
            }
            let text = match fs::read(&file) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(cause) => return Err(failed(cause)),
            };
            match owner(&String::from_utf8_lossy(&text)) {
                Owner::Unknown if attempt + 2 < ATTEMPTS => {
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Owner::Server { pid, shared_memory } => check_server(data, pid, shared_memory)?,
                Owner::Unknown | Owner::Gone => (),
            }
            match fs::remove_file(&file) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(failed(cause)),
                _ => (),
            }
        }
        Err(in_use(data, "a server that starts", CLOSE))
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // A file that stays is recognized as left behind.
        let _ = fs::remove_file(&self.file);
    }
}

/// The lock of the operating system: `None` if another one has it, `Some(None)` if this system
/// cannot lock a directory.
fn lock_directory(data: &Path) -> io::Result<Option<Option<Locked>>> {
    if cfg!(windows) {
        return Ok(Some(None));
    }
    Ok(Locked::take(File::open(data)?)?.ok().map(Some))
}

/// Makes the file, or not at all. Its lines are PostgreSQL's (`miscadmin.h`): process, data
/// directory, start, port, socket, address, shared memory, status. A negative number of a process
/// says that it accepts no connections.
fn create(file: &Path, data: &Path) -> io::Result<()> {
    #[cfg(unix)]
    crate::fs::host::limit::check_any()?;
    let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = text(data, start);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut new = options.open(file)?;
    let written = new.write_all(text.as_bytes());
    if written.is_err() {
        let _ = fs::remove_file(file);
    }
    written
}

/// The contents of `postmaster.pid` while this process has the directory open. `start` is in
/// seconds since 1970.
pub(crate) fn text(data: &Path, start: u64) -> String {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
    format!("-{}\n{}\n{start}\n0\n\n\n\n{MARK}\n", std::process::id(), data.display())
}

fn owner(text: &str) -> Owner {
    let mut lines = text.lines();
    // The number of a server without connections is negative.
    let pid = lines.next().and_then(|line| line.trim().parse::<i32>().ok()).map_or(0, i32::saturating_abs);
    if pid == 0 {
        return Owner::Unknown;
    }
    let line = |number: usize| text.lines().nth(number - 1).unwrap_or_default();
    if line(8).trim() == MARK {
        return Owner::Gone;
    }
    let shared_memory = line(7).split_whitespace().nth(1).and_then(|id| id.parse().ok());
    Owner::Server { pid, shared_memory }
}

/// An error if a server still runs.
fn check_server(data: &Path, pid: i32, shared_memory: Option<i32>) -> Result<()> {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        use rustix::process::{Pid, test_kill_process};
        let number = pid.cast_unsigned();
        // A file from before a restart of a container may have the number of this process.
        let own = number == std::process::id() || number == std::os::unix::process::parent_id();
        // A process of another user is not its server: a server runs as the directory's owner.
        if !own
            && let Some(process) = Pid::from_raw(pid)
            && !matches!(test_kill_process(process), Err(Errno::SRCH | Errno::PERM))
        {
            let repair = format!("stop it first (pg_ctl stop -D {})", data.display());
            return Err(in_use(data, &format!("a PostgreSQL server (pid {pid})"), &repair));
        }
        if shared_memory.is_some_and(attached) {
            let whom = format!("processes of a PostgreSQL server that has ended (it had the pid {pid})");
            return Err(in_use(data, &whom, "end them first"));
        }
    }
    let _ = (data, pid, shared_memory);
    Ok(())
}

/// Whether any process uses a System V shared memory segment.
#[cfg(unix)]
fn attached(segment: i32) -> bool {
    // SAFETY: all bytes zero are a valid `shmid_ds`, and the call writes at most one.
    unsafe {
        let mut status: libc::shmid_ds = std::mem::zeroed();
        libc::shmctl(segment, libc::IPC_STAT, &raw mut status) == 0 && status.shm_nattch > 0
    }
}

/// The holder of the lock of the operating system, which is a database of this crate.
fn holder(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    match text.lines().next().and_then(|line| line.trim().parse::<i32>().ok()).map(i32::unsigned_abs) {
        Some(pid) if pid == std::process::id() => format!("this process (pid {pid})"),
        Some(pid) => format!("the process {pid}"),
        None => "another database of this machine".to_string(),
    }
}

fn in_use(data: &Path, whom: &str, repair: &str) -> Error {
    Error::new(ErrorKind::InUse, format!("{} is in use by {whom}; {repair}", data.display()))
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(data: &Path) -> String {
        let error = DataLock::take(data).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        error.to_string()
    }

    #[test]
    fn one_holder_at_a_time_and_nothing_is_left() {
        let data = tempfile::tempdir().unwrap();
        let lock = DataLock::take(data.path()).unwrap();
        assert!(refusal(data.path()).contains("this process"));
        let text = fs::read_to_string(data.path().join(POSTMASTER_PID)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("-{}", std::process::id()));
        assert_eq!((lines[1], lines.len(), lines[7]), (data.path().to_str().unwrap(), 8, MARK));
        drop(lock);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_lock_ends_although_a_copy_of_its_handle_stays() {
        let data = tempfile::tempdir().unwrap();
        let lock = DataLock::take(data.path()).unwrap();
        let copy = lock.directory.as_ref().unwrap().copy();
        drop(lock);
        drop(DataLock::take(data.path()).unwrap());
        drop(copy);
    }

    #[test]
    fn a_file_counts_as_long_as_its_server_runs() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join(POSTMASTER_PID);
        let mut server = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let mut refusals = Vec::new();
        for sign in ["", "-"] {
            fs::write(&file, format!("{sign}{}\n/data\n0\n5432\n\n\n\nready\n", server.id())).unwrap();
            refusals.push((refusal(data.path()), fs::read(&file).is_ok()));
        }
        // One of this crate's, of which the number belongs to another process by now.
        fs::write(&file, text(data.path(), 0).replace(&std::process::id().to_string(), &server.id().to_string()))
            .unwrap();
        let taken = DataLock::take(data.path());
        server.kill().unwrap();
        server.wait().unwrap();
        drop(taken.unwrap());
        for (refusal, kept) in refusals {
            assert!(kept && refusal.contains(&format!("pid {}", server.id())), "{refusal}");
            assert!(refusal.contains("pg_ctl stop"), "{refusal}");
        }
        let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
        for left in [format!("{}\n", server.id()), format!("{own}\n"), format!("{parent}\n"), String::new()] {
            fs::write(&file, &left).unwrap();
            drop(DataLock::take(data.path()).unwrap_or_else(|error| panic!("{left:?}: {error}")));
        }
    }

    #[test]
    fn shared_memory_of_a_server_that_crashed_counts() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join(POSTMASTER_PID);
        // SAFETY: a new segment, mapped where the system chooses, and never accessed.
        let (segment, address) = unsafe {
            let segment = libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600);
            (segment, libc::shmat(segment, std::ptr::null(), 0))
        };
        assert!(segment >= 0 && address as isize != -1);
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        fs::write(&file, format!("{}\n/data\n0\n5432\n\n\n  5432001 {segment:>9}\nready   \n", gone.id())).unwrap();
        let refused = DataLock::take(data.path()).map(drop).map_err(|error| error.to_string());
        // SAFETY: the address of the mapping made above, which nothing refers to.
        unsafe {
            libc::shmdt(address);
        }
        let taken = DataLock::take(data.path()).map(drop);
        // SAFETY: removes the segment made above, which nothing maps any more.
        unsafe {
            libc::shmctl(segment, libc::IPC_RMID, std::ptr::null_mut());
        }
        let refused = refused.unwrap_err();
        assert!(refused.contains("that has ended"), "{refused}");
        taken.unwrap();
    }
}
