//! The contents of a directory as data: every file with size, hash and executable bit, every link,
//! every directory. It reads and compares; it changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use serde::{Deserialize, Serialize};

use super::fingerprint::{Fingerprint, Hasher, children, is_executable, not_a_file};
use crate::error::{Error, Result};

/// Threads that hash. Hashing is CPU-bound, and the smallest supported machine has two cores.
const THREADS: usize = 2;

/// Everything below a directory, by path relative to it with `/` between names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Contents {
    pub(crate) files: BTreeMap<String, FileContent>,
    /// Symbolic links with their targets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) links: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) directories: BTreeSet<String>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileContent {
    pub(crate) size: u64,
    pub(crate) sha256: Fingerprint,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) executable: bool,
}

impl Contents {
    /// Reads and hashes a directory and syncs every file and directory in it.
    pub(crate) fn read_and_sync(root: &Path) -> Result<Self> {
        let listing = Listing::of(root)?;
        let hashes = listing.hash(root, true)?;
        let files = listing.files.into_iter().map(|(name, (size, executable))| {
            let sha256 = hashes.get(&name).copied().unwrap_or_else(|| Fingerprint::of_bytes(b""));
            (name, FileContent { size, sha256, executable })
        });
        let contents = Self { files: files.collect(), links: listing.links, directories: listing.directories };
        // Deepest first, so that no directory is durable before its entries.
        for directory in contents.directories.iter().rev().map(|name| root.join(name)).chain([root.to_path_buf()]) {
            File::open(&directory).and_then(|file| file.sync_all()).map_err(|e| Error::io("sync", &directory, e))?;
        }
        Ok(contents)
    }

    /// Hash of everything, or of the file or directory at a relative path: names below it,
    /// contents, the executable bit, link targets. `None` where nothing has that path.
    pub(crate) fn digest(&self, part: Option<&str>) -> Option<Fingerprint> {
        let below = |name: &str| match part {
            None => Some(name.to_owned()),
            Some(part) if name == part => Some(String::new()),
            Some(part) => Some(name.strip_prefix(part)?.strip_prefix('/')?.to_owned()),
        };
        let mut hasher = Hasher::new("output");
        let mut found = part.is_none();
        for (name, file) in self.files.iter().filter_map(|(name, file)| Some((below(name)?, file))) {
            hasher.fingerprint(&name, &file.sha256);
            hasher.number("executable", file.executable.into());
            found = true;
        }
        for (name, target) in self.links.iter().filter_map(|(name, target)| Some((below(name)?, target))) {
            hasher.text(&name, target);
            found = true;
        }
        for name in self.directories.iter().filter_map(|name| below(name)) {
            hasher.bytes(&name, &[]);
            found = true;
        }
        found.then(|| hasher.finish())
    }

    /// The first difference between this and the present contents of a directory. Contents are read
    /// only if names, sizes and modes agree.
    pub(crate) fn difference(&self, root: &Path) -> Result<Option<String>> {
        if !root.is_dir() {
            return Ok(Some(format!("the directory {} is missing", root.display())));
        }
        let listing = Listing::of(root)?;
        let expected = self.files.iter().map(|(name, file)| (name.clone(), (file.size, file.executable))).collect();
        let described = |(size, executable): &(u64, bool)| {
            format!("a file of {size} bytes{}", if *executable { ", executable" } else { "" })
        };
        let difference = first_difference("file", &expected, &listing.files, described)
            .or_else(|| first_difference("link", &self.links, &listing.links, |target| format!("a link to {target}")))
            .or_else(|| {
                let as_map = |names: &BTreeSet<String>| names.iter().map(|name| (name.clone(), ())).collect();
                let (expected, found) = (as_map(&self.directories), as_map(&listing.directories));
                first_difference("directory", &expected, &found, |()| String::new())
            });
        if difference.is_some() {
            return Ok(difference);
        }
        let hashes = listing.hash(root, false)?;
        let expected = self.files.iter().map(|(name, file)| (name.clone(), file.sha256)).collect();
        Ok(first_difference("file", &expected, &hashes, |hash| format!("SHA-256 {hash}")))
    }
}

/// Names, sizes and modes of the entries of a directory, without contents.
#[derive(Default)]
struct Listing {
    files: BTreeMap<String, (u64, bool)>,
    links: BTreeMap<String, String>,
    directories: BTreeSet<String>,
}

impl Listing {
    fn of(root: &Path) -> Result<Self> {
        let mut listing = Self::default();
        listing.add(root, "")?;
        Ok(listing)
    }

    fn add(&mut self, directory: &Path, prefix: &str) -> Result<()> {
        for (name, path) in children(directory)? {
            let name = format!("{prefix}{name}");
            let metadata = path.symlink_metadata().map_err(|e| Error::io("read", &path, e))?;
            if metadata.is_dir() {
                self.add(&path, &format!("{name}/"))?;
                self.directories.insert(name);
            } else if metadata.is_symlink() {
                let target = path.read_link().map_err(|e| Error::io("read the link", &path, e))?;
                let target = target.to_str().ok_or_else(|| {
                    Error::new(format!("the link {} leads to a name that is not UTF-8", path.display()))
                })?;
                self.links.insert(name, target.to_owned());
            } else if metadata.is_file() {
                self.files.insert(name, (metadata.len(), is_executable(&metadata)));
            } else {
                return Err(not_a_file(&path));
            }
        }
        Ok(())
    }

    /// Hashes every file, largest first, on [`THREADS`] threads.
    fn hash(&self, root: &Path, sync: bool) -> Result<BTreeMap<String, Fingerprint>> {
        let mut files: Vec<(&String, u64)> = self.files.iter().map(|(name, (size, _))| (name, *size)).collect();
        files.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(String, Fingerprint)>> {
            let mut done = Vec::new();
            while let Some((name, _)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push(((*name).clone(), hash_file(&root.join(name), sync)?));
            }
            Ok(done)
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
            let mut hashes = BTreeMap::new();
            for thread in threads {
                hashes.extend(thread.join().map_err(|_| Error::new("a hashing thread ended unexpectedly"))??);
            }
            Ok(hashes)
        })
    }
}

fn hash_file(path: &PathBuf, sync: bool) -> Result<Fingerprint> {
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let hash = Fingerprint::of_open_file(&mut file, path)?;
    if sync {
        file.sync_all().map_err(|e| Error::io("sync", path, e))?;
    }
    Ok(hash)
}

fn first_difference<T: PartialEq>(
    kind: &str,
    expected: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
    describe: impl Fn(&T) -> String,
) -> Option<String> {
    for (name, value) in expected {
        match found.get(name) {
            Some(other) if other == value => {}
            Some(other) => return Some(format!("{name}: expected {}, found {}", describe(value), describe(other))),
            None => return Some(format!("the {kind} {name} is missing")),
        }
    }
    found.keys().find(|name| !expected.contains_key(*name)).map(|name| format!("the {kind} {name} should not be there"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn contents(files: &[(&str, &str)]) -> Contents {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Contents::read_and_sync(root.path()).unwrap()
    }

    #[test]
    fn a_part_is_what_lies_below_its_path_and_nothing_else() {
        let all = contents(&[("a", "1"), ("sub/b", "2"), ("sub/deep/c", "3"), ("subway", "4")]);
        let elsewhere = contents(&[("a", "9"), ("sub/b", "2"), ("sub/deep/c", "3")]);
        assert_eq!(all.digest(Some("sub")), elsewhere.digest(Some("sub")), "what lies beside it does not count");
        assert_ne!(all.digest(None), elsewhere.digest(None));
        assert_ne!(all.digest(Some("a")), elsewhere.digest(Some("a")));
        assert_eq!(
            all.digest(Some("sub/deep/c")),
            contents(&[("x", "3")]).digest(Some("x")),
            "its name does not count"
        );
        assert_eq!(all.digest(Some("su")), None);
        assert_eq!(all.digest(Some("sub/")), None);
        let renamed = contents(&[("sub/d", "2"), ("sub/deep/c", "3")]);
        let emptied = contents(&[("sub/b", "2"), ("sub/deep/other", "")]);
        for other in [&renamed, &emptied] {
            assert_ne!(all.digest(Some("sub")), other.digest(Some("sub")));
        }
    }
}
