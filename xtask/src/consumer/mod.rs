//! Consumer checks: a program outside the workspace that depends on the crates of a release builds,
//! runs, and contains nothing it should not. It owns these checks and their directory in the cache;
//! `release` makes the crates.

mod family;
mod lab;
mod resolution;
pub(crate) mod tree;

use crate::dependencies::Policy;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::pipeline::progress::Progress;
use crate::pipeline::runlock::RunLock;
use crate::release::{self, StageOptions};
use crate::test::Outcome;

use lab::{Lab, Resolved};
use resolution::Resolution;

/// What the program prints.
const EXPECTED: &str = "one: 1\ndistance: 5.196152422706632\nerror: 22012\nafter it: 2\n";

/// Stages a release and builds and runs the program with it: the versions of Cargo.lock, a
/// directory as the only source, no network.
pub(crate) fn check(paths: &Paths) -> Result<()> {
    let progress = Progress::stderr();
    let lock = lab::lock(paths, "consumer check", &progress)?;
    progress.say("consumer: staging the crates");
    let release = {
        let lock = RunLock::acquire(&paths.cache, "consumer check", |message| progress.say(message))?;
        release::stage(paths, &StageOptions::default(), &lock)?
    };
    let lab = Lab::open(paths, &release.packages, &lock)?;
    let locked = lab.locked()?;
    audit(&lab, &locked, &Policy::read(paths)?)?;
    progress.say(&format!("consumer: building a program with {} crates", locked.crates()));
    let program = lab.build(&locked)?;
    let printed = lab.run(&program)?;
    if printed != EXPECTED {
        return Err(Error::new(format!(
            "the program built from the staged crates printed\n{printed}expected\n{EXPECTED}"
        )));
    }
    progress.say("consumer: SELECT 1, a vector distance, an error and the statement after it: as expected");
    Ok(())
}

/// Builds the program with the newest versions that Cargo finds, as for a user without a
/// Cargo.lock. Needs no payload. Reported as skipped where the registry cannot be reached.
pub(crate) fn fresh_resolution(paths: &Paths) -> Result<Outcome> {
    let progress = Progress::stderr();
    let lock = lab::lock(paths, "fresh resolution", &progress)?;
    let scratch = tempfile::tempdir().map_err(|e| Error::new("cannot create a temporary directory").cause(e))?;
    let packages = release::package(paths, scratch.path())?;
    let lab = Lab::open(paths, &packages, &lock)?;
    let fresh = match lab.fresh()? {
        Resolved::Resolution(fresh) => fresh,
        Resolved::Unreachable(complaint) => {
            return Ok(Outcome::Skipped(format!("the registry cannot be reached: {complaint}")));
        }
    };
    audit(&lab, &fresh, &Policy::read(paths)?)?;
    for line in lab.locked()?.differences(&fresh) {
        progress.say(&format!("fresh resolution: {line}"));
    }
    if lab.was_built(&fresh)? {
        progress.say(&format!("fresh resolution: these {} crates were built before; nothing to do", fresh.crates()));
        return Ok(Outcome::Passed);
    }
    progress.say(&format!("fresh resolution: building a program with {} crates", fresh.crates()));
    lab.build(&fresh)?;
    progress.say("fresh resolution: it builds");
    Ok(Outcome::Passed)
}

/// Checks of a resolution that need no build.
fn audit(lab: &Lab<'_>, resolution: &Resolution, policy: &Policy) -> Result<()> {
    let crates = tree::parse(&lab.tree(resolution)?)?;
    policy.check(&crates)?;
    let unpinned = family::unpinned(&crates, &lab.pins()?);
    if !unpinned.is_empty() {
        return Err(Error::new(format!(
            "crates of the Wasmer family are not pinned by pglite-oxide-runtime:\n  {}",
            unpinned.join("\n  ")
        ))
        .repair(
            "pin each in [workspace.dependencies] and name it in the `cfg(any())` table of pglite-oxide/runtime/Cargo.toml",
        ));
    }
    Ok(())
}
