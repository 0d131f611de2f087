//! Shows a volume to wasmer-wasix's dynamic linker, which opens the files that stand for side modules. Reading is all it offers: every
//! other file operation of the guest goes through `wasi`, never through wasmer-wasix's own file layer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use virtual_fs::{FileOpener, FileSystem, FsError, Metadata, OpenOptionsConfig, ReadDir, StaticFile, VirtualFile};

use super::Volume;
use super::tree::ROOT;

/// Read-only view of a volume.
#[derive(Debug)]
pub(crate) struct LoaderFs(pub(crate) Arc<Volume>);

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
        let tree = self.0.lock();
        let stat = tree.lookup(ROOT, text(path)?).and_then(|ino| tree.stat(ino)).map_err(|_| FsError::EntryNotFound)?;
        let is_directory = stat.kind == super::tree::Kind::Directory;
        let ft = virtual_fs::FileType { dir: is_directory, file: !is_directory, ..Default::default() };
        Ok(Metadata { ft, accessed: 0, created: 0, modified: stat.modified_ns, len: stat.len })
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
        let tree = self.0.lock();
        let ino = tree.lookup(ROOT, text(path)?).map_err(|_| FsError::EntryNotFound)?;
        let bytes = tree.contents(ino).map_err(|_| FsError::NotAFile)?;
        Ok(Box::new(StaticFile::new(bytes)))
    }
}

fn text(path: &Path) -> virtual_fs::Result<&str> {
    path.to_str().ok_or(FsError::InvalidInput)
}
