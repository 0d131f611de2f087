//! A root file system as a directory: written so that no path leaves the root, and listed and
//! hashed so that equal trees have equal digests. It owns paths, modes, times and the canonical
//! listing; it knows nothing about packages or mounts.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use filetime::FileTime;

use crate::error::{Context, Error, Result};
use crate::pipeline::fingerprint::Fingerprint;

/// Symbolic links followed for one path before it counts as a loop: Linux's own limit.
const LINKS_MAX: usize = 40;
/// The mode bits that are kept. Set-user-ID programs are of no use in a build and do not belong
/// into a user's cache directory.
const MODE_MASK: u32 = 0o1777;

/// Writes a tree. Paths are relative to the root; symbolic links met on the way are followed as a
/// process inside the root would follow them, and a path that would leave the root is an error.
#[derive(Debug)]
pub(crate) struct TreeWriter {
    root: PathBuf,
    mtime: FileTime,
    /// Modes of directories, set last: a directory may not be writable for its owner.
    directories: BTreeMap<PathBuf, u32>,
}

impl TreeWriter {
    /// A writer below `root`, an existing directory. Everything it writes carries the one
    /// modification time.
    pub(crate) fn new(root: &Path, mtime_s: u64) -> Self {
        let seconds = i64::try_from(mtime_s).unwrap_or(i64::MAX);
        Self { root: root.to_path_buf(), mtime: FileTime::from_unix_time(seconds, 0), directories: BTreeMap::new() }
    }

    /// Makes a directory. One that exists, also through a symbolic link, stays and takes the mode.
    pub(crate) fn directory(&mut self, path: &Path, mode: u32) -> Result<()> {
        let real = self.resolve(components(path)?, path)?;
        // A directory that its owner cannot enter could not be hashed, exported or removed.
        self.directories.insert(real, mode & MODE_MASK | 0o700);
        Ok(())
    }

    /// Writes a file, in place of an earlier one of that path.
    pub(crate) fn file(&mut self, path: &Path, mode: u32, content: &mut dyn Read) -> Result<()> {
        let place = self.vacate(path)?;
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&place).map_err(|e| Error::io("create", &place, e))?;
        io::copy(content, &mut file).map_err(|e| Error::io("write", &place, e))?;
        file.set_permissions(Permissions::from_mode(mode & MODE_MASK | 0o400))
            .map_err(|e| Error::io("set the mode of", &place, e))?;
        filetime::set_file_handle_times(&file, Some(self.mtime), Some(self.mtime))
            .map_err(|e| Error::io("set the time of", &place, e))
    }

    /// Makes a symbolic link. Its target is not looked at: links may point to what comes later, or
    /// dangle.
    pub(crate) fn symlink(&mut self, path: &Path, target: &Path) -> Result<()> {
        let place = self.vacate(path)?;
        symlink(target, &place).map_err(|e| Error::io("make the symbolic link", &place, e))?;
        filetime::set_symlink_file_times(&place, self.mtime, self.mtime)
            .map_err(|e| Error::io("set the time of", &place, e))
    }

    /// Makes a hard link to a file written before.
    pub(crate) fn hard_link(&mut self, path: &Path, existing: &Path) -> Result<()> {
        let source = self.place(existing)?;
        let is_file = fs::symlink_metadata(&source).is_ok_and(|m| m.is_file());
        if !is_file {
            return Err(Error::new(format!(
                "{} is a hard link to {}, which is no file of the tree",
                path.display(),
                existing.display()
            )));
        }
        let place = self.place(path)?;
        if place == source {
            return Ok(());
        }
        let place = self.vacate(path)?;
        fs::hard_link(&source, &place).map_err(|e| Error::io("make the hard link", &place, e))
    }

    /// Whether something, a dangling link included, has this path.
    pub(crate) fn holds(&mut self, path: &Path) -> Result<bool> {
        Ok(fs::symlink_metadata(self.place(path)?).is_ok())
    }

    /// Sets what can be set only when everything is written: modes and times of directories.
    pub(crate) fn finish(self) -> Result<()> {
        for (path, mode) in self.directories.iter().rev() {
            let place = self.root.join(path);
            fs::set_permissions(&place, Permissions::from_mode(*mode))
                .map_err(|e| Error::io("set the mode of", &place, e))?;
            filetime::set_file_times(&place, self.mtime, self.mtime)
                .map_err(|e| Error::io("set the time of", &place, e))?;
        }
        fs::set_permissions(&self.root, Permissions::from_mode(0o755))
            .map_err(|e| Error::io("set the mode of", &self.root, e))?;
        filetime::set_file_times(&self.root, self.mtime, self.mtime)
            .map_err(|e| Error::io("set the time of", &self.root, e))
    }

    /// The place on the host of a path that is not a directory: its real parent and its name.
    fn place(&mut self, path: &Path) -> Result<PathBuf> {
        let mut names = components(path)?;
        let Some(name) = names.pop_back() else {
            return Err(Error::new(format!("\"{}\" names the root of the tree, not a file in it", path.display())));
        };
        let parent = self.resolve(names, path)?;
        Ok(self.root.join(parent).join(name))
    }

    /// The place of a path, after removing what an earlier entry put there.
    fn vacate(&mut self, path: &Path) -> Result<PathBuf> {
        let place = self.place(path)?;
        match fs::symlink_metadata(&place) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::io("look at", &place, e)),
            Ok(m) if m.is_dir() => {
                return Err(Error::new(format!("{} is a directory; it cannot become a file or link", path.display())));
            }
            // Removed, not overwritten: it may be one of several hard links.
            Ok(_) => fs::remove_file(&place).map_err(|e| Error::io("replace", &place, e))?,
        }
        Ok(place)
    }

    /// The real path of a directory below the root; missing parts are created.
    fn resolve(&mut self, mut names: VecDeque<OsString>, entry: &Path) -> Result<PathBuf> {
        let mut real = PathBuf::new();
        let mut links = 0;
        while let Some(name) = names.pop_front() {
            if name == ".." {
                if !real.pop() {
                    return Err(Error::new(format!("{} leaves the tree through a symbolic link", entry.display())));
                }
                continue;
            }
            let next = real.join(&name);
            let place = self.root.join(&next);
            match fs::symlink_metadata(&place) {
                Ok(m) if m.is_symlink() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Error::new(format!("{} passes through a loop of links", entry.display())));
                    }
                    let target = fs::read_link(&place).map_err(|e| Error::io("read the link", &place, e))?;
                    if target.is_absolute() {
                        real = PathBuf::new();
                    }
                    for component in target.components().rev() {
                        match component {
                            Component::Normal(name) => names.push_front(name.to_os_string()),
                            Component::ParentDir => names.push_front("..".into()),
                            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
                        }
                    }
                }
                Ok(m) if m.is_dir() => real = next,
                Ok(_) => {
                    return Err(Error::new(format!(
                        "{} needs a directory at {}, which is a file",
                        entry.display(),
                        next.display()
                    )));
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    fs::create_dir(&place).map_err(|e| Error::io("make the directory", &place, e))?;
                    self.directories.insert(next.clone(), 0o755);
                    real = next;
                }
                Err(e) => return Err(Error::io("look at", &place, e)),
            }
        }
        Ok(real)
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Path below the root.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What an entry is. Owners and times are the same for all entries, so that no entry has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory with its mode.
    Directory { mode: u32 },
    /// A file; a hard link is one more file with the same content.
    File { mode: u32, size_bytes: u64 },
    /// A symbolic link.
    Symlink { target: PathBuf },
}

/// Every entry below `root`, sorted by the bytes of its path.
pub(crate) fn scan(root: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(directory) = pending.pop() {
        let place = root.join(&directory);
        let read = |e| Error::io("read the directory", &place, e);
        for item in fs::read_dir(&place).map_err(read)? {
            let item = item.map_err(read)?;
            let path = directory.join(item.file_name());
            let place = item.path();
            let metadata = item.metadata().map_err(|e| Error::io("look at", &place, e))?;
            let mode = metadata.mode() & 0o7777;
            let kind = if metadata.is_dir() {
                pending.push(path.clone());
                Kind::Directory { mode }
            } else if metadata.is_file() {
                Kind::File { mode, size_bytes: metadata.len() }
            } else if metadata.is_symlink() {
                Kind::Symlink { target: fs::read_link(&place).map_err(|e| Error::io("read the link", &place, e))? }
            } else {
                return Err(Error::new(format!("{} is no file, directory or link", place.display())));
            };
            entries.push(Entry { path, kind });
        }
    }
    entries.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
    Ok(entries)
}

/// The canonical listing of a tree: one line per entry with path, kind, mode, size, content hash or
/// link target. Its hash is the tree's digest.
pub(crate) fn listing(root: &Path, entries: &[Entry]) -> Result<String> {
    let hashes = content_hashes(root, entries)?;
    let mut text = String::new();
    for (entry, hash) in entries.iter().zip(hashes) {
        // Names are escaped, so that tab and newline always separate.
        let path = entry.path.as_os_str().as_bytes().escape_ascii();
        let line = match (&entry.kind, hash) {
            (Kind::Directory { mode }, _) => writeln!(text, "{path}\tdirectory\t{mode:04o}"),
            (Kind::File { mode, size_bytes }, Some(hash)) => {
                writeln!(text, "{path}\tfile\t{mode:04o}\t{size_bytes}\t{hash}")
            }
            (Kind::File { .. }, None) => {
                return Err(Error::new(format!("{} was not hashed", root.join(&entry.path).display())));
            }
            (Kind::Symlink { target }, _) => {
                writeln!(text, "{path}\tsymlink\t{}", target.as_os_str().as_bytes().escape_ascii())
            }
        };
        line.context(|| "cannot write the listing".into())?;
    }
    Ok(text)
}

/// Writes the tree as a tar stream whose bytes depend on the tree alone.
pub(crate) fn write_tar(root: &Path, entries: &[Entry], mtime_s: u64, out: impl Write) -> Result<()> {
    let mut builder = tar::Builder::new(out);
    for entry in entries {
        let place = root.join(&entry.path);
        let mut header = tar::Header::new_gnu();
        header.set_mtime(mtime_s);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let added = match &entry.kind {
            Kind::Directory { mode } => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(*mode);
                builder.append_data(&mut header, &entry.path, io::empty())
            }
            Kind::File { mode, size_bytes } => {
                header.set_mode(*mode);
                header.set_size(*size_bytes);
                let file = File::open(&place).map_err(|e| Error::io("open", &place, e))?;
                builder.append_data(&mut header, &entry.path, file.take(*size_bytes))
            }
            Kind::Symlink { target } => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                builder.append_link(&mut header, &entry.path, target)
            }
        };
        added.map_err(|e| Error::io("pack", &place, e))?;
    }
    builder.finish().context(|| format!("cannot finish the archive of {}", root.display()))
}

/// The names of a relative path that never climbs.
fn components(path: &Path) -> Result<VecDeque<OsString>> {
    let mut names = VecDeque::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push_back(name.to_os_string()),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(Error::new(format!(
                    "\"{}\" would leave the tree: expected a relative path without \"..\"",
                    path.display()
                )));
            }
        }
    }
    Ok(names)
}

/// The content hash of every file among the entries, in their order, on every processor.
fn content_hashes(root: &Path, entries: &[Entry]) -> Result<Vec<Option<String>>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, String)>> {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(index) else { return Ok(done) };
            if matches!(entry.kind, Kind::File { .. }) {
                let place = root.join(&entry.path);
                done.push((index, Fingerprint::of_file(&place)?.to_string()));
            }
        }
    };
    let mut hashes = vec![None; entries.len()];
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let done = worker.join().map_err(|_| Error::new(format!("hashing {} panicked", root.display())))??;
            for (index, hash) in done {
                hashes[index] = Some(hash);
            }
        }
        Ok(hashes)
    })
}
