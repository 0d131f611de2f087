//! A file system that records the operations on another one, and rebuilds the possible states after
//! a loss of power, for tests of durability. It owns the recording and the rules of what can be
//! lost.
//!
//! The rules are those of a journaling file system: names change in order, and a sync of any file
//! makes every earlier change of a name durable. Contents and lengths of a file become durable only
//! when that file is synced; before, each write may be present, missing or torn between sectors, in
//! any order. What is written after a truncation and beyond the length that it set goes to newly
//! allocated blocks, not over the bytes that it removed: if the truncation is lost, so are these
//! writes, and every later change of the length.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::fs::errno::Result;
use crate::fs::{Entry, FileSystem, Handle, ImageFs, OpenOptions, RawSlice, RawSliceMut, Stat};

/// Size of a sector, in bytes, which a disk writes atomically.
pub const SECTOR: usize = 512;

/// Number of a file in a record: the same through all its names and handles.
pub type FileId = u64;

/// One change, or one sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A file came into being.
    Create {
        /// Its name.
        path: String,
        /// Its number.
        file: FileId,
    },
    /// A directory came into being.
    CreateDirectory(String),
    /// A directory went.
    RemoveDirectory(String),
    /// A name of a file went.
    RemoveFile(String),
    /// A name changed.
    Rename(String, String),
    /// A file got a second name.
    HardLink(String, String),
    /// Bytes were written.
    Write {
        /// Into which file.
        file: FileId,
        /// Where.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// A file was cut off or extended with zeros.
    SetLen {
        /// Which file.
        file: FileId,
        /// To how many bytes.
        len: u64,
    },
    /// A file or directory was synced. `None`: a directory.
    Sync(Option<FileId>),
}

/// What happens to an unsynced change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It reached the disk.
    Kept,
    /// It did not.
    Lost,
    /// Only this many of its first sectors did; for changes other than writes, none.
    Torn(usize),
}

/// A file system that records.
#[derive(Debug, Clone)]
pub struct LogFs {
    inner: Arc<dyn FileSystem>,
    record: Arc<Mutex<Record>>,
}

#[derive(Debug, Default)]
struct Record {
    operations: Vec<Operation>,
    /// Numbers of files, by the inner file system's number, while that is in use.
    files: HashMap<u64, FileId>,
    /// Files that were there from the beginning, by the name they had then.
    initial: BTreeMap<FileId, String>,
    next: FileId,
}

#[derive(Debug)]
struct LogHandle {
    inner: Arc<dyn Handle>,
    fs: LogFs,
    file: Option<FileId>,
}

/// A recorded run, to rebuild from.
#[derive(Debug, Clone)]
pub struct Recording {
    /// All operations, in order.
    pub operations: Vec<Operation>,
    initial: BTreeMap<FileId, String>,
}

impl LogFs {
    /// Records the operations on `inner` from now on. Every existing file must be reachable.
    ///
    /// # Errors
    /// The error of reading the tree.
    pub fn new(inner: Arc<dyn FileSystem>) -> Result<Self> {
        let mut record = Record::default();
        crate::fs::walk(&*inner, "", &mut |path, handle| {
            if let Some(handle) = handle {
                let file = record.number(handle.stat()?.ino);
                record.initial.insert(file, path.to_string());
            }
            Ok(())
        })
        .map_err(|(_, errno)| errno)?;
        Ok(Self { inner, record: Arc::new(Mutex::new(record)) })
    }

    /// The operations so far.
    pub fn recording(&self) -> Recording {
        let record = self.record();
        Recording { operations: record.operations.clone(), initial: record.initial.clone() }
    }

    /// The number of operations so far.
    pub fn len(&self) -> usize {
        self.record().operations.len()
    }

    /// Whether there are no operations yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs an operation and records it if it had an effect, under one lock, so that the recording
    /// has the order of the operations.
    fn run<T>(&self, operation: Operation, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut record = self.record();
        let value = run()?;
        record.operations.push(operation);
        Ok(value)
    }
}

impl Record {
    fn number(&mut self, ino: u64) -> FileId {
        let number = *self.files.entry(ino).or_insert(self.next);
        self.next = self.next.max(number + 1);
        number
    }
}

impl FileSystem for LogFs {
    fn open(&self, path: &str, options: OpenOptions, now_ns: u64) -> Result<Arc<dyn Handle>> {
        let mut record = self.record();
        let is_new = options.create && self.inner.stat(path).is_err();
        let inner = self.inner.open(path, options, now_ns)?;
        let stat = inner.stat()?;
        if is_new {
            // A number of the inner file system may have belonged to a file that is gone.
            record.files.remove(&stat.ino);
        }
        let file = (stat.kind == crate::fs::Kind::File).then(|| record.number(stat.ino));
        if let Some(file) = file {
            if is_new {
                record.operations.push(Operation::Create { path: path.to_string(), file });
            } else if options.truncate {
                record.operations.push(Operation::SetLen { file, len: 0 });
            }
        }
        Ok(Arc::new(LogHandle { inner, fs: self.clone(), file }))
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        self.inner.stat(path)
    }

    fn create_directory(&self, path: &str, now_ns: u64) -> Result<()> {
        self.run(Operation::CreateDirectory(path.to_string()), || self.inner.create_directory(path, now_ns))
    }

    fn remove_directory(&self, path: &str, now_ns: u64) -> Result<()> {
        self.run(Operation::RemoveDirectory(path.to_string()), || self.inner.remove_directory(path, now_ns))
    }

    fn remove_file(&self, path: &str, now_ns: u64) -> Result<()> {
        self.run(Operation::RemoveFile(path.to_string()), || self.inner.remove_file(path, now_ns))
    }

    fn rename(&self, from: &str, to: &str, now_ns: u64) -> Result<()> {
        self.run(Operation::Rename(from.to_string(), to.to_string()), || self.inner.rename(from, to, now_ns))
    }

    fn hard_link(&self, from: &str, to: &str, now_ns: u64) -> Result<()> {
        self.run(Operation::HardLink(from.to_string(), to.to_string()), || self.inner.hard_link(from, to, now_ns))
    }
}

impl Handle for LogHandle {
    fn read_into(&self, offset: u64, buf: RawSliceMut<'_>) -> Result<usize> {
        self.inner.read_into(offset, buf)
    }

    fn write_from(&self, offset: u64, data: RawSlice<'_>, now_ns: u64) -> Result<usize> {
        // The record must have the bytes that were written, whatever a guest does to its own
        // meanwhile.
        let data = data.to_vec();
        let mut record = self.fs.record();
        let count = self.inner.write_at(offset, &data, now_ns)?;
        if let Some(file) = self.file {
            record.operations.push(Operation::Write { file, offset, data: Bytes::copy_from_slice(&data[..count]) });
        }
        Ok(count)
    }

    fn stat(&self) -> Result<Stat> {
        self.inner.stat()
    }

    fn set_len(&self, len: u64, now_ns: u64) -> Result<()> {
        let run = || self.inner.set_len(len, now_ns);
        self.file.map_or_else(run, |file| self.fs.run(Operation::SetLen { file, len }, run))
    }

    fn allocate(&self, offset: u64, len: u64, now_ns: u64) -> Result<()> {
        let end = self.inner.stat()?.len.max(offset.saturating_add(len));
        let run = || self.inner.allocate(offset, len, now_ns);
        self.file.map_or_else(run, |file| self.fs.run(Operation::SetLen { file, len: end }, run))
    }

    fn set_modified(&self, modified_ns: u64) -> Result<()> {
        self.inner.set_modified(modified_ns)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        self.fs.run(Operation::Sync(self.file), || self.inner.sync(data_only))
    }

    fn list(&self) -> Result<Vec<Entry>> {
        self.inner.list()
    }
}

impl Recording {
    /// A possible state of the disk after the first `prefix` operations: synced changes are
    /// present; `fate` decides on every other change, by its number. Changes of names are lost from
    /// the first lost one on. `base` is the initial state of the recorded file system.
    ///
    /// # Errors
    /// The error of an operation. None fails if `base` is right; changes that depend on a lost name
    /// are left out.
    pub fn rebuild(&self, base: &ImageFs, prefix: usize, mut fate: impl FnMut(usize) -> Fate) -> Result<ImageFs> {
        let operations = &self.operations[..prefix.min(self.operations.len())];
        let last_sync = operations.iter().rposition(|operation| matches!(operation, Operation::Sync(_)));
        let mut synced_at: HashMap<FileId, usize> = HashMap::new();
        for (number, operation) in operations.iter().enumerate() {
            if let Operation::Sync(Some(file)) = operation {
                synced_at.insert(*file, number);
            }
        }
        let fs = base.copy();
        let mut handles: HashMap<FileId, Arc<dyn Handle>> = HashMap::new();
        for (file, path) in &self.initial {
            handles.insert(*file, fs.open(path, WRITE, 0)?);
        }
        let mut names_are_lost = false;
        // Lengths as they were in the recording, and the shortest one that a lost truncation set.
        let mut lengths: HashMap<FileId, u64> = HashMap::new();
        let mut truncations_lost: HashMap<FileId, u64> = HashMap::new();
        for (file, handle) in &handles {
            lengths.insert(*file, handle.stat()?.len);
        }
        for (number, operation) in operations.iter().enumerate() {
            let file = operation.file();
            let durable = file.map_or(last_sync.is_some_and(|at| number < at), |file| {
                synced_at.get(&file).is_some_and(|at| number < *at)
            });
            let fate = if durable || matches!(operation, Operation::Sync(_)) { Fate::Kept } else { fate(number) };
            if file.is_none() {
                names_are_lost |= fate != Fate::Kept;
                if !names_are_lost {
                    apply_name(&fs, operation, &mut handles)?;
                }
                continue;
            }
            let Some((file, handle)) = file.and_then(|file| Some((file, handles.get(&file)?))) else { continue };
            let length = lengths.entry(file).or_default();
            match operation {
                Operation::SetLen { len, .. } => {
                    let is_truncation = *len < std::mem::replace(length, *len);
                    match truncations_lost.entry(file) {
                        MapEntry::Occupied(mut lost) => *lost.get_mut() = (*lost.get()).min(*len),
                        MapEntry::Vacant(_) if fate == Fate::Kept => handle.set_len(*len, 0)?,
                        MapEntry::Vacant(vacant) if is_truncation => _ = vacant.insert(*len),
                        MapEntry::Vacant(_) => (),
                    }
                }
                Operation::Write { offset, data, .. } => {
                    *length = (*length).max(offset.saturating_add(data.len() as u64));
                    let kept = match fate {
                        Fate::Kept => data.len(),
                        Fate::Torn(sectors) => torn(*offset, data.len(), sectors),
                        Fate::Lost => 0,
                    };
                    let old = truncations_lost.get(&file).map_or(u64::MAX, |end| end.saturating_sub(*offset));
                    let kept = kept.min(usize::try_from(old).unwrap_or(usize::MAX));
                    if kept > 0 {
                        handle.write_at(*offset, &data[..kept], 0)?;
                    }
                }
                _ => (),
            }
        }
        drop(handles);
        Ok(fs)
    }
}

impl Operation {
    /// The file whose bytes or length this changes; `None` for changes of names and for syncs.
    fn file(&self) -> Option<FileId> {
        match self {
            Self::Write { file, .. } | Self::SetLen { file, .. } => Some(*file),
            _ => None,
        }
    }
}

const WRITE: OpenOptions =
    OpenOptions { create: false, exclusive: false, truncate: false, directory: false, write: true };

fn apply_name(fs: &ImageFs, operation: &Operation, handles: &mut HashMap<FileId, Arc<dyn Handle>>) -> Result<()> {
    match operation {
        Operation::Create { path, file } => {
            let options = OpenOptions { create: true, exclusive: true, ..WRITE };
            handles.insert(*file, fs.open(path, options, 0)?);
        }
        Operation::CreateDirectory(path) => fs.create_directory(path, 0)?,
        Operation::RemoveDirectory(path) => fs.remove_directory(path, 0)?,
        Operation::RemoveFile(path) => fs.remove_file(path, 0)?,
        Operation::Rename(from, to) => fs.rename(from, to, 0)?,
        Operation::HardLink(from, to) => fs.hard_link(from, to, 0)?,
        Operation::Write { .. } | Operation::SetLen { .. } | Operation::Sync(_) => (),
    }
    Ok(())
}

/// How many bytes of a write are in its first sectors; sectors begin at multiples of their size in
/// the file.
fn torn(offset: u64, len: usize, sectors: usize) -> usize {
    let first = SECTOR - (offset % SECTOR as u64) as usize;
    let kept = if sectors == 0 { 0 } else { first.saturating_add((sectors - 1).saturating_mul(SECTOR)) };
    kept.min(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::test_support::{CREATE, behaves_as_posix_says, paths, read};
    use crate::fs::{Image, Item};

    fn base() -> ImageFs {
        let item = Item::File(Bytes::from_static(b"0123"));
        ImageFs::new(Arc::new(Image::new([("old".to_string(), item)], 0).unwrap()))
    }

    fn recorder() -> LogFs {
        LogFs::new(Arc::new(base().copy())).unwrap()
    }

    fn write(fs: &LogFs, path: &str, offset: u64, data: &[u8]) -> Arc<dyn Handle> {
        let handle = fs.open(path, CREATE, 0).unwrap();
        assert_eq!(handle.write_at(offset, data, 0), Ok(data.len()));
        handle
    }

    #[test]
    fn it_is_the_file_system_it_records() {
        behaves_as_posix_says(&LogFs::new(Arc::new(ImageFs::new(Arc::new(Image::new([], 0).unwrap())))).unwrap());
    }

    #[test]
    fn every_prefix_without_losses_is_what_was_there_then() {
        let fs = recorder();
        let mut expected = vec![(0, paths(&fs), read(&fs, "old"))];
        let mut step = |fs: &LogFs, run: &dyn Fn()| {
            run();
            expected.push((fs.len(), paths(fs), read(fs, if fs.stat("old").is_ok() { "old" } else { "new" })));
        };
        step(&fs, &|| drop(write(&fs, "old", 2, b"xyz")));
        step(&fs, &|| fs.create_directory("d", 0).unwrap());
        step(&fs, &|| drop(write(&fs, "d/file", 0, b"a")));
        step(&fs, &|| fs.rename("d/file", "new", 0).unwrap());
        step(&fs, &|| fs.rename("old", "new", 0).unwrap());
        step(&fs, &|| write(&fs, "new", 0, b"!").set_len(1, 0).unwrap());
        step(&fs, &|| fs.hard_link("new", "second", 0).unwrap());
        step(&fs, &|| drop(fs.open("second", OpenOptions { truncate: true, ..WRITE }, 0).unwrap()));
        step(&fs, &|| fs.remove_directory("d", 0).unwrap());
        let recording = fs.recording();
        for (prefix, names, contents) in expected {
            let rebuilt = recording.rebuild(&base(), prefix, |_| Fate::Kept).unwrap();
            assert_eq!(paths(&rebuilt), names, "{prefix}");
            assert_eq!(read(&rebuilt, if rebuilt.stat("old").is_ok() { "old" } else { "new" }), contents, "{prefix}");
        }
    }

    #[test]
    fn only_what_was_synced_is_safe() {
        let fs = recorder();
        let old = write(&fs, "old", 0, b"A");
        old.sync(true).unwrap();
        old.write_at(1, b"B", 0).unwrap();
        let new = write(&fs, "new", 0, b"C");
        let (recording, all) = (fs.recording(), fs.len());
        let lost = recording.rebuild(&base(), all, |_| Fate::Lost).unwrap();
        assert_eq!((paths(&lost), read(&lost, "old")), (vec!["old".to_string()], b"A123".to_vec()));
        // Reordered: the later write is there, the earlier one is not.
        let reordered = recording.rebuild(&base(), all, |n| if n == 2 { Fate::Lost } else { Fate::Kept }).unwrap();
        assert_eq!((read(&reordered, "old"), read(&reordered, "new")), (b"A123".to_vec(), b"C".to_vec()));
        // A sync of another file keeps the name, but not the bytes.
        old.sync(false).unwrap();
        let lost = fs.recording().rebuild(&base(), fs.len(), |_| Fate::Lost).unwrap();
        assert_eq!((read(&lost, "old"), read(&lost, "new")), (b"AB23".to_vec(), Vec::new()));
        new.sync(true).unwrap();
        let kept = fs.recording().rebuild(&base(), fs.len(), |_| Fate::Lost).unwrap();
        assert_eq!(read(&kept, "new"), b"C");
    }

    #[test]
    fn a_write_is_torn_between_sectors() {
        let fs = recorder();
        write(&fs, "old", 500, &[7; 1000]).stat().unwrap();
        let torn = |sectors| {
            let rebuilt = fs.recording().rebuild(&base(), 1, |_| Fate::Torn(sectors)).unwrap();
            read(&rebuilt, "old").iter().filter(|byte| **byte == 7).count()
        };
        assert_eq!([0, 1, 2, 3, 4].map(torn), [0, 12, 524, 1000, 1000]);
    }

    #[test]
    fn a_write_does_not_reach_the_bytes_that_a_lost_truncation_removed() {
        let fs = recorder();
        let old = fs.open("old", WRITE, 0).unwrap();
        old.set_len(2, 0).unwrap();
        old.write_at(1, b"xyz", 0).unwrap();
        old.set_len(6, 0).unwrap();
        old.write_at(6, b"!", 0).unwrap();
        let recording = fs.recording();
        let state = |lost: &[usize]| {
            let fate = |n| if lost.contains(&n) { Fate::Lost } else { Fate::Kept };
            read(&recording.rebuild(&base(), 4, fate).unwrap(), "old")
        };
        assert_eq!(state(&[]), b"0xyz\0\0!");
        assert_eq!(state(&[0]), b"0x23", "the second byte was there before and after");
        assert_eq!(state(&[1]), b"01\0\0\0\0!");
        assert_eq!(state(&[2]), b"0xyz\0\0!", "a lost extension removes nothing");
        old.sync(true).unwrap();
        let synced = fs.recording().rebuild(&base(), fs.len(), |_| Fate::Lost).unwrap();
        assert_eq!(read(&synced, "old"), b"0xyz\0\0!");
    }

    #[test]
    fn names_are_lost_in_order() {
        let fs = recorder();
        fs.create_directory("d", 0).unwrap();
        fs.rename("d", "e", 0).unwrap();
        fs.create_directory("e/f", 0).unwrap();
        let recording = fs.recording();
        let names =
            |lost| paths(&recording.rebuild(&base(), 3, |n| if n == lost { Fate::Lost } else { Fate::Kept }).unwrap());
        assert_eq!((names(0), names(1)), (vec!["old".to_string()], vec!["d".to_string(), "old".to_string()]));
        assert_eq!(names(2), ["e", "old"]);
    }
}
