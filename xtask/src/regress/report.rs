//! What results mean: how a test ended, the reasons on record for those that do not pass, the table of both, and what in a run is worse than the table. It owns
//! their forms; it reads and writes no file.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::error::{Context as _, Error, Result};

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its output is as expected, by pg_regress's own rules.
    Passed,
    /// So many lines of its output are not.
    Differs(usize),
    /// psql ended early, with this status: it lost its connection, or could not make one.
    Exit(i32),
    /// It did not end.
    Hung,
    /// The session ended in a trap or a panic; the log's word on it.
    Crashed(String),
    /// The server is gone.
    Died,
    /// pg_regress could not run it and said this.
    NotRun(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => write!(f, "pass"),
            Self::Differs(1) => write!(f, "1 line differs"),
            Self::Differs(lines) => write!(f, "{lines} lines differ"),
            Self::Exit(code) => write!(f, "psql ended with {code}"),
            Self::Hung => write!(f, "hangs"),
            Self::Crashed(_) => write!(f, "the session crashes"),
            Self::Died => write!(f, "the server dies"),
            Self::NotRun(why) => write!(f, "cannot be run: {why}"),
        }
    }
}

/// Reads what pg_regress said about one test: lines of the Test Anything Protocol.
pub(crate) fn parse_tap(said: &str, test: &str, difference: &str) -> Outcome {
    let named = |line: &str| line.split_whitespace().any(|word| word == test);
    let bailed = said.lines().find_map(|line| line.strip_prefix("Bail out!"));
    if let Some(line) = said.lines().find(|line| line.starts_with("ok ") && named(line)) {
        return if line.contains("# SKIP") { Outcome::NotRun("skipped".to_owned()) } else { Outcome::Passed };
    }
    if said.lines().any(|line| line.starts_with("not ok ") && named(line)) {
        let exit =
            said.lines().find_map(|line| line.split_once("(test process exited with exit code ")?.1.strip_suffix(')'));
        return match exit.and_then(|code| code.parse().ok()) {
            Some(code) => Outcome::Exit(code),
            None => Outcome::Differs(differing_lines(difference)),
        };
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Outcome::NotRun(bailed.unwrap_or(last).trim().to_owned())
}

/// Lines of a unified diff that are on one side only.
fn differing_lines(difference: &str) -> usize {
    let heading = |line: &str| line.starts_with("--- ") || line.starts_with("+++ ");
    difference.lines().filter(|line| line.starts_with(['+', '-']) && !heading(line)).count()
}

/// Why tests do not pass, by suite and test: the file that people write.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reasons(BTreeMap<String, BTreeMap<String, String>>);

impl Reasons {
    /// Reads the file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let reasons: Self = toml::from_str(text).context(|| "the reasons have not the expected form".to_owned())?;
        for (suite, tests) in &reasons.0 {
            for (test, reason) in tests {
                if reason.trim().is_empty() || reason.contains(['\n', '|']) {
                    return Err(Error::new(format!("the reason of {suite}.{test} must be one line without a bar")));
                }
            }
        }
        Ok(reasons)
    }

    fn of(&self, suite: &str, test: &str) -> Option<&str> {
        self.0.get(suite)?.get(test).map(String::as_str)
    }
}

/// Results of a run, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Results(pub(crate) Vec<(String, Vec<(String, Outcome)>)>);

impl Results {
    /// Tests that passed, and all.
    pub(crate) fn count(&self) -> (usize, usize) {
        let all = || self.0.iter().flat_map(|(_, tests)| tests);
        (all().filter(|(_, outcome)| *outcome == Outcome::Passed).count(), all().count())
    }
}

/// Results as the table keeps them: by suite and test, `pass` or what is wrong.
type Known = BTreeMap<(String, String), String>;

/// The table: what everything before the first suite's heading says, then one suite after the other.
pub(crate) fn render(results: &Results, reasons: &Reasons) -> Result<String> {
    let mut text = HEAD.to_owned();
    let mut unexplained = Vec::new();
    text += "| suite | tests | pass |\n|---|---|---|\n";
    for (suite, tests) in &results.0 {
        let passed = tests.iter().filter(|(_, outcome)| *outcome == Outcome::Passed).count();
        text += &format!("| {suite} | {} | {passed} |\n", tests.len());
    }
    for (suite, tests) in &results.0 {
        text += &format!("\n## {suite}\n\n| test | result | reason |\n|---|---|---|\n");
        for (test, outcome) in tests {
            let reason = match (outcome, reasons.of(suite, test)) {
                (Outcome::Passed, None) => "",
                (Outcome::Passed, Some(_)) => {
                    unexplained.push(format!("{suite}/{test} passes: its reason is out of date"));
                    continue;
                }
                (Outcome::Differs(_), Some(reason)) => reason,
                (outcome, _) => {
                    unexplained.push(format!("{suite}/{test}: {outcome}, and no reason excuses that"));
                    continue;
                }
            };
            text += &format!("| {test} | {outcome} | {reason} |\n");
        }
    }
    if unexplained.is_empty() {
        return Ok(text);
    }
    Err(Error::new(unexplained.join("\n")).repair(format!("fix them, or write the reasons into {REASONS}")))
}

/// The file of the reasons, in the checkout.
pub(crate) const REASONS: &str = "xtask/regress/reasons.toml";
/// The table, in the checkout.
pub(crate) const TABLE: &str = "docs/regression.md";

const HEAD: &str = "# PostgreSQL's own tests\n\n\
    How PostgreSQL 17.11's regression suites end here: `cargo xtask regress` runs them, with PostgreSQL's own `pg_regress` and `psql`, against a server of this crate,\n\
    and `cargo xtask regress --update` writes this page. A test that passes has the output that PostgreSQL expects; any other one has the number of lines in which its\n\
    output differs, and why. One session runs at a time, so of tests that PostgreSQL runs side by side one follows the other here.\n\n";

/// Reads the rows of a table.
fn parse_table(text: &str) -> Known {
    let mut suite = "";
    let mut known = Known::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            suite = name;
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", test, result, _, ""] = cells[..]
            && !suite.is_empty()
            && !matches!(test, "test" | "---")
        {
            known.insert((suite.to_owned(), test.to_owned()), result.to_owned());
        }
    }
    known
}

/// What in some results is not as the table says, one line a test; better counts too, since the table is then out of date.
pub(crate) fn changes(results: &Results, table: &str) -> Vec<String> {
    let known = parse_table(table);
    let mut changes = Vec::new();
    for (suite, tests) in &results.0 {
        for (test, outcome) in tests {
            let found = outcome.to_string();
            match known.get(&(suite.clone(), test.clone())) {
                Some(expected) if *expected == found => {}
                Some(expected) => changes.push(format!("{suite}/{test}: {found}; the table says: {expected}")),
                None => changes.push(format!("{suite}/{test}: {found}; the table does not have it")),
            }
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "# using postmaster on /pgl/socket, port 5432\nok 1         - boolean                                    55 ms\n1..1\n# All 1 tests passed.\n";
    const FAILED: &str =
        "not ok 1     - int8                                       63 ms\n1..1\n# 1 of 1 tests failed.\n";

    fn results(outcomes: &[(&str, Outcome)]) -> Results {
        Results(vec![(
            "regress".into(),
            outcomes.iter().map(|(test, outcome)| ((*test).into(), outcome.clone())).collect(),
        )])
    }

    #[test]
    fn tap_is_read() {
        assert_eq!(parse_tap(PASSED, "boolean", ""), Outcome::Passed);
        let difference = "diff -U3 a b\n--- a\n+++ b\n@@ -1 +1,2 @@\n-x\n+y\n+z\n same\n";
        assert_eq!(parse_tap(FAILED, "int8", difference), Outcome::Differs(3));
        let exited = format!("{FAILED}# (test process exited with exit code 2)\n");
        assert_eq!(parse_tap(&exited, "int8", difference), Outcome::Exit(2));
        let bailed = "# (using postmaster on x)\nBail out!command failed: psql\n";
        assert_eq!(parse_tap(bailed, "int8", ""), Outcome::NotRun("command failed: psql".into()));
        assert_eq!(parse_tap("", "int8", ""), Outcome::NotRun("it said nothing".into()));
        // The name of another test that begins alike is not this one's.
        assert_eq!(parse_tap(PASSED, "bool", ""), Outcome::NotRun("# All 1 tests passed.".into()));
    }

    #[test]
    fn a_table_is_rendered_and_read_back() {
        let reasons = Reasons::parse("[regress]\nxml = \"no libxml\"\n").unwrap();
        let run = results(&[("boolean", Outcome::Passed), ("xml", Outcome::Differs(7))]);
        let table = render(&run, &reasons).unwrap();
        assert!(table.ends_with("\n## regress\n\n| test | result | reason |\n|---|---|---|\n| boolean | pass |  |\n| xml | 7 lines differ | no libxml |\n"), "{table}");
        assert!(table.contains("| regress | 2 | 1 |\n"));
        assert!(changes(&run, &table).is_empty());
        let other = results(&[("boolean", Outcome::Hung), ("xml", Outcome::Differs(8)), ("new", Outcome::Passed)]);
        assert_eq!(
            changes(&other, &table),
            [
                "regress/boolean: hangs; the table says: pass",
                "regress/xml: 8 lines differ; the table says: 7 lines differ",
                "regress/new: pass; the table does not have it",
            ]
        );
        assert_eq!(
            changes(&results(&[("xml", Outcome::Passed)]), &table).len(),
            1,
            "what is better is a change as well"
        );
    }

    #[test]
    fn what_does_not_pass_needs_a_reason_and_some_things_have_none() {
        let reasons = Reasons::parse("[regress]\na = \"r\"\nb = \"r\"\n").unwrap();
        let run = results(&[
            ("a", Outcome::Passed),
            ("b", Outcome::Died),
            ("c", Outcome::Differs(1)),
            ("d", Outcome::Passed),
        ]);
        let error = render(&run, &reasons).unwrap_err().to_string();
        for expected in [
            "regress/a passes: its reason is out of date",
            "regress/b: the server dies, and no",
            "regress/c: 1 line differs, and no",
        ] {
            assert!(error.contains(expected), "{error}");
        }
        assert!(Reasons::parse("[regress]\na = \"x | y\"\n").is_err());
        assert!(Reasons::parse("[regress]\na = \" \"\n").is_err());
    }
}
