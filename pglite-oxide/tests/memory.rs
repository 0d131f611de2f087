//! Memory that must not grow. The tests run one after the other in a process of their own, because
//! they measure the whole process.

// A panic in a helper fails the test, as it should.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![cfg(target_os = "linux")]

#[path = "common/heap.rs"]
mod heap;

use std::io::BufRead;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pglite_oxide::{ErrorKind, Pglite, Result, SqlState};

const ROWS: i64 = 10_000_000;
/// Bytes of physical memory that may come and go in a process that does nothing else.
const SLACK: usize = 8 << 20;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open() -> Pglite {
    Pglite::temporary().expect("a temporary database opens")
}

fn count(db: &mut Pglite, sql: &str) -> i64 {
    db.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> SqlState {
    *result.unwrap_err().code().unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn memory_stays_flat_over_ten_million_rows_read_and_copied_out() {
    let _alone = alone();
    let mut db = open();
    let sql = "SELECT g, 'row ' || g FROM (SELECT generate_series(1, $1::bigint) g) s";
    let mut largest = 0;
    let mut warm = 0;
    let mut sum = 0;
    let mut rows = db.query_raw(sql, [ROWS]).unwrap();
    for (number, row) in (1..).zip(&mut rows) {
        sum += row.unwrap().get::<_, i64>(0);
        if number == 500_000 {
            warm = resident();
        } else if number % 100_000 == 0 {
            largest = largest.max(resident());
        }
    }
    assert_eq!(sum, ROWS * (ROWS + 1) / 2);
    assert!(largest < warm + SLACK, "{warm} bytes after 500,000 rows, {largest} at most");
    drop(rows);

    let before = resident();
    let lines = db.copy_out("COPY (SELECT generate_series(1, 10000000)) TO STDOUT").unwrap().lines();
    assert_eq!(lines.count(), ROWS as usize);
    let after = resident();
    assert!(after < before + SLACK, "{before} bytes before COPY, {after} after");
}

#[test]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn thousands_of_errors_leave_no_memory_statement_or_cursor_behind() {
    let _alone = alone();
    let mut db = open();
    let errors = |db: &mut Pglite, rounds: i32| {
        for round in 0..rounds {
            let statement = db.prepare("SELECT 1/$1::int").unwrap();
            assert_eq!(code(db.query(&statement, &[&0i32])), SqlState::DIVISION_BY_ZERO);
            assert_eq!(code(db.query("SELECT 1/$1::int", &[&(round - round)])), SqlState::DIVISION_BY_ZERO);
            assert_eq!(code(db.prepare("SELEC")), SqlState::SYNTAX_ERROR);
            assert_eq!(kind(db.query(&statement, &[&"x"])), ErrorKind::ToSql);
        }
    };
    let mut held = |rounds: i32| {
        errors(&mut db, rounds);
        let backend = count(&mut db, "SELECT sum(total_bytes)::int8 FROM pg_backend_memory_contexts");
        (heap::in_use(), backend, resident())
    };
    // The log of the backend is at its limit after these.
    held(2000);
    let before = held(1);
    let after = held(1000);
    // Of 4000 errors, each may keep less than 16 bytes here and in PostgreSQL.
    assert!(after.0 < before.0 + (64 << 10), "heap: {} bytes before, {} after", before.0, after.0);
    assert!(after.1 < before.1 + (64 << 10), "PostgreSQL: {} bytes before, {} after", before.1, after.1);
    assert!(after.2 < before.2 + SLACK, "resident: {} bytes before, {} after", before.2, after.2);
    assert_eq!(count(&mut db, "SELECT count(*) FROM pg_prepared_statements"), 0);
    assert_eq!(count(&mut db, "SELECT count(*) FROM pg_cursors WHERE name LIKE 'p%'"), 0);
}

/// What a program contains is unpacked once for all databases.
#[test]
#[cfg(feature = "internals")]
#[cfg_attr(not(payload), ignore = "needs the built PostgreSQL: cargo xtask assets build")]
fn extensions_that_a_database_does_not_use_take_none_of_its_memory() {
    let _alone = alone();
    let without = pglite_oxide::dev::without_extensions(Pglite::builder()).unwrap();
    // Bytes that a second database takes: the first one has unpacked what they share.
    let [with, without] = [Pglite::builder(), without].map(|builder| {
        let count_extensions = |db: &mut Pglite| count(db, "SELECT count(*) FROM pg_available_extensions");
        let extensions = count_extensions(&mut builder.open().unwrap());
        let before = heap::in_use();
        let mut db = builder.open().unwrap();
        db.batch_execute("SELECT 1").unwrap();
        (extensions, heap::in_use() - before)
    });
    assert_eq!(without.0, 1, "PL/pgSQL");
    // An entry for each module or file of an extension would take more.
    assert!(with.1 < without.1 + (2 << 10), "{with:?} bytes with extensions, {without:?} without");
}
