//! What PostgreSQL itself does in this build: errors, PL/pgSQL, text search, extensions, and the
//! cluster that the template holds.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use pglite_oxide::{ErrorKind, ErrorPosition, Pglite, Result, SimpleQueryMessage};

fn open() -> Pglite {
    Pglite::temporary().expect("a temporary database opens")
}

/// The only value of the last statement.
fn value(db: &mut Pglite, sql: &str) -> String {
    let answer = db.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut values = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_else(|| panic!("{sql}: NULL")).to_owned()),
        _ => None,
    });
    values.next().unwrap_or_else(|| panic!("{sql}: no row"))
}

fn sqlstate<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    error.code().unwrap_or_else(|| panic!("no SQLSTATE in: {error}")).code().to_owned()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn it_is_the_pinned_postgresql() {
    let lock = concat!(env!("CARGO_MANIFEST_DIR"), "/../sources.lock");
    let lock = std::fs::read_to_string(lock).unwrap();
    let (_, source) = lock.split_once("[[source]]\nname = \"postgresql\"\nversion = \"").unwrap();
    let (version, _) = source.split_once('"').unwrap();
    let mut db = open();
    let found = value(&mut db, "SELECT version()");
    assert!(found.starts_with(&format!("PostgreSQL {version} on wasm32-unknown-wasi")), "{found}");
    assert_eq!(db.parameter("server_version"), Some(version));
    db.close().unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn rows_columns_and_nulls() {
    let mut db = open();
    let rows = db.query("SELECT 1 AS one, NULL AS nothing, 'zwölf' AS text UNION ALL SELECT 2, 'x', ''", &[]).unwrap();
    assert_eq!(rows[0].columns().iter().map(|column| column.name()).collect::<Vec<_>>(), ["one", "nothing", "text"]);
    let values: Vec<(i32, Option<&str>, &str)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(values, [(1, None, "zwölf"), (2, Some("x"), "")]);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_error_has_its_sqlstate_and_the_session_goes_on() {
    let mut db = open();
    let error = db.batch_execute("SELECT 1/0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Database);
    assert_eq!(error.as_db_error().unwrap().message(), "division by zero");
    assert_eq!(sqlstate(Err::<(), _>(error)), "22012");
    let error = db.batch_execute("SELECT nonsense FROM pg_class").unwrap_err();
    assert_eq!(
        (error.code().unwrap().code(), error.as_db_error().unwrap().position()),
        ("42703", Some(&ErrorPosition::Original(8)))
    );
    assert_eq!(value(&mut db, "SELECT 2"), "2");

    // A thousand in a row, each unwound through native code.
    for _ in 0..1000 {
        assert_eq!(sqlstate(db.batch_execute("SELECT 1/0")), "22012");
    }
    assert_eq!(value(&mut db, "SELECT 3"), "3");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_error_undoes_its_statements_and_a_transaction_block_waits_for_its_end() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    assert_eq!(sqlstate(db.batch_execute("INSERT INTO t VALUES (1); SELECT 1/0")), "22012");
    assert_eq!(value(&mut db, "SELECT count(*) FROM t"), "0");

    db.batch_execute("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s").unwrap();
    assert_eq!(sqlstate(db.batch_execute("INSERT INTO t VALUES ('x')")), "22P02");
    assert_eq!(sqlstate(db.batch_execute("SELECT 1")), "25P02");
    db.batch_execute("ROLLBACK TO s; COMMIT").unwrap();
    assert_eq!(value(&mut db, "SELECT count(*) FROM t"), "1");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn plpgsql_catches_errors_nested_and_in_loops() {
    let mut db = open();
    db.batch_execute(
        "CREATE FUNCTION attempts(n int) RETURNS text LANGUAGE plpgsql AS $$
         DECLARE caught int := 0; inner_caught int := 0; state text;
         BEGIN
             FOR i IN 1..n LOOP
                 BEGIN
                     BEGIN
                         PERFORM 1 / (i % 2);
                     EXCEPTION WHEN division_by_zero THEN
                         inner_caught := inner_caught + 1;
                         RAISE EXCEPTION 'again' USING ERRCODE = 'P0042';
                     END;
                 EXCEPTION WHEN SQLSTATE 'P0042' THEN
                     GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
                     caught := caught + 1;
                 END;
             END LOOP;
             RETURN format('%s %s %s', caught, inner_caught, state);
         END $$",
    )
    .unwrap();
    assert_eq!(value(&mut db, "SELECT attempts(100)"), "50 50 P0042");
    // An error that no function catches.
    db.batch_execute("CREATE FUNCTION boom() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1/0; END'").unwrap();
    assert_eq!(sqlstate(db.batch_execute("SELECT boom()")), "22012");
    assert_eq!(value(&mut db, "SELECT attempts(2)"), "1 1 P0042");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn text_search_has_its_dictionaries() {
    let mut db = open();
    assert_eq!(
        value(&mut db, "SELECT to_tsvector('english', 'The quick brown foxes were jumping')"),
        "'brown':3 'fox':4 'jump':6 'quick':2"
    );
    assert_eq!(value(&mut db, "SELECT to_tsvector('german', 'Die Häuser und der Garten')"), "'gart':5 'haus':2");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn extensions_load_and_work() {
    let mut db = open();
    db.batch_execute("CREATE EXTENSION vector; CREATE EXTENSION pg_trgm").unwrap();
    assert_eq!(value(&mut db, "SELECT '[1,2,3]'::vector <-> '[4,5,6]'::vector"), "5.196152422706632");
    assert_eq!(value(&mut db, "SELECT similarity('word', 'two words')"), "0.36363637");
    db.batch_execute(
        "CREATE TABLE item (id int, at vector(3));
         INSERT INTO item SELECT i, ARRAY[i, i % 7, i % 3]::vector FROM generate_series(1, 500) i;
         CREATE INDEX ON item USING hnsw (at vector_l2_ops);
         SET enable_seqscan = off",
    )
    .unwrap();
    assert_eq!(value(&mut db, "SELECT id FROM item ORDER BY at <-> '[250,5,1]' LIMIT 1"), "250");
    // An error raised inside a side module unwinds through both modules.
    assert_eq!(sqlstate(db.batch_execute("SELECT '[1,2]'::vector <-> '[1,2,3]'::vector")), "22000");
    assert_eq!(sqlstate(db.batch_execute("CREATE EXTENSION no_such_extension")), "0A000");
    assert_eq!(value(&mut db, "SELECT 1"), "1");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn the_cluster_is_what_initdb_makes() {
    let mut db = open();
    let databases = "SELECT string_agg(format('%s %s %s %s %s', datname, pg_encoding_to_char(encoding), datlocprovider, datlocale, datallowconn), ', ' ORDER BY oid) FROM pg_database";
    assert_eq!(
        value(&mut db, databases),
        "template1 UTF8 b C.UTF-8 t, template0 UTF8 b C.UTF-8 f, postgres UTF8 b C.UTF-8 t"
    );
    assert_eq!(value(&mut db, "SELECT upper('straße ärger')"), "STRAßE ÄRGER");
    assert_eq!(value(&mut db, "SHOW timezone"), "UTC");
    assert_eq!(value(&mut db, "SELECT '2025-07-01 12:00 Europe/Berlin'::timestamptz"), "2025-07-01 10:00:00+00");
    assert_eq!(value(&mut db, "SELECT count(*) > 700 FROM information_schema.sql_features"), "t");
    assert_eq!(
        value(&mut db, "SELECT count(*) > 500 FROM pg_description WHERE description LIKE 'implementation of %'"),
        "t"
    );
    assert_eq!(value(&mut db, "SELECT count(*) > 100 FROM pg_init_privs"), "t");
    assert_eq!(
        value(&mut db, "SELECT string_agg(lanname, ' ' ORDER BY lanname) FROM pg_language WHERE lanpltrusted"),
        "plpgsql sql"
    );
    assert_eq!(
        value(&mut db, "SELECT count(*) FROM pg_conversion WHERE conforencoding = pg_char_to_encoding('LATIN1')"),
        "2"
    );
    assert_eq!(value(&mut db, "SELECT convert('\\xe4'::bytea, 'LATIN1', 'UTF8')"), "\\xc3a4");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn objects_of_clients_have_numbers_of_their_own_range() {
    let mut db = open();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    // FirstNormalObjectId: what is below counts as part of the system, for pg_dump too.
    assert_eq!(value(&mut db, "SELECT 't'::regclass::oid >= 16384"), "t");
    assert_eq!(value(&mut db, "SELECT max(oid) < 16384 FROM pg_class WHERE relname <> 't'"), "t");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn an_index_keeps_the_blanks_of_each_row() {
    let mut db = open();
    db.batch_execute(
        "CREATE TABLE t (a bpchar); INSERT INTO t SELECT CASE WHEN g % 4 = 0 THEN 'a   ' ELSE 'a' END FROM generate_series(1, 400) g;
         CREATE INDEX ON t (a)",
    )
    .unwrap();
    db.batch_execute("VACUUM ANALYZE t").unwrap();
    db.batch_execute("SET enable_seqscan = off; SET enable_bitmapscan = off").unwrap();
    let query = "SELECT sum(octet_length(a)) FROM t WHERE a = 'a'";
    let plan = format!("{:?}", db.simple_query(&format!("EXPLAIN {query}")).unwrap());
    assert!(plan.contains("Index Only Scan"), "{plan}");
    assert_eq!(value(&mut db, query), "700");
}
