//! `sources update`: pins entries again from the mirrors' indexes, shows the difference, and then
//! writes. `archive.rs` fetches and verifies indexes, `resolve.rs` selects packages.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::archive::{SOURCES, Suite};
use super::fetch;
use super::index;
use super::license::{self, Copyright};
use super::lock::{Artifact, Lock, Package, Remains, Role};
use super::mirror::Mirrors;
use super::recipe::{Recipe, Root};
use super::resolve::Universe;
use super::version;
use crate::error::{Error, Result};
use crate::paths::Paths;

/// What to pin again.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `image` or `native` for all packages of the build image or of the native PostgreSQL, or the
    /// name of a source archive in sources.lock
    target: String,
    /// Write without asking
    #[arg(long)]
    yes: bool,
    /// Show the difference and write nothing
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// For a name that is not in sources.lock yet: the suite that has its source package
    #[arg(long)]
    suite: Option<String>,
    /// For a new name: the Debian source package whose upstream archive it is
    #[arg(long)]
    package: Option<String>,
    /// For a new name: its license
    #[arg(long)]
    license: Option<String>,
    #[command(flatten)]
    mirror: super::MirrorOption,
}

/// Runs the verb.
pub(crate) fn run(paths: &Paths, options: &Options) -> Result<()> {
    let (old, remains) = Lock::read_to_repin(&paths.lock(), &options.target)?;
    let mirrors = Mirrors::discover(&options.mirror.debian_mirror)?;
    let mut new = old.clone();
    let root = Root::ALL.into_iter().find(|root| root.target() == options.target);
    if let Some(root) = root {
        let packages = packages(paths, &mirrors, &old, root)?;
        match root {
            Root::Build => new.packages = packages,
            Root::Native => new.native = packages,
        }
    } else {
        let archive = archive(paths, &mirrors, &old, &remains, options)?;
        new.archives.retain(|a| a.name != archive.name);
        new.archives.push(archive);
    }
    new.sort();
    // An index's data is written only if the resulting lock is valid.
    let new = Lock::parse(&new.render()?)?;
    let difference = difference(&old, &new);
    for line in &difference {
        println!("{line}");
    }
    if difference.is_empty() && old.render()? == new.render()? {
        let packages = new.packages.len() + new.native.len();
        println!("sources.lock is up to date: {packages} packages, {} archives", new.archives.len());
        return Ok(());
    }
    if options.dry_run || !(options.yes || confirmed()?) {
        println!("sources.lock was not changed");
        return Ok(());
    }
    new.write(&paths.lock())?;
    println!("sources.lock written: {} differences", difference.len());
    Ok(())
}

/// The differences between two locks, by line: `+` added, `-` removed, `~` changed.
fn difference(old: &Lock, new: &Lock) -> Vec<String> {
    let all = |lock: &Lock| -> BTreeMap<(&'static str, String), Artifact> {
        let table = |table: &'static str, list: &[Package]| {
            list.iter().map(|p| ((table, p.artifact.name.clone()), p.artifact.clone())).collect::<Vec<_>>()
        };
        let packages = table("package", &lock.packages).into_iter().chain(table("native", &lock.native));
        let archives = lock.archives.iter().map(|a| (("source", a.name.clone()), a.clone()));
        packages.chain(archives).collect()
    };
    let (old, new) = (all(old), all(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut lines = Vec::new();
    for key in keys {
        let (table, name) = key;
        match (old.get(key), new.get(key)) {
            (None, Some(b)) => lines.push(format!("+ {table} {name} {} ({}, {} bytes)", b.version, b.suite, b.size)),
            (Some(a), None) => lines.push(format!("- {table} {name} {} ({})", a.version, a.suite)),
            (Some(a), Some(b)) if a != b => lines.push(format!("~ {table} {name}: {}", changes(a, b).join(", "))),
            _ => {}
        }
    }
    lines
}

fn changes(a: &Artifact, b: &Artifact) -> Vec<String> {
    let short = |hash: &str| hash.chars().take(12).collect::<String>();
    let (a_size, b_size) = (a.size.to_string(), b.size.to_string());
    let (a_hash, b_hash) = (short(&a.sha256), short(&b.sha256));
    let fields = [
        ("version", a.version.as_str(), b.version.as_str()),
        ("suite", &a.suite, &b.suite),
        ("role", a.role.as_str(), b.role.as_str()),
        ("path", &a.path, &b.path),
        ("size", &a_size, &b_size),
        ("sha256", &a_hash, &b_hash),
        ("license", &a.license, &b.license),
    ];
    fields.iter().filter(|(_, a, b)| a != b).map(|(field, a, b)| format!("{field} {a} -> {b}")).collect()
}

/// Resolves the packages of a recipe.
fn packages(paths: &Paths, mirrors: &Mirrors, old: &Lock, root: Root) -> Result<Vec<Package>> {
    let recipe = Recipe::read(&paths.root, root)?;
    let index = format!("main/binary-{}/Packages.xz", recipe.architecture);
    let suites: BTreeSet<_> = recipe.groups.iter().map(|g| g.suite.as_str()).collect();
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for suite in suites {
        let text = Suite::open(paths, mirrors, suite)?.index(&index)?;
        let universe = Universe::new(suite, index::binaries(&text)?);
        let groups: Vec<_> = recipe.groups.iter().filter(|g| g.suite == suite).collect();
        let names = |dependencies: bool| {
            groups.iter().filter(move |g| g.dependencies == dependencies).flat_map(|g| &g.packages).map(String::as_str)
        };
        let mut found = universe.closure(&names(true).collect::<Vec<_>>())?;
        for name in names(false) {
            found.push(universe.get(name)?);
        }
        for binary in found {
            let group = groups.iter().find(|g| g.packages.iter().any(|p| p == binary.name));
            let artifact = Artifact {
                name: binary.name.to_owned(),
                version: binary.version.to_owned(),
                suite: suite.to_owned(),
                path: binary.path.to_owned(),
                size: binary.size,
                sha256: binary.sha256.to_owned(),
                license: String::new(),
                role: recipe.role(group.copied()),
            };
            if let Some(other) = packages.get(binary.name)
                && other.artifact.suite != artifact.suite
            {
                return Err(Error::new(format!(
                    "package {}: expected it from one suite, found it in {} and {suite}",
                    binary.name, other.artifact.suite
                ))
                .repair(format!("set `dependencies = false` for one of the groups in {}", root.recipe_path())));
            }
            packages.insert(binary.name.to_owned(), Package { artifact, architecture: binary.architecture.to_owned() });
        }
    }
    let mut packages: Vec<_> = packages.into_values().collect();
    fill_licenses(paths, mirrors, old, &mut packages)?;
    Ok(packages)
}

/// Takes licenses from the old lock where the bytes are the same, and reads them from the package
/// where not.
fn fill_licenses(paths: &Paths, mirrors: &Mirrors, old: &Lock, packages: &mut [Package]) -> Result<()> {
    let known: BTreeMap<&str, &str> = old
        .packages
        .iter()
        .chain(&old.native)
        .map(|p| (p.artifact.sha256.as_str(), p.artifact.license.as_str()))
        .collect();
    let unknown: Vec<_> = packages.iter().filter(|p| !known.contains_key(p.artifact.sha256.as_str())).collect();
    let downloads = paths.downloads();
    // A package may share the documentation of another one, which is then needed as well.
    let wanted: Vec<_> =
        if unknown.is_empty() { vec![] } else { packages.iter().map(|p| fetch::Wanted::from(&p.artifact)).collect() };
    fetch::ensure_files(&downloads, &wanted, || Ok(mirrors.clone()))?;
    let read = std::sync::Mutex::new(BTreeMap::new());
    if !unknown.is_empty() {
        fetch::parallel(packages, |package| {
            let name = &package.artifact.name;
            let found = license::of_package(name, &downloads.join(&package.artifact.sha256))?;
            read.lock().unwrap_or_else(|e| e.into_inner()).insert(name.clone(), found);
            Ok(())
        })?;
    }
    let read = read.into_inner().unwrap_or_else(|e| e.into_inner());
    for package in packages {
        let artifact = &mut package.artifact;
        artifact.license = match known.get(artifact.sha256.as_str()) {
            Some(license) => (*license).to_owned(),
            None => follow(&read, &artifact.name),
        };
    }
    Ok(())
}

/// The licenses of a package, through the packages whose documentation it shares.
fn follow(read: &BTreeMap<String, Copyright>, name: &str) -> String {
    let mut name = name;
    // A chain longer than the set of packages is a cycle.
    for _ in 0..=read.len() {
        match read.get(name) {
            Some(Copyright::Licenses(license)) => return license.clone(),
            Some(Copyright::SameAs(other)) => name = other,
            Some(Copyright::None) | None => break,
        }
    }
    "see copyright file".to_owned()
}

/// Pins a source archive again: the newest upstream archive of its source package in its suite.
fn archive(paths: &Paths, mirrors: &Mirrors, old: &Lock, remains: &Remains, options: &Options) -> Result<Artifact> {
    let name = &options.target;
    let known = old.archive(name);
    let among = |root: &Root| root.packages(old).iter().any(|p| p.artifact.name == *name);
    if let Some(root) = Root::ALL.into_iter().find(among) {
        let target = root.target();
        return Err(Error::new(format!("{name} is a package of `{target}`; those are pinned together"))
            .repair(format!("run `cargo xtask sources update {target}`")));
    }
    let suite = options.suite.as_ref().or(known.map(|k| &k.suite)).or(remains.suite.as_ref());
    let path = known.map(|k| &k.path).or(remains.path.as_ref());
    let package = options.package.as_deref().or(path.map(|p| source_package(p)));
    let license = options.license.as_ref().or(known.map(|k| &k.license)).or(remains.license.as_ref());
    let (Some(suite), Some(package), Some(license)) = (suite, package, license) else {
        let names: Vec<_> = old.archives.iter().map(|a| a.name.as_str()).collect();
        return Err(Error::new(format!(
            "{name}: expected image, native or a source archive of sources.lock with suite, path and license ({}), found none",
            names.join(", ")
        ))
        .repair("pass --suite, --package and --license for a new entry or for one that lacks them"));
    };
    let text = Suite::open(paths, mirrors, suite)?.index(SOURCES)?;
    let newest = index::originals(&text, package)?.into_iter().max_by(|a, b| version::compare(&a.version, &b.version));
    let Some(original) = newest else {
        return Err(Error::new(format!(
            "{name}: expected a source package {package} with an upstream archive in suite {suite}, found none"
        ))
        .repair("correct --suite or --package"));
    };
    Ok(Artifact {
        name: name.clone(),
        version: version::upstream(&original.version).to_owned(),
        suite: suite.clone(),
        path: original.path,
        size: original.size,
        sha256: original.sha256,
        license: license.clone(),
        role: known.map_or(Role::Guest, |a| a.role),
    })
}

/// The source package a pool path belongs to: its last directory.
pub(super) fn source_package(path: &str) -> &str {
    path.rsplit('/').nth(1).unwrap_or_default()
}

fn confirmed() -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        println!("there is no terminal to ask: pass --yes to write this");
        return Ok(false);
    }
    print!("write sources.lock? [y/N] ");
    let failed = |e| Error::new("cannot ask on the terminal").cause(e).repair("pass --yes or --dry-run");
    std::io::stdout().flush().map_err(failed)?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(failed)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str, version: &str, digit: char) -> Artifact {
        Artifact {
            name: name.to_owned(),
            version: version.to_owned(),
            suite: "trixie".to_owned(),
            path: format!("pool/main/x/{name}_{version}.deb"),
            size: 10,
            sha256: digit.to_string().repeat(64),
            license: "MIT".to_owned(),
            role: Role::Image,
        }
    }

    fn lock(artifacts: Vec<Artifact>) -> Lock {
        let package = |artifact| Package { artifact, architecture: "amd64".to_owned() };
        Lock { packages: artifacts.into_iter().map(package).collect(), ..Lock::default() }
    }

    #[test]
    fn difference_names_every_changed_field() {
        let old = lock(vec![artifact("gone", "1", 'a'), artifact("kept", "1", 'b'), artifact("moved", "1", 'c')]);
        let new = lock(vec![artifact("kept", "1", 'b'), artifact("moved", "2", 'd'), artifact("new", "1", 'e')]);
        insta::assert_snapshot!(difference(&old, &new).join("\n"), @r"
        - package gone 1 (trixie)
        ~ package moved: version 1 -> 2, path pool/main/x/moved_1.deb -> pool/main/x/moved_2.deb, sha256 cccccccccccc -> dddddddddddd
        + package new 1 (trixie, 10 bytes)
        ");
        assert!(difference(&old, &old).is_empty());
    }

    #[test]
    fn licenses_follow_shared_documentation_and_circles_end() {
        let read = BTreeMap::from([
            ("g++".to_owned(), Copyright::SameAs("gcc".to_owned())),
            ("gcc".to_owned(), Copyright::SameAs("gcc-base".to_owned())),
            ("gcc-base".to_owned(), Copyright::Licenses("GPL-3".to_owned())),
            ("a".to_owned(), Copyright::SameAs("b".to_owned())),
            ("b".to_owned(), Copyright::SameAs("a".to_owned())),
        ]);
        assert_eq!(follow(&read, "g++"), "GPL-3");
        assert_eq!(follow(&read, "a"), "see copyright file");
        assert_eq!(follow(&read, "absent"), "see copyright file");
    }

    #[test]
    fn source_package_of_a_pool_path() {
        assert_eq!(source_package("pool/main/p/postgresql-17/postgresql-17_17.11.orig.tar.bz2"), "postgresql-17");
    }
}
