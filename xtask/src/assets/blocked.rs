//! The extensions that are not built, with the reasons: `assets/blocked.toml`. It owns the format
//! of that file; `extensions` publishes the list, and `sources check` asks whether it is still
//! right.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::extension::{Extension, check_name};
use crate::error::{Context as _, Error, Result};
use crate::files;

/// The file, below the checkout.
const FILE: &str = "assets/blocked.toml";

/// An extension that is not built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blocked {
    /// Its name for CREATE EXTENSION, or of its module.
    pub(crate) name: String,
    /// Why: a clause without a subject or a whole one, without a full stop.
    pub(crate) because: String,
    /// Source packages that would have its source, if a mirror served them.
    #[serde(default)]
    pub(crate) packages: Vec<String>,
}

impl Blocked {
    /// All of a checkout, by name.
    pub(crate) fn all(root: &Path) -> Result<Vec<Self>> {
        let built = Extension::all(root)?;
        Self::parse(&files::text(&root.join(FILE))?, &built).context(|| format!("{FILE} cannot be used"))
    }

    fn parse(text: &str, built: &[Extension]) -> Result<Vec<Self>> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            extension: Vec<Blocked>,
        }
        let File { extension: all } = toml::from_str(text).context(|| "it does not have the expected form".into())?;
        let built: BTreeSet<&str> = built.iter().flat_map(|e| &e.creates).map(String::as_str).collect();
        let mut last = "";
        for Self { name, because, .. } in &all {
            check_name(name)?;
            if name.as_str() <= last {
                return Err(Error::new(format!("{name} stands after {last}"))
                    .repair("sort the entries by name, and name each extension once"));
            }
            if built.contains(name.as_str()) {
                return Err(Error::new(format!("{name} is built")).repair("remove its entry"));
            }
            if because.is_empty() || because.ends_with('.') {
                return Err(Error::new(format!("`because` of {name} is empty or ends with a full stop")));
            }
            last = name;
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkouts_file_names_what_is_not_built() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let all = Blocked::all(root).unwrap();
        let named: BTreeSet<&str> = all.iter().map(|blocked| blocked.name.as_str()).collect();
        let built = Extension::all(root).unwrap();
        let built: BTreeSet<&str> = built.iter().flat_map(|e| &e.creates).map(String::as_str).collect();
        // What the users of peers have: each is there, or there is a reason.
        for name in [
            "age",
            "hypopg",
            "pg_cron",
            "pg_hashids",
            "pg_ivm",
            "pg_textsearch",
            "pg_uuidv7",
            "pgcrypto",
            "pgtap",
            "postgis",
            "uuid-ossp",
            "vector",
        ] {
            assert!(named.contains(name) || built.contains(name), "{name}");
        }
    }

    #[test]
    fn an_entry_is_sorted_and_not_built_and_has_a_reason() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let built = Extension::all(root).unwrap();
        let refused = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(n, b)| format!("[[extension]]\nname = {n:?}\nbecause = {b:?}\n"));
            Blocked::parse(&entries.collect::<String>(), &built).unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused(&[("b", "x"), ("a", "x")]), @"
        a stands after b
          repair: sort the entries by name, and name each extension once
        ");
        insta::assert_snapshot!(refused(&[("hstore", "x")]), @"
        hstore is built
          repair: remove its entry
        ");
        insta::assert_snapshot!(refused(&[("a", "Because.")]), @"`because` of a is empty or ends with a full stop");
        assert!(refused(&[("A", "x")]).contains("not a valid name"));
    }
}
