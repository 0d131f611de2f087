//! The manifests of the payload crates: contents, inputs, and the hashes that connect the parts. It
//! owns the format; the pipeline writes it, the runtime reads it (the pipeline compiles this same
//! file).
//!
//! A payload consists of parts: PostgreSQL itself, and families of extensions. Each part has a
//! portable tar file and one for each target. The first member of each is `manifest.json`; the
//! others are zstd-compressed and named by the manifest. All parts are of one build.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of the two formats below. A reader rejects other versions.
pub(crate) const FORMAT: u32 = 4;

/// `manifest.json` of the portable payload of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AssetsManifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Fingerprint of everything this build was made from, as hex. AOT payloads name the same one.
    pub(crate) build: String,
    /// Version of PostgreSQL, such as `17.11`.
    pub(crate) postgresql: String,
    /// Version of the host ABI (`PGL_ABI_VERSION`).
    pub(crate) abi: u32,
    /// Digest of the build image.
    pub(crate) image: String,
    /// Versions of the tools by name: `llvm`, `wasmer`, `wasmer-wasix`, `wasix-libc`.
    pub(crate) toolchain: BTreeMap<String, String>,
    /// The modules, by name; those of the server begin with the main module.
    pub(crate) modules: Vec<Module>,
    /// The client programs, by name.
    pub(crate) programs: Vec<Program>,
    /// The extensions, by name.
    pub(crate) extensions: Vec<Extension>,
    /// Archives of files for the guest, by name: `share` and `template` of the server,
    /// `extension/NAME` of the others.
    pub(crate) archives: Vec<Archive>,
}

impl AssetsManifest {
    /// Adds the contents of another part of the same build.
    pub(crate) fn add(&mut self, part: Self) {
        self.modules.extend(part.modules);
        self.programs.extend(part.programs);
        self.extensions.extend(part.extensions);
        self.archives.extend(part.archives);
    }
}

/// A WASIX module. Its wasm bytes are not shipped; the hash is what AOT artifacts are made from and
/// looked up by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Module {
    /// Short name: `postgres`, `plpgsql`, `vector`.
    pub(crate) name: String,
    /// Where the guest expects it, from its root on: `usr/lib/postgresql/plpgsql.so`; `None` for
    /// the main module.
    pub(crate) path: Option<String>,
    /// SHA-256 of the wasm bytes, as hex.
    pub(crate) wasm_sha256: String,
    /// The extension it belongs to; `None`: always there.
    pub(crate) extension: Option<String>,
}

/// An extension, as the pipeline builds it: one source, which may be several extensions for CREATE
/// EXTENSION, or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Extension {
    /// Name of its file in `assets/extensions`; its archive is `extension/NAME`.
    pub(crate) name: String,
    /// License of its source.
    pub(crate) license: String,
    /// What CREATE EXTENSION makes of it, by name.
    pub(crate) creates: Vec<Created>,
    /// Modules that must be in `shared_preload_libraries`.
    pub(crate) preload: Vec<String>,
}

/// What CREATE EXTENSION makes, according to its control file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Created {
    /// Name for CREATE EXTENSION.
    pub(crate) name: String,
    /// The version that is created by default.
    pub(crate) version: String,
    /// Its description.
    pub(crate) comment: String,
    /// Names of the extensions that it requires.
    pub(crate) requires: Vec<String>,
}

/// A WASIX module that is a program of its own, a client of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Program {
    /// `pg_dump`, `psql`.
    pub(crate) name: String,
    /// SHA-256 of the wasm bytes, as hex.
    pub(crate) wasm_sha256: String,
}

/// A zstd-compressed tar archive in the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archive {
    /// `share`, `template` or `extension/NAME`.
    pub(crate) name: String,
    /// Member of the payload that holds it.
    pub(crate) member: String,
    /// SHA-256 of the member, as hex.
    pub(crate) sha256: String,
    /// Size of the unpacked tar in bytes.
    pub(crate) unpacked: u64,
    /// Its files, so that it is unpacked when one of them is read; empty: it is unpacked at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) files: Vec<File>,
}

/// A file of an archive: its path, and where its bytes begin and how many they are in the unpacked
/// tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File(pub(crate) String, pub(crate) u64, pub(crate) u64);

/// `manifest.json` of the payload of a part for a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AotManifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// The build that the wasm came from: [`AssetsManifest::build`].
    pub(crate) build: String,
    /// Target triple.
    pub(crate) target: String,
    /// Identity of the engine that can load the artifacts.
    pub(crate) engine: Engine,
    /// One artifact for each module of the assets manifest and then for each of its programs, in
    /// its order.
    pub(crate) artifacts: Vec<Artifact>,
}

/// The properties that a loading engine must have, and the settings of the compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Engine {
    /// Version of the wasmer crate.
    pub(crate) wasmer: String,
    /// Version of Wasmer's serialized module format.
    pub(crate) artifact_version: u32,
    /// CPU features that the code needs, by Wasmer's names, sorted.
    pub(crate) cpu_features: Vec<String>,
    /// Compiler settings by name.
    pub(crate) settings: BTreeMap<String, String>,
}

/// Native code of one module or program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Artifact {
    /// [`Module::name`] or [`Program::name`].
    pub(crate) name: String,
    /// SHA-256 of the wasm it was compiled from, as hex.
    pub(crate) wasm_sha256: String,
    /// Member of the payload that holds it, zstd-compressed.
    pub(crate) member: String,
    /// SHA-256 of the uncompressed artifact, as hex.
    pub(crate) sha256: String,
    /// Size of the uncompressed artifact in bytes.
    pub(crate) size: u64,
}
