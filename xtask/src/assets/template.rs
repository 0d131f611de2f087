//! Steps `template/…`: build the native program that does the work of `initdb` on the guest, and
//! run it on this machine's artifacts.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use super::aot::{Outcome, outcome};
use super::extension::Extension;
use super::host::Host;
use super::payload;
use super::plan::{id, needs, server_units};
use crate::cargo::SharedTarget;
use crate::error::{Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::StepContext;
use crate::pipeline::fingerprint::children;
use crate::sources::Lock;

/// The archive in the step's output.
pub(crate) const TEMPLATE: &str = "template.tar";
/// The shipped form of the same.
pub(crate) const PACKED: &str = "template.tar.zst";
/// The program in the output of its step.
const PROGRAM: &str = "initdb";

/// Builds the program.
pub(crate) fn program(paths: &Paths, host: &Host, context: &mut StepContext<'_>) -> Result<()> {
    // Held until the program is copied, so that the copy is the program built here.
    let target = SharedTarget::acquire(paths)?;
    context.run(&mut target.build(&["--bin", PROGRAM]))?;
    let (built, wanted) = (target.release().join(PROGRAM), context.out.join(PROGRAM));
    fs::copy(&built, &wanted).map_err(|e| Error::io("copy", &built, e))?;
    context.tools.insert("rust".into(), host.rust.clone());
    Ok(())
}

/// Makes the template.
pub(crate) fn run(lock: &Lock, host: &Host, extensions: &[Extension], context: &mut StepContext<'_>) -> Result<()> {
    // The artifacts are outputs of several steps; the program needs them in one directory.
    let modules = context.work.join("modules");
    files::make_directory(&modules)?;
    for unit in server_units(extensions) {
        let output = context.output_of(&id::aot(&host.triple, &unit)?)?;
        if let Outcome::Refused(reason) = outcome(&output)? {
            return Err(Error::new(format!(
                "the template needs artifacts for this machine, {}, and Wasmer makes none: {reason}",
                host.triple
            )));
        }
        for (name, path) in children(&output)? {
            let link = modules.join(name);
            symlink(&path, &link).map_err(|e| Error::io("link", &link, e))?;
        }
    }
    let version = lock.archive("postgresql").map(|a| a.version.clone()).unwrap_or_default();
    let major = version.split('.').next().unwrap_or_default();
    let template = context.out.join(TEMPLATE);
    context.run(
        Command::new(context.output_of(&id::template_program()?)?.join(PROGRAM))
            .arg("--modules")
            .arg(&modules)
            .arg("--share")
            .arg(context.part(&needs::share()?)?)
            .args(["--major", major])
            .arg("--out")
            .arg(&template),
    )?;
    let packed = payload::compress(&files::read(&template)?)?;
    let path = context.out.join(PACKED);
    files::write(&path, packed)
}
