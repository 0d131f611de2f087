//! `cargo xtask test`: everything that shows whether the checkout works, in one run. Each check is a function or a cargo command; what it checks belongs to the part it is named after. The last line counts them.

use std::process::Command;
use std::time::Instant;

use crate::assets::{self, BuildOptions, Verb, reproduce};
use crate::backend::{self, Choice};
use crate::cargo::{RUNTIME_TESTS, SharedTarget};
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::pipeline::progress::{Progress, elapsed};
use crate::{clients, consumer, crash, regress, release};

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only the checks whose name contains one of these
    names: Vec<String>,
}

/// How a check ended that did not fail.
enum Outcome {
    Passed,
    /// It could not run here, for this reason.
    Skipped(String),
}

type Check = (&'static str, fn(&Paths) -> Result<Outcome>);

/// In the order in which they run: what is quick and what the others need comes first.
const CHECKS: &[Check] = &[
    ("format", |paths| cargo(paths, &["fmt", "--all", "--check"], false)),
    ("pipeline", |paths| cargo(paths, &["test", "--locked", "-p", "xtask"], false)),
    ("sources", |paths| {
        let check = crate::sources::Verb::Check { online: false, mirror: Default::default() };
        crate::sources::run(paths, check).map(|()| Outcome::Passed)
    }),
    ("assets build", |paths| assets::build(paths, &BuildOptions::default()).map(|()| Outcome::Passed)),
    ("assets build, nothing changed", nothing_changed),
    ("assets verify", |paths| assets::run(paths, Verb::Verify).map(|()| Outcome::Passed)),
    ("runtime", |paths| cargo(paths, RUNTIME_TESTS, true)),
    ("clients", clients),
    ("crash", |paths| crash::run(paths, &crash::Options::slice()).map(|()| Outcome::Passed)),
    ("regress", |paths| regress::run(paths, &regress::Options::default()).map(|()| Outcome::Passed)),
    ("lints", |paths| {
        cargo(paths, &["clippy", "--locked", "--all-targets", "--all-features", "--", "-D", "warnings"], true)
    }),
    ("lints of the examples", |paths| {
        cargo(paths, &["clippy", "--locked", "-p", "examples", "--all-targets", "--", "-D", "warnings"], true)
    }),
    ("backend docker", |paths| same_bytes_in(paths, Choice::Docker)),
    ("backend sandbox", |paths| same_bytes_in(paths, Choice::Sandbox)),
    ("release stage", |paths| {
        release::run(paths, release::Verb::Stage(release::StageOptions::default())).map(|()| Outcome::Passed)
    }),
    ("consumer", |paths| consumer::check(paths).map(|()| Outcome::Passed)),
    ("fresh resolution", |paths| consumer::fresh_resolution(paths).map(|()| Outcome::Passed)),
];

/// Runs the checks and prints a line for each.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let wanted = |name: &str| options.names.is_empty() || options.names.iter().any(|part| name.contains(part.as_str()));
    let mut lines = Vec::new();
    let (mut passed, mut skipped) = (0, 0);
    let mut failed = Vec::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| wanted(name)) {
        println!("== {name}");
        let start = Instant::now();
        let result = check(paths);
        let took = elapsed(start.elapsed());
        match result {
            Ok(Outcome::Passed) => {
                passed += 1;
                lines.push(format!("passed   {took:>7}  {name}"));
            }
            Ok(Outcome::Skipped(reason)) => {
                skipped += 1;
                eprintln!("SKIPPED: {name}: {reason}");
                lines.push(format!("SKIPPED  {took:>7}  {name}: {reason}"));
            }
            Err(error) => {
                eprintln!("FAILED: {name}: {error}");
                lines.push(format!("FAILED   {took:>7}  {name}"));
                failed.push(*name);
            }
        }
    }
    if lines.is_empty() {
        return Err(Error::new(format!("no check is called {}", options.names.join(" or "))));
    }
    println!("\n{}\n{passed} passed, {} failed, {skipped} skipped", lines.join("\n"), failed.len());
    if failed.is_empty() { Ok(()) } else { Err(Error::new(format!("failed: {}", failed.join(", ")))) }
}

/// A second build takes every output from the store.
fn nothing_changed(paths: &Paths) -> Result<Outcome> {
    let stale = assets::stale_steps(paths)?;
    if stale.is_empty() {
        Ok(Outcome::Passed)
    } else {
        Err(Error::new(format!("a second build would run {}", stale.join(", "))))
    }
}

/// The clients that are not compiled here are Debian's, which run on Linux.
fn clients(paths: &Paths) -> Result<Outcome> {
    if !cfg!(target_os = "linux") {
        return Ok(Outcome::Skipped("it needs Linux".to_owned()));
    }
    clients::check(paths)?;
    Ok(Outcome::Passed)
}

/// The backend gives the bytes that are in the store, whichever one made those.
fn same_bytes_in(paths: &Paths, choice: Choice) -> Result<Outcome> {
    if let Err(error) = backend::select(choice) {
        return Ok(Outcome::Skipped(error.to_string()));
    }
    reproduce::check_backend(paths, choice, &Progress::stderr())?;
    Ok(Outcome::Passed)
}

/// Runs cargo. What compiles the runtime shares one target directory with every other checkout.
fn cargo(paths: &Paths, args: &[&str], shared_target: bool) -> Result<Outcome> {
    let shared = if shared_target { Some(SharedTarget::acquire(paths)?) } else { None };
    let mut command = shared.as_ref().map_or_else(|| Command::new("cargo"), SharedTarget::cargo);
    let status =
        command.args(args).current_dir(&paths.root).status().map_err(|e| Error::new("cannot start cargo").cause(e))?;
    if status.success() {
        Ok(Outcome::Passed)
    } else {
        Err(Error::new(format!("cargo {} failed: {status}", args.join(" "))))
    }
}
