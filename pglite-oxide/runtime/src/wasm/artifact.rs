//! Artifacts: the description of each compiled module and its bytes, in a file or in an internal
//! crate. It owns the check of the bytes against their description. `engine` loads them;
//! `pipeline` and the crate that bundles them find them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};

/// Name of the main module, which loads all others.
pub const MAIN: &str = "postgres";

/// Version of the AOT compiler's records that this crate reads.
const RECORD_SCHEMA: u32 = 1;

/// One compiled module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    pub name: String,
    /// SHA-256 of the WebAssembly module it was compiled from, in hexadecimal.
    pub wasm_sha256: String,
    /// SHA-256 of the artifact, in hexadecimal.
    pub sha256: String,
    /// Bytes of the artifact.
    pub size: u64,
    pub needs: Needs,
    pub bytes: Source,
}

/// The target and engine that an artifact was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    pub target: String,
    pub wasmer_version: String,
    pub metadata_version: u32,
    pub cpu_features: BTreeSet<String>,
}

/// Where an artifact's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// One zstd frame in the program.
    Embedded(&'static [u8]),
    /// Not in the program. A database may need it all the same; the error says this.
    Absent {
        repair: String,
    },
}

/// The field that records of every schema have.
#[derive(Deserialize)]
struct AnySchema {
    schema: u32,
}

/// The AOT compiler's record of an artifact, as far as it is read here.
#[derive(Debug, Deserialize)]
struct Record {
    name: String,
    target: String,
    wasm_sha256: String,
    artifact_sha256: String,
    artifact_size: u64,
    identity: Identity,
}

#[derive(Debug, Deserialize)]
struct Identity {
    metadata_version: u32,
    wasmer_version: String,
    cpu_features: BTreeSet<String>,
}

/// Every `<name>.aot` with its `<name>.json`, as the AOT compiler writes them, in the order of the
/// names.
pub fn from_directory(directory: &Path) -> Result<Vec<Artifact>> {
    let unreadable = |path: &Path, cause| {
        Error::new(ErrorKind::Payload, format!("cannot read {}", path.display())).with_cause(cause)
    };
    let mut artifacts = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|cause| unreadable(directory, cause))? {
        let path = entry.map_err(|cause| unreadable(directory, cause))?.path();
        if path.extension().is_some_and(|extension| extension == "aot") {
            let record = path.with_extension("json");
            let json = std::fs::read_to_string(&record).map_err(|cause| unreadable(&record, cause))?;
            artifacts.push(Artifact::from_record(&json, &record, path)?);
        }
    }
    artifacts.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(artifacts)
}

/// Contents of the placeholder file for the module with this SHA-256 (in hexadecimal), at the path
/// where PostgreSQL expects a shared library. The dynamic linker hashes the file that it opens and
/// requests the module of that hash, so the file must be unique to the module; it need not contain
/// it.
pub fn placeholder(wasm_sha256: &str) -> Vec<u8> {
    format!("pglite-oxide module sha256:{wasm_sha256}\n").into_bytes()
}

/// SHA-256 in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

impl Artifact {
    /// The artifact's bytes, after verifying their hash.
    pub fn verified_bytes(&self) -> Result<Vec<u8>> {
        let failed =
            |cause| Error::new(ErrorKind::Payload, format!("artifact {}: cannot read it", self.name)).with_cause(cause);
        let bytes = match &self.bytes {
            Source::Embedded(frame) => zstd::bulk::decompress(frame, usize::try_from(self.size).unwrap_or(usize::MAX)),
            Source::File(path) => std::fs::read(path),
            Source::Absent { repair } => {
                let message = format!("this program does not contain the module {}: {repair}", self.name);
                return Err(Error::new(ErrorKind::Payload, message));
            }
        };
        let bytes = bytes.map_err(failed)?;
        let found = sha256(&bytes);
        if found == self.sha256 && bytes.len() as u64 == self.size {
            return Ok(bytes);
        }
        let message = format!(
            "artifact {}: expected {} bytes with SHA-256 {}, found {} bytes with {found}: it is damaged and was not loaded",
            self.name,
            self.size,
            self.sha256,
            bytes.len()
        );
        Err(Error::new(ErrorKind::Payload, message))
    }

    fn from_record(json: &str, origin: &Path, bytes: PathBuf) -> Result<Self> {
        let unreadable = |cause| {
            Error::new(ErrorKind::Payload, format!("{}: not an artifact's record", origin.display())).with_cause(cause)
        };
        // What the other fields are is the schema's to say.
        let AnySchema { schema } = serde_json::from_str(json).map_err(unreadable)?;
        if schema != RECORD_SCHEMA {
            let found = format!("{}: record schema {schema}, expected {RECORD_SCHEMA}", origin.display());
            return Err(Error::new(ErrorKind::Payload, found));
        }
        let record: Record = serde_json::from_str(json).map_err(unreadable)?;
        let Identity { metadata_version, wasmer_version, cpu_features } = record.identity;
        Ok(Self {
            name: record.name,
            wasm_sha256: record.wasm_sha256,
            sha256: record.artifact_sha256,
            size: record.artifact_size,
            needs: Needs { target: record.target, wasmer_version, metadata_version, cpu_features },
            bytes: Source::File(bytes),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, bytes: &[u8]) -> String {
        let record = serde_json::json!({
            "schema": 1, "name": name, "target": "t", "wasm_sha256": "aa", "artifact_sha256": sha256(bytes),
            "artifact_size": bytes.len(),
            "identity": { "metadata_version": 24, "wasmer_version": "7.4.2", "cpu_features": ["sse3"], "engine": "x" },
        });
        record.to_string()
    }

    #[test]
    fn reads_a_directory_and_verifies_on_use() {
        let dir = tempfile::tempdir().unwrap();
        for name in [MAIN, "plpgsql", "dict"] {
            std::fs::write(dir.path().join(name).with_extension("aot"), name).unwrap();
            std::fs::write(dir.path().join(name).with_extension("json"), record(name, name.as_bytes())).unwrap();
        }
        let artifacts = from_directory(dir.path()).unwrap();
        let names: Vec<&str> = artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
        assert_eq!(names, ["dict", "plpgsql", "postgres"]);
        assert_eq!(artifacts[2].verified_bytes().unwrap(), MAIN.as_bytes());

        std::fs::write(dir.path().join("postgres.aot"), "Postgres").unwrap();
        let error = artifacts[2].verified_bytes().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Payload);
        assert!(error.to_string().contains("damaged and was not loaded"), "{error}");

        std::fs::remove_file(dir.path().join("dict.json")).unwrap();
        assert!(from_directory(dir.path()).unwrap_err().to_string().contains("dict.json"));
    }

    #[test]
    fn refuses_records_it_does_not_understand() {
        let refusal =
            |json: &str| Artifact::from_record(json, Path::new("x.json"), PathBuf::new()).unwrap_err().to_string();
        assert_eq!(
            refusal(&record("x", b"").replace("\"schema\":1", "\"schema\":2")),
            "x.json: record schema 2, expected 1"
        );
        assert_eq!(refusal(r#"{"schema":7}"#), "x.json: record schema 7, expected 1");
        assert!(refusal("{}").starts_with("x.json: not an artifact's record: missing field"));
    }

    #[test]
    fn a_frame_longer_than_described_is_not_unpacked() {
        let frame: &'static [u8] = zstd::bulk::compress(&[7; 100], 1).unwrap().leak();
        let mut artifact = Artifact::from_record(&record("x", &[7; 100]), Path::new("x"), PathBuf::new()).unwrap();
        artifact.bytes = Source::Embedded(frame);
        assert_eq!(artifact.verified_bytes().unwrap(), [7; 100]);
        artifact.size = 99;
        assert_eq!(artifact.verified_bytes().unwrap_err().kind(), ErrorKind::Payload);
    }
}
