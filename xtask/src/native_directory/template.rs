//! What a new database of this crate and one of `initdb` contain: the comparison, with the list of
//! differences and their reasons (`xtask/native/template.toml`). How the facts are read belongs to
//! the parent module.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Context as _, Error, Result};

const LIST: &str = include_str!("../../native/template.toml");

/// Maximum number of unexplained differences shown.
const SHOWN_MAX: usize = 20;

/// The list of differences.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    difference: Vec<Difference>,
}

/// Facts that only one side has, or that both have with different values.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Difference {
    /// Starts of the facts: the part of the cluster, a vertical bar, and what follows.
    facts: Vec<String>,
    /// A part that each of them contains as well.
    #[serde(default)]
    containing: String,
    /// Whether they may be the same by chance.
    #[serde(default)]
    by_chance: bool,
    why: String,
}

/// A fact that one side has more often than the other one.
#[derive(Debug, PartialEq, Eq)]
struct Found<'a> {
    side: &'static str,
    fact: &'a str,
}

/// Compares the facts of both sides, one in a line, in any order. Returns how many there are and
/// how many differ.
pub(super) fn compare(server: &str, embedded: &str) -> Result<String> {
    let list: List = toml::from_str(LIST).context(|| "cannot read xtask/native/template.toml".to_owned())?;
    let found = differences(server, embedded);
    explain(&list, &found)?;
    Ok(format!("{} facts, {} differences with their reasons", server.lines().count(), found.len()))
}

fn differences<'a>(server: &'a str, embedded: &'a str) -> Vec<Found<'a>> {
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for fact in server.lines() {
        *counts.entry(fact).or_default() += 1;
    }
    for fact in embedded.lines() {
        *counts.entry(fact).or_default() -= 1;
    }
    let found = |(fact, count): (&'a str, i64)| {
        let side = if count > 0 { "initdb" } else { "this crate" };
        (count != 0).then_some(Found { side, fact })
    };
    counts.into_iter().filter_map(found).collect()
}

/// Each difference must be in the list, and each entry of the list must be one.
fn explain(list: &List, found: &[Found<'_>]) -> Result<()> {
    let is_explained = |found: &Found<'_>| {
        let explains =
            |start: &String, of: &Difference| found.fact.starts_with(start) && found.fact.contains(&of.containing);
        list.difference.iter().any(|of| of.facts.iter().any(|start| explains(start, of)))
    };
    let unexplained: Vec<_> = found.iter().filter(|found| !is_explained(found)).collect();
    if !unexplained.is_empty() {
        let shown: Vec<_> =
            unexplained.iter().take(SHOWN_MAX).map(|found| format!("{}: {:.300}", found.side, found.fact)).collect();
        return Err(Error::new(format!("a new database differs from that of initdb in {} facts", unexplained.len()))
            .cause(shown.join("\n"))
            .repair("mend the template, or add the difference with its reason to xtask/native/template.toml"));
    }
    for difference in list.difference.iter().filter(|difference| !difference.by_chance) {
        let holds = |start: &&String| {
            found.iter().any(|found| found.fact.starts_with(*start) && found.fact.contains(&difference.containing))
        };
        if let Some(start) = difference.facts.iter().find(|start| !holds(start)) {
            return Err(Error::new(format!("{start:?} of xtask/native/template.toml is no difference any more"))
                .cause(difference.why.clone())
                .repair("remove it from the list"));
        }
    }
    Ok(())
}

/// The files of a data directory, sorted, without those of relations, whose names are numbers.
pub(super) fn files(data: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    list(data, "", &mut files)?;
    files.sort();
    Ok(files)
}

fn list(data: &Path, below: &str, files: &mut Vec<String>) -> Result<()> {
    let directory = data.join(below);
    for entry in fs::read_dir(&directory).map_err(|e| Error::io("list", &directory, e))? {
        let entry = entry.map_err(|e| Error::io("list", &directory, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if entry.file_type().map_err(|e| Error::io("read", &entry.path(), e))?.is_dir() {
            files.push(format!("{path}/"));
            list(data, &path, files)?;
        } else if !(below.starts_with("base/") && name.starts_with(|first: char| first.is_ascii_digit())) {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: &str, containing: &str) -> Difference {
        let [facts, containing, why] = [start, containing, "because"].map(str::to_owned);
        Difference { facts: vec![facts], containing, by_chance: false, why }
    }

    #[test]
    fn facts_are_compared_with_their_number() {
        let found = differences("a\nb\nb\nc\n", "c\na\nb\nd\n");
        assert_eq!(found, [Found { side: "initdb", fact: "b" }, Found { side: "this crate", fact: "d" }]);
    }

    #[test]
    fn differences_and_the_list_must_agree() {
        let found = [Found { side: "initdb", fact: "setting|a = 1 x" }];
        let list = |difference| List { difference };
        assert!(explain(&list(vec![entry("setting|a = ", "")]), &found).is_ok());
        assert!(explain(&list(vec![entry("setting|a = ", " x")]), &found).is_ok());
        let error = explain(&list(vec![entry("setting|a = ", " y")]), &found).unwrap_err().to_string();
        assert!(error.contains("initdb: setting|a = 1 x"), "{error}");
        let stale = list(vec![entry("setting|a = ", ""), entry("setting|b = ", "")]);
        let error = explain(&stale, &found).unwrap_err().to_string();
        assert!(error.contains("\"setting|b = \" of") && error.contains("because"), "{error}");
    }

    #[test]
    fn the_list_has_a_reason_for_each_entry() {
        let list: List = toml::from_str(LIST).unwrap();
        assert!(list.difference.iter().all(|difference| !difference.facts.is_empty() && !difference.why.is_empty()));
    }
}
