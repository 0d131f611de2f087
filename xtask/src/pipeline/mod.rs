//! The engine of the pipeline: runs the steps of a plan whose outputs are not in the store, in
//! parallel where the machine has cores and memory, and returns the place of every output. The
//! verbs own the steps; the engine knows names, fingerprints and directories.

pub(crate) mod contents;
pub(crate) mod fingerprint;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod runlock;
pub(crate) mod schedule;
pub(crate) mod store;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use fingerprint::Fingerprint;
use plan::{KeyedStep, Need, Output, Plan, StepId};
use progress::{Progress, elapsed};
use runlock::RunLock;
use schedule::{Machine, Schedule};
use store::{Lookup, Store};

/// What a step does. It writes its result into [`StepContext::out`] and everything else into
/// [`StepContext::work`].
pub(crate) type Executor<'a> = Box<dyn Fn(&mut StepContext<'_>) -> Result<()> + Send + Sync + 'a>;

/// What the engine gives a running step.
#[derive(Debug)]
pub(crate) struct StepContext<'a> {
    /// Empty directory for the result.
    pub(crate) out: PathBuf,
    /// Empty directory for everything else; it is removed afterwards.
    pub(crate) work: PathBuf,
    /// Log of the step's tools; its end is shown when the step fails.
    pub(crate) log: PathBuf,
    /// Versions of the tools that the step used, for the record.
    pub(crate) tools: BTreeMap<String, String>,
    step: &'a KeyedStep<'a>,
    outputs: &'a BTreeMap<StepId, Output>,
}

impl StepContext<'_> {
    /// Output of a step that this one reads all of.
    pub(crate) fn output_of(&self, id: &StepId) -> Result<PathBuf> {
        self.part(&Need::all(id.clone()))
    }

    /// Path of a part of another step's output. Only parts that the plan names can be read, because
    /// nothing else is part of the fingerprint.
    pub(crate) fn part(&self, need: &Need) -> Result<PathBuf> {
        let output = self.outputs.get(&need.step).filter(|_| self.step.after.contains_key(need));
        let output = output.ok_or_else(|| {
            Error::new(format!("step {} reads {need}, but is not planned after it", self.step.step.id))
                .repair("add it to the step's `after`")
        })?;
        Ok(need.part.as_ref().map_or_else(|| output.path.clone(), |part| output.path.join(part)))
    }

    /// Hash of the part of another step's output that this step reads.
    pub(crate) fn digest(&self, need: &Need) -> Result<Fingerprint> {
        self.part(need)?;
        self.step.after.get(need).copied().ok_or_else(|| Error::new(format!("{need} has no hash")))
    }

    /// The log, opened for appending.
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

/// Runs a plan. Steps whose verified output is in the store are not run; the others run in parallel
/// as far as the machine has cores and memory. After a failure no further step starts, and the
/// outputs of running steps are kept. Returns the output of every step.
pub(crate) fn run(
    plan: &Plan,
    executors: &BTreeMap<StepId, Executor<'_>>,
    store: &Store,
    lock: &RunLock,
    machine: Machine,
    progress: &Progress,
) -> Result<BTreeMap<StepId, Output>> {
    if let Some(step) = plan.steps.iter().find(|step| !executors.contains_key(&step.id)) {
        return Err(Error::new(format!("step {} is planned, but nothing can run it", step.id)));
    }
    let left = store.clean_scratch(lock)?;
    if left > 0 {
        progress.say(&format!("removed {left} unfinished outputs of earlier runs"));
    }
    let mut run = Running::new(plan, executors, store, lock, machine, progress);
    thread::scope(|scope| run.steps(scope))?;
    Ok(run.outputs)
}

/// A running plan.
struct Running<'env> {
    plan: &'env Plan,
    executors: &'env BTreeMap<StepId, Executor<'env>>,
    store: &'env Store,
    lock: &'env RunLock,
    progress: &'env Progress,
    schedule: Schedule,
    /// When each step that runs began.
    began: BTreeMap<StepId, Instant>,
    outputs: BTreeMap<StepId, Output>,
}

/// What a step's thread reports.
type Ended = (StepId, Result<Output>);

impl<'env> Running<'env> {
    fn new(
        plan: &'env Plan,
        executors: &'env BTreeMap<StepId, Executor<'env>>,
        store: &'env Store,
        lock: &'env RunLock,
        machine: Machine,
        progress: &'env Progress,
    ) -> Self {
        // The time that a step took on this machine is the better estimate; if it never ran here, a
        // measured default is used.
        let seconds = |id: &StepId| {
            let usual = plan.step(id).map_or(0, |step| step.cost.seconds);
            store.latest(id).map_or(usual, |record| record.seconds)
        };
        let schedule = Schedule::new(plan, machine, seconds);
        Self { plan, executors, store, lock, progress, schedule, began: BTreeMap::new(), outputs: BTreeMap::new() }
    }

    fn steps<'scope>(&mut self, scope: &'scope thread::Scope<'scope, 'env>) -> Result<()> {
        let (sender, ended) = mpsc::channel::<Ended>();
        let mut failure: Option<Error> = None;
        loop {
            if failure.is_none()
                && let Err(error) = self.take_what_is_stored().and_then(|()| self.start_what_fits(scope, &sender))
            {
                failure = Some(error);
            }
            if self.schedule.is_idle() {
                return failure.map_or(Ok(()), Err);
            }
            let (id, result) = ended.recv().map_err(|_| Error::new("a step ended without a result"))?;
            self.schedule.end(&id);
            self.began.remove(&id);
            match result {
                Ok(output) => {
                    self.outputs.insert(id, output);
                }
                Err(error) => {
                    if failure.is_some() {
                        self.progress.say(&error.to_string());
                    } else if !self.schedule.is_idle() {
                        // Said at once: what still runs may take minutes.
                        self.progress.say(&format!("error: {error}\nwaiting for the steps that still run"));
                    }
                    failure.get_or_insert(error);
                }
            }
        }
    }

    /// Completes every ready step whose output is in the store.
    fn take_what_is_stored(&mut self) -> Result<()> {
        loop {
            let mut found = false;
            for id in self.schedule.ready() {
                let Some(step) = self.plan.step(&id) else { continue };
                if self.schedule.has_to_run(&id) {
                    continue;
                }
                match self.store.lookup(&step.keyed(&self.outputs)?, self.lock)? {
                    Lookup::Hit(output) => {
                        self.progress.say(&format!("{}: cached", self.label(&id)));
                        self.outputs.insert(id.clone(), output);
                        self.schedule.end(&id);
                        found = true;
                    }
                    Lookup::Missing => self.schedule.must_run(&id),
                    Lookup::Damaged(reason) => {
                        let label = self.label(&id);
                        let line = format!("{label}: its stored output is damaged and is built again: {reason}");
                        self.progress.say(&line);
                        self.schedule.must_run(&id);
                    }
                }
            }
            if !found {
                return Ok(());
            }
        }
    }

    fn start_what_fits<'scope>(
        &mut self,
        scope: &'scope thread::Scope<'scope, 'env>,
        sender: &mpsc::Sender<Ended>,
    ) -> Result<()> {
        while let Some(id) = self.schedule.start() {
            self.began.insert(id.clone(), Instant::now());
            if let Err(error) = self.start(&id, scope, sender.clone()) {
                // Nothing runs that could end it.
                self.schedule.end(&id);
                return Err(error);
            }
        }
        Ok(())
    }

    fn start<'scope>(
        &self,
        id: &StepId,
        scope: &'scope thread::Scope<'scope, 'env>,
        sender: mpsc::Sender<Ended>,
    ) -> Result<()> {
        let step = self.plan.step(id).ok_or_else(|| Error::new(format!("there is no step {id}")))?;
        let executor = self.executors.get(id).ok_or_else(|| Error::new(format!("step {id} has no executor")))?;
        let keyed = step.keyed(&self.outputs)?;
        let before = step.before().into_iter();
        let outputs: BTreeMap<StepId, Output> =
            before.filter_map(|id| Some((id.clone(), self.outputs.get(id)?.clone()))).collect();
        let elapsed_of = |id: &StepId| self.began.get(id).map_or(0, |at| at.elapsed().as_secs());
        // Steps that are not ready may be in the store: this is known only when their inputs exist.
        let title = match worth_saying(self.schedule.remaining(elapsed_of)) {
            None => step.title.clone(),
            Some(left) => format!("{} (at most about {} left in all)", step.title, elapsed(left)),
        };
        let expected = worth_saying(self.schedule.expected(id));
        let label = self.label(id);
        let (store, progress) = (self.store, self.progress);
        scope.spawn(move || {
            let begin = |log: &Path| progress.begin(&label, &title, expected, log);
            let build = || build(&keyed, executor, store, &outputs, begin);
            let result = catch_unwind(AssertUnwindSafe(build))
                .unwrap_or_else(|_| Err(Error::new(format!("step {} panicked: see above", keyed.step.id))));
            // The receiver lives as long as any step runs.
            let _ = sender.send((keyed.step.id.clone(), result));
        });
        Ok(())
    }

    /// Place and name of a step: `[3/11] guest/postgresql`.
    fn label(&self, id: &StepId) -> String {
        let place = self.plan.steps.iter().position(|step| step.id == *id).unwrap_or(0);
        format!("[{}/{}] {id}", place + 1, self.plan.steps.len())
    }
}

/// An estimate, if it is long enough to show.
fn worth_saying(seconds: u64) -> Option<Duration> {
    (seconds >= 10).then(|| Duration::from_secs(seconds))
}

fn build(
    step: &KeyedStep<'_>,
    executor: &Executor<'_>,
    store: &Store,
    outputs: &BTreeMap<StepId, Output>,
    begin: impl FnOnce(&Path) -> progress::Running,
) -> Result<Output> {
    let id = &step.step.id;
    let log = store.log(id)?;
    File::create(&log).map_err(|e| Error::io("create", &log, e))?;
    let scratch = store.begin(step)?;
    let running = begin(&log);
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
            let message = format!("step {id} failed after {}; finished steps are kept{tail}", elapsed(took));
            Err(Error::new(message).cause(error))
        }
    }
}
