//! Results: how a test ended, the recorded reasons for tests that do not pass, the table of both,
//! and what is worse in a run than in the table. It owns their formats; it reads and writes no
//! file.

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
        for (suite, tests) in [&reasons.differs, &reasons.not_supported, &reasons.variant].into_iter().flatten() {
            for (test, reason) in tests {
                if reason.trim().is_empty() || reason.contains(['\n', '|']) {
                    return Err(Error::new(format!("the reason of {suite}.{test} must be one line without a bar")));
                }
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

/// Results of a run, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Results(pub(crate) Vec<(String, Vec<(String, Outcome)>)>);

impl Results {
    /// Tests that passed, by whatever expected output, and all.
    pub(crate) fn count(&self) -> (usize, usize) {
        let all = || self.0.iter().flat_map(|(_, tests)| tests);
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

/// The file of the reasons, in the checkout.
pub(crate) const REASONS: &str = "xtask/regress/reasons.toml";
/// The table, in the checkout.
pub(crate) const TABLE: &str = "docs/regression.md";

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
        assert!(Reasons::parse("[regress]\na = \"a table without a kind\"\n").is_err());
    }
}
