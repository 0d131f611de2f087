//! `cargo xtask assets`: builds the payloads of the internal crates from the locked sources, checks
//! and describes them. It owns the verbs; each step is in a file of its own.

mod aot;
pub(crate) mod blocked;
pub(crate) mod bundle;
mod control;
pub(crate) mod extension;
mod format;
mod guest;
mod host;
mod lockfile;
mod modules;
pub(crate) mod parts;
pub(crate) mod payload;
mod plan;
mod programs;
pub(crate) mod reproduce;
pub(crate) mod stage;
pub(crate) mod targets;
mod template;
mod workshop;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::backend::Choice;
use crate::cargo::SharedTarget;
use crate::error::{Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::fingerprint::Fingerprint;
use crate::pipeline::plan::{Need, Output, Plan, StepId, StepState};
use crate::pipeline::progress::Progress;
use crate::pipeline::runlock::RunLock;
use crate::pipeline::schedule::Machine;
use crate::pipeline::store::{Forecast, Lookup, Store};
use crate::pipeline::{self, Executor};
use crate::sources::{Lock, MirrorOption};

use aot::Outcome;
use extension::Extension;
use host::Host;
use parts::{Family, Part};
use plan::{Wanted, id, needs};
use targets::{TARGETS, Target};
use workshop::Workshop;

/// Verbs of `cargo xtask assets`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Build everything that is not built yet, stage it and open a database
    Build(BuildOptions),
    /// Check every hash of what is stored and staged
    Verify,
    /// List what is built for each target, and what is out of date and why
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
    /// Build these families of extensions only, or `none` of them: a faster first build for work on
    /// the rest. What is staged then cannot be released, and tests of other extensions fail
    #[arg(long, value_name = "FAMILY", value_delimiter = ',')]
    pub(crate) families: Vec<String>,
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
    let mut run = Run::prepare(paths, targets, options, progress.clone())?;
    run.plan = run.plan.restricted_to(&run.payloads()?)?;
    if options.dry_run {
        let forecast = Store::new(paths).forecast(&run.plan)?;
        print!("{}", run.plan.render(|step| forecast.state(step)));
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
    extensions: Vec<Extension>,
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
        let extensions = wanted_extensions(Extension::all(&paths.root)?, &options.families)?;
        let plan = Self::plan(paths, &lock, &host, &extensions, &targets, options, &progress)?;
        Ok(Self { paths, lock, host, extensions, targets, plan, options, progress })
    }

    fn plan(
        paths: &Paths,
        lock: &Lock,
        host: &Host,
        extensions: &[Extension],
        targets: &[Target],
        options: &BuildOptions,
        progress: &Progress,
    ) -> Result<Plan> {
        let image_inputs = Workshop::new(paths, lock, options.backend, vec![], progress.clone())?.image_inputs();
        plan::plan(&Wanted { paths, lock, image_inputs, host, extensions, targets })
    }

    /// The steps whose outputs are staged. What only tests need is built when it is needed.
    fn payloads(&self) -> Result<Vec<StepId>> {
        let targets = self.targets.iter().map(|target| id::payload(target.triple));
        std::iter::once(id::assets()).chain(targets).collect()
    }

    fn execute(&self, run_lock: &RunLock) -> Result<BTreeMap<StepId, Output>> {
        let Self { paths, lock, host, extensions, .. } = self;
        let mirrors = self.options.mirror.debian_mirror.clone();
        let workshop = Workshop::new(paths, lock, self.options.backend, mirrors, self.progress.clone())?;
        let workshop = &workshop;
        let abi = abi_version(paths)?;

        let mut executors: BTreeMap<StepId, Executor<'_>> = BTreeMap::new();
        executors.insert(id::image()?, Box::new(move |context| guest::image(workshop, context)));
        executors.insert(
            id::postgresql()?,
            Box::new(move |context| guest::postgresql(paths, extensions, workshop, context)),
        );
        executors.insert(id::suites()?, Box::new(move |context| guest::suites(paths, extensions, workshop, context)));
        for library in plan::libraries(extensions) {
            let executor: Executor<'_> = Box::new(move |context| guest::library(paths, workshop, library, context));
            executors.insert(id::library(library)?, executor);
        }
        for extension in extensions.iter().filter(|e| !e.is_server()) {
            let executor: Executor<'_> = Box::new(move |context| guest::pgxs(paths, workshop, extension, context));
            executors.insert(id::extension(&extension.name)?, executor);
        }
        executors.insert(id::modules()?, Box::new(move |context| modules::run(paths, extensions, workshop, context)));
        executors.insert(id::programs()?, Box::new(move |context| programs::run(paths, workshop, context)));
        executors.insert(id::compiler()?, Box::new(move |context| aot::compiler(paths, host, workshop, context)));
        executors.insert(id::template_program()?, Box::new(move |context| template::program(paths, host, context)));
        executors.insert(id::template()?, Box::new(move |context| template::run(lock, host, extensions, context)));
        executors.insert(id::assets()?, Box::new(move |context| payload::assets(lock, abi, extensions, context)));
        for target in self.targets.iter().copied() {
            let mut compile = |id: StepId, modules: Vec<Need>| {
                executors.insert(id, Box::new(move |context| aot::compile(target, &modules, workshop, context)));
            };
            for (unit, modules) in plan::units(extensions) {
                let modules = modules.iter().map(|name| needs::module(name)).collect::<Result<_>>()?;
                compile(id::aot(target.triple, &unit)?, modules);
            }
            for program in plan::PROGRAMS {
                compile(id::aot_program(target.triple, program)?, vec![needs::program(program)?]);
            }
            compile(id::aot_test(target.triple)?, vec![needs::checked_test_modules()?]);
            let executor: Executor<'_> = Box::new(move |context| payload::aot(target, extensions, context));
            executors.insert(id::payload(target.triple)?, executor);
        }
        let executors = executors.into_iter().map(|(id, executor)| {
            let step = id.clone();
            let checked: Executor<'_> = Box::new(move |context| {
                executor(context)?;
                self.check_unchanged(&step)
            });
            (id, checked)
        });
        let store = Store::new(paths);
        pipeline::run(&self.plan, &executors.collect(), &store, run_lock, Machine::this(), &self.progress)
    }

    /// What is in the store, which must be what was staged.
    fn staged(&self) -> Result<Forecast> {
        let forecast = Store::new(self.paths).forecast(&self.plan)?;
        let staged = stage::read_assets(&self.paths.root)?.build;
        if Some(staged) != build_id(&forecast, &self.extensions)?.map(|build| build.to_string()) {
            let message = "the staged payload was made from other inputs than these";
            return Err(Error::new(message).repair(stage::REPAIR));
        }
        Ok(forecast)
    }

    /// An input that was edited while a step read it may be in the output in part. Such an output
    /// must not be stored under the plan's fingerprint.
    fn check_unchanged(&self, id: &StepId) -> Result<()> {
        if !self.plan.step(id).is_some_and(|step| step.reads_files) {
            return Ok(());
        }
        let Self { paths, host, targets, options, progress, .. } = self;
        let lock = Lock::read(&paths.lock())?;
        let extensions = wanted_extensions(Extension::all(&paths.root)?, &options.families)?;
        let now = Self::plan(paths, &lock, host, &extensions, targets, options, progress)?;
        // The outputs of earlier steps are in the store and cannot change.
        let inputs = |plan: &Plan| plan.step(id).map(|step| step.inputs.clone());
        if inputs(&now) == inputs(&self.plan) {
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

/// The parts of the server, and the extensions of the families that `--families` names; all of
/// them if it is not given.
fn wanted_extensions(all: Vec<Extension>, families: &[String]) -> Result<Vec<Extension>> {
    if families.is_empty() {
        return Ok(all);
    }
    let families: Vec<Family> = match families {
        [none] if none == "none" => vec![],
        names => names.iter().map(|name| Family::find(name)).collect::<Result<_>>()?,
    };
    let is_wanted = |extension: &Extension| extension.family.is_none_or(|family| families.contains(&family));
    Ok(all.into_iter().filter(is_wanted).collect())
}

/// Stages every payload and reports what the compiler refused.
fn stage_all(paths: &Paths, targets: &[Target], outputs: &BTreeMap<StepId, Output>, progress: &Progress) -> Result<()> {
    let output = |id: &StepId| -> Result<&Path> {
        let output = outputs.get(id).ok_or_else(|| Error::new(format!("step {id} left no output")))?;
        Ok(&output.path)
    };
    let mut changed = false;
    for part in Part::all() {
        changed |= stage::place(&output(&id::assets()?)?.join(part.name()), &part.assets_dir(&paths.root))?;
    }
    for target in targets {
        let outcome = aot::outcome(output(&id::aot(target.triple, modules::MAIN)?)?)?;
        if let Outcome::Refused(reason) = &outcome {
            progress.say(&format!("no artifacts for {reason}"));
        }
        for part in Part::all() {
            let directory = part.target_dir(&paths.root, *target);
            match &outcome {
                Outcome::Artifacts => {
                    let output = output(&id::payload(target.triple)?)?.join(part.name());
                    changed |= stage::place(&output, &directory)?;
                }
                Outcome::Refused(_) => files::remove_directory(&directory)?,
            }
        }
    }
    // The runtime would reject payloads of another build when it loads them. Only here can they be
    // told apart from those of this build.
    let staged = stage::verify_assets(&paths.root)?;
    for target in TARGETS.iter().filter(|t| !targets.contains(t)) {
        let mut removed = false;
        for part in Part::all() {
            let directory = part.target_dir(&paths.root, *target);
            let manifest = std::fs::read_to_string(directory.join(payload::MANIFEST)).unwrap_or_default();
            if directory.exists() && !manifest.contains(&staged.build) {
                files::remove_directory(&directory)?;
                removed = true;
            }
        }
        if removed {
            progress
                .say(&format!("{}: the payload of another build was removed; --target makes it again", target.triple));
        }
    }
    progress.say(if changed { "staged the payloads" } else { "the staged payloads are up to date" });
    Ok(())
}

/// The example that opens a database.
const SMOKE: &str = "version";

/// Opens a database through the runtime crate and prints the server's version.
fn open(paths: &Paths, progress: &Progress) -> Result<()> {
    progress.say("opening a database with the staged payloads");
    let target = SharedTarget::acquire(paths)?;
    let failed = |e| Error::new("cannot start cargo").cause(e);
    let built = target.build(&["--example", SMOKE]).status().map_err(failed)?;
    if !built.success() {
        return Err(Error::new(format!("the runtime does not build with the staged payloads: {built}")));
    }
    let program = target.release().join("examples").join(SMOKE);
    let status = Command::new(&program).status().map_err(|e| Error::io("start", &program, e))?;
    if status.success() { Ok(()) } else { Err(Error::new(format!("the database could not be opened: {status}"))) }
}

/// Why the staged payloads are not those of the present inputs, one reason per line; empty if they
/// are.
pub(crate) fn stale_payloads(paths: &Paths, staged: &stage::Staged) -> Result<Vec<String>> {
    let targets: Vec<Target> = staged.targets.iter().map(|(target, _)| *target).collect();
    let mut places = Vec::new();
    for part in Part::all() {
        places.push((id::assets()?, part, part.assets_dir(&paths.root)));
        for target in &targets {
            places.push((id::payload(target.triple)?, part, part.target_dir(&paths.root, *target)));
        }
    }
    let options = BuildOptions::default();
    let run = Run::prepare(paths, targets, &options, Progress::stderr())?;
    let wanted: Vec<StepId> = places.iter().map(|(id, ..)| id.clone()).collect();
    let plan = run.plan.restricted_to(&wanted)?;
    let store = Store::new(paths);
    let forecast = store.forecast(&plan)?;
    let mut reasons = Vec::new();
    // Every earlier step, so that the input that changed is named, not only its consequences.
    for step in &plan.steps {
        if let StepState::ToBuild(why) = forecast.state(step) {
            reasons.extend(why.into_iter().map(|why| format!("{}: {why}", step.id)));
        }
    }
    for (id, part, directory) in places {
        let output = forecast.outputs.get(&id).map(|output| output.path.join(part.name()));
        if let Some(difference) = output.map(|output| stage::difference(&output, &directory)).transpose()?.flatten() {
            reasons.push(format!("{id}: {difference}"));
        }
    }
    Ok(reasons)
}

/// Steps of the host's payloads that have to run, or may have to.
pub(crate) fn stale_steps(paths: &Paths) -> Result<Vec<String>> {
    let options = BuildOptions::default();
    let run = Run::prepare(paths, vec![], &options, Progress::stderr())?;
    let plan = run.plan.restricted_to(&run.payloads()?)?;
    let forecast = Store::new(paths).forecast(&plan)?;
    let stale = plan.steps.iter().filter(|step| forecast.state(step) != StepState::Cached);
    Ok(stale.map(|step| step.id.to_string()).collect())
}

/// The outputs of the build that PostgreSQL's own tests need.
#[derive(Debug)]
pub(crate) struct TestOutputs {
    /// The suites, with the programs that run them.
    pub(crate) suites: PathBuf,
    /// This machine's artifacts of the modules that only tests load.
    pub(crate) modules: PathBuf,
    /// Root file system that the programs run in.
    pub(crate) rootfs: PathBuf,
}

/// Finds what PostgreSQL's own tests need for the staged build, and builds what is missing of it.
pub(crate) fn test_outputs(paths: &Paths) -> Result<TestOutputs> {
    let options = BuildOptions::default();
    let mut run = Run::prepare(paths, vec![], &options, Progress::stderr())?;
    run.staged()?;
    let (suites, modules) = (id::suites()?, id::aot_test(&run.host.triple)?);
    run.plan = run.plan.restricted_to(&[suites.clone(), modules.clone()])?;
    let outputs = {
        let progress = &run.progress;
        let lock = RunLock::acquire(&paths.cache, "build for tests", |message| progress.say(message))?;
        run.execute(&lock)?
    };
    let output = |id: &StepId| {
        let output = outputs.get(id).map(|output| output.path.clone());
        output.ok_or_else(|| Error::new(format!("step {id} left no output")))
    };
    let image = Workshop::new(paths, &run.lock, options.backend, vec![], run.progress.clone())?.unpacked()?;
    Ok(TestOutputs { suites: output(&suites)?, modules: output(&modules)?, rootfs: image.rootfs })
}

/// Sizes of the modules of the staged build as WebAssembly, in bytes, by name. What is staged has
/// their native code only.
pub(crate) fn wasm_sizes(paths: &Paths) -> Result<BTreeMap<String, u64>> {
    let options = BuildOptions::default();
    let run = Run::prepare(paths, vec![], &options, Progress::stderr())?;
    let forecast = run.staged()?;
    let output = forecast.outputs.get(&id::modules()?).map(|output| output.path.join(modules::SHIPPED));
    let modules = output.ok_or_else(|| Error::new("the linked modules are not there").repair(stage::REPAIR))?;
    let size = |(name, path): (String, PathBuf)| match std::fs::metadata(&path) {
        Ok(metadata) => Ok((name, metadata.len())),
        Err(e) => Err(Error::io("read", &path, e)),
    };
    modules::list(&modules)?.into_iter().map(size).collect()
}

/// Compares the C code of the guest and of its patches with the format of PostgreSQL's own code.
pub(crate) fn check_format(paths: &Paths) -> Result<()> {
    format::check(paths, &Progress::stderr())
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
    let mut outputs = BTreeMap::new();
    for step in &run.plan.steps {
        // The origin of an output whose inputs are gone cannot be determined.
        if step.before().into_iter().any(|id| !outputs.contains_key(id)) {
            println!("absent   {}", step.id);
            continue;
        }
        match store.lookup(&step.keyed(&outputs)?, &lock)? {
            Lookup::Hit(output) => {
                println!("ok       {}", step.id);
                outputs.insert(step.id.clone(), output);
            }
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
    let forecast = Store::new(paths).forecast(&run.plan)?;
    print!("{}", run.plan.render(|step| forecast.state(step)));
    let current = build_id(&forecast, &run.extensions)?.map(|build| build.to_string());
    match stage::verify_assets(&paths.root) {
        Err(_) if stage::is_empty(&paths.root) => println!("staged: nothing; {}", stage::REPAIR),
        Err(error) => println!("staged: damaged: {error}"),
        Ok(manifest) => {
            let age = match &current {
                Some(current) if *current == manifest.build => "current",
                Some(_) => "stale: the inputs have changed since",
                None => "the build says whether it is current",
            };
            println!("staged: PostgreSQL {}, build {} ({age})", manifest.postgresql, &manifest.build[..12]);
            for target in TARGETS {
                let there = Part::Server.target_dir(&paths.root, *target).join(payload::PAYLOAD).exists();
                println!("staged: {} {}", target.triple, if there { "present" } else { "absent" });
            }
        }
    }
    Ok(())
}

/// Identifies the build of a plan, if its modules and programs exist.
fn build_id(forecast: &Forecast, extensions: &[Extension]) -> Result<Option<Fingerprint>> {
    let digest = |need: Need| forecast.outputs.get(&need.step)?.contents.digest(need.part.as_deref());
    let (modules, programs) = (digest(needs::shipped()?), digest(Need::all(id::programs()?)));
    Ok(modules.zip(programs).map(|(modules, programs)| payload::build_id(&modules, &programs, extensions)))
}

/// The version of the host ABI, from the header that defines it.
fn abi_version(paths: &Paths) -> Result<u32> {
    let path = paths.root.join("assets/guest/overlay/src/include/pgl_host.h");
    let text = files::text(&path)?;
    let value = text.lines().find_map(|line| line.strip_prefix("#define PGL_ABI_VERSION ")?.trim().parse().ok());
    value.ok_or_else(|| Error::new(format!("{} does not define PGL_ABI_VERSION", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_choose_extensions() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let of = |families: &[&str]| {
            let families: Vec<String> = families.iter().map(|name| (*name).to_owned()).collect();
            let wanted = wanted_extensions(Extension::all(root).unwrap(), &families)?;
            Ok::<_, Error>(wanted.into_iter().filter(|e| !e.is_server()).map(|e| e.name).collect::<Vec<_>>())
        };
        assert!(of(&[]).unwrap().len() > 50);
        assert_eq!(of(&["none"]).unwrap(), [""; 0]);
        assert_eq!(of(&["vector", "pgcrypto"]).unwrap(), ["pgcrypto", "vector"]);
        let names = "community, contrib, gpl, icu, pgcrypto, postgis, vector, xml";
        let unknown = |name: &str| format!("there is no family `{name}`; there are {names}");
        assert!(of(&["vectors"]).unwrap_err().to_string().starts_with(&unknown("vectors")));
        assert!(of(&["none", "vector"]).unwrap_err().to_string().starts_with(&unknown("none")));
    }
}
