//! What an artifact was compiled with: the settings, in one place, and the versions that decide
//! whether a runtime may load it. It owns the record's field names; the runtime's loader reads the
//! same ones.

use std::ffi::CString;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Once;

use inkwell::llvm_sys::support::LLVMParseCommandLineOptions;
use serde::Serialize;
use wasmer_compiler_llvm::{LLVM, LLVMOptLevel};
use wasmer_types::target::{Architecture, CpuFeature, Environment, OperatingSystem, Target, Triple};
use wasmer_types::{Features, MetadataHeader};

use crate::error::{Error, Result};

/// Everything besides the module that the bytes of an artifact depend on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Identity {
    /// `Engine::deterministic_id` of the compiling engine.
    pub(crate) engine: String,
    /// `Engine::artifact_format`.
    pub(crate) artifact_format: String,
    /// Version of Wasmer's serialized metadata.
    pub(crate) metadata_version: u32,
    pub(crate) wasmer_version: &'static str,
    pub(crate) llvm_version: String,
    /// Base CPU model; always the generic one of the target's architecture.
    pub(crate) cpu: &'static str,
    /// Features the code may use besides, in the order of their names. A CPU without them is
    /// refused at load.
    pub(crate) cpu_features: Vec<String>,
    pub(crate) settings: Settings,
}

/// Knobs of the compiler. The same for every target.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Settings {
    opt_level: &'static str,
    /// Loads and stores may be moved and merged like those of C: the guest is C, and synchronizes
    /// with atomics.
    non_volatile_memops: bool,
    /// Calls through a table that no code writes need no check of the entry.
    readonly_funcref_table: bool,
    nan_canonicalization: bool,
    /// Options of LLVM that its interface has no functions for, in the form of a command line.
    llvm_options: &'static [&'static str],
    wasm_features: &'static [&'static str],
}

/// The one set of knobs of this project.
pub(crate) const SETTINGS: Settings = Settings {
    opt_level: "aggressive",
    non_volatile_memops: true,
    readonly_funcref_table: true,
    nan_canonicalization: false,
    // The jump to the next step of an expression is at the end of each step, not at one place for
    // all: the processor predicts each by itself. LLVM leaves out jumps that come from, and lead
    // to, more than 16 places.
    llvm_options: &["-tail-dup-pred-size=1024", "-tail-dup-succ-size=1024"],
    wasm_features: &[
        "bulk_memory",
        "exceptions",
        "extended_const",
        "multi_value",
        "reference_types",
        "simd",
        "threads",
    ],
};

/// The LLVM configuration that `SETTINGS` describes.
pub(crate) fn llvm(threads: NonZeroUsize) -> LLVM {
    set_llvm_options();
    let mut llvm = LLVM::new();
    llvm.opt_level(LLVMOptLevel::Aggressive)
        .non_volatile_memops(SETTINGS.non_volatile_memops)
        .readonly_funcref_table(SETTINGS.readonly_funcref_table)
        .num_threads(threads);
    llvm
}

/// Sets the options of LLVM, which are the process's.
fn set_llvm_options() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        // The first one is the program's name. None has a zero byte.
        let arguments = std::iter::once("aot-compiler").chain(SETTINGS.llvm_options.iter().copied());
        let arguments: Vec<CString> = arguments.filter_map(|argument| CString::new(argument).ok()).collect();
        let argv: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).collect();
        let count = i32::try_from(argv.len()).unwrap_or_default();
        // SAFETY: `argv` has `count` strings, which outlive the call; LLVM copies what it keeps.
        // Nothing else of LLVM runs: each use of it in this program begins with this function.
        unsafe { LLVMParseCommandLineOptions(count, argv.as_ptr(), std::ptr::null()) };
    });
}

/// The WebAssembly proposals that `SETTINGS` lists, and no other.
pub(crate) fn wasm_features() -> Features {
    let mut features = Features::none();
    features
        .bulk_memory(true)
        .exceptions(true)
        .extended_const(true)
        .multi_value(true)
        .reference_types(true)
        .simd(true)
        .threads(true);
    features
}

/// Version of the LLVM libraries this program is linked with.
pub(crate) fn llvm_version() -> String {
    let (major, minor, patch) = inkwell::support::get_llvm_version();
    format!("{major}.{minor}.{patch}")
}

/// Version of the metadata header that precedes each artifact.
pub(crate) const METADATA_VERSION: u32 = MetadataHeader::CURRENT_VERSION;

/// A target of the given name with exactly the given features, or the reason why there is none.
pub(crate) fn target(name: &str, cpu_features: &str) -> Result<Target> {
    let refused = |reason: String| Error::Refused { target: name.to_string(), reason };
    let triple = Triple::from_str(name).map_err(|e| refused(format!("not a target triple: {e}")))?;
    if triple.operating_system == OperatingSystem::Windows && triple.environment == Environment::Msvc {
        let reason = "Wasmer's runtime cannot throw WebAssembly exceptions on MSVC, and every SQL error is one";
        return Err(refused(reason.to_string()));
    }
    let family: fn(CpuFeature) -> bool = match triple.architecture {
        Architecture::X86_64 => |feature| feature != CpuFeature::NEON,
        Architecture::Aarch64(_) => |feature| feature == CpuFeature::NEON,
        other => return Err(refused(format!("architecture {other} is not one this project compiles for"))),
    };
    let mut features = CpuFeature::set();
    for feature in cpu_features.split(',').map(str::trim).filter(|f| !f.is_empty()) {
        let known = CpuFeature::from_str(feature)
            .map_err(|_| refused(format!("{feature} is not a CPU feature that Wasmer can check at load")))?;
        if !family(known) {
            return Err(refused(format!("CPU feature {feature} belongs to another architecture")));
        }
        features.insert(known);
    }
    Ok(Target::new(triple, features))
}

/// Names of the target's features, sorted.
pub(crate) fn feature_names(target: &Target) -> Vec<String> {
    let mut names: Vec<String> = target.cpu_features().iter().map(|f| f.to_string()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, features: &str) -> String {
        target(name, features).unwrap_err().to_string()
    }

    #[test]
    fn features_are_exactly_the_asked_ones_in_order() {
        let target = target("x86_64-unknown-linux-gnu", "ssse3, sse4.2,sse2,,sse3,sse4.1,popcnt").unwrap();
        assert_eq!(feature_names(&target), ["popcnt", "sse2", "sse3", "sse4.1", "sse4.2", "ssse3"]);
    }

    #[test]
    fn refuses_what_it_cannot_compile_for() {
        assert!(refusal("riscv64gc-unknown-linux-gnu", "").contains("riscv64gc"));
        assert!(refusal("x86_64-pc-windows-msvc", "").contains("MSVC"));
        assert!(refusal("sparkle", "").contains("not a target triple"));
        assert!(refusal("x86_64-unknown-linux-gnu", "avx9000").contains("avx9000"));
        assert!(refusal("aarch64-unknown-linux-gnu", "sse2").contains("another architecture"));
    }

    #[test]
    fn settings_name_the_proposals_that_are_on() {
        let on = wasm_features();
        let listed: Vec<&str> = [
            ("bulk_memory", on.bulk_memory),
            ("exceptions", on.exceptions),
            ("extended_const", on.extended_const),
            ("memory64", on.memory64),
            ("multi_memory", on.multi_memory),
            ("multi_value", on.multi_value),
            ("reference_types", on.reference_types),
            ("relaxed_simd", on.relaxed_simd),
            ("simd", on.simd),
            ("tail_call", on.tail_call),
            ("threads", on.threads),
            ("wide_arithmetic", on.wide_arithmetic),
        ]
        .into_iter()
        .filter_map(|(name, on)| on.then_some(name))
        .collect();
        assert_eq!(listed, SETTINGS.wasm_features);
    }
}
