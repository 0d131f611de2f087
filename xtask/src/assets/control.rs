//! Control files of extensions: what PostgreSQL knows of an extension before it is created. It owns
//! reading them (PostgreSQL documentation, section "Packaging Related Objects into an Extension").

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::error::{Context as _, Error, Result};
use crate::files;
use crate::manifest;
use crate::pipeline::fingerprint::children;

/// Directory of control files below an installation's root.
const DIRECTORY: &str = "usr/share/postgresql/extension";

/// The extensions whose control files an installation has, by name.
pub(crate) fn installed(install: &Path) -> Result<Vec<manifest::Created>> {
    let directory = install.join(DIRECTORY);
    if !directory.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let files = children(&directory)?;
    let scripts: Vec<&str> = files.keys().filter_map(|file| file.strip_suffix(".sql")).collect();
    for (file, path) in &files {
        // One for a single version has the version in its name.
        if let Some(name) = file.strip_suffix(".control").filter(|name| !name.contains("--")) {
            let text = files::text(path)?;
            let failed = || format!("the control file of {name} cannot be used");
            let created = created(name, &text).context(failed)?;
            // In another directory, PostgreSQL finds them or says what is missing.
            if !fields(&text)?.contains_key("directory") && !can_create(&scripts, name, &created.version) {
                return Err(Error::new(format!(
                    "no scripts create version {} of the extension {name}: found {}",
                    created.version,
                    if scripts.is_empty() { "none".to_owned() } else { scripts.join(", ") }
                ))
                .repair("have its makefile install them: DATA, and DATA_built for those that are generated"));
            }
            found.push(created);
        }
    }
    Ok(found)
}

/// Whether scripts, named without `.sql`, make this version: `NAME--VERSION`, or one of another
/// version and then `NAME--OLD--NEW`, as often as it takes.
fn can_create(scripts: &[&str], name: &str, version: &str) -> bool {
    let own = scripts.iter().filter_map(|script| script.strip_prefix(name)?.strip_prefix("--"));
    let (updates, creations): (Vec<&str>, Vec<&str>) = own.partition(|versions| versions.contains("--"));
    let mut reached: BTreeSet<&str> = creations.into_iter().collect();
    loop {
        let next = updates.iter().filter_map(|update| update.split_once("--"));
        let new: Vec<&str> =
            next.filter(|(old, new)| reached.contains(old) && !reached.contains(new)).map(|(_, new)| new).collect();
        if new.is_empty() {
            return reached.contains(version);
        }
        reached.extend(new);
    }
}

/// An extension from its control file.
fn created(name: &str, text: &str) -> Result<manifest::Created> {
    let fields = fields(text)?;
    let version = fields.get("default_version").ok_or_else(|| Error::new("it names no default_version"))?;
    let requires = fields.get("requires").map(String::as_str).unwrap_or_default();
    Ok(manifest::Created {
        name: name.to_owned(),
        version: version.clone(),
        comment: fields.get("comment").cloned().unwrap_or_default(),
        requires: requires.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    })
}

/// Lines of the form `name = value`, in the syntax of `postgresql.conf`.
fn fields(text: &str) -> Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let unclear = || Error::new(format!("the line `{line}` is not NAME = VALUE"));
        let (name, value) = line.split_once('=').ok_or_else(unclear)?;
        let value = value.trim();
        let value = match value.strip_prefix('\'') {
            // A quote within quotes is doubled.
            Some(quoted) => {
                let mut rest = quoted;
                let mut text = String::new();
                loop {
                    let (before, after) = rest.split_once('\'').ok_or_else(unclear)?;
                    text.push_str(before);
                    match after.strip_prefix('\'') {
                        Some(more) => {
                            text.push('\'');
                            rest = more;
                        }
                        None => break text,
                    }
                }
            }
            None => value.split('#').next().unwrap_or_default().trim().to_owned(),
        };
        fields.insert(name.trim().to_owned(), value);
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_file_says_version_comment_and_requirements() {
        let text = "# earth\ncomment = 'calculate great-circle distances on Earth''s surface' # note\n\
                    default_version = '1.2'\nmodule_pathname = '$libdir/earthdistance'\nrelocatable = true # a\n\
                    requires = 'cube, hstore'\n";
        let found = created("earthdistance", text).unwrap();
        assert_eq!(found.comment, "calculate great-circle distances on Earth's surface");
        assert_eq!((found.version.as_str(), found.requires.join(" ")), ("1.2", "cube hstore".to_owned()));
        assert_eq!(fields(text).unwrap()["relocatable"], "true");
    }

    #[test]
    fn a_version_is_created_by_a_script_or_by_updates_of_an_older_one() {
        let scripts = ["a--1.0", "a--1.0--1.1", "a--1.1--1.2", "a--2.0--2.1", "ab--2.1", "a--unpackaged--1.3"];
        let found = ["1.0", "1.2", "2.1", "1.3"].map(|version| can_create(&scripts, "a", version));
        assert_eq!(found, [true, true, false, false]);
        assert!(!can_create(&[], "a", "1.0"));
    }

    #[test]
    fn a_control_file_without_its_scripts_is_refused() {
        let install = tempfile::tempdir().unwrap();
        let directory = install.path().join(DIRECTORY);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("a.control"), "default_version = '1.1'\ncomment = 'a'\n").unwrap();
        std::fs::write(directory.join("a--1.0.sql"), "").unwrap();
        insta::assert_snapshot!(installed(install.path()).unwrap_err(), @"
        no scripts create version 1.1 of the extension a: found a--1.0
          repair: have its makefile install them: DATA, and DATA_built for those that are generated
        ");
        std::fs::write(directory.join("a--1.0--1.1.sql"), "").unwrap();
        assert_eq!(installed(install.path()).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_control_file_is_named() {
        assert_eq!(created("x", "comment = 'a'\n").unwrap_err().to_string(), "it names no default_version");
        assert!(created("x", "default_version = '1\n").unwrap_err().to_string().contains("default_version = '1"));
        assert!(created("x", "nothing\n").is_err());
    }
}
