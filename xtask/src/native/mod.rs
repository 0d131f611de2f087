//! The native PostgreSQL for comparisons: Debian's packages of the lock, unpacked to a root file
//! system in the cache. It owns fetching and unpacking; `server` runs it. No step of the build uses
//! it.

mod server;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Command;

use crate::cargo::succeed;
use crate::error::Result;
use crate::image::{self, Event};
use crate::paths::Paths;
use crate::sources::recipe::{Recipe, Root};
use crate::sources::{Lock, Role, fetch};

pub(crate) use server::{Cluster, HOST_PATH, Native, Options, Server, as_user};

impl Native {
    /// Fetches and unpacks what is missing, verifies the rest. `mirrors` are the values of
    /// `--debian-mirror`.
    pub(crate) fn prepare(paths: &Paths, mirrors: &[String]) -> Result<Self> {
        let lock = Lock::read(&paths.lock())?;
        let recipe = Recipe::read(&paths.root, Root::Native)?;
        fetch::ensure(paths, &lock, &[Role::Native], mirrors)?;
        let spec = recipe.spec(&lock, &paths.downloads());
        let image = image::build(&spec, &paths.images(), &mut |event| match event {
            Event::Rebuild(reason) => eprintln!("native: unpacking again: {reason}"),
            Event::Unpack { index: 1, total, .. } => eprintln!("native: unpacking {total} packages"),
            Event::Verify | Event::Unpack { .. } | Event::Hash => {}
        })?;
        Ok(Self::at(&image.rootfs))
    }

    /// Gives a directory, with all that is in it, to the user of the programs.
    pub(crate) fn own(directory: &Path) -> Result<()> {
        if !server::is_root() {
            return Ok(());
        }
        let user = format!("{0}:{0}", server::USER);
        succeed(Command::new("chown").args(["-R", &user]).arg(directory))
    }

    /// Whether there is an extension, or a module, of this name.
    pub(crate) fn has_extension(&self, name: &str) -> bool {
        let control = format!("usr/share/postgresql/17/extension/{name}.control");
        let module = format!("usr/lib/postgresql/17/lib/{name}.so");
        [control, module].iter().any(|file| self.rootfs.join(file).exists())
    }
}
