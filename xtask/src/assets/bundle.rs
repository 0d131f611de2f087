//! `cargo xtask extension build`: an extension that is not part of the project becomes one file,
//! which a program loads with `Builder::extension_bundle`. It owns the verb and the file's members;
//! the runtime says what it accepts (`bundle::user`).

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::aot::{self, Outcome};
use super::extension::{Extension, check_name};
use super::guest::IMAGE_DIGEST;
use super::modules::{self, MAIN, MODULE_DIR, SHIPPED};
use super::payload::{self, Common};
use super::plan::{id, needs};
use super::targets::Target;
use super::workshop::{JobFiles, Workshop};
use super::{BuildOptions, Run, abi_version, control, wanted_targets};
use crate::backend::Choice;
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::manifest;
use crate::paths::Paths;
use crate::pipeline::plan::{Need, StepId};
use crate::pipeline::progress::Progress;
use crate::pipeline::runlock::RunLock;
use crate::pipeline::store::Store;
use crate::sources::MirrorOption;
use crate::wasm::host::HostProvided;
use crate::wasm::linkcheck::linkcheck;

/// Ending of the file.
const ENDING: &str = "bundle";

/// Verbs of `cargo xtask extension`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Build an extension into a file for `Builder::extension_bundle`
    Build(Options),
}

/// Options of `extension build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A directory with a makefile for PGXS, or files: C sources, a control file and SQL scripts
    #[arg(required = true)]
    source: Vec<PathBuf>,
    /// Its name [default: that of the control file, the directory or the first file]
    #[arg(long)]
    name: Option<String>,
    /// The file to write [default: NAME.bundle]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compile for this target too; may be given several times
    #[arg(long = "target", value_name = "TRIPLE")]
    targets: Vec<String>,
    /// Its license, for those who get the bundle
    #[arg(long, default_value = "not stated")]
    license: String,
    /// A module of it that must be in shared_preload_libraries; may be given several times
    #[arg(long, value_name = "MODULE")]
    preload: Vec<String>,
    /// A variable for make, as NAME=VALUE; may be given several times
    #[arg(long, value_name = "NAME=VALUE")]
    make: Vec<String>,
    /// Where the build steps run
    #[arg(long, value_enum, default_value_t)]
    backend: Choice,
    #[command(flatten)]
    mirror: MirrorOption,
}

/// Runs a verb.
pub(crate) fn run(paths: &Paths, verb: &Verb) -> Result<()> {
    let Verb::Build(options) = verb;
    build(paths, options)
}

/// Builds the extension in a directory for this machine.
pub(crate) fn build_directory(paths: &Paths, directory: &Path, out: &Path) -> Result<()> {
    let options = Options {
        source: vec![directory.to_path_buf()],
        name: None,
        out: Some(out.to_path_buf()),
        targets: vec![],
        license: "not stated".to_owned(),
        preload: vec![],
        make: vec![],
        backend: Choice::default(),
        mirror: MirrorOption::default(),
    };
    build(paths, &options)
}

/// What a bundle is made of, before it is compiled.
#[derive(Debug)]
struct Source {
    name: String,
    directory: PathBuf,
    /// Holds a directory that was made for this.
    _made: Option<tempfile::TempDir>,
}

fn build(paths: &Paths, options: &Options) -> Result<()> {
    if let Some(variable) = options.make.iter().find(|variable| !variable.contains('=')) {
        return Err(Error::new(format!("`{variable}` in `--make` is not NAME=VALUE")));
    }
    let source = Source::find(&options.source, options.name.as_deref())?;
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.{ENDING}", source.name)));
    let progress = Progress::stderr();
    let base = BuildOptions {
        targets: options.targets.clone(),
        backend: options.backend,
        mirror: options.mirror.clone(),
        ..BuildOptions::default()
    };
    let mut run = Run::prepare(paths, wanted_targets(&base)?, &base, progress.clone())?;
    let mut wanted = vec![id::modules()?, id::programs()?, id::compiler()?];
    for target in &run.targets {
        wanted.push(id::aot(target.triple, MAIN)?);
    }
    run.plan = run.plan.restricted_to(&wanted)?;
    let names = source.controls()?;
    check_unknown(&run.extensions, names.iter().map(String::as_str), &[])?;
    let lock = RunLock::acquire(&paths.cache, "extension build", |message| progress.say(message))?;
    let store = Store::new(paths);
    let outputs = run.execute(&lock)?;
    let output = |id: StepId| {
        let output = outputs.get(&id).ok_or_else(|| Error::new(format!("step {id} left no output")));
        output.map(|output| output.path.clone())
    };

    let scratch = store.alone()?;
    let jobs = Jobs {
        workshop: &Workshop::new(
            paths,
            &run.lock,
            options.backend,
            base.mirror.debian_mirror.clone(),
            progress.clone(),
        )?,
        scratch: scratch.work(),
        log: paths.cache.join("extension-build.log"),
    };
    progress.say(&format!("building the extension {}", source.name));
    let installed = jobs.directory("guest")?;
    let mut files = JobFiles::default();
    files.read_only.insert("assets".to_owned(), paths.root.join("assets"));
    files.read_only.insert(format!("sources/{}", source.name), source.directory.clone());
    let postgresql = output(id::postgresql()?)?;
    for part in needs::pgxs()?.into_iter().filter_map(|need| need.part) {
        files.read_only.insert(format!("deps/postgresql/{part}"), postgresql.join(&part));
    }
    for (name, need) in needs::server_libraries()? {
        files.read_only.insert(format!("deps/{name}"), output(need.step)?);
    }
    files.env.insert("FOREIGN".to_owned(), "yes".to_owned());
    let mut argv = vec!["sh", "/pgl/assets/build/pgxs.sh", &source.name];
    argv.extend(options.make.iter().map(String::as_str));
    jobs.run(&installed, &argv, files)?;

    let install = installed.join("install");
    let modules: Vec<(String, PathBuf)> = modules::installed(&installed.join(MODULE_DIR))?.into_iter().collect();
    let creates = control::installed(&install)?;
    if let Some(module) = options.preload.iter().find(|name| !modules.iter().any(|(module, _)| module == *name)) {
        return Err(Error::new(format!("`--preload {module}`: the build makes no module of that name")));
    }
    if creates.is_empty() && modules.is_empty() {
        return Err(Error::new(format!("{} installs neither a control file nor a module", source.name))
            .repair("have its makefile set EXTENSION and DATA, and MODULES or MODULE_big, for PGXS"));
    }
    check_unknown(&run.extensions, creates.iter().map(|created| created.name.as_str()), &modules)?;
    let wasm = output(id::modules()?)?.join(SHIPPED);
    check_imports(&wasm, &modules)?;

    let digest = |need: Need| -> Result<_> {
        let found = outputs.get(&need.step).and_then(|output| output.contents.digest(need.part.as_deref()));
        found.ok_or_else(|| Error::new(format!("step {} left no output", need.step)))
    };
    let (shipped, programs) = (digest(needs::shipped()?)?, digest(Need::all(id::programs()?))?);
    let build = payload::build_id(&shipped, &programs, &run.extensions);
    let image = files::text(&output(id::image()?)?.join(IMAGE_DIGEST))?;
    let described = manifest::Extension {
        name: source.name.clone(),
        license: options.license.clone(),
        creates: creates.clone(),
        preload: options.preload.clone(),
    };
    let common = Common { lock: &run.lock, build: &build, abi: abi_version(paths)?, image };
    let (manifest, portable) = payload::of_bundle(common, described, &modules, &install)?;
    let mut members = vec![("files.tar".to_owned(), portable)];
    for target in &run.targets {
        let main = output(id::aot(target.triple, MAIN)?)?;
        let code = compile(&jobs, *target, &output(id::compiler()?)?, &modules, &main, &manifest)?;
        members.push((format!("{}.tar", target.triple), code));
    }
    files::replace(&out, &payload::archive_of(&members)?)?;
    progress.say(&summary(&out, &creates, &modules, &run.targets));
    Ok(())
}

/// The code of the modules for a target.
fn compile(
    jobs: &Jobs<'_>,
    target: Target,
    compiler: &Path,
    modules: &[(String, PathBuf)],
    main: &Path,
    manifest: &manifest::AssetsManifest,
) -> Result<Vec<u8>> {
    let refused = |reason: &str| Error::new(format!("there is no code for {reason}"));
    if let Outcome::Refused(reason) = aot::outcome(main)? {
        return Err(refused(&reason));
    }
    let out = jobs.directory(target.triple)?;
    if !modules.is_empty() {
        aot::compile_files(target, compiler, modules, &out, |argv, files| jobs.run(&out, argv, files))?;
        if let Outcome::Refused(reason) = aot::outcome(&out)? {
            return Err(refused(&reason));
        }
    }
    payload::code_of_bundle(manifest, target, modules, &out, payload::engine_of(main)?)
}

/// The jobs of one build of an extension.
struct Jobs<'a> {
    workshop: &'a Workshop<'a>,
    scratch: &'a Path,
    /// Of the last one. It stays.
    log: PathBuf,
}

impl Jobs<'_> {
    /// A new directory for the output of a job.
    fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.scratch.join(name);
        files::make_directory(&path)?;
        Ok(path)
    }

    fn run(&self, out: &Path, argv: &[&str], files: JobFiles) -> Result<()> {
        let work = tempfile::tempdir_in(self.scratch).map_err(|e| Error::io("make", self.scratch, e))?;
        self.workshop.run_in(out, work.path(), &self.log, argv, files)
    }
}

/// Rejects what a program with all extensions could not load beside what it has.
fn check_unknown<'a>(
    known: &[Extension],
    creates: impl Iterator<Item = &'a str> + Clone,
    modules: &[(String, PathBuf)],
) -> Result<()> {
    for extension in known {
        let created = creates.clone().find(|created| extension.creates.iter().any(|known| known == created));
        let module = modules.iter().find(|(module, _)| *module == MAIN || extension.modules.contains(module));
        let what = created.map(|created| format!("the extension {created}"));
        if let Some(what) = what.or_else(|| module.map(|(module, _)| format!("the module {module}"))) {
            return Err(Error::new(format!(
                "{what} is part of the project already (assets/extensions/{})",
                extension.name
            ))
            .repair("use that one, or rename yours"));
        }
    }
    Ok(())
}

/// Checks that the loader will find every import of these modules.
fn check_imports(shipped: &Path, modules: &[(String, PathBuf)]) -> Result<()> {
    let mut main = Vec::new();
    let mut sides = Vec::new();
    for (name, path) in modules::list(shipped)?.into_iter().chain(modules.iter().cloned()) {
        let bytes = files::read(&path)?;
        if name == MAIN { main = bytes } else { sides.push((name, bytes)) }
    }
    linkcheck(&main, &sides, &HostProvided::pglite())?.verify().map_err(|error| {
        error.repair(
            "what PostgreSQL or the C library has and the main module does not export is added to \
             assets/guest/exports.txt; the project is then built again, and programs with it",
        )
    })
}

fn summary(out: &Path, creates: &[manifest::Created], modules: &[(String, PathBuf)], targets: &[Target]) -> String {
    let mut text = format!("wrote {}", out.display());
    for created in creates {
        // Writing into a String cannot fail.
        let _ = write!(text, "\n  extension {} {}", created.name, created.version);
    }
    for (module, _) in modules {
        let _ = write!(text, "\n  module {module}");
    }
    for target in targets {
        let _ = write!(text, "\n  code for {}", target.triple);
    }
    text
}

impl Source {
    /// Names of its control files.
    fn controls(&self) -> Result<Vec<String>> {
        Ok(stems(&list(&self.directory)?, "control"))
    }

    /// The directory, or one that is made of these files.
    fn find(sources: &[PathBuf], name: Option<&str>) -> Result<Self> {
        let missing = |path: &Path| Error::new(format!("there is no {}", path.display()));
        if let [directory] = sources
            && directory.is_dir()
        {
            let directory = directory.canonicalize().map_err(|e| Error::io("find", directory, e))?;
            if !["GNUmakefile", "makefile", "Makefile"].iter().any(|name| directory.join(name).is_file()) {
                return Err(Error::new(format!("{} has no makefile", directory.display()))
                    .repair("name its C sources, its control file and its SQL scripts instead"));
            }
            let mut names = stems(&list(&directory)?, "control");
            let default = if names.len() == 1 { names.pop() } else { stem(&directory) };
            let name = name.map(str::to_owned).or(default).unwrap_or_default();
            check_name(&name)
                .map_err(|e| e.repair("name it with `--name`, in lowercase letters, digits, `_` and `-`"))?;
            return Ok(Self { name, directory, _made: None });
        }
        let made = tempfile::tempdir().map_err(|e| Error::io("make", &std::env::temp_dir(), e))?;
        for path in sources {
            if !path.is_file() {
                return Err(missing(path));
            }
            let file = path.file_name().ok_or_else(|| missing(path))?;
            let target = made.path().join(file);
            if target.exists() {
                return Err(Error::new(format!("two files are called {}", file.display())));
            }
            std::fs::copy(path, &target).map_err(|e| Error::io("copy", path, e))?;
        }
        let default = stems(sources, "control").pop().or_else(|| sources.first().and_then(|path| stem(path)));
        let name = name.map(str::to_owned).or(default).unwrap_or_default();
        check_name(&name).map_err(|e| e.repair("name it with `--name`, in lowercase letters, digits, `_` and `-`"))?;
        files::write(&made.path().join("Makefile"), makefile(&name, sources)?)?;
        Ok(Self { name, directory: made.path().to_path_buf(), _made: Some(made) })
    }
}

/// A makefile for PGXS that builds these files into one module and installs the others.
fn makefile(name: &str, sources: &[PathBuf]) -> Result<String> {
    let mut lines = Vec::new();
    let objects = stems(sources, "c").iter().map(|stem| format!("{stem}.o")).collect::<Vec<_>>();
    if !objects.is_empty() {
        lines.push(format!("MODULE_big = {name}"));
        lines.push(format!("OBJS = {}", objects.join(" ")));
    }
    let controls = stems(sources, "control");
    if !controls.is_empty() {
        lines.push(format!("EXTENSION = {}", controls.join(" ")));
    }
    let scripts: Vec<String> = stems(sources, "sql").iter().map(|stem| format!("{stem}.sql")).collect();
    if !scripts.is_empty() {
        lines.push(format!("DATA = {}", scripts.join(" ")));
    }
    let known = ["c", "h", "control", "sql"];
    if let Some(other) =
        sources.iter().find(|path| !known.iter().any(|known| path.extension().is_some_and(|e| e == *known)))
    {
        return Err(Error::new(format!("{} is neither C (.c, .h) nor .control nor .sql", other.display()))
            .repair("write a makefile for PGXS, and name its directory"));
    }
    lines.push("PGXS := $(shell $(PG_CONFIG) --pgxs)".to_owned());
    lines.push("include $(PGXS)".to_owned());
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

fn list(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.context(|| format!("cannot list {}", directory.display()))?;
    Ok(entries.into_iter().map(|entry| entry.path()).collect())
}

/// Names without ending of the files with this one, sorted.
fn stems(files: &[PathBuf], ending: &str) -> Vec<String> {
    let with = files.iter().filter(|path| path.extension().is_some_and(|found| found == ending));
    let mut stems: Vec<String> = with.filter_map(|path| stem(path)).collect();
    stems.sort();
    stems
}

fn stem(path: &Path) -> Option<String> {
    Some(path.file_stem()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_without_a_makefile_get_one() {
        let files = ["b.c", "a.c", "mine.control", "mine--1.0.sql", "a.h"].map(PathBuf::from);
        insta::assert_snapshot!(makefile("mine", &files).unwrap(), @"
        MODULE_big = mine
        OBJS = a.o b.o
        EXTENSION = mine
        DATA = mine--1.0.sql
        PGXS := $(shell $(PG_CONFIG) --pgxs)
        include $(PGXS)
        ");
        insta::assert_snapshot!(makefile("mine", &[PathBuf::from("a.cpp")]).unwrap_err(), @"
        a.cpp is neither C (.c, .h) nor .control nor .sql
          repair: write a makefile for PGXS, and name its directory
        ");
    }

    #[test]
    fn the_name_is_that_of_the_control_file_the_directory_or_the_first_file() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("tree");
        std::fs::create_dir(&directory).unwrap();
        let name = |sources: &[PathBuf], name| Source::find(sources, name).map(|source| source.name);
        let error = name(std::slice::from_ref(&directory), None).unwrap_err().to_string();
        assert!(error.contains("has no makefile"), "{error}");
        files::write(&directory.join("Makefile"), "").unwrap();
        assert_eq!(name(std::slice::from_ref(&directory), None).unwrap(), "tree");
        files::write(&directory.join("mine.control"), "").unwrap();
        assert_eq!(name(std::slice::from_ref(&directory), None).unwrap(), "mine");
        assert_eq!(name(std::slice::from_ref(&directory), Some("other")).unwrap(), "other");
        files::write(&directory.join("first.c"), "").unwrap();
        assert_eq!(name(&[directory.join("first.c")], None).unwrap(), "first");
        assert!(name(&[directory.join("first.c")], Some("No")).unwrap_err().to_string().contains("not a valid name"));
        assert!(name(&[directory.join("none.c")], None).unwrap_err().to_string().contains("there is no"));
    }
}
