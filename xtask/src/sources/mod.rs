//! `cargo xtask sources`: the inputs of the build. It owns `sources.lock`, its downloads, and
//! updates of both. It unpacks nothing and builds nothing.

mod archive;
mod check;
pub(crate) mod fetch;
mod index;
mod license;
pub(crate) mod lock;
mod mirror;
mod progress;
pub(crate) mod recipe;
mod resolve;
mod update;
mod version;

use crate::assets::blocked::Blocked;
use crate::error::Result;
use crate::paths::Paths;

pub(crate) use lock::{Lock, Role};

/// Roles of the inputs of a build; other entries are not fetched for it.
pub(crate) const BUILD_ROLES: &[Role] = &[Role::Image, Role::Sysroot, Role::Guest];

/// Verbs of `cargo xtask sources`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Download what sources.lock names, verified by hash
    Fetch(MirrorOption),
    /// Compare sources.lock with the checkout
    Check {
        /// Ask the mirrors for each file too, and for newer releases of the source archives
        #[arg(long)]
        online: bool,
        #[command(flatten)]
        mirror: MirrorOption,
    },
    /// Pin an archive, the packages of the image or those of the native PostgreSQL again, and show
    /// the difference before writing
    Update(update::Options),
}

/// The mirrors to use instead of the machine's own.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct MirrorOption {
    /// Debian mirror to use; several are tried in order [default: PGLITE_OXIDE_DEBIAN_MIRROR, else
    /// what apt is configured with]
    #[arg(long, value_name = "URL")]
    pub(crate) debian_mirror: Vec<String>,
}

/// Runs a verb.
pub(crate) fn run(paths: &Paths, verb: Verb) -> Result<()> {
    match verb {
        Verb::Fetch(mirror) => {
            let lock = Lock::read(&paths.lock())?;
            fetch::ensure(paths, &lock, BUILD_ROLES, &mirror.debian_mirror)?;
            let (count, bytes) = lock.artifacts(BUILD_ROLES).fold((0, 0), |(n, bytes), a| (n + 1, bytes + a.size));
            println!(
                "{count} files ({:.1} MB) are in {}, each verified",
                bytes as f64 / 1e6,
                paths.downloads().display()
            );
            Ok(())
        }
        Verb::Check { online, mirror } => {
            let lock = Lock::read(&paths.lock())?;
            check::offline(paths, &lock)?;
            if online {
                let mirrors = mirror::Mirrors::discover(&mirror.debian_mirror)?;
                check::online(&lock, &mirrors)?;
                let newer = check::newer(paths, &lock, &mirrors)?;
                let available = check::available(paths, &lock, &Blocked::all(&paths.root)?, &mirrors)?;
                for line in newer.iter().chain(&available) {
                    println!("{line}");
                }
            }
            let (packages, native) = (lock.packages.len(), lock.native.len());
            println!(
                "sources.lock is consistent: {packages} packages of the image and {native} of the native PostgreSQL, {} archives, {} audited",
                lock.archives.len(),
                lock.git.len()
            );
            Ok(())
        }
        Verb::Update(options) => update::run(paths, &options),
    }
}
