//! `cargo xtask extensions`: what is known of all extensions, and what is tested of each. It owns
//! the generated list of constants and the generated table of the documentation; `assets` builds
//! the extensions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::assets::blocked::Blocked;
use crate::assets::bundle;
use crate::assets::extension::Extension;
use crate::assets::parts::Family;
use crate::assets::stage;
use crate::cargo::{SharedTarget, succeed};
use crate::error::{Error, Result};
use crate::files;
use crate::manifest;
use crate::paths::Paths;
use crate::regress;
use crate::sources::Lock;

/// The constants.
const LIST: &str = "pglite-oxide/src/extensions/list.rs";
/// The page with the table, and the lines that the table is between.
const PAGE: &str = "docs/extensions.md";
const BEGIN: &str = "<!-- generated: cargo xtask extensions generate -->";
const END: &str = "<!-- end of what is generated -->";

/// An extension that is no part of the project, what shows that it works, and what is an error of
/// it: built and tested as that of a user.
const EXAMPLE: &str = "examples/extension";
const EXAMPLE_SMOKE: &[&str] = &[
    "DO $$ BEGIN ASSERT roman(1987) = 'MCMLXXXVII'; ASSERT roman('MCMLXXXVII') = 1987; END $$",
    "CREATE TABLE t AS SELECT i, roman(i) FROM generate_series(1, 3999) i",
    "DO $$ BEGIN ASSERT (SELECT bool_and(roman(roman) = i) FROM t); END $$",
];
const EXAMPLE_ERROR: &str = "SELECT roman('IIII')";

/// Verbs of `cargo xtask extensions`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Write the constants and the table of the documentation
    Generate {
        /// Only compare them with what is there
        #[arg(long)]
        check: bool,
    },
    /// Test the life of every extension, or of those named
    Check {
        /// Names, as in assets/extensions
        names: Vec<String>,
        /// Random sets of ten that are tested together; with one or none, all together only once
        #[arg(long, value_name = "N", default_value_t = 5)]
        sets: usize,
        /// Repeat the random sets with this seed; each run prints its own
        #[arg(long, value_name = "S")]
        seed: Option<u64>,
    },
    /// Run the extensions' own regression suites
    Installcheck(regress::OwnSuites),
}

/// Runs a verb.
pub(crate) fn run(paths: &Paths, verb: &Verb) -> Result<()> {
    match verb {
        Verb::Generate { check } => generate(paths, *check),
        Verb::Check { names, sets, seed } => self::check(paths, names, *sets, *seed),
        Verb::Installcheck(options) => regress::installcheck(paths, options),
    }
}

/// What `cargo xtask test` runs; the suites are part of `regress`.
pub(crate) fn test(paths: &Paths) -> Result<()> {
    generate(paths, true)?;
    check(paths, &[], 1, None)
}

/// Writes or compares what is generated.
fn generate(paths: &Paths, check: bool) -> Result<()> {
    let all = Extension::all(&paths.root)?;
    let built = stage::read_assets(&paths.root)?;
    let lock = Lock::read(&paths.lock())?;
    let rows = rows(&all, &built, &lock)?;
    let blocked = Blocked::all(&paths.root)?;
    let page = paths.root.join(PAGE);
    let texts = [
        (paths.root.join(LIST), list(&rows, &blocked)),
        (page.clone(), with_table(&files::text(&page)?, &table(&rows, &blocked))?),
    ];
    for (path, text) in texts {
        if std::fs::read_to_string(&path).is_ok_and(|found| found == text) {
            continue;
        }
        if check {
            return Err(Error::new(format!("{} is not what assets/extensions and the build say", path.display()))
                .repair("run `cargo xtask extensions generate`"));
        }
        files::replace(&path, text.as_bytes())?;
    }
    Ok(())
}

/// One constant, and one row of the table.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    version: String,
    comment: String,
    license: String,
    requires: Vec<String>,
    preload: bool,
    feature: String,
    modules: Vec<String>,
}

/// What the build made of each file.
fn rows(all: &[Extension], built: &manifest::AssetsManifest, lock: &Lock) -> Result<Vec<Row>> {
    let built: BTreeMap<&str, &manifest::Extension> = built.extensions.iter().map(|e| (e.name.as_str(), e)).collect();
    let mut rows = Vec::new();
    for extension in all.iter().filter(|e| !e.is_server()) {
        let found = built.get(extension.name.as_str()).ok_or_else(|| {
            Error::new(format!("the staged payload has no extension {}", extension.name)).repair(stage::REPAIR)
        })?;
        // A module contains its libraries.
        let libraries = extension.libraries.iter().filter_map(|name| lock.archive(name));
        let licenses = std::iter::once(&extension.license).chain(libraries.map(|archive| &archive.license));
        let mut license: Vec<&str> = Vec::new();
        for name in licenses {
            if !license.contains(&name.as_str()) {
                license.push(name);
            }
        }
        let license = license.join(" AND ");
        let row = |name: &str, version: &str, comment: &str, requires: &[String]| Row {
            name: name.to_owned(),
            version: version.to_owned(),
            comment: comment.to_owned(),
            license: license.clone(),
            requires: requires.to_vec(),
            preload: !extension.preload.is_empty(),
            feature: extension.family.map(Family::feature).unwrap_or_default(),
            modules: extension.modules.clone(),
        };
        let own = extension.comment.as_deref().unwrap_or_default();
        for made in &found.creates {
            if made.comment.is_empty() == own.is_empty() {
                return Err(Error::new(format!(
                    "the control file of {} and its file here do not say once what it is for",
                    made.name
                ))
                .repair(format!("correct `comment` in assets/extensions/{}.toml", extension.name)));
            }
            let comment = if made.comment.is_empty() { own } else { &made.comment };
            rows.push(row(&made.name, &made.version, comment, &made.requires));
        }
        if found.creates.is_empty() {
            rows.push(row(&extension.name, "", own, &[]));
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

fn constant(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

/// The Rust file.
fn list(rows: &[Row], blocked: &[Blocked]) -> String {
    let mut text = String::from(
        "//! Generated by `cargo xtask extensions generate` from `assets/extensions` and the build: one\n\
         //! constant for each extension, by name, all of the same form, and then the names of\n\
         //! those that are not built. It is one file because it is generated.\n\n\
         use super::Extension;\n",
    );
    for row in rows {
        let comment = row.comment.trim_end_matches('.');
        let version =
            if row.version.is_empty() { "only loaded".to_owned() } else { format!("version {}", row.version) };
        text.push('\n');
        documentation(&mut text, &format!("`{}`, {version}: {comment}.", row.name));
        if row.preload {
            text.push_str("///\n/// Its module is loaded before PostgreSQL starts.\n");
        }
        if row.license != "PostgreSQL" {
            text.push_str("///\n");
            documentation(&mut text, &format!("License: {}.", row.license));
        }
        let _ = write!(text, "///\n/// Feature: `{}`.\n", row.feature);
        let quoted = |names: &[String]| names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
        let _ = write!(
            text,
            "pub const {}: Extension = Extension {{\n    name: {:?},\n    version: {:?},\n    comment: {:?},\n    \
             license: {:?},\n    requires: &[{}],\n    feature: {:?},\n    modules: &[{}],\n}};\n",
            constant(&row.name),
            row.name,
            row.version,
            row.comment,
            row.license,
            quoted(&row.requires),
            row.feature,
            quoted(&row.modules)
        );
    }
    text.push_str("\n/// All of them, by name.\npub const ALL: &[Extension] = &[\n");
    for row in rows {
        let _ = writeln!(text, "    {},", constant(&row.name));
    }
    text.push_str(
        "];\n\n/// What is not built, by name, with the reason.\npub(super) const BLOCKED: &[(&str, &str)] = &[\n",
    );
    for Blocked { name, because, .. } in blocked {
        let _ = writeln!(text, "    ({name:?}, {because:?}),");
    }
    text.push_str("];\n");
    text
}

/// Adds a comment whose lines end by column 100.
fn documentation(text: &mut String, sentence: &str) {
    let mut line = String::from("///");
    for word in sentence.split_whitespace() {
        if line.len() + 1 + word.len() > 100 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("///");
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&line);
    text.push('\n');
}

/// The table of the documentation.
fn table(rows: &[Row], blocked: &[Blocked]) -> String {
    let mut text = String::from(
        "| extension | version | what it is for | requires | feature | license |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let version = match (row.version.as_str(), row.preload) {
            ("", true) => "only loaded, preloaded".to_owned(),
            ("", false) => "only loaded".to_owned(),
            (version, true) => format!("{version}, preloaded"),
            (version, false) => version.to_owned(),
        };
        let comment = row.comment.replace('|', "\\|");
        let requires = row.requires.join(", ");
        let (name, feature, license) = (&row.name, &row.feature, &row.license);
        let _ = writeln!(text, "| `{name}` | {version} | {comment} | {requires} | `{feature}` | {license} |");
    }
    text.push_str("\nNot built, and why:\n\n| extension | reason |\n|---|---|\n");
    for Blocked { name, because, .. } in blocked {
        let _ = writeln!(text, "| `{name}` | {because} |");
    }
    text
}

/// The page with another table.
fn with_table(page: &str, table: &str) -> Result<String> {
    let place = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) =
        place.ok_or_else(|| Error::new(format!("{PAGE} has no place for the table: `{BEGIN}`, `{END}`")))?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// Tests the life of extensions, with the statements of their files.
fn check(paths: &Paths, names: &[String], sets: usize, seed: Option<u64>) -> Result<()> {
    let all = Extension::all(&paths.root)?;
    if let Some(name) = names.iter().find(|name| !all.iter().any(|e| e.name == **name && !e.is_server())) {
        return Err(Error::new(format!("there is no extension {name} in assets/extensions")));
    }
    let plan = tempfile::NamedTempFile::new().map_err(|e| Error::io("make a file in", Path::new("/tmp"), e))?;
    let chosen = all.iter().filter(|e| !e.is_server() && (names.is_empty() || names.contains(&e.name)));
    let mut cases: Vec<serde_json::Value> = chosen
        .map(|extension| {
            let Extension { name, creates, preload, smoke, error, no_update_from, .. } = extension;
            serde_json::json!({
                "name": name, "creates": creates, "preload": preload, "smoke": smoke, "error": error,
                "no_update_from": no_update_from,
            })
        })
        .collect();
    let scratch = tempfile::tempdir().map_err(|e| Error::io("make", &std::env::temp_dir(), e))?;
    if names.is_empty() {
        let file = scratch.path().join("example.bundle");
        bundle::build_directory(paths, &paths.root.join(EXAMPLE), &file)?;
        cases.push(serde_json::json!({
            "name": "roman", "creates": ["roman"], "preload": [], "smoke": EXAMPLE_SMOKE,
            "error": { "sql": EXAMPLE_ERROR, "sqlstate": "22P02" }, "no_update_from": [], "bundle": file,
        }));
    }
    files::write(plan.path(), serde_json::Value::from(cases).to_string())?;
    let target = SharedTarget::acquire(paths)?;
    succeed(&mut target.build(&["--bin", "extensions"]))?;
    let mut command = std::process::Command::new(target.release().join("extensions"));
    command.arg(plan.path()).args(["--sets", &sets.to_string()]);
    if let Some(seed) = seed {
        command.args(["--seed", &seed.to_string()]);
    }
    succeed(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, version: &str, preload: bool) -> Row {
        Row {
            name: name.to_owned(),
            version: version.to_owned(),
            comment: "a | b.".to_owned(),
            license: "PostgreSQL".to_owned(),
            requires: vec!["cube".to_owned()],
            preload,
            feature: "extensions-x".to_owned(),
            modules: vec![],
        }
    }

    #[test]
    fn a_row_becomes_a_constant_and_a_line() {
        let blocked = Blocked { name: "age".to_owned(), because: "no source".to_owned(), packages: vec![] };
        let text = list(&[row("uuid-ossp", "1.1", true)], std::slice::from_ref(&blocked));
        assert!(text.contains("    (\"age\", \"no source\"),\n"), "{text}");
        assert!(text.contains("/// `uuid-ossp`, version 1.1: a | b.\n///\n/// Its module is loaded"), "{text}");
        assert!(text.contains("pub const UUID_OSSP: Extension"), "{text}");
        assert!(text.contains("&[\n    UUID_OSSP,\n];"), "{text}");
        insta::assert_snapshot!(table(&[row("a", "1.1", true), row("b", "", false)], &[blocked]), @r"
        | extension | version | what it is for | requires | feature | license |
        |---|---|---|---|---|---|
        | `a` | 1.1, preloaded | a \| b. | cube | `extensions-x` | PostgreSQL |
        | `b` | only loaded | a \| b. | cube | `extensions-x` | PostgreSQL |

        Not built, and why:

        | extension | reason |
        |---|---|
        | `age` | no source |
        ");
    }

    #[test]
    fn a_page_has_a_place_for_the_table() {
        let page = format!("# A\n\n{BEGIN}\nold\n{END}\nrest\n");
        assert_eq!(with_table(&page, "new\n").unwrap(), format!("# A\n\n{BEGIN}\n\nnew\n\n{END}\nrest\n"));
        assert!(with_table("# A\n", "new\n").is_err());
    }
}
