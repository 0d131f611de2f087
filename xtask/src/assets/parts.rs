//! The parts of a payload: PostgreSQL itself, which every user gets, and the families of
//! extensions, which users choose. It owns the names of the families, and of their crates and
//! features.

use std::path::{Path, PathBuf};

use super::targets::Target;
use crate::error::{Error, Result};

/// Extensions that are published in one crate and chosen by one feature of the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// Whether its extensions are under the GPL: a program contains them only if it asks for them.
    pub(crate) gpl: bool,
}

/// The families: PostgreSQL's own extensions, some that are large or wanted alone, those under the
/// GPL, which no other feature requests, and the others.
pub(crate) const FAMILIES: &[Family] = &[
    Family { name: "community", gpl: false },
    Family { name: "contrib", gpl: false },
    Family { name: "gpl", gpl: true },
    Family { name: "icu", gpl: false },
    Family { name: "pgcrypto", gpl: false },
    Family { name: "postgis", gpl: true },
    Family { name: "vector", gpl: false },
    Family { name: "xml", gpl: false },
];

impl Family {
    /// The family of this name.
    pub(crate) fn find(name: &str) -> Result<Self> {
        FAMILIES.iter().copied().find(|family| family.name == name).ok_or_else(|| {
            let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
            Error::new(format!("there is no family `{name}`; there are {}", known.join(", ")))
                .repair("use one of them, or add the family to parts.rs, with a crate and a feature")
        })
    }

    /// The feature of the library that contains its extensions.
    pub(crate) fn feature(self) -> String {
        format!("extensions-{}", self.name)
    }

    /// Its crate.
    pub(crate) fn crate_name(self) -> String {
        format!("pglite-oxide-extensions-{}", self.name)
    }
}

/// A part of a payload, with a manifest of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// PostgreSQL, its own modules and the client programs.
    Server,
    /// Extensions.
    Family(Family),
}

impl Part {
    /// Every part, the server first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Server).chain(FAMILIES.iter().copied().map(Self::Family))
    }

    /// Its directory in the output of a step.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Family(family) => family.name,
        }
    }

    /// Directory of its portable payload in a checkout.
    pub(crate) fn assets_dir(self, root: &Path) -> PathBuf {
        match self {
            Self::Server => root.join("pglite-oxide-assets/payload"),
            Self::Family(family) => family_dir(root, family).join("files"),
        }
    }

    /// Directory of its payload for a target in a checkout.
    pub(crate) fn target_dir(self, root: &Path, target: Target) -> PathBuf {
        match self {
            Self::Server => root.join("pglite-oxide-aot").join(target.triple).join("payload"),
            Self::Family(family) => family_dir(root, family).join(target.triple),
        }
    }
}

/// Directory of the payloads in the crate of a family.
fn family_dir(root: &Path, family: Family) -> PathBuf {
    root.join("pglite-oxide-extensions").join(family.name).join("payload")
}
