//! For the build pipeline and for tests of this crate, not for users: PostgreSQL from a directory
//! of artifacts, on given files. Not stable.

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use crate::backend::{Backend, Launch, Outcome};
use crate::error::{DbError, Error, ErrorKind, Result};
use crate::fs::errno::Errno;
use crate::fs::{self, Image, ImageFs, Volume};
use crate::protocol::Reader;
use crate::wasm::artifact;
use crate::wasm::engine;

pub use crate::wasm::clock::ClockSource;
pub use crate::wasm::rng::RngSource;

/// PostgreSQL's compiled modules.
#[derive(Debug, Clone)]
pub struct Modules {
    loaded: Arc<engine::Modules>,
    /// Name and placeholder of each side module.
    side: Vec<(String, Bytes)>,
}

/// A file or directory by its path from the root, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path from the root, like `pgdata/base/1/1259`.
    pub path: String,
    /// Contents; `None` for a directory.
    pub contents: Option<Bytes>,
}

/// A tree of files that guests work on, one after the other.
#[derive(Debug, Clone)]
pub struct Tree(ImageFs);

/// The result of a run of PostgreSQL's `main`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code of the process it would have been.
    pub code: i32,
    /// What it wrote to standard output and error.
    pub log: String,
}

/// Parameters for starting PostgreSQL.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Bytes,
    /// Its clock.
    pub clock: ClockSource,
    /// Its random numbers.
    pub rng: RngSource,
}

/// A session with PostgreSQL on a tree.
#[derive(Debug)]
pub struct Connection {
    backend: Backend,
    reader: Reader,
}

impl Modules {
    /// Loads every `<name>.aot` with its `<name>.json` in a directory; the one named `postgres` is
    /// PostgreSQL itself.
    pub fn load(directory: &Path) -> Result<Self> {
        let artifacts = artifact::from_directory(directory)?;
        let side = artifacts.iter().filter(|artifact| artifact.name != artifact::MAIN);
        let side = side.map(|side| (side.name.clone(), artifact::placeholder(&side.wasm_sha256).into())).collect();
        Ok(Self { side, loaded: Arc::new(engine::Modules::load(artifacts)?) })
    }

    /// Files that stand for the side modules: `<directory>/<name>.so`, with the contents by which
    /// they are found.
    pub fn placeholders(&self, directory: &str) -> Vec<File> {
        let file = |(name, contents): &(String, Bytes)| File {
            path: format!("{directory}/{name}.so"),
            contents: Some(contents.clone()),
        };
        self.side.iter().map(file).collect()
    }
}

/// Contents of the file that stands for the module with this SHA-256, in hexadecimal.
pub fn placeholder(wasm_sha256: &str) -> Vec<u8> {
    artifact::placeholder(wasm_sha256)
}

impl Tree {
    /// A tree of these files; parents come into being as needed. Every file has the same time, in
    /// microseconds since 1970.
    pub fn new(files: impl IntoIterator<Item = File>, unix_us: u64) -> Result<Self> {
        let items =
            files.into_iter().map(|file| (file.path, file.contents.map_or(fs::Item::Directory, fs::Item::File)));
        let image = Image::new(items, unix_us.saturating_mul(1000)).map_err(|(path, errno)| failed(&path, errno))?;
        Ok(Self(ImageFs::new(Arc::new(image))))
    }

    /// Everything below a directory, in the order of the names, parents first; paths begin at that
    /// directory.
    pub fn files(&self, directory: &str) -> Result<Vec<File>> {
        let mut files = Vec::new();
        fs::walk(&self.0, directory, &mut |path, handle| {
            let path = path.to_string();
            let contents = handle.map(|handle| fs::read(handle).map(Bytes::from)).transpose()?;
            files.push(File { path, contents });
            Ok(())
        })
        .map_err(|(path, errno)| failed(&path, errno))?;
        Ok(files)
    }

    /// Adds a file or directory where no other is.
    pub fn insert(&self, file: File) -> Result<()> {
        let item = file.contents.map_or(fs::Item::Directory, fs::Item::File);
        self.0.insert(&file.path, item, 0).map_err(|errno| failed(&file.path, errno))
    }
}

/// Runs PostgreSQL's `main` on a tree, to its end.
pub fn run_main(modules: &Modules, tree: &Tree, start: Start) -> Result<Exit> {
    let mut instance = Backend::new(launch(modules, tree, start))?;
    let code = instance.main()?;
    Ok(Exit { code, log: instance.take_log() })
}

impl Connection {
    /// Starts PostgreSQL on a tree and opens a session.
    pub fn open(modules: &Modules, tree: &Tree, start: Start, user: &str, database: &str) -> Result<Self> {
        let mut messages = BytesMut::new();
        frontend::startup_message([("user", user), ("database", database)], &mut messages).map_err(Error::protocol)?;
        let mut connection = Self { backend: Backend::new(launch(modules, tree, start))?, reader: Reader::default() };
        connection.backend.streams().send(&mut messages);
        let booted = connection.backend.boot()?;
        connection.receive(booted)?;
        connection.exchange(messages)?;
        Ok(connection)
    }

    /// Runs statements and drops what they return.
    pub fn batch_execute(&mut self, sql: &str) -> Result<()> {
        let mut messages = BytesMut::new();
        frontend::query(sql, &mut messages).map_err(Error::protocol)?;
        self.exchange(messages)
    }

    /// Closes the session and returns PostgreSQL's log.
    pub fn close(mut self) -> Result<String> {
        let mut messages = BytesMut::new();
        frontend::terminate(&mut messages);
        self.backend.streams().send(&mut messages);
        match self.backend.pump()? {
            Outcome::Ended(0) => Ok(self.backend.take_log()),
            _ => Err(self.ended()),
        }
    }

    /// Sends messages and reads the answer to its ReadyForQuery.
    fn exchange(&mut self, mut messages: BytesMut) -> Result<()> {
        self.backend.streams().send(&mut messages);
        let outcome = self.backend.pump()?;
        self.receive(outcome)
    }

    fn receive(&mut self, outcome: Outcome) -> Result<()> {
        self.backend.streams().receive(&mut self.reader.unread);
        let mut failed = None;
        while let Some(message) = self.reader.next_message().map_err(Error::protocol)? {
            if let Message::ErrorResponse(body) = message {
                let error = DbError::parse(body.fields()).map_err(Error::protocol)?;
                failed.get_or_insert(Error::database(ErrorKind::Database, error));
            }
        }
        match (failed, outcome) {
            (Some(error), _) => Err(error),
            (None, Outcome::Drained) => Ok(()),
            (None, Outcome::Ended(_)) => Err(self.ended()),
        }
    }

    fn ended(&mut self) -> Error {
        let log = self.backend.take_log();
        Error::new(ErrorKind::Closed, format!("PostgreSQL ended the session: {}", log.trim_end()))
    }
}

fn launch(modules: &Modules, tree: &Tree, start: Start) -> Launch {
    let Start { args, env, stdin, clock, rng } = start;
    let volume = Arc::new(Volume::new(Arc::new(tree.0.clone())));
    Launch {
        modules: modules.loaded.clone(),
        volume,
        args,
        env,
        stdin,
        clock,
        rng,
        memory_limit: None,
        starting: Arc::default(),
        held: None,
    }
}

fn failed(path: &str, errno: Errno) -> Error {
    Error::new(ErrorKind::Io, format!("{path}: {errno}"))
}
