//! One WebAssembly instance with its files, clock and imports, from instantiation to its exit or
//! trap. It owns instantiation, calls of exports, and the end. It does not know whether the module
//! is PostgreSQL or a client program.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use wasmer::{AsStoreMut, FunctionEnv, Imports, Memory, Module, Store, StoreMut, TypedFunction};
use wasmer_wasix::runtime::module_cache::HashedModuleData;
use wasmer_wasix::runtime::resolver::{MultiSource, Source};
use wasmer_wasix::runtime::task_manager::VirtualTaskManager;
use wasmer_wasix::runtime::task_manager::tokio::TokioTaskManager;
use wasmer_wasix::runtime::{InstantiationState, Runtime};
use wasmer_wasix::{SpawnError, WasiEnvBuilder, WasiError};

use crate::error::{Error, ErrorKind, Result};
use crate::fs::Volume;
use crate::wasm::abi::export;
use crate::wasm::channel::Channels;
use crate::wasm::clock::{Clock, ClockSource};
use crate::wasm::engine::{self, Modules};
use crate::wasm::fd_table::Files;
use crate::wasm::import_state::{ImportState, SharedExceptions};
use crate::wasm::interrupts::Interrupts;
use crate::wasm::loader::LoaderFs;
use crate::wasm::memory::GuestMemory;
use crate::wasm::rng::{Rng, RngSource};
use crate::wasm::streams::Streams;

/// What a process starts with.
#[derive(Debug)]
pub struct Start {
    /// What it is called in errors.
    pub name: &'static str,
    pub module: Module,
    /// Where the side modules that it may load are.
    pub sides: Option<Arc<Modules>>,
    /// The export that tells the version of the border it speaks, and the one expected.
    pub version: (&'static str, i32),
    pub volume: Arc<Volume>,
    pub files: Files,
    /// Arguments, the program's name first.
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub clock: ClockSource,
    pub rng: RngSource,
    /// Largest size of the memory, in bytes. Without one it ends at WebAssembly's 4 GiB.
    pub memory_limit: Option<u64>,
    pub interrupts: Arc<Interrupts>,
    /// The network, for a client program.
    pub channels: Option<Channels>,
    /// What the files need while the process lives, like the lock of their directory. Let go when
    /// it ends, however it does.
    pub held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
}

/// One process.
#[derive(Debug)]
pub struct Instance {
    name: &'static str,
    store: Store,
    host: FunctionEnv<ImportState>,
    instance: wasmer::Instance,
    interrupts: Arc<Interrupts>,
    held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
    /// Why no call is possible any more.
    dead: Option<Death>,
}

// SAFETY: what keeps `Store` from being `Send` are raw pointers into allocations that it owns
// itself (instances, memories, tables, functions). They move with it. Between calls nothing of a
// guest is bound to a thread: Wasmer's thread-local state names a store only while a call is in
// progress, native stacks are borrowed for one call, and everything given to the store
// (`ImportState`, wasmer-wasix's environment) is `Send` by the bounds of `FunctionEnv`. Calls need
// `&mut`, so no two threads are ever in one guest.
unsafe impl Send for Instance {}

/// How a call of an export ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Return {
    Value(i32),
    /// The process has left, with this code.
    Exit(i32),
}

/// How a process died.
#[derive(Debug, Clone)]
enum Death {
    Exit(i32),
    Trap(String),
}

impl Instance {
    /// Makes a process. None of its code but constructors and what tells versions and addresses has
    /// run when this returns.
    pub fn new(start: Start) -> Result<Self> {
        let name = start.name;
        let mut store = Store::new(engine::engine().clone());
        let host = ImportState {
            files: start.files,
            clock: Clock::new(start.clock),
            rng: Rng::new(start.rng),
            streams: Streams::default(),
            interrupts: start.interrupts.clone(),
            channels: start.channels,
            shared_memory: None,
            memory: None,
            seen: None,
            jumps: SharedExceptions::default(),
            cxx: SharedExceptions::default(),
        };
        let host = FunctionEnv::new(&mut store, host);
        let runtime =
            GuestRuntime { tasks: tasks()?, networking: networking(), sides: start.sides, host: host.clone() };

        let mut args = start.args.into_iter();
        let mut builder = WasiEnvBuilder::new(args.next().unwrap_or_default());
        builder.add_args(args);
        for (key, value) in start.env {
            builder.add_env(key, value);
        }
        builder.set_runtime(Arc::new(runtime));
        builder.set_fs(Arc::new(LoaderFs(start.volume)) as Arc<dyn virtual_fs::FileSystem + Send + Sync>);

        let failed = || Error::new(ErrorKind::Io, format!("cannot start {name} in this process"));
        let instantiate = || builder.instantiate(start.module, &mut store).map_err(Box::new);
        let instantiated =
            engine::without_panic(failed, || engine::with_memory_limit(start.memory_limit, instantiate))?;
        let (instance, _) = instantiated.map_err(|cause| failed().with_cause(cause))?;
        let mut process =
            Self { name, store, host, instance, interrupts: start.interrupts, held: start.held, dead: None };
        // The first calls, for which there must be a native stack.
        engine::without_panic(failed, || {
            process.check_version(start.version)?;
            process.attach_interrupts()
        })??;
        Ok(process)
    }

    /// Calls an export.
    pub fn call_export(&mut self, name: &'static str) -> Result<Return> {
        let function = self.function(name)?;
        self.call(&function)
    }

    /// Calls an export that only tells something.
    pub fn call_query(&mut self, name: &'static str) -> Result<i32> {
        match self.call_export(name)? {
            Return::Value(value) => Ok(value),
            Return::Exit(code) => Err(self.crashed(format!("{name} left with exit code {code}"))),
        }
    }

    /// Calls an exported function.
    pub fn call(&mut self, function: &TypedFunction<(), i32>) -> Result<Return> {
        if let Some(death) = &self.dead {
            return Err(Error::new(ErrorKind::Closed, format!("the session is over: {death}")));
        }
        // A panic in an import unwinds through the guest's frames and this one, and leaves the
        // guest in the middle of a call. Dead until it has returned, it is never entered again.
        self.dead = Some(Death::Trap("a call did not return: the program panicked in it".to_string()));
        let trap = match function.call(&mut self.store) {
            Ok(value) => {
                self.dead = None;
                return Ok(Return::Value(value));
            }
            Err(trap) => trap,
        };
        let what = match trap.downcast::<WasiError>() {
            Ok(WasiError::Exit(code)) => {
                self.interrupts.detach();
                self.dead = Some(Death::Exit(code.raw()));
                self.let_go();
                return Ok(Return::Exit(code.raw()));
            }
            Ok(other) => other.to_string(),
            Err(trap) => trap.to_string(),
        };
        self.dead = Some(Death::Trap(what.clone()));
        Err(self.crashed(what))
    }

    /// An exported function, to be called more than once.
    pub fn function(&self, name: &str) -> Result<TypedFunction<(), i32>> {
        self.instance.exports.get_typed_function(&self.store, name).map_err(|cause| {
            Error::new(ErrorKind::Payload, format!("{} does not export {name}", self.name)).with_cause(cause)
        })
    }

    /// The error of a process that is dead from now on, with the end of its log: what it said last
    /// is what explains it.
    pub fn crashed(&mut self, what: String) -> Error {
        self.dead.get_or_insert_with(|| Death::Trap(what.clone()));
        self.let_go();
        self.interrupts.detach();
        let log = self.take_log();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        let tail: String = tail.iter().rev().map(|line| format!("\n  {line}")).collect();
        Error::new(ErrorKind::Crashed, format!("{} stopped: {what}{tail}", self.name))
    }

    /// Protocol bytes in and out.
    pub fn streams(&mut self) -> &mut Streams {
        &mut self.host.as_mut(&mut self.store).streams
    }

    /// Takes what the process wrote to standard output and error so far, as far as these lead
    /// nowhere else.
    pub fn take_log(&mut self) -> String {
        let log = self.host.as_mut(&mut self.store).files.take_log();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The way to interrupt this process from another thread.
    pub fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    /// Whether the process can still be called.
    pub fn is_alive(&self) -> bool {
        self.dead.is_none()
    }

    /// Whether the process left by itself, which is not a crash, whatever its exit code.
    pub fn has_exited(&self) -> bool {
        matches!(self.dead, Some(Death::Exit(_)))
    }

    fn check_version(&mut self, (name, expected): (&'static str, i32)) -> Result<()> {
        let found = self.call_query(name)?;
        if found == expected {
            return Ok(());
        }
        let message = format!("{} was built for host interface version {found}, this crate has {expected}", self.name);
        Err(Error::new(ErrorKind::Payload, message))
    }

    fn attach_interrupts(&mut self) -> Result<()> {
        let address = self.call_query(export::INTERRUPTS)? as u32;
        let memory = self.host.as_ref(&self.store).memory.clone();
        let memory: Memory =
            memory.ok_or_else(|| Error::new(ErrorKind::Payload, format!("{} imports no memory", self.name)))?;
        let guest = GuestMemory::new(&memory, &self.store, None);
        let invalid =
            || Error::new(ErrorKind::Payload, format!("{} returned {address:#x}: outside memory", export::INTERRUPTS));
        let flags = guest.atomics::<4>(address).map_err(|_| invalid())?;
        // SAFETY: four i32 at `address` are in bounds and aligned; memory is neither moved nor
        // freed before `drop` has detached them.
        unsafe { self.interrupts.attach(NonNull::from(flags).cast()) };
        Ok(())
    }

    /// Closes the files and connections of a process that is dead, and what they needed: others may
    /// open them while this value is still there.
    fn let_go(&mut self) {
        let host = self.host.as_mut(&mut self.store);
        host.files.close_all();
        host.channels = None;
        self.held = None;
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.interrupts.detach();
    }
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exit code {code}"),
            Self::Trap(message) => f.write_str(message),
        }
    }
}

/// What wasmer-wasix asks of its surroundings, for one guest: no network, no packages, modules by
/// the hash of their placeholder.
#[derive(Debug)]
struct GuestRuntime {
    tasks: Arc<dyn VirtualTaskManager>,
    networking: virtual_net::DynVirtualNetworking,
    sides: Option<Arc<Modules>>,
    host: FunctionEnv<ImportState>,
}

impl Runtime for GuestRuntime {
    fn networking(&self) -> &virtual_net::DynVirtualNetworking {
        &self.networking
    }

    fn task_manager(&self) -> &Arc<dyn VirtualTaskManager> {
        &self.tasks
    }

    fn source(&self) -> Arc<dyn Source + Send + Sync> {
        Arc::new(MultiSource::default())
    }

    fn engine(&self) -> wasmer::Engine {
        engine::engine().clone()
    }

    /// The module that a file opened by the dynamic linker stands for. Nothing is compiled.
    fn load_hashed_module_sync(
        &self,
        file: HashedModuleData,
        _engine: Option<&wasmer::Engine>,
    ) -> std::result::Result<Module, SpawnError> {
        let module = self.sides.as_ref().and_then(|sides| sides.side(file.hash().as_bytes()));
        let unknown = || Error::new(ErrorKind::Payload, "the file is not that of a module of this program");
        module.unwrap_or_else(|| Err(unknown())).map_err(|error| SpawnError::Other(Box::new(error)))
    }

    /// wasmer-wasix asks that entries already there be kept. They are for everything except what
    /// this crate serves itself, whose types are the same: a wrong one would be refused at
    /// instantiation.
    fn prepare_imports(
        &self,
        module: &Module,
        store: &mut StoreMut<'_>,
        imports: &mut Imports,
    ) -> anyhow::Result<InstantiationState> {
        if let Some(wasmer::Extern::Memory(memory)) = imports.get_export("env", "memory") {
            self.host.as_mut(&mut store.as_store_mut()).memory.get_or_insert(memory);
        }
        if let Some(wasmer::Extern::Tag(tag)) = imports.get_export("env", "__c_longjmp") {
            self.host.as_mut(&mut store.as_store_mut()).jumps.tag.get_or_insert(tag);
        }
        if let Some(wasmer::Extern::Tag(tag)) = imports.get_export("env", "__cpp_exception") {
            self.host.as_mut(&mut store.as_store_mut()).cxx.tag.get_or_insert(tag);
        }
        crate::wasm::import_state::define(&self.host, module, store, imports);
        Ok(InstantiationState::empty())
    }
}

/// The process's task manager: wasmer-wasix wants one for sleeping guests. Its one thread starts
/// with the first guest.
fn tasks() -> Result<Arc<dyn VirtualTaskManager>> {
    static TASKS: OnceLock<std::result::Result<Arc<TokioTaskManager>, String>> = OnceLock::new();
    let tasks = TASKS.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("pglite-oxide-tasks").enable_time();
        // It panics where the system has no more threads.
        let runtime = catch_unwind(AssertUnwindSafe(|| builder.build()));
        let runtime = runtime.map_err(|_| "the system has no room for another thread".to_string())?;
        runtime.map(|runtime| Arc::new(TokioTaskManager::new(runtime))).map_err(|error| error.to_string())
    });
    match tasks {
        Ok(tasks) => Ok(tasks.clone()),
        Err(cause) => Err(Error::new(ErrorKind::Io, format!("cannot start a thread: {cause}"))),
    }
}

fn networking() -> virtual_net::DynVirtualNetworking {
    static NETWORKING: OnceLock<virtual_net::DynVirtualNetworking> = OnceLock::new();
    NETWORKING.get_or_init(|| Arc::new(virtual_net::UnsupportedVirtualNetworking::default())).clone()
}
