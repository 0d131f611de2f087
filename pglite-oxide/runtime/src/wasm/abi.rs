//! The host ABI: the Rust side of `assets/guest/overlay/src/include/pgl_host.h`. It owns names,
//! types and meanings of the imports in module `pgl_host`, and the names of the guest's exports.
//! Change both files together and increment `VERSION`.

use std::time::Duration;

use wasmer::{Exports, Function, FunctionEnv, FunctionEnvMut, RuntimeError, StoreMut};

use crate::fs::errno::Errno;
use crate::wasm::distance::{self, Element, Metric};
use crate::wasm::import_state::{ImportState, with};

/// Version of the host ABI that this crate implements.
pub const VERSION: i32 = 6;

/// Module name of the imports.
pub const MODULE: &str = "pgl_host";

/// Exports of the guest.
pub mod export {
    /// Runs start-up to the point where PostgreSQL would read its first message. 0: ready.
    pub const BOOT: &str = "pgl_boot";
    /// Processes every complete message in the input. The result is a set of `due` flags.
    pub const PUMP: &str = "pgl_pump";
    /// Does the maintenance that is due. The result is what is due after it.
    pub const MAINTAIN: &str = "pgl_maintain";
    /// Makes a checkpoint, in any state of the session. 0: done.
    pub const CHECKPOINT: &str = "pgl_checkpoint";
    /// Runs PostgreSQL's `main` with the WASI arguments; ends by leaving the process.
    pub const MAIN: &str = "pgl_main";
    /// Address of the interrupt flags.
    pub const INTERRUPTS: &str = "pgl_interrupts";
    /// Version of the host ABI that the guest implements.
    pub const ABI_VERSION: &str = "pgl_abi_version";
}

/// Flags in the results of `pgl_pump` and `pgl_maintain`: what `pgl_maintain` should be called for.
pub mod due {
    /// When the client has its answer.
    pub const NOW: i32 = 2;
    /// Within `wal_writer_delay`: commits are not durable yet.
    pub const FLUSH: i32 = 4;
}

/// The functions of module `pgl_host`.
pub fn exports(env: &FunctionEnv<ImportState>, store: &mut StoreMut<'_>) -> Exports {
    let mut exports = Exports::new();
    let mut define = |name: &str, function: Function| exports.insert(name, function);
    define("input_ready", Function::new_typed_with_env(store, env, input_ready));
    define("input_read", Function::new_typed_with_env(store, env, input_read));
    define("output_write", Function::new_typed_with_env(store, env, output_write));
    define("client_left", Function::new_typed_with_env(store, env, client_left));
    define("wait", Function::new_typed_with_env(store, env, wait));
    define("timer_set", Function::new_typed_with_env(store, env, timer_set));
    define("random_fill", Function::new_typed_with_env(store, env, random_fill));
    define("file_sync", Function::new_typed_with_env(store, env, file_sync));
    define("shm_map", Function::new_typed_with_env(store, env, shm_map));
    define("sem_wait", Function::new_typed_with_env(store, env, sem_wait));
    define("sem_wake", Function::new_typed_with_env(store, env, sem_wake));
    define("distance", Function::new_typed_with_env(store, env, distance));
    define("longjmp", Function::new_typed_with_env(store, env, longjmp));
    define("throw", Function::new_typed_with_env(store, env, throw));
    exports
}

fn input_ready(env: FunctionEnvMut<'_, ImportState>) -> i32 {
    i32::try_from(env.data().streams.ready()).unwrap_or(i32::MAX)
}

fn input_read(mut env: FunctionEnvMut<'_, ImportState>, buf: u32, len: u32) -> i32 {
    let count = with(&mut env, |host, memory| Ok(host.streams.read(memory.range_mut(buf, len)?)));
    // An unreadable buffer is an error of the guest; the end of the input makes it end the session.
    count.map_or(0, |count| count.map_or(-1, |count| count as i32))
}

fn output_write(mut env: FunctionEnvMut<'_, ImportState>, buf: u32, len: u32) -> i32 {
    let taken = with(&mut env, |host, memory| {
        let taken = host.streams.write(memory.range(buf, len)?);
        taken.then_some(()).ok_or(Errno::PIPE)
    });
    if taken.is_ok() { 0 } else { -1 }
}

fn client_left(mut env: FunctionEnvMut<'_, ImportState>) -> i32 {
    let left = env.data_mut().streams.client_left();
    i32::from(left.closed) | i32::from(left.goodbye) << 1
}

fn wait(env: FunctionEnvMut<'_, ImportState>, timeout_ms: i32) -> i32 {
    let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    i32::from(env.data().interrupts.wait(timeout))
}

fn timer_set(env: FunctionEnvMut<'_, ImportState>, delay_us: i64) -> i32 {
    let delay = u64::try_from(delay_us).ok().filter(|delay| *delay > 0).map(Duration::from_micros);
    // The timer's thread may not have been spawned; the next call tries again.
    env.data().interrupts.arm(delay).map_or_else(|errno| i32::from(errno.0), |()| 0)
}

fn random_fill(mut env: FunctionEnvMut<'_, ImportState>, buf: u32, len: u32) -> i32 {
    let filled =
        with(&mut env, |host, memory| memory.fill(buf, len, |piece| host.rng.fill(piece).map_err(|_| Errno::IO)));
    if filled.is_ok() { 0 } else { -1 }
}

fn file_sync(env: FunctionEnvMut<'_, ImportState>, fd: u32, data_only: i32) -> i32 {
    env.data().files.sync(fd, data_only != 0).map_or_else(|errno| i32::from(errno.0), |()| 0)
}

fn shm_map(mut env: FunctionEnvMut<'_, ImportState>, address: u32, len: u32) -> i32 {
    let mapped = with(&mut env, |host, memory| {
        memory.range(address, len)?;
        host.shared_memory = Some((address, len));
        Ok(())
    });
    mapped.map_or_else(|errno| i32::from(errno.0), |()| 0)
}

fn sem_wait(mut env: FunctionEnvMut<'_, ImportState>, address: u32) -> i32 {
    let slept = with(&mut env, |host, memory| {
        host.interrupts.wait_semaphore(&memory.atomics::<1>(address)?[0]);
        Ok(())
    });
    slept.map_or_else(|errno| i32::from(errno.0), |()| 0)
}

fn sem_wake(env: FunctionEnvMut<'_, ImportState>, _address: u32) {
    env.data().interrupts.wake();
}

fn distance(
    mut env: FunctionEnvMut<'_, ImportState>,
    metric: u32,
    element: u32,
    dim: u32,
    a: u32,
    b: u32,
) -> Result<f64, RuntimeError> {
    let distance = with(&mut env, |_, memory| {
        let metric = Metric::of(metric).ok_or(Errno::INVAL)?;
        let element = Element::of(element).ok_or(Errno::INVAL)?;
        let len = dim.checked_mul(element.size()).ok_or(Errno::FAULT)?;
        Ok(distance::distance(metric, element, memory.range(a, len)?, memory.range(b, len)?))
    });
    distance.map_err(|errno| RuntimeError::new(format!("distance: {errno}")))
}

/// Throws the exception that the guest's setjmp catches, with an address as its payload.
fn longjmp(mut env: FunctionEnvMut<'_, ImportState>, thrown: u32) -> Result<(), RuntimeError> {
    let (host, mut store) = env.data_and_store_mut();
    Err(host.jumps.exception(&mut store, thrown))
}

/// Throws an exception of C++, with its address as the payload.
fn throw(mut env: FunctionEnvMut<'_, ImportState>, thrown: u32) -> Result<(), RuntimeError> {
    let (host, mut store) = env.data_and_store_mut();
    Err(host.cxx.exception(&mut store, thrown))
}
