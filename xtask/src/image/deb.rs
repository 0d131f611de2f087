//! Unpacks one Debian package, checked against the lock, into a tree. It runs no maintainer script
//! and keeps no package database. The set of packages and their order are decided elsewhere.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::Package;
use super::tree::TreeWriter;
use crate::error::{Context, Error, Result};
use crate::pipeline::fingerprint::Fingerprint;

/// Directories whose content no build step reads: half of the entries of a package set. Licences
/// stay, see [`is_kept`].
pub(super) const OMITTED: [&str; 6] =
    ["usr/share/bug", "usr/share/doc", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man"];

/// Size of a chunk from the decompressing to the writing thread, and the number of chunks that may
/// wait.
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_WAITING: usize = 16;

/// Writes the content of a package into the tree, after checking the hash of its file.
pub(super) fn unpack(package: &Package, tree: &mut TreeWriter) -> Result<()> {
    let mut file = open_verified(package)?;
    file.rewind().map_err(|e| Error::io("rewind", &package.path, e))?;
    let in_package = || format!("cannot unpack the package {} from {}", package.name, package.path.display());

    let mut archive = ar::Archive::new(BufReader::new(file));
    expect_format(&mut archive).context(in_package)?;
    while let Some(member) = archive.next_entry() {
        let member = member.context(in_package)?;
        let name = String::from_utf8_lossy(member.header().identifier()).into_owned();
        let Some(compression) = name.trim_end_matches('/').strip_prefix("data.tar") else { continue };
        return match compression {
            ".xz" => write_entries(move || lzma_rust2::XzReader::new(member, true), tree),
            ".zst" => {
                let reader = zstd::Decoder::new(member).context(in_package)?;
                write_entries(move || reader, tree)
            }
            ".gz" => write_entries(move || flate2::read::MultiGzDecoder::new(member), tree),
            "" => write_entries(move || member, tree),
            other => {
                Err(Error::new(format!("its data.tar is compressed as \"{other}\"; known are xz, zst, gz and none")))
            }
        }
        .context(in_package);
    }
    Err(Error::new(format!("{} has no data.tar member", package.path.display()))).context(in_package)
}

/// Opens the package file if its hash is the locked one.
fn open_verified(package: &Package) -> Result<File> {
    let repair = "run `cargo xtask sources fetch`";
    let mut file = File::open(&package.path)
        .map_err(|e| Error::io(&format!("open the package {} at", package.name), &package.path, e).repair(repair))?;
    let found = Fingerprint::of_open_file(&mut file, &package.path)?.to_string();
    if found != package.sha256 {
        return Err(Error::new(format!(
            "the package {} at {} is not the locked one: expected sha256 {}, found {found}",
            package.name,
            package.path.display(),
            package.sha256
        ))
        .repair(format!("delete that file, then {repair}")));
    }
    Ok(file)
}

/// Reads the first member, which identifies a package and its format.
fn expect_format(archive: &mut ar::Archive<BufReader<File>>) -> Result<()> {
    let mut first = match archive.next_entry() {
        Some(member) => member.context(|| "it is no ar archive".into())?,
        None => return Err(Error::new("it is an empty ar archive")),
    };
    let name = String::from_utf8_lossy(first.header().identifier()).into_owned();
    let mut version = String::new();
    (&mut first).take(16).read_to_string(&mut version).context(|| "cannot read its first member".into())?;
    if name.trim_end_matches('/') != "debian-binary" || !version.starts_with("2.") {
        return Err(Error::new(format!(
            "it is no Debian package: expected the first member debian-binary with 2.0, found {name} with {:?}",
            version.trim_end()
        )));
    }
    Ok(())
}

/// Decompresses on a second thread, writes on this one.
fn write_entries<R: Read>(decompressor: impl FnOnce() -> R + Send, tree: &mut TreeWriter) -> Result<()> {
    thread::scope(|scope| {
        let (sender, receiver) = sync_channel(CHUNKS_WAITING);
        scope.spawn(move || {
            let mut reader = decompressor();
            loop {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let read = (&mut reader).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
                let last = chunk.is_empty() || read.is_err();
                // Sending fails when the writing side has stopped; that side reports the reason.
                if sender.send(read.map(|_| chunk)).is_err() || last {
                    return;
                }
            }
        });
        let mut archive = tar::Archive::new(ChunkReader { receiver, chunk: io::Cursor::default() });
        for entry in archive.entries().context(|| "cannot read its data.tar".into())? {
            write_entry(&mut entry.context(|| "cannot read its data.tar".into())?, tree)?;
        }
        // The rest after the last entry is read too, so that the checksum of the compressed stream
        // is verified.
        io::copy(&mut archive.into_inner(), &mut io::sink())
            .context(|| "cannot read the end of its data.tar".into())?;
        Ok(())
    })
}

fn write_entry<R: Read>(entry: &mut tar::Entry<'_, R>, tree: &mut TreeWriter) -> Result<()> {
    let path = entry.path().context(|| "an entry has no usable path".into())?.into_owned();
    let kind = entry.header().entry_type();
    if !is_kept(&path, kind) {
        return Ok(());
    }
    let mode = entry.header().mode().context(|| format!("the entry {} has no mode", path.display()))?;
    let link = entry.link_name().context(|| format!("the entry {} has no usable link", path.display()))?;
    match (kind, link) {
        (tar::EntryType::Directory, _) => tree.directory(&path, mode),
        (tar::EntryType::Regular, _) => tree.file(&path, mode, entry),
        (tar::EntryType::Symlink, Some(target)) => tree.symlink(&path, &target),
        (tar::EntryType::Link, Some(target)) => tree.hard_link(&path, &target),
        (other, _) => Err(Error::new(format!(
            "the entry {} is a {other:?}; expected a file, a directory or a link",
            path.display()
        ))),
    }
}

/// Whether an entry goes into the image. Of documentation only the copyright files stay, and the
/// links that lead to one.
fn is_kept(path: &Path, kind: tar::EntryType) -> bool {
    let path = path.strip_prefix(".").unwrap_or(path);
    let Some(inside) = OMITTED.iter().find_map(|directory| path.strip_prefix(directory).ok().map(|p| (*directory, p)))
    else {
        return true;
    };
    let (directory, inside) = inside;
    directory == "usr/share/doc"
        && match inside.components().count() {
            1 => kind == tar::EntryType::Symlink,
            2 => inside.ends_with("copyright"),
            _ => false,
        }
}

/// Reads what the decompressing thread sends.
struct ChunkReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: io::Cursor<Vec<u8>>,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.chunk.read(buffer)?;
        if count > 0 || buffer.is_empty() {
            return Ok(count);
        }
        match self.receiver.recv() {
            Ok(chunk) => self.chunk = io::Cursor::new(chunk?),
            // The sender has sent its empty last chunk, or an error, before.
            Err(_) => return Ok(0),
        }
        self.chunk.read(buffer)
    }
}
