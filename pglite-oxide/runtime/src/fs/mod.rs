//! The guest's file system: synchronous, one per database. It owns the traits of a file system,
//! their implementations, and mounting. A guest's descriptors are in `wasm/fd_table`.
//!
//! - `image`: in memory, an immutable image that databases share and copy-on-write pages (`tree`,
//!   `content`).
//! - `host`: a directory of the machine, with real syncing.

pub mod content;
pub mod errno;
pub mod host;
pub mod image;
pub mod raw;
pub mod test_support;
pub mod tree;
pub mod volume;

use std::fmt::Debug;
use std::sync::Arc;

use errno::{Errno, Result};
pub use raw::{RawSlice, RawSliceMut};

pub use content::Later;
pub use image::ImageFs;
pub use tree::{Image, Item};
pub use volume::Volume;

/// A tree of files. Paths are relative to its root, normalised, and have no `.`, `..` or empty
/// parts; the empty path is the root itself. `now_ns` is the guest's time in nanoseconds since
/// 1970, for file systems that keep no clock of their own.
pub trait FileSystem: Debug + Send + Sync {
    /// Opens a file or directory.
    fn open(&self, path: &str, options: OpenOptions, now_ns: u64) -> Result<Arc<dyn Handle>>;

    /// The status of a path. Links are not followed.
    fn stat(&self, path: &str) -> Result<Stat>;

    /// Makes an empty directory.
    fn create_directory(&self, path: &str, now_ns: u64) -> Result<()>;

    /// Removes an empty directory.
    fn remove_directory(&self, path: &str, now_ns: u64) -> Result<()>;

    /// Removes a name of a file, which stays readable through open handles.
    fn remove_file(&self, path: &str, now_ns: u64) -> Result<()>;

    /// Renames, replacing a file or an empty directory of the same kind, as POSIX says.
    fn rename(&self, from: &str, to: &str, now_ns: u64) -> Result<()>;

    /// Gives a file a second name.
    fn hard_link(&self, from: &str, to: &str, now_ns: u64) -> Result<()>;
}

/// An open file or directory. It stays what it was opened as when names change.
pub trait Handle: Debug + Send + Sync {
    /// Reads from a file into memory that a guest may be using; returns the number of bytes read,
    /// zero only at the end.
    fn read_into(&self, offset: u64, buf: RawSliceMut<'_>) -> Result<usize>;

    /// Writes into a file from memory that a guest may be using; returns how much was written,
    /// growing the file when needed.
    fn write_from(&self, offset: u64, data: RawSlice<'_>, now_ns: u64) -> Result<usize>;

    /// As [`Self::read_into`], into a buffer.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.read_into(offset, buf.into())
    }

    /// As [`Self::write_from`], from a buffer.
    fn write_at(&self, offset: u64, data: &[u8], now_ns: u64) -> Result<usize> {
        self.write_from(offset, data.into(), now_ns)
    }

    /// Its status.
    fn stat(&self) -> Result<Stat>;

    /// Truncates a file or extends it with zeros.
    fn set_len(&self, len: u64, now_ns: u64) -> Result<()>;

    /// Makes a file at least this long, with space for all of it.
    fn allocate(&self, offset: u64, len: u64, now_ns: u64) -> Result<()>;

    /// Sets the time of the last change, in nanoseconds since 1970.
    fn set_modified(&self, modified_ns: u64) -> Result<()>;

    /// Makes a file, or the names in a directory, survive the loss of power. `data_only` leaves out
    /// what is not needed to read it back.
    fn sync(&self, data_only: bool) -> Result<()>;

    /// Entries of a directory, without `.` and `..`.
    fn list(&self) -> Result<Vec<Entry>>;
}

/// The kind of an entry of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link. Guests can neither create nor open one.
    Link,
    /// A socket, pipe or device. Guests can neither create nor open one.
    Other,
}

/// The result of `stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Number of the file in its file system, never 0, which means "no file" to some programs.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
    /// Length in bytes.
    pub len: u64,
    /// Number of its names.
    pub links: u32,
    /// Time of the last change of the contents, in nanoseconds since 1970.
    pub modified_ns: u64,
}

/// How to open a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Create it if it does not exist.
    pub create: bool,
    /// With `create`: it must not exist.
    pub exclusive: bool,
    /// Truncate it.
    pub truncate: bool,
    /// It must be a directory.
    pub directory: bool,
    /// For writing too.
    pub write: bool,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Box<str>,
    /// Its number.
    pub ino: u64,
    /// What it is.
    pub kind: Kind,
}

/// Opens a file that must not exist.
pub const CREATE_NEW: OpenOptions =
    OpenOptions { create: true, exclusive: true, truncate: false, directory: false, write: true };

/// Receives a path, with a handle if it is a file.
pub type Visit<'a> = dyn FnMut(&str, Option<&dyn Handle>) -> Result<()> + 'a;

/// Shows everything below a directory, in the order of the names, parents first; paths begin at
/// that directory. Files come with a handle. An error names its path.
pub fn walk(fs: &dyn FileSystem, directory: &str, visit: &mut Visit<'_>) -> Result<(), (String, Errno)> {
    let mut pending = vec![String::new()];
    while let Some(path) = pending.pop() {
        let full = [directory, &path].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/");
        let failed = |errno| (full.clone(), errno);
        let handle = fs.open(&full, OpenOptions::default(), 0).map_err(failed)?;
        if handle.stat().map_err(failed)?.kind == Kind::File {
            visit(&path, Some(&*handle)).map_err(failed)?;
            continue;
        }
        if !path.is_empty() {
            visit(&path, None).map_err(failed)?;
        }
        let mut entries = handle.list().map_err(failed)?;
        // A socket or a pipe has no contents. A link is an error of its own.
        entries.retain(|entry| entry.kind != Kind::Other);
        entries.sort_unstable_by(|a, b| b.name.cmp(&a.name));
        let join = |name: &str| if path.is_empty() { name.to_string() } else { format!("{path}/{name}") };
        pending.extend(entries.iter().map(|entry| join(&entry.name)));
    }
    Ok(())
}

/// Whole contents of a file.
pub fn read(handle: &dyn Handle) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(handle.stat()?.len).map_err(|_| Errno::FBIG)?];
    let mut done = 0;
    while done < bytes.len() {
        match handle.read_at(done as u64, &mut bytes[done..])? {
            0 => break,
            count => done += count,
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// Writes all of `data`.
pub fn write_all(handle: &dyn Handle, mut offset: u64, mut data: &[u8]) -> Result<()> {
    while !data.is_empty() {
        let count = handle.write_at(offset, data, 0)?;
        if count == 0 {
            return Err(Errno::IO);
        }
        offset += count as u64;
        data = &data[count..];
    }
    Ok(())
}

/// Copies the contents of a file into an empty one, `buf.len()` bytes at a time.
pub fn copy(from: &dyn Handle, to: &dyn Handle, buf: &mut [u8]) -> Result<()> {
    let mut offset = 0;
    loop {
        let count = from.read_at(offset, buf)?;
        if count == 0 {
            return Ok(());
        }
        write_all(to, offset, &buf[..count])?;
        offset += count as u64;
    }
}
