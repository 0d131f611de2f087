//! Compiles one module and writes its artifact and record. It owns the files it writes; settings
//! are `identity`'s.

use std::collections::HashMap;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmer_compiler::{ArtifactCreate, Engine, EngineBuilder};
use wasmer_types::CompileError;

use crate::error::{Error, Result};
use crate::growth;
use crate::identity::{self, Identity};
use crate::unwind;

/// Version of the record's field names.
const SCHEMA: u32 = 1;

/// Compiles modules for one target.
#[derive(Debug)]
pub(crate) struct Compiler {
    engine: Engine,
    target: String,
    identity: Identity,
}

/// What `<name>.json` says about `<name>.aot`.
#[derive(Debug, Serialize)]
struct Record<'a> {
    schema: u32,
    name: &'a str,
    target: &'a str,
    wasm_sha256: String,
    wasm_size: usize,
    artifact_sha256: String,
    artifact_size: usize,
    identity: &'a Identity,
}

impl Compiler {
    /// A compiler for the target, or a refusal.
    pub(crate) fn new(name: &str, cpu_features: &str, threads: NonZeroUsize) -> Result<Self> {
        let target = identity::target(name, cpu_features)?;
        let cpu_features = identity::feature_names(&target);
        let engine = EngineBuilder::new(identity::llvm(threads))
            .set_features(Some(identity::wasm_features()))
            .set_target(Some(target))
            .engine();
        let identity = Identity {
            engine: engine.deterministic_id(),
            artifact_format: engine.artifact_format(),
            metadata_version: identity::METADATA_VERSION,
            wasmer_version: wasmer_compiler::VERSION,
            llvm_version: identity::llvm_version(),
            cpu: "generic",
            cpu_features,
            settings: identity::SETTINGS,
        };
        Ok(Self { engine, target: name.to_string(), identity })
    }

    /// What artifacts of this compiler depend on besides their module.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Compiles one module into `out` and returns its record as one line of JSON.
    pub(crate) fn compile(&self, module: &Path, out: &Path) -> Result<String> {
        let name = artifact_name(module)?;
        let wasm = std::fs::read(module).map_err(Error::io("read", module))?;
        let artifact = self.engine.compile(&wasm).and_then(|artifact| {
            artifact.serialize().map_err(|e| CompileError::Codegen(format!("cannot serialize the artifact: {e}")))
        });
        let artifact = artifact.map_err(|cause| match cause {
            CompileError::UnsupportedTarget(reason) => Error::Refused { target: self.target.clone(), reason },
            cause => Error::Compile { module: module.to_path_buf(), cause: cause.to_string() },
        })?;
        let failed = |cause: String| Error::Compile { module: module.to_path_buf(), cause };
        let growth = growth::check(&wasm, &artifact).map_err(|cause| failed(cause.to_string()))?;
        eprintln!("{name}: the largest growth: {growth}");
        let artifact = unwind::join_tables(&artifact).map_err(|cause| failed(cause.to_string()))?;
        let record = Record {
            schema: SCHEMA,
            name,
            target: &self.target,
            wasm_sha256: hex::encode(Sha256::digest(&wasm)),
            wasm_size: wasm.len(),
            artifact_sha256: hex::encode(Sha256::digest(&artifact)),
            artifact_size: artifact.len(),
            identity: &self.identity,
        };
        let record = serde_json::json!(record).to_string();
        std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
        write(out, &format!("{name}.aot"), &artifact)?;
        write(out, &format!("{name}.json"), format!("{record}\n").as_bytes())?;
        Ok(record)
    }
}

/// Refuses a list in which two modules would write the same artifact.
pub(crate) fn distinct_names(modules: &[PathBuf]) -> Result<()> {
    let mut seen: HashMap<&str, &PathBuf> = HashMap::new();
    for module in modules {
        let name = artifact_name(module)?;
        if let Some(first) = seen.insert(name, module) {
            return Err(Error::SameName { name: name.to_string(), first: first.clone(), second: module.clone() });
        }
    }
    Ok(())
}

fn artifact_name(module: &Path) -> Result<&str> {
    let is_wasm = module.extension().is_some_and(|e| e == "wasm");
    let stem = module.file_stem().and_then(|s| s.to_str()).filter(|_| is_wasm);
    stem.ok_or_else(|| Error::Name(module.to_path_buf()))
}

/// Writes a whole file or none: a temporary one beside it, made durable, then renamed.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(Error::io("create a file in", dir))?;
    file.write_all(bytes).map_err(Error::io("write", &path))?;
    file.as_file().sync_all().map_err(Error::io("sync", &path))?;
    file.persist(&path).map_err(|e| Error::io("rename to", &path)(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasmer_compiler::serialize::SerializableCompilation;

    use super::*;

    /// The native code of a module's first function.
    fn native(target: &str, features: &str, text: &str) -> Vec<u8> {
        let compiler = Compiler::new(target, features, NonZeroUsize::MIN).unwrap();
        let wasm = wat::parse_str(text).unwrap();
        let artifact = compiler.engine.compile(&wasm).unwrap().serialize().unwrap();
        let module = unwind::read(&artifact).unwrap();
        let SerializableCompilation::Rkyv(compilation) = &module.compilation else { panic!("not the usual format") };
        compilation.function_bodies.values().next().unwrap().body.clone()
    }

    fn contains(code: &[u8], instruction: &[u8]) -> bool {
        code.windows(instruction.len()).any(|window| window == instruction)
    }

    #[test]
    fn a_fence_is_an_instruction() {
        let text = "(module (memory 1 1 shared) (func atomic.fence))";
        // LLVM chooses between `mfence` and a locked `or` to the stack, which costs less.
        let (mfence, lock_or) = ([0x0f, 0xae, 0xf0], [0xf0, 0x83, 0x4c, 0x24]);
        let code = native("x86_64-unknown-linux-gnu", "", text);
        assert!(contains(&code, &mfence) || contains(&code, &lock_or), "{code:02x?}");
        let dmb_ish = [0xbf, 0x3b, 0x03, 0xd5];
        assert!(contains(&native("aarch64-unknown-linux-gnu", "", text), &dmb_ish));
    }

    #[test]
    fn a_choice_of_bits_takes_a_few_instructions() {
        let parameters = "(param v128 v128 v128) (result v128)";
        let text = format!("(module (func {parameters} local.get 0 local.get 1 local.get 2 v128.bitselect))");
        for (target, features) in [("x86_64-unknown-linux-gnu", "ssse3,sse4.1"), ("aarch64-unknown-linux-gnu", "")] {
            let size = native(target, features, &text).len();
            assert!(size < 256, "{target}: {size} bytes");
        }
    }

    /// A function that returns before it calls anything keeps none of its imports on the stack.
    #[test]
    fn imports_are_read_where_they_are_called() {
        let numbers = 0..200;
        let imports: String = numbers
            .clone()
            .map(|n| format!("(import \"m\" \"f{n}\" (func $f{n})) (import \"m\" \"g{n}\" (global $g{n} (mut i32)))"))
            .collect();
        let calls: String = numbers.map(|n| format!("call $f{n} i32.const {n} global.set $g{n} ")).collect();
        let text = format!("(module {imports} (func (param i32) local.get 0 i32.eqz if return end {calls}))");
        let code = native("x86_64-unknown-linux-gnu", "", &text);
        // `sub rsp, n`: 32 bits of n, used for frames of 128 bytes or more.
        let frame = code.windows(7).find(|window| window.starts_with(&[0x48, 0x81, 0xec]));
        assert!(frame.is_none(), "a frame of {:02x?}", frame.map(|window| &window[3..]));
    }

    #[test]
    fn names_come_from_the_file() {
        assert_eq!(artifact_name(Path::new("/x/plpgsql.wasm")).unwrap(), "plpgsql");
        assert!(artifact_name(Path::new("/x/plpgsql.so")).is_err());
        assert!(artifact_name(Path::new("/")).is_err());
    }

    #[test]
    fn one_artifact_per_name() {
        let error = distinct_names(&["a/x.wasm".into(), "a/y.wasm".into(), "b/x.wasm".into()]).unwrap_err();
        assert_eq!(error.to_string(), "a/x.wasm and b/x.wasm: both would write x.aot; rename one of them");
    }

    #[test]
    fn a_file_is_whole_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "x.aot", b"one").unwrap();
        write(dir.path(), "x.aot", b"two").unwrap();
        assert_eq!(std::fs::read(dir.path().join("x.aot")).unwrap(), b"two");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
