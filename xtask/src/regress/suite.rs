//! PostgreSQL's suites, their tests in order, and the tests that each test depends on. It reads the
//! suites' schedules and runs nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Context as _, Result};
use crate::files;
use crate::pipeline::fingerprint::children;

/// A suite of PostgreSQL's tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suite {
    /// Its directory among the suites.
    pub(crate) name: String,
    /// The database its tests run in; made by the first one.
    pub(crate) database: String,
    /// Tests in the order in which they run.
    pub(crate) tests: Vec<String>,
    /// Settings that its server needs besides those of all suites.
    pub(crate) settings: Vec<(String, String)>,
    /// Extensions that are created before the first test.
    pub(crate) load: Vec<String>,
    /// The command by which psql is called, if it is not psql alone.
    pub(crate) launcher: Option<String>,
    /// A statement to run in the database after the first test.
    pub(crate) prepare: Option<&'static str>,
}

/// Which suites to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Choice {
    /// PostgreSQL's main suite
    Regress,
    /// Its procedural language's own
    Plpgsql,
    /// Those of the contrib modules
    Contrib,
    /// Those of the other extensions
    Community,
}

/// Names of the server's suites and their databases. The others are those of extensions.
const SUITES: &[(&str, &str, Choice)] =
    &[("regress", "regression", Choice::Regress), ("plpgsql", "pl_regression", Choice::Plpgsql)];

/// The suite whose tests expect the collations that `initdb` makes of those of ICU.
const WITH_COLLATIONS: &str = "regress";
const IMPORT_COLLATIONS: &str = "SELECT pg_import_system_collations('pg_catalog')";

/// The schedule of a suite that has one. Other suites have the names of their tests in `TESTS`.
const SCHEDULE: &str = "parallel_schedule";
const NAMES: &str = "TESTS";
/// The settings of a suite that has some, in the form of `postgresql.conf`.
const SETTINGS: &str = "SETTINGS";

/// The extensions that a suite wants, if it is of an extension that is not PostgreSQL's.
const LOAD: &str = "LOAD";
/// The command before psql, of a suite whose tests psql alone does not run.
const LAUNCHER: &str = "LAUNCHER";

/// The tests that create the tables used by most tests of the main suite.
const SETUP: &str = "test_setup";
/// Most later tests in the schedule use its indexes.
const INDEXES: &str = "create_index";
/// Further dependencies, from the comments of the schedule and of the tests.
const NEEDS: &[(&str, &[&str])] = &[
    ("aggregates", &["create_aggregate"]),
    ("amutils", &["geometry", "create_index_spgist", "hash_index", "brin"]),
    ("event_trigger", &["create_am"]),
    ("geometry", &["point", "lseg", "line", "box", "path", "polygon", "circle"]),
    ("horology", &["date", "time", "timetz", "timestamp", "timestamptz", "interval"]),
    ("join", &["create_misc"]),
    ("multirangetypes", &["rangetypes"]),
    ("psql", &["create_am"]),
    ("select_parallel", &["create_misc"]),
    ("select_views", &["create_view"]),
    ("with", &["create_misc"]),
];

impl Suite {
    /// The suites of a kind, from the directory that has them all. `schedule` takes the place of
    /// the main suite's own: a file, or the name of one in its directory.
    pub(crate) fn find(suites: &Path, chosen: &[Choice], schedule: Option<&Path>) -> Result<Vec<Self>> {
        let wanted = |choice| chosen.is_empty() || chosen.contains(&choice);
        let mut named: Vec<(String, String)> = Vec::new();
        for &(name, database, _) in SUITES.iter().filter(|(_, _, choice)| wanted(*choice)) {
            named.push((name.to_owned(), database.to_owned()));
        }
        for (name, path) in children(suites)? {
            let kind = if path.join(LOAD).exists() { Choice::Community } else { Choice::Contrib };
            if wanted(kind) && path.join(NAMES).exists() && !SUITES.iter().any(|(own, ..)| *own == name) {
                let database = format!("contrib_regression_{name}");
                named.push((name, database));
            }
        }
        let mut found = Vec::new();
        for (name, database) in named {
            let directory = suites.join(&name);
            let tests = if directory.join(SCHEDULE).exists() {
                let path = match schedule {
                    Some(path) if path.exists() => path.to_path_buf(),
                    Some(path) => directory.join(path),
                    None => directory.join(SCHEDULE),
                };
                parse_schedule(&files::text(&path)?).context(|| format!("{} is no schedule", path.display()))?
            } else {
                files::text(&directory.join(NAMES))?.split_whitespace().map(str::to_owned).collect()
            };
            let path = directory.join(SETTINGS);
            let settings = if path.exists() { parse_settings(&files::text(&path)?) } else { Vec::new() };
            let path = directory.join(LOAD);
            let load = if path.exists() { files::text(&path)? } else { String::new() };
            let load = load.split_whitespace().map(str::to_owned).collect();
            let path = directory.join(LAUNCHER);
            let launcher = if path.exists() { Some(files::text(&path)?.trim().to_owned()) } else { None };
            let prepare = (name == WITH_COLLATIONS).then_some(IMPORT_COLLATIONS);
            found.push(Self { name, database, tests, settings, load, launcher, prepare });
        }
        Ok(found)
    }

    /// The suite with these tests and their dependencies only, in the order of the suite.
    pub(crate) fn restricted_to(&self, names: &[String]) -> Self {
        let mut wanted = BTreeSet::new();
        let mut pending: Vec<&str> =
            self.tests.iter().map(String::as_str).filter(|test| names.iter().any(|name| name == test)).collect();
        while let Some(test) = pending.pop() {
            if wanted.insert(test) {
                pending.extend(self.needs(test));
            }
        }
        let tests = self.tests.iter().filter(|test| wanted.contains(test.as_str())).cloned().collect();
        Self { tests, ..self.clone() }
    }

    /// Direct dependencies of a test.
    fn needs(&self, test: &str) -> Vec<&str> {
        let place = |name: &str| self.tests.iter().position(|test| test == name);
        let own = NEEDS.iter().filter(|(name, _)| *name == test).flat_map(|(_, needs)| needs.iter().copied());
        // A schedule need not contain all of them.
        [SETUP, INDEXES]
            .into_iter()
            .chain(own)
            .filter(|need| place(need) < place(test) && place(need).is_some())
            .collect()
    }
}

/// Settings in the form of `postgresql.conf`.
fn parse_settings(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches('\'').to_owned())).collect()
}

/// Tests of a schedule in their order. Parallel groups run one test after the other here.
fn parse_schedule(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut tests = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("test:") {
            Some(names) => tests.extend(names.split_whitespace().map(str::to_owned)),
            None => return Err(format!("expected `test: NAME …`, found `{line}`")),
        }
    }
    Ok(tests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(tests: &str) -> Suite {
        let tests = tests.split(' ').map(str::to_owned).collect();
        Suite {
            name: "regress".to_owned(),
            database: "regression".to_owned(),
            tests,
            settings: vec![],
            load: vec![],
            launcher: None,
            prepare: None,
        }
    }

    #[test]
    fn a_schedule_is_read_in_order() {
        let text = "# comment\ntest: test_setup\n\n test: b a\ntest: c\n";
        assert_eq!(parse_schedule(text).unwrap(), ["test_setup", "b", "a", "c"]);
        assert_eq!(parse_schedule("a b\n").unwrap_err(), "expected `test: NAME …`, found `a b`");
    }

    #[test]
    fn settings_are_read_without_quotes() {
        let found = parse_settings("# a = b\nwal_level = 'replica' # note\n\nnaptime=1d\n");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found, [pair("wal_level", "replica"), pair("naptime", "1d")]);
    }

    #[test]
    fn what_a_test_needs_comes_with_it() {
        let all =
            suite("test_setup point create_index create_misc create_index_spgist create_am join select with psql");
        let only = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            all.restricted_to(&names).tests.join(" ")
        };
        assert_eq!(only(&["point"]), "test_setup point");
        assert_eq!(only(&["select"]), "test_setup create_index select");
        assert_eq!(only(&["with", "join"]), "test_setup create_index create_misc join with");
        assert_eq!(only(&["nothing"]), "");
        assert_eq!(suite("a b").restricted_to(&["b".to_owned()]).tests, ["b"]);
    }
}
