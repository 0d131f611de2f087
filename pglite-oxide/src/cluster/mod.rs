//! A database cluster that is open: a data directory, and all it takes to start sessions on it, one after the other. It owns what a session starts with;
//! how the directory came to be is `builder`'s.

pub(crate) mod archive;
pub(crate) mod control_file;
mod lock;
pub(crate) mod options;
pub(crate) mod root;

use std::sync::Arc;

use crate::backend::Launch;
use crate::bundle::{self, PGDATA, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{FileSystem, Image, ImageFs};
use crate::wasm::clock::World;
use options::Options;

/// An open cluster.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    payload: &'static Payload,
    data: Data,
    options: Options,
    /// Whatever must not go before the last session, like the lock of the directory.
    held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
}

/// Where the files of a cluster are.
#[derive(Debug, Clone)]
pub(crate) enum Data {
    Image(ImageFs),
    Other(Arc<dyn FileSystem>),
}

impl Cluster {
    pub(crate) fn new(
        payload: &'static Payload,
        data: Data,
        options: Options,
        held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
    ) -> Self {
        Self { payload, data, options, held }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// What a session starts with. Only one may run at a time.
    pub(crate) fn launch(&self) -> Result<Launch> {
        let fs: Arc<dyn FileSystem> = match &self.data {
            Data::Image(fs) => Arc::new(fs.clone()),
            Data::Other(fs) => fs.clone(),
        };
        Ok(Launch {
            modules: self.payload.modules()?,
            volume: Arc::new(self.payload.volume(fs)?),
            args: self.options.args(PGDATA),
            env: bundle::environment(),
            stdin: bytes::Bytes::new(),
            world: World::default(),
            memory_limit: self.options.memory_limit,
            held: self.held.clone(),
        })
    }

    /// Where its files are.
    pub(crate) fn data(&self) -> &Data {
        &self.data
    }
}

/// A file system in memory with nothing in it.
pub(crate) fn empty() -> ImageFs {
    ImageFs::new(Arc::new(Image::empty()))
}

/// Copies a data directory.
pub(crate) fn copy(from: &dyn FileSystem, to: &dyn FileSystem) -> Result<()> {
    let mut buf = vec![0; 1 << 20];
    crate::fs::walk(from, "", &mut |path, handle| match handle {
        None => to.create_directory(path, 0),
        Some(_) if path == root::POSTMASTER_PID => Ok(()),
        Some(handle) => crate::fs::copy(handle, &*to.open(path, crate::fs::CREATE_NEW, 0)?, &mut buf),
    })
    .map_err(|(path, errno)| Error::new(ErrorKind::Io, format!("cannot copy {path}: {errno}")))
}
