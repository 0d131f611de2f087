//! The step `guest/programs`: links the client programs, makes each loadable like a main module
//! without side modules, and proves that every import is satisfied.

use super::guest::add_libraries;
use super::modules;
use super::plan::needs;
use super::workshop::{JobFiles, Workshop};
use crate::error::{Error, Result};
use crate::files;
use crate::paths::Paths;
use crate::pipeline::StepContext;
use crate::wasm::host::HostProvided;
use crate::wasm::linkcheck::linkcheck;
use crate::wasm::postlink::postlink;

/// Runs the step.
pub(crate) fn run(paths: &Paths, workshop: &Workshop<'_>, context: &mut StepContext<'_>) -> Result<()> {
    let mut files = JobFiles::default();
    files.read_only.insert("assets".to_owned(), paths.root.join("assets"));
    files.add_need(context, "deps/postgresql", &needs::program_objects()?)?;
    add_libraries(&mut files, context)?;
    workshop.run(context, &["sh", "/pgl/assets/build/programs.sh"], files)?;
    for (name, path) in modules::list(&context.out)? {
        let linked = files::read(&path)?;
        let program = postlink(&linked)?;
        files::write(&path, &program)?;
        let report = linkcheck(&program, &[], &HostProvided::program())?;
        report.verify().map_err(|e| Error::new(format!("the program {name} cannot be loaded")).cause(e))?;
    }
    Ok(())
}
