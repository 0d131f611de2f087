//! The payload of this build: PostgreSQL's compiled modules for this machine and the initial files
//! of a database. It owns finding, checking and unpacking them, once per process. The bytes are in
//! the internal crates, in the format of `manifest`.

pub(crate) mod manifest;
mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::bundle::manifest::{AotManifest, Archive, AssetsManifest, FORMAT};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::errno::Errno;
use crate::fs::{FileSystem, Image, ImageFs, Item, Later, Volume};
use crate::wasm::abi;
use crate::wasm::artifact::{self, Artifact, Needs, Source};
use crate::wasm::engine::{self, Modules};

/// Directory of the database inside the guest.
pub(crate) const PGDATA: &str = "/pgdata";

/// The command that makes a payload, for errors.
const REPAIR: &str = "in a checkout, `cargo xtask assets build` makes it; a published crate always carries it";

/// Time of every file of an image: 2025-01-01, in nanoseconds since 1970.
const IMAGE_TIME_NS: u64 = 1_735_689_600_000_000_000;

/// Mount points of archives in the guest, by name; all others contain share files.
const TEMPLATE: &str = "template";
const SHARE_DIRECTORY: &str = "usr/share/postgresql";
/// Where PostgreSQL looks for modules.
const MODULE_DIRECTORY: &str = "usr/lib/postgresql";

/// The extension that every database has.
const SERVER_EXTENSION: &str = "plpgsql";

/// First member of a payload.
const MANIFEST: &str = "manifest.json";

/// PostgreSQL and its files, as bytes in the program.
#[derive(Debug)]
pub(crate) struct Payload {
    manifest: AssetsManifest,
    /// Those of its parts.
    features: Vec<&'static str>,
    members: Members,
    artifacts: Vec<Artifact>,
    programs: Vec<Artifact>,
    modules: Mutex<Option<Arc<Modules>>>,
    system: Mutex<Option<Arc<Image>>>,
    template: Mutex<Option<Arc<Image>>>,
    /// Directories of the host that guests also see, by their absolute paths in the guest.
    mounts: Vec<(&'static str, Arc<dyn FileSystem>)>,
}

/// What is found in a payload, or what is wrong with it.
type Sound<T> = std::result::Result<T, Damage>;

/// Members of a payload by name.
type Members = BTreeMap<String, &'static [u8]>;

impl Payload {
    /// The modules, loaded by the first caller.
    pub(crate) fn modules(&self) -> Result<Arc<Modules>> {
        once(&self.modules, || {
            let mut artifacts = self.artifacts.clone();
            if let Some(needs) = artifacts.first().map(|main| main.needs.clone()) {
                artifacts.extend(self.absent().map(|(module, feature)| Artifact {
                    name: module.to_owned(),
                    wasm_sha256: absent_module(module),
                    sha256: absent_module(module),
                    size: 0,
                    needs: needs.clone(),
                    bytes: Source::Absent { repair: add_feature(feature) },
                }));
            }
            Modules::load(artifacts)
        })
    }

    /// Rejects the name of an extension that this build does not contain, or that requires one that
    /// this build does not contain.
    pub(crate) fn require_extension(&self, name: &str) -> Result<()> {
        for required in self.with_required(std::slice::from_ref(&name)) {
            if required != SERVER_EXTENSION && self.extensions(required).next().is_none() {
                let what = self.missing(required);
                let message = if required == name { what } else { format!("{name} requires {required}: {what}") };
                return Err(Error::new(ErrorKind::Config, message));
            }
        }
        Ok(())
    }

    /// Why there is no extension of this name, and what to do.
    fn missing(&self, name: &str) -> String {
        match crate::extensions::ALL.iter().find(|known| known.name() == name) {
            Some(known) if self.features.contains(&known.feature()) => {
                format!("this build does not contain the extension {name}; {REPAIR}")
            }
            Some(known) => {
                let repair = add_feature(known.feature());
                format!("this program does not contain the extension {name}: {repair}")
            }
            None => match crate::extensions::blocked(name) {
                Some(because) => format!(
                    "this crate does not have the extension {name}: {because}; if you have its source, \
                     `cargo xtask extension build` may make a bundle of it"
                ),
                None => {
                    let known: Vec<&str> = crate::extensions::ALL.iter().map(|known| known.name()).collect();
                    format!("there is no extension {name:?}; there are {}", known.join(", "))
                }
            },
        }
    }

    /// These extensions, and then those that they require.
    fn with_required<'a>(&'a self, names: &[&'a str]) -> Vec<&'a str> {
        let mut wanted = names.to_vec();
        let mut next = 0;
        while let Some(name) = wanted.get(next).copied() {
            next += 1;
            for extension in self.extensions(name) {
                let created = extension.creates.iter().filter(|created| created.name == name);
                let required = created.flat_map(|created| &created.requires).map(String::as_str);
                let new: Vec<&str> = required.filter(|name| !wanted.contains(name)).collect();
                wanted.extend(new);
            }
        }
        wanted
    }

    /// Whether CREATE EXTENSION makes this extension; others are only loaded.
    pub(crate) fn is_created(&self, name: &str) -> bool {
        name == SERVER_EXTENSION || self.extensions(name).any(|extension| !extension.creates.is_empty())
    }

    /// The modules that PostgreSQL must load before it starts, for these extensions and those that
    /// they require.
    pub(crate) fn preload<'a>(&'a self, names: &'a [String]) -> Vec<&'a str> {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut modules: Vec<&str> = Vec::new();
        for extension in self.with_required(&names).into_iter().flat_map(|name| self.extensions(name)) {
            let new = extension.preload.iter().map(String::as_str).filter(|module| !modules.contains(module));
            modules.extend(new.collect::<Vec<_>>());
        }
        modules
    }

    /// The source that has the extension of this name. If it is only loaded, its source has the
    /// same name.
    fn extensions<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a manifest::Extension> {
        let has = move |extension: &&manifest::Extension| match &extension.creates[..] {
            [] => extension.name == name,
            creates => creates.iter().any(|created| created.name == name),
        };
        self.manifest.extensions.iter().filter(has)
    }

    /// A client program, loaded by the first caller.
    pub(crate) fn program(&self, name: &str) -> Result<engine::Module> {
        let artifact = self.programs.iter().find(|program| program.name == name);
        engine::load(artifact.ok_or_else(|| damaged(&format!("there is no program {name}")))?)
    }

    /// A volume for a guest with this data directory. The other files come from the payload and are
    /// shared; a guest's changes there, for example in `/tmp`, are private and in memory.
    pub(crate) fn volume(&self, data: Arc<dyn FileSystem>) -> Result<Volume> {
        let volume = Volume::new(Arc::new(ImageFs::new(self.system()?))).mount(PGDATA, data);
        Ok(self.mounts.iter().fold(volume, |volume, (point, fs)| volume.mount(point, fs.clone())))
    }

    /// The data directory of a new database, unpacked by the first caller.
    pub(crate) fn template(&self) -> Result<Arc<Image>> {
        Ok(once(&self.template, || {
            let mut items = Vec::new();
            for archive in self.manifest.archives.iter().filter(|archive| archive.name == TEMPLATE) {
                unpack(&archive.name, self.archive(archive)?, "", &mut items)?;
            }
            image(items)
        })?)
    }

    /// Everything but the data directory, unpacked by the first caller.
    fn system(&self) -> Sound<Arc<Image>> {
        once(&self.system, || {
            let mut items = vec![(PGDATA.to_string(), Item::Directory), ("tmp".to_string(), Item::Directory)];
            let points = self.mounts.iter().map(|(point, _)| point.trim_start_matches('/'));
            items.extend(points.map(|point| (point.to_string(), Item::Directory)));
            for archive in self.manifest.archives.iter().filter(|archive| archive.name != TEMPLATE) {
                if archive.files.is_empty() {
                    unpack(&archive.name, self.archive(archive)?, SHARE_DIRECTORY, &mut items)?;
                } else {
                    self.list(archive, &mut items)?;
                }
            }
            for module in &self.manifest.modules {
                if let Some(path) = &module.path {
                    items.push((path.clone(), Item::File(artifact::placeholder(&module.wasm_sha256).into())));
                }
            }
            for (module, _) in self.absent() {
                let path = format!("{MODULE_DIRECTORY}/{module}.so");
                items.push((path, Item::File(artifact::placeholder(&absent_module(module)).into())));
            }
            image(items)
        })
    }

    /// The modules of the extensions that this program does not contain, each with the feature that
    /// would add it: a database may have been made by a program that has them.
    fn absent(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let known = crate::extensions::ALL.iter();
        let absent = known.filter(|extension| !self.features.contains(&extension.feature()));
        let there: BTreeSet<&str> = self.manifest.modules.iter().map(|module| module.name.as_str()).collect();
        let modules: BTreeMap<_, _> = absent
            .flat_map(|extension| extension.modules().iter().map(|module| (*module, extension.feature())))
            .filter(|(module, _)| !there.contains(module))
            .collect();
        modules.into_iter()
    }

    /// A payload of these parts, if each has its files and its modules for this machine.
    pub(crate) fn of_parts<'a>(parts: impl IntoIterator<Item = &'a Part>) -> Result<Self> {
        let (mut whole, mut features) = (Vec::new(), Vec::new());
        for Part { feature, files, code } in parts {
            let absent = || {
                let what = if feature.is_empty() { "no PostgreSQL" } else { "no extensions" };
                let of = if feature.is_empty() { String::new() } else { format!(" of the feature `{feature}`") };
                let message = format!("this build carries {what}{of} for this machine: {REPAIR}");
                Error::new(ErrorKind::Payload, message)
            };
            whole.push((files.ok_or_else(absent)?, code.ok_or_else(absent)?));
            features.push(*feature);
        }
        Ok(Self { features, ..Self::new(&whole)? })
    }

    /// Splits the parts of a payload, each the files and the code, and checks what can be checked
    /// without unpacking.
    fn new(parts: &[(&'static [u8], &'static [u8])]) -> Sound<Self> {
        let mut all: Option<Self> = None;
        for (files, code) in parts {
            let part = Self::part(files, code)?;
            let Some(all) = &mut all else {
                all = Some(part);
                continue;
            };
            if all.manifest.build != part.manifest.build {
                let (server, part) = (&all.manifest.build, &part.manifest.build);
                return Err(damaged(&format!(
                    "PostgreSQL of build {server} and extensions of build {part} do not belong together"
                )));
            }
            all.add(part);
        }
        all.ok_or_else(|| damaged("it has no parts"))
    }

    fn add(&mut self, part: Self) {
        self.manifest.add(part.manifest);
        self.members.extend(part.members);
        self.artifacts.extend(part.artifacts);
        self.programs.extend(part.programs);
    }

    fn part(files: &'static [u8], code: &'static [u8]) -> Sound<Self> {
        let (manifest, members): (AssetsManifest, _) = open("assets", files)?;
        let (compiled, code): (AotManifest, _) = open("compiled modules", code)?;
        if manifest.build != compiled.build {
            let (files, code) = (&manifest.build, &compiled.build);
            return Err(damaged(&format!(
                "files of build {files} and compiled modules of build {code} do not belong together"
            )));
        }
        if i64::from(manifest.abi) != i64::from(abi::VERSION) {
            let (found, expected) = (manifest.abi, abi::VERSION);
            return Err(damaged(&format!(
                "PostgreSQL was built for host interface version {found}, this crate has {expected}"
            )));
        }
        let (artifacts, programs) = describe(&manifest, compiled, &code)?;
        Ok(Self {
            manifest,
            features: Vec::new(),
            members,
            artifacts,
            programs,
            modules: Mutex::default(),
            system: Mutex::default(),
            template: Mutex::default(),
            mounts: Vec::new(),
        })
    }

    /// A payload with the same contents that has loaded and unpacked nothing but the template.
    fn copy(&self) -> Self {
        let Self { manifest, features, members, artifacts, programs, template, mounts, .. } = self;
        let template = template.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Self {
            manifest: manifest.clone(),
            features: features.clone(),
            members: members.clone(),
            artifacts: artifacts.clone(),
            programs: programs.clone(),
            modules: Mutex::default(),
            system: Mutex::default(),
            template: Mutex::new(template),
            mounts: mounts.clone(),
        }
    }

    /// The same with more modules, which the manifest does not name, and with directories of the
    /// machine that guests see at these absolute paths.
    pub(crate) fn extended(&self, modules: Vec<Artifact>, mounts: Vec<(&'static str, Arc<dyn FileSystem>)>) -> Self {
        let mut extended = self.copy();
        extended.manifest.modules.extend(modules.iter().map(|module| manifest::Module {
            name: module.name.clone(),
            path: Some(format!("{MODULE_DIRECTORY}/{}.so", module.name)),
            wasm_sha256: module.wasm_sha256.clone(),
            extension: None,
        }));
        extended.artifacts.extend(modules);
        Self { mounts, ..extended }
    }

    /// Adds the files of an archive that is unpacked when one of them is read.
    fn list(&self, archive: &Archive, items: &mut Vec<(String, Item)>) -> Sound<()> {
        let packed = Packed { archive: archive.clone(), frame: self.frame(archive)?, unpacked: OnceLock::new() };
        let packed = Arc::new(packed);
        for manifest::File(path, start, len) in &archive.files {
            let cut_off = || damaged(&format!("archive {} is cut off in {path}", archive.name));
            let end = start.checked_add(*len).filter(|end| *end <= archive.unpacked).ok_or_else(cut_off)?;
            let (start, end) = (usize::try_from(*start), usize::try_from(end));
            let (Ok(start), Ok(end)) = (start, end) else { return Err(cut_off()) };
            let file = PackedFile { packed: packed.clone(), range: start..end };
            items.push((format!("{SHARE_DIRECTORY}/{path}"), Item::Later(end - start, Arc::new(file))));
        }
        Ok(())
    }

    fn frame(&self, archive: &Archive) -> Sound<&'static [u8]> {
        let frame = self.members.get(&archive.member).copied();
        frame.ok_or_else(|| damaged(&format!("archive {}: there is no member {}", archive.name, archive.member)))
    }

    fn archive(&self, archive: &Archive) -> Sound<Bytes> {
        decompress(archive, self.frame(archive)?)
    }
}

/// The bytes of an archive, checked.
fn decompress(archive: &Archive, frame: &[u8]) -> Sound<Bytes> {
    let found = artifact::sha256(frame);
    if found != archive.sha256 {
        let (name, expected) = (&archive.name, &archive.sha256);
        return Err(damaged(&format!("archive {name}: expected SHA-256 {expected}, found {found}")));
    }
    let size = usize::try_from(archive.unpacked).unwrap_or(usize::MAX);
    let bytes = zstd::bulk::decompress(frame, size);
    bytes
        .map(Bytes::from)
        .map_err(|cause| damaged(&format!("archive {}: cannot unpack it", archive.name)).with_cause(cause))
}

/// An archive that is unpacked when one of its files is read.
#[derive(Debug)]
struct Packed {
    archive: Archive,
    frame: &'static [u8],
    /// `None` if it is damaged.
    unpacked: OnceLock<Option<Bytes>>,
}

/// One file of it.
#[derive(Debug)]
struct PackedFile {
    packed: Arc<Packed>,
    range: std::ops::Range<usize>,
}

impl Later for PackedFile {
    /// A damaged archive is an input/output error of the guest: no other code sees it.
    fn bytes(&self) -> std::result::Result<Bytes, Errno> {
        let Packed { archive, frame, unpacked } = &*self.packed;
        let whole = unpacked.get_or_init(|| decompress(archive, frame).ok()).as_ref().ok_or(Errno::IO)?;
        if self.range.end > whole.len() { Err(Errno::IO) } else { Ok(whole.slice(self.range.clone())) }
    }
}

pub(crate) use user::with_bundles;

/// The payload of this build.
pub(crate) fn embedded() -> Result<&'static Payload> {
    static EMBEDDED: OnceLock<Payload> = OnceLock::new();
    if let Some(payload) = EMBEDDED.get() {
        return Ok(payload);
    }
    let payload = Payload::of_parts(PARTS)?;
    Ok(EMBEDDED.get_or_init(|| payload))
}

/// What the program contains of a part of the payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    /// The feature that it is for; empty for PostgreSQL itself.
    pub(crate) feature: &'static str,
    files: Option<&'static [u8]>,
    /// The modules, compiled for this machine.
    code: Option<&'static [u8]>,
}

/// The parts of the payload in this program, PostgreSQL first.
pub(crate) const PARTS: &[Part] = &[
    Part { feature: "", files: pglite_oxide_assets::PAYLOAD, code: AOT },
    #[cfg(feature = "extensions-community")]
    Part {
        feature: "extensions-community",
        files: pglite_oxide_extensions_community::FILES,
        code: pglite_oxide_extensions_community::CODE,
    },
    #[cfg(feature = "extensions-contrib")]
    Part {
        feature: "extensions-contrib",
        files: pglite_oxide_extensions_contrib::FILES,
        code: pglite_oxide_extensions_contrib::CODE,
    },
    #[cfg(feature = "extensions-gpl")]
    Part {
        feature: "extensions-gpl",
        files: pglite_oxide_extensions_gpl::FILES,
        code: pglite_oxide_extensions_gpl::CODE,
    },
    #[cfg(feature = "extensions-icu")]
    Part {
        feature: "extensions-icu",
        files: pglite_oxide_extensions_icu::FILES,
        code: pglite_oxide_extensions_icu::CODE,
    },
    #[cfg(feature = "extensions-pgcrypto")]
    Part {
        feature: "extensions-pgcrypto",
        files: pglite_oxide_extensions_pgcrypto::FILES,
        code: pglite_oxide_extensions_pgcrypto::CODE,
    },
    #[cfg(feature = "extensions-postgis")]
    Part {
        feature: "extensions-postgis",
        files: pglite_oxide_extensions_postgis::FILES,
        code: pglite_oxide_extensions_postgis::CODE,
    },
    #[cfg(feature = "extensions-vector")]
    Part {
        feature: "extensions-vector",
        files: pglite_oxide_extensions_vector::FILES,
        code: pglite_oxide_extensions_vector::CODE,
    },
    #[cfg(feature = "extensions-xml")]
    Part {
        feature: "extensions-xml",
        files: pglite_oxide_extensions_xml::FILES,
        code: pglite_oxide_extensions_xml::CODE,
    },
];

/// The environment of the guest. It contains nothing of the program's environment.
pub(crate) fn environment() -> Vec<(String, String)> {
    [("TZ", "UTC"), ("PGTZ", "UTC")].map(|(key, value)| (key.to_string(), value.to_string())).to_vec()
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
const AOT: Option<&[u8]> = pglite_oxide_aot_x86_64_unknown_linux_gnu::PAYLOAD;
#[cfg(all(target_arch = "aarch64", target_os = "linux", target_env = "gnu"))]
const AOT: Option<&[u8]> = pglite_oxide_aot_aarch64_unknown_linux_gnu::PAYLOAD;
#[cfg(all(target_arch = "aarch64", target_os = "macos"))]
const AOT: Option<&[u8]> = pglite_oxide_aot_aarch64_apple_darwin::PAYLOAD;
#[cfg(all(target_arch = "x86_64", target_os = "windows", target_env = "msvc"))]
const AOT: Option<&[u8]> = pglite_oxide_aot_x86_64_pc_windows_msvc::PAYLOAD;
#[cfg(not(any(
    all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"),
    all(target_arch = "aarch64", target_os = "linux", target_env = "gnu"),
    all(target_arch = "aarch64", target_os = "macos"),
    all(target_arch = "x86_64", target_os = "windows", target_env = "msvc"),
)))]
const AOT: Option<&[u8]> = None;

/// The field that manifests of every format have.
#[derive(serde::Deserialize)]
struct AnyFormat {
    format: u32,
}

/// Splits a payload into its manifest and its other members. It seeks from one to the next: to read
/// them would bring all of the payload into memory, whatever a database uses of it.
fn open<T: DeserializeOwned>(what: &str, tar: &'static [u8]) -> Sound<(T, Members)> {
    let unreadable = |cause: std::io::Error| damaged(&format!("the {what} cannot be read")).with_cause(cause);
    let mut members = Members::new();
    for entry in tar::Archive::new(Cursor::new(tar)).entries_with_seek().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let bytes = range(&entry, tar.len()).map(|range| &tar[range]);
        members.insert(path, bytes.ok_or_else(|| damaged(&format!("the {what} are cut off")))?);
    }
    let manifest = members.get(MANIFEST).ok_or_else(|| damaged(&format!("the {what} have no {MANIFEST}")))?;
    let unreadable = |cause| damaged(&format!("{MANIFEST} of the {what} cannot be read")).with_cause(cause);
    // What the other fields are is the format's to say, so that it is judged before they are read.
    let AnyFormat { format } = serde_json::from_slice(manifest).map_err(unreadable)?;
    if format != FORMAT {
        return Err(damaged(&format!("the {what} have format {format}, this crate reads {FORMAT}")));
    }
    Ok((serde_json::from_slice(manifest).map_err(unreadable)?, members))
}

/// Matches compiled modules with the modules they were made from, and compiled programs with the
/// programs.
fn describe(manifest: &AssetsManifest, compiled: AotManifest, code: &Members) -> Sound<(Vec<Artifact>, Vec<Artifact>)> {
    let needs = Needs {
        target: compiled.target,
        wasmer_version: compiled.engine.wasmer,
        metadata_version: compiled.engine.artifact_version,
        cpu_features: compiled.engine.cpu_features.into_iter().collect(),
    };
    let mut by_name: BTreeMap<_, _> =
        compiled.artifacts.into_iter().map(|artifact| (artifact.name.clone(), artifact)).collect();
    let mut describe = |name: &str, wasm_sha256: &str| {
        let found = by_name.remove(name);
        let artifact = found.ok_or_else(|| damaged(&format!("module {name} was not compiled for this machine")))?;
        if artifact.wasm_sha256 != wasm_sha256 {
            let made = &artifact.wasm_sha256;
            return Err(damaged(&format!("artifact {name}: compiled from {made}, expected {wasm_sha256}")));
        }
        let bytes = code.get(&artifact.member);
        let bytes =
            bytes.ok_or_else(|| damaged(&format!("artifact {name}: there is no member {}", artifact.member)))?;
        Ok(Artifact {
            name: artifact.name,
            wasm_sha256: artifact.wasm_sha256,
            sha256: artifact.sha256,
            size: artifact.size,
            needs: needs.clone(),
            bytes: Source::Embedded(bytes),
        })
    };
    let modules = manifest.modules.iter().map(|module| describe(&module.name, &module.wasm_sha256));
    let modules = modules.collect::<Sound<_>>()?;
    let programs = manifest.programs.iter().map(|program| describe(&program.name, &program.wasm_sha256));
    Ok((modules, programs.collect::<Sound<_>>()?))
}

/// Adds the files and directories of a tar archive, below a directory, without copying their
/// contents.
fn unpack(name: &str, tar: Bytes, directory: &str, items: &mut Vec<(String, Item)>) -> Sound<()> {
    let unreadable = |cause: std::io::Error| damaged(&format!("archive {name} cannot be read")).with_cause(cause);
    for entry in tar::Archive::new(Cursor::new(tar.clone())).entries_with_seek().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = format!("{directory}/{}", String::from_utf8_lossy(&entry.path_bytes()));
        let item = match entry.header().entry_type() {
            tar::EntryType::Directory => Item::Directory,
            tar::EntryType::Regular => {
                let range =
                    range(&entry, tar.len()).ok_or_else(|| damaged(&format!("archive {name} is cut off in {path}")))?;
                Item::File(tar.slice(range))
            }
            other => {
                return Err(damaged(&format!("archive {name}: {path} is neither file nor directory but {other:?}")));
            }
        };
        items.push((path, item));
    }
    Ok(())
}

fn image(items: Vec<(String, Item)>) -> Sound<Image> {
    Image::new(items, IMAGE_TIME_NS)
        .map_err(|(path, errno)| damaged(&format!("{path} does not fit into the guest's files ({errno})")))
}

/// Where an entry's contents are in its archive.
fn range<R: std::io::Read>(entry: &tar::Entry<'_, R>, len: usize) -> Option<std::ops::Range<usize>> {
    let start = usize::try_from(entry.raw_file_position()).ok()?;
    let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
    (end <= len).then_some(start..end)
}

/// What a program without an extension can do.
fn add_feature(feature: &str) -> String {
    format!("add the feature `{feature}` of pglite-oxide")
}

/// In place of the hash of a module that this program does not contain.
fn absent_module(module: &str) -> String {
    format!("none, {module} is not in this program")
}

fn damaged(what: &str) -> Damage {
    Damage { what: what.to_owned(), cause: None }
}

/// What is wrong with a part of a payload. Which part it is of, the caller knows: what becomes an
/// [`Error`] by itself is in the program.
#[derive(Debug)]
struct Damage {
    what: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Damage {
    fn with_cause(self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// The error, with these words before what is wrong.
    fn of(self, whose: &str) -> Error {
        let error = Error::new(ErrorKind::Payload, format!("{whose}: {}", self.what));
        match self.cause {
            Some(cause) => error.with_cause(cause),
            None => error,
        }
    }
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Self {
        damage.of("the PostgreSQL in this program is damaged")
    }
}

/// The value of the slot, or the result of `make`, which is stored there. Concurrent callers wait
/// for the first; a failure leaves the slot empty.
fn once<T, E>(
    slot: &Mutex<Option<Arc<T>>>,
    make: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<Arc<T>, E> {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(value) = &*slot {
        return Ok(value.clone());
    }
    Ok(slot.insert(Arc::new(make()?)).clone())
}

#[cfg(test)]
mod tests;
