//! The state behind the imports of one guest: files, clock, protocol streams. It owns that state
//! and the access of imports to it; the imports are in `abi` (module `pgl_host`) and `wasi` (files,
//! clocks and random numbers).

use std::sync::Arc;

use wasmer::{
    Exception, Exports, FunctionEnv, FunctionEnvMut, Imports, Memory, Module, RuntimeError, StoreMut, Tag, Value,
};

use crate::fs::errno::{Errno, Result};
use crate::wasm::channel::Channels;
use crate::wasm::channel_abi;
use crate::wasm::clock::Clock;
use crate::wasm::fd_table::Files;
use crate::wasm::interrupts::Interrupts;
use crate::wasm::memory::{GuestMemory, Range};
use crate::wasm::rng::Rng;
use crate::wasm::streams::Streams;

/// State behind the imports of one guest.
#[derive(Debug)]
pub struct ImportState {
    pub files: Files,
    pub clock: Clock,
    pub rng: Rng,
    pub streams: Streams,
    pub interrupts: Arc<Interrupts>,
    /// The network, of a client program that is running.
    pub channels: Option<Channels>,
    /// The segment the guest announced with `shm_map`: address and length.
    pub shared_memory: Option<(u32, u32)>,
    /// Known from the moment the main module's imports are prepared.
    pub memory: Option<Memory>,
    /// What the last call saw of the memory.
    pub seen: Option<Range>,
    /// What carries the guest's longjmp.
    pub jumps: SharedExceptions,
    /// What carries the exceptions of C++.
    pub cxx: SharedExceptions,
}

/// Exceptions of one tag. Wasmer keeps every exception until its store goes and walks the whole
/// stack for each new one, so that errors would leak, and cost more the deeper they are. All that
/// is thrown with the same address can share one: it differs in memory, not in payload.
#[derive(Debug, Default)]
pub struct SharedExceptions {
    /// The tag that the guest catches, known like `memory`.
    pub tag: Option<Tag>,
    /// The exceptions and their payloads: addresses in guest memory.
    known: Vec<(u32, RuntimeError)>,
}

impl SharedExceptions {
    /// Exceptions that are kept. A module has one address for its jumps and 16 for C++.
    const MAX: usize = 128;

    /// The exception of this tag with an address as its payload.
    pub fn exception(&mut self, store: &mut StoreMut<'_>, payload: u32) -> RuntimeError {
        if let Some((_, exception)) = self.known.iter().find(|(known, _)| *known == payload) {
            return exception.clone();
        }
        let Some(tag) = &self.tag else {
            return RuntimeError::new("an exception without its tag: no module imports it");
        };
        let exception = Exception::new(store, tag, &[Value::I32(payload.cast_signed())]);
        let exception = RuntimeError::exception(store, exception);
        if self.known.len() < Self::MAX {
            self.known.push((payload, exception.clone()));
        }
        exception
    }
}

/// Runs the body of an import that answers with a WASI errno.
pub fn call(
    mut env: FunctionEnvMut<'_, ImportState>,
    body: impl FnOnce(&mut ImportState, &mut GuestMemory<'_>) -> Result<()>,
) -> i32 {
    match with(&mut env, body) {
        Ok(()) => 0,
        Err(errno) => i32::from(errno.0),
    }
}

/// Runs the body of an import on the host's state and the guest's memory.
pub fn with<T>(
    env: &mut FunctionEnvMut<'_, ImportState>,
    body: impl FnOnce(&mut ImportState, &mut GuestMemory<'_>) -> Result<T>,
) -> Result<T> {
    let (host, store) = env.data_and_store_mut();
    let memory = host.memory.clone().ok_or(Errno::FAULT)?;
    let mut memory = GuestMemory::new(&memory, &store, host.seen);
    let result = body(host, &mut memory);
    host.seen = Some(memory.seen());
    result
}

/// Puts this crate's imports into an import object: `pgl_host`, and those of WASI's that it serves
/// itself, in the place of wasmer-wasix's.
pub fn define(env: &FunctionEnv<ImportState>, module: &Module, store: &mut StoreMut<'_>, imports: &mut Imports) {
    let mut abi = crate::wasm::abi::exports(env, store);
    if env.as_ref(store).channels.is_some() {
        channel_abi::define(env, store, &mut abi);
    }
    let wasi = crate::wasm::wasi::exports(env, store);
    for import in module.imports() {
        let ours: &Exports = match import.module() {
            crate::wasm::abi::MODULE => &abi,
            "wasi_snapshot_preview1" | "wasix_32v1" => &wasi,
            _ => continue,
        };
        if let Ok(function) = ours.get_function(import.name()) {
            imports.define(import.module(), import.name(), function.clone());
        }
    }
}
