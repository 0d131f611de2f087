//! Faults of the program around a database, and of one database beside another: a panic in a host
//! function, and a disk that does not answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use pglite_oxide::dev::{
    self, Entry, Errno, FileSystem, Handle, LogFs, OpenOptions, Operation, RawSlice, RawSliceMut, Stat,
};
use pglite_oxide::{Durability, ErrorKind, Pglite};

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_session_whose_host_function_panicked_is_never_entered_again() {
    let mut db = Pglite::temporary().unwrap();
    let mut other = Pglite::temporary().unwrap();
    dev::panic_in_next_output(&mut db).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| db.batch_execute("SELECT 1"))).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a panic in a host function"));
    for _ in 0..2 {
        let error = db.batch_execute("SELECT 1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert!(db.is_closed());
    other.batch_execute("SELECT 1").unwrap();
    drop(db);
    other.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_disk_that_does_not_answer_delays_its_own_database_only() {
    let gate = Arc::new(Gate::default());
    let stuck = GatedFs { inner: Arc::new(dev::template().unwrap()), gate: gate.clone() };
    let log = LogFs::new(Arc::new(dev::template().unwrap())).unwrap();
    let mut one = dev::open(Arc::new(stuck), Durability::Relaxed, &[]).unwrap();
    let mut two = dev::open(Arc::new(log.clone()), Durability::Relaxed, &[]).unwrap();
    gate.close();
    one.batch_execute("CREATE TABLE t (a int)").unwrap();
    gate.await_sync();
    // The first one's flush hangs now. What the second one commits reaches its disk without another
    // statement.
    let before = log.len();
    two.batch_execute("CREATE TABLE t (a int)").unwrap();
    let is_synced = || log.recording().operations[before..].iter().any(|o| matches!(o, Operation::Sync(Some(_))));
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_synced() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    let synced = is_synced();
    gate.open();
    assert!(synced, "a commit waits for another database's disk");
    one.close().unwrap();
    two.close().unwrap();
}

/// Holds up syncs while it is closed.
#[derive(Debug, Default)]
struct Gate {
    /// Closed, and how many syncs wait.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Gate {
    fn close(&self) {
        self.state.lock().unwrap().0 = true;
    }

    fn open(&self) {
        self.state.lock().unwrap().0 = false;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        while state.0 {
            state = self.changed.wait(state).unwrap();
        }
        state.1 -= 1;
    }

    fn await_sync(&self) {
        let state = self.state.lock().unwrap();
        let waiting = self.changed.wait_timeout_while(state, Duration::from_secs(60), |state| state.1 == 0).unwrap();
        assert!(!waiting.1.timed_out(), "no commit is flushed");
    }
}

#[derive(Debug)]
struct GatedFs {
    inner: Arc<dyn FileSystem>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedHandle {
    inner: Arc<dyn Handle>,
    gate: Arc<Gate>,
}

impl FileSystem for GatedFs {
    fn open(&self, path: &str, options: OpenOptions, now_ns: u64) -> Result<Arc<dyn Handle>, Errno> {
        let inner = self.inner.open(path, options, now_ns)?;
        Ok(Arc::new(GatedHandle { inner, gate: self.gate.clone() }))
    }

    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        self.inner.stat(path)
    }

    fn create_directory(&self, path: &str, now_ns: u64) -> Result<(), Errno> {
        self.inner.create_directory(path, now_ns)
    }

    fn remove_directory(&self, path: &str, now_ns: u64) -> Result<(), Errno> {
        self.inner.remove_directory(path, now_ns)
    }

    fn remove_file(&self, path: &str, now_ns: u64) -> Result<(), Errno> {
        self.inner.remove_file(path, now_ns)
    }

    fn rename(&self, from: &str, to: &str, now_ns: u64) -> Result<(), Errno> {
        self.inner.rename(from, to, now_ns)
    }

    fn hard_link(&self, from: &str, to: &str, now_ns: u64) -> Result<(), Errno> {
        self.inner.hard_link(from, to, now_ns)
    }
}

impl Handle for GatedHandle {
    fn read_into(&self, offset: u64, buf: RawSliceMut<'_>) -> Result<usize, Errno> {
        self.inner.read_into(offset, buf)
    }

    fn write_from(&self, offset: u64, data: RawSlice<'_>, now_ns: u64) -> Result<usize, Errno> {
        self.inner.write_from(offset, data, now_ns)
    }

    fn stat(&self) -> Result<Stat, Errno> {
        self.inner.stat()
    }

    fn set_len(&self, len: u64, now_ns: u64) -> Result<(), Errno> {
        self.inner.set_len(len, now_ns)
    }

    fn allocate(&self, offset: u64, len: u64, now_ns: u64) -> Result<(), Errno> {
        self.inner.allocate(offset, len, now_ns)
    }

    fn set_modified(&self, modified_ns: u64) -> Result<(), Errno> {
        self.inner.set_modified(modified_ns)
    }

    fn sync(&self, data_only: bool) -> Result<(), Errno> {
        self.gate.pass();
        self.inner.sync(data_only)
    }

    fn list(&self) -> Result<Vec<Entry>, Errno> {
        self.inner.list()
    }
}
