//! The step `template`: builds the program that does `initdb`'s work with the guest, natively, and runs it on this machine's artifacts.

use std::process::Command;

use super::aot::{Outcome, outcome};
use super::host::Host;
use super::plan::id;
use crate::cargo::SharedTarget;
use crate::error::{Error, Result};
use crate::paths::Paths;
use crate::pipeline::StepContext;
use crate::sources::Lock;

/// The archive in the step's output.
pub(crate) const TEMPLATE: &str = "template.tar";

/// Runs the step.
pub(crate) fn run(paths: &Paths, lock: &Lock, host: &Host, context: &mut StepContext<'_>) -> Result<()> {
    let aot = context.output_of(&id::aot(&host.triple)?)?.to_path_buf();
    if let Outcome::Refused(reason) = outcome(&aot)? {
        return Err(Error::new(format!(
            "the template needs artifacts for this machine, {}, and Wasmer makes none: {reason}",
            host.triple
        )));
    }
    let version = lock.archive("postgresql").map(|a| a.version.clone()).unwrap_or_default();
    let major = version.split('.').next().unwrap_or_default();
    // Held until the program has run, so that it is the one that was built.
    let target = SharedTarget::acquire(paths)?;
    context.run(target.cargo().args(["build", "--release", "--locked", "-p", "initdb"]))?;
    let share = context.output_of(&id::postgresql()?)?.join("install/usr/share/postgresql");
    context.run(
        Command::new(target.release().join("initdb"))
            .arg("--modules")
            .arg(&aot)
            .arg("--share")
            .arg(&share)
            .args(["--major", major])
            .arg("--out")
            .arg(context.out.join(TEMPLATE)),
    )
}
