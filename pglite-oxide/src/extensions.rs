//! The extensions that a build of this crate can contain, as constants for
//! [`Builder::extension`](crate::Builder::extension). It owns their names and descriptions; the
//! modules and files are in the payload. The list is generated from `assets/extensions` and from
//! the control files of the build (`cargo xtask extensions generate`).

#[rustfmt::skip]
mod list;

pub use list::*;

/// Why an extension of this name is not built, if that is known.
pub(crate) fn blocked(name: &str) -> Option<&'static str> {
    list::BLOCKED.iter().find(|(blocked, _)| *blocked == name).map(|(_, because)| *because)
}

/// An extension of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extension {
    name: &'static str,
    version: &'static str,
    comment: &'static str,
    license: &'static str,
    requires: &'static [&'static str],
    feature: &'static str,
    modules: &'static [&'static str],
}

impl Extension {
    /// Its name for CREATE EXTENSION, or of its module if it is only loaded.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The version that is created in a new database; empty if the extension is only loaded.
    #[must_use]
    pub const fn version(&self) -> &'static str {
        self.version
    }

    /// What it is for, in the words of its control file.
    #[must_use]
    pub const fn comment(&self) -> &'static str {
        self.comment
    }

    /// The license of its source and of the libraries in its module: an SPDX expression.
    #[must_use]
    pub const fn license(&self) -> &'static str {
        self.license
    }

    /// The feature of this crate that contains it. Without the feature,
    /// [`Builder::open`](crate::Builder::open) rejects its name.
    #[must_use]
    pub const fn feature(&self) -> &'static str {
        self.feature
    }

    /// The files of its code, without `.so`.
    pub(crate) const fn modules(&self) -> &'static [&'static str] {
        self.modules
    }

    /// The extensions that are created with it.
    #[must_use]
    pub const fn requires(&self) -> &'static [&'static str] {
        self.requires
    }
}

/// Its name.
impl From<Extension> for String {
    fn from(extension: Extension) -> Self {
        extension.name.to_owned()
    }
}
