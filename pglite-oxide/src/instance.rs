//! One running guest: a WebAssembly instance of PostgreSQL with its files, world and streams. It owns instantiation, the calls of the
//! guest's exports and what becomes of a guest that traps; what the bytes in the streams mean is `protocol`'s.

use std::ptr::NonNull;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use wasmer::{AsStoreMut, FunctionEnv, Imports, Memory, Module, Store, StoreMut, TypedFunction};
use wasmer_wasix::runtime::module_cache::{CacheError, ModuleCache};
use wasmer_wasix::runtime::resolver::{MultiSource, Source};
use wasmer_wasix::runtime::task_manager::VirtualTaskManager;
use wasmer_wasix::runtime::task_manager::tokio::TokioTaskManager;
use wasmer_wasix::runtime::{InstantiationState, Runtime};
use wasmer_wasix::{WasiEnvBuilder, WasiError};

use crate::abi::{self, due, export};
use crate::engine::{self, Modules};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::Volume;
use crate::fs::files::Files;
use crate::fs::loader::LoaderFs;
use crate::host::{Host, Jump};
use crate::interrupts::Interrupts;
use crate::memory::GuestMemory;
use crate::streams::Streams;
use crate::world::{Sources, World};

/// What a guest starts with.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) modules: Arc<Modules>,
    pub(crate) volume: Arc<Volume>,
    /// Arguments of PostgreSQL, the program's name first.
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stdin: Bytes,
    pub(crate) world: World,
    /// Largest size of the guest's memory, in bytes. Without one it ends at WebAssembly's 4 GiB.
    pub(crate) memory_limit: Option<u64>,
    /// What the guest's files need while it lives, like the lock of their directory. Let go when the guest ends, however it does.
    pub(crate) held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
}

/// How the guest's work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All input is processed; the guest waits for more.
    Drained,
    /// The session has ended, and the guest with it. What it had to say about that is in the output.
    /// With the exit code.
    Ended(i32),
}

/// One running guest.
#[derive(Debug)]
pub(crate) struct Instance {
    store: Store,
    host: FunctionEnv<Host>,
    instance: wasmer::Instance,
    pump: TypedFunction<(), i32>,
    interrupts: Arc<Interrupts>,
    /// Flags of `abi::due`.
    due: i32,
    held: Option<Arc<dyn std::fmt::Debug + Send + Sync>>,
    /// Why no call is possible any more.
    dead: Option<Death>,
}

// SAFETY: what keeps `Store` from being `Send` are raw pointers into allocations that it owns itself (instances, memories, tables, functions).
// They move with it. Between calls nothing of a guest is bound to a thread: Wasmer's thread-local state names a store only while a call is in
// progress, native stacks are borrowed for one call, and everything given to the store (`Host`, wasmer-wasix's environment) is `Send` by the
// bounds of `FunctionEnv`. Calls need `&mut`, so no two threads are ever in one guest.
unsafe impl Send for Instance {}

/// How a call of an export ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Return {
    Value(i32),
    /// The guest left as a process does.
    Exit(i32),
}

/// How a guest died.
#[derive(Debug, Clone)]
enum Death {
    /// It left as a process does, with this exit code.
    Exit(i32),
    Trap(String),
}

impl Instance {
    /// Makes a guest. None of its code but constructors has run when this returns.
    pub(crate) fn new(launch: Launch) -> Result<Self> {
        let mut store = Store::new(engine::engine().clone());
        let interrupts = Arc::new(Interrupts::default());
        let files = Files::new(launch.volume.clone(), launch.stdin);
        let files =
            files.map_err(|errno| Error::new(ErrorKind::Io, format!("cannot open the guest's files: {errno}")))?;
        let host = Host {
            files,
            sources: Sources::new(launch.world),
            streams: Streams::default(),
            interrupts: interrupts.clone(),
            shared_memory: None,
            memory: None,
            seen: None,
            jump: Jump::default(),
        };
        let host = FunctionEnv::new(&mut store, host);
        let cache = Arc::new(PlaceholderCache { modules: launch.modules.clone() });
        let runtime = GuestRuntime { tasks: tasks()?, networking: networking(), cache, host: host.clone() };

        let mut args = launch.args.into_iter();
        let mut builder = WasiEnvBuilder::new(args.next().unwrap_or_default());
        builder.add_args(args);
        for (key, value) in launch.env {
            builder.add_env(key, value);
        }
        builder.set_runtime(Arc::new(runtime));
        builder.set_fs(Arc::new(LoaderFs(launch.volume)) as Arc<dyn virtual_fs::FileSystem + Send + Sync>);

        let main = launch.modules.main().clone();
        let instantiate = || builder.instantiate(main, &mut store).map_err(Box::new);
        let (instance, _) = engine::with_memory_limit(launch.memory_limit, instantiate)
            .map_err(|cause| Error::new(ErrorKind::Payload, "cannot instantiate PostgreSQL").with_cause(cause))?;
        let pump = function(&instance, &store, export::PUMP)?;
        let mut instance = Self { store, host, instance, pump, interrupts, due: 0, held: launch.held, dead: None };
        instance.check_abi()?;
        instance.attach_interrupts()?;
        Ok(instance)
    }

    /// Runs PostgreSQL's start-up to the point where it would read its first message.
    pub(crate) fn boot(&mut self) -> Result<Outcome> {
        match self.call_export(export::BOOT)? {
            Return::Value(0) => Ok(Outcome::Drained),
            Return::Value(code) => Err(self.crashed(format!("start-up ended with {code}"))),
            Return::Exit(code) => Ok(Outcome::Ended(code)),
        }
    }

    /// Processes every complete message in the input.
    pub(crate) fn pump(&mut self) -> Result<Outcome> {
        let pump = self.pump.clone();
        match self.call(&pump)? {
            Return::Value(flags) => {
                self.due = flags;
                Ok(Outcome::Drained)
            }
            Return::Exit(code) => Ok(Outcome::Ended(code)),
        }
    }

    /// Whether work beside the messages is due: checkpoints, vacuum, commits to be made durable.
    pub(crate) fn maintenance_due(&self) -> bool {
        self.due & due::NOW != 0
    }

    /// Whether commits wait to be made durable.
    pub(crate) fn flush_due(&self) -> bool {
        self.due & due::FLUSH != 0
    }

    /// Does the work that is due beside the messages.
    pub(crate) fn maintain(&mut self) -> Result<Outcome> {
        match self.call_export(export::MAINTAIN)? {
            Return::Value(flags) => {
                self.due = flags & !due::NOW;
                Ok(Outcome::Drained)
            }
            Return::Exit(code) => Ok(Outcome::Ended(code)),
        }
    }

    /// Writes everything that was committed to its place in the files. False: PostgreSQL could not, and its log says why.
    pub(crate) fn checkpoint(&mut self) -> Result<bool> {
        Ok(self.call_query(export::CHECKPOINT)? == 0)
    }

    /// Runs PostgreSQL's `main` to its end and returns its exit code. The guest is of no more use then.
    pub(crate) fn main(&mut self) -> Result<i32> {
        match self.call_export(export::MAIN)? {
            Return::Value(code) | Return::Exit(code) => Ok(code),
        }
    }

    /// Protocol bytes in and out.
    pub(crate) fn streams(&mut self) -> &mut Streams {
        &mut self.host.as_mut(&mut self.store).streams
    }

    /// Takes what the guest wrote to standard output and error so far.
    pub(crate) fn take_log(&mut self) -> String {
        let log = self.host.as_mut(&mut self.store).files.take_log();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The way to interrupt this guest from another thread.
    pub(crate) fn interrupts(&self) -> &Arc<Interrupts> {
        &self.interrupts
    }

    /// Whether the guest can still be called.
    pub(crate) fn is_alive(&self) -> bool {
        self.dead.is_none()
    }

    /// Whether the guest left as a process does, which is not a crash, whatever its exit code.
    pub(crate) fn has_exited(&self) -> bool {
        matches!(self.dead, Some(Death::Exit(_)))
    }

    fn check_abi(&mut self) -> Result<()> {
        let version = self.call_query(export::ABI_VERSION)?;
        if version == abi::VERSION {
            return Ok(());
        }
        let message =
            format!("PostgreSQL was built for host interface version {version}, this crate has {}", abi::VERSION);
        Err(Error::new(ErrorKind::Payload, message))
    }

    fn attach_interrupts(&mut self) -> Result<()> {
        let address = self.call_query(export::INTERRUPTS)? as u32;
        let memory = self.memory()?;
        let guest = GuestMemory::new(&memory, &self.store, None);
        let invalid =
            || Error::new(ErrorKind::Payload, format!("{} returned {address:#x}: outside memory", export::INTERRUPTS));
        let flags = guest.atomics::<4>(address).map_err(|_| invalid())?;
        // SAFETY: four i32 at `address` are in bounds and aligned; memory is neither moved nor freed before `drop` has detached them.
        unsafe { self.interrupts.attach(NonNull::from(flags).cast()) };
        Ok(())
    }

    fn memory(&self) -> Result<Memory> {
        let memory = self.host.as_ref(&self.store).memory.clone();
        memory.ok_or_else(|| Error::new(ErrorKind::Payload, "PostgreSQL imports no memory"))
    }

    /// Calls an export that only tells something.
    fn call_query(&mut self, name: &'static str) -> Result<i32> {
        match self.call_export(name)? {
            Return::Value(value) => Ok(value),
            Return::Exit(code) => Err(self.crashed(format!("{name} left with exit code {code}"))),
        }
    }

    fn call_export(&mut self, name: &'static str) -> Result<Return> {
        let function = function(&self.instance, &self.store, name)?;
        self.call(&function)
    }

    fn call(&mut self, function: &TypedFunction<(), i32>) -> Result<Return> {
        if let Some(death) = &self.dead {
            return Err(Error::new(ErrorKind::Closed, format!("the session is over: {death}")));
        }
        let trap = match function.call(&mut self.store) {
            Ok(value) => return Ok(Return::Value(value)),
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

    /// Closes the files of a guest that is dead, and what they needed: others may open them while this value is still there.
    fn let_go(&mut self) {
        self.host.as_mut(&mut self.store).files.close_all();
        self.held = None;
    }

    /// The error of a guest that is dead from now on, with the end of its log: what PostgreSQL said last is what explains it.
    fn crashed(&mut self, what: String) -> Error {
        self.dead.get_or_insert_with(|| Death::Trap(what.clone()));
        self.let_go();
        self.interrupts.detach();
        let log = self.take_log();
        let tail: Vec<&str> = log.lines().rev().take(8).collect();
        let tail: String = tail.iter().rev().map(|line| format!("\n  {line}")).collect();
        Error::new(ErrorKind::Crashed, format!("PostgreSQL stopped: {what}{tail}"))
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

/// What wasmer-wasix asks of its surroundings, for one guest: no network, no packages, modules by the hash of their placeholder.
#[derive(Debug)]
struct GuestRuntime {
    tasks: Arc<dyn VirtualTaskManager>,
    networking: virtual_net::DynVirtualNetworking,
    cache: Arc<PlaceholderCache>,
    host: FunctionEnv<Host>,
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

    fn module_cache(&self) -> Arc<dyn ModuleCache + Send + Sync> {
        self.cache.clone()
    }

    /// wasmer-wasix asks that entries already there be kept. They are for everything except what this crate serves itself, whose types are
    /// the same: a wrong one would be refused at instantiation.
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
            self.host.as_mut(&mut store.as_store_mut()).jump.tag.get_or_insert(tag);
        }
        crate::host::define(&self.host, module, store, imports);
        Ok(InstantiationState::empty())
    }
}

/// Finds the module that a file opened by the dynamic linker stands for.
#[derive(Debug)]
struct PlaceholderCache {
    modules: Arc<Modules>,
}

#[async_trait::async_trait]
impl ModuleCache for PlaceholderCache {
    async fn load(&self, key: wasmer_types::ModuleHash, _engine: &wasmer::Engine) -> Result<Module, CacheError> {
        match self.modules.side(key.as_bytes()) {
            Some(Ok(module)) => Ok(module),
            Some(Err(error)) => Err(CacheError::other(error)),
            None => Err(CacheError::NotFound),
        }
    }

    async fn contains(&self, key: wasmer_types::ModuleHash, _engine: &wasmer::Engine) -> Result<bool, CacheError> {
        Ok(self.modules.side(key.as_bytes()).is_some())
    }

    async fn save(
        &self,
        _key: wasmer_types::ModuleHash,
        _engine: &wasmer::Engine,
        _module: &Module,
    ) -> Result<(), CacheError> {
        Ok(())
    }
}

fn function(instance: &wasmer::Instance, store: &Store, name: &str) -> Result<TypedFunction<(), i32>> {
    instance
        .exports
        .get_typed_function(store, name)
        .map_err(|cause| Error::new(ErrorKind::Payload, format!("PostgreSQL does not export {name}")).with_cause(cause))
}

/// The process's task manager: wasmer-wasix wants one for sleeping guests. Its one thread starts with the first guest.
fn tasks() -> Result<Arc<dyn VirtualTaskManager>> {
    static TASKS: OnceLock<std::result::Result<Arc<TokioTaskManager>, String>> = OnceLock::new();
    let tasks = TASKS.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("pglite-oxide-tasks").enable_time().build();
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
