//! Finished outputs of steps, found by fingerprint and never trusted unread.
//!
//! An entry is `<step>/<fingerprint>/` with the step's `out/` and a `record.json` that names every file with size and SHA-256. It comes into being by one rename
//! of a directory that is complete and on disk; so a run that died leaves a scratch directory and never an entry. Each lookup reads and hashes the whole entry:
//! one that differs from its record is moved aside. The store neither runs steps nor decides what their inputs are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::fingerprint::Fingerprint;
use super::plan::{PlannedStep, StepId, StepState};
use super::runlock::RunLock;
use crate::error::{Context, Error, Result};
use crate::paths::Paths;

/// Format of `record.json`. An entry of another format is built again.
const FORMAT: u32 = 1;
const RECORD: &str = "record.json";
const OUT: &str = "out";
const LOCK: &str = "lock";
/// Names the fingerprint of the entry that was used last, so that a plan can say what has changed since.
const LATEST: &str = "latest";

/// The store of one cache directory.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    entries: PathBuf,
    scratch: PathBuf,
}

/// What is known about a finished step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    pub(crate) step: StepId,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) inputs: BTreeMap<String, Fingerprint>,
    pub(crate) after: BTreeMap<StepId, Fingerprint>,
    /// Versions of what it was built with, as the step reported them.
    pub(crate) tools: BTreeMap<String, String>,
    pub(crate) seconds: u64,
    /// When it was finished, in seconds since 1970.
    pub(crate) finished: u64,
    pub(crate) output: Contents,
}

/// What a lookup found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// The verified output directory.
    Hit(PathBuf),
    Missing,
    /// Something was there, but not what its record says; it has been moved aside.
    Damaged(String),
}

impl Store {
    pub(crate) fn new(paths: &Paths) -> Self {
        // A directory of its own inside the scratch directory: everything in it is the store's to remove.
        Self { entries: paths.store(), scratch: paths.scratch().join("steps") }
    }

    /// Verifies the entry of a step, every byte of it.
    pub(crate) fn lookup(&self, step: &PlannedStep, _lock: &RunLock) -> Result<Lookup> {
        let entry = self.entry(step);
        if !exists(&entry)? {
            return Ok(Lookup::Missing);
        }
        let Some(reason) = self.damage(step, &entry)? else {
            self.note_latest(step)?;
            return Ok(Lookup::Hit(entry.join(OUT)));
        };
        let aside = entry.with_extension("damaged");
        remove(&aside)?;
        fs::rename(&entry, &aside).map_err(|e| Error::io("move the damaged entry", &entry, e))?;
        Ok(Lookup::Damaged(reason))
    }

    /// Whether a step would have to run, and why. Reads records only; a damaged output shows at the lookup.
    pub(crate) fn state(&self, step: &PlannedStep) -> StepState {
        let entry = self.entry(step);
        match read_record(&entry) {
            Ok(_) => return StepState::Cached,
            Err(reason) if entry.exists() => return StepState::ToBuild(vec![format!("damaged: {reason}")]),
            Err(_) => {}
        }
        let directory = self.step_directory(&step.id);
        let latest = fs::read_to_string(directory.join(LATEST)).ok().and_then(|text| text.trim().parse().ok());
        let last = latest.and_then(|latest: Fingerprint| read_record(&directory.join(latest.to_string())).ok());
        StepState::ToBuild(match last {
            None => vec!["never built".to_owned()],
            Some(last) => changes(&last, step),
        })
    }

    /// Record of a finished step, unverified.
    pub(crate) fn record(&self, step: &PlannedStep) -> Option<Record> {
        read_record(&self.entry(step)).ok()
    }

    /// Output of a finished step, unverified.
    pub(crate) fn output(&self, step: &PlannedStep) -> Option<PathBuf> {
        self.record(step).map(|_| self.entry(step).join(OUT))
    }

    /// Where a step's log goes: beside its entries, so that it outlives a failure.
    pub(crate) fn log(&self, id: &StepId) -> Result<PathBuf> {
        let directory = self.step_directory(id);
        fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        Ok(directory.join("build.log"))
    }

    /// Removes scratch directories of runs that have died. Returns how many.
    pub(crate) fn clean_scratch(&self, _lock: &RunLock) -> Result<usize> {
        let mut removed = 0;
        if !exists(&self.scratch)? {
            return Ok(removed);
        }
        for entry in fs::read_dir(&self.scratch).map_err(|e| Error::io("list", &self.scratch, e))? {
            let path = entry.map_err(|e| Error::io("list", &self.scratch, e))?.path();
            match File::open(path.join(LOCK)).map(|file| file.try_lock()) {
                // Its process is alive. Under the run lock that is this process itself.
                Ok(Err(TryLockError::WouldBlock)) => {}
                Ok(Err(TryLockError::Error(e))) => return Err(Error::io("lock", &path, e)),
                Ok(Ok(())) | Err(_) => {
                    remove(&path)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    /// An empty directory for a step to work in.
    pub(crate) fn begin(&self, step: &PlannedStep) -> Result<Scratch> {
        fs::create_dir_all(&self.scratch).map_err(|e| Error::io("create", &self.scratch, e))?;
        let prefix = format!("{}-{}-", step.id.directory(), step.fingerprint.short());
        let directory = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&self.scratch)
            .map_err(|e| Error::io("create a scratch directory in", &self.scratch, e))?;
        let path = directory.path();
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(|e| Error::io("create", &lock_path, e))?;
        lock.lock().map_err(|e| Error::io("lock", &lock_path, e))?;
        let scratch = Scratch { work: path.join("work"), entry: path.join("entry"), directory, _lock: lock };
        for new in [&scratch.work, &scratch.entry, &scratch.out()] {
            fs::create_dir(new).map_err(|e| Error::io("create", new, e))?;
        }
        Ok(scratch)
    }

    /// Makes the output of a step an entry: hashes it, writes the record, puts all on disk, renames. Returns the output directory.
    pub(crate) fn commit(
        &self,
        step: &PlannedStep,
        scratch: Scratch,
        took: Duration,
        tools: BTreeMap<String, String>,
    ) -> Result<PathBuf> {
        self.seal(step, &scratch, took, tools)?;
        self.publish(step, scratch)
    }

    pub(super) fn seal(
        &self,
        step: &PlannedStep,
        scratch: &Scratch,
        took: Duration,
        tools: BTreeMap<String, String>,
    ) -> Result<()> {
        let record = Record {
            format: FORMAT,
            step: step.id.clone(),
            fingerprint: step.fingerprint,
            inputs: step.inputs.clone(),
            after: step.after.clone(),
            tools,
            seconds: took.as_secs(),
            finished: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            output: Contents::read_and_sync(&scratch.out())?,
        };
        let text = serde_json::to_vec_pretty(&record).context(|| format!("cannot write the record of {}", step.id))?;
        let path = scratch.entry.join(RECORD);
        fs::write(&path, text).map_err(|e| Error::io("write", &path, e))?;
        sync(&path)?;
        sync(&scratch.entry)
    }

    fn publish(&self, step: &PlannedStep, scratch: Scratch) -> Result<PathBuf> {
        let directory = self.step_directory(&step.id);
        fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        let entry = self.entry(step);
        fs::rename(&scratch.entry, &entry).map_err(|e| Error::io("put the finished output at", &entry, e))?;
        sync(&directory)?;
        self.note_latest(step)?;
        scratch.remove()?;
        Ok(entry.join(OUT))
    }

    /// What is wrong with an entry that exists.
    fn damage(&self, step: &PlannedStep, entry: &Path) -> Result<Option<String>> {
        let record = match read_record(entry) {
            Ok(record) => record,
            Err(reason) => return Ok(Some(reason)),
        };
        if record.step != step.id || record.fingerprint != step.fingerprint {
            return Ok(Some(format!("its record is of {} {}", record.step, record.fingerprint.short())));
        }
        record.output.difference(&entry.join(OUT))
    }

    fn note_latest(&self, step: &PlannedStep) -> Result<()> {
        let directory = self.step_directory(&step.id);
        let path = directory.join(LATEST);
        let text = format!("{}\n", step.fingerprint);
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            return Ok(());
        }
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&directory)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|e| Error::io("write", &path, e))
    }

    fn step_directory(&self, id: &StepId) -> PathBuf {
        self.entries.join(id.directory())
    }

    fn entry(&self, step: &PlannedStep) -> PathBuf {
        self.step_directory(&step.id).join(step.fingerprint.to_string())
    }
}

/// Directory of a running step. Dropping it removes it; a run that is killed leaves it to [`Store::clean_scratch`].
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    work: PathBuf,
    entry: PathBuf,
    /// Held as long as the run lives.
    _lock: File,
}

impl Scratch {
    /// For the step's result.
    pub(crate) fn out(&self) -> PathBuf {
        self.entry.join(OUT)
    }

    /// For everything that is not part of the result.
    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    fn remove(self) -> Result<()> {
        let path = self.directory.path().to_path_buf();
        self.directory.close().map_err(|e| Error::io("remove", &path, e))
    }
}

/// Why the step's fingerprint is not that of the record.
fn changes(last: &Record, step: &PlannedStep) -> Vec<String> {
    let mut reasons = Vec::new();
    compare(&last.inputs, &step.inputs, &mut reasons, |name, what| format!("input `{name}` {what}"));
    compare(&last.after, &step.after, &mut reasons, |id, what| format!("step {id}, which it builds on, {what}"));
    if reasons.is_empty() {
        reasons.push("another version of the pipeline built it".to_owned());
    }
    reasons
}

fn compare<K: Ord>(
    old: &BTreeMap<K, Fingerprint>,
    new: &BTreeMap<K, Fingerprint>,
    reasons: &mut Vec<String>,
    say: impl Fn(&K, &str) -> String,
) {
    for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) if old == new => {}
            (Some(_), Some(_)) => reasons.push(say(key, "changed")),
            (None, _) => reasons.push(say(key, "is new")),
            (Some(_), None) => reasons.push(say(key, "is gone")),
        }
    }
}

/// The record of an entry, or why it cannot be used.
fn read_record(entry: &Path) -> std::result::Result<Record, String> {
    let text = fs::read(entry.join(RECORD)).map_err(|e| format!("its {RECORD} cannot be read: {e}"))?;
    let record: Record = serde_json::from_slice(&text).map_err(|e| format!("its {RECORD} cannot be parsed: {e}"))?;
    if record.format == FORMAT {
        Ok(record)
    } else {
        Err(format!("its {RECORD} has format {}, expected {FORMAT}", record.format))
    }
}

fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(|e| Error::io("read", path, e))
}

/// Removes a directory with all below it; none there is fine.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => fs::remove_file(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
    .map_err(|e| Error::io("remove", path, e))
}

/// Puts a file or directory on disk.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", path, e))
}
