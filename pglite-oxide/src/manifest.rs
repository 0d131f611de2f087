//! The manifests of the payload crates: what is inside, from which inputs, and the hashes that tie the parts together. It owns the format; the pipeline
//! writes it, the runtime reads it (the pipeline compiles this same file).
//!
//! Each payload crate carries one tar file. Its first member is `manifest.json`; the others are zstd-compressed and named by the manifest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the two formats below. A reader refuses every other one.
pub const FORMAT: u32 = 1;

/// `manifest.json` of `pglite-oxide-assets`: the portable payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssetsManifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Fingerprint of everything this build was made from, as hex. AOT payloads name the same one.
    pub build: String,
    /// Version of PostgreSQL, such as `17.11`.
    pub postgresql: String,
    /// Version of the border between guest and host (`PGL_ABI_VERSION`).
    pub abi: u32,
    /// Digest of the build image.
    pub image: String,
    /// Versions of the tools by name: `llvm`, `wasmer`, `wasmer-wasix`, `wasix-libc`.
    pub toolchain: BTreeMap<String, String>,
    /// The modules, the main module first, then by name.
    pub modules: Vec<Module>,
    /// Archives of files for the guest, by name; `share` and `template` are always there, extensions are `extension/NAME`.
    pub archives: Vec<Archive>,
}

/// A WASIX module. Its wasm bytes are not shipped; the hash is what AOT artifacts are made from and looked up by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    /// Short name: `postgres`, `plpgsql`, `vector`.
    pub name: String,
    /// Where the guest expects it, from its root on: `usr/lib/postgresql/plpgsql.so`; `None` for the main module.
    pub path: Option<String>,
    /// SHA-256 of the wasm bytes, as hex.
    pub wasm_sha256: String,
    /// The extension it belongs to; `None`: always there.
    pub extension: Option<String>,
}

/// A zstd-compressed tar archive in the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// `share`, `template` or `extension/NAME`.
    pub name: String,
    /// Member of the payload that holds it.
    pub member: String,
    /// SHA-256 of the member, as hex.
    pub sha256: String,
    /// Size of the unpacked tar in bytes.
    pub unpacked: u64,
}

/// `manifest.json` of a `pglite-oxide-aot-*` crate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AotManifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The build that the wasm came from: [`AssetsManifest::build`].
    pub build: String,
    /// Target triple.
    pub target: String,
    /// Identity of the engine that can load the artifacts.
    pub engine: Engine,
    /// One artifact for each module of the assets manifest, in its order.
    pub artifacts: Vec<Artifact>,
}

/// What a loading engine must agree with, and how the code was generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Version of the wasmer crate.
    pub wasmer: String,
    /// Version of Wasmer's serialized module format.
    pub artifact_version: u32,
    /// CPU features that the code needs, by Wasmer's names, sorted.
    pub cpu_features: Vec<String>,
    /// Compiler settings by name.
    pub settings: BTreeMap<String, String>,
}

/// Native code of one module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// [`Module::name`].
    pub name: String,
    /// [`Module::wasm_sha256`] of the module it was compiled from.
    pub wasm_sha256: String,
    /// Member of the payload that holds it, zstd-compressed.
    pub member: String,
    /// SHA-256 of the uncompressed artifact, as hex.
    pub sha256: String,
    /// Size of the uncompressed artifact in bytes.
    pub size: u64,
}
