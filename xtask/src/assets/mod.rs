//! `cargo xtask assets`: builds the payload of the internal crates from the locked sources, checks it and says what is there. It owns the verbs; each step's work is in a file of its own.

mod aot;
mod guest;
mod host;
mod lockfile;
mod modules;
pub(crate) mod payload;
mod plan;
mod programs;
pub(crate) mod reproduce;
pub(crate) mod stage;
pub(crate) mod targets;
mod template;
mod workshop;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::backend::Choice;
use crate::cargo::SharedTarget;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::plan::{Plan, StepId, StepState};
use crate::pipeline::progress::Progress;
use crate::pipeline::runlock::RunLock;
use crate::pipeline::store::{Lookup, Store};
use crate::pipeline::{self, Executor};
use crate::sources::{Lock, MirrorOption};

use aot::Outcome;
use host::Host;
use plan::{Wanted, id};
use targets::{TARGETS, Target};
use workshop::Workshop;

/// Verbs of `cargo xtask assets`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Build everything that is not built yet, stage it and open a database
    Build(BuildOptions),
    /// Check every hash of what is stored and staged
    Verify,
    /// Say what is built, for which target, and what is stale and why
    Status,
}

/// Options of `assets build`.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct BuildOptions {
    /// Compile for this target too; may be given several times
    #[arg(long = "target", value_name = "TRIPLE")]
    pub(crate) targets: Vec<String>,
    /// Compile for every target
    #[arg(long, conflicts_with = "targets")]
    pub(crate) all_targets: bool,
    /// Where the build steps run
    #[arg(long, value_enum, default_value_t)]
    pub(crate) backend: Choice,
    /// Print the plan and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Build a second time in other directories and compare every output
    #[arg(long)]
    pub(crate) verify_reproducible: bool,
    #[command(flatten)]
    pub(crate) mirror: MirrorOption,
}

/// Runs a verb.
pub(crate) fn run(paths: &Paths, verb: Verb) -> Result<()> {
    match verb {
        Verb::Build(options) => build(paths, &options),
        Verb::Verify => verify(paths),
        Verb::Status => status(paths),
    }
}

/// Builds, stages, and opens a database with the result.
pub(crate) fn build(paths: &Paths, options: &BuildOptions) -> Result<()> {
    let progress = Progress::stderr();
    let targets = wanted_targets(options)?;
    let run = Run::prepare(paths, targets, options, progress.clone())?;
    if options.dry_run {
        print!("{}", run.plan.render(|step| Store::new(paths).state(step)));
        return Ok(());
    }
    {
        let lock = RunLock::acquire(&paths.cache, "assets build", |message| progress.say(message))?;
        let outputs = run.execute(&lock)?;
        stage_all(paths, &run.targets, &outputs, &progress)?;
        if options.verify_reproducible {
            reproduce::verify(paths, options, &outputs, &progress)?;
        }
    }
    open(paths, &progress)
}

/// A plan with everything its execution needs.
struct Run<'a> {
    paths: &'a Paths,
    lock: Lock,
    host: Host,
    /// The targets asked for, the host's included.
    targets: Vec<Target>,
    plan: Plan,
    options: &'a BuildOptions,
    progress: Progress,
}

impl<'a> Run<'a> {
    fn prepare(
        paths: &'a Paths,
        mut targets: Vec<Target>,
        options: &'a BuildOptions,
        progress: Progress,
    ) -> Result<Self> {
        let lock = Lock::read(&paths.lock())?;
        let host = Host::find(&paths.root)?;
        let own = targets::find(&host.triple).map_err(|e| e.repair("build on one of the supported targets"))?;
        if !targets.contains(&own) {
            targets.insert(0, own);
        }
        let image_inputs = Workshop::new(paths, &lock, options.backend, vec![], progress.clone())?.image_inputs();
        let plan = plan::plan(&Wanted { paths, lock: &lock, image_inputs, host: &host, targets: &targets })?;
        Ok(Self { paths, lock, host, targets, plan, options, progress })
    }

    fn execute(&self, run_lock: &RunLock) -> Result<BTreeMap<StepId, PathBuf>> {
        let Self { paths, lock, host, .. } = self;
        let mirrors = self.options.mirror.debian_mirror.clone();
        let workshop = Workshop::new(paths, lock, self.options.backend, mirrors, self.progress.clone())?;
        let workshop = &workshop;
        let build = build_id(&self.plan)?;
        let abi = abi_version(paths)?;

        let mut executors: BTreeMap<StepId, Executor<'_>> = BTreeMap::new();
        executors.insert(id::postgresql()?, Box::new(move |context| guest::postgresql(paths, workshop, context)));
        executors.insert(id::suites()?, Box::new(move |context| guest::suites(paths, workshop, context)));
        for (name, variables) in plan::PGXS {
            executors.insert(
                id::extension(name)?,
                Box::new(move |context| guest::pgxs(paths, workshop, name, variables, context)),
            );
        }
        executors.insert(id::modules()?, Box::new(move |context| modules::run(paths, workshop, context)));
        executors.insert(id::programs()?, Box::new(move |context| programs::run(paths, workshop, context)));
        executors.insert(id::compiler()?, Box::new(move |context| aot::compiler(paths, host, workshop, context)));
        executors.insert(id::template()?, Box::new(move |context| template::run(paths, lock, host, context)));
        executors.insert(id::assets()?, Box::new(move |context| payload::assets(lock, &build, abi, context)));
        for target in self.targets.iter().copied() {
            for (id, from) in
                [(id::aot(target.triple)?, id::modules()?), (id::aot_programs(target.triple)?, id::programs()?)]
            {
                executors.insert(id, Box::new(move |context| aot::compile(target, &from, workshop, context)));
            }
            executors
                .insert(id::payload(target.triple)?, Box::new(move |context| payload::aot(target, &build, context)));
        }
        let executors = executors.into_iter().map(|(id, executor)| {
            let step = id.clone();
            let checked: Executor<'_> = Box::new(move |context| {
                executor(context)?;
                self.check_unchanged(&step)
            });
            (id, checked)
        });
        pipeline::run(&self.plan, &executors.collect(), &Store::new(paths), run_lock, &self.progress)
    }

    /// An input that was edited while a step read it may be half in the output: that must not be stored under the fingerprint of the plan.
    fn check_unchanged(&self, id: &StepId) -> Result<()> {
        let now = Self::prepare(self.paths, self.targets.clone(), self.options, self.progress.clone())?;
        // What it was built on is in the store and cannot change.
        let inputs = |plan: &Plan| plan.step(id).map(|step| step.inputs.clone());
        if inputs(&now.plan) == inputs(&self.plan) {
            return Ok(());
        }
        Err(Error::new(format!("an input of step {id} was changed while it ran")).repair("run the same command again"))
    }
}

fn wanted_targets(options: &BuildOptions) -> Result<Vec<Target>> {
    if options.all_targets {
        return Ok(TARGETS.to_vec());
    }
    options.targets.iter().map(|triple| targets::find(triple)).collect()
}

/// Places every payload and says what the compiler refused.
fn stage_all(
    paths: &Paths,
    targets: &[Target],
    outputs: &BTreeMap<StepId, PathBuf>,
    progress: &Progress,
) -> Result<()> {
    let output = |id: &StepId| outputs.get(id).ok_or_else(|| Error::new(format!("step {id} left no output")));
    let mut changed = stage::place(output(&id::assets()?)?, &stage::assets_dir(&paths.root))?;
    for target in targets {
        let directory = stage::target_dir(&paths.root, *target);
        match aot::outcome(output(&id::aot(target.triple)?)?)? {
            Outcome::Artifacts => changed |= stage::place(output(&id::payload(target.triple)?)?, &directory)?,
            Outcome::Refused(reason) => {
                progress.say(&format!("no artifacts for {reason}"));
                stage::remove(&directory)?;
            }
        }
    }
    // Payloads of another build would be refused when they are loaded; here is where they can be told from these.
    let staged = stage::verify_assets(&stage::assets_dir(&paths.root))?;
    for target in TARGETS.iter().filter(|t| !targets.contains(t)) {
        let directory = stage::target_dir(&paths.root, *target);
        let manifest = std::fs::read_to_string(directory.join(payload::MANIFEST)).unwrap_or_default();
        if directory.exists() && !manifest.contains(&staged.build) {
            progress
                .say(&format!("{}: the payload of another build was removed; --target makes it again", target.triple));
            stage::remove(&directory)?;
        }
    }
    progress.say(if changed { "staged the payloads" } else { "the staged payloads are up to date" });
    Ok(())
}

/// Opens a database through the runtime crate and prints what the server says of itself.
fn open(paths: &Paths, progress: &Progress) -> Result<()> {
    progress.say("opening a database with the staged payloads");
    let status = SharedTarget::acquire(paths)?
        .cargo()
        .args(["run", "--quiet", "--release", "--locked", "-p", "pglite-oxide", "--example", "version"])
        .status()
        .map_err(|e| Error::new("cannot start cargo").cause(e))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("the database could not be opened: {status}"))) }
}

/// Why the staged payloads are not those of the present inputs, one line a reason; nothing if they are.
pub(crate) fn stale_payloads(paths: &Paths, staged: &stage::Staged) -> Result<Vec<String>> {
    let targets: Vec<Target> = staged.targets.iter().map(|(target, _)| *target).collect();
    let mut places = vec![(id::assets()?, stage::assets_dir(&paths.root))];
    for target in &targets {
        places.push((id::payload(target.triple)?, stage::target_dir(&paths.root, *target)));
    }
    let options = BuildOptions::default();
    let run = Run::prepare(paths, targets, &options, Progress::stderr())?;
    let wanted: Vec<StepId> = places.iter().map(|(id, _)| id.clone()).collect();
    let store = Store::new(paths);
    let mut reasons = Vec::new();
    // Every step that led here, so that the input that changed is named and not only what follows from it.
    for step in run.plan.restricted_to(&wanted)?.steps {
        if let StepState::ToBuild(why) = store.state(&step) {
            reasons.extend(why.into_iter().map(|why| format!("{}: {why}", step.id)));
        }
    }
    for (id, directory) in places {
        let record = run.plan.step(&id).and_then(|step| store.record(step));
        if let Some(difference) = record.map(|r| r.output.difference(&directory)).transpose()?.flatten() {
            reasons.push(format!("{id}: {} is not what was built: {difference}", directory.display()));
        }
    }
    Ok(reasons)
}

/// Steps of the host's plan whose output is not in the store.
pub(crate) fn stale_steps(paths: &Paths) -> Result<Vec<String>> {
    let options = BuildOptions::default();
    let run = Run::prepare(paths, vec![], &options, Progress::stderr())?;
    let store = Store::new(paths);
    let stale = run.plan.steps.iter().filter(|step| store.state(step) != StepState::Cached);
    Ok(stale.map(|step| step.id.to_string()).collect())
}

/// What PostgreSQL's own tests need of the build.
#[derive(Debug)]
pub(crate) struct TestOutputs {
    /// The suites, with the programs that run them.
    pub(crate) suites: PathBuf,
    /// This machine's artifacts of the modules that only tests load.
    pub(crate) modules: PathBuf,
    /// Root file system that the programs run in.
    pub(crate) rootfs: PathBuf,
}

/// Finds what PostgreSQL's own tests need, of the build that is staged.
pub(crate) fn test_outputs(paths: &Paths) -> Result<TestOutputs> {
    let options = BuildOptions::default();
    let run = Run::prepare(paths, vec![], &options, Progress::stderr())?;
    let store = Store::new(paths);
    let output = |id: StepId| {
        let output = run.plan.step(&id).and_then(|step| store.output(step));
        output.ok_or_else(|| Error::new(format!("the output of {id} is not there")).repair(stage::REPAIR))
    };
    let staged = stage::read_assets(&stage::assets_dir(&paths.root))?.build;
    let current = build_id(&run.plan)?.to_string();
    if staged != current {
        let message = "the staged payload was made from other inputs than these";
        return Err(Error::new(message).repair(stage::REPAIR));
    }
    let image = Workshop::new(paths, &run.lock, options.backend, vec![], run.progress.clone())?.unpacked()?;
    Ok(TestOutputs {
        suites: output(id::suites()?)?,
        modules: output(id::aot(&run.host.triple)?)?.join(modules::TEST),
        rootfs: image.rootfs,
    })
}

/// Lints the AOT compiler, in the image.
pub(crate) fn lint_compiler(paths: &Paths) -> Result<()> {
    let lock = Lock::read(&paths.lock())?;
    let workshop = Workshop::new(paths, &lock, Choice::Auto, vec![], Progress::stderr())?;
    aot::lint(paths, &Host::find(&paths.root)?, &workshop)
}

fn verify(paths: &Paths) -> Result<()> {
    let progress = Progress::stderr();
    let staged = stage::verify(paths)?;
    let options = BuildOptions::default();
    let run =
        Run::prepare(paths, staged.targets.iter().map(|(target, _)| *target).collect(), &options, progress.clone())?;
    let lock = RunLock::acquire(&paths.cache, "assets verify", |message| progress.say(message))?;
    let store = Store::new(paths);
    let mut damaged = Vec::new();
    for step in &run.plan.steps {
        match store.lookup(step, &lock)? {
            Lookup::Hit(_) => println!("ok       {}", step.id),
            Lookup::Missing => println!("absent   {}", step.id),
            Lookup::Damaged(reason) => {
                println!("damaged  {}: {reason}", step.id);
                damaged.push(step.id.to_string());
            }
        }
    }
    println!(
        "ok       staged payload {} ({} modules, {} programs, {} archives)",
        &staged.assets.build[..12],
        staged.assets.modules.len(),
        staged.assets.programs.len(),
        staged.assets.archives.len()
    );
    for (target, manifest) in &staged.targets {
        println!("ok       staged payload for {} ({} artifacts)", target.triple, manifest.artifacts.len());
    }
    if damaged.is_empty() {
        Ok(())
    } else {
        Err(Error::new(format!("these stored outputs are damaged: {}", damaged.join(", "))).repair(stage::REPAIR))
    }
}

fn status(paths: &Paths) -> Result<()> {
    let options = BuildOptions::default();
    let run = Run::prepare(paths, TARGETS.to_vec(), &options, Progress::stderr())?;
    print!("{}", run.plan.render(|step| Store::new(paths).state(step)));
    let current = build_id(&run.plan)?.to_string();
    match stage::verify_assets(&stage::assets_dir(&paths.root)) {
        Err(_) if !stage::assets_dir(&paths.root).exists() => println!("staged: nothing; {}", stage::REPAIR),
        Err(error) => println!("staged: damaged: {error}"),
        Ok(manifest) => {
            let age = if manifest.build == current { "current" } else { "stale: the inputs have changed since" };
            println!("staged: PostgreSQL {}, build {} ({age})", manifest.postgresql, &manifest.build[..12]);
            for target in TARGETS {
                let there = stage::target_dir(&paths.root, *target).join(payload::PAYLOAD).exists();
                println!("staged: {} {}", target.triple, if there { "present" } else { "absent" });
            }
        }
    }
    Ok(())
}

/// Names the build that a plan makes: by everything that is compiled.
fn build_id(plan: &Plan) -> Result<Fingerprint> {
    let mut text = String::new();
    for id in [id::modules()?, id::programs()?] {
        let step = plan.step(&id).ok_or_else(|| Error::new(format!("the plan has no step {id}")))?;
        text.push_str(&step.fingerprint.to_string());
    }
    Ok(Fingerprint::of_bytes(text.as_bytes()))
}

/// The version of the border between guest and host, from the header that defines it.
fn abi_version(paths: &Paths) -> Result<u32> {
    let path = paths.root.join("assets/guest/overlay/src/include/pgl_host.h");
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?;
    let value = text.lines().find_map(|line| line.strip_prefix("#define PGL_ABI_VERSION ")?.trim().parse().ok());
    value.ok_or_else(|| Error::new(format!("{} does not define PGL_ABI_VERSION", path.display())))
}
