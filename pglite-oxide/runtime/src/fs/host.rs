//! A directory of the host as a file system: positional reads and writes without a lock, and real
//! syncing. It owns confinement: no path leaves the directory, regardless of `..`, links or
//! absolute paths.

use std::fs::File;
use std::io;
#[cfg(unix)]
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cap_fs_ext::{FollowSymlinks, MetadataExt, OpenOptionsFollowExt, OpenOptionsMaybeDirExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirBuilder, FileType, Metadata, OpenOptions as HostOptions};

use super::errno::{Errno, Result};
use super::{Entry, FileSystem, Handle, Kind, OpenOptions, RawSlice, RawSliceMut, Stat};

/// A directory of the host.
#[derive(Debug)]
pub struct HostFs {
    root: Dir,
}

/// An open file or directory. Reads and writes have explicit offsets, so only the file is shared.
#[derive(Debug)]
pub struct HostHandle {
    file: File,
    kind: Kind,
}

impl HostFs {
    /// Opens a directory, with the rights of this process.
    pub fn open(directory: &Path) -> io::Result<Self> {
        Dir::open_ambient_dir(directory, ambient_authority()).map(|root| Self { root })
    }
}

impl HostHandle {
    /// A file or directory that is open already.
    pub fn new(file: File) -> Result<Self> {
        let kind = kind(Metadata::from_file(&file)?.file_type());
        Ok(Self { file, kind })
    }
}

impl FileSystem for HostFs {
    fn open(&self, path: &str, options: OpenOptions, _now_ns: u64) -> Result<Arc<dyn Handle>> {
        let mut host = HostOptions::new();
        host.read(true).follow(FollowSymlinks::No).maybe_dir(true);
        if !options.directory {
            let change = options.write || options.truncate;
            host.write(change).truncate(options.truncate);
            match options {
                // The kernel makes files only for those who may write them; the guest's libc asks
                // for both.
                OpenOptions { create: true, exclusive: true, .. } => host.write(true).create_new(true),
                OpenOptions { create: true, .. } => host.write(true).create(true),
                _ => &mut host,
            };
        }
        private(&mut host);
        let file = retry(|| self.root.open_with(here(path), &host))?.into_std();
        let handle = HostHandle::new(file)?;
        match (handle.kind, options.directory) {
            (Kind::Link | Kind::Other, _) => Err(Errno::ACCES),
            (Kind::File, true) => Err(Errno::NOTDIR),
            _ => Ok(Arc::new(handle)),
        }
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        Ok(stat(&retry(|| self.root.symlink_metadata(here(path)))?))
    }

    fn create_directory(&self, path: &str, _now_ns: u64) -> Result<()> {
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        cap_std::fs::DirBuilderExt::mode(&mut builder, 0o700);
        Ok(retry(|| self.root.create_dir_with(path, &builder))?)
    }

    fn remove_directory(&self, path: &str, _now_ns: u64) -> Result<()> {
        Ok(retry(|| self.root.remove_dir(path))?)
    }

    fn remove_file(&self, path: &str, _now_ns: u64) -> Result<()> {
        Ok(retry(|| self.root.remove_file(path))?)
    }

    fn rename(&self, from: &str, to: &str, _now_ns: u64) -> Result<()> {
        Ok(retry(|| self.root.rename(from, &self.root, to))?)
    }

    fn hard_link(&self, from: &str, to: &str, _now_ns: u64) -> Result<()> {
        Ok(retry(|| self.root.hard_link(from, &self.root, to))?)
    }
}

impl Handle for HostHandle {
    #[cfg(unix)]
    fn read_into(&self, offset: u64, mut buf: RawSliceMut<'_>) -> Result<usize> {
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::INVAL)?;
        let (fd, len) = (self.file.as_raw_fd(), buf.len());
        // SAFETY: the kernel writes at most `len` bytes at an address that is that long, and the
        // file is open.
        Ok(retry(|| transferred(unsafe { libc::pread(fd, buf.as_mut_ptr().cast(), len, offset) }))?)
    }

    #[cfg(unix)]
    fn write_from(&self, offset: u64, data: RawSlice<'_>, _now_ns: u64) -> Result<usize> {
        limit::check_write(offset)?;
        let offset = libc::off_t::try_from(offset).map_err(|_| Errno::FBIG)?;
        let fd = self.file.as_raw_fd();
        // SAFETY: the kernel reads at most `len` bytes at an address that is that long, and the
        // file is open.
        Ok(retry(|| transferred(unsafe { libc::pwrite(fd, data.as_ptr().cast(), data.len(), offset) }))?)
    }

    #[cfg(windows)]
    fn read_into(&self, offset: u64, mut buf: RawSliceMut<'_>) -> Result<usize> {
        let mut bytes = vec![0; buf.len()];
        let count = retry(|| std::os::windows::fs::FileExt::seek_read(&self.file, &mut bytes, offset))?;
        buf.part(0, count).copy_from(&bytes[..count]);
        Ok(count)
    }

    #[cfg(windows)]
    fn write_from(&self, offset: u64, data: RawSlice<'_>, _now_ns: u64) -> Result<usize> {
        let bytes = data.to_vec();
        Ok(retry(|| std::os::windows::fs::FileExt::seek_write(&self.file, &bytes, offset))?)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(stat(&retry(|| Metadata::from_file(&self.file))?))
    }

    fn set_len(&self, len: u64, _now_ns: u64) -> Result<()> {
        #[cfg(unix)]
        limit::check_len(&self.file, len)?;
        Ok(retry(|| self.file.set_len(len))?)
    }

    /// Where the system cannot reserve space, PostgreSQL writes zeros instead.
    fn allocate(&self, offset: u64, len: u64, _now_ns: u64) -> Result<()> {
        #[cfg(target_os = "linux")]
        {
            limit::check_len(&self.file, offset.saturating_add(len))?;
            let flags = rustix::fs::FallocateFlags::empty();
            Ok(retry(|| Ok(rustix::fs::fallocate(&self.file, flags, offset, len)?))?)
        }
        #[cfg(not(target_os = "linux"))]
        {
            let _ = (offset, len);
            Err(Errno::NOTSUP)
        }
    }

    fn set_modified(&self, modified_ns: u64) -> Result<()> {
        Ok(retry(|| self.file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(modified_ns)))?)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        if cfg!(windows) && self.kind == Kind::Directory {
            // Names are in the journal of the file system there; a directory cannot be flushed.
            return Ok(());
        }
        Ok(retry(|| if data_only { self.file.sync_data() } else { self.file.sync_all() })?)
    }

    fn list(&self) -> Result<Vec<Entry>> {
        if self.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        let directory = Dir::from_std_file(self.file.try_clone()?);
        let mut entries = Vec::new();
        for entry in retry(|| directory.entries())? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into();
            #[cfg(unix)]
            let ino = std::os::unix::fs::DirEntryExt::ino(&entry);
            #[cfg(windows)]
            let ino = entry.metadata().map_or(1, |metadata| metadata.ino());
            entries.push(Entry { name, ino, kind: kind(entry.file_type()?) });
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

/// Result of a system call that returns a count.
#[cfg(unix)]
fn transferred(count: isize) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// The largest size of a file that the process may make (RLIMIT_FSIZE). Linux and the BSDs send
/// SIGXFSZ to a process that exceeds it, which ends it; a library does not change the program's
/// signal handlers, so it checks the limit first. The answer is "no space left": to PostgreSQL that
/// is SQLSTATE 53100, for which it undoes the statement and goes on.
#[cfg(unix)]
pub mod limit {
    use std::fs::File;

    use super::super::errno::{Errno, Result};

    fn largest() -> u64 {
        rustix::process::getrlimit(rustix::process::Resource::Fsize).current.unwrap_or(u64::MAX)
    }

    /// Refuses to make a small file where not even that may be made.
    pub fn check_any() -> std::io::Result<()> {
        check_write(0).map_err(|_| std::io::ErrorKind::StorageFull.into())
    }

    /// Refuses a write that begins at the limit or beyond it. One that begins before it stops
    /// there.
    pub(super) fn check_write(offset: u64) -> Result<()> {
        if offset < largest() { Ok(()) } else { Err(Errno::NOSPC) }
    }

    /// Refuses to extend a file beyond the limit.
    pub(super) fn check_len(file: &File, len: u64) -> Result<()> {
        if len > largest() && len > file.metadata()?.len() { Err(Errno::NOSPC) } else { Ok(()) }
    }
}

/// Only the owner can access files, as with PostgreSQL.
fn private(options: &mut HostOptions) {
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

/// The host needs a name for the root.
fn here(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
}

/// A signal that interrupts a call concerns the program, not the guest.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            result => return result,
        }
    }
}

fn kind(file_type: FileType) -> Kind {
    match file_type {
        file_type if file_type.is_dir() => Kind::Directory,
        file_type if file_type.is_file() => Kind::File,
        file_type if file_type.is_symlink() => Kind::Link,
        _ => Kind::Other,
    }
}

/// What the machine knows of a path's file, links followed, in the guest's terms.
pub fn stat_path(path: &Path) -> Result<Stat> {
    Ok(stat(&Metadata::from_just_metadata(std::fs::metadata(path)?)))
}

/// What the machine knows of an open file, in the guest's terms.
pub fn stat_file(file: &std::fs::File) -> Result<Stat> {
    Ok(stat(&Metadata::from_file(file)?))
}

/// Converts the host's metadata.
fn stat(metadata: &Metadata) -> Stat {
    let modified =
        metadata.modified().ok().and_then(|time| time.into_std().duration_since(SystemTime::UNIX_EPOCH).ok());
    Stat {
        ino: metadata.ino(),
        kind: kind(metadata.file_type()),
        len: if metadata.is_file() { metadata.len() } else { 0 },
        links: u32::try_from(metadata.nlink()).unwrap_or(u32::MAX),
        modified_ns: modified.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_support::{CREATE, behaves_as_posix_says, paths, read, write};
    use super::*;

    fn fs() -> (tempfile::TempDir, HostFs) {
        let directory = tempfile::tempdir().unwrap();
        let fs = HostFs::open(directory.path()).unwrap();
        (directory, fs)
    }

    #[test]
    fn a_directory_of_the_machine() {
        let (directory, fs) = fs();
        behaves_as_posix_says(&fs);
        fs.create_directory("d", 0).unwrap();
        write(&fs, "d/f", b"hello");
        assert_eq!(std::fs::read(directory.path().join("d/f")).unwrap(), b"hello");
        std::fs::write(directory.path().join("d/g"), "more").unwrap();
        assert_eq!((paths(&fs), read(&fs, "d/g")), (["d", "d/f", "d/g"].map(String::from).to_vec(), b"more".to_vec()));
    }

    #[test]
    fn files_and_directories_can_be_synced() {
        let (_directory, fs) = fs();
        fs.create_directory("d", 0).unwrap();
        let file = fs.open("d/f", CREATE, 0).unwrap();
        file.write_at(0, b"x", 0).unwrap();
        let as_directory = OpenOptions { directory: true, ..OpenOptions::default() };
        for handle in [file, fs.open("d", as_directory, 0).unwrap(), fs.open("", OpenOptions::default(), 0).unwrap()] {
            assert_eq!((handle.sync(true), handle.sync(false)), (Ok(()), Ok(())));
        }
    }

    #[test]
    fn space_is_really_set_aside() {
        let (directory, fs) = fs();
        let file = fs.open("f", CREATE, 0).unwrap();
        match file.allocate(0, 1 << 20, 0) {
            Ok(()) => assert_eq!(std::fs::metadata(directory.path().join("f")).unwrap().len(), 1 << 20),
            Err(errno) => assert_eq!(errno, Errno::NOTSUP),
        }
    }

    #[cfg(unix)]
    #[test]
    fn no_path_leads_out() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "secret").unwrap();
        let (directory, fs) = fs();
        symlink(outside.path().join("secret"), directory.path().join("file")).unwrap();
        symlink(outside.path(), directory.path().join("out")).unwrap();
        symlink("..", directory.path().join("up")).unwrap();
        write(&fs, "inside", b"x");
        symlink("inside", directory.path().join("link")).unwrap();

        let absolute = outside.path().join("secret").to_str().unwrap().to_string();
        let name = outside.path().file_name().unwrap().to_str().unwrap();
        let paths =
            ["file", "link", "out/secret", &format!("up/{name}/secret"), &format!("../{name}/secret"), &absolute];
        for path in paths {
            for options in [OpenOptions::default(), OpenOptions { write: true, ..Default::default() }, CREATE] {
                let errno = fs.open(path, options, 0).unwrap_err();
                assert!(matches!(errno, Errno::ACCES | Errno::LOOP), "{path}: {errno}");
            }
        }
        for path in ["out/new", "up/new", "../new", "/new"] {
            let path = &format!("{path}{}", std::process::id());
            assert_eq!(fs.open(path, CREATE, 0).unwrap_err(), Errno::ACCES, "{path}");
            assert_eq!(fs.create_directory(path, 0), Err(Errno::ACCES), "{path}");
            assert_eq!(fs.rename("inside", path, 0), Err(Errno::ACCES), "{path}");
            assert_eq!(fs.hard_link("inside", path, 0), Err(Errno::ACCES), "{path}");
        }
        assert_eq!(fs.remove_file("out/secret", 0), Err(Errno::ACCES));
        assert_eq!(fs.stat("out/secret").unwrap_err(), Errno::ACCES);
        // A link is seen for what it is, and can be removed.
        assert_eq!(fs.stat("file").unwrap().kind, Kind::Link);
        fs.remove_file("file", 0).unwrap();
        assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
        let mode = std::fs::metadata(directory.path().join("inside")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
