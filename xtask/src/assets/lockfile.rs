//! The dependencies of a Rust program of the pipeline, as inputs of a fingerprint: a new version of
//! a crate that only another program uses rebuilds nothing. Pure functions over the texts of
//! `Cargo.lock` and `Cargo.toml`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Context, Error, Result};

/// One line for every package that `root` is built from, with version and checksum, sorted.
pub(crate) fn closure(cargo_lock: &str, root: &str) -> Result<Vec<String>> {
    let packages = packages(cargo_lock, root)?;
    Ok(packages.into_iter().map(|p| format!("{} {} {}", p.name, p.version, p.checksum)).collect())
}

/// The packages among those that `root` is built from whose sources are here and not in a registry,
/// `root` included.
pub(crate) fn local(cargo_lock: &str, root: &str) -> Result<Vec<String>> {
    let packages = packages(cargo_lock, root)?;
    Ok(packages.into_iter().filter(|p| p.source.is_empty()).map(|p| p.name).collect())
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

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    checksum: String,
    source: String,
}

/// Every package that `root` is built from, sorted.
fn packages(cargo_lock: &str, root: &str) -> Result<BTreeSet<Package>> {
    let lock: toml::Table = cargo_lock.parse().context(|| "Cargo.lock does not have the expected form".into())?;
    let packages =
        lock.get("package").and_then(|p| p.as_array()).ok_or_else(|| Error::new("Cargo.lock has no packages"))?;
    let text =
        |package: &toml::Value, key: &str| package.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let mut by_name: BTreeMap<String, Vec<&toml::Value>> = BTreeMap::new();
    for package in packages {
        by_name.entry(text(package, "name")).or_default().push(package);
    }
    let mut waiting = vec![root.to_owned()];
    let mut seen = BTreeSet::new();
    let mut all = BTreeSet::new();
    while let Some(dependency) = waiting.pop() {
        if !seen.insert(dependency.clone()) {
            continue;
        }
        // "name", "name version" where there are several versions, "name version (source)" where
        // that is not enough.
        let mut words = dependency.split(' ');
        let (name, version) = (words.next().unwrap_or_default(), words.next());
        let found = by_name.get(name).into_iter().flatten().find(|p| version.is_none_or(|v| text(p, "version") == v));
        let package = found.ok_or_else(|| {
            Error::new(format!("Cargo.lock has no package {dependency}"))
                .repair("run `cargo metadata` to bring Cargo.lock up to date")
        })?;
        all.insert(Package {
            name: name.to_owned(),
            version: text(package, "version"),
            checksum: text(package, "checksum"),
            source: text(package, "source"),
        });
        let dependencies = package.get("dependencies").and_then(|d| d.as_array());
        waiting.extend(dependencies.into_iter().flatten().filter_map(|d| d.as_str()).map(str::to_owned));
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
dependencies = ["a", "b 2.0.0"]
[[package]]
name = "a"
version = "1.0.0"
checksum = "aa"
dependencies = ["b 1.0.0"]
[[package]]
name = "b"
version = "1.0.0"
checksum = "b1"
[[package]]
name = "b"
version = "2.0.0"
checksum = "b2"
[[package]]
name = "unrelated"
version = "9.0.0"
"#;

    #[test]
    fn only_what_the_root_needs_counts() {
        assert_eq!(closure(LOCK, "tool").unwrap(), ["a 1.0.0 aa", "b 1.0.0 b1", "b 2.0.0 b2", "tool 0.1.0 "]);
        assert_eq!(closure(LOCK, "a").unwrap(), ["a 1.0.0 aa", "b 1.0.0 b1"]);
        assert_eq!(local(&LOCK.replace("checksum", "source = \"registry\"\nchecksum"), "tool").unwrap(), ["tool"]);
        assert!(closure(LOCK, "missing").unwrap_err().to_string().contains("missing"));
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
