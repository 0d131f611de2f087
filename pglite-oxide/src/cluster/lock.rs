//! The lock of a root: an advisory lock of the operating system on a file that names the holder. It
//! owns that file, and how such a lock is taken and released. The lock ends with the process; the
//! text in the file is for messages only.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Name of the lock file in a root.
pub(crate) const LOCK: &str = "lock";

/// A held lock. Dropping it releases it.
#[derive(Debug)]
pub(crate) struct Lock(Locked);

/// A file or directory that is locked by the operating system until this is dropped.
///
/// To close it would not be enough: the lock belongs to all copies of the handle, and a process
/// that another thread is just starting has one until it executes its program.
#[derive(Debug)]
pub(super) struct Locked(File);

impl Locked {
    /// Locks an open file, or returns it if it is locked already, also by this process.
    pub(super) fn take(file: File) -> io::Result<std::result::Result<Self, File>> {
        match file.try_lock() {
            Ok(()) => Ok(Ok(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(Err(file)),
            Err(TryLockError::Error(cause)) => Err(cause),
        }
    }
}

#[cfg(test)]
impl Locked {
    /// The copy of the handle that a process gets that is started now.
    pub(super) fn copy(&self) -> File {
        self.0.try_clone().unwrap()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The holder of a lock.
#[derive(Debug, Serialize, Deserialize)]
struct Holder {
    pid: u32,
    program: String,
    /// Seconds since 1970.
    since: u64,
}

impl Lock {
    /// Acquires the lock of a root, or fails with its holder.
    pub(crate) fn take(root: &Path) -> Result<Self> {
        let path = root.join(LOCK);
        let failed = |cause| Error::new(ErrorKind::Io, format!("cannot lock {}", path.display())).with_cause(cause);
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut lock = match Locked::take(file).map_err(failed)? {
            Ok(locked) => Self(locked),
            Err(mut file) => return Err(in_use(root, &mut file)),
        };
        lock.write().map_err(failed)?;
        Ok(lock)
    }

    /// Whether the lock of a directory is free: the file does not exist, or could be locked.
    pub(crate) fn is_free(directory: &Path) -> bool {
        match File::open(directory.join(LOCK)) {
            Ok(file) => matches!(Locked::take(file), Ok(Ok(_))),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Whether this is still the lock of a directory: it could have been removed before it was
    /// locked.
    pub(crate) fn is_of(&self, root: &Path) -> bool {
        let still = std::fs::metadata(root.join(LOCK));
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let id = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
            matches!((still.map(id), self.0.0.metadata().map(id)), (Ok(there), Ok(here)) if there == here)
        }
        #[cfg(not(unix))]
        still.is_ok()
    }

    fn write(&mut self) -> io::Result<()> {
        let program = std::env::current_exe().unwrap_or_default().display().to_string();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let holder = serde_json::to_vec(&Holder { pid: std::process::id(), program, since })?;
        #[cfg(unix)]
        crate::fs::host::limit::check_any()?;
        let Self(Locked(file)) = self;
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&holder)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A name left in the file would be out of date.
        let _ = self.0.0.set_len(0);
    }
}

fn in_use(root: &Path, file: &mut File) -> Error {
    let mut text = String::new();
    // Some systems do not allow reading a locked file, and the holder may be writing.
    let _ = file.read_to_string(&mut text);
    let holder = match serde_json::from_str::<Holder>(&text) {
        Ok(Holder { pid, program, .. }) if pid == std::process::id() => {
            format!("by this process ({program}, pid {pid})")
        }
        Ok(Holder { pid, program, since }) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            format!("by {program} (pid {pid}, for {})", span(now.saturating_sub(since)))
        }
        Err(_) => "by another database of this machine".to_string(),
    };
    Error::new(ErrorKind::InUse, format!("{} is in use {holder}; close it there first", root.display()))
}

/// A number of seconds in the two largest units that it has.
fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let first = units.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(3);
    let mut rest = seconds;
    let parts: Vec<String> = units[first..]
        .iter()
        .take(2)
        .map(|(unit, name)| {
            let count = rest / unit;
            rest %= unit;
            format!("{count} {name}")
        })
        .collect();
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_units_that_people_use() {
        let spans = [0, 59, 60, 3_725, 90_000, 864_000].map(span);
        assert_eq!(spans, ["0 s", "59 s", "1 min 0 s", "1 h 2 min", "1 d 1 h", "10 d 0 h"]);
    }

    /// A process that another thread starts has copies of all handles until it executes its
    /// program.
    #[test]
    fn a_lock_ends_although_a_copy_of_its_handle_stays() {
        let root = tempfile::tempdir().unwrap();
        let lock = Lock::take(root.path()).unwrap();
        let copy = lock.0.copy();
        drop(lock);
        assert!(Lock::is_free(root.path()));
        drop(Lock::take(root.path()).unwrap());
        drop(copy);
    }

    #[test]
    fn one_holder_at_a_time_and_by_name() {
        let root = tempfile::tempdir().unwrap();
        let lock = Lock::take(root.path()).unwrap();
        assert!(lock.is_of(root.path()) && !Lock::is_free(root.path()));
        let error = Lock::take(root.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(lock);
        assert!(Lock::is_free(root.path()));
        // The text that a dead holder left in the file does no harm.
        std::fs::write(root.path().join(LOCK), r#"{"pid":1,"program":"gone","since":0}"#).unwrap();
        let lock = Lock::take(root.path()).unwrap();
        std::fs::remove_file(root.path().join(LOCK)).unwrap();
        assert!(!lock.is_of(root.path()));
    }
}
