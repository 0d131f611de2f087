//! The guest's file system: synchronous, in memory, one per database, on top of an image that databases share.
//! It owns files and descriptors. Durability is not here yet: a temporary database has nothing to make durable.

pub(crate) mod content;
pub(crate) mod errno;
pub(crate) mod files;
pub(crate) mod loader;
pub(crate) mod tree;
pub(crate) mod wasi;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use tree::{Image, Item, Tree};

/// A database's tree behind its one lock. Each operation holds it shortly and calls nothing else.
#[derive(Debug)]
pub(crate) struct Volume {
    tree: Mutex<Tree>,
}

impl Volume {
    /// A volume that shows the tree.
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree: Mutex::new(tree) }
    }

    /// The tree, for one operation. No operation leaves it half-changed, so a panic elsewhere does not spoil it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tree> {
        self.tree.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
