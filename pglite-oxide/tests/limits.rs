//! What ends a statement, a session or a guest, and what goes on after it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pglite_oxide::dev::{self, Class, Fault, FaultFs, ImageFs, Plan};
use pglite_oxide::{Durability, ErrorKind, Pglite, Result};

fn state(db: &mut Pglite, sql: &str) -> String {
    sqlstate(db.batch_execute(sql), sql)
}

fn sqlstate(result: Result<()>, sql: &str) -> String {
    let error = result.unwrap_err();
    error.code().unwrap_or_else(|| panic!("{sql}: {error}")).code().to_owned()
}

/// The SQLSTATE of a statement that another thread cancels until it has ended. The request is
/// repeated because one that comes before the statement has no effect.
fn cancelled(db: &mut Pglite, sql: &str) -> String {
    let ended = AtomicBool::new(false);
    let token = db.cancel_token();
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                token.cancel();
                thread::yield_now();
            }
        });
        let result = db.batch_execute(sql);
        ended.store(true, Ordering::SeqCst);
        sqlstate(result, sql)
    })
}

fn is_well(db: &mut Pglite) {
    assert_eq!(db.query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn recursion_goes_as_deep_as_natively_and_ends_in_an_error() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute(
        "CREATE FUNCTION down(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN IF i = 0 THEN RETURN 0; END IF; RETURN down(i - 1); END';
         CREATE FUNCTION endless(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN endless(i + 1); END'",
    )
    .unwrap();
    // A native 17 reaches 915 with its default of max_stack_depth; `cargo xtask perf query`
    // measures both.
    db.batch_execute("SELECT down(1000)").unwrap();
    assert_eq!(state(&mut db, "SELECT endless(1)"), "54001");
    assert_eq!(state(&mut db, &format!("SELECT {}1", "1+".repeat(100_000))), "54001");
    is_well(&mut db);
    // With the greatest depth that can be set, in a statement that must be undone.
    db.batch_execute("SET max_stack_depth = '7MB'; CREATE TABLE t (a int)").unwrap();
    assert_eq!(state(&mut db, "INSERT INTO t VALUES (1); SELECT endless(1)"), "54001");
    assert_eq!(db.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 0);
    // Functions that keep nothing in linear memory use no stack there except for PostgreSQL's
    // check of the depth.
    for text in ["[", "{\"a\":", "{\"a\":["] {
        let sql = format!("SELECT repeat('{text}', 10000000)::json");
        assert_eq!(state(&mut db, &sql), "54001", "{sql}");
    }
    assert_eq!(state(&mut db, "SELECT 'x' ~ (repeat('(x', 1000000) || repeat(')', 1000000))"), "2201B");
    is_well(&mut db);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn cancel_requests_and_timeouts_end_statements_that_compute_and_that_wait() {
    let mut db = Pglite::temporary().unwrap();
    for sql in ["SELECT count(*) FROM generate_series(1, 1000000000000)", "SELECT pg_sleep(1000)"] {
        assert_eq!(cancelled(&mut db, sql), "57014");
        db.batch_execute("SET statement_timeout = '20ms'").unwrap();
        assert_eq!(state(&mut db, sql), "57014");
        db.batch_execute("RESET statement_timeout").unwrap();
        is_well(&mut db);
    }
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn lock_timeout_ends_a_wait_for_a_prepared_transaction() {
    let mut db = Pglite::builder().setting("max_prepared_transactions", "2").open().unwrap();
    db.batch_execute("CREATE TABLE t (a int)").unwrap();
    db.batch_execute("BEGIN; LOCK TABLE t; PREPARE TRANSACTION 'held'").unwrap();
    db.batch_execute("SET lock_timeout = '20ms'").unwrap();
    assert_eq!(state(&mut db, "SELECT * FROM t"), "55P03");
    db.batch_execute("RESET lock_timeout").unwrap();
    assert_eq!(cancelled(&mut db, "SELECT * FROM t"), "57014");
    db.batch_execute("COMMIT PREPARED 'held'").unwrap();
    db.batch_execute("SELECT * FROM t").unwrap();
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn idle_and_long_transactions_end_their_session() {
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("SET idle_in_transaction_session_timeout = '10ms'; BEGIN").unwrap();
    // The session is idle in its transaction until the timeout ends the wait.
    let error = db.notifications().blocking_iter().next().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code().unwrap().code()), (ErrorKind::Closed, "25P03"));
    assert!(db.is_closed());

    let mut db = Pglite::temporary().unwrap();
    db.batch_execute("SET transaction_timeout = '20ms'; BEGIN").unwrap();
    let error = db.batch_execute("SELECT pg_sleep(1000)").unwrap_err();
    assert_eq!((error.kind(), error.code().unwrap().code()), (ErrorKind::Closed, "25P04"));
    assert_eq!(db.batch_execute("SELECT 1").unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn memory_has_a_limit_for_each_database() {
    let mut small = Pglite::builder().memory_limit(320 << 20).open().unwrap();
    let mut large = Pglite::temporary().unwrap();
    let much = "SELECT length(string_agg(repeat('x', 1000000), '')) FROM generate_series(1, 400)";
    assert_eq!(state(&mut small, much), "53200");
    is_well(&mut small);
    assert_eq!(large.query_one(much, &[]).unwrap().get::<_, i32>(0), 400_000_000);
    assert_eq!(state(&mut small, much), "53200");
    small.batch_execute("CREATE TABLE t AS SELECT generate_series(1, 100000) a").unwrap();
    small.close().unwrap();
    let error = Pglite::builder().memory_limit(100 << 20).open().unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn a_panic_ends_one_database_and_no_other_and_keeps_what_was_committed() {
    let disk = dev::template().unwrap();
    // The first sync that fails is one of the commit below.
    let healthy = Plan { fault: Fault::Io, class: Class::Sync, at: u64::MAX, lasting: true };
    let count = |disk: &ImageFs| {
        let fault = FaultFs::new(Arc::new(disk.copy()), healthy);
        let mut db = dev::open(Arc::new(fault.clone()), Durability::Full, &[]).unwrap();
        db.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
        let count = fault.count();
        db.close().unwrap();
        count
    };
    let at = count(&disk);
    let fault = FaultFs::new(Arc::new(disk.clone()), Plan { at, ..healthy });
    let mut other = Pglite::temporary().unwrap();
    let mut db = dev::open(Arc::new(fault), Durability::Full, &[]).unwrap();
    db.batch_execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").unwrap();
    let error = db.batch_execute("INSERT INTO t VALUES (2)").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Crashed, "{error}");
    assert!(error.to_string().contains("PANIC"), "{error}");
    assert!(db.is_closed());
    // Later statements say why there is no session.
    let later = db.batch_execute("SELECT 1").unwrap_err();
    assert_eq!(later.kind(), ErrorKind::Crashed, "{later}");
    assert!(later.to_string().contains("PANIC"), "{later}");
    is_well(&mut other);
    drop(db);
    // Recovery brings back what was acknowledged, and perhaps the row that was not.
    let mut db = dev::open(Arc::new(disk), Durability::Full, &[]).unwrap();
    let rows: Vec<i32> = db.query("SELECT a FROM t ORDER BY a", &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert!(rows == [1] || rows == [1, 2], "{rows:?}");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn transactions_that_fail_leave_the_right_state() {
    use pglite_oxide::TransactionStatus::{Failed, Idle, InTransaction};
    let mut db = Pglite::temporary().unwrap();
    db.batch_execute(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         CREATE TABLE log (note text);
         CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN INSERT INTO log VALUES ('before'); RAISE EXCEPTION 'refused' USING ERRCODE = 'P0042'; END $$;
         CREATE TABLE guarded (a int);
         CREATE TRIGGER guard BEFORE INSERT ON guarded FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    .unwrap();
    db.batch_execute("BEGIN; SAVEPOINT s").unwrap();
    assert_eq!(state(&mut db, "INSERT INTO guarded VALUES (1)"), "P0042");
    assert_eq!(db.transaction_status(), Failed);
    assert_eq!(state(&mut db, "SELECT 1"), "25P02");
    db.batch_execute("ROLLBACK TO s; INSERT INTO log VALUES ('kept')").unwrap();
    assert_eq!(db.transaction_status(), InTransaction);
    db.batch_execute("COMMIT").unwrap();
    assert_eq!(db.transaction_status(), Idle);
    assert_eq!(db.query_one("SELECT string_agg(note, ',') FROM log", &[]).unwrap().get::<_, &str>(0), "kept");

    db.batch_execute("BEGIN; INSERT INTO child VALUES (1)").unwrap();
    assert_eq!(state(&mut db, "COMMIT"), "23503");
    assert_eq!(db.transaction_status(), Idle);
    assert_eq!(state(&mut db, "INSERT INTO child VALUES (1)"), "23503");
    assert_eq!(db.transaction_status(), Idle);
    assert_eq!(db.query_one("SELECT count(*) FROM child", &[]).unwrap().get::<_, i64>(0), 0);
}
