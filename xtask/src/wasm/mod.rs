//! WebAssembly modules as data: the post-link step for one module, and the link check for a set of
//! modules. Everything here is a function over bytes; the steps of the pipeline read, write and run
//! modules.
//!
//! # Where the address rules come from
//!
//! The loader is `src/state/linker` of the pinned wasmer-wasix. Its treatment of a main module
//! determines what the module must look like:
//!
//! * `Linker::new`: the module is loaded at 2^alignment of its `dylink.0` section. The stack begins
//!   at the end of its data rounded up to 1024 and is 8 MiB long. Table slot 0 stays empty, so the
//!   module owns slots from 1 on.
//! * `resolve_export_from`: an exported global that a side module asks for (`GOT.mem`) or that
//!   `dlsym` returns is taken as an offset: the memory base is added to it, or the TLS base where
//!   the `dylink.0` export flags say so.
//! * `WasiModuleInstanceHandles::new` and `get_tls_base_export`: five globals are read as they are,
//!   see [`ABSOLUTE_EXPORTS`].
//! * `define_common_import`: memory, table, stack pointer and the two exception tags are filled in
//!   for every module. Sides also get `__memory_base` and `__table_base`; only the main module gets
//!   `GOT.mem.__stack_low`, `__stack_high` and `__heap_base`.
//! * `resolve_env_symbol`: a missing function is no load error but a stub that ends the process
//!   when it is called. So it has to be found at build time.

pub(crate) mod dylink;
pub(crate) mod host;
pub(crate) mod interface;
pub(crate) mod linkcheck;
pub(crate) mod postlink;

#[cfg(test)]
mod tests;

/// The main module's memory alignment as a power of two.
pub(crate) const MEMORY_ALIGNMENT_LOG2: u32 = 10;

/// Start of the main module's data: wasm-ld's `--global-base`, and the address at which the loader
/// places a module of that alignment.
pub(crate) const MEMORY_BASE: u32 = 1 << MEMORY_ALIGNMENT_LOG2;

/// First table slot of the main module: slot 0 is the null function pointer, in wasm-ld as in the
/// loader.
pub(crate) const TABLE_BASE: u32 = 1;

/// Stack the loader gives the main thread, and the unit it rounds the stack's lower end up to.
pub(crate) const LOADER_STACK_SIZE: u32 = 8 * 1024 * 1024;
pub(crate) const LOADER_STACK_ALIGNMENT: u32 = 1024;

/// Stack size to link with. The loader may begin its stack up to 1023 bytes higher than wasm-ld
/// did, so its 8 MiB must fit into the linked stack from there.
pub(crate) const LINKED_STACK_SIZE: u32 = LOADER_STACK_SIZE + LOADER_STACK_ALIGNMENT;

/// Exported globals that hold no offset from the memory base: the loader reads the first five as
/// they are, the other two are sizes. They keep their value in the post-link step, and no side
/// module may take their address.
pub(crate) const ABSOLUTE_EXPORTS: [&str; 7] =
    ["__stack_pointer", "__tls_base", "__stack_low", "__stack_high", "__data_end", "__tls_size", "__tls_align"];
