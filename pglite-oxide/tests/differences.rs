//! Runs each statement of `docs/differences.md`: its result must be the one printed there.
//! `UPDATE_DOCS=1` writes the results into the page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use pglite_oxide::{Pglite, SimpleQueryMessage};

/// The result of a statement as the page has it.
fn result(db: &mut Pglite, sql: &str) -> String {
    let messages = match db.simple_query(sql) {
        Ok(messages) => messages,
        Err(error) => {
            let code = error.code().map(|code| code.code().to_string()).unwrap_or_default();
            return format!("ERROR {code}: {}", error.as_db_error().unwrap().message());
        }
    };
    let lines = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<&str> = (0..row.len()).map(|column| row.get(column).unwrap_or("NULL")).collect();
            Some(values.join("|"))
        }
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn every_statement_of_the_page_has_the_result_that_the_page_shows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/differences.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let mut db = Pglite::temporary().unwrap();
    let mut checked = String::new();
    let mut statements = 0;
    let mut rest = page.as_str();
    while let Some((before, block)) = rest.split_once("```sql\n") {
        let (sql, after) = block.split_once("\n```\n```text\n").expect("a statement is followed by its result");
        let (_, after) = after.split_once("```").expect("a result has an end");
        let result = result(&mut db, sql);
        assert!(!result.is_empty(), "{sql}: shows nothing");
        checked += &format!("{before}```sql\n{sql}\n```\n```text\n{result}\n```");
        rest = after;
        statements += 1;
    }
    checked += rest;
    assert!(statements > 20, "{statements} statements");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &checked).unwrap();
    } else {
        assert_eq!(page, checked, "UPDATE_DOCS=1 writes the page anew");
    }
}
