//! Presents a volume to wasmer-wasix's dynamic linker, which opens the placeholder files of side
//! modules. It is read-only: all other file operations of the guest go through `wasi`, never
//! through wasmer-wasix's file layer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use virtual_fs::{FileOpener, FileSystem, FsError, Metadata, OpenOptionsConfig, ReadDir, StaticFile, VirtualFile};

use crate::fs::errno::Errno;
use crate::fs::volume::normalise;
use crate::fs::{Kind, OpenOptions, Stat, Volume};

/// Maximum size of a file, in bytes. A placeholder is one line.
const LEN_MAX: u64 = 1 << 20;

/// Read-only view of a volume.
#[derive(Debug)]
pub struct LoaderFs(pub Arc<Volume>);

impl FileSystem for LoaderFs {
    fn readlink(&self, _path: &Path) -> virtual_fs::Result<PathBuf> {
        Err(FsError::InvalidInput)
    }

    fn read_dir(&self, _path: &Path) -> virtual_fs::Result<ReadDir> {
        Err(FsError::Unsupported)
    }

    fn create_dir(&self, _path: &Path) -> virtual_fs::Result<()> {
        Err(FsError::PermissionDenied)
    }

    fn remove_dir(&self, _path: &Path) -> virtual_fs::Result<()> {
        Err(FsError::PermissionDenied)
    }

    fn rename<'a>(
        &'a self,
        _from: &'a Path,
        _to: &'a Path,
    ) -> std::pin::Pin<Box<dyn Future<Output = virtual_fs::Result<()>> + Send + 'a>> {
        Box::pin(std::future::ready(Err(FsError::PermissionDenied)))
    }

    fn metadata(&self, path: &Path) -> virtual_fs::Result<Metadata> {
        let Stat { kind, len, modified_ns: modified, .. } = self.stat(path)?;
        let is_directory = kind == Kind::Directory;
        let ft = virtual_fs::FileType { dir: is_directory, file: !is_directory, ..Default::default() };
        Ok(Metadata { ft, accessed: 0, created: 0, modified, len })
    }

    fn symlink_metadata(&self, path: &Path) -> virtual_fs::Result<Metadata> {
        self.metadata(path)
    }

    fn remove_file(&self, _path: &Path) -> virtual_fs::Result<()> {
        Err(FsError::PermissionDenied)
    }

    fn new_open_options(&self) -> virtual_fs::OpenOptions<'_> {
        virtual_fs::OpenOptions::new(self)
    }
}

impl FileOpener for LoaderFs {
    fn open(
        &self,
        path: &Path,
        config: &OpenOptionsConfig,
    ) -> virtual_fs::Result<Box<dyn VirtualFile + Send + Sync + 'static>> {
        if config.would_mutate() {
            return Err(FsError::PermissionDenied);
        }
        Ok(Box::new(StaticFile::new(self.read(path)?)))
    }
}

impl LoaderFs {
    fn stat(&self, path: &Path) -> virtual_fs::Result<Stat> {
        let (path, _) = normalise("/", text(path)?).map_err(refused)?;
        let place = self.0.place(&path).map_err(refused)?;
        place.fs.stat(place.path).map_err(refused)
    }

    fn read(&self, path: &Path) -> virtual_fs::Result<Vec<u8>> {
        let (path, _) = normalise("/", text(path)?).map_err(refused)?;
        let place = self.0.place(&path).map_err(refused)?;
        let handle = place.fs.open(place.path, OpenOptions::default(), 0).map_err(refused)?;
        let Stat { kind, len, .. } = handle.stat().map_err(refused)?;
        if kind != Kind::File || len > LEN_MAX {
            return Err(FsError::NotAFile);
        }
        let mut bytes = vec![0; len as usize];
        let count = handle.read_at(0, &mut bytes).map_err(refused)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}

fn refused(errno: Errno) -> FsError {
    match errno {
        Errno::NOENT | Errno::NOTDIR => FsError::EntryNotFound,
        Errno::ISDIR => FsError::NotAFile,
        _ => FsError::IOError,
    }
}

fn text(path: &Path) -> virtual_fs::Result<&str> {
    path.to_str().ok_or(FsError::InvalidInput)
}
