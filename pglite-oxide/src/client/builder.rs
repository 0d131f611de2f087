//! Opening a database: its place and the options of its sessions. It owns the order of the steps,
//! from the check of the options to a ready session.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::pglite::Pglite;
use super::prepared;
use crate::bundle::{self, Payload};
use crate::cluster::archive;
use crate::cluster::control_file::{self, Identity, Layout};
use crate::cluster::native::NativeDirectory;
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
///     .extension("pg_trgm") // with the feature `extensions-contrib`
///     .open()?;
/// # Ok::<(), pglite_oxide::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Builder {
    place: Place,
    options: Options,
    durability: Option<Durability>,
    archive: Option<PathBuf>,
    /// A data directory to copy.
    original: Option<PathBuf>,
    bundles: Vec<PathBuf>,
    /// A payload in place of the embedded one.
    payload: Option<&'static Payload>,
}

#[derive(Debug, Clone, Default)]
enum Place {
    #[default]
    Memory,
    TemporaryDirectory,
    Directory(PathBuf),
    DataDirectory(PathBuf),
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

/// What a new database is filled from.
enum Source<'a> {
    Template,
    Archive(&'a mut dyn Read),
    Copy(NativeDirectory),
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

    /// The data directory of a PostgreSQL 17 server, in place: one that `initdb` or `pg_basebackup`
    /// made, or that a server has used, whether it was stopped or killed. The server must not run;
    /// while the database is open, none starts on the directory. Configuration files that the
    /// directory lacks are added to it.
    ///
    /// The directory must be one of a 64-bit little-endian server with blocks of the usual size, no
    /// standby and without tablespaces, and belong to the user of this process. Databases must be
    /// made with the `builtin` or `C` locale; extensions work if this build contains them.
    #[must_use]
    pub fn data_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Place::DataDirectory(path.into());
        self
    }

    /// Fills the new database with a copy of a data directory of a PostgreSQL 17 server, of which
    /// the same is required as for [`Self::data_directory`], or of the directory of another
    /// database of this crate. Neither may be open. The original does not change. The path must not
    /// contain a database.
    #[must_use]
    pub fn copy_of(mut self, path: impl Into<PathBuf>) -> Self {
        self.original = Some(path.into());
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

    /// An extension to create if the database does not have it, with those that it requires: a
    /// constant of [`extensions`](crate::extensions), or a name. Its modules are loaded before
    /// PostgreSQL starts if they have to be, as for
    /// [`PG_STAT_STATEMENTS`](crate::extensions::PG_STAT_STATEMENTS); name such an extension at every
    /// open.
    ///
    /// In a temporary database they are created at the first open in a process. At the second one,
    /// with the same extensions and settings, a data directory with them is made, of which that
    /// database and later ones are copies; the last 16 such directories stay in memory.
    ///
    /// The program contains the extensions of the features of this crate that it requests, such as
    /// `extensions` or `extensions-contrib`
    /// ([`Extension::feature`](crate::extensions::Extension::feature)). Opening the database fails
    /// with [`ErrorKind::Config`] if it does not contain the extension.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>) -> Self {
        self.options.extensions.push(name.into());
        self
    }

    /// A file with extensions that are not part of this crate, which `cargo xtask extension build`
    /// in a checkout of it has made. They are available as if this crate contained them: to
    /// [`Self::extension`] by their names, and to CREATE EXTENSION. Without the bundle, a database
    /// that uses them opens too, and the statements that need their code fail. May be called
    /// several times.
    ///
    /// The bundle contains native code, which runs in this process: use only bundles from a source
    /// that you trust. It must be made with the version of this crate that the program has, and
    /// have at most 1 GiB. It is read at each open, and its contents stay in memory, once, until
    /// the process ends.
    ///
    /// Opening the database fails with [`ErrorKind::Io`] if the file cannot be read, and with
    /// [`ErrorKind::Payload`] if it is no bundle, was made for another build or machine, or
    /// contains an extension or module that is there already.
    #[must_use]
    pub fn extension_bundle(mut self, path: impl Into<PathBuf>) -> Self {
        self.bundles.push(path.into());
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

    /// Copies the data directory of the database to a new directory, for a PostgreSQL 17 server: it
    /// starts there as on a directory that `initdb` made. The database must not be open, is opened
    /// and closed for this, and does not change.
    ///
    /// # Errors
    /// As [`Self::open`]; [`ErrorKind::Config`] if the database has no directory, or if there is
    /// something at the new place.
    pub fn export(&self, directory: impl AsRef<Path>) -> Result<()> {
        let place = match &self.place {
            Place::Directory(path) | Place::DataDirectory(path) => path.clone(),
            Place::App { qualifier, organization, application } => app_directory(qualifier, organization, application)?,
            Place::Memory | Place::TemporaryDirectory => {
                return Err(config("a temporary database has no directory to export; use `path`"));
            }
        };
        // A clean end: what the copy has is complete without recovery.
        self.open()?.close()?;
        let payload = self.payload()?;
        let template = ImageFs::new(payload.template()?);
        NativeDirectory::lock(&place, &Layout::of(&template)?)?.export(directory.as_ref(), &template)
    }

    pub(crate) fn with_payload(mut self, payload: &'static Payload) -> Self {
        self.payload = Some(payload);
        self
    }

    fn payload(&self) -> Result<&'static Payload> {
        self.payload.map_or_else(|| bundle::with_bundles(&self.bundles), Ok)
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

    fn cluster_from(&self, archive: Option<&mut dyn Read>) -> Result<Cluster> {
        self.options.check()?;
        let payload = self.payload()?;
        for name in &self.options.extensions {
            payload.require_extension(name)?;
        }
        let template = ImageFs::new(payload.template()?);
        let layout = Layout::of(&template)?;
        let temporary = matches!(self.place, Place::Memory | Place::TemporaryDirectory);
        let default = if temporary { Durability::None } else { Durability::Full };
        let options = Options { durability: self.durability.unwrap_or(default), ..self.options.clone() };
        let durable = options.durability != Durability::None;

        let mut source = match (archive, &self.original) {
            (Some(_), Some(_)) => return Err(config("`copy_of` and `load` both fill the database; use one of them")),
            (Some(archive), None) => Source::Archive(archive),
            (None, Some(original)) => Source::Copy(NativeDirectory::lock(original, &layout)?),
            (None, None) => Source::Template,
        };
        if let Place::DataDirectory(path) = &self.place {
            if !matches!(source, Source::Template) {
                return Err(config("`data_directory` opens what is there; `copy_of` and `load` make a new database"));
            }
            let directory = NativeDirectory::open(path, &layout, &template, durable)?;
            let data = Data::Other(Arc::new(directory.data()?));
            return Ok(Cluster::new(payload, data, options, Some(Arc::new(directory))));
        }

        // Only temporary databases: of those with a path, a process makes one.
        let prepared = match source {
            Source::Template if temporary => prepared::directory(payload, &options)?,
            _ => None,
        };
        let has_extensions = prepared.is_some();
        let template = prepared.unwrap_or(template);
        let is_new = !matches!(source, Source::Template);
        let mut fill = |path: &Path, data: &HostFs| match &mut source {
            Source::Archive(archive) => archive::load(&mut **archive, data, &layout),
            Source::Copy(original) => original.copy_to_host(path, &template),
            Source::Template => {
                copy(&template, data)?;
                control_file::set_identity(data, &Identity::new()?)
            }
        };
        let mut at = |path: &Path, directory| -> Result<_> {
            let root = if is_new {
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
            Place::Memory | Place::DataDirectory(_) => {
                let data = match source {
                    Source::Archive(archive) => {
                        let data = empty();
                        archive::load(archive, &data, &layout)?;
                        data
                    }
                    Source::Copy(original) => {
                        let data = empty();
                        original.copy_to(&data, &template)?;
                        data
                    }
                    Source::Template => {
                        control_file::set_identity(&template, &Identity::new()?)?;
                        template
                    }
                };
                (Data::Image(data), None)
            }
        };
        let held = held.map(|held| Arc::new(held) as Arc<dyn std::fmt::Debug + Send + Sync>);
        let cluster = Cluster::new(payload, data, options, held);
        Ok(if has_extensions { cluster.with_extensions() } else { cluster })
    }
}

fn config(message: &str) -> Error {
    Error::new(ErrorKind::Config, message)
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
