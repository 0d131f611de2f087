//! PostgreSQL's own client programs, `pg_dump` and `psql`, run inside this process: each an
//! instance of a module of its own, connected to a server through a network that is made of the
//! host's channels, without a socket of the system. It owns how a program runs, is interrupted and
//! ends. What it is told is `dump`'s and `psql`'s business; what it connects to, its dialer's.

mod arguments;
mod dump;
mod machine;
mod pipe_channel;
pub(crate) mod psql;
mod server_dump;
mod session;
pub(crate) mod socket;
mod stdio;

use std::sync::Arc;
use std::thread::JoinHandle;

use crate::bundle;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::{Image, ImageFs, Item, Volume};
use crate::wasm::abi::export;
use crate::wasm::clock::ClockSource;
use crate::wasm::fd_table::Files;
use crate::wasm::instance::{Instance, Return, Start};
use crate::wasm::interrupts::{Flag, Interrupts};
use crate::wasm::rng::RngSource;

use crate::wasm::channel::{self, Channels, Dialer};
use crate::wasm::channel_abi;
pub(crate) use dump::{Dump, plain, text};
pub use dump::{DumpFormat, PgDumpOptions};
pub(crate) use stdio::{Input, Kept, Output};

/// What a program starts with.
#[derive(Debug)]
struct Command {
    /// `pg_dump` or `psql`.
    program: &'static str,
    /// Arguments, the program's name first.
    args: Vec<String>,
    /// Added to what leads to the server.
    env: Vec<(String, String)>,
    volume: Volume,
    /// An absolute path in the volume; `None`: a directory that is no more.
    working_directory: Option<String>,
    stdin: Input,
    stdout: Output,
    stderr: Output,
    dialer: Box<dyn Dialer>,
}

/// As whom a program connects to what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) database: &'a str,
    pub(crate) password: Option<&'a str>,
}

impl Login<'_> {
    /// The variables by which libpq knows it.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let known = [("PGUSER", Some(self.user)), ("PGDATABASE", Some(self.database)), ("PGPASSWORD", self.password)];
        known.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?.to_string()))).collect()
    }
}

/// A program that runs. Dropped, it is told to end, and is waited for.
#[derive(Debug)]
pub(crate) struct Running {
    program: &'static str,
    thread: Option<JoinHandle<Result<i32>>>,
    interrupts: Arc<Interrupts>,
}

#[cfg_attr(not(any(test, feature = "cli")), allow(dead_code, reason = "for the command line's psql"))]
/// Interrupts a program.
#[derive(Debug, Clone)]
pub(crate) struct Interrupter(Arc<Interrupts>);

#[cfg_attr(not(any(test, feature = "cli")), allow(dead_code, reason = "for the command line's psql"))]
impl Interrupter {
    /// Does what Ctrl-C does in a terminal.
    pub(crate) fn interrupt(&self) {
        self.0.flag(Flag::Cancel);
    }
}

impl Running {
    #[cfg_attr(not(any(test, feature = "cli")), allow(dead_code, reason = "for the command line's psql"))]
    /// A way to interrupt the program from any thread, as long as it runs.
    pub(crate) fn interrupter(&self) -> Interrupter {
        Interrupter(self.interrupts.clone())
    }

    /// Waits for the program's end and returns its exit code.
    ///
    /// # Errors
    /// [`ErrorKind::Crashed`] if it trapped.
    pub(crate) fn wait(mut self) -> Result<i32> {
        self.join()
    }

    fn join(&mut self) -> Result<i32> {
        let Some(thread) = self.thread.take() else { return Ok(0) };
        let program = self.program;
        thread
            .join()
            .unwrap_or_else(|_| Err(Error::new(ErrorKind::Crashed, format!("the thread that ran {program} panicked"))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.interrupts.flag(Flag::Die);
        // `wait` returns how it ended.
        let _ = self.join();
    }
}

impl Command {
    /// Starts the program on a thread of its own.
    ///
    /// # Errors
    /// [`ErrorKind::Payload`] if this build does not carry it; [`ErrorKind::Io`] if the system
    /// refuses a thread.
    fn start(self) -> Result<Running> {
        let program = self.program;
        let io = |cause| Error::new(ErrorKind::Io, format!("cannot start {program}")).with_cause(cause);
        if self.args.iter().any(|argument| argument.contains('\0')) {
            return Err(Error::new(ErrorKind::Config, format!("an argument of {program} has a zero byte")));
        }
        let interrupts = Arc::<Interrupts>::default();
        let volume = Arc::new(self.volume);
        let unusable = |errno| Error::new(ErrorKind::Io, format!("{program} cannot use its files: {errno}"));
        let mut files = Files::new(volume.clone(), bytes::Bytes::new()).map_err(unusable)?;
        match &self.working_directory {
            Some(directory) => files.change_directory(directory).map_err(unusable)?,
            None => files.lose_directory(),
        }
        files.set_streams([self.stdin.stream(&interrupts).map_err(io)?, self.stdout.stream(), self.stderr.stream()]);
        let mut env: Vec<(String, String)> =
            [("PGHOST", channel::HOST), ("PGPORT", channel::PORT), ("TZ", "UTC"), ("PGCLIENTENCODING", "UTF8")]
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .into();
        env.extend(self.env);
        let mut process = Instance::new(Start {
            name: program,
            module: bundle::embedded()?.program(program)?,
            sides: None,
            version: (channel_abi::VERSION_EXPORT, channel_abi::VERSION),
            volume,
            files,
            args: self.args,
            env,
            clock: ClockSource::System,
            rng: RngSource::Os,
            memory_limit: None,
            interrupts: interrupts.clone(),
            channels: Some(Channels::new(self.dialer, &interrupts)),
            held: None,
        })?;
        let thread = std::thread::Builder::new().name(format!("pglite-oxide-{program}"));
        let run = move || match process.call_export(export::MAIN)? {
            Return::Value(code) | Return::Exit(code) => Ok(code),
        };
        Ok(Running { program, thread: Some(thread.spawn(run).map_err(io)?), interrupts })
    }
}

/// Files with nothing but what the program takes for itself, since it looks for its like beside it,
/// and a place for temporary ones, in memory.
fn installation(path: &str) -> Result<ImageFs> {
    let items = [(path.to_string(), Item::File(bytes::Bytes::new())), ("tmp".to_string(), Item::Directory)];
    let image = Image::new(items, 0);
    let image = image.map_err(|(path, errno)| Error::new(ErrorKind::Io, format!("cannot write {path}: {errno}")))?;
    Ok(ImageFs::new(Arc::new(image)))
}
