//! The cargo commands that the pipeline starts, and their target directory, shared by all checkouts
//! of one cache because compiling the runtime's dependencies takes minutes. It owns who may use it
//! when.
//!
//! Cargo distinguishes workspace members by their place in the workspace and by file times, not by
//! the path of the workspace. So the outputs of another checkout are removed before a build, and
//! the directory is locked while a build runs or a built program is in use.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use crate::error::{Error, Result};
use crate::files::{self, Locked};
use crate::paths::Paths;

/// The tests of the runtime and of what is built on it.
pub(crate) const RUNTIME_TESTS: &[&str] = &[
    "test",
    "--locked",
    "--release",
    "-p",
    "pglite-oxide",
    "-p",
    "pglite-oxide-runtime",
    "-p",
    "initdb",
    "-p",
    "bench",
    "-p",
    "crash",
    "-p",
    "regress",
    "--all-features",
    // Tests that need the payload are ignored without this; here it must be there.
    "--",
    "--include-ignored",
];

/// Packages whose outputs belong to one checkout.
const MEMBERS: &[&str] = &[
    "bench",
    "crash",
    "examples",
    "initdb",
    "pglite-oxide",
    "pglite-oxide-aot-aarch64-apple-darwin",
    "pglite-oxide-aot-aarch64-unknown-linux-gnu",
    "pglite-oxide-aot-x86_64-pc-windows-msvc",
    "pglite-oxide-aot-x86_64-unknown-linux-gnu",
    "pglite-oxide-assets",
    "pglite-oxide-extensions-community",
    "pglite-oxide-extensions-contrib",
    "pglite-oxide-extensions-gpl",
    "pglite-oxide-extensions-icu",
    "pglite-oxide-extensions-pgcrypto",
    "pglite-oxide-extensions-postgis",
    "pglite-oxide-extensions-vector",
    "pglite-oxide-extensions-xml",
    "pglite-oxide-fuzz",
    "pglite-oxide-runtime",
    "regress",
    "xtask",
];

/// A cargo command, without what `cargo run` has told this program about its own package. Build
/// scripts that read such variables, as that of `ring`, would run again, and what depends on them
/// would be compiled again, at every change between a command of the user and one of this program.
pub(crate) fn command() -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| own.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// The right to use the directory, until this is dropped.
#[derive(Debug)]
pub(crate) struct SharedTarget {
    root: PathBuf,
    directory: PathBuf,
    _lock: Locked,
}

impl SharedTarget {
    /// Waits for other users, and removes the outputs of another checkout.
    pub(crate) fn acquire(paths: &Paths) -> Result<Self> {
        let directory = paths.cargo_target();
        files::make_directory(&directory)?;
        let lock_path = directory.join("pglite-oxide.lock");
        let lock = File::create(&lock_path).map_err(|e| Error::io("create", &lock_path, e))?;
        let lock = Locked::wait(lock).map_err(|e| Error::io("lock", &lock_path, e))?;
        let shared = Self { root: paths.root.clone(), directory, _lock: lock };
        shared.own()?;
        Ok(shared)
    }

    /// Directory of release builds.
    pub(crate) fn release(&self) -> PathBuf {
        self.directory.join("release")
    }

    /// A cargo command in the checkout that builds here.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = command();
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.directory).env("CARGO_TERM_COLOR", "never");
        command
    }

    /// A cargo command that builds one of the runtime's programs or examples: `--bin NAME`,
    /// `--example NAME`. The packages and features are those of the tests, whatever is built: Cargo
    /// unites the features of the packages it is told, and compiles a dependency once for each set
    /// of features.
    pub(crate) fn build(&self, what: &[&str]) -> Command {
        let mut command = self.cargo();
        let selection = RUNTIME_TESTS.iter().skip(1).take_while(|argument| **argument != "--");
        command.arg("build").args(selection).args(what);
        command
    }

    fn own(&self) -> Result<()> {
        let owner = self.directory.join("pglite-oxide.owner");
        let root = self.root.display().to_string();
        if fs::read_to_string(&owner).is_ok_and(|last| last == root) {
            return Ok(());
        }
        for profile in ["dev", "release"] {
            let mut clean = self.cargo();
            clean.args(["clean", "--quiet", "--profile", profile]);
            for member in MEMBERS {
                clean.args(["-p", member]);
            }
            let output = clean.output().map_err(|e| Error::new("cannot start cargo").cause(e))?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                return Err(Error::new(format!(
                    "cannot remove what another checkout built in {}",
                    self.directory.display()
                ))
                .cause(said));
            }
        }
        files::write(&owner, root)
    }
}

/// Runs a command to its end, with this program's standard streams.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|e| Error::new(format!("cannot start {program}")).cause(e))?;
    if status.success() {
        return Ok(());
    }
    let arguments = command.get_args().map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ");
    Err(Error::new(format!("{program} {arguments} failed: {status}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo sets these for the program that runs this test.
    #[test]
    fn a_command_says_nothing_of_this_package() {
        assert!(std::env::var_os("CARGO_PKG_NAME").is_some(), "cargo sets it");
        let command = command();
        let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
        for name in ["CARGO_PKG_NAME", "CARGO_PKG_VERSION_MAJOR", "CARGO_MANIFEST_DIR"] {
            assert!(removed.contains(&std::ffi::OsStr::new(name)), "{name}");
        }
    }

    /// A package missing from the list would be taken from another checkout.
    #[test]
    fn every_member_that_is_built_here_is_known() {
        let root: toml::Table = include_str!("../../Cargo.toml").parse().unwrap();
        let directories = root["workspace"]["members"].as_array().unwrap();
        let mut members: Vec<String> = directories
            .iter()
            .filter_map(toml::Value::as_str)
            // Built in the image, in a directory of its own.
            .filter(|directory| *directory != "xtask/aot-compiler")
            .map(|directory| {
                let manifest =
                    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory).join("Cargo.toml");
                let manifest: toml::Table = fs::read_to_string(manifest).unwrap().parse().unwrap();
                manifest["package"]["name"].as_str().unwrap().to_owned()
            })
            .collect();
        members.sort();
        assert_eq!(members, MEMBERS);
    }
}
