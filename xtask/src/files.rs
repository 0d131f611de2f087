//! Files and directories with errors that name them. It owns no path and no format.

use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::{NamedTempFile, TempDir};

use crate::error::{Error, Result};

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::io("read", path, e))
}

/// The text of a file.
pub(crate) fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|e| Error::io("read", path, e))
}

/// Writes a file in its place. A reader may see a part of it: see [`replace`].
pub(crate) fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).map_err(|e| Error::io("write", path, e))
}

/// Replaces a file that everybody may read: a reader sees the old bytes or the new ones, also after
/// a loss of power.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = NamedTempFile::new_in(directory).map_err(|e| Error::io("create a file in", directory, e))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().set_permissions(Permissions::from_mode(0o644)))
        .and_then(|()| file.as_file().sync_all())
        .map_err(|e| Error::io("write", path, e))?;
    file.persist(path).map_err(|e| Error::io("replace", path, e.error))?;
    Ok(())
}

/// Makes a directory and those above it, if they are not there.
pub(crate) fn make_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|e| Error::io("make the directory", path, e))
}

/// Removes a directory with all below it, if it is there.
pub(crate) fn remove_directory(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// A new directory that goes when it is dropped. A run that is killed leaves it: its prefix tells
/// what it was for.
pub(crate) fn scratch(prefix: &str, parent: &Path) -> Result<TempDir> {
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
    made.map_err(|e| Error::io("make a directory in", parent, e))
}

/// A file that this process has locked. Dropping it unlocks it: to close it would not be enough,
/// because a process that another thread is just starting may have a copy of the handle.
#[derive(Debug)]
pub(crate) struct Locked(pub(crate) File);

impl Locked {
    /// Locks an open file, or returns it if it is locked already.
    pub(crate) fn take(file: File) -> io::Result<std::result::Result<Self, File>> {
        match file.try_lock() {
            Ok(()) => Ok(Ok(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(Err(file)),
            Err(TryLockError::Error(cause)) => Err(cause),
        }
    }

    /// Locks an open file as soon as it is free.
    pub(crate) fn wait(file: File) -> io::Result<Self> {
        file.lock()?;
        Ok(Self(file))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_readable_and_leaves_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        for bytes in ["long enough", "short"] {
            replace(&path, bytes.as_bytes()).unwrap();
            assert_eq!(text(&path).unwrap(), bytes);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        fs::create_dir(directory.path().join("b")).unwrap();
        assert!(replace(&directory.path().join("b"), b"").unwrap_err().to_string().starts_with("cannot replace "));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn errors_name_the_path_and_an_absent_directory_is_removed() {
        let directory = scratch("files.", &std::env::temp_dir()).unwrap();
        assert!(directory.path().file_name().unwrap().to_str().unwrap().starts_with("files."));
        let absent = directory.path().join("absent");
        for error in [read(&absent).err(), text(&absent).err(), write(&absent.join("x"), "").err()] {
            assert!(error.unwrap().to_string().contains("/absent"));
        }
        remove_directory(&absent).unwrap();
        make_directory(&absent.join("x")).unwrap();
        remove_directory(&absent).unwrap();
        assert!(!absent.exists());
    }
}
