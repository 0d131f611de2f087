//! `assets/image.toml`: what the build image shall contain, as a person states it. It names packages, links and small
//! files; which versions that means stands in `sources.lock`, and making the tree is the image module's business.

use std::path::Path;

use serde::Deserialize;

use super::lock::{Package, Role};
use crate::error::{Error, Result};

/// The file, relative to the checkout.
pub(crate) const RECIPE_PATH: &str = "assets/image.toml";

/// The wanted image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recipe {
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
    /// What they are there for; said when one is missing.
    #[serde(rename = "for")]
    pub(crate) purpose: String,
    pub(crate) suite: String,
    /// Whether what they depend on is wanted too.
    #[serde(default = "yes")]
    pub(crate) dependencies: bool,
    /// Whether they carry the guest's headers and libc.
    #[serde(default)]
    pub(crate) sysroot: bool,
    pub(crate) packages: Vec<String>,
}

impl Group {
    /// The role of its packages in the lock.
    pub(crate) fn role(&self) -> Role {
        if self.sysroot { Role::Sysroot } else { Role::Image }
    }
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
    /// Reads `assets/image.toml` of a checkout.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = root.join(RECIPE_PATH);
        Self::parse(&std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, e))?)
    }

    /// Validates the text of the file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text).map_err(|e| {
            Error::new(format!("{RECIPE_PATH} does not have the expected form"))
                .cause(e.to_string().trim_end().to_owned())
                .repair("correct that line")
        })?;
        let paths = recipe.links.iter().map(|l| &l.path).chain(recipe.files.iter().map(|f| &f.path));
        for path in paths {
            let inside = path.strip_prefix('/').is_some_and(|p| p.split('/').all(|c| !["", ".", ".."].contains(&c)));
            if !inside {
                return Err(Error::new(format!("{RECIPE_PATH}: {path}: expected an absolute path without `..`"))
                    .repair("write the path as it is inside the image"));
            }
        }
        if let Some(file) = recipe.files.iter().find(|f| f.mode > 0o777) {
            return Err(Error::new(format!(
                "{RECIPE_PATH}: {}: mode: expected at most 0o777, found {:#o}",
                file.path, file.mode
            ))
            .repair("write the mode as an octal number, for example 0o644"));
        }
        Ok(recipe)
    }

    /// Wanted packages that the lock does not have, or has from another suite or with another role.
    pub(crate) fn missing_from(&self, packages: &[Package]) -> Vec<String> {
        let mut missing = Vec::new();
        for group in &self.groups {
            for name in &group.packages {
                let locked = packages.iter().map(|p| &p.artifact).find(|a| a.name == *name);
                if !locked.is_some_and(|a| a.suite == group.suite && a.role == group.role()) {
                    missing.push(format!("{name} ({}, role {}; {})", group.suite, group.role(), group.purpose));
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
        let recipe = Recipe::parse(GOOD).unwrap();
        assert!(recipe.groups[0].dependencies);
        assert_eq!(recipe.groups[0].role(), Role::Image);
        assert_eq!(recipe.files[0].mode, 0o644);
        assert_eq!(recipe.missing_from(&[]), ["gawk (trixie, role image; tests)"]);
    }

    #[test]
    fn bad_recipes_are_named() {
        let error = |from: &str, to: &str| {
            let text = GOOD.replace(from, to);
            assert_ne!(text, GOOD);
            Recipe::parse(&text).unwrap_err().to_string()
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
    fn the_checkouts_own_recipe_is_in_its_lock() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let recipe = Recipe::read(&root).unwrap();
        let lock = crate::sources::Lock::read(&root.join("sources.lock")).unwrap();
        assert_eq!(recipe.missing_from(&lock.packages), Vec::<String>::new());
    }
}
