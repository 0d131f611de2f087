//! A root: the directory of a persistent database. It owns the layout, atomic creation, the lock,
//! and rejecting directories that this crate cannot open; the files below `pgdata` are
//! PostgreSQL's.
//!
//! ```text
//! ROOT/pglite-oxide.json   what it is: see `Version`
//! ROOT/lock                who has it open
//! ROOT/pgdata/             PostgreSQL's data directory
//! ROOT/unsynced            is there from an open without durability to the next one with it
//! ```
//!
//! A root depends on nothing outside of itself. It is created under another name, `.ROOT.new-…`
//! beside its place, and renamed when it is complete, so a directory with the name of a root is
//! always complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::control_file::Layout;
use super::data_lock::DataLock;
use super::lock::Lock;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::host::HostFs;

/// Version of the layout of a root. Other versions are rejected. Version 1 had the data of a 32-bit
/// PostgreSQL; version 2 has that of a 64-bit one.
const FORMAT: u32 = 2;

/// The file that identifies a root. Archives begin with it.
pub(crate) const VERSION: &str = "pglite-oxide.json";

/// PostgreSQL's data directory in a root.
pub(crate) const DATA: &str = "pgdata";

/// Marks a root whose files may not be on disk: it was opened without durability, and PostgreSQL
/// syncs no file then. After a clean end PostgreSQL does not sync them later either, so the next
/// open with durability syncs the whole root.
const UNSYNCED: &str = "unsynced";

/// What some file systems have at their top.
const LOST_AND_FOUND: &str = "lost+found";

/// Maximum size of a version file, in bytes.
pub(crate) const VERSION_MAX: usize = 64 * 1024;

/// An open root. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Root {
    directory: PathBuf,
    // In the order in which they are released.
    _data_lock: DataLock,
    _lock: Lock,
}

/// Identification of a root or an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    /// [`FORMAT`].
    format: u32,
    layout: Layout,
}

/// The part of a version file that every format has.
#[derive(Deserialize)]
struct AnyVersion {
    format: u32,
}

/// The object at a path.
enum Found {
    Nothing,
    Root,
}

impl Root {
    /// Opens the root at a path, or creates it with a data directory that `fill` fills. `layout` is
    /// the layout that this build can open. A `durable` root survives a loss of power once this
    /// returns.
    pub(crate) fn open(
        path: &Path,
        layout: &Layout,
        durable: bool,
        mut fill: impl FnMut(&Path, &HostFs) -> Result<()>,
    ) -> Result<Self> {
        let path = &follow(path)?;
        loop {
            match find(path)? {
                Found::Root => return Self::open_existing(path, layout, durable),
                Found::Nothing => {
                    if let Some(root) = Self::create(path, layout, durable, &mut fill)? {
                        return Ok(root);
                    }
                    // Another process was faster. Its root is complete, so the next iteration opens
                    // it or reports the holder.
                }
            }
        }
    }

    /// Creates a root as [`Self::open`] does.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there is one at the path.
    pub(crate) fn create_new(
        path: &Path,
        layout: &Layout,
        durable: bool,
        mut fill: impl FnMut(&Path, &HostFs) -> Result<()>,
    ) -> Result<Self> {
        let path = &follow(path)?;
        if matches!(find(path)?, Found::Nothing)
            && let Some(root) = Self::create(path, layout, durable, &mut fill)?
        {
            return Ok(root);
        }
        let message = format!("{}: there is a database already; an archive or a copy makes a new one", path.display());
        Err(Error::new(ErrorKind::Config, message))
    }

    /// The data directory.
    pub(crate) fn data(&self) -> Result<HostFs> {
        let data = self.directory.join(DATA);
        HostFs::open(&data).map_err(|cause| failed("cannot open", &data, cause))
    }

    fn open_existing(path: &Path, layout: &Layout, durable: bool) -> Result<Self> {
        let version = path.join(VERSION);
        let bytes = fs::read(&version).map_err(|cause| failed("cannot read", &version, cause))?;
        Version::check(&bytes, &version.display().to_string(), layout)?;
        let lock = Lock::take(path)?;
        let data_lock = DataLock::take(&path.join(DATA))?;
        let unsynced = path.join(UNSYNCED);
        if !durable {
            fs::write(&unsynced, "").map_err(|cause| failed("cannot make", &unsynced, cause))?;
        } else if unsynced.try_exists().map_err(|cause| failed("cannot find", &unsynced, cause))? {
            sync_tree(path).map_err(|cause| failed("cannot sync", path, cause))?;
            fs::remove_file(&unsynced).map_err(|cause| failed("cannot remove", &unsynced, cause))?;
        }
        Ok(Self { directory: path.to_path_buf(), _data_lock: data_lock, _lock: lock })
    }

    /// Creates a root, or returns `None` if another one was created meanwhile.
    fn create(
        path: &Path,
        layout: &Layout,
        durable: bool,
        fill: &mut impl FnMut(&Path, &HostFs) -> Result<()>,
    ) -> Result<Option<Self>> {
        let (parent, name) = split(path)?;
        check_place(path, &parent)?;
        fs::create_dir_all(&parent).map_err(|cause| failed("cannot make", &parent, cause))?;
        let prefix = format!(".{name}.new-");
        remove_leftovers(&parent, &prefix);
        let (mut new, lock) = New::make(path, &parent, &prefix)?;

        let data = new.0.join(DATA);
        make_private(&data).map_err(|cause| failed("cannot make", &data, cause))?;
        fill(&data, &HostFs::open(&data).map_err(|cause| failed("cannot open", &data, cause))?)?;
        let version = new.0.join(VERSION);
        fs::write(&version, Version::new(layout.clone()).to_json()?)
            .map_err(|cause| failed("cannot write", &version, cause))?;
        if durable {
            sync_tree(&new.0).map_err(|cause| failed("cannot sync", &new.0, cause))?;
        } else {
            let unsynced = new.0.join(UNSYNCED);
            fs::write(&unsynced, "").map_err(|cause| failed("cannot make", &unsynced, cause))?;
        }
        // Windows renames no directory in which a file is open, and none onto another one.
        #[cfg(windows)]
        let lock = {
            drop(lock);
            let _ = fs::remove_dir(path);
            None
        };
        #[cfg(not(windows))]
        let lock = Some(lock);
        match fs::rename(&new.0, path) {
            Ok(()) => new.0 = PathBuf::new(),
            Err(_) if matches!(find(path), Ok(Found::Root)) => return Ok(None),
            Err(cause) if cause.kind() == io::ErrorKind::ResourceBusy => return Err(mount_point(path)),
            Err(cause) => return Err(failed("cannot make", path, cause)),
        }
        if durable {
            sync_directory(&parent).map_err(|cause| failed("cannot sync", &parent, cause))?;
        }
        let lock = lock.map_or_else(|| Lock::take(path), Ok)?;
        let data_lock = DataLock::take(&path.join(DATA))?;
        Ok(Some(Self { directory: path.to_path_buf(), _data_lock: data_lock, _lock: lock }))
    }
}

impl Version {
    /// The version that this crate writes.
    pub(crate) fn new(layout: Layout) -> Self {
        Self { format: FORMAT, layout }
    }

    /// As it is written.
    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let json = serde_json::to_vec_pretty(self);
        json.map_err(|cause| Error::new(ErrorKind::Io, format!("cannot write {VERSION}")).with_cause(cause))
    }

    /// Rejects every version that this build cannot open, naming both.
    pub(crate) fn check(bytes: &[u8], origin: &str, layout: &Layout) -> Result<()> {
        let refused = |why: String| Error::new(ErrorKind::Incompatible, format!("{origin}: {why}"));
        let unreadable = |cause| refused("not a version file of this crate".to_string()).with_cause(cause);
        if bytes.len() > VERSION_MAX {
            return Err(refused("not a version file of this crate: it is too long".to_string()));
        }
        let AnyVersion { format } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if format < FORMAT {
            let repair =
                "dump it (`pglite dump`) with the version of pglite-oxide that made it, and load the dump here";
            return Err(refused(format!("format {format}, but this version opens format {FORMAT}; {repair}")));
        }
        if format > FORMAT {
            let repair = "use the version of pglite-oxide that made it, or a later one";
            return Err(refused(format!("format {format}, but this version opens format {FORMAT}; {repair}")));
        }
        let found: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        if found.layout == *layout {
            return Ok(());
        }
        let repair = "dump it with the version that made it and load the dump here";
        Err(refused(format!("made by {}, but this is {layout}; {repair}", found.layout)))
    }
}

/// An incomplete root. Dropping it removes it.
struct New(PathBuf);

impl New {
    /// Makes an empty directory with its lock held.
    fn make(place: &Path, parent: &Path, prefix: &str) -> Result<(Self, Lock)> {
        loop {
            let mut random = [0; 8];
            getrandom::fill(&mut random)
                .map_err(|cause| Error::new(ErrorKind::Io, "the system has no random numbers").with_cause(cause))?;
            let path = parent.join(format!("{prefix}{}-{:016x}", std::process::id(), u64::from_le_bytes(random)));
            make_private(&path).map_err(|cause| {
                let message = format!(
                    "cannot make {}: a database is made beside its place and renamed, so {} must be writable",
                    place.display(),
                    parent.display()
                );
                Error::new(ErrorKind::Io, message).with_cause(cause)
            })?;
            let new = Self(path);
            // Between the two steps another process may have removed it as a leftover.
            match Lock::take(&new.0) {
                Ok(lock) if lock.is_of(&new.0) => return Ok((new, lock)),
                Err(error) if new.0.exists() && error.kind() != ErrorKind::InUse => return Err(error),
                _ => (),
            }
        }
    }
}

impl Drop for New {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            remove_unfinished(&self.0);
        }
    }
}

fn find(path: &Path) -> Result<Found> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Incompatible, format!("{}: {why}", path.display())));
    let mut entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => return refuse("not a directory"),
        Err(cause) => return Err(failed("cannot open", path, cause)),
    };
    if path.join(VERSION).is_file() {
        return Ok(Found::Root);
    }
    match entries.next() {
        None => Ok(Found::Nothing),
        Some(Ok(entry)) if entry.file_name() == LOST_AND_FOUND && entries.next().is_none() => {
            let below = path.join("database");
            refuse(&format!(
                "this is the top of a file system (all it has is {LOST_AND_FOUND}), which a database cannot replace; \
                 choose a directory below it, such as {}",
                below.display()
            ))
        }
        Some(_) if path.join("PG_VERSION").is_file() => refuse(
            "this is the data directory of a PostgreSQL server; name it as such to work on it \
             (`Builder::data_directory`, --data-directory), or make a database from it (`Builder::copy_of`, `pglite \
             import`)",
        ),
        Some(_) => {
            refuse("not empty and not a database of this crate; nothing in it was touched. Choose another directory")
        }
    }
}

/// Where a path leads if its last name is a symbolic link, whether or not there is anything there:
/// the database is made behind the link, which stays what it is.
fn follow(path: &Path) -> Result<PathBuf> {
    /// As many as Linux follows.
    const LINKS_MAX: usize = 40;
    let mut place = std::path::absolute(path).map_err(|cause| failed("cannot open", path, cause))?;
    for _ in 0..LINKS_MAX {
        match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_symlink() => {
                let target = fs::read_link(&place).map_err(|cause| failed("cannot read the link", &place, cause))?;
                place = place.parent().unwrap_or(Path::new("/")).join(target);
            }
            // Opening the directory reports why it cannot be read.
            _ => return Ok(place),
        }
    }
    let message = format!("{}: too many symbolic links; give the directory itself", path.display());
    Err(Error::new(ErrorKind::Incompatible, message))
}

/// Refuses a place that no directory can be renamed to.
fn check_place(path: &Path, parent: &Path) -> Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let device = |path| fs::metadata(path).map(|metadata| metadata.dev());
        if let (Ok(here), Ok(above)) = (device(path), device(parent))
            && here != above
        {
            return Err(mount_point(path));
        }
    }
    let _ = (path, parent);
    Ok(())
}

fn mount_point(path: &Path) -> Error {
    let message = format!(
        "{}: this is a mount point, which a database cannot replace; choose a directory below it, such as {}",
        path.display(),
        path.join("database").display()
    );
    Error::new(ErrorKind::Incompatible, message)
}

/// Parent and name of a root.
fn split(path: &Path) -> Result<(PathBuf, String)> {
    let absolute = std::path::absolute(path).map_err(|cause| failed("cannot make", path, cause))?;
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_path_buf(), name.to_string_lossy().into_owned())),
        _ => Err(Error::new(ErrorKind::Incompatible, format!("{}: cannot be a database", path.display()))),
    }
}

/// Removes what killed creators left behind.
fn remove_leftovers(parent: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(prefix) {
            continue;
        }
        let path = entry.path();
        if path.join(super::lock::LOCK).exists() {
            // Held during the removal, so that its creator cannot continue.
            if Lock::is_free(&path)
                && let Ok(lock) = Lock::take(&path)
            {
                remove_unfinished(&path);
                drop(lock);
            }
        } else {
            // Its creator did not get further than this: it is removed only if it is empty.
            let _ = fs::remove_dir(&path);
        }
    }
}

/// Removes an incomplete root. The lock file is removed last: if this process is killed here, the
/// next one still recognizes the rest as a leftover.
fn remove_unfinished(path: &Path) {
    let _ = fs::remove_dir_all(path.join(DATA));
    let _ = fs::remove_file(path.join(VERSION));
    let _ = fs::remove_dir_all(path);
}

pub(super) fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Makes everything below a directory durable.
pub(super) fn sync_tree(directory: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        // One call for all files: a thousand single syncs wait for the disk a thousand times.
        rustix::fs::syncfs(fs::File::open(directory)?)?;
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                sync_tree(&entry.path())?;
            } else {
                fs::OpenOptions::new().write(true).open(entry.path())?.sync_all()?;
            }
        }
        sync_directory(directory)
    }
}

pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(windows) { Ok(()) } else { fs::File::open(directory)?.sync_all() }
}

fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{what} {}", path.display())).with_cause(cause)
}

#[cfg(test)]
mod tests;
