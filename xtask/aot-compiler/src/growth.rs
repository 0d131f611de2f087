//! How much larger the native code of a function is than its wasm. Wasmer translates some
//! instructions into code that LLVM expands without bounds: `v128.bitselect` was a choice of 128
//! single bits, and
//! one function of pgvector with 50 of them had 34 times the size of its wasm and ran 2,000 times
//! slower than natively. It owns the limit and what is said when a function exceeds it.

use wasmer_compiler::serialize::{SerializableCompilation, SerializableModule};
use wasmparser::{KnownCustom, Name, Parser, Payload};

use crate::unwind::{self, UnwindError};

/// Native code of fewer bytes is not looked at: what a small function costs besides its own code is
/// no growth.
const SMALL: usize = 4 * 1024;

/// Bytes of native code for one byte of wasm. Measured on x86-64: 2.2 is the most in the main
/// module,
/// 3.1 in PL/pgSQL and amcheck, 4.9 in pgvector, all of native code of `SMALL` bytes or more; the
/// functions that were translated badly had 19 and 36.
const LIMIT: usize = 8;

/// Why a module's growth is not acceptable.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrowthError {
    #[error("the artifact cannot be read back: {0}")]
    Artifact(#[from] UnwindError),
    #[error("the module cannot be read: {0}")]
    Module(#[from] wasmparser::BinaryReaderError),
    #[error("the artifact has {found} functions, and the module {expected}")]
    Count { found: usize, expected: usize },
    #[error(
        "{0}\nan instruction in there is translated badly: mend its translation \
         (assets/patches/wasmer-compiler-llvm), or build the module without it"
    )]
    Limit(String),
}

/// A function of a module and its sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Function {
    index: u32,
    name: Option<String>,
    wasm: usize,
    native: usize,
}

impl Function {
    fn exceeds(&self) -> bool {
        self.native >= SMALL && self.native > self.wasm * LIMIT
    }
}

impl std::fmt::Display for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { index, name, wasm, native } = self;
        let name = name.as_deref().unwrap_or("without a name");
        let growth = *native as f64 / (*wasm).max(1) as f64;
        write!(f, "function {index} ({name}): {wasm} bytes of wasm, {native} of native code, {growth:.1} times")
    }
}

/// Checks every function of a module. Returns a description of the one that grew most.
pub(crate) fn check(wasm: &[u8], artifact: &[u8]) -> Result<String, GrowthError> {
    judge(&functions(wasm, &native_sizes(artifact)?)?)
}

fn judge(functions: &[Function]) -> Result<String, GrowthError> {
    let exceeding: Vec<String> = functions.iter().filter(|f| f.exceeds()).map(Function::to_string).collect();
    if !exceeding.is_empty() {
        return Err(GrowthError::Limit(exceeding.join("\n")));
    }
    let large = functions.iter().filter(|f| f.native >= SMALL);
    let most = large.max_by_key(|f| f.native * 1000 / f.wasm.max(1));
    Ok(most.map_or_else(|| format!("no function of {SMALL} bytes or more"), Function::to_string))
}

/// Bytes of each function's native code.
fn native_sizes(artifact: &[u8]) -> Result<Vec<usize>, UnwindError> {
    let module: SerializableModule = unwind::read(artifact)?;
    let SerializableCompilation::Rkyv(compilation) = &module.compilation else { return Err(UnwindError::Format) };
    Ok(compilation.function_bodies.values().map(|body| body.body.len()).collect())
}

/// The functions that a module defines, with names where it has some.
fn functions(wasm: &[u8], native: &[usize]) -> Result<Vec<Function>, GrowthError> {
    let mut imported = 0;
    let mut sizes = Vec::new();
    let mut names = std::collections::HashMap::new();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    imported += u32::from(matches!(import?.ty, wasmparser::TypeRef::Func(_)));
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    if export.kind == wasmparser::ExternalKind::Func {
                        names.entry(export.index).or_insert_with(|| export.name.to_owned());
                    }
                }
            }
            Payload::CodeSectionEntry(body) => sizes.push(body.as_bytes().len()),
            Payload::CustomSection(section) => {
                let KnownCustom::Name(subsections) = section.as_known() else { continue };
                for subsection in subsections {
                    let Name::Function(map) = subsection? else { continue };
                    for naming in map {
                        let naming = naming?;
                        names.insert(naming.index, naming.name.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
    if sizes.len() != native.len() {
        return Err(GrowthError::Count { found: native.len(), expected: sizes.len() });
    }
    let indexed = (imported..).zip(sizes.into_iter().zip(native));
    let function = |(index, (wasm, native)): (u32, (usize, &usize))| Function {
        index,
        name: names.remove(&index),
        wasm,
        native: *native,
    };
    Ok(indexed.map(function).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(wasm: usize, native: usize) -> Function {
        Function { index: 7, name: Some("f".to_owned()), wasm, native }
    }

    #[test]
    fn a_function_that_explodes_is_refused_by_name() {
        let error = judge(&[function(100, 250), function(3052, 104_000)]).unwrap_err().to_string();
        assert!(error.starts_with("function 7 (f): 3052 bytes of wasm, 104000 of native code, 34.1 times"), "{error}");
        assert!(judge(&[function(3052, LIMIT * 3052 + 1)]).is_err());
        assert!(judge(&[function(3052, LIMIT * 3052)]).is_ok());
    }

    #[test]
    fn small_functions_may_grow_by_any_factor() {
        assert_eq!(judge(&[function(10, SMALL - 1)]).unwrap(), "no function of 4096 bytes or more");
    }

    #[test]
    fn the_one_that_grew_most_is_told() {
        let told = judge(&[function(20_000, 40_000), function(10_000, 70_000)]).unwrap();
        assert!(told.ends_with("10000 bytes of wasm, 70000 of native code, 7.0 times"), "{told}");
    }

    #[test]
    fn functions_are_counted_after_the_imported_ones() {
        // (module (import "m" "f" (func)) (func (export "g")))
        let wasm = [
            0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x04, 0x01, 0x60, 0x00, 0x00, 0x02, 0x07, 0x01, 0x01,
            b'm', 0x01, b'f', 0x00, 0x00, 0x03, 0x02, 0x01, 0x00, 0x07, 0x05, 0x01, 0x01, b'g', 0x00, 0x01, 0x0a, 0x04,
            0x01, 0x02, 0x00, 0x0b,
        ];
        let found = functions(&wasm, &[9]).unwrap();
        assert_eq!(found, [Function { index: 1, name: Some("g".to_owned()), wasm: 2, native: 9 }]);
        assert!(matches!(functions(&wasm, &[]), Err(GrowthError::Count { found: 0, expected: 1 })));
    }
}
