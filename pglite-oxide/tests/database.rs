//! A temporary database through the public API: its life, errors, time limits, and several of them
//! side by side.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::thread;

use pglite_oxide::{ErrorKind, Pglite, SimpleQueryMessage};

fn open() -> Pglite {
    Pglite::temporary().unwrap()
}

fn value(db: &mut Pglite, sql: &str) -> String {
    let answer = db.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut values = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_else(|| panic!("{sql}: NULL")).to_owned()),
        _ => None,
    });
    values.next().unwrap_or_else(|| panic!("{sql}: no row"))
}

fn failure(db: &mut Pglite, sql: &str) -> String {
    let error = db.batch_execute(sql).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database, "{error}");
    error.code().unwrap().code().to_string()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn preloading_may_be_repeated_before_a_database_is_opened() {
    pglite_oxide::preload().unwrap();
    pglite_oxide::preload().unwrap();
    assert_eq!(value(&mut open(), "SELECT 1"), "1");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_database_can_move_between_threads() {
    let mut db = open();
    db.batch_execute("CREATE TABLE moved (a int)").unwrap();
    let mut db = thread::spawn(move || {
        assert_eq!(failure(&mut db, "SELECT 1/0"), "22012");
        db.batch_execute("INSERT INTO moved VALUES (1)").unwrap();
        db
    })
    .join()
    .unwrap();
    assert_eq!(value(&mut db, "SELECT count(*) FROM moved"), "1");
    thread::spawn(move || db.close().unwrap()).join().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn rows_tags_and_settings() {
    let mut db = open();
    let sql = "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL); SELECT * FROM t";
    let answer = db.simple_query(sql).unwrap();
    let expected = ["0", "2", "a b", "1 x", "2 NULL", "2"];
    let answer = answer.iter().map(|message| match message {
        SimpleQueryMessage::RowDescription(columns) => {
            columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(" ")
        }
        SimpleQueryMessage::Row(row) => format!("{} {}", row.get(0).unwrap(), row.get(1).unwrap_or("NULL")),
        SimpleQueryMessage::CommandComplete(rows) => rows.to_string(),
        other => panic!("{other:?}"),
    });
    assert_eq!(answer.collect::<Vec<_>>(), expected);
    assert_eq!(db.parameter("server_encoding"), Some("UTF8"));
    assert!(value(&mut db, "SELECT version()").starts_with("PostgreSQL 17."));
    assert_eq!(value(&mut db, "SELECT upper('straße é')"), "STRAßE É");
    db.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn errors_have_their_fields_and_the_session_goes_on() {
    let mut db = open();
    db.batch_execute("CREATE TABLE k (id int PRIMARY KEY); INSERT INTO k VALUES (1)").unwrap();
    let error = db.batch_execute("INSERT INTO k VALUES (1)").unwrap_err();
    let details = error.as_db_error().unwrap();
    assert_eq!(*error.code().unwrap(), "23505");
    assert_eq!((details.table(), details.constraint(), details.schema()), (Some("k"), Some("k_pkey"), Some("public")));
    assert_eq!(details.detail(), Some("Key (id)=(1) already exists."));
    assert_eq!(failure(&mut db, "SELEC 1"), "42601");
    db.batch_execute("BEGIN").unwrap();
    assert_eq!(failure(&mut db, "SELECT 1/0"), "22012");
    assert_eq!(failure(&mut db, "SELECT 1"), "25P02");
    db.batch_execute("ROLLBACK").unwrap();
    assert_eq!(value(&mut db, "SELECT count(*) FROM k"), "1");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn plpgsql_catches_errors_and_reports_notices() {
    let mut db = open();
    let block =
        "DO $$ BEGIN PERFORM 1/0; EXCEPTION WHEN division_by_zero THEN RAISE NOTICE 'caught %', SQLSTATE; END $$";
    db.batch_execute(block).unwrap();
    assert_eq!(db.take_notices()[0].message(), "caught 22012");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn modules_are_loaded_when_they_are_needed() {
    let mut db = open();
    assert_eq!(value(&mut db, "SELECT to_tsvector('english', 'the quick foxes jumped')"), "'fox':3 'jump':4 'quick':2");
    assert_eq!(value(&mut db, "SELECT convert_to('é', 'LATIN1')"), "\\xe9");
    db.batch_execute("CREATE EXTENSION pg_trgm").unwrap();
    assert_eq!(value(&mut db, "SELECT similarity('hello', 'hallo') > 0.3"), "t");
    assert_eq!(failure(&mut db, "LOAD 'nothing'"), "58P01");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn deep_recursion_is_an_sql_error() {
    let mut db = open();
    db.batch_execute("CREATE FUNCTION down(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN down(i + 1); END'")
        .unwrap();
    assert_eq!(failure(&mut db, "SELECT down(1)"), "54001");
    db.batch_execute("SET max_stack_depth = '7MB'").unwrap();
    assert_eq!(failure(&mut db, "SELECT down(1)"), "54001");
    let sum = format!("SELECT {}1", "1+".repeat(200_000));
    assert_eq!(failure(&mut db, &sum), "54001");
    assert_eq!(value(&mut db, "SELECT 1"), "1");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_statement_timeout_ends_the_statement_and_not_the_session() {
    let mut db = open();
    db.batch_execute("SET statement_timeout = '30ms'").unwrap();
    assert_eq!(failure(&mut db, "SELECT pg_sleep(60)"), "57014");
    assert_eq!(failure(&mut db, "SELECT count(*) FROM generate_series(1, 10000000000)"), "57014");
    db.batch_execute("RESET statement_timeout").unwrap();
    assert_eq!(value(&mut db, "SELECT 1"), "1");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn copy_from_stdin_without_data_is_an_error_and_the_session_goes_on() {
    let mut db = open();
    db.batch_execute("CREATE TABLE c (a int)").unwrap();
    assert_eq!(failure(&mut db, "COPY c FROM STDIN"), "57014");
    assert_eq!(value(&mut db, "SELECT count(*) FROM c"), "0");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_ended_session_says_so() {
    let mut db = open();
    let error = db.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert_eq!(*error.code().unwrap(), "57P01");
    assert_eq!(db.batch_execute("SELECT 1").unwrap_err().kind(), ErrorKind::Closed);
    db.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn databases_opened_in_parallel_are_independent_while_all_are_open() {
    let opening: Vec<_> = (0..4).map(|_| thread::spawn(open)).collect();
    let databases: Vec<Pglite> = opening.into_iter().map(|thread| thread.join().unwrap()).collect();
    let work = |(number, mut db): (usize, Pglite)| {
        thread::spawn(move || {
            let sql = format!("CREATE TABLE mine AS SELECT g FROM generate_series(1, {number} * 100) g");
            db.batch_execute(&sql).unwrap();
            db
        })
    };
    let working: Vec<_> = databases.into_iter().enumerate().map(work).collect();
    for (number, thread) in working.into_iter().enumerate() {
        let mut db = thread.join().unwrap();
        assert_eq!(value(&mut db, "SELECT count(*) FROM mine"), (number * 100).to_string());
        db.close().unwrap();
    }
}
