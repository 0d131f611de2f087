//! Results: how a test ended, the recorded reasons for tests that do not pass, the table of both,
//! the table of a native server's results beside those here, and how a run differs from a table.
//! It owns their formats; it reads and writes no file.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;

use crate::error::{Context as _, Error, Result};

/// How a test ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its output is as expected, by pg_regress's rules: that of `expected/TEST.out`, or of the
    /// variant with this number, `expected/TEST_N.out`.
    Passed(Option<u8>),
    /// This many lines of its output differ.
    Differs(usize),
    /// psql ended early with this status: it lost its connection or could not connect.
    Exit(i32),
    /// It exceeded the time limit.
    Hung,
    /// The session ended with a trap or a panic; with the log's message.
    Crashed(String),
    /// The server has ended.
    Died,
    /// pg_regress could not run it, with its message.
    NotRun(String),
    /// It was not run: the server does not have what its suite tests.
    NotThere,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(None) => write!(f, "pass"),
            Self::Passed(Some(variant)) => write!(f, "pass by variant {variant}"),
            Self::Differs(1) => write!(f, "1 line differs"),
            Self::Differs(lines) => write!(f, "{lines} lines differ"),
            Self::Exit(code) => write!(f, "psql ended with {code}"),
            Self::Hung => write!(f, "hangs"),
            Self::Crashed(_) => write!(f, "the session crashes"),
            Self::Died => write!(f, "the server dies"),
            Self::NotRun(why) => write!(f, "cannot be run: {why}"),
            Self::NotThere => write!(f, "{NOT_THERE}"),
        }
    }
}

/// Parses pg_regress's output for one test: lines of the Test Anything Protocol.
pub(crate) fn parse_tap(said: &str, test: &str, difference: &str, variant: Option<u8>) -> Outcome {
    let named = |line: &str| line.split_whitespace().any(|word| word == test);
    let bailed = said.lines().find_map(|line| line.strip_prefix("Bail out!"));
    if let Some(line) = said.lines().find(|line| line.starts_with("ok ") && named(line)) {
        return if line.contains("# SKIP") { Outcome::NotRun("skipped".to_owned()) } else { Outcome::Passed(variant) };
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

/// Number of lines of a unified diff that are on one side only.
fn differing_lines(difference: &str) -> usize {
    let heading = |line: &str| line.starts_with("--- ") || line.starts_with("+++ ");
    difference.lines().filter(|line| line.starts_with(['+', '-']) && !heading(line)).count()
}

/// Explanations of results, by suite and test, written by hand: why a test does not pass, and why
/// one has the output of a variant.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Reasons {
    /// The output differs from every one that PostgreSQL expects.
    differs: BySuite,
    /// PostgreSQL expects the variant of a build or a database without the tested feature: the test
    /// ends early, or its statements fail.
    not_supported: BySuite,
    /// The variant is equivalent: it tests the same things.
    variant: BySuite,
    /// The results of the suite on a native server are others than here.
    native: BTreeMap<String, String>,
}

type BySuite = BTreeMap<String, BTreeMap<String, String>>;

/// How a result counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pass,
    NotSupported,
    Other,
}

impl Reasons {
    /// Reads the file.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let reasons: Self = toml::from_str(text).context(|| format!("{REASONS} does not have the expected form"))?;
        let tests = [&reasons.differs, &reasons.not_supported, &reasons.variant].into_iter().flatten();
        let of_tests =
            tests.flat_map(|(suite, tests)| tests.iter().map(move |(test, why)| (format!("{suite}.{test}"), why)));
        let of_suites = reasons.native.iter().map(|(suite, why)| (format!("native.{suite}"), why));
        for (name, reason) in of_tests.chain(of_suites) {
            if reason.trim().is_empty() || reason.contains(['\n', '|']) {
                return Err(Error::new(format!("the reason of {name} must be one line without a bar")));
            }
        }
        Ok(reasons)
    }

    /// How a result counts, its entry in the table, and the reason. The error is about wrong
    /// reasons.
    fn judge(&self, suite: &str, test: &str, outcome: &Outcome) -> Result<(Kind, String, &str), String> {
        let differs = Self::find(&self.differs, suite, test);
        let not_supported = Self::find(&self.not_supported, suite, test);
        let variant = Self::find(&self.variant, suite, test);
        match (outcome, differs, not_supported, variant) {
            (Outcome::Passed(None), None, None, None) => Ok((Kind::Pass, outcome.to_string(), "")),
            (Outcome::Passed(None), ..) => Err("passes: its reason is out of date".to_owned()),
            (Outcome::Passed(Some(_)), None, Some(reason), None) => {
                Ok((Kind::NotSupported, NOT_SUPPORTED.to_owned(), reason))
            }
            (Outcome::Passed(Some(_)), None, None, Some(reason)) => Ok((Kind::Pass, outcome.to_string(), reason)),
            (Outcome::Passed(Some(_)), ..) => {
                Err(format!("{outcome}; say why in one of [not-supported.{suite}] and [variant.{suite}]"))
            }
            (Outcome::Differs(_), Some(reason), None, None) => Ok((Kind::Other, outcome.to_string(), reason)),
            _ => Err(format!("{outcome}, and no reason excuses that")),
        }
    }

    fn find<'a>(reasons: &'a BySuite, suite: &str, test: &str) -> Option<&'a str> {
        reasons.get(suite)?.get(test).map(String::as_str)
    }
}

/// Entry in the table of a test whose accepted output is that of a build without the tested
/// feature.
const NOT_SUPPORTED: &str = "not supported";
/// Entry in the table of a suite whose extension the native server does not have.
const NOT_THERE: &str = "not there";

/// Results of a run, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Results(pub(crate) Vec<(String, Vec<(String, Outcome)>)>);

impl Results {
    /// Tests that passed, by whatever expected output, and all that were run.
    pub(crate) fn count(&self) -> (usize, usize) {
        let all = || self.0.iter().flat_map(|(_, tests)| tests).filter(|(_, outcome)| *outcome != Outcome::NotThere);
        (all().filter(|(_, outcome)| matches!(outcome, Outcome::Passed(_))).count(), all().count())
    }
}

/// Results as the table keeps them: by suite and test, `pass` or what is wrong.
type Known = BTreeMap<(String, String), String>;

/// The table: the counts of each suite, then one suite after the other.
pub(crate) fn render(results: &Results, reasons: &Reasons) -> Result<String> {
    let mut counts = "| suite | tests | pass | not supported | other |\n|---|---|---|---|---|\n".to_owned();
    let mut tables = String::new();
    let mut unexplained = Vec::new();
    for (suite, tests) in &results.0 {
        tables += &format!("\n## {suite}\n\n| test | result | reason |\n|---|---|---|\n");
        let (mut pass, mut not_supported, mut other) = (0, 0, 0);
        for (test, outcome) in tests {
            match reasons.judge(suite, test, outcome) {
                Ok((kind, result, reason)) => {
                    match kind {
                        Kind::Pass => pass += 1,
                        Kind::NotSupported => not_supported += 1,
                        Kind::Other => other += 1,
                    }
                    tables += &format!("| {test} | {result} | {reason} |\n");
                }
                Err(problem) => unexplained.push(format!("{suite}/{test}: {problem}")),
            }
        }
        counts += &format!("| {suite} | {} | {pass} | {not_supported} | {other} |\n", tests.len());
    }
    if unexplained.is_empty() {
        return Ok(format!("{HEAD}{counts}{tables}"));
    }
    Err(Error::new(unexplained.join("\n")).repair(format!("fix them, or write the reasons into {REASONS}")))
}

/// The table of a native server's results beside those of `table`: the counts of each suite, then
/// the tests whose results differ.
pub(crate) fn render_native(results: &Results, reasons: &Reasons, table: &str) -> Result<String> {
    let known = parse_table(table);
    let mut counts = String::new();
    let mut differing = String::new();
    let mut problems = Vec::new();
    for (suite, tests) in &results.0 {
        let (mut pass_here, mut pass_natively, mut is_same) = (0, 0, true);
        for (test, outcome) in tests {
            let Some(here) = known.get(&(suite.clone(), test.clone())) else {
                problems.push(format!("{suite}/{test}: {TABLE} does not have it"));
                continue;
            };
            pass_here += usize::from(here.starts_with("pass"));
            pass_natively += usize::from(matches!(outcome, Outcome::Passed(_)));
            is_same &= outcome.to_string() == *here;
            if outcome.to_string() != *here && *outcome != Outcome::NotThere {
                differing += &format!("| {suite} | {test} | {here} | {outcome} |\n");
            }
        }
        let natively = if is_there(tests) { pass_natively.to_string() } else { NOT_THERE.to_owned() };
        let reason = reasons.native.get(suite).map_or("", String::as_str);
        match (is_same, reason.is_empty()) {
            (true, false) => problems.push(format!("{suite}: the same as here: its reason is out of date")),
            (false, true) => problems.push(format!("{suite}: not the same as here; say why in [native]")),
            _ => {}
        }
        counts += &format!("| {suite} | {} | {pass_here} | {natively} | {reason} |\n", tests.len());
    }
    if problems.is_empty() {
        return Ok(format!("{NATIVE_HEAD}{counts}{NATIVE_TESTS}{differing}"));
    }
    Err(Error::new(problems.join("\n")).repair(format!("fix them, or write the reasons into {REASONS}")))
}

/// Differences between a native server's results and its table, one line per test; `table` has the
/// results here.
pub(crate) fn native_changes(results: &Results, table: &str, native_table: &str) -> Vec<String> {
    let known = parse_table(table);
    let rows: Vec<Vec<&str>> = native_table.lines().map(cells).collect();
    let mut changes = Vec::new();
    for (suite, tests) in &results.0 {
        let is_there = is_there(tests);
        let natively = rows.iter().find_map(|row| match row[..] {
            ["", name, _, _, natively, _, ""] if name == suite => Some(natively),
            _ => None,
        });
        if natively.is_none_or(|natively| is_there == (natively == NOT_THERE)) {
            let found = if is_there { "there" } else { NOT_THERE };
            changes.push(format!("{suite}: {found}; the table says: {}", natively.unwrap_or("nothing")));
        }
        for (test, outcome) in tests.iter().filter(|_| is_there) {
            let here = known.get(&(suite.clone(), test.clone())).map_or("nothing", String::as_str);
            let row = rows.iter().find_map(|row| match row[..] {
                ["", name, other, here, natively, ""] if name == suite && other == test => Some((here, natively)),
                _ => None,
            });
            // A test without a row has the same result on both sides.
            let (expected_here, expected) = row.unwrap_or((here, here));
            if outcome.to_string() != expected {
                changes.push(format!("{suite}/{test}: {outcome}; the table says: {expected}"));
            } else if here != expected_here {
                changes.push(format!("{suite}/{test}: {TABLE} says: {here}; the table says: {expected_here}"));
            }
        }
    }
    changes
}

/// Whether the server has what the suite of these tests is about.
fn is_there(tests: &[(String, Outcome)]) -> bool {
    tests.iter().all(|(_, outcome)| *outcome != Outcome::NotThere)
}

/// The file of the reasons, in the checkout.
pub(crate) const REASONS: &str = "xtask/regress/reasons.toml";
/// The table, in the checkout.
pub(crate) const TABLE: &str = "docs/regression.md";
/// The table of a native server's results, in the checkout.
pub(crate) const NATIVE_TABLE: &str = "docs/regression-native.md";

const HEAD: &str = "# PostgreSQL's own tests\n\n\
    How PostgreSQL 17.11's regression suites end here: `cargo xtask regress` runs them, with\n\
    PostgreSQL's own `pg_regress` and `psql`, against a server of this crate, and\n\
    `cargo xtask regress --update` writes this page. One session runs at a time, so tests that\n\
    PostgreSQL runs side by side follow one another here.\n\n\
    - *pass*: the output is the one that PostgreSQL expects. Of some tests it expects several; *by\n  \
      variant* names another one than the first, of equal worth.\n\
    - *not supported*: the output is one that PostgreSQL expects too, but that of a build or a database\n  \
      without what the test is about. It shows that the feature is rejected properly, and nothing else.\n\
    - *N lines differ*: the output is none of those, for the reason given.\n\n";

const NATIVE_HEAD: &str = "# The same tests on a native server\n\n\
    How the suites of [regression.md](regression.md) end on Debian's PostgreSQL 17:\n\
    `cargo xtask regress --native` runs them with the same `pg_regress`, `psql` and settings, and\n\
    `cargo xtask regress --native --update` writes this page. *Not there*: Debian's packages do not have\n\
    what the suite tests.\n\n\
    | suite | tests | pass here | pass natively | why they differ |\n|---|---|---|---|---|\n";
const NATIVE_TESTS: &str = "\n## Tests with another result\n\n\
    All others end natively as they do here.\n\n\
    | suite | test | here | natively |\n|---|---|---|---|\n";

/// The cells of a table's row, between two empty ones.
fn cells(line: &str) -> Vec<&str> {
    line.split('|').map(str::trim).collect()
}

/// Reads the rows of a table.
fn parse_table(text: &str) -> Known {
    let mut suite = "";
    let mut known = Known::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            suite = name;
        }
        if let ["", test, result, _, ""] = cells(line)[..]
            && !suite.is_empty()
            && !matches!(test, "test" | "---")
        {
            known.insert((suite.to_owned(), test.to_owned()), result.to_owned());
        }
    }
    known
}

/// Tests of a suite.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: usize,
    pub(crate) all: usize,
}

/// The counts of each suite, from the head of a table.
pub(crate) fn parse_counts(text: &str) -> BTreeMap<String, Count> {
    let mut counts = BTreeMap::new();
    for line in text.lines().take_while(|line| !line.starts_with("## ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        // The line above the counts has no numbers.
        if let ["", suite, all, passed, _, _, ""] = cells[..]
            && let (Ok(all), Ok(passed)) = (all.parse(), passed.parse())
        {
            counts.insert(suite.to_owned(), Count { passed, all });
        }
    }
    counts
}

/// Differences between results and the table, one line per test. Better results count too, because
/// the table is out of date then.
pub(crate) fn changes(results: &Results, reasons: &Reasons, table: &str) -> Vec<String> {
    let known = parse_table(table);
    let mut changes = Vec::new();
    for (suite, tests) in &results.0 {
        for (test, outcome) in tests {
            let found = match reasons.judge(suite, test, outcome) {
                Ok((_, result, _)) => result,
                Err(_) => outcome.to_string(),
            };
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
        assert_eq!(parse_tap(PASSED, "boolean", "", None), Outcome::Passed(None));
        assert_eq!(parse_tap(PASSED, "boolean", "", Some(1)), Outcome::Passed(Some(1)));
        let difference = "diff -U3 a b\n--- a\n+++ b\n@@ -1 +1,2 @@\n-x\n+y\n+z\n same\n";
        assert_eq!(parse_tap(FAILED, "int8", difference, None), Outcome::Differs(3));
        let exited = format!("{FAILED}# (test process exited with exit code 2)\n");
        assert_eq!(parse_tap(&exited, "int8", difference, None), Outcome::Exit(2));
        let bailed = "# (using postmaster on x)\nBail out!command failed: psql\n";
        assert_eq!(parse_tap(bailed, "int8", "", None), Outcome::NotRun("command failed: psql".into()));
        assert_eq!(parse_tap("", "int8", "", None), Outcome::NotRun("it said nothing".into()));
        // Another test's name may begin with this one's.
        assert_eq!(parse_tap(PASSED, "bool", "", None), Outcome::NotRun("# All 1 tests passed.".into()));
    }

    #[test]
    fn a_table_is_rendered_and_read_back() {
        let reasons = Reasons::parse(
            "[differs.regress]\nopr = \"no oprs\"\n[not-supported.regress]\nxml = \"no libxml\"\n[variant.regress]\nfloat4 = \"rounding\"\n",
        );
        let reasons = reasons.unwrap();
        let run = results(&[
            ("boolean", Outcome::Passed(None)),
            ("xml", Outcome::Passed(Some(1))),
            ("float4", Outcome::Passed(Some(2))),
            ("opr", Outcome::Differs(7)),
        ]);
        let table = render(&run, &reasons).unwrap();
        insta::assert_snapshot!(table.strip_prefix(HEAD).unwrap(), @r"
        | suite | tests | pass | not supported | other |
        |---|---|---|---|---|
        | regress | 4 | 2 | 1 | 1 |

        ## regress

        | test | result | reason |
        |---|---|---|
        | boolean | pass |  |
        | xml | not supported | no libxml |
        | float4 | pass by variant 2 | rounding |
        | opr | 7 lines differ | no oprs |
        ");
        assert!(changes(&run, &reasons, &table).is_empty());
        assert_eq!(parse_counts(&table), BTreeMap::from([("regress".to_owned(), Count { passed: 2, all: 4 })]));
        let other = results(&[
            ("boolean", Outcome::Hung),
            ("xml", Outcome::Passed(None)),
            ("opr", Outcome::Differs(8)),
            ("new", Outcome::Passed(None)),
        ]);
        assert_eq!(
            changes(&other, &reasons, &table),
            [
                "regress/boolean: hangs; the table says: pass",
                "regress/xml: pass; the table says: not supported",
                "regress/opr: 8 lines differ; the table says: 7 lines differ",
                "regress/new: pass; the table does not have it",
            ]
        );
    }

    #[test]
    fn a_native_table_is_rendered_and_read_back() {
        let suite = |name: &str, tests: &[(&str, Outcome)]| {
            (name.to_owned(), tests.iter().map(|(test, outcome)| ((*test).to_owned(), outcome.clone())).collect())
        };
        let table = "## both\n| a | pass |  |\n| b | pass |  |\n| c | 2 lines differ | why |\n\
            ## same\n| a | 1 line differs | why |\n## none\n| a | pass |  |\n";
        let both = [("a", Outcome::Passed(None)), ("b", Outcome::Differs(3)), ("c", Outcome::Passed(Some(1)))];
        let run = Results(vec![
            suite("both", &both),
            suite("same", &[("a", Outcome::Differs(1))]),
            suite("none", &[("a", Outcome::NotThere)]),
        ]);
        assert_eq!(run.count(), (2, 4));
        let reasons = Reasons::parse("[native]\nboth = \"another version\"\nnone = \"no package\"\n").unwrap();
        let native = render_native(&run, &reasons, table).unwrap();
        insta::assert_snapshot!(native.split_once("differ |\n").unwrap().1, @r"
        |---|---|---|---|---|
        | both | 3 | 2 | 2 | another version |
        | same | 1 | 0 | 0 |  |
        | none | 1 | 1 | not there | no package |

        ## Tests with another result

        All others end natively as they do here.

        | suite | test | here | natively |
        |---|---|---|---|
        | both | b | pass | 3 lines differ |
        | both | c | 2 lines differ | pass by variant 1 |
        ");
        assert!(native_changes(&run, table, &native).is_empty());

        let other = Results(vec![
            suite("both", &[("a", Outcome::Died), ("b", Outcome::Differs(3)), ("c", Outcome::Differs(2))]),
            suite("same", &[("a", Outcome::NotThere)]),
            suite("none", &[("a", Outcome::Passed(None))]),
            suite("new", &[("a", Outcome::Passed(None))]),
        ]);
        let table_then = table.replacen("b | pass", "b | 9 lines differ", 1);
        assert_eq!(
            native_changes(&other, &table_then, &native),
            [
                "both/a: the server dies; the table says: pass",
                "both/b: docs/regression.md says: 9 lines differ; the table says: pass",
                "both/c: 2 lines differ; the table says: pass by variant 1",
                "same: not there; the table says: 0",
                "none: there; the table says: not there",
                "new: there; the table says: nothing",
                "new/a: pass; the table says: nothing",
            ]
        );
        insta::assert_snapshot!(render_native(&other, &reasons, table).unwrap_err(), @r"
        same: not the same as here; say why in [native]
        none: the same as here: its reason is out of date
        new/a: docs/regression.md does not have it
          repair: fix them, or write the reasons into xtask/regress/reasons.toml
        ");
    }

    #[test]
    fn what_does_not_pass_needs_a_reason_and_some_things_have_none() {
        let reasons = "[differs.regress]\na = \"r\"\nb = \"r\"\n[not-supported.regress]\ne = \"r\"\n";
        let run = results(&[
            ("a", Outcome::Passed(None)),
            ("b", Outcome::Died),
            ("c", Outcome::Differs(1)),
            ("d", Outcome::Passed(None)),
            ("e", Outcome::Passed(None)),
            ("f", Outcome::Passed(Some(1))),
        ]);
        insta::assert_snapshot!(render(&run, &Reasons::parse(reasons).unwrap()).unwrap_err(), @r"
        regress/a: passes: its reason is out of date
        regress/b: the server dies, and no reason excuses that
        regress/c: 1 line differs, and no reason excuses that
        regress/e: passes: its reason is out of date
        regress/f: pass by variant 1; say why in one of [not-supported.regress] and [variant.regress]
          repair: fix them, or write the reasons into xtask/regress/reasons.toml
        ");
        assert!(Reasons::parse("[differs.regress]\na = \"x | y\"\n").is_err());
        assert!(Reasons::parse("[not-supported.regress]\na = \" \"\n").is_err());
        assert!(Reasons::parse("[native]\na = \"x | y\"\n").is_err());
        assert!(Reasons::parse("[regress]\na = \"a table without a kind\"\n").is_err());
    }
}
