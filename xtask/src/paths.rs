//! Paths of the checkout and of the cache. It owns the names of directories, not their contents.

use std::path::PathBuf;

use crate::error::{Error, Result};

/// Directories the pipeline works in.
#[derive(Debug, Clone)]
pub(crate) struct Paths {
    /// Root of the checkout.
    pub(crate) root: PathBuf,
    /// `$XDG_CACHE_HOME/pglite-oxide`: everything that may be deleted and made again.
    pub(crate) cache: PathBuf,
}

impl Paths {
    /// The checkout this xtask was compiled in and the user's cache directory.
    ///
    /// # Errors
    ///
    /// Cargo runs it for another checkout, whose code it may not have.
    pub(crate) fn find() -> Result<Self> {
        let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        if let Some(other) = std::env::var_os("CARGO_MANIFEST_DIR").filter(|other| *other != *manifest) {
            return Err(Error::new(format!(
                "this xtask was compiled in {}, and runs in {}",
                manifest.display(),
                other.display()
            ))
            .repair("give each checkout a CARGO_TARGET_DIR of its own, or `touch xtask/src/main.rs`"));
        }
        let root = manifest.parent().ok_or_else(|| Error::new("xtask has no parent directory"))?.to_path_buf();
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|v| !v.is_empty()) {
            Some(dir) => PathBuf::from(dir),
            None => match std::env::var_os("HOME").filter(|v| !v.is_empty()) {
                Some(home) => PathBuf::from(home).join(".cache"),
                None => return Err(Error::new("neither XDG_CACHE_HOME nor HOME is set").repair("set one of them")),
            },
        };
        Ok(Self { root, cache: base.join("pglite-oxide") })
    }

    /// The lock file of build inputs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("sources.lock")
    }

    /// Verified downloads, one file per SHA-256.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.cache.join("downloads")
    }

    /// Unpacked images, one directory per digest.
    pub(crate) fn images(&self) -> PathBuf {
        self.cache.join("images")
    }

    /// Finished outputs of pipeline steps, one directory per step and input fingerprint.
    pub(crate) fn store(&self) -> PathBuf {
        self.cache.join("store")
    }

    /// Scratch directories of running steps.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.cache.join("scratch")
    }

    /// Cargo target directory of the builds the pipeline starts itself, shared between checkouts.
    pub(crate) fn cargo_target(&self) -> PathBuf {
        self.cache.join("cargo-target")
    }
}
