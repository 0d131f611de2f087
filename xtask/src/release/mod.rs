//! `cargo xtask release`: makes the crates to publish from the checkout, checks each and reports
//! its size. It owns `target/release-stage`; `assets` owns the payloads, and `consumer` the check
//! of a user's program. Nothing is uploaded here.

mod package;
mod report;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cargo_metadata::MetadataCommand;
use xshell::cmd;

use crate::assets;
use crate::assets::parts::{FAMILIES, Family, Part};
use crate::assets::stage::{self, Staged};
use crate::assets::targets::{TARGETS, Target};
use crate::consumer;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::progress::Progress;
use crate::pipeline::runlock::RunLock;
use crate::shell;
use crate::test::Outcome;

pub(crate) use package::{Package, requirements};
use report::Report;

/// The registry's limit for one crate: 10 MiB, compressed.
const LIMIT_BYTES: u64 = 10 * 1024 * 1024;

/// Verbs of `cargo xtask release`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Write the crates to publish into target/release-stage
    Stage(StageOptions),
    /// Stage, then build and run a program outside the workspace with nothing but the staged crates
    Check {
        /// Build it with the newest versions of all dependencies instead, as Cargo resolves them
        /// for a new user; needs no payload
        #[arg(long)]
        newest: bool,
    },
}

/// Options of `release stage`.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct StageOptions {
    /// Fail if a target has no artifacts
    #[arg(long)]
    pub(crate) require_all_targets: bool,
}

/// Runs a verb.
pub(crate) fn run(paths: &Paths, verb: Verb) -> Result<()> {
    match verb {
        Verb::Stage(options) => {
            let progress = Progress::stderr();
            let lock = RunLock::acquire(&paths.cache, "release stage", |message| progress.say(message))?;
            print!("{}", stage(paths, &options, &lock)?.report.table());
            println!("written to {}", directory(paths).display());
            Ok(())
        }
        Verb::Check { newest: false } => consumer::check(paths),
        Verb::Check { newest: true } => match consumer::fresh_resolution(paths)? {
            Outcome::Passed => Ok(()),
            Outcome::Skipped(reason) => Err(Error::new(reason)),
        },
    }
}

/// Crates that are ready to be published.
#[derive(Debug)]
pub(crate) struct Release {
    /// In the order in which they are published.
    pub(crate) packages: Vec<Package>,
    report: Report,
}

/// Writes `target/release-stage`: every crate, its checksum, and its origin. The directory is
/// complete whenever it exists.
pub(crate) fn stage(paths: &Paths, options: &StageOptions, lock: &RunLock) -> Result<Release> {
    let staged = stage::verify(paths)?;
    require_current(paths, &staged)?;
    require_targets(&staged, options)?;

    let place = directory(paths);
    let parent = paths.root.join("target");
    files::make_directory(&parent)?;
    remove_leftovers(&parent, lock)?;
    let scratch = files::scratch(SCRATCH, &parent)?;
    let mut packages = package(paths, scratch.path())?;
    for package in &packages {
        package.check(&paths.root)?;
    }
    require_small(&packages, LIMIT_BYTES)?;
    let report = Report::new(&packages, &staged, commit(paths), LIMIT_BYTES);

    let new = scratch.path().join("new");
    fs::create_dir(&new).map_err(|e| Error::io("create", &new, e))?;
    for package in &mut packages {
        package.move_to(&new)?;
    }
    write(&new.join("SHA256SUMS"), &report.checksums())?;
    write(&new.join("STAGE.json"), &report.json()?)?;
    if place.exists() {
        let old = scratch.path().join("old");
        fs::rename(&place, &old).map_err(|e| Error::io("move aside", &place, e))?;
    }
    fs::rename(&new, &place).map_err(|e| Error::io("put the crates at", &place, e))?;
    fs::File::open(&parent).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", &parent, e))?;
    for package in &mut packages {
        package.path = place.join(package.file_name());
    }
    Ok(Release { packages, report })
}

/// Runs `cargo package` for every crate of a release and leaves the files below a directory.
/// Payloads are those in the checkout.
pub(crate) fn package(paths: &Paths, into: &Path) -> Result<Vec<Package>> {
    let version = publishable(paths)?;
    let target = into.join("cargo");
    let mut cargo = crate::cargo::command();
    // Compiling this xtask has already fetched what is needed of the registry's index.
    cargo
        .args(["package", "--no-verify", "--allow-dirty", "--locked", "--offline", "--color", "never"])
        .current_dir(&paths.root);
    cargo.arg("--target-dir").arg(&target);
    for krate in crates() {
        cargo.args(["-p", &krate.name]);
    }
    run_cargo(&mut cargo)?;
    crates().into_iter().map(|krate| Package::read(krate, &version, &target.join("package"))).collect()
}

/// A crate of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What a crate carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The portable payload.
    Assets,
    /// The artifacts of a target.
    Aot(Target),
    /// A family of extensions, with its artifacts for all targets.
    Extensions(Family),
    /// Code that runs the artifacts: the internal layers of the library.
    Runtime,
    /// The library that users name.
    Library,
}

/// Every crate of a release, each after its dependencies. A target without artifacts has a crate
/// too, because Cargo resolves the dependencies of all targets.
pub(crate) fn crates() -> Vec<Crate> {
    let mut crates = vec![Crate { name: "pglite-oxide-assets".into(), kind: Kind::Assets }];
    crates
        .extend(TARGETS.iter().map(|t| Crate { name: format!("pglite-oxide-aot-{}", t.triple), kind: Kind::Aot(*t) }));
    crates.extend(FAMILIES.iter().map(|f| Crate { name: f.crate_name(), kind: Kind::Extensions(*f) }));
    crates.push(Crate { name: "pglite-oxide-runtime".into(), kind: Kind::Runtime });
    crates.push(Crate { name: "pglite-oxide".into(), kind: Kind::Library });
    crates
}

impl Kind {
    /// Whether crates of the kind carry a payload.
    pub(crate) fn has_payload(self) -> bool {
        matches!(self, Self::Assets | Self::Aot(_) | Self::Extensions(_))
    }
}

impl Crate {
    /// Where its payloads are: in the crate, and in the checkout.
    pub(crate) fn payloads(&self, root: &Path) -> Vec<(String, PathBuf)> {
        match self.kind {
            Kind::Assets => vec![("payload".into(), Part::Server.assets_dir(root))],
            Kind::Aot(target) => vec![("payload".into(), Part::Server.target_dir(root, target))],
            Kind::Extensions(family) => {
                let part = Part::Family(family);
                let targets = TARGETS.iter().map(|t| (format!("payload/{}", t.triple), part.target_dir(root, *t)));
                std::iter::once(("payload/files".into(), part.assets_dir(root))).chain(targets).collect()
            }
            Kind::Runtime | Kind::Library => vec![],
        }
    }
}

/// Runs a Cargo command whose output matters only if it fails.
pub(crate) fn run_cargo(command: &mut Command) -> Result<String> {
    let (arguments, output) = cargo_output(command)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::new(format!("`cargo {arguments}` failed: {}", output.status)).cause(complaint))
}

/// Runs a Cargo command and returns its arguments as text with its output.
pub(crate) fn cargo_output(command: &mut Command) -> Result<(String, Output)> {
    let arguments = command.get_args().map(|a| a.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = command.output().map_err(|e| Error::new("cannot start cargo").cause(e))?;
    Ok((arguments, output))
}

fn directory(paths: &Paths) -> PathBuf {
    paths.root.join("target/release-stage")
}

/// Prefix of the directories in which a stage is built.
const SCRATCH: &str = "release-stage.";

/// Removes what killed runs have left. The lock proves that none of them is running.
fn remove_leftovers(parent: &Path, _lock: &RunLock) -> Result<()> {
    for entry in fs::read_dir(parent).map_err(|e| Error::io("list", parent, e))? {
        let entry = entry.map_err(|e| Error::io("list", parent, e))?;
        if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
            files::remove_directory(&entry.path())?;
        }
    }
    Ok(())
}

fn require_current(paths: &Paths, staged: &Staged) -> Result<()> {
    let reasons = assets::stale_payloads(paths, staged)?;
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("the payloads do not belong to the present inputs:\n  {}", reasons.join("\n  ")))
        .repair(stage::REPAIR))
}

fn require_targets(staged: &Staged, options: &StageOptions) -> Result<()> {
    let missing: Vec<&str> =
        TARGETS.iter().filter(|t| !staged.targets.iter().any(|(there, _)| there == *t)).map(|t| t.triple).collect();
    if missing.is_empty() || !options.require_all_targets {
        return Ok(());
    }
    Err(Error::new(format!("these targets have no artifacts: {}", missing.join(", ")))
        .repair("run `cargo xtask assets build --all-targets`, or leave out --require-all-targets"))
}

fn require_small(packages: &[Package], limit: u64) -> Result<()> {
    let large: Vec<String> = packages
        .iter()
        .filter(|p| p.compressed() > limit)
        .map(|p| format!("{} has {} bytes", p.file_name(), p.compressed()))
        .collect();
    if large.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("over the registry's limit of {limit} bytes for a crate: {}", large.join(", ")))
        .repair("make the payload smaller, or divide the crate"))
}

/// The version of the release, after checking that the workspace publishes exactly the staged
/// crates.
fn publishable(paths: &Paths) -> Result<String> {
    let metadata = MetadataCommand::new()
        .current_dir(&paths.root)
        .no_deps()
        .other_options(["--locked".to_owned()])
        .exec()
        .context(|| "`cargo metadata` failed".into())?;
    let mut members: Vec<_> = metadata.packages.into_iter().filter(|m| m.publish.is_none()).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    let mut expected: Vec<String> = crates().into_iter().map(|c| c.name).collect();
    expected.sort();
    let found: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
    if found != expected {
        return Err(Error::new(format!(
            "the workspace publishes {}; a release consists of {}",
            found.join(", "),
            expected.join(", ")
        ))
        .repair("set `publish = false` for what is not part of a release"));
    }
    let version = members.first().map(|m| m.version.to_string()).unwrap_or_default();
    match members.iter().find(|m| m.version.to_string() != version) {
        None => Ok(version),
        Some(other) => {
            Err(Error::new(format!("{} has version {}, expected {version} like the others", other.name, other.version))
                .repair("use `version.workspace = true`"))
        }
    }
}

/// The commit that is checked out, and whether tracked files differ from it. `None` outside of a
/// git checkout.
fn commit(paths: &Paths) -> Option<report::Commit> {
    let shell = shell::at(&paths.root).ok()?;
    let id = cmd!(shell, "git rev-parse HEAD").quiet().ignore_stderr().read().ok()?;
    let changes = cmd!(shell, "git status --porcelain --untracked-files=no").quiet().ignore_stderr().read().ok()?;
    Some(report::Commit { id, dirty: !changes.is_empty() })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::File::create(path).map_err(|e| Error::io("create", path, e))?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(|e| Error::io("write", path, e))
}

#[cfg(test)]
mod tests {
    use super::package::tests::{krate, package};
    use super::*;
    use crate::manifest::{AssetsManifest, FORMAT};

    #[test]
    fn a_crate_over_the_limit_is_named() {
        let packages = [package(krate("x", Kind::Runtime), &[("src/lib.rs", "//! x")])];
        let size = packages[0].compressed();
        require_small(&packages, size).unwrap();
        let error = require_small(&packages, size - 1).unwrap_err().to_string();
        assert!(error.contains(&format!("x-0.1.0.crate has {size} bytes")), "{error}");
    }

    #[test]
    fn a_target_without_artifacts_is_an_error_only_if_asked() {
        let assets = AssetsManifest {
            format: FORMAT,
            build: String::new(),
            postgresql: String::new(),
            abi: 1,
            image: String::new(),
            toolchain: std::collections::BTreeMap::new(),
            modules: vec![],
            programs: vec![],
            extensions: vec![],
            archives: vec![],
        };
        let staged = Staged { assets, targets: vec![] };
        require_targets(&staged, &StageOptions { require_all_targets: false }).unwrap();
        let error = require_targets(&staged, &StageOptions { require_all_targets: true }).unwrap_err().to_string();
        assert!(TARGETS.iter().all(|target| error.contains(target.triple)), "{error}");
    }

    #[test]
    fn dependencies_come_before_what_needs_them() {
        let names: Vec<String> = crates().into_iter().map(|c| c.name).collect();
        insta::assert_debug_snapshot!(names);
    }

    #[test]
    fn a_dead_runs_scratch_is_removed_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["release-stage", "release-stage.dead", "debug"] {
            fs::create_dir(parent.path().join(name)).unwrap();
        }
        let lock = RunLock::acquire(parent.path(), "release stage", |_| ()).unwrap();
        remove_leftovers(parent.path(), &lock).unwrap();
        assert!(parent.path().join("release-stage").exists());
        assert!(parent.path().join("debug").exists());
        assert!(!parent.path().join("release-stage.dead").exists());
    }
}
