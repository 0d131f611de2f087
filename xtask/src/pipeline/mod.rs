//! The engine of the pipeline: takes a plan, runs the steps whose output is not in the store yet, in order, and says where every output is. What the steps are
//! and what they do belongs to the verbs; the engine knows names, fingerprints and directories.

pub(crate) mod contents;
pub(crate) mod fingerprint;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod runlock;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Result};
use plan::{Plan, PlannedStep, StepId};
use progress::{Progress, elapsed};
use runlock::RunLock;
use store::{Lookup, Store};

/// What a step does. It writes its result into [`StepContext::out`] and everything else into [`StepContext::work`].
pub(crate) type Executor<'a> = Box<dyn Fn(&mut StepContext<'_>) -> Result<()> + 'a>;

/// What a running step gets from the engine.
#[derive(Debug)]
pub(crate) struct StepContext<'a> {
    /// Empty directory for the result.
    pub(crate) out: PathBuf,
    /// Empty directory for everything else; it is removed afterwards.
    pub(crate) work: PathBuf,
    /// File that collects what the step's tools print; its end is shown when the step fails.
    pub(crate) log: PathBuf,
    /// Versions of what the step was made with, for the record.
    pub(crate) tools: BTreeMap<String, String>,
    step: &'a PlannedStep,
    outputs: &'a BTreeMap<StepId, PathBuf>,
}

impl StepContext<'_> {
    /// Output of a step this one comes after.
    pub(crate) fn output_of(&self, id: &StepId) -> Result<&Path> {
        let output = self.step.after.get(id).and_then(|_| self.outputs.get(id));
        output.map(PathBuf::as_path).ok_or_else(|| {
            Error::new(format!("step {} reads the output of {id}, but is not planned after it", self.step.id))
                .repair("add it to the step's `after`")
        })
    }

    /// The log, open at its end.
    pub(crate) fn open_log(&self) -> Result<File> {
        File::options().append(true).create(true).open(&self.log).map_err(|e| Error::io("open", &self.log, e))
    }

    /// Writes a line into the log.
    pub(crate) fn note(&self, line: &str) -> Result<()> {
        writeln!(self.open_log()?, "{line}").map_err(|e| Error::io("write", &self.log, e))
    }

    /// Runs a command with its output in the log; anything but success is an error.
    pub(crate) fn run(&self, command: &mut Command) -> Result<()> {
        self.note(&format!("+ {command:?}"))?;
        let (out, err) = (self.open_log()?, self.open_log()?);
        let program = command.get_program().to_string_lossy().into_owned();
        let status = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .status()
            .map_err(|e| Error::new(format!("cannot start {program}")).cause(e))?;
        if status.success() { Ok(()) } else { Err(Error::new(format!("{program} failed: {status}"))) }
    }
}

/// Runs a plan. Steps whose verified output is in the store are not run. Returns the output directory of every step.
pub(crate) fn run(
    plan: &Plan,
    executors: &BTreeMap<StepId, Executor<'_>>,
    store: &Store,
    lock: &RunLock,
    progress: &Progress,
) -> Result<BTreeMap<StepId, PathBuf>> {
    if let Some(step) = plan.steps.iter().find(|step| !executors.contains_key(&step.id)) {
        return Err(Error::new(format!("step {} is planned, but nothing can run it", step.id)));
    }
    let left = store.clean_scratch(lock)?;
    if left > 0 {
        progress.say(&format!("removed {left} unfinished outputs of earlier runs"));
    }
    let total = plan.steps.len();
    let mut outputs = BTreeMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let label = format!("[{}/{total}] {}", index + 1, step.id);
        let output = match store.lookup(step, lock)? {
            Lookup::Hit(output) => {
                progress.say(&format!("{label}: cached"));
                output
            }
            Lookup::Missing => build(step, &label, executors, store, progress, &outputs)?,
            Lookup::Damaged(reason) => {
                progress.say(&format!("{label}: its stored output is damaged and is built again: {reason}"));
                build(step, &label, executors, store, progress, &outputs)?
            }
        };
        outputs.insert(step.id.clone(), output);
    }
    Ok(outputs)
}

fn build(
    step: &PlannedStep,
    label: &str,
    executors: &BTreeMap<StepId, Executor<'_>>,
    store: &Store,
    progress: &Progress,
    outputs: &BTreeMap<StepId, PathBuf>,
) -> Result<PathBuf> {
    let Some(executor) = executors.get(&step.id) else {
        return Err(Error::new(format!("step {} is planned, but nothing can run it", step.id)));
    };
    let log = store.log(&step.id)?;
    File::create(&log).map_err(|e| Error::io("create", &log, e))?;
    let scratch = store.begin(step)?;
    let running = progress.begin(label, &step.title, &log);
    let mut context = StepContext {
        out: scratch.out(),
        work: scratch.work().to_path_buf(),
        log: log.clone(),
        tools: BTreeMap::new(),
        step,
        outputs,
    };
    let result = executor(&mut context);
    let took = running.elapsed();
    match result.and_then(|()| store.commit(step, scratch, took, context.tools)) {
        Ok(output) => {
            running.done();
            Ok(output)
        }
        Err(error) => {
            let tail = running.failed();
            let tail = if tail.is_empty() { String::new() } else { format!("\n{tail}\n(end of {})", log.display()) };
            let message =
                format!("step {} failed after {}; the steps before it are kept{tail}", step.id, elapsed(took));
            Err(Error::new(message).cause(error))
        }
    }
}
