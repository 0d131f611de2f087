//! What the end of a session and the start of the next one cost: syncs, and WAL for what has not
//! changed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use pglite_oxide::dev::{self, LogFs, Operation};
use pglite_oxide::{Durability, Pglite};

type Test = Result<(), Box<dyn std::error::Error>>;

fn open(disk: &LogFs) -> Pglite {
    dev::open(Arc::new(disk.clone()), Durability::Full, &[]).unwrap()
}

/// Runs a session that executes a statement, and returns how many syncs its start and its end made.
fn session(disk: &LogFs, sql: &str) -> (usize, usize) {
    let syncs = |from: usize| {
        let recording = disk.recording();
        recording.operations[from..].iter().filter(|operation| matches!(operation, Operation::Sync(_))).count()
    };
    let before = disk.len();
    let mut db = open(disk);
    let start = syncs(before);
    db.batch_execute(sql).unwrap();
    let before = disk.len();
    db.close().unwrap();
    (start, syncs(before))
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_session_that_changes_nothing_syncs_the_control_file_alone() -> Test {
    let disk = LogFs::new(Arc::new(dev::template()?)).map_err(|errno| errno.to_string())?;
    // The first one may set hint bits in the catalogs.
    let first = session(&disk, "CREATE TABLE t (a int); INSERT INTO t VALUES (1); SELECT count(*) FROM pg_class");
    let second = session(
        &disk,
        "SELECT count(*) FROM t; SELECT count(*) FROM pg_class; SELECT count(*) FROM pg_attribute;
         SELECT count(*) FROM pg_proc",
    );
    let third = session(&disk, "SELECT count(*) FROM t; SELECT count(*) FROM pg_class");
    println!("first {first:?}, second {second:?}, third {third:?}");
    assert_eq!(third, (1, 1));
    // One that writes syncs what it wrote: the control file, WAL, and the files of the table and of
    // the transaction's state.
    let writing = session(&disk, "INSERT INTO t VALUES (2)");
    assert!(writing.0 == 1 && writing.1 <= 8, "{writing:?}");
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_session_that_changes_nothing_writes_no_wal() -> Test {
    let disk = LogFs::new(Arc::new(dev::template()?)).map_err(|errno| errno.to_string())?;
    session(&disk, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)");
    let at = |db: &mut Pglite| -> String {
        db.query_one("SELECT checkpoint_lsn::text FROM pg_control_checkpoint()", &[]).unwrap().get(0)
    };
    let mut db = open(&disk);
    let first = at(&mut db);
    db.close()?;
    let mut db = open(&disk);
    assert_eq!(at(&mut db), first);
    db.batch_execute("INSERT INTO t VALUES (2)")?;
    db.close()?;
    let mut db = open(&disk);
    assert_ne!(at(&mut db), first);
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[])?.get::<_, i64>(0), 2);
    Ok(())
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn what_changes_without_wal_is_there_in_the_next_session() -> Test {
    let disk = LogFs::new(Arc::new(dev::template()?)).map_err(|errno| errno.to_string())?;
    session(&disk, "CREATE UNLOGGED SEQUENCE s; CREATE UNLOGGED TABLE u (a int); INSERT INTO u VALUES (1)");
    for expected in 1..=3i64 {
        let mut db = open(&disk);
        let row = db.query_one("SELECT nextval('s'), (SELECT count(*) FROM u)", &[])?;
        assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (expected, 1));
        db.close()?;
    }
    Ok(())
}
