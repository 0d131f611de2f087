//! The engine of the process and the modules loaded into it. Loaded code is never unloaded, so each
//! module is loaded once and shared. It owns the check of an artifact against this program and
//! machine. It never compiles; this crate contains no compiler.

use std::cell::Cell;
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sha2::{Digest, Sha256};
pub use wasmer::Module;
use wasmer::sys::{BaseTunables, NativeEngineExt, Tunables};
use wasmer::{Engine, MemoryError, MemoryType, Pages, TableType, WASM_PAGE_SIZE};
pub use wasmer_types::VERSION as WASMER_VERSION;
use wasmer_types::target::{CpuFeature, Triple};
use wasmer_types::{MemoryStyle, MetadataHeader, TableStyle};
use wasmer_vm::{VMConfig, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition};

use crate::error::{Error, ErrorKind, Result};
use crate::wasm::artifact::{self, Artifact};

/// Size of the native stack of guest code, in bytes. Compiled code keeps its frames there, and
/// PostgreSQL's max_stack_depth does not measure it, so it must suffice for everything that
/// PostgreSQL does within the guest's own stack.
const NATIVE_STACK: usize = 64 << 20;

/// PostgreSQL and its side modules, ready to be instantiated any number of times.
#[derive(Debug)]
pub struct Modules {
    main: Module,
    /// Side modules by the SHA-256 of their placeholder files, loaded when first requested.
    side: HashMap<[u8; 32], Artifact>,
}

impl Modules {
    /// Loads the main module; side modules are loaded when PostgreSQL requests them.
    pub fn load(artifacts: Vec<Artifact>) -> Result<Self> {
        let (main, side): (Vec<Artifact>, Vec<Artifact>) =
            artifacts.into_iter().partition(|artifact| artifact.name == artifact::MAIN);
        let missing = || Error::new(ErrorKind::Payload, format!("there is no artifact named {}", artifact::MAIN));
        let main = load(main.first().ok_or_else(missing)?)?;
        let key = |artifact: &Artifact| Sha256::digest(artifact::placeholder(&artifact.wasm_sha256)).into();
        Ok(Self { main, side: side.into_iter().map(|artifact| (key(&artifact), artifact)).collect() })
    }

    /// The main module.
    pub fn main(&self) -> &Module {
        &self.main
    }

    /// The side module whose placeholder file has this SHA-256.
    pub fn side(&self, file_sha256: &[u8]) -> Option<Result<Module>> {
        self.side.get(file_sha256).map(load)
    }
}

/// The target that code must be made for.
pub fn host_triple() -> String {
    Triple::host().to_string()
}

/// The process's engine.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let mut engine = <Engine as NativeEngineExt>::headless();
        engine.set_tunables(GuestTunables {
            base: BaseTunables::new(),
            vm: VMConfig { wasm_stack_size: Some(NATIVE_STACK) },
        });
        engine
    })
}

/// Loads an artifact, or returns the module if it was loaded before.
pub fn load(artifact: &Artifact) -> Result<Module> {
    type Slot = Arc<Mutex<Option<Module>>>;
    static LOADED: OnceLock<Mutex<HashMap<String, Slot>>> = OnceLock::new();
    let slot = {
        let mut loaded = LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
        loaded.entry(artifact.sha256.clone()).or_default().clone()
    };
    // Other threads wait here for the same module; different modules load in parallel.
    let mut module = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = &*module {
        return Ok(module.clone());
    }
    let host = Machine {
        target: host_triple(),
        has: |feature| CpuFeature::for_host().iter().any(|f| f.to_string() == feature),
    };
    check(artifact, &host)?;
    check_executable_memory()?;
    let bytes = bytes::Bytes::from(artifact.verified_bytes()?);
    let failed = || Error::new(ErrorKind::Payload, format!("artifact {}: cannot load", artifact.name));
    let loaded = without_panic(failed, || {
        // SAFETY: the bytes have the SHA-256 of their description, which comes from the same build,
        // and which says that Wasmer of this very version made them for this machine.
        unsafe { Module::deserialize(engine(), bytes) }
    })?;
    let loaded = loaded.map_err(|cause| failed().with_cause(cause))?;
    Ok(module.insert(loaded).clone())
}

/// Runs something of Wasmer's and makes an error of a panic in it: what a system refuses to a
/// process, memory and the right to execute it above all, is an `expect` there. The last line of
/// defence, behind the checks that name the reason.
pub fn without_panic<T>(failed: impl FnOnce() -> Error, run: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
        failed().with_cause(text.to_string())
    })
}

/// Finds out whether this process may execute what it has written, as loading PostgreSQL's code
/// requires.
#[cfg(unix)]
fn check_executable_memory() -> Result<()> {
    // Every page size is a divisor of it.
    let len = 64 * 1024;
    let last = std::io::Error::last_os_error;
    let write = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a mapping of our own, at an address that the kernel chooses, is changed and unmapped;
    // nothing refers to it.
    let checked = unsafe {
        let page = libc::mmap(std::ptr::null_mut(), len, write, libc::MAP_PRIVATE | libc::MAP_ANON, -1, 0);
        if page == libc::MAP_FAILED {
            Err(last())
        } else {
            let allowed = libc::mprotect(page, len, libc::PROT_READ | libc::PROT_EXEC) == 0;
            let checked = if allowed { Ok(()) } else { Err(last()) };
            libc::munmap(page, len);
            checked
        }
    };
    checked.map_err(|cause| {
        let message = "this process may not execute memory that it has written, which PostgreSQL's code needs: allow \
                       it (no PR_SET_MDWE, no MemoryDenyWriteExecute= of systemd, no such rule of SELinux)";
        Error::new(ErrorKind::Payload, message).with_cause(cause)
    })
}

#[cfg(not(unix))]
fn check_executable_memory() -> Result<()> {
    Ok(())
}

/// The machine that artifacts are loaded on.
struct Machine {
    target: String,
    has: fn(&str) -> bool,
}

/// Rejects an artifact made for another machine or by another compiler.
fn check(artifact: &Artifact, machine: &Machine) -> Result<()> {
    let needs = &artifact.needs;
    let expect = |what: &str, found: &str, expected: &str| {
        let differs =
            format!("artifact {}: made for {what} {found}, but this is {expected}; it was not loaded", artifact.name);
        if found == expected { Ok(()) } else { Err(Error::new(ErrorKind::Payload, differs)) }
    };
    expect("target", &needs.target, &machine.target)?;
    expect("Wasmer", &needs.wasmer_version, wasmer_types::VERSION)?;
    expect("artifact version", &needs.metadata_version.to_string(), &MetadataHeader::CURRENT_VERSION.to_string())?;
    let missing: Vec<&str> =
        needs.cpu_features.iter().map(String::as_str).filter(|feature| !(machine.has)(feature)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = format!("artifact {}: needs a CPU with {}, which this one lacks", artifact.name, missing.join(", "));
    Err(Error::new(ErrorKind::Payload, message))
}

thread_local! {
    /// Largest memory of what this thread instantiates, in WebAssembly pages.
    static MEMORY_LIMIT: Cell<Option<Pages>> = const { Cell::new(None) };
}

/// Runs `instantiate` with a limit of `limit` bytes for the memory of the guest that it creates.
/// WebAssembly's own limit is 4 GiB.
///
/// The limit belongs to one guest, but tunables belong to the engine that all guests share. An
/// instance is created by the calling thread, so the limit is a thread-local value.
pub fn with_memory_limit<T>(limit: Option<u64>, instantiate: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            MEMORY_LIMIT.set(None);
        }
    }
    let pages = limit.map(|bytes| Pages(u32::try_from(bytes / WASM_PAGE_SIZE as u64).unwrap_or(u32::MAX)));
    MEMORY_LIMIT.set(pages);
    let _reset = Reset;
    instantiate()
}

/// Wasmer's tunables with another size of the native stack, for this engine only: the process may
/// contain other engines.
struct GuestTunables {
    base: BaseTunables,
    vm: VMConfig,
}

/// A memory type within this thread's limit. A module accepts a memory whose maximum is below the
/// one it asks for.
fn limited(ty: &MemoryType) -> MemoryType {
    let mut ty = *ty;
    if let Some(limit) = MEMORY_LIMIT.get() {
        ty.maximum = Some(ty.maximum.map_or(limit, |maximum| maximum.min(limit)));
    }
    ty
}

/// Refuses a memory that could move when it grows: the host keeps addresses in it (`memory`,
/// `interrupts`).
fn require_static(style: &MemoryStyle) -> Result<(), MemoryError> {
    match style {
        MemoryStyle::Static => Ok(()),
        MemoryStyle::Dynamic { .. } => {
            Err(MemoryError::InvalidMemory { reason: "it would move when it grows".to_string() })
        }
    }
}

/// Says what a failed reservation means.
fn explained(error: MemoryError) -> MemoryError {
    match error {
        MemoryError::Region(cause) => MemoryError::Region(format!(
            "cannot reserve 8 GiB of address space, which each database needs: {cause}; raise the limit of this \
             process (`ulimit -v`, RLIMIT_AS)"
        )),
        other => other,
    }
}

impl Tunables for GuestTunables {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        self.base.memory_style(memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(&self, ty: &MemoryType, style: &MemoryStyle) -> Result<VMMemory, MemoryError> {
        require_static(style)?;
        self.base.create_host_memory(&limited(ty), style).map_err(explained)
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        location: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        require_static(style)?;
        // SAFETY: the caller's guarantee is passed on unchanged.
        unsafe { self.base.create_vm_memory(ty, style, location) }.map_err(explained)
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.base.create_host_table(ty, style)
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        location: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        // SAFETY: the caller's guarantee is passed on unchanged.
        unsafe { self.base.create_vm_table(ty, style, location) }
    }

    fn vmconfig(&self) -> &VMConfig {
        &self.vm
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::wasm::artifact::{Needs, Source};

    fn artifact(change: impl FnOnce(&mut Needs)) -> Artifact {
        let mut needs = Needs {
            target: "here".to_string(),
            wasmer_version: wasmer_types::VERSION.to_string(),
            metadata_version: MetadataHeader::CURRENT_VERSION,
            cpu_features: BTreeSet::from(["sse3".to_string()]),
        };
        change(&mut needs);
        let (name, none) = (artifact::MAIN.to_string(), String::new());
        Artifact { name, wasm_sha256: none.clone(), sha256: none, size: 1, needs, bytes: Source::Embedded(b"not zstd") }
    }

    fn refusal(change: impl FnOnce(&mut Needs)) -> String {
        let here = Machine { target: "here".to_string(), has: |feature| feature == "sse3" };
        check(&artifact(change), &here).map_or_else(|error| error.to_string(), |()| "accepted".to_string())
    }

    #[test]
    fn accepts_only_what_was_made_for_this_machine_and_version() {
        assert_eq!(refusal(|_| ()), "accepted");
        assert_eq!(
            refusal(|needs| needs.target = "there".to_string()),
            "artifact postgres: made for target there, but this is here; it was not loaded"
        );
        assert_eq!(
            refusal(|needs| needs.cpu_features.extend(["avx2".to_string()])),
            "artifact postgres: needs a CPU with avx2, which this one lacks"
        );
        assert!(refusal(|needs| needs.wasmer_version = "7.0.0".to_string()).contains("made for Wasmer 7.0.0"));
        assert!(refusal(|needs| needs.metadata_version = 1).contains("artifact version 1"));
    }

    #[test]
    fn a_damaged_artifact_is_never_loaded() {
        let damaged = artifact(|needs| {
            needs.target = host_triple();
            needs.cpu_features.clear();
        });
        assert!(load(&damaged).unwrap_err().to_string().starts_with("artifact postgres: cannot read it"));
    }

    #[test]
    fn a_memory_that_can_move_is_refused() {
        require_static(&MemoryStyle::Static).unwrap();
        let error = require_static(&MemoryStyle::Dynamic { offset_guard_size: 65536 }).unwrap_err();
        assert!(error.to_string().contains("would move"), "{error}");
    }

    #[test]
    fn a_panic_of_a_dependency_is_an_error() {
        let failed = || Error::new(ErrorKind::Payload, "cannot load");
        let error = without_panic(failed, || panic!("unable to do it")).unwrap_err();
        assert_eq!(error.to_string(), "cannot load: unable to do it");
        assert_eq!(without_panic(failed, || 7).unwrap(), 7);
    }

    #[test]
    fn there_must_be_a_main_module() {
        assert_eq!(Modules::load(Vec::new()).unwrap_err().to_string(), "there is no artifact named postgres");
    }
}
