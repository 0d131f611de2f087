//! Steps `payload/…`: packs what users download. One tar file for each internal crate, the manifest first, everything else compressed; the same inputs give the same bytes. The manifests' format is
//! the runtime's (`manifest`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::aot::{Outcome, outcome};
use super::guest::IMAGE_DIGEST;
use super::modules::{self, MAIN};
use super::plan::{PGXS, id};
use super::targets::Target;
use super::template::TEMPLATE;
use crate::error::{Context, Error, Result};
use crate::image::SOURCE_DATE_EPOCH;
use crate::manifest::{AotManifest, Archive, Artifact, AssetsManifest, Engine, FORMAT, Module, Program};
use crate::pipeline::StepContext;
use crate::pipeline::fingerprint::{Fingerprint, children};
use crate::sources::Lock;

/// The payload in the step's output and in the crate.
pub(crate) const PAYLOAD: &str = "payload.tar";
/// The manifest: first member of a payload, and beside it for people.
pub(crate) const MANIFEST: &str = "manifest.json";
/// zstd level: the highest that decompresses with the default window.
const LEVEL: i32 = 19;
/// Extensions that every database has; their files belong to the share archive.
const BUILTIN: &[&str] = &["plpgsql"];
/// Share files below an installed tree.
const SHARE: &str = "install/usr/share/postgresql";

/// The portable payload. `build` names the build.
pub(crate) fn assets(lock: &Lock, build: &Fingerprint, abi: u32, context: &mut StepContext<'_>) -> Result<()> {
    let mut trees = vec![context.output_of(&id::postgresql()?)?.to_path_buf()];
    for (name, _) in PGXS {
        trees.push(context.output_of(&id::extension(name)?)?.to_path_buf());
    }
    let files = share_files(&trees)?;
    let extensions = extensions(&files)?;

    let mut archives = Vec::new();
    let mut members = Vec::new();
    let mut add = |name: &str, tar: Vec<u8>| -> Result<()> {
        let member = format!("{}.tar.zst", name.replace('/', "-"));
        let packed = compress(&tar)?;
        let sha256 = Fingerprint::of_bytes(&packed).to_string();
        archives.push(Archive { name: name.to_owned(), member: member.clone(), sha256, unpacked: tar.len() as u64 });
        members.push((member, packed));
        Ok(())
    };
    let owner = |path: &str| {
        let file = path.strip_prefix("extension/")?;
        let name = file.split_once("--").map_or_else(|| file.strip_suffix(".control"), |(name, _)| Some(name))?;
        extensions.contains_key(name).then(|| name.to_owned())
    };
    add("share", tar_of(files.iter().filter(|(path, _)| owner(path).is_none()))?)?;
    let template = context.output_of(&id::template()?)?.join(TEMPLATE);
    add("template", fs::read(&template).map_err(|e| Error::io("read", &template, e))?)?;
    for name in extensions.keys() {
        add(
            &format!("extension/{name}"),
            tar_of(files.iter().filter(|(path, _)| owner(path).as_ref() == Some(name)))?,
        )?;
    }

    let module_dir = context.output_of(&id::modules()?)?;
    let mut listed = Vec::new();
    for (name, path) in modules::list(module_dir)? {
        listed.push(Module {
            path: (name != MAIN).then(|| format!("usr/lib/postgresql/{name}.so")),
            wasm_sha256: Fingerprint::of_file(&path)?.to_string(),
            extension: extensions
                .iter()
                .find(|(_, modules)| modules.contains(&name))
                .map(|(extension, _)| extension.clone()),
            name,
        });
    }
    let mut programs = Vec::new();
    for (name, path) in modules::list(context.output_of(&id::programs()?)?)? {
        programs.push(Program { name, wasm_sha256: Fingerprint::of_file(&path)?.to_string() });
    }
    let postgresql = lock.archive("postgresql").map(|a| a.version.clone()).unwrap_or_default();
    let digest = context.output_of(&id::postgresql()?)?.join(IMAGE_DIGEST);
    let manifest = AssetsManifest {
        format: FORMAT,
        build: build.to_string(),
        postgresql,
        abi,
        image: fs::read_to_string(&digest).map_err(|e| Error::io("read", &digest, e))?,
        toolchain: lock.toolchains.iter().map(|t| (t.name.clone(), t.version.clone())).collect(),
        modules: listed,
        programs,
        archives,
    };
    write(context, &manifest, &members)
}

/// The payload of one target; nothing where the compiler refused it.
pub(crate) fn aot(target: Target, build: &Fingerprint, context: &mut StepContext<'_>) -> Result<()> {
    let sources = [(id::modules()?, id::aot(target.triple)?), (id::programs()?, id::aot_programs(target.triple)?)];
    let mut modules = Vec::new();
    for (from, compiled) in &sources {
        let output = context.output_of(compiled)?.to_path_buf();
        if let Outcome::Refused(reason) = outcome(&output)? {
            context.note(&format!("{}: {reason}", target.triple))?;
            let path = context.out.join("refused.txt");
            return fs::write(&path, reason).map_err(|e| Error::io("write", &path, e));
        }
        let list = modules::list(context.output_of(from)?)?;
        modules.extend(list.into_iter().map(|(name, wasm)| (name, wasm, output.clone())));
    }
    let mut engine: Option<Engine> = None;
    let mut artifacts = Vec::new();
    let mut members = Vec::new();
    for (name, wasm, output) in modules {
        let record = Record::read(&output.join(format!("{name}.json")))?;
        let path = output.join(format!("{name}.aot"));
        let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let wasm_sha256 = Fingerprint::of_file(&wasm)?.to_string();
        let sha256 = Fingerprint::of_bytes(&bytes).to_string();
        for (what, expected, found) in
            [("wasm", &wasm_sha256, &record.wasm_sha256), ("artifact", &sha256, &record.artifact_sha256)]
        {
            if expected != found {
                return Err(Error::new(format!(
                    "{}: the record of {name} names the {what} {found}, found {expected}",
                    target.triple
                ))
                .repair("delete the store's entry of this step and run the same command again"));
            }
        }
        let found = record.engine();
        if engine.as_ref().is_some_and(|known| *known != found) {
            return Err(Error::new(format!(
                "{}: {name} was compiled with other settings than the modules before it",
                target.triple
            )));
        }
        engine = Some(found);
        let member = format!("{name}.aot.zst");
        members.push((member.clone(), compress(&bytes)?));
        artifacts.push(Artifact { name, wasm_sha256, member, sha256, size: bytes.len() as u64 });
    }
    let engine = engine.ok_or_else(|| Error::new(format!("{}: there are no artifacts", target.triple)))?;
    let manifest =
        AotManifest { format: FORMAT, build: build.to_string(), target: target.triple.to_owned(), engine, artifacts };
    write(context, &manifest, &members)
}

/// What the AOT compiler says of an artifact.
#[derive(Debug, serde::Deserialize)]
struct Record {
    wasm_sha256: String,
    artifact_sha256: String,
    identity: Identity,
}

#[derive(Debug, serde::Deserialize)]
struct Identity {
    artifact_format: String,
    cpu: String,
    cpu_features: Vec<String>,
    engine: String,
    llvm_version: String,
    metadata_version: u32,
    settings: BTreeMap<String, serde_json::Value>,
    wasmer_version: String,
}

impl Record {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
        serde_json::from_str(&text).context(|| format!("{} is not an artifact's record", path.display()))
    }

    fn engine(self) -> Engine {
        let identity = self.identity;
        let mut settings: BTreeMap<String, String> = identity
            .settings
            .into_iter()
            .map(|(name, value)| (name, value.as_str().map_or_else(|| value.to_string(), str::to_owned)))
            .collect();
        settings.extend(
            [
                ("artifact_format", identity.artifact_format),
                ("cpu", identity.cpu),
                ("engine", identity.engine),
                ("llvm", identity.llvm_version),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        Engine {
            wasmer: identity.wasmer_version,
            artifact_version: identity.metadata_version,
            cpu_features: identity.cpu_features,
            settings,
        }
    }
}

/// Files by their path below the share directory.
type Files = BTreeMap<String, PathBuf>;

fn share_files(trees: &[PathBuf]) -> Result<Files> {
    fn walk(directory: &Path, prefix: &str, files: &mut Files) -> Result<()> {
        for (name, path) in children(directory)? {
            let relative = format!("{prefix}{name}");
            if path.is_dir() {
                walk(&path, &format!("{relative}/"), files)?;
            } else if let Some(other) = files.insert(relative.clone(), path) {
                return Err(Error::new(format!("two builds install {relative}; one of them is {}", other.display())));
            }
        }
        Ok(())
    }
    let mut files = Files::new();
    for tree in trees {
        walk(&tree.join(SHARE), "", &mut files)?;
    }
    Ok(files)
}

/// Extensions that are there but not in every database, with the modules their control files name.
fn extensions(files: &Files) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut extensions = BTreeMap::new();
    for (path, source) in files {
        let name = path.strip_prefix("extension/").and_then(|f| f.strip_suffix(".control"));
        let Some(name) = name.filter(|name| !BUILTIN.contains(name)) else { continue };
        let control = fs::read_to_string(source).map_err(|e| Error::io("read", source, e))?;
        extensions.insert(name.to_owned(), module_of(&control).into_iter().collect());
    }
    Ok(extensions)
}

/// The module that a control file names, as `$libdir/NAME`.
fn module_of(control: &str) -> Option<String> {
    let value =
        control.lines().find_map(|line| line.trim().strip_prefix("module_pathname")?.trim().strip_prefix('='))?;
    Some(value.trim().trim_matches('\'').trim_start_matches("$libdir/").to_owned())
}

fn tar_of<'a>(files: impl Iterator<Item = (&'a String, &'a PathBuf)>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, source) in files {
        let bytes = fs::read(source).map_err(|e| Error::io("read", source, e))?;
        append(&mut archive, path, &bytes)?;
    }
    archive.into_inner().context(|| "cannot finish an archive".into())
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(SOURCE_DATE_EPOCH);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).context(|| format!("cannot pack {path}"))
}

fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(bytes, LEVEL).context(|| "cannot compress".into())
}

fn write(context: &StepContext<'_>, manifest: &impl serde::Serialize, members: &[(String, Vec<u8>)]) -> Result<()> {
    let mut json = serde_json::to_vec_pretty(manifest).context(|| "cannot write the manifest".into())?;
    json.push(b'\n');
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, MANIFEST, &json)?;
    for (name, bytes) in members {
        append(&mut archive, name, bytes)?;
    }
    let payload = archive.into_inner().context(|| "cannot finish the payload".into())?;
    for (name, bytes) in [(PAYLOAD, &payload), (MANIFEST, &json)] {
        let path = context.out.join(name);
        fs::write(&path, bytes).map_err(|e| Error::io("write", &path, e))?;
    }
    Ok(())
}

/// Members of a payload by name, and its manifest's bytes.
pub(crate) fn read(payload: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut archive = tar::Archive::new(payload);
    let mut members = BTreeMap::new();
    for entry in archive.entries().context(|| "the payload is not a tar archive".into())? {
        let mut entry = entry.context(|| "the payload is cut off".into())?;
        let name = entry.path().context(|| "a member of the payload has a damaged name".into())?.display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes)
            .context(|| format!("the member {name} of the payload is cut off"))?;
        members.insert(name, bytes);
    }
    Ok(members)
}

/// SHA-256 as hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files_name_their_module() {
        assert_eq!(module_of("comment = 'x'\nmodule_pathname = '$libdir/vector'\n").as_deref(), Some("vector"));
        assert_eq!(module_of("comment = 'sql only'\n"), None);
    }
}
