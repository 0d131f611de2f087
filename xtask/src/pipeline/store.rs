//! Finished outputs of steps, found by fingerprint and verified before each use.
//!
//! An output has two identities. Its fingerprint identifies its inputs and is used to find it. The
//! hash of its contents, from its record, is part of the fingerprints of later steps. Two entries
//! of a step may have equal contents; later steps then exist once.
//!
//! An entry is `<step>/<fingerprint>/` with the step's `out/` and a `record.json` that lists every
//! file with size and SHA-256. An entry is created by renaming a directory that is complete and
//! synced, so a killed run leaves a scratch directory and never an entry. Each lookup reads and
//! hashes the whole entry; one that differs from its record is moved aside. The store neither runs
//! steps nor decides what their inputs are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use super::fingerprint::Fingerprint;
use super::plan::{KeyedStep, Output, Plan, PlannedStep, StepId, StepState};
use super::runlock::RunLock;
use crate::error::{Context, Error, Result};
use crate::files::{self, Locked};
use crate::paths::Paths;

/// Format of `record.json`. An entry of another format is built again.
const FORMAT: u32 = 2;
const RECORD: &str = "record.json";
const OUT: &str = "out";
const LOCK: &str = "lock";
/// The fingerprint of the entry that was used last, so that a plan can tell what has changed since.
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
    /// Contents of other steps' outputs that it read, by [`super::plan::Need`] as text.
    pub(crate) after: BTreeMap<String, Fingerprint>,
    /// The entries that contained them. Other entries may have the same contents.
    pub(crate) from: BTreeMap<StepId, Fingerprint>,
    /// Versions of what it was built with, as the step reported them.
    pub(crate) tools: BTreeMap<String, String>,
    pub(crate) seconds: u64,
    /// When it was finished, in seconds since 1970.
    pub(crate) finished: u64,
    pub(crate) output: Contents,
}

/// What a lookup found.
#[derive(Debug, Clone)]
pub(crate) enum Lookup {
    /// The verified output.
    Hit(Output),
    Missing,
    /// The entry differed from its record; it has been moved aside.
    Damaged(String),
}

/// What is known about a plan before it runs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Forecast {
    states: BTreeMap<StepId, StepState>,
    /// Existing outputs, unverified.
    pub(crate) outputs: BTreeMap<StepId, Output>,
}

impl Forecast {
    /// Of a step of the plan.
    pub(crate) fn state(&self, step: &PlannedStep) -> StepState {
        self.states.get(&step.id).cloned().unwrap_or_else(|| StepState::ToBuild(vec!["not planned".to_owned()]))
    }
}

impl Store {
    pub(crate) fn new(paths: &Paths) -> Self {
        // A subdirectory of the scratch directory: the store may remove everything in it.
        Self { entries: paths.store(), scratch: paths.scratch().join("steps") }
    }

    /// Verifies every byte of a step's entry.
    pub(crate) fn lookup(&self, step: &KeyedStep<'_>, _lock: &RunLock) -> Result<Lookup> {
        let entry = self.entry(step);
        if !exists(&entry)? {
            return Ok(Lookup::Missing);
        }
        let reason = match self.verify(step, &entry)? {
            Ok(output) => {
                self.note_latest(step)?;
                return Ok(Lookup::Hit(output));
            }
            Err(reason) => reason,
        };
        let aside = entry.with_extension("damaged");
        remove(&aside)?;
        fs::rename(&entry, &aside).map_err(|e| Error::io("move the damaged entry", &entry, e))?;
        Ok(Lookup::Damaged(reason))
    }

    /// What is known about each step of a plan before any runs. Reads records only; the lookup
    /// detects a damaged output.
    pub(crate) fn forecast(&self, plan: &Plan) -> Result<Forecast> {
        let mut forecast = Forecast::default();
        for step in &plan.steps {
            let missing: Vec<StepId> =
                step.before().into_iter().filter(|id| !forecast.outputs.contains_key(*id)).cloned().collect();
            let state = if missing.is_empty() {
                let keyed = step.keyed(&forecast.outputs)?;
                let entry = self.entry(&keyed);
                match read_record(&entry) {
                    Ok(record) => {
                        let contents = Arc::new(record.output);
                        let output = Output { path: entry.join(OUT), fingerprint: keyed.fingerprint, contents };
                        forecast.outputs.insert(step.id.clone(), output);
                        StepState::Cached
                    }
                    Err(reason) if entry.exists() => StepState::ToBuild(vec![format!("damaged: {reason}")]),
                    Err(_) => StepState::ToBuild(match self.latest(&step.id) {
                        None => vec!["never built".to_owned()],
                        Some(last) => changes(&last, &keyed),
                    }),
                }
            } else {
                // The contents that it will read are not known yet, but its own inputs are.
                match self.latest(&step.id) {
                    None => StepState::ToBuild(vec!["never built".to_owned()]),
                    Some(last) => match changed_inputs(&last, step) {
                        reasons if reasons.is_empty() => StepState::Open(missing),
                        reasons => StepState::ToBuild(reasons),
                    },
                }
            };
            forecast.states.insert(step.id.clone(), state);
        }
        Ok(forecast)
    }

    /// Record of the entry of a step that was used last, unverified.
    pub(crate) fn latest(&self, id: &StepId) -> Option<Record> {
        let directory = self.step_directory(id);
        let latest: Fingerprint = fs::read_to_string(directory.join(LATEST)).ok()?.trim().parse().ok()?;
        read_record(&directory.join(latest.to_string())).ok()
    }

    /// Path of a step's log: beside its entries, so that it remains after a failure.
    pub(crate) fn log(&self, id: &StepId) -> Result<PathBuf> {
        let directory = self.step_directory(id);
        files::make_directory(&directory)?;
        Ok(directory.join("build.log"))
    }

    /// Removes scratch directories of killed runs. Returns their number.
    pub(crate) fn clean_scratch(&self, _lock: &RunLock) -> Result<usize> {
        let mut removed = 0;
        if !exists(&self.scratch)? {
            return Ok(removed);
        }
        for entry in fs::read_dir(&self.scratch).map_err(|e| Error::io("list", &self.scratch, e))? {
            let path = entry.map_err(|e| Error::io("list", &self.scratch, e))?.path();
            let free = match File::open(path.join(LOCK)).map(Locked::take) {
                Ok(Err(e)) => return Err(Error::io("lock", &path, e)),
                // Its process is alive. Under the run lock that is this process itself.
                Ok(Ok(Err(_))) => false,
                Ok(Ok(Ok(_))) | Err(_) => true,
            };
            if free {
                remove(&path)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// An empty directory for a step to work in.
    pub(crate) fn begin(&self, step: &KeyedStep<'_>) -> Result<Scratch> {
        self.scratch(&format!("{}-{}-", step.step.id.directory(), step.fingerprint.short()))
    }

    /// An empty directory for work that is no step.
    pub(crate) fn alone(&self) -> Result<Scratch> {
        self.scratch("alone-")
    }

    fn scratch(&self, prefix: &str) -> Result<Scratch> {
        files::make_directory(&self.scratch)?;
        let directory = files::scratch(prefix, &self.scratch)?;
        let path = directory.path();
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(|e| Error::io("create", &lock_path, e))?;
        let lock = Locked::wait(lock).map_err(|e| Error::io("lock", &lock_path, e))?;
        let scratch = Scratch { work: path.join("work"), entry: path.join("entry"), directory, _lock: lock };
        for new in [&scratch.work, &scratch.entry, &scratch.out()] {
            fs::create_dir(new).map_err(|e| Error::io("create", new, e))?;
        }
        Ok(scratch)
    }

    /// Makes the output of a step an entry: hashes it, writes the record, syncs everything,
    /// renames.
    pub(crate) fn commit(
        &self,
        step: &KeyedStep<'_>,
        scratch: Scratch,
        took: Duration,
        tools: BTreeMap<String, String>,
    ) -> Result<Output> {
        let contents = self.seal(step, &scratch, took, tools)?;
        self.publish(step, scratch, contents)
    }

    pub(super) fn seal(
        &self,
        step: &KeyedStep<'_>,
        scratch: &Scratch,
        took: Duration,
        tools: BTreeMap<String, String>,
    ) -> Result<Contents> {
        let id = &step.step.id;
        let record = Record {
            format: FORMAT,
            step: id.clone(),
            fingerprint: step.fingerprint,
            inputs: step.step.inputs.clone(),
            after: step.after.iter().map(|(need, digest)| (need.to_string(), *digest)).collect(),
            from: step.from.clone(),
            tools,
            seconds: took.as_secs(),
            finished: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            output: Contents::read_and_sync(&scratch.out())?,
        };
        let text = serde_json::to_vec_pretty(&record).context(|| format!("cannot write the record of {id}"))?;
        let path = scratch.entry.join(RECORD);
        files::write(&path, text)?;
        sync(&path)?;
        sync(&scratch.entry)?;
        Ok(record.output)
    }

    fn publish(&self, step: &KeyedStep<'_>, scratch: Scratch, contents: Contents) -> Result<Output> {
        let directory = self.step_directory(&step.step.id);
        files::make_directory(&directory)?;
        let entry = self.entry(step);
        fs::rename(&scratch.entry, &entry).map_err(|e| Error::io("put the finished output at", &entry, e))?;
        sync(&directory)?;
        self.note_latest(step)?;
        scratch.remove()?;
        Ok(Output { path: entry.join(OUT), fingerprint: step.fingerprint, contents: Arc::new(contents) })
    }

    /// The output of an entry that exists, or what is wrong with it.
    fn verify(&self, step: &KeyedStep<'_>, entry: &Path) -> Result<std::result::Result<Output, String>> {
        let record = match read_record(entry) {
            Ok(record) => record,
            Err(reason) => return Ok(Err(reason)),
        };
        if record.step != step.step.id || record.fingerprint != step.fingerprint {
            return Ok(Err(format!("its record is of {} {}", record.step, record.fingerprint.short())));
        }
        let path = entry.join(OUT);
        Ok(match record.output.difference(&path)? {
            Some(reason) => Err(reason),
            None => Ok(Output { path, fingerprint: step.fingerprint, contents: Arc::new(record.output) }),
        })
    }

    fn note_latest(&self, step: &KeyedStep<'_>) -> Result<()> {
        let directory = self.step_directory(&step.step.id);
        let path = directory.join(LATEST);
        let text = format!("{}\n", step.fingerprint);
        if fs::read_to_string(&path).is_ok_and(|found| found == text) {
            return Ok(());
        }
        files::replace(&path, text.as_bytes())
    }

    fn step_directory(&self, id: &StepId) -> PathBuf {
        self.entries.join(id.directory())
    }

    fn entry(&self, step: &KeyedStep<'_>) -> PathBuf {
        self.step_directory(&step.step.id).join(step.fingerprint.to_string())
    }
}

/// Directory of a running step. Dropping it removes it; a run that is killed leaves it to
/// [`Store::clean_scratch`].
#[derive(Debug)]
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    work: PathBuf,
    entry: PathBuf,
    /// Held as long as the run exists.
    _lock: Locked,
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
fn changes(last: &Record, step: &KeyedStep<'_>) -> Vec<String> {
    let mut reasons = changed_inputs(last, step.step);
    let after = step.after.iter().map(|(need, digest)| (need.to_string(), *digest)).collect();
    compare(&last.after, &after, &mut reasons, |need, what| format!("{need}, which it reads, {what}"));
    if reasons.is_empty() {
        reasons.push("another version of the pipeline built it".to_owned());
    }
    reasons
}

/// How the step's own inputs differ from those of the record.
fn changed_inputs(last: &Record, step: &PlannedStep) -> Vec<String> {
    let mut reasons = Vec::new();
    compare(&last.inputs, &step.inputs, &mut reasons, |name, what| format!("input `{name}` {what}"));
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

/// Removes a directory recursively; a missing one is not an error.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotADirectory => fs::remove_file(path),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
    .map_err(|e| Error::io("remove", path, e))
}

/// Syncs a file or directory.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", path, e))
}
