//! The dependencies of a Rust program of the pipeline, as inputs of a fingerprint: a new version of
//! a crate that only another program uses rebuilds nothing. Pure functions over a `Cargo.lock` and
//! the texts of `Cargo.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use cargo_lock::{Checksum, Lockfile, Package};

use crate::error::{Context, Error, Result};

/// Reads the text of a `Cargo.lock`.
pub(crate) fn parse(cargo_lock: &str) -> Result<Lockfile> {
    cargo_lock.parse().context(|| "Cargo.lock does not have the expected form".into())
}

/// One line for every package that `root` is built from, with version and checksum, sorted.
pub(crate) fn closure(lock: &Lockfile, root: &str) -> Result<Vec<String>> {
    let line = |p: &Package| {
        let checksum = p.checksum.as_ref().map(Checksum::to_string).unwrap_or_default();
        format!("{} {} {checksum}", p.name, p.version)
    };
    // Sorted as text: the order is part of the fingerprint.
    let lines: BTreeSet<_> = packages(lock, root)?.into_iter().map(line).collect();
    Ok(lines.into_iter().collect())
}

/// The packages among those that `root` is built from whose sources are here and not in a registry,
/// `root` included.
pub(crate) fn local(lock: &Lockfile, root: &str) -> Result<Vec<String>> {
    let packages = packages(lock, root)?;
    Ok(packages.into_iter().filter(|p| p.source.is_none()).map(|p| p.name.to_string()).collect())
}

/// Directories of the workspace's members by package. `manifest` reads a directory's manifest.
pub(crate) fn members(
    root_manifest: &str,
    manifest: impl Fn(&str) -> Result<String>,
) -> Result<BTreeMap<String, String>> {
    let root: toml::Table =
        root_manifest.parse().context(|| "the workspace's Cargo.toml does not have the expected form".into())?;
    let directories = root.get("workspace").and_then(|w| w.get("members")).and_then(|m| m.as_array());
    let mut members = BTreeMap::new();
    for directory in directories.into_iter().flatten().filter_map(|d| d.as_str()) {
        let member: toml::Table = manifest(directory)?
            .parse()
            .context(|| format!("{directory}/Cargo.toml does not have the expected form"))?;
        let name = member.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str());
        let name = name.ok_or_else(|| Error::new(format!("{directory}/Cargo.toml names no package")))?;
        members.insert(name.to_owned(), directory.to_owned());
    }
    Ok(members)
}

/// Every package that `root` is built from, sorted.
fn packages<'a>(lock: &'a Lockfile, root: &str) -> Result<BTreeSet<&'a Package>> {
    let missing = |package: &dyn Display| {
        Error::new(format!("Cargo.lock has no package {package}"))
            .repair("run `cargo metadata` to bring Cargo.lock up to date")
    };
    let found = lock.packages.iter().find(|p| p.name.as_str() == root);
    let mut waiting = vec![found.ok_or_else(|| missing(&root))?];
    let mut all = BTreeSet::new();
    while let Some(package) = waiting.pop() {
        if all.insert(package) {
            for dependency in &package.dependencies {
                let found = lock.packages.iter().find(|p| dependency.matches(p));
                waiting.push(found.ok_or_else(|| missing(dependency))?);
            }
        }
    }
    Ok(all)
}

/// The workspace's dependency settings (features, versions) that a member's manifest refers to, one
/// line each.
pub(crate) fn workspace_settings(root_manifest: &str, member_manifest: &str) -> Result<Vec<String>> {
    let root: toml::Table =
        root_manifest.parse().context(|| "the workspace's Cargo.toml does not have the expected form".into())?;
    let member: toml::Table =
        member_manifest.parse().context(|| "a member's Cargo.toml does not have the expected form".into())?;
    let shared = root.get("workspace").and_then(|w| w.get("dependencies")).and_then(|d| d.as_table());
    let used = member.get("dependencies").and_then(|d| d.as_table());
    let names = used.into_iter().flat_map(|table| table.keys());
    let line = |name: &String| shared.and_then(|s| s.get(name)).map(|setting| format!("{name} = {setting}"));
    Ok(names.filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = r#"
version = 4
[[package]]
name = "tool"
version = "0.1.0"
dependencies = ["a", "b 10.0.0"]
[[package]]
name = "a"
version = "1.0.0"
source = "registry+https://registry.invalid/index"
checksum = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
dependencies = ["b 9.0.0"]
[[package]]
name = "b"
version = "9.0.0"
[[package]]
name = "b"
version = "10.0.0"
source = "registry+https://registry.invalid/index"
checksum = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
[[package]]
name = "unrelated"
version = "9.0.0"
"#;

    #[test]
    fn only_what_the_root_needs_counts() {
        let lock = parse(LOCK).unwrap();
        let a = format!("a 1.0.0 {}", "a".repeat(64));
        let b = format!("b 10.0.0 {}", "b".repeat(64));
        assert_eq!(closure(&lock, "tool").unwrap(), [&a, &b, "b 9.0.0 ", "tool 0.1.0 "]);
        assert_eq!(closure(&lock, "a").unwrap(), [&a, "b 9.0.0 "]);
        assert_eq!(local(&lock, "tool").unwrap(), ["b", "tool"]);
    }

    #[test]
    fn what_is_missing_or_damaged_is_an_error() {
        let lock = parse(LOCK).unwrap();
        assert!(closure(&lock, "missing").unwrap_err().to_string().contains("has no package missing\n"));
        let stale = parse(&LOCK.replace("[\"b 9.0.0\"]", "[\"b 8.0.0\"]")).unwrap();
        let error = closure(&stale, "tool").unwrap_err().to_string();
        assert!(error.contains("has no package b 8.0.0\n"), "{error}");
        assert!(parse("[[package]]").unwrap_err().to_string().starts_with("Cargo.lock does not have"));
    }

    #[test]
    fn members_are_found_by_the_name_in_their_manifest() {
        let manifest = |directory: &str| Ok(format!("[package]\nname = \"{}\"\n", directory.replace('/', "-")));
        let found = members("[workspace]\nmembers = [\"a\", \"a/b\"]\n", manifest).unwrap();
        assert_eq!(found, [("a".to_owned(), "a".to_owned()), ("a-b".to_owned(), "a/b".to_owned())].into());
        let nameless = members("[workspace]\nmembers = [\"a\"]\n", |_| Ok(String::new())).unwrap_err();
        assert_eq!(nameless.to_string(), "a/Cargo.toml names no package");
    }

    #[test]
    fn settings_of_used_dependencies_only() {
        let root = "[workspace.dependencies]\na = { version = \"1\", features = [\"x\"] }\nb = \"2\"\n";
        let settings = workspace_settings(root, "[dependencies]\na.workspace = true\nc = \"3\"\n").unwrap();
        assert_eq!(settings, ["a = { features = [\"x\"], version = \"1\" }"]);
    }
}
