//! Staging: puts finished payloads where the internal crates pick them up, and checks what lies there. It owns the `payload` directories in the checkout.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::payload::{self, MANIFEST, PAYLOAD};
use super::targets::{TARGETS, Target};
use crate::error::{Context, Error, Result};
use crate::manifest::{AotManifest, AssetsManifest, FORMAT};
use crate::paths::Paths;

/// What makes every payload.
pub(crate) const REPAIR: &str = "run `cargo xtask assets build`";

/// Directory of the portable crate's payload.
pub(crate) fn assets_dir(root: &Path) -> PathBuf {
    root.join("pglite-oxide-assets/payload")
}

/// Directory of a target's payload.
pub(crate) fn target_dir(root: &Path, target: Target) -> PathBuf {
    root.join("pglite-oxide-aot").join(target.triple).join("payload")
}

/// Copies a payload from a step's output into a crate, if it is not there already. Returns whether anything changed.
pub(crate) fn place(output: &Path, directory: &Path) -> Result<bool> {
    let mut changed = false;
    for name in [PAYLOAD, MANIFEST] {
        let (from, to) = (output.join(name), directory.join(name));
        let bytes = fs::read(&from).map_err(|e| Error::io("read", &from, e))?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(directory).map_err(|e| Error::io("make the directory", directory, e))?;
        // A build of the crate sees the old payload or the new one, never a part.
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(|e| Error::io("write into", directory, e))?;
        file.write_all(&bytes).and_then(|()| file.as_file().sync_all()).map_err(|e| Error::io("write", &to, e))?;
        file.persist(&to).map_err(|e| Error::io("write", &to, e.error))?;
        changed = true;
    }
    Ok(changed)
}

/// Removes a payload that no longer has a source.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", directory, e)),
        _ => Ok(()),
    }
}

/// What is staged: manifests whose every hash was checked.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) assets: AssetsManifest,
    /// Targets with a payload, in the order of [`TARGETS`].
    pub(crate) targets: Vec<(Target, AotManifest)>,
}

/// Checks every byte of what is staged, and that the parts belong together.
pub(crate) fn verify(paths: &Paths) -> Result<Staged> {
    let assets = verify_assets(&assets_dir(&paths.root))?;
    let mut targets = Vec::new();
    for target in TARGETS {
        let directory = target_dir(&paths.root, *target);
        if directory.join(PAYLOAD).exists() {
            targets.push((*target, verify_target(&directory, *target, &assets)?));
        }
    }
    Ok(Staged { assets, targets })
}

/// Checks the portable payload.
pub(crate) fn verify_assets(directory: &Path) -> Result<AssetsManifest> {
    let (path, members) = members(directory)?;
    let manifest: AssetsManifest = manifest(&path, &members)?;
    if manifest.format != FORMAT {
        return Err(differs(&path, MANIFEST, &format!("format {FORMAT}"), &format!("format {}", manifest.format)));
    }
    for archive in &manifest.archives {
        let bytes = member(&path, &members, &archive.member)?;
        expect_hash(&path, &archive.member, &archive.sha256, bytes)?;
    }
    no_strangers(&path, &members, manifest.archives.iter().map(|a| a.member.as_str()))?;
    Ok(manifest)
}

fn verify_target(directory: &Path, target: Target, assets: &AssetsManifest) -> Result<AotManifest> {
    let (path, members) = members(directory)?;
    let manifest: AotManifest = manifest(&path, &members)?;
    let same = [
        ("format", FORMAT.to_string(), manifest.format.to_string()),
        ("target", target.triple.to_owned(), manifest.target.clone()),
        ("build", assets.build.clone(), manifest.build.clone()),
        ("CPU features", target.cpu_features.join(","), manifest.engine.cpu_features.join(",")),
    ];
    for (what, expected, found) in same {
        if expected != found {
            return Err(differs(&path, MANIFEST, &format!("{what} {expected}"), &found));
        }
    }
    let modules = assets.modules.iter().map(|m| (m.name.as_str(), m.wasm_sha256.as_str()));
    let compiled = manifest.artifacts.iter().map(|a| (a.name.as_str(), a.wasm_sha256.as_str()));
    if !modules.eq(compiled) {
        return Err(Error::new(format!("{}: its artifacts were not compiled from the modules of the assets manifest", path.display())).repair(REPAIR));
    }
    for artifact in &manifest.artifacts {
        let packed = member(&path, &members, &artifact.member)?;
        let size = usize::try_from(artifact.size).unwrap_or(usize::MAX);
        let bytes = zstd::bulk::decompress(packed, size)
            .map_err(|e| Error::new(format!("{}: {}: cannot decompress it", path.display(), artifact.member)).cause(e).repair(REPAIR))?;
        expect_hash(&path, &artifact.member, &artifact.sha256, &bytes)?;
    }
    no_strangers(&path, &members, manifest.artifacts.iter().map(|a| a.member.as_str()))?;
    Ok(manifest)
}

type Members = std::collections::BTreeMap<String, Vec<u8>>;

fn members(directory: &Path) -> Result<(PathBuf, Members)> {
    let path = directory.join(PAYLOAD);
    let bytes = fs::read(&path).map_err(|e| Error::io("read the payload", &path, e).repair(REPAIR))?;
    let members = payload::read(&bytes).map_err(|e| Error::new(format!("{} is damaged", path.display())).cause(e).repair(REPAIR))?;
    Ok((path, members))
}

fn manifest<T: serde::de::DeserializeOwned>(path: &Path, members: &Members) -> Result<T> {
    serde_json::from_slice(member(path, members, MANIFEST)?).context(|| format!("{}: {MANIFEST} does not have the expected form", path.display()))
}

fn member<'a>(path: &Path, members: &'a Members, name: &str) -> Result<&'a [u8]> {
    members
        .get(name)
        .map(Vec::as_slice)
        .ok_or_else(|| Error::new(format!("{}: there is no member {name}", path.display())).repair(REPAIR))
}

fn expect_hash(path: &Path, name: &str, expected: &str, bytes: &[u8]) -> Result<()> {
    let found = payload::sha256(bytes);
    if found == expected { Ok(()) } else { Err(differs(path, name, &format!("SHA-256 {expected}"), &found)) }
}

fn no_strangers<'a>(path: &Path, members: &Members, known: impl Iterator<Item = &'a str>) -> Result<()> {
    let known: std::collections::BTreeSet<&str> = known.chain([MANIFEST]).collect();
    match members.keys().find(|name| !known.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Error::new(format!("{}: the manifest does not name the member {name}", path.display())).repair(REPAIR)),
    }
}

fn differs(path: &Path, name: &str, expected: &str, found: &str) -> Error {
    Error::new(format!("{}: {name}: expected {expected}, found {found}", path.display())).repair(REPAIR)
}
