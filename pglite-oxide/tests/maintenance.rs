//! The work that a server leaves to its background processes and that here the session does:
//! checkpoints, autovacuum, and flushing commits that were acknowledged early.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use pglite_oxide::dev::{self, Fate, LogFs, Operation};
use pglite_oxide::{Durability, Format, Pglite};

fn int(db: &mut Pglite, sql: &str) -> i64 {
    db.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn wal_and_the_part_of_it_that_recovery_would_read_stay_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("db");
    let mut db = Pglite::builder().path(&root).durability(Durability::None).open().unwrap();
    db.batch_execute("CREATE TABLE t (a int, b text)").unwrap();
    for _ in 0..10 {
        db.execute("INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(1, 130000) g", &[]).unwrap();
        let wal = int(&mut db, "SELECT sum(size)::int8 FROM pg_ls_waldir()");
        // max_wal_size is a soft limit of 128 MB.
        assert!(wal <= 192 << 20, "{wal} bytes of WAL");
        let since_checkpoint = "SELECT (pg_current_wal_insert_lsn() - redo_lsn)::int8 FROM pg_control_checkpoint()";
        let recovery = int(&mut db, since_checkpoint);
        assert!(recovery <= 192 << 20, "recovery would read {recovery} bytes of WAL");
    }
    assert_eq!(int(&mut db, "SELECT count(*) FROM t"), 1_300_000);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn autovacuum_bounds_the_size_of_a_table_that_is_updated_often() {
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
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn autovacuum_changes_nothing_in_the_session_and_can_be_switched_off() {
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
    let mut db = Pglite::builder().setting("autovacuum", "off").open().unwrap();
    db.batch_execute("CREATE TABLE t (a int, b int); INSERT INTO t SELECT g, 0 FROM generate_series(1, 10000) g")
        .unwrap();
    for _ in 0..10 {
        db.execute("UPDATE t SET b = b + 1", &[]).unwrap();
    }
    assert_eq!(int(&mut db, "SELECT autovacuum_count FROM pg_stat_user_tables"), 0);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn relaxed_commits_reach_the_disk_while_the_session_rests() {
    let template = dev::template().unwrap();
    let log = LogFs::new(Arc::new(template.copy())).unwrap();
    let mut db = dev::open(Arc::new(log.clone()), Durability::Relaxed, &[]).unwrap();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    db.batch_execute("CHECKPOINT").unwrap();
    let before = log.len();
    db.batch_execute("INSERT INTO t VALUES (1)").unwrap();
    // From here on the session is not used. What a loss of power would leave is looked at instead:
    // the commit is durable when it holds the row although everything that can be lost is lost.
    let rows = |operations: usize| -> i64 {
        let disk = log.recording().rebuild(&template, operations, |_| Fate::Lost).unwrap();
        let mut after = dev::open(Arc::new(disk), Durability::None, &[]).unwrap();
        int(&mut after, "SELECT count(*) FROM t")
    };
    let syncs = || log.recording().operations[before..].iter().filter(|op| matches!(op, Operation::Sync(_))).count();
    assert_eq!(rows(before), 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut seen = 0;
    loop {
        let now = syncs();
        if now > seen && rows(log.len()) == 1 {
            break;
        }
        seen = now;
        assert!(Instant::now() < deadline, "the commit is not flushed");
        std::thread::sleep(Duration::from_millis(1));
    }
    db.close().unwrap();
}

/// Writes nothing. Its first call waits, and then counts the changes of the files since it began.
struct Observer<'a> {
    log: &'a LogFs,
    changes: Option<usize>,
}

impl std::io::Write for Observer<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.changes.is_none() {
            let before = self.log.len();
            // The time in which the flush would be made: five times its delay.
            std::thread::sleep(Duration::from_secs(1));
            self.changes = Some(self.log.len() - before);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn no_maintenance_changes_files_while_they_are_copied() {
    let log = LogFs::new(Arc::new(dev::template().unwrap())).unwrap();
    let settings = [("autovacuum_naptime", "1s")];
    let mut db = dev::open(Arc::new(log.clone()), Durability::Relaxed, &settings).unwrap();
    db.batch_execute("CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 1000)").unwrap();
    // When this starts no vacuum is due yet; when it has ended, one is, and the flush of its commit
    // will make it.
    db.batch_execute("BEGIN; DELETE FROM t; SELECT pg_sleep(1.5); COMMIT").unwrap();
    let mut observer = Observer { log: &log, changes: None };
    db.dump_data_dir(&mut observer, Format::Tar).unwrap();
    assert_eq!(observer.changes, Some(0));
    // It is made afterwards.
    let copied = log.len();
    let deadline = Instant::now() + Duration::from_secs(60);
    while log.len() == copied {
        assert!(Instant::now() < deadline, "no maintenance after the copy");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(int(&mut db, "SELECT autovacuum_count FROM pg_stat_user_tables WHERE relname = 't'"), 1);
}
