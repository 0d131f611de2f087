//! The root directory of a guest: file systems mounted together. It owns the mapping from a guest's
//! path to a file system and a path inside it.

use std::sync::Arc;

use super::FileSystem;
use super::errno::{Errno, Result};
use super::tree::NAME_MAX;

/// The file systems of one database, by where they are mounted.
#[derive(Debug)]
pub struct Volume {
    /// The first is mounted at `/`; no other two share a place.
    mounts: Vec<Mount>,
}

#[derive(Debug)]
struct Mount {
    /// Absolute path without a slash at its end: empty for `/`.
    point: &'static str,
    fs: Arc<dyn FileSystem>,
}

/// The target of a guest's path.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub fs: &'a Arc<dyn FileSystem>,
    /// Number of the mount, from 1.
    pub device: u32,
    /// Path from the root of that file system.
    pub path: &'a str,
}

impl Volume {
    /// A volume of one file system.
    pub fn new(root: Arc<dyn FileSystem>) -> Self {
        Self { mounts: vec![Mount { point: "", fs: root }] }
    }

    /// Mounts another one at an absolute path, which must be a directory of the first for listings
    /// to show it.
    pub fn mount(mut self, point: &'static str, fs: Arc<dyn FileSystem>) -> Self {
        self.mounts.push(Mount { point, fs });
        self
    }

    /// The target of an absolute, normalised path.
    pub fn place<'a>(&'a self, path: &'a str) -> Result<Place<'a>> {
        let mut place = None;
        for (mount, device) in self.mounts.iter().zip(1..) {
            if let Some(rest) = path.strip_prefix(mount.point)
                && let Some(path) = rest.strip_prefix('/').or(rest.is_empty().then_some(""))
            {
                place = Some(Place { fs: &mount.fs, device, path });
            }
        }
        place.ok_or(Errno::NOENT)
    }
}

impl<'a> Place<'a> {
    /// A path that can be removed or renamed, which the root of a file system cannot.
    pub fn entry(&self) -> Result<&'a str> {
        if self.path.is_empty() { Err(Errno::BUSY) } else { Ok(self.path) }
    }
}

/// The absolute path without `.`, `..` and empty parts, and whether it must be a directory. `..`
/// removes the name before it, because there are no links.
pub fn normalise(start: &str, path: &str) -> Result<(String, bool)> {
    if path.is_empty() {
        return Err(Errno::NOENT);
    }
    let mut absolute = if path.starts_with('/') { String::new() } else { start.trim_end_matches('/').to_string() };
    absolute.reserve(path.len() + 1);
    let mut is_directory = false;
    for name in path.split('/') {
        is_directory = matches!(name, "" | "." | "..");
        match name {
            "" | "." => (),
            ".." => absolute.truncate(absolute.rfind('/').unwrap_or(0)),
            name if name.len() > NAME_MAX => return Err(Errno::NAMETOOLONG),
            name => {
                absolute.push('/');
                absolute.push_str(name);
            }
        }
    }
    if absolute.is_empty() {
        absolute.push('/');
    }
    Ok((absolute, is_directory))
}

#[cfg(test)]
mod tests {
    use super::super::{Image, ImageFs};
    use super::*;

    #[test]
    fn paths_are_normalised() {
        let absolute = |start: &str, path: &str| normalise(start, path).unwrap();
        let is = |path: &str, is_directory| (path.to_string(), is_directory);
        assert_eq!(absolute("/pgdata", "base/1"), is("/pgdata/base/1", false));
        assert_eq!(absolute("/pgdata", "/base//1/"), is("/base/1", true));
        assert_eq!(absolute("/", "./a/./b/."), is("/a/b", true));
        assert_eq!(absolute("/a/b", "../../../../c/.."), is("/", true));
        assert_eq!(absolute("/a", ".."), is("/", true));
        assert_eq!(absolute("/a", "..x/..."), is("/a/..x/...", false));
        assert_eq!(normalise("/", ""), Err(Errno::NOENT));
        assert_eq!(normalise("/", &"n".repeat(256)), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn a_path_leads_to_the_innermost_mount() {
        let fs = || Arc::new(ImageFs::new(Arc::new(Image::new([], 0).unwrap())));
        let volume = Volume::new(fs()).mount("/pgdata", fs());
        let place = |path| volume.place(path).map(|place| (place.device, place.path.to_string())).unwrap();
        assert_eq!(place("/"), (1, String::new()));
        assert_eq!(place("/usr/x"), (1, "usr/x".to_string()));
        assert_eq!(place("/pgdata"), (2, String::new()));
        assert_eq!(place("/pgdata/base/1"), (2, "base/1".to_string()));
        assert_eq!(place("/pgdata2/x"), (1, "pgdata2/x".to_string()));
        assert_eq!(volume.place("/pgdata").unwrap().entry(), Err(Errno::BUSY));
    }
}
