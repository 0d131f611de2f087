//! What a server's other processes do beside a session: here the session does it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use pglite_oxide::{Durability, Pglite};

fn int(db: &mut Pglite, sql: &str) -> i64 {
    db.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

#[test]
fn wal_stays_bounded_and_recovery_short() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("db");
    let mut db = Pglite::builder().path(&root).durability(Durability::None).open().unwrap();
    // Without full pages and minimal logging there would be little to bound.
    db.batch_execute("CREATE TABLE t (a int, b text)").unwrap();
    for _ in 0..10 {
        db.execute("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 130000) g", &[]).unwrap();
        let wal = int(&mut db, "SELECT sum(size)::int8 FROM pg_ls_waldir()");
        // max_wal_size is a soft limit of 128 MB.
        assert!(wal <= 192 << 20, "{wal} bytes of WAL");
    }
    assert_eq!(int(&mut db, "SELECT count(*) FROM t"), 1_300_000);
}

#[test]
fn tables_that_are_updated_for_ever_do_not_grow_for_ever() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute(
        "CREATE TABLE t (a int PRIMARY KEY, b int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 10000) g",
    )
    .unwrap();
    let mut sizes = Vec::new();
    for _ in 0..60 {
        db.execute("UPDATE t SET b = b + 1", &[]).unwrap();
        sizes.push(int(&mut db, "SELECT pg_total_relation_size('t')"));
    }
    assert!(sizes[59] <= sizes[19] * 3 / 2, "{sizes:?}");
    assert!(int(&mut db, "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 't'") > 0);
    assert!(int(&mut db, "SELECT autoanalyze_count FROM pg_stat_user_tables WHERE relname = 't'") > 0);
}

#[test]
fn vacuum_is_nobodys_business_but_its_own() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute(
        "CREATE ROLE clerk; CREATE TABLE t (a int, b int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 10000) g;
         GRANT SELECT, UPDATE ON t TO clerk; SET default_transaction_read_only = on;
         SET SESSION AUTHORIZATION clerk; SET statement_timeout = '50s'; SET search_path = ''",
    )
    .unwrap();
    for _ in 0..10 {
        db.batch_execute("BEGIN READ WRITE; UPDATE public.t SET b = b + 1; COMMIT").unwrap();
    }
    assert_eq!(db.take_notices(), []);
    let row = db
        .query_one(
            "SELECT current_user::text, current_setting('search_path'), autovacuum_count FROM pg_stat_user_tables",
            &[],
        )
        .unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, &str>(1)), ("clerk", "\"\""));
    assert!(row.get::<_, i64>(2) > 0);
    // Where autovacuum is off, nothing happens.
    let mut db = Pglite::builder().setting("autovacuum", "off").open().unwrap();
    db.batch_execute("CREATE TABLE t (a int, b int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 10000) g")
        .unwrap();
    for _ in 0..10 {
        db.execute("UPDATE t SET b = b + 1", &[]).unwrap();
    }
    assert_eq!(int(&mut db, "SELECT autovacuum_count FROM pg_stat_user_tables"), 0);
}

#[test]
fn relaxed_commits_reach_the_disk_while_the_session_rests() {
    let directory = tempfile::tempdir().unwrap();
    let mut db = Pglite::builder().path(directory.path().join("db")).durability(Durability::Relaxed).open().unwrap();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    db.execute("INSERT INTO t VALUES (1)", &[]).unwrap();
    let committed: String = db.query_one("SELECT pg_current_wal_insert_lsn()::text", &[]).unwrap().get(0);
    // A query has nothing to flush itself.
    let start = Instant::now();
    while !db
        .query_one("SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn", &[&committed])
        .unwrap()
        .get::<_, bool>(0)
    {
        assert!(start.elapsed() < Duration::from_secs(20), "it is not flushed");
        std::thread::yield_now();
    }
}
