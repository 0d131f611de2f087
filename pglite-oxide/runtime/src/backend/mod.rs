//! One running PostgreSQL backend. It owns the calls of the server's exports and the meaning of
//! their results; `wasm` owns the instance, and `protocol` interprets the streams.

pub mod copy_thread;
pub mod slot;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use wasmer::TypedFunction;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::Volume;
use crate::wasm::abi::{self, due, export};
use crate::wasm::clock::ClockSource;
use crate::wasm::engine::Modules;
use crate::wasm::fd_table::Files;
use crate::wasm::instance::{Instance, Return, Start};
use crate::wasm::interrupts::Interrupts;
use crate::wasm::rng::RngSource;
use crate::wasm::streams::Streams;

/// What a guest starts with.
#[derive(Debug)]
pub struct Launch {
    pub modules: Arc<Modules>,
    pub volume: Arc<Volume>,
    /// Arguments of PostgreSQL, the program's name first.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub stdin: Bytes,
    pub clock: ClockSource,
    pub rng: RngSource,
    /// Largest size of the guest's memory, in bytes. Without one it ends at WebAssembly's 4 GiB.
    pub memory_limit: Option<u64>,
    /// Made false when PostgreSQL has started: for what its files show only then.
    pub starting: Arc<AtomicBool>,
    /// What the guest's files need while it lives, like the lock of their directory. Let go when
    /// the guest ends, however it does.
    pub held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
}

/// How the guest's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All input is processed; the guest waits for more.
    Drained,
    /// The session has ended, and the guest with it. What it had to say about that is in the
    /// output. With the exit code.
    Ended(i32),
}

/// One running guest.
#[derive(Debug)]
pub struct Backend {
    process: Instance,
    pump: TypedFunction<(), i32>,
    /// Flags of `abi::due`.
    due: i32,
    starting: Arc<AtomicBool>,
}

impl Backend {
    /// Makes a guest. None of its code but constructors has run when this returns.
    pub fn new(launch: Launch) -> Result<Self> {
        let files = Files::new(launch.volume.clone(), launch.stdin);
        let files =
            files.map_err(|errno| Error::new(ErrorKind::Io, format!("cannot open the guest's files: {errno}")))?;
        let process = Instance::new(Start {
            name: "PostgreSQL",
            module: launch.modules.main().clone(),
            sides: Some(launch.modules),
            version: (export::ABI_VERSION, abi::VERSION),
            volume: launch.volume,
            files,
            args: launch.args,
            env: launch.env,
            clock: launch.clock,
            rng: launch.rng,
            memory_limit: launch.memory_limit,
            interrupts: Arc::default(),
            channels: None,
            held: launch.held,
        })?;
        let pump = process.function(export::PUMP)?;
        Ok(Self { process, pump, due: 0, starting: launch.starting })
    }

    /// Runs PostgreSQL's start-up to the point where it would read its first message.
    pub fn boot(&mut self) -> Result<Outcome> {
        match self.process.call_export(export::BOOT)? {
            Return::Value(0) => {
                self.starting.store(false, Ordering::SeqCst);
                Ok(Outcome::Drained)
            }
            Return::Value(code) => Err(self.process.crashed(format!("start-up ended with {code}"))),
            Return::Exit(code) => Ok(Outcome::Ended(code)),
        }
    }

    /// Processes every complete message in the input.
    pub fn pump(&mut self) -> Result<Outcome> {
        let pump = self.pump.clone();
        match self.process.call(&pump)? {
            Return::Value(flags) => {
                self.due = flags;
                Ok(Outcome::Drained)
            }
            Return::Exit(code) => Ok(Outcome::Ended(code)),
        }
    }

    /// Whether work beside the messages is due: checkpoints, vacuum, commits to be made durable.
    pub fn maintenance_due(&self) -> bool {
        self.due & due::NOW != 0
    }

    /// Whether commits wait to be made durable.
    pub fn flush_due(&self) -> bool {
        self.due & due::FLUSH != 0
    }

    /// Does the work that is due beside the messages.
    pub fn maintain(&mut self) -> Result<Outcome> {
        match self.process.call_export(export::MAINTAIN)? {
            Return::Value(flags) => {
                self.due = flags & !due::NOW;
                Ok(Outcome::Drained)
            }
            Return::Exit(code) => Ok(Outcome::Ended(code)),
        }
    }

    /// Writes everything that was committed to its place in the files. False: PostgreSQL could not,
    /// and its log says why.
    pub fn checkpoint(&mut self) -> Result<bool> {
        Ok(self.process.call_query(export::CHECKPOINT)? == 0)
    }

    /// Runs PostgreSQL's `main` to its end and returns its exit code. The guest is of no more use
    /// then.
    pub fn main(&mut self) -> Result<i32> {
        match self.process.call_export(export::MAIN)? {
            Return::Value(code) | Return::Exit(code) => Ok(code),
        }
    }

    /// Protocol bytes in and out.
    pub fn streams(&mut self) -> &mut Streams {
        self.process.streams()
    }

    /// Takes what the guest wrote to standard output and error so far.
    pub fn take_log(&mut self) -> String {
        self.process.take_log()
    }

    /// The way to interrupt this guest from another thread.
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        self.process.interrupts()
    }

    /// Whether the guest can still be called.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive()
    }

    /// Whether the guest left as a process does, which is not a crash, whatever its exit code.
    pub fn has_exited(&self) -> bool {
        self.process.has_exited()
    }
}
