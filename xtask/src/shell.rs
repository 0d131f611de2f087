//! Commands that are run to their end and whose output is taken whole. What needs a process group,
//! a pipe, a time limit or a signal uses `std::process::Command`.

use std::path::Path;

use xshell::Shell;

use crate::error::{Context, Result};

/// A shell for `cmd!` whose commands run in a directory.
pub(crate) fn at(directory: &Path) -> Result<Shell> {
    let shell = Shell::new().context(|| "cannot start commands".into())?;
    shell.change_dir(directory);
    Ok(shell)
}
