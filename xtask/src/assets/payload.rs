//! Steps `payload/…`: packs what users download. One tar file for each part, the manifest first,
//! everything else compressed; the same inputs give the same bytes. The manifests' format is the
//! runtime's (`manifest`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::aot::{Outcome, outcome};
use super::control;
use super::extension::Extension;
use super::guest::IMAGE_DIGEST;
use super::modules::{self, MAIN};
use super::parts::Part;
use super::plan::{PROGRAMS, id, needs, units};
use super::targets::Target;
use super::template::{PACKED, TEMPLATE};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::image::SOURCE_DATE_EPOCH;
use crate::manifest::{self, AotManifest, Archive, Artifact, AssetsManifest, Engine, FORMAT, Module, Program};
use crate::pipeline::StepContext;
use crate::pipeline::fingerprint::{Fingerprint, children};
use crate::pipeline::plan::Need;
use crate::sources::Lock;

/// The payload in the step's output and in the crate.
pub(crate) const PAYLOAD: &str = "payload.tar";
/// The manifest: the first member of a payload, and a copy beside it for readers.
pub(crate) const MANIFEST: &str = "manifest.json";
/// zstd level: the highest that decompresses with the default window.
pub(crate) const LEVEL: i32 = 19;
/// Directories of an install whose files belong to an extension's archive, by their path below it.
const SHARE: &str = "usr/share/postgresql";
/// Directories of an installation that are not shipped: what other code is compiled against,
/// documentation, and programs for a machine with a server.
const DROPPED: &[&str] = &[
    "usr/bin",
    "usr/include",
    "usr/lib/postgresql/bitcode",
    "usr/lib/postgresql/pgxs",
    "usr/share/doc",
    "usr/share/man",
];
/// Directory of modules, which are shipped compiled.
const MODULES: &str = "usr/lib/postgresql";

/// Identifies a build by everything that is compiled, the modules and the programs, and by which
/// module is in which part.
pub(crate) fn build_id(modules: &Fingerprint, programs: &Fingerprint, extensions: &[Extension]) -> Fingerprint {
    let parts = Extension::parts(extensions).join("\n");
    Fingerprint::of_bytes(format!("{modules}{programs}{parts}").as_bytes())
}

fn this_build(extensions: &[Extension], context: &StepContext<'_>) -> Result<Fingerprint> {
    let (modules, programs) = (context.digest(&needs::shipped()?)?, context.digest(&Need::all(id::programs()?))?);
    Ok(build_id(&modules, &programs, extensions))
}

/// A portable payload under construction.
#[derive(Debug, Default)]
struct Archives {
    described: Vec<Archive>,
    members: Vec<(String, Vec<u8>)>,
}

impl Archives {
    fn add(&mut self, name: &str, unpacked: usize, packed: Vec<u8>, files: Vec<manifest::File>) {
        let member = format!("{}.tar.zst", name.replace('/', "-"));
        let sha256 = Fingerprint::of_bytes(&packed).to_string();
        self.described.push(Archive {
            name: name.to_owned(),
            member: member.clone(),
            sha256,
            unpacked: unpacked as u64,
            files,
        });
        self.members.push((member, packed));
    }

    fn add_extension(&mut self, name: &str, files: &Files) -> Result<()> {
        let tar = tar_of(files)?;
        self.add(&format!("extension/{name}"), tar.len(), compress(&tar)?, places(&tar)?);
        Ok(())
    }
}

/// What a payload is made of that all payloads of a build share.
pub(super) struct Common<'a> {
    pub(super) lock: &'a Lock,
    pub(super) build: &'a Fingerprint,
    pub(super) abi: u32,
    pub(super) image: String,
}

impl Common<'_> {
    /// A manifest without contents.
    fn manifest(self) -> AssetsManifest {
        AssetsManifest {
            format: FORMAT,
            build: self.build.to_string(),
            postgresql: self.lock.archive("postgresql").map(|a| a.version.clone()).unwrap_or_default(),
            abi: self.abi,
            image: self.image,
            toolchain: self.lock.toolchains.iter().map(|t| (t.name.clone(), t.version.clone())).collect(),
            modules: vec![],
            programs: vec![],
            extensions: vec![],
            archives: vec![],
        }
    }
}

/// The portable payload of an extension that is in no part, from what its installation made: the
/// manifest, and the bytes.
pub(super) fn of_bundle(
    common: Common<'_>,
    extension: manifest::Extension,
    modules: &[(String, PathBuf)],
    install: &Path,
) -> Result<(AssetsManifest, Vec<u8>)> {
    let mut archives = Archives::default();
    let files = owned(install)?;
    // What is only loaded has none.
    if !files.is_empty() {
        archives.add_extension(&extension.name, &files)?;
    }
    let mut manifest = common.manifest();
    for (name, path) in modules {
        manifest.modules.push(Module {
            path: Some(format!("{MODULES}/{name}.so")),
            wasm_sha256: Fingerprint::of_file(path)?.to_string(),
            extension: Some(extension.name.clone()),
            name: name.clone(),
        });
    }
    manifest.extensions.push(extension);
    manifest.archives = archives.described;
    let (bytes, _) = packed(&manifest, &archives.members)?;
    Ok((manifest, bytes))
}

/// The payload for a target that belongs to it, from the compiler's output.
pub(super) fn code_of_bundle(
    manifest: &AssetsManifest,
    target: Target,
    modules: &[(String, PathBuf)],
    output: &Path,
    engine: Engine,
) -> Result<Vec<u8>> {
    let (mut artifacts, mut members) = (Vec::new(), Vec::new());
    for (name, path) in modules {
        let (artifact, member, found) = artifact(target, name, path, output)?;
        if found != engine {
            return Err(Error::new(format!("{}: {name} was compiled with other settings", target.triple)));
        }
        members.push((artifact.member.clone(), member));
        artifacts.push(artifact);
    }
    let (build, target) = (manifest.build.clone(), target.triple.to_owned());
    Ok(packed(&AotManifest { format: FORMAT, build, target, engine, artifacts }, &members)?.0)
}

/// The engine that the main module of a target was compiled for.
pub(super) fn engine_of(output: &Path) -> Result<Engine> {
    Ok(Record::read(&output.join(format!("{MAIN}.json")))?.engine())
}

/// The portable payloads, of every part.
pub(crate) fn assets(lock: &Lock, abi: u32, extensions: &[Extension], context: &mut StepContext<'_>) -> Result<()> {
    let mut all = Files::new();
    walk(&context.part(&needs::share()?)?, "", &mut all)?;
    let share = tar_of(&all)?;
    let template = context.output_of(&id::template()?)?;
    let read = |name: &str| files::read(&template.join(name));

    let digest = context.output_of(&id::image()?)?.join(IMAGE_DIGEST);
    let build = this_build(extensions, context)?;
    let empty = Common { lock, build: &build, abi, image: files::text(&digest)? }.manifest();
    for part in Part::all() {
        let mut manifest = empty.clone();
        let mut archives = Archives::default();
        if part == Part::Server {
            archives.add("share", share.len(), compress(&share)?, vec![]);
            archives.add("template", read(TEMPLATE)?.len(), read(PACKED)?, vec![]);
            for (name, path) in modules::list(&context.output_of(&id::programs()?)?)? {
                manifest.programs.push(Program { name, wasm_sha256: Fingerprint::of_file(&path)?.to_string() });
            }
        }
        for extension in extensions.iter().filter(|extension| !extension.is_server() && extension.part() == part) {
            let (described, files) = installed(extension, context)?;
            for (path, source) in &files {
                if let Some(other) = all.insert(path.clone(), source.clone()) {
                    return Err(Error::new(format!("two builds install {path}; one of them is {}", other.display())));
                }
            }
            archives.add_extension(&extension.name, &files)?;
            manifest.extensions.push(described);
        }
        for (name, path) in modules::list(&context.part(&needs::shipped()?)?)? {
            let owner = extensions.iter().find(|extension| extension.modules.contains(&name));
            if owner.map_or(Part::Server, Extension::part) == part {
                manifest.modules.push(Module {
                    path: (name != MAIN).then(|| format!("{MODULES}/{name}.so")),
                    wasm_sha256: Fingerprint::of_file(&path)?.to_string(),
                    extension: owner.filter(|owner| !owner.is_server()).map(|owner| owner.name.clone()),
                    name,
                });
            }
        }
        manifest.archives = archives.described;
        write(context, part, &manifest, &archives.members)?;
    }
    Ok(())
}

/// An extension as it was installed: what its control files say, and its share files.
fn installed(extension: &Extension, context: &StepContext<'_>) -> Result<(manifest::Extension, Files)> {
    let failed = || format!("the extension {} cannot be packed", extension.name);
    let install = context.output_of(&id::extension(&extension.name)?)?.join("install");
    let files = owned(&install).context(failed)?;
    let described = control::installed(&install).and_then(|found| describe(extension, found)).context(failed)?;
    Ok((described, files))
}

/// An extension with what its control files say, which must be the extensions that its file names.
fn describe(extension: &Extension, found: Vec<manifest::Created>) -> Result<manifest::Extension> {
    let names: Vec<&str> = found.iter().map(|created| created.name.as_str()).collect();
    let mut expected: Vec<&str> = extension.creates.iter().map(String::as_str).collect();
    expected.sort_unstable();
    if names != expected {
        let (names, expected) = (names.join(", "), expected.join(", "));
        return Err(Error::new(format!("its control files are those of [{names}], and it creates [{expected}]"))
            .repair("correct `creates` in its file in assets/extensions"));
    }
    Ok(manifest::Extension {
        name: extension.name.clone(),
        license: extension.license.clone(),
        creates: found,
        preload: extension.preload.clone(),
    })
}

/// The payloads of one target, of every part; nothing where the compiler refused it.
pub(crate) fn aot(target: Target, extensions: &[Extension], context: &mut StepContext<'_>) -> Result<()> {
    let mut compiled = BTreeMap::new();
    for (unit, modules) in units(extensions) {
        let output = context.output_of(&id::aot(target.triple, &unit)?)?;
        compiled.extend(modules.into_iter().map(|name| (name, output.clone())));
    }
    for program in PROGRAMS {
        let output = context.output_of(&id::aot_program(target.triple, program)?)?;
        compiled.insert((*program).to_owned(), output);
    }
    for output in compiled.values() {
        if let Outcome::Refused(reason) = outcome(output)? {
            context.note(&format!("{}: {reason}", target.triple))?;
            let path = context.out.join("refused.txt");
            return files::write(&path, reason);
        }
    }
    let mut wasm = modules::list(&context.part(&needs::shipped()?)?)?;
    wasm.extend(modules::list(&context.output_of(&id::programs()?)?)?);
    let mut engine: Option<Engine> = None;
    let mut packed = Vec::new();
    for (name, wasm) in wasm {
        let output =
            compiled.get(&name).ok_or_else(|| Error::new(format!("{}: no step has compiled {name}", target.triple)))?;
        let (artifact, member, found) = artifact(target, &name, &wasm, output)?;
        if engine.as_ref().is_some_and(|known| *known != found) {
            return Err(Error::new(format!(
                "{}: {name} was compiled with other settings than the modules before it",
                target.triple
            )));
        }
        engine = Some(found);
        let owner = extensions.iter().find(|extension| extension.modules.contains(&name));
        packed.push((owner.map_or(Part::Server, Extension::part), artifact, member));
    }
    let engine = engine.ok_or_else(|| Error::new(format!("{}: there are no artifacts", target.triple)))?;
    let build = this_build(extensions, context)?.to_string();
    for part in Part::all() {
        let own = packed.iter().filter(|(owner, ..)| *owner == part);
        let (artifacts, members): (_, Vec<_>) =
            own.map(|(_, artifact, member)| (artifact.clone(), (artifact.member.clone(), member.clone()))).unzip();
        let (build, engine) = (build.clone(), engine.clone());
        let manifest = AotManifest { format: FORMAT, build, target: target.triple.to_owned(), engine, artifacts };
        write(context, part, &manifest, &members)?;
    }
    Ok(())
}

/// The artifact of a module or program, compressed, and the engine that it is for. The record of
/// the compiler must be that of these bytes.
fn artifact(target: Target, name: &str, wasm: &Path, output: &Path) -> Result<(Artifact, Vec<u8>, Engine)> {
    let record = Record::read(&output.join(format!("{name}.json")))?;
    let bytes = files::read(&output.join(format!("{name}.aot")))?;
    let wasm_sha256 = Fingerprint::of_file(wasm)?.to_string();
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
    let member = format!("{name}.aot.zst");
    let packed = files::read(&output.join(&member))?;
    let artifact = Artifact { name: name.to_owned(), wasm_sha256, member, sha256, size: bytes.len() as u64 };
    Ok((artifact, packed, record.engine()))
}

/// What the AOT compiler records about an artifact.
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
        let text = files::text(path)?;
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

/// Adds the files below a directory, by their path below it after a prefix.
fn walk(directory: &Path, prefix: &str, files: &mut Files) -> Result<()> {
    for (name, path) in children(directory)? {
        let relative = format!("{prefix}{name}");
        if path.is_dir() {
            walk(&path, &format!("{relative}/"), files)?;
        } else {
            files.insert(relative, path);
        }
    }
    Ok(())
}

/// The share files of an extension, by their path below the server's share directory: everything
/// that its installation created in an empty directory, without the modules and what is not
/// shipped.
fn owned(install: &Path) -> Result<Files> {
    let mut all = Files::new();
    walk(install, "", &mut all)?;
    let mut files = Files::new();
    for (path, source) in all {
        let below = |directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        if let Some(name) = path.strip_prefix(SHARE).and_then(|rest| rest.strip_prefix('/')) {
            files.insert(name.to_owned(), source);
        } else if !(DROPPED.iter().any(|directory| below(directory)) || below(MODULES) && path.ends_with(".so")) {
            return Err(Error::new(format!("its install makes {path}, which has no place in a payload"))
                .repair(format!("have it installed below /{SHARE}, or say in payload.rs that users do not need it")));
        }
    }
    Ok(files)
}

fn tar_of(files: &Files) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, source) in files {
        let bytes = files::read(source)?;
        append(&mut archive, path, &bytes)?;
    }
    archive.into_inner().context(|| "cannot finish an archive".into())
}

/// The files of a tar, and where their bytes are.
fn places(tar: &[u8]) -> Result<Vec<manifest::File>> {
    let unreadable = || "cannot read an archive again".to_owned();
    let mut places = Vec::new();
    for entry in tar::Archive::new(tar).entries().context(unreadable)? {
        let entry = entry.context(unreadable)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        places.push(manifest::File(path, entry.raw_file_position(), entry.size()));
    }
    Ok(places)
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(0o644);
    header.set_mtime(SOURCE_DATE_EPOCH);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).context(|| format!("cannot pack {path}"))
}

/// The shipped form of some bytes.
pub(crate) fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(bytes, LEVEL).context(|| "cannot compress".into())
}

/// A manifest and its members in one tar archive, and the manifest's bytes.
fn packed(manifest: &impl serde::Serialize, members: &[(String, Vec<u8>)]) -> Result<(Vec<u8>, Vec<u8>)> {
    let mut json = serde_json::to_vec_pretty(manifest).context(|| "cannot write the manifest".into())?;
    json.push(b'\n');
    let manifest = [(MANIFEST.to_owned(), json.clone())];
    Ok((archive_of(manifest.iter().chain(members))?, json))
}

/// Files in one tar archive, by name.
pub(super) fn archive_of<'a>(files: impl IntoIterator<Item = &'a (String, Vec<u8>)>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        append(&mut archive, name, bytes)?;
    }
    archive.into_inner().context(|| "cannot finish an archive".into())
}

fn write(
    context: &StepContext<'_>,
    part: Part,
    manifest: &impl serde::Serialize,
    members: &[(String, Vec<u8>)],
) -> Result<()> {
    let (payload, json) = packed(manifest, members)?;
    let directory = context.out.join(part.name());
    files::make_directory(&directory)?;
    for (name, bytes) in [(PAYLOAD, &payload), (MANIFEST, &json)] {
        files::write(&directory.join(name), bytes)?;
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_extension_owns_what_its_install_makes_whatever_the_layout() {
        let install = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = install.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        };
        for name in [
            "usr/share/postgresql/extension/unaccent.control",
            "usr/share/postgresql/extension/unaccent--1.1.sql",
            "usr/share/postgresql/tsearch_data/unaccent.rules",
            "usr/share/postgresql/other/name",
            "usr/lib/postgresql/unaccent.so",
            "usr/include/postgresql/server/extension/unaccent/x.h",
            "usr/share/doc/postgresql/extension/unaccent.example",
            "usr/bin/tool",
        ] {
            make(name);
        }
        insta::assert_snapshot!(owned(install.path()).unwrap().into_keys().collect::<Vec<_>>().join("\n"), @"
        extension/unaccent--1.1.sql
        extension/unaccent.control
        other/name
        tsearch_data/unaccent.rules
        ");
        make("usr/libexec/tool");
        insta::assert_snapshot!(owned(install.path()).unwrap_err(), @"
        its install makes usr/libexec/tool, which has no place in a payload
          repair: have it installed below /usr/share/postgresql, or say in payload.rs that users do not need it
        ");
        fs::remove_file(install.path().join("usr/libexec/tool")).unwrap();
        make("usr/share/postgresql-more/x");
        assert!(owned(install.path()).unwrap_err().to_string().contains("usr/share/postgresql-more/x"));
    }
}
