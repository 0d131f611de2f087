//! Control files of extensions: what PostgreSQL knows of an extension before it is created. It owns
//! reading them (PostgreSQL documentation, section "Packaging Related Objects into an Extension").

use std::collections::BTreeMap;
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
    for (file, path) in children(&directory)? {
        // One for a single version has the version in its name.
        if let Some(name) = file.strip_suffix(".control").filter(|name| !name.contains("--")) {
            let text = files::text(&path)?;
            found.push(created(name, &text).context(|| format!("the control file of {name} cannot be used"))?);
        }
    }
    Ok(found)
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
    fn what_is_no_control_file_is_named() {
        assert_eq!(created("x", "comment = 'a'\n").unwrap_err().to_string(), "it names no default_version");
        assert!(created("x", "default_version = '1\n").unwrap_err().to_string().contains("default_version = '1"));
        assert!(created("x", "nothing\n").is_err());
    }
}
