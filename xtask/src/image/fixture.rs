//! Packages and images made for tests, entry by entry.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use super::{Package, Spec};
use crate::pipeline::fingerprint::Fingerprint;

/// An entry of a package, with its path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    Directory(&'a str, u32),
    File(&'a str, u32, &'a str),
    Symlink(&'a str, &'a str),
    HardLink(&'a str, &'a str),
    Fifo(&'a str),
}

/// How data.tar is compressed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Compression {
    None,
    Gzip,
    Xz,
    Zstd,
}

/// The bytes of a package. Times and owners differ from what an image has.
pub(super) fn deb(items: &[Item<'_>], compression: Compression) -> Vec<u8> {
    let data = tar(items);
    let (name, data) = match compression {
        Compression::None => ("data.tar", data),
        Compression::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(&data).unwrap();
            ("data.tar.gz", out.finish().unwrap())
        }
        Compression::Xz => {
            let mut out = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(0)).unwrap();
            out.write_all(&data).unwrap();
            ("data.tar.xz", out.finish().unwrap())
        }
        Compression::Zstd => ("data.tar.zst", zstd::encode_all(&data[..], 1).unwrap()),
    };
    archive(&[("debian-binary", b"2.0\n"), ("control.tar", &tar(&[])), (name, &data)])
}

/// An ar archive of these members.
pub(super) fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = ar::Builder::new(Vec::new());
    for (name, content) in members {
        out.append(&ar::Header::new(name.as_bytes().to_vec(), content.len() as u64), Cursor::new(content)).unwrap();
    }
    out.into_inner().unwrap()
}

/// A package file below `directory` and its entry in the lock.
pub(super) fn package(directory: &Path, name: &str, bytes: &[u8]) -> Package {
    let path = directory.join(format!("{name}.deb"));
    fs::write(&path, bytes).unwrap();
    Package { name: name.into(), path, sha256: Fingerprint::of_bytes(bytes).to_string() }
}

/// A spec of packages alone.
pub(super) fn spec(packages: Vec<Package>) -> Spec {
    Spec { packages, links: Vec::new(), files: Vec::new() }
}

fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(1_234_567_890);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mode(0o777);
        let (path, kind, content) = match *item {
            Item::Directory(path, mode) => {
                header.set_mode(mode);
                (path, tar::EntryType::Directory, "")
            }
            Item::File(path, mode, content) => {
                header.set_mode(mode);
                (path, tar::EntryType::Regular, content)
            }
            Item::Symlink(path, target) => {
                header.set_link_name(target).unwrap();
                (path, tar::EntryType::Symlink, "")
            }
            Item::HardLink(path, target) => {
                header.set_link_name(target).unwrap();
                (path, tar::EntryType::Link, "")
            }
            Item::Fifo(path) => (path, tar::EntryType::Fifo, ""),
        };
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        // Set by hand: the crate itself refuses the paths that the tests need.
        let name = path.as_bytes();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_cksum();
        out.append(&header, content.as_bytes()).unwrap();
    }
    out.into_inner().unwrap()
}
