//! The part of the host ABI for client programs only: the Rust side of
//! `assets/guest/programs/pgl_program.h`. Change both files together and increment `VERSION`.

use std::time::Duration;

use wasmer::{Exports, Function, FunctionEnv, FunctionEnvMut, StoreMut};

use crate::fs::errno::{Errno, Result};
use crate::wasm::import_state::{ImportState, with};

/// Version of the host ABI that this crate implements.
pub const VERSION: i32 = 1;

/// Most bytes that one call reads from or writes to a channel.
const PIECE: usize = 64 * 1024;

/// The export that tells the program's.
pub const VERSION_EXPORT: &str = "pgl_program_version";

/// Adds the functions to those of module `pgl_host`.
pub fn define(env: &FunctionEnv<ImportState>, store: &mut StoreMut<'_>, exports: &mut Exports) {
    let mut define = |name: &str, function: Function| exports.insert(name, function);
    define("channel_open", Function::new_typed_with_env(store, env, channel_open));
    define("channel_read", Function::new_typed_with_env(store, env, channel_read));
    define("channel_write", Function::new_typed_with_env(store, env, channel_write));
    define("channel_wait", Function::new_typed_with_env(store, env, channel_wait));
    define("channel_close", Function::new_typed_with_env(store, env, channel_close));
}

fn channel_open(mut env: FunctionEnvMut<'_, ImportState>, path: u32, len: u32) -> i32 {
    answer(with(&mut env, |host, memory| {
        let path = memory.range(path, len)?.to_vec();
        host.channels.as_mut().ok_or(Errno::NOTSUP)?.open(&path)
    }))
}

fn channel_read(mut env: FunctionEnvMut<'_, ImportState>, channel: u32, buf: u32, len: u32) -> i32 {
    answer(with(&mut env, |host, memory| {
        let mut buf = memory.range_mut(buf, len)?;
        let mut bytes = vec![0; buf.len().min(PIECE)];
        let count = host.channels.as_ref().ok_or(Errno::BADF)?.read(channel as usize, &mut bytes)?;
        buf.part(0, count).copy_from(&bytes[..count]);
        Ok(count)
    }))
}

fn channel_write(mut env: FunctionEnvMut<'_, ImportState>, channel: u32, buf: u32, len: u32) -> i32 {
    answer(with(&mut env, |host, memory| {
        let data = memory.range(buf, len)?.part(0, PIECE).to_vec();
        host.channels.as_ref().ok_or(Errno::BADF)?.write(channel as usize, &data)
    }))
}

fn channel_wait(env: FunctionEnvMut<'_, ImportState>, channel: u32, events: i32, timeout_ms: i32) -> i32 {
    let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
    let ready = match &env.data().channels {
        Some(channels) => channels.wait(channel as usize, events, timeout),
        None => Err(Errno::BADF),
    };
    answer(ready.map(|events| events as usize))
}

fn channel_close(mut env: FunctionEnvMut<'_, ImportState>, channel: u32) {
    if let Some(channels) = &mut env.data_mut().channels {
        channels.close(channel as usize);
    }
}

/// A count, or an errno below zero.
fn answer(result: Result<usize>) -> i32 {
    match result {
        Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
        Err(errno) => -i32::from(errno.0),
    }
}
