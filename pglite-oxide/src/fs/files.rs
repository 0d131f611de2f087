//! Open files of one guest: descriptors, offsets, the working directory and the standard streams. It owns what POSIX keeps per process;
//! the tree below is shared with the host, and how numbers reach guest memory is `wasi`'s business.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::Volume;
use super::errno::{Errno, Result};
use super::tree::{Entry, Ino, Kind, OpenOptions, ROOT, Stat};

/// The preopened directory `/`, from which the guest's libc reaches every absolute path.
pub(crate) const ROOT_FD: u32 = 3;

/// What libc passes for "relative to the working directory".
const CWD_FD: u32 = -2i32 as u32;

/// Most descriptors of one guest. PostgreSQL keeps to `max_files_per_process`, 1000 by default, and needs a few beside.
const DESCRIPTORS_MAX: usize = 1100;

/// Bytes of guest log kept: the newest ones.
const LOG_MAX: usize = 256 * 1024;

/// Descriptors of one guest.
#[derive(Debug)]
pub(crate) struct Files {
    volume: Arc<Volume>,
    descriptors: Vec<Option<Descriptor>>,
    working_directory: Ino,
    stdin: Bytes,
    /// What the guest wrote to standard output and error.
    log: Vec<u8>,
}

/// What a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Node(Ino),
    Stdin,
    Log,
}

/// One descriptor.
#[derive(Debug, Clone)]
pub(crate) struct Descriptor {
    pub(crate) target: Target,
    /// Shared by duplicates of a descriptor.
    offset: Arc<AtomicU64>,
    pub(crate) append: bool,
    pub(crate) writable: bool,
    pub(crate) close_on_exec: bool,
    /// Entries as they were when reading the directory began: removals in between must not shift what comes next.
    listing: Option<Arc<Vec<Entry>>>,
}

/// Reference point of a seek.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Whence {
    Start,
    Current,
    End,
}

impl Files {
    /// Standard streams and the root directory, as a new process has them.
    pub(crate) fn new(volume: Arc<Volume>, stdin: Bytes) -> Self {
        let root = Descriptor::new(Target::Node(ROOT), false, false);
        let log = Descriptor::new(Target::Log, true, true);
        let descriptors = [Descriptor::new(Target::Stdin, false, false), log.clone(), log, root].map(Some).to_vec();
        volume.lock().acquire(ROOT);
        Self { volume, descriptors, working_directory: ROOT, stdin, log: Vec::new() }
    }

    /// The tree these descriptors are open on.
    pub(crate) fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Takes what the guest wrote to standard output and error so far.
    pub(crate) fn take_log(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.log)
    }

    /// The descriptor of a number.
    pub(crate) fn descriptor(&self, fd: u32) -> Result<&Descriptor> {
        self.descriptors.get(fd as usize).and_then(Option::as_ref).ok_or(Errno::BADF)
    }

    /// The descriptor of a number, to change its flags.
    pub(crate) fn descriptor_mut(&mut self, fd: u32) -> Result<&mut Descriptor> {
        self.descriptors.get_mut(fd as usize).and_then(Option::as_mut).ok_or(Errno::BADF)
    }

    /// Directory that relative paths of a call begin at.
    pub(crate) fn directory(&self, fd: u32) -> Result<Ino> {
        if fd == CWD_FD { Ok(self.working_directory) } else { self.node(fd) }
    }

    /// Opens a file below a directory and gives it the lowest free number.
    pub(crate) fn open(&mut self, fd: u32, path: &str, options: OpenOptions, append: bool, now_ns: u64) -> Result<u32> {
        let start = self.directory(fd)?;
        let number = self.free_number(0)?;
        let ino = self.volume.lock().open(start, path, options, now_ns)?;
        self.place(number, Descriptor::new(Target::Node(ino), options.write, append));
        Ok(number)
    }

    /// Closes a descriptor.
    pub(crate) fn close(&mut self, fd: u32) -> Result<()> {
        let descriptor = self.descriptors.get_mut(fd as usize).and_then(Option::take).ok_or(Errno::BADF)?;
        if let Target::Node(ino) = descriptor.target {
            self.volume.lock().close(ino);
        }
        Ok(())
    }

    /// Gives a descriptor a second number, at least `least`.
    pub(crate) fn duplicate(&mut self, fd: u32, least: u32, close_on_exec: bool) -> Result<u32> {
        let copy = Descriptor { close_on_exec, ..self.descriptor(fd)?.clone() };
        let number = self.free_number(least)?;
        self.acquire(&copy);
        self.place(number, copy);
        Ok(number)
    }

    /// Makes `to` the same as `from`, closing what `to` was.
    pub(crate) fn duplicate_onto(&mut self, from: u32, to: u32) -> Result<()> {
        let copy = self.descriptor(from)?.clone();
        if from == to {
            return Ok(());
        }
        if to as usize >= DESCRIPTORS_MAX {
            return Err(Errno::BADF);
        }
        self.acquire(&copy);
        // Nothing open there is no error.
        let _ = self.close(to);
        self.place(to, copy);
        Ok(())
    }

    /// Reads at the descriptor's offset and moves it.
    pub(crate) fn read(&mut self, fd: u32, buf: &mut [u8]) -> Result<usize> {
        let descriptor = self.descriptor(fd)?;
        match descriptor.target {
            Target::Node(ino) => {
                let offset = descriptor.offset();
                let count = self.volume.lock().read(ino, offset, buf)?;
                descriptor.set_offset(offset + count as u64);
                Ok(count)
            }
            Target::Stdin => {
                let count = buf.len().min(self.stdin.len());
                buf[..count].copy_from_slice(&self.stdin.split_to(count));
                Ok(count)
            }
            Target::Log => Err(Errno::BADF),
        }
    }

    /// Reads at an offset of the caller's.
    pub(crate) fn read_at(&self, fd: u32, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let ino = self.node(fd)?;
        self.volume.lock().read(ino, offset, buf)
    }

    /// Writes at the descriptor's offset, or the end in append mode, and moves it.
    pub(crate) fn write(&mut self, fd: u32, data: &[u8], now_ns: u64) -> Result<()> {
        let descriptor = self.descriptor(fd)?;
        if !descriptor.writable {
            return Err(Errno::BADF);
        }
        match descriptor.target {
            Target::Node(ino) => {
                let mut tree = self.volume.lock();
                let offset = if descriptor.append { tree.stat(ino)?.len } else { descriptor.offset() };
                tree.write(ino, offset, data, now_ns)?;
                descriptor.set_offset(offset + data.len() as u64);
            }
            Target::Log => {
                self.log.extend_from_slice(data);
                if self.log.len() > 2 * LOG_MAX {
                    self.log.drain(..self.log.len() - LOG_MAX);
                }
            }
            Target::Stdin => return Err(Errno::BADF),
        }
        Ok(())
    }

    /// Writes at an offset of the caller's.
    pub(crate) fn write_at(&self, fd: u32, offset: u64, data: &[u8], now_ns: u64) -> Result<()> {
        let ino = self.writable_node(fd)?;
        self.volume.lock().write(ino, offset, data, now_ns)
    }

    /// Moves the descriptor's offset and returns it.
    pub(crate) fn seek(&self, fd: u32, delta: i64, whence: Whence) -> Result<u64> {
        let descriptor = self.descriptor(fd)?;
        let Target::Node(ino) = descriptor.target else { return Err(Errno::SPIPE) };
        let base = match whence {
            Whence::Start => 0,
            Whence::Current => descriptor.offset(),
            Whence::End => self.volume.lock().stat(ino)?.len,
        };
        let offset = base.checked_add_signed(delta).ok_or(Errno::INVAL)?;
        descriptor.set_offset(offset);
        Ok(offset)
    }

    /// What is known about an open file; standard streams have no node.
    pub(crate) fn stat(&self, fd: u32) -> Result<Option<Stat>> {
        match self.descriptor(fd)?.target {
            Target::Node(ino) => self.volume.lock().stat(ino).map(Some),
            Target::Stdin | Target::Log => Ok(None),
        }
    }

    /// Sets the length of a file.
    pub(crate) fn set_len(&self, fd: u32, len: u64, now_ns: u64) -> Result<()> {
        let ino = self.writable_node(fd)?;
        self.volume.lock().set_len(ino, len, now_ns)
    }

    /// Makes a file at least this long.
    pub(crate) fn allocate(&self, fd: u32, len: u64, now_ns: u64) -> Result<()> {
        let ino = self.writable_node(fd)?;
        let mut tree = self.volume.lock();
        if tree.stat(ino)?.len < len { tree.set_len(ino, len, now_ns) } else { Ok(()) }
    }

    /// Entries of an open directory, `.` and `..` first. Reading from the start looks again; later parts come from what was seen then.
    pub(crate) fn list(&mut self, fd: u32, from_start: bool) -> Result<Arc<Vec<Entry>>> {
        let ino = self.node(fd)?;
        if let Some(listing) = self.descriptor(fd)?.listing.as_ref().filter(|_| !from_start) {
            return Ok(listing.clone());
        }
        let tree = self.volume.lock();
        let dot = |name: &str, ino| Entry { name: name.into(), ino, kind: Kind::Directory };
        let mut entries = vec![dot(".", ino), dot("..", tree.parent_of(ino)?)];
        entries.extend(tree.list(ino)?);
        drop(tree);
        let listing = Arc::new(entries);
        self.descriptor_mut(fd)?.listing = Some(listing.clone());
        Ok(listing)
    }

    /// Path of the working directory.
    pub(crate) fn working_directory(&self) -> Result<String> {
        self.volume.lock().path_of(self.working_directory)
    }

    /// Changes the working directory.
    pub(crate) fn change_directory(&mut self, path: &str) -> Result<()> {
        let tree = self.volume.lock();
        let ino = tree.lookup(self.working_directory, path)?;
        if tree.stat(ino)?.kind != Kind::Directory {
            return Err(Errno::NOTDIR);
        }
        drop(tree);
        self.working_directory = ino;
        Ok(())
    }

    fn node(&self, fd: u32) -> Result<Ino> {
        match self.descriptor(fd)?.target {
            Target::Node(ino) => Ok(ino),
            Target::Stdin | Target::Log => Err(Errno::SPIPE),
        }
    }

    fn writable_node(&self, fd: u32) -> Result<Ino> {
        if self.descriptor(fd)?.writable { self.node(fd) } else { Err(Errno::BADF) }
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

    fn acquire(&self, descriptor: &Descriptor) {
        if let Target::Node(ino) = descriptor.target {
            self.volume.lock().acquire(ino);
        }
    }
}

impl Drop for Files {
    /// A guest that ends, however it ends, leaves no descriptor behind: the volume may outlive it.
    fn drop(&mut self) {
        for descriptor in self.descriptors.iter().flatten() {
            if let Target::Node(ino) = descriptor.target {
                self.volume.lock().close(ino);
            }
        }
    }
}

impl Descriptor {
    fn new(target: Target, writable: bool, append: bool) -> Self {
        let offset = Arc::new(AtomicU64::new(0));
        Self { target, offset, append, writable, close_on_exec: false, listing: None }
    }

    // The guest is one thread, and so is whoever holds its descriptors: the atomic is for sharing between duplicates, not for ordering.
    fn offset(&self) -> u64 {
        self.offset.load(Ordering::Relaxed)
    }

    fn set_offset(&self, offset: u64) {
        self.offset.store(offset, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::{Image, Tree};
    use super::*;

    const CREATE: OpenOptions =
        OpenOptions { create: true, exclusive: false, truncate: false, directory: false, write: true };

    fn files() -> Files {
        let image =
            Image::new([("d/x".to_string(), super::super::Item::File(Bytes::from_static(b"0123456789")))], 1).unwrap();
        Files::new(Arc::new(Volume::new(Tree::new(Arc::new(image)))), Bytes::from_static(b"input"))
    }

    #[test]
    fn numbers_are_the_lowest_free_ones() {
        let mut files = files();
        let numbers: Vec<u32> =
            ["a", "b", "c"].iter().map(|path| files.open(ROOT_FD, path, CREATE, false, 2).unwrap()).collect();
        assert_eq!(numbers, [4, 5, 6]);
        files.close(5).unwrap();
        assert_eq!(files.close(5), Err(Errno::BADF));
        assert_eq!(files.open(ROOT_FD, "d", OpenOptions::default(), false, 2), Ok(5));
        assert_eq!(files.duplicate(4, 100, true), Ok(100));
        assert_eq!(files.duplicate(4, DESCRIPTORS_MAX as u32, true), Err(Errno::MFILE));
    }

    #[test]
    fn duplicates_share_the_offset() {
        let mut files = files();
        let one = files.open(ROOT_FD, "d/x", OpenOptions::default(), false, 2).unwrap();
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
        let fd = files.open(ROOT_FD, "log", CREATE, true, 2).unwrap();
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
        assert_eq!(files.working_directory().unwrap(), "/d");
        assert!(files.open(CWD_FD, "x", OpenOptions::default(), false, 2).is_ok());
        assert_eq!(files.open(ROOT_FD, "x", OpenOptions::default(), false, 2), Err(Errno::NOENT));
        assert_eq!(files.change_directory("x"), Err(Errno::NOTDIR));
    }

    #[test]
    fn a_listing_stays_as_it_was_while_it_is_read() {
        let mut files = files();
        let fd = files.open(ROOT_FD, "d", OpenOptions::default(), false, 2).unwrap();
        let names = |entries: Arc<Vec<Entry>>| entries.iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(files.list(fd, true).unwrap()), [".", "..", "x"]);
        files.volume().lock().remove_file(ROOT, "d/x", 3).unwrap();
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
        let mut files = files();
        let volume = files.volume().clone();
        let fd = files.open(ROOT_FD, "gone", CREATE, false, 2).unwrap();
        let ino = files.stat(fd).unwrap().unwrap().ino;
        volume.lock().remove_file(ROOT, "gone", 3).unwrap();
        assert!(volume.lock().stat(ino).is_ok());
        drop(files);
        assert_eq!(volume.lock().stat(ino), Err(Errno::IO));
    }
}
