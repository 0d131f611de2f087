//! A resolution: which versions Cargo chose, read from a `Cargo.lock`. It compares and names them;
//! it runs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_lock::Lockfile;

use crate::error::{Context, Error, Result};
use crate::files;
use crate::pipeline::fingerprint::Hasher;

/// The crates of a `Cargo.lock`, without those of this project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolution {
    /// The file's text.
    pub(super) cargo_lock: String,
    crates: BTreeSet<Locked>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Locked {
    name: String,
    version: String,
    checksum: String,
}

impl Resolution {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = files::text(path)?;
        Self::parse(text).map_err(|e| Error::new(format!("{} cannot be read", path.display())).cause(e))
    }

    fn parse(cargo_lock: String) -> Result<Self> {
        let lock: Lockfile = cargo_lock.parse().context(|| "it is no Cargo.lock".into())?;
        // The program itself has no source.
        let theirs =
            lock.packages.into_iter().filter(|p| p.source.is_some() && !p.name.as_str().starts_with("pglite-oxide"));
        let crates = theirs
            .map(|p| Locked {
                name: p.name.into(),
                version: p.version.to_string(),
                checksum: p.checksum.map(|checksum| checksum.to_string()).unwrap_or_default(),
            })
            .collect();
        Ok(Self { cargo_lock, crates })
    }

    /// How many crates.
    pub(super) fn crates(&self) -> usize {
        self.crates.len()
    }

    /// Names of the directories that `cargo vendor --versioned-dirs` gives the crates.
    pub(super) fn directories(&self) -> impl Iterator<Item = String> + '_ {
        self.crates.iter().map(|c| format!("{}-{}", c.name, c.version))
    }

    /// The differences from another resolution, one line per crate.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let mut changed: BTreeMap<&str, [Vec<&str>; 2]> = BTreeMap::new();
        for (side, ours, theirs) in [(0, &self.crates, &other.crates), (1, &other.crates, &self.crates)] {
            for c in ours.difference(theirs) {
                changed.entry(&c.name).or_default()[side].push(&c.version);
            }
        }
        let say = |versions: &[&str]| if versions.is_empty() { "nothing".to_owned() } else { versions.join(" and ") };
        changed
            .iter()
            .map(|(name, [ours, theirs])| format!("{name}: {} instead of {}", say(theirs), say(ours)))
            .collect()
    }

    pub(super) fn hash_into(&self, hasher: &mut Hasher) {
        for c in &self.crates {
            hasher.text(&format!("{} {}", c.name, c.version), &c.checksum);
        }
    }
}

/// Whether Cargo's output says that it could not reach the registry.
pub(super) fn is_unreachable(complaint: &str) -> bool {
    // Messages of Cargo's HTTP library about names, connections and timeouts, and of Cargo when it
    // is offline.
    let signs = [
        "Could not resolve host",
        "Couldn't resolve host",
        "Could not connect to server",
        "Couldn't connect to server",
        "Could not resolve proxy name",
        "Timeout was reached",
        "failed to connect",
        "but --offline was specified",
    ];
    signs.iter().any(|sign| complaint.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::fingerprint::Fingerprint;

    fn resolution(crates: &[(&str, &str)]) -> Resolution {
        let mut text = "version = 4\n[[package]]\nname = \"program\"\nversion = \"0.0.0\"\n".to_owned();
        for (name, version) in crates {
            text += &format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"registry+https://registry.invalid/index\"\nchecksum = \"{}\"\n",
                Fingerprint::of_bytes(format!("{name}{version}").as_bytes())
            );
        }
        Resolution::parse(text).unwrap()
    }

    #[test]
    fn the_program_and_our_crates_do_not_count() {
        let found = resolution(&[("serde", "1.0.0"), ("pglite-oxide-assets", "0.1.0")]);
        assert_eq!(found.crates(), 1);
        assert_eq!(found.directories().collect::<Vec<_>>(), ["serde-1.0.0"]);
    }

    #[test]
    fn differences_name_what_changed() {
        let old = resolution(&[("gone", "1.0.0"), ("same", "1.0.0"), ("two", "1.0.0"), ("two", "2.0.0")]);
        let new = resolution(&[("came", "1.0.0"), ("same", "1.0.0"), ("two", "1.0.0"), ("two", "2.0.1")]);
        assert_eq!(old.differences(&old), Vec::<String>::new());
        insta::assert_snapshot!(old.differences(&new).join("\n"), @r"
        came: 1.0.0 instead of nothing
        gone: nothing instead of 1.0.0
        two: 2.0.1 instead of 2.0.0
        ");
    }

    #[test]
    fn the_hash_changes_with_a_version_and_with_a_checksum() {
        let hash = |r: &Resolution| {
            let mut hasher = Hasher::new("test");
            r.hash_into(&mut hasher);
            hasher.finish()
        };
        let one = resolution(&[("a", "1.0.0")]);
        let checksum = |text: &str| Fingerprint::of_bytes(text.as_bytes()).to_string();
        let replaced = Resolution::parse(one.cargo_lock.replace(&checksum("a1.0.0"), &checksum("other"))).unwrap();
        assert_eq!(hash(&one), hash(&one.clone()));
        assert_ne!(hash(&one), hash(&resolution(&[("a", "1.0.1")])));
        assert_ne!(hash(&one), hash(&replaced));
    }

    #[test]
    fn a_conflict_is_not_an_unreachable_registry() {
        assert!(is_unreachable("error: download of config.json failed\n[6] Could not resolve host: index.example"));
        assert!(is_unreachable("[7] Could not connect to server (Failed to connect to index.example port 443)"));
        assert!(!is_unreachable("error: failed to select a version for `webc`"));
    }
}
