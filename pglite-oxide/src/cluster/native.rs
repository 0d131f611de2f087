//! Data directories that a PostgreSQL server made or used: opening one in place, and copying one.
//! It owns what is rejected before PostgreSQL reads anything; whether the collations of a database
//! are known is PostgreSQL's to say, when a session connects to it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::control_file::Layout;
use super::data_lock::{DataLock, POSTMASTER_PID};
use super::root::{DATA, VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::host::HostFs;
use crate::fs::{self as vfs, CREATE_NEW, FileSystem, ImageFs};

/// Files that a server may keep elsewhere, as Debian's do. PostgreSQL needs them here.
const CONFIGURATION: [&str; 4] = ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];

/// The files that make a server a standby or let it recover to a point in time.
const SIGNALS: [&str; 2] = ["standby.signal", "recovery.signal"];

/// A data directory that is open, without a root around it. Dropping it releases its locks.
#[derive(Debug)]
pub(crate) struct NativeDirectory {
    path: PathBuf,
    _lock: DataLock,
}

impl NativeDirectory {
    /// Opens a data directory in place. Configuration files that it lacks are taken from the
    /// template. With `durable`, everything in it is on disk once this returns: whoever used it
    /// before may have done so without durability, and there is no mark of that as in a root.
    pub(crate) fn open(path: &Path, layout: &Layout, template: &ImageFs, durable: bool) -> Result<Self> {
        let directory = Self::lock(path, layout)?;
        #[cfg(unix)]
        directory.check_owner()?;
        let data = directory.data()?;
        for file in CONFIGURATION {
            add_configuration(&data, template, file)?;
        }
        if durable {
            super::root::sync_tree(&directory.path).map_err(|cause| failed("cannot sync", &directory.path, cause))?;
        }
        Ok(directory)
    }

    /// Locks a data directory and rejects one that this build cannot open. The path may be that of
    /// a root as well.
    pub(crate) fn lock(path: &Path, layout: &Layout) -> Result<Self> {
        let path = if path.join(VERSION).is_file() { path.join(DATA) } else { path.to_path_buf() };
        check(&path, layout)?;
        let lock = DataLock::take(&path)?;
        // Before the lock, a server may have changed what was found.
        check(&path, layout)?;
        Ok(Self { path, _lock: lock })
    }

    /// The directory.
    pub(crate) fn data(&self) -> Result<HostFs> {
        HostFs::open(&self.path).map_err(|cause| failed("cannot open", &self.path, cause))
    }

    /// Copies the directory into an empty one in memory.
    pub(crate) fn copy_to(&self, to: &dyn FileSystem, template: &ImageFs) -> Result<()> {
        super::copy(&self.data()?, to)?;
        CONFIGURATION.iter().try_for_each(|file| add_configuration(to, template, file))
    }

    /// Copies the directory into an empty one of the host. The copy shares its blocks with the
    /// original where the file system can do that.
    pub(crate) fn copy_to_host(&self, to: &Path, template: &ImageFs) -> Result<()> {
        copy_tree(&self.path, to, true)?;
        let data = HostFs::open(to).map_err(|cause| failed("cannot open", to, cause))?;
        CONFIGURATION.iter().try_for_each(|file| add_configuration(&data, template, file))
    }

    /// Copies the directory to a new one, which is durable and complete once it has its name.
    pub(crate) fn export(&self, target: &Path, template: &ImageFs) -> Result<()> {
        if fs::symlink_metadata(target).is_ok() {
            let message = format!("{}: there is something already; name a directory to create", target.display());
            return Err(Error::new(ErrorKind::Config, message));
        }
        let absolute = std::path::absolute(target).map_err(|cause| failed("cannot make", target, cause))?;
        let parent = absolute.parent().unwrap_or(Path::new("/"));
        let new = tempfile::Builder::new().prefix(".pglite-oxide-export-").tempdir_in(parent);
        let new = new.map_err(|cause| failed("cannot make a directory in", parent, cause))?;
        let data = new.path().join(DATA);
        super::root::make_private(&data).map_err(|cause| failed("cannot make", &data, cause))?;
        self.copy_to_host(&data, template)?;
        super::root::sync_tree(&data).map_err(|cause| failed("cannot sync", target, cause))?;
        fs::rename(&data, &absolute).map_err(|cause| failed("cannot make", target, cause))?;
        super::root::sync_directory(parent).map_err(|cause| failed("cannot sync", parent, cause))
    }

    /// A server runs as the owner of its directory and takes other users' processes for strangers,
    /// so its lock would not count if this process belonged to somebody else.
    #[cfg(unix)]
    fn check_owner(&self) -> Result<()> {
        use std::os::unix::fs::MetadataExt;
        let owner = fs::metadata(&self.path).map_err(|cause| failed("cannot open", &self.path, cause))?.uid();
        same_user(&self.path, owner, rustix::process::geteuid().as_raw())
    }
}

#[cfg(unix)]
fn same_user(path: &Path, owner: u32, user: u32) -> Result<()> {
    if owner == user {
        return Ok(());
    }
    let repair =
        "run this program as its owner, or make a database from a copy of it (`Builder::copy_of`, `pglite import`)";
    let message = format!(
        "{}: the directory belongs to the user {owner}, and this program runs as the user {user}; {repair}",
        path.display()
    );
    Err(Error::new(ErrorKind::Incompatible, message))
}

fn check(path: &Path, layout: &Layout) -> Result<()> {
    let refuse = |why: String| Err(Error::new(ErrorKind::Incompatible, format!("{}: {why}", path.display())));
    let data = HostFs::open(path).map_err(|cause| failed("cannot open", path, cause))?;
    let version = path.join("PG_VERSION");
    let major = match fs::read_to_string(&version) {
        Ok(text) => text.trim().to_string(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return refuse("not a data directory of PostgreSQL: it has no file PG_VERSION".to_string());
        }
        Err(cause) => return Err(failed("cannot read", &version, cause)),
    };
    if major != layout.postgresql {
        return refuse(format!(
            "made by PostgreSQL {major}, but this is PostgreSQL {}; dump it with a server of its version (pg_dumpall) \
             and load the dump, or upgrade it with pg_upgrade",
            layout.postgresql
        ));
    }
    let found = Layout::of(&data).map_err(|error| error.with_advice(&format!("(in {})", path.display())))?;
    if found != *layout {
        return refuse(format!(
            "made by {found}, but this is {layout}; dump it with the server that made it, and load the dump"
        ));
    }
    for signal in SIGNALS {
        if path.join(signal).exists() {
            return refuse(format!(
                "it has the file {signal}, so it is a standby or in the middle of a recovery; promote it first \
                 (pg_ctl promote), or remove the file if it is a backup that is not to follow another server"
            ));
        }
    }
    if is_link(&path.join("pg_wal")) {
        return refuse("its pg_wal is a symbolic link; move the WAL into the directory itself first".to_string());
    }
    let tablespaces = path.join("pg_tblspc");
    let entries = fs::read_dir(&tablespaces).map_err(|cause| failed("cannot read", &tablespaces, cause))?;
    if entries.count() > 0 || path.join("tablespace_map").exists() {
        return refuse(
            "it has tablespaces, which are outside of the directory; move their tables and databases to pg_default \
             with the server (ALTER TABLE ALL IN TABLESPACE …, ALTER DATABASE … SET TABLESPACE) and drop them"
                .to_string(),
        );
    }
    Ok(())
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink())
}

/// Makes a configuration file that does not exist.
fn add_configuration(data: &dyn FileSystem, template: &ImageFs, file: &str) -> Result<()> {
    let failed = |errno| Error::new(ErrorKind::Io, format!("cannot make {file}: {errno}"));
    if data.stat(file).is_ok() {
        return Ok(());
    }
    let from = template.open(file, vfs::OpenOptions::default(), 0).map_err(failed)?;
    let to = data.open(file, CREATE_NEW, 0).map_err(failed)?;
    vfs::copy(&*from, &*to, &mut vec![0; 1 << 16]).map_err(failed)
}

/// Copies the files below a directory. What is neither a file nor a directory is no part of a data
/// directory: a socket of a server that has ended, for example.
fn copy_tree(from: &Path, to: &Path, top: bool) -> Result<()> {
    for entry in fs::read_dir(from).map_err(|cause| failed("cannot read", from, cause))? {
        let entry = entry.map_err(|cause| failed("cannot read", from, cause))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(|cause| failed("cannot read", &source, cause))?;
        if kind.is_dir() {
            super::root::make_private(&target).map_err(|cause| failed("cannot make", &target, cause))?;
            copy_tree(&source, &target, false)?;
        } else if kind.is_file() && !(top && entry.file_name() == POSTMASTER_PID) {
            fs::copy(&source, &target).map_err(|cause| failed("cannot copy", &source, cause))?;
            make_file_private(&target).map_err(|cause| failed("cannot copy", &source, cause))?;
        }
    }
    Ok(())
}

fn make_file_private(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let _ = path;
    Ok(())
}

fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{what} {}", path.display())).with_cause(cause)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_another_user_is_refused_with_the_way() {
        let path = Path::new("/data");
        assert!(same_user(path, 1000, 1000).is_ok());
        let error = same_user(path, 1000, 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Incompatible);
        let text = error.to_string();
        assert!(text.contains("/data: the directory belongs to the user 1000") && text.contains("copy_of"), "{text}");
    }
}
