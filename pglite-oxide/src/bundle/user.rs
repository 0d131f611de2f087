//! Bundles: files with extensions that are not part of this crate, made by `cargo xtask extension
//! build`. It owns the form of such a file, and which payload a process has with which bundles.
//!
//! A bundle is a tar archive. Its member `files.tar` is a portable part of a payload and
//! `TRIPLE.tar` the same part's code for a target, both in the format of `manifest`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::{Damage, MODULE_DIRECTORY, Payload, Sound, damaged};
use crate::error::{Error, ErrorKind, Result};
use crate::wasm::{artifact, engine};

/// The member with the portable part.
const FILES: &str = "files.tar";

/// Largest bundle, and largest unpacked archive or artifact in one, in bytes. The main module of
/// PostgreSQL has 25 MB.
const SIZE_MAX: u64 = 1 << 30;

/// What makes a bundle.
const REPAIR: &str = "build the bundle with `cargo xtask extension build` of this program's version of pglite-oxide";

/// Bundles and payloads that this process has used, by the SHA-256 of the files. They stay as long
/// as the process runs: loaded code is never unloaded.
#[derive(Default)]
struct Known {
    bundles: HashMap<String, &'static [u8]>,
    payloads: HashMap<BTreeSet<String>, &'static Payload>,
}

/// The payload of this build with what these bundles contain.
///
/// # Errors
/// [`ErrorKind::Io`] if one cannot be read; [`ErrorKind::Payload`] if one is no bundle, is damaged,
/// was made for another build or another machine, or contains what the program or another one of
/// them has too.
pub(crate) fn with_bundles(paths: &[PathBuf]) -> Result<&'static Payload> {
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let embedded = super::embedded()?;
    if paths.is_empty() {
        return Ok(embedded);
    }
    let mut found: Vec<(String, Vec<u8>, &Path)> = Vec::new();
    for path in paths {
        let failed = |cause| Error::new(ErrorKind::Io, format!("cannot read {}", named(path))).with_cause(cause);
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(SIZE_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
        if bytes.len() as u64 > SIZE_MAX {
            let message = format!("{} is larger than {} MiB; {REPAIR}", named(path), SIZE_MAX >> 20);
            return Err(Error::new(ErrorKind::Payload, message));
        }
        let sha256 = artifact::sha256(&bytes);
        if !found.iter().any(|(other, ..)| *other == sha256) {
            found.push((sha256, bytes, path));
        }
    }
    let mut known = KNOWN.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let key: BTreeSet<String> = found.iter().map(|(sha256, ..)| sha256.clone()).collect();
    if let Some(payload) = known.payloads.get(&key) {
        return Ok(payload);
    }
    // Unpacked once for all: see `Payload::copy`.
    embedded.template()?;
    let mut all = embedded.copy();
    for (sha256, bytes, path) in found {
        let named = named(path);
        let refused = |damage: Damage| damage.of(&format!("{named} cannot be used"));
        // What is no bundle at all is not kept in memory.
        split(&bytes).map_err(refused)?;
        let bytes: &'static [u8] = known.bundles.entry(sha256).or_insert_with(|| bytes.leak());
        add(&mut all, bytes).map_err(refused)?;
    }
    let payload: &'static Payload = Box::leak(Box::new(all));
    known.payloads.insert(key, payload);
    Ok(payload)
}

/// Adds the contents of a bundle to a payload that has unpacked nothing.
pub(super) fn add(all: &mut Payload, bytes: &'static [u8]) -> Sound<()> {
    let (files, code) = split(bytes)?;
    let part = Payload::part(&bytes[files], &bytes[code])?;
    fits(all, &part)?;
    // A damaged one is found here, where the bundle can be named.
    for archive in &part.manifest.archives {
        part.archive(archive)?;
    }
    for artifact in &part.artifacts {
        artifact.verified_bytes().map_err(|error| damaged(&error.to_string()))?;
    }
    all.add(part);
    // Whether its files fit: two archives may have the same one.
    all.system()?;
    all.system = Mutex::default();
    Ok(())
}

fn named(path: &Path) -> String {
    format!("the bundle {}", path.display())
}

/// Where the portable part and the code for this machine are.
fn split(tar: &[u8]) -> Sound<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let unreadable = |cause: std::io::Error| damaged(&format!("it is no bundle; {REPAIR}")).with_cause(cause);
    let mut members = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries().map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let range = super::range(&entry, tar.len()).ok_or_else(|| damaged("it is cut off"))?;
        members.insert(String::from_utf8_lossy(&entry.path_bytes()).into_owned(), range);
    }
    let files = members.remove(FILES).ok_or_else(|| damaged(&format!("it is no bundle; {REPAIR}")))?;
    let triple = engine::host_triple();
    let code = members.remove(&format!("{triple}.tar")).ok_or_else(|| {
        let others: Vec<&str> = members.keys().filter_map(|name| name.strip_suffix(".tar")).collect();
        let others = if others.is_empty() { "no machine".to_owned() } else { others.join(", ") };
        damaged(&format!("it has code for {others} and not for {triple}; build it with `--target {triple}` too"))
    })?;
    Ok((files, code))
}

/// Whether a part can be added: it is of the same build, has extensions only, and nothing that is
/// there already.
fn fits(all: &Payload, part: &Payload) -> Sound<()> {
    let (ours, theirs) = (&all.manifest.build, &part.manifest.build);
    if ours != theirs {
        return Err(damaged(&format!("it was made for build {theirs}, and this program has build {ours}; {REPAIR}")));
    }
    if !part.manifest.programs.is_empty() {
        return Err(damaged(&format!("it contains programs; {REPAIR}")));
    }
    for module in &part.manifest.modules {
        if module.path.as_ref() != Some(&format!("{MODULE_DIRECTORY}/{}.so", module.name)) {
            return Err(damaged(&format!("its module {} is not where modules are; {REPAIR}", module.name)));
        }
        if all.manifest.modules.iter().any(|other| other.name == module.name) {
            return Err(there_already(&format!("a module {}", module.name)));
        }
        // The loader finds code by the hash.
        let others = all.manifest.modules.iter().chain(&part.manifest.modules);
        if others.filter(|other| other.wasm_sha256 == module.wasm_sha256).count() > 1
            || all.manifest.modules.iter().any(|other| other.wasm_sha256 == module.wasm_sha256)
        {
            return Err(there_already(&format!("the code of the module {}, under another name", module.name)));
        }
        if module.wasm_sha256.len() != 64 || !module.wasm_sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(damaged(&format!("its module {} has no hash; {REPAIR}", module.name)));
        }
    }
    for archive in &part.manifest.archives {
        if archive.files.is_empty() || archive.unpacked > SIZE_MAX {
            return Err(damaged(&format!("its archive {} has no list of files, or no size; {REPAIR}", archive.name)));
        }
        if all.members.contains_key(&archive.member) {
            return Err(there_already(&format!("an archive {}", archive.name)));
        }
    }
    if let Some(artifact) = part.artifacts.iter().find(|artifact| artifact.size > SIZE_MAX) {
        return Err(damaged(&format!("its artifact {} is too large; {REPAIR}", artifact.name)));
    }
    let created = |payload: &Payload| -> Vec<String> {
        let sources = payload.manifest.extensions.iter();
        let names = sources.flat_map(|source| match &source.creates[..] {
            [] => vec![source.name.clone()],
            creates => creates.iter().map(|created| created.name.clone()).collect(),
        });
        names.collect()
    };
    let there = created(all);
    match created(part).into_iter().find(|name| there.contains(name)) {
        Some(name) => Err(there_already(&format!("an extension {name}"))),
        None => Ok(()),
    }
}

fn there_already(what: &str) -> Damage {
    damaged(&format!(
        "this program or another bundle has {what} already; leave one of them out, or rename yours and build it again"
    ))
}
