//! Staging: puts finished payloads where the internal crates include them, and checks what is
//! there. It owns the contents of the `payload` directories in the checkout.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::parts::Part;
use super::payload::{self, MANIFEST, PAYLOAD};
use super::targets::{TARGETS, Target};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::manifest::{AotManifest, AssetsManifest, FORMAT};
use crate::paths::Paths;
use crate::pipeline::fingerprint::Fingerprint;

/// The command that makes every payload.
pub(crate) const REPAIR: &str = "run `cargo xtask assets build`";

/// Copies a payload from a step's output into a crate, if it is not there already. Returns whether
/// anything changed.
pub(crate) fn place(output: &Path, directory: &Path) -> Result<bool> {
    let mut changed = false;
    for name in [PAYLOAD, MANIFEST] {
        let (from, to) = (output.join(name), directory.join(name));
        let bytes = files::read(&from)?;
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        files::make_directory(directory)?;
        // A build of the crate sees the old payload or the new one, never a partial one.
        files::replace(&to, &bytes)?;
        changed = true;
    }
    Ok(changed)
}

/// How a payload in a crate differs from a step's output; `None` if it is the same.
pub(crate) fn difference(output: &Path, directory: &Path) -> Result<Option<String>> {
    for name in [PAYLOAD, MANIFEST] {
        let expected = files::read(&output.join(name))?;
        let path = directory.join(name);
        match fs::read(&path) {
            Ok(found) if found == expected => (),
            Ok(_) => return Ok(Some(format!("{} is not what was built", path.display()))),
            Err(error) => return Ok(Some(format!("{} cannot be read: {error}", path.display()))),
        }
    }
    Ok(None)
}

/// What is staged: manifests whose every hash was checked, those of all parts together.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) assets: AssetsManifest,
    /// Targets with a payload, in the order of [`TARGETS`].
    pub(crate) targets: Vec<(Target, AotManifest)>,
}

/// Checks every byte of what is staged, and that the parts belong together.
pub(crate) fn verify(paths: &Paths) -> Result<Staged> {
    let assets = verify_files(&paths.root)?;
    let mut targets = Vec::new();
    for target in TARGETS {
        if !Part::Server.target_dir(&paths.root, *target).join(PAYLOAD).exists() {
            continue;
        }
        let mut all: Option<AotManifest> = None;
        for (part, own) in &assets {
            let found = verify_target(&part.target_dir(&paths.root, *target), *target, own)?;
            match &mut all {
                Some(all) => all.artifacts.extend(found.artifacts),
                None => all = Some(found),
            }
        }
        targets.extend(all.map(|all| (*target, all)));
    }
    Ok(Staged { assets: together(assets)?, targets })
}

/// Checks the portable payload of every part, and that they are of one build.
pub(crate) fn verify_assets(root: &Path) -> Result<AssetsManifest> {
    together(verify_files(root)?)
}

/// The manifests of the portable payload, together; nothing else is checked.
pub(crate) fn read_assets(root: &Path) -> Result<AssetsManifest> {
    let read = |part: Part| {
        let (path, members) = members(&part.assets_dir(root))?;
        Ok((part, manifest(&path, &members)?))
    };
    together(Part::all().map(read).collect::<Result<_>>()?)
}

/// Sizes of what is staged for a target, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Of the native code of each module or program, by its name.
    pub(crate) code: BTreeMap<String, CodeSize>,
    /// Of each archive as it is in the payload, by its name.
    pub(crate) archives: BTreeMap<String, u64>,
}

/// Sizes of an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeSize {
    pub(crate) unpacked: u64,
    /// As it is in the payload.
    pub(crate) packed: u64,
}

/// The sizes of what is staged for a target, in all parts together; nothing is checked.
pub(crate) fn sizes(root: &Path, target: Target) -> Result<Sizes> {
    let mut sizes = Sizes::default();
    for part in Part::all() {
        sizes.add(&part.assets_dir(root), &part.target_dir(root, target))?;
    }
    Ok(sizes)
}

impl Sizes {
    /// Adds those of a part.
    fn add(&mut self, assets: &Path, code: &Path) -> Result<()> {
        let (path, packed) = members(assets)?;
        let found: AssetsManifest = manifest(&path, &packed)?;
        for archive in found.archives {
            let size = member(&path, &packed, &archive.member)?.len() as u64;
            self.archives.insert(archive.name, size);
        }
        let (path, packed) = members(code)?;
        let found: AotManifest = manifest(&path, &packed)?;
        for artifact in found.artifacts {
            let size = member(&path, &packed, &artifact.member)?.len() as u64;
            self.code.insert(artifact.name, CodeSize { unpacked: artifact.size, packed: size });
        }
        Ok(())
    }
}

/// Whether there is nothing to check.
pub(crate) fn is_empty(root: &Path) -> bool {
    Part::all().all(|part| !part.assets_dir(root).exists())
}

fn verify_files(root: &Path) -> Result<Vec<(Part, AssetsManifest)>> {
    let mut parts: Vec<(Part, AssetsManifest)> = Vec::new();
    for part in Part::all() {
        let directory = part.assets_dir(root);
        let found = verify_part(&directory)?;
        if let Some((_, first)) = parts.first().filter(|(_, first)| first.build != found.build) {
            let path = directory.join(PAYLOAD);
            return Err(differs(&path, MANIFEST, &format!("build {}", first.build), &found.build));
        }
        parts.push((part, found));
    }
    Ok(parts)
}

fn together(parts: Vec<(Part, AssetsManifest)>) -> Result<AssetsManifest> {
    let mut parts = parts.into_iter().map(|(_, manifest)| manifest);
    let mut all = parts.next().ok_or_else(|| Error::new("a payload without parts"))?;
    parts.for_each(|part| all.add(part));
    Ok(all)
}

/// Checks the portable payload of a part.
fn verify_part(directory: &Path) -> Result<AssetsManifest> {
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
    let programs = assets.programs.iter().map(|p| (p.name.as_str(), p.wasm_sha256.as_str()));
    let compiled = manifest.artifacts.iter().map(|a| (a.name.as_str(), a.wasm_sha256.as_str()));
    if !modules.chain(programs).eq(compiled) {
        return Err(Error::new(format!(
            "{}: its artifacts were not compiled from the modules of the assets manifest",
            path.display()
        ))
        .repair(REPAIR));
    }
    for artifact in &manifest.artifacts {
        let packed = member(&path, &members, &artifact.member)?;
        let size = usize::try_from(artifact.size).unwrap_or(usize::MAX);
        let bytes = zstd::bulk::decompress(packed, size).map_err(|e| {
            Error::new(format!("{}: {}: cannot decompress it", path.display(), artifact.member)).cause(e).repair(REPAIR)
        })?;
        expect_hash(&path, &artifact.member, &artifact.sha256, &bytes)?;
    }
    no_strangers(&path, &members, manifest.artifacts.iter().map(|a| a.member.as_str()))?;
    Ok(manifest)
}

type Members = BTreeMap<String, Vec<u8>>;

fn members(directory: &Path) -> Result<(PathBuf, Members)> {
    let path = directory.join(PAYLOAD);
    let bytes = fs::read(&path).map_err(|e| Error::io("read the payload", &path, e).repair(REPAIR))?;
    let members = payload::read(&bytes)
        .map_err(|e| Error::new(format!("{} is damaged", path.display())).cause(e).repair(REPAIR))?;
    Ok((path, members))
}

fn manifest<T: serde::de::DeserializeOwned>(path: &Path, members: &Members) -> Result<T> {
    serde_json::from_slice(member(path, members, MANIFEST)?)
        .context(|| format!("{}: {MANIFEST} does not have the expected form", path.display()))
}

fn member<'a>(path: &Path, members: &'a Members, name: &str) -> Result<&'a [u8]> {
    members
        .get(name)
        .map(Vec::as_slice)
        .ok_or_else(|| Error::new(format!("{}: there is no member {name}", path.display())).repair(REPAIR))
}

fn expect_hash(path: &Path, name: &str, expected: &str, bytes: &[u8]) -> Result<()> {
    let found = Fingerprint::of_bytes(bytes).to_string();
    if found == expected { Ok(()) } else { Err(differs(path, name, &format!("SHA-256 {expected}"), &found)) }
}

fn no_strangers<'a>(path: &Path, members: &Members, known: impl Iterator<Item = &'a str>) -> Result<()> {
    let known: std::collections::BTreeSet<&str> = known.chain([MANIFEST]).collect();
    match members.keys().find(|name| !known.contains(name.as_str())) {
        None => Ok(()),
        Some(name) => {
            Err(Error::new(format!("{}: the manifest does not name the member {name}", path.display())).repair(REPAIR))
        }
    }
}

fn differs(path: &Path, name: &str, expected: &str, found: &str) -> Error {
    Error::new(format!("{}: {name}: expected {expected}, found {found}", path.display())).repair(REPAIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Archive, Artifact, Engine, Module};

    fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn staged(directory: &Path, manifest: &impl serde::Serialize, members: &[(&str, &[u8])]) {
        let json = serde_json::to_vec(manifest).unwrap();
        let mut all: Vec<(&str, &[u8])> = vec![(MANIFEST, &json)];
        all.extend(members);
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join(PAYLOAD), tar(&all)).unwrap();
    }

    fn assets(archive: &[u8]) -> AssetsManifest {
        AssetsManifest {
            format: FORMAT,
            build: "b".repeat(64),
            postgresql: "17.11".into(),
            abi: 1,
            image: "i".into(),
            toolchain: BTreeMap::new(),
            modules: vec![Module { name: "postgres".into(), path: None, wasm_sha256: "w".into(), extension: None }],
            programs: vec![],
            extensions: vec![],
            archives: vec![Archive {
                name: "share".into(),
                member: "share.tar.zst".into(),
                sha256: Fingerprint::of_bytes(archive).to_string(),
                unpacked: 1,
                files: vec![],
            }],
        }
    }

    fn aot(code: &[u8], target: Target) -> AotManifest {
        let artifact = Artifact {
            name: "postgres".into(),
            wasm_sha256: "w".into(),
            member: "postgres.aot.zst".into(),
            sha256: Fingerprint::of_bytes(code).to_string(),
            size: code.len() as u64,
        };
        let cpu_features = target.cpu_features.iter().map(|f| (*f).to_owned()).collect();
        let engine = Engine { wasmer: "1".into(), artifact_version: 1, cpu_features, settings: BTreeMap::new() };
        AotManifest {
            format: FORMAT,
            build: "b".repeat(64),
            target: target.triple.into(),
            engine,
            artifacts: vec![artifact],
        }
    }

    /// The first line of an error, without the directory of this test.
    fn said<T: std::fmt::Debug>(result: Result<T>, directory: &Path) -> String {
        let text = result.unwrap_err().to_string().replace(&directory.display().to_string(), "DIR");
        assert!(text.contains("repair: run `cargo xtask assets build`"), "{text}");
        text.lines().next().unwrap().to_owned()
    }

    #[test]
    fn a_changed_byte_in_a_staged_payload_is_found_and_named() {
        let dir = tempfile::tempdir().unwrap();
        staged(dir.path(), &assets(b"archive"), &[("share.tar.zst", b"archive")]);
        verify_part(dir.path()).unwrap();

        staged(dir.path(), &assets(b"archive"), &[("share.tar.zst", b"archivE")]);
        let message = said(verify_part(dir.path()), dir.path());
        assert!(message.starts_with("DIR/payload.tar: share.tar.zst: expected SHA-256 "), "{message}");

        staged(dir.path(), &assets(b"archive"), &[]);
        assert_eq!(said(verify_part(dir.path()), dir.path()), "DIR/payload.tar: there is no member share.tar.zst");

        staged(dir.path(), &assets(b"archive"), &[("share.tar.zst", b"archive"), ("more", b"")]);
        assert_eq!(
            said(verify_part(dir.path()), dir.path()),
            "DIR/payload.tar: the manifest does not name the member more"
        );

        let path = dir.path().join(PAYLOAD);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..600]).unwrap();
        assert_eq!(said(verify_part(dir.path()), dir.path()), "DIR/payload.tar is damaged");
    }

    #[test]
    fn artifacts_must_belong_to_the_modules_the_target_and_themselves() {
        let dir = tempfile::tempdir().unwrap();
        let target = TARGETS[0];
        let code = zstd::bulk::compress(b"code", 1).unwrap();
        let check = |manifest: &AotManifest, code: &[u8]| {
            staged(dir.path(), manifest, &[("postgres.aot.zst", code)]);
            verify_target(dir.path(), target, &assets(b""))
        };
        check(&aot(b"code", target), &code).unwrap();

        let other = zstd::bulk::compress(b"codE", 1).unwrap();
        assert!(said(check(&aot(b"code", target), &other), dir.path()).contains("postgres.aot.zst: expected SHA-256"));
        assert!(
            said(check(&aot(b"code", target), b"junk"), dir.path()).ends_with("postgres.aot.zst: cannot decompress it")
        );

        let mut manifest = aot(b"code", target);
        manifest.artifacts[0].wasm_sha256 = "x".into();
        assert!(
            said(check(&manifest, &code), dir.path()).contains("not compiled from the modules of the assets manifest")
        );

        let mut manifest = aot(b"code", target);
        manifest.engine.cpu_features.push("avx512f".into());
        let message = said(check(&manifest, &code), dir.path());
        assert!(message.contains("expected CPU features popcnt,sse3,sse4.1,sse4.2,ssse3, found"), "{message}");

        let mut manifest = aot(b"code", target);
        manifest.target = "elsewhere".into();
        assert!(
            said(check(&manifest, &code), dir.path())
                .ends_with("expected target x86_64-unknown-linux-gnu, found elsewhere")
        );
    }

    #[test]
    fn sizes_are_those_of_the_members() {
        let (files, code) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        staged(files.path(), &assets(b"archive"), &[("share.tar.zst", b"archive")]);
        staged(code.path(), &aot(b"native code", TARGETS[0]), &[("postgres.aot.zst", b"code")]);
        let mut sizes = Sizes::default();
        sizes.add(files.path(), code.path()).unwrap();
        let code_size = CodeSize { unpacked: 11, packed: 4 };
        assert_eq!(sizes.code, BTreeMap::from([("postgres".to_owned(), code_size)]));
        assert_eq!(sizes.archives, BTreeMap::from([("share".to_owned(), 7)]));
        staged(code.path(), &aot(b"native code", TARGETS[0]), &[]);
        let message = said(sizes.add(files.path(), code.path()), code.path());
        assert_eq!(message, "DIR/payload.tar: there is no member postgres.aot.zst");
    }

    #[test]
    fn placing_a_payload_again_changes_nothing() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(from.path().join(PAYLOAD), "a").unwrap();
        fs::write(from.path().join(MANIFEST), "{}").unwrap();
        let crate_dir = to.path().join("payload");
        assert!(place(from.path(), &crate_dir).unwrap());
        assert!(!place(from.path(), &crate_dir).unwrap());
        fs::write(from.path().join(PAYLOAD), "b").unwrap();
        assert!(place(from.path(), &crate_dir).unwrap());
        assert_eq!(fs::read(crate_dir.join(PAYLOAD)).unwrap(), b"b");
        assert_eq!(fs::read_dir(&crate_dir).unwrap().count(), 2, "no temporary file stays");
    }
}
