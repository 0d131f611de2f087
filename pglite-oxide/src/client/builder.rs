//! Opening a database: its place and the options of its sessions. It owns the order of the steps,
//! from the check of the options to a ready session.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pglite::Pglite;
use crate::bundle::{self, Payload};
use crate::cluster::archive;
use crate::cluster::control_file::{self, Layout};
use crate::cluster::options::{Durability, Options};
use crate::cluster::root::Root;
use crate::cluster::{Cluster, Data, copy, empty};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::ImageFs;
use crate::fs::host::HostFs;

/// Options for opening a database. Has no effect before [`Self::open`].
///
/// ```no_run
/// use pglite_oxide::{Durability, Pglite};
///
/// let db = Pglite::builder()
///     .path("data/shop")
///     .durability(Durability::Relaxed)
///     .setting("work_mem", "16MB")
///     .extension("pg_trgm")
///     .open()?;
/// # Ok::<(), pglite_oxide::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Builder {
    place: Place,
    options: Options,
    durability: Option<Durability>,
    archive: Option<PathBuf>,
    /// A payload in place of the embedded one.
    payload: Option<&'static Payload>,
}

#[derive(Debug, Clone, Default)]
enum Place {
    #[default]
    Memory,
    TemporaryDirectory,
    Directory(PathBuf),
    App {
        qualifier: String,
        organization: String,
        application: String,
    },
}

/// What an open database keeps. The root is the first field, so its lock is released before its
/// directory is removed.
#[derive(Debug)]
struct Held {
    _root: Root,
    _directory: Option<tempfile::TempDir>,
}

impl Builder {
    /// A database in this directory, which is created if it does not exist. An existing empty
    /// directory is accepted; one with other contents is rejected. A new database is created beside
    /// its place and renamed, so the parent directory must be writable and the place cannot be a
    /// mount point.
    #[must_use]
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::Directory(path.into());
        self
    }

    /// A database in the system's directory for local application data of the user, for example
    /// `~/.local/share/shop/pglite-oxide` for `app("org", "Example", "shop")` on Linux. The first
    /// name is a reversed domain, the second an organization; both may be empty.
    #[must_use]
    pub fn app(
        mut self,
        qualifier: impl Into<String>,
        organization: impl Into<String>,
        application: impl Into<String>,
    ) -> Self {
        let (qualifier, organization) = (qualifier.into(), organization.into());
        self.place = Place::App { qualifier, organization, application: application.into() };
        self
    }

    /// A new database in memory, discarded when it is closed. The default.
    #[must_use]
    pub fn temporary(mut self) -> Self {
        self.place = Place::Memory;
        self
    }

    /// A new database in a new directory below the system's directory for temporary files, removed
    /// when it is closed. For more data than fits into memory.
    #[must_use]
    pub fn temporary_on_disk(mut self) -> Self {
        self.place = Place::TemporaryDirectory;
        self
    }

    /// The database to connect to. Default: `postgres`.
    #[must_use]
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.options.database = name.into();
        self
    }

    /// The role to connect as. Default: `postgres`, the superuser of every new database.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.options.user = name.into();
        self
    }

    /// A server setting for this session, such as `work_mem`. Of two settings with the same name
    /// the later one counts. Units and defaults are PostgreSQL's (PostgreSQL documentation, chapter
    /// "Server Configuration").
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.settings.push((name.into(), value.into()));
        self
    }

    /// An extension to create if the database does not have it.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>) -> Self {
        self.options.extensions.push(name.into());
        self
    }

    /// When commits are durable. Default: [`Durability::Full`] for a database with a path,
    /// [`Durability::None`] for a temporary one.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Fills the new database from an archive made by [`Pglite::dump_data_dir`]. The path must not
    /// contain a database.
    #[must_use]
    pub fn load(mut self, archive: impl Into<PathBuf>) -> Self {
        self.archive = Some(archive.into());
        self
    }

    /// Maximum memory of PostgreSQL, in bytes. A statement that needs more fails with SQLSTATE
    /// 53200. Default: 4 GiB, its whole address space.
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.options.memory_limit = Some(bytes);
        self
    }

    /// Starts without the settings that the database stores: those of ALTER SYSTEM, ALTER ROLE …
    /// SET and ALTER DATABASE … SET, and what was changed in `postgresql.conf`. This is the way
    /// back into a database that does not open with them any more; `ALTER SYSTEM RESET name` then
    /// removes the one that is the reason. The stored settings stay as they are and count again at
    /// the next open.
    #[must_use]
    pub fn ignore_stored_settings(mut self) -> Self {
        self.options.ignore_stored_settings = true;
        self
    }

    /// Opens the database.
    ///
    /// # Errors
    /// - [`ErrorKind::Config`] if an option is invalid; nothing has been created then.
    /// - [`ErrorKind::InUse`] if the database is already open, in this process or another one.
    /// - [`ErrorKind::Incompatible`] if the directory or archive is not a database, or one of
    ///   another version.
    /// - [`ErrorKind::Payload`] if this build contains no PostgreSQL for this machine.
    /// - [`ErrorKind::Io`] if an operation of the system fails.
    /// - [`ErrorKind::Closed`] or [`ErrorKind::Crashed`] if PostgreSQL does not start, with the
    ///   reason: a setting, or a database or user that does not exist.
    pub fn open(&self) -> Result<Pglite> {
        Pglite::start(self.cluster()?)
    }

    /// Opens a new database with the contents of an archive made by [`Pglite::dump_data_dir`].
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn load_data_dir(&self, mut archive: impl Read) -> Result<Pglite> {
        Pglite::start(self.cluster_from(Some(&mut archive))?)
    }

    pub(crate) fn with_payload(mut self, payload: &'static Payload) -> Self {
        self.payload = Some(payload);
        self
    }

    /// The cluster, open, with nothing started on it yet.
    pub(crate) fn cluster(&self) -> Result<Cluster> {
        match &self.archive {
            Some(path) => {
                let failed =
                    |cause| Error::new(ErrorKind::Io, format!("cannot open {}", path.display())).with_cause(cause);
                self.cluster_from(Some(&mut std::fs::File::open(path).map_err(failed)?))
            }
            None => self.cluster_from(None),
        }
    }

    fn cluster_from(&self, mut archive: Option<&mut dyn Read>) -> Result<Cluster> {
        self.options.check()?;
        let payload = self.payload.map_or_else(bundle::embedded, Ok)?;
        let template = ImageFs::new(payload.template()?);
        let layout = Layout::of(&template)?;
        let temporary = matches!(self.place, Place::Memory | Place::TemporaryDirectory);
        let default = if temporary { Durability::None } else { Durability::Full };
        let options = Options { durability: self.durability.unwrap_or(default), ..self.options.clone() };
        let durable = options.durability != Durability::None;

        let is_archive = archive.is_some();
        let mut fill = |data: &HostFs| match &mut archive {
            Some(archive) => archive::load(&mut **archive, data, &layout),
            None => {
                copy(&template, data)?;
                control_file::set_identifier(data, control_file::new_identifier()?)
            }
        };
        let mut at = |path: &Path, directory| {
            let root = if is_archive {
                Root::create_new(path, &layout, durable, &mut fill)?
            } else {
                Root::open(path, &layout, durable, &mut fill)?
            };
            let data = Data::Other(Arc::new(root.data()?));
            Ok((data, Some(Held { _root: root, _directory: directory })))
        };
        let (data, held) = match &self.place {
            Place::Directory(path) => at(path, None)?,
            Place::App { qualifier, organization, application } => {
                at(&app_directory(qualifier, organization, application)?, None)?
            }
            Place::TemporaryDirectory => {
                let directory = tempfile::Builder::new().prefix("pglite-oxide-").tempdir().map_err(|cause| {
                    Error::new(ErrorKind::Io, "cannot make a temporary directory").with_cause(cause)
                })?;
                let path = directory.path().to_path_buf();
                at(&path, Some(directory))?
            }
            Place::Memory => {
                let data = match archive {
                    Some(archive) => {
                        let data = empty();
                        archive::load(archive, &data, &layout)?;
                        data
                    }
                    None => {
                        control_file::set_identifier(&template, control_file::new_identifier()?)?;
                        template
                    }
                };
                (Data::Image(data), None)
            }
        };
        Ok(Cluster::new(
            payload,
            data,
            options,
            held.map(|held| Arc::new(held) as Arc<dyn std::fmt::Debug + Send + Sync>),
        ))
    }
}

fn app_directory(qualifier: &str, organization: &str, application: &str) -> Result<PathBuf> {
    let directories = directories::ProjectDirs::from(qualifier, organization, application);
    let directories = directories.filter(|_| !application.is_empty());
    let directories = directories.ok_or_else(|| {
        Error::new(
            ErrorKind::Config,
            "this user has no directory for applications' data, or the application no name; use `path`",
        )
    })?;
    Ok(directories.data_local_dir().join("pglite-oxide"))
}
