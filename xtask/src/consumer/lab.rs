//! The directory in which a user's program is built: a directory source with every crate it needs,
//! the program, and Cargo's target directory, all kept so that a second run is fast. It owns those
//! directories and runs Cargo in them; the checks of the results are elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::resolution::{self, Resolution};
use super::tree;
use crate::error::{Context, Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::fingerprint::{Fingerprint, Hasher};
use crate::pipeline::progress::Progress;
use crate::pipeline::runlock::RunLock;
use crate::release::{self, Kind, Package};

/// Name of the program.
const PROGRAM: &str = "consumer";
/// Prefix of directories under construction.
const SCRATCH: &str = "scratch-";
/// A program that is only resolved.
const NOTHING: &str = "fn main() {}\n";

/// The directories and the crates under test.
#[derive(Debug)]
pub(super) struct Lab<'a> {
    directory: PathBuf,
    /// Source of the program.
    source: PathBuf,
    packages: &'a [Package],
}

/// The result of a query to the registry.
#[derive(Debug)]
pub(super) enum Resolved {
    Resolution(Resolution),
    /// With Cargo's output.
    Unreachable(String),
}

/// The right to use the directory. Not the lock of the cache, because its builds take minutes and
/// have nothing in common with other runs.
pub(super) fn lock(paths: &Paths, verb: &str, progress: &Progress) -> Result<RunLock> {
    RunLock::acquire(&directory(paths), verb, |message| progress.say(message))
}

fn directory(paths: &Paths) -> PathBuf {
    paths.cache.join("consumer")
}

impl<'a> Lab<'a> {
    /// Makes the directories and unpacks the crates into the source.
    pub(super) fn open(paths: &Paths, packages: &'a [Package], _lock: &RunLock) -> Result<Self> {
        let lab = Self { directory: directory(paths), source: paths.root.join("xtask/consumer/main.rs"), packages };
        files::make_directory(&lab.vendor())?;
        lab.remove_leftovers()?;
        for package in packages {
            lab.unpack(package)?;
        }
        Ok(lab)
    }

    /// The versions of the workspace's Cargo.lock: the crate carries them.
    pub(super) fn locked(&self) -> Result<Resolution> {
        self.prepare_resolution(Some(self.runtime()?.text("Cargo.lock")?))?;
        release::run_cargo(self.update().arg("--offline"))?;
        self.resolved()
    }

    /// The newest versions that fit.
    pub(super) fn fresh(&self) -> Result<Resolved> {
        self.prepare_resolution(None)?;
        let (arguments, output) = release::cargo_output(&mut self.update())?;
        if output.status.success() {
            return self.resolved().map(Resolved::Resolution);
        }
        let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if resolution::is_unreachable(&complaint) {
            return Ok(Resolved::Unreachable(complaint));
        }
        Err(Error::new(format!("a newcomer's `cargo {arguments}` failed: {}", output.status)).cause(complaint))
    }

    /// The program's crates for every target.
    pub(super) fn tree(&self, resolution: &Resolution) -> Result<String> {
        self.prepare_program(resolution)?;
        let mut cargo = crate::cargo::command();
        cargo.args(["tree", "--locked"]).args(tree::ARGUMENTS).current_dir(self.program());
        release::run_cargo(&mut cargo)
    }

    /// The version requirements of `pglite-oxide-runtime`, by crate.
    pub(super) fn pins(&self) -> Result<BTreeMap<String, String>> {
        let manifest = self
            .runtime()?
            .text("Cargo.toml")?
            .parse()
            .context(|| "the packaged Cargo.toml does not have the expected form".into())?;
        Ok(release::requirements(&manifest))
    }

    /// Builds the program and returns it.
    pub(super) fn build(&self, resolution: &Resolution) -> Result<PathBuf> {
        self.prepare_program(resolution)?;
        let target = self.directory.join("target");
        self.clean(&target)?;
        let status = crate::cargo::command()
            .args(["build", "--offline", "--locked", "--release"])
            .current_dir(self.program())
            .env("CARGO_TARGET_DIR", &target)
            .status()
            .map_err(|e| Error::new("cannot start cargo").cause(e))?;
        if !status.success() {
            return Err(Error::new(format!("the program in {} does not build: {status}", self.program().display())));
        }
        let built = self.directory.join(format!("built-{}", self.key(resolution)?));
        write(&built, "")?;
        Ok(target.join("release").join(PROGRAM))
    }

    /// Removes what was compiled from earlier crates of this project: Cargo takes crates of equal
    /// versions for equal, and these change without a new version.
    fn clean(&self, target: &Path) -> Result<()> {
        let stamp = target.join("crates.txt");
        let crates: String =
            self.packages.iter().map(|p| format!("{} {}\n", p.directory_name(), p.content(true))).collect();
        if fs::read_to_string(&stamp).is_ok_and(|found| found == crates) {
            return Ok(());
        }
        let mut clean = crate::cargo::command();
        clean.args(["clean", "--offline", "--locked", "--release"]).current_dir(self.program());
        for package in self.packages {
            clean.args(["-p", &package.krate.name]);
        }
        release::run_cargo(clean.env("CARGO_TARGET_DIR", target))?;
        files::make_directory(target)?;
        write(&stamp, &crates)
    }

    /// Whether a build with these versions and this source of ours has succeeded before.
    pub(super) fn was_built(&self, resolution: &Resolution) -> Result<bool> {
        Ok(self.directory.join(format!("built-{}", self.key(resolution)?)).exists())
    }

    /// Runs the program in an empty directory with an empty environment, and returns what it
    /// printed.
    pub(super) fn run(&self, program: &Path) -> Result<String> {
        let empty = self.scratch()?;
        let output = Command::new(program)
            .env_clear()
            .current_dir(empty.path())
            .output()
            .map_err(|e| Error::io("start", program, e))?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::new(format!("the program built from the staged crates failed: {}", output.status))
                .cause(complaint));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn vendor(&self) -> PathBuf {
        self.directory.join("vendor")
    }

    fn program(&self) -> PathBuf {
        self.directory.join("program")
    }

    fn resolver(&self) -> PathBuf {
        self.directory.join("resolve")
    }

    fn unpacked(&self, package: &Package) -> PathBuf {
        self.vendor().join(package.directory_name())
    }

    fn scratch(&self) -> Result<tempfile::TempDir> {
        files::scratch(SCRATCH, &self.directory)
    }

    /// Puts a crate of this project into the source, unless it is there: new file times would make
    /// Cargo rebuild it.
    fn unpack(&self, package: &Package) -> Result<()> {
        const CHECKSUMS: &str = ".cargo-checksum.json";
        let place = self.unpacked(package);
        let checksums = serde_json::json!({ "files": package.checksums(), "package": package.sha256 }).to_string();
        if fs::read_to_string(place.join(CHECKSUMS)).is_ok_and(|found| found == checksums) {
            return Ok(());
        }
        files::remove_directory(&place)?;
        let scratch = self.scratch()?;
        package.unpack_into(scratch.path())?;
        write(&scratch.path().join(CHECKSUMS), &checksums)?;
        fs::rename(scratch.keep(), &place).map_err(|e| Error::io("create", &place, e))
    }

    /// Removes what killed runs have left. The lock proves that none of them is running.
    fn remove_leftovers(&self) -> Result<()> {
        for entry in fs::read_dir(&self.directory).map_err(|e| Error::io("list", &self.directory, e))? {
            let entry = entry.map_err(|e| Error::io("list", &self.directory, e))?;
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                files::remove_directory(&entry.path())?;
            }
        }
        Ok(())
    }

    fn runtime(&self) -> Result<&Package> {
        self.packages
            .iter()
            .find(|p| p.krate.kind == Kind::Runtime)
            .ok_or_else(|| Error::new("there is no crate pglite-oxide-runtime"))
    }

    /// A project whose dependencies come from the registry, except this project's crates, which are
    /// not published yet.
    fn prepare_resolution(&self, cargo_lock: Option<&str>) -> Result<()> {
        let patches = self.packages.iter().map(|p| {
            let path = self.unpacked(p).display().to_string();
            (p.krate.name.clone(), toml::Value::Table([("path".to_owned(), path.into())].into_iter().collect()))
        });
        let mut manifest = manifest(&self.runtime()?.version);
        manifest.insert("patch".into(), table([("crates-io", toml::Value::Table(patches.collect()))]));
        self.write_project(&self.resolver(), &manifest, NOTHING, cargo_lock)
    }

    /// The program, with a directory as its only source.
    fn prepare_program(&self, resolution: &Resolution) -> Result<()> {
        let program = self.program();
        let source = files::text(&self.source)?;
        self.write_project(&program, &manifest(&self.runtime()?.version), &source, Some(&resolution.cargo_lock))?;
        let vendor = self.vendor().display().to_string();
        let config: toml::Table = [(
            "source".to_owned(),
            table([
                ("crates-io", table([("replace-with", "vendor".into())])),
                ("vendor", table([("directory", vendor.into())])),
            ]),
        )]
        .into_iter()
        .collect();
        files::make_directory(&program.join(".cargo"))?;
        write(&program.join(".cargo/config.toml"), &config.to_string())?;
        // This project's crates enter the lock from the directory; everything else must stay as
        // resolved.
        release::run_cargo(crate::cargo::command().args(["update", "--workspace", "--offline"]).current_dir(&program))?;
        let used = Resolution::read(&program.join("Cargo.lock"))?;
        let differences = resolution.differences(&used);
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::new(format!(
            "the program would be built with other versions than were resolved:\n  {}",
            differences.join("\n  ")
        ))
        .repair(format!("delete {} and run the same command again", self.directory.display())))
    }

    fn write_project(
        &self,
        directory: &Path,
        manifest: &toml::Table,
        source: &str,
        cargo_lock: Option<&str>,
    ) -> Result<()> {
        files::make_directory(&directory.join("src"))?;
        write(&directory.join("Cargo.toml"), &manifest.to_string())?;
        write(&directory.join("src/main.rs"), source)?;
        let lock = directory.join("Cargo.lock");
        match cargo_lock {
            Some(text) => write(&lock, text),
            None => match fs::remove_file(&lock) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &lock, e)),
                _ => Ok(()),
            },
        }
    }

    /// Creates a lock file, and leaves what is locked unchanged.
    fn update(&self) -> Command {
        let mut cargo = crate::cargo::command();
        cargo.args(["update", "--workspace", "--color", "never"]).current_dir(self.resolver());
        cargo
    }

    /// Reads what was resolved and adds the crates that are not yet in the directory.
    fn resolved(&self) -> Result<Resolution> {
        let resolution = Resolution::read(&self.resolver().join("Cargo.lock"))?;
        if resolution.directories().all(|name| self.vendor().join(name).exists()) {
            return Ok(resolution);
        }
        let scratch = self.scratch()?;
        let new = scratch.path().join("vendor");
        let mut cargo = crate::cargo::command();
        cargo
            .args(["vendor", "--locked", "--versioned-dirs", "--color", "never"])
            .arg(&new)
            .current_dir(self.resolver());
        release::run_cargo(&mut cargo)?;
        // Only what is missing: Cargo would build a crate again whose files were written again.
        for name in resolution.directories() {
            let (from, to) = (new.join(&name), self.vendor().join(&name));
            if !to.exists() {
                fs::rename(&from, &to).map_err(|e| Error::io("move the crate to", &to, e))?;
            }
        }
        Ok(resolution)
    }

    /// Identifies the inputs of a build without payloads: a payload does not decide whether a crate
    /// compiles.
    fn key(&self, resolution: &Resolution) -> Result<Fingerprint> {
        let mut hasher = Hasher::new("consumer build");
        for package in self.packages {
            hasher.fingerprint(&package.krate.name, &package.content(false));
        }
        hasher.bytes("program", &files::read(&self.source)?);
        hasher.text("manifest", &manifest("").to_string());
        resolution.hash_into(&mut hasher);
        Ok(hasher.finish())
    }
}

/// The manifest of a program that depends on one crate.
fn manifest(version: &str) -> toml::Table {
    let package = table([
        ("name", PROGRAM.into()),
        ("version", "0.0.0".into()),
        ("edition", "2024".into()),
        ("publish", false.into()),
    ]);
    let features = toml::Value::Array(["extensions", "extensions-gpl", "extensions-postgis"].map(Into::into).to_vec());
    let dependencies =
        table([("pglite-oxide", table([("version", format!("={version}").into()), ("features", features)]))]);
    // The check is whether it builds and runs, not its speed: it is not optimized, except for what
    // reads the payload.
    let level = |level: i64| table([("opt-level", level.into())]);
    let mut release = toml::Table::from_iter([("opt-level".to_owned(), 0.into())]);
    release.insert("package".into(), table([("sha2", level(3)), ("zstd-sys", level(3))]));
    let profile = table([("release", toml::Value::Table(release))]);
    // A workspace of its own, wherever the directory is.
    let workspace = toml::Value::Table(toml::Table::new());
    [("package", package), ("dependencies", dependencies), ("profile", profile), ("workspace", workspace)]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v))
        .collect()
}

fn table<const N: usize>(entries: [(&str, toml::Value); N]) -> toml::Value {
    toml::Value::Table(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn write(path: &Path, text: &str) -> Result<()> {
    // The time of an unchanged file tells Cargo that there is nothing to do.
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    files::write(path, text)
}
