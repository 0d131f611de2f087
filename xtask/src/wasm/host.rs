//! The imports that the host provides to a main module: the system interface of wasmer-wasix, and
//! `pgl_host`, the host ABI. It lists names and types; the runtime implements the functions.

use std::collections::BTreeMap;

use wasmparser::{FuncType, ValType};

use super::interface::ExternType;

/// Functions of module `pgl_host`: name, parameters, results. The same list as in
/// assets/guest/overlay/src/include/pgl_host.h, and `throw`, which only C++ calls; a difference
/// appears at the link check of the built guest as an unsatisfied import.
const PGL_HOST: [(&str, &[ValType], &[ValType]); 14] = {
    use ValType::{F64, I32, I64};
    [
        ("input_read", &[I32, I32], &[I32]),
        ("input_ready", &[], &[I32]),
        ("output_write", &[I32, I32], &[I32]),
        ("client_left", &[], &[I32]),
        ("wait", &[I32], &[I32]),
        ("timer_set", &[I64], &[I32]),
        ("random_fill", &[I32, I32], &[I32]),
        ("file_sync", &[I32, I32], &[I32]),
        ("shm_map", &[I32, I32], &[I32]),
        ("sem_wait", &[I32], &[I32]),
        ("sem_wake", &[I32], &[]),
        ("distance", &[I32, I32, I32, I32, I32], &[F64]),
        ("longjmp", &[I32], &[]),
        ("throw", &[I32], &[]),
    ]
};

/// Functions of the same module for client programs only, as listed in
/// assets/guest/programs/pgl_program.h.
const PGL_PROGRAM: [(&str, &[ValType], &[ValType]); 5] = {
    use ValType::I32;
    [
        ("channel_open", &[I32, I32], &[I32]),
        ("channel_read", &[I32, I32, I32], &[I32]),
        ("channel_write", &[I32, I32, I32], &[I32]),
        ("channel_wait", &[I32, I32, I32], &[I32]),
        ("channel_close", &[I32], &[]),
    ]
};

/// Modules of the system interface. wasmer-wasix has every function of them that wasix-libc can ask
/// for, or instantiating the module fails.
const WASIX: [&str; 4] = ["wasi", "wasi_snapshot_preview1", "wasi_unstable", "wasix_32v1"];

/// Import modules the host provides to the main module.
#[derive(Debug, Clone)]
pub(crate) struct HostProvided {
    functions: BTreeMap<(String, String), FuncType>,
}

impl HostProvided {
    /// The imports that the runtime provides to the server.
    pub(crate) fn pglite() -> Self {
        Self::of(PGL_HOST.iter())
    }

    /// The imports that it provides to client programs.
    pub(crate) fn program() -> Self {
        Self::of(PGL_HOST.iter().chain(&PGL_PROGRAM))
    }

    fn of<'a>(functions: impl Iterator<Item = &'a (&'a str, &'a [ValType], &'a [ValType])>) -> Self {
        let functions = functions.map(|(name, params, results)| {
            let ty = FuncType::new(params.iter().copied(), results.iter().copied());
            (("pgl_host".to_owned(), (*name).to_owned()), ty)
        });
        Self { functions: functions.collect() }
    }

    /// Whether the host satisfies an import; if not, what it has instead.
    pub(crate) fn resolve(&self, module: &str, name: &str, ty: &ExternType) -> Result<(), String> {
        if WASIX.contains(&module) {
            return match ty {
                ExternType::Func(_) => Ok(()),
                _ => Err("only functions in that module of the host".to_owned()),
            };
        }
        match self.functions.get(&(module.to_owned(), name.to_owned())) {
            Some(found) if matches!(ty, ExternType::Func(ty) if ty == found) => Ok(()),
            Some(found) => Err(format!("{} of the host", ExternType::Func(found.clone()))),
            None if self.functions.keys().any(|(other, _)| other == module) => {
                Err("no such function in that module of the host".to_owned())
            }
            None => Err("nothing: the symbol is undefined".to_owned()),
        }
    }
}
