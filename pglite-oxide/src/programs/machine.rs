//! The host's files for a client program that its user runs, such as `psql`: all files of the user,
//! by their paths, without confinement. A database's files are in a `HostFs`, which is confined.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crate::fs::errno::{Errno, Result};
use crate::fs::host::HostHandle;
use crate::fs::{Entry, FileSystem, Handle, Kind, OpenOptions, RawSlice, RawSliceMut, Stat};

/// All files of the machine.
#[derive(Debug)]
pub(crate) struct MachineFs;

impl FileSystem for MachineFs {
    fn open(&self, path: &str, options: OpenOptions, _now_ns: u64) -> Result<Arc<dyn Handle>> {
        let path = real(path);
        let mut host = fs::OpenOptions::new();
        host.read(true);
        // What is only written to need not be readable, and devices may not be.
        let is_device = fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        if options.write {
            host.write(true).read(!is_device);
        }
        if options.create {
            host.write(true).create(!options.exclusive).create_new(options.exclusive);
        }
        host.truncate(options.truncate);
        let file = if options.directory { File::open(&path)? } else { host.open(&path)? };
        let metadata = file.metadata()?;
        match (metadata.is_dir(), options.directory) {
            (false, true) => Err(Errno::NOTDIR),
            (true, false) if options.write => Err(Errno::ISDIR),
            _ if metadata.is_file() || metadata.is_dir() => Ok(Arc::new(HostHandle::new(file)?)),
            _ => Ok(Arc::new(Device(file))),
        }
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        crate::fs::host::stat_path(&real(path))
    }

    fn create_directory(&self, path: &str, _now_ns: u64) -> Result<()> {
        Ok(fs::create_dir(real(path))?)
    }

    fn remove_directory(&self, path: &str, _now_ns: u64) -> Result<()> {
        Ok(fs::remove_dir(real(path))?)
    }

    fn remove_file(&self, path: &str, _now_ns: u64) -> Result<()> {
        Ok(fs::remove_file(real(path))?)
    }

    fn rename(&self, from: &str, to: &str, _now_ns: u64) -> Result<()> {
        Ok(fs::rename(real(from), real(to))?)
    }

    fn hard_link(&self, from: &str, to: &str, _now_ns: u64) -> Result<()> {
        Ok(fs::hard_link(real(from), real(to))?)
    }
}

/// A pipe, a terminal or the like: what has no offsets.
#[derive(Debug)]
struct Device(File);

impl Handle for Device {
    fn read_into(&self, _offset: u64, mut buf: RawSliceMut<'_>) -> Result<usize> {
        let mut bytes = vec![0; buf.len()];
        let count = (&self.0).read(&mut bytes)?;
        buf.part(0, count).copy_from(&bytes[..count]);
        Ok(count)
    }

    fn write_from(&self, _offset: u64, data: RawSlice<'_>, _now_ns: u64) -> Result<usize> {
        Ok((&self.0).write(&data.to_vec())?)
    }

    fn stat(&self) -> Result<Stat> {
        Ok(Stat { kind: Kind::Other, ..crate::fs::host::stat_file(&self.0)? })
    }

    fn set_len(&self, _len: u64, _now_ns: u64) -> Result<()> {
        Err(Errno::INVAL)
    }

    fn allocate(&self, _offset: u64, _len: u64, _now_ns: u64) -> Result<()> {
        Err(Errno::NOTSUP)
    }

    fn set_modified(&self, _modified_ns: u64) -> Result<()> {
        Err(Errno::NOTSUP)
    }

    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn list(&self) -> Result<Vec<Entry>> {
        Err(Errno::NOTDIR)
    }
}

/// The machine's path of a path from the root. Where paths begin with a drive, it is the first
/// name.
fn real(path: &str) -> PathBuf {
    if cfg!(windows) { PathBuf::from(path) } else { PathBuf::from(format!("/{path}")) }
}
