//! An open database cluster: a data directory and what is needed to start sessions on it, one after
//! another. It owns the options of a session; `builder` creates the directory.

pub(crate) mod archive;
pub(crate) mod control_file;
mod data_lock;
mod lock;
pub(crate) mod native;
pub(crate) mod options;
pub(crate) mod root;
mod stored_settings;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::backend::Launch;
use crate::bundle::{self, PGDATA, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileSystem, Image, ImageFs, OpenOptions};
use crate::wasm::clock::ClockSource;
use crate::wasm::rng::RngSource;
use options::{ABOVE_SEGMENT, Options, SEGMENT_START};

/// An open cluster.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    payload: &'static Payload,
    data: Data,
    options: Options,
    /// Whether the database has the extensions of the options already.
    has_extensions: bool,
    /// Resources that must outlive the last session, such as the lock of the directory.
    held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
}

/// The place of a cluster's files.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Image(ImageFs),
    Other(Arc<dyn FileSystem>),
}

impl Data {
    pub(crate) fn fs(&self) -> &dyn FileSystem {
        match self {
            Self::Image(fs) => fs,
            Self::Other(fs) => &**fs,
        }
    }
}

impl Cluster {
    pub(crate) fn new(
        payload: &'static Payload,
        data: Data,
        options: Options,
        held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
    ) -> Self {
        Self { payload, data, options, has_extensions: false, held }
    }

    /// The same, whose files have the extensions of the options.
    pub(crate) fn with_extensions(self) -> Self {
        Self { has_extensions: true, ..self }
    }

    /// The extensions to create in it.
    pub(crate) fn missing_extensions(&self) -> Vec<String> {
        let created = self.options.extensions.iter().filter(|name| self.payload.is_created(name));
        if self.has_extensions { Vec::new() } else { created.cloned().collect() }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// The options of the next session. Only one may run at a time.
    pub(crate) fn launch(&self) -> Result<Launch> {
        let fs: Arc<dyn FileSystem> = match &self.data {
            Data::Image(fs) => Arc::new(fs.clone()),
            Data::Other(fs) => fs.clone(),
        };
        let mut env = bundle::environment();
        let slots = fs.open("pg_replslot", OpenOptions::default(), 0).and_then(|slots| slots.list());
        env.push(Options::defaults(slots.is_ok_and(|slots| !slots.is_empty())));
        let starting = Arc::new(AtomicBool::new(true));
        let fs = if self.options.ignore_stored_settings {
            env.push((stored_settings::IGNORE_VARIABLE.to_string(), "1".to_string()));
            stored_settings::hide(fs, Arc::new(ImageFs::new(self.payload.template()?)), starting.clone())
        } else {
            fs
        };
        Ok(Launch {
            modules: self.payload.modules()?,
            volume: Arc::new(self.payload.volume(fs)?),
            args: self.options.args(PGDATA, &self.payload.preload(&self.options.extensions)),
            env,
            starting,
            stdin: bytes::Bytes::new(),
            clock: ClockSource::System,
            rng: RngSource::Os,
            memory_limit: self.options.memory_limit,
            held: self.held.clone(),
        })
    }

    /// Adds to the error of a session that did not start what its user can do about it.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let limit = self.options.memory_limit;
        if let Some(limit) = limit
            && let Some(least) = least_memory(&error)
            && limit < least
        {
            let (limit, least) = (limit >> 20, least >> 20);
            let message = format!(
                "memory_limit of {limit} MiB is too small: with these settings PostgreSQL needs at least {least} MiB"
            );
            return Error::new(ErrorKind::Config, message).with_cause(error);
        }
        if let Some(db_error) = error.as_db_error()
            && db_error.message() == "database locale is incompatible with operating system"
        {
            return error.with_advice(
                "an embedded database knows the locales C, POSIX and C.UTF-8 of the C library, and PostgreSQL's builtin \
                 ones; dump this one with a server that knows its locale (pg_dump), and load the dump into a new database",
            );
        }
        // config_file_error: the files name a setting, or a value, that this PostgreSQL does not
        // have.
        let unreadable = error.code().is_some_and(|code| code.code() == "F0000");
        let started = !unreadable && !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Crashed);
        // Settings do not decide who the client is and which database it asks for.
        let refused = error.code().is_some_and(|code| ["28", "3D", "53300"].iter().any(|c| code.code().starts_with(c)));
        if started || refused || self.options.ignore_stored_settings {
            return error;
        }
        let Ok(template) = self.payload.template() else { return error };
        let stored = stored_settings::names(self.data.fs(), &ImageFs::new(template));
        if stored.is_empty() {
            return error;
        }
        error.with_advice(&format!(
            "the database stores settings ({}); if one of them is the reason, open it with \
             `Builder::ignore_stored_settings` (`--ignore-stored-settings`) and remove it with ALTER SYSTEM RESET",
            stored.join(", ")
        ))
    }

    /// What its sessions run.
    pub(crate) fn payload(&self) -> &'static Payload {
        self.payload
    }

    /// Where its files are.
    pub(crate) fn data(&self) -> &Data {
        &self.data
    }
}

/// An empty file system in memory.
pub(crate) fn empty() -> ImageFs {
    ImageFs::new(Arc::new(Image::empty()))
}

/// Copies a data directory.
pub(crate) fn copy(from: &dyn FileSystem, to: &dyn FileSystem) -> Result<()> {
    let mut buf = vec![0; 1 << 20];
    crate::fs::walk(from, "", &mut |path, handle| match handle {
        None => to.create_directory(path, 0),
        Some(_) if path == data_lock::POSTMASTER_PID => Ok(()),
        Some(handle) => crate::fs::copy(handle, &*to.open(path, crate::fs::CREATE_NEW, 0)?, &mut buf),
    })
    .map_err(|(path, errno)| Error::new(ErrorKind::Io, format!("cannot copy {path}: {errno}")))
}

/// The memory that PostgreSQL needs, in bytes, if it said that its shared memory segment does not
/// fit.
fn least_memory(error: &Error) -> Option<u64> {
    let message = error.as_db_error()?.message();
    let size = message.strip_prefix("could not make a shared memory segment of ")?.strip_suffix(" bytes")?;
    let least = SEGMENT_START + size.parse::<u64>().ok()? + ABOVE_SEGMENT;
    Some(least.next_multiple_of(1 << 20))
}
