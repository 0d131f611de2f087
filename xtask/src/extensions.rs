//! `cargo xtask extensions`: what is known of all extensions, and what is tested of each. It owns
//! the generated list of constants and the generated tables of the documentation; `assets` builds
//! the extensions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::assets::blocked::Blocked;
use crate::assets::extension::Extension;
use crate::assets::parts::Family;
use crate::assets::{self, bundle, stage, targets};
use crate::cargo::{SharedTarget, succeed};
use crate::error::{Error, Result};
use crate::files;
use crate::manifest;
use crate::paths::Paths;
use crate::regress::{self, Count};
use crate::sources::Lock;

/// The constants.
const LIST: &str = "pglite-oxide/src/extensions/list.rs";
/// The page with the tables, and the lines that they are between.
const PAGE: &str = "docs/extensions.md";
const BEGIN: &str = "<!-- generated: cargo xtask extensions generate -->";
const END: &str = "<!-- end of what is generated -->";

/// The target whose native code the page has the sizes of.
const SIZES_OF: &str = "x86_64-unknown-linux-gnu";

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
    /// Write the constants and the tables of the documentation
    Generate {
        /// Only compare them with what is there; a size may differ by less than a tenth
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
    let staged = stage::sizes(&paths.root, targets::find(SIZES_OF)?)
        .map_err(|e| e.repair(format!("run `cargo xtask assets build --target {SIZES_OF}`")))?;
    let sources = sources(&all, &assets::wasm_sizes(paths)?, &staged, &regress::counts(paths)?)?;
    let blocked = Blocked::all(&paths.root)?;
    let page = paths.root.join(PAGE);
    let texts = [
        (paths.root.join(LIST), list(&rows, &blocked)),
        (page.clone(), with_tables(&files::text(&page)?, &tables(&rows, &sources, &blocked))?),
    ];
    for (path, text) in texts {
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        if found == text || check && same_but_for_sizes(&found, &text) {
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

/// One source: what is built, packed and tested together, whatever CREATE EXTENSION makes of it.
#[derive(Debug, PartialEq, Eq)]
struct SourceRow {
    /// What CREATE EXTENSION makes of it; its own name if that is nothing.
    names: Vec<String>,
    feature: String,
    sizes: Sizes,
    /// Of its own suites together; `None` if it has none that `pg_regress` runs.
    tests: Option<Count>,
}

/// Sizes in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// The modules as WebAssembly.
    wasm: u64,
    /// The modules as native code.
    native: u64,
    /// The modules as native code and the other files, as they are in the crate.
    download: u64,
}

impl std::ops::AddAssign for Sizes {
    fn add_assign(&mut self, other: Self) {
        self.wasm += other.wasm;
        self.native += other.native;
        self.download += other.download;
    }
}

/// Sizes and results of each source, by its first name.
fn sources(
    all: &[Extension],
    wasm: &BTreeMap<String, u64>,
    staged: &stage::Sizes,
    counts: &BTreeMap<String, Count>,
) -> Result<Vec<SourceRow>> {
    let mut rows = Vec::new();
    for extension in all.iter().filter(|e| !e.is_server()) {
        let mut sizes = Sizes::default();
        for module in &extension.modules {
            let (Some(wasm), Some(code)) = (wasm.get(module), staged.code.get(module)) else {
                return Err(
                    Error::new(format!("the build has no module {module} of {}", extension.name)).repair(stage::REPAIR)
                );
            };
            sizes += Sizes { wasm: *wasm, native: code.unpacked, download: code.packed };
        }
        // What is only loaded may have no files.
        sizes.download += staged.archives.get(&format!("extension/{}", extension.name)).unwrap_or(&0);
        // A suite has the name of the file, or of one of the extensions that are made of it.
        let mut suites: Vec<&String> = vec![&extension.name];
        suites.extend(extension.creates.iter().filter(|created| **created != extension.name));
        let found = suites.into_iter().filter_map(|suite| counts.get(suite));
        let tests = found.copied().reduce(|a, b| Count { passed: a.passed + b.passed, all: a.all + b.all });
        let mut names = extension.creates.clone();
        if names.is_empty() {
            names.push(extension.name.clone());
        }
        let feature = extension.family.map(Family::feature).unwrap_or_default();
        rows.push(SourceRow { names, feature, sizes, tests });
    }
    rows.sort_by(|a, b| a.names.cmp(&b.names));
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

/// The tables of the documentation.
fn tables(rows: &[Row], sources: &[SourceRow], blocked: &[Blocked]) -> String {
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
    text.push_str(ABOUT_SIZES);
    text.push_str("| extension | wasm | native code | download | own tests |\n|---|---|---|---|---|\n");
    let mut families: BTreeMap<&str, Sizes> = BTreeMap::new();
    for SourceRow { names, feature, sizes, tests } in sources {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        let tests = tests.map(|count| format!("{} of {}", count.passed, count.all)).unwrap_or_default();
        let _ = writeln!(text, "| {} | {} | {tests} |", names.join(", "), cells(*sizes));
        *families.entry(feature).or_default() += *sizes;
    }
    for (feature, sizes) in families {
        let _ = writeln!(text, "| all of `{feature}` | {} |  |", cells(sizes));
    }
    text.push_str("\nNot built, and why:\n\n| extension | reason |\n|---|---|\n");
    for Blocked { name, because, .. } in blocked {
        let _ = writeln!(text, "| `{name}` | {because} |");
    }
    text
}

/// What the page says about the second table.
const ABOUT_SIZES: &str = "
What each extension adds to a program:

- *wasm*: its modules as WebAssembly. No program contains them.
- *native code*: the same modules, compiled for x86_64-unknown-linux-gnu. A process has those in
  memory that PostgreSQL has loaded, once for all its databases.
- *download*: its native code and its files, compressed, as they are in the crate. A program
  contains all extensions of a feature.
- *own tests*: how many of its own tests pass; [regression.md](regression.md) says why others do
  not. The field is empty if it has none that `pg_regress` runs.

";

/// Three fields of the second table.
fn cells(sizes: Sizes) -> String {
    [sizes.wasm, sizes.native, sizes.download].map(size).join(" | ")
}

/// A size in bytes with two significant digits; nothing for zero.
fn size(bytes: u64) -> String {
    let mut place = 1;
    while bytes / place >= 100 {
        place *= 10;
    }
    let rounded = bytes.saturating_add(place / 2) / place * place;
    let with_tenths = |unit: u64| format!("{}.{}", rounded / unit, rounded % unit * 10 / unit);
    match rounded {
        0 => String::new(),
        1..1_000 => format!("{rounded} B"),
        1_000..10_000 => format!("{} kB", with_tenths(1_000)),
        10_000..1_000_000 => format!("{} kB", rounded / 1_000),
        1_000_000..10_000_000 => format!("{} MB", with_tenths(1_000_000)),
        _ => format!("{} MB", rounded / 1_000_000),
    }
}

/// Reads what [`size`] writes.
fn parse_size(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once(' ')?;
    let unit = match unit {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * unit)
}

/// Whether two pages are the same, or have sizes in their tables that differ by less than a tenth:
/// another version of a tool changes a few bytes, which is no reason to write the page again.
fn same_but_for_sizes(found: &str, expected: &str) -> bool {
    let same_cell = |(found, expected): (&str, &str)| {
        let is_close = |a: f64, b: f64| (a - b).abs() < a.max(b) / 10.0;
        found == expected
            || parse_size(found.trim())
                .zip(parse_size(expected.trim()))
                .is_some_and(|(found, expected)| is_close(found, expected))
    };
    let same_line = |(found, expected): (&str, &str)| {
        let count = |line: &str| line.split('|').count();
        found == expected || count(found) == count(expected) && found.split('|').zip(expected.split('|')).all(same_cell)
    };
    found.lines().count() == expected.lines().count() && found.lines().zip(expected.lines()).all(same_line)
}

/// The page with other tables.
fn with_tables(page: &str, tables: &str) -> Result<String> {
    let place = page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) =
        place.ok_or_else(|| Error::new(format!("{PAGE} has no place for the tables: `{BEGIN}`, `{END}`")))?;
    Ok(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
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
    use std::path::PathBuf;

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
        let source = |names: &[&str], sizes: [u64; 3], tests| {
            let [wasm, native, download] = sizes;
            SourceRow {
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                feature: "extensions-x".to_owned(),
                sizes: Sizes { wasm, native, download },
                tests,
            }
        };
        let tested = Some(Count { passed: 13, all: 14 });
        let sources = [source(&["a", "c"], [81_234, 123_456, 9_876], tested), source(&["b"], [0, 0, 512], None)];
        let tables = tables(&[row("a", "1.1", true), row("b", "", false)], &sources, &[blocked]);
        insta::assert_snapshot!(tables.replace(ABOUT_SIZES, "\n(sizes)\n\n"), @r"
        | extension | version | what it is for | requires | feature | license |
        |---|---|---|---|---|---|
        | `a` | 1.1, preloaded | a \| b. | cube | `extensions-x` | PostgreSQL |
        | `b` | only loaded | a \| b. | cube | `extensions-x` | PostgreSQL |

        (sizes)

        | extension | wasm | native code | download | own tests |
        |---|---|---|---|---|
        | `a`, `c` | 81 kB | 120 kB | 9.9 kB | 13 of 14 |
        | `b` |  |  | 510 B |  |
        | all of `extensions-x` | 81 kB | 120 kB | 10 kB |  |

        Not built, and why:

        | extension | reason |
        |---|---|
        | `age` | no source |
        ");
    }

    #[test]
    fn a_source_has_the_sizes_of_its_modules_and_the_results_of_its_suites() {
        let all = Extension::all(&root()).unwrap();
        let modules = || all.iter().flat_map(|e| e.modules.clone());
        let wasm = modules().map(|name| (name, 1_000)).collect();
        let code = modules().map(|name| (name, stage::CodeSize { unpacked: 2_000, packed: 300 })).collect();
        let archives = BTreeMap::from([("extension/postgis".to_owned(), 7), ("extension/pgtap".to_owned(), 5)]);
        let mut staged = stage::Sizes { code, archives };
        let count = |suite: &str, passed, all| (suite.to_owned(), Count { passed, all });
        let counts = BTreeMap::from([
            count("regress", 216, 225),
            count("postgis", 128, 129),
            count("postgis_topology", 80, 80),
            count("rational", 1, 1),
        ]);
        let found = sources(&all, &wasm, &staged, &counts).unwrap();
        assert!(found.iter().map(|source| &source.names[0]).is_sorted(), "as in the first table");
        let of = |name: &str| found.iter().find(|source| source.names.iter().any(|own| own == name)).unwrap();
        let postgis = of("postgis_topology");
        assert_eq!(postgis.names, ["postgis", "postgis_topology"]);
        assert_eq!(postgis.sizes, Sizes { wasm: 2_000, native: 4_000, download: 607 });
        assert_eq!(postgis.tests, Some(Count { passed: 208, all: 209 }));
        assert_eq!(of("pg_rational").tests, Some(Count { passed: 1, all: 1 }));
        assert_eq!((of("pgtap").sizes, of("pgtap").tests), (Sizes { download: 5, ..Sizes::default() }, None));
        staged.code.remove("vector");
        let error = sources(&all, &wasm, &staged, &counts).unwrap_err().to_string();
        assert!(error.starts_with("the build has no module vector of vector\n"), "{error}");
    }

    /// A suite that belongs to no extension would be missing from the page.
    #[test]
    fn every_suite_of_the_committed_table_belongs_to_the_server_or_to_an_extension() {
        let counts = regress::counts(&Paths { root: root(), cache: PathBuf::new() }).unwrap();
        assert!(counts.len() > 50, "{counts:?}");
        let all = Extension::all(&root()).unwrap();
        for suite in counts.keys() {
            let is_own = |e: &Extension| !e.is_server() && (e.name == *suite || e.creates.contains(suite));
            assert!(["regress", "plpgsql"].contains(&suite.as_str()) || all.iter().any(is_own), "{suite}");
        }
    }

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn sizes_have_two_digits_and_are_read_back() {
        let cases = [
            (0, ""),
            (7, "7 B"),
            (994, "990 B"),
            (995, "1.0 kB"),
            (1_049, "1.0 kB"),
            (9_949, "9.9 kB"),
            (9_950, "10 kB"),
            (123_456, "120 kB"),
            (994_999, "990 kB"),
            (995_000, "1.0 MB"),
            (12_345_678, "12 MB"),
            (123_456_789, "120 MB"),
        ];
        for (bytes, expected) in cases {
            let text = size(bytes);
            assert_eq!(text, expected);
            let read = parse_size(&text).unwrap_or_default();
            assert!((read - bytes as f64).abs() <= bytes as f64 * 0.05, "{bytes}: {read}");
        }
        assert_eq!((parse_size("12"), parse_size("1.2 GB"), parse_size("two MB")), (None, None, None));
    }

    #[test]
    fn a_size_may_differ_by_less_than_a_tenth_and_nothing_else() {
        let page = |size: &str, tests: &str| format!("text\n| `a` | {size} | 3 kB | {tests} |\n");
        let same = |size: &str| same_but_for_sizes(&page("1.0 MB", "1 of 2"), &page(size, "1 of 2"));
        assert!(same("1.0 MB") && same("990 kB") && same("1.1 MB") && same("910 kB"));
        assert!(!same("900 kB") && !same("1.2 MB") && !same("1.0 kB") && !same("") && !same("1 | 0"));
        assert!(!same_but_for_sizes(&page("1.0 MB", "1 of 2"), &page("1.0 MB", "2 of 2")));
        assert!(!same_but_for_sizes(&page("1 kB", "1 of 2"), &format!("{}\n", page("1 kB", "1 of 2"))));
        assert!(!same_but_for_sizes("10 kB of text\n", "10 kB of texts\n"));
    }

    #[test]
    fn a_page_has_a_place_for_the_tables() {
        let page = format!("# A\n\n{BEGIN}\nold\n{END}\nrest\n");
        assert_eq!(with_tables(&page, "new\n").unwrap(), format!("# A\n\n{BEGIN}\n\nnew\n\n{END}\nrest\n"));
        assert!(with_tables("# A\n", "new\n").is_err());
    }
}
