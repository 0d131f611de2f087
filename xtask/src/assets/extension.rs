//! The side modules as data: `assets/extensions/<name>.toml` has the source of each, its build and
//! its modules. It owns the format of these files; the steps build and pack.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::parts::{Family, Part};
use crate::error::{Context, Error, Result};
use crate::files;
use crate::pipeline::fingerprint::children;

/// Directory of the files, below the checkout.
const DIRECTORY: &str = "assets/extensions";
/// The main module's name, which no extension can have.
const RESERVED: &str = super::modules::MAIN;

/// An extension, or a part of the server with modules of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extension {
    /// Name of the file, and of the archive in the payload.
    pub(crate) name: String,
    /// SPDX identifier or name of the licence of its source.
    pub(crate) license: String,
    /// The crate and feature that it is in; `None`: it is part of the server.
    pub(crate) family: Option<Family>,
    /// The modules that its installation creates, without `.so`.
    pub(crate) modules: Vec<String>,
    /// What CREATE EXTENSION makes of it; by default what has the name of the file.
    pub(crate) creates: Vec<String>,
    /// What it is for, if no control file says that.
    pub(crate) comment: Option<String>,
    /// Modules that have to be in `shared_preload_libraries`.
    pub(crate) preload: Vec<String>,
    /// Libraries that are linked into its modules: names of archives in `sources.lock`, each with a
    /// script in `assets/build/libraries`.
    pub(crate) libraries: Vec<String>,
    pub(crate) source: Source,
    /// Variables for `make`, as `NAME=VALUE`.
    pub(crate) make: Vec<String>,
    /// The script in `assets/build` that builds it, if PGXS does not.
    pub(crate) script: Option<String>,
    /// Statements that fail if the extension does not work, run one after the other after CREATE
    /// EXTENSION. Not an input of a step.
    pub(crate) smoke: Option<Vec<String>>,
    /// A statement after them that fails because of what it creates, if there is one. Not an input
    /// of a step.
    pub(crate) error: Option<ErrorCase>,
    /// Versions that its scripts cannot update. Not an input of a step.
    pub(crate) no_update_from: Vec<String>,
}

/// A statement that fails.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ErrorCase {
    pub(crate) sql: String,
    /// The code of its error.
    pub(crate) sqlstate: String,
}

/// Where the source of an extension is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory of PostgreSQL's tree. It is built and installed with the server, and every
    /// database has it.
    Server(String),
    /// A directory below `contrib` of PostgreSQL's tree, built by PGXS.
    Contrib(String),
    /// An archive of `sources.lock`, built by PGXS.
    Archive(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    license: String,
    family: Option<String>,
    modules: Vec<String>,
    creates: Option<Vec<String>>,
    comment: Option<String>,
    #[serde(default)]
    preload: Vec<String>,
    #[serde(default)]
    libraries: Vec<String>,
    source: FileSource,
    smoke: Option<Vec<String>>,
    error: Option<ErrorCase>,
    #[serde(default)]
    no_update_from: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileSource {
    server: Option<String>,
    contrib: Option<String>,
    archive: Option<String>,
    #[serde(default)]
    make: Vec<String>,
    script: Option<String>,
}

impl Extension {
    /// All files of a checkout, by name.
    pub(crate) fn all(root: &Path) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for (file, path) in children(&root.join(DIRECTORY))? {
            let Some(name) = file.strip_suffix(".toml") else {
                return Err(Error::new(format!("{} is no extension's file", path.display()))
                    .repair("call it NAME.toml or move it elsewhere"));
            };
            let text = files::text(&path)?;
            all.push(Self::parse(name, &text).context(|| format!("{DIRECTORY}/{file} cannot be used"))?);
        }
        distinct(&all)?;
        Ok(all)
    }

    /// Reads one file.
    fn parse(name: &str, text: &str) -> Result<Self> {
        check_name(name)?;
        let file: File = toml::from_str(text).context(|| "it does not have the expected form".into())?;
        let FileSource { server, contrib, archive, make, script } = file.source;
        let source = match (server, contrib, archive) {
            (Some(directory), None, None) => Source::Server(directory),
            (None, Some(directory), None) => Source::Contrib(directory),
            (None, None, Some(name)) => Source::Archive(name),
            _ => return Err(Error::new("[source] must have one of `server`, `contrib` and `archive`")),
        };
        let place = source.place();
        if place.is_empty() || place.split('/').any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(Error::new(format!("`{place}` is no place of a source")));
        }
        if let Some(module) = file.modules.iter().find(|module| !fine(module) || *module == RESERVED) {
            return Err(Error::new(format!("`{module}` is not a valid name of a module")));
        }
        let server = matches!(source, Source::Server(_));
        if server == file.family.is_some() {
            return Err(Error::new("an extension has a `family`; what is built with the server has none"));
        }
        let family = file.family.as_deref().map(Family::find).transpose()?;
        if family.is_some_and(|family| family.gpl) != file.license.contains("GPL") {
            return Err(Error::new(format!("its license is {}", file.license))
                .repair("the families `gpl` and `postgis` are for licenses that contain GPL, and for no others"));
        }
        let creates = match file.creates {
            Some(creates) => creates,
            None if server => vec![],
            None => vec![name.to_owned()],
        };
        if let Some(created) = creates.iter().find(|created| !fine(created)) {
            return Err(Error::new(format!("`{created}` is not a valid name of an extension")));
        }
        if let Some(module) = file.preload.iter().find(|module| !file.modules.contains(module)) {
            return Err(Error::new(format!("`{module}` in `preload` is none of its modules")));
        }
        if let Some(library) = file.libraries.iter().find(|library| !fine(library)) {
            return Err(Error::new(format!("`{library}` is not a valid name of a library")));
        }
        if server && !(creates.is_empty() && file.preload.is_empty() && file.libraries.is_empty()) {
            return Err(Error::new(
                "what is built with the server creates no extension, is not preloaded and has no libraries",
            ));
        }
        if !server && creates.is_empty() && file.comment.is_none() {
            return Err(Error::new("an extension that is only loaded has a `comment`"));
        }
        if let Some(variable) = make.iter().find(|variable| !variable.contains('=')) {
            return Err(Error::new(format!("`{variable}` in `make` is not NAME=VALUE")));
        }
        if script.as_ref().is_some_and(|script| !script.strip_suffix(".sh").is_some_and(fine)) {
            return Err(Error::new("`script` is no name of a script in assets/build"));
        }
        if script.is_some() && !(make.is_empty() && matches!(source, Source::Archive(_))) {
            return Err(Error::new("what has a `script` has an `archive` and no `make` variables"));
        }
        if server && !make.is_empty() {
            return Err(Error::new("what is built with the server has no `make` variables of its own"));
        }
        if server == file.smoke.is_some() {
            return Err(Error::new("an extension has `smoke` statements; what is built with the server has none"));
        }
        let File { license, modules, comment, preload, libraries, smoke, error, no_update_from, .. } = file;
        Ok(Self {
            name: name.to_owned(),
            license,
            family,
            modules,
            creates,
            comment,
            preload,
            libraries,
            source,
            make,
            script,
            smoke,
            error,
            no_update_from,
        })
    }

    /// The script in `assets/build` that builds it.
    pub(crate) fn script(&self) -> &str {
        self.script.as_deref().unwrap_or("pgxs.sh")
    }

    /// What the payload says of it, for a fingerprint.
    pub(crate) fn description(&self) -> String {
        let Self { name, license, modules, creates, preload, .. } = self;
        let [modules, creates, preload] = [modules, creates, preload].map(|names| names.join(" "));
        let family = self.family.map(|family| family.name).unwrap_or_default();
        format!("{name}: {license}; {family}; {modules}; {creates}; {preload}")
    }

    /// Which modules are in which part of the payload: a line for each extension.
    pub(crate) fn parts(all: &[Self]) -> Vec<String> {
        all.iter().map(|e| format!("{}: {}: {}", e.part().name(), e.name, e.modules.join(" "))).collect()
    }

    /// The part of the payload that it is in.
    pub(crate) fn part(&self) -> Part {
        self.family.map_or(Part::Server, Part::Family)
    }

    /// Whether it is part of the server.
    pub(crate) fn is_server(&self) -> bool {
        matches!(self.source, Source::Server(_))
    }
}

impl Source {
    /// The directory or the archive's name. Patches for it are in the directory of this name below
    /// `assets/patches`.
    pub(crate) fn place(&self) -> &str {
        match self {
            Self::Server(place) | Self::Contrib(place) | Self::Archive(place) => place,
        }
    }
}

/// Whether something can be called this.
fn fine(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

/// Rejects a name that an extension cannot have.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if fine(name) && !name.starts_with('_') && name != RESERVED {
        return Ok(());
    }
    Err(Error::new(format!("`{name}` is not a valid name of an extension"))
        .repair("use lowercase letters, digits, `_` and `-`, as CREATE EXTENSION does"))
}

/// Two modules or extensions with the same name could not both be installed.
fn distinct(all: &[Extension]) -> Result<()> {
    let mut owners = std::collections::BTreeMap::new();
    for extension in all {
        let modules = extension.modules.iter().map(|module| ("a module", module));
        let named = modules.chain(extension.creates.iter().map(|created| ("the extension", created)));
        for (what, name) in named {
            if let Some(other) = owners.insert((what, name), &extension.name) {
                return Err(Error::new(format!("{other} and {} both have {what} {name}", extension.name)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkouts_files_are_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let all = Extension::all(root).unwrap();
        let lines = all.iter().filter(|e| e.is_server() || e.source != Source::Contrib(e.name.clone()));
        let lines = lines.map(|e| format!("{} {:?} {}\n", e.name, e.source, e.modules.len()));
        insta::assert_snapshot!(lines.collect::<String>(), @r#"
        conversions Server("src/backend/utils/mb/conversion_procs") 24
        dict_snowball Server("src/backend/snowball") 1
        extra_window_functions Archive("extra-window-functions") 1
        icu Contrib("pgl_icu") 1
        ip4r Archive("ip4r") 1
        numeral Archive("numeral") 1
        periods Archive("periods") 1
        pg_dirtyread Archive("pg-dirtyread") 1
        pg_hint_plan Archive("pg-hint-plan") 1
        pg_partman Archive("pg-partman") 0
        pg_similarity Archive("pg-similarity") 1
        pgoutput Server("src/backend/replication/pgoutput") 1
        pgtap Archive("pgtap") 0
        plpgsql Server("src/pl/plpgsql/src") 1
        plprofiler Archive("plprofiler") 1
        postgis Archive("postgis") 2
        prefix Archive("prefix") 1
        rational Archive("rational") 1
        semver Archive("semver") 1
        unit Archive("unit") 1
        vector Archive("pgvector") 1
        xml Contrib("pgl_xml") 1
        "#);
        assert!(all.len() > 50);
    }

    #[test]
    fn a_file_says_where_the_source_is_and_what_comes_of_it() {
        let text = "license = \"PostgreSQL\"\nfamily = \"vector\"\nmodules = [\"vector\"]\nsmoke = [\"SELECT 1\"]\n[source]\narchive = \"pgvector\"\nmake = [\"A=b\"]\n";
        let found = Extension::parse("vector", text).unwrap();
        assert_eq!(found.source, Source::Archive("pgvector".into()));
        assert_eq!((found.modules, found.make), (vec!["vector".to_owned()], vec!["A=b".to_owned()]));
    }

    #[test]
    fn what_a_file_cannot_say_is_named() {
        let parse = |name: &str, source: &str, modules: &str| {
            let family = if source.starts_with("server") { "" } else { "family = \"contrib\"\n" };
            let text = format!("license = \"x\"\n{family}modules = [{modules}]\n[source]\n{source}\n");
            Extension::parse(name, &text).unwrap_err().to_string()
        };
        insta::assert_snapshot!(parse("x", "", ""), @"[source] must have one of `server`, `contrib` and `archive`");
        insta::assert_snapshot!(parse("x", "contrib = \"a\"\narchive = \"b\"", ""), @"[source] must have one of `server`, `contrib` and `archive`");
        insta::assert_snapshot!(parse("x", "contrib = \"../a\"", ""), @"`../a` is no place of a source");
        insta::assert_snapshot!(parse("x", "contrib = \"a\"\nmake = [\"-j\"]", ""), @"`-j` in `make` is not NAME=VALUE");
        insta::assert_snapshot!(parse("x", "server = \"a\"\nmake = [\"A=b\"]", ""), @"what is built with the server has no `make` variables of its own");
        insta::assert_snapshot!(parse("x", "contrib = \"a\"", "\"a b\""), @"`a b` is not a valid name of a module");
        insta::assert_snapshot!(parse("x", "contrib = \"a\"", "\"postgres\""), @"`postgres` is not a valid name of a module");
        insta::assert_snapshot!(parse("postgres", "contrib = \"a\"", ""), @"
        `postgres` is not a valid name of an extension
          repair: use lowercase letters, digits, `_` and `-`, as CREATE EXTENSION does
        ");
        insta::assert_snapshot!(parse("x", "contrib = \"a\"", ""), @"an extension has `smoke` statements; what is built with the server has none");
        let copyleft =
            "license = \"LGPL-2.1\"\nfamily = \"contrib\"\nmodules = []\nsmoke = []\n[source]\ncontrib = \"a\"\n";
        insta::assert_snapshot!(Extension::parse("x", copyleft).unwrap_err(), @"
        its license is LGPL-2.1
          repair: the families `gpl` and `postgis` are for licenses that contain GPL, and for no others
        ");
        assert!(parse("x", "contrib = \"a\"\nrecipe = \"?\"", "").contains("unknown field `recipe`"));
    }

    #[test]
    fn one_module_has_one_owner() {
        let of = |name: &str| Extension {
            name: name.to_owned(),
            license: String::new(),
            family: None,
            modules: vec!["same".to_owned()],
            creates: vec![],
            comment: None,
            preload: vec![],
            libraries: vec![],
            source: Source::Contrib("x".into()),
            make: vec![],
            script: None,
            smoke: None,
            error: None,
            no_update_from: vec![],
        };
        insta::assert_snapshot!(distinct(&[of("a"), of("b")]).unwrap_err(), @"a and b both have a module same");
    }
}
