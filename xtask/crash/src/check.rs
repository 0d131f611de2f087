//! Checks a database after a crash. It owns the queries and the comparison with the model;
//! `workload` owns the expected contents.

use std::fmt;

use crate::sql::{self, Rows, Sql};
use crate::workload::{Facts, Model, Scale, digest};

/// Maximum number of differences shown.
const SHOWN_MAX: usize = 12;

/// What is known about a database before the check.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    pub(crate) seed: u64,
    pub(crate) scale: Scale,
    /// Number of the last transaction whose COMMIT was acknowledged; `None` if none was, not even
    /// that of the schema.
    pub(crate) acknowledged: Option<u64>,
    /// Whether acknowledged commits may be lost; only the last ones may.
    pub(crate) may_lose: bool,
}

/// How thorough the check is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every row, through the tables and through their indexes.
    Contents,
    /// Also all pages of the workload's tables and indexes.
    Pages,
    /// Also those of the catalogs, and for indexes that every row is found from the root.
    Everything,
}

/// A broken guarantee.
#[derive(Debug)]
pub(crate) enum Violation {
    /// Acknowledged commits are lost.
    Lost { acknowledged: Option<u64>, found: Option<u64> },
    /// A transaction is present that had not begun yet.
    Unexpected { acknowledged: Option<u64>, found: u64 },
    /// The contents are those after no transaction.
    Content { last: Option<u64>, differences: Vec<String> },
    /// PostgreSQL or amcheck reported corruption.
    Broken { what: String, error: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |n: &Option<u64>| n.map_or("nothing, not even the schema".to_string(), |n| format!("transaction {n}"));
        match self {
            Self::Lost { acknowledged, found } => {
                write!(
                    f,
                    "LOST COMMITS: {} was acknowledged, the last one there is {}",
                    name(acknowledged),
                    name(found)
                )
            }
            Self::Unexpected { acknowledged, found } => {
                write!(
                    f,
                    "UNEXPECTED: transaction {found} is there, but the last that can be is the one after {}",
                    name(acknowledged)
                )
            }
            Self::Content { last, differences } => {
                write!(f, "WRONG CONTENT after {}: {} differences", name(last), differences.len())?;
                differences.iter().take(SHOWN_MAX).try_for_each(|difference| write!(f, "\n  {difference}"))
            }
            Self::Broken { what, error } => write!(f, "BROKEN: {what}: {error}"),
        }
    }
}

impl std::error::Error for Violation {}

/// Checks a database and returns the number of its last transaction; `None` if it does not have the
/// schema.
pub(crate) fn check<D: Sql>(db: &mut D, expected: &Expected, depth: Depth) -> Result<Option<u64>, Violation> {
    let found = last(db).map_err(broken("the ledger"))?;
    let acknowledged = expected.acknowledged;
    let next = acknowledged.map_or(0, |last| last + 1);
    match found {
        Some(found) if found > next => return Err(Violation::Unexpected { acknowledged, found }),
        found if found < acknowledged && !expected.may_lose => return Err(Violation::Lost { acknowledged, found }),
        _ => (),
    }
    match found {
        Some(last) => compare(db, &Model::after(expected.seed, expected.scale, last))?,
        None => nothing_is_left(db)?,
    }
    if depth != Depth::Contents && found.is_some() {
        pages(db, depth)?;
    }
    Ok(found)
}

/// Compares the contents with the expected ones.
pub(crate) fn compare<D: Sql>(db: &mut D, model: &Model) -> Result<(), Violation> {
    let found = facts(db).map_err(broken("a query of the content"))?;
    let differences = differences(&model.facts(), &found);
    if differences.is_empty() { Ok(()) } else { Err(Violation::Content { last: Some(model.last), differences }) }
}

/// Number of the last transaction.
fn last<D: Sql>(db: &mut D) -> Result<Option<u64>, D::Error> {
    if sql::rows(db, "SELECT to_regclass('ledger') IS NULL")? == [[Some("t".to_string())]] {
        return Ok(None);
    }
    sql::number(db, "SELECT max(n) FROM ledger")
}

/// Objects that an uncommitted schema must not leave behind.
fn nothing_is_left<D: Sql>(db: &mut D) -> Result<(), Violation> {
    let rows = sql::rows(
        db,
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION ALL SELECT extname FROM pg_extension WHERE extname = 'amcheck'",
    );
    let rows = rows.map_err(broken("the catalog"))?;
    if rows.is_empty() {
        return Ok(());
    }
    Err(Violation::Content { last: None, differences: rows.iter().map(|row| format!("{row:?} is there")).collect() })
}

fn facts<D: Sql>(db: &mut D) -> Result<Facts, D::Error> {
    let mut facts = Facts::new();
    let mut add = |name: String, fact: String| {
        // Two rows with one name are also a fact, and a wrong one.
        facts.entry(name).and_modify(|known| known.push_str(&format!(" AND {fact}"))).or_insert(fact);
    };
    sql::run(db, "SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")?;
    for row in texts(sql::rows(db, "SELECT n, mark FROM ledger")?) {
        add(format!("ledger {}", row[0]), row[1].clone());
    }
    for row in texts(sql::rows(db, "SELECT id, version, touched, code, value, note FROM account")?) {
        let [id, version, touched, code, value, note] = [0, 1, 2, 3, 4, 5].map(|at| &row[at]);
        let note = digest(note);
        add(
            format!("account {id}"),
            format!("version {version}, touched {touched}, code {code}, value {value}, note {note}"),
        );
    }
    let documents = "SELECT id, version, encode(sha256(convert_to(body, 'UTF8')), 'hex') FROM document";
    for row in texts(sql::rows(db, documents)?) {
        add(format!("document {}", row[0]), format!("version {}, {}", row[1], row[2]));
    }
    let right = "CASE WHEN bool_and(filler = repeat(chr((97 + (n + i) % 26)::int), 60)) THEN 'right' ELSE 'wrong' END";
    for row in texts(sql::rows(db, &format!("SELECT n, count(*), sum(i), {right} FROM batch GROUP BY n"))?) {
        add(format!("batch {}", row[0]), format!("{} rows, sum {}, {}", row[1], row[2], row[3]));
    }
    let tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
                  AND relname NOT IN ('ledger', 'account', 'document', 'batch')";
    for row in texts(sql::rows(db, tables)?) {
        let table = &row[0];
        let right = format!(
            "CASE WHEN bool_and(t = '{}:' || i) IS NOT FALSE THEN 'right' ELSE 'wrong' END",
            &table[8.min(table.len())..]
        );
        let contents = format!("SELECT count(*), coalesce(sum(i), 0), {right} FROM {table}");
        let fact = match table.starts_with("scratch_") {
            true => texts(sql::rows(db, &contents)?).concat(),
            false => vec![String::new(); 3],
        };
        add(format!("table {table}"), format!("{} rows, sum {}, {}", fact[0], fact[1], fact[2]));
    }

    sql::run(db, "RESET ALL; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")?;
    for row in by_index(db, "SELECT code, id FROM account ORDER BY code", "account_code_key")? {
        add(format!("account by code {}", row[0]), row[1].clone());
    }
    for row in by_index(db, "SELECT value, id FROM account ORDER BY value", "account_value")? {
        add(format!("account by value {} {}", row[0], row[1]), String::new());
    }
    // The rows found through primary keys are reported only where they differ from the tables.
    for (table, column) in [("account", "id"), ("ledger", "n"), ("document", "id")] {
        let sql = format!("SELECT {column} FROM {table} ORDER BY {column}");
        let by_index = by_index(db, &sql, &format!("{table}_pkey"))?;
        sql::run(
            db,
            "SET enable_seqscan = on; SET enable_sort = on; SET enable_indexonlyscan = off; SET enable_indexscan = off",
        )?;
        let by_table = texts(sql::rows(db, &sql)?);
        sql::run(db, "RESET ALL; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off")?;
        if by_index != by_table {
            let fact = format!("{} rows, the table has {}", by_index.len(), by_table.len());
            add(format!("{table} by primary key"), fact);
        }
    }
    sql::run(db, "RESET ALL")?;
    if !sql::rows(db, "SELECT 1 FROM pg_class WHERE relname = 'account_extra'")?.is_empty() {
        add("index account_extra".to_string(), String::new());
    }
    Ok(facts)
}

/// Rows of a query that must go through an index.
fn by_index<D: Sql>(db: &mut D, query: &str, index: &str) -> Result<Vec<Vec<String>>, D::Error> {
    let plan = texts(sql::rows(db, &format!("EXPLAIN (COSTS OFF) {query}"))?).concat().join("\n");
    if !(plan.starts_with("Index") && plan.contains(&format!(" {index} "))) {
        return Ok(vec![vec![format!("NOT READ THROUGH {index}"), plan]]);
    }
    Ok(texts(sql::rows(db, query)?))
}

/// amcheck's findings for tables and indexes. A finding in an index is an error; in a table, a row.
fn pages<D: Sql>(db: &mut D, depth: Depth) -> Result<(), Violation> {
    let which = if depth == Depth::Everything {
        "true"
    } else {
        "t.relnamespace = ANY (ARRAY['public', 'pg_toast']::regnamespace[])"
    };
    let function = if depth == Depth::Everything {
        "bt_index_parent_check(i.indexrelid, true, true)"
    } else {
        "bt_index_check(i.indexrelid, true)"
    };
    let indexes = format!(
        "SELECT i.indexrelid::regclass, {function} FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
         JOIN pg_am a ON a.oid = c.relam JOIN pg_class t ON t.oid = i.indrelid \
         WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisready AND i.indisvalid \
         AND {which}"
    );
    let checked = sql::rows(db, &indexes).map_err(broken("an index, says amcheck"))?;
    let heaps = format!(
        "SELECT t.oid::regclass, v.* FROM pg_class t, LATERAL verify_heapam(t.oid, check_toast => true) v \
         WHERE t.relkind IN ('r', 't', 'm') AND t.relpersistence = 'p' AND {which}"
    );
    let problems = sql::rows(db, &heaps).map_err(broken("a table, says amcheck"))?;
    match problems.first() {
        Some(problem) => Err(Violation::Broken {
            what: format!("{} problems of tables, says amcheck", problems.len()),
            error: format!("{problem:?}"),
        }),
        // The schema has five indexes, and those of TOAST tables.
        None if checked.len() < 5 => Err(Violation::Broken {
            what: "amcheck".to_string(),
            error: format!("only {} indexes to check", checked.len()),
        }),
        None => Ok(()),
    }
}

fn differences(expected: &Facts, found: &Facts) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, fact) in expected {
        match found.get(name) {
            None => differences.push(format!("{name}: missing; expected {fact}")),
            Some(other) if other != fact => differences.push(format!("{name}: expected {fact}, found {other}")),
            _ => (),
        }
    }
    let extra = found.iter().filter(|(name, _)| !expected.contains_key(*name));
    differences.extend(extra.map(|(name, fact)| format!("{name}: must not be there: {fact}")));
    differences
}

fn texts(rows: Rows) -> Vec<Vec<String>> {
    let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_string());
    rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect()
}

fn broken<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> Violation {
    move |error| Violation::Broken { what: what.to_string(), error: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pglite_oxide::Durability;
    use pglite_oxide::dev::{self, FileSystem, ImageFs, OpenOptions};

    use super::*;
    use crate::workload;

    #[test]
    fn facts_that_differ_are_missing_or_too_many_are_reported() {
        let facts = |pairs: &[(&str, &str)]| -> Facts {
            pairs.iter().map(|(name, fact)| (name.to_string(), fact.to_string())).collect()
        };
        let expected = facts(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert!(differences(&expected, &expected).is_empty());
        let found = facts(&[("a", "1"), ("b", "9"), ("d", "4")]);
        assert_eq!(
            differences(&expected, &found),
            ["b: expected 2, found 9", "c: missing; expected 3", "d: must not be there: 4"]
        );
    }

    /// Tests the check itself: a page that was corrupted on disk is detected, in a table and in an
    /// index.
    #[test]
    #[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
    fn a_damaged_page_is_found() {
        let template = dev::template().unwrap();
        let expected = Expected { seed: 1, scale: Scale::SHORT, acknowledged: Some(20), may_lose: false };
        let open = |disk: &ImageFs| dev::open(Arc::new(disk.clone()), Durability::None, &[]).unwrap();
        let mut db = open(&template);
        let mut model = Model::new(expected.seed, expected.scale);
        let mut statements = workload::schema();
        statements.extend((0..20).flat_map(|_| model.next().statements()));
        for statement in statements {
            assert!(sql::execute(&mut db, &statement).unwrap());
        }
        assert_eq!(check(&mut db, &expected, Depth::Everything).unwrap(), Some(20));
        let mut files = ["account", "account_code_key"].map(|name| {
            let path = sql::rows(&mut db, &format!("SELECT pg_relation_filepath('{name}')")).unwrap();
            (name, path[0][0].clone().unwrap())
        });
        db.close().unwrap();
        files.reverse();
        for (name, path) in files {
            let disk = template.copy();
            let file = disk.open(&path, OpenOptions { write: true, ..OpenOptions::default() }, 0).unwrap();
            // Corrupts the length of the first row or entry of each page (of an index, of all pages
            // but the first). Its line pointer follows the page header.
            let first = if name == "account" { 0 } else { 1 };
            for block in first..file.stat().unwrap().len / 8192 {
                let (at, mut byte) = (block * 8192 + 27, [0]);
                file.read_at(at, &mut byte).unwrap();
                file.write_at(at, &[byte[0] ^ 0x20], 0).unwrap();
            }
            let violation = check(&mut open(&disk), &expected, Depth::Everything).unwrap_err();
            eprintln!("{name}: {violation}");
        }
    }
}
