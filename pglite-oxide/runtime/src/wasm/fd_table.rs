//! The open files of one guest: descriptors, offsets, the working directory and the standard
//! streams. It owns the state that POSIX keeps per process; the file systems own the files, and
//! `wasi` the binary layouts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::fs::errno::{Errno, Result};
use crate::fs::volume::{Place, normalise};
use crate::fs::{Entry, Handle, Kind, OpenOptions, RawSlice, RawSliceMut, Stat, Volume};

/// The preopened directory `/`, from which the guest's libc reaches every absolute path.
pub const ROOT_FD: u32 = 3;

/// What libc passes for "relative to the working directory".
const CWD_FD: u32 = -2i32 as u32;

/// What the guest is told when its working directory has been removed. Its C library makes every
/// relative path absolute with the working directory, so it must have one; nothing is there.
pub const REMOVED: &str = "/.pglite-oxide/removed";

/// Maximum number of descriptors of one guest. PostgreSQL uses up to `max_files_per_process`, 1000
/// by default, and a few more.
const DESCRIPTORS_MAX: usize = 1100;

/// Most bytes that one call reads from or writes to a standard stream.
const STREAM_PIECE: usize = 64 * 1024;

/// Number of bytes of the guest's log that are kept, the newest ones.
const LOG_MAX: usize = 256 * 1024;

/// Descriptors of one guest.
#[derive(Debug)]
pub struct Files {
    volume: Arc<Volume>,
    descriptors: Vec<Option<Descriptor>>,
    /// Absolute and normalised.
    working_directory: String,
    stdin: Bytes,
    /// What the guest wrote to standard output and error.
    log: Vec<u8>,
}

/// The object of a descriptor.
#[derive(Debug, Clone)]
pub enum Target {
    Node(Arc<dyn Handle>),
    Stdin,
    Log,
    Stream(Arc<dyn Stream>),
}

/// A standard stream that is connected to the host. The guest's thread waits in it.
pub trait Stream: std::fmt::Debug + Send + Sync {
    /// Reads bytes; none at the end.
    fn read(&self, buf: &mut [u8]) -> Result<usize>;

    /// Writes some of the bytes and returns how many.
    fn write(&self, data: &[u8]) -> Result<usize>;

    /// Whether it is a terminal.
    fn is_terminal(&self) -> bool;
}

/// One descriptor.
#[derive(Debug, Clone)]
pub struct Descriptor {
    pub target: Target,
    /// File system of an open file.
    device: u32,
    /// The path it was opened by, for paths relative to it.
    path: Arc<str>,
    /// Shared by duplicates of a descriptor.
    offset: Arc<AtomicU64>,
    pub append: bool,
    pub writable: bool,
    pub close_on_exec: bool,
    /// The entries at the time when reading began: removals must not shift the following entries.
    listing: Option<Arc<Vec<Entry>>>,
}

/// Identity of a file in the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// File system, from 1.
    pub device: u32,
    pub stat: Stat,
}

/// A directory of a call and a path that begins there.
pub type At<'a> = (u32, &'a str);

/// Reference point of a seek.
#[derive(Debug, Clone, Copy)]
pub enum Whence {
    Start,
    Current,
    End,
}

impl Files {
    /// Standard streams and the root directory, as a new process has them.
    pub fn new(volume: Arc<Volume>, stdin: Bytes) -> Result<Self> {
        let log = Descriptor::new(Target::Log, true, true);
        let descriptors = [Descriptor::new(Target::Stdin, false, false), log.clone(), log].map(Some).to_vec();
        let mut files = Self { volume, descriptors, working_directory: "/".to_string(), stdin, log: Vec::new() };
        let root = files.open((CWD_FD, "/"), OpenOptions { directory: true, ..OpenOptions::default() }, false, 0)?;
        debug_assert_eq!(root, ROOT_FD);
        Ok(files)
    }

    /// Puts streams in the place of standard input, output and error.
    pub fn set_streams(&mut self, streams: [Arc<dyn Stream>; 3]) {
        for (stream, number) in streams.into_iter().zip(0..) {
            self.place(number, Descriptor::new(Target::Stream(stream), number != 0, true));
        }
    }

    /// Takes what the guest wrote to standard output and error so far.
    pub fn take_log(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.log)
    }

    /// The descriptor with this number.
    pub fn descriptor(&self, fd: u32) -> Result<&Descriptor> {
        self.descriptors.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    /// The descriptor with this number, to change its flags.
    pub fn descriptor_mut(&mut self, fd: u32) -> Result<&mut Descriptor> {
        self.descriptors.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// Opens a file or directory and gives it the lowest free number.
    pub fn open(&mut self, at: At<'_>, options: OpenOptions, append: bool, now_ns: u64) -> Result<u32> {
        let number = self.free_number(0)?;
        let (path, is_directory) = self.resolve(at)?;
        if is_directory && options.create {
            return Err(Errno::ISDIR);
        }
        let options = OpenOptions { directory: options.directory || is_directory, ..options };
        let Place { fs, device, path: inside } = self.volume.place(&path)?;
        let target = Target::Node(fs.open(inside, options, now_ns)?);
        let mut descriptor = Descriptor::new(target, options.write, append);
        (descriptor.device, descriptor.path) = (device, path.into());
        self.place(number, descriptor);
        Ok(number)
    }

    /// The status of a path.
    pub fn stat_path(&self, at: At<'_>) -> Result<Node> {
        let (path, is_directory) = self.resolve(at)?;
        let Place { fs, device, path } = self.volume.place(&path)?;
        let stat = fs.stat(path)?;
        if is_directory && stat.kind != Kind::Directory { Err(Errno::NOTDIR) } else { Ok(Node { device, stat }) }
    }

    /// Sets the time of the last change, if there is one to set.
    pub fn set_modified_path(&self, at: At<'_>, modified_ns: Option<u64>) -> Result<()> {
        let (path, _) = self.resolve(at)?;
        let Place { fs, path, .. } = self.volume.place(&path)?;
        let handle = fs.open(path, OpenOptions::default(), 0)?;
        modified_ns.map_or(Ok(()), |modified_ns| handle.set_modified(modified_ns))
    }

    /// Makes an empty directory.
    pub fn create_directory(&self, at: At<'_>, now_ns: u64) -> Result<()> {
        let (path, _) = self.resolve(at)?;
        let place = self.volume.place(&path)?;
        place.fs.create_directory(place.entry().map_err(|_| Errno::EXIST)?, now_ns)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, at: At<'_>, now_ns: u64) -> Result<()> {
        let (path, _) = self.resolve(at)?;
        let place = self.volume.place(&path)?;
        place.fs.remove_directory(place.entry()?, now_ns)
    }

    /// Removes a name of a file.
    pub fn remove_file(&self, at: At<'_>, now_ns: u64) -> Result<()> {
        let (path, is_directory) = self.resolve(at)?;
        if is_directory {
            return Err(Errno::NOTDIR);
        }
        let place = self.volume.place(&path)?;
        place.fs.remove_file(place.entry()?, now_ns)
    }

    /// Renames within one file system.
    pub fn rename(&self, from: At<'_>, to: At<'_>, now_ns: u64) -> Result<()> {
        self.within_one(from, to, |fs, from, to| fs.rename(from, to, now_ns))
    }

    /// Gives a file a second name in its file system.
    pub fn hard_link(&self, from: At<'_>, to: At<'_>, now_ns: u64) -> Result<()> {
        self.within_one(from, to, |fs, from, to| fs.hard_link(from, to, now_ns))
    }

    /// Closes a descriptor.
    pub fn close(&mut self, fd: u32) -> Result<()> {
        self.descriptors.get_mut(fd as usize).and_then(Option::take).map(drop).ok_or(Errno::BADF)
    }

    /// Closes every descriptor: the guest has ended.
    pub fn close_all(&mut self) {
        self.descriptors.clear();
    }

    /// Gives a descriptor a second number, at least `least`.
    pub fn duplicate(&mut self, fd: u32, least: u32, close_on_exec: bool) -> Result<u32> {
        let copy = Descriptor { close_on_exec, ..self.descriptor(fd)?.clone() };
        let number = self.free_number(least)?;
        self.place(number, copy);
        Ok(number)
    }

    /// Makes `to` the same as `from`, closing what `to` was.
    pub fn duplicate_onto(&mut self, from: u32, to: u32) -> Result<()> {
        let copy = self.descriptor(from)?.clone();
        if to as usize >= DESCRIPTORS_MAX {
            return Err(Errno::BADF);
        }
        self.place(to, copy);
        Ok(())
    }

    /// Reads at the descriptor's offset and moves it.
    pub fn read<'a>(&mut self, fd: u32, buf: impl Into<RawSliceMut<'a>>) -> Result<usize> {
        let mut buf = buf.into();
        let descriptor = self.descriptor(fd)?;
        match &descriptor.target {
            Target::Node(handle) => {
                let offset = descriptor.offset();
                let count = handle.read_into(offset, buf)?;
                descriptor.set_offset(offset + count as u64);
                Ok(count)
            }
            Target::Stdin => {
                let count = buf.len().min(self.stdin.len());
                buf.part(0, count).copy_from(&self.stdin.split_to(count));
                Ok(count)
            }
            Target::Stream(stream) => {
                let mut bytes = vec![0; buf.len().min(STREAM_PIECE)];
                let count = stream.read(&mut bytes)?;
                buf.part(0, count).copy_from(&bytes[..count]);
                Ok(count)
            }
            Target::Log => Err(Errno::BADF),
        }
    }

    /// Reads at an offset of the caller's.
    pub fn read_at<'a>(&self, fd: u32, offset: u64, buf: impl Into<RawSliceMut<'a>>) -> Result<usize> {
        self.handle(fd)?.read_into(offset, buf.into())
    }

    /// Writes at the descriptor's offset, or the end in append mode, and moves it. Returns how much
    /// was written.
    pub fn write<'a>(&mut self, fd: u32, data: impl Into<RawSlice<'a>>, now_ns: u64) -> Result<usize> {
        let data = data.into();
        let descriptor = self.descriptor(fd)?;
        if !descriptor.writable {
            return Err(Errno::BADF);
        }
        match &descriptor.target {
            Target::Node(handle) => {
                let offset = if descriptor.append { handle.stat()?.len } else { descriptor.offset() };
                let count = handle.write_from(offset, data, now_ns)?;
                descriptor.set_offset(offset + count as u64);
                Ok(count)
            }
            Target::Log => {
                self.log.extend_from_slice(&data.to_vec());
                if self.log.len() > 2 * LOG_MAX {
                    self.log.drain(..self.log.len() - LOG_MAX);
                }
                Ok(data.len())
            }
            Target::Stream(stream) => stream.write(&data.part(0, STREAM_PIECE).to_vec()),
            Target::Stdin => Err(Errno::BADF),
        }
    }

    /// Writes at an offset of the caller's and returns how much was written.
    pub fn write_at<'a>(&self, fd: u32, offset: u64, data: impl Into<RawSlice<'a>>, now_ns: u64) -> Result<usize> {
        self.writable(fd)?.write_from(offset, data.into(), now_ns)
    }

    /// Makes an open file or directory durable; has no effect on the standard streams.
    pub fn sync(&self, fd: u32, data_only: bool) -> Result<()> {
        match &self.descriptor(fd)?.target {
            Target::Node(handle) => handle.sync(data_only),
            Target::Stdin | Target::Log | Target::Stream(_) => Ok(()),
        }
    }

    /// Moves the descriptor's offset and returns it.
    pub fn seek(&self, fd: u32, delta: i64, whence: Whence) -> Result<u64> {
        let handle = self.handle(fd)?;
        let descriptor = self.descriptor(fd)?;
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => descriptor.offset(),
            Whence::End => handle.stat()?.len,
        };
        let offset = base.checked_add_signed(delta).ok_or(Errno::INVAL)?;
        descriptor.set_offset(offset);
        Ok(offset)
    }

    /// The status of an open file; standard streams have no node.
    pub fn stat(&self, fd: u32) -> Result<Option<Node>> {
        let descriptor = self.descriptor(fd)?;
        match &descriptor.target {
            Target::Node(handle) => Ok(Some(Node { device: descriptor.device, stat: handle.stat()? })),
            Target::Stdin | Target::Log | Target::Stream(_) => Ok(None),
        }
    }

    /// Sets the length of a file.
    pub fn set_len(&self, fd: u32, len: u64, now_ns: u64) -> Result<()> {
        self.writable(fd)?.set_len(len, now_ns)
    }

    /// Makes a file at least this long.
    pub fn allocate(&self, fd: u32, offset: u64, len: u64, now_ns: u64) -> Result<()> {
        self.writable(fd)?.allocate(offset, len, now_ns)
    }

    /// Entries of an open directory, `.` and `..` first. Reading from the start looks again; later
    /// parts come from what was seen then.
    pub fn list(&mut self, fd: u32, from_start: bool) -> Result<Arc<Vec<Entry>>> {
        let descriptor = self.descriptor(fd)?;
        if let Some(listing) = descriptor.listing.as_ref().filter(|_| !from_start) {
            return Ok(listing.clone());
        }
        let handle = self.handle(fd)?;
        let found = handle.list()?;
        let dot = |name: &str, ino| Entry { name: name.into(), ino, kind: Kind::Directory };
        let mut entries = vec![dot(".", handle.stat()?.ino), dot("..", self.stat_path((fd, ".."))?.stat.ino)];
        entries.extend(found);
        let listing = Arc::new(entries);
        self.descriptor_mut(fd)?.listing = Some(listing.clone());
        Ok(listing)
    }

    /// Path of the working directory.
    pub fn working_directory(&self) -> &str {
        &self.working_directory
    }

    /// Changes the working directory.
    pub fn change_directory(&mut self, path: &str) -> Result<()> {
        if self.stat_path((CWD_FD, path))?.stat.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        self.working_directory = self.resolve((CWD_FD, path))?.0;
        Ok(())
    }

    /// The working directory is no more: a relative path names nothing.
    pub fn lose_directory(&mut self) {
        self.working_directory.clear();
    }

    /// The absolute path of a call, and whether it must be a directory.
    fn resolve(&self, (fd, path): At<'_>) -> Result<(String, bool)> {
        let start = if fd == CWD_FD { &self.working_directory } else { &*self.descriptor(fd)?.path };
        if start.is_empty() && !path.starts_with('/') {
            return Err(if fd == CWD_FD { Errno::NOENT } else { Errno::NOTDIR });
        }
        // Judged before `..` is resolved, which would lead out of what does not exist.
        if path.strip_prefix('/').unwrap_or(path).starts_with(&REMOVED[1..]) {
            return Err(Errno::NOENT);
        }
        normalise(start, path)
    }

    fn within_one(
        &self,
        from: At<'_>,
        to: At<'_>,
        operation: impl FnOnce(&dyn crate::fs::FileSystem, &str, &str) -> Result<()>,
    ) -> Result<()> {
        let (from, to) = (self.resolve(from)?.0, self.resolve(to)?.0);
        let (from, to) = (self.volume.place(&from)?, self.volume.place(&to)?);
        let (from_path, to_path) = (from.entry()?, to.entry()?);
        if from.device == to.device { operation(&**from.fs, from_path, to_path) } else { Err(Errno::XDEV) }
    }

    fn handle(&self, fd: u32) -> Result<&dyn Handle> {
        match &self.descriptor(fd)?.target {
            Target::Node(handle) => Ok(&**handle),
            Target::Stdin | Target::Log | Target::Stream(_) => Err(Errno::SPIPE),
        }
    }

    fn writable(&self, fd: u32) -> Result<&dyn Handle> {
        if self.descriptor(fd)?.writable { self.handle(fd) } else { Err(Errno::BADF) }
    }

    fn free_number(&self, least: u32) -> Result<u32> {
        let least = least as usize;
        let free = (least..self.descriptors.len()).find(|number| self.descriptors[*number].is_none());
        let number = free.unwrap_or_else(|| self.descriptors.len().max(least));
        if number < DESCRIPTORS_MAX { Ok(number as u32) } else { Err(Errno::MFILE) }
    }

    fn place(&mut self, number: u32, descriptor: Descriptor) {
        let number = number as usize;
        if self.descriptors.len() <= number {
            self.descriptors.resize(number + 1, None);
        }
        self.descriptors[number] = Some(descriptor);
    }
}

impl Descriptor {
    fn new(target: Target, writable: bool, append: bool) -> Self {
        let offset = Arc::new(AtomicU64::new(0));
        let path = Arc::from("");
        Self { target, device: 0, path, offset, append, writable, close_on_exec: false, listing: None }
    }

    // The guest has one thread: the atomic is for sharing between duplicates, not for ordering.
    fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::test_support::{CREATE, write};
    use crate::fs::{FileSystem, Image, ImageFs, Item};

    fn image(path: &str, contents: &'static [u8]) -> ImageFs {
        ImageFs::new(Arc::new(Image::new([(path.to_string(), Item::File(Bytes::from_static(contents)))], 1).unwrap()))
    }

    /// Descriptors on a volume with a second file system at `/data`, and the first one.
    fn files_and_root() -> (Files, ImageFs) {
        let (root, data) = (image("d/x", b"0123456789"), image("f", b"data"));
        root.create_directory("data", 1).unwrap();
        let volume = Volume::new(Arc::new(root.clone())).mount("/data", Arc::new(data));
        (Files::new(Arc::new(volume), Bytes::from_static(b"input")).unwrap(), root)
    }

    fn files() -> Files {
        files_and_root().0
    }

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let mut files = files();
        let numbers: Vec<u32> =
            ["a", "b", "c"].iter().map(|path| files.open((ROOT_FD, path), CREATE, false, 2).unwrap()).collect();
        assert_eq!(numbers, [4, 5, 6]);
        files.close(5).unwrap();
        assert_eq!(files.close(5), Err(Errno::BADF));
        assert_eq!(files.open((ROOT_FD, "d"), OpenOptions::default(), false, 2), Ok(5));
        assert_eq!(files.duplicate(4, 100, true), Ok(100));
        assert_eq!(files.duplicate(4, DESCRIPTORS_MAX as u32, true), Err(Errno::MFILE));
    }

    #[test]
    fn duplicates_share_the_offset() {
        let mut files = files();
        let one = files.open((ROOT_FD, "d/x"), OpenOptions::default(), false, 2).unwrap();
        let two = files.duplicate(one, 0, false).unwrap();
        let mut buf = [0; 4];
        files.read(one, &mut buf).unwrap();
        files.close(one).unwrap();
        files.read(two, &mut buf).unwrap();
        assert_eq!(&buf, b"4567");
        assert_eq!(files.seek(two, -1, Whence::End), Ok(9));
        assert_eq!((files.read(two, &mut buf), files.read(two, &mut buf)), (Ok(1), Ok(0)));
        assert_eq!(files.seek(two, -100, Whence::Current), Err(Errno::INVAL));
        assert_eq!(files.write(two, b"x", 3), Err(Errno::BADF));
    }

    #[test]
    fn appends_at_the_end_wherever_the_offset_is() {
        let mut files = files();
        let fd = files.open((ROOT_FD, "log"), CREATE, true, 2).unwrap();
        files.write(fd, b"one", 2).unwrap();
        files.seek(fd, 0, Whence::Start).unwrap();
        files.write(fd, b"two", 2).unwrap();
        let mut buf = [0; 8];
        assert_eq!(files.read_at(fd, 0, &mut buf), Ok(6));
        assert_eq!(&buf[..6], b"onetwo");
    }

    #[test]
    fn relative_paths_follow_the_working_directory() {
        let mut files = files();
        files.change_directory("d").unwrap();
        assert_eq!(files.working_directory(), "/d");
        assert!(files.open((CWD_FD, "x"), OpenOptions::default(), false, 2).is_ok());
        assert_eq!(files.open((ROOT_FD, "x"), OpenOptions::default(), false, 2), Err(Errno::NOENT));
        assert_eq!(files.change_directory("x"), Err(Errno::NOTDIR));
        files.lose_directory();
        assert_eq!(files.open((CWD_FD, "x"), OpenOptions::default(), false, 2), Err(Errno::NOENT));
        assert!(files.open((CWD_FD, "/d/x"), OpenOptions::default(), false, 2).is_ok());
    }

    #[test]
    fn a_listing_stays_as_it_was_while_it_is_read() {
        let mut files = files();
        let fd = files.open((ROOT_FD, "d"), OpenOptions::default(), false, 2).unwrap();
        let names = |entries: Arc<Vec<Entry>>| entries.iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(files.list(fd, true).unwrap()), [".", "..", "x"]);
        files.remove_file((ROOT_FD, "d/x"), 3).unwrap();
        assert_eq!(names(files.list(fd, false).unwrap()), [".", "..", "x"]);
        assert_eq!(names(files.list(fd, true).unwrap()), [".", ".."]);
    }

    #[test]
    fn standard_streams() {
        let mut files = files();
        let mut buf = [0; 3];
        assert_eq!((files.read(0, &mut buf), files.read(0, &mut buf), files.read(0, &mut buf)), (Ok(3), Ok(2), Ok(0)));
        files.write(1, b"out ", 2).unwrap();
        files.duplicate_onto(1, 2).unwrap();
        files.write(2, b"err", 2).unwrap();
        assert_eq!(files.take_log(), b"out err");
        assert_eq!(files.seek(1, 0, Whence::Current), Err(Errno::SPIPE));
        assert_eq!(files.stat(1), Ok(None));
    }

    #[test]
    fn a_guest_that_ends_closes_its_files() {
        let (mut files, root) = files_and_root();
        let nodes = root.copy();
        files.open((ROOT_FD, "gone"), CREATE, false, 2).unwrap();
        files.remove_file((ROOT_FD, "gone"), 3).unwrap();
        files.close_all();
        assert_eq!(files.close(ROOT_FD), Err(Errno::BADF));
        write(&nodes, "gone", b"");
        nodes.remove_file("gone", 3).unwrap();
        assert_eq!(root.changed_nodes(), nodes.changed_nodes());
    }

    #[test]
    fn file_systems_are_mounted_together() {
        let mut files = files();
        let data = files.open((ROOT_FD, "data"), OpenOptions::default(), false, 2).unwrap();
        let names = |files: &mut Files, fd| {
            files.list(fd, true).unwrap().iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            (names(&mut files, ROOT_FD), names(&mut files, data)),
            (
                vec![".".to_string(), "..".to_string(), "d".to_string(), "data".to_string()],
                vec![".".to_string(), "..".to_string(), "f".to_string()]
            )
        );
        assert_eq!(files.stat(data).unwrap().unwrap().device, 2);
        assert_eq!(files.stat_path((data, "f")).unwrap().device, 2);
        assert_eq!(files.stat_path((data, "../d/x")).unwrap().device, 1);
        assert_eq!(files.rename((ROOT_FD, "d/x"), (data, "x"), 2), Err(Errno::XDEV));
        assert_eq!(files.hard_link((data, "f"), (ROOT_FD, "d/f"), 2), Err(Errno::XDEV));
        files.rename((data, "f"), (ROOT_FD, "/data/../data/g"), 2).unwrap();
        assert!(files.stat_path((ROOT_FD, "data/g")).is_ok());
        assert_eq!(files.remove_directory((ROOT_FD, "data"), 2), Err(Errno::BUSY));
        assert_eq!(files.rename((ROOT_FD, "data"), (ROOT_FD, "other"), 2), Err(Errno::BUSY));
        assert_eq!(files.create_directory((ROOT_FD, "data"), 2), Err(Errno::EXIST));
    }

    #[test]
    fn a_slash_at_the_end_is_for_directories() {
        let mut files = files();
        assert!(files.open((ROOT_FD, "d/"), OpenOptions::default(), false, 2).is_ok());
        assert_eq!(files.open((ROOT_FD, "d/x/"), OpenOptions::default(), false, 2), Err(Errno::NOTDIR));
        assert_eq!(files.open((ROOT_FD, "d/new/"), CREATE, false, 2), Err(Errno::ISDIR));
        assert_eq!(files.stat_path((ROOT_FD, "d/x/.")).unwrap_err(), Errno::NOTDIR);
        assert_eq!(files.remove_file((ROOT_FD, "d/x/"), 2), Err(Errno::NOTDIR));
        files.create_directory((ROOT_FD, "d/y/"), 2).unwrap();
        files.remove_directory((ROOT_FD, "d/y/"), 2).unwrap();
    }
}
