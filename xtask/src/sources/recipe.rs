//! `assets/image.toml` and `assets/native.toml`: the wanted contents of the build image and of the
//! root file system of the native PostgreSQL, written by hand. A recipe names packages, links and
//! small files; `sources.lock` has the versions, and the image module makes the tree.

use std::path::Path;

use serde::Deserialize;

use super::lock::{Artifact, Lock, Package, Role};
use crate::error::{Error, Result};
use crate::files;
use crate::image;

/// The root file systems that are made of locked packages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Root {
    /// The image in which everything is built.
    #[default]
    Build,
    /// The native PostgreSQL for comparisons.
    Native,
}

impl Root {
    pub(crate) const ALL: [Self; 2] = [Self::Build, Self::Native];

    /// Its recipe, relative to the checkout.
    pub(crate) fn recipe_path(self) -> &'static str {
        match self {
            Self::Build => "assets/image.toml",
            Self::Native => "assets/native.toml",
        }
    }

    /// The name of its packages for `sources update`.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Build => "image",
            Self::Native => "native",
        }
    }

    /// Its packages in the lock.
    pub(crate) fn packages(self, lock: &Lock) -> &[Package] {
        match self {
            Self::Build => &lock.packages,
            Self::Native => &lock.native,
        }
    }
}

/// A wanted root file system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
    /// Which one it is, by the file's name.
    #[serde(skip)]
    pub(crate) root: Root,
    /// Debian architecture of the image.
    pub(crate) architecture: String,
    #[serde(rename = "group")]
    pub(crate) groups: Vec<Group>,
    #[serde(default, rename = "link")]
    pub(crate) links: Vec<Link>,
    #[serde(default, rename = "file")]
    pub(crate) files: Vec<File>,
}

/// Packages that are wanted for one reason.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group {
    /// Their purpose, for the error if one is missing.
    #[serde(rename = "for")]
    pub(crate) purpose: String,
    pub(crate) suite: String,
    /// Whether their dependencies are wanted too.
    #[serde(default = "yes")]
    pub(crate) dependencies: bool,
    /// Whether they carry the guest's headers and libc.
    #[serde(default)]
    pub(crate) sysroot: bool,
    pub(crate) packages: Vec<String>,
}

/// A symbolic link that no package ships, usually because a maintainer script makes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    /// Absolute path inside the image.
    pub(crate) path: String,
    pub(crate) target: String,
}

/// A small file that no package ships.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Absolute path inside the image.
    pub(crate) path: String,
    pub(crate) content: String,
    pub(crate) mode: u32,
}

impl Recipe {
    /// Reads a recipe of a checkout.
    pub(crate) fn read(checkout: &Path, root: Root) -> Result<Self> {
        let path = checkout.join(root.recipe_path());
        Self::parse(root, &files::text(&path)?)
    }

    /// Validates the text of the file.
    pub(crate) fn parse(root: Root, text: &str) -> Result<Self> {
        let file = root.recipe_path();
        let recipe: Self = toml::from_str(text).map_err(|e| {
            Error::new(format!("{file} does not have the expected form"))
                .cause(e.to_string().trim_end().to_owned())
                .repair("correct that line")
        })?;
        let recipe = Self { root, ..recipe };
        let paths = recipe.links.iter().map(|l| &l.path).chain(recipe.files.iter().map(|f| &f.path));
        for path in paths {
            let inside = path.strip_prefix('/').is_some_and(|p| p.split('/').all(|c| !["", ".", ".."].contains(&c)));
            if !inside {
                return Err(Error::new(format!("{file}: {path}: expected an absolute path without `..`"))
                    .repair("write the path as it is inside the image"));
            }
        }
        if let Some(file) = recipe.files.iter().find(|f| f.mode > 0o777) {
            return Err(Error::new(format!(
                "{}: {}: mode: expected at most 0o777, found {:#o}",
                root.recipe_path(),
                file.path,
                file.mode
            ))
            .repair("write the mode as an octal number, for example 0o644"));
        }
        Ok(recipe)
    }

    /// The role in the lock of a package that one of the groups names, or that something in them
    /// depends on.
    pub(crate) fn role(&self, group: Option<&Group>) -> Role {
        match (self.root, group) {
            (Root::Native, _) => Role::Native,
            (Root::Build, Some(group)) if group.sysroot => Role::Sysroot,
            (Root::Build, _) => Role::Image,
        }
    }

    /// The image module's spec for this recipe and the packages of the lock.
    pub(crate) fn spec(&self, lock: &Lock, downloads: &Path) -> image::Spec {
        // A path of the recipe is absolute; the image takes it relative to its root.
        let below_root = |path: &str| path.trim_start_matches('/').to_owned();
        let package = |a: &Artifact| image::Package {
            name: a.name.clone(),
            path: downloads.join(&a.sha256),
            sha256: a.sha256.clone(),
        };
        let link = |l: &Link| image::Link { path: below_root(&l.path), target: l.target.clone() };
        let file = |f: &File| image::TextFile { path: below_root(&f.path), content: f.content.clone(), mode: f.mode };
        image::Spec {
            packages: self.root.packages(lock).iter().map(|p| package(&p.artifact)).collect(),
            links: self.links.iter().map(link).collect(),
            files: self.files.iter().map(file).collect(),
        }
    }

    /// Wanted packages that the lock does not have, or has from another suite or with another role.
    pub(crate) fn missing_from(&self, lock: &Lock) -> Vec<String> {
        let packages = self.root.packages(lock);
        let mut missing = Vec::new();
        for group in &self.groups {
            for name in &group.packages {
                let locked = packages.iter().map(|p| &p.artifact).find(|a| a.name == *name);
                if !locked.is_some_and(|a| a.suite == group.suite && a.role == self.role(Some(group))) {
                    missing.push(format!(
                        "{name} ({}, role {}; {})",
                        group.suite,
                        self.role(Some(group)),
                        group.purpose
                    ));
                }
            }
        }
        missing
    }
}

fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "architecture = \"amd64\"\n[[group]]\nfor = \"tests\"\nsuite = \"trixie\"\npackages = [\"gawk\"]\n\
        [[link]]\npath = \"/usr/bin/awk\"\ntarget = \"gawk\"\n[[file]]\npath = \"/etc/passwd\"\ncontent = \"root\\n\"\nmode = 0o644\n";

    #[test]
    fn defaults_are_dependencies_and_the_image() {
        let recipe = Recipe::parse(Root::Build, GOOD).unwrap();
        assert!(recipe.groups[0].dependencies);
        assert_eq!(recipe.role(Some(&recipe.groups[0])), Role::Image);
        assert_eq!(recipe.files[0].mode, 0o644);
        assert_eq!(recipe.missing_from(&Lock::default()), ["gawk (trixie, role image; tests)"]);
        let native = Recipe::parse(Root::Native, GOOD).unwrap();
        assert_eq!(native.missing_from(&Lock::default()), ["gawk (trixie, role native; tests)"]);
    }

    #[test]
    fn bad_recipes_are_named() {
        let error = |from: &str, to: &str| {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            Recipe::parse(Root::Build, &text).unwrap_err().to_string()
        };
        insta::assert_snapshot!(error("/usr/bin/awk", "usr/bin/awk"), @r"
        assets/image.toml: usr/bin/awk: expected an absolute path without `..`
          repair: write the path as it is inside the image
        ");
        insta::assert_snapshot!(error("/etc/passwd", "/etc/../passwd"), @r"
        assets/image.toml: /etc/../passwd: expected an absolute path without `..`
          repair: write the path as it is inside the image
        ");
        insta::assert_snapshot!(error("0o644", "0o4755"), @r"
        assets/image.toml: /etc/passwd: mode: expected at most 0o777, found 0o4755
          repair: write the mode as an octal number, for example 0o644
        ");
        insta::assert_snapshot!(error("suite =", "suit ="), @r#"
        assets/image.toml does not have the expected form
          because: TOML parse error at line 4, column 1
          |
        4 | suit = "trixie"
          | ^^^^
        unknown field `suit`, expected one of `for`, `suite`, `dependencies`, `sysroot`, `packages`
          repair: correct that line
        "#);
    }

    #[test]
    fn the_checkouts_own_recipes_are_in_its_lock() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let lock = Lock::read(&checkout.join("sources.lock")).unwrap();
        for root in Root::ALL {
            let recipe = Recipe::read(&checkout, root).unwrap();
            assert_eq!(recipe.missing_from(&lock), Vec::<String>::new());
        }
    }

    #[test]
    fn the_native_packages_are_no_part_of_the_build_image() {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let lock = Lock::read(&checkout.join("sources.lock")).unwrap();
        let alone = Lock { native: Vec::new(), ..lock.clone() };
        let hash = |root: Root, lock: &Lock| {
            image::input_hash(&Recipe::read(&checkout, root).unwrap().spec(lock, Path::new("downloads")))
        };
        assert_eq!(hash(Root::Build, &lock), hash(Root::Build, &alone));
        assert_ne!(hash(Root::Native, &lock), hash(Root::Native, &alone));
        let built = lock.artifacts(crate::sources::BUILD_ROLES).all(|a| a.role != Role::Native);
        assert!(built, "a build would fetch native packages");
    }
}
