//! A tree of files and directories: an immutable image that many databases share, and the changes
//! of one database. It owns names, times and link counts; `content` owns the bytes, `image` the
//! lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::content::{Content, Later};
use super::errno::{Errno, Result};
use super::{Entry, Kind, OpenOptions, RawSlice, RawSliceMut, Stat};

/// Number of a node, stable for its lifetime. The root is 0; the guest sees the number plus one.
pub type Ino = u32;

/// The root directory.
pub const ROOT: Ino = 0;

/// Bytes of the longest name of one entry: that of Linux file systems, which PostgreSQL's
/// `MAXPGPATH` presumes.
pub const NAME_MAX: usize = 255;

/// An immutable tree. Cloning the `Arc` around it is all that opening a database copies.
#[derive(Debug, Default)]
pub struct Image {
    nodes: Vec<Node>,
}

/// A file or directory for `Image::new`, named by its path from the root, like
/// `pgdata/base/1/1259`.
#[derive(Debug, Clone)]
pub enum Item {
    Directory,
    File(Bytes),
    /// A file of this length whose bytes are asked for when they are read.
    Later(usize, Arc<dyn Later>),
}

/// One database's tree.
#[derive(Debug)]
pub struct Tree {
    image: Arc<Image>,
    /// Nodes that are new or differ from the image. A removed node of the image has no entry here,
    /// because no name refers to it. Shared with copies of this tree until one of them changes.
    changed: Arc<HashMap<Ino, Node>>,
    next: Ino,
    /// Descriptors open on a node. An unlinked node lives until its last one closes.
    opens: HashMap<Ino, u32>,
}

#[derive(Debug, Clone)]
struct Node {
    body: Body,
    links: u32,
    modified_ns: u64,
}

#[derive(Debug, Clone)]
enum Body {
    Directory { entries: Arc<BTreeMap<Box<str>, Ino>>, parent: Ino },
    File(Content),
}

impl Image {
    /// An empty image.
    pub fn empty() -> Self {
        Self { nodes: vec![Node::directory(ROOT, 0)] }
    }

    /// Builds an image. Parents are created as needed; a path given twice, or below a file, is
    /// `EXIST` or `NOTDIR`.
    pub fn new(items: impl IntoIterator<Item = (String, Item)>, modified_ns: u64) -> Result<Self, (String, Errno)> {
        let mut tree = Tree::new(Arc::new(Self { nodes: vec![Node::directory(ROOT, modified_ns)] }));
        for (path, item) in items {
            tree.insert(&path, item, modified_ns).map_err(|errno| (path, errno))?;
        }
        Ok(tree.into_image())
    }
}

impl Tree {
    /// A tree that shows the image.
    pub fn new(image: Arc<Image>) -> Self {
        let next = image.nodes.len() as Ino;
        Self { image, changed: Arc::default(), next, opens: HashMap::new() }
    }

    /// An independent tree with the same files, in constant time. The first change to either tree
    /// copies the table of changed nodes, but no contents. Unlinked files are not part of it.
    pub fn copy(&self) -> Self {
        let (image, changed) = (self.image.clone(), self.changed.clone());
        let mut copy = Self { image, changed, next: self.next, opens: HashMap::new() };
        for ino in self.opens.keys() {
            copy.reap(*ino);
        }
        copy
    }

    /// Finds a node by its path from `start`, or from the root when the path begins with a slash.
    pub fn lookup(&self, start: Ino, path: &str) -> Result<Ino> {
        if path.is_empty() {
            return Err(Errno::NOENT);
        }
        let mut ino = if path.starts_with('/') { ROOT } else { start };
        for name in path.split('/') {
            ino = self.step(ino, name)?;
        }
        if path.ends_with('/') {
            self.entries(ino)?;
        }
        Ok(ino)
    }

    /// The status of a node.
    pub fn stat(&self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        let (kind, len) = match &node.body {
            Body::Directory { .. } => (Kind::Directory, 0),
            Body::File(content) => (Kind::File, content.len()),
        };
        Ok(Stat { ino: shown(ino), kind, len, links: node.links, modified_ns: node.modified_ns })
    }

    /// Opens a file or directory and counts a descriptor on it: `close` must follow.
    pub fn open(&mut self, start: Ino, path: &str, options: OpenOptions, now_ns: u64) -> Result<Ino> {
        let ino = match self.lookup(start, path) {
            Ok(_) if options.create && options.exclusive => return Err(Errno::EXIST),
            Ok(ino) => ino,
            Err(Errno::NOENT) if options.create && !options.directory => {
                if path.ends_with('/') {
                    return Err(Errno::ISDIR);
                }
                let (parent, name) = self.parent(start, path)?;
                let ino = self.add(Node { body: Body::File(Content::default()), links: 1, modified_ns: now_ns })?;
                self.link(parent, name, ino, now_ns)?;
                ino
            }
            Err(errno) => return Err(errno),
        };
        match (self.stat(ino)?.kind, options) {
            (Kind::Directory, OpenOptions { write: true, .. } | OpenOptions { truncate: true, .. }) => {
                return Err(Errno::ISDIR);
            }
            (Kind::File, OpenOptions { directory: true, .. }) => return Err(Errno::NOTDIR),
            (Kind::File, OpenOptions { truncate: true, .. }) => self.set_len(ino, 0, now_ns)?,
            _ => (),
        }
        self.acquire(ino);
        Ok(ino)
    }

    /// Counts one more descriptor on an open node.
    pub fn acquire(&mut self, ino: Ino) {
        *self.opens.entry(ino).or_insert(0) += 1;
    }

    /// Ends one descriptor; the node goes with the last one if no name is left.
    pub fn close(&mut self, ino: Ino) {
        if let Some(count) = self.opens.get_mut(&ino) {
            *count -= 1;
            if *count == 0 {
                self.opens.remove(&ino);
                self.reap(ino);
            }
        }
    }

    /// Reads from a file; returns the number of bytes read, fewer than asked only at the end.
    pub fn read<'a>(&self, ino: Ino, offset: u64, buf: impl Into<RawSliceMut<'a>>) -> Result<usize> {
        match &self.node(ino)?.body {
            Body::File(content) => content.read(offset, buf),
            Body::Directory { .. } => Err(Errno::ISDIR),
        }
    }

    /// Writes all of `data` into a file.
    pub fn write<'a>(&mut self, ino: Ino, offset: u64, data: impl Into<RawSlice<'a>>, now_ns: u64) -> Result<()> {
        let (content, modified_ns) = self.content_mut(ino)?;
        content.write(offset, data)?;
        *modified_ns = now_ns;
        Ok(())
    }

    /// Sets the length of a file.
    pub fn set_len(&mut self, ino: Ino, len: u64, now_ns: u64) -> Result<()> {
        let (content, modified_ns) = self.content_mut(ino)?;
        content.set_len(len)?;
        *modified_ns = now_ns;
        Ok(())
    }

    /// Sets the time of the last change.
    pub fn set_modified(&mut self, ino: Ino, modified_ns: u64) -> Result<()> {
        self.node_mut(ino)?.modified_ns = modified_ns;
        Ok(())
    }

    /// Entries of a directory in the order of their names, without `.` and `..`.
    pub fn list(&self, ino: Ino) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (name, ino) in self.entries(ino)? {
            entries.push(Entry { name: name.clone(), ino: shown(*ino), kind: self.stat(*ino)?.kind });
        }
        Ok(entries)
    }

    /// Directory that holds this directory.
    pub fn parent_of(&self, ino: Ino) -> Result<Ino> {
        match &self.node(ino)?.body {
            Body::Directory { parent, .. } => Ok(*parent),
            Body::File(_) => Err(Errno::NOTDIR),
        }
    }

    /// Makes an empty directory.
    pub fn create_directory(&mut self, start: Ino, path: &str, now_ns: u64) -> Result<()> {
        let (parent, name) = self.parent(start, path.trim_end_matches('/'))?;
        if self.entries(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        let ino = self.add(Node::directory(parent, now_ns))?;
        self.link(parent, name, ino, now_ns)
    }

    /// Removes an empty directory.
    pub fn remove_directory(&mut self, start: Ino, path: &str, now_ns: u64) -> Result<()> {
        let (parent, name) = self.parent(start, path.trim_end_matches('/'))?;
        let ino = *self.entries(parent)?.get(name).ok_or(Errno::NOENT)?;
        if !self.entries(ino)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.unlink(parent, name, now_ns)
    }

    /// Removes a name of a file. The file stays readable through open descriptors.
    pub fn remove_file(&mut self, start: Ino, path: &str, now_ns: u64) -> Result<()> {
        let (parent, name) = self.parent(start, path)?;
        let ino = *self.entries(parent)?.get(name).ok_or(Errno::NOENT)?;
        if self.entries(ino).is_ok() {
            return Err(Errno::ISDIR);
        }
        self.unlink(parent, name, now_ns)
    }

    /// Gives a file a second name.
    pub fn hard_link(&mut self, from: (Ino, &str), to: (Ino, &str), now_ns: u64) -> Result<()> {
        let ino = self.lookup(from.0, from.1)?;
        if self.entries(ino).is_ok() {
            return Err(Errno::ACCES);
        }
        let (parent, name) = self.parent(to.0, to.1)?;
        if self.entries(parent)?.contains_key(name) {
            return Err(Errno::EXIST);
        }
        self.node_mut(ino)?.links += 1;
        self.link(parent, name, ino, now_ns)
    }

    /// Renames, replacing a file or an empty directory of the same kind, as POSIX says.
    pub fn rename(&mut self, from: (Ino, &str), to: (Ino, &str), now_ns: u64) -> Result<()> {
        let (from_parent, from_name) = self.parent(from.0, from.1.trim_end_matches('/'))?;
        let (to_parent, to_name) = self.parent(to.0, to.1.trim_end_matches('/'))?;
        let ino = *self.entries(from_parent)?.get(from_name).ok_or(Errno::NOENT)?;
        let is_directory = self.entries(ino).is_ok();
        if is_directory && self.is_inside(to_parent, ino)? {
            return Err(Errno::INVAL);
        }
        if let Some(&replaced) = self.entries(to_parent)?.get(to_name) {
            if replaced == ino {
                return Ok(());
            }
            match (is_directory, self.entries(replaced)) {
                (true, Err(_)) => return Err(Errno::NOTDIR),
                (false, Ok(_)) => return Err(Errno::ISDIR),
                (true, Ok(entries)) if !entries.is_empty() => return Err(Errno::NOTEMPTY),
                _ => (),
            }
            self.unlink(to_parent, to_name, now_ns)?;
        }
        self.entries_mut(from_parent, now_ns)?.remove(from_name);
        self.link(to_parent, to_name, ino, now_ns)?;
        if is_directory && let Body::Directory { parent, .. } = &mut self.node_mut(ino)?.body {
            *parent = to_parent;
        }
        Ok(())
    }

    /// Creates a file or directory at a free path, with its parents.
    pub fn insert(&mut self, path: &str, item: Item, now_ns: u64) -> Result<()> {
        let mut directory = ROOT;
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            let found = self.entries(directory)?.get(name).copied();
            let is_last = names.peek().is_none();
            directory = match (found, &item) {
                (Some(ino), _) if !is_last => ino,
                (Some(ino), Item::Directory) if self.entries(ino).is_ok() => ino,
                (Some(_), _) => return Err(Errno::EXIST),
                (None, Item::File(_) | Item::Later(..)) if is_last => {
                    let body = Body::File(match &item {
                        Item::Later(len, later) => Content::later(*len, later.clone()),
                        Item::File(bytes) => Content::new(bytes.clone()),
                        Item::Directory => Content::default(),
                    });
                    let ino = self.add(Node { body, links: 1, modified_ns: now_ns })?;
                    self.link(directory, name, ino, now_ns)?;
                    ino
                }
                (None, _) => {
                    let ino = self.add(Node::directory(directory, now_ns))?;
                    self.link(directory, name, ino, now_ns)?;
                    ino
                }
            };
        }
        Ok(())
    }

    #[cfg(test)]
    pub fn changed_nodes(&self) -> usize {
        self.changed.len()
    }

    /// Makes what the tree shows now an image. Numbers stay as they are, so the result is a
    /// function of the operations done.
    fn into_image(self) -> Image {
        let mut nodes: Vec<Node> = self.image.nodes.clone();
        let mut added: Vec<(Ino, Node)> = Arc::unwrap_or_clone(self.changed).into_iter().collect();
        added.sort_by_key(|(ino, _)| *ino);
        for (ino, node) in added {
            match nodes.get_mut(ino as usize) {
                Some(slot) => *slot = node,
                None => nodes.push(node),
            }
        }
        Image { nodes }
    }

    fn step(&self, directory: Ino, name: &str) -> Result<Ino> {
        match name {
            "" => Ok(directory),
            "." => self.entries(directory).map(|_| directory),
            ".." => self.parent_of(directory),
            name => self.entries(directory)?.get(name).copied().ok_or(Errno::NOENT),
        }
    }

    /// Directory and last name of a path whose last part need not exist.
    fn parent<'a>(&self, start: Ino, path: &'a str) -> Result<(Ino, &'a str)> {
        let (directory, name) = match path.rsplit_once('/') {
            Some(("", name)) => (ROOT, name),
            Some((directory, name)) => (self.lookup(start, directory)?, name),
            None => (start, path),
        };
        match name {
            "" if path.is_empty() => Err(Errno::NOENT),
            "" | "." | ".." => Err(Errno::INVAL),
            name if name.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
            name => self.entries(directory).map(|_| (directory, name)),
        }
    }

    fn is_inside(&self, mut directory: Ino, ancestor: Ino) -> Result<bool> {
        while directory != ancestor {
            if directory == ROOT {
                return Ok(false);
            }
            directory = self.parent_of(directory)?;
        }
        Ok(true)
    }

    fn node(&self, ino: Ino) -> Result<&Node> {
        self.changed.get(&ino).or_else(|| self.image.nodes.get(ino as usize)).ok_or(Errno::IO)
    }

    /// The database's own copy of a node: bytes of files stay shared until they are written.
    fn node_mut(&mut self, ino: Ino) -> Result<&mut Node> {
        match Arc::make_mut(&mut self.changed).entry(ino) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let node = self.image.nodes.get(ino as usize).ok_or(Errno::IO)?;
                Ok(entry.insert(node.clone()))
            }
        }
    }

    fn content_mut(&mut self, ino: Ino) -> Result<(&mut Content, &mut u64)> {
        let node = self.node_mut(ino)?;
        match &mut node.body {
            Body::File(content) => Ok((content, &mut node.modified_ns)),
            Body::Directory { .. } => Err(Errno::ISDIR),
        }
    }

    fn entries(&self, ino: Ino) -> Result<&BTreeMap<Box<str>, Ino>> {
        match &self.node(ino)?.body {
            Body::Directory { entries, .. } => Ok(entries),
            Body::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn entries_mut(&mut self, ino: Ino, now_ns: u64) -> Result<&mut BTreeMap<Box<str>, Ino>> {
        let node = self.node_mut(ino)?;
        node.modified_ns = now_ns;
        match &mut node.body {
            Body::Directory { entries, .. } => Ok(Arc::make_mut(entries)),
            Body::File(_) => Err(Errno::NOTDIR),
        }
    }

    fn add(&mut self, node: Node) -> Result<Ino> {
        let ino = self.next;
        self.next = ino.checked_add(1).ok_or(Errno::IO)?;
        Arc::make_mut(&mut self.changed).insert(ino, node);
        Ok(ino)
    }

    fn link(&mut self, directory: Ino, name: &str, ino: Ino, now_ns: u64) -> Result<()> {
        self.entries_mut(directory, now_ns)?.insert(name.into(), ino);
        Ok(())
    }

    fn unlink(&mut self, directory: Ino, name: &str, now_ns: u64) -> Result<()> {
        let ino = self.entries_mut(directory, now_ns)?.remove(name).ok_or(Errno::NOENT)?;
        let node = self.node_mut(ino)?;
        node.links = node.links.saturating_sub(1);
        self.reap(ino);
        Ok(())
    }

    /// Frees a node that has neither a name nor a descriptor.
    fn reap(&mut self, ino: Ino) {
        let is_dead = self.changed.get(&ino).is_some_and(|node| node.links == 0);
        if is_dead && !self.opens.contains_key(&ino) {
            Arc::make_mut(&mut self.changed).remove(&ino);
        }
    }
}

/// The number that the guest sees.
fn shown(ino: Ino) -> u64 {
    u64::from(ino) + 1
}

impl Node {
    fn directory(parent: Ino, modified_ns: u64) -> Self {
        Self { body: Body::Directory { entries: Arc::default(), parent }, links: 1, modified_ns }
    }
}

#[cfg(test)]
mod tests;
