//! A file system that fails on request, for tests of disk errors. It owns which operation fails and
//! how.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::fs::errno::{Errno, Result};
use crate::fs::{Entry, FileSystem, Handle, OpenOptions, RawSlice, RawSliceMut, Stat};

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Input/output error.
    Io,
    /// No space left.
    Full,
    /// A write stops half way, and then there is no space left. Other operations fail with "no
    /// space left" at once.
    Short,
    /// A sync is acknowledged but not performed. Other operations are not affected.
    Swallowed,
}

/// Operations to count and to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// All operations that can fail because of a full or broken disk.
    All,
    /// Reads.
    Read,
    /// Writes, and changes of a file's length.
    Write,
    /// Syncs.
    Sync,
    /// Changes of names, and opening.
    Name,
}

/// The planned fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// How.
    pub fault: Fault,
    /// What is counted.
    pub class: Class,
    /// Number of the first operation that fails, from 0.
    pub at: u64,
    /// Whether all later operations of the class fail too, as on a full or dead disk.
    pub lasting: bool,
}

/// A file system that fails as planned.
#[derive(Debug, Clone)]
pub struct FaultFs {
    inner: Arc<dyn FileSystem>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    count: AtomicU64,
    healed: AtomicBool,
}

#[derive(Debug)]
struct FaultHandle {
    inner: Arc<dyn Handle>,
    state: Arc<State>,
}

impl FaultFs {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn FileSystem>, plan: Plan) -> Self {
        Self { inner, state: Arc::new(State { plan, count: AtomicU64::new(0), healed: AtomicBool::new(false) }) }
    }

    /// Number of operations of the planned class so far.
    pub fn count(&self) -> u64 {
        self.state.count.load(Ordering::SeqCst)
    }

    /// Ends the failures.
    pub fn heal(&self) {
        self.state.healed.store(true, Ordering::SeqCst);
    }
}

impl State {
    /// Counts an operation and returns how it fails, if it does.
    fn next(&self, class: Class) -> Option<Fault> {
        if self.plan.class != Class::All && self.plan.class != class {
            return None;
        }
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let is_due = number == self.plan.at || self.plan.lasting && number > self.plan.at;
        (is_due && !self.healed.load(Ordering::SeqCst)).then_some(self.plan.fault)
    }

    /// Counts an operation that fails completely or not at all.
    fn check(&self, class: Class) -> Result<()> {
        match self.next(class) {
            Some(Fault::Io) => Err(Errno::IO),
            // A full disk can still be read.
            Some(Fault::Full | Fault::Short) if class != Class::Read => Err(Errno::NOSPC),
            _ => Ok(()),
        }
    }
}

impl FileSystem for FaultFs {
    fn open(&self, path: &str, options: OpenOptions, now_ns: u64) -> Result<Arc<dyn Handle>> {
        // Opening an existing file needs no space.
        if options.create || self.state.plan.fault == Fault::Io {
            self.state.check(Class::Name)?;
        }
        let inner = self.inner.open(path, options, now_ns)?;
        Ok(Arc::new(FaultHandle { inner, state: self.state.clone() }))
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        self.inner.stat(path)
    }

    fn create_directory(&self, path: &str, now_ns: u64) -> Result<()> {
        self.state.check(Class::Name)?;
        self.inner.create_directory(path, now_ns)
    }

    fn remove_directory(&self, path: &str, now_ns: u64) -> Result<()> {
        self.state.check(Class::Name)?;
        self.inner.remove_directory(path, now_ns)
    }

    fn remove_file(&self, path: &str, now_ns: u64) -> Result<()> {
        self.state.check(Class::Name)?;
        self.inner.remove_file(path, now_ns)
    }

    fn rename(&self, from: &str, to: &str, now_ns: u64) -> Result<()> {
        self.state.check(Class::Name)?;
        self.inner.rename(from, to, now_ns)
    }

    fn hard_link(&self, from: &str, to: &str, now_ns: u64) -> Result<()> {
        self.state.check(Class::Name)?;
        self.inner.hard_link(from, to, now_ns)
    }
}

impl Handle for FaultHandle {
    fn read_into(&self, offset: u64, buf: RawSliceMut<'_>) -> Result<usize> {
        self.state.check(Class::Read)?;
        self.inner.read_into(offset, buf)
    }

    fn write_from(&self, offset: u64, data: RawSlice<'_>, now_ns: u64) -> Result<usize> {
        match self.state.next(Class::Write) {
            Some(Fault::Io) => Err(Errno::IO),
            Some(Fault::Full) => Err(Errno::NOSPC),
            Some(Fault::Short) if data.len() > 1 => self.inner.write_from(offset, data.part(0, data.len() / 2), now_ns),
            Some(Fault::Short) => Err(Errno::NOSPC),
            Some(Fault::Swallowed) | None => self.inner.write_from(offset, data, now_ns),
        }
    }

    fn stat(&self) -> Result<Stat> {
        self.inner.stat()
    }

    fn set_len(&self, len: u64, now_ns: u64) -> Result<()> {
        self.state.check(Class::Write)?;
        self.inner.set_len(len, now_ns)
    }

    fn allocate(&self, offset: u64, len: u64, now_ns: u64) -> Result<()> {
        self.state.check(Class::Write)?;
        self.inner.allocate(offset, len, now_ns)
    }

    fn set_modified(&self, modified_ns: u64) -> Result<()> {
        self.inner.set_modified(modified_ns)
    }

    fn sync(&self, data_only: bool) -> Result<()> {
        match self.state.next(Class::Sync) {
            Some(Fault::Io) => Err(Errno::IO),
            Some(Fault::Full | Fault::Short) => Err(Errno::NOSPC),
            Some(Fault::Swallowed) => Ok(()),
            None => self.inner.sync(data_only),
        }
    }

    fn list(&self) -> Result<Vec<Entry>> {
        self.state.check(Class::Read)?;
        self.inner.list()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::log::{LogFs, Operation};
    use crate::fs::test_support::{CREATE, behaves_as_posix_says, read};
    use crate::fs::{Image, ImageFs};

    fn inner() -> Arc<dyn FileSystem> {
        Arc::new(ImageFs::new(Arc::new(Image::new([], 0).unwrap())))
    }

    const PLAN: Plan = Plan { fault: Fault::Io, class: Class::Write, at: 1, lasting: false };

    #[test]
    fn without_a_fault_it_is_the_file_system_below() {
        behaves_as_posix_says(&FaultFs::new(inner(), Plan { at: u64::MAX, ..PLAN }));
    }

    #[test]
    fn the_planned_operation_fails_and_no_other() {
        for (fault, expected) in [(Fault::Io, Errno::IO), (Fault::Full, Errno::NOSPC)] {
            let fs = FaultFs::new(inner(), Plan { fault, ..PLAN });
            let file = fs.open("f", CREATE, 0).unwrap();
            let results = [0, 1, 2].map(|n| file.write_at(n, b"x", 0));
            assert_eq!(results, [Ok(1), Err(expected), Ok(1)]);
            assert_eq!((file.sync(false), fs.create_directory("d", 0), fs.count()), (Ok(()), Ok(()), 3));
        }
    }

    #[test]
    fn a_full_disk_stays_full_until_it_is_healed() {
        let fs = FaultFs::new(inner(), Plan { fault: Fault::Short, class: Class::All, at: 1, lasting: true });
        let file = fs.open("f", CREATE, 0).unwrap();
        assert_eq!(file.write_at(0, b"12345678", 0), Ok(4));
        assert_eq!(file.write_at(4, b"5", 0), Err(Errno::NOSPC));
        assert_eq!((fs.create_directory("d", 0), file.set_len(100, 0)), (Err(Errno::NOSPC), Err(Errno::NOSPC)));
        assert_eq!((file.read_at(0, &mut [0; 9]), fs.open("f", OpenOptions::default(), 0).is_ok()), (Ok(4), true));
        fs.heal();
        assert_eq!((file.write_at(4, b"5", 0), read(&fs, "f")), (Ok(1), b"12345".to_vec()));
    }

    #[test]
    fn a_swallowed_sync_never_arrives() {
        let log = LogFs::new(inner()).unwrap();
        let fs = FaultFs::new(
            Arc::new(log.clone()),
            Plan { fault: Fault::Swallowed, class: Class::Sync, at: 0, lasting: true },
        );
        let file = fs.open("f", CREATE, 0).unwrap();
        assert_eq!((file.write_at(0, b"x", 0), file.sync(true), fs.count()), (Ok(1), Ok(()), 1));
        let synced = log.recording().operations.iter().filter(|o| matches!(o, Operation::Sync(_))).count();
        assert_eq!((synced, log.len()), (0, 2));
    }
}
