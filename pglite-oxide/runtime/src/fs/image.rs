//! A file system in memory: a tree behind one lock. It owns the lock and the handles; `tree` owns
//! files and names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::errno::{Errno, Result};
use super::tree::{Image, Ino, Item, ROOT, Tree};
use super::{Entry, FileSystem, Handle, Kind, OpenOptions, RawSlice, RawSliceMut, Stat};

/// An image and the changes made to it; freed with its last handle.
#[derive(Debug, Clone)]
pub struct ImageFs(Arc<Mutex<Tree>>);

/// An open node.
#[derive(Debug)]
struct ImageHandle {
    fs: ImageFs,
    ino: Ino,
}

impl ImageFs {
    /// A file system that shows the image.
    pub fn new(image: Arc<Image>) -> Self {
        Self(Arc::new(Mutex::new(Tree::new(image))))
    }

    /// An independent file system with the same files, sharing every page until it is written; see
    /// [`Tree::copy`] for what it costs.
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.tree().copy())))
    }

    /// Creates a file or directory at a free path, with its parents.
    pub fn insert(&self, path: &str, item: Item, now_ns: u64) -> Result<()> {
        self.tree().insert(path, item, now_ns)
    }

    #[cfg(test)]
    pub fn changed_nodes(&self) -> usize {
        self.tree().changed_nodes()
    }

    /// The tree, for one operation. No operation leaves it in an intermediate state, so a panic
    /// elsewhere does not corrupt it.
    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FileSystem for ImageFs {
    fn open(&self, path: &str, options: OpenOptions, now_ns: u64) -> Result<Arc<dyn Handle>> {
        let ino = self.tree().open(ROOT, shown(path), options, now_ns)?;
        Ok(Arc::new(ImageHandle { fs: self.clone(), ino }))
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        let tree = self.tree();
        tree.stat(tree.lookup(ROOT, shown(path))?)
    }

    fn create_directory(&self, path: &str, now_ns: u64) -> Result<()> {
        self.tree().create_directory(ROOT, path, now_ns)
    }

    fn remove_directory(&self, path: &str, now_ns: u64) -> Result<()> {
        self.tree().remove_directory(ROOT, path, now_ns)
    }

    fn remove_file(&self, path: &str, now_ns: u64) -> Result<()> {
        self.tree().remove_file(ROOT, path, now_ns)
    }

    fn rename(&self, from: &str, to: &str, now_ns: u64) -> Result<()> {
        self.tree().rename((ROOT, from), (ROOT, to), now_ns)
    }

    fn hard_link(&self, from: &str, to: &str, now_ns: u64) -> Result<()> {
        self.tree().hard_link((ROOT, from), (ROOT, to), now_ns)
    }
}

impl Handle for ImageHandle {
    fn read_into(&self, offset: u64, buf: RawSliceMut<'_>) -> Result<usize> {
        self.fs.tree().read(self.ino, offset, buf)
    }

    fn write_from(&self, offset: u64, data: RawSlice<'_>, now_ns: u64) -> Result<usize> {
        self.fs.tree().write(self.ino, offset, data, now_ns).map(|()| data.len())
    }

    fn stat(&self) -> Result<Stat> {
        self.fs.tree().stat(self.ino)
    }

    fn set_len(&self, len: u64, now_ns: u64) -> Result<()> {
        self.fs.tree().set_len(self.ino, len, now_ns)
    }

    /// Memory is not reserved: holes take none until they are written.
    fn allocate(&self, offset: u64, len: u64, now_ns: u64) -> Result<()> {
        let end = offset.checked_add(len).ok_or(Errno::FBIG)?;
        let mut tree = self.fs.tree();
        let stat = tree.stat(self.ino)?;
        if stat.kind == Kind::File && stat.len >= end { Ok(()) } else { tree.set_len(self.ino, end, now_ns) }
    }

    fn set_modified(&self, modified_ns: u64) -> Result<()> {
        self.fs.tree().set_modified(self.ino, modified_ns)
    }

    /// Memory has nothing to sync.
    fn sync(&self, _data_only: bool) -> Result<()> {
        Ok(())
    }

    fn list(&self) -> Result<Vec<Entry>> {
        self.fs.tree().list(self.ino)
    }
}

impl Drop for ImageHandle {
    fn drop(&mut self) {
        self.fs.tree().close(self.ino);
    }
}

/// The tree's form of a path; the root has a name there.
fn shown(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::test_support::{CREATE, behaves_as_posix_says, paths, read, write};
    use super::*;

    fn fs() -> ImageFs {
        let items = [("a/one".to_string(), Item::File(Bytes::from_static(b"1"))), ("b".to_string(), Item::Directory)];
        ImageFs::new(Arc::new(Image::new(items, 5).unwrap()))
    }

    #[test]
    fn an_empty_image_is_a_file_system() {
        behaves_as_posix_says(&ImageFs::new(Arc::new(Image::new([], 5).unwrap())));
    }

    #[test]
    fn copies_are_independent() {
        let one = fs();
        write(&one, "a/one", b"changed");
        let two = one.copy();
        write(&one, "a/one", b"again");
        write(&two, "new", b"2");
        one.rename("b", "c", 9).unwrap();
        let three = two.copy();
        two.remove_file("a/one", 9).unwrap();
        assert_eq!(paths(&one), ["a", "a/one", "c"]);
        assert_eq!(paths(&two), ["a", "b", "new"]);
        assert_eq!(paths(&three), ["a", "a/one", "b", "new"]);
        assert_eq!((read(&one, "a/one"), read(&three, "a/one")), (b"again".to_vec(), b"changed".to_vec()));
    }

    #[test]
    fn a_copy_costs_no_page_and_leaves_unlinked_files_behind() {
        let one = fs();
        write(&one, "big", &[7; 1 << 20]);
        let handle = one.open("a/one", OpenOptions::default(), 9).unwrap();
        one.remove_file("a/one", 9).unwrap();
        let two = one.copy();
        assert_eq!((paths(&two), read(&two, "big")), (paths(&one), vec![7; 1 << 20]));
        let mut buf = [0];
        assert_eq!((handle.read_at(0, &mut buf), buf), (Ok(1), *b"1"));
        drop(handle);
        assert_eq!(two.open("a/one", OpenOptions::default(), 9).unwrap_err(), Errno::NOENT);
    }

    #[test]
    fn an_unlinked_file_goes_with_its_last_handle() {
        let fs = fs();
        let handle = fs.open("new", CREATE, 9).unwrap();
        fs.remove_file("new", 9).unwrap();
        assert_eq!(handle.write_at(0, b"x", 9), Ok(1));
        assert_eq!(handle.stat().unwrap().links, 0);
        let before = fs.changed_nodes();
        drop(handle);
        assert_eq!(fs.changed_nodes(), before - 1);
    }

    #[test]
    fn the_root_is_a_directory_like_others() {
        let fs = fs();
        assert_eq!(fs.stat("").unwrap().kind, Kind::Directory);
        let root = fs.open("", OpenOptions { directory: true, ..OpenOptions::default() }, 9).unwrap();
        let names: Vec<String> = root.list().unwrap().into_iter().map(|entry| entry.name.into()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!((root.read_at(0, &mut [0]), root.sync(false)), (Err(Errno::ISDIR), Ok(())));
    }
}
