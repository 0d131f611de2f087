//! Tests of archives of a data directory.

use std::sync::Arc;

use super::*;
use crate::fs::test_support::{paths, read as contents};
use crate::fs::{Image, ImageFs};

/// The smallest data directory that a layout allows.
fn data() -> ImageFs {
    let fs = ImageFs::new(Arc::new(Image::empty()));
    fs.create_directory("global", 0).unwrap();
    fs.create_directory("empty", 0).unwrap();
    let mut control = vec![0; 8192];
    control[216..220].copy_from_slice(&8192u32.to_le_bytes());
    control[220..224].copy_from_slice(&4u32.to_le_bytes());
    let crc = crc32c::crc32c(&control[..288]);
    control[288..292].copy_from_slice(&crc.to_le_bytes());
    let put = |path: &str, bytes: &[u8]| {
        fs::write_all(&*fs.open(path, CREATE_NEW, 0).unwrap(), 0, bytes).unwrap();
    };
    put("global/pg_control", &control);
    put("PG_VERSION", b"17\n");
    put("postmaster.pid", b"-42\n");
    fs
}

fn layout() -> Layout {
    Layout::of(&data()).unwrap()
}

fn empty() -> ImageFs {
    ImageFs::new(Arc::new(Image::empty()))
}

fn dumped(format: Format) -> Vec<u8> {
    let mut bytes = Vec::new();
    dump(&data(), &layout(), &mut bytes, format).unwrap();
    bytes
}

fn refusal(archive: &[u8]) -> String {
    load(&mut &archive[..], &empty(), &layout()).unwrap_err().to_string()
}

/// An archive with one more member before its end.
fn with(kind: tar::EntryType, path: &str, size: u64) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let whole = dumped(Format::Tar);
    for entry in tar::Archive::new(&whole[..]).entries().unwrap() {
        let entry = entry.unwrap();
        let header = entry.header().clone();
        if *entry.path_bytes() == *END.as_bytes() {
            let mut hostile = tar::Header::new_ustar();
            hostile.set_entry_type(kind);
            hostile.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            hostile.set_size(size);
            hostile.set_cksum();
            tar.append(&hostile, io::empty()).unwrap();
        }
        tar.append(&header, entry).unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn what_is_dumped_is_loaded() {
    for format in [Format::Tar, Format::TarZst] {
        let archive = dumped(format);
        let loaded = empty();
        load(&mut &archive[..], &loaded, &layout()).unwrap();
        assert_eq!(paths(&loaded), ["PG_VERSION", "empty", "global", "global/pg_control"]);
        assert_eq!(contents(&loaded, "global/pg_control"), contents(&data(), "global/pg_control"));
    }
    assert!(dumped(Format::TarZst).len() < dumped(Format::Tar).len());
}

#[test]
fn other_versions_are_refused() {
    let other = Layout { postgresql: "18".to_string(), ..layout() };
    let error = load(&mut &dumped(Format::Tar)[..], &empty(), &other).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Incompatible);
    assert!(
        error.to_string().contains("made by PostgreSQL 17 (") && error.to_string().contains("this is PostgreSQL 18")
    );
}

#[test]
fn what_is_no_archive_is_refused() {
    assert!(refusal(b"").contains("does not begin with"), "{}", refusal(b""));
    load(&mut &[7; 4096][..], &empty(), &layout()).unwrap_err();
    load(&mut &ZSTD_MAGIC[..], &empty(), &layout()).unwrap_err();
}

#[test]
fn an_archive_that_is_cut_off_is_refused_wherever() {
    let whole = dumped(Format::Tar);
    // The last two blocks of a tar file are empty, and the last member consists of its header only.
    let needed = whole.len() - 1024;
    for len in (0..needed).step_by(512) {
        assert!(load(&mut &whole[..len], &empty(), &layout()).is_err(), "{len} of {}", whole.len());
    }
    let zst = dumped(Format::TarZst);
    assert!(load(&mut &zst[..zst.len() / 2], &empty(), &layout()).is_err());
}

#[test]
fn hostile_members_are_refused_by_name() {
    let file = tar::EntryType::Regular;
    for path in [
        "/etc/passwd",
        "pgdata/../../x",
        "pgdata/a/../../x",
        "x",
        "pgdata",
        "pgdata//x",
        "pgdata/./x",
        "pgdata/c:x",
        "pgdata/a\\b",
    ] {
        let why = refusal(&with(file, path, 0));
        assert!(why.contains(&format!("{path:?} is not a path in a data directory")), "{why}");
    }
    for kind in [tar::EntryType::Symlink, tar::EntryType::Link, tar::EntryType::Char, tar::EntryType::Fifo] {
        assert!(refusal(&with(kind, "pgdata/x", 0)).contains("neither a file nor a directory"));
    }
    assert!(refusal(&with(file, "pgdata/PG_VERSION", 0)).contains("is in it twice"));
    assert!(refusal(&with(file, "pgdata/none/x", 0)).contains("is in no directory of it"));
    assert!(refusal(&with(file, "pgdata/x", 4 * 8192 + 1)).contains("larger than any file of PostgreSQL"));
    assert!(load(&mut &with(file, "pgdata/x", 0)[..], &empty(), &layout()).is_ok());
}
