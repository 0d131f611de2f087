//! A database cluster that is open: a data directory, and all it takes to start sessions on it, one after the other. It owns what a session starts with;
//! how the directory came to be is `builder`'s.

use std::sync::Arc;

use crate::database::{PGDATA, Pglite};
use crate::error::Result;
use crate::fs::{FileSystem, ImageFs};
use crate::instance::Launch;
use crate::options::Options;
use crate::payload::{self, Payload};
use crate::session::Session;
use crate::world::World;

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
            env: payload::environment(),
            stdin: bytes::Bytes::new(),
            world: World::default(),
            memory_limit: self.options.memory_limit,
            held: self.held.clone(),
        })
    }

    /// Opens a session as the user and in the database of the options, and creates the extensions.
    pub(crate) fn open(self) -> Result<Pglite> {
        let session = Session::open(self.launch()?, &self.options.user, &self.options.database)?;
        // What is held goes with the session, however that ends.
        let mut db = Pglite::new(session, self.data, self.options);
        for extension in db.options().extensions.clone() {
            db.batch_execute(&format!("CREATE EXTENSION IF NOT EXISTS \"{}\"", extension.replace('"', "\"\"")))?;
        }
        Ok(db)
    }
}
