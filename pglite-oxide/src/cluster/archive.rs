//! Archives of a data directory: tar, compressed with zstd or not. It owns their format and rejects
//! others.
//!
//! The first member identifies the archive, as the version file of a root does. Then comes the data
//! directory. An empty member at the end shows that the archive is complete.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Component, Path};

use crate::cluster::control_file::Layout;
use crate::cluster::data_lock::POSTMASTER_PID;
use crate::cluster::root::{DATA, VERSION, VERSION_MAX, Version};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::errno::Errno;
use crate::fs::{self, CREATE_NEW, FileSystem, Handle};

/// Last member.
const END: &str = "pglite-oxide.end";

const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// Format of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Format {
    /// A tar file.
    Tar,
    /// A tar file compressed with zstd.
    #[default]
    TarZst,
}

/// Writes a data directory, which must not change meanwhile.
pub(crate) fn dump(data: &dyn FileSystem, layout: &Layout, writer: impl Write, format: Format) -> Result<()> {
    match format {
        Format::Tar => write(data, layout, writer).map(drop),
        Format::TarZst => {
            let encoder = zstd::stream::write::Encoder::new(writer, 0).map_err(unwritable)?;
            write(data, layout, encoder)?.finish().map(drop).map_err(unwritable)
        }
    }
}

/// Fills an empty directory from an archive. After an error it contains a part of the archive.
pub(crate) fn load(reader: &mut dyn Read, data: &dyn FileSystem, layout: &Layout) -> Result<()> {
    let mut reader = BufReader::with_capacity(1 << 17, reader);
    if reader.fill_buf().map_err(unreadable)?.starts_with(&ZSTD_MAGIC) {
        read(zstd::stream::read::Decoder::with_buffer(reader).map_err(unreadable)?, data, layout)
    } else {
        read(reader, data, layout)
    }
}

fn write<W: Write>(data: &dyn FileSystem, layout: &Layout, writer: W) -> Result<W> {
    let mut tar = tar::Builder::new(writer);
    let mut add = |path: &str, kind, len, modified_ns: u64, contents: &mut dyn Read| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(if kind == tar::EntryType::Directory { 0o700 } else { 0o600 });
        header.set_size(len);
        header.set_mtime(modified_ns / 1_000_000_000);
        tar.append_data(&mut header, path, contents)
    };
    let version = Version::new(layout.clone()).to_json()?;
    let file = tar::EntryType::Regular;
    add(VERSION, file, version.len() as u64, 0, &mut &version[..]).map_err(unwritable)?;
    // The error in the archive, which an errno cannot express.
    let mut broken = None;
    let walked = fs::walk(data, "", &mut |path, handle| {
        if path == POSTMASTER_PID {
            return Ok(());
        }
        let path = format!("{DATA}/{path}");
        let added = match handle {
            None => add(&path, tar::EntryType::Directory, 0, 0, &mut io::empty()),
            Some(handle) => {
                let stat = handle.stat()?;
                add(&path, file, stat.len, stat.modified_ns, &mut Contents { handle, offset: 0 }.take(stat.len))
            }
        };
        added.map_err(|cause| {
            broken = Some(cause);
            Errno::IO
        })
    });
    match (broken, walked) {
        (Some(cause), _) => return Err(unwritable(cause)),
        (None, Err((path, errno))) => return Err(Error::new(ErrorKind::Io, format!("cannot read {path}: {errno}"))),
        (None, Ok(())) => (),
    }
    add(END, file, 0, 0, &mut io::empty()).map_err(unwritable)?;
    tar.into_inner().map_err(unwritable)
}

fn read(reader: impl Read, data: &dyn FileSystem, layout: &Layout) -> Result<()> {
    let mut archive = tar::Archive::new(reader);
    let mut entries = archive.entries().map_err(unreadable)?;
    let first = entries.next().transpose().map_err(unreadable)?;
    let first = first.filter(|first| *first.path_bytes() == *VERSION.as_bytes());
    let mut first = first.ok_or_else(|| refused(&format!("it does not begin with {VERSION}")))?;
    let mut version = Vec::new();
    (&mut first).take(VERSION_MAX as u64 + 1).read_to_end(&mut version).map_err(unreadable)?;
    Version::check(&version, "the archive", layout)?;
    drop(first);

    // PostgreSQL splits larger files.
    let largest = u64::from(layout.segment_blocks) * u64::from(layout.block_size);
    let mut buf = vec![0; 1 << 17];
    for entry in entries {
        let mut entry = entry.map_err(unreadable)?;
        if *entry.path_bytes() == *END.as_bytes() {
            return match Layout::of(data)? {
                found if found == *layout => Ok(()),
                found => Err(refused(&format!("it is of {found}, but this is {layout}"))),
            };
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = inside(&name).ok_or_else(|| refused(&format!("{name:?} is not a path in a data directory")))?;
        let failed = |errno: Errno| match errno {
            Errno::EXIST => refused(&format!("{name:?} is in it twice")),
            Errno::NOENT | Errno::NOTDIR => refused(&format!("{name:?} is in no directory of it")),
            errno => Error::new(ErrorKind::Io, format!("cannot write {name}: {errno}")),
        };
        match entry.header().entry_type() {
            tar::EntryType::Directory => data.create_directory(&path, 0).map_err(failed)?,
            tar::EntryType::Regular if entry.size() <= largest => {
                let handle = data.open(&path, CREATE_NEW, 0).map_err(failed)?;
                let (expected, mut offset) = (entry.size(), 0);
                loop {
                    let count = entry.read(&mut buf).map_err(unreadable)?;
                    if count == 0 {
                        break;
                    }
                    fs::write_all(&*handle, offset, &buf[..count]).map_err(failed)?;
                    offset += count as u64;
                }
                if offset != expected {
                    return Err(refused(&format!("{name:?} is cut off")));
                }
            }
            tar::EntryType::Regular => return Err(refused(&format!("{name:?} is larger than any file of PostgreSQL"))),
            _ => return Err(refused(&format!("{name:?} is neither a file nor a directory"))),
        }
    }
    Err(refused("its end is missing"))
}

/// The path in the data directory of a member, if it is a valid one.
fn inside(name: &str) -> Option<String> {
    let rest = name.strip_prefix(DATA)?.strip_prefix('/')?;
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = |part: &str| !part.is_empty() && !matches!(part, "." | "..") && !part.contains(['\\', ':', '\0']);
    let plain =
        rest.split('/').all(is_plain) && Path::new(rest).components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| rest.to_string())
}

/// A file as a stream.
struct Contents<'a> {
    handle: &'a dyn Handle,
    offset: u64,
}

impl Read for Contents<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.handle.read_at(self.offset, buf).map_err(|errno| io::Error::other(errno.to_string()))?;
        self.offset += count as u64;
        Ok(count)
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Incompatible, format!("the archive cannot be loaded: {why}"))
}

fn unreadable(cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot read the archive").with_cause(cause)
}

fn unwritable(cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the archive").with_cause(cause)
}

#[cfg(test)]
mod tests;
