//! `sources check`: compares the lock with everything else in the checkout that states a version
//! and, on request, with a mirror. Reading the lock has already validated its form.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

use cargo_lock::Lockfile;

use super::archive::{SOURCES, Suite};
use super::fetch;
use super::index::{self, Original};
use super::lock::{Artifact, Lock};
use super::mirror::Mirrors;
use super::recipe::{Recipe, Root};
use super::update::source_package;
use super::version;
use crate::assets::blocked::Blocked;
use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::paths::Paths;

/// Crates whose versions the lock states, because the artifacts depend on them.
const ENGINE_CRATES: [&str; 3] = ["wasmer", "wasmer-compiler-llvm", "wasmer-wasix"];

/// Compilers the lock names by their own version, and the package of the image they come from.
const PACKAGED: [(&str, &str); 2] = [("binaryen", "binaryen"), ("llvm", "llvm-22-dev")];

/// Compares the lock with the recipes, Cargo.toml and Cargo.lock; returns every difference at once.
pub(crate) fn offline(paths: &Paths, lock: &Lock) -> Result<()> {
    let mut problems = Vec::new();
    for root in Root::ALL {
        let (file, target) = (root.recipe_path(), root.target());
        for missing in Recipe::read(&paths.root, root)?.missing_from(lock) {
            problems.push(format!("{file} wants {missing}: expected it in sources.lock, found no such entry (run `cargo xtask sources update {target}`)"));
        }
    }
    problems.extend(packaged(lock));
    let manifest = read_toml(&paths.root.join("Cargo.toml"))?;
    let cargo_lock = Lockfile::load(paths.root.join("Cargo.lock")).context(|| "cannot read Cargo.lock".into())?;
    problems.extend(declared(lock, &manifest, &cargo_lock));
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!("sources.lock does not agree with the checkout:\n    {}", problems.join("\n    ")))
        .repair("pin again with `cargo xtask sources update image`, or correct the [[toolchain]] entry or the manifest named above"))
}

/// Asks a mirror for each file of the lock without fetching it.
pub(crate) fn online(lock: &Lock, mirrors: &Mirrors) -> Result<()> {
    let client = fetch::client();
    let problems = Mutex::new(Vec::new());
    let packages = lock.packages.iter().chain(&lock.native).map(|p| &p.artifact);
    let all: Vec<&Artifact> = packages.chain(&lock.archives).collect();
    fetch::parallel(&all, |artifact| {
        let mut reasons = Vec::new();
        for url in mirrors.urls(&artifact.path) {
            match head(&client, &url, artifact.size) {
                Ok(()) => return Ok(()),
                Err(reason) => reasons.push(format!("{url}: {reason}")),
            }
        }
        let problem = format!("{} {}: {}; {}", artifact.name, artifact.version, reasons.join("; "), artifact.repin());
        problems.lock().unwrap_or_else(|e| e.into_inner()).push(problem);
        Ok(())
    })?;
    let mut problems = problems.into_inner().unwrap_or_else(|e| e.into_inner());
    problems.sort();
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::new(format!(
        "{} of {} files are not on the mirrors:\n    {}",
        problems.len(),
        all.len(),
        problems.join("\n    ")
    ))
    .repair("pin them again, or name a mirror that still has them with `--debian-mirror`"))
}

/// Newer releases than the pinned source archives in the suites' indexes, of the same major
/// version, and whether the mirrors serve them. An index may name an archive that no mirror has
/// yet.
pub(crate) fn newer(paths: &Paths, lock: &Lock, mirrors: &Mirrors) -> Result<Vec<String>> {
    let client = fetch::client();
    let mut indexes: BTreeMap<&str, String> = BTreeMap::new();
    let mut lines = Vec::new();
    for archive in &lock.archives {
        let suite = archive.suite.as_str();
        if let Entry::Vacant(unread) = indexes.entry(suite) {
            unread.insert(Suite::open(paths, mirrors, suite)?.index(SOURCES)?);
        }
        let originals = index::originals(&indexes[suite], source_package(&archive.path))?;
        let Some(newest) = newest_of_major(&archive.version, &originals) else { continue };
        let mut reasons = Vec::new();
        let served = mirrors.urls(&newest.path).any(|url| match head(&client, &url, newest.size) {
            Ok(()) => true,
            Err(reason) => {
                reasons.push(format!("{url}: {reason}"));
                false
            }
        });
        lines.push(newer_line(archive, version::upstream(&newest.version), served, &reasons));
    }
    Ok(lines)
}

/// Extensions that are not built because no mirror serves their source, and which one serves now.
pub(crate) fn available(paths: &Paths, lock: &Lock, blocked: &[Blocked], mirrors: &Mirrors) -> Result<Vec<String>> {
    let client = fetch::client();
    let mut lines = Vec::new();
    let suites: BTreeSet<&str> = lock.archives.iter().map(|archive| archive.suite.as_str()).collect();
    for suite in suites {
        let sources = Suite::open(paths, mirrors, suite)?.index(SOURCES)?;
        for Blocked { name, packages, .. } in blocked {
            for package in packages {
                let mut served = Vec::new();
                for original in index::originals(&sources, package)? {
                    if mirrors.urls(&original.path).any(|url| head(&client, &url, original.size).is_ok()) {
                        served.push(version::upstream(&original.version).to_owned());
                    }
                }
                if !served.is_empty() {
                    let versions = served.join(", ");
                    lines.push(format!(
                        "{name} is in assets/blocked.toml, and {package} {versions} is served ({suite}): build it"
                    ));
                }
            }
        }
    }
    Ok(lines)
}

/// The newest archive with a version larger than the pinned one and the same major version.
fn newest_of_major<'a>(pinned: &str, originals: &'a [Original]) -> Option<&'a Original> {
    let major = |version: &str| version.split('.').next().unwrap_or_default().to_owned();
    originals
        .iter()
        .filter(|o| {
            let version = version::upstream(&o.version);
            major(version) == major(pinned) && version::compare(version, pinned).is_gt()
        })
        .max_by(|a, b| version::compare(&a.version, &b.version))
}

fn newer_line(archive: &Artifact, version: &str, served: bool, reasons: &[String]) -> String {
    let Artifact { name, version: pinned, suite, .. } = archive;
    if served {
        format!("{name} {version} is out ({suite}), {pinned} is pinned: run `cargo xtask sources update {name}`")
    } else {
        format!(
            "{name} {version} is out ({suite}), {pinned} is pinned: its archive is not served ({}); try again \
             later, or name a mirror that has it with `--debian-mirror`",
            reasons.join("; ")
        )
    }
}

fn head(client: &ureq::Agent, url: &str, size: u64) -> std::result::Result<(), String> {
    let response = client.head(url).call().map_err(|e| e.to_string())?;
    if !response.status().is_success() {
        return Err(format!("the mirror answered {}", response.status().as_u16()));
    }
    let length: Option<u64> =
        response.headers().get("content-length").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    match length {
        Some(found) if found != size => Err(format!("expected {size} bytes, found {found}")),
        _ => Ok(()),
    }
}

/// Compilers whose package in the image has another version than the lock says.
fn packaged(lock: &Lock) -> Vec<String> {
    let mut problems = Vec::new();
    for (tool, package) in PACKAGED {
        let stated = lock.toolchain(tool).map_or("none", |t| t.version.as_str());
        let found = lock.package(package).map_or("none", |p| version::upstream(&p.artifact.version));
        if stated != found || stated == "none" {
            problems
                .push(format!("[[toolchain]] {tool}: expected {found} as package {package} has it, found {stated}"));
        }
    }
    problems
}

/// Differences from what Cargo.toml asks for and Cargo.lock has.
fn declared(lock: &Lock, manifest: &toml::Table, cargo_lock: &Lockfile) -> Vec<String> {
    let mut problems = Vec::new();
    let workspace = manifest.get("workspace").and_then(|w| w.as_table());
    let stated = |name: &str| lock.toolchain(name).map_or("none", |t| t.version.as_str());
    let rust = workspace.and_then(|w| w.get("package")?.get("rust-version")?.as_str()).unwrap_or("none");
    if stated("rust") != rust && !stated("rust").starts_with(&format!("{rust}.")) {
        problems.push(format!("[[toolchain]] rust: expected {rust} as Cargo.toml has it, found {}", stated("rust")));
    }
    for name in ENGINE_CRATES {
        let stated = stated(name);
        let wanted = workspace.and_then(|w| {
            let dependency = w.get("dependencies")?.get(name)?;
            dependency.as_str().or_else(|| dependency.get("version")?.as_str())
        });
        if wanted != Some(&format!("={stated}")) {
            let wanted = wanted.unwrap_or("none");
            problems.push(format!(
                "Cargo.toml: {name}: expected version \"={stated}\" as sources.lock has it, found {wanted}"
            ));
        }
        let locked: Vec<_> =
            cargo_lock.packages.iter().filter(|p| p.name.as_str() == name).map(|p| p.version.to_string()).collect();
        if locked != [stated] {
            let locked = if locked.is_empty() { "none".to_owned() } else { locked.join(" and ") };
            problems
                .push(format!("Cargo.lock: {name}: expected version {stated} as sources.lock has it, found {locked}"));
        }
    }
    problems
}

fn read_toml(path: &Path) -> Result<toml::Table> {
    let text = files::text(path)?;
    text.parse().context(|| format!("{} is not TOML", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::lock::{Role, Toolchain};

    #[test]
    fn versions_that_disagree_are_all_named() {
        let toolchain = |name: &str, version: &str| Toolchain {
            name: name.to_owned(),
            version: version.to_owned(),
            role: Role::Engine,
        };
        let lock = Lock {
            toolchains: vec![
                toolchain("rust", "1.95.0"),
                toolchain("wasmer", "7.4.2"),
                toolchain("wasmer-compiler-llvm", "7.4.2"),
                toolchain("wasmer-wasix", "0.704.1"),
            ],
            ..Lock::default()
        };
        let manifest: toml::Table =
            "[workspace.package]\nrust-version = \"1.95\"\n[workspace.dependencies]\nwasmer = \"=7.4.2\"\n\
            wasmer-compiler-llvm = { version = \"7.4.2\" }\nwasmer-wasix = { version = \"=0.704.2\" }\n"
                .parse()
                .unwrap();
        let cargo_lock: Lockfile = "[[package]]\nname = \"wasmer\"\nversion = \"7.4.2\"\n[[package]]\nname = \"wasmer-wasix\"\nversion = \"0.704.1\"\n"
            .parse()
            .unwrap();
        insta::assert_snapshot!(declared(&lock, &manifest, &cargo_lock).join("\n"), @r#"
        Cargo.toml: wasmer-compiler-llvm: expected version "=7.4.2" as sources.lock has it, found 7.4.2
        Cargo.lock: wasmer-compiler-llvm: expected version 7.4.2 as sources.lock has it, found none
        Cargo.toml: wasmer-wasix: expected version "=0.704.1" as sources.lock has it, found =0.704.2
        "#);
        let rust: toml::Table = "[workspace.package]\nrust-version = \"1.9\"\n".parse().unwrap();
        insta::assert_snapshot!(declared(&Lock { toolchains: vec![toolchain("rust", "1.95.0")], ..lock }, &rust, &cargo_lock)[0], @"[[toolchain]] rust: expected 1.9 as Cargo.toml has it, found 1.95.0");
    }

    #[test]
    fn newer_releases_of_the_same_major_version_are_found() {
        let original = |version: &str| Original {
            version: version.to_owned(),
            path: format!("pool/{version}"),
            size: 1,
            sha256: "0".repeat(64),
        };
        let all = ["17.9-1", "17.12-0+deb13u1", "17.11-1", "18.1-1"].map(original);
        assert_eq!(newest_of_major("17.11", &all).map(|o| o.path.as_str()), Some("pool/17.12-0+deb13u1"));
        assert_eq!(newest_of_major("17.12", &all), None);
        assert_eq!(newest_of_major("16.4", &all), None);
        assert_eq!(newest_of_major("1", &[original("17.1-1")]), None);
    }

    #[test]
    fn a_newer_release_is_told_with_what_to_do() {
        let archive = Artifact {
            name: "postgresql".to_owned(),
            version: "17.11".to_owned(),
            suite: "trixie".to_owned(),
            path: "pool/x".to_owned(),
            size: 1,
            sha256: "0".repeat(64),
            license: "PostgreSQL".to_owned(),
            role: Role::Guest,
        };
        insta::assert_snapshot!(newer_line(&archive, "17.12", true, &[]), @"postgresql 17.12 is out (trixie), 17.11 is pinned: run `cargo xtask sources update postgresql`");
        let reasons = ["m/pool/x: the mirror answered 404".to_owned()];
        insta::assert_snapshot!(newer_line(&archive, "17.12", false, &reasons), @"postgresql 17.12 is out (trixie), 17.11 is pinned: its archive is not served (m/pool/x: the mirror answered 404); try again later, or name a mirror that has it with `--debian-mirror`");
    }

    #[test]
    fn compilers_of_the_image_have_the_version_that_is_stated() {
        let package = |name: &str, version: &str| crate::sources::lock::Package {
            artifact: Artifact {
                name: name.to_owned(),
                version: version.to_owned(),
                suite: "trixie".to_owned(),
                path: "pool/x".to_owned(),
                size: 1,
                sha256: "0".repeat(64),
                license: "MIT".to_owned(),
                role: Role::Image,
            },
            architecture: "amd64".to_owned(),
        };
        let llvm =
            |version: &str| Toolchain { name: "llvm".to_owned(), version: version.to_owned(), role: Role::Compiler };
        let packages = vec![package("llvm-22-dev", "1:22.1.8-1~deb13u4"), package("binaryen", "120-4")];
        let mut lock = Lock { packages, toolchains: vec![llvm("22.1.7")], ..Lock::default() };
        insta::assert_snapshot!(packaged(&lock).join("\n"), @r"
        [[toolchain]] binaryen: expected 120 as package binaryen has it, found none
        [[toolchain]] llvm: expected 22.1.8 as package llvm-22-dev has it, found 22.1.7
        ");
        lock.toolchains = vec![llvm("22.1.8"), Toolchain { name: "binaryen".to_owned(), ..llvm("120") }];
        assert_eq!(packaged(&lock), Vec::<String>::new());
    }
}
